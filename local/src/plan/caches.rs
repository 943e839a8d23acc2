//! Caches of a template.

use std::path::PathBuf;

use cfn::Value;
use cfn::resolve::{Problem, Resolved, ResolvedResource};
use cfn::resources::elasticache as resource;

use super::{NotEmulated, properties};
use crate::elasticache::Config;

/// `Port` when absent.
const DEFAULT_PORT: i64 = 6379;

/// The caches; what only the run knows (a server's URL, the folder) is empty.
pub(super) fn plan(
    resolved: &Resolved,
    problems: &mut Vec<Problem>,
    not_emulated: &mut Vec<NotEmulated>,
) -> Vec<Config> {
    let mut caches = Vec::new();
    for resource in resolved.of_type("AWS::ElastiCache::ReplicationGroup") {
        match config(resolved, resource) {
            Ok(config) => caches.push(config),
            Err(problem) => problems.push(problem),
        }
        for setting in ["AuthToken", "UserGroupIds", "ClusterMode"] {
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

fn config(resolved: &Resolved, resource: &ResolvedResource) -> Result<Config, Problem> {
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
    Ok(Config {
        logical_id: resource.logical_id.clone(),
        port,
        tls: group
            .transit_encryption_enabled
            .as_ref()
            .and_then(Value::literal)
            == Some(&true),
        maxmemory_policy: maxmemory_policy(resolved, resource)?,
        url: None,
        folder: PathBuf::new(),
    })
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
