//! Lambda functions of a template.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cfn::Value;
use cfn::resolve::{Problem, Resolved, ResolvedResource, name_of, properties};
use cfn::resources::lambda::{self as resource, function};

use super::{Config, LogFormat, refused};
use crate::template::NotEmulated;

/// Seconds, when `Timeout` is absent.
const DEFAULT_TIMEOUT: i64 = 3;
/// MB, when `MemorySize` is absent.
const DEFAULT_MEMORY: i64 = 128;
/// Settings that change what a function sees or can do, and do nothing here.
const NOT_EMULATED: &[&str] = &[
    "Layers",
    "FileSystemConfigs",
    "DeadLetterConfig",
    "SnapStart",
];

/// The functions; what only the run knows (binary, folder, certificate) is empty.
pub(crate) fn plan(
    resolved: &Resolved,
    problems: &mut Vec<Problem>,
    not_emulated: &mut Vec<NotEmulated>,
) -> Vec<Config> {
    let mut functions = Vec::new();
    for resource in resolved.of_type("AWS::Lambda::Function") {
        match config(resolved, resource) {
            Ok(config) => {
                problems.extend(refused(&config).into_iter().map(|(property, message)| {
                    Problem::at(
                        &resource.logical_id,
                        format!("Properties.{property}"),
                        message,
                    )
                }));
                functions.push(config);
            }
            Err(problem) => problems.push(problem),
        }
        for setting in NOT_EMULATED {
            if resource.property(&format!("/{setting}")).is_some() {
                not_emulated.push(NotEmulated {
                    logical_id: resource.logical_id.clone(),
                    what: (*setting).to_owned(),
                });
            }
        }
    }
    functions
}

/// A function's environment variables.
pub fn environment(resource: &ResolvedResource) -> Result<BTreeMap<String, String>, Problem> {
    let function: resource::Function = properties(resource)?;
    let variables = function
        .environment
        .as_ref()
        .and_then(Value::literal)
        .and_then(|it| it.variables.as_ref());
    Ok(variables
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.literal()?.clone())))
        .collect())
}

pub(super) fn config(resolved: &Resolved, resource: &ResolvedResource) -> Result<Config, Problem> {
    let function: resource::Function = properties(resource)?;
    let problem = |path: &str, message: String| {
        Problem::at(&resource.logical_id, format!("Properties.{path}"), message)
    };
    if let Some(function::PackageType::Image) =
        function.package_type.as_ref().and_then(Value::literal)
    {
        return Err(problem(
            "PackageType",
            "got Image, expected Zip: images do not run here".into(),
        ));
    }
    let runtime = function
        .runtime
        .as_ref()
        .and_then(Value::literal)
        .map(name_of);
    if !runtime
        .as_ref()
        .is_some_and(|runtime| runtime.starts_with("provided"))
    {
        let got = runtime.unwrap_or_default();
        let message = format!("got `{got}`, expected provided.al2023: only binaries run here");
        return Err(problem("Runtime", message));
    }
    let timeout = function.timeout.as_ref().and_then(Value::literal).copied();
    let timeout = u64::try_from(timeout.unwrap_or(DEFAULT_TIMEOUT)).unwrap_or_default();
    let memory = function
        .memory_size
        .as_ref()
        .and_then(Value::literal)
        .copied();
    let logging = function.logging_config.as_ref().and_then(Value::literal);
    let log_format = logging
        .and_then(|it| it.log_format.as_ref())
        .and_then(Value::literal);
    let log_level = logging
        .and_then(|it| it.application_log_level.as_ref())
        .and_then(Value::literal);
    let log_group = logging
        .and_then(|it| it.log_group.as_ref())
        .and_then(Value::literal);
    let log_group = log_group.map_or_else(
        || format!("/aws/lambda/{}", resource.name),
        |it| it.as_str().to_owned(),
    );
    let context = &resolved.context;
    Ok(Config {
        logical_id: resource.logical_id.clone(),
        name: resource.name.clone(),
        arn: resource.arn().unwrap_or_default().to_owned(),
        region: context.region.clone(),
        bootstrap: PathBuf::new(),
        handler: function
            .handler
            .as_ref()
            .and_then(Value::literal)
            .cloned()
            .unwrap_or_default(),
        environment: environment(resource)?,
        timeout: Duration::from_secs(timeout),
        memory_mb: u32::try_from(memory.unwrap_or(DEFAULT_MEMORY)).unwrap_or_default(),
        log_group_arn: format!(
            "arn:{}:logs:{}:{}:log-group:{log_group}",
            context.partition, context.region, context.account_id
        ),
        log_group,
        log_format: match log_format {
            Some(function::LogFormat::Json) => LogFormat::Json,
            _ => LogFormat::Text,
        },
        log_level: log_level.map(name_of),
        reserved_concurrency: function
            .reserved_concurrent_executions
            .as_ref()
            .and_then(Value::literal)
            .map(|count| {
                u32::try_from(*count).map_err(|_| {
                    let message = format!("got {count}, expected 0 or more");
                    problem("ReservedConcurrentExecutions", message)
                })
            })
            .transpose()?,
        credentials: None,
        ca_file: None,
        folder: PathBuf::new(),
    })
}
