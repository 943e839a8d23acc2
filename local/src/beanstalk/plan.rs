//! Beanstalk environments of a template.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use cfn::Value;
use cfn::resolve::{Problem, Resolved, ResolvedResource, properties};
use cfn::resources::elasticbeanstalk as resource;

use super::Config;

/// Namespace of environment properties.
const PROPERTIES: &str = "aws:elasticbeanstalk:application:environment";
/// Namespace of the default process behind the balancer.
const DEFAULT_PROCESS: &str = "aws:elasticbeanstalk:environment:process:default";

/// The environments; what only the run knows (bundle, address, certificate) is empty.
pub(crate) fn plan(resolved: &Resolved, problems: &mut Vec<Problem>) -> Vec<Config> {
    resolved
        .of_type("AWS::ElasticBeanstalk::Environment")
        .filter_map(|resource| {
            config(resource)
                .map_err(|problem| problems.push(problem))
                .ok()
        })
        .collect()
}

/// An environment's properties.
pub fn environment_properties(
    resource: &ResolvedResource,
) -> Result<BTreeMap<String, String>, Problem> {
    Ok(options(resource)?
        .into_iter()
        .filter(|((namespace, _), _)| namespace == PROPERTIES)
        .map(|((_, name), value)| (name, value))
        .collect())
}

/// Values by namespace and name; the last of a name counts.
fn options(resource: &ResolvedResource) -> Result<BTreeMap<(String, String), String>, Problem> {
    let environment: resource::Environment = properties(resource)?;
    let settings = environment.option_settings.unwrap_or_default();
    Ok(settings
        .literals()
        .filter_map(|setting| {
            let key = (
                setting.namespace.literal()?.clone(),
                setting.option_name.literal()?.clone(),
            );
            let value = setting.value.as_ref().and_then(Value::literal).cloned();
            Some((key, value.unwrap_or_default()))
        })
        .collect())
}

pub(super) fn config(resource: &ResolvedResource) -> Result<Config, Problem> {
    let options = options(resource)?;
    let health_check_path = (DEFAULT_PROCESS.to_owned(), "HealthCheckPath".to_owned());
    Ok(Config {
        logical_id: resource.logical_id.clone(),
        name: resource.name.clone(),
        bundle: PathBuf::new(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        environment: environment_properties(resource)?,
        health_check_path: options
            .get(&health_check_path)
            .map_or("/", String::as_str)
            .to_owned(),
        ca_file: None,
    })
}
