//! Actions of rules: where a rule's output goes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use iot_sql::{Context, Message, Template, Variables};

use super::RuleError;
use crate::iam::Permission;
use crate::kinesis::Stream;
use crate::status::Status;

/// Pauses between the attempts of an action that failed for a reason that may pass.
///
/// AWS publishes no schedule ("might make multiple attempts", Developer Guide, "Error handling");
/// this one rides out four seconds of a throttled shard and then lets the error action tell.
const PAUSES_MS: [u64; 8] = [50, 100, 200, 400, 800, 1_000, 1_000, 1_000];

/// Records of a `PutRecordBatch` at most.
const MAX_BATCH: usize = 500;

/// An action as the template describes it, its target already found.
#[derive(Debug)]
pub enum Action {
    /// `Kinesis`
    Kinesis {
        /// `StreamName`
        stream: Arc<Stream>,
        /// `RoleArn` may `kinesis:PutRecord`.
        permission: Permission,
        /// `PartitionKey`, a substitution template.
        partition_key: Option<String>,
    },
    /// `Firehose`
    Firehose {
        /// `DeliveryStreamName`
        delivery_stream: Arc<dyn Sink>,
        /// `RoleArn` may `firehose:PutRecord` or `firehose:PutRecordBatch`.
        permission: Permission,
        /// `Separator`
        separator: Option<String>,
        /// `BatchMode`
        batch_mode: bool,
    },
    /// `CloudwatchLogs`
    CloudwatchLogs {
        /// `LogGroupName`
        log_group: Arc<dyn Sink>,
        /// `RoleArn` may write.
        permission: Permission,
        /// `BatchMode`
        batch_mode: bool,
    },
}

/// Something that takes records: a delivery stream, a log group.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Name of the delivery stream or log group.
    fn name(&self) -> &str;

    /// Takes the records, all or none.
    fn put(&self, records: Vec<Bytes>) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// Why records were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// In AWS's words, with the error code.
    pub message: String,
    /// Whether the same records may be taken later.
    pub is_transient: bool,
}

/// An action, its substitution templates compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    action: Action,
    partition_key: Option<Template>,
}

/// A failure for the error action, in the shape that AWS gives it.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    failed_action: &'static str,
    failed_resource: String,
    error_message: String,
}

impl Compiled {
    pub(super) fn new(
        action: Action,
        rule: &iot_sql::Rule,
        property: &str,
        logical_id: &str,
    ) -> Result<Compiled, RuleError> {
        let partition_key = match &action {
            Action::Kinesis {
                partition_key: Some(text),
                ..
            } => Some(
                Template::compile_for(text, rule).map_err(|error| RuleError {
                    logical_id: logical_id.to_owned(),
                    property: format!("{property}.Kinesis.PartitionKey"),
                    message: error.to_string(),
                })?,
            ),
            _ => None,
        };
        Ok(Compiled {
            action,
            partition_key,
        })
    }

    /// Carries the action out, again after transient failures.
    ///
    /// `output` is what the rule selected (or what tells of a failure); templates are evaluated
    /// against the message as it was published, with what the rule's SET found for it.
    pub(super) async fn run(
        &self,
        output: &Bytes,
        elements: Option<Vec<Bytes>>,
        message: &Message<'_>,
        variables: &Variables,
        context: &(dyn Context + Sync),
        status: &Status,
    ) -> Result<(), Failure> {
        let mut pauses = PAUSES_MS.into_iter();
        // Once per message, so that `${newuuid()}` does not send a retry to another shard.
        let partition_key = match &self.partition_key {
            None => Ok(context.new_uuid()),
            Some(template) => template
                .evaluate_with(message, context, variables)
                .map_err(|it| it.to_string()),
        };
        loop {
            let attempt = match &partition_key {
                Ok(key) => self.attempt(output, elements.as_deref(), key).await,
                Err(error) => Err(SinkError {
                    message: error.clone(),
                    is_transient: false,
                }),
            };
            let Err(error) = attempt else {
                status.actions.increment();
                if matches!(self.action, Action::Kinesis { .. }) {
                    status.records.increment();
                }
                return Ok(());
            };
            match pauses.next().filter(|_| error.is_transient) {
                Some(pause) => {
                    status.action_retries.increment();
                    // Connections that were refused together must not come back together.
                    let jitter = context.random() * 0.5 + 0.75;
                    tokio::time::sleep(Duration::from_millis(pause).mul_f64(jitter)).await;
                }
                None => {
                    status.action_failures.increment();
                    return Err(self.failure(&error, message.topic, partition_key.as_deref().ok()));
                }
            }
        }
    }

    async fn attempt(
        &self,
        output: &Bytes,
        elements: Option<&[Bytes]>,
        partition_key: &str,
    ) -> Result<(), SinkError> {
        let permission = match &self.action {
            Action::Kinesis { permission, .. }
            | Action::Firehose { permission, .. }
            | Action::CloudwatchLogs { permission, .. } => permission,
        };
        permission.check().map_err(|denied| SinkError {
            message: denied.to_string(),
            is_transient: false,
        })?;
        match &self.action {
            Action::Kinesis { stream, .. } => stream
                .put_record(partition_key, None, output.clone())
                .await
                .map(drop)
                .map_err(|error| SinkError {
                    is_transient: error.is_transient(),
                    message: error.to_string(),
                }),
            Action::Firehose {
                delivery_stream,
                separator,
                batch_mode,
                ..
            } => {
                let records = records(output, elements.filter(|_| *batch_mode))
                    .map(|record| separated(record, separator.as_deref()))
                    .collect::<Vec<_>>();
                if records.len() > MAX_BATCH {
                    return Err(SinkError {
                        message: format!(
                            "an array of {} elements is larger than a batch of {MAX_BATCH} records",
                            records.len()
                        ),
                        is_transient: false,
                    });
                }
                delivery_stream.put(records).await
            }
            Action::CloudwatchLogs {
                log_group,
                batch_mode,
                ..
            } => {
                log_group
                    .put(records(output, elements.filter(|_| *batch_mode)).collect())
                    .await
            }
        }
    }

    fn failure(&self, error: &SinkError, topic: &str, partition_key: Option<&str>) -> Failure {
        let (failed_action, what, name, kind) = match &self.action {
            Action::Kinesis { stream, .. } => (
                "KinesisAction",
                "record to Kinesis stream",
                &*stream.config().name,
                "kinesis",
            ),
            Action::Firehose {
                delivery_stream, ..
            } => (
                "FirehoseAction",
                "record to Firehose stream",
                delivery_stream.name(),
                "firehose",
            ),
            Action::CloudwatchLogs { log_group, .. } => (
                "CloudwatchLogsAction",
                "log event to CloudWatch Logs group",
                log_group.name(),
                "cloudwatchLogs",
            ),
        };
        let mut error_message = format!(
            "Failed to put {what} {name}. The error received was {error}. Message arrived on: {topic}, Action: {kind}, Name: {name}"
        );
        if let (Action::Kinesis { .. }, Some(key)) = (&self.action, partition_key) {
            error_message.push_str(&format!(", PartitionKey: {key}"));
        }
        Failure {
            failed_action,
            failed_resource: name.to_owned(),
            error_message,
        }
    }
}

impl Failure {
    pub(super) fn message(&self) -> &str {
        &self.error_message
    }
}

/// The output as one record, or each element of an array as one.
fn records<'a>(
    output: &'a Bytes,
    elements: Option<&'a [Bytes]>,
) -> impl Iterator<Item = Bytes> + 'a {
    elements
        .unwrap_or(std::slice::from_ref(output))
        .iter()
        .cloned()
}

fn separated(record: Bytes, separator: Option<&str>) -> Bytes {
    match separator {
        None => record,
        Some(separator) => {
            let mut bytes = Vec::with_capacity(record.len() + separator.len());
            bytes.extend_from_slice(&record);
            bytes.extend_from_slice(separator.as_bytes());
            Bytes::from(bytes)
        }
    }
}
