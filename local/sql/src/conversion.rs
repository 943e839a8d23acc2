//! Type conversions: implicit ("Conversions") and by `cast`.

use std::borrow::Cow;

use crate::{
    EvaluationError, SqlVersion, json,
    number::{Number, Rounding},
    value::Value,
};

/// The type in `cast(x as T)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    Int,
    /// Decimal with double precision.
    Double,
    Decimal,
    Bool,
}

impl Type {
    /// Keywords after `as`, with the version that added them.
    pub(crate) const KEYWORDS: &[(&str, Self, SqlVersion)] = &[
        ("string", Self::String, SqlVersion::V20151008),
        ("nvarchar", Self::String, SqlVersion::V20151008),
        ("text", Self::String, SqlVersion::V20151008),
        ("ntext", Self::String, SqlVersion::V20151008),
        ("varchar", Self::String, SqlVersion::V20151008),
        ("int", Self::Int, SqlVersion::V20151008),
        ("integer", Self::Int, SqlVersion::V20151008),
        ("double", Self::Double, SqlVersion::V20151008),
        ("decimal", Self::Decimal, SqlVersion::V20160323),
        ("bool", Self::Bool, SqlVersion::V20160323),
        ("boolean", Self::Bool, SqlVersion::V20160323),
    ];
}

/// Converts implicitly to a number: from Int, Decimal, or a String that parses as a Decimal.
pub(crate) fn number(value: &Value<'_>) -> Option<Number> {
    match value {
        Value::Number(number) => Some(*number),
        Value::String(text) => Number::from_text(text),
        _ => None,
    }
}

/// Converts implicitly to an Int where the page says "converted to Int": a Decimal is rounded to the nearest, a
/// String is truncated. Values beyond 64 bits become the nearest 64-bit integer.
pub(crate) fn index(value: &Value<'_>) -> Option<i64> {
    let rounding = if matches!(value, Value::String(_)) {
        Rounding::TowardsZero
    } else {
        Rounding::Nearest
    };
    number(value).map(|number| number.saturating_i64(rounding))
}

/// Converts implicitly to an Int where the page says "rounded down".
pub(crate) fn index_down(value: &Value<'_>) -> Option<i64> {
    number(value).map(|number| number.saturating_i64(Rounding::Down))
}

/// Converts implicitly to a Boolean.
pub(crate) fn bool(value: &Value<'_>) -> Option<bool> {
    match value {
        Value::Bool(bool) => Some(*bool),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Converts implicitly to a String; `None` for Null and Undefined.
///
/// # Errors
/// The JSON text of an array or object exceeds a limit.
pub(crate) fn text<'b>(value: &'b Value<'_>) -> Result<Option<Cow<'b, str>>, EvaluationError> {
    Ok(Some(match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::Number(number) => Cow::Owned(number.to_string()),
        Value::Array(_) | Value::Object(_) => {
            let mut text = String::new();
            json::write(value, &mut text, json::MAX_BYTES)?;
            Cow::Owned(text)
        }
        Value::Null | Value::Undefined => return Ok(None),
    }))
}

/// Evaluates `cast(value as target)`.
///
/// # Errors
/// As [`text`].
pub(crate) fn cast<'e>(
    value: &Value<'e>,
    target: Type,
    version: SqlVersion,
) -> Result<Value<'e>, EvaluationError> {
    let number = || match value {
        Value::Bool(true) => Number::parse("1.0"),
        Value::Bool(false) => Number::parse("0.0"),
        _ => number(value),
    };
    Ok(match target {
        Type::String => match value {
            Value::String(_) => value.clone(),
            _ => text(value)?.map_or(Value::Undefined, |text| {
                Value::String(text.into_owned().into())
            }),
        },
        Type::Int => number().map(|number| number.round(Rounding::Down)).into(),
        Type::Double => number()
            .and_then(|number| Number::from_f64(number.to_f64()))
            .map_or(Value::Undefined, |double| {
                Value::Number(whole_as_int(double, value, version))
            }),
        Type::Decimal => number()
            .map(|number| whole_as_int(number, value, version))
            .into(),
        Type::Bool => match value {
            Value::Number(number) => Value::Bool(number.signum() != 0),
            _ => bool(value).into(),
        },
    })
}

/// In version 2016-03-23 the result of a cast is an Int if it is an integer; 1.0 and 0.0 for Booleans, which the
/// page lists, stay Decimals.
fn whole_as_int(number: Number, source: &Value<'_>, version: SqlVersion) -> Number {
    if version == SqlVersion::V20151008 || matches!(source, Value::Bool(_)) {
        number
    } else {
        number.whole_as_int()
    }
}
