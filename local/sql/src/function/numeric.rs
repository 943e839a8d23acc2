//! Functions of numbers. Strings are converted; other types give Undefined.

use super::{Function, Run};
use crate::{
    conversion,
    number::{Number, Rounding},
    value::Value,
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("abs", 1, 1, |_, _, values| Ok(exact(values, Number::abs))),
    Function::new("acos", 1, 1, |_, _, values| Ok(double(values, f64::acos))),
    Function::new("asin", 1, 1, |_, _, values| Ok(double(values, f64::asin))),
    Function::new("atan", 1, 1, |_, _, values| Ok(double(values, f64::atan))),
    Function::new("atan2", 2, 2, |_, _, values| {
        Ok(doubles(values, f64::atan2))
    }),
    Function::new("bitand", 2, 2, |_, _, values| {
        Ok(bits(values, |left, right| left & right))
    }),
    Function::new("bitnot", 1, 1, BITNOT),
    Function::new("bitor", 2, 2, |_, _, values| {
        Ok(bits(values, |left, right| left | right))
    }),
    Function::new("bitxor", 2, 2, |_, _, values| {
        Ok(bits(values, |left, right| left ^ right))
    }),
    Function::new("ceil", 1, 1, |_, _, values| {
        Ok(exact(values, |number| number.round(Rounding::Up)))
    }),
    Function::new("cos", 1, 1, |_, _, values| Ok(double(values, f64::cos))),
    Function::new("cosh", 1, 1, |_, _, values| Ok(double(values, f64::cosh))),
    Function::new("exp", 1, 1, |_, _, values| Ok(double(values, f64::exp))),
    Function::new("floor", 1, 1, |_, _, values| {
        Ok(exact(values, |number| number.round(Rounding::Down)))
    }),
    Function::new("ln", 1, 1, |_, _, values| Ok(double(values, f64::ln))),
    Function::new("log", 1, 1, |_, _, values| Ok(double(values, f64::log10))),
    Function::new("mod", 2, 2, REMAINDER),
    Function::new("nanvl", 2, 2, NANVL),
    Function::new("power", 2, 2, |_, _, values| Ok(doubles(values, f64::powf))),
    Function::new("rand", 0, 0, |evaluation, _, _| {
        Ok(Number::from_f64(evaluation.context.random()).into())
    })
    .impure(),
    Function::new("remainder", 2, 2, REMAINDER),
    Function::new("round", 1, 1, |_, _, values| {
        Ok(exact(values, |number| number.round(Rounding::Nearest)))
    }),
    Function::new("sign", 1, 1, |_, _, values| {
        Ok(exact(values, |number| Number::Int(number.signum())))
    }),
    Function::new("sin", 1, 1, |_, _, values| Ok(double(values, f64::sin))),
    Function::new("sinh", 1, 1, |_, _, values| Ok(double(values, f64::sinh))),
    Function::new("sqrt", 1, 1, |_, _, values| Ok(double(values, f64::sqrt))),
    Function::new("tan", 1, 1, |_, _, values| Ok(double(values, f64::tan))),
    Function::new("tanh", 1, 1, |_, _, values| Ok(double(values, f64::tanh))),
    Function::new("trunc", 2, 2, TRUNC),
];

fn exact<'e>(values: &[Value<'e>], apply: fn(Number) -> Number) -> Value<'e> {
    values
        .first()
        .and_then(conversion::number)
        .map(apply)
        .into()
}

/// Computes in double precision. Imaginary and infinite results are Undefined.
fn double<'e>(values: &[Value<'e>], apply: fn(f64) -> f64) -> Value<'e> {
    let number = values.first().and_then(conversion::number);
    number
        .and_then(|number| Number::from_f64(apply(number.to_f64())))
        .into()
}

fn two(values: &[Value<'_>]) -> Option<(Number, Number)> {
    match values {
        [left, right] => conversion::number(left).zip(conversion::number(right)),
        _ => None,
    }
}

fn doubles<'e>(values: &[Value<'e>], apply: fn(f64, f64) -> f64) -> Value<'e> {
    two(values)
        .and_then(|(left, right)| Number::from_f64(apply(left.to_f64(), right.to_f64())))
        .into()
}

/// Rounds down to an Int; `None` beyond 34 digits.
fn int(number: Number) -> Option<i128> {
    match number.round(Rounding::Down) {
        Number::Int(int) => Some(int),
        Number::Decimal(_) => None,
    }
}

fn bits<'e>(values: &[Value<'e>], apply: fn(i128, i128) -> i128) -> Value<'e> {
    let ints = two(values).and_then(|(left, right)| int(left).zip(int(right)));
    ints.map(|(left, right)| Number::from_int(apply(left, right)))
        .into()
}

/// Complements in two's complement: `bitnot(13)` is -14. The page's example, 2, needs a width of four bits.
const BITNOT: Run = |_, _, values| {
    let number = values.first().and_then(conversion::number).and_then(int);
    Ok(number.map(|int| Number::from_int(!int)).into())
};

const REMAINDER: Run = |_, _, values| {
    Ok(two(values)
        .and_then(|(left, right)| left.remainder(right))
        .into())
};

/// NaN does not occur: it is Undefined.
const NANVL: Run = |_, _, values| {
    Ok(match values {
        [Value::Undefined | Value::Null, other] | [other, _] => other.clone(),
        _ => Value::Undefined,
    })
};

const TRUNC: Run = |_, _, values| {
    Ok(match values {
        // The second argument cannot be a String: the page's table has no such row.
        [number, Value::Number(places)] => {
            let places = places.saturating_i64(Rounding::Down).clamp(0, 34) as u32;
            conversion::number(number)
                .map(|number| number.truncate(places))
                .into()
        }
        _ => Value::Undefined,
    })
};
