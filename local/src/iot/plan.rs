//! Topic rules of a template.

use cfn::Value;
use cfn::resolve::{Problem, Resolved, ResolvedResource, properties};
use cfn::resources::iot::{TopicRule, topic_rule};
use iot_sql::{SqlVersion, Template};
use serde_json::Value as Json;

use crate::sqs;
use crate::template::NotEmulated;

/// An `AWS::IoT::TopicRule`.
#[derive(Clone, Debug)]
pub struct RulePlan {
    /// Logical ID
    pub logical_id: String,
    /// Physical name
    pub name: String,
    /// `Sql`
    pub sql: String,
    /// `AwsIotSqlVersion`
    pub version: SqlVersion,
    /// `RuleDisabled`
    pub disabled: bool,
    /// `Actions` that are emulated
    pub actions: Vec<ActionPlan>,
    /// `ErrorAction`
    pub error_action: Option<ActionPlan>,
    /// Kind of the `ErrorAction`, if it is not emulated.
    pub error_action_not_emulated: Option<String>,
}

/// An action.
#[derive(Clone, Debug)]
pub struct ActionPlan {
    /// Place in `Actions`; 0 for the error action.
    pub index: usize,
    /// Path of the setting, as [`cfn::integration::Call::path`] has it.
    pub path: String,
    /// What it does.
    pub target: Target,
}

/// A stream or delivery stream that an action goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// Logical ID
    Resource(String),
    /// A substitution template that gives the name.
    Template(String),
}

/// What an action does, to which resource (logical IDs).
#[derive(Clone, Debug)]
pub enum Target {
    /// `Kinesis`
    Stream {
        /// `StreamName`
        stream: Reference,
        /// `PartitionKey`
        partition_key: Option<String>,
    },
    /// `Firehose`
    DeliveryStream {
        /// `DeliveryStreamName`
        delivery_stream: Reference,
        /// `Separator`
        separator: Option<String>,
        /// `BatchMode`
        batch_mode: bool,
    },
    /// `CloudwatchLogs`
    LogGroup {
        /// The log group
        log_group: String,
        /// `BatchMode`
        batch_mode: bool,
    },
    /// `Sqs`
    Queue {
        /// The queue
        queue: String,
        /// `UseBase64`
        use_base64: bool,
    },
    /// `S3`
    Object {
        /// The bucket
        bucket: String,
        /// `Key`
        key: String,
    },
}

impl Target {
    /// Its substitution templates, each with the setting that has it.
    fn templates(&self) -> Vec<(&'static str, &str)> {
        fn named<'a>(field: &'static str, it: &'a Reference) -> Option<(&'static str, &'a str)> {
            match it {
                Reference::Template(text) => Some((field, text)),
                Reference::Resource(_) => None,
            }
        }
        match self {
            Target::Stream {
                stream,
                partition_key,
            } => {
                let key = partition_key.as_deref().map(|text| ("PartitionKey", text));
                named("StreamName", stream).into_iter().chain(key).collect()
            }
            Target::DeliveryStream {
                delivery_stream, ..
            } => named("DeliveryStreamName", delivery_stream)
                .into_iter()
                .collect(),
            Target::LogGroup { .. } | Target::Queue { .. } => Vec::new(),
            Target::Object { key, .. } => vec![("Key", key)],
        }
    }
}

pub(crate) fn plan(
    resolved: &Resolved,
    problems: &mut Vec<Problem>,
    not_emulated: &mut Vec<NotEmulated>,
) -> Vec<RulePlan> {
    let mut rules = Vec::new();
    for resource in resolved.of_type("AWS::IoT::TopicRule") {
        match rule(resolved, resource, not_emulated) {
            Ok(rule) => rules.push(rule),
            Err(problem) => problems.push(problem),
        }
    }
    rules
}

/// One rule.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn rule(
    resolved: &Resolved,
    resource: &ResolvedResource,
    not_emulated: &mut Vec<NotEmulated>,
) -> Result<RulePlan, Problem> {
    let reader = Reader {
        resolved,
        resource,
        not_emulated,
    };
    reader.rule()
}

struct Reader<'a> {
    resolved: &'a Resolved,
    resource: &'a ResolvedResource,
    not_emulated: &'a mut Vec<NotEmulated>,
}

impl Reader<'_> {
    fn rule(mut self) -> Result<RulePlan, Problem> {
        let rule: TopicRule = properties(self.resource)?;
        let payload = rule
            .topic_rule_payload
            .literal()
            .ok_or_else(|| self.problem("TopicRulePayload", "is required"))?;
        let version = text(&payload.aws_iot_sql_version).unwrap_or("2015-10-08");
        let version = version.parse::<SqlVersion>().map_err(|error| {
            self.problem("TopicRulePayload.AwsIotSqlVersion", error.to_string())
        })?;
        let sql = payload.sql.literal().cloned().unwrap_or_default();
        let statement = iot_sql::Rule::compile(&sql, version)
            .map_err(|error| self.problem("TopicRulePayload.Sql", error.to_string()))?;
        let mut actions = Vec::new();
        for (index, action) in payload.actions.literals().enumerate() {
            actions.extend(self.action(
                index,
                &format!("TopicRulePayload.Actions.{index}"),
                action,
            )?);
        }
        let error_action = match payload.error_action.as_ref().and_then(Value::literal) {
            Some(action) => self.action(0, "TopicRulePayload.ErrorAction", action)?,
            None => None,
        };
        for action in actions.iter().chain(&error_action) {
            for (field, text) in action.target.templates() {
                Template::compile_for(text, &statement).map_err(|error| {
                    self.problem(&format!("{}.{field}", action.path), error.to_string())
                })?;
            }
        }
        let error_action_not_emulated = match error_action {
            None => self.kind("TopicRulePayload.ErrorAction"),
            Some(_) => None,
        };
        Ok(RulePlan {
            logical_id: self.resource.logical_id.clone(),
            name: self.resource.name.clone(),
            sql,
            version,
            disabled: flag(&payload.rule_disabled),
            actions,
            error_action,
            error_action_not_emulated,
        })
    }

    fn action(
        &mut self,
        index: usize,
        path: &str,
        action: &topic_rule::Action,
    ) -> Result<Option<ActionPlan>, Problem> {
        let kinesis = action.kinesis.as_ref().and_then(Value::literal);
        let firehose = action.firehose.as_ref().and_then(Value::literal);
        let logs = action.cloudwatch_logs.as_ref().and_then(Value::literal);
        let (kind, target) = if let Some(action) = kinesis {
            let path = format!("{path}.Kinesis.StreamName");
            let name = action
                .stream_name
                .literal()
                .map(|it| it.as_str())
                .unwrap_or_default();
            let stream = self.reference(&path, "AWS::Kinesis::Stream", name)?;
            let partition_key = text(&action.partition_key).map(str::to_owned);
            (
                "Kinesis",
                Target::Stream {
                    stream,
                    partition_key,
                },
            )
        } else if let Some(action) = firehose {
            let path = format!("{path}.Firehose.DeliveryStreamName");
            let name = action
                .delivery_stream_name
                .literal()
                .map(|it| it.as_str())
                .unwrap_or_default();
            let delivery_stream =
                self.reference(&path, "AWS::KinesisFirehose::DeliveryStream", name)?;
            let target = Target::DeliveryStream {
                delivery_stream,
                separator: text(&action.separator).map(str::to_owned),
                batch_mode: flag(&action.batch_mode),
            };
            ("Firehose", target)
        } else if let Some(action) = logs {
            let path = format!("{path}.CloudwatchLogs.LogGroupName");
            let name = action
                .log_group_name
                .literal()
                .map(|it| it.as_str())
                .unwrap_or_default();
            let log_group = self.target(&path, "AWS::Logs::LogGroup", name)?;
            let target = Target::LogGroup {
                log_group,
                batch_mode: flag(&action.batch_mode),
            };
            ("CloudwatchLogs", target)
        } else if let Some(action) = action.sqs.as_ref().and_then(Value::literal) {
            let path = format!("{path}.Sqs.QueueUrl");
            let url = action.queue_url.literal().map(|it| it.as_str());
            let url = url.unwrap_or_default();
            self.not_a_template(&path, url)?;
            let target = Target::Queue {
                queue: sqs::plan::find(self.resolved, self.resource, &path, url)?,
                use_base64: flag(&action.use_base64),
            };
            ("Sqs", target)
        } else if let Some(action) = action.s3.as_ref().and_then(Value::literal) {
            let path = format!("{path}.S3.BucketName");
            let name = action.bucket_name.literal().map(|it| it.as_str());
            let target = Target::Object {
                bucket: self.target(&path, "AWS::S3::Bucket", name.unwrap_or_default())?,
                key: action.key.literal().cloned().unwrap_or_default(),
            };
            ("S3", target)
        } else {
            let kind = self.kind(path).unwrap_or_default();
            self.not_emulated.push(NotEmulated {
                logical_id: self.resource.logical_id.clone(),
                what: format!("{path}.{kind}"),
            });
            return Ok(None);
        };
        Ok(Some(ActionPlan {
            index,
            path: format!("{path}.{kind}"),
            target,
        }))
    }

    /// The kind of the action at a path.
    fn kind(&self, path: &str) -> Option<String> {
        let pointer = format!("/{}", path.replace('.', "/"));
        let action = self.resource.property(&pointer).and_then(Json::as_object)?;
        action.keys().next().cloned()
    }

    fn reference(&self, path: &str, r#type: &str, name: &str) -> Result<Reference, Problem> {
        if name.contains("${") {
            return Ok(Reference::Template(name.to_owned()));
        }
        self.target(path, r#type, name).map(Reference::Resource)
    }

    fn not_a_template(&self, path: &str, text: &str) -> Result<(), Problem> {
        if text.contains("${") {
            let message = format!(
                "got `{text}`: a substitution template is not emulated here, name the resource"
            );
            return Err(self.problem(path, message));
        }
        Ok(())
    }

    fn target(&self, path: &str, r#type: &str, name: &str) -> Result<String, Problem> {
        self.not_a_template(path, name)?;
        self.resolved
            .find(r#type, name)
            .map(|it| it.logical_id.clone())
            .ok_or_else(|| {
                self.problem(
                    path,
                    format!("got `{name}`, expected the name of an {type} of this template"),
                )
            })
    }

    fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        Problem::at(
            &self.resource.logical_id,
            format!("Properties.{path}"),
            message,
        )
    }
}

fn text(value: &Option<Value<String>>) -> Option<&str> {
    value.as_ref().and_then(Value::literal).map(String::as_str)
}

fn flag(value: &Option<Value<bool>>) -> bool {
    value
        .as_ref()
        .and_then(Value::literal)
        .copied()
        .unwrap_or_default()
}
