//! Event source mappings of a template.

use std::time::Duration;

use cfn::Value;
use cfn::resolve::{Problem, Resolved, ResolvedResource, properties};
use cfn::resources::lambda as resource;
use serde_json::Value as Json;

use super::filter::{MAX_FILTERS, Pattern};
use super::{Config, refused};
use crate::kinesis::Position;
use crate::s3::bucket_of_arn;
use crate::sqs;

/// `BatchSize` when absent.
const DEFAULT_BATCH_SIZE: i64 = 100;
/// What `MaximumRetryAttempts` and `MaximumRecordAgeInSeconds` say for "without end".
const ENDLESS: i64 = -1;

/// An `AWS::Lambda::EventSourceMapping` and what it connects.
#[derive(Clone, Debug)]
pub struct MappingPlan {
    /// The mapping.
    pub config: Config,
    /// Logical ID of the stream.
    pub stream: String,
    /// Logical ID of the function.
    pub function: String,
    /// `DestinationConfig.OnFailure`
    pub on_failure: Option<OnFailure>,
}

/// What takes the invocation records of batches that were given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// A bucket, of this template or not.
    Bucket {
        /// Its name.
        name: String,
        /// Its ARN.
        arn: String,
    },
    /// The logical ID of a queue.
    Queue(String),
}

pub(crate) fn plan(resolved: &Resolved, problems: &mut Vec<Problem>) -> Vec<MappingPlan> {
    resolved
        .of_type("AWS::Lambda::EventSourceMapping")
        .filter_map(|resource| {
            let plan = mapping(resolved, resource)
                .map_err(|it| problems.push(it))
                .ok()?;
            problems.extend(
                refused(&plan.config)
                    .into_iter()
                    .map(|(property, message)| {
                        Problem::at(
                            &resource.logical_id,
                            format!("Properties.{property}"),
                            message,
                        )
                    }),
            );
            Some(plan)
        })
        .collect()
}

pub(super) fn mapping(
    resolved: &Resolved,
    resource: &ResolvedResource,
) -> Result<MappingPlan, Problem> {
    let mapping: resource::EventSourceMapping = properties(resource)?;
    let problem = |path: &str, message: String| {
        Problem::at(&resource.logical_id, format!("Properties.{path}"), message)
    };
    let tumbling = resource.property("/TumblingWindowInSeconds");
    if tumbling.is_some_and(|it| *it != 0) {
        let message = "tumbling windows are not emulated: remove it to run here".to_owned();
        return Err(problem("TumblingWindowInSeconds", message));
    }
    let filters = filters(resource)?;
    let source = resource.text("/EventSourceArn").unwrap_or_default();
    let stream = resolved
        .find("AWS::Kinesis::Stream", &source)
        .ok_or_else(|| {
            let message = format!("got `{source}`, expected the ARN of a stream of this template");
            problem("EventSourceArn", message)
        })?;
    let name = resource.text("/FunctionName").unwrap_or_default();
    let function = resolved
        .find("AWS::Lambda::Function", &name)
        .ok_or_else(|| {
            let message = format!("got `{name}`, expected a function of this template");
            problem("FunctionName", message)
        })?;
    let number = |value: &Option<Value<i64>>, path: &str, default: i64| {
        let got = value
            .as_ref()
            .and_then(Value::literal)
            .copied()
            .unwrap_or(default);
        match u64::try_from(got) {
            Ok(number) => Ok(Some(number)),
            Err(_) if got == ENDLESS && default == ENDLESS => Ok(None),
            Err(_) => Err(problem(
                path,
                format!("got {got}, expected a number from 0"),
            )),
        }
    };
    let flag = |value: &Option<Value<bool>>| value.as_ref().and_then(Value::literal).copied();
    let seconds = |value: u64| Duration::from_secs(value);
    let size = |value: Option<u64>| {
        value
            .and_then(|it| usize::try_from(it).ok())
            .unwrap_or(usize::MAX)
    };
    let timestamp = mapping
        .starting_position_timestamp
        .as_ref()
        .and_then(Value::literal)
        .copied();
    let position = mapping.starting_position.as_ref().and_then(Value::literal);
    let starting_position = match (position.map(String::as_str), timestamp) {
        (Some("TRIM_HORIZON"), _) => Position::TrimHorizon,
        (Some("LATEST"), _) => Position::Latest,
        // Seconds with a fraction; nobody writes negative ones.
        (Some("AT_TIMESTAMP"), Some(seconds)) => Position::AtTimestamp((seconds * 1000.0) as u64),
        (got, _) => {
            let message = format!(
                "got {}, expected TRIM_HORIZON, LATEST, or AT_TIMESTAMP with StartingPositionTimestamp",
                got.unwrap_or("nothing")
            );
            return Err(problem("StartingPosition", message));
        }
    };
    let attempts = number(
        &mapping.maximum_retry_attempts,
        "MaximumRetryAttempts",
        ENDLESS,
    )?;
    let age = number(
        &mapping.maximum_record_age_in_seconds,
        "MaximumRecordAgeInSeconds",
        ENDLESS,
    )?;
    let window = number(
        &mapping.maximum_batching_window_in_seconds,
        "MaximumBatchingWindowInSeconds",
        0,
    )?;
    let factor = number(&mapping.parallelization_factor, "ParallelizationFactor", 1)?;
    let config = Config {
        logical_id: resource.logical_id.clone(),
        id: resource.physical_id.clone(),
        function_arn: function.arn().unwrap_or_default().to_owned(),
        role_arn: function.text("/Role").unwrap_or_default(),
        region: resolved.context.region.clone(),
        batch_size: size(number(
            &mapping.batch_size,
            "BatchSize",
            DEFAULT_BATCH_SIZE,
        )?),
        window: seconds(window.unwrap_or(0)),
        parallelization_factor: size(factor),
        bisect: flag(&mapping.bisect_batch_on_function_error).unwrap_or(false),
        maximum_retry_attempts: attempts.map(|it| u32::try_from(it).unwrap_or(u32::MAX)),
        maximum_record_age: age.map(seconds),
        report_batch_item_failures: mapping
            .function_response_types
            .as_ref()
            .is_some_and(|types| types.literals().next().is_some()),
        starting_position,
        filters,
        enabled: flag(&mapping.enabled).unwrap_or(true),
    };
    Ok(MappingPlan {
        config,
        stream: stream.logical_id.clone(),
        function: function.logical_id.clone(),
        on_failure: on_failure(resolved, resource)?,
    })
}

fn on_failure(
    resolved: &Resolved,
    resource: &ResolvedResource,
) -> Result<Option<OnFailure>, Problem> {
    let path = "DestinationConfig.OnFailure.Destination";
    let Some(arn) = resource.text("/DestinationConfig/OnFailure/Destination") else {
        return Ok(None);
    };
    if let Some(name) = bucket_of_arn(&arn) {
        let name = name.to_owned();
        return Ok(Some(OnFailure::Bucket { name, arn }));
    }
    if arn.split(':').nth(2) == Some("sqs") {
        return Ok(Some(OnFailure::Queue(sqs::plan::find(
            resolved, resource, path, &arn,
        )?)));
    }
    Err(Problem::at(
        &resource.logical_id,
        format!("Properties.{path}"),
        format!(
            "got `{arn}`, expected the ARN of a bucket or a queue: no other destination is emulated"
        ),
    ))
}

fn filters(resource: &ResolvedResource) -> Result<Vec<Pattern>, Problem> {
    let problem = |path: String, message: String| {
        Problem::at(
            &resource.logical_id,
            format!("Properties.FilterCriteria.Filters{path}"),
            message,
        )
    };
    let filters = resource.property("/FilterCriteria/Filters");
    let filters = filters
        .and_then(Json::as_array)
        .map_or(&[][..], Vec::as_slice);
    if filters.len() > MAX_FILTERS {
        let message = format!(
            "got {} filters, expected at most {MAX_FILTERS}",
            filters.len()
        );
        return Err(problem(String::new(), message));
    }
    let pattern = |(index, filter): (usize, &Json)| {
        let path = format!(".{index}.Pattern");
        let text = filter.get("Pattern").and_then(Json::as_str);
        let text = text.ok_or_else(|| problem(path.clone(), "is missing".to_owned()))?;
        Pattern::parse(text).map_err(|error| problem(path, error.to_string()))
    };
    filters.iter().enumerate().map(pattern).collect()
}
