//! `destroy`: takes a stage down in order, and says what is left.
//!
//! Everything it needs to know it reads from what is there: the stacks, and the buckets that carry
//! the stage's tag. So it can be stopped at any moment, and the same command goes on.

use std::time::Duration;

use anyhow::bail;
use serde_json::json;

use crate::arguments::Destroy;
use crate::bucket::{self, Contents};
use crate::cloud::{Cloud, failed};
use crate::deploy::{confirmed, synth};
use crate::operation::Operator;
use crate::progress::Voice;
use crate::stack_call::{self, Stack};
use crate::state::State;

/// A bucket and what is in it.
struct Found {
    name: String,
    contents: Contents,
}

pub(crate) async fn run(arguments: Destroy) -> anyhow::Result<()> {
    let stage = arguments.stage;
    let voice = Voice::new(arguments.json);
    let stacks = synth(stage)?;
    let cloud = Cloud::connect(Duration::from_millis(arguments.poll)).await?;
    let identity = cloud.identity().await?;
    voice.say(format!(
        "stage {stage} in account {}, region {}",
        identity.account, cloud.region
    ));
    let [first, main] = &stacks;
    // The main stack first: its parameters refer to the bucket of the other.
    let operators = [
        Operator::new(&cloud, voice, stage, main)?,
        Operator::new(&cloud, voice, stage, first)?,
    ];
    let mut found = Vec::new();
    for operator in &operators {
        if let Some(stack) = at_rest(operator).await? {
            found.push((operator, stack));
        }
    }
    let buckets = buckets(&cloud, &found, &stage.to_string()).await?;
    let is_artifacts = |bucket: &Found| bucket.name.starts_with(&format!("{}-", first.name));
    let doomed = |bucket: &Found| arguments.delete_data || is_artifacts(bucket);
    if found.is_empty() && !buckets.iter().any(doomed) {
        voice.say("nothing to destroy");
        say_kept(voice, &buckets, stage);
        voice.tell(&json!({ "result": "nothing to destroy", "kept": names(&buckets) }));
        return Ok(());
    }
    announce(&cloud, voice, &found, &buckets, &doomed).await?;
    protection(&cloud, &arguments, &found).await?;
    let question = "type the stage's name to destroy it: ";
    if !confirmed(arguments.yes, question, &[&stage.to_string()])? {
        bail!("nothing was destroyed: the answer was not `{stage}`");
    }

    let mut gone = Vec::new();
    for (operator, stack) in &found {
        if operator.stack == first.name {
            // What the main stack ran from; it is gone by now.
            for bucket in buckets.iter().filter(|bucket| is_artifacts(bucket)) {
                bucket::remove(&cloud, voice, &bucket.name).await?;
            }
        }
        let retain = match stack.state() {
            State::DeletionStuck => arguments.retain.as_slice(),
            // CloudFormation admits resources to retain only then.
            _ => &[],
        };
        let ended = operator.delete(stack, retain).await?;
        operator.check(ended, "deleted")?;
        voice.say(format!("`{}` is gone", operator.stack));
        gone.push(operator.stack.clone());
    }
    for bucket in buckets.iter().filter(|bucket| doomed(bucket)) {
        bucket::remove(&cloud, voice, &bucket.name).await?;
        voice.say(format!(
            "bucket `{}` is gone with {}",
            bucket.name,
            in_words(bucket.contents)
        ));
    }
    sweep(&operators, voice, gone, arguments.stage).await
}

/// A stack on which nothing is under way; `None` when there is none.
async fn at_rest(operator: &Operator) -> anyhow::Result<Option<Stack>> {
    loop {
        match stack_call::find(&operator.cloud, &operator.stack).await? {
            None => return Ok(None),
            Some(stack) => match stack.state() {
                State::Absent => return Ok(None),
                State::Busy => operator.wait_for_other(&stack).await?,
                _ => return Ok(Some(stack)),
            },
        }
    }
}

/// The stage's buckets: those of its stacks, and those that outlived an earlier destroy.
async fn buckets(
    cloud: &Cloud,
    found: &[(&Operator, Stack)],
    stage: &str,
) -> anyhow::Result<Vec<Found>> {
    let mut names = bucket::of_stage(cloud, stage).await?;
    for (_, stack) in found {
        let resources = stack_call::resources(cloud, &stack.id).await?;
        names.extend(
            resources
                .iter()
                .filter(|resource| resource.resource_type() == Some("AWS::S3::Bucket"))
                .filter_map(|resource| resource.physical_resource_id())
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        );
    }
    names.sort();
    names.dedup();
    let mut buckets = Vec::new();
    for name in names {
        if let Some(contents) = bucket::contents(cloud, &name).await? {
            buckets.push(Found { name, contents });
        }
    }
    Ok(buckets)
}

async fn announce(
    cloud: &Cloud,
    voice: Voice,
    found: &[(&Operator, Stack)],
    buckets: &[Found],
    doomed: &dyn Fn(&Found) -> bool,
) -> anyhow::Result<()> {
    for (operator, stack) in found {
        let count = stack_call::resources(cloud, &stack.id).await?.len();
        voice.say(format!(
            "  - `{}` ({}) with {count} resources",
            operator.stack, stack.status
        ));
    }
    for bucket in buckets {
        let verb = if doomed(bucket) { "-" } else { "  kept:" };
        voice.say(format!(
            "  {verb} bucket `{}` with {}",
            bucket.name,
            in_words(bucket.contents)
        ));
    }
    Ok(())
}

/// Protected stacks are deleted only by who says so.
async fn protection(
    cloud: &Cloud,
    arguments: &Destroy,
    found: &[(&Operator, Stack)],
) -> anyhow::Result<()> {
    for (operator, stack) in found.iter().filter(|(_, stack)| stack.is_protected) {
        if !arguments.lift_protection {
            bail!(
                "`{}` is protected from being deleted; add `--lift-protection` if it shall go",
                operator.stack
            );
        }
        cloud
            .cfn
            .update_termination_protection()
            .stack_name(&stack.id)
            .enable_termination_protection(false)
            .send()
            .await
            .map_err(|error| failed("lift the termination protection", error))?;
    }
    Ok(())
}

/// Looks again, and says what is gone, what is kept and what still costs money.
async fn sweep(
    operators: &[Operator],
    voice: Voice,
    gone: Vec<String>,
    stage: stack::Stage,
) -> anyhow::Result<()> {
    for operator in operators {
        if let Some(stack) = stack_call::find(&operator.cloud, &operator.stack).await?
            && stack.state() != State::Absent
        {
            bail!(
                "`{}` is still there ({}): somebody deploys at the same time; run the same command again",
                stack.name,
                stack.status
            );
        }
    }
    let cloud = &operators[0].cloud;
    let kept = buckets(cloud, &[], &stage.to_string()).await?;
    voice.say(format!("stage {stage} is destroyed"));
    say_kept(voice, &kept, stage);
    voice.tell(&json!({ "result": "destroyed", "stacks": gone, "kept": names(&kept) }));
    Ok(())
}

fn say_kept(voice: Voice, kept: &[Found], stage: stack::Stage) {
    for bucket in kept {
        voice.say(format!(
            "kept, and still paid for: bucket `{}` with {}",
            bucket.name,
            in_words(bucket.contents)
        ));
    }
    if !kept.is_empty() {
        voice.say(format!(
            "delete it for good by `cargo xtask destroy --stage {stage} --delete-data`"
        ));
    }
}

fn names(buckets: &[Found]) -> Vec<&str> {
    buckets.iter().map(|bucket| bucket.name.as_str()).collect()
}

fn in_words(contents: Contents) -> String {
    format!(
        "{} objects ({})",
        contents.objects,
        bucket::size(contents.bytes)
    )
}
