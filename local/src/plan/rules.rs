//! Topic rules of a template.

use cfn::Value;
use cfn::resolve::{Problem, Resolved, ResolvedResource};
use cfn::resources::iot::{TopicRule, topic_rule};
use iot_sql::{SqlVersion, Template};
use serde_json::Value as Json;

use super::{NotEmulated, properties};

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

/// What an action does, to which resource (logical IDs).
#[derive(Clone, Debug)]
pub enum Target {
    /// `Kinesis`
    Stream {
        /// The stream
        stream: String,
        /// `PartitionKey`
        partition_key: Option<String>,
    },
    /// `Firehose`
    DeliveryStream {
        /// The delivery stream
        delivery_stream: String,
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
}

pub(super) fn plan(
    resolved: &Resolved,
    problems: &mut Vec<Problem>,
    not_emulated: &mut Vec<NotEmulated>,
) -> Vec<RulePlan> {
    let mut rules = Vec::new();
    for resource in resolved.of_type("AWS::IoT::TopicRule") {
        let reader = Reader {
            resolved,
            resource,
            not_emulated,
        };
        match reader.rule() {
            Ok(rule) => rules.push(rule),
            Err(problem) => problems.push(problem),
        }
    }
    rules
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
            if let Target::Stream {
                partition_key: Some(text),
                ..
            } = &action.target
            {
                Template::compile_for(text, &statement).map_err(|error| {
                    self.problem(&format!("{}.PartitionKey", action.path), error.to_string())
                })?;
            }
        }
        Ok(RulePlan {
            logical_id: self.resource.logical_id.clone(),
            name: self.resource.name.clone(),
            sql,
            version,
            disabled: flag(&payload.rule_disabled),
            actions,
            error_action,
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
            let stream = self.target(&path, "AWS::Kinesis::Stream", name)?;
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
                self.target(&path, "AWS::KinesisFirehose::DeliveryStream", name)?;
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
        } else {
            let pointer = format!("/{}", path.replace('.', "/"));
            let kind = self.resource.property(&pointer).and_then(Json::as_object);
            let kind = kind
                .and_then(|it| it.keys().next().cloned())
                .unwrap_or_default();
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

    fn target(&self, path: &str, r#type: &str, name: &str) -> Result<String, Problem> {
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
