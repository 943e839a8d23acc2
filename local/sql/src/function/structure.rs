//! Functions of arrays and objects, and defaults for missing values.

use std::borrow::Cow;

use super::{Function, Run};
use crate::{
    conversion, json,
    value::{Array, Value},
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("get", 2, 2, GET),
    Function::new("get_or_default", 2, 2, GET_OR_DEFAULT),
    Function::new("isnull", 1, 1, |_, _, values| {
        Ok(Value::Bool(matches!(values, [Value::Null])))
    }),
    Function::new("isundefined", 1, 1, |_, _, values| {
        Ok(Value::Bool(matches!(values, [Value::Undefined])))
    })
    .second(),
    Function::new("transform", 3, 3, TRANSFORM).second(),
];

const GET: Run = |_, _, values| {
    let index = |value| conversion::index(value).and_then(|index| usize::try_from(index).ok());
    Ok(match values {
        [Value::Array(array), at] => index(at)
            .and_then(|at| array.items().get(at))
            .cloned()
            .unwrap_or(Value::Undefined),
        // From 0, as in the page's table; its example `get("abc", 1) = "a"` differs.
        [Value::String(text), at] => match index(at).and_then(|at| text.chars().nth(at)) {
            Some(character) => Value::String(Cow::Owned(character.to_string())),
            None => Value::Undefined,
        },
        [object @ Value::Object(_), Value::String(key)] => object.member(key).clone(),
        _ => Value::Undefined,
    })
};

/// The second argument if the first is Null or Undefined, such as the result of a function with invalid arguments.
const GET_OR_DEFAULT: Run = |_, _, values| {
    Ok(match values {
        [Value::Null | Value::Undefined, default] | [default, _] => default.clone(),
        _ => Value::Undefined,
    })
};

/// Adds the object's members to each element, replacing those of the same name. Undefined above 128 KiB.
const TRANSFORM: Run = |evaluation, _, values| {
    const LIMIT: usize = 128 * 1024;
    let [
        Value::String(mode),
        Value::Object(object),
        Value::Array(array),
    ] = values
    else {
        return Ok(Value::Undefined);
    };
    if mode != "enrichArray" {
        return Ok(Value::Undefined);
    }
    let mut enriched = Array::default();
    for item in array.items() {
        let Value::Object(item) = item else {
            return Ok(Value::Undefined);
        };
        evaluation.spend((item.members().len() + object.members().len()) as u64)?;
        let mut item = (**item).clone();
        item.extend(object);
        enriched.push(item.into());
    }
    let enriched = evaluation.bounded(enriched)?;
    Ok(
        if json::write(&enriched, &mut String::new(), LIMIT).is_ok() {
            enriched
        } else {
            Value::Undefined
        },
    )
};
