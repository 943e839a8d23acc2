//! Topics and topic filters, as AWS documents them (AWS IoT developer guide, "MQTT topics").

use std::{fmt, str::FromStr};

/// A topic filter: levels, `+` for one level, `#` for all levels below.
///
/// # Differs from MQTT
/// On AWS, `sensor/#` matches `sensor/` and everything below it, but not `sensor` itself; by the MQTT specification it
/// matches `sensor`, too.
/// As in MQTT, a wildcard at the start does not match topics that begin with `$`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter {
    text: String,
    /// Levels before the `#`.
    levels: Vec<Level>,
    multi: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Level {
    Exact(String),
    Any,
}

/// Why a topic filter is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The empty string.
    #[error("invalid topic filter \"\": expected a topic")]
    Empty,
    /// `#` is not the whole last level.
    #[error("invalid topic filter \"{0}\": expected `#` as the whole last level")]
    MisplacedMulti(String),
    /// `+` is not a whole level.
    #[error("invalid topic filter \"{0}\": expected `+` as a whole level")]
    MisplacedSingle(String),
    /// The filter contains U+0000.
    #[error("invalid topic filter: unexpected character U+0000")]
    Nul,
}

impl TopicFilter {
    /// Parses a filter.
    ///
    /// # Errors
    /// It is empty, a wildcard is not a whole level, or `#` is not last.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        if text.contains('\0') {
            return Err(FilterError::Nul);
        }
        let mut levels = Vec::new();
        let mut multi = false;
        for level in text.split('/') {
            if multi || (level.contains('#') && level != "#") {
                return Err(FilterError::MisplacedMulti(text.to_owned()));
            }
            match level {
                "#" => multi = true,
                "+" => levels.push(Level::Any),
                _ if level.contains('+') => {
                    return Err(FilterError::MisplacedSingle(text.to_owned()));
                }
                _ => levels.push(Level::Exact(level.to_owned())),
            }
        }
        Ok(Self {
            text: text.to_owned(),
            levels,
            multi,
        })
    }

    /// Whether it matches the topic of a message.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let wildcard_first = match self.levels.first() {
            None | Some(Level::Any) => true,
            Some(Level::Exact(_)) => false,
        };
        if wildcard_first && topic.starts_with('$') {
            return false;
        }
        let mut rest = topic.split('/');
        for level in &self.levels {
            match (level, rest.next()) {
                (_, None) => return false,
                (Level::Any, Some(_)) => {}
                (Level::Exact(expected), Some(got)) if expected == got => {}
                (Level::Exact(_), Some(_)) => return false,
            }
        }
        // `#` needs one more level, which may be empty: `sensor/#` matches `sensor/` and not `sensor`.
        rest.next().is_some() == self.multi
    }

    /// The filter as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for TopicFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

/// A topic that bypasses the broker and reaches one rule: `$aws/rules/<rule>/<topic>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicIngest<'a> {
    /// Name of the rule.
    pub rule: &'a str,
    /// The rest, which is the topic for the rule and may be empty.
    pub topic: &'a str,
}

impl<'a> BasicIngest<'a> {
    /// Splits a Basic Ingest topic; `None` for another topic (AWS IoT developer guide, "Basic Ingest").
    #[must_use]
    pub fn parse(topic: &'a str) -> Option<Self> {
        let rest = topic.strip_prefix("$aws/rules/")?;
        let (rule, topic) = rest.split_once('/').unwrap_or((rest, ""));
        (!rule.is_empty()).then_some(Self { rule, topic })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filter: &str, topic: &str, expected: bool) {
        assert_eq!(
            TopicFilter::parse(filter).unwrap().matches(topic),
            expected,
            "{filter} on {topic}"
        );
    }

    #[test]
    fn filters_match_as_aws_documents_them() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/B", false),
            ("a/b", "a/b/", false),
            ("a/b", "a", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
            ("+", "a", true),
            ("+/+", "/a", true),
            ("a/#", "a/", true),
            ("a/#", "a/b", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a", false),
            ("a/#", "ab", false),
            ("a/+/#", "a/b/c", true),
            ("a/+/#", "a/b", false),
            ("#", "a", true),
            ("#", "a/b/c", true),
            ("#", "$aws/things", false),
            ("+/things", "$aws/things", false),
            ("$aws/#", "$aws/things", true),
            ("/a", "/a", true),
            ("/a", "a", false),
        ] {
            check(filter, topic, expected);
        }
    }

    #[test]
    fn misplaced_wildcards_are_refused() {
        for filter in ["", "a/#/b", "a#", "a/b#", "#a", "a+", "a/+b/c", "##", "\0"] {
            assert!(TopicFilter::parse(filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn basic_ingest_topics_split_into_rule_and_topic() {
        let parse = BasicIngest::parse;
        assert_eq!(
            parse("$aws/rules/R/a/b"),
            Some(BasicIngest {
                rule: "R",
                topic: "a/b"
            })
        );
        assert_eq!(
            parse("$aws/rules/R"),
            Some(BasicIngest {
                rule: "R",
                topic: ""
            })
        );
        assert_eq!(parse("$aws/rules/"), None);
        assert_eq!(parse("a/b"), None);
    }
}
