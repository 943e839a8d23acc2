//! Where invocation records of discarded batches go
//! ("Retain discarded batch records for a Kinesis Data Streams event source in Lambda").

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::Config;
use crate::kinesis::{Record, ShardId};
use crate::permission::Authorizer;
use crate::s3::Store;
use crate::sqs::{Queue, SendMessageError};

/// What takes invocation records: `DestinationConfig.OnFailure`.
#[derive(Debug)]
pub enum Destination {
    /// A bucket, which gets the records as well.
    Bucket {
        /// Name
        bucket: String,
        /// ARN
        arn: String,
        /// Where its objects are.
        store: Arc<Store>,
    },
    /// A queue, which is only told where the records are in the stream.
    Queue(Queue),
}

/// Why a destination has not taken an invocation record.
pub(super) enum NotDelivered {
    /// It never will.
    Refused(String),
    /// It may later.
    NotNow(String),
}

impl Destination {
    /// Whether invocation records hold the records.
    pub(super) fn wants_records(&self) -> bool {
        matches!(self, Destination::Bucket { .. })
    }

    /// Delivers an invocation record; returns where it is. `key` is that of the object.
    pub(super) async fn deliver(
        &self,
        authorizer: &Authorizer,
        key: &str,
        body: &Bytes,
    ) -> Result<String, NotDelivered> {
        let allowed = match self {
            Destination::Bucket { arn, .. } => authorizer
                .authorize("s3:ListBucket", arn)
                .and_then(|()| authorizer.authorize("s3:PutObject", &format!("{arn}/{key}"))),
            Destination::Queue(queue) => {
                authorizer.authorize("sqs:SendMessage", &queue.config().arn)
            }
        };
        allowed.map_err(|denied| NotDelivered::Refused(denied.to_string()))?;
        match self {
            Destination::Bucket { bucket, store, .. } => store
                .put_object(bucket, key, body.clone())
                .await
                .map(|_| format!("s3://{bucket}/{key}"))
                .map_err(|error| NotDelivered::NotNow(error.to_string())),
            Destination::Queue(queue) => match queue.send(body).await {
                Ok(()) => Ok(queue.config().url.clone()),
                Err(error @ SendMessageError::Unavailable(_)) => {
                    Err(NotDelivered::NotNow(error.to_string()))
                }
                Err(error) => Err(NotDelivered::Refused(error.to_string())),
            },
        }
    }
}

/// Why a batch is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    RetryAttemptsExhausted,
    RecordAgeExceeded,
}

impl Condition {
    pub(super) fn name(self) -> &'static str {
        match self {
            Condition::RetryAttemptsExhausted => "RetryAttemptsExhausted",
            Condition::RecordAgeExceeded => "RecordAgeExceeded",
        }
    }
}

/// The last invocation of a batch.
#[derive(Clone, Debug, Default)]
pub(super) struct LastInvocation {
    pub(super) request_id: Option<String>,
    /// Whether it ended with an error; a partial response is none.
    pub(super) failed: bool,
    pub(super) count: u32,
}

/// Key of the object that takes an invocation record.
pub(super) fn object_key(config: &Config, shard: ShardId, now: Timestamp) -> String {
    format!(
        "aws/lambda/{}/{shard}/{}-{}",
        config.id,
        now.strftime("%Y/%m/%d/%Y-%m-%dT%H.%M.%S"),
        Uuid::new_v4()
    )
}

/// The invocation record; with the whole event where the destination wants it.
pub(super) fn invocation_record(
    config: &Config,
    stream_arn: &str,
    shard: ShardId,
    records: &[Arc<Record>],
    event: Option<&[u8]>,
    condition: Condition,
    last: &LastInvocation,
) -> Vec<u8> {
    let time = |ms: u64| {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), format_time)
    };
    let first = records.first();
    let end = records.last();
    let response = last.request_id.as_ref().map(|_| {
        let error = last.failed.then_some("Unhandled");
        json!({ "statusCode": 200, "executedVersion": "$LATEST", "functionError": error })
    });
    let mut invocation = json!({
        "requestContext": {
            "requestId": last.request_id,
            "functionArn": config.function_arn,
            "condition": condition.name(),
            "approximateInvokeCount": last.count,
        },
        "responseContext": response,
        "version": "1.0",
        "timestamp": format_time(Timestamp::now()),
        "KinesisBatchInfo": {
            "shardId": shard.to_string(),
            "startSequenceNumber": first.map(|it| it.sequence_number.to_string()),
            "endSequenceNumber": end.map(|it| it.sequence_number.to_string()),
            "approximateArrivalOfFirstRecord": first.map(|it| time(it.arrival)),
            "approximateArrivalOfLastRecord": end.map(|it| time(it.arrival)),
            "batchSize": records.len(),
            "streamArn": stream_arn,
        },
    });
    if let Some(event) = event {
        invocation["payload"] = String::from_utf8_lossy(event).into();
    }
    invocation.to_string().into_bytes()
}

fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
