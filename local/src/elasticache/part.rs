//! A cache as a part of a run.

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::BoxFuture;

use super::{Blackhole, Cache, Config, plan};
use crate::fault::Fault;
use crate::part::{Context, Part, Shared};
use crate::template::Template;

/// The ID under which the address that never answers is published; no logical ID has a space.
pub(super) const NOWHERE: &str = "no address";

/// An `AWS::ElastiCache::ReplicationGroup`; its handle is a [`Cache`]. Its data are in the data folder and
/// outlive a restart.
#[derive(Debug)]
pub struct CachePart {
    logical_id: String,
    running: Option<Arc<Cache>>,
    is_tls: bool,
}

impl CachePart {
    /// A cache that does not run yet.
    pub fn boxed(logical_id: &str) -> Box<dyn Part> {
        Box::new(CachePart {
            logical_id: logical_id.to_owned(),
            running: None,
            is_tls: false,
        })
    }

    fn config(&self, template: &Template) -> anyhow::Result<Config> {
        let resource = template.resource(&self.logical_id)?;
        Ok(plan::config(&template.resolved, resource, &mut Vec::new())?)
    }
}

impl Part for CachePart {
    fn inputs(&self, context: &Context) -> anyhow::Result<String> {
        Ok(format!("{:?}", self.config(&context.template)?))
    }

    fn start<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async {
            let shared = &context.shared;
            let mut config = self.config(&context.template)?;
            config.url.clone_from(&shared.redis);
            config.folder = shared.data.join("cache").join(&self.logical_id);
            self.is_tls = config.tls;
            if shared.handles.get::<Blackhole>(NOWHERE).is_none() {
                let opened = Blackhole::open().await;
                let blackhole = opened.context("open an address that never answers")?;
                shared.handles.put(NOWHERE, Arc::new(blackhole));
            }
            let cache = Cache::start(config, &shared.authority, &shared.sessions).await?;
            let cache = Arc::new(cache);
            shared.handles.put(&self.logical_id, Arc::clone(&cache));
            self.running = Some(cache);
            Ok(())
        })
    }

    fn stop<'a>(&'a mut self, shared: &'a Shared) -> BoxFuture<'a, ()> {
        Box::pin(async {
            shared.handles.remove::<Cache>(&self.logical_id);
            if let Some(running) = self.running.take() {
                running.stop().await;
            }
        })
    }

    fn inject(&self, fault: &Fault, shared: &Shared) -> anyhow::Result<()> {
        let (at, keeping_data) = match *fault {
            Fault::CacheRestart(at) => (at, true),
            Fault::CacheWipe(at) => (at, false),
            _ => return Ok(()),
        };
        let Some(cache) = &self.running else {
            return Ok(());
        };
        let restarter = cache.restarter();
        let restarter = restarter.with_context(|| format!("{}: --fault cache", self.logical_id))?;
        shared.spawn(async move {
            tokio::time::sleep(at).await;
            restarter.restart(keeping_data).await;
        });
        Ok(())
    }

    fn describe(&self) -> Option<String> {
        let with = if self.is_tls { "with" } else { "without" };
        let endpoint = self.running.as_ref()?.endpoint();
        Some(format!("cache at {endpoint} {with} TLS"))
    }
}
