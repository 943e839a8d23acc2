//! An event source mapping as a part of a run.

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::BoxFuture;

use super::plan::{self, MappingPlan, OnFailure};
use super::{Destination, Mapping};
use crate::fault::Fault;
use crate::kinesis::Stream;
use crate::lambda::{Function, Invoke};
use crate::part::{Context, Part, Shared};
use crate::sqs::Queue;
use crate::template::Template;

/// An `AWS::Lambda::EventSourceMapping`; its handle is a [`Mapping`].
#[derive(Debug)]
pub struct MappingPart {
    logical_id: String,
    running: Option<Mapping>,
    description: String,
}

impl MappingPart {
    /// A mapping that does not run yet.
    pub fn boxed(logical_id: &str) -> Box<dyn Part> {
        Box::new(MappingPart {
            logical_id: logical_id.to_owned(),
            running: None,
            description: String::new(),
        })
    }

    fn plan(&self, template: &Template) -> anyhow::Result<MappingPlan> {
        let resource = template.resource(&self.logical_id)?;
        Ok(plan::mapping(&template.resolved, resource)?)
    }
}

impl Part for MappingPart {
    fn needs(&self, template: &Template) -> Vec<String> {
        let Ok(plan) = self.plan(template) else {
            return Vec::new();
        };
        let queue = match plan.on_failure {
            Some(OnFailure::Queue(queue)) => Some(queue),
            _ => None,
        };
        [plan.stream, plan.function]
            .into_iter()
            .chain(queue)
            .collect()
    }

    fn inputs(&self, context: &Context) -> anyhow::Result<String> {
        let template = &context.template;
        let permissions = template.permissions_of(&self.logical_id);
        Ok(format!("{:?} {permissions}", self.plan(template)?))
    }

    fn start<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async {
            let plan = self.plan(&context.template)?;
            let shared = &context.shared;
            let handles = &shared.handles;
            let id = &self.logical_id;
            let missing = |other: &str| format!("{id}: {other} does not run");
            let stream = handles.get::<Stream>(&plan.stream);
            let stream = stream.with_context(|| missing(&plan.stream))?;
            let function = handles.get::<Function>(&plan.function);
            let function: Arc<dyn Invoke> = function.with_context(|| missing(&plan.function))?;
            let destination = match &plan.on_failure {
                None => None,
                Some(OnFailure::Bucket { name, arn }) => Some(Destination::Bucket {
                    bucket: name.clone(),
                    arn: arn.clone(),
                    store: Arc::clone(&shared.store),
                }),
                Some(OnFailure::Queue(queue)) => {
                    let found = handles.get::<Queue>(queue);
                    let found = found.with_context(|| missing(queue))?;
                    Some(Destination::Queue(Queue::clone(&found)))
                }
            };
            let batch_size = plan.config.batch_size;
            let permissions = context.permissions();
            let mapping = Mapping::start(
                plan.config,
                stream,
                function,
                destination,
                // Its key included, where the stream is under one of one's own.
                permissions.permission(id, "EventSourceArn"),
                permissions.authorizer(id, ""),
                Arc::clone(&shared.status),
                &shared.data.join("mappings"),
                shared.stop.child_token(),
            )?;
            if let Some(chances) = shared.chances.get() {
                mapping.inject(Arc::clone(chances));
            }
            self.description = format!(
                "{} → {}, batches of {batch_size}, {}",
                plan.stream,
                plan.function,
                mapping.state()
            );
            handles.put(id, Arc::new(mapping.clone()));
            self.running = Some(mapping);
            Ok(())
        })
    }

    fn stop<'a>(&'a mut self, shared: &'a Shared) -> BoxFuture<'a, ()> {
        Box::pin(async {
            shared.handles.remove::<Mapping>(&self.logical_id);
            if let Some(running) = self.running.take() {
                running.stop();
                running.finished().await;
            }
        })
    }

    fn inject(&self, _fault: &Fault, shared: &Shared) -> anyhow::Result<()> {
        if let (Some(mapping), Some(chances)) = (&self.running, shared.chances.get()) {
            mapping.inject(Arc::clone(chances));
        }
        Ok(())
    }

    fn describe(&self) -> Option<String> {
        self.running.as_ref()?;
        Some(self.description.clone())
    }
}
