//! `diff`: what a deployment of the infrastructure as it is here would change.
//!
//! Artifacts are left out: whether code has changed is known only once it is built, and `deploy`
//! says so.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use outcome::Exit;
use serde_json::json;
use stack::{Stage, artifacts as artifacts_stack};

use crate::arguments::Diff;
use crate::artifact;
use crate::artifact::upload;
use crate::aws::Cloud;
use crate::deploy::plan::{self, Version};
use crate::deploy::synth;
use crate::screen::progress::Output;
use crate::stack::call::{self, Proposal, Source, Stack};
use crate::stack::change::is_same_json;
use crate::stack::state::State;

pub(crate) async fn run(arguments: Diff) -> anyhow::Result<ExitCode> {
    let stage = arguments.stage;
    let output = if arguments.json {
        Output::Json
    } else {
        Output::Plain
    };
    let cloud = Cloud::connect(Duration::from_secs(1)).await?;
    cloud.identity().await?;
    let mut differs = false;
    let mut store = None;
    for synthesized in synth(stage)? {
        let name = &synthesized.name;
        // What a change set alone has made is nothing yet.
        let existing = call::find(&cloud, name)
            .await?
            .filter(|it| !matches!(it.state(), State::Review | State::Absent));
        if let Some(stack) = &existing {
            let bucket = stack.output(artifacts_stack::BUCKET_OUTPUT);
            store = store.or_else(|| bucket.map(str::to_owned));
        }
        let Some(existing) = existing else {
            let after = Version::new(&synthesized.template, Default::default())?;
            let changes = plan::compare(&Version::nothing()?, &after)?;
            output.say(format!("`{name}` is new:"));
            for line in plan::lines_of_new(&after, &changes) {
                output.say(line);
            }
            output.tell(&json!({ "stack": name, "changes": plan::as_json(&changes) }));
            differs = true;
            continue;
        };
        let deployed = call::template(&cloud, &existing.id).await?;
        if is_same_json(&deployed, &synthesized.template) {
            output.say(format!("`{name}`: no change"));
            output.tell(&json!({ "stack": name, "changes": null }));
            continue;
        }
        differs = true;
        let before = Version::new(&deployed, existing.parameters.clone())?;
        let after = Version::new(&synthesized.template, existing.parameters.clone())?;
        let changes = plan::compare(&before, &after)?;
        let announced = if arguments.online {
            let store = store.as_deref().with_context(|| {
                format!("there is no artifacts bucket to put the template of `{name}` into: leave `--online` out")
            })?;
            announced(&cloud, stage, &existing, &synthesized, store).await?
        } else {
            Vec::new()
        };
        output.say(format!("`{name}` changes:"));
        for line in plan::lines(&changes, &announced) {
            output.say(line);
        }
        output.tell(&json!({ "stack": name, "changes": plan::as_json(&changes) }));
    }
    Ok(if differs && arguments.exit_code {
        Exit::Changed.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// What CloudFormation itself says, by a change set that is deleted again.
async fn announced(
    cloud: &Cloud,
    stage: Stage,
    existing: &Stack,
    synthesized: &stack::Synthesized,
    store: &str,
) -> anyhow::Result<Vec<aws_sdk_cloudformation::types::Change>> {
    if existing.state() != State::Ready {
        bail!(
            "`{}` is {}, so CloudFormation makes no change set for it: leave `--online` out, or `cargo xtask deploy` first",
            existing.name,
            existing.status
        );
    }
    let artifact = artifact::template(&synthesized.template);
    upload::all(cloud, Output::Json, store, std::slice::from_ref(&artifact)).await?;
    let after = Version::new(&synthesized.template, Default::default())?;
    let kept = existing.parameters.keys();
    let kept = kept.filter(|name| after.document.parameters.contains_key(*name));
    let proposal = Proposal {
        stack: existing.name.clone(),
        stage: stage.to_string(),
        name: call::token("diff"),
        is_new: false,
        source: Source::Url(cloud.object_url(store, &artifact.key)),
        parameters: kept.map(|name| (name.clone(), None)).collect(),
        role_arn: None,
    };
    let Some(change_set) = call::propose(cloud, &proposal).await? else {
        return Ok(Vec::new());
    };
    call::discard(cloud, &change_set.stack_id, &change_set.id).await?;
    Ok(change_set.changes)
}
