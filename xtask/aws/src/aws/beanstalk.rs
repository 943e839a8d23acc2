//! Elastic Beanstalk: its platforms, and what it knows of an environment that failed.
//!
//! CloudFormation only says that an environment "failed to become healthy". The causes are
//! Beanstalk's own, and they go with the environment when the rollback takes it away.

use anyhow::bail;
use aws_sdk_elasticbeanstalk::types::{
    EnvironmentDescription, EnvironmentHealthAttribute, EnvironmentStatus, EventSeverity,
    PlatformFilter, PlatformSummary,
};
use serde_json::json;

use crate::aws::{Cloud, failed};
use crate::screen::progress::Output;
use crate::stack::event::Event;

/// Events shown of a failed environment.
const MOST_EVENTS: i32 = 5;

/// Usual intervals between two looks at an environment that is not Ready: ten seconds, because Beanstalk
/// throttles soon.
const POLLS_BETWEEN_LOOKS: u32 = 5;

/// How often an environment is looked at that is not Ready: for one hour. A managed update replaces all
/// instances, batch by batch, and each batch may take 14 minutes.
const MOST_LOOKS: u32 = 360;

/// Looks between two lines about an environment that is still not Ready: one minute.
const LOOKS_BETWEEN_LINES: u32 = 6;

/// The branch whose platforms run a plain binary by a Procfile.
const BRANCH: &str = "Go 1 running on 64bit Amazon Linux 2023";

/// AWS's mark of the platform version of a branch that it recommends.
const RECOMMENDED: &str = "recommended";

/// What Beanstalk says of an environment that could not be created or updated.
pub(crate) async fn explain(cloud: &Cloud, event: &Event) -> Vec<String> {
    if event.r#type != "AWS::ElasticBeanstalk::Environment" || event.physical_id.is_empty() {
        return Vec::new();
    }
    let mut notes = Vec::new();
    let health = cloud
        .beanstalk
        .describe_environment_health()
        .environment_name(&event.physical_id)
        .attribute_names(EnvironmentHealthAttribute::Causes)
        .send()
        .await;
    // Both only add to a failure that is reported anyway.
    if let Ok(health) = health {
        notes.extend(
            health
                .causes()
                .iter()
                .map(|cause| format!("health: {cause}")),
        );
    }
    let events = cloud
        .beanstalk
        .describe_events()
        .environment_name(&event.physical_id)
        .severity(EventSeverity::Warn)
        .max_records(MOST_EVENTS)
        .send()
        .await;
    if let Ok(events) = events {
        let messages = events.events().iter().filter_map(|event| event.message());
        notes.extend(messages.map(|message| format!("Beanstalk: {message}")));
    }
    notes
}

/// The platform version of our branch that AWS recommends, by its ARN.
///
/// AWS marks one version of a branch by the lifecycle state `recommended`; the others have none.
/// <https://docs.aws.amazon.com/elasticbeanstalk/latest/api/API_ListPlatformVersions.html>
pub(crate) async fn recommended_platform(cloud: &Cloud) -> anyhow::Result<String> {
    let filter = |kind: &str, value: &str| {
        PlatformFilter::builder()
            .r#type(kind)
            .operator("=")
            .values(value)
            .build()
    };
    let mut platforms: Vec<PlatformSummary> = Vec::new();
    let mut next = None;
    loop {
        let page = cloud
            .beanstalk
            .list_platform_versions()
            .filters(filter("PlatformBranchName", BRANCH))
            .filters(filter("PlatformLifecycleState", RECOMMENDED))
            .filters(filter("PlatformStatus", "Ready"))
            .set_next_token(next)
            .send()
            .await
            .map_err(|error| failed("list Elastic Beanstalk's platforms", error))?;
        platforms.extend(page.platform_summary_list.unwrap_or_default());
        next = page.next_token;
        if next.is_none() {
            break;
        }
    }
    // While AWS moves the mark, two versions may carry it for a moment.
    let newest = platforms
        .iter()
        .filter_map(PlatformSummary::platform_arn)
        .max_by_key(|arn| version(arn));
    newest.map(str::to_owned).ok_or_else(|| {
        anyhow::anyhow!(
            "Elastic Beanstalk has no recommended platform of the branch `{BRANCH}` in {}: choose another region",
            cloud.region
        )
    })
}

/// The platform that an environment runs on now, which managed updates may have moved.
pub(crate) async fn running_platform(cloud: &Cloud, name: &str) -> anyhow::Result<Option<String>> {
    let environment = environment(cloud, name).await?;
    Ok(environment.and_then(|environment| environment.platform_arn))
}

/// Waits until an environment can be changed: Beanstalk refuses to update or terminate one that is not
/// Ready, and CloudFormation would roll the whole stack back because of that.
///
/// An environment that is not there, or is Terminated, is not waited for.
///
/// # Errors
/// Beanstalk does not answer, or the environment is not Ready after [`MOST_LOOKS`].
pub(crate) async fn wait_until_ready(
    cloud: &Cloud,
    output: Output,
    name: &str,
) -> anyhow::Result<()> {
    let interval = cloud.poll * POLLS_BETWEEN_LOOKS;
    let mut last: Option<String> = None;
    for look in 0..MOST_LOOKS {
        let Some(environment) = environment(cloud, name).await? else {
            return Ok(());
        };
        let status = match environment.status() {
            Some(EnvironmentStatus::Terminated) => return Ok(()),
            Some(EnvironmentStatus::Ready) => {
                if last.is_some() {
                    output.say(format!("environment `{name}` is Ready"));
                }
                return Ok(());
            }
            status => status.map_or("in an unknown status", |it| it.as_str()),
        };
        if last.as_deref() != Some(status) {
            output.say(format!(
                "environment `{name}` is {status}: waiting until it is Ready, because Elastic Beanstalk refuses changes until then (a managed update or another change is in progress)"
            ));
            output.tell(&json!({ "waiting": name, "status": status, "until": "Ready" }));
            last = Some(status.to_owned());
        } else if look % LOOKS_BETWEEN_LINES == 0 {
            let minutes = (interval * look).as_secs() / 60;
            output.say(format!(
                "environment `{name}` is still {status} after {minutes} min"
            ));
        }
        tokio::time::sleep(interval).await;
    }
    let minutes = (interval * MOST_LOOKS).as_secs() / 60;
    bail!(
        "environment `{name}` is still {} after {minutes} min, and nothing was changed\n  fix: look at `aws elasticbeanstalk describe-events --environment-name {name}`, then run the same command again",
        last.unwrap_or_default()
    )
}

/// Status and health of an environment, in Beanstalk's words.
pub(crate) async fn health(cloud: &Cloud, name: &str) -> anyhow::Result<Option<String>> {
    let Some(environment) = environment(cloud, name).await? else {
        return Ok(None);
    };
    let status = environment.status().map_or("unknown", |it| it.as_str());
    let health = environment.health_status().map(|it| it.as_str());
    let health = health.or(environment.health().map(|it| it.as_str()));
    Ok(Some(format!(
        "{status}, health {}",
        health.unwrap_or("unknown")
    )))
}

async fn environment(cloud: &Cloud, name: &str) -> anyhow::Result<Option<EnvironmentDescription>> {
    let answer = cloud
        .beanstalk
        .describe_environments()
        .environment_names(name)
        .include_deleted(false)
        .send()
        .await
        .map_err(|error| failed("look at the dashboard's environment", error))?;
    Ok(answer.environments.unwrap_or_default().into_iter().next())
}

/// The version at the end of a platform's ARN, to compare; what is no number counts as zero.
pub(crate) fn version(arn: &str) -> Vec<u32> {
    let version = arn.rsplit('/').next().unwrap_or_default();
    version
        .split('.')
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let arn =
            |version: &str| format!("arn:aws:elasticbeanstalk:eu-west-1::platform/Go/{version}");
        assert!(version(&arn("4.10.0")) > version(&arn("4.9.2")));
    }
}
