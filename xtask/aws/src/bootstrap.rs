//! `bootstrap`: the stack of an account and region that says who may deploy, and how `deploy` and `destroy` find
//! and use it.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value as Json, json};
use stack::{Stage, bootstrap as bootstrap_stack, parameters as stack_parameters};

use crate::arguments::{self, PRINT_SUBJECT};
use crate::aws::{CallFailed, Cloud, Identity};
use crate::deploy::{YES, confirmed, execute, footing, wanted};
use crate::outputs;
use crate::screen::progress::Output;
use crate::stack::call::{self, Stack};
use crate::stack::change::Change;
use crate::stack::operation::{Operator, Owner, StartingState};
use crate::stack::state::State;

/// What a bootstrapped account and region gives to deployments.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrap {
    /// ARN of the role that CloudFormation deploys with.
    pub(crate) service_role: String,
    /// ARN of the permissions boundary of every role.
    pub(crate) boundary: String,
}

impl Bootstrap {
    fn of(stack: &Stack) -> Option<Bootstrap> {
        Some(Bootstrap {
            service_role: stack
                .output(bootstrap_stack::SERVICE_ROLE_OUTPUT)?
                .to_owned(),
            boundary: stack.output(bootstrap_stack::BOUNDARY_OUTPUT)?.to_owned(),
        })
    }
}

/// The bootstrap of the account and region; `None` where there is none.
pub(crate) async fn find(cloud: &Cloud) -> Result<Option<Bootstrap>, CallFailed> {
    let stack = call::find(cloud, bootstrap_stack::STACK_NAME).await?;
    Ok(stack.as_ref().and_then(Bootstrap::of))
}

/// The bootstrap that was found. Who may not look goes on with their own rights, which is said.
///
/// # Errors
/// Any other failure.
pub(crate) fn known(
    output: Output,
    found: Result<Option<Bootstrap>, CallFailed>,
) -> anyhow::Result<Option<Bootstrap>> {
    match found {
        Ok(bootstrap) => Ok(bootstrap),
        Err(error) if error.is_denied() => {
            output.say(format!(
                "cannot look whether the account is bootstrapped, so CloudFormation acts with your own rights ({error})"
            ));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses a stack whose service role went with its bootstrap: CloudFormation would fail at every operation.
///
/// # Errors
/// The role is a bootstrap's, and there is none now.
pub(crate) fn check_role(stack: &Stack, bootstrap: Option<&Bootstrap>) -> anyhow::Result<()> {
    let prefix = format!(":role/{}-", bootstrap_stack::STACK_NAME);
    match &stack.role_arn {
        Some(role) if bootstrap.is_none() && role.contains(&prefix) => bail!(
            "cannot change `{}`: CloudFormation acts on it by the service role {role}, and the bootstrap that made the role is gone\nfix: `cargo xtask bootstrap` makes another, which the same command then uses",
            stack.name
        ),
        _ => Ok(()),
    }
}

pub(crate) async fn run(arguments: arguments::Bootstrap) -> anyhow::Result<()> {
    let output = Output::new(arguments.json);
    let stack = bootstrap_stack::synth().context("the bootstrap does not synthesise")?;
    let cloud = Cloud::connect(Duration::from_millis(arguments.poll)).await?;
    let identity = cloud.identity().await?;
    output.say(format!(
        "bootstrap of account {}, region {}",
        identity.account, cloud.region
    ));
    let operator = Operator::new(&cloud, output, Owner::Bootstrap, &stack)?;
    if arguments.remove {
        return remove(&arguments, &operator).await;
    }
    create(&arguments, &operator, &stack.template, &identity).await
}

async fn create(
    arguments: &arguments::Bootstrap,
    operator: &Operator,
    template: &str,
    identity: &Identity,
) -> anyhow::Result<()> {
    let Operator { cloud, output, .. } = operator;
    let found = call::find(cloud, &operator.stack).await;
    let existing = match footing(operator, found, &[]).await? {
        StartingState::Existing(stack) => {
            let template = call::template(cloud, &stack.id).await?;
            Some((stack, template))
        }
        StartingState::New => None,
    };
    let is_new = existing.is_none();
    // A template that goes with the call may have 51,200 bytes, so white space stays at home.
    let compact: Json = serde_json::from_str(template).context("read the template")?;
    let compact = compact.to_string();
    let change = Change {
        operator,
        existing: existing
            .as_ref()
            .map(|(stack, template)| (stack, template.as_str())),
        template: &compact,
        parameters: parameters(arguments, existing.as_ref().map(|it| &it.0)),
        store: None,
    };
    let Some(planned) = change.prepare().await? else {
        output.say(format!("`{}`: no change", operator.stack));
        output.tell(&json!({ "result": "unchanged", "stack": operator.stack }));
        if let Some((stack, _)) = &existing {
            protect(cloud, stack, true).await?;
            outputs::say(*output, stack);
        }
        return Ok(());
    };
    planned.show(*output, &operator.stack, is_new);
    if arguments.plan {
        planned.discard(operator, is_new).await?;
        output.tell(&json!({ "result": "planned", "stack": operator.stack }));
        return Ok(());
    }
    let question = format!(
        "bootstrap account {} in region {}? [y/N] ",
        identity.account, cloud.region
    );
    let answer = confirmed(arguments.yes, &question, YES);
    if !matches!(answer, Ok(true)) {
        planned.discard(operator, is_new).await?;
        answer?;
        bail!("nothing was changed: the answer was no");
    }
    let started = Instant::now();
    let ended = execute(operator, &planned.change_set).await?;
    operator
        .check(ended, wanted(is_new))
        .map_err(|error| match error.to_string().contains("already exists") {
            true => error.context(
                "an account has one identity provider for GitHub; fix: `cargo xtask bootstrap --github-provider-exists` uses the one that is there",
            ),
            false => error,
        })?;
    let stack = call::find(cloud, &planned.change_set.stack_id).await?;
    let stack = stack.with_context(|| format!("`{}` is gone again", operator.stack))?;
    protect(cloud, &stack, true).await?;
    output.say(format!(
        "`{}` is {} in {:.1} s",
        stack.name,
        crate::stack::state::in_words(&stack.status),
        started.elapsed().as_secs_f64()
    ));
    outputs::say(*output, &stack);
    output.tell(&json!({
        "result": "bootstrapped", "stack": stack.name, "status": stack.status,
        "outputs": outputs::as_json(&stack),
    }));
    advise(*output, &stack);
    Ok(())
}

/// What is left to a person.
fn advise(output: Output, stack: &Stack) {
    if let Some(policy) = stack.output(bootstrap_stack::DEPLOYER_POLICY_OUTPUT) {
        output.say(format!(
            "let others deploy: `aws iam attach-role-policy --role-name ROLE --policy-arn {policy}`"
        ));
    }
    match stack.output(bootstrap_stack::GITHUB_ROLE_OUTPUT) {
        Some(role) => output.say(format!(
            "let the workflow deploy: `gh variable set AWS_DEPLOY_ROLE --env ENVIRONMENT --body {role}`"
        )),
        None => output.say(format!(
            "let a GitHub environment deploy: print its subject by `{PRINT_SUBJECT}`, then `cargo xtask bootstrap --github-subject SUB`"
        )),
    }
}

fn parameters(
    arguments: &arguments::Bootstrap,
    existing: Option<&Stack>,
) -> Vec<(&'static str, Option<String>)> {
    let provider = arguments
        .github_provider_exists
        .then(|| bootstrap_stack::EXISTING_PROVIDER.to_owned());
    let wanted = [
        (
            bootstrap_stack::GITHUB_SUBJECT,
            arguments.github_subject.clone(),
        ),
        (bootstrap_stack::GITHUB_PROVIDER, provider),
    ];
    let is_set = |name: &str| existing.is_some_and(|stack| stack.parameters.contains_key(name));
    wanted
        .into_iter()
        .filter(|(name, given)| given.is_some() || is_set(name))
        .collect()
}

/// Sets the stack's termination protection: without its role no stage can be changed.
async fn protect(cloud: &Cloud, stack: &Stack, is_protected: bool) -> anyhow::Result<()> {
    if stack.is_protected == is_protected {
        return Ok(());
    }
    call::set_protection(cloud, &stack.id, is_protected).await?;
    Ok(())
}

async fn remove(arguments: &arguments::Bootstrap, operator: &Operator) -> anyhow::Result<()> {
    let Operator { cloud, output, .. } = operator;
    let found = call::find(cloud, &operator.stack).await?;
    let found = found.filter(|stack| stack.state() != State::Absent);
    let Some(mut stack) = found else {
        output.say("nothing to remove: the account is not bootstrapped in this region");
        output.tell(&json!({ "result": "nothing to remove" }));
        return Ok(());
    };
    if stack.state() == State::Busy {
        operator.wait_for_other(&stack).await?;
        match call::find(cloud, &operator.stack).await? {
            Some(now) => stack = now,
            None => return Ok(()),
        }
    }
    let users = users(cloud, &stack).await?;
    if !users.is_empty() {
        let fixes: Vec<String> = users
            .iter()
            .map(|(name, stage)| format!("`{name}` (fix: `cargo xtask destroy --stage {stage}`)"))
            .collect();
        bail!(
            "cannot remove the bootstrap: stacks use its service role or its permissions boundary: {}",
            fixes.join(", ")
        );
    }
    if !confirmed(arguments.yes, "remove the bootstrap? [y/N] ", YES)? {
        bail!("nothing was removed: the answer was no");
    }
    protect(cloud, &stack, false).await?;
    let ended = operator.delete(&stack, &[]).await?;
    operator.check(ended, "deleted")?;
    output.say(format!("`{}` is gone", operator.stack));
    output.tell(&json!({ "result": "removed", "stack": operator.stack }));
    Ok(())
}

/// The stages' stacks that could not be changed without the bootstrap.
async fn users(cloud: &Cloud, bootstrap: &Stack) -> anyhow::Result<Vec<(String, Stage)>> {
    let known = Bootstrap::of(bootstrap);
    let prefix = format!(":role/{}-", bootstrap_stack::STACK_NAME);
    let mut users = Vec::new();
    for stage in Stage::ALL {
        for name in [stack::stack_name(stage), stack::artifacts_stack_name(stage)] {
            let found = call::find(cloud, &name).await?;
            let Some(stack) = found.filter(|stack| stack.state() != State::Absent) else {
                continue;
            };
            let by_role = stack
                .role_arn
                .as_ref()
                .is_some_and(|role| role.contains(&prefix));
            let boundary = stack.parameters.get(stack_parameters::PERMISSIONS_BOUNDARY);
            let by_boundary = known
                .as_ref()
                .is_some_and(|known| boundary == Some(&known.boundary));
            if by_role || by_boundary {
                users.push((name, stage));
            }
        }
    }
    Ok(users)
}
