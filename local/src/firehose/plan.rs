//! Firehose delivery streams of a template.

use std::time::Duration;

use cfn::Value;
use cfn::resolve::{Problem, Resolved, ResolvedResource, name_of, properties};
use cfn::resources::kinesisfirehose as resource;

use super::{Config, refused};
use crate::s3::bucket_of_arn;
use crate::template::NotEmulated;

/// `BufferingHints` when absent.
const DEFAULT_SIZE_IN_MBS: i64 = 5;
/// See [`DEFAULT_SIZE_IN_MBS`].
const DEFAULT_INTERVAL: i64 = 300;
/// Settings of the destination that change what is written, and are not emulated.
const REFUSED: &[&str] = &[
    "DataFormatConversionConfiguration",
    "DynamicPartitioningConfiguration",
];

/// An `AWS::KinesisFirehose::DeliveryStream` and its error log.
#[derive(Clone, Debug)]
pub struct DeliveryStreamPlan {
    /// The delivery stream.
    pub config: Config,
    /// Log group and stream of `CloudWatchLoggingOptions`, where they are enabled.
    pub log: Option<(String, String)>,
}

pub(crate) fn plan(
    resolved: &Resolved,
    problems: &mut Vec<Problem>,
    not_emulated: &mut Vec<NotEmulated>,
) -> Vec<DeliveryStreamPlan> {
    let mut plans = Vec::new();
    for resource in resolved.of_type("AWS::KinesisFirehose::DeliveryStream") {
        match delivery_stream(resource) {
            Ok(plan) => {
                if let Some(message) = refused(&plan.config) {
                    let path = "Properties.ExtendedS3DestinationConfiguration";
                    problems.push(Problem::at(&resource.logical_id, path, message));
                }
                plans.push(plan);
            }
            Err(problem) => problems.push(problem),
        }
        if resource
            .text("/ExtendedS3DestinationConfiguration/S3BackupMode")
            .as_deref()
            == Some("Enabled")
        {
            not_emulated.push(NotEmulated {
                logical_id: resource.logical_id.clone(),
                what: "ExtendedS3DestinationConfiguration.S3BackupMode".to_owned(),
            });
        }
    }
    plans
}

pub(super) fn delivery_stream(resource: &ResolvedResource) -> Result<DeliveryStreamPlan, Problem> {
    let stream: resource::DeliveryStream = properties(resource)?;
    let problem = |path: &str, message: String| {
        Problem::at(&resource.logical_id, format!("Properties.{path}"), message)
    };
    let kind = stream
        .delivery_stream_type
        .as_ref()
        .and_then(Value::literal)
        .map(name_of);
    if !matches!(kind.as_deref(), None | Some("DirectPut")) {
        let message = format!("got {}, expected DirectPut", kind.unwrap_or_default());
        return Err(problem("DeliveryStreamType", message));
    }
    let destination = "ExtendedS3DestinationConfiguration";
    let s3 = stream
        .extended_s3_destination_configuration
        .as_ref()
        .and_then(Value::literal);
    let s3 = s3.ok_or_else(|| {
        problem(
            destination,
            "is absent: only deliveries to S3 are emulated".to_owned(),
        )
    })?;
    for setting in REFUSED {
        let enabled = resource.property(&format!("/{destination}/{setting}/Enabled"));
        let set = resource
            .property(&format!("/{destination}/{setting}"))
            .is_some();
        if set && enabled != Some(&false.into()) {
            let path = format!("{destination}.{setting}");
            return Err(problem(
                &path,
                "is not emulated: remove it to run here".to_owned(),
            ));
        }
    }
    let bucket = s3
        .bucket_arn
        .literal()
        .map(|arn| arn.as_str())
        .unwrap_or_default();
    let bucket = bucket_of_arn(bucket).ok_or_else(|| {
        let message = format!("got `{bucket}`, expected the ARN of a bucket");
        problem(&format!("{destination}.BucketARN"), message)
    })?;
    let hints = s3.buffering_hints.as_ref().and_then(Value::literal);
    let hint = |value: Option<&Option<Value<i64>>>, name: &str, default: i64| {
        let got = value
            .and_then(Option::as_ref)
            .and_then(Value::literal)
            .copied();
        let got = got.unwrap_or(default);
        u64::try_from(got).map_err(|_| {
            let message = format!("got {got}, expected a number from 0");
            problem(&format!("{destination}.BufferingHints.{name}"), message)
        })
    };
    let text = |value: &Option<Value<String>>| value.as_ref().and_then(Value::literal).cloned();
    let compression = s3.compression_format.as_ref().and_then(Value::literal);
    Ok(DeliveryStreamPlan {
        config: Config {
            logical_id: resource.logical_id.clone(),
            name: resource.name.clone(),
            arn: resource.arn().unwrap_or_default().to_owned(),
            bucket: bucket.to_owned(),
            prefix: text(&s3.prefix),
            error_prefix: text(&s3.error_output_prefix),
            time_zone: text(&s3.custom_time_zone),
            size_in_mbs: hint(
                hints.map(|it| &it.size_in_mbs),
                "SizeInMBs",
                DEFAULT_SIZE_IN_MBS,
            )?,
            interval: Duration::from_secs(hint(
                hints.map(|it| &it.interval_in_seconds),
                "IntervalInSeconds",
                DEFAULT_INTERVAL,
            )?),
            compression: compression.map_or_else(|| "UNCOMPRESSED".to_owned(), name_of),
            file_extension: text(&s3.file_extension),
            append_delimiter: append_delimiter(s3)
                .map_err(|name| problem(&format!("{destination}.ProcessingConfiguration"), name))?,
        },
        log: s3
            .cloud_watch_logging_options
            .as_ref()
            .and_then(Value::literal)
            .and_then(|it| {
                let enabled = it.enabled.as_ref().and_then(Value::literal) == Some(&true);
                let group = it
                    .log_group_name
                    .as_ref()
                    .and_then(Value::literal)?
                    .as_str();
                let stream = it
                    .log_stream_name
                    .as_ref()
                    .and_then(Value::literal)?
                    .as_str();
                enabled.then(|| (group.to_owned(), stream.to_owned()))
            }),
    })
}

/// Whether a newline is added to every record; another processor is an error.
fn append_delimiter(
    s3: &resource::delivery_stream::ExtendedS3DestinationConfiguration,
) -> Result<bool, String> {
    let Some(processing) = s3
        .processing_configuration
        .as_ref()
        .and_then(Value::literal)
    else {
        return Ok(false);
    };
    // Absent means off here, unlike in most other places.
    if processing.enabled.as_ref().and_then(Value::literal) != Some(&true) {
        return Ok(false);
    }
    let mut append = false;
    for processor in processing.processors.iter().flat_map(|it| it.literals()) {
        match processor
            .r#type
            .literal()
            .map(name_of)
            .unwrap_or_default()
            .as_str()
        {
            "AppendDelimiterToRecord" => append = true,
            other => {
                return Err(format!(
                    "got processor {other}, expected AppendDelimiterToRecord: others are not emulated"
                ));
            }
        }
    }
    Ok(append)
}
