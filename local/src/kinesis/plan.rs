//! Kinesis streams of a template.

use std::time::Duration;

use cfn::Value;
use cfn::resolve::{Problem, Resolved, ResolvedResource, properties};
use cfn::resources::kinesis::{self as resource, stream};

use super::{Config, Mode};

/// `RetentionPeriodHours` when absent.
const DEFAULT_RETENTION_HOURS: u64 = 24;
/// `MaxRecordSizeInKiB` when absent.
const DEFAULT_MAX_RECORD_KIB: usize = 1024;

pub(crate) fn plan(resolved: &Resolved, problems: &mut Vec<Problem>) -> Vec<Config> {
    resolved
        .of_type("AWS::Kinesis::Stream")
        .filter_map(|resource| {
            config(resource)
                .map_err(|problem| problems.push(problem))
                .ok()
        })
        .collect()
}

pub(super) fn config(resource: &ResolvedResource) -> Result<Config, Problem> {
    let stream: resource::Stream = properties(resource)?;
    let problem = |path: &str, message: String| {
        Problem::at(&resource.logical_id, format!("Properties.{path}"), message)
    };
    let shard_count = stream
        .shard_count
        .as_ref()
        .and_then(Value::literal)
        .copied();
    let mode = stream
        .stream_mode_details
        .as_ref()
        .and_then(Value::literal)
        .and_then(|details| details.stream_mode.literal());
    let mode = match (mode, shard_count) {
        (Some(stream::StreamMode::OnDemand), None) => Mode::OnDemand,
        (Some(stream::StreamMode::OnDemand), Some(_)) => {
            let message = "must be absent when StreamMode is ON_DEMAND".to_owned();
            return Err(problem("ShardCount", message));
        }
        (_, count) => {
            let count = count.unwrap_or(1);
            let shard_count = u32::try_from(count)
                .ok()
                .filter(|it| (1..=100_000).contains(it));
            let shard_count = shard_count.ok_or_else(|| {
                problem("ShardCount", format!("got {count}, expected 1 to 100000"))
            })?;
            Mode::Provisioned { shard_count }
        }
    };
    if let Some((property, message)) = not_emulated(&stream, mode) {
        return Err(problem(property, message));
    }
    let hours = match stream
        .retention_period_hours
        .as_ref()
        .and_then(Value::literal)
    {
        None => DEFAULT_RETENTION_HOURS,
        Some(hours) => u64::try_from(*hours)
            .ok()
            .filter(|it| (24..=8760).contains(it))
            .ok_or_else(|| {
                problem(
                    "RetentionPeriodHours",
                    format!("got {hours}, expected 24 to 8760"),
                )
            })?,
    };
    let max_record_kib = match stream
        .max_record_size_in_kib
        .as_ref()
        .and_then(Value::literal)
    {
        None => DEFAULT_MAX_RECORD_KIB,
        Some(size) => usize::try_from(*size)
            .ok()
            .filter(|it| (1024..=10_240).contains(it))
            .ok_or_else(|| {
                problem(
                    "MaxRecordSizeInKiB",
                    format!("got {size}, expected 1024 to 10240"),
                )
            })?,
    };
    Ok(Config {
        logical_id: resource.logical_id.clone(),
        name: resource.name.clone(),
        arn: resource.arn().unwrap_or_default().to_owned(),
        mode,
        retention: Duration::from_secs(hours * 3600),
        max_record_bytes: max_record_kib * 1024,
    })
}

/// A setting of on-demand streams that would run otherwise here than on AWS.
fn not_emulated(stream: &resource::Stream, mode: Mode) -> Option<(&'static str, String)> {
    let strategy = stream.record_distribution_strategy.as_ref();
    let strategy = strategy.and_then(Value::literal);
    let is_auto = strategy == Some(&stream::RecordDistributionStrategy::Auto);
    let warm = stream.warm_throughput_mibps.as_ref();
    let is_warm = warm.and_then(Value::literal).is_some_and(|it| *it > 0);
    let (property, what) = match (is_auto, is_warm) {
        (true, _) => ("RecordDistributionStrategy", "AUTO"),
        (_, true) => ("WarmThroughputMiBps", "warm throughput"),
        _ => return None,
    };
    let message = match mode {
        Mode::OnDemand => format!("{what} is not emulated: remove it to run here"),
        Mode::Provisioned { .. } => format!("{what} needs StreamMode ON_DEMAND, as on AWS"),
    };
    Some((property, message))
}
