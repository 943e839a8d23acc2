//! A topic rule as a part of a run.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use futures_util::future::BoxFuture;

use super::plan::{self, ActionPlan, Reference, RulePlan, Target};
use super::sink::{Delivery, LogGroup};
use super::{Action, Choice, RuleConfig, RuleEngine, Sink};
use crate::firehose::DeliveryStream;
use crate::kinesis::Stream;
use crate::part::{Change, Context, Part, Shared};
use crate::sqs::Queue;
use crate::template::Template;

/// The ID under which a run publishes its rule engine; no logical ID has a space.
pub const ENGINE: &str = "rule engine";

/// An `AWS::IoT::TopicRule`; its handle is the [`RuleEngine`] that all rules share.
#[derive(Debug)]
pub struct RulePart {
    logical_id: String,
    description: Option<String>,
}

impl RulePart {
    /// A rule that is not in place yet.
    pub fn boxed(logical_id: &str) -> Box<dyn Part> {
        Box::new(RulePart {
            logical_id: logical_id.to_owned(),
            description: None,
        })
    }

    fn plan(&self, template: &Template) -> anyhow::Result<RulePlan> {
        let resource = template.resource(&self.logical_id)?;
        Ok(plan::rule(&template.resolved, resource, &mut Vec::new())?)
    }

    /// Puts the rule in place, instead of the one before it.
    fn put(&mut self, context: &Context) -> anyhow::Result<()> {
        let plan = self.plan(&context.template)?;
        let actions = Actions {
            context,
            plan: &plan,
        };
        let emulated = plan.actions.iter();
        let emulated = emulated.map(|it| Ok((it.index, actions.action(it)?)));
        let error_action = plan.error_action.as_ref();
        let config = RuleConfig {
            logical_id: plan.logical_id.clone(),
            name: plan.name.clone(),
            sql: plan.sql.clone(),
            version: plan.version,
            disabled: plan.disabled,
            actions: emulated.collect::<anyhow::Result<_>>()?,
            error_action: error_action.map(|it| actions.action(it)).transpose()?,
            error_action_not_emulated: plan.error_action_not_emulated.clone(),
        };
        engine(&context.shared)?.put(config).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow!("the template cannot run here\n{}", errors.join("\n"))
        })?;
        let disabled = if plan.disabled { "disabled: " } else { "" };
        self.description = Some(format!("{disabled}{}", plan.sql));
        Ok(())
    }
}

fn engine(shared: &Shared) -> anyhow::Result<Arc<RuleEngine>> {
    let engine = shared.handles.get::<RuleEngine>(ENGINE);
    engine.context("the run has no rule engine")
}

impl Part for RulePart {
    fn needs(&self, template: &Template) -> Vec<String> {
        let Ok(plan) = self.plan(template) else {
            return Vec::new();
        };
        let all = |r#type: &'static str| {
            let resources = template.resolved.of_type(r#type);
            resources
                .map(|it| it.logical_id.clone())
                .collect::<Vec<_>>()
        };
        let of = |reference: &Reference, r#type: &'static str| match reference {
            Reference::Resource(id) => vec![id.clone()],
            // Each message names its own.
            Reference::Template(_) => all(r#type),
        };
        let actions = plan.actions.iter().chain(&plan.error_action);
        let needs = actions.flat_map(|action| match &action.target {
            Target::Stream { stream, .. } => of(stream, "AWS::Kinesis::Stream"),
            Target::DeliveryStream {
                delivery_stream, ..
            } => of(delivery_stream, "AWS::KinesisFirehose::DeliveryStream"),
            Target::Queue { queue, .. } => vec![queue.clone()],
            Target::LogGroup { .. } | Target::Object { .. } => Vec::new(),
        });
        needs.collect()
    }

    fn inputs(&self, context: &Context) -> anyhow::Result<String> {
        let template = &context.template;
        let permissions = template.permissions_of(&self.logical_id);
        Ok(format!("{:?} {permissions}", self.plan(template)?))
    }

    fn start<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(std::future::ready(self.put(context)))
    }

    fn change<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<Change>> {
        Box::pin(std::future::ready(self.put(context).map(|()| Change::Kept)))
    }

    fn stop<'a>(&'a mut self, shared: &'a Shared) -> BoxFuture<'a, ()> {
        if let Ok(engine) = engine(shared) {
            engine.remove(&self.logical_id);
        }
        self.description = None;
        Box::pin(std::future::ready(()))
    }

    fn describe(&self) -> Option<String> {
        self.description.clone()
    }
}

/// The actions of one rule with what they go to.
struct Actions<'a> {
    context: &'a Context,
    plan: &'a RulePlan,
}

impl Actions<'_> {
    /// The handle of what an action goes to.
    fn handle<T: Send + Sync + 'static>(&self, id: &str) -> anyhow::Result<Arc<T>> {
        let handle = self.context.shared.handles.get::<T>(id);
        handle.with_context(|| format!("{}: {id} does not run", self.plan.logical_id))
    }

    /// What an action goes to, with the role's permission for each; `of` gives name, ARN and what takes the
    /// records.
    fn choice<T: Send + Sync + 'static, U>(
        &self,
        action: &ActionPlan,
        reference: &Reference,
        of: impl Fn(&Arc<T>) -> (String, String, U),
    ) -> anyhow::Result<Choice<U>> {
        let permissions = self.context.permissions();
        let rule = &self.plan.logical_id;
        Ok(match reference {
            Reference::Resource(id) => {
                let (_, _, resource) = of(&self.handle(id)?);
                Choice::One(resource, permissions.permission(rule, &action.path))
            }
            Reference::Template(template) => {
                let all = self.context.shared.handles.all::<T>();
                let resources = all.values().map(|it| {
                    let (name, arn, resource) = of(it);
                    let permission = permissions.permission_on(rule, &action.path, &arn);
                    (name, (resource, permission))
                });
                Choice::Named {
                    template: template.clone(),
                    resources: resources.collect(),
                }
            }
        })
    }

    fn action(&self, action: &ActionPlan) -> anyhow::Result<Action> {
        let rule = &self.plan.logical_id;
        let shared = &self.context.shared;
        let template = &self.context.template;
        let permissions = self.context.permissions();
        let permission = || permissions.permission(rule, &action.path);
        Ok(match &action.target {
            Target::Stream {
                stream,
                partition_key,
            } => Action::Kinesis {
                stream: self.choice(action, stream, |it: &Arc<Stream>| {
                    let name = it.config().name.clone();
                    (name, it.arn().to_owned(), Arc::clone(it))
                })?,
                partition_key: partition_key.clone(),
            },
            Target::DeliveryStream {
                delivery_stream,
                separator,
                batch_mode,
            } => Action::Firehose {
                delivery_stream: self.choice(
                    action,
                    delivery_stream,
                    |it: &Arc<DeliveryStream>| {
                        let config = it.config();
                        let sink: Arc<dyn Sink> = Arc::new(Delivery(DeliveryStream::clone(it)));
                        (config.name.clone(), config.arn.clone(), sink)
                    },
                )?,
                separator: separator.clone(),
                batch_mode: *batch_mode,
            },
            Target::LogGroup {
                log_group,
                batch_mode,
            } => {
                let name = &template.resource(log_group)?.name;
                Action::CloudwatchLogs {
                    log_group: Arc::new(LogGroup::new(&shared.logs, name, rule)),
                    permission: permission(),
                    batch_mode: *batch_mode,
                }
            }
            Target::Queue { queue, use_base64 } => Action::Sqs {
                queue: Queue::clone(&*self.handle(queue)?),
                permission: permission(),
                use_base64: *use_base64,
            },
            Target::Object { bucket, key } => {
                let bucket = template.resource(bucket)?;
                Action::S3 {
                    bucket: bucket.name.clone(),
                    arn: bucket.arn().unwrap_or_default().to_owned(),
                    key: key.clone(),
                    store: Arc::clone(&shared.store),
                    authorizer: permissions.authorizer(rule, &action.path),
                    encryption: permissions.permission_but(rule, &action.path, "s3:PutObject"),
                }
            }
        })
    }
}
