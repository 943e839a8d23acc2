//! Condition operators and keys (IAM User Guide: "IAM JSON policy elements: Condition operators",
//! "Set operators for multivalued keys" and "AWS global condition context keys").

use super::Keys;
use super::pattern::Pattern;
use super::policy::Effect;
use crate::resolve::cidr::Block;

/// A condition: an operator, a key and its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Prefix for keys with several values in the request.
    pub quantifier: Option<Quantifier>,
    /// The operator without prefix and suffix.
    pub operator: Operator,
    /// `…IfExists`: true if the request does not have the key.
    pub if_exists: bool,
    /// The key as written.
    pub key: String,
    /// The values as written; one must match, or none for a negated operator.
    pub values: Vec<String>,
}

/// Prefix of an operator for keys with several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    /// `ForAllValues:`
    All,
    /// `ForAnyValue:`
    Any,
}

/// A condition operator without its prefix and suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `Null`
    Null,
    /// `Bool`
    Bool,
    /// Any other: a comparison, possibly negated.
    Compare {
        /// Kind of the comparison.
        kind: Comparison,
        /// `…Not…`: no value may match.
        negated: bool,
    },
}

/// The comparison of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `StringEquals`
    Text,
    /// `StringEqualsIgnoreCase`
    TextAnyCase,
    /// `StringLike`
    TextLike,
    /// `ArnEquals` and `ArnLike`, which AWS treats alike
    Arn,
    /// `NumericEquals` and the other numeric operators
    Number(Order),
    /// `DateEquals` and the other date operators
    Date(Order),
    /// `IpAddress`
    Address,
}

/// Required order of a number or a date and the policy's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the operators' own words")]
pub enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    /// Parses an operator without its prefix and suffix.
    pub(super) fn parse(name: &str) -> Option<Operator> {
        use Comparison::{Address, Arn, Date, Number, Text, TextAnyCase, TextLike};
        use Order::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        let (kind, negated) = match name {
            "Null" => return Some(Operator::Null),
            "Bool" => return Some(Operator::Bool),
            "StringEquals" => (Text, false),
            "StringNotEquals" => (Text, true),
            "StringEqualsIgnoreCase" => (TextAnyCase, false),
            "StringNotEqualsIgnoreCase" => (TextAnyCase, true),
            "StringLike" => (TextLike, false),
            "StringNotLike" => (TextLike, true),
            "ArnEquals" | "ArnLike" => (Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Arn, true),
            "NumericEquals" => (Number(Equal), false),
            "NumericNotEquals" => (Number(Equal), true),
            "NumericLessThan" => (Number(Less), false),
            "NumericLessThanEquals" => (Number(LessOrEqual), false),
            "NumericGreaterThan" => (Number(Greater), false),
            "NumericGreaterThanEquals" => (Number(GreaterOrEqual), false),
            "DateEquals" => (Date(Equal), false),
            "DateNotEquals" => (Date(Equal), true),
            "DateLessThan" => (Date(Less), false),
            "DateLessThanEquals" => (Date(LessOrEqual), false),
            "DateGreaterThan" => (Date(Greater), false),
            "DateGreaterThanEquals" => (Date(GreaterOrEqual), false),
            "IpAddress" => (Address, false),
            "NotIpAddress" => (Address, true),
            _ => return None,
        };
        Some(Operator::Compare { kind, negated })
    }
}

impl Condition {
    /// Whether it is true; `variables` is false for policy language 2008-10-17.
    pub(super) fn holds(&self, keys: &Keys, variables: bool) -> bool {
        let Some(given) = keys.get(&self.key) else {
            return self.holds_when_absent();
        };
        if self.operator == Operator::Null {
            return self
                .values
                .iter()
                .any(|value| value.eq_ignore_ascii_case("false"));
        }
        let mut patterns = Vec::with_capacity(self.values.len());
        for value in &self.values {
            // With a variable that has no value, the condition is false.
            let Some(pattern) = Pattern::parse(value, variables.then_some(keys)) else {
                return false;
            };
            patterns.push((pattern, value.as_str()));
        }
        let fits = |value: &String| match self.operator {
            Operator::Compare { kind, negated } => {
                patterns
                    .iter()
                    .any(|(pattern, text)| kind.matches(pattern, text, value))
                    != negated
            }
            _ => patterns
                .iter()
                .any(|(_, text)| text.eq_ignore_ascii_case(value)),
        };
        match self.quantifier {
            Some(Quantifier::All) => given.iter().all(fits),
            Some(Quantifier::Any) | None => given.iter().any(fits),
        }
    }

    /// Whether it is true for a request without the key.
    pub(super) fn holds_when_absent(&self) -> bool {
        match (self.operator, self.quantifier) {
            (Operator::Null, _) => self
                .values
                .iter()
                .any(|value| value.eq_ignore_ascii_case("true")),
            (_, Some(Quantifier::All)) => true,
            (_, Some(Quantifier::Any)) => self.if_exists,
            (Operator::Compare { negated, .. }, None) => negated || self.if_exists,
            (Operator::Bool, None) => self.if_exists,
        }
    }

    /// Why the condition is not supported; `None` if it is.
    pub(super) fn unsupported(&self, effect: Effect) -> Option<String> {
        let key = self.key.to_ascii_lowercase();
        if is_known(&key) {
            return None;
        }
        if !is_opaque(&key) {
            return Some(format!("condition key `{}` is not supported", self.key));
        }
        // The key's value is unknown. That is safe only if the condition is false without it.
        let closes = match effect {
            Effect::Allow => !self.holds_when_absent(),
            Effect::Deny => self.holds_when_absent(),
        };
        (!closes).then(|| {
            format!(
                "condition key `{}` is not known for any request, and this condition would then let requests through",
                self.key
            )
        })
    }
}

impl Comparison {
    fn matches(self, pattern: &Pattern, written: &str, value: &str) -> bool {
        match self {
            Comparison::TextLike => pattern.matches(value),
            Comparison::Arn => pattern.matches_arn(value),
            Comparison::Text => pattern.text() == value,
            Comparison::TextAnyCase => pattern.text().to_lowercase() == value.to_lowercase(),
            Comparison::Number(order) => {
                let (Ok(value), Ok(limit)) = (value.parse::<f64>(), written.parse::<f64>()) else {
                    return false;
                };
                order.holds(value.partial_cmp(&limit))
            }
            Comparison::Date(order) => {
                let (Some(value), Some(limit)) = (date(value), date(written)) else {
                    return false;
                };
                order.holds(value.partial_cmp(&limit))
            }
            Comparison::Address => match (Block::parse(written), Block::parse(value)) {
                (Some(block), Some(address)) => block.contains(&address),
                _ => false,
            },
        }
    }

    /// Whether a policy's value is valid for the operator.
    pub(super) fn accepts(self, written: &str) -> bool {
        match self {
            Comparison::Number(_) => written.parse::<f64>().is_ok(),
            Comparison::Date(_) => date(written).is_some(),
            Comparison::Address => Block::parse(written).is_some(),
            Comparison::Arn | Comparison::Text | Comparison::TextAnyCase | Comparison::TextLike => {
                true
            }
        }
    }
}

impl Order {
    fn holds(self, ordering: Option<std::cmp::Ordering>) -> bool {
        ordering.is_some_and(|ordering| match self {
            Order::Equal => ordering.is_eq(),
            Order::Less => ordering.is_lt(),
            Order::LessOrEqual => ordering.is_le(),
            Order::Greater => ordering.is_gt(),
            Order::GreaterOrEqual => ordering.is_ge(),
        })
    }
}

/// Seconds since the Unix epoch, from `2026-11-23T01:02:03Z`, a date, or epoch seconds.
fn date(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (day, time) = match text.split_once('T') {
        Some((day, time)) => (day, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let mut parts = day.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes) = (parts.next()??, parts.next()??);
    let seconds = parts.next().unwrap_or(Some(0.0))?;
    // Days since 1970-01-01 in the Gregorian calendar, years counted from March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1
        - 719_468;
    Some(days as f64 * 86_400.0 + hours * 3_600.0 + minutes * 60.0 + seconds)
}

/// Supported condition keys.
fn is_known(key: &str) -> bool {
    const KNOWN: &[&str] = &[
        "aws:currenttime",
        "aws:epochtime",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalisawsservice",
        "aws:principalservicename",
        "aws:requestedregion",
        "aws:resourceaccount",
        "aws:securetransport",
        "aws:sourceaccount",
        "aws:sourcearn",
        "iot:clientid",
        "iot:connection.thing.isattached",
        "iot:connection.thing.thingname",
        "kms:calleraccount",
        "kms:viaservice",
        "sts:externalid",
    ];
    KNOWN.contains(&key) || key.starts_with("kms:encryptioncontext:")
}

/// Keys of AWS whose values are not modelled: tags, organizations, the caller's network.
fn is_opaque(key: &str) -> bool {
    const OPAQUE: &[&str] = &[
        "aws:calledvia",
        "aws:calledviafirst",
        "aws:calledvialast",
        "aws:multifactorauthpresent",
        "aws:principalorgid",
        "aws:principaltype",
        "aws:sourceip",
        "aws:sourceorgid",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:tagkeys",
        "aws:userid",
        "aws:username",
        "aws:viaawsservice",
        "cloudwatch:namespace",
        "ecs:createaction",
        "iam:awsservicename",
        "iam:passedtoservice",
        "iam:permissionsboundary",
        "iam:policyarn",
        "kms:encryptioncontextkeys",
        "kms:grantisforawsresource",
        "lambda:functionarn",
        "lambda:sourcefunctionarn",
        "s3:prefix",
        "s3:resourceaccount",
        "s3:x-amz-acl",
        "s3:x-amz-server-side-encryption",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
    ];
    OPAQUE.contains(&key)
        || [
            "aws:principaltag/",
            "aws:requesttag/",
            "aws:resourcetag/",
            "ec2:",
            "elasticbeanstalk:",
            // Claims of GitHub's tokens
            "token.actions.githubusercontent.com:",
        ]
        .iter()
        .any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_the_epoch() {
        for (text, expected) in [
            ("1970-01-01", Some(0.0)),
            ("2000-03-01T00:00:00Z", Some(951_868_800.0)),
            ("2026-11-23T01:02:03Z", Some(1_795_395_723.0)),
            ("1795395723", Some(1_795_395_723.0)),
            ("yesterday", None),
        ] {
            assert_eq!(date(text), expected, "{text}");
        }
    }
}
