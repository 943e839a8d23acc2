//! `outputs` and `open`: what a stage tells the outside.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value as Json, json};
use stack::{Stage, dashboard};

use crate::arguments::{Ask, Open};
use crate::aws::Cloud;
use crate::screen::progress::Output;
use crate::stack::call::{self, Stack};
use crate::stack::state::State;

pub(crate) async fn run(arguments: Ask) -> anyhow::Result<()> {
    let cloud = Cloud::connect(Duration::from_secs(2)).await?;
    let stack = deployed(&cloud, arguments.stage).await?;
    if arguments.json {
        println!("{}", as_json(&stack));
        return Ok(());
    }
    say(Output::Plain, &stack);
    Ok(())
}

/// Opens the dashboard in the person's browser, or prints where it is.
pub(crate) async fn open(arguments: Open) -> anyhow::Result<()> {
    let cloud = Cloud::connect(Duration::from_secs(2)).await?;
    let stack = deployed(&cloud, arguments.stage).await?;
    let url = dashboard_url(&stack, arguments.stage)?;
    println!("{url}");
    if arguments.print {
        return Ok(());
    }
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let status = Command::new(opener)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("run {opener}; `--print` only prints the address"))?;
    if !status.success() {
        bail!("{opener} ended with {status}; `--print` only prints the address");
    }
    Ok(())
}

/// The main stack of a stage that is deployed.
pub(crate) async fn deployed(cloud: &Cloud, stage: Stage) -> anyhow::Result<Stack> {
    cloud.identity().await?;
    let name = stack::stack_name(stage);
    let stack = call::find(cloud, &name).await?;
    if stack.as_ref().is_some_and(|it| it.state() == State::Review) {
        bail!(
            "stage {stage} is not deployed yet: a change set of `{name}` waits to be executed; deploy it by `cargo xtask deploy --stage {stage}`"
        );
    }
    let stack = stack.filter(|it| it.state() != State::Absent);
    stack.with_context(|| {
        format!("stage {stage} is not deployed in {}: there is no stack `{name}`; deploy it by `cargo xtask deploy --stage {stage}`", cloud.region)
    })
}

/// The dashboard's address.
pub(crate) fn dashboard_url(stack: &Stack, stage: Stage) -> anyhow::Result<&str> {
    stack.output(dashboard::URL_OUTPUT).with_context(|| {
        format!(
            "`{}` has no output `{}`: its last deployment did not end well, see `cargo xtask status --stage {stage}`",
            stack.name,
            dashboard::URL_OUTPUT,
        )
    })
}

/// The outputs as lines.
pub(crate) fn say(output: Output, stack: &Stack) {
    let width = stack
        .outputs
        .iter()
        .map(|it| it.name.len())
        .max()
        .unwrap_or(0);
    for stack_output in &stack.outputs {
        let description = match &stack_output.description {
            Some(description) => format!("  ({description})"),
            None => String::new(),
        };
        output.say(format!(
            "  {:width$}  {}{description}",
            stack_output.name, stack_output.value
        ));
    }
}

/// The outputs by their names.
pub(crate) fn as_json(stack: &Stack) -> Json {
    stack
        .outputs
        .iter()
        .map(|output| (output.name.clone(), json!(output.value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
