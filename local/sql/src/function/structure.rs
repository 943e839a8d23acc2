//! Functions of arrays, objects and of what is not there.

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
        // From 0, as the table says; the page's `get("abc", 1) = "a"` does not follow it.
        [Value::String(text), at] => match index(at).and_then(|at| text.chars().nth(at)) {
            Some(character) => Value::String(Cow::Owned(character.to_string())),
            None => Value::Undefined,
        },
        [object @ Value::Object(_), Value::String(key)] => object.member(key).clone(),
        _ => Value::Undefined,
    })
};

/// The second argument where the first is Null or Undefined, which includes a function that could not
/// take its arguments.
const GET_OR_DEFAULT: Run = |_, _, values| {
    Ok(match values {
        [Value::Null | Value::Undefined, default] | [default, _] => default.clone(),
        _ => Value::Undefined,
    })
};

/// Members of the object replace those of the same name in each element. More than 128 KiB: Undefined.
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
