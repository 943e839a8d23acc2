//! IoT Core's rules engine: every topic rule that a message concerns evaluates its SQL and carries
//! out its actions.
//!
//! A rule's actions run one after the other in the template's order, and one that fails does not
//! keep the next from running. What cannot be put for a reason that may pass is tried again with
//! growing pauses; then the failures of one message go to the rule's error action together, in
//! AWS's shape. (AWS IoT Core Developer Guide, "Rules for AWS IoT" and "Error handling (error action)".)
//! Failures of the SQL itself do not reach the error action, as on AWS: they are logged and counted.
//!
//! # Differs from AWS
//! - A publisher's PUBACK waits until the actions have ended or the error action has the message; on
//!   AWS it waits until the rules engine has the message.
//! - The order in which messages of one connection reach a stream is the order of publishing; AWS
//!   promises none.
//! - Basic Ingest does not look at the rule's FROM filter; AWS does not say whether it does.
//! - Of a stream or delivery stream that a substitution template names, the key that it is encrypted
//!   with is not asked for.
//! - A message's rules run one after the other; AWS promises no order between them.
//! - Without a `PartitionKey` every record gets a random one; AWS does not say what it uses.

mod action;
mod message;
pub mod part;
pub mod plan;
mod sink;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use iot_sql::{BasicIngest, Context, Message, MqttProperties, Outcome, SqlVersion, Variables};
use uuid::Uuid;

pub use action::{Action, Choice, Sink, SinkError};
pub use message::{Properties, Publish};

use crate::status::{Counter, Status};

/// An `AWS::IoT::TopicRule`, its actions' targets already found.
#[derive(Debug)]
pub struct RuleConfig {
    /// Logical ID in the template.
    pub logical_id: String,
    /// `RuleName`
    pub name: String,
    /// `TopicRulePayload.Sql`
    pub sql: String,
    /// `TopicRulePayload.AwsIotSqlVersion`
    pub version: SqlVersion,
    /// `TopicRulePayload.RuleDisabled`
    pub disabled: bool,
    /// `TopicRulePayload.Actions`, those that are emulated, with their place in the list.
    pub actions: Vec<(usize, Action)>,
    /// `TopicRulePayload.ErrorAction`
    pub error_action: Option<Action>,
    /// Kind of the error action that the template has and nothing here carries out.
    pub error_action_not_emulated: Option<String>,
}

/// A rule that cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Logical ID of the rule.
    pub logical_id: String,
    /// Place below `TopicRulePayload`.
    pub property: String,
    /// What is wrong, with position and caret.
    pub message: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.Properties.TopicRulePayload.{}: {}",
            self.logical_id, self.property, self.message
        )
    }
}

impl std::error::Error for RuleError {}

/// The rules of a template; shared by `Arc`.
#[derive(Debug)]
pub struct RuleEngine {
    /// A message is handled by the rules that are in place when it comes.
    rules: RwLock<Arc<[Arc<Rule>]>>,
    environment: Environment,
    status: Arc<Status>,
}

#[derive(Debug)]
struct Rule {
    logical_id: String,
    name: String,
    sql: iot_sql::Rule,
    disabled: AtomicBool,
    actions: Vec<action::Compiled>,
    error_action: Option<action::Compiled>,
    error_action_not_emulated: Option<String>,
    /// Whether the statement or a template asks for the trace ID, which costs a random number.
    traced: bool,
    any_batch_mode: bool,
    /// Messages of which an action failed.
    failed: Counter,
}

/// What SQL can ask that does not come with the message.
#[derive(Debug)]
struct Environment {
    account_id: String,
}

impl Context for Environment {
    fn random(&self) -> f64 {
        // 53 random bits, as many as a double holds.
        let (high, _) = Uuid::new_v4().as_u64_pair();
        (high >> 11) as f64 / (1u64 << 53) as f64
    }

    fn new_uuid(&self) -> String {
        Uuid::new_v4().to_string()
    }

    fn account_id(&self) -> &str {
        &self.account_id
    }
}

/// What the error action gets.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorMessage<'a> {
    rule_name: &'a str,
    topic: &'a str,
    cloudwatch_trace_id: &'a str,
    client_id: &'a str,
    base64_original_payload: String,
    failures: &'a [action::Failure],
}

impl RuleEngine {
    /// Compiles all rules.
    ///
    /// # Errors
    /// Everything that is wrong in any of them.
    pub fn new(
        rules: Vec<RuleConfig>,
        account_id: &str,
        status: Arc<Status>,
    ) -> Result<Arc<RuleEngine>, Vec<RuleError>> {
        let engine = RuleEngine::empty(account_id, status);
        let mut errors = Vec::new();
        for config in rules {
            errors.extend(engine.put(config).err().into_iter().flatten());
        }
        if errors.is_empty() {
            Ok(engine)
        } else {
            Err(errors)
        }
    }

    /// An engine without rules.
    pub fn empty(account_id: &str, status: Arc<Status>) -> Arc<RuleEngine> {
        Arc::new(RuleEngine {
            rules: RwLock::new(Arc::new([])),
            environment: Environment {
                account_id: account_id.to_owned(),
            },
            status,
        })
    }

    /// Puts a rule in place, instead of the one with the same logical ID if there is one.
    ///
    /// # Errors
    /// Everything that is wrong with it; the rule before it stays.
    pub fn put(&self, config: RuleConfig) -> Result<(), Vec<RuleError>> {
        let rule = Arc::new(Rule::compile(config)?);
        let mut rules = self.rules().to_vec();
        match rules.iter_mut().find(|it| it.logical_id == rule.logical_id) {
            Some(old) => *old = rule,
            None => rules.push(rule),
        }
        self.set(rules);
        Ok(())
    }

    /// Takes a rule away, by its logical ID.
    pub fn remove(&self, logical_id: &str) {
        let mut rules = self.rules().to_vec();
        rules.retain(|it| it.logical_id != logical_id);
        self.set(rules);
    }

    fn set(&self, rules: Vec<Arc<Rule>>) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules.into();
    }

    fn rules(&self) -> Arc<[Arc<Rule>]> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&rules)
    }

    /// Names of all rules.
    pub fn names(&self) -> Vec<String> {
        self.rules().iter().map(|rule| rule.name.clone()).collect()
    }

    /// Switches a rule off or on, by its name; messages at hand are still handled as before.
    pub fn disable(&self, name: &str, disabled: bool) {
        if let Some(rule) = self.rules().iter().find(|it| it.name == name) {
            rule.disabled.store(disabled, Ordering::Relaxed);
        }
    }

    /// Takes a message: returns when the actions of every rule that it concerns have ended, or
    /// their error actions have. False if no enabled rule takes the topic.
    pub async fn accept(&self, publish: &Publish) -> bool {
        let taken = self.hand_to_rules(publish).await;
        if taken {
            self.status.devices.insert(topic_for_rules(&publish.topic));
        } else {
            self.status.unmatched.increment();
        }
        taken
    }

    async fn hand_to_rules(&self, publish: &Publish) -> bool {
        let rules = self.rules();
        if let Some(ingest) = BasicIngest::parse(&publish.topic) {
            return match rules.iter().find(|it| it.name == ingest.rule) {
                Some(rule) if !rule.is_disabled() => {
                    self.run(rule, publish).await;
                    true
                }
                _ => {
                    self.status.rules_not_found.increment();
                    tracing::warn!(
                        topic = publish.topic,
                        "RuleNotFound: no enabled rule is named {:?}",
                        ingest.rule
                    );
                    false
                }
            };
        }
        let mut taken = false;
        for rule in rules.iter() {
            if !rule.is_disabled()
                && rule
                    .sql
                    .topic_filter()
                    .is_some_and(|filter| filter.matches(&publish.topic))
            {
                taken = true;
                self.run(rule, publish).await;
            }
        }
        taken
    }

    async fn run(&self, rule: &Rule, publish: &Publish) {
        let trace_id = rule.traced.then(|| Uuid::new_v4().to_string());
        let user = publish
            .properties
            .as_ref()
            .map_or_else(Vec::new, |properties| {
                properties
                    .user
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
                    .collect()
            });
        let message = message(publish, &user, trace_id.as_deref());
        let output = match rule.sql.evaluate(&message, &self.environment) {
            Outcome::NotFired => return,
            Outcome::Fired(output) => output,
            Outcome::Failed(error) => {
                let times = self.status.sql_failures.increment();
                if times.is_power_of_two() {
                    tracing::error!(
                        rule = rule.logical_id,
                        topic = publish.topic,
                        times,
                        "{error}"
                    );
                }
                return;
            }
        };
        self.status.rules_fired.increment();
        let variables = output.variables().clone();
        let elements = rule
            .any_batch_mode
            .then(|| output.elements())
            .flatten()
            .map(|elements| {
                elements
                    .into_iter()
                    .map(Bytes::copy_from_slice)
                    .collect::<Vec<_>>()
            });
        let output = Bytes::from(output.into_bytes().into_owned());
        let mut failures = Vec::new();
        for action in &rule.actions {
            let result = action
                .run(
                    &output,
                    elements.clone(),
                    &message,
                    &variables,
                    &self.environment,
                    &self.status,
                )
                .await;
            failures.extend(result.err());
        }
        if !failures.is_empty() {
            self.report(rule, publish, &message, &variables, &failures)
                .await;
        }
    }

    async fn report(
        &self,
        rule: &Rule,
        publish: &Publish,
        message: &Message<'_>,
        variables: &Variables,
        failures: &[action::Failure],
    ) {
        let times = rule.failed.increment();
        // Every one would drown everything else; the error action gets them all.
        if times.is_power_of_two() {
            for failure in failures {
                tracing::warn!(rule = rule.logical_id, times, "{}", failure.message());
            }
        }
        let Some(error_action) = &rule.error_action else {
            return match &rule.error_action_not_emulated {
                Some(kind) => {
                    let why = format!("the rule's error action {kind} is not emulated");
                    self.lost(rule, publish, &why);
                }
                None => self.lost(rule, publish, "the rule has no error action"),
            };
        };
        let trace_id = message
            .trace_id
            .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        let error = serde_json::to_vec(&ErrorMessage {
            rule_name: &rule.name,
            topic: &publish.topic,
            cloudwatch_trace_id: &trace_id,
            client_id: &publish.client_id,
            base64_original_payload: BASE64_STANDARD.encode(&publish.payload),
            failures,
        });
        let error = match error {
            Ok(error) => Bytes::from(error),
            Err(error) => return self.lost(rule, publish, &error.to_string()),
        };
        let result = error_action
            .run(
                &error,
                None,
                message,
                variables,
                &self.environment,
                &self.status,
            )
            .await;
        if let Err(failure) = result {
            self.lost(rule, publish, failure.message());
        }
    }

    fn lost(&self, rule: &Rule, publish: &Publish, why: &str) {
        self.status.failures_lost.increment();
        tracing::error!(
            rule = rule.logical_id,
            topic = publish.topic,
            "message discarded: {why}"
        );
    }
}

/// The topic as rules see it: without the prefix of Basic Ingest.
fn topic_for_rules(topic: &str) -> &str {
    BasicIngest::parse(topic).map_or(topic, |ingest| ingest.topic)
}

fn message<'a>(
    publish: &'a Publish,
    user: &'a [(&'a str, &'a str)],
    trace_id: Option<&'a str>,
) -> Message<'a> {
    Message {
        topic: &publish.topic,
        payload: &publish.payload,
        timestamp_ms: publish.received,
        client_id: Some(&publish.client_id),
        principal: None,
        source_ip: Some(&publish.source_ip),
        trace_id,
        mqtt: publish
            .properties
            .as_ref()
            .map(|properties| MqttProperties {
                is_utf8: properties.payload_format.map(|format| format == 1),
                content_type: properties.content_type.as_deref(),
                response_topic: properties.response_topic.as_deref(),
                correlation_data: properties.correlation_data.as_deref(),
                user,
            }),
    }
}

impl Rule {
    fn is_disabled(&self) -> bool {
        self.disabled.load(Ordering::Relaxed)
    }

    fn compile(config: RuleConfig) -> Result<Rule, Vec<RuleError>> {
        let sql = iot_sql::Rule::compile(&config.sql, config.version).map_err(|error| {
            vec![RuleError {
                logical_id: config.logical_id.clone(),
                property: "Sql".to_owned(),
                message: error.to_string(),
            }]
        })?;
        let mut texts = vec![config.sql.clone()];
        let mut errors = Vec::new();
        let mut actions = Vec::new();
        let mut any_batch_mode = false;
        let mut compile = |action: Action, property: &str| {
            texts.extend(action.templates().map(|(_, text)| text.to_owned()));
            any_batch_mode |= action.batch_mode();
            action::Compiled::new(action, &sql, property, &config.logical_id)
                .map_err(|error| errors.push(error))
                .ok()
        };
        for (index, action) in config.actions {
            actions.extend(compile(action, &format!("Actions.{index}")));
        }
        let error_action = config
            .error_action
            .and_then(|action| compile(action, "ErrorAction"));
        if !errors.is_empty() {
            return Err(errors);
        }
        let traced = texts
            .iter()
            .any(|text| text.to_ascii_lowercase().contains("traceid"));
        Ok(Rule {
            logical_id: config.logical_id,
            name: config.name,
            sql,
            disabled: AtomicBool::new(config.disabled),
            actions,
            error_action,
            error_action_not_emulated: config.error_action_not_emulated,
            traced,
            any_batch_mode,
            failed: Counter::default(),
        })
    }
}
