//! What does not depend on the message is computed once, when the statement is compiled.

use crate::{
    Context, Message, SqlVersion, evaluation::Evaluation, expression::Expression, value::Value,
};

/// Stands in where nothing asks for it: only what needs no context is folded.
struct Nothing;

impl Context for Nothing {
    fn random(&self) -> f64 {
        0.0
    }

    fn new_uuid(&self) -> String {
        String::new()
    }

    fn account_id(&self) -> &str {
        ""
    }
}

/// Replaces an expression of constants by its value. Its parts are folded already.
pub(crate) fn fold(expression: Expression, version: SqlVersion) -> Expression {
    let folds = match &expression {
        Expression::Not(operand) | Expression::Negate(operand) | Expression::Cast(operand, _) => {
            operand.is_constant()
        }
        Expression::Member(base, _) => base.is_constant(),
        Expression::Chain(first, rest) => {
            first.is_constant() && rest.iter().all(|(_, operand)| operand.is_constant())
        }
        Expression::Array(items) => items.iter().all(Expression::is_constant),
        Expression::Call(call) => call.is_constant(),
        _ => false,
    };
    if !folds {
        return expression;
    }
    let value: Option<Value<'static>> = {
        let evaluation = Evaluation::new(Message::default(), &Nothing, version);
        evaluation
            .value(&expression, None)
            .ok()
            .map(Value::into_owned)
    };
    match value {
        Some(value) => Expression::Constant(value),
        // It grows out of bounds: every evaluation will say so.
        None => expression,
    }
}
