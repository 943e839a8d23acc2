//! What brings data into a stage and what holds its network: switched off before it is destroyed, and
//! on again when somebody deploys after a destroy that was interrupted.
//!
//! Everything is asked for and nothing is remembered, so it does not matter where it was interrupted.
//! A stack update alone would mend nothing: CloudFormation compares templates, not what is there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use aws_sdk_cloudformation::types::StackResourceSummary;
use aws_sdk_lambda::types::{LastUpdateStatus, VpcConfig};
use serde_json::Value as Json;
use tokio::task::JoinSet;

use crate::aws::ec2::{Ec2, Interface};
use crate::aws::iot::Iot;
use crate::aws::{CallFailed, Cloud, failed};
use crate::screen::progress::Output;
use crate::stack::call;

/// A mapping takes up to a minute and a half to change its state, a function some minutes to leave
/// its network. Nothing depends on these but how long a stuck one is waited for.
const MAPPING_DEADLINE: Duration = Duration::from_secs(10 * 60);
const FUNCTION_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// How often the person hears that it is still waited for.
const REMINDER: Duration = Duration::from_secs(60);

/// What of a stack can be switched off, by its physical IDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// Topic rules with their logical IDs.
    rules: Vec<(String, String)>,
    mapping: Option<(String, String)>,
    function: Option<(String, String)>,
}

impl Sources {
    /// Those that the stack has now.
    pub(crate) fn of(resources: &[StackResourceSummary]) -> Sources {
        let mut sources = Sources::default();
        for resource in resources {
            let gone = resource
                .resource_status()
                .is_some_and(|status| status.as_str() == "DELETE_COMPLETE");
            let (Some(logical), Some(physical)) = (
                resource.logical_resource_id(),
                resource.physical_resource_id().filter(|id| !id.is_empty()),
            ) else {
                continue;
            };
            if gone {
                continue;
            }
            let named = (logical.to_owned(), physical.to_owned());
            match resource.resource_type() {
                Some("AWS::IoT::TopicRule") => sources.rules.push(named),
                Some("AWS::Lambda::EventSourceMapping") => sources.mapping = Some(named),
                Some("AWS::Lambda::Function") => sources.function = Some(named),
                _ => {}
            }
        }
        sources
    }

    /// The function's name.
    pub(crate) fn function(&self) -> Option<&str> {
        Some(&self.function.as_ref()?.1)
    }
}

/// Switches the sources off and takes the function out of its network. What must not be done is
/// said, and the rest goes on: the deletion then only takes longer.
pub(crate) async fn stop(cloud: &Cloud, output: Output, sources: &Sources) -> anyhow::Result<()> {
    if *sources == Sources::default() {
        return Ok(());
    }
    let mapping = sources.mapping.as_ref().map(|(_, id)| id.as_str());
    output.say(format!(
        "switching off what brings data: {} topic rules{}",
        sources.rules.len(),
        mapping.map_or("", |_| " and the event source mapping")
    ));
    let rules = switch_rules(cloud, output, &sources.rules, false);
    let mapping = async {
        match mapping {
            Some(mapping) => pause_mapping(cloud, output, mapping).await,
            None => Ok(()),
        }
    };
    tokio::try_join!(rules, mapping)?;
    if let Some(function) = sources.function() {
        detach(cloud, output, function).await?;
    }
    Ok(())
}

/// Rules one after the other: IoT's control plane takes few calls a second.
async fn switch_rules(
    cloud: &Cloud,
    output: Output,
    rules: &[(String, String)],
    enabled: bool,
) -> anyhow::Result<()> {
    let iot = Iot::new(cloud)?;
    for (logical, name) in rules {
        let switched = iot.set_rule(name, enabled).await;
        if permitted(output, logical, switched)?.is_none() {
            break;
        }
    }
    Ok(())
}

async fn pause_mapping(cloud: &Cloud, output: Output, mapping: &str) -> anyhow::Result<()> {
    let what = "switch the event source mapping off";
    let Some(true) = permitted(
        output,
        "event source mapping",
        set_mapping(cloud, what, mapping, false).await,
    )?
    else {
        return Ok(());
    };
    let mut wait = Wait::new(cloud, MAPPING_DEADLINE);
    while let Some(state) = mapping_state(cloud, mapping).await? {
        if state == "Disabled" {
            return Ok(());
        }
        let still = "the event source mapping still hands out what it has read";
        if !wait.again(output, still).await {
            output.say(format!(
                "the event source mapping is {state} and not Disabled: going on all the same"
            ));
            return Ok(());
        }
    }
    Ok(())
}

/// Switches the mapping; returns whether there is one. While it changes it is waited for.
async fn set_mapping(
    cloud: &Cloud,
    what: &'static str,
    mapping: &str,
    enabled: bool,
) -> Result<bool, CallFailed> {
    let started = Instant::now();
    loop {
        let call = cloud.lambda.update_event_source_mapping();
        let answer = call.uuid(mapping).enabled(enabled).send().await;
        match answer.map_err(|error| failed(what, error)) {
            Ok(_) => return Ok(true),
            Err(error) if is_missing(&error) => return Ok(false),
            Err(error) if is_changing(&error) && started.elapsed() < MAPPING_DEADLINE => {
                tokio::time::sleep(cloud.poll).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The mapping's state, such as `Enabled`; `None` when there is none.
async fn mapping_state(cloud: &Cloud, mapping: &str) -> Result<Option<String>, CallFailed> {
    let call = cloud.lambda.get_event_source_mapping().uuid(mapping);
    match call
        .send()
        .await
        .map_err(|error| failed("look at the event source mapping", error))
    {
        Err(error) if is_missing(&error) => Ok(None),
        answer => Ok(Some(answer?.state.unwrap_or_default())),
    }
}

/// What a function's configuration says of its network.
struct Placed {
    is_in_network: bool,
    is_changing: bool,
    failure: Option<String>,
}

async fn placed(cloud: &Cloud, function: &str) -> Result<Option<Placed>, CallFailed> {
    let call = cloud.lambda.get_function_configuration();
    let answer = call.function_name(function).send().await;
    let answer = match answer.map_err(|error| failed("look at the function", error)) {
        Err(error) if is_missing(&error) => return Ok(None),
        answer => answer?,
    };
    let failure = (answer.last_update_status() == Some(&LastUpdateStatus::Failed)).then(|| {
        let reason = answer.last_update_status_reason();
        reason.unwrap_or("no reason given").to_owned()
    });
    Ok(Some(Placed {
        is_in_network: answer
            .vpc_config()
            .is_some_and(|config| !config.subnet_ids().is_empty()),
        is_changing: answer.last_update_status() == Some(&LastUpdateStatus::InProgress)
            || answer.state().is_some_and(|it| it.as_str() == "Pending"),
        failure,
    }))
}

/// Puts the function into the given network, or into none; returns whether there is one.
async fn place(cloud: &Cloud, function: &str, network: VpcConfig) -> Result<bool, CallFailed> {
    let started = Instant::now();
    loop {
        let call = cloud.lambda.update_function_configuration();
        let call = call.function_name(function);
        let answer = call.vpc_config(network.clone()).send().await;
        match answer.map_err(|error| failed("change the function's network", error)) {
            Ok(_) => return Ok(true),
            Err(error) if is_missing(&error) => return Ok(false),
            Err(error) if is_changing(&error) && started.elapsed() < FUNCTION_DEADLINE => {
                tokio::time::sleep(cloud.poll).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits until the function has changed; returns how it is then.
async fn settled(
    cloud: &Cloud,
    output: Output,
    function: &str,
    still: &str,
) -> Result<Option<Placed>, CallFailed> {
    let mut wait = Wait::new(cloud, FUNCTION_DEADLINE);
    loop {
        let now = placed(cloud, function).await?;
        let is_changing = now.as_ref().is_some_and(|now| now.is_changing);
        if !is_changing || !wait.again(output, still).await {
            return Ok(now);
        }
    }
}

/// Takes the function out of its network, and its network interfaces out of the way.
///
/// CloudFormation deletes the function at once, but Lambda lets go of the interfaces only 20 to 45
/// minutes later, and subnets and security groups cannot go before.
async fn detach(cloud: &Cloud, output: Output, function: &str) -> anyhow::Result<()> {
    let Some(now) = permitted(output, "function", placed(cloud, function).await)? else {
        return Ok(());
    };
    let nowhere = VpcConfig::builder()
        .set_subnet_ids(Some(Vec::new()))
        .set_security_group_ids(Some(Vec::new()))
        .build();
    if now.is_some_and(|now| now.is_in_network) {
        output.say(
            "taking the function out of the network: some minutes now instead of up to 45 later, when its network interfaces would hold the subnets",
        );
        let left = place(cloud, function, nowhere).await;
        if permitted(output, "function", left)? != Some(true) {
            return Ok(());
        }
        let still = "Lambda still takes the function out of the network";
        let now = settled(cloud, output, function, still).await?;
        if let Some(failure) = now.and_then(|now| now.failure) {
            output.say(format!(
                "the function could not leave the network ({failure}): going on all the same"
            ));
        }
    }
    let left = release(cloud, output, function).await;
    permitted(output, "network interfaces", left)?;
    Ok(())
}

/// Deletes the interfaces that Lambda made for exactly this function and no longer uses; returns how
/// many are still in use.
pub(crate) async fn release(
    cloud: &Cloud,
    output: Output,
    function: &str,
) -> Result<usize, CallFailed> {
    let Ok(ec2) = Ec2::new(cloud) else {
        // Without credentials nothing else would have come this far.
        return Ok(0);
    };
    let pattern = format!("{}*", description(function));
    let found = ec2
        .interfaces(&[("description", &[pattern.as_str()])])
        .await?;
    let mut left = 0;
    let mut deleted = 0;
    for interface in found.iter().filter(|it| is_of(it, function)) {
        if interface.status != "available" {
            left += 1;
            continue;
        }
        match ec2.delete_interface(&interface.id).await {
            Ok(()) => deleted += 1,
            // In use again, or not yet let go of: the next look shows.
            Err(error) if !is_denied(&error) => left += 1,
            Err(error) => return Err(error),
        }
    }
    if deleted > 0 {
        output.say(format!(
            "deleted {deleted} network interfaces that Lambda had left behind"
        ));
    }
    Ok(left)
}

/// Waits until no interface of the function is left, as long as Lambda is known to take.
pub(crate) async fn wait_for_release(
    cloud: &Cloud,
    output: Output,
    function: &str,
) -> anyhow::Result<()> {
    let mut wait = Wait::new(cloud, Duration::from_secs(45 * 60));
    loop {
        let left = release(cloud, output, function).await;
        let Some(left) = permitted(output, "network interfaces", left)? else {
            return Ok(());
        };
        let still = format!("Lambda still holds {left} network interfaces of the function");
        if left == 0 || !wait.again(output, &still).await {
            return Ok(());
        }
    }
}

fn description(function: &str) -> String {
    format!("AWS Lambda VPC ENI-{function}-")
}

/// Whether an interface was made for exactly this function: a UUID ends its description. Another
/// function's name may begin with this one's and a hyphen.
fn is_of(interface: &Interface, function: &str) -> bool {
    let Some(end) = interface.description.strip_prefix(&description(function)) else {
        return false;
    };
    let groups: Vec<usize> = end.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && end.chars().all(|it| it == '-' || it.is_ascii_hexdigit())
}

/// Switches on again what an interrupted destroy has switched off; returns whether there was
/// anything. All is asked at once, so a stack that is whole costs the time of one call.
///
/// What the deployed template itself switches off stays so.
pub(crate) async fn resume(
    cloud: &Cloud,
    output: Output,
    stack_id: &str,
    resources: &[StackResourceSummary],
) -> anyhow::Result<bool> {
    let sources = Sources::of(resources);
    let off = Off::find(cloud, output, &sources).await?;
    if off == Off::default() {
        return Ok(false);
    }
    let template = call::template(cloud, stack_id).await?;
    let template: Json =
        serde_json::from_str(&template).context("read the deployed template as JSON")?;
    let properties = |logical: &str| &template["Resources"][logical]["Properties"];
    let mut did = Vec::new();

    // The function first: what the mapping hands it needs the network.
    if let Some((logical, name)) = &off.function
        && let Some(network) = network(properties(logical), resources)?
    {
        output.say("an interrupted destroy took the function out of the network: putting it back");
        place(cloud, name, network).await?;
        let still = "Lambda still puts the function into the network";
        let now = settled(cloud, output, name, still).await?;
        if let Some(failure) = now.and_then(|now| now.failure) {
            bail!("the function cannot be put back into the network: {failure}");
        }
        did.push("the function's network".to_owned());
    }
    if let Some((logical, id)) = &off.mapping
        && properties(logical)["Enabled"] != false
    {
        set_mapping(cloud, "switch the event source mapping on", id, true).await?;
        did.push("the event source mapping".to_owned());
    }
    let rules: Vec<_> = off
        .rules
        .into_iter()
        .filter(|(logical, _)| properties(logical)["TopicRulePayload"]["RuleDisabled"] != true)
        .collect();
    if !rules.is_empty() {
        switch_rules(cloud, output, &rules, true).await?;
        did.push(format!("{} topic rules", rules.len()));
    }
    if did.is_empty() {
        return Ok(false);
    }
    output.say(format!(
        "switched on again what an interrupted destroy had switched off: {}",
        did.join(", ")
    ));
    output.tell(&serde_json::json!({ "resumed": did }));
    Ok(true)
}

/// What is switched off.
#[derive(Debug, Default, PartialEq, Eq)]
struct Off {
    rules: Vec<(String, String)>,
    mapping: Option<(String, String)>,
    function: Option<(String, String)>,
}

impl Off {
    async fn find(cloud: &Cloud, output: Output, sources: &Sources) -> anyhow::Result<Off> {
        let iot = Iot::new(cloud)?;
        let mut asked = JoinSet::new();
        for (index, (_, name)) in sources.rules.iter().enumerate() {
            let (iot, name) = (iot.clone(), name.clone());
            asked.spawn(async move { (index, iot.is_rule_enabled(&name).await) });
        }
        let rules = async {
            let mut off = Vec::new();
            while let Some(answer) = asked.join_next().await {
                let (index, answer) = answer.context("ask for the topic rules")?;
                let (logical, _) = &sources.rules[index];
                if permitted(output, logical, answer)? == Some(Some(false)) {
                    off.push(index);
                }
            }
            off.sort_unstable();
            let off = off.into_iter().map(|index| sources.rules[index].clone());
            anyhow::Ok(off.collect())
        };
        let mapping = async {
            let Some((_, id)) = &sources.mapping else {
                return Ok(None);
            };
            let state = mapping_state(cloud, id).await;
            let state = permitted(output, "event source mapping", state)?.flatten();
            let is_off = matches!(state.as_deref(), Some("Disabled" | "Disabling"));
            anyhow::Ok(is_off.then(|| sources.mapping.clone()).flatten())
        };
        let function = async {
            let Some((_, name)) = &sources.function else {
                return Ok(None);
            };
            let placed = placed(cloud, name).await;
            let placed = permitted(output, "function", placed)?.flatten();
            let is_out = placed.is_some_and(|it| !it.is_in_network);
            anyhow::Ok(is_out.then(|| sources.function.clone()).flatten())
        };
        let (rules, mapping, function) = tokio::try_join!(rules, mapping, function)?;
        Ok(Off {
            rules,
            mapping,
            function,
        })
    }
}

/// The network that a function's properties want, with the stack's physical IDs; `None` when they
/// want none.
fn network(
    properties: &Json,
    resources: &[StackResourceSummary],
) -> anyhow::Result<Option<VpcConfig>> {
    let wanted = &properties["VpcConfig"];
    if wanted.is_null() {
        return Ok(None);
    }
    let physical: BTreeMap<&str, &str> = resources
        .iter()
        .filter_map(|it| Some((it.logical_resource_id()?, it.physical_resource_id()?)))
        .collect();
    let ids = |list: &Json| -> anyhow::Result<Vec<String>> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter()
            .map(|value| resolved(value, &physical))
            .collect()
    };
    let network = VpcConfig::builder()
        .set_subnet_ids(Some(ids(&wanted["SubnetIds"])?))
        .set_security_group_ids(Some(ids(&wanted["SecurityGroupIds"])?))
        .build();
    Ok(Some(network))
}

/// The ID of a subnet or security group: both are what `Ref` gives.
fn resolved(value: &Json, physical: &BTreeMap<&str, &str>) -> anyhow::Result<String> {
    let logical = match value {
        Json::String(id) => return Ok(id.clone()),
        Json::Object(_) if value["Ref"].is_string() => value["Ref"].as_str(),
        Json::Object(_) if value["Fn::GetAtt"][1] == "GroupId" => value["Fn::GetAtt"][0].as_str(),
        _ => None,
    };
    let id = logical.and_then(|logical| physical.get(logical));
    id.map(|id| (*id).to_owned()).with_context(|| {
        format!("cannot put the function back into its network: {value} of the deployed template names no resource of the stack")
    })
}

/// A result, or `None` and a line to the person when the permission is missing: what is asked for
/// here makes things quicker or safer, and the rest goes on without.
fn permitted<T>(
    output: Output,
    what: &str,
    result: Result<T, CallFailed>,
) -> anyhow::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_denied(&error) => {
            output.say(format!("warning: {what}: {error}; going on without"));
            output.tell(&serde_json::json!({ "warning": format!("{what}: {error}") }));
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| what.to_owned()),
    }
}

/// Whether a permission is missing.
pub(crate) fn is_denied(error: &CallFailed) -> bool {
    matches!(
        error.code.as_deref(),
        Some("AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation")
    )
}

fn is_missing(error: &CallFailed) -> bool {
    error.code.as_deref() == Some("ResourceNotFoundException")
}

/// Whether an earlier change is still under way.
fn is_changing(error: &CallFailed) -> bool {
    matches!(
        error.code.as_deref(),
        Some("ResourceConflictException" | "ResourceInUseException")
    )
}

/// Waits with a deadline, and says every minute what for.
struct Wait {
    poll: Duration,
    started: Instant,
    deadline: Duration,
    said: Instant,
}

impl Wait {
    fn new(cloud: &Cloud, deadline: Duration) -> Wait {
        let now = Instant::now();
        Wait {
            poll: cloud.poll,
            started: now,
            deadline,
            said: now,
        }
    }

    /// Pauses before the next look; `false` when the deadline has passed.
    async fn again(&mut self, output: Output, still: &str) -> bool {
        let elapsed = self.started.elapsed();
        if elapsed >= self.deadline {
            return false;
        }
        if self.said.elapsed() >= REMINDER {
            self.said = Instant::now();
            output.say(format!("  {still} … {} s", elapsed.as_secs()));
        }
        tokio::time::sleep(self.poll).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(logical: &str, r#type: &str, physical: &str) -> StackResourceSummary {
        StackResourceSummary::builder()
            .logical_resource_id(logical)
            .resource_type(r#type)
            .physical_resource_id(physical)
            .last_updated_timestamp(aws_sdk_cloudformation::primitives::DateTime::from_secs(0))
            .resource_status("CREATE_COMPLETE".into())
            .build()
    }

    #[test]
    fn only_the_interfaces_of_exactly_this_function_are_its_own() {
        let uuid = "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f";
        let is_own = |description: String| {
            let interface = Interface {
                id: String::new(),
                description,
                status: String::new(),
            };
            is_of(&interface, "sensors-dev-Function")
        };
        let table = [
            (
                format!("AWS Lambda VPC ENI-sensors-dev-Function-{uuid}"),
                true,
            ),
            // The function of another team, whose name begins like ours.
            (
                format!("AWS Lambda VPC ENI-sensors-dev-Function-2-{uuid}"),
                false,
            ),
            (
                format!("AWS Lambda VPC ENI-sensors-dev-Functional-{uuid}"),
                false,
            ),
            ("AWS Lambda VPC ENI-sensors-dev-Function-".to_owned(), false),
            (format!("ElastiCache sensors-dev-Function-{uuid}"), false),
        ];
        for (description, expected) in table {
            assert_eq!(is_own(description.clone()), expected, "{description}");
        }
    }

    #[test]
    fn network_is_that_of_the_template_with_the_ids_of_the_stack() -> anyhow::Result<()> {
        let resources = [
            resource("One", "AWS::EC2::Subnet", "subnet-1"),
            resource("Two", "AWS::EC2::Subnet", "subnet-2"),
            resource("Group", "AWS::EC2::SecurityGroup", "sg-1"),
        ];
        let properties = json!({ "VpcConfig": {
            "SubnetIds": [{ "Ref": "One" }, { "Ref": "Two" }],
            "SecurityGroupIds": [{ "Fn::GetAtt": ["Group", "GroupId"] }, "sg-2"],
        }});
        let network = network(&properties, &resources)?.context("a network")?;
        assert_eq!(network.subnet_ids(), ["subnet-1", "subnet-2"]);
        assert_eq!(network.security_group_ids(), ["sg-1", "sg-2"]);
        assert!(super::network(&json!({}), &resources)?.is_none());
        let unknown = json!({ "VpcConfig": { "SubnetIds": [{ "Ref": "Three" }] } });
        assert!(super::network(&unknown, &resources).is_err());
        Ok(())
    }
}
