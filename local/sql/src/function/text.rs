//! Functions of strings. Other types are converted; Null and Undefined give Undefined.

use std::borrow::Cow;

use super::{Function, Run};
use crate::{
    EvaluationError, conversion,
    evaluation::Evaluation,
    json::MAX_BYTES,
    number::Rounding,
    value::{Array, Value},
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("chr", 1, 1, CHR),
    Function::new("concat", 0, usize::MAX, CONCAT),
    Function::new("endswith", 2, 2, |evaluation, _, values| {
        test(evaluation, values, |text, end| text.ends_with(end))
    }),
    Function::new("indexof", 2, 2, INDEXOF).second(),
    Function::new("length", 1, 1, |evaluation, _, values| {
        count(evaluation, values, |text| text.chars().count())
    })
    .second(),
    Function::new("lower", 1, 1, |evaluation, _, values| {
        map(evaluation, values, |text| Cow::Owned(text.to_lowercase()))
    }),
    Function::new("lpad", 2, 2, |evaluation, _, values| {
        pad(evaluation, values, |text, pad| format!("{pad}{text}"))
    }),
    Function::new("ltrim", 1, 1, |evaluation, _, values| {
        map(evaluation, values, |text| {
            Cow::Borrowed(text.trim_start_matches([' ', '\t']))
        })
    }),
    Function::new("numbytes", 1, 1, |evaluation, _, values| {
        count(evaluation, values, str::len)
    })
    .second(),
    Function::new("replace", 3, 3, REPLACE),
    Function::new("rpad", 2, 2, |evaluation, _, values| {
        pad(evaluation, values, |text, pad| format!("{text}{pad}"))
    }),
    Function::new("rtrim", 1, 1, |evaluation, _, values| {
        map(evaluation, values, |text| {
            Cow::Borrowed(text.trim_end_matches([' ', '\t']))
        })
    }),
    Function::new("startswith", 2, 2, |evaluation, _, values| {
        test(evaluation, values, |text, start| text.starts_with(start))
    }),
    Function::new("substring", 2, 3, SUBSTRING),
    Function::new("trim", 1, 1, |evaluation, _, values| {
        map(evaluation, values, |text| Cow::Borrowed(text.trim()))
    }),
    Function::new("upper", 1, 1, |evaluation, _, values| {
        map(evaluation, values, |text| Cow::Owned(text.to_uppercase()))
    }),
];

/// Creates a string of limited length, and counts the steps.
pub(super) fn string<'e>(
    evaluation: &Evaluation<'e>,
    text: String,
) -> Result<Value<'e>, EvaluationError> {
    evaluation.spend(text.len() as u64 / 64)?;
    if text.len() > MAX_BYTES {
        return Err(EvaluationError::TooLarge(MAX_BYTES));
    }
    Ok(Value::String(Cow::Owned(text)))
}

/// An argument as a String, with its steps counted; `None` if it is Null, Undefined or absent.
pub(super) fn argument<'b>(
    evaluation: &Evaluation<'_>,
    values: &'b [Value<'_>],
    at: usize,
) -> Result<Option<Cow<'b, str>>, EvaluationError> {
    let text = match values.get(at) {
        Some(value) => conversion::text(value)?,
        None => None,
    };
    evaluation.spend(text.as_ref().map_or(0, |text| text.len() as u64 / 64))?;
    Ok(text)
}

fn map<'e>(
    evaluation: &Evaluation<'e>,
    values: &[Value<'e>],
    apply: fn(&str) -> Cow<'_, str>,
) -> Result<Value<'e>, EvaluationError> {
    // Borrows from the payload if only the ends are removed.
    if let [Value::String(Cow::Borrowed(text))] = values {
        evaluation.spend(text.len() as u64 / 64)?;
        return match apply(text) {
            Cow::Borrowed(part) => Ok(Value::String(Cow::Borrowed(part))),
            Cow::Owned(text) => string(evaluation, text),
        };
    }
    match argument(evaluation, values, 0)? {
        Some(text) => string(evaluation, apply(&text).into_owned()),
        None => Ok(Value::Undefined),
    }
}

fn test<'e>(
    evaluation: &Evaluation<'e>,
    values: &[Value<'e>],
    holds: fn(&str, &str) -> bool,
) -> Result<Value<'e>, EvaluationError> {
    let texts = argument(evaluation, values, 0)?.zip(argument(evaluation, values, 1)?);
    Ok(texts.map(|(text, other)| holds(&text, &other)).into())
}

fn count<'e>(
    evaluation: &Evaluation<'e>,
    values: &[Value<'e>],
    count: fn(&str) -> usize,
) -> Result<Value<'e>, EvaluationError> {
    let text = argument(evaluation, values, 0)?;
    Ok(text.map_or(Value::Undefined, |text| Value::int(count(&text) as i64)))
}

/// Adds a number of spaces; the number is not a width.
fn pad<'e>(
    evaluation: &Evaluation<'e>,
    values: &[Value<'e>],
    apply: fn(&str, &str) -> String,
) -> Result<Value<'e>, EvaluationError> {
    let spaces = values.get(1).and_then(conversion::index_down);
    let Some((text, spaces)) = argument(evaluation, values, 0)?.zip(spaces) else {
        return Ok(Value::Undefined);
    };
    string(
        evaluation,
        apply(&text, &" ".repeat(spaces.clamp(0, 1000) as usize)),
    )
}

const CHR: Run = |_, _, values| {
    let code = values.first().and_then(conversion::index_down);
    let character = code
        .and_then(|code| u8::try_from(code).ok())
        .filter(u8::is_ascii);
    Ok(character.map_or(Value::Undefined, |code| {
        Value::String(Cow::Owned(char::from(code).to_string()))
    }))
};

/// With an array among the arguments, the result is an array of all; otherwise a String, also without a String among
/// them (the page's `concat(1) = "1"`).
const CONCAT: Run = |evaluation, _, values| {
    if values.is_empty() {
        return Ok(Value::Undefined);
    }
    if values.iter().any(|value| matches!(value, Value::Array(_))) {
        let mut all = Array::default();
        for value in values {
            match value {
                Value::Array(array) => {
                    evaluation.spend(array.items().len() as u64)?;
                    array.items().iter().for_each(|item| all.push(item.clone()));
                }
                other => all.push(other.clone()),
            }
        }
        return evaluation.bounded(all);
    }
    let mut text = String::new();
    for at in 0..values.len() {
        match argument(evaluation, values, at)? {
            Some(part) => text.push_str(&part),
            None => return Ok(Value::Undefined),
        }
        if text.len() > MAX_BYTES {
            return Err(EvaluationError::TooLarge(MAX_BYTES));
        }
    }
    string(evaluation, text)
};

/// Index in characters; -1 if it is not contained, as in Java.
const INDEXOF: Run = |evaluation, _, values| {
    let texts = argument(evaluation, values, 0)?.zip(argument(evaluation, values, 1)?);
    Ok(texts.map_or(Value::Undefined, |(text, part)| {
        let before = text.find(&*part).and_then(|at| text.get(..at));
        Value::int(before.map_or(-1, |before| before.chars().count() as i64))
    }))
};

const REPLACE: Run = |evaluation, _, values| {
    let texts = (
        argument(evaluation, values, 0)?,
        argument(evaluation, values, 1)?,
        argument(evaluation, values, 2)?,
    );
    let (Some(text), Some(from), Some(to)) = texts else {
        return Ok(Value::Undefined);
    };
    let length = text.len() + text.matches(&*from).count().saturating_mul(to.len());
    if length > MAX_BYTES + text.len() {
        return Err(EvaluationError::TooLarge(MAX_BYTES));
    }
    string(evaluation, text.replace(&*from, &to))
};

/// Indices are rounded down (the page's `substring("012345", 2.745)` is `"2345"`), then clamped.
const SUBSTRING: Run = |evaluation, _, values| {
    let index = |at: usize| {
        let number = values.get(at).and_then(conversion::number)?;
        Some(usize::try_from(number.saturating_i64(Rounding::Down)).unwrap_or(0))
    };
    let Some((text, start)) = argument(evaluation, values, 0)?.zip(index(1)) else {
        return Ok(Value::Undefined);
    };
    let end = match (values.get(2), index(2)) {
        (None, _) => usize::MAX,
        (Some(_), Some(end)) => end,
        (Some(_), None) => return Ok(Value::Undefined),
    };
    // Negative indices are 0 by now.
    let part: String = text
        .chars()
        .skip(start)
        .take(end.saturating_sub(start))
        .collect();
    string(evaluation, part)
};
