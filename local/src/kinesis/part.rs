//! A stream as a part of a run.

use std::sync::Arc;

use cfn::resolve::ResolvedResource;
use futures_util::future::BoxFuture;

use super::plan;
use super::{Config, Stream};
use crate::fault::Fault;
use crate::part::{Context, Part, Shared};
use crate::template::Template;

/// An `AWS::Kinesis::Stream`; its handle is a [`Stream`]. Its records are in the data folder and outlive
/// a restart.
#[derive(Debug)]
pub struct StreamPart {
    logical_id: String,
}

impl StreamPart {
    /// A stream that does not run yet.
    pub fn boxed(logical_id: &str) -> Box<dyn Part> {
        let logical_id = logical_id.to_owned();
        Box::new(StreamPart { logical_id })
    }

    fn config(&self, template: &Template) -> anyhow::Result<Config> {
        let resource: &ResolvedResource = template.resource(&self.logical_id)?;
        Ok(plan::config(resource)?)
    }
}

impl Part for StreamPart {
    fn inputs(&self, context: &Context) -> anyhow::Result<String> {
        Ok(format!("{:?}", self.config(&context.template)?))
    }

    fn start<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async {
            let shared = &context.shared;
            let folder = shared.data.join("kinesis").join(&self.logical_id);
            let stream = Stream::open(self.config(&context.template)?, &folder)?;
            shared.handles.put(&self.logical_id, stream);
            Ok(())
        })
    }

    fn stop<'a>(&'a mut self, shared: &'a Shared) -> BoxFuture<'a, ()> {
        shared.handles.remove::<Stream>(&self.logical_id);
        Box::pin(std::future::ready(()))
    }

    fn inject(&self, fault: &Fault, shared: &Shared) -> anyhow::Result<()> {
        let Fault::StreamThrottle(from, to) = *fault else {
            return Ok(());
        };
        let Some(stream) = shared.handles.get::<Stream>(&self.logical_id) else {
            return Ok(());
        };
        let (logical_id, stream) = (self.logical_id.clone(), Arc::clone(&stream));
        shared.spawn(async move {
            tokio::time::sleep(from).await;
            tracing::warn!("{logical_id}: takes no records, by --fault stream:throttle");
            stream.throttle(true);
            tokio::time::sleep(to - from).await;
            stream.throttle(false);
            tracing::warn!("{logical_id}: takes records again");
        });
        Ok(())
    }

    fn describe(&self) -> Option<String> {
        None
    }
}
