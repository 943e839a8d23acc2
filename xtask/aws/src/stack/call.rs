//! CloudFormation's calls about one stack, in our words.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use aws_sdk_cloudformation::types::{
    Capability, Change, ChangeSetStatus, ChangeSetType, EventFilter, ExecutionStatus, Parameter,
    StackResourceSummary, Tag, TemplateStage,
};

use crate::aws::{CallFailed, Cloud, failed};
use crate::stack::state::State;

/// Tag that every resource of a stage carries, where its type has tags.
pub(crate) const STAGE_TAG: &str = ::stack::STAGE_TAG;

/// A stack as CloudFormation describes it.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) outputs: Vec<StackOutput>,
    /// When it was created or last updated, in seconds since 1970.
    pub(crate) changed_at: Option<f64>,
    pub(crate) is_protected: bool,
    /// The service role that CloudFormation uses for every operation on it.
    pub(crate) role_arn: Option<String>,
}

/// An output of a stack.
#[derive(Clone, Debug)]
pub(crate) struct StackOutput {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) description: Option<String>,
}

impl Stack {
    pub(crate) fn state(&self) -> State {
        State::of(&self.status)
    }

    pub(crate) fn output(&self, name: &str) -> Option<&str> {
        let output = self.outputs.iter().find(|output| output.name == name)?;
        Some(&output.value)
    }
}

/// A stack by its name or ID; `None` when CloudFormation knows none.
pub(crate) async fn find(cloud: &Cloud, stack: &str) -> Result<Option<Stack>, CallFailed> {
    let answer = cloud.cfn.describe_stacks().stack_name(stack).send().await;
    let answer = match answer.map_err(|error| failed("look at the stack", error)) {
        Ok(answer) => answer,
        Err(error) if error.is_missing_stack() => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(answer.stacks().first().map(|stack| {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Stack {
            id: text(stack.stack_id()),
            name: text(stack.stack_name()),
            status: text(stack.stack_status().map(|status| status.as_str())),
            parameters: stack
                .parameters()
                .iter()
                .map(|it| (text(it.parameter_key()), text(it.parameter_value())))
                .collect(),
            outputs: stack
                .outputs()
                .iter()
                .map(|output| StackOutput {
                    name: text(output.output_key()),
                    value: text(output.output_value()),
                    description: output.description().map(str::to_owned),
                })
                .collect(),
            changed_at: stack
                .last_updated_time()
                .or(stack.creation_time())
                .map(|at| at.as_secs_f64()),
            is_protected: stack.enable_termination_protection().unwrap_or(false),
            role_arn: stack.role_arn().map(str::to_owned),
        }
    }))
}

/// The template as it was deployed.
pub(crate) async fn template(cloud: &Cloud, stack: &str) -> anyhow::Result<String> {
    let answer = cloud
        .cfn
        .get_template()
        .stack_name(stack)
        .template_stage(TemplateStage::Original)
        .send()
        .await
        .map_err(|error| failed("read the deployed template", error))?;
    answer
        .template_body
        .context("CloudFormation gave no template")
}

/// The template of a change set, and the parameters that it gives it.
pub(crate) async fn proposed(
    cloud: &Cloud,
    change_set: &ChangeSet,
) -> anyhow::Result<(String, BTreeMap<String, String>)> {
    let (template, described) = tokio::try_join!(
        async {
            cloud
                .cfn
                .get_template()
                .stack_name(&change_set.stack_id)
                .change_set_name(&change_set.id)
                .template_stage(TemplateStage::Original)
                .send()
                .await
                .map_err(|error| failed("read the plan's template", error))
        },
        async {
            cloud
                .cfn
                .describe_change_set()
                .stack_name(&change_set.stack_id)
                .change_set_name(&change_set.id)
                .send()
                .await
                .map_err(|error| failed("look at the change set", error))
        }
    )?;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let parameters = described
        .parameters()
        .iter()
        .map(|it| (text(it.parameter_key()), text(it.parameter_value())));
    let template = template
        .template_body
        .context("CloudFormation gave no template")?;
    Ok((template, parameters.collect()))
}

/// Every resource of a stack.
pub(crate) async fn resources(
    cloud: &Cloud,
    stack: &str,
) -> Result<Vec<StackResourceSummary>, CallFailed> {
    let mut resources = Vec::new();
    let mut next = None;
    loop {
        let page = cloud
            .cfn
            .list_stack_resources()
            .stack_name(stack)
            .set_next_token(next)
            .send()
            .await
            .map_err(|error| failed("list the stack's resources", error))?;
        resources.extend(page.stack_resource_summaries.unwrap_or_default());
        next = page.next_token;
        if next.is_none() {
            return Ok(resources);
        }
    }
}

/// The name of the stack's Beanstalk environment; `None` while it has none.
pub(crate) async fn environment(cloud: &Cloud, stack: &str) -> Result<Option<String>, CallFailed> {
    let resources = resources(cloud, stack).await?;
    let environment = resources
        .into_iter()
        .find(|it| it.resource_type() == Some("AWS::ElasticBeanstalk::Environment"));
    Ok(environment.and_then(|it| it.physical_resource_id))
}

/// Where a template comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Its text, at most 51,200 bytes.
    Body(String),
    /// An object in S3, at most 1 MB.
    Url(String),
}

/// A change set to be made.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) stack: String,
    pub(crate) stage: String,
    pub(crate) name: String,
    /// Whether the stack does not exist yet.
    pub(crate) is_new: bool,
    pub(crate) source: Source,
    /// A value, or `None` for the one that the stack has.
    pub(crate) parameters: Vec<(String, Option<String>)>,
    /// The role that CloudFormation shall use; `None`: the stack's own, or the caller's rights.
    pub(crate) role_arn: Option<String>,
}

/// A change set that can be executed.
#[derive(Clone, Debug)]
pub(crate) struct ChangeSet {
    pub(crate) id: String,
    pub(crate) stack_id: String,
    pub(crate) changes: Vec<Change>,
}

/// Makes a change set and waits until CloudFormation has compared; `None` when nothing would change.
pub(crate) async fn propose(
    cloud: &Cloud,
    proposal: &Proposal,
) -> anyhow::Result<Option<ChangeSet>> {
    let parameters = proposal.parameters.iter().map(|(name, value)| {
        let parameter = Parameter::builder().parameter_key(name);
        match value {
            Some(value) => parameter.parameter_value(value).build(),
            None => parameter.use_previous_value(true).build(),
        }
    });
    let kind = if proposal.is_new {
        ChangeSetType::Create
    } else {
        ChangeSetType::Update
    };
    let call = cloud
        .cfn
        .create_change_set()
        .stack_name(&proposal.stack)
        .change_set_name(&proposal.name)
        .client_token(&proposal.name)
        .change_set_type(kind)
        .capabilities(Capability::CapabilityIam)
        .set_parameters(Some(parameters.collect()))
        .set_role_arn(proposal.role_arn.clone())
        .tags(Tag::builder().key(STAGE_TAG).value(&proposal.stage).build());
    let call = match &proposal.source {
        Source::Body(body) => call.template_body(body),
        Source::Url(url) => call.template_url(url),
    };
    let made = match call.send().await {
        Ok(made) => made,
        Err(error) => {
            let error = failed("make a change set", error);
            if says_no_change(&error.message) {
                return Ok(None);
            }
            return Err(error).with_context(|| format!("stack `{}`", proposal.stack));
        }
    };
    let id = made
        .id
        .context("CloudFormation gave the change set no ID")?;
    match examine(cloud, &proposal.stack, &id).await? {
        Examined::Ready(change_set) => Ok(Some(change_set)),
        Examined::Empty => {
            discard(cloud, &proposal.stack, &id).await?;
            Ok(None)
        }
        Examined::Refused(why) => {
            discard(cloud, &proposal.stack, &id).await?;
            bail!(
                "CloudFormation refuses the change of `{}`, and nothing has changed: {why}",
                proposal.stack
            )
        }
    }
}

fn says_no_change(reason: &str) -> bool {
    reason.contains("didn't contain changes") || reason.contains("No updates are to be performed")
}

/// What became of a change set.
#[derive(Debug)]
pub(crate) enum Examined {
    /// It can be executed.
    Ready(ChangeSet),
    /// Nothing would change.
    Empty,
    /// It cannot be executed, and why.
    Refused(String),
}

/// Waits until a change set is made, and reads all of it.
pub(crate) async fn examine(
    cloud: &Cloud,
    stack: &str,
    change_set: &str,
) -> anyhow::Result<Examined> {
    let mut changes = Vec::new();
    let mut next = None;
    loop {
        let page = cloud
            .cfn
            .describe_change_set()
            .stack_name(stack)
            .change_set_name(change_set)
            .include_property_values(true)
            .set_next_token(next.take())
            .send()
            .await
            .map_err(|error| failed("look at the change set", error))?;
        let status = page.status().cloned();
        match status {
            Some(ChangeSetStatus::CreatePending | ChangeSetStatus::CreateInProgress) => {
                tokio::time::sleep(cloud.poll).await;
                continue;
            }
            Some(ChangeSetStatus::CreateComplete) => {}
            other => {
                let reason = page.status_reason().unwrap_or("no reason given");
                if says_no_change(reason) {
                    return Ok(Examined::Empty);
                }
                let id = page.change_set_id().unwrap_or(change_set);
                let mut why = match other {
                    Some(ChangeSetStatus::Failed) | None => reason.to_owned(),
                    Some(other) => format!("the change set is {} ({reason})", other.as_str()),
                };
                for detail in validation(cloud, id).await {
                    why.push_str("\n  ");
                    why.push_str(&detail);
                }
                return Ok(Examined::Refused(why));
            }
        }
        changes.extend(page.changes().iter().cloned());
        if page.next_token().is_some() {
            next = page.next_token;
            continue;
        }
        return Ok(match page.execution_status() {
            Some(ExecutionStatus::Available) | None => Examined::Ready(ChangeSet {
                id: page.change_set_id.unwrap_or_else(|| change_set.to_owned()),
                stack_id: page.stack_id.unwrap_or_else(|| stack.to_owned()),
                changes,
            }),
            Some(ExecutionStatus::Obsolete) => {
                Examined::Refused("the stack has changed since the change set was made".to_owned())
            }
            Some(other) => Examined::Refused(format!("its execution status is {}", other.as_str())),
        });
    }
}

/// What the validation before the deployment found: only `DescribeEvents` tells.
///
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/validate-stack-deployments.html>
async fn validation(cloud: &Cloud, change_set: &str) -> Vec<String> {
    let mut events = Vec::new();
    let mut next = None;
    loop {
        let answer = cloud
            .cfn
            .describe_events()
            .change_set_name(change_set)
            .filters(EventFilter::builder().failed_events(true).build())
            .set_next_token(next)
            .send()
            .await;
        // It only adds to a reason that is known already.
        let Ok(answer) = answer else {
            break;
        };
        next = answer.next_token;
        events.extend(answer.operation_events.unwrap_or_default());
        if next.is_none() {
            break;
        }
    }
    events
        .iter()
        .filter_map(|event| {
            let reason = event
                .validation_status_reason()
                .or(event.resource_status_reason())?;
            let id = event.logical_resource_id().unwrap_or("the template");
            Some(match event.validation_path() {
                Some(path) => format!("{id}: {reason} (at {path})"),
                None => format!("{id}: {reason}"),
            })
        })
        .collect()
}

/// Deletes a change set; one that is gone already is fine.
pub(crate) async fn discard(cloud: &Cloud, stack: &str, change_set: &str) -> anyhow::Result<()> {
    let answer = cloud
        .cfn
        .delete_change_set()
        .stack_name(stack)
        .change_set_name(change_set)
        .send()
        .await;
    match answer.map_err(|error| failed("delete the change set", error)) {
        Err(error)
            if error.is_missing_stack() || error.code.as_deref() == Some("ChangeSetNotFound") =>
        {
            Ok(())
        }
        other => Ok(other.map(drop)?),
    }
}

/// Starts the execution of a change set; the token by which its events are known.
pub(crate) async fn execute(cloud: &Cloud, change_set: &ChangeSet) -> anyhow::Result<String> {
    let token = token("execute");
    cloud
        .cfn
        .execute_change_set()
        .change_set_name(&change_set.id)
        .stack_name(&change_set.stack_id)
        .client_request_token(&token)
        .send()
        .await
        .map_err(|error| failed("execute the change set", error))?;
    Ok(token)
}

/// Switches the termination protection of a stack on or off: CloudFormation refuses to delete a protected
/// one.
pub(crate) async fn set_protection(
    cloud: &Cloud,
    stack_id: &str,
    is_protected: bool,
) -> Result<(), CallFailed> {
    let call = cloud.cfn.update_termination_protection();
    let call = call.stack_name(stack_id);
    let answer = call.enable_termination_protection(is_protected).send();
    let what = "change the termination protection";
    answer.await.map_err(|error| failed(what, error))?;
    Ok(())
}

/// Starts the deletion of a stack; the token by which its events are known.
pub(crate) async fn delete(
    cloud: &Cloud,
    stack_id: &str,
    retain: &[String],
    role_arn: Option<&str>,
) -> Result<String, CallFailed> {
    let token = token("delete");
    cloud
        .cfn
        .delete_stack()
        .stack_name(stack_id)
        .set_retain_resources((!retain.is_empty()).then(|| retain.to_vec()))
        .set_role_arn(role_arn.map(str::to_owned))
        .client_request_token(&token)
        .send()
        .await
        .map_err(|error| failed("delete the stack", error))?;
    Ok(token)
}

/// A name that no other call uses: it begins with what it is for and holds the time.
pub(crate) fn token(what: &str) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{what}-{:x}-{:x}", now.as_micros(), std::process::id())
}
