//! Int and Decimal: 34 digits (AWS IoT developer guide, "Data types").
//!
//! A Decimal keeps its scale as written or computed, so that `2.5 * 2` is `5.0` and `"5" * 2` is `10`, as in the
//! examples of AWS's pages.

mod decimal;

use std::{cmp::Ordering, fmt};

use decimal::Decimal;

/// Most digits of an Int or a Decimal.
pub(crate) const DIGITS: u32 = 34;
/// The largest Int.
pub(crate) const MAX_INT: i128 = 10_i128.pow(DIGITS) - 1;

/// A number of IoT SQL.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    /// At most [`MAX_INT`] in magnitude.
    Int(i128),
    Decimal(Decimal),
}

/// Conversion of a Decimal to an Int.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rounding {
    Down,
    Up,
    TowardsZero,
    /// To the nearest, half away from zero.
    Nearest,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(int) => int.fmt(f),
            Self::Decimal(decimal) => decimal.fmt(f),
        }
    }
}

impl Number {
    /// Creates an Int, or a Decimal rounded to 34 digits if it is too large.
    pub(crate) fn from_int(value: i128) -> Self {
        match Decimal::new(value, 0) {
            Some(decimal) if value.abs() > MAX_INT => Self::Decimal(decimal),
            _ => Self::Int(value),
        }
    }

    /// `None` for NaN and infinities.
    pub(crate) fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        match Self::parse(&format!("{value:?}"))? {
            Self::Int(int) => Some(Self::Decimal(Decimal::new(int, 0)?)),
            decimal => Some(decimal),
        }
    }

    /// Parses `-?digits(.digits)?([eE][+-]?digits)?`, which the caller has checked.
    /// Without point and exponent it is an Int. `None` if it is too large for a Decimal.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        /// Digits that fit 128 bits.
        const KEPT: u32 = 38;
        // Fast path for an Int of up to 18 digits.
        if text.len() < 19
            && let Ok(int) = text.parse::<i64>()
        {
            return Some(Self::Int(i128::from(int)));
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mut coefficient, mut exponent, mut kept) = (0_i128, 0_i64, 0);
        let (mut fraction, mut whole, mut lost) = (false, true, false);
        for (at, byte) in digits.bytes().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    if kept < KEPT {
                        coefficient = coefficient * 10 + i128::from(byte - b'0');
                        kept += u32::from(coefficient != 0);
                        exponent -= i64::from(fraction);
                    } else {
                        lost |= byte != b'0';
                        exponent += i64::from(!fraction);
                    }
                }
                b'.' => (fraction, whole) = (true, false),
                _ => {
                    whole = false;
                    exponent += parse_exponent(digits.get(at + 1..)?);
                    break;
                }
            }
        }
        if lost && coefficient % 10 == 0 {
            coefficient += 1;
        }
        let signed = if negative { -coefficient } else { coefficient };
        if whole && exponent == 0 && coefficient <= MAX_INT {
            return Some(Self::Int(signed));
        }
        Decimal::new(signed, exponent).map(Self::Decimal)
    }

    /// Converts a string implicitly: without leading `+` or point, and without `+` in the exponent ("Conversions", to
    /// Decimal). The result is a Decimal, also for `5`.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        fn digits(text: &str) -> Option<&str> {
            let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
            (rest.len() < text.len()).then_some(rest)
        }
        let mut rest = digits(text.strip_prefix('-').unwrap_or(text))?;
        if let Some(fraction) = rest.strip_prefix('.') {
            rest = digits(fraction)?;
        }
        if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
            rest = digits(exponent.strip_prefix('-').unwrap_or(exponent))?;
        }
        if !rest.is_empty() {
            return None;
        }
        Self::parse(text)?.to_decimal().map(Self::Decimal)
    }

    fn to_decimal(self) -> Option<Decimal> {
        match self {
            Self::Int(int) => Decimal::new(int, 0),
            Self::Decimal(decimal) => Some(decimal),
        }
    }

    /// Converts integers such as `10.0` to Int, as version 2016-03-23 does.
    pub(crate) fn whole_as_int(self) -> Self {
        match self {
            Self::Decimal(decimal) if decimal.exponent < 0 && decimal.cut(0).1 != 0 => self,
            Self::Decimal(decimal) => decimal.round(Rounding::TowardsZero),
            Self::Int(_) => self,
        }
    }

    /// Rounds to an Int, or to a Decimal if the integer has more than 34 digits.
    pub(crate) fn round(self, rounding: Rounding) -> Self {
        match self {
            Self::Int(_) => self,
            Self::Decimal(decimal) => decimal.round(rounding),
        }
    }

    /// Truncates after `places` decimals and strips trailing zeros.
    pub(crate) fn truncate(self, places: u32) -> Self {
        match self {
            Self::Int(_) => self,
            Self::Decimal(decimal) => Self::Decimal(decimal.truncate(places)),
        }
    }

    /// Rounds down to an integer, or to the nearest 64-bit integer: for indices, which are clamped.
    pub(crate) fn saturating_i64(self, rounding: Rounding) -> i64 {
        let sign = self.signum();
        match self.round(rounding) {
            Self::Int(int) => {
                i64::try_from(int).unwrap_or(if sign < 0 { i64::MIN } else { i64::MAX })
            }
            Self::Decimal(_) if sign < 0 => i64::MIN,
            Self::Decimal(_) => i64::MAX,
        }
    }

    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Decimal(decimal) => decimal.to_f64(),
        }
    }

    pub(crate) fn signum(self) -> i128 {
        match self {
            Self::Int(int) => int.signum(),
            Self::Decimal(decimal) => decimal.coefficient.signum(),
        }
    }

    pub(crate) fn negate(self) -> Self {
        match self {
            Self::Int(int) => Self::Int(-int),
            Self::Decimal(decimal) => Self::Decimal(Decimal {
                coefficient: -decimal.coefficient,
                ..decimal
            }),
        }
    }

    pub(crate) fn abs(self) -> Self {
        if self.signum() < 0 {
            self.negate()
        } else {
            self
        }
    }

    pub(crate) fn add(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => Some(Self::from_int(left + right)),
            _ => self
                .to_decimal()?
                .add(other.to_decimal()?)
                .map(Self::Decimal),
        }
    }

    pub(crate) fn subtract(self, other: Self) -> Option<Self> {
        self.add(other.negate())
    }

    pub(crate) fn multiply(self, other: Self) -> Option<Self> {
        if let (Self::Int(left), Self::Int(right)) = (self, other)
            && let Some(product) = left.checked_mul(right)
        {
            return Some(Self::from_int(product));
        }
        self.to_decimal()?
            .multiply(other.to_decimal()?)
            .map(Self::Decimal)
    }

    /// The quotient of two Ints is a truncated Int. `None` for division by zero.
    pub(crate) fn divide(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => left.checked_div(right).map(Self::Int),
            _ => self
                .to_decimal()?
                .divide(other.to_decimal()?)
                .map(Self::Decimal),
        }
    }

    /// The remainder, with the sign of the dividend. `None` for division by zero.
    pub(crate) fn remainder(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => left.checked_rem(right).map(Self::Int),
            _ => self
                .to_decimal()?
                .remainder(other.to_decimal()?)
                .map(Self::Decimal),
        }
    }

    pub(crate) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => left.cmp(&right),
            (Self::Int(left), Self::Decimal(right)) => Decimal {
                coefficient: left,
                exponent: 0,
            }
            .compare(right),
            (Self::Decimal(left), Self::Int(right)) => left.compare(Decimal {
                coefficient: right,
                exponent: 0,
            }),
            (Self::Decimal(left), Self::Decimal(right)) => left.compare(right),
        }
    }
}

/// Parses `[+-]?digits`, clamped far beyond a Decimal's exponents.
fn parse_exponent(text: &str) -> i64 {
    const BOUND: i64 = 1_000_000_000;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = digits.bytes().fold(0, |sum: i64, digit| {
        (sum * 10 + i64::from(digit.wrapping_sub(b'0'))).min(BOUND)
    });
    if negative { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap()
    }

    #[track_caller]
    fn check(
        operation: fn(Number, Number) -> Option<Number>,
        left: &str,
        right: &str,
        expected: &str,
    ) {
        let result = operation(number(left), number(right))
            .map_or("undefined".to_owned(), |n| n.to_string());
        assert_eq!(result, expected, "{left}, {right}");
    }

    #[test]
    fn sums_and_products_keep_34_digits() {
        check(Number::add, "1", "2", "3");
        check(Number::add, "1.5", "1.5", "3.0");
        check(Number::add, "0.1", "0.2", "0.3");
        check(
            Number::add,
            "1e30",
            "1e-3",
            "1000000000000000000000000000000.001",
        );
        check(Number::add, "1e40", "1e-40", "1E+40");
        check(Number::add, "0e5", "1e-40", "1E-40");
        check(Number::subtract, "1", "1.00", "0.00");
        check(
            Number::add,
            "9999999999999999999999999999999999",
            "1",
            "1.000000000000000000000000000000000E+34",
        );
        check(Number::multiply, "2.5", "2", "5.0");
        check(
            Number::multiply,
            "1234567890123456789012345678901234",
            "1234567890123456789012345678901234",
            "1.524157875323883675049535156256667E+66",
        );
        check(
            Number::multiply,
            "-99999999999999999",
            "99999999999999999",
            "-9999999999999999800000000000000001",
        );
        check(Number::multiply, "1e600", "1e600", "undefined");
        check(Number::multiply, "1e-600", "1e-600", "0");
    }

    #[test]
    fn quotients_of_ints_are_ints_and_others_decimals() {
        check(Number::divide, "7", "2", "3");
        check(Number::divide, "-7", "2", "-3");
        check(Number::divide, "7.0", "2", "3.5");
        check(Number::divide, "6.0", "2", "3.0");
        check(
            Number::divide,
            "1.0",
            "3",
            "0.3333333333333333333333333333333333",
        );
        check(
            Number::divide,
            "2.0",
            "3",
            "0.6666666666666666666666666666666667",
        );
        check(
            Number::divide,
            "-2.0",
            "3",
            "-0.6666666666666666666666666666666667",
        );
        check(Number::divide, "1", "0", "undefined");
        check(Number::divide, "1.5", "0", "undefined");
        check(Number::remainder, "8", "3", "2");
        check(Number::remainder, "-8", "3", "-2");
        check(Number::remainder, "5.5", "2", "1.5");
        check(Number::remainder, "1e20", "0.3", "0.1");
        check(Number::remainder, "1", "0.0", "undefined");
    }

    #[test]
    fn text_outside_of_the_documented_pattern_is_no_number() {
        for (text, expected) in [
            ("0", Some("0")),
            ("-1.2", Some("-1.2")),
            ("5E-12", Some("5E-12")),
            ("5e3", Some("5000")),
            ("007", Some("7")),
            ("+1", None),
            (".5", None),
            ("1.", None),
            ("5E+3", None),
            ("", None),
            ("-", None),
            ("1 ", None),
            ("0x1", None),
            ("1e", None),
            ("NaN", None),
        ] {
            assert_eq!(
                Number::from_text(text).map(|n| n.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_read_and_print_without_losing_digits() {
        for text in [
            "0",
            "-1",
            "1.50",
            "0.001",
            "1234567890123456789012345678901234",
            "-0.1234567890123456789012345678901234",
            "12345678901234567.89012345678901234",
            "1E-999",
            "9.999999999999999999999999999999999E+999",
        ] {
            assert_eq!(number(text).to_string(), text);
        }
        assert_eq!(
            number("12345678901234567890123456789012345").to_string(),
            "1.234567890123456789012345678901234E+34"
        );
        assert_eq!(number("1e3").to_string(), "1000");
        assert_eq!(number("0.00000000000").to_string(), "0.00000000000");
        assert!(Number::parse("1e1000").is_none());
        assert!(Number::parse("1e99999999999999999999").is_none());
        assert_eq!(number("1e-99999999999999999999").to_string(), "0");
    }

    #[test]
    fn rounding_follows_its_mode() {
        use Rounding::{Down, Nearest, TowardsZero, Up};
        for (text, rounding, expected) in [
            ("1.2", Down, "1"),
            ("-1.2", Down, "-2"),
            ("1.2", Up, "2"),
            ("-1.2", Up, "-1"),
            ("1.5", Nearest, "2"),
            ("-1.5", Nearest, "-2"),
            ("1.49", Nearest, "1"),
            ("-1.9", TowardsZero, "-1"),
            ("1e-50", Up, "1"),
            ("-1e-50", Down, "-1"),
            ("1e-50", Nearest, "0"),
            ("1e3", Down, "1000"),
            ("1e40", Down, "1E+40"),
        ] {
            assert_eq!(
                number(text).round(rounding).to_string(),
                expected,
                "{text} {rounding:?}"
            );
        }
    }

    #[test]
    fn comparison_looks_at_values_not_at_scales() {
        for (left, right, expected) in [
            ("1", "1.0", Ordering::Equal),
            ("1e2", "100", Ordering::Equal),
            ("-1", "1e-30", Ordering::Less),
            ("0", "0.000", Ordering::Equal),
            ("-2.5", "-2.4", Ordering::Less),
            ("1e999", "1e998", Ordering::Greater),
            (
                "0.1",
                "0.09999999999999999999999999999999999",
                Ordering::Greater,
            ),
        ] {
            assert_eq!(
                number(left).compare(number(right)),
                expected,
                "{left} {right}"
            );
        }
    }

    #[test]
    fn doubles_keep_their_shortest_form() {
        for (double, expected) in [
            (32.0, "32.0"),
            (0.1, "0.1"),
            (1e16, "10000000000000000"),
            (1.5e-10, "1.5E-10"),
        ] {
            let number = Number::from_f64(double).unwrap();
            assert_eq!(number.to_string(), expected);
            assert_eq!(number.to_f64(), double);
        }
        assert!(Number::from_f64(f64::NAN).is_none());
        assert!(Number::from_f64(f64::INFINITY).is_none());
    }
}
