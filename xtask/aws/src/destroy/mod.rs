//! `destroy`: takes a stage down in order, and says what is left.
//!
//! Everything it needs to know it reads from what is there: the stacks, and the buckets that carry
//! the stage's tag. So it can be stopped at any moment, and the same command goes on.
//!
//! The order: sources off, the function out of the network, the main stack, the data if it shall go,
//! and last the artifacts, which the main stack ran from.

pub(crate) mod remaining;
pub(crate) mod sources;

use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_cloudformation::types::StackResourceSummary;
use serde_json::{Value as Json, json};

use crate::arguments::Destroy;
use crate::aws::beanstalk;
use crate::aws::s3::{self, Contents, size};
use crate::aws::{CallFailed, Cloud};
use crate::bootstrap;
use crate::deploy::{confirmed, synth};
use crate::destroy::remaining::{Expected, Leftover, Remaining};
use crate::destroy::sources::Sources;
use crate::screen::progress::Output;
use crate::stack::call::{self, Stack};
use crate::stack::operation::{Ended, Operator};
use crate::stack::retry::{RetryReason, retry_reason};
use crate::stack::state::State;

/// How often a deletion is begun that something passing stands in the way of.
const ATTEMPTS: u32 = 5;

/// A stack that is there, and what it holds.
struct FoundStack<'a> {
    operator: &'a Operator,
    stack: Stack,
    resources: Vec<StackResourceSummary>,
}

/// A bucket and what is in it.
struct FoundBucket {
    name: String,
    contents: Contents,
}

pub(crate) async fn run(arguments: Destroy) -> anyhow::Result<()> {
    let stage = arguments.stage;
    let output = Output::new(arguments.json);
    let [first, main] = synth(stage)?;
    let cloud = Cloud::connect(Duration::from_millis(arguments.poll)).await?;
    let identity = cloud.identity().await?;
    output.say(format!(
        "stage {stage} in account {}, region {}",
        identity.account, cloud.region
    ));
    let bootstrap = bootstrap::known(output, bootstrap::find(&cloud).await)?;
    let main_operator = Operator::new(&cloud, output, stage, &main)?.by(bootstrap.as_ref());
    let first_operator = Operator::new(&cloud, output, stage, &first)?.by(bootstrap.as_ref());
    let main_stack = at_rest(&main_operator).await?;
    let first_stack = at_rest(&first_operator).await?;
    for found in main_stack.iter().chain(&first_stack) {
        bootstrap::check_role(&found.stack, bootstrap.as_ref())?;
    }
    let stacks: Vec<&FoundStack<'_>> = main_stack.iter().chain(&first_stack).collect();
    let buckets = buckets(&cloud, &stacks, &stage.to_string()).await?;
    let is_artifacts = |bucket: &FoundBucket| bucket.name.starts_with(&format!("{}-", first.name));
    let doomed = |bucket: &FoundBucket| arguments.delete_data || is_artifacts(bucket);
    if stacks.is_empty() && !buckets.iter().any(doomed) {
        output.say("nothing to destroy");
        say_kept(output, &buckets, &arguments);
        // Something that an earlier destroy could not take may still cost money.
        let expected = Expected::of_gone(&main.name);
        let remaining =
            remaining::find(&cloud, &identity.account, &stage.to_string(), &expected).await?;
        // The bucket that all applications of Beanstalk share is nobody's leftover.
        let left = remaining.leftovers.iter().filter(|it| it.kind != "bucket");
        for Leftover { kind, name, note } in left.clone() {
            output.say(format!("still there: {kind} `{name}`: {note}"));
        }
        let leftovers: Vec<Json> = left.map(Leftover::as_json).collect();
        output.tell(&json!({
            "result": "nothing to destroy", "kept": names(&buckets), "leftovers": leftovers,
        }));
        return Ok(());
    }
    announce(output, &stacks, &buckets, &doomed);
    check_protection(output, &arguments, &stacks)?;
    let question = "type the stage's name to destroy it: ";
    if !confirmed(arguments.yes, question, &[&stage.to_string()])? {
        bail!("nothing was destroyed: the answer was not `{stage}`");
    }
    lift_protection(&cloud, &stacks).await?;

    let mut gone = Gone::default();
    let mut expected = Expected::of_gone(&main.name);
    if let Some(found) = &main_stack {
        expected = Expected::of(&found.resources);
        environments_are_ready(&cloud, output, &found.resources).await?;
        let sources = Sources::of(&found.resources);
        sources::stop(&cloud, output, &sources).await?;
        take_down(found, &arguments, &sources, &mut gone).await?;
    }
    // By now nothing is left that could fill them again.
    let data = buckets.iter().filter(|it| doomed(it) && !is_artifacts(it));
    for bucket in data {
        remove(&cloud, output, bucket).await?;
    }
    if let Some(found) = &first_stack {
        take_down(found, &arguments, &Sources::default(), &mut gone).await?;
    }
    for bucket in buckets.iter().filter(|bucket| is_artifacts(bucket)) {
        remove(&cloud, output, bucket).await?;
    }

    for operator in [&main_operator, &first_operator] {
        is_gone(operator).await?;
    }
    let kept = self::buckets(&cloud, &[], &stage.to_string()).await?;
    let remaining =
        remaining::find(&cloud, &identity.account, &stage.to_string(), &expected).await?;
    say_end(output, &arguments, &gone, &kept, &remaining);
    Ok(())
}

/// What this call has taken away, and what AWS was told to leave.
#[derive(Default)]
struct Gone {
    stacks: Vec<String>,
    /// Logical and physical IDs with the type, but for what is looked at by itself: buckets.
    retained: Vec<[String; 3]>,
}

/// A stack on which nothing is under way; `None` when there is none.
async fn at_rest(operator: &Operator) -> anyhow::Result<Option<FoundStack<'_>>> {
    loop {
        let found = call::find(&operator.cloud, &operator.stack).await?;
        let Some(stack) = found.filter(|stack| stack.state() != State::Absent) else {
            return Ok(None);
        };
        if stack.state() == State::Busy {
            operator.wait_for_other(&stack).await?;
            continue;
        }
        let resources = match call::resources(&operator.cloud, &stack.id).await {
            // Deleted by somebody else between the two questions.
            Err(error) if error.is_missing_stack() => continue,
            resources => resources?,
        };
        return Ok(Some(FoundStack {
            operator,
            stack,
            resources,
        }));
    }
}

/// The stage's buckets: those of its stacks, and those that outlived an earlier destroy.
async fn buckets(
    cloud: &Cloud,
    stacks: &[&FoundStack<'_>],
    stage: &str,
) -> anyhow::Result<Vec<FoundBucket>> {
    let mut names = s3::of_stage(cloud, stage).await?;
    for found in stacks {
        names.extend(
            found
                .resources
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
        if let Some(contents) = s3::contents(cloud, &name).await? {
            buckets.push(FoundBucket { name, contents });
        }
    }
    Ok(buckets)
}

/// Says what will go, and what data goes with it.
fn announce(
    output: Output,
    stacks: &[&FoundStack<'_>],
    buckets: &[FoundBucket],
    doomed: &dyn Fn(&FoundBucket) -> bool,
) {
    for found in stacks {
        let FoundStack {
            operator,
            stack,
            resources,
        } = found;
        output.say(format!(
            "  - `{}` ({}) with {} resources",
            operator.stack,
            stack.status,
            resources.len()
        ));
        for resource in resources {
            let r#type = resource.resource_type().unwrap_or_default();
            // Buckets follow with what is in them.
            if r#type == "AWS::S3::Bucket" {
                continue;
            }
            if let Some(lost) = stack::state::lost(r#type) {
                let logical_id = resource.logical_resource_id().unwrap_or_default();
                output.say(format!("      {logical_id}: {lost}"));
            }
        }
    }
    for bucket in buckets {
        let verb = if doomed(bucket) { "-" } else { "  kept:" };
        output.say(format!(
            "  {verb} bucket `{}` with {}",
            bucket.name,
            in_words(bucket.contents)
        ));
    }
    output.tell(&json!({
        "stacks": stacks.iter().map(|it| &it.operator.stack).collect::<Vec<_>>(),
        "buckets": buckets.iter().map(|it| json!({
            "name": it.name, "objects": it.contents.objects, "bytes": it.contents.bytes,
            "uploads": it.contents.uploads, "goes": doomed(it),
        })).collect::<Vec<_>>(),
    }));
}

/// Says which stacks are protected from deletion. The question is a person's consent to lift that; a call
/// with `--yes` has none, so it must say so by a flag of its own.
fn check_protection(
    output: Output,
    arguments: &Destroy,
    stacks: &[&FoundStack<'_>],
) -> anyhow::Result<()> {
    for found in stacks.iter().filter(|found| found.stack.is_protected) {
        let name = &found.operator.stack;
        if arguments.yes && !arguments.lift_protection {
            bail!(
                "`{name}` is protected from deletion, and nothing was destroyed\n  fix: add `--lift-protection`, or leave `--yes` out and answer the question"
            );
        }
        output.say(format!(
            "  `{name}` is protected from deletion; that is lifted first"
        ));
    }
    Ok(())
}

/// Lifts the protection of the stacks that have one.
async fn lift_protection(cloud: &Cloud, stacks: &[&FoundStack<'_>]) -> anyhow::Result<()> {
    for found in stacks.iter().filter(|found| found.stack.is_protected) {
        call::set_protection(cloud, &found.stack.id, false).await?;
    }
    Ok(())
}

/// Waits until the environments of a stack can be terminated. Who may not look goes on without: a deletion
/// that comes too early is tried again.
async fn environments_are_ready(
    cloud: &Cloud,
    output: Output,
    resources: &[StackResourceSummary],
) -> anyhow::Result<()> {
    let names = resources
        .iter()
        .filter(|it| it.resource_type() == Some("AWS::ElasticBeanstalk::Environment"))
        .filter_map(|it| it.physical_resource_id())
        .filter(|name| !name.is_empty());
    for name in names {
        match beanstalk::wait_until_ready(cloud, output, name).await {
            Err(error) if error.is::<CallFailed>() => output.warn(format!(
                "cannot wait until environment `{name}` is Ready: {error:#}"
            )),
            waited => waited?,
        }
    }
    Ok(())
}

/// Deletes a stack, again and again while what stands in the way is known to pass.
async fn take_down(
    found: &FoundStack<'_>,
    arguments: &Destroy,
    sources: &Sources,
    gone: &mut Gone,
) -> anyhow::Result<()> {
    let FoundStack {
        operator, stack, ..
    } = found;
    // CloudFormation admits resources to retain only when a deletion has failed before.
    let mut retain = match stack.state() {
        State::DeletionStuck => arguments.retain.clone(),
        _ => Vec::new(),
    };
    let mut earlier = Vec::new();
    for attempt in 1..=ATTEMPTS {
        let ended = operator.delete(stack, &retain).await?;
        gone.retained.extend(ended.kept().filter_map(|event| {
            let is_bucket = event.r#type.starts_with("AWS::S3::");
            let ids = [&event.logical_id, &event.physical_id, &event.r#type];
            (!is_bucket).then(|| ids.map(String::clone))
        }));
        let can_go_on = attempt < ATTEMPTS
            && ended.is_stuck()
            && make_way(operator, arguments, sources, &ended, &mut retain).await?;
        if !can_go_on {
            operator.check(ended.after(&earlier), "deleted")?;
            break;
        }
        earlier.extend(ended.into_events());
        // Each time a little longer: what passes may take its time.
        tokio::time::sleep(operator.cloud.poll * 5 * attempt).await;
    }
    operator.output.say(format!("`{}` is gone", operator.stack));
    gone.stacks.push(operator.stack.clone());
    Ok(())
}

/// Takes away what stands in the way of a deletion; `false` when it is not for this tool to take
/// away.
async fn make_way(
    operator: &Operator,
    arguments: &Destroy,
    sources: &Sources,
    ended: &Ended,
    retain: &mut Vec<String>,
) -> anyhow::Result<bool> {
    let Operator { cloud, output, .. } = operator;
    let causes = ended.failures();
    let mut holds = Vec::new();
    for cause in &causes {
        // Now that a deletion has failed, CloudFormation takes what shall be left.
        if arguments.retain.contains(&cause.logical_id) && !retain.contains(&cause.logical_id) {
            retain.push(cause.logical_id.clone());
            holds.push((*cause, None));
            continue;
        }
        match retry_reason(cause) {
            Some(hold) => holds.push((*cause, Some(hold))),
            None => return Ok(false),
        }
    }
    for (cause, hold) in &holds {
        let why = match hold {
            Some(hold) => hold.in_words(),
            None => "it is left behind as you said",
        };
        output.say(format!("{}: {why}; deleting again", cause.logical_id));
        if *hold == Some(RetryReason::Bucket) {
            if arguments.delete_data {
                s3::empty(cloud, *output, &cause.physical_id).await?;
            } else if !retain.contains(&cause.logical_id) {
                // It came with a creation that failed, so CloudFormation does not keep it by itself.
                retain.push(cause.logical_id.clone());
            }
        }
    }
    let is_network = |(_, hold): &(_, Option<RetryReason>)| *hold == Some(RetryReason::Network);
    if holds.iter().any(is_network)
        && let Some(function) = sources.function()
    {
        sources::wait_for_release(cloud, *output, function).await?;
    }
    Ok(!holds.is_empty())
}

async fn remove(cloud: &Cloud, output: Output, bucket: &FoundBucket) -> anyhow::Result<()> {
    s3::remove(cloud, output, &bucket.name).await?;
    output.say(format!(
        "bucket `{}` is gone with {}",
        bucket.name,
        in_words(bucket.contents)
    ));
    Ok(())
}

/// Looks again: somebody may have deployed meanwhile.
async fn is_gone(operator: &Operator) -> anyhow::Result<()> {
    let found = call::find(&operator.cloud, &operator.stack).await;
    let found = found.with_context(|| format!("look whether `{}` is gone", operator.stack))?;
    match found.filter(|stack| stack.state() != State::Absent) {
        None => Ok(()),
        Some(stack) => bail!(
            "`{}` is still there ({}): somebody deploys at the same time; run the same command again",
            stack.name,
            stack.status
        ),
    }
}

/// What is gone, what is kept, and what still costs money.
fn say_end(
    output: Output,
    arguments: &Destroy,
    gone: &Gone,
    kept: &[FoundBucket],
    remaining: &Remaining,
) {
    output.say(format!("stage {} is destroyed", arguments.stage));
    for [logical_id, physical_id, r#type] in &gone.retained {
        output.say(format!(
            "left behind as its policy or you said: {logical_id} ({type}) `{physical_id}`"
        ));
    }
    say_kept(output, kept, arguments);
    for leftover in &remaining.leftovers {
        output.say(format!(
            "still there: {} `{}`: {}",
            leftover.kind, leftover.name, leftover.note
        ));
    }
    for unknown in &remaining.unknown {
        output.say(format!("could not look for {unknown}"));
    }
    let is_empty = kept.is_empty() && gone.retained.is_empty() && remaining.leftovers.is_empty();
    if is_empty && remaining.unknown.is_empty() {
        output.say("nothing of it is left that costs money");
    }
    let retained: Vec<Json> = gone
        .retained
        .iter()
        .map(|[logical_id, physical_id, r#type]| {
            json!({ "logicalId": logical_id, "physicalId": physical_id, "type": r#type })
        })
        .collect();
    let leftovers: Vec<Json> = remaining
        .leftovers
        .iter()
        .map(remaining::Leftover::as_json)
        .collect();
    output.tell(&json!({
        "result": "destroyed", "stacks": gone.stacks, "kept": names(kept),
        "retained": retained, "leftovers": leftovers, "unknown": remaining.unknown,
    }));
}

fn say_kept(output: Output, kept: &[FoundBucket], arguments: &Destroy) {
    for bucket in kept {
        output.say(format!(
            "kept, and still paid for: bucket `{}` with {}",
            bucket.name,
            in_words(bucket.contents)
        ));
    }
    if !kept.is_empty() && !arguments.delete_data {
        output.say(format!(
            "delete it for good by `cargo xtask destroy --stage {} --delete-data`",
            arguments.stage
        ));
    }
}

fn names(buckets: &[FoundBucket]) -> Vec<&str> {
    buckets.iter().map(|bucket| bucket.name.as_str()).collect()
}

fn in_words(contents: Contents) -> String {
    let uploads = match contents.uploads {
        0 => String::new(),
        1 => " and an unfinished upload".to_owned(),
        many => format!(" and {many} unfinished uploads"),
    };
    let objects = match contents.objects {
        1 => "1 object".to_owned(),
        many => format!("{many} objects"),
    };
    format!("{objects} ({}){uploads}", size(contents.bytes))
}
