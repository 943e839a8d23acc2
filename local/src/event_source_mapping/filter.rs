//! Filter criteria: which records a function wants ("Control which events Lambda sends to your
//! function", "Using event filtering with a Kinesis event source").
//!
//! A record is wanted if one of the mapping's patterns matches it; one that is not wanted counts as
//! processed. Below `data` a pattern looks into the JSON object that the data is, or, with a list, at
//! the data as text; other keys are those of the event's `kinesis` object.
//! A pattern for JSON drops what is no JSON object, and one for text drops what is one.
//!
//! # Differs from AWS
//! - Numbers in a list are equal if both are whole or both have a fraction and their values are the same.
//!   AWS compares their text, so that there `1e2` is not `100.0`.
//! - `wildcard` and `cidr`, which EventBridge has and Lambda's table does not, are refused.

use std::fmt;

use serde_json::{Map, Value as Json};

use crate::kinesis::Record;

/// Patterns of a mapping at most; more only on request ("Lambda quotas").
pub const MAX_FILTERS: usize = 5;

/// Characters of a pattern at most.
const MAX_PATTERN: usize = 4_096;

/// A pattern that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPattern {
    /// Where in the pattern, such as `data.temperature`; empty: the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => write!(f, "{}", self.message),
            false => write!(f, "at `{}`: {}", self.path, self.message),
        }
    }
}

impl std::error::Error for InvalidPattern {}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    fields: Fields,
    wants_json: bool,
}

/// Keys that must all match, and alternatives of which one must.
#[derive(Clone, Debug, Default, PartialEq)]
struct Fields {
    all: Vec<(String, Node)>,
    any: Vec<Fields>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Fields(Fields),
    Tests(Vec<Test>),
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equals(Json),
    IgnoringCase(String),
    Prefix(String),
    Suffix(String),
    Exists(bool),
    Not(Vec<Test>),
    Numeric(Vec<(Comparison, f64)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Pattern {
    /// Reads the text of a `Filters[].Pattern`.
    ///
    /// # Errors
    /// It is no JSON, or something in it is unknown.
    pub fn parse(text: &str) -> Result<Pattern, InvalidPattern> {
        let invalid = |message: String| InvalidPattern {
            path: String::new(),
            message,
        };
        let length = text.chars().count();
        if length > MAX_PATTERN {
            return Err(invalid(format!(
                "got {length} characters, expected at most {MAX_PATTERN}"
            )));
        }
        let json: Json =
            serde_json::from_str(text).map_err(|error| invalid(format!("is no JSON: {error}")))?;
        let Json::Object(object) = json else {
            return Err(invalid("expected a JSON object".to_owned()));
        };
        let fields = fields(&object, "")?;
        let wants_json = fields.wants_json();
        Ok(Pattern { fields, wants_json })
    }

    /// Whether a record is wanted.
    pub fn matches(&self, record: &Record) -> bool {
        let object = serde_json::from_slice::<Map<String, Json>>(&record.data);
        let data = match object {
            Ok(object) => Json::Object(object),
            Err(_) if self.wants_json => return false,
            Err(_) => match std::str::from_utf8(&record.data) {
                Ok(text) => Json::String(text.to_owned()),
                Err(_) => Json::Null,
            },
        };
        let seconds = record.arrival as f64 / 1_000.0;
        let fields = serde_json::json!({
            "kinesisSchemaVersion": "1.0",
            "partitionKey": &*record.partition_key,
            "sequenceNumber": record.sequence_number.to_string(),
            "approximateArrivalTimestamp": seconds,
            "data": data,
        });
        self.fields.match_value(Some(&fields))
    }
}

impl Fields {
    fn wants_json(&self) -> bool {
        let of_data =
            |(name, node): &(String, Node)| name == "data" && matches!(node, Node::Fields(_));
        self.all.iter().any(of_data)
            || (!self.any.is_empty() && self.any.iter().all(Fields::wants_json))
    }

    fn match_value(&self, value: Option<&Json>) -> bool {
        // Of a list, one element must match as a whole.
        if let Some(Json::Array(elements)) = value {
            return elements.iter().any(|it| self.match_value(Some(it)));
        }
        let field = |name: &str| value.and_then(|it| it.get(name));
        let all = |(name, node): &(String, Node)| match node {
            Node::Fields(fields) => fields.match_value(field(name)),
            Node::Tests(tests) => tests.iter().any(|test| test.matches(field(name))),
        };
        self.all.iter().all(all)
            && (self.any.is_empty() || self.any.iter().any(|it| it.match_value(value)))
    }
}

impl Test {
    fn matches(&self, value: Option<&Json>) -> bool {
        match value {
            // Only leaves can exist ("Comparison operators", Amazon EventBridge User Guide).
            None | Some(Json::Object(_)) => *self == Test::Exists(false),
            Some(Json::Array(elements)) if elements.is_empty() => *self == Test::Exists(false),
            Some(Json::Array(elements)) => match self {
                // None of them may be what is excluded.
                Test::Not(_) => elements.iter().all(|it| self.matches(Some(it))),
                _ => elements.iter().any(|it| self.matches(Some(it))),
            },
            Some(value) => match self {
                Test::Equals(expected) => value == expected,
                Test::IgnoringCase(expected) => value
                    .as_str()
                    .is_some_and(|it| it.to_lowercase() == expected.to_lowercase()),
                Test::Prefix(prefix) => value.as_str().is_some_and(|it| it.starts_with(&**prefix)),
                Test::Suffix(suffix) => value.as_str().is_some_and(|it| it.ends_with(&**suffix)),
                Test::Exists(exists) => *exists,
                Test::Not(tests) => !tests.iter().any(|test| test.matches(Some(value))),
                Test::Numeric(comparisons) => value.as_f64().is_some_and(|number| {
                    let holds = |(comparison, bound): &(Comparison, f64)| match comparison {
                        Comparison::Equal => number == *bound,
                        Comparison::Less => number < *bound,
                        Comparison::LessOrEqual => number <= *bound,
                        Comparison::Greater => number > *bound,
                        Comparison::GreaterOrEqual => number >= *bound,
                    };
                    comparisons.iter().all(holds)
                }),
            },
        }
    }
}

fn fields(object: &Map<String, Json>, path: &str) -> Result<Fields, InvalidPattern> {
    let mut fields_of = Fields::default();
    if object.is_empty() {
        return Err(at(path, "is empty; expected at least one key"));
    }
    for (name, value) in object {
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        match (name.as_str(), value) {
            ("$or", Json::Array(alternatives)) if alternatives.len() > 1 => {
                for alternative in alternatives {
                    let Json::Object(alternative) = alternative else {
                        return Err(at(&path, "expected a list of objects"));
                    };
                    fields_of.any.push(fields(alternative, &path)?);
                }
            }
            ("$or", _) => return Err(at(&path, "expected a list of at least two objects")),
            (_, Json::Object(object)) => {
                let node = Node::Fields(fields(object, &path)?);
                fields_of.all.push((name.clone(), node));
            }
            (_, Json::Array(values)) if !values.is_empty() => {
                let tests: Result<Vec<Test>, _> = values.iter().map(|it| test(it, &path)).collect();
                fields_of.all.push((name.clone(), Node::Tests(tests?)));
            }
            (_, other) => {
                let message =
                    format!("got {other}, expected an object or a list that is not empty");
                return Err(at(&path, message));
            }
        }
    }
    Ok(fields_of)
}

fn test(value: &Json, path: &str) -> Result<Test, InvalidPattern> {
    let Json::Object(object) = value else {
        return match value {
            Json::Array(_) => Err(at(path, "a list within a list is not allowed")),
            value => Ok(Test::Equals(value.clone())),
        };
    };
    let mut operators = object.iter();
    let (Some((operator, operand)), None) = (operators.next(), operators.next()) else {
        return Err(at(path, "expected one operator in the braces"));
    };
    let text = || match operand {
        Json::String(text) => Ok(text.clone()),
        other => Err(at(path, format!("`{operator}` got {other}, expected text"))),
    };
    match operator.as_str() {
        "prefix" => Ok(Test::Prefix(text()?)),
        "suffix" => Ok(Test::Suffix(text()?)),
        "equals-ignore-case" => Ok(Test::IgnoringCase(text()?)),
        "exists" => match operand {
            Json::Bool(exists) => Ok(Test::Exists(*exists)),
            other => Err(at(
                path,
                format!("`exists` got {other}, expected true or false"),
            )),
        },
        "anything-but" => {
            let excluded = match operand {
                Json::Array(values) if !values.is_empty() => values.as_slice(),
                Json::Array(_) => return Err(at(path, "`anything-but` got an empty list")),
                value => std::slice::from_ref(value),
            };
            let tests: Result<Vec<Test>, _> = excluded.iter().map(|it| test(it, path)).collect();
            Ok(Test::Not(tests?))
        }
        "numeric" => numeric(operand).map_err(|message| at(path, message)),
        other => Err(at(
            path,
            format!(
                "unknown operator `{other}`; known are prefix, suffix, equals-ignore-case, anything-but, numeric, exists"
            ),
        )),
    }
}

/// `["=", 5]`, `[">", 0]` or `[">", 0, "<=", 5]`.
fn numeric(operand: &Json) -> Result<Test, String> {
    let wrong = || {
        format!(
            "`numeric` got {operand}, expected a comparison and a number, or a lower and an upper bound, such as [\">\", 0, \"<=\", 5]"
        )
    };
    let values = operand.as_array().ok_or_else(wrong)?;
    let mut comparisons = Vec::new();
    for pair in values.chunks(2) {
        let [comparison, bound] = pair else {
            return Err(wrong());
        };
        let comparison = match comparison.as_str().unwrap_or_default() {
            "=" => Comparison::Equal,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return Err(wrong()),
        };
        comparisons.push((comparison, bound.as_f64().ok_or_else(wrong)?));
    }
    use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
    match comparisons.as_slice() {
        [_] | [(Greater | GreaterOrEqual, _), (Less | LessOrEqual, _)] => {
            Ok(Test::Numeric(comparisons))
        }
        _ => Err(wrong()),
    }
}

fn at(path: &str, message: impl Into<String>) -> InvalidPattern {
    InvalidPattern {
        path: path.to_owned(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_source_mapping::tests::record;

    fn matches(pattern: &str, data: &str) -> bool {
        let pattern = Pattern::parse(pattern).unwrap();
        pattern.matches(&record(7, "topic/sensors/a", data.as_bytes()))
    }

    #[test]
    fn patterns_match_what_aws_documents() {
        let tire =
            r#"{"City":"Seattle","Pressure":25,"Note":null,"Tags":["a","b"],"At":{"Floor":3}}"#;
        for (pattern, wanted) in [
            (r#"{"data":{"City":["Seattle"]}}"#, true),
            (r#"{"data":{"City":["seattle"]}}"#, false),
            (
                r#"{"data":{"City":[{"equals-ignore-case":"seattle"}]}}"#,
                true,
            ),
            (r#"{"data":{"City":["Paris","Seattle"]}}"#, true),
            (r#"{"data":{"City":["Seattle"],"Pressure":[26]}}"#, false),
            (r#"{"data":{"City":[{"prefix":"Sea"}]}}"#, true),
            (r#"{"data":{"City":[{"suffix":"tle"}]}}"#, true),
            (r#"{"data":{"City":[{"suffix":"x"}]}}"#, false),
            (r#"{"data":{"City":[{"anything-but":["Paris"]}]}}"#, true),
            (r#"{"data":{"City":[{"anything-but":"Seattle"}]}}"#, false),
            (
                r#"{"data":{"City":[{"anything-but":{"prefix":"Sea"}}]}}"#,
                false,
            ),
            (r#"{"data":{"None":[{"anything-but":"x"}]}}"#, false),
            (r#"{"data":{"Pressure":[25]}}"#, true),
            (r#"{"data":{"Pressure":[25.0]}}"#, false),
            (r#"{"data":{"Pressure":[{"numeric":["=",25.0]}]}}"#, true),
            (
                r#"{"data":{"Pressure":[{"numeric":[">",20,"<=",25]}]}}"#,
                true,
            ),
            (r#"{"data":{"Pressure":[{"numeric":["<",25]}]}}"#, false),
            (r#"{"data":{"City":[{"numeric":["<",25]}]}}"#, false),
            (r#"{"data":{"Note":[null]}}"#, true),
            (r#"{"data":{"City":[null]}}"#, false),
            (r#"{"data":{"City":[{"exists":true}]}}"#, true),
            (r#"{"data":{"None":[{"exists":false}]}}"#, true),
            (r#"{"data":{"None":[{"exists":true}]}}"#, false),
            (r#"{"data":{"At":[{"exists":true}]}}"#, false),
            (r#"{"data":{"At":{"Floor":[3]}}}"#, true),
            (r#"{"data":{"Tags":["b"]}}"#, true),
            (r#"{"data":{"Tags":[{"anything-but":"b"}]}}"#, false),
            (
                r#"{"data":{"$or":[{"City":["X"]},{"Pressure":[25]}]}}"#,
                true,
            ),
            (
                r#"{"data":{"$or":[{"City":["X"]},{"Pressure":[2]}]}}"#,
                false,
            ),
            (r#"{"partitionKey":["topic/sensors/a"]}"#, true),
            (r#"{"partitionKey":[{"prefix":"topic/other"}]}"#, false),
            (
                r#"{"partitionKey":[{"suffix":"/a"}],"data":{"City":["Seattle"]}}"#,
                true,
            ),
            // A pattern for text.
            (r#"{"data":["Seattle"]}"#, false),
        ] {
            assert_eq!(matches(pattern, tire), wanted, "{pattern}");
        }
    }

    #[test]
    fn body_and_pattern_of_different_kinds_drop_the_record() {
        assert!(matches(r#"{"data":["hello"]}"#, "hello"));
        assert!(matches(r#"{"data":[{"prefix":"he"}]}"#, "hello"));
        assert!(!matches(r#"{"data":["other"]}"#, "hello"));
        assert!(!matches(r#"{"data":{"a":[1]}}"#, "hello"));
        assert!(!matches(r#"{"data":{"a":[{"exists":false}]}}"#, "hello"));
        assert!(matches(r#"{"partitionKey":[{"prefix":"topic"}]}"#, "hello"));
    }

    #[test]
    fn invalid_patterns_say_what_and_where() {
        for (pattern, expected) in [
            ("no", "is no JSON"),
            ("[]", "expected a JSON object"),
            ("{}", "is empty; expected at least one key"),
            (
                r#"{"data":{"a":1}}"#,
                "at `data.a`: got 1, expected an object or a list",
            ),
            (r#"{"data":{"a":[]}}"#, "at `data.a`: got []"),
            (
                r#"{"data":{"a":[{"cidr":"10.0.0.0/8"}]}}"#,
                "unknown operator `cidr`",
            ),
            (
                r#"{"data":{"a":[{"numeric":["<",1,">",2]}]}}"#,
                "`numeric` got",
            ),
            (r#"{"data":{"a":[{"numeric":["<"]}]}}"#, "`numeric` got"),
            (r#"{"data":{"a":[{"exists":1}]}}"#, "`exists` got 1"),
            (
                r#"{"data":{"a":[{"prefix":"a","suffix":"b"}]}}"#,
                "one operator",
            ),
            (
                r#"{"$or":[{"a":[1]}]}"#,
                "at `$or`: expected a list of at least two",
            ),
        ] {
            let error = Pattern::parse(pattern).unwrap_err().to_string();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
        assert!(Pattern::parse(&" ".repeat(4_097)).is_err());
    }
}
