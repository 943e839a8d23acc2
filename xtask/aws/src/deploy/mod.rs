//! `deploy`: two stacks, the artifacts between them, and nothing done that is done already.
//!
//! Each step leaves something that the same command, run again, finds and goes on from: a stack in
//! whatever state ([`Operator::settle`]), artifacts by their contents, the platform in its file.
//! What does not wait for something else is done beside it.

mod cost;
pub(crate) mod engine;
pub(crate) mod parameters;
pub(crate) mod plan;
pub(crate) mod platform;
pub(crate) mod rehearsal;
pub(crate) mod role_policy;

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use serde_json::json;
use stack::{Stage, artifacts as artifacts_stack, parameters as stack_parameters};

use crate::arguments::Deploy;
use crate::artifact::{self, Artifact, Programs};
use crate::aws::beanstalk;
use crate::aws::elasticache;
use crate::aws::s3;
use crate::aws::{CallFailed, Cloud};
use crate::bootstrap;
use crate::doctor;
use crate::screen::progress::Output;
use crate::stack::call::{self, ChangeSet, Examined, Stack};
use crate::stack::change::{Change, Planned};
use crate::stack::event::Events;
use crate::stack::operation::{Ended, Operator, StartingState};
use crate::stack::state::State;

use crate::artifact::sbom;
use crate::artifact::unused;
use crate::artifact::upload;
use crate::destroy::sources;
use crate::outputs;
use crate::smoke;
use crate::stack::transient;

pub(crate) async fn run(arguments: Deploy) -> anyhow::Result<()> {
    let stage = arguments.stage;
    if arguments.role_policy {
        return role_policy::print(stage).await;
    }
    let began = SystemTime::now();
    let output = Output::new(arguments.json);
    rehearsal::check(&arguments)?;
    let mut stacks = synth(stage)?;
    stacks[1].template = rehearsal::set(&stacks[1].template, &arguments.set)?;
    let cloud = Cloud::connect(Duration::from_millis(arguments.poll)).await?;
    let [first, main] = &stacks;
    // A call that fails because of the credentials is explained by the one that asks for them.
    let (identity, bootstrap, found_first, found_main) = tokio::try_join!(
        cloud.identity(),
        async { anyhow::Ok(bootstrap::find(&cloud).await) },
        async { anyhow::Ok(call::find(&cloud, &first.name).await) },
        async { anyhow::Ok(call::find(&cloud, &main.name).await) },
    )?;
    output.say(format!(
        "stage {stage} in account {}, region {}",
        identity.account, cloud.region
    ));
    let bootstrap = bootstrap::known(output, bootstrap)?;
    if let Some(bootstrap) = &bootstrap {
        output.say(format!(
            "CloudFormation acts by the service role {}",
            bootstrap.service_role
        ));
    }
    for found in [&found_first, &found_main] {
        if let Ok(Some(stack)) = found {
            bootstrap::check_role(stack, bootstrap.as_ref())?;
        }
    }
    let deployment = Deployment {
        arguments: &arguments,
        output,
        began,
        first: Operator::new(&cloud, output, stage, first)?.by(bootstrap.as_ref()),
        main: Operator::new(&cloud, output, stage, main)?.by(bootstrap.as_ref()),
        boundary: bootstrap.map(|it| it.boundary),
        cloud,
        first_template: &first.template,
        template: &main.template,
    };
    if let Some(name) = arguments.plan.as_deref().filter(|name| !name.is_empty()) {
        return deployment.resume(name).await;
    }
    if arguments.plan.is_some() {
        plannable([&found_first, &found_main], stage)?;
    }
    // What is in the way of the main stack is found before anything is built.
    let footing = footing(&deployment.main, found_main, &arguments.skip).await?;
    let existing = match &footing {
        StartingState::Existing(stack) => Some(&stack.parameters),
        StartingState::New => None,
    };
    let region = &deployment.cloud.region;
    parameters::check(&arguments, &main.template, existing, region)?;
    doctor::before_deploying(&deployment.cloud, output, &arguments, is_new(&footing)).await?;
    deployment.run(footing, found_first).await
}

/// One call of `deploy`.
struct Deployment<'a> {
    arguments: &'a Deploy,
    cloud: Cloud,
    output: Output,
    began: SystemTime,
    /// The stack of the artifacts' bucket.
    first: Operator,
    /// The stack of everything else.
    main: Operator,
    /// The bootstrap's permissions boundary, for every role.
    boundary: Option<String>,
    first_template: &'a str,
    template: &'a str,
}

/// The main stack as it is.
struct Deployed {
    stack: Stack,
    template: String,
    /// The platform that the environment runs on, or the one that it was deployed with.
    platform: Option<String>,
    /// The engine version that the cache runs, or the one that it was deployed with.
    engine: Option<String>,
}

/// What the parameters of the main stack come from.
struct Parts<'a> {
    boundary: Option<&'a String>,
    bucket: &'a str,
    packaged: &'a [Artifact; 2],
    platform: &'a str,
    /// Version of the cache's engine.
    engine: &'a str,
}

impl Deployment<'_> {
    async fn run(
        &self,
        footing: StartingState,
        found_first: Result<Option<Stack>, CallFailed>,
    ) -> anyhow::Result<()> {
        let (bucket, (programs, lists), deployed) = tokio::try_join!(
            self.artifacts_bucket(found_first),
            self.programs(),
            self.deployed(footing)
        )?;
        let packaged = self.package(programs, deployed.as_ref()).await?;
        let mut uploads = packaged.to_vec();
        uploads.extend(
            lists
                .into_iter()
                .zip(&packaged)
                .map(|(list, of)| sbom::beside(of, list)),
        );
        let (platform, ()) = tokio::try_join!(
            self.platform(deployed.as_ref()),
            self.upload(&bucket, &uploads)
        )?;
        let engine = self.engine(deployed.as_ref());
        let parts = Parts {
            boundary: self.boundary.as_ref(),
            bucket: &bucket,
            packaged: &packaged,
            platform: &platform,
            engine: &engine,
        };
        self.main_stack(deployed, &parts).await
    }

    /// Brings up the first stack and returns the name of its bucket.
    async fn artifacts_bucket(
        &self,
        found: Result<Option<Stack>, CallFailed>,
    ) -> anyhow::Result<String> {
        let operator = &self.first;
        let existing = match footing(operator, found, &[]).await? {
            StartingState::Existing(stack) => {
                let template = call::template(&self.cloud, &stack.id).await?;
                Some((stack, template))
            }
            StartingState::New => None,
        };
        let existing = existing
            .as_ref()
            .map(|(stack, template)| (stack, template.as_str()));
        let change = Change {
            operator,
            existing,
            template: self.first_template,
            parameters: Vec::new(),
            store: None,
        };
        let changed = match change.prepare().await? {
            None => None,
            Some(planned) => {
                planned.show(operator.output, &operator.stack, existing.is_none());
                // A new bucket hurts nobody; a change of the one in use is somebody's decision.
                let question = format!("change `{}` first? [y/N] ", operator.stack);
                if existing.is_some() {
                    self.confirm(&planned, operator, &question, false).await?;
                }
                let ended = execute(operator, &planned.change_set).await?;
                operator.check(ended, wanted(existing.is_none()))?;
                call::find(&self.cloud, &planned.change_set.stack_id).await?
            }
        };
        let stack = changed.as_ref().or(existing.map(|(stack, _)| stack));
        stack
            .and_then(|stack| stack.output(artifacts_stack::BUCKET_OUTPUT))
            .map(str::to_owned)
            .with_context(|| {
                format!(
                    "`{}` has no output `{}`: look at the stack in the CloudFormation console",
                    operator.stack,
                    artifacts_stack::BUCKET_OUTPUT
                )
            })
    }

    /// Builds both programs, or reads those that were given; with the lists of what is in those that
    /// were built.
    async fn programs(&self) -> anyhow::Result<(Programs, Vec<String>)> {
        let arguments = self.arguments;
        let arch = arguments.stage.config().arch;
        if let (Some(function), Some(webui)) = (&arguments.function, &arguments.webui) {
            let programs = artifact::read(function, webui)?;
            if !arguments.any_architecture {
                artifact::check(&programs, arch)?;
            }
            return Ok((programs, Vec::new()));
        }
        let started = Instant::now();
        self.output
            .say("building the function and the web UI for AWS meanwhile");
        let root = root()?;
        let (programs, lists) =
            tokio::try_join!(artifact::build(&root, arch), sbom::of_both(&root, arch))?;
        let seconds = started.elapsed().as_secs_f64();
        self.output
            .say(format!("the programs are built in {seconds:.1} s"));
        artifact::check(&programs, arch)?;
        Ok((programs, lists))
    }

    /// Reads what is deployed, and switches on again what an interrupted destroy switched off.
    async fn deployed(&self, footing: StartingState) -> anyhow::Result<Option<Deployed>> {
        let StartingState::Existing(stack) = footing else {
            return Ok(None);
        };
        let (template, resources) =
            tokio::try_join!(call::template(&self.cloud, &stack.id), async {
                Ok(call::resources(&self.cloud, &stack.id).await?)
            })?;
        let of_type = |r#type: &'static str| {
            let found = resources
                .iter()
                .find(|it| it.resource_type() == Some(r#type));
            found.and_then(|it| it.physical_resource_id())
        };
        let environment = of_type("AWS::ElasticBeanstalk::Environment");
        let cache = of_type("AWS::ElastiCache::ReplicationGroup").filter(|id| !id.is_empty());
        let running = async {
            match environment {
                Some(environment) => beanstalk::running_platform(&self.cloud, environment).await,
                None => Ok(None),
            }
        };
        let engine = async {
            let Some(cache) = cache else { return Ok(None) };
            match elasticache::running_version(&self.cloud, cache).await {
                Err(error) => {
                    self.output.warn(format!(
                        "{error:#}; the engine version of the last deployment is kept"
                    ));
                    Ok(None)
                }
                running => running,
            }
        };
        let resumed = async {
            // A plan changes nothing that runs.
            match self.arguments.plan {
                Some(_) => Ok(()),
                None => sources::resume(&self.cloud, self.output, &stack.id, &resources)
                    .await
                    .map(drop),
            }
        };
        let (platform, engine, ()) = tokio::try_join!(running, engine, resumed)?;
        let last = |name: &str| stack.parameters.get(name).cloned();
        let platform = platform.or_else(|| last(stack_parameters::PLATFORM_ARN));
        let engine = engine.or_else(|| last(stack_parameters::CACHE_ENGINE_VERSION));
        Ok(Some(Deployed {
            stack,
            template,
            platform,
            engine,
        }))
    }

    /// The zips: computing on a thread of its own, beside everything that waits.
    async fn package(
        &self,
        programs: Programs,
        deployed: Option<&Deployed>,
    ) -> anyhow::Result<[Artifact; 2]> {
        let settings = bundle_settings(self.arguments, deployed.map(|it| &it.stack));
        let zips = artifact::zips(&root()?);
        tokio::task::spawn_blocking(move || artifact::package(&programs, settings, &zips))
            .await
            .context("package the programs")?
    }

    async fn platform(&self, deployed: Option<&Deployed>) -> anyhow::Result<String> {
        let lock = lock(self.arguments)?;
        let running = deployed.and_then(|it| it.platform.as_deref());
        let update = self.arguments.update_platform;
        platform::resolve(&self.cloud, self.output, &lock, update, running).await
    }

    /// The version of the cache's engine to deploy.
    fn engine(&self, deployed: Option<&Deployed>) -> String {
        let running = deployed.and_then(|it| it.engine.as_deref());
        let chosen = engine::resolve(stack::cache::ENGINE_VERSION, running);
        if chosen != stack::cache::ENGINE_VERSION {
            self.output.say(format!(
                "the cache already runs engine version {chosen}, which is kept"
            ));
        }
        chosen
    }

    async fn upload(&self, bucket: &str, artifacts: &[Artifact]) -> anyhow::Result<()> {
        let uploaded = upload::all(&self.cloud, self.output, bucket, artifacts).await?;
        for (artifact, uploaded) in artifacts.iter().zip(uploaded) {
            let Artifact {
                what,
                key,
                contents,
            } = artifact;
            if uploaded {
                let size = s3::size(contents.len() as u64);
                self.output.say(format!("uploaded {what}: {key} ({size})"));
            }
            self.output
                .tell(&json!({ "artifact": key, "uploaded": uploaded }));
        }
        Ok(())
    }

    /// Changes the main stack; a failure that is known to pass is tried once more.
    async fn main_stack(
        &self,
        mut deployed: Option<Deployed>,
        parts: &Parts<'_>,
    ) -> anyhow::Result<()> {
        let Deployment { output, main, .. } = self;
        let mut is_second_try = false;
        let started = Instant::now();
        loop {
            let is_new = deployed.is_none();
            let existing = deployed
                .as_ref()
                .map(|it| (&it.stack, it.template.as_str()));
            let change = Change {
                operator: main,
                existing,
                template: self.template,
                parameters: wanted_parameters(self.arguments, existing.map(|it| it.0), parts),
                store: Some(parts.bucket),
            };
            let Some(planned) = change.prepare().await? else {
                self.unchanged(existing.map(|it| it.0));
                // A plan changes nothing.
                if self.arguments.plan.is_none() {
                    self.protect().await;
                }
                return Ok(());
            };
            if !is_second_try {
                planned.show(*output, &main.stack, is_new);
                let (before, region) = (existing.map(|it| it.1), &self.cloud.region);
                output.say(cost::line(self.template, before, region));
                if self.arguments.plan.is_some() {
                    self.keep(&planned);
                    return Ok(());
                }
                self.ask(&planned, is_new).await?;
            }
            let ended = execute(main, &planned.change_set).await?;
            let failures = ended.failures();
            let passing = transient::passing(&failures).filter(|_| !is_second_try);
            if let Some(event) = passing {
                let reason = event.reason.as_deref().unwrap_or_default();
                output.say(format!(
                    "{} failed in a way that passes ({reason}): trying once more",
                    event.logical_id
                ));
                is_second_try = true;
                deployed = self
                    .deployed(main.settle(&self.arguments.skip).await?)
                    .await?;
                continue;
            }
            main.check(ended, wanted(is_new))?;
            let before = existing.map(|(stack, template)| {
                let mut keys = artifact_keys(stack);
                keys.push(artifact::template(template).key);
                keys
            });
            self.tidy(parts, before.unwrap_or_default()).await;
            return self.finish(&planned.change_set, started).await;
        }
    }

    fn unchanged(&self, existing: Option<&Stack>) {
        let (output, name) = (self.output, &self.main.stack);
        output.say(format!("`{name}`: no change"));
        output.tell(&json!({ "result": "unchanged", "stack": name }));
        if let Some(stack) = existing {
            outputs::say(output, stack);
        }
    }

    fn keep(&self, planned: &Planned) {
        let (output, stage) = (self.output, self.arguments.stage);
        output.say(format!(
            "kept as change set `{}`; execute it by `cargo xtask deploy --stage {stage} --plan {0}`",
            planned.name
        ));
        output.tell(&json!({
            "result": "planned", "stack": self.main.stack, "plan": planned.name,
        }));
    }

    async fn ask(&self, planned: &Planned, is_new: bool) -> anyhow::Result<()> {
        let question = format!("deploy this to stage {}? [y/N] ", self.arguments.stage);
        self.confirm(planned, &self.main, &question, is_new).await
    }

    /// Asks; whatever is no yes leaves nothing behind, also where nobody can answer.
    async fn confirm(
        &self,
        planned: &Planned,
        operator: &Operator,
        question: &str,
        is_new: bool,
    ) -> anyhow::Result<()> {
        let answer = confirmed(self.arguments.yes, question, YES);
        if let Ok(true) = answer {
            return Ok(());
        }
        planned.discard(operator, is_new).await?;
        answer?;
        bail!("nothing was deployed: the answer was no")
    }

    /// Removes what neither this version nor the one before refers to. What is deployed is deployed,
    /// so a failure here is told and no more.
    async fn tidy(&self, parts: &Parts<'_>, mut kept: Vec<String>) {
        kept.extend(parts.packaged.iter().map(|it| it.key.clone()));
        kept.push(artifact::template(self.template).key);
        let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
        let Deployment {
            cloud,
            output,
            began,
            ..
        } = self;
        if let Err(error) = unused::remove(cloud, *output, parts.bucket, &kept, *began).await {
            output.say(format!(
                "older artifacts stay in `{}`: {error:#}",
                parts.bucket
            ));
        }
    }

    /// Executes the change set that an earlier call has kept.
    async fn resume(&self, name: &str) -> anyhow::Result<()> {
        let (operator, stage) = (&self.main, self.arguments.stage);
        let stack = call::find(&self.cloud, &operator.stack).await?;
        let stack = stack.with_context(|| {
            format!(
                "there is no stack `{}`, so there is no plan `{name}`: make one by `cargo xtask deploy --stage {stage} --plan`",
                operator.stack
            )
        })?;
        let change_set = match call::examine(&self.cloud, &stack.id, name).await {
            Ok(Examined::Ready(change_set)) => change_set,
            Ok(Examined::Empty) => bail!("plan `{name}` changes nothing"),
            Ok(Examined::Refused(why)) => bail!(
                "plan `{name}` cannot be executed: {why}; make another by `cargo xtask deploy --stage {stage} --plan`"
            ),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("plan `{name}` of `{}`", operator.stack));
            }
        };
        let is_new = stack.state() == State::Review;
        operator.output.say(format!(
            "plan `{name}` of `{}`: {} resources change",
            operator.stack,
            change_set.changes.len()
        ));
        let changes = self.compare_planned(&stack, is_new, &change_set).await?;
        let lines = plan::lines(&changes, &change_set.changes);
        plan::say(operator.output, &lines);
        if !confirmed(self.arguments.yes, "execute it? [y/N] ", YES)? {
            bail!("nothing was deployed: the answer was no; the plan is kept");
        }
        if !is_new {
            let resources = call::resources(&self.cloud, &stack.id).await?;
            sources::resume(&self.cloud, self.output, &stack.id, &resources).await?;
        }
        let started = Instant::now();
        let ended = execute(operator, &change_set).await?;
        operator.check(ended, wanted(is_new))?;
        self.finish(&change_set, started).await
    }

    /// What a plan that was kept changes in the stack as it is now.
    async fn compare_planned(
        &self,
        stack: &Stack,
        is_new: bool,
        change_set: &ChangeSet,
    ) -> anyhow::Result<cfn::diff::Changes> {
        let (template, parameters) = call::proposed(&self.cloud, change_set).await?;
        let before = match is_new {
            true => plan::Version::nothing()?,
            false => {
                let deployed = call::template(&self.cloud, &stack.id).await?;
                plan::Version::new(&deployed, stack.parameters.clone())?
            }
        };
        plan::compare(&before, &plan::Version::new(&template, parameters)?)
    }

    /// Protects both stacks from deletion, where that is wanted. What is deployed is deployed, so a failure
    /// here is a warning.
    async fn protect(&self) {
        let stage = self.arguments.stage;
        if !self.arguments.protect && !stage.config().termination_protection {
            return;
        }
        for operator in [&self.first, &self.main] {
            let name = &operator.stack;
            let protected = async {
                match call::find(&self.cloud, name).await? {
                    Some(stack) if !stack.is_protected => {
                        call::set_protection(&self.cloud, &stack.id, true).await?;
                        Ok::<_, CallFailed>(true)
                    }
                    _ => Ok(false),
                }
            };
            match protected.await {
                Ok(true) => self.output.say(format!(
                    "`{name}` is protected from deletion; `cargo xtask destroy --stage {stage}` lifts that after its question"
                )),
                Ok(false) => {}
                Err(error) => self
                    .output
                    .warn(format!("`{name}` is not protected from deletion: {error}")),
            }
        }
    }

    /// Says what there is now, and tries it.
    async fn finish(&self, change_set: &ChangeSet, started: Instant) -> anyhow::Result<()> {
        let Deployment { cloud, output, .. } = self;
        let stack = call::find(cloud, &change_set.stack_id).await?;
        let stack = stack.with_context(|| format!("`{}` is gone again", self.main.stack))?;
        output.say(format!(
            "`{}` is {} in {:.1} s",
            stack.name,
            crate::stack::state::in_words(&stack.status),
            started.elapsed().as_secs_f64()
        ));
        outputs::say(*output, &stack);
        output.tell(&json!({
            "result": "deployed", "stack": stack.name, "status": stack.status,
            "outputs": outputs::as_json(&stack),
        }));
        self.protect().await;
        if self.arguments.no_smoke {
            return Ok(());
        }
        let stage = self.arguments.stage;
        if stage.config().dashboard.sign_in.is_some() {
            output.say("no message is sent through it: the balancer lets nobody see the dashboard who has not signed in, this program neither");
            return Ok(());
        }
        output.say("sending a message through it:");
        let probe = smoke::Probe {
            cloud,
            output: *output,
            stack: &stack,
            stage,
            patience: smoke::PATIENCE,
        };
        probe.run(false).await.with_context(|| {
            format!("stage {stage} is deployed, but a message does not get through (again by `cargo xtask smoke --stage {stage}`)")
        })
    }
}

/// Answers that mean yes.
pub(crate) const YES: &[&str] = &["y", "yes"];

/// What a deployment starts from, by what was found; whatever needs work first is brought in order.
pub(crate) async fn footing(
    operator: &Operator,
    found: Result<Option<Stack>, CallFailed>,
    skip: &[String],
) -> anyhow::Result<StartingState> {
    match found? {
        None => Ok(StartingState::New),
        Some(stack) if stack.state() == State::Ready => Ok(StartingState::Existing(stack)),
        Some(_) => operator.settle(skip).await,
    }
}

/// Refuses a plan where a stack would have to be mended first, which is no plan any more.
fn plannable(found: [&Result<Option<Stack>, CallFailed>; 2], stage: Stage) -> anyhow::Result<()> {
    for stack in found.into_iter().flatten().flatten() {
        if !matches!(
            stack.state(),
            State::Ready | State::Absent | State::Review | State::Busy
        ) {
            bail!(
                "`{}` is {} ({}), which must be mended before anything can be planned: `cargo xtask deploy --stage {stage}` without `--plan` does it",
                stack.name,
                stack.status,
                crate::stack::state::in_words(&stack.status)
            );
        }
    }
    Ok(())
}

fn is_new(footing: &StartingState) -> bool {
    matches!(footing, StartingState::New)
}

pub(crate) fn wanted(is_new: bool) -> &'static str {
    if is_new { "created" } else { "updated" }
}

/// Executes a change set and follows it to its end.
pub(crate) async fn execute(operator: &Operator, change_set: &ChangeSet) -> anyhow::Result<Ended> {
    for environment in changed_environments(change_set) {
        beanstalk::wait_until_ready(&operator.cloud, operator.output, environment).await?;
    }
    let events = Events::from_now(&operator.cloud, &change_set.stack_id).await?;
    let token = call::execute(&operator.cloud, change_set).await?;
    operator
        .follow_changes(events.begun_by(token), &change_set.changes)
        .await
}

/// Names of the Beanstalk environments that a change set changes or removes.
fn changed_environments(change_set: &ChangeSet) -> impl Iterator<Item = &str> {
    let changes = change_set.changes.iter();
    changes.filter_map(|change| {
        let change = change.resource_change()?;
        let is_environment = change.resource_type() == Some("AWS::ElasticBeanstalk::Environment");
        let name = change
            .physical_resource_id()
            .filter(|name| !name.is_empty());
        name.filter(|_| is_environment)
    })
}

/// The main stack's parameters: what was made, what was asked for, and the rest as it is.
fn wanted_parameters(
    arguments: &Deploy,
    existing: Option<&Stack>,
    parts: &Parts<'_>,
) -> Vec<(&'static str, Option<String>)> {
    let [function, webui] = parts.packaged;
    let mut wanted = vec![
        (
            stack_parameters::ARTIFACTS_BUCKET,
            Some(parts.bucket.to_owned()),
        ),
        (stack_parameters::FUNCTION_KEY, Some(function.key.clone())),
        (stack_parameters::BUNDLE_KEY, Some(webui.key.clone())),
        (
            stack_parameters::PLATFORM_ARN,
            Some(parts.platform.to_owned()),
        ),
        (
            stack_parameters::CACHE_ENGINE_VERSION,
            Some(parts.engine.to_owned()),
        ),
    ];
    let optional = [
        (stack_parameters::ALARM_EMAIL, &arguments.alarm_email),
        (stack_parameters::CERTIFICATE_ARN, &arguments.certificate),
    ];
    let boundary = parts.boundary.cloned();
    let optional = optional
        .into_iter()
        .chain([(stack_parameters::PERMISSIONS_BOUNDARY, &boundary)]);
    for (name, given) in optional {
        let is_set = existing.is_some_and(|stack| stack.parameters.contains_key(name));
        if given.is_some() || is_set {
            wanted.push((name, given.clone()));
        }
    }
    wanted
}

/// Keys of the artifacts that a stack runs from.
fn artifact_keys(stack: &Stack) -> Vec<String> {
    [stack_parameters::FUNCTION_KEY, stack_parameters::BUNDLE_KEY]
        .iter()
        .filter_map(|name| stack.parameters.get(*name).cloned())
        .collect()
}

/// The file that remembers the stage's platform.
pub(crate) fn lock(arguments: &Deploy) -> anyhow::Result<PathBuf> {
    match &arguments.lock {
        Some(lock) => Ok(lock.clone()),
        None => Ok(platform::file(&root()?, arguments.stage)),
    }
}

/// With a certificate the balancer has an HTTPS listener to redirect to.
fn bundle_settings(arguments: &Deploy, existing: Option<&Stack>) -> bundle::Settings {
    let kept = || existing?.parameters.get(stack_parameters::CERTIFICATE_ARN);
    let certificate = arguments.certificate.as_ref().or_else(kept);
    bundle::Settings {
        redirect_to_https: certificate.is_some_and(|arn| !arn.is_empty()),
        sign_in: arguments.stage.config().dashboard.sign_in,
    }
}

/// Both stacks of a stage, in the order of their deployment.
pub(crate) fn synth(stage: Stage) -> anyhow::Result<[stack::Synthesized; 2]> {
    let stacks =
        stack::synth(stage).with_context(|| format!("stage {stage} does not synthesise"))?;
    stacks
        .try_into()
        .map_err(|stacks: Vec<_>| anyhow::anyhow!("got {} stacks, expected 2", stacks.len()))
}

/// The repository: `xtask` says where it is.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    match std::env::var_os("XTASK_ROOT") {
        Some(root) => Ok(root.into()),
        None => std::env::current_dir().context("find the current folder"),
    }
}

/// Asks, unless the answer was given by a flag.
pub(crate) fn confirmed(yes: bool, question: &str, answers: &[&str]) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        bail!(
            "nobody is there to ask: standard input is no terminal; say `--yes` to go on without"
        );
    }
    eprint!("{question}");
    std::io::stderr().flush().context("ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("read the answer")?;
    Ok(answers.contains(&answer.trim()))
}
