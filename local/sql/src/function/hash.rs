//! Hashes of strings, in lower-case hexadecimal.

use std::fmt::Write;

use md5::Digest;

use super::{Function, text::argument};
use crate::{EvaluationError, evaluation::Evaluation, value::Value};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("md2", 1, 1, |evaluation, _, values| {
        hash::<md2::Md2>(evaluation, values)
    }),
    Function::new("md5", 1, 1, |evaluation, _, values| {
        hash::<md5::Md5>(evaluation, values)
    }),
    Function::new("sha1", 1, 1, |evaluation, _, values| {
        hash::<sha1::Sha1>(evaluation, values)
    }),
    Function::new("sha224", 1, 1, |evaluation, _, values| {
        hash::<sha2::Sha224>(evaluation, values)
    }),
    Function::new("sha256", 1, 1, |evaluation, _, values| {
        hash::<sha2::Sha256>(evaluation, values)
    }),
    Function::new("sha384", 1, 1, |evaluation, _, values| {
        hash::<sha2::Sha384>(evaluation, values)
    }),
    Function::new("sha512", 1, 1, |evaluation, _, values| {
        hash::<sha2::Sha512>(evaluation, values)
    }),
];

fn hash<'e, D: Digest>(
    evaluation: &Evaluation<'e>,
    values: &[Value<'e>],
) -> Result<Value<'e>, EvaluationError> {
    let Some(text) = argument(evaluation, values, 0)? else {
        return Ok(Value::Undefined);
    };
    evaluation.spend(text.len() as u64 / 8)?;
    let mut hexadecimal = String::new();
    for byte in D::digest(text.as_bytes()) {
        // Writing to a String does not fail.
        let _ = write!(hexadecimal, "{byte:02x}");
    }
    Ok(Value::String(hexadecimal.into()))
}
