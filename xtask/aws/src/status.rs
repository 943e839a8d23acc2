//! `status`: state, artifacts and health of a stage's two stacks.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use stack::parameters;

use crate::arguments::Ask;
use crate::aws::Cloud;
use crate::aws::beanstalk;
use crate::screen::progress::Output;
use crate::stack::call::{self, Stack};
use crate::stack::state;

/// Parameters that name the deployed versions.
const RUNNING: [(&str, &str); 3] = [
    (parameters::FUNCTION_KEY, "function"),
    (parameters::BUNDLE_KEY, "web UI"),
    (parameters::PLATFORM_ARN, "platform"),
];

pub(crate) async fn run(arguments: Ask) -> anyhow::Result<()> {
    let stage = arguments.stage;
    let output = if arguments.json {
        Output::Json
    } else {
        Output::Plain
    };
    let cloud = Cloud::connect(Duration::from_secs(2)).await?;
    let identity = cloud.identity().await?;
    output.say(format!(
        "stage {stage} in account {}, region {}",
        identity.account, cloud.region
    ));
    for name in [stack::artifacts_stack_name(stage), stack::stack_name(stage)] {
        let stack = call::find(&cloud, &name).await?;
        let Some(stack) = stack else {
            output.say(format!("`{name}`: not deployed"));
            output.tell(&json!({ "stack": name, "status": null }));
            continue;
        };
        let health = health(&cloud, &stack).await?;
        say(output, &stack, health.as_deref());
    }
    Ok(())
}

/// Health of the stack's Beanstalk environment; `None` if it has none.
async fn health(cloud: &Cloud, stack: &Stack) -> anyhow::Result<Option<String>> {
    match call::environment(cloud, &stack.id).await? {
        Some(environment) => beanstalk::health(cloud, &environment).await,
        None => Ok(None),
    }
}

fn say(output: Output, stack: &Stack, health: Option<&str>) {
    let changed_at = stack.changed_at.and_then(timestamp);
    let since = changed_at.map_or(String::new(), |at| format!(", last changed {at}"));
    output.say(format!(
        "`{}`: {}, {}{since}",
        stack.name,
        stack.status,
        state::in_words(&stack.status)
    ));
    for (parameter, what) in RUNNING {
        if let Some(value) = stack.parameters.get(parameter) {
            output.say(format!("  {what}: {value}"));
        }
    }
    if let Some(health) = health {
        output.say(format!("  environment: {health}"));
    }
    output.tell(&json!({
        "stack": stack.name, "status": stack.status, "parameters": stack.parameters,
        "changedAt": changed_at.map(|at| at.to_string()), "environment": health,
    }));
}

fn timestamp(seconds: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds are shown")]
    Timestamp::from_second(seconds as i64).ok()
}
