//! From MQTT into the stream and the archive: topic rules, the stream, and who may publish.

use cfn::intrinsic::{Sub, pseudo};
use cfn::policy::{Condition, Document, Statement};
use cfn::resources::iot::{self, topic_rule};
use cfn::resources::kinesis::{self, stream};
use cfn::resources::{elasticbeanstalk, iam, kinesisfirehose, lambda, logs};
use cfn::{Handle, ResourceAttributes, Template, Value};

use crate::config::{self, LogRetention, StreamMode};
use crate::encryption::Encryption;

/// Version of IoT SQL. The default without it is of 2015.
const SQL_VERSION: &str = "2016-03-23";

/// What the stream depends on.
pub struct StreamProps<'a> {
    /// The stage's choices.
    pub config: &'a config::Stream,
    /// Whose key encrypts what it keeps.
    pub encryption: Encryption,
}

/// What the topic rules depend on.
pub struct Props {
    /// Whose key encrypts what they write.
    pub encryption: Encryption,
    /// Takes every message for the live state.
    pub stream: Handle<kinesis::Stream>,
    /// Reads the stream; created before the rules, so that no message arrives before its consumer.
    pub event_source: Handle<lambda::EventSourceMapping>,
    /// Created before the rules, for its duration alone: see [`define`].
    pub environment: Handle<elasticbeanstalk::Environment>,
    /// Takes every message for the archive.
    pub delivery_stream: Handle<kinesisfirehose::DeliveryStream>,
    /// How long rule errors are kept.
    pub log_retention: LogRetention,
}

/// What others may need.
pub struct Ingest {
    /// What rules could not deliver.
    pub errors: Handle<logs::LogGroup>,
}

/// Defines the stream: records in order for each device.
pub fn define_stream(template: &mut Template, props: &StreamProps<'_>) -> Handle<kinesis::Stream> {
    let key: Value<stream::KeyId> = match props.encryption.arn() {
        Some(key) => key.into(),
        None => stream::KeyId::literal("alias/aws/kinesis").into(),
    };
    template.define(
        "SensorStream",
        kinesis::Stream {
            retention_period_hours: Some(props.config.retention_hours.into()),
            shard_count: match props.config.mode {
                StreamMode::Provisioned { shards } => Some(shards.into()),
                StreamMode::OnDemand => None,
            },
            stream_encryption: Some(
                stream::StreamEncryption::new(stream::EncryptionType::Kms, key).into(),
            ),
            stream_mode_details: Some(
                stream::StreamModeDetails::new(match props.config.mode {
                    StreamMode::Provisioned { .. } => stream::StreamMode::Provisioned,
                    StreamMode::OnDemand => stream::StreamMode::OnDemand,
                })
                .into(),
            ),
            ..Default::default()
        },
    )
}

/// Defines the topic rules into stream and archive, and the devices' policy.
///
/// Two topic filters, the bare topic and one level below it, and never `#`: AWS and MQTT state its
/// match of the parent level differently. The partition key is the topic, so that a device's
/// records stay in order and its identity travels with them.
///
/// AWS IoT assumes the roles of a rule when the rule is created, and IAM needs some seconds until a new
/// role can be assumed everywhere. One of the roles names the delivery stream and is created late, so the
/// rules wait for the web UI's environment, which takes minutes and decides when the stack is complete in
/// any case.
pub fn define(template: &mut Template, props: &Props) -> Ingest {
    let stream = props.stream;
    let errors = template.define(
        "RuleErrors",
        logs::LogGroup {
            kms_key_id: props.encryption.arn().map(Into::into),
            retention_in_days: Some(props.log_retention.days().into()),
            ..Default::default()
        },
    );
    let stream_role = role(
        template,
        "RuleToStreamRole",
        "AWS IoT puts messages into the stream",
    );
    stream.grant_put(template, stream_role);
    let encryption = props.encryption;
    encryption.grant(template, stream_role, "kinesis", &["kms:GenerateDataKey"]);
    let archive_role = role(
        template,
        "RuleToArchiveRole",
        "AWS IoT puts messages into the archive",
    );
    props.delivery_stream.grant_put(template, archive_role);
    let use_of_key = ["kms:Decrypt", "kms:GenerateDataKey"];
    encryption.grant(template, archive_role, "firehose", &use_of_key);
    let errors_role = role(
        template,
        "RuleErrorsRole",
        "AWS IoT writes what it could not deliver",
    );
    errors.grant_rule_write(template, errors_role);

    let to_stream = topic_rule::Action {
        kinesis: Some(
            topic_rule::KinesisAction {
                partition_key: Some("${topic()}".into()),
                ..topic_rule::KinesisAction::new(stream_role.arn(), stream.reference())
            }
            .into(),
        ),
        ..Default::default()
    };
    let to_archive = topic_rule::Action {
        firehose: Some(
            topic_rule::FirehoseAction {
                separator: Some("\n".into()),
                ..topic_rule::FirehoseAction::new(
                    props.delivery_stream.reference(),
                    archive_role.arn(),
                )
            }
            .into(),
        ),
        ..Default::default()
    };
    let to_errors = topic_rule::Action {
        cloudwatch_logs: Some(
            topic_rule::CloudwatchLogsAction::new(errors.reference(), errors_role.arn()).into(),
        ),
        ..Default::default()
    };
    let mut rule =
        |logical_id, description: &str, select: &str, filter: &str, action: &topic_rule::Action| {
            template.define_with(
                logical_id,
                iot::TopicRule::new(topic_rule::TopicRulePayload {
                    aws_iot_sql_version: Some(SQL_VERSION.into()),
                    description: Some(description.into()),
                    error_action: Some(to_errors.clone().into()),
                    rule_disabled: Some(false.into()),
                    ..topic_rule::TopicRulePayload::new(
                        [action.clone()],
                        format!("SELECT {select} FROM '{filter}'"),
                    )
                }),
                ResourceAttributes {
                    depends_on: vec![
                        props.event_source.logical_id(),
                        props.environment.logical_id(),
                    ],
                    ..ResourceAttributes::default()
                },
            );
        };
    let (bare, devices) = (contract::topic::BARE, contract::topic::DEVICE_FILTER);
    rule(
        "BareTopicToStream",
        "The bare topic into the stream",
        "*",
        bare,
        &to_stream,
    );
    rule(
        "DeviceTopicsToStream",
        "One topic a device into the stream",
        "*",
        devices,
        &to_stream,
    );
    // The archive keeps what the stream's records say beside their data, and payloads byte for byte.
    let archived = "topic() AS topic, timestamp() AS at, encode(*, 'base64') AS data";
    rule(
        "BareTopicToArchive",
        "The bare topic into the archive",
        archived,
        bare,
        &to_archive,
    );
    rule(
        "DeviceTopicsToArchive",
        "One topic a device into the archive",
        archived,
        devices,
        &to_archive,
    );

    device_policy(template);
    template.output("Topics", "What the rules take: one topic a device", devices);
    Ingest { errors }
}

/// A role for one target, which AWS IoT may assume for this account's rules alone.
#[track_caller]
fn role(template: &mut Template, logical_id: &'static str, description: &str) -> Handle<iam::Role> {
    // Any rule of this account and region: the form that "Cross-service confused deputy prevention"
    // of the AWS IoT guide gives. The rules cannot be named here, because each of them names its roles.
    let conditions = [
        Condition::source_account(),
        Condition::arn_like("aws:SourceArn", iot_arn(&["*"])),
    ];
    template.define(
        logical_id,
        iam::Role {
            description: Some(description.into()),
            ..iam::Role::new(Document::trust("iot.amazonaws.com", &conditions))
        },
    )
}

/// What a device may do once its certificate is attached to a Thing: connect as that Thing, and
/// publish to its own topic.
fn device_policy(template: &mut Template) {
    let own_name = "${iot:Connection.Thing.ThingName}";
    let policy = template.define(
        "DevicePolicy",
        iot::Policy::new(Document::new([
            Statement::allow(["iot:Connect"], [iot_arn(&["client/", own_name])])
                .when(Condition::bool("iot:Connection.Thing.IsAttached", true)),
            Statement::allow(
                ["iot:Publish"],
                [iot_arn(&["topic/", contract::topic::BARE, "/", own_name])],
            ),
        ])),
    );
    template.output(
        "DevicePolicy",
        "IoT policy for the devices' certificates",
        policy.reference(),
    );
}

/// An ARN of AWS IoT in this account and region.
fn iot_arn(resource: &[&str]) -> Value<String> {
    let arn = Sub::new()
        .text("arn:")
        .value(pseudo::partition())
        .text(":iot:")
        .value(pseudo::region())
        .text(":")
        .value(pseudo::account_id())
        .text(":");
    resource
        .iter()
        .fold(arn, |arn, part| arn.text(part))
        .build()
}
