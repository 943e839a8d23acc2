//! A run of a template: its parts, in the order of the dependency graph.
//!
//! One lifecycle serves three doors. A plain run brings up every part ([`Run::bring_up`]); `--watch` aims the
//! run at another template ([`Run::aim`]) and brings up what differs; the emulated CloudFormation brings
//! up one resource after the other. Bringing a part up starts it, changes it while it runs, or restarts
//! it with the parts that hold it, and does nothing when all its inputs are the same.
//!
//! The end comes in the order in which nothing that was acknowledged is lost: the broker stops taking
//! messages and finishes those at hand, then every part stops before the parts that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use anyhow::{Context as _, anyhow};
use indexmap::IndexMap;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::beanstalk::Environment;
use crate::control;
use crate::elasticache::Cache;
use crate::event_source_mapping::Mapping;
use crate::events::{Event, Reporter};
use crate::fault::{Chances, Fault};
use crate::graph;
use crate::iot::RuleEngine;
use crate::iot::part::ENGINE;
use crate::kinesis::Stream;
use crate::lambda::Function;
use crate::logs::Logs;
use crate::mqtt;
use crate::mqtt::device::Devices;
use crate::overview::Overview;
use crate::part::{Change, Context, Handles, Observer, Part, Shared};
use crate::paths::{ForResource, Programs};
use crate::plan::Plan;
use crate::s3::Store;
use crate::service;
use crate::tls::Authority;

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

impl Options {
    /// Finds the programs of a plan.
    ///
    /// # Errors
    /// One was not given, or is not there.
    pub fn programs(&self, plan: &Plan) -> anyhow::Result<Programs> {
        Programs::find(
            plan.functions.iter().map(|it| it.logical_id.as_str()),
            &self.functions,
            plan.environments.iter().map(|it| it.logical_id.as_str()),
            &self.bundles,
        )
    }
}

/// A run. Dropped, all its programs are killed.
#[derive(Debug)]
pub struct Run {
    shared: Arc<Shared>,
    reporter: Reporter,
    target: RwLock<Target>,
    /// Who holds it changes the run; everybody else waits.
    parts: tokio::sync::Mutex<Parts>,
    broker: Broker,
    _stop: tokio_util::sync::DropGuard,
}

/// What a run is to become.
#[derive(Clone, Debug)]
struct Target {
    plan: Arc<Plan>,
    programs: Arc<Programs>,
}

/// The running parts in the order in which they started.
#[derive(Debug, Default)]
struct Parts {
    running: IndexMap<String, Running>,
    /// Parts that are stopped and may start again, such as at their former address.
    stopped: BTreeMap<String, Box<dyn Part>>,
}

/// A running part.
#[derive(Debug)]
struct Running {
    part: Box<dyn Part>,
    r#type: String,
    inputs: String,
    needs: BTreeSet<String>,
}

/// The broker and the ports at which it is reached.
#[derive(Debug)]
struct Broker {
    broker: Arc<mqtt::Broker>,
    rules: Arc<RuleEngine>,
    address: SocketAddr,
    stop: CancellationToken,
    /// The port, until the broker serves it.
    listener: tokio::sync::Mutex<Option<TcpListener>>,
    serving: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    /// The port for devices with certificates, if one was requested.
    devices: tokio::sync::Mutex<Option<DevicePort>>,
}

#[derive(Debug)]
struct DevicePort {
    devices: Arc<Devices>,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// Why a part does not run: its logical ID, and what happened.
pub type Failure = (String, anyhow::Error);

/// What bringing parts up would do to a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Running parts whose inputs are others, and parts that do not run yet.
    pub changed: BTreeSet<String>,
    /// Running parts that the template does not have any more.
    pub removed: BTreeSet<String>,
}

impl Difference {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    /// Logical IDs of all that it is about.
    pub fn names(&self) -> String {
        let all: BTreeSet<&str> = self
            .changed
            .union(&self.removed)
            .map(String::as_str)
            .collect();
        let all: Vec<&str> = all.into_iter().collect();
        all.join(", ")
    }
}

/// Tells the reporter what parts have to tell.
#[derive(Debug)]
struct Told(Reporter);

impl Observer for Told {
    fn unreachable(&self, from: &str, to: &str, reason: &str) {
        self.0.tell(&Event::Unreachable {
            from: from.to_owned(),
            to: to.to_owned(),
            reason: reason.to_owned(),
        });
    }
}

impl Run {
    /// Prepares a run, without any part and without the programs of its parts: takes the broker's port and
    /// the data folder. Without `store` its buckets are folders of its own.
    ///
    /// # Errors
    /// The port is taken, or the data folder cannot be used.
    pub async fn open(
        plan: Plan,
        options: &Options,
        reporter: Reporter,
        store: Option<Arc<Store>>,
    ) -> anyhow::Result<Run> {
        // Before any program starts: what would be in the way.
        let listener = listen(options.mqtt).await?;
        let address = listener.local_addr().context("read the broker's address")?;
        let folder = options.data.display();
        std::fs::create_dir_all(&options.data)
            .with_context(|| format!("cannot make the data folder {folder}"))?;
        let data = std::fs::canonicalize(&options.data)
            .with_context(|| format!("cannot use the data folder {folder}"))?;
        let store = match store {
            Some(store) => store,
            None => Store::new(data.join("s3")).context("cannot use the folder of the buckets")?,
        };
        let stop = CancellationToken::new();
        let status = Arc::default();
        let account_id = &plan.template.resolved.context.account_id;
        let rules = RuleEngine::empty(account_id, Arc::clone(&status));
        let shared = Arc::new(Shared {
            dashboard: options.dashboard,
            redis: options.redis.clone(),
            logs: Logs::new(data.join("logs")),
            sessions: Arc::default(),
            authority: Authority::open(&data.join("tls"))?,
            store,
            handles: Handles::default(),
            chances: OnceLock::new(),
            stop: stop.clone(),
            observer: Box::new(Told(reporter)),
            status,
            data,
        });
        shared.handles.put(ENGINE, Arc::clone(&rules));
        Ok(Run {
            broker: Broker {
                broker: mqtt::Broker::new(Arc::clone(&rules), Arc::clone(&shared.status)),
                rules,
                address,
                stop: stop.child_token(),
                listener: tokio::sync::Mutex::new(Some(listener)),
                serving: tokio::sync::Mutex::default(),
                devices: tokio::sync::Mutex::default(),
            },
            shared,
            reporter,
            target: RwLock::new(Target {
                plan: Arc::new(plan),
                programs: Arc::default(),
            }),
            parts: tokio::sync::Mutex::default(),
            _stop: stop.drop_guard(),
        })
    }

    /// Starts everything.
    ///
    /// # Errors
    /// The first part that does not start; what had started is killed.
    pub async fn start(plan: Plan, options: &Options, reporter: Reporter) -> anyhow::Result<Run> {
        let run = Run::open(plan, options, reporter, None).await?;
        let plan = run.plan();
        let programs = options.programs(&plan)?;
        run.aim(plan, programs);
        run.bring_up(None).await.map_err(|(_, error)| error)?;
        run.serve().await;
        Ok(run)
    }

    /// Says what the run is to become; nothing happens before the next call of [`bring_up`](Self::bring_up)
    /// or [`remove`](Self::remove).
    pub fn aim(&self, plan: impl Into<Arc<Plan>>, programs: Programs) {
        let mut target = self.target.write().unwrap_or_else(PoisonError::into_inner);
        *target = Target {
            plan: plan.into(),
            programs: Arc::new(programs),
        };
    }

    /// The plan that the run is aimed at.
    pub fn plan(&self) -> Arc<Plan> {
        self.target().plan
    }

    fn target(&self) -> Target {
        let target = self.target.read().unwrap_or_else(PoisonError::into_inner);
        target.clone()
    }

    fn context(&self) -> Context {
        let Target { plan, programs } = self.target();
        Context {
            template: Arc::clone(&plan.template),
            programs,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Everything that each part of the template starts with, as text to compare.
    ///
    /// # Errors
    /// A part's settings cannot be read.
    pub fn inputs(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let context = self.context();
        let resources = context.template.resolved.resources.iter();
        let parts =
            resources.filter_map(|(id, resource)| Some((id, service::part(&resource.r#type, id)?)));
        parts
            .map(|(id, part)| Ok((id.clone(), part.inputs(&context)?)))
            .collect()
    }

    /// What bringing everything up would do.
    ///
    /// # Errors
    /// A part's settings cannot be read.
    pub async fn difference(&self) -> Result<Difference, Failure> {
        let parts = self.parts.lock().await;
        let context = self.context();
        let nodes = nodes(&context);
        let removed = parts.running.keys().filter(|id| !nodes.contains_key(*id));
        let removed: BTreeSet<String> = removed.cloned().collect();
        let all: BTreeSet<String> = nodes.keys().cloned().collect();
        let changed = parts.changed(&context, &all)?;
        Ok(Difference { changed, removed })
    }

    /// Brings these parts up, or all of the template, as it has them now: starts what does not run, with what
    /// that needs; changes what runs with other inputs, and restarts what holds a part that had to be
    /// restarted. With all, also stops what the template does not have any more. What is published
    /// meanwhile waits.
    ///
    /// # Errors
    /// The first part that does not run.
    pub async fn bring_up(&self, only: Option<&BTreeSet<String>>) -> Result<(), Failure> {
        let mut parts = self.parts.lock().await;
        let context = self.context();
        let nodes = nodes(&context);
        let mut wanted: BTreeSet<String> = match only {
            None => nodes.keys().cloned().collect(),
            Some(ids) => ids
                .iter()
                .filter(|id| nodes.contains_key(*id))
                .cloned()
                .collect(),
        };
        // What one of them takes a handle of must run first.
        let mut open: Vec<String> = wanted.iter().cloned().collect();
        while let Some(id) = open.pop() {
            for needed in needs(&context, &id) {
                if !parts.running.contains_key(&needed) && wanted.insert(needed.clone()) {
                    open.push(needed);
                }
            }
        }
        let removed = match only {
            None => parts
                .running
                .keys()
                .filter(|id| !nodes.contains_key(*id))
                .cloned()
                .collect(),
            Some(_) => BTreeSet::new(),
        };
        let changed = parts.changed(&context, &wanted)?;
        if changed.is_empty() && removed.is_empty() {
            return Ok(());
        }
        // Nothing can be published before the broker serves.
        let _held = self.broker.broker.hold().await;
        let restarted = parts.change(&context, &changed).await?;
        let holders = parts.stop(&self.shared, &restarted, &removed).await;
        wanted.extend(holders);
        for id in graph::order(&nodes) {
            if wanted.contains(&id) && !parts.running.contains_key(&id) {
                parts
                    .start(&context, &id)
                    .await
                    .map_err(|error| (id.clone(), error))?;
                if let Some(what) = parts.running.get(&id).and_then(|it| it.part.describe()) {
                    let logical_id = id.clone();
                    self.reporter.tell(&Event::Started { logical_id, what });
                }
            }
        }
        if only.is_none() {
            let reopened = self.reopen_for_devices().await;
            reopened.map_err(|error| ("MQTT with TLS".to_owned(), error))?;
        }
        Ok(())
    }

    /// Stops these parts for good, and what holds one of them until it is brought up again.
    pub async fn remove(&self, ids: &BTreeSet<String>) {
        let mut parts = self.parts.lock().await;
        let _held = self.broker.broker.hold().await;
        parts.stop(&self.shared, &BTreeSet::new(), ids).await;
        for id in ids {
            parts.stopped.remove(id);
        }
    }

    /// Says at start what will be denied, since it may take a while until somebody tries.
    pub async fn warn_of_denials(&self) {
        let parts = self.parts.lock().await;
        let context = self.context();
        let template = &context.template;
        let mut told = BTreeSet::new();
        for call in &template.calls {
            let part = parts.running.get(&call.from);
            if !call.required || !part.is_some_and(|it| it.part.makes(call)) {
                continue;
            }
            if let Err(denial) = call.decide(&template.policies, &call.from)
                && told.insert((call.caller.to_string(), &call.action, &call.resource))
            {
                tracing::warn!(
                    resource = call.from,
                    setting = call.path,
                    "will fail: {denial}"
                );
            }
        }
    }

    /// Makes these faults happen; times count from now.
    ///
    /// # Errors
    /// There is no cache to restart, or it is not ours.
    pub async fn inject(&self, faults: &[Fault]) -> anyhow::Result<()> {
        if faults.is_empty() {
            return Ok(());
        }
        // Given once; a second time changes nothing.
        let _ = self.shared.chances.set(Arc::new(Chances::of(faults)));
        let parts = self.parts.lock().await;
        for fault in faults {
            for running in parts.running.values() {
                running.part.inject(fault, &self.shared)?;
            }
        }
        Ok(())
    }

    /// Lets clients connect; says whether they could not before.
    pub async fn serve(&self) -> bool {
        if let Some(listener) = self.broker.listener.lock().await.take() {
            let Broker { broker, stop, .. } = &self.broker;
            let serving = mqtt::serve(listener, Arc::clone(broker), stop.clone());
            *self.broker.serving.lock().await = Some(tokio::spawn(serving));
            return true;
        }
        false
    }

    /// Opens a port for devices with certificates; says where it listens.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn serve_devices(&self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        let devices = self.devices();
        let stop = self.broker.stop.child_token();
        let (address, serving) = mqtt::device::serve(
            address,
            &self.shared.authority,
            Arc::clone(&devices),
            Arc::clone(&self.broker.broker),
            stop.clone(),
        )
        .await?;
        *self.broker.devices.lock().await = Some(DevicePort {
            devices,
            address,
            stop,
            serving,
        });
        Ok(address)
    }

    fn devices(&self) -> Arc<Devices> {
        let template = Arc::clone(&self.target().plan.template);
        Arc::new(Devices::of(&template, &self.shared.data))
    }

    /// Connections that other policies let in, or not, begin again.
    async fn reopen_for_devices(&self) -> anyhow::Result<()> {
        let port = {
            let mut port = self.broker.devices.lock().await;
            let devices = self.devices();
            let is_other = |it: &mut DevicePort| !it.devices.has_policies_of(&devices);
            port.take_if(is_other)
        };
        let Some(port) = port else {
            return Ok(());
        };
        port.stop.cancel();
        let _ = port.serving.await;
        self.serve_devices(port.address).await.map(drop)
    }

    /// Returns when something has ended that cannot be started again, with the reason. Cancel safe.
    pub async fn failed(&self) -> anyhow::Error {
        let mut serving = self.broker.serving.lock().await;
        match serving.as_mut() {
            None => std::future::pending().await,
            Some(serving) => match serving.await {
                Ok(()) => anyhow!("the broker has ended"),
                Err(error) => anyhow!("the broker has ended: {error}"),
            },
        }
    }

    /// Stops everything in order and waits for it. Returns the counters in words.
    pub async fn stop(&self) -> String {
        self.broker.stop.cancel();
        if let Some(serving) = self.broker.serving.lock().await.take() {
            let _ = serving.await;
        }
        if let Some(port) = self.broker.devices.lock().await.take() {
            let _ = port.serving.await;
        }
        let streams = self.shared.handles.all::<Stream>();
        let mut parts = self.parts.lock().await;
        let all: BTreeSet<String> = parts.running.keys().cloned().collect();
        let is_stream = |id: &&String| streams.contains_key(*id);
        let but_streams = all.iter().filter(|it| !is_stream(it)).cloned().collect();
        parts
            .stop(&self.shared, &but_streams, &BTreeSet::new())
            .await;
        // What the streams still hold is known only when nobody reads them any more.
        let mut summary = self.shared.status.to_string();
        for (logical_id, stream) in &streams {
            let counts: Vec<String> = stream.counts().iter().map(u64::to_string).collect();
            summary.push_str(&format!("; {logical_id}: {} by shard", counts.join(" + ")));
            let waiting: u64 = stream.waiting().into_iter().flatten().sum();
            if waiting > 0 {
                summary.push_str(&format!(", {waiting} wait for the next run"));
            }
        }
        parts.stop(&self.shared, &all, &BTreeSet::new()).await;
        summary
    }

    /// What to tell whoever started the run; `control` is the address of its control port.
    pub fn ready(&self, control: Option<SocketAddr>) -> Event {
        let caches = self.shared.handles.all::<Cache>();
        let cache = caches.values().next();
        Event::Ready {
            mqtt: self.broker.address.to_string(),
            dashboard: self.dashboard().map(|address| format!("http://{address}/")),
            control: control.map(|it| format!("http://{it}{}", control::PIPELINE)),
            data: self.shared.data.clone(),
            redis: cache.map(|cache| cache.url().to_owned()),
        }
    }

    /// Where the broker listens.
    pub fn mqtt(&self) -> SocketAddr {
        self.broker.address
    }

    /// Where the first environment's web UI listens; `None` while no environment runs.
    pub fn dashboard(&self) -> Option<SocketAddr> {
        let plan = self.target().plan;
        let first = plan.environments.first()?;
        let environment = self.shared.handles.get::<Environment>(&first.logical_id)?;
        Some(environment.address())
    }

    /// The broker.
    pub fn broker(&self) -> &Arc<mqtt::Broker> {
        &self.broker.broker
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<RuleEngine> {
        &self.broker.rules
    }

    /// The running event source mappings by logical ID.
    pub fn mappings(&self) -> BTreeMap<String, Arc<Mapping>> {
        self.shared.handles.all()
    }

    /// The running functions by logical ID.
    pub fn functions(&self) -> BTreeMap<String, Arc<Function>> {
        self.shared.handles.all()
    }

    /// The running environments by logical ID.
    pub fn environments(&self) -> BTreeMap<String, Arc<Environment>> {
        self.shared.handles.all()
    }

    /// Addresses of the caches as programs find them, by logical ID.
    pub fn caches(&self) -> BTreeMap<String, SocketAddr> {
        let caches = self.shared.handles.all::<Cache>().into_iter();
        caches.map(|(id, cache)| (id, cache.endpoint())).collect()
    }

    /// The logs.
    pub fn logs(&self) -> &Logs {
        &self.shared.logs
    }

    /// How it is doing, with the parts that run now.
    pub fn overview(&self) -> Overview {
        Overview {
            status: Arc::clone(&self.shared.status),
            streams: self.shared.handles.all(),
            mappings: self.mappings(),
            address: match self.dashboard() {
                Some(address) => format!("http://{address}"),
                None => format!("mqtt://{}", self.mqtt()),
            },
        }
    }
}

impl Parts {
    /// Those of some parts that do not run, or whose inputs are others now.
    fn changed(
        &self,
        context: &Context,
        ids: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Failure> {
        let mut changed = BTreeSet::new();
        for id in ids {
            let is_same = match self.running.get(id) {
                None => false,
                Some(running) => {
                    let r#type = r#type(context, id);
                    let inputs = running.part.inputs(context);
                    let inputs = inputs.map_err(|error| (id.clone(), error))?;
                    running.r#type == r#type && running.inputs == inputs
                }
            };
            if !is_same {
                changed.insert(id.clone());
            }
        }
        Ok(changed)
    }

    /// Lets running parts take their new inputs over; returns those that must be restarted.
    async fn change(
        &mut self,
        context: &Context,
        changed: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Failure> {
        let mut restarted = BTreeSet::new();
        // One after the other, each after what it needs.
        for (id, running) in self
            .running
            .iter_mut()
            .filter(|(id, _)| changed.contains(*id))
        {
            let failed = |error| (id.clone(), error);
            let needs = needs(context, id);
            let holds_restarted = needs.iter().any(|it| restarted.contains(it));
            // A handle that is not there yet is taken by a start.
            let lacks = running.needs != needs && needs.iter().any(|it| changed.contains(it));
            let is_same_type = running.r#type == r#type(context, id);
            let change = if holds_restarted || lacks || !is_same_type {
                Change::Restart
            } else {
                running.part.change(context).await.map_err(failed)?
            };
            match change {
                Change::Restart => {
                    restarted.insert(id.clone());
                }
                Change::Kept => {
                    running.inputs = running.part.inputs(context).map_err(failed)?;
                    running.needs = needs;
                }
            }
        }
        Ok(restarted)
    }

    /// Stops parts and those that hold them, the last started first; returns the holders, which are to start
    /// again.
    async fn stop(
        &mut self,
        shared: &Shared,
        restarted: &BTreeSet<String>,
        removed: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let held: graph::Nodes = self
            .running
            .iter()
            .map(|(id, running)| (id.clone(), running.needs.clone()))
            .collect();
        let ended: BTreeSet<String> = restarted.union(removed).cloned().collect();
        let holders = graph::dependents(&held, &ended);
        let ids: Vec<String> = self.running.keys().rev().cloned().collect();
        for id in ids {
            if !ended.contains(&id) && !holders.contains(&id) {
                continue;
            }
            if let Some(mut running) = self.running.shift_remove(&id) {
                running.part.stop(shared).await;
                if !removed.contains(&id) {
                    self.stopped.insert(id, running.part);
                }
            }
        }
        &holders - removed
    }

    async fn start(&mut self, context: &Context, id: &str) -> anyhow::Result<()> {
        let r#type = r#type(context, id);
        let new = || service::part(&r#type, id).context("the resource is no part of a run");
        let mut part = match self.stopped.remove(id) {
            Some(part) => part,
            None => new()?,
        };
        let started = part.start(context).await;
        if let Err(error) = started {
            self.stopped.insert(id.to_owned(), part);
            return Err(error);
        }
        let running = Running {
            inputs: part.inputs(context)?,
            needs: needs(context, id),
            part,
            r#type,
        };
        self.running.insert(id.to_owned(), running);
        Ok(())
    }
}

fn r#type(context: &Context, id: &str) -> String {
    let resource = context.template.resolved.resource(id);
    resource.map_or_else(String::new, |it| it.r#type.clone())
}

/// The parts whose handles a part takes.
fn needs(context: &Context, id: &str) -> BTreeSet<String> {
    let part = service::part(&r#type(context, id), id);
    let needs = part.map_or_else(Vec::new, |it| it.needs(&context.template));
    needs.into_iter().collect()
}

/// The graph over the parts: what the template says, and the handles that they take.
fn nodes(context: &Context) -> graph::Nodes {
    let resolved = &context.template.resolved;
    let mut nodes = graph::among(resolved, |id| {
        let resource = resolved.resource(id);
        resource.is_some_and(|it| service::part(&it.r#type, id).is_some())
    });
    for (id, before) in &mut nodes {
        before.extend(needs(context, id));
    }
    nodes
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
