//! A delivery stream as a part of a run.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::DeliveryStream;
use super::plan::{self, DeliveryStreamPlan};
use crate::part::{Context, Part, Shared};
use crate::template::Template;

/// An `AWS::KinesisFirehose::DeliveryStream`; its handle is a [`DeliveryStream`].
#[derive(Debug)]
pub struct DeliveryStreamPart {
    logical_id: String,
    running: Option<DeliveryStream>,
}

impl DeliveryStreamPart {
    /// A delivery stream that does not run yet.
    pub fn boxed(logical_id: &str) -> Box<dyn Part> {
        Box::new(DeliveryStreamPart {
            logical_id: logical_id.to_owned(),
            running: None,
        })
    }

    fn plan(&self, template: &Template) -> anyhow::Result<DeliveryStreamPlan> {
        Ok(plan::delivery_stream(template.resource(&self.logical_id)?)?)
    }
}

impl Part for DeliveryStreamPart {
    fn inputs(&self, context: &Context) -> anyhow::Result<String> {
        let template = &context.template;
        let permissions = template.permissions_of(&self.logical_id);
        Ok(format!("{:?} {permissions}", self.plan(template)?))
    }

    fn start<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async {
            let DeliveryStreamPlan { config, log } = self.plan(&context.template)?;
            let shared = &context.shared;
            let started = DeliveryStream::start(
                config,
                Arc::clone(&shared.store),
                context.permissions().authorizer(&self.logical_id, ""),
                log.map(|(group, stream)| shared.logs.stream(&group, &stream)),
                Arc::clone(&shared.status),
                &shared.data.join("firehose"),
                shared.stop.child_token(),
            )?;
            shared
                .handles
                .put(&self.logical_id, Arc::new(started.clone()));
            self.running = Some(started);
            Ok(())
        })
    }

    fn stop<'a>(&'a mut self, shared: &'a Shared) -> BoxFuture<'a, ()> {
        Box::pin(async {
            shared.handles.remove::<DeliveryStream>(&self.logical_id);
            if let Some(running) = self.running.take() {
                running.stop();
                running.finished().await;
            }
        })
    }

    fn describe(&self) -> Option<String> {
        let config = self.running.as_ref()?.config();
        Some(format!(
            "delivers to {} every {} s or {} MB",
            config.bucket,
            config.interval.as_secs(),
            config.size_in_mbs
        ))
    }
}
