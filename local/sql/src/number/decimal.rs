//! Decimals: 34 digits and an exponent.

use std::{cmp::Ordering, fmt};

use num_bigint::BigInt;

use super::{DIGITS, MAX_INT, Number, Rounding};

/// Largest exponent of a Decimal in scientific notation.
const MAX_EXPONENT: i64 = 999;
/// Smallest exponent of a Decimal in scientific notation.
const MIN_EXPONENT: i64 = -999;

/// `coefficient` × 10^`exponent`, with at most [`DIGITS`] digits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decimal {
    pub(super) coefficient: i128,
    pub(super) exponent: i32,
}

impl Decimal {
    /// Creates a Decimal, rounded to [`DIGITS`] digits, half to even. `None` if it is too large; zero if it is too small.
    pub(super) fn new(coefficient: i128, exponent: i64) -> Option<Self> {
        let Some(digits) = coefficient
            .unsigned_abs()
            .checked_ilog10()
            .map(|log| log + 1)
        else {
            return Some(Self {
                coefficient: 0,
                exponent: exponent.clamp(-i64::from(DIGITS), 0) as i32,
            });
        };
        if exponent + i64::from(digits) - 1 < MIN_EXPONENT {
            return Some(Self {
                coefficient: 0,
                exponent: 0,
            });
        }
        let (coefficient, exponent) = match digits.checked_sub(DIGITS) {
            None | Some(0) => (coefficient, exponent),
            Some(excess) => {
                let unit = 10_i128.pow(excess);
                let (quotient, rest) = (coefficient / unit, (coefficient % unit).abs());
                let up = match (2 * rest).cmp(&unit) {
                    Ordering::Less => false,
                    Ordering::Equal => quotient % 2 != 0,
                    Ordering::Greater => true,
                };
                let rounded = quotient + if up { coefficient.signum() } else { 0 };
                if rounded.abs() > MAX_INT {
                    (rounded / 10, exponent + i64::from(excess) + 1)
                } else {
                    (rounded, exponent + i64::from(excess))
                }
            }
        };
        let digits = i64::from(coefficient.unsigned_abs().checked_ilog10()?);
        (exponent + digits <= MAX_EXPONENT).then_some(Self {
            coefficient,
            exponent: exponent as i32,
        })
    }

    /// Like [`new`](Self::new), for more than 128 bits.
    fn from_big(coefficient: &BigInt, exponent: i64) -> Option<Self> {
        /// Digits that fit 128 bits.
        const KEPT: usize = 38;
        if let Ok(small) = i128::try_from(coefficient) {
            return Self::new(small, exponent);
        }
        let text = coefficient.magnitude().to_string();
        let (head, tail) = text.split_at(KEPT.min(text.len()));
        let mut kept: i128 = head.parse().ok()?;
        // With a tail that is not zero, it is not a tie.
        if kept % 10 == 0 && tail.bytes().any(|digit| digit != b'0') {
            kept += 1;
        }
        let negative = coefficient.sign() == num_bigint::Sign::Minus;
        Self::new(
            if negative { -kept } else { kept },
            exponent + tail.len() as i64,
        )
    }

    pub(super) fn digits(self) -> u32 {
        self.coefficient
            .unsigned_abs()
            .checked_ilog10()
            .map_or(1, |log| log + 1)
    }

    /// Exponent in scientific notation.
    fn adjusted(self) -> i32 {
        self.exponent + self.digits() as i32 - 1
    }

    pub(super) fn is_zero(self) -> bool {
        self.coefficient == 0
    }

    pub(super) fn add(self, other: Self) -> Option<Self> {
        let (high, low) = if self.exponent >= other.exponent {
            (self, other)
        } else {
            (other, self)
        };
        let shift = high.exponent.abs_diff(low.exponent);
        if high.digits() + shift < 38 {
            return Self::new(
                high.coefficient * 10_i128.pow(shift) + low.coefficient,
                i64::from(low.exponent),
            );
        }
        if high.is_zero() {
            return Some(low);
        }
        if shift > 2 * DIGITS + 2 {
            // The other one is too small to affect rounding.
            return Some(high);
        }
        let sum = BigInt::from(high.coefficient) * power_of_ten(shift) + low.coefficient;
        Self::from_big(&sum, i64::from(low.exponent))
    }

    pub(super) fn multiply(self, other: Self) -> Option<Self> {
        let exponent = i64::from(self.exponent) + i64::from(other.exponent);
        match self.coefficient.checked_mul(other.coefficient) {
            Some(product) => Self::new(product, exponent),
            None => Self::from_big(
                &(BigInt::from(self.coefficient) * other.coefficient),
                exponent,
            ),
        }
    }

    pub(super) fn divide(self, other: Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        let preferred = i64::from(self.exponent) - i64::from(other.exponent);
        if self.coefficient % other.coefficient == 0 {
            return Self::new(self.coefficient / other.coefficient, preferred);
        }
        // One more digit than is kept, and one for all digits after it.
        let shift = (DIGITS + 2 + other.digits()).saturating_sub(self.digits());
        let dividend = BigInt::from(self.coefficient) * power_of_ten(shift);
        let (quotient, rest) = (&dividend / other.coefficient, &dividend % other.coefficient);
        let exponent = preferred - i64::from(shift);
        if rest == BigInt::ZERO {
            return Some(Self::from_big(&quotient, exponent)?.without_trailing_zeros(preferred));
        }
        let last = if (self.coefficient < 0) == (other.coefficient < 0) {
            1
        } else {
            -1
        };
        Self::from_big(&(quotient * 10 + last), exponent - 1)
    }

    pub(super) fn remainder(self, other: Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        let exponent = self.exponent.min(other.exponent);
        let (left, right) = (
            self.exponent.abs_diff(exponent),
            other.exponent.abs_diff(exponent),
        );
        if left == 0 && right == 0 {
            return Self::new(self.coefficient % other.coefficient, i64::from(exponent));
        }
        let rest = (BigInt::from(self.coefficient) * power_of_ten(left))
            % (BigInt::from(other.coefficient) * power_of_ten(right));
        Self::from_big(&rest, i64::from(exponent))
    }

    pub(super) fn compare(self, other: Self) -> Ordering {
        if self.exponent == other.exponent {
            return self.coefficient.cmp(&other.coefficient);
        }
        let signs = self.coefficient.signum().cmp(&other.coefficient.signum());
        if signs != Ordering::Equal || self.is_zero() {
            return signs;
        }
        let magnitudes = self.adjusted().cmp(&other.adjusted());
        if magnitudes != Ordering::Equal {
            return if self.coefficient > 0 {
                magnitudes
            } else {
                magnitudes.reverse()
            };
        }
        // Of equal magnitude: with the lower exponent both have the same number of digits.
        let exponent = self.exponent.min(other.exponent);
        let scaled = |it: Self| it.coefficient * 10_i128.pow(it.exponent.abs_diff(exponent));
        scaled(self).cmp(&scaled(other))
    }

    /// Strips zeros until `exponent` is reached.
    fn without_trailing_zeros(mut self, exponent: i64) -> Self {
        while i64::from(self.exponent) < exponent
            && self.coefficient % 10 == 0
            && self.coefficient != 0
        {
            self.coefficient /= 10;
            self.exponent += 1;
        }
        self
    }

    /// The coefficient without the digits below 10^`exponent`, these digits, and their unit.
    pub(super) fn cut(self, exponent: i32) -> (i128, i128, i128) {
        let excess = exponent.saturating_sub(self.exponent).max(0) as u32;
        if excess > 38 {
            return (0, self.coefficient, i128::MAX);
        }
        let unit = 10_i128.pow(excess);
        // Most numbers are short, and 64-bit division is much faster.
        let (whole, rest) = match (i64::try_from(self.coefficient), i64::try_from(unit)) {
            (Ok(coefficient), Ok(unit)) => (
                i128::from(coefficient / unit),
                i128::from(coefficient % unit),
            ),
            _ => (self.coefficient / unit, self.coefficient % unit),
        };
        (whole, rest, unit)
    }

    pub(super) fn round(self, rounding: Rounding) -> Number {
        if self.exponent >= 0 {
            return if self.adjusted() < DIGITS as i32 {
                Number::Int(self.coefficient * 10_i128.pow(self.exponent as u32))
            } else {
                Number::Decimal(self)
            };
        }
        let (whole, rest, unit) = self.cut(0);
        let up = match rounding {
            Rounding::TowardsZero => 0,
            Rounding::Down => -i128::from(rest < 0),
            Rounding::Up => i128::from(rest > 0),
            Rounding::Nearest => {
                if rest.abs() >= unit - rest.abs() {
                    rest.signum()
                } else {
                    0
                }
            }
        };
        Number::from_int(whole + up)
    }

    pub(super) fn truncate(self, places: u32) -> Self {
        let exponent = -(places as i32);
        let cut = if self.exponent >= exponent {
            self
        } else {
            Self {
                coefficient: self.cut(exponent).0,
                exponent,
            }
        };
        if cut.is_zero() {
            Self {
                coefficient: 0,
                exponent: 0,
            }
        } else {
            cut.without_trailing_zeros(0)
        }
    }

    pub(super) fn to_f64(self) -> f64 {
        /// Powers of ten that are exact as a double.
        const EXACT: u32 = 22;
        let power = self.exponent.unsigned_abs();
        if self.coefficient.unsigned_abs() < 1 << 53 && power <= EXACT {
            let scale = 10_u128.pow(power) as f64;
            let coefficient = self.coefficient as f64;
            return if self.exponent < 0 {
                coefficient / scale
            } else {
                coefficient * scale
            };
        }
        format!("{}e{}", self.coefficient, self.exponent)
            .parse()
            .unwrap_or(f64::NAN)
    }
}

fn power_of_ten(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

impl fmt::Display for Decimal {
    /// Writes standard notation if it is short, else scientific notation; both are JSON numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.coefficient < 0 { "-" } else { "" };
        let digits = self.coefficient.unsigned_abs().to_string();
        let adjusted = self.adjusted();
        let point = digits.len() as i32 + self.exponent;
        if self.exponent >= 0 && adjusted < DIGITS as i32 {
            write!(
                f,
                "{sign}{digits}{:0<width$}",
                "",
                width = self.exponent as usize
            )
        } else if self.exponent < 0 && point > 0 {
            let (whole, fraction) = digits.split_at(point as usize);
            write!(f, "{sign}{whole}.{fraction}")
        } else if self.exponent < 0 && (adjusted >= -7 || self.is_zero()) {
            write!(
                f,
                "{sign}0.{:0<width$}{digits}",
                "",
                width = point.unsigned_abs() as usize
            )
        } else {
            let (first, others) = digits.split_at(1);
            let point = if others.is_empty() { "" } else { "." };
            write!(f, "{sign}{first}{point}{others}E{adjusted:+}")
        }
    }
}
