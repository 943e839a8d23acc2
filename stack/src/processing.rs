//! From the stream into the cache: the function and its event source mapping.

use cfn::policy::{Document, Statement};
use cfn::resources::lambda::{self, event_source_mapping, function};
use cfn::resources::{iam, kinesis, logs, s3};
use cfn::{Handle, Template};
use contract::{environment, timing};

use crate::bucket;
use crate::cache::Cache;
use crate::config::{self, Arch, LogRetention};
use crate::encryption::Encryption;
use crate::network::Network;
use crate::parameters::Parameters;

/// Days that failed records are kept for somebody to look at.
const FAILURE_DAYS: u32 = 90;

/// What processing depends on.
pub struct Props<'a> {
    /// The stage's choices.
    pub config: &'a config::Processing,
    /// Whose key encrypts what it keeps.
    pub encryption: Encryption,
    /// What the function was built for.
    pub arch: Arch,
    /// Where the function stands.
    pub network: &'a Network,
    /// What it writes.
    pub cache: &'a Cache,
    /// What it reads.
    pub stream: Handle<kinesis::Stream>,
    /// Where its code is.
    pub parameters: &'a Parameters,
    /// How long its logs are kept.
    pub log_retention: LogRetention,
}

/// What others may need.
pub struct Processing {
    /// The function.
    pub function: Handle<lambda::Function>,
    /// Reads the stream for the function.
    pub event_source: Handle<lambda::EventSourceMapping>,
    /// Keeps the records that could not be processed.
    pub failures: Handle<s3::Bucket>,
}

/// Defines function, event source mapping and failure bucket.
pub fn define(template: &mut Template, props: &Props<'_>) -> Processing {
    let log_group = template.define(
        "FunctionLogs",
        logs::LogGroup {
            kms_key_id: props.encryption.arn().map(Into::into),
            retention_in_days: Some(props.log_retention.days().into()),
            ..Default::default()
        },
    );
    let failures = bucket::define(
        template,
        "FailureBucket",
        "FailureBucketPolicy",
        &bucket::Props {
            key: props.encryption.arn(),
            noncurrent_days: FAILURE_DAYS,
            expiration_days: Some(FAILURE_DAYS),
        },
    );
    let role = template.define(
        "FunctionRole",
        iam::Role {
            description: Some("The function, and its event source mapping".into()),
            ..iam::Role::new(Document::trust("lambda.amazonaws.com", &[]))
        },
    );
    props.stream.grant_read(template, role);
    failures.grant_failures(template, role);
    log_group.grant_write(template, role);
    let cache = props.cache;
    cache.grant(template, cache.function_user, role);
    grant_network_interfaces(template, role);
    // Reads the stream, and keeps what failed.
    for (service, action) in [("kinesis", "kms:Decrypt"), ("s3", "kms:GenerateDataKey")] {
        props.encryption.grant(template, role, service, &[action]);
    }

    let function = template.define(
        "Function",
        lambda::Function {
            architectures: Some(
                [match props.arch {
                    Arch::Arm64 => function::Architectures::Arm64,
                    Arch::X86_64 => function::Architectures::X8664,
                }]
                .into(),
            ),
            description: Some("Keeps the sensors' live state".into()),
            environment: Some(
                function::Environment {
                    variables: Some(
                        [
                            (environment::REDIS_URL, cache.url()),
                            (
                                environment::CACHE_USER,
                                cache.function_user.reference().into(),
                            ),
                            (
                                environment::CACHE_NAME,
                                cache.replication_group.reference().into(),
                            ),
                        ]
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect(),
                    ),
                }
                .into(),
            ),
            // Any text: the runtime runs `bootstrap`.
            handler: Some("bootstrap".into()),
            kms_key_arn: props.encryption.arn().map(Into::into),
            logging_config: Some(
                function::LoggingConfig {
                    application_log_level: Some(function::ApplicationLogLevel::Info.into()),
                    log_format: Some(function::LogFormat::Json.into()),
                    log_group: Some(log_group.reference().into()),
                    // INFO adds lines of the platform for every invocation.
                    system_log_level: Some(function::SystemLogLevel::Warn.into()),
                }
                .into(),
            ),
            memory_size: Some(props.config.memory_mb.into()),
            runtime: Some(function::Runtime::ProvidedAl2023.into()),
            timeout: Some((timing::FUNCTION_TIMEOUT.as_secs() as i64).into()),
            vpc_config: Some(
                function::VpcConfig {
                    security_group_ids: Some([props.network.function.group_id()].into()),
                    subnet_ids: Some(
                        props
                            .network
                            .private_subnets
                            .map(|subnet| subnet.reference())
                            .into(),
                    ),
                    ..Default::default()
                }
                .into(),
            ),
            ..lambda::Function::new(
                function::Code {
                    s3_bucket: Some(props.parameters.artifacts_bucket.reference().into()),
                    s3_key: Some(props.parameters.function_key.reference().into()),
                    ..Default::default()
                },
                role.arn(),
            )
        },
    );
    let event_source = template.define(
        "FunctionEventSource",
        lambda::EventSourceMapping {
            batch_size: Some(props.config.batch_size.into()),
            bisect_batch_on_function_error: Some(true.into()),
            destination_config: Some(
                event_source_mapping::DestinationConfig {
                    on_failure: Some(
                        event_source_mapping::OnFailure {
                            destination: Some(failures.arn().into()),
                        }
                        .into(),
                    ),
                }
                .into(),
            ),
            event_source_arn: Some(props.stream.arn().into()),
            function_response_types: Some(
                [event_source_mapping::FunctionResponseTypes::ReportBatchItemFailures].into(),
            ),
            maximum_batching_window_in_seconds: Some(props.config.batching_window_seconds.into()),
            maximum_record_age_in_seconds: Some(
                (timing::MAXIMUM_RECORD_AGE.as_secs() as i64).into(),
            ),
            maximum_retry_attempts: Some(timing::MAXIMUM_RETRY_ATTEMPTS.into()),
            parallelization_factor: Some(props.config.parallelization_factor.into()),
            // From the oldest record kept: LATEST would miss what arrives while the mapping is made.
            starting_position: Some("TRIM_HORIZON".into()),
            ..lambda::EventSourceMapping::new(function.reference())
        },
    );
    template.output(
        "FailureBucket",
        "Bucket that keeps records which could not be processed",
        failures.reference(),
    );
    template.output("FunctionName", "Name of the function", function.reference());
    Processing {
        function,
        event_source,
        failures,
    }
}

/// A function in a VPC makes and removes its own network interfaces.
///
/// On `*`, as "Giving Lambda functions access to resources in an Amazon VPC" of the Lambda developer
/// guide gives it: describing has no resource-level permission, the interfaces' ARNs are not known
/// before they exist, and Lambda refuses to make a function whose role narrows the others.
fn grant_network_interfaces(template: &mut Template, role: Handle<iam::Role>) {
    let actions = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ];
    template.grant(role, "NetworkInterfaces", Statement::allow(actions, ["*"]));
}
