//! Constant folding: expressions that do not depend on the message are evaluated at compile time.

use crate::{
    Context, Message, SqlVersion, evaluation::Evaluation, expression::Expression, value::Value,
};

/// A context that is not used: only expressions that need none are folded.
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

/// Replaces an expression of constants by its value. Its parts must be folded.
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
        // It exceeds a limit: each evaluation will fail.
        None => expression,
    }
}
