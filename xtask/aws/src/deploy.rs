//! `deploy`: two stacks, the artifacts between them, and nothing done that is done already.
//!
//! Each step leaves something that the same command, run again, finds and goes on from: a stack in
//! whatever state ([`Operator::settle`]), artifacts by their contents, the platform in its file.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::{Value as Json, json};
use stack::{Stage, artifacts as artifacts_stack, parameters};

use crate::arguments::Deploy;
use crate::artifacts::{self, Artifact, Programs};
use crate::cloud::Cloud;
use crate::event::Events;
use crate::operation::{Footing, Operator};
use crate::plan::{self, Version};
use crate::progress::Voice;
use crate::stack_call::{self, ChangeSet, Examined, Proposal, Source, Stack};
use crate::{beanstalk, bucket, outputs, platform, role_policy};

pub(crate) async fn run(arguments: Deploy) -> anyhow::Result<()> {
    let stage = arguments.stage;
    if arguments.role_policy {
        return role_policy::print(stage);
    }
    let voice = Voice::new(arguments.json);
    let stacks = synth(stage)?;
    let cloud = Cloud::connect(std::time::Duration::from_millis(arguments.poll)).await?;
    let identity = cloud.identity().await?;
    voice.say(format!(
        "stage {stage} in account {}, region {}",
        identity.account, cloud.region
    ));
    let [first, main] = &stacks;
    let first_operator = Operator::new(&cloud, voice, stage, first)?;
    let main_operator = Operator::new(&cloud, voice, stage, main)?;
    if let Some(name) = arguments.plan.as_deref().filter(|name| !name.is_empty()) {
        return resume(&main_operator, &arguments, name).await;
    }

    // What is in the way of the main stack is found before anything is built.
    let footing = main_operator.settle(&arguments.skip).await?;
    let started = Instant::now();
    if arguments.builds() {
        voice.say("building the function and the web UI for AWS meanwhile");
    }
    let building = tokio::spawn({
        let arguments = arguments.clone();
        async move { programs(&arguments).await }
    });
    let artifacts_bucket = artifacts_bucket(&first_operator, first, arguments.yes).await?;
    let programs = building.await.context("wait for the builds")??;
    if arguments.builds() {
        let seconds = started.elapsed().as_secs_f64();
        voice.say(format!("the programs are built in {seconds:.1} s"));
    }

    let existing = match &footing {
        Footing::Existing(stack) => Some(stack),
        Footing::New => None,
    };
    let settings = bundle_settings(&arguments, existing);
    let packaged = artifacts::package(&programs, settings)?;
    for artifact in &packaged {
        upload(&cloud, voice, &artifacts_bucket, artifact).await?;
    }
    let [function, webui] = &packaged;
    let running = match existing {
        Some(stack) => running_platform(&cloud, stack).await?,
        None => None,
    };
    let lock = match &arguments.lock {
        Some(lock) => lock.clone(),
        None => platform::file(&root()?, stage),
    };
    let update = arguments.update_platform;
    let platform = platform::resolve(&cloud, voice, &lock, update, running.as_deref()).await?;
    let mut wanted: Vec<(&str, Option<String>)> = vec![
        (parameters::ARTIFACTS_BUCKET, Some(artifacts_bucket.clone())),
        (parameters::FUNCTION_KEY, Some(function.key.clone())),
        (parameters::BUNDLE_KEY, Some(webui.key.clone())),
        (parameters::PLATFORM_ARN, Some(platform)),
    ];
    let optional = [
        (parameters::ALARM_EMAIL, &arguments.alarm_email),
        (parameters::CERTIFICATE_ARN, &arguments.certificate),
    ];
    for (name, given) in optional {
        let is_set = existing.is_some_and(|stack| stack.parameters.contains_key(name));
        if given.is_some() || is_set {
            wanted.push((name, given.clone()));
        }
    }
    let change = Change {
        operator: &main_operator,
        existing,
        template: &main.template,
        parameters: wanted,
        store: Some(&artifacts_bucket),
    };
    let planned = match change.prepare().await? {
        Some(planned) => planned,
        None => {
            voice.say(format!("`{}`: no change", main.name));
            voice.tell(&json!({ "result": "unchanged", "stack": main.name }));
            if let Some(stack) = existing {
                outputs::say(voice, stack);
            }
            return Ok(());
        }
    };
    planned.show(voice, &main.name, existing.is_none());
    if arguments.plan.is_some() {
        voice.say(format!(
            "kept as change set `{}`; execute it by `cargo xtask deploy --stage {stage} --plan {0}`",
            planned.name
        ));
        voice.tell(&json!({ "result": "planned", "stack": main.name, "plan": planned.name }));
        return Ok(());
    }
    if !confirmed(
        arguments.yes,
        &format!("deploy this to stage {stage}? [y/N] "),
        &["y", "yes"],
    )? {
        planned.discard(&main_operator, existing.is_none()).await?;
        bail!("nothing was deployed: the answer was no");
    }
    finish(&main_operator, &planned.change_set, existing.is_none()).await
}

/// Executes the change set that an earlier call has kept.
async fn resume(operator: &Operator, arguments: &Deploy, name: &str) -> anyhow::Result<()> {
    let stack = stack_call::find(&operator.cloud, &operator.stack).await?;
    let stack = stack.with_context(|| {
        format!(
            "there is no stack `{}`, so there is no plan `{name}`: make one by `cargo xtask deploy --stage {} --plan`",
            operator.stack, operator.stage
        )
    })?;
    let change_set = match stack_call::examine(&operator.cloud, &stack.id, name).await {
        Ok(Examined::Ready(change_set)) => change_set,
        Ok(Examined::Empty) => bail!("plan `{name}` changes nothing"),
        Ok(Examined::Refused(why)) => bail!(
            "plan `{name}` cannot be executed: {why}; make another by `cargo xtask deploy --stage {} --plan`",
            operator.stage
        ),
        Err(error) => {
            return Err(error).with_context(|| format!("plan `{name}` of `{}`", operator.stack));
        }
    };
    let is_new = stack.state() == crate::state::State::Review;
    operator.voice.say(format!(
        "plan `{name}` of `{}`: {} resources change",
        operator.stack,
        change_set.changes.len()
    ));
    for line in plan::lines(&cfn::diff::Changes::default(), &change_set.changes) {
        operator.voice.say(line);
    }
    if !confirmed(arguments.yes, "execute it? [y/N] ", &["y", "yes"])? {
        bail!("nothing was deployed: the answer was no; the plan is kept");
    }
    finish(operator, &change_set, is_new).await
}

/// Executes a change set of the main stack, follows it, and says what there is now.
async fn finish(operator: &Operator, change_set: &ChangeSet, is_new: bool) -> anyhow::Result<()> {
    let started = Instant::now();
    execute(operator, change_set, is_new).await?;
    let Operator { cloud, voice, .. } = operator;
    let stack = stack_call::find(cloud, &change_set.stack_id).await?;
    let stack = stack.with_context(|| format!("`{}` is gone again", operator.stack))?;
    voice.say(format!(
        "`{}` is {} in {:.1} s",
        stack.name,
        crate::state::in_words(&stack.status),
        started.elapsed().as_secs_f64()
    ));
    outputs::say(*voice, &stack);
    voice.tell(&json!({
        "result": "deployed", "stack": stack.name, "status": stack.status,
        "outputs": outputs::as_json(&stack),
    }));
    Ok(())
}

/// Executes a change set and follows it to its end.
async fn execute(operator: &Operator, change_set: &ChangeSet, is_new: bool) -> anyhow::Result<()> {
    let events = Events::from_now(&operator.cloud, &change_set.stack_id).await?;
    stack_call::execute(&operator.cloud, change_set).await?;
    let ended = operator.follow(events).await?;
    operator.check(ended, if is_new { "created" } else { "updated" })
}

/// Brings up the first stack and returns the name of its bucket.
async fn artifacts_bucket(
    operator: &Operator,
    synthesized: &stack::Synthesized,
    yes: bool,
) -> anyhow::Result<String> {
    let footing = operator.settle(&[]).await?;
    let existing = match &footing {
        Footing::Existing(stack) => Some(stack),
        Footing::New => None,
    };
    let change = Change {
        operator,
        existing,
        template: &synthesized.template,
        parameters: Vec::new(),
        store: None,
    };
    let changed = match change.prepare().await? {
        None => None,
        Some(planned) => {
            planned.show(operator.voice, &operator.stack, existing.is_none());
            // A new bucket hurts nobody; a change of the one in use is somebody's decision.
            let question = format!("change `{}` first? [y/N] ", operator.stack);
            if existing.is_some() && !confirmed(yes, &question, &["y", "yes"])? {
                planned.discard(operator, false).await?;
                bail!("nothing was deployed: the answer was no");
            }
            execute(operator, &planned.change_set, existing.is_none()).await?;
            stack_call::find(&operator.cloud, &planned.change_set.stack_id).await?
        }
    };
    let stack = changed.as_ref().or(existing);
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

/// A stack as it should become.
struct Change<'a> {
    operator: &'a Operator,
    existing: Option<&'a Stack>,
    template: &'a str,
    parameters: Vec<(&'static str, Option<String>)>,
    /// Bucket for the template; `None`: the template goes with the call.
    store: Option<&'a str>,
}

/// A change set, and what it means.
struct Planned {
    name: String,
    change_set: ChangeSet,
    after: Version,
    changes: cfn::diff::Changes,
}

impl Change<'_> {
    /// Compares, and makes a change set if there is anything to change.
    async fn prepare(&self) -> anyhow::Result<Option<Planned>> {
        let Operator {
            cloud,
            voice,
            stage,
            stack,
            ..
        } = self.operator;
        let previous = self.existing.map(|stack| &stack.parameters);
        let before = match self.existing {
            None => None,
            Some(existing) => {
                let template = stack_call::template(cloud, &existing.id).await?;
                let is_same = is_same_json(&template, self.template)
                    && self.parameters.iter().all(|(name, value)| {
                        value.is_none() || existing.parameters.get(*name) == value.as_ref()
                    });
                if is_same {
                    return Ok(None);
                }
                Some(Version::new(&template, existing.parameters.clone())?)
            }
        };
        let after = Version::new(self.template, self.values(previous))?;
        let source = match self.store {
            None => Source::Body(self.template.to_owned()),
            Some(bucket) => {
                let artifact = artifacts::template(self.template);
                bucket::upload(cloud, *voice, bucket, &artifact.key, &artifact.contents).await?;
                Source::Url(cloud.object_url(bucket, &artifact.key))
            }
        };
        let name = stack_call::token("deploy");
        let proposal = Proposal {
            stack: stack.clone(),
            stage: stage.to_string(),
            name: name.clone(),
            is_new: self.existing.is_none(),
            source,
            parameters: self
                .parameters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        };
        let Some(change_set) = stack_call::propose(cloud, &proposal).await? else {
            return Ok(None);
        };
        let changes = match &before {
            Some(before) => plan::compare(before, &after)?,
            None => plan::compare(&Version::nothing()?, &after)?,
        };
        Ok(Some(Planned {
            name,
            change_set,
            after,
            changes,
        }))
    }

    fn values(&self, previous: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
        self.parameters
            .iter()
            .filter_map(|(name, value)| {
                let value = value.as_ref().or_else(|| previous?.get(*name))?;
                Some(((*name).to_owned(), value.clone()))
            })
            .collect()
    }
}

impl Planned {
    fn show(&self, voice: Voice, stack: &str, is_new: bool) {
        let lines = if is_new {
            voice.say(format!("`{stack}` is new:"));
            plan::lines_of_new(&self.after, &self.changes)
        } else {
            voice.say(format!("`{stack}` changes:"));
            plan::lines(&self.changes, &self.change_set.changes)
        };
        for line in lines {
            voice.say(line);
        }
        voice.tell(&json!({
            "stack": stack, "plan": self.name, "changes": plan::as_json(&self.changes),
        }));
    }

    /// Leaves nothing behind of a plan that nobody wants.
    async fn discard(&self, operator: &Operator, is_new: bool) -> anyhow::Result<()> {
        let ChangeSet { id, stack_id, .. } = &self.change_set;
        stack_call::discard(&operator.cloud, stack_id, id).await?;
        if is_new {
            // The shell that the change set made, with nothing in it.
            stack_call::delete(&operator.cloud, stack_id, &[]).await?;
        }
        Ok(())
    }
}

/// Whether two texts are the same JSON: CloudFormation keeps the text, others only its meaning.
pub(crate) fn is_same_json(left: &str, right: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Json>(text).ok();
    left == right || matches!((read(left), read(right)), (Some(left), Some(right)) if left == right)
}

async fn programs(arguments: &Deploy) -> anyhow::Result<Programs> {
    match (&arguments.function, &arguments.webui) {
        (Some(function), Some(webui)) => artifacts::read(function, webui),
        _ => artifacts::build(&root()?, arguments.stage.config().arch).await,
    }
}

async fn upload(
    cloud: &Cloud,
    voice: Voice,
    bucket: &str,
    artifact: &Artifact,
) -> anyhow::Result<()> {
    let Artifact {
        what,
        key,
        contents,
    } = artifact;
    let uploaded = bucket::upload(cloud, voice, bucket, key, contents).await?;
    if uploaded {
        voice.say(format!(
            "uploaded {what}: {key} ({})",
            bucket::size(contents.len() as u64)
        ));
    }
    voice.tell(&json!({ "artifact": key, "uploaded": uploaded }));
    Ok(())
}

/// With a certificate the balancer has an HTTPS listener to redirect to.
fn bundle_settings(arguments: &Deploy, existing: Option<&Stack>) -> bundle::Settings {
    let kept = || existing?.parameters.get(parameters::CERTIFICATE_ARN);
    let certificate = arguments.certificate.as_ref().or_else(kept);
    bundle::Settings {
        redirect_to_https: certificate.is_some_and(|arn| !arn.is_empty()),
    }
}

/// The platform that the stage's environment runs on, or the one that it was deployed with.
async fn running_platform(cloud: &Cloud, stack: &Stack) -> anyhow::Result<Option<String>> {
    let environment = stack_call::environment(cloud, &stack.id).await?;
    let running = match environment {
        Some(environment) => beanstalk::running_platform(cloud, &environment).await?,
        None => None,
    };
    Ok(running.or_else(|| stack.parameters.get(parameters::PLATFORM_ARN).cloned()))
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
