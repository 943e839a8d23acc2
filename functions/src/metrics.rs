//! Metrics of a batch, as a log line in CloudWatch's embedded metric format:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//!
//! CloudWatch makes metrics of it, so the function needs neither a call nor a permission.

use std::io::Write as _;

use contract::metrics as names;
use serde_json::{Map, Value, json};

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Records in it.
    pub records: u64,
    /// Records counted.
    pub new: u64,
    /// Records that had been counted before.
    pub duplicates: u64,
    /// Records that cannot be taken.
    pub rejected: u64,
    /// Devices that changed.
    pub devices: u64,
    /// Devices forgotten to stay below the caps.
    pub evicted: u64,
    /// The batch was given back because the cache did not answer.
    pub cache_unavailable: bool,
    /// From the start of the batch to its answer.
    pub milliseconds: f64,
}

/// Writes a line to standard output, where Lambda picks it up.
///
/// When that is closed nothing happens: the batch is done, and there is nowhere else to complain.
pub fn write(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush());
}

/// The line, its end included. `timestamp` is in milliseconds since the Unix epoch.
pub fn line(outcome: &Outcome, function: &str, request_id: &str, timestamp: u64) -> String {
    let metrics = [
        (names::RECORDS, "Count", json!(outcome.records)),
        (names::NEW, "Count", json!(outcome.new)),
        (names::DUPLICATES, "Count", json!(outcome.duplicates)),
        (names::REJECTED, "Count", json!(outcome.rejected)),
        (names::DEVICES, "Count", json!(outcome.devices)),
        (names::EVICTED, "Count", json!(outcome.evicted)),
        (
            names::CACHE_UNAVAILABLE,
            "Count",
            json!(u8::from(outcome.cache_unavailable)),
        ),
        (names::DURATION, "Milliseconds", json!(outcome.milliseconds)),
    ];
    let definitions: Vec<Value> = metrics
        .iter()
        .map(|(name, unit, _)| json!({"Name": name, "Unit": unit}))
        .collect();
    let mut root = Map::new();
    root.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": timestamp,
            "CloudWatchMetrics": [{
                "Namespace": names::NAMESPACE,
                "Dimensions": [[names::FUNCTION_NAME]],
                "Metrics": definitions,
            }],
        }),
    );
    root.insert(names::FUNCTION_NAME.to_owned(), json!(function));
    root.insert("requestId".to_owned(), json!(request_id));
    for (name, _, value) in metrics {
        root.insert(name.to_owned(), value);
    }
    Value::Object(root).to_string() + "\n"
}

#[cfg(test)]
mod tests {
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
