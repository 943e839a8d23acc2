//! Runs what stacks describe: creating a resource starts its part, changing it changes the part, and
//! deleting it stops the part. See [`local::run`].
//!
//! # Differs from AWS
//! - Another number of shards makes an empty stream.
//! - The broker and the web UI of the first stack listen at the addresses of the command line; those
//!   of another stack at free ones. Clients can connect when the stack's first operation is through.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use cfn::evaluate::ManagedPolicies;
use cfn::resolve::{Resolved, ResolvedResource};
use serde_json::{Value as Json, json};

use super::artifact;
use super::engine::Engine;
use super::stack::{Phase, Stack};
use super::store::StackCell;
use super::version::Target;
use crate::account::Account;
use local::beanstalk::part::version;
use local::paths::Programs;
use local::plan::Plan;
use local::run::{Options, Run};
use local::service;

const FUNCTION: &str = "AWS::Lambda::Function";
const ENVIRONMENT: &str = "AWS::ElasticBeanstalk::Environment";

/// Why a stack does not run: the logical ID of the part, if there is one, and what happened.
pub(super) type Refusal = (Option<String>, String);

#[derive(Debug)]
pub(super) struct Runner {
    account: Arc<Account>,
    /// The operation, or its way back, that each stack's run is aimed at; by the stack's ID.
    aims: tokio::sync::Mutex<HashMap<String, String>>,
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

impl Runner {
    pub(super) fn new(account: Arc<Account>) -> Runner {
        Runner {
            account,
            aims: tokio::sync::Mutex::default(),
        }
    }

    /// Returns when the part that a resource stands for runs as the resource is to be; at once for other
    /// resources.
    ///
    /// # Errors
    /// Why it does not run.
    pub(super) async fn part(
        &self,
        engine: &Engine,
        cell: &StackCell,
        logical_id: &str,
        r#type: &str,
    ) -> Result<(), String> {
        if !self.account.settings.run || service::part(r#type, logical_id).is_none() {
            return Ok(());
        }
        let brought_up = self.bring_up(engine, cell, logical_id).await;
        if r#type == ENVIRONMENT {
            let physical_id = cell
                .read()
                .resources
                .get(logical_id)
                .map(|it| it.physical_id.clone());
            let name = physical_id.unwrap_or_default();
            match &brought_up {
                Ok(()) => self.account.tell_of_environment(
                    &name,
                    "INFO",
                    format!("Successfully launched environment: {name}"),
                ),
                Err(reason) => self.explain(r#type, &name, reason),
            }
        }
        brought_up
    }

    async fn bring_up(
        &self,
        engine: &Engine,
        cell: &StackCell,
        logical_id: &str,
    ) -> Result<(), String> {
        let run = self.aimed(engine, cell).await.map_err(|(_, it)| it)?;
        let Some(run) = run else { return Ok(()) };
        let plan = run.plan();
        if let Some(resource) = plan.template.resolved.resource(logical_id) {
            self.bring(cell, &plan, resource).await?;
        }
        let only = BTreeSet::from([logical_id.to_owned()]);
        let brought_up = run.bring_up(Some(&only)).await;
        brought_up.map_err(|(_, error)| format!("{error:#}"))?;
        self.account.run_changed(&cell.id, &run);
        Ok(())
    }

    /// Lets Beanstalk tell why an environment failed.
    pub(super) fn explain(&self, r#type: &str, physical_id: &str, reason: &str) {
        if r#type == ENVIRONMENT {
            let account = &self.account;
            account.tell_of_environment(physical_id, "ERROR", reason);
            account.tell_of_environment(
                physical_id,
                "ERROR",
                "Create environment operation is complete, but with errors. For more information, see troubleshooting documentation.",
            );
        }
    }

    /// Brings up what other resources of the operation decide about, stops what the template does not
    /// have any more, and lets clients connect. Does nothing when nothing that runs is concerned.
    ///
    /// # Errors
    /// What did not start.
    pub(super) async fn finish(&self, engine: &Engine, cell: &StackCell) -> Result<(), Refusal> {
        if !self.account.settings.run {
            return Ok(());
        }
        let concerns = {
            let stack = cell.read();
            let steps = stack.operation.iter().flat_map(|it| it.steps.values());
            let mut types = steps.map(|it| it.r#type.as_str());
            types.any(service::concerns) || has_lost_a_part(&stack)
        };
        if concerns {
            self.complete(engine, cell).await?;
        }
        Ok(())
    }

    /// Starts the run of a stack on which nothing is under way.
    pub(super) async fn resume(&self, engine: &Engine, cell: &StackCell) {
        if !self.account.settings.run {
            return;
        }
        if let Err((id, reason)) = self.complete(engine, cell).await {
            let name = cell.read().name.clone();
            tracing::error!("{name}: {}: {reason}", id.as_deref().unwrap_or("its run"));
        }
    }

    async fn complete(&self, engine: &Engine, cell: &StackCell) -> Result<(), Refusal> {
        let Some(run) = self.aimed(engine, cell).await? else {
            return Ok(());
        };
        let plan = run.plan();
        let resolved = &plan.template.resolved;
        let with_artifact = resolved
            .resources
            .values()
            .filter(|it| matches!(it.r#type.as_str(), FUNCTION | ENVIRONMENT));
        for resource in with_artifact {
            let id = &resource.logical_id;
            let runs = run.functions().contains_key(id) || run.environments().contains_key(id);
            if !runs {
                let brought = self.bring(cell, &plan, resource).await;
                brought.map_err(|reason| (Some(id.clone()), reason))?;
            }
        }
        let brought_up = run.bring_up(None).await;
        brought_up.map_err(|(id, error)| (Some(id), format!("{error:#}")))?;
        run.warn_of_denials().await;
        if run.serve().await {
            self.account.settings.reporter.tell(&run.ready(None));
        }
        self.account.run_changed(&cell.id, &run);
        Ok(())
    }

    /// The run of a stack, aimed at what the operation at hand, or its way back, leads to. `None`: nothing
    /// of it runs here.
    async fn aimed(&self, engine: &Engine, cell: &StackCell) -> Result<Option<Arc<Run>>, Refusal> {
        let unknown = |reason: String| (None, reason);
        let mut aims = self.aims.lock().await;
        let stack = cell.read().clone();
        let aim = match &stack.operation {
            Some(operation) => format!("{} {:?}", operation.id, operation.phase),
            None => "resumed".to_owned(),
        };
        let known = self.account.pipeline(&cell.id);
        let known = match known {
            Some(known) => known.pipeline.read().await.clone(),
            None => None,
        };
        if known.is_some() && aims.get(&cell.id) == Some(&aim) {
            return Ok(known);
        }
        let Target {
            document, context, ..
        } = wanted(engine, &stack).map_err(unknown)?;
        let plan = Plan::of(document, context, &engine.managed_policies())
            .map_err(|error| unknown(error.to_string()))?;
        let programs = self.programs(&stack, &plan.template.resolved);
        let run = match known {
            Some(run) => {
                run.aim(plan, programs);
                run
            }
            None if !has_parts(&plan.template.resolved) => return Ok(None),
            None => {
                let opened = self.open(&stack, plan).await;
                let run = opened.map_err(|error| unknown(format!("{error:#}")))?;
                run.aim(run.plan(), programs);
                run
            }
        };
        aims.insert(cell.id.clone(), aim);
        Ok(Some(run))
    }

    async fn open(&self, stack: &Stack, plan: Plan) -> anyhow::Result<Arc<Run>> {
        let settings = &self.account.settings;
        let others = self.account.pipelines(&stack.region);
        let is_first = others.iter().all(|it| it.stack_id == stack.id);
        let free = |mut address: SocketAddr| {
            if !is_first {
                address.set_port(0);
            }
            address
        };
        let options = Options {
            functions: Vec::new(),
            bundles: Vec::new(),
            mqtt: free(settings.mqtt),
            dashboard: free(settings.dashboard),
            redis: settings.redis.clone(),
            data: self.folder(stack),
        };
        let store = Some(Arc::clone(&self.account.store));
        let run = Run::open(plan, &options, settings.reporter, store).await?;
        let run = Arc::new(run);
        let place = self.account.place(&stack.region, &stack.id, &stack.name);
        *place.pipeline.write().await = Some(Arc::clone(&run));
        Ok(run)
    }

    /// The folder of a stack's run.
    fn folder(&self, stack: &Stack) -> PathBuf {
        let data = &self.account.settings.data;
        data.join("pipelines").join(stack.uuid())
    }

    /// The folder of a resource's unpacked artifact.
    fn artifact(&self, stack: &Stack, logical_id: &str) -> PathBuf {
        self.folder(stack).join("artifacts").join(logical_id)
    }

    /// Where the artifacts are, once they are brought.
    fn programs(&self, stack: &Stack, resolved: &Resolved) -> Programs {
        let paths = |r#type: &'static str, file: &'static str| {
            let resources = resolved.of_type(r#type);
            let paths = resources.map(|it| {
                let folder = self.artifact(stack, &it.logical_id);
                (it.logical_id.clone(), folder.join(file))
            });
            paths.collect()
        };
        Programs {
            binaries: paths(FUNCTION, "bootstrap"),
            bundles: paths(ENVIRONMENT, ""),
        }
    }

    /// Brings the artifact of a function or an environment to where its part finds it; does nothing for
    /// other resources.
    async fn bring(
        &self,
        cell: &StackCell,
        plan: &Plan,
        resource: &ResolvedResource,
    ) -> Result<(), String> {
        let folder = self.artifact(&cell.read().clone(), &resource.logical_id);
        let (properties, pointer, by) = match resource.r#type.as_str() {
            FUNCTION => (&resource.properties, "/Code", "Lambda"),
            ENVIRONMENT => {
                let version = version(&plan.template, resource);
                let version = version.ok_or_else(|| {
                    "No Application Version was found: VersionLabel names none of this template"
                        .to_owned()
                })?;
                (&version.properties, "/SourceBundle", "AWSElasticBeanstalk")
            }
            _ => return Ok(()),
        };
        let buckets = self.account.buckets();
        let brought = artifact::bring(buckets, properties, pointer, by, folder.clone());
        brought.await?;
        if resource.r#type == FUNCTION && !folder.join("bootstrap").exists() {
            return Err("the function's archive has no file `bootstrap` at its root".to_owned());
        }
        Ok(())
    }

    /// Stops the part that a resource stood for, if it is one.
    pub(super) async fn remove(&self, stack_id: &str, logical_id: &str) {
        if let Some(run) = self.running(stack_id).await {
            run.remove(&BTreeSet::from([logical_id.to_owned()])).await;
        }
    }

    /// Stops the run of a stack for good.
    pub(super) async fn end(&self, stack_id: &str) {
        self.aims.lock().await.remove(stack_id);
        if let Some(place) = self.account.pipeline(stack_id) {
            let run = place.pipeline.write().await.take();
            if let Some(run) = run {
                let summary = run.stop().await;
                tracing::info!("{} has stopped: {summary}", place.stack_name);
            }
            self.account.vacate(stack_id);
        }
    }

    async fn running(&self, stack_id: &str) -> Option<Arc<Run>> {
        let place = self.account.pipeline(stack_id)?;
        let run = place.pipeline.read().await;
        run.clone()
    }

    /// Addresses that exist since the parts run: logical ID → attribute → value.
    pub(super) async fn addresses(
        &self,
        stack_id: &str,
    ) -> BTreeMap<String, BTreeMap<String, Json>> {
        let mut addresses: BTreeMap<String, BTreeMap<String, Json>> = BTreeMap::new();
        let Some(run) = self.running(stack_id).await else {
            return addresses;
        };
        for (id, environment) in run.environments() {
            let attributes = addresses.entry(id).or_default();
            let address = environment.address().to_string();
            attributes.insert("EndpointURL".to_owned(), json!(address));
        }
        for (id, address) in run.caches() {
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

    /// Stops every run in order; the stacks stay as they are.
    pub(super) async fn stop(&self) {
        let ids: Vec<String> = self.aims.lock().await.keys().cloned().collect();
        for id in ids {
            self.end(&id).await;
        }
    }
}

/// Whether a template has a part that runs.
fn has_parts(resolved: &Resolved) -> bool {
    let mut resources = resolved.resources.values();
    resources.any(|it| service::part(&it.r#type, &it.logical_id).is_some())
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
    gone.into_iter()
        .any(|(_, it)| service::concerns(&it.r#type))
}
