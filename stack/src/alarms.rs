//! What somebody must be told of.

use cfn::intrinsic::{Sub, pseudo};
use cfn::policy::{Condition, Document, Principal, Statement};
use cfn::resources::cloudwatch::{self, alarm};
use cfn::resources::{
    elasticache, elasticbeanstalk, kinesis, kinesisfirehose, kms, lambda, logs, sns,
};
use cfn::{Handle, ResourceAttributes, Template, Value};
use contract::{metrics, timing};

use crate::config;
use crate::encryption::{self, Encryption};
use crate::parameters::Parameters;

/// Namespace of what is counted from the rules' error log.
const RULE_NAMESPACE: &str = "Sensors/Rules";
/// Seconds of one look at a metric.
const PERIOD: i64 = 60;
/// The health "Degraded" as a number. Of the others, 0 is Ok, 1 Info, 5 Unknown, 10 No data, 15 Warning
/// and 25 Severe: "Publishing Amazon CloudWatch custom metrics for an environment" of the Elastic
/// Beanstalk developer guide.
const DEGRADED: f64 = 20.0;

/// The alarms of one cache node.
struct NodeAlarms {
    /// What the node's name ends in.
    suffix: &'static str,
    processor: &'static str,
    memory: &'static str,
    sign_ins: &'static str,
    commands: &'static str,
    keys: &'static str,
    channels: &'static str,
}

const NODES: [NodeAlarms; config::Cache::MOST_NODES as usize] = [
    NodeAlarms {
        suffix: "-001",
        processor: "CacheProcessorAlarm1",
        memory: "CacheMemoryAlarm1",
        sign_ins: "CacheRefusalsAlarm1",
        commands: "CacheCommandsRefusedAlarm1",
        keys: "CacheKeysRefusedAlarm1",
        channels: "CacheChannelsRefusedAlarm1",
    },
    NodeAlarms {
        suffix: "-002",
        processor: "CacheProcessorAlarm2",
        memory: "CacheMemoryAlarm2",
        sign_ins: "CacheRefusalsAlarm2",
        commands: "CacheCommandsRefusedAlarm2",
        keys: "CacheKeysRefusedAlarm2",
        channels: "CacheChannelsRefusedAlarm2",
    },
];

/// What the alarms watch.
pub struct Props<'a> {
    /// Whose key encrypts the topic.
    pub encryption: Encryption,
    /// CPU and memory of its nodes.
    pub cache: Handle<elasticache::ReplicationGroup>,
    /// How many nodes there are.
    pub nodes: u32,
    /// Their type, such as `cache.t4g.micro`.
    pub node_type: &'static str,
    /// Throttled writes.
    pub stream: Handle<kinesis::Stream>,
    /// What rules could not deliver.
    pub rule_errors: Handle<logs::LogGroup>,
    /// Age of what is not in the archive yet.
    pub delivery_stream: Handle<kinesisfirehose::DeliveryStream>,
    /// Errors, throttles, age of what it reads, rejected records.
    pub function: Handle<lambda::Function>,
    /// Health.
    pub environment: Handle<elasticbeanstalk::Environment>,
    /// Whom to mail.
    pub parameters: &'a Parameters,
}

/// Defines the alarms and the topic that they are sent to.
pub fn define(template: &mut Template, props: &Props<'_>) {
    let topic = topic(template, props);
    let function = || {
        vec![alarm::Dimension::new(
            "FunctionName",
            props.function.reference(),
        )]
    };
    let ours = || {
        vec![alarm::Dimension::new(
            metrics::FUNCTION_NAME,
            props.function.reference(),
        )]
    };
    let stream = || {
        vec![alarm::Dimension::new(
            "StreamName",
            props.stream.reference(),
        )]
    };

    let mut define = |logical_id, watch: Watch| {
        template.define(logical_id, watch.into_alarm(topic));
    };
    // A third of the way to losing records.
    let late = timing::MAXIMUM_RECORD_AGE.as_millis() as f64 / 3.0;
    define(
        "RecordsLateAlarm",
        Watch {
            minutes: 3,
            ..Watch::maximum(
                "Records wait to be processed",
                "AWS/Lambda",
                "IteratorAge",
                function(),
                late,
            )
        },
    );
    define(
        "FunctionErrorsAlarm",
        Watch::sum("The function failed", "AWS/Lambda", "Errors", function()),
    );
    define(
        "FunctionThrottlesAlarm",
        Watch::sum(
            "The function was throttled",
            "AWS/Lambda",
            "Throttles",
            function(),
        ),
    );
    define(
        "RecordsRejectedAlarm",
        Watch::sum(
            "Records were rejected; they are in the failure bucket",
            metrics::NAMESPACE,
            metrics::REJECTED,
            ours(),
        ),
    );
    // "Types of metrics for Lambda functions" of the Lambda developer guide.
    define(
        "FailuresLostAlarm",
        Watch::sum(
            "Records were discarded and could not be written to the failure bucket",
            "AWS/Lambda",
            "DestinationDeliveryFailures",
            function(),
        ),
    );
    define(
        "CacheUnavailableAlarm",
        Watch::sum(
            "The function cannot reach the cache",
            metrics::NAMESPACE,
            metrics::CACHE_UNAVAILABLE,
            ours(),
        ),
    );
    define(
        "StreamThrottlesAlarm",
        Watch::sum(
            "The stream refused records",
            "AWS/Kinesis",
            "WriteProvisionedThroughputExceeded",
            stream(),
        ),
    );
    let delivery_stream = || {
        vec![alarm::Dimension::new(
            "DeliveryStreamName",
            props.delivery_stream.reference(),
        )]
    };
    define(
        "ArchiveLateAlarm",
        Watch {
            minutes: 3,
            ..Watch::maximum(
                "Messages wait to be archived",
                "AWS/Firehose",
                "DeliveryToS3.DataFreshness",
                delivery_stream(),
                900.0,
            )
        },
    );
    // "Implement best practices with CloudWatch Alarms" of the Firehose developer guide.
    define(
        "ArchiveThrottlesAlarm",
        Watch::sum(
            "The archive's delivery stream refused messages",
            "AWS/Firehose",
            "ThrottledRecords",
            delivery_stream(),
        ),
    );
    define(
        "RuleErrorsAlarm",
        Watch::sum(
            "A topic rule could not deliver messages; they are in its error log",
            RULE_NAMESPACE,
            rule_errors(),
            Vec::new(),
        ),
    );
    let processor = processor(props.node_type);
    for node in NODES.into_iter().take(props.nodes as usize) {
        // Nodes of a group without cluster mode are named after it.
        let dimensions = || {
            vec![alarm::Dimension::new(
                "CacheClusterId",
                Sub::new()
                    .value(props.cache.reference())
                    .text(node.suffix)
                    .build(),
            )]
        };
        define(
            node.processor,
            Watch {
                minutes: 5,
                ..Watch::maximum(
                    "The cache's processor is busy",
                    "AWS/ElastiCache",
                    processor.metric,
                    dimensions(),
                    processor.percent,
                )
            },
        );
        define(
            node.memory,
            Watch {
                minutes: 5,
                ..Watch::maximum(
                    "The cache's memory is nearly full",
                    "AWS/ElastiCache",
                    "DatabaseMemoryUsagePercentage",
                    dimensions(),
                    80.0,
                )
            },
        );
        // "Metrics for Valkey and Redis OSS" of the ElastiCache user guide suggests these alarms.
        let refused = [
            (
                node.sign_ins,
                "The cache refused a sign-in: a grant is missing, or the client is not one of ours",
                "AuthenticationFailures",
            ),
            (
                node.commands,
                "The cache refused a command that its user may not run",
                "CommandAuthorizationFailures",
            ),
            (
                node.keys,
                "The cache refused a key that its user may not use",
                "KeyAuthorizationFailures",
            ),
            (
                node.channels,
                "The cache refused a channel that its user may not use",
                "ChannelAuthorizationFailures",
            ),
        ];
        for (logical_id, description, metric) in refused {
            define(
                logical_id,
                Watch::sum(description, "AWS/ElastiCache", metric, dimensions()),
            );
        }
    }
    let environment = vec![alarm::Dimension::new(
        "EnvironmentName",
        props.environment.reference(),
    )];
    define(
        "DashboardHealthAlarm",
        Watch {
            comparison: alarm::ComparisonOperator::GreaterThanOrEqualToThreshold,
            minutes: 3,
            // Beanstalk reports the health every minute, whatever the traffic: silence is a fault.
            missing: alarm::TreatMissingData::Breaching,
            ..Watch::maximum(
                "The dashboard's environment is degraded",
                "AWS/ElasticBeanstalk",
                "EnvironmentHealth",
                environment,
                DEGRADED,
            )
        },
    );

    template.define(
        "RuleErrorCount",
        logs::MetricFilter::new(
            // Every message in the group is one.
            "",
            props.rule_errors.reference(),
            [logs::metric_filter::MetricTransformation::new(
                rule_errors(),
                Value::from(RULE_NAMESPACE),
                Value::from("1"),
            )],
        ),
    );
    template.output(
        "AlarmTopic",
        "Topic that alarms are sent to",
        topic.reference(),
    );
}

/// Metric of what rules could not deliver. It carries the stack's name: a metric from a log group has no
/// dimension of its own, and the stages of an account share the namespace.
fn rule_errors() -> Value<String> {
    Sub::new()
        .value(pseudo::stack_name())
        .text("-errors")
        .build()
}

/// The metric that tells how busy a cache node is, and the percentage of it that is too much.
#[derive(Debug, PartialEq)]
struct Processor {
    metric: &'static str,
    percent: f64,
}

/// The engine runs commands on one thread, so a node is busy when one processor is.
///
/// On node types with one or two processors the other threads and the operating system count as well:
/// there, 90 % of one processor as a share of all. Otherwise the engine's thread alone. From "Which Metrics
/// Should I Monitor?" of the ElastiCache user guide.
fn processor(node_type: &str) -> Processor {
    let mut parts = node_type.split('.').skip(1);
    let (family, size) = (parts.next(), parts.next());
    let processors = match (family, size) {
        (Some("t2"), Some("micro" | "small")) => 1.0,
        (_, Some("micro" | "small" | "medium" | "large")) => 2.0,
        _ => {
            return Processor {
                metric: "EngineCPUUtilization",
                percent: 90.0,
            };
        }
    };
    Processor {
        metric: "CPUUtilization",
        percent: 90.0 / processors,
    }
}

/// What an alarm watches and when it sounds.
struct Watch {
    description: &'static str,
    namespace: &'static str,
    metric: Value<String>,
    dimensions: Vec<alarm::Dimension>,
    statistic: alarm::Statistic,
    comparison: alarm::ComparisonOperator,
    threshold: f64,
    /// For so many minutes in a row.
    minutes: i64,
    missing: alarm::TreatMissingData,
}

impl Watch {
    /// Sounds when anything was counted in a minute.
    fn sum(
        description: &'static str,
        namespace: &'static str,
        metric: impl Into<Value<String>>,
        dimensions: Vec<alarm::Dimension>,
    ) -> Watch {
        Watch {
            statistic: alarm::Statistic::Sum,
            ..Watch::maximum(description, namespace, metric, dimensions, 0.0)
        }
    }

    /// Sounds when the largest value of a minute is above the threshold.
    fn maximum(
        description: &'static str,
        namespace: &'static str,
        metric: impl Into<Value<String>>,
        dimensions: Vec<alarm::Dimension>,
        threshold: f64,
    ) -> Watch {
        Watch {
            description,
            namespace,
            metric: metric.into(),
            dimensions,
            statistic: alarm::Statistic::Maximum,
            comparison: alarm::ComparisonOperator::GreaterThanThreshold,
            threshold,
            minutes: 1,
            // No messages is no alarm.
            missing: alarm::TreatMissingData::NotBreaching,
        }
    }

    fn into_alarm(self, topic: Handle<sns::Topic>) -> cloudwatch::Alarm {
        cloudwatch::Alarm {
            alarm_actions: Some([topic.reference()].into()),
            alarm_description: Some(self.description.into()),
            comparison_operator: Some(self.comparison.into()),
            dimensions: (!self.dimensions.is_empty()).then(|| self.dimensions.into()),
            evaluation_periods: Some(self.minutes.into()),
            metric_name: Some(self.metric),
            namespace: Some(self.namespace.into()),
            ok_actions: Some([topic.reference()].into()),
            period: Some(PERIOD.into()),
            statistic: Some(self.statistic.into()),
            threshold: Some(self.threshold.into()),
            treat_missing_data: Some(self.missing.into()),
            ..Default::default()
        }
    }
}

/// The alarms' topic, under a key of our own: AWS's key for SNS does not admit CloudWatch.
fn topic(template: &mut Template, props: &Props<'_>) -> Handle<sns::Topic> {
    let key = props.encryption.key.unwrap_or_else(|| alarm_key(template));
    let topic = template.define(
        "AlarmTopic",
        sns::Topic {
            kms_master_key_id: Some(key.arn().into()),
            ..Default::default()
        },
    );
    template.define(
        "AlarmTopicPolicy",
        sns::TopicPolicy::new(
            Document::new([Statement::allow(["sns:Publish"], [topic.reference()])
                .by(Principal::Service("cloudwatch.amazonaws.com".into()))
                .when(Condition::source_account())]),
            [topic.reference()],
        ),
    );
    template.define_with(
        "AlarmSubscription",
        sns::Subscription {
            endpoint: Some(props.parameters.alarm_email.reference().into()),
            ..sns::Subscription::new(Value::from("email"), topic.reference())
        },
        ResourceAttributes {
            condition: Some(props.parameters.has_alarm_email),
            ..ResourceAttributes::default()
        },
    );
    topic
}

/// The topic's own key, where there is no key for everything.
fn alarm_key(template: &mut Template) -> Handle<kms::Key> {
    let account = Sub::new()
        .text("arn:")
        .value(pseudo::partition())
        .text(":iam::")
        .value(pseudo::account_id())
        .text(":root")
        .build();
    template.define(
        "AlarmKey",
        kms::Key {
            description: Some("Encrypts the alarms' topic".into()),
            enable_key_rotation: Some(true.into()),
            // A key's policy speaks of that key alone, hence `*`: see "Key policies in AWS KMS".
            key_policy: Some(
                Document::new([
                    Statement::allow(["kms:*"], ["*"]).by(Principal::Aws(account)),
                    encryption::alarms(),
                ])
                .into(),
            ),
            pending_window_in_days: Some(7.into()),
            ..Default::default()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_most_of_the_one_processor_that_the_engine_uses() {
        let table = [
            ("cache.t2.micro", "CPUUtilization", 90.0),
            ("cache.t4g.micro", "CPUUtilization", 45.0),
            ("cache.t4g.small", "CPUUtilization", 45.0),
            ("cache.t4g.medium", "CPUUtilization", 45.0),
            ("cache.m7g.large", "CPUUtilization", 45.0),
            ("cache.r7g.xlarge", "EngineCPUUtilization", 90.0),
            ("cache.r7g.16xlarge", "EngineCPUUtilization", 90.0),
        ];
        for (node_type, metric, percent) in table {
            assert_eq!(
                processor(node_type),
                Processor { metric, percent },
                "{node_type}"
            );
        }
    }
}
