//! Runs what stacks describe: starts the pipeline of a stack from the uploaded artifacts, starts it
//! again when an update changes something that it depends on, and stops it.
//!
//! # Differs from AWS
//! - A changed part is not exchanged alone: the stack's pipeline is started again in place, and only
//!   caches and streams stay, with their data, as long as their own settings are the same. Clients
//!   connect again; browsers do so by themselves.
//! - Another number of shards makes an empty stream.
//! - When the cloud itself is started again, caches begin empty.
//! - The broker and the web UI of the first stack listen at the addresses of the command line; those
//!   of another stack at free ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cfn::evaluate::ManagedPolicies;
use serde_json::{Value as Json, json};
use tokio::task::AbortHandle;

use super::artifact;
use super::engine::Engine;
use super::gate::{Part, Refusal, Turnstile, turn};
use super::stack::{Phase, Progress, Stack};
use super::store::StackCell;
use super::version::Target;
use crate::cli::ForResource;
use crate::cloud::account::Account;
use crate::pipeline::{Kept, Options, Pipeline, Surroundings};
use crate::plan::{self, Plan};

#[derive(Debug)]
pub(super) struct Runner {
    account: Arc<Account>,
    starts: Mutex<HashMap<String, Start>>,
    /// What a stack's next start goes on with, by the stack's ID.
    left: Mutex<HashMap<String, Left>>,
}

/// One start of a stack's pipeline.
#[derive(Clone, Debug)]
struct Start {
    /// What it is part of; another operation starts anew.
    occasion: String,
    gate: Arc<Turnstile>,
    task: AbortHandle,
}

impl Engine {
    /// Documents of the managed policies that the account's stacks have made, by ARN: a stack's roles may have
    /// one of another stack as their permissions boundary.
    fn managed_policies(&self) -> ManagedPolicies {
        let mut policies = ManagedPolicies::new();
        for cell in self.stacks.all() {
            let stack = cell.read();
            for resource in stack.resources.values() {
                if resource.r#type == "AWS::IAM::ManagedPolicy"
                    && let Some(settled) = &resource.settled
                {
                    let document = settled.properties["PolicyDocument"].clone();
                    policies.insert(resource.physical_id.clone(), document);
                }
            }
        }
        policies
    }
}

/// What a pipeline that was stopped has left.
#[derive(Clone, Debug)]
struct Left {
    kept: Kept,
    mqtt: SocketAddr,
    dashboard: Option<SocketAddr>,
}

impl Runner {
    pub(super) fn new(account: Arc<Account>) -> Runner {
        Runner {
            account,
            starts: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// Returns when the part that a resource stands for runs; at once for other resources.
    ///
    /// # Errors
    /// Why it does not run.
    pub(super) async fn part(
        &self,
        engine: &Arc<Engine>,
        cell: &Arc<StackCell>,
        logical_id: &str,
        r#type: &str,
    ) -> Result<(), String> {
        let Some(turn) = turn(r#type).filter(|_| self.account.settings.run) else {
            return Ok(());
        };
        let start = self.begin(engine, cell);
        start.gate.open(logical_id);
        let runs = start.gate.runs(logical_id, turn).await;
        if r#type == "AWS::ElasticBeanstalk::Environment" {
            let physical_id = cell
                .read()
                .resources
                .get(logical_id)
                .map(|it| it.physical_id.clone());
            let name = physical_id.unwrap_or_default();
            match &runs {
                Ok(()) => self.account.tell_of_environment(
                    &name,
                    "INFO",
                    format!("Successfully launched environment: {name}"),
                ),
                Err(reason) => self.explain(r#type, &name, reason),
            }
        }
        runs
    }

    /// Lets Beanstalk tell why an environment failed.
    pub(super) fn explain(&self, r#type: &str, physical_id: &str, reason: &str) {
        if r#type == "AWS::ElasticBeanstalk::Environment" {
            let account = &self.account;
            account.tell_of_environment(physical_id, "ERROR", reason);
            account.tell_of_environment(
                physical_id,
                "ERROR",
                "Create environment operation is complete, but with errors. For more information, see troubleshooting documentation.",
            );
        }
    }

    /// Brings everything up that no resource of the operation has waited for. Does nothing when
    /// nothing of the pipeline has changed.
    ///
    /// # Errors
    /// What did not start.
    pub(super) async fn finish(
        &self,
        engine: &Arc<Engine>,
        cell: &Arc<StackCell>,
    ) -> Result<(), Refusal> {
        if !self.account.settings.run {
            return Ok(());
        }
        let concerns = {
            let stack = cell.read();
            let steps = stack.operation.iter().flat_map(|it| it.steps.values());
            let mut types = steps.map(|it| it.r#type.as_str());
            types.any(plan::concerns) || has_lost_a_part(&stack)
        };
        if !concerns {
            return Ok(());
        }
        let start = self.begin(engine, cell);
        start.gate.open_all();
        start.gate.ended().await
    }

    /// Starts the pipeline of a stack on which nothing is under way.
    pub(super) async fn resume(&self, engine: &Arc<Engine>, cell: &Arc<StackCell>) {
        if !self.account.settings.run {
            return;
        }
        let start = self.begin(engine, cell);
        start.gate.open_all();
        if let Err((id, reason)) = start.gate.ended().await {
            let name = cell.read().name.clone();
            tracing::error!(
                "{name}: {}: {reason}",
                id.as_deref().unwrap_or("its pipeline")
            );
        }
    }

    /// The start of the operation at hand, begun if it is not.
    fn begin(&self, engine: &Arc<Engine>, cell: &Arc<StackCell>) -> Start {
        let occasion = {
            let stack = cell.read();
            match &stack.operation {
                Some(operation) => format!("{} {:?}", operation.id, operation.phase),
                None => "restart".to_owned(),
            }
        };
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = starts.get(&cell.id)
            && start.occasion == occasion
        {
            return start.clone();
        }
        if let Some(old) = starts.remove(&cell.id) {
            old.task.abort();
        }
        let gate = Arc::new(Turnstile::new());
        let task = engine.spawn({
            let (engine, cell, gate) = (Arc::clone(engine), Arc::clone(cell), Arc::clone(&gate));
            async move {
                let result = engine.runner.bring_up(&engine, &cell, &gate).await;
                if let Err((id, reason)) = &result {
                    tracing::debug!("{}: {reason}", id.as_deref().unwrap_or("pipeline"));
                }
                gate.end(result);
            }
        });
        let start = Start {
            occasion,
            gate,
            task,
        };
        starts.insert(cell.id.clone(), start.clone());
        start
    }

    async fn bring_up(
        &self,
        engine: &Arc<Engine>,
        cell: &Arc<StackCell>,
        gate: &Arc<Turnstile>,
    ) -> Result<(), Refusal> {
        let unknown = |reason: String| (None, reason);
        let snapshot = cell.read().clone();
        let target = wanted(engine, &snapshot).map_err(unknown)?;
        let Target {
            document,
            context,
            resolved,
        } = target;
        let parts = parts(&resolved);
        for id in already_there(&snapshot, &parts) {
            gate.open(&id);
        }
        if parts.is_empty() {
            self.vacate_place(&cell.id).await;
            return Ok(());
        }
        let data = self
            .account
            .settings
            .data
            .join("pipelines")
            .join(snapshot.uuid());
        let mut broken = BTreeMap::new();
        let functions = self
            .artifacts(&resolved, &data, "AWS::Lambda::Function", &mut broken)
            .await;
        let bundles = self
            .artifacts(
                &resolved,
                &data,
                "AWS::ElasticBeanstalk::Environment",
                &mut broken,
            )
            .await;
        gate.introduce(parts, broken);
        let plan = Plan::of(document, context, &engine.managed_policies())
            .map_err(|error| unknown(error.to_string()))?;

        let left = self.take_down(&snapshot).await;
        let settings = &self.account.settings;
        let is_first = self
            .account
            .pipelines(&snapshot.region)
            .iter()
            .all(|it| it.stack_id == cell.id);
        let free = |mut address: SocketAddr| {
            if !is_first {
                address.set_port(0);
            }
            address
        };
        let options = Options {
            functions,
            bundles,
            mqtt: left
                .as_ref()
                .map_or_else(|| free(settings.mqtt), |it| it.mqtt),
            dashboard: left
                .as_ref()
                .and_then(|it| it.dashboard)
                .unwrap_or_else(|| free(settings.dashboard)),
            redis: settings.redis.clone(),
            data,
        };
        let surroundings = Surroundings {
            store: Some(Arc::clone(&self.account.store)),
            gate: Some(gate.clone()),
            kept: left.map(|it| it.kept).unwrap_or_default(),
        };
        let place = self
            .account
            .place(&snapshot.region, &cell.id, &snapshot.name);
        let started = tokio::select! {
            biased;
            refusal = gate.refused() => Err(refusal),
            started = Pipeline::start_in(plan, options, settings.reporter, surroundings) => {
                started.map_err(|error| (gate.current(), format!("{error:#}")))
            }
        }?;
        settings.reporter.tell(&started.ready(None));
        self.account.pipeline_started(&cell.id, &started);
        *place.pipeline.write().await = Some(started);
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.remove(&cell.id);
        Ok(())
    }

    /// Stops what runs of a stack, and says what the next start goes on with.
    async fn take_down(&self, stack: &Stack) -> Option<Left> {
        if let Some(place) = self.account.pipeline(&stack.id) {
            let running = place.pipeline.write().await.take();
            if let Some(running) = running {
                let (mqtt, dashboard) = (running.mqtt(), running.dashboard());
                let (kept, summary) = running.stop_keeping().await;
                tracing::info!("{} is started again; until now: {summary}", stack.name);
                let left = Left {
                    kept,
                    mqtt,
                    dashboard,
                };
                let mut all = self.left.lock().unwrap_or_else(PoisonError::into_inner);
                all.insert(stack.id.clone(), left);
            }
        }
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.get(&stack.id).cloned()
    }

    /// Programs and bundles by logical ID. What cannot be brought is a path that leads nowhere, and
    /// `broken` says why.
    async fn artifacts(
        &self,
        resolved: &cfn::resolve::Resolved,
        data: &Path,
        r#type: &str,
        broken: &mut BTreeMap<String, String>,
    ) -> Vec<ForResource> {
        let mut paths = Vec::new();
        for resource in resolved.of_type(r#type) {
            let id = &resource.logical_id;
            let folder = data.join("artifacts").join(id);
            let is_function = r#type == "AWS::Lambda::Function";
            let found = if is_function {
                let code = &resource.properties;
                self.bring(code, "/Code", "Lambda", &folder).await
            } else {
                match version_of(resolved, resource) {
                    Some(version) => {
                        let properties = &version.properties;
                        self.bring(properties, "/SourceBundle", "AWSElasticBeanstalk", &folder).await
                    }
                    None => Err(
                        "No Application Version was found: VersionLabel names none of this template".to_owned(),
                    ),
                }
            };
            if let Err(reason) = found {
                broken.insert(id.clone(), reason);
            }
            // A path must be there for a start that never comes to it.
            let path = if is_function {
                folder.join("bootstrap")
            } else {
                folder.clone()
            };
            if !path.exists() {
                let made = std::fs::create_dir_all(&folder);
                let made = made.and_then(|()| {
                    if is_function {
                        std::fs::write(&path, [])
                    } else {
                        Ok(())
                    }
                });
                if let Err(error) = made {
                    broken.insert(id.clone(), format!("make {}: {error}", path.display()));
                } else if is_function {
                    broken.entry(id.clone()).or_insert_with(|| {
                        "the function's archive has no file `bootstrap` at its root".to_owned()
                    });
                }
            }
            paths.push(ForResource {
                logical_id: Some(id.clone()),
                path,
            });
        }
        paths
    }

    async fn bring(
        &self,
        properties: &Json,
        pointer: &str,
        service: &str,
        folder: &Path,
    ) -> Result<(), String> {
        let buckets = self.account.buckets();
        let brought = artifact::bring(buckets, properties, pointer, service, folder.to_owned());
        brought.await.map(drop)
    }

    /// Stops the pipeline of a stack for good.
    pub(super) async fn vacate(&self, stack_id: &str) {
        let start = {
            let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
            starts.remove(stack_id)
        };
        if let Some(start) = start {
            start.task.abort();
        }
        self.vacate_place(stack_id).await;
        let left = {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.remove(stack_id)
        };
        if let Some(left) = left {
            left.kept.stop().await;
        }
    }

    async fn vacate_place(&self, stack_id: &str) {
        if let Some(place) = self.account.pipeline(stack_id) {
            let running = place.pipeline.write().await.take();
            if let Some(running) = running {
                let summary = running.stop().await;
                tracing::info!("{} has stopped: {summary}", place.stack_name);
            }
            self.account.vacate(stack_id);
        }
    }

    /// Addresses that exist since the pipeline runs: logical ID → attribute → value.
    pub(super) async fn addresses(
        &self,
        stack_id: &str,
    ) -> BTreeMap<String, BTreeMap<String, Json>> {
        let mut addresses: BTreeMap<String, BTreeMap<String, Json>> = BTreeMap::new();
        let Some(place) = self.account.pipeline(stack_id) else {
            return addresses;
        };
        let pipeline = place.pipeline.read().await;
        let Some(pipeline) = pipeline.as_ref() else {
            return addresses;
        };
        for (id, environment) in pipeline.environments() {
            let attributes = addresses.entry(id.clone()).or_default();
            let address = environment.address().to_string();
            attributes.insert("EndpointURL".to_owned(), json!(address));
        }
        for (id, address) in pipeline.caches() {
            let attributes = addresses.entry(id).or_default();
            for endpoint in ["PrimaryEndPoint", "ReaderEndPoint", "ConfigurationEndPoint"] {
                let host = json!(address.ip().to_string());
                let port = json!(address.port().to_string());
                attributes.insert(format!("{endpoint}.Address"), host);
                attributes.insert(format!("{endpoint}.Port"), port);
            }
        }
        addresses
    }

    /// Stops every pipeline in order; the stacks stay as they are.
    pub(super) async fn stop(&self) {
        let ids: Vec<String> = {
            let starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
            starts.keys().cloned().collect()
        };
        for id in ids {
            self.vacate(&id).await;
        }
    }
}

/// The template that shall run: with the physical IDs that the operation leads to.
fn wanted(engine: &Engine, stack: &Stack) -> Result<Target, String> {
    let version = stack.version.as_ref().ok_or("the stack has no template")?;
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    if let Some(operation) = &stack.operation {
        match operation.phase {
            Phase::Create | Phase::Update | Phase::Import => {
                let steps = operation.steps.iter();
                known.extend(steps.map(|(id, step)| (id.clone(), step.physical_id.clone())));
            }
            Phase::UpdateRollback => {
                let before = operation.before.iter().flat_map(|it| &it.resources);
                known.extend(before.map(|(id, it)| (id.clone(), it.physical_id.clone())));
            }
            _ => {}
        }
    }
    let target = engine.target(stack, version, &known);
    target.map_err(|failure| failure.message)
}

/// The parts of a pipeline, with everything that they need.
fn parts(resolved: &cfn::resolve::Resolved) -> BTreeMap<String, Part> {
    let mut parts = BTreeMap::new();
    for (id, resource) in &resolved.resources {
        let Some(turn) = turn(&resource.r#type) else {
            continue;
        };
        let mut needs = BTreeSet::new();
        let mut open: Vec<&str> = resource.depends_on.iter().map(String::as_str).collect();
        while let Some(next) = open.pop() {
            if needs.insert(next.to_owned())
                && let Some(next) = resolved.resource(next)
            {
                open.extend(next.depends_on.iter().map(String::as_str));
            }
        }
        parts.insert(id.clone(), Part { turn, needs });
    }
    parts
}

/// Parts for which no resource has to be waited for: the operation does not touch them, or has done so.
fn already_there(stack: &Stack, parts: &BTreeMap<String, Part>) -> Vec<String> {
    let operation = stack.operation.as_ref();
    let waits = |id: &str| {
        let Some(operation) = operation else {
            return false;
        };
        let step = operation.steps.get(id);
        match operation.phase {
            Phase::Create | Phase::Update | Phase::Import => {
                step.is_some_and(|it| it.progress != Progress::Done)
            }
            Phase::UpdateRollback => step
                .is_some_and(|it| !matches!(it.progress, Progress::Waiting | Progress::Restored)),
            _ => false,
        }
    };
    parts.keys().filter(|id| !waits(id)).cloned().collect()
}

/// Whether the new template lacks a resource that matters to what runs.
fn has_lost_a_part(stack: &Stack) -> bool {
    let Some(version) = &stack.version else {
        return false;
    };
    let Ok(document) = super::version::parse(&version.template) else {
        return false;
    };
    let names = super::version::conditional(&document, version, &stack.region);
    let gone = stack
        .resources
        .iter()
        .filter(|(id, _)| !names.contains(*id));
    gone.into_iter().any(|(_, it)| plan::concerns(&it.r#type))
}

/// The application version that an environment runs.
fn version_of<'a>(
    resolved: &'a cfn::resolve::Resolved,
    environment: &cfn::resolve::ResolvedResource,
) -> Option<&'a cfn::resolve::ResolvedResource> {
    let label = environment.text("/VersionLabel")?;
    resolved.find("AWS::ElasticBeanstalk::ApplicationVersion", &label)
}
