//! Metrics of a batch as a log line in CloudWatch's embedded metric format:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//!
//! CloudWatch extracts the metrics, so the function needs neither a call nor a permission.

use std::io::Write as _;
use std::sync::LazyLock;

use contract::metrics as names;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::json;
use serde_json::value::RawValue;

/// Result of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Number of records.
    pub records: u64,
    /// Records counted.
    pub new: u64,
    /// Records that were counted before.
    pub duplicates: u64,
    /// Records rejected.
    pub rejected: u64,
    /// Devices that changed.
    pub devices: u64,
    /// Devices evicted to stay within the limits.
    pub evicted: u64,
    /// Whether the batch is returned because the cache did not answer.
    pub cache_unavailable: bool,
    /// Time from the start of the batch to its response.
    pub milliseconds: f64,
}

/// Writes lines to standard output, which Lambda collects. Errors are ignored: the batch is counted, and
/// there is no other output.
pub fn write(lines: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(lines.as_bytes())
        .and_then(|()| stdout.flush());
}

/// The line with its line feed. `timestamp` is in milliseconds since the Unix epoch.
pub fn line(outcome: &Outcome, function: &str, request_id: &str, timestamp: u64) -> String {
    let line = Line {
        outcome,
        function,
        request_id,
        timestamp,
    };
    let mut text = serde_json::to_string(&line).expect("names and numbers are valid JSON");
    text.push('\n');
    text
}

/// Serialized field by field: a tree of JSON values costs as much as ten records.
struct Line<'a> {
    outcome: &'a Outcome,
    function: &'a str,
    request_id: &'a str,
    timestamp: u64,
}

const COUNTS: [&str; 7] = [
    names::RECORDS,
    names::NEW,
    names::DUPLICATES,
    names::REJECTED,
    names::DEVICES,
    names::EVICTED,
    names::CACHE_UNAVAILABLE,
];

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outcome = self.outcome;
        let counts = [
            outcome.records,
            outcome.new,
            outcome.duplicates,
            outcome.rejected,
            outcome.devices,
            outcome.evicted,
            outcome.cache_unavailable.into(),
        ];
        let mut root = serializer.serialize_map(None)?;
        root.serialize_entry("_aws", &Directive(self.timestamp))?;
        root.serialize_entry(names::FUNCTION_NAME, self.function)?;
        root.serialize_entry("requestId", self.request_id)?;
        for (name, count) in COUNTS.iter().zip(counts) {
            root.serialize_entry(name, &count)?;
        }
        root.serialize_entry(names::DURATION, &outcome.milliseconds)?;
        root.end()
    }
}

/// Declares which members of the line are metrics.
struct Directive(u64);

impl Serialize for Directive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut directive = serializer.serialize_map(None)?;
        directive.serialize_entry("Timestamp", &self.0)?;
        directive.serialize_entry("CloudWatchMetrics", &*DEFINITIONS)?;
        directive.end()
    }
}

/// The declarations, the same for every batch.
static DEFINITIONS: LazyLock<Box<RawValue>> = LazyLock::new(|| {
    let definition = |(name, unit)| json!({"Name": name, "Unit": unit});
    let counts = COUNTS.iter().map(|name| (*name, "Count"));
    let metrics: Vec<_> = counts
        .chain([(names::DURATION, "Milliseconds")])
        .map(definition)
        .collect();
    let directive = json!([{
        "Namespace": names::NAMESPACE,
        "Dimensions": [[names::FUNCTION_NAME]],
        "Metrics": metrics,
    }]);
    RawValue::from_string(directive.to_string()).expect("JSON written by serde_json is JSON")
});

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn line_follows_the_embedded_metric_format() {
        let outcome = Outcome {
            records: 10,
            new: 7,
            duplicates: 2,
            rejected: 1,
            cache_unavailable: true,
            milliseconds: 1.5,
            ..Outcome::default()
        };
        let text = line(&outcome, "sensors-dev", "r-1", 1_700_000_000_000);
        assert_eq!(text.matches('\n').count(), 1);
        let root: Value = serde_json::from_str(&text).unwrap();
        let directive = &root["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(root["_aws"]["Timestamp"], 1_700_000_000_000_u64);
        assert_eq!(directive["Namespace"], names::NAMESPACE);
        for dimension in directive["Dimensions"][0].as_array().unwrap() {
            assert!(
                root[dimension.as_str().unwrap()].is_string(),
                "{dimension} has a value"
            );
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert_eq!(metrics.len(), 8);
        for metric in metrics {
            assert!(
                root[metric["Name"].as_str().unwrap()].is_number(),
                "{metric} has a value"
            );
        }
        assert_eq!(root[names::NEW], 7);
        assert_eq!(root[names::CACHE_UNAVAILABLE], 1);
        assert_eq!(root[names::DURATION], 1.5);
    }
}
