//! Elastic Beanstalk: its platforms, and what it knows of an environment that failed.
//!
//! CloudFormation only says that an environment "failed to become healthy". The causes are
//! Beanstalk's own, and they go with the environment when the rollback takes it away.

use aws_sdk_elasticbeanstalk::types::{
    EnvironmentDescription, EnvironmentHealthAttribute, EventSeverity, PlatformFilter,
    PlatformSummary,
};

use crate::aws::{Cloud, failed};
use crate::stack::event::Event;

/// Events shown of a failed environment.
const MOST_EVENTS: i32 = 5;

/// The branch whose platforms run a plain binary by a Procfile.
const BRANCH: &str = "Go 1 running on 64bit Amazon Linux 2023";

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

/// The newest recommended platform version of our branch, by its ARN.
pub(crate) async fn newest_platform(cloud: &Cloud) -> anyhow::Result<String> {
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
    let usable = |platform: &&PlatformSummary| {
        // A version without a lifecycle state is a current one; "recommended" is the newest.
        platform
            .platform_lifecycle_state()
            .is_none_or(|state| state.eq_ignore_ascii_case("recommended"))
    };
    let newest = platforms
        .iter()
        .filter(usable)
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
