//! A part of a run: one resource of the template that something here stands for.
//!
//! Each service implements [`Part`] in its `part.rs`. A part finds the others by their [`Handles`], so
//! that it knows only the services that it talks to; `run` knows the order.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use cfn::integration::Call;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::fault::{Chances, Fault};
use crate::logs::Logs;
use crate::paths::Programs;
use crate::permission::Permissions;
use crate::s3::Store;
use crate::sessions::Sessions;
use crate::status::Status;
use crate::template::Template;
use crate::tls::Authority;

/// A resource that runs here.
pub trait Part: fmt::Debug + Send + Sync {
    /// The logical IDs of the parts whose handles it takes when it starts.
    fn needs(&self, _template: &Template) -> Vec<String> {
        Vec::new()
    }

    /// Everything that it starts with, as text to compare: while that stays the same, there is nothing
    /// to change.
    ///
    /// # Errors
    /// The template's settings cannot be read.
    fn inputs(&self, context: &Context) -> anyhow::Result<String>;

    /// Starts it, and publishes its handle.
    ///
    /// # Errors
    /// Why it does not run; nothing of it does then.
    fn start<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Takes other inputs over while it runs, if it can.
    ///
    /// # Errors
    /// The new inputs cannot be used.
    fn change<'a>(&'a mut self, _context: &'a Context) -> BoxFuture<'a, anyhow::Result<Change>> {
        Box::pin(std::future::ready(Ok(Change::Restart)))
    }

    /// Ends it in order: what it has taken is finished or kept for its next start.
    fn stop<'a>(&'a mut self, shared: &'a Shared) -> BoxFuture<'a, ()>;

    /// Makes a fault happen to it; does nothing for the faults of others.
    ///
    /// # Errors
    /// The fault cannot happen to this part.
    fn inject(&self, _fault: &Fault, _shared: &Shared) -> anyhow::Result<()> {
        Ok(())
    }

    /// The address and kind of a running part; `None` for a part that is not listed.
    fn describe(&self) -> Option<String>;

    /// Whether a call that its settings imply is made here.
    fn makes(&self, _call: &Call) -> bool {
        true
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The part runs on with its new inputs; its clients stay connected.
    Kept,
    /// It must be stopped and started, and the parts that hold it as well.
    Restart,
}

/// What a part starts with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The template.
    pub template: Arc<Template>,
    /// Binaries and bundles.
    pub programs: Arc<Programs>,
    /// What all parts of the run have in common.
    pub shared: Arc<Shared>,
}

impl Context {
    /// The permissions of the template's resources.
    pub fn permissions(&self) -> Permissions<'_> {
        Permissions::new(&self.template, &self.shared.status)
    }
}

/// What all parts of a run have in common.
#[derive(Debug)]
pub struct Shared {
    /// Folder of the run's data, absolute.
    pub data: PathBuf,
    /// Where the first web UI listens; port 0 takes a free one.
    pub dashboard: SocketAddr,
    /// `redis://host:port` of a running server for the caches.
    pub redis: Option<String>,
    /// The counters.
    pub status: Arc<Status>,
    /// The log groups.
    pub logs: Logs,
    /// The credentials that programs were given.
    pub sessions: Arc<Sessions>,
    /// Signs the certificates of this run.
    pub authority: Authority,
    /// The buckets.
    pub store: Arc<Store>,
    /// The running parts.
    pub handles: Handles,
    /// Faults by chance, once there are any.
    pub chances: OnceLock<Arc<Chances>>,
    /// Cancelled when the run ends, however it does.
    pub stop: CancellationToken,
    /// Takes what parts have to tell beside that they have started.
    pub observer: Box<dyn Observer>,
}

/// Takes what parts have to tell.
pub trait Observer: fmt::Debug + Send + Sync {
    /// The network lets `from` not reach `to`; both are logical IDs.
    fn unreachable(&self, from: &str, to: &str, reason: &str);
}

impl Shared {
    /// Runs a task unless the run ends before.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }
}

/// Handles of running parts by their type and logical ID.
#[derive(Default)]
pub struct Handles {
    handles: RwLock<HashMap<(TypeId, String), Arc<dyn Any + Send + Sync>>>,
}

impl Handles {
    /// Publishes a handle; one of the same type and ID is replaced.
    pub fn put<T: Any + Send + Sync>(&self, logical_id: &str, handle: Arc<T>) {
        let key = (TypeId::of::<T>(), logical_id.to_owned());
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        handles.insert(key, handle);
    }

    /// Takes a handle back.
    pub fn remove<T: Any + Send + Sync>(&self, logical_id: &str) {
        let key = (TypeId::of::<T>(), logical_id.to_owned());
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        handles.remove(&key);
    }

    /// The handle of a running part.
    pub fn get<T: Any + Send + Sync>(&self, logical_id: &str) -> Option<Arc<T>> {
        let key = (TypeId::of::<T>(), logical_id.to_owned());
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(handles.get(&key)?).downcast().ok()
    }

    /// The handles of a type by logical ID.
    pub fn all<T: Any + Send + Sync>(&self) -> BTreeMap<String, Arc<T>> {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        let of_type = handles
            .iter()
            .filter(|((r#type, _), _)| *r#type == TypeId::of::<T>());
        of_type
            .filter_map(|((_, id), it)| Some((id.clone(), Arc::clone(it).downcast().ok()?)))
            .collect()
    }
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        let ids = handles.keys().map(|(_, id)| id);
        f.debug_set().entries(ids).finish()
    }
}
