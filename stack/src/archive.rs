//! Every message, for good: Firehose into S3.

use cfn::intrinsic::pseudo;
use cfn::policy::{Condition, Document};
use cfn::resources::kinesisfirehose::{self, delivery_stream};
use cfn::resources::{elasticache, iam, logs, s3};
use cfn::{Handle, ResourceAttributes, Template};

use crate::bucket;
use crate::config::{self, LogRetention};
use crate::encryption::Encryption;

/// Megabytes that Firehose gathers before it writes an object.
const BUFFER_MB: i64 = 5;
/// Seconds after which it writes what it has.
const BUFFER_SECONDS: i64 = 60;

/// What the archive depends on.
pub struct Props<'a> {
    /// The stage's choices.
    pub config: &'a config::Archive,
    /// Whose key encrypts what it keeps.
    pub encryption: Encryption,
    /// How long errors are kept.
    pub log_retention: LogRetention,
    /// Created before the delivery stream, for its duration alone: Firehose uses its role as soon as the
    /// delivery stream is created, and IAM needs some seconds until a new role can be assumed everywhere.
    /// The web UI's environment waits for the cache as well and takes longer than the delivery stream, so
    /// the stack is complete no later.
    pub cache: Handle<elasticache::ReplicationGroup>,
}

/// What others may need.
pub struct Archive {
    /// Takes the messages.
    pub delivery_stream: Handle<kinesisfirehose::DeliveryStream>,
    /// Keeps them.
    pub bucket: Handle<s3::Bucket>,
}

/// Defines bucket and delivery stream.
///
/// Objects are GZIP, one JSON line a message, under `raw/dt=…/hour=…/`, so that Athena and others
/// read days and hours as partitions.
pub fn define(template: &mut Template, props: &Props<'_>) -> Archive {
    let bucket = bucket::define(
        template,
        "ArchiveBucket",
        "ArchiveBucketPolicy",
        &bucket::Props {
            key: props.encryption.arn(),
            noncurrent_days: 30,
            expiration_days: props.config.expiration_days,
        },
    );
    let errors = template.define(
        "ArchiveErrors",
        logs::LogGroup {
            kms_key_id: props.encryption.arn().map(Into::into),
            retention_in_days: Some(props.log_retention.days().into()),
            ..Default::default()
        },
    );
    let deliveries = template.define(
        "ArchiveDeliveryErrors",
        logs::LogStream {
            log_stream_name: Some("DeliveryErrors".into()),
            ..logs::LogStream::new(errors.reference())
        },
    );
    let role = template.define(
        "ArchiveRole",
        iam::Role {
            description: Some("Firehose delivers the archive".into()),
            // The external ID is the account's number: see "Grant Firehose access to an Amazon S3 destination".
            ..iam::Role::new(Document::trust(
                "firehose.amazonaws.com",
                &[Condition::string_equals(
                    "sts:ExternalId",
                    pseudo::account_id(),
                )],
            ))
        },
    );
    bucket.grant_delivery(template, role);
    deliveries.grant_write(template, errors, role);
    let use_of_key = ["kms:Decrypt", "kms:GenerateDataKey"];
    props.encryption.grant(template, role, "s3", &use_of_key);
    let delivery_stream = template.define_with(
        "ArchiveStream",
        kinesisfirehose::DeliveryStream {
            delivery_stream_encryption_configuration_input: Some(
                delivery_stream::DeliveryStreamEncryptionConfigurationInput {
                    key_arn: props.encryption.arn().map(Into::into),
                    ..delivery_stream::DeliveryStreamEncryptionConfigurationInput::new(match props
                        .encryption
                        .key
                    {
                        Some(_) => delivery_stream::KeyType::CustomerManagedCmk,
                        None => delivery_stream::KeyType::AwsOwnedCmk,
                    })
                }
                .into(),
            ),
            delivery_stream_type: Some(delivery_stream::DeliveryStreamType::DirectPut.into()),
            extended_s3_destination_configuration: Some(
                delivery_stream::ExtendedS3DestinationConfiguration {
                    buffering_hints: Some(
                        delivery_stream::BufferingHints {
                            interval_in_seconds: Some(BUFFER_SECONDS.into()),
                            size_in_mbs: Some(BUFFER_MB.into()),
                        }
                        .into(),
                    ),
                    cloud_watch_logging_options: Some(
                        delivery_stream::CloudWatchLoggingOptions {
                            enabled: Some(true.into()),
                            log_group_name: Some(errors.reference().into()),
                            log_stream_name: Some(deliveries.reference().into()),
                        }
                        .into(),
                    ),
                    compression_format: Some(delivery_stream::CompressionFormat::Gzip.into()),
                    error_output_prefix: Some(
                        "errors/!{firehose:error-output-type}/dt=!{timestamp:yyyy-MM-dd}/".into(),
                    ),
                    prefix: Some("raw/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/".into()),
                    ..delivery_stream::ExtendedS3DestinationConfiguration::new(
                        bucket.arn(),
                        role.arn(),
                    )
                }
                .into(),
            ),
            ..Default::default()
        },
        ResourceAttributes {
            depends_on: vec![props.cache.logical_id()],
            ..ResourceAttributes::default()
        },
    );
    template.output(
        "ArchiveBucket",
        "Bucket that keeps every message",
        bucket.reference(),
    );
    Archive {
        delivery_stream,
        bucket,
    }
}
