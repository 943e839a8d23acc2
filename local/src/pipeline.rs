//! Brings a plan up, in the order in which its parts need one another, and takes it down again.
//!
//! Up: addresses, caches, web UI, functions, mappings, delivery streams, rules, broker.
//! Down, so that nothing that was acknowledged is lost: the broker stops taking messages and finishes
//! those at hand, the delivery streams write their buffers, the mappings finish their batches, then
//! functions, web UI and caches end.

mod addresses;
pub mod devices;
mod hop;
mod renewal;
mod starter;
mod trouble;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, anyhow};
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::beanstalk::Environment;
use crate::beanstalk::instance_metadata::Metadata;
use crate::cli::ForResource;
use crate::control;
use crate::elasticache::{self, Cache};
use crate::event_source_mapping::Mapping;
use crate::events::{Event, Reporter};
use crate::fault::Chances;
use crate::firehose::DeliveryStream;
use crate::iot::RuleEngine;
use crate::kinesis::Stream;
use crate::lambda::Function;
use crate::logs::Logs;
use crate::mqtt;
use crate::overview::Overview;
use crate::plan::Plan;
use crate::s3::Store;
use crate::sessions::Sessions;
use crate::sqs::Queue;
use crate::status::Status;
use crate::tls::Authority;
use addresses::Addresses;
use hop::Hops;
pub use renewal::Renewal;
use starter::{Programs, Starter};

/// What the command line decides about a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Binaries of functions.
    pub functions: Vec<ForResource>,
    /// Unpacked bundles of environments.
    pub bundles: Vec<ForResource>,
    /// Where the broker listens.
    pub mqtt: SocketAddr,
    /// Where the first environment's web UI listens; further ones take free ports.
    pub dashboard: SocketAddr,
    /// A running Redis server to use.
    pub redis: Option<String>,
    /// Folder of the run's data.
    pub data: PathBuf,
}

/// What a run may share with others; nothing by default.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// The buckets; else folders of its own.
    pub store: Option<Arc<Store>>,
    /// Who lets the parts start.
    pub gate: Option<Arc<dyn Gate>>,
    /// What a run of the same stack before this one has left.
    pub kept: Kept,
}

/// Lets parts start one by one, and is told when they run.
pub trait Gate: std::fmt::Debug + Send + Sync {
    /// Returns when the part may start.
    fn wait<'a>(&'a self, logical_id: &'a str) -> BoxFuture<'a, ()>;

    /// The part runs.
    fn started(&self, logical_id: &str);
}

/// Parts that outlive the run that started them, with their data. They end with the last clone.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    caches: BTreeMap<String, (elasticache::Config, Arc<Cache>)>,
    streams: BTreeMap<String, Arc<Stream>>,
    sessions: Arc<Sessions>,
    status: Arc<Status>,
    chances: Option<Arc<Chances>>,
}

impl Kept {
    /// Ends them after all.
    pub async fn stop(self) {
        for (_, cache) in self.caches.into_values() {
            cache.stop().await;
        }
    }
}

/// A running plan. Dropped, all its programs are killed.
#[derive(Debug)]
pub struct Pipeline {
    plan: Plan,
    options: Options,
    reporter: Reporter,
    status: Arc<Status>,
    data: PathBuf,
    authority: Authority,
    store: Arc<Store>,
    mqtt: SocketAddr,
    streams: BTreeMap<String, Arc<Stream>>,
    queues: BTreeMap<String, Queue>,
    /// Holds the address at which caches are that cannot be reached.
    addresses: Addresses,
    caches: BTreeMap<String, (elasticache::Config, Arc<Cache>)>,
    sessions: Arc<Sessions>,
    logs: Logs,
    rules: Arc<RuleEngine>,
    /// The instances' metadata services, as long as the environments run.
    metadata: BTreeMap<String, Metadata>,
    environments: BTreeMap<String, Environment>,
    first_environment: Option<String>,
    functions: BTreeMap<String, Function>,
    mappings: Vec<Mapping>,
    delivery_streams: BTreeMap<String, DeliveryStream>,
    broker: Arc<mqtt::Broker>,
    devices: Arc<mqtt::device::Devices>,
    serving: JoinHandle<()>,
    /// Serves devices with certificates, once somebody has asked for it.
    serving_devices: Option<JoinHandle<()>>,
    /// Faults by chance, once somebody has asked for them.
    chances: OnceLock<Arc<Chances>>,
    stops: Stops,
}

/// Ends of the parts. Dropped, all of them.
#[derive(Debug, Default)]
struct Stops {
    broker: CancellationToken,
    delivery_streams: CancellationToken,
    mappings: CancellationToken,
    functions: CancellationToken,
}

impl Drop for Stops {
    fn drop(&mut self) {
        self.broker.cancel();
        self.delivery_streams.cancel();
        self.mappings.cancel();
        self.functions.cancel();
    }
}

impl Pipeline {
    /// Starts everything.
    ///
    /// # Errors
    /// The first part that does not start; what had started is killed.
    pub async fn start(
        plan: Plan,
        options: Options,
        reporter: Reporter,
    ) -> anyhow::Result<Pipeline> {
        Pipeline::start_in(plan, options, reporter, Surroundings::default()).await
    }

    /// Starts everything among others. Caches and streams that an earlier run has left go on with
    /// their data, if the plan asks for the same.
    ///
    /// # Errors
    /// The first part that does not start; what had started is killed.
    pub async fn start_in(
        plan: Plan,
        options: Options,
        reporter: Reporter,
        surroundings: Surroundings,
    ) -> anyhow::Result<Pipeline> {
        let Surroundings { store, gate, kept } = surroundings;
        // Before any program starts: what would be in the way.
        let listener = listen(options.mqtt).await?;
        let mqtt = listener.local_addr().context("read the broker's address")?;
        let programs = Programs::find(&plan, &options)?;
        std::fs::create_dir_all(&options.data)
            .with_context(|| format!("cannot make the data folder {}", options.data.display()))?;
        let data = std::fs::canonicalize(&options.data)
            .with_context(|| format!("cannot use the data folder {}", options.data.display()))?;

        let Kept {
            caches,
            streams,
            sessions,
            status,
            chances,
        } = kept;
        let logs = Logs::new(data.join("logs"));
        let authority = Authority::open(&data.join("tls"))?;
        let store = match store {
            Some(store) => store,
            None => Store::new(data.join("s3")).context("cannot use the folder of the buckets")?,
        };
        let hops = Hops::new(&plan, &status);
        hops.warn_of_denials();
        let queues = plan.queues.iter().map(|config| {
            let queue = Queue::new(config.clone(), &data.join("sqs"));
            (config.logical_id.clone(), queue)
        });
        let queues = queues.collect();
        let stops = Stops::default();
        let starter = Starter {
            plan: &plan,
            options: &options,
            programs: &programs,
            reporter,
            data: &data,
            status: &status,
            logs: &logs,
            hops: &hops,
            sessions: &sessions,
            authority: &authority,
            store: &store,
            queues: &queues,
            stops: &stops,
            chances: chances.as_ref(),
            gate: gate.as_deref(),
        };

        let caches = starter.caches(caches).await?;
        let addresses = Addresses::find(&plan, &caches, &reporter, None).await?;
        let mut metadata = BTreeMap::new();
        let mut environments = BTreeMap::new();
        let mut address = options.dashboard;
        for config in &plan.environments {
            let id = &config.logical_id;
            let service = starter.metadata(id).await?;
            let environment = starter
                .environment(config, address, &addresses, &service)
                .await?;
            metadata.insert(id.clone(), service);
            environments.insert(id.clone(), environment);
            address.set_port(0);
        }
        let mut functions = BTreeMap::new();
        for config in &plan.functions {
            let function = starter.function(config, &addresses).await?;
            functions.insert(config.logical_id.clone(), function);
        }
        let streams = starter.streams(streams).await?;
        let mut mappings = Vec::new();
        for mapping in &plan.mappings {
            mappings.extend(starter.mapping(mapping, &streams, &functions).await?);
        }
        let mut delivery_streams = BTreeMap::new();
        for plan in &plan.delivery_streams {
            let delivery_stream = starter.delivery_stream(plan).await?;
            delivery_streams.insert(plan.config.logical_id.clone(), delivery_stream);
        }
        let rules = starter.rules(&streams, &delivery_streams).await?;
        let broker = mqtt::Broker::new(Arc::clone(&rules), Arc::clone(&status));
        let serving = mqtt::serve(listener, Arc::clone(&broker), stops.broker.clone());
        let serving = tokio::spawn(serving);
        let devices = Arc::new(devices::of(&plan, &data));
        let first_environment = plan.environments.first();
        let first_environment = first_environment.map(|it| it.logical_id.clone());
        let known = OnceLock::new();
        if let Some(chances) = chances {
            let _ = known.set(chances);
        }
        Ok(Pipeline {
            plan,
            options,
            reporter,
            status,
            data,
            authority,
            store,
            mqtt,
            streams,
            queues,
            addresses,
            caches,
            sessions,
            logs,
            rules,
            metadata,
            environments,
            first_environment,
            functions,
            mappings,
            delivery_streams,
            broker,
            devices,
            serving,
            serving_devices: None,
            chances: known,
            stops,
        })
    }

    /// What to tell whoever started the run; `control` is the address of its control port.
    pub fn ready(&self, control: Option<SocketAddr>) -> Event {
        Event::Ready {
            mqtt: self.mqtt.to_string(),
            dashboard: self.dashboard().map(|address| format!("http://{address}/")),
            control: control.map(|it| format!("http://{it}{}", control::PIPELINE)),
            data: self.data.clone(),
            redis: self
                .caches
                .values()
                .next()
                .map(|(_, cache)| cache.url().to_owned()),
        }
    }

    /// Where the broker listens.
    pub fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// Where the first environment's web UI listens; `None` in a plan without environments.
    pub fn dashboard(&self) -> Option<SocketAddr> {
        let first = self.first_environment.as_ref()?;
        Some(self.environments.get(first)?.address())
    }

    /// The broker.
    pub fn broker(&self) -> &Arc<mqtt::Broker> {
        &self.broker
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<RuleEngine> {
        &self.rules
    }

    /// The event source mappings, in the plan's order.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// The functions by logical ID.
    pub fn functions(&self) -> &BTreeMap<String, Function> {
        &self.functions
    }

    /// The environments by logical ID.
    pub fn environments(&self) -> &BTreeMap<String, Environment> {
        &self.environments
    }

    /// Addresses of the caches as programs find them, by logical ID.
    pub fn caches(&self) -> BTreeMap<String, SocketAddr> {
        let caches = self.caches.iter();
        caches
            .map(|(id, (_, cache))| (id.clone(), cache.endpoint()))
            .collect()
    }

    /// The logs.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// How it is doing, for as long as it runs.
    pub fn overview(&self) -> Overview {
        let mappings = self.mappings.iter();
        Overview {
            status: Arc::clone(&self.status),
            streams: self.streams.clone(),
            mappings: mappings
                .map(|mapping| (mapping.logical_id().to_owned(), mapping.clone()))
                .collect(),
            address: match self.dashboard() {
                Some(address) => format!("http://{address}"),
                None => format!("mqtt://{}", self.mqtt),
            },
        }
    }

    /// The counters.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Returns when something has ended that cannot be started again, with the reason. Cancel safe.
    pub async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.serving).await {
            Ok(()) => anyhow!("the broker has ended"),
            Err(error) => anyhow!("the broker has ended: {error}"),
        }
    }

    /// Stops everything in order and waits for it. Returns the counters in words.
    pub async fn stop(self) -> String {
        let (kept, summary) = self.stop_keeping().await;
        kept.stop().await;
        summary
    }

    /// Stops everything but what holds data that the next run of the same stack goes on with.
    pub async fn stop_keeping(mut self) -> (Kept, String) {
        self.stops.broker.cancel();
        if !self.serving.is_finished() {
            let _ = (&mut self.serving).await;
        }
        if let Some(serving) = self.serving_devices.take() {
            let _ = serving.await;
        }
        self.stops.delivery_streams.cancel();
        for delivery_stream in self.delivery_streams.values() {
            delivery_stream.finished().await;
        }
        self.stops.mappings.cancel();
        for mapping in &self.mappings {
            mapping.finished().await;
        }
        self.stops.functions.cancel();
        self.functions.clear();
        for environment in self.environments.into_values() {
            environment.stop().await;
        }
        let mut summary = self.status.to_string();
        for (logical_id, stream) in &self.streams {
            let counts: Vec<String> = stream.counts().iter().map(u64::to_string).collect();
            summary.push_str(&format!("; {logical_id}: {} by shard", counts.join(" + ")));
            let waiting: u64 = stream.waiting().into_iter().flatten().sum();
            if waiting > 0 {
                summary.push_str(&format!(", {waiting} wait for the next run"));
            }
        }
        let kept = Kept {
            caches: self.caches,
            streams: self.streams,
            sessions: self.sessions,
            status: self.status,
            chances: self.chances.into_inner(),
        };
        (kept, summary)
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "{address} is taken: stop what listens there, or choose another address for MQTT (--mqtt {}:0 takes a free port)",
            address.ip()
        ),
        _ => anyhow!("cannot listen on {address} for MQTT: {error}"),
    })
}
