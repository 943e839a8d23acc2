//! A queue as a part of a run.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Config, Queue, plan};
use crate::part::{Context, Part, Shared};

/// An `AWS::SQS::Queue`; its handle is a [`Queue`].
#[derive(Debug)]
pub struct QueuePart {
    logical_id: String,
}

impl QueuePart {
    /// A queue that does not run yet.
    pub fn boxed(logical_id: &str) -> Box<dyn Part> {
        let logical_id = logical_id.to_owned();
        Box::new(QueuePart { logical_id })
    }

    fn config(&self, context: &Context) -> anyhow::Result<Config> {
        Ok(plan::queue(context.template.resource(&self.logical_id)?))
    }
}

impl Part for QueuePart {
    fn inputs(&self, context: &Context) -> anyhow::Result<String> {
        Ok(format!("{:?}", self.config(context)?))
    }

    fn start<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async {
            let shared = &context.shared;
            let queue = Queue::new(self.config(context)?, &shared.data.join("sqs"));
            shared.handles.put(&self.logical_id, Arc::new(queue));
            Ok(())
        })
    }

    fn stop<'a>(&'a mut self, shared: &'a Shared) -> BoxFuture<'a, ()> {
        shared.handles.remove::<Queue>(&self.logical_id);
        Box::pin(std::future::ready(()))
    }

    fn describe(&self) -> Option<String> {
        None
    }
}
