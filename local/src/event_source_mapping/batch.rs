//! Batches and the events that are made of them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

use super::Config;
use crate::kinesis::{Record, ShardId};

/// Bytes of an invocation's payload at most, 6 MB ("Lambda quotas").
const MAX_PAYLOAD: usize = 6 * 1024 * 1024;

/// The beginning of an event, its end, and what stands between records.
const FRAME: usize = 32;

/// How many of the records make one batch: as many as batch size and payload allow, at least one.
/// The second value says whether a limit was reached, so that there is nothing to wait for.
pub(super) fn cut<'a>(
    config: &Config,
    stream_arn: &str,
    records: impl IntoIterator<Item = &'a Arc<Record>>,
) -> (usize, bool) {
    let mut count = 0;
    let mut size = FRAME;
    for record in records {
        size += event_size(config, stream_arn, record);
        if count > 0 && size > MAX_PAYLOAD {
            return (count, true);
        }
        count += 1;
        if count == config.batch_size {
            return (count, true);
        }
    }
    (count, false)
}

/// At least as many bytes as a record takes in an event.
fn event_size(config: &Config, stream_arn: &str, record: &Record) -> usize {
    /// Names and punctuation, the sequence number twice, the shard's name, the timestamp.
    const FIXED: usize = 480;
    let escaped_key = record
        .partition_key
        .bytes()
        .map(|byte| if byte < 0x20 { 6 } else { 2 })
        .sum::<usize>();
    record.data.len().div_ceil(3) * 4
        + escaped_key
        + config.role_arn.len()
        + stream_arn.len()
        + FIXED
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "Records")]
    records: Vec<EventRecord<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventRecord<'a> {
    kinesis: Kinesis<'a>,
    event_source: &'static str,
    event_version: &'static str,
    #[serde(rename = "eventID")]
    event_id: String,
    event_name: &'static str,
    invoke_identity_arn: &'a str,
    aws_region: &'a str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kinesis<'a> {
    kinesis_schema_version: &'static str,
    partition_key: &'a str,
    sequence_number: String,
    data: String,
    approximate_arrival_timestamp: Seconds,
}

/// Milliseconds as seconds with a fraction of three digits. A float of this size is exact enough to be
/// printed as it was meant.
struct Seconds(u64);

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[allow(
            clippy::cast_precision_loss,
            reason = "below 2^53 until the year 287396"
        )]
        serializer.serialize_f64(self.0 as f64 / 1_000.0)
    }
}

/// The event of a batch ("Using Lambda to process records from Amazon Kinesis Data Streams").
pub(super) fn event(
    config: &Config,
    stream_arn: &str,
    shard: ShardId,
    records: &[Arc<Record>],
) -> Bytes {
    let records = records
        .iter()
        .map(|record| EventRecord {
            kinesis: Kinesis {
                kinesis_schema_version: "1.0",
                partition_key: &record.partition_key,
                sequence_number: record.sequence_number.to_string(),
                data: STANDARD.encode(&record.data),
                approximate_arrival_timestamp: Seconds(record.arrival),
            },
            event_source: "aws:kinesis",
            event_version: "1.0",
            event_id: format!("{shard}:{}", record.sequence_number),
            event_name: "aws:kinesis:record",
            invoke_identity_arn: &config.role_arn,
            aws_region: &config.region,
            event_source_arn: stream_arn,
        })
        .collect();
    serde_json::to_vec(&Event { records })
        .map(Bytes::from)
        .expect("strings and numbers can be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_source_mapping::tests::{ARN, config, record};

    #[test]
    fn batch_ends_at_its_size_or_at_six_megabytes() {
        let batch = |batch_size: usize, sizes: &[usize]| {
            let config = Config {
                batch_size,
                ..config()
            };
            let records: Vec<_> = sizes
                .iter()
                .zip(1..)
                .map(|(size, n)| record(n, "a", &vec![0; *size]))
                .collect();
            cut(&config, ARN, &records)
        };
        assert_eq!(batch(3, &[]), (0, false));
        assert_eq!(batch(3, &[1, 1]), (2, false));
        assert_eq!(batch(3, &[1, 1, 1, 1]), (3, true));
        // 1 MiB is 1.33 MiB in base64: four fit.
        assert_eq!(batch(100, &[1 << 20; 6]), (4, true));
        assert_eq!(batch(100, &[10 << 20, 1]), (1, true));
    }

    #[test]
    fn size_is_never_underestimated() {
        let records: Vec<_> = (1..200)
            .map(|n| record(n, "a\u{1}\"ü\\", &vec![7; n as usize]))
            .collect();
        let shard = crate::event_source_mapping::tests::shard();
        let estimate: usize = FRAME
            + records
                .iter()
                .map(|it| event_size(&config(), ARN, it))
                .sum::<usize>();
        assert!(event(&config(), ARN, shard, &records).len() <= estimate);
    }

    #[test]
    fn event_is_as_aws_documents_it() {
        let shard = crate::event_source_mapping::tests::shard();
        let record = record(7, "topic/sensors/a", b"hello");
        let event: serde_json::Value =
            serde_json::from_slice(&event(&config(), ARN, shard, std::slice::from_ref(&record)))
                .unwrap();
        let number = record.sequence_number.to_string();
        assert_eq!(
            event,
            serde_json::json!({ "Records": [{
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "topic/sensors/a",
                    "sequenceNumber": number,
                    "data": "aGVsbG8=",
                    "approximateArrivalTimestamp": record.arrival as f64 / 1000.0,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": format!("shardId-000000000000:{number}"),
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": config().role_arn,
                "awsRegion": "eu-central-1",
                "eventSourceARN": ARN,
            }]})
        );
    }
}
