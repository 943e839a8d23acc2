//! Actions of rules: where a rule's output goes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use iot_sql::{Context, Message, Template, Variables};

use super::RuleError;
use crate::kinesis::Stream;
use crate::permission::{Authorizer, Permission};
use crate::s3::Store;
use crate::sqs::{Queue, SendMessageError};
use crate::status::Status;

/// Pauses between the attempts of an action that failed for a reason that may pass.
///
/// AWS publishes no schedule ("might make multiple attempts", Developer Guide, "Error handling");
/// this one rides out four seconds of a throttled shard and then lets the error action tell.
const PAUSES_MS: [u64; 8] = [50, 100, 200, 400, 800, 1_000, 1_000, 1_000];

/// Records of a `PutRecordBatch` at most.
const MAX_BATCH: usize = 500;

/// Bytes of an object's key at most.
const MAX_KEY_BYTES: usize = 1024;

/// An action as the template describes it, its target already found.
#[derive(Debug)]
pub enum Action {
    /// `Kinesis`
    Kinesis {
        /// `StreamName`; `RoleArn` may `kinesis:PutRecord`.
        stream: Choice<Arc<Stream>>,
        /// `PartitionKey`, a substitution template.
        partition_key: Option<String>,
    },
    /// `Firehose`
    Firehose {
        /// `DeliveryStreamName`; `RoleArn` may `firehose:PutRecord` or `firehose:PutRecordBatch`.
        delivery_stream: Choice<Arc<dyn Sink>>,
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
    /// `Sqs`
    Sqs {
        /// `QueueUrl`
        queue: Queue,
        /// `RoleArn` may `sqs:SendMessage`.
        permission: Permission,
        /// `UseBase64`
        use_base64: bool,
    },
    /// `S3`
    S3 {
        /// `BucketName`
        bucket: String,
        /// The bucket's ARN.
        arn: String,
        /// `Key`, a substitution template.
        key: String,
        /// Where its objects are.
        store: Arc<Store>,
        /// Stands for `RoleArn`: whether it may `s3:PutObject` depends on the key.
        authorizer: Authorizer,
        /// `RoleArn` may use the key that the bucket encrypts with.
        encryption: Permission,
    },
}

/// The resource that an action goes to.
#[derive(Debug)]
pub enum Choice<T> {
    /// The template names it; the permission is that of the rule's role.
    One(T, Permission),
    /// Each message names it.
    Named {
        /// The substitution template that gives its name.
        template: String,
        /// What there is to be named.
        resources: BTreeMap<String, (T, Permission)>,
    },
}

impl<T> Choice<T> {
    fn template(&self) -> Option<&str> {
        match self {
            Choice::One(..) => None,
            Choice::Named { template, .. } => Some(template),
        }
    }

    /// Its name; as the template writes it where the message gives none.
    fn name(&self, texts: Option<&Texts>, of: impl Fn(&T) -> &str) -> String {
        match self {
            Choice::One(resource, _) => of(resource).to_owned(),
            Choice::Named { template, .. } => {
                texts.map_or_else(|| template.clone(), |it| it.name.clone())
            }
        }
    }

    /// The resource, if the role may use it; `name` is what the message names, `kind` what it should be.
    fn get(&self, name: &str, kind: &str) -> Result<&T, SinkError> {
        let (resource, permission) = match self {
            Choice::One(resource, permission) => (resource, permission),
            Choice::Named { resources, .. } => {
                let named = resources.get(name).ok_or_else(|| {
                    SinkError::lasting(format!(
                        "ResourceNotFoundException: {kind} {name} not found"
                    ))
                })?;
                (&named.0, &named.1)
            }
        };
        permission.check().map_err(SinkError::lasting)?;
        Ok(resource)
    }
}

impl Action {
    /// Its substitution templates, each with the setting that has it.
    pub(super) fn templates(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let (name, value) = match self {
            Action::Kinesis {
                stream,
                partition_key,
            } => (
                stream.template().map(|it| ("Kinesis.StreamName", it)),
                partition_key
                    .as_deref()
                    .map(|it| ("Kinesis.PartitionKey", it)),
            ),
            Action::Firehose {
                delivery_stream, ..
            } => {
                let name = delivery_stream.template();
                (name.map(|it| ("Firehose.DeliveryStreamName", it)), None)
            }
            Action::S3 { key, .. } => (None, Some(("S3.Key", key.as_str()))),
            Action::CloudwatchLogs { .. } | Action::Sqs { .. } => (None, None),
        };
        name.into_iter().chain(value)
    }

    /// Whether each element of an array is a record of its own.
    pub(super) fn batch_mode(&self) -> bool {
        match self {
            Action::Firehose { batch_mode, .. } | Action::CloudwatchLogs { batch_mode, .. } => {
                *batch_mode
            }
            Action::Kinesis { .. } | Action::Sqs { .. } | Action::S3 { .. } => false,
        }
    }
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

impl SinkError {
    fn lasting(message: impl ToString) -> SinkError {
        SinkError {
            message: message.to_string(),
            is_transient: false,
        }
    }
}

/// An action, its substitution templates compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    action: Action,
    /// Of the stream's or delivery stream's name.
    name: Option<Template>,
    /// Of the partition key or the object's key.
    key: Option<Template>,
}

/// What an action's templates give for a message.
struct Texts {
    name: String,
    key: String,
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
        let compile = |(field, text): (&str, &str)| {
            Template::compile_for(text, rule).map_err(|error| RuleError {
                logical_id: logical_id.to_owned(),
                property: format!("{property}.{field}"),
                message: error.to_string(),
            })
        };
        let (mut name, mut key) = (None, None);
        for template in action.templates() {
            let is_key = template.0.ends_with("Key");
            let compiled = Some(compile(template)?);
            if is_key {
                key = compiled;
            } else {
                name = compiled;
            }
        }
        Ok(Compiled { action, name, key })
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
        let evaluate = |template: &Option<Template>, absent: fn(&dyn Context) -> String| {
            let evaluated = template
                .as_ref()
                .map(|it| it.evaluate_with(message, context, variables));
            evaluated
                .unwrap_or_else(|| Ok(absent(context)))
                .map_err(SinkError::lasting)
        };
        let random_key: fn(&dyn Context) -> String = match self.action {
            Action::Kinesis { .. } => |context| context.new_uuid(),
            _ => |_| String::new(),
        };
        let texts = evaluate(&self.name, |_| String::new()).and_then(|name| {
            let key = evaluate(&self.key, random_key)?;
            Ok(Texts { name, key })
        });
        loop {
            let attempt = match &texts {
                Ok(texts) => self.attempt(output, elements.as_deref(), texts).await,
                Err(error) => Err(error.clone()),
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
                    return Err(self.failure(&error, message.topic, texts.as_ref().ok()));
                }
            }
        }
    }

    async fn attempt(
        &self,
        output: &Bytes,
        elements: Option<&[Bytes]>,
        texts: &Texts,
    ) -> Result<(), SinkError> {
        match &self.action {
            Action::Kinesis { stream, .. } => stream
                .get(&texts.name, "Stream")?
                .put_record(&texts.key, None, output.clone())
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
            } => {
                let delivery_stream = delivery_stream.get(&texts.name, "Firehose")?;
                let records = records(output, elements.filter(|_| *batch_mode))
                    .map(|record| separated(record, separator.as_deref()))
                    .collect::<Vec<_>>();
                if records.len() > MAX_BATCH {
                    return Err(SinkError::lasting(format!(
                        "an array of {} elements is larger than a batch of {MAX_BATCH} records",
                        records.len()
                    )));
                }
                delivery_stream.put(records).await
            }
            Action::CloudwatchLogs {
                log_group,
                permission,
                batch_mode,
            } => {
                permission.check().map_err(SinkError::lasting)?;
                log_group
                    .put(records(output, elements.filter(|_| *batch_mode)).collect())
                    .await
            }
            Action::Sqs {
                queue,
                permission,
                use_base64,
            } => {
                permission.check().map_err(SinkError::lasting)?;
                let sent = if *use_base64 {
                    queue.send(BASE64_STANDARD.encode(output).as_bytes()).await
                } else {
                    queue.send(output).await
                };
                sent.map_err(|error| SinkError {
                    is_transient: matches!(error, SendMessageError::Unavailable(_)),
                    message: error.to_string(),
                })
            }
            Action::S3 {
                bucket,
                arn,
                store,
                authorizer,
                encryption,
                ..
            } => {
                let key = &texts.key;
                if key.is_empty() || key.len() > MAX_KEY_BYTES {
                    return Err(SinkError::lasting(format!(
                        "a key of {} bytes, where S3 takes 1 to {MAX_KEY_BYTES}",
                        key.len()
                    )));
                }
                authorizer
                    .authorize("s3:PutObject", &format!("{arn}/{key}"))
                    .and_then(|()| encryption.check())
                    .map_err(SinkError::lasting)?;
                store
                    .put_object(bucket, key, output.clone())
                    .await
                    .map(drop)
                    .map_err(|error| SinkError {
                        message: error.to_string(),
                        is_transient: true,
                    })
            }
        }
    }

    fn failure(&self, error: &SinkError, topic: &str, texts: Option<&Texts>) -> Failure {
        let (failed_action, what, name, kind, label) = match &self.action {
            Action::Kinesis { stream, .. } => (
                "KinesisAction",
                "put record to Kinesis stream",
                stream.name(texts, |it| &it.config().name),
                "kinesis",
                "Name",
            ),
            Action::Firehose {
                delivery_stream, ..
            } => (
                "FirehoseAction",
                "put record to Firehose stream",
                delivery_stream.name(texts, |it| it.name()),
                "firehose",
                "Name",
            ),
            Action::CloudwatchLogs { log_group, .. } => (
                "CloudwatchLogsAction",
                "put log event to CloudWatch Logs group",
                log_group.name().to_owned(),
                "cloudwatchLogs",
                "Name",
            ),
            Action::Sqs { queue, .. } => (
                "SqsAction",
                "send message to SQS queue",
                queue.config().url.clone(),
                "sqs",
                "QueueUrl",
            ),
            Action::S3 { bucket, .. } => (
                "S3Action",
                "put S3 object to bucket",
                bucket.clone(),
                "s3",
                "Bucket",
            ),
        };
        let mut error_message = format!(
            "Failed to {what} {name}. The error received was {error}. Message arrived on: {topic}, Action: {kind}, {label}: {name}"
        );
        match (&self.action, texts) {
            (Action::Kinesis { .. }, Some(texts)) => {
                error_message.push_str(&format!(", PartitionKey: {}", texts.key));
            }
            (Action::S3 { .. }, Some(texts)) => {
                error_message.push_str(&format!(", Key: \"{}\"", texts.key));
            }
            _ => {}
        }
        Failure {
            failed_action,
            failed_resource: name,
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
