//! Operators ("Operators").

use std::{borrow::Cow, cmp::Ordering};

use crate::{EvaluationError, conversion, json::MAX_BYTES, number::Number, value::Value};

/// An operator with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// # Errors
    /// A concatenation exceeds a limit.
    pub(crate) fn apply<'e>(
        self,
        left: &Value<'e>,
        right: &Value<'e>,
    ) -> Result<Value<'e>, EvaluationError> {
        Ok(match self {
            Self::And => logical(left, right, |left, right| left && right),
            Self::Or => logical(left, right, |left, right| left || right),
            Self::Equal => equal(left, right).into(),
            Self::NotEqual => equal(left, right).map(|equal| !equal).into(),
            Self::Less => ordered(left, right, Ordering::is_lt),
            Self::LessOrEqual => ordered(left, right, Ordering::is_le),
            Self::Greater => ordered(left, right, Ordering::is_gt),
            Self::GreaterOrEqual => ordered(left, right, Ordering::is_ge),
            Self::Add => return add(left, right),
            Self::Subtract => arithmetic(left, right, Number::subtract),
            Self::Multiply => arithmetic(left, right, Number::multiply),
            Self::Divide => arithmetic(left, right, Number::divide),
            Self::Remainder => arithmetic(left, right, Number::remainder),
        })
    }
}

/// Both operands must be Booleans or convert to them: `true OR Undefined` is Undefined.
fn logical<'e>(left: &Value<'e>, right: &Value<'e>, apply: fn(bool, bool) -> bool) -> Value<'e> {
    let operands = conversion::bool(left).zip(conversion::bool(right));
    operands.map(|(left, right)| apply(left, right)).into()
}

/// Evaluates `NOT`.
pub(crate) fn not<'e>(value: &Value<'e>) -> Value<'e> {
    conversion::bool(value).map(|bool| !bool).into()
}

/// Evaluates the sign `-`.
pub(crate) fn negate<'e>(value: &Value<'e>) -> Value<'e> {
    conversion::number(value).map(Number::negate).into()
}

fn ordered<'e>(left: &Value<'e>, right: &Value<'e>, holds: fn(Ordering) -> bool) -> Value<'e> {
    let operands = conversion::number(left).zip(conversion::number(right));
    operands
        .map(|(left, right)| holds(left.compare(right)))
        .into()
}

fn arithmetic<'e>(
    left: &Value<'e>,
    right: &Value<'e>,
    apply: fn(Number, Number) -> Option<Number>,
) -> Value<'e> {
    let operands = conversion::number(left).zip(conversion::number(right));
    operands.and_then(|(left, right)| apply(left, right)).into()
}

fn add<'e>(left: &Value<'e>, right: &Value<'e>) -> Result<Value<'e>, EvaluationError> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => Ok(left.add(*right).into()),
        (Value::String(_), _) | (_, Value::String(_)) => {
            let (Some(left), Some(right)) = (conversion::text(left)?, conversion::text(right)?)
            else {
                return Ok(Value::Undefined);
            };
            if left.len() + right.len() > MAX_BYTES {
                return Err(EvaluationError::TooLarge(MAX_BYTES));
            }
            let mut text = String::with_capacity(left.len() + right.len());
            text.push_str(&left);
            text.push_str(&right);
            Ok(Value::String(Cow::Owned(text)))
        }
        _ => Ok(Value::Undefined),
    }
}

/// Evaluates `=`; `None` if an operand is Undefined. Operands of different types are not equal.
pub(crate) fn equal(left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
    (!left.is_undefined() && !right.is_undefined()).then(|| same(left, right))
}

fn same(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Undefined, Value::Undefined) | (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Number(left), Value::Number(right)) => left.compare(*right) == Ordering::Equal,
        (Value::String(left), Value::String(right)) => left == right,
        (Value::Array(left), Value::Array(right)) => {
            let (left, right) = (left.items(), right.items());
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let defined = |value: &&Value<'_>| !value.is_undefined();
            let count = |members: &[(Cow<'_, str>, Value<'_>)]| {
                members.iter().filter(|(_, v)| defined(&v)).count()
            };
            count(left.members()) == count(right.members())
                && left
                    .members()
                    .iter()
                    .filter(|(_, value)| defined(&value))
                    .all(|(name, value)| right.get(name).is_some_and(|other| same(value, other)))
        }
        _ => false,
    }
}
