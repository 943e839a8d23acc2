//! Caches of a template.

use std::path::PathBuf;

use cfn::Value;
use cfn::resolve::{Problem, Resolved, ResolvedResource, properties};
use cfn::resources::elasticache as resource;

use super::Config;
use super::sign_in::{Guard, User};
use crate::template::NotEmulated;

/// `Port` when absent.
const DEFAULT_PORT: i64 = 6379;

/// The caches; what only the run knows (a server's URL, the folder) is empty.
pub(crate) fn plan(
    resolved: &Resolved,
    problems: &mut Vec<Problem>,
    not_emulated: &mut Vec<NotEmulated>,
) -> Vec<Config> {
    let mut caches = Vec::new();
    for resource in resolved.of_type("AWS::ElastiCache::ReplicationGroup") {
        match config(resolved, resource, not_emulated) {
            Ok(config) => caches.push(config),
            Err(problem) => problems.push(problem),
        }
        for setting in ["AuthToken", "ClusterMode"] {
            if resource.property(&format!("/{setting}")).is_some() {
                not_emulated.push(NotEmulated {
                    logical_id: resource.logical_id.clone(),
                    what: setting.to_owned(),
                });
            }
        }
    }
    caches
}

pub(super) fn config(
    resolved: &Resolved,
    resource: &ResolvedResource,
    not_emulated: &mut Vec<NotEmulated>,
) -> Result<Config, Problem> {
    let group: resource::ReplicationGroup = properties(resource)?;
    let port = group
        .port
        .as_ref()
        .and_then(Value::literal)
        .copied()
        .unwrap_or(DEFAULT_PORT);
    let port = u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| {
            let message = format!("got {port}, expected 1 to 65535");
            Problem::at(&resource.logical_id, "Properties.Port", message)
        })?;
    let tls = group
        .transit_encryption_enabled
        .as_ref()
        .and_then(Value::literal)
        == Some(&true);
    let guard = guard(resolved, resource, not_emulated)?;
    if guard.is_some() && !tls {
        let message = "needs TransitEncryptionEnabled: true, as on AWS";
        let path = "Properties.UserGroupIds";
        return Err(Problem::at(&resource.logical_id, path, message));
    }
    Ok(Config {
        logical_id: resource.logical_id.clone(),
        port,
        tls,
        guard,
        maxmemory_policy: maxmemory_policy(resolved, resource)?,
        url: None,
        folder: PathBuf::new(),
    })
}

/// Who may sign in with IAM; nothing where nobody does.
fn guard(
    resolved: &Resolved,
    cache: &ResolvedResource,
    not_emulated: &mut Vec<NotEmulated>,
) -> Result<Option<Guard>, Problem> {
    let groups = cache.texts("/UserGroupIds");
    let users = groups
        .iter()
        .filter_map(|id| resolved.find("AWS::ElastiCache::UserGroup", id))
        .flat_map(|group| group.texts("/UserIds"));
    let mut found = Vec::new();
    let mut others = false;
    for id in users {
        let user = resolved.find("AWS::ElastiCache::User", &id);
        let Some(user) = user else {
            others = true;
            continue;
        };
        let settings: resource::User = properties(user)?;
        if user.text("/AuthenticationMode/Type").as_deref() != Some("iam") {
            others = true;
            not_emulated.push(NotEmulated {
                logical_id: user.logical_id.clone(),
                what: "a user without IAM".to_owned(),
            });
            continue;
        }
        if user.text("/UserName").as_ref() != Some(&id) {
            let message = format!("expected `{id}` as its UserId: with IAM both are the same");
            return Err(Problem::at(
                &user.logical_id,
                "Properties.UserName",
                message,
            ));
        }
        found.push(User {
            logical_id: user.logical_id.clone(),
            arn: user.arn().unwrap_or_default().to_owned(),
            access_string: settings
                .access_string
                .as_ref()
                .and_then(Value::literal)
                .cloned()
                .unwrap_or_default(),
            id,
        });
    }
    if found.is_empty() {
        if others || !groups.is_empty() {
            not_emulated.push(NotEmulated {
                logical_id: cache.logical_id.clone(),
                what: "UserGroupIds".to_owned(),
            });
        }
        return Ok(None);
    }
    Ok(Some(Guard {
        cache: cache.physical_id.clone(),
        cache_arn: cache.arn().unwrap_or_default().to_owned(),
        region: resolved.context.region.clone(),
        users: found,
    }))
}

fn maxmemory_policy(
    resolved: &Resolved,
    resource: &ResolvedResource,
) -> Result<Option<String>, Problem> {
    let name = resource
        .text("/CacheParameterGroupName")
        .unwrap_or_default();
    let Some(group) = resolved.find("AWS::ElastiCache::ParameterGroup", &name) else {
        return Ok(None);
    };
    let parameters: resource::ParameterGroup = properties(group)?;
    let policy = parameters
        .properties
        .as_ref()
        .and_then(|it| it.get("maxmemory-policy"));
    Ok(policy.and_then(Value::literal).cloned())
}
