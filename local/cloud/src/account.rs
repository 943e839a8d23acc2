//! What the services of the cloud share: one account.
//!
//! CloudFormation puts in what it makes ([`Account::put`], [`Account::pipeline`]), S3 lends its
//! buckets ([`Buckets`]), and every service looks up what it is asked about, by the region, the type
//! and the physical ID.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::call::{Failure, Service};
use super::fault::Faults;
use super::pace::Pace;
use local::events::Reporter;
use local::run::Run;
use local::s3::Store;

/// What is decided about a cloud before it starts.
#[derive(Debug)]
pub struct Settings {
    /// Folder of everything that it keeps.
    pub data: PathBuf,
    /// Where it answers, as `http://host:port`.
    pub endpoint: String,
    /// Where brokers listen; port 0 takes a free one.
    pub mqtt: std::net::SocketAddr,
    /// Where dashboards listen; port 0 takes a free one.
    pub dashboard: std::net::SocketAddr,
    /// A running Redis server for the caches.
    pub redis: Option<String>,
    /// Failures and delays.
    pub faults: Faults,
    /// How long things take.
    pub pace: Pace,
    /// Whether programs are started; without, only the control plane is there.
    pub run: bool,
    /// Whom to tell what starts.
    pub reporter: Reporter,
}

/// The account.
#[derive(Debug)]
pub struct Account {
    /// Twelve digits.
    pub id: String,
    /// What was decided before the start.
    pub settings: Settings,
    /// The objects, also those that pipelines write.
    pub store: Arc<Store>,
    buckets: RwLock<Option<Arc<dyn Buckets>>>,
    services: OnceLock<Vec<Weak<dyn Service>>>,
    resources: RwLock<BTreeMap<(String, String, String), Resource>>,
    pipelines: RwLock<BTreeMap<String, Arc<Running>>>,
    environment_events: Mutex<BTreeMap<String, Vec<EnvironmentEvent>>>,
}

/// A resource that exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// Region.
    pub region: String,
    /// ID of the stack that it belongs to.
    pub stack_id: String,
    /// Name of that stack.
    pub stack_name: String,
    /// Logical ID.
    pub logical_id: String,
    /// Type, such as `AWS::IoT::TopicRule`.
    pub r#type: String,
    /// What `Ref` gives.
    pub physical_id: String,
    /// Properties without intrinsics.
    pub properties: Json,
    /// What `Fn::GetAtt` gives.
    pub attributes: BTreeMap<String, Json>,
}

/// A stack's pipeline; none while it is being started, and none under `--no-run`.
#[derive(Debug)]
pub struct Running {
    /// Region of the stack.
    pub region: String,
    /// The stack's ID.
    pub stack_id: String,
    /// The stack's name.
    pub stack_name: String,
    /// The run of its parts.
    pub pipeline: tokio::sync::RwLock<Option<Arc<Run>>>,
}

/// What Beanstalk tells of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentEvent {
    /// When
    pub at: Timestamp,
    /// `INFO`, `WARN` or `ERROR`
    pub severity: &'static str,
    /// What
    pub message: String,
}

/// S3's buckets, as far as CloudFormation needs them. Failures have S3's codes: `NoSuchBucket`,
/// `NoSuchKey`, `BucketAlreadyOwnedByYou`, `BucketNotEmpty`.
pub trait Buckets: std::fmt::Debug + Send + Sync {
    /// Makes a bucket with the properties of an `AWS::S3::Bucket`; its tags are among them.
    fn create<'a>(
        &'a self,
        region: &'a str,
        bucket: &'a str,
        properties: &'a Json,
    ) -> BoxFuture<'a, Result<(), Failure>>;

    /// Gives a bucket other properties.
    fn configure<'a>(
        &'a self,
        bucket: &'a str,
        properties: &'a Json,
    ) -> BoxFuture<'a, Result<(), Failure>>;

    /// Removes a bucket that is empty.
    fn delete<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<(), Failure>>;

    /// Whether a bucket is there.
    fn exists<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, bool>;

    /// An object's bytes, of its newest version or of a given one.
    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        version: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, Failure>>;
}

impl Account {
    /// An account without services.
    ///
    /// # Errors
    /// The data folder cannot be used.
    pub fn new(settings: Settings) -> std::io::Result<Arc<Account>> {
        let store = Store::new(settings.data.join("s3"))?;
        Ok(Arc::new(Account {
            id: local::template::ACCOUNT_ID.to_owned(),
            settings,
            store,
            buckets: RwLock::default(),
            services: OnceLock::new(),
            resources: RwLock::default(),
            pipelines: RwLock::default(),
            environment_events: Mutex::default(),
        }))
    }

    /// Says who keeps the buckets; the last one counts.
    pub fn lend_buckets(&self, buckets: Arc<dyn Buckets>) {
        let mut place = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(buckets);
    }

    /// The buckets; `None` in a cloud without S3.
    pub fn buckets(&self) -> Option<Arc<dyn Buckets>> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.clone()
    }

    /// Says which services there are; the first time counts.
    pub(super) fn introduce(&self, services: &[Arc<dyn Service>]) {
        let services = services.iter().map(Arc::downgrade).collect();
        let _ = self.services.set(services);
    }

    fn each_service(&self) -> impl Iterator<Item = Arc<dyn Service>> {
        let services = self.services.get().map_or(&[][..], Vec::as_slice);
        services.iter().filter_map(Weak::upgrade)
    }

    /// Why a resource cannot be deleted now.
    pub fn refuses_deletion(&self, resource: &Resource) -> Option<String> {
        self.each_service()
            .find_map(|it| it.refuses_deletion(resource))
    }

    /// A part of a stack was started or changed.
    pub fn run_changed(&self, stack_id: &str, run: &Run) {
        self.each_service()
            .for_each(|it| it.run_changed(stack_id, run));
    }

    /// A resource is there, or has changed.
    pub fn put(&self, resource: Resource) {
        let key = key(&resource);
        let mut resources = self
            .resources
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        resources.insert(key, resource.clone());
        drop(resources);
        self.each_service()
            .for_each(|it| it.put_resource(&resource));
    }

    /// A resource goes and leaves a snapshot.
    pub fn snapshot(&self, resource: &Resource) {
        self.each_service().for_each(|it| it.snapshot(resource));
    }

    /// A resource is gone, or belongs to nobody any more.
    pub fn remove(&self, resource: &Resource) {
        let mut resources = self
            .resources
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let was_there = resources.remove(&key(resource)).is_some();
        drop(resources);
        if was_there {
            self.each_service()
                .for_each(|it| it.removed_resource(resource));
        }
    }

    /// A resource by its region, type and physical ID.
    pub fn resource(&self, region: &str, r#type: &str, physical_id: &str) -> Option<Resource> {
        let key = (region.to_owned(), r#type.to_owned(), physical_id.to_owned());
        let resources = self
            .resources
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        resources.get(&key).cloned()
    }

    /// All resources of a type in a region.
    pub fn of_type(&self, region: &str, r#type: &str) -> Vec<Resource> {
        let resources = self
            .resources
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let of_type = resources
            .values()
            .filter(|it| it.region == region && it.r#type == r#type);
        of_type.cloned().collect()
    }

    /// The pipeline of a stack, by the stack's ID; `None` when it has none.
    pub fn pipeline(&self, stack_id: &str) -> Option<Arc<Running>> {
        let pipelines = self
            .pipelines
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        pipelines.get(stack_id).cloned()
    }

    /// All pipelines of a region.
    pub fn pipelines(&self, region: &str) -> Vec<Arc<Running>> {
        let pipelines = self
            .pipelines
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let there = pipelines.values().filter(|it| it.region == region);
        there.cloned().collect()
    }

    /// The place of a stack's pipeline, made if there is none.
    pub fn place(&self, region: &str, stack_id: &str, stack_name: &str) -> Arc<Running> {
        let mut pipelines = self
            .pipelines
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let place = pipelines.entry(stack_id.to_owned()).or_insert_with(|| {
            Arc::new(Running {
                region: region.to_owned(),
                stack_id: stack_id.to_owned(),
                stack_name: stack_name.to_owned(),
                pipeline: tokio::sync::RwLock::new(None),
            })
        });
        Arc::clone(place)
    }

    /// A stack has no pipeline any more.
    pub fn vacate(&self, stack_id: &str) {
        let mut pipelines = self
            .pipelines
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        pipelines.remove(stack_id);
    }

    /// Beanstalk tells something of an environment, by its physical name.
    pub fn tell_of_environment(
        &self,
        name: &str,
        severity: &'static str,
        message: impl Into<String>,
    ) {
        let event = EnvironmentEvent {
            at: Timestamp::now(),
            severity,
            message: message.into(),
        };
        let mut events = self
            .environment_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        events.entry(name.to_owned()).or_default().push(event);
    }

    /// What was told of an environment in this run, the oldest first.
    pub fn environment_events(&self, name: &str) -> Vec<EnvironmentEvent> {
        let events = self
            .environment_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        events.get(name).cloned().unwrap_or_default()
    }
}

fn key(resource: &Resource) -> (String, String, String) {
    (
        resource.region.clone(),
        resource.r#type.clone(),
        resource.physical_id.clone(),
    )
}
