//! Brings a plan up, in the order in which its parts need one another, and takes it down again.
//!
//! Up: addresses, caches, web UI, functions, mappings, delivery streams, rules, broker.
//! Down, so that nothing that was acknowledged is lost: the broker stops taking messages and finishes
//! those at hand, the delivery streams write their buffers, the mappings finish their batches, then
//! functions, web UI and caches end.

mod addresses;
pub mod devices;
mod hop;
mod trouble;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::beanstalk::Environment;
use crate::cli::{ForResource, path_for};
use crate::control;
use crate::elasticache::{self, Cache};
use crate::event_source_mapping::Mapping;
use crate::events::{Event, Reporter};
use crate::firehose::DeliveryStream;
use crate::imds::{Instance, Metadata};
use crate::iot::{Action, RuleConfig, RuleEngine};
use crate::kinesis::Stream;
use crate::lambda::{Function, Invoke};
use crate::logs::Logs;
use crate::mqtt;
use crate::overview::Overview;
use crate::plan::{
    ActionPlan, DeliveryStreamPlan, Plan, Target, environment, environment_properties,
};
use crate::s3::Store;
use crate::sessions::Sessions;
use crate::status::Status;
use crate::tls::Authority;
use addresses::Addresses;
use hop::Hops;

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
    status: Arc<Status>,
    data: PathBuf,
    mqtt: SocketAddr,
    streams: BTreeMap<String, Arc<Stream>>,
    /// Holds the address at which caches are that cannot be reached.
    _addresses: Addresses,
    caches: BTreeMap<String, (elasticache::Config, Arc<Cache>)>,
    sessions: Arc<Sessions>,
    logs: Logs,
    rules: Arc<RuleEngine>,
    /// The instances' metadata services, as long as the environments run.
    _metadata: Vec<Metadata>,
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
        let bundles = paths(
            &plan.environments,
            |it| &it.logical_id,
            &options.bundles,
            "--bundle",
            "unpacked bundle",
        )?;
        let binaries = paths(
            &plan.functions,
            |it| &it.logical_id,
            &options.functions,
            "--function",
            "binary",
        )?;
        std::fs::create_dir_all(&options.data)
            .with_context(|| format!("cannot make the data folder {}", options.data.display()))?;
        let data = std::fs::canonicalize(&options.data)
            .with_context(|| format!("cannot use the data folder {}", options.data.display()))?;

        let status = Status::new();
        let logs = Logs::new(data.join("logs"));
        let authority = Authority::open(&data.join("tls"))?;
        let store = match store {
            Some(store) => store,
            None => Store::new(data.join("s3")).context("cannot use the folder of the buckets")?,
        };
        let sessions = kept.sessions;
        let hops = Hops::new(&plan, &status);
        hops.warn_of_denials();
        let stops = Stops::default();
        let starter = Starter {
            plan: &plan,
            options: &options,
            reporter,
            data: &data,
            status: &status,
            logs: &logs,
            hops: &hops,
            sessions: &sessions,
            stops: &stops,
            gate: gate.as_deref(),
        };

        let caches = starter.caches(&authority, kept.caches).await?;
        let addresses = Addresses::find(&plan, &caches, &starter.reporter).await?;
        let metadata = starter.metadata().await?;
        let environments = starter
            .environments(&bundles, &addresses, &authority, &metadata)
            .await?;
        let functions = starter.functions(&binaries, &addresses, &authority).await?;
        let streams = starter.streams(kept.streams).await?;
        let mappings = starter.mappings(&streams, &functions, &store).await?;
        let delivery_streams = starter.delivery_streams(&store).await?;
        let rules = starter.rules(&streams, &delivery_streams).await?;
        let broker = mqtt::Broker::new(Arc::clone(&rules), Arc::clone(&status));
        let serving = mqtt::serve(listener, Arc::clone(&broker), stops.broker.clone());
        let serving = tokio::spawn(serving);
        let devices = Arc::new(devices::of(&plan, &data));
        let first_environment = plan.environments.first();
        let first_environment = first_environment.map(|it| it.logical_id.clone());
        Ok(Pipeline {
            status,
            data,
            mqtt,
            streams,
            _addresses: addresses,
            caches,
            sessions,
            logs,
            rules,
            _metadata: metadata,
            environments,
            first_environment,
            functions,
            mappings,
            delivery_streams,
            broker,
            devices,
            serving,
            serving_devices: None,
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

/// The whole path of every resource's program or folder.
fn paths<T>(
    resources: &[T],
    logical_id: impl Fn(&T) -> &str,
    given: &[ForResource],
    flag: &str,
    what: &str,
) -> anyhow::Result<HashMap<String, PathBuf>> {
    let mut found = HashMap::new();
    for resource in resources {
        let logical_id = logical_id(resource);
        let path = path_for(given, logical_id)
            .ok_or_else(|| anyhow!("{logical_id} needs its {what}: pass {flag}"))?;
        // Programs have working directories of their own.
        let path = std::fs::canonicalize(path)
            .with_context(|| format!("{logical_id}: cannot use {flag} {}", path.display()))?;
        found.insert(logical_id.to_owned(), path);
    }
    Ok(found)
}

/// What every start needs.
struct Starter<'a> {
    plan: &'a Plan,
    options: &'a Options,
    reporter: Reporter,
    data: &'a Path,
    status: &'a Arc<Status>,
    logs: &'a Logs,
    hops: &'a Hops<'a>,
    sessions: &'a Arc<Sessions>,
    stops: &'a Stops,
    gate: Option<&'a dyn Gate>,
}

impl Starter<'_> {
    /// Returns when a part may start.
    async fn may_start(&self, logical_id: &str) {
        if let Some(gate) = self.gate {
            gate.wait(logical_id).await;
        }
    }

    fn started(&self, logical_id: &str, what: impl Into<String>) {
        if let Some(gate) = self.gate {
            gate.started(logical_id);
        }
        let (logical_id, what) = (logical_id.to_owned(), what.into());
        self.reporter.tell(&Event::Started { logical_id, what });
    }

    async fn streams(
        &self,
        mut kept: BTreeMap<String, Arc<Stream>>,
    ) -> anyhow::Result<BTreeMap<String, Arc<Stream>>> {
        let mut streams = BTreeMap::new();
        for config in &self.plan.streams {
            let logical_id = &config.logical_id;
            self.may_start(logical_id).await;
            let kept = kept.remove(logical_id);
            let stream = match kept.filter(|it| it.config() == config) {
                Some(stream) => stream,
                None => {
                    let folder = self.data.join("kinesis").join(logical_id);
                    Stream::open(config.clone(), &folder)?
                }
            };
            if let Some(gate) = self.gate {
                gate.started(logical_id);
            }
            streams.insert(logical_id.clone(), stream);
        }
        Ok(streams)
    }

    async fn caches(
        &self,
        authority: &Authority,
        mut kept: BTreeMap<String, (elasticache::Config, Arc<Cache>)>,
    ) -> anyhow::Result<BTreeMap<String, (elasticache::Config, Arc<Cache>)>> {
        let mut caches = BTreeMap::new();
        for planned in &self.plan.caches {
            let mut config = planned.clone();
            let logical_id = config.logical_id.clone();
            self.may_start(&logical_id).await;
            if let Some((old, cache)) = kept.remove(&logical_id) {
                if old == *planned && cache.is_running() {
                    if let Some(gate) = self.gate {
                        gate.started(&logical_id);
                    }
                    caches.insert(logical_id, (old, cache));
                    continue;
                }
                cache.stop().await;
            }
            config.url = self.options.redis.clone();
            config.folder = self.data.join("cache").join(&logical_id);
            let tls = if config.tls {
                "with TLS"
            } else {
                "without TLS"
            };
            let cache = Cache::start(config, authority, self.sessions).await?;
            self.started(&logical_id, format!("cache at {} {tls}", cache.endpoint()));
            caches.insert(logical_id, (planned.clone(), Arc::new(cache)));
        }
        Ok(caches)
    }

    /// One for each environment, in the plan's order.
    async fn metadata(&self) -> anyhow::Result<Vec<Metadata>> {
        let mut services = Vec::new();
        for config in &self.plan.environments {
            let (authorizer, role) = self.hops.sign_in(&config.logical_id);
            let role = role.map(|role| (role.to_owned(), self.sessions.open(authorizer)));
            let region = self.plan.resolved.context.region.clone();
            services.push(Metadata::start(Instance { region, role }).await?);
        }
        Ok(services)
    }

    async fn environments(
        &self,
        bundles: &HashMap<String, PathBuf>,
        addresses: &Addresses,
        authority: &Authority,
        metadata: &[Metadata],
    ) -> anyhow::Result<BTreeMap<String, Environment>> {
        let mut environments = BTreeMap::new();
        for (index, config) in self.plan.environments.iter().enumerate() {
            let mut config = config.clone();
            let logical_id = config.logical_id.clone();
            self.may_start(&logical_id).await;
            let view = addresses.view(self.plan, &logical_id)?;
            if let Some(resource) = view.resource(&logical_id) {
                config.environment =
                    environment_properties(resource).map_err(|it| anyhow!("{it}"))?;
            }
            if let Some(metadata) = metadata.get(index) {
                let name = contract::environment::AWS_EC2_METADATA_SERVICE_ENDPOINT;
                config
                    .environment
                    .insert(name.to_owned(), metadata.endpoint());
            }
            config.bundle = bundles.get(&logical_id).cloned().unwrap_or_default();
            config.address = self.options.dashboard;
            if index > 0 {
                config.address.set_port(0);
            }
            config.ca_file = Some(authority.ca_file().to_owned());
            let environment = Environment::start(config, self.logs).await?;
            self.started(
                &logical_id,
                format!("web UI at http://{}/", environment.address()),
            );
            environments.insert(logical_id, environment);
        }
        Ok(environments)
    }

    async fn functions(
        &self,
        binaries: &HashMap<String, PathBuf>,
        addresses: &Addresses,
        authority: &Authority,
    ) -> anyhow::Result<BTreeMap<String, Function>> {
        let mut functions = BTreeMap::new();
        for config in &self.plan.functions {
            let mut config = config.clone();
            let logical_id = config.logical_id.clone();
            self.may_start(&logical_id).await;
            let view = addresses.view(self.plan, &logical_id)?;
            if let Some(resource) = view.resource(&logical_id) {
                config.environment = environment(resource).map_err(|it| anyhow!("{it}"))?;
            }
            config.bootstrap = binaries.get(&logical_id).cloned().unwrap_or_default();
            config.folder = self.data.join("functions").join(&logical_id);
            config.ca_file = Some(authority.ca_file().to_owned());
            let (sign_in, _) = self.hops.sign_in(&logical_id);
            config.credentials = Some(self.sessions.open(sign_in));
            let authorizer = self.hops.authorizer(&logical_id, "");
            let status = Arc::clone(self.status);
            let stop = self.stops.functions.clone();
            let function = Function::start(config, self.logs, &authorizer, status, stop)?;
            self.started(&logical_id, "function ready");
            functions.insert(logical_id, function);
        }
        Ok(functions)
    }

    async fn mappings(
        &self,
        streams: &BTreeMap<String, Arc<Stream>>,
        functions: &BTreeMap<String, Function>,
        store: &Arc<Store>,
    ) -> anyhow::Result<Vec<Mapping>> {
        let mut mappings = Vec::new();
        for mapping in &self.plan.mappings {
            let logical_id = &mapping.config.logical_id;
            let (Some(stream), Some(function)) = (
                streams.get(&mapping.stream),
                functions.get(&mapping.function),
            ) else {
                continue;
            };
            self.may_start(logical_id).await;
            let function: Arc<dyn Invoke> = Arc::new(function.clone());
            let started = Mapping::start(
                mapping.config.clone(),
                Arc::clone(stream),
                function,
                Arc::clone(store),
                self.hops.authorizer(logical_id, ""),
                Arc::clone(self.status),
                &self.data.join("mappings"),
                self.stops.mappings.clone(),
            )?;
            let state = started.state();
            self.started(
                logical_id,
                format!(
                    "{} → {}, batches of {}, {state}",
                    mapping.stream, mapping.function, mapping.config.batch_size
                ),
            );
            mappings.push(started);
        }
        Ok(mappings)
    }

    async fn delivery_streams(
        &self,
        store: &Arc<Store>,
    ) -> anyhow::Result<BTreeMap<String, DeliveryStream>> {
        let mut delivery_streams = BTreeMap::new();
        for DeliveryStreamPlan { config, log } in &self.plan.delivery_streams {
            let logical_id = &config.logical_id;
            self.may_start(logical_id).await;
            let delivery_stream = DeliveryStream::start(
                config.clone(),
                Arc::clone(store),
                self.hops.authorizer(logical_id, ""),
                log.as_ref()
                    .map(|(group, stream)| self.logs.stream(group, stream)),
                Arc::clone(self.status),
                &self.data.join("firehose"),
                self.stops.delivery_streams.clone(),
            )?;
            let what = format!(
                "delivers to {} every {} s or {} MB",
                config.bucket,
                config.interval.as_secs(),
                config.size_in_mbs
            );
            self.started(logical_id, what);
            delivery_streams.insert(logical_id.clone(), delivery_stream);
        }
        Ok(delivery_streams)
    }

    async fn rules(
        &self,
        streams: &BTreeMap<String, Arc<Stream>>,
        delivery_streams: &BTreeMap<String, DeliveryStream>,
    ) -> anyhow::Result<Arc<RuleEngine>> {
        let action = |rule: &str, action: &ActionPlan| {
            let permission = self.hops.permission(rule, &action.path);
            Some(match &action.target {
                Target::Stream {
                    stream,
                    partition_key,
                } => Action::Kinesis {
                    stream: Arc::clone(streams.get(stream)?),
                    permission,
                    partition_key: partition_key.clone(),
                },
                Target::DeliveryStream {
                    delivery_stream,
                    separator,
                    batch_mode,
                } => Action::Firehose {
                    delivery_stream: Arc::new(hop::Delivery(
                        delivery_streams.get(delivery_stream)?.clone(),
                    )),
                    permission,
                    separator: separator.clone(),
                    batch_mode: *batch_mode,
                },
                Target::LogGroup {
                    log_group,
                    batch_mode,
                } => {
                    let name = &self.plan.resolved.resource(log_group)?.name;
                    Action::CloudwatchLogs {
                        log_group: Arc::new(hop::LogGroup::new(self.logs, name, rule)),
                        permission,
                        batch_mode: *batch_mode,
                    }
                }
            })
        };
        for rule in &self.plan.rules {
            self.may_start(&rule.logical_id).await;
        }
        let rules = self.plan.rules.iter().map(|rule| RuleConfig {
            logical_id: rule.logical_id.clone(),
            name: rule.name.clone(),
            sql: rule.sql.clone(),
            version: rule.version,
            disabled: rule.disabled,
            actions: rule
                .actions
                .iter()
                .filter_map(|it| Some((it.index, action(&rule.logical_id, it)?)))
                .collect(),
            error_action: rule
                .error_action
                .as_ref()
                .and_then(|it| action(&rule.logical_id, it)),
        });
        let account_id = &self.plan.resolved.context.account_id;
        let rules = RuleEngine::new(rules.collect(), account_id, Arc::clone(self.status));
        let engine = rules.map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow!("the template cannot run here\n{}", errors.join("\n"))
        })?;
        for rule in &self.plan.rules {
            let disabled = if rule.disabled { "disabled: " } else { "" };
            self.started(&rule.logical_id, format!("{disabled}{}", rule.sql));
        }
        Ok(engine)
    }
}
