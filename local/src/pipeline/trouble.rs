//! Faults of a run that somebody has asked for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::Pipeline;
use crate::fault::{Chances, Fault};

impl Pipeline {
    /// Makes these faults happen; times count from now.
    ///
    /// # Errors
    /// There is no cache to restart, or it is not ours.
    pub fn inject(&self, faults: &[Fault]) -> anyhow::Result<()> {
        if faults.is_empty() {
            return Ok(());
        }
        let chances = Arc::new(Chances::of(faults));
        // Given once; a second time changes nothing.
        let _ = self.chances.set(Arc::clone(&chances));
        for function in self.functions.values() {
            function.inject(Arc::clone(&chances));
        }
        for mapping in &self.mappings {
            mapping.inject(Arc::clone(&chances));
        }
        for fault in faults {
            match *fault {
                Fault::CacheRestart(at) => self.restart_caches(at, true)?,
                Fault::CacheWipe(at) => self.restart_caches(at, false)?,
                Fault::StreamThrottle(from, to) => self.throttle_streams(from, to),
                Fault::FunctionCrash(_) | Fault::RecordDuplicate(_) => {}
            }
        }
        Ok(())
    }

    fn restart_caches(&self, at: Duration, keeping_data: bool) -> anyhow::Result<()> {
        for (logical_id, (_, cache)) in &self.caches {
            let restarter = cache.restarter();
            let restarter = restarter.with_context(|| format!("{logical_id}: --fault cache"))?;
            self.later(async move {
                tokio::time::sleep(at).await;
                restarter.restart(keeping_data).await;
            });
        }
        Ok(())
    }

    fn throttle_streams(&self, from: Duration, to: Duration) {
        for (logical_id, stream) in &self.streams {
            let (logical_id, stream) = (logical_id.clone(), Arc::clone(stream));
            self.later(async move {
                tokio::time::sleep(from).await;
                tracing::warn!("{logical_id}: takes no records, by --fault stream:throttle");
                stream.throttle(true);
                tokio::time::sleep(to - from).await;
                stream.throttle(false);
                tracing::warn!("{logical_id}: takes records again");
            });
        }
    }

    /// Does something unless the run stops before.
    fn later(&self, deed: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stops.broker.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = deed => {}
            }
        });
    }
}
