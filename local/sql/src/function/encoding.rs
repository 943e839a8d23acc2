//! `encode` and `decode`.

use std::borrow::Cow;

use base64::{
    alphabet,
    engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};

use super::{
    Function, Run,
    text::{argument, string},
};
use crate::{json, value::Value};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("decode", 2, 2, DECODE).second(),
    Function::new("encode", 2, 2, ENCODE).second(),
];

/// Evaluates `encode(*, scheme)`: encodes the payload's bytes, JSON or not. The argument is the scheme.
pub(super) static ENCODE_PAYLOAD: Function =
    Function::new("encode", 1, 1, |evaluation, _, values| {
        if !is_base64(values.first()) {
            return Ok(Value::Undefined);
        }
        evaluation.spend(evaluation.message.payload.len() as u64 / 64)?;
        string(
            evaluation,
            BASE64_STANDARD.encode(evaluation.message.payload),
        )
    })
    .second()
    .impure();

/// Base64 with optional padding, as in Java's decoder.
const DECODER: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

fn is_base64(scheme: Option<&Value<'_>>) -> bool {
    matches!(scheme, Some(Value::String(scheme)) if scheme == "base64")
}

const ENCODE: Run = |evaluation, _, values| {
    if !is_base64(values.get(1)) {
        return Ok(Value::Undefined);
    }
    match argument(evaluation, values, 0)? {
        Some(text) => string(evaluation, BASE64_STANDARD.encode(text.as_bytes())),
        None => Ok(Value::Undefined),
    }
};

/// Decoded JSON becomes its value. Text that is not base64, or not UTF-8 once decoded, is Null.
const DECODE: Run = |evaluation, _, values| {
    let (Some(value), true) = (values.first(), is_base64(values.get(1))) else {
        return Ok(Value::Undefined);
    };
    if value.is_undefined() {
        return Ok(Value::Undefined);
    }
    let Some(text) = argument(evaluation, values, 0)? else {
        return Ok(Value::Null);
    };
    let decoded = DECODER
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(decoded) = decoded else {
        return Ok(Value::Null);
    };
    evaluation.spend(decoded.len() as u64 / 8)?;
    Ok(match json::read(decoded.as_bytes(), evaluation.version) {
        Some(value) => value.into_owned(),
        None => Value::String(Cow::Owned(decoded)),
    })
};
