//! Which topics and topic filters the broker takes.
//!
//! (AWS IoT Core Developer Guide, "MQTT topics" and "Reserved topics"; AWS General Reference,
//! "AWS IoT Core message broker and protocol limits and quotas".)

use iot_sql::{BasicIngest, FilterError, TopicFilter};

/// Bytes of a topic or topic filter, the Basic Ingest prefix not counted.
pub(super) const MAX_BYTES: usize = 256;
/// Slashes of a topic or topic filter, the Basic Ingest prefix not counted.
pub(super) const MAX_SLASHES: usize = 7;

/// Why a topic or filter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TopicProblem {
    #[error("topic is empty")]
    Empty,
    #[error("topic is not UTF-8 or holds the character U+0000")]
    NotText,
    #[error("topic {0:?} holds a wildcard")]
    Wildcard(String),
    #[error("topic of {0} bytes is longer than {MAX_BYTES}")]
    TooLong(usize),
    #[error("topic {0:?} has more than {MAX_SLASHES} slashes")]
    TooDeep(String),
    #[error("topic {0:?} is reserved: topics that begin with $ belong to AWS")]
    Reserved(String),
    #[error("shared subscription {0:?} is not emulated")]
    Shared(String),
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// Checks the topic of a PUBLISH or a will.
pub(super) fn check(topic: &[u8]) -> Result<&str, TopicProblem> {
    let topic = std::str::from_utf8(topic).map_err(|_| TopicProblem::NotText)?;
    if topic.is_empty() {
        return Err(TopicProblem::Empty);
    }
    if topic.contains('\0') {
        return Err(TopicProblem::NotText);
    }
    if topic.contains(['+', '#']) {
        return Err(TopicProblem::Wildcard(topic.to_owned()));
    }
    match BasicIngest::parse(topic) {
        Some(ingest) => limits(ingest.topic)?,
        None if topic.starts_with('$') => return Err(TopicProblem::Reserved(topic.to_owned())),
        None => limits(topic)?,
    }
    Ok(topic)
}

/// Checks and reads the filter of a SUBSCRIBE.
pub(super) fn check_filter(filter: &str) -> Result<TopicFilter, TopicProblem> {
    if filter.starts_with("$share/") {
        return Err(TopicProblem::Shared(filter.to_owned()));
    }
    // Nothing is ever published below `$aws` here, and Basic Ingest cannot be subscribed to.
    if filter.starts_with('$') {
        return Err(TopicProblem::Reserved(filter.to_owned()));
    }
    limits(filter)?;
    Ok(TopicFilter::parse(filter)?)
}

fn limits(topic: &str) -> Result<(), TopicProblem> {
    if topic.len() > MAX_BYTES {
        return Err(TopicProblem::TooLong(topic.len()));
    }
    if topic.bytes().filter(|byte| *byte == b'/').count() > MAX_SLASHES {
        return Err(TopicProblem::TooDeep(topic.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_within_the_limits_are_taken() {
        let longest = "x".repeat(MAX_BYTES);
        let ingest = format!("$aws/rules/Rule/{longest}");
        for topic in [
            "a",
            "/",
            "a//b",
            "topic/sensors/ü",
            "1/2/3/4/5/6/7/8",
            &longest,
            &ingest,
        ] {
            assert_eq!(check(topic.as_bytes()), Ok(topic));
        }
    }

    #[test]
    fn topics_over_the_limits_are_refused() {
        let long = "x".repeat(MAX_BYTES + 1);
        let ingest = format!("$aws/rules/Rule/{long}");
        for (topic, expected) in [
            ("", TopicProblem::Empty),
            ("a\0b", TopicProblem::NotText),
            ("a/+/b", TopicProblem::Wildcard("a/+/b".to_owned())),
            ("a/#", TopicProblem::Wildcard("a/#".to_owned())),
            (long.as_str(), TopicProblem::TooLong(257)),
            (ingest.as_str(), TopicProblem::TooLong(257)),
            (
                "1/2/3/4/5/6/7/8/9",
                TopicProblem::TooDeep("1/2/3/4/5/6/7/8/9".to_owned()),
            ),
            ("$SYS/x", TopicProblem::Reserved("$SYS/x".to_owned())),
            (
                "$aws/things/x",
                TopicProblem::Reserved("$aws/things/x".to_owned()),
            ),
        ] {
            assert_eq!(check(topic.as_bytes()), Err(expected), "{topic}");
        }
        assert_eq!(check(b"\xff"), Err(TopicProblem::NotText));
    }

    #[test]
    fn filters_are_checked_like_topics() {
        for filter in ["#", "+", "a/+/b", "a/#", "topic/sensors/+"] {
            assert!(check_filter(filter).is_ok(), "{filter}");
        }
        for filter in [
            "",
            "a/#/b",
            "a+",
            "$share/group/a",
            "$aws/rules/R/a",
            "1/2/3/4/5/6/7/8/9",
        ] {
            assert!(check_filter(filter).is_err(), "{filter}");
        }
    }
}
