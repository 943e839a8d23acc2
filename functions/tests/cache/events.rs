//! Events as Lambda sends them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use functions::event::Event;
use functions::handler::Function;
use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};

pub(crate) const STREAM: &str = "arn:aws:kinesis:eu-central-1:123456789012:stream/sensors";

/// A record of a Kinesis event.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) stream: String,
    pub(crate) key: String,
    pub(crate) sequence: String,
    /// Arrival, in milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// As in the event; valid base64 or not.
    pub(crate) data: String,
}

/// A record of a device in [`STREAM`].
pub(crate) fn record(
    device: &str,
    sequence: impl ToString,
    at: u64,
    payload: impl AsRef<[u8]>,
) -> Record {
    Record {
        stream: STREAM.to_owned(),
        key: contract::topic::of_device(device),
        sequence: sequence.to_string(),
        at,
        data: STANDARD.encode(payload),
    }
}

pub(crate) fn event(records: &[Record]) -> Value {
    let record = |record: &Record| {
        json!({
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": record.key,
                "sequenceNumber": record.sequence,
                "data": record.data,
                "approximateArrivalTimestamp": record.at as f64 / 1000.0,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": format!("shardId-000000000000:{}", record.sequence),
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::123456789012:role/function",
            "awsRegion": "eu-central-1",
            "eventSourceARN": record.stream,
        })
    };
    json!({ "Records": records.iter().map(record).collect::<Vec<_>>() })
}

/// Invokes the function. Returns the sequence numbers to retry.
pub(crate) async fn invoke(function: &Function, records: &[Record]) -> Vec<String> {
    invoke_within(function, records, Duration::from_secs(60)).await
}

/// Invokes the function with this time until Lambda's deadline.
pub(crate) async fn invoke_within(
    function: &Function,
    records: &[Record],
    time: Duration,
) -> Vec<String> {
    let mut context = Context::default();
    context.request_id = "3d3f2b2c-0000-4000-8000-000000000000".to_owned();
    context.deadline = (SystemTime::now() + time)
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64;
    let event = Event::parse(&event(records).to_string()).unwrap();
    let response = function
        .handle(LambdaEvent::new(event, context))
        .await
        .unwrap();
    response
        .batch_item_failures
        .into_iter()
        .map(|failure| failure.item_identifier.unwrap())
        .collect()
}
