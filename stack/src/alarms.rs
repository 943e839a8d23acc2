//! What somebody must be told of.

use cfn::intrinsic::{Sub, pseudo};
use cfn::policy::{Condition, Document, Principal, Statement};
use cfn::resources::cloudwatch::{self, alarm};
use cfn::resources::{
    elasticache, elasticbeanstalk, kinesis, kinesisfirehose, kms, lambda, logs, sns,
};
use cfn::{Handle, ResourceAttributes, Template, Value};
use contract::{metrics, timing};

use crate::encryption::{self, Encryption};
use crate::parameters::Parameters;

/// Namespace of what is counted from the rules' error log.
const RULE_NAMESPACE: &str = "Sensors/Rules";
/// Seconds of one look at a metric.
const PERIOD: i64 = 60;

/// What the alarms watch.
pub struct Props<'a> {
    /// Whose key encrypts the topic.
    pub encryption: Encryption,
    /// CPU and memory of its nodes.
    pub cache: Handle<elasticache::ReplicationGroup>,
    /// How many nodes there are.
    pub nodes: u32,
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
    let delivery_stream = vec![alarm::Dimension::new(
        "DeliveryStreamName",
        props.delivery_stream.reference(),
    )];
    define(
        "ArchiveLateAlarm",
        Watch {
            minutes: 3,
            ..Watch::maximum(
                "Messages wait to be archived",
                "AWS/Firehose",
                "DeliveryToS3.DataFreshness",
                delivery_stream,
                900.0,
            )
        },
    );
    define(
        "RuleErrorsAlarm",
        Watch::sum(
            "A topic rule could not deliver messages; they are in its error log",
            RULE_NAMESPACE,
            "Errors",
            Vec::new(),
        ),
    );
    const NODES: [(&str, [&str; 3]); 2] = [
        (
            "-001",
            [
                "CacheProcessorAlarm1",
                "CacheMemoryAlarm1",
                "CacheRefusalsAlarm1",
            ],
        ),
        (
            "-002",
            [
                "CacheProcessorAlarm2",
                "CacheMemoryAlarm2",
                "CacheRefusalsAlarm2",
            ],
        ),
    ];
    for (suffix, [processor, memory, refusals]) in NODES.into_iter().take(props.nodes as usize) {
        // Nodes of a group without cluster mode are named after it.
        let node = || {
            vec![alarm::Dimension::new(
                "CacheClusterId",
                Sub::new()
                    .value(props.cache.reference())
                    .text(suffix)
                    .build(),
            )]
        };
        define(
            processor,
            Watch {
                minutes: 5,
                ..Watch::maximum(
                    "The cache's processor is busy",
                    "AWS/ElastiCache",
                    "CPUUtilization",
                    node(),
                    80.0,
                )
            },
        );
        define(
            memory,
            Watch {
                minutes: 5,
                ..Watch::maximum(
                    "The cache's memory is nearly full",
                    "AWS/ElastiCache",
                    "DatabaseMemoryUsagePercentage",
                    node(),
                    80.0,
                )
            },
        );
        // "Metrics for Valkey and Redis OSS" of the ElastiCache user guide suggests this alarm.
        define(
            refusals,
            Watch::sum(
                "The cache did not let somebody in: a grant is missing, or it is none of ours",
                "AWS/ElastiCache",
                "AuthenticationFailures",
                node(),
            ),
        );
    }
    // 0 is Ok, 15 Degraded, 20 Severe: see "Publishing Amazon CloudWatch custom metrics for an environment".
    let environment = vec![alarm::Dimension::new(
        "EnvironmentName",
        props.environment.reference(),
    )];
    define(
        "DashboardHealthAlarm",
        Watch {
            minutes: 5,
            ..Watch::maximum(
                "The dashboard's environment is degraded",
                "AWS/ElasticBeanstalk",
                "EnvironmentHealth",
                environment,
                14.0,
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
                Value::from("Errors"),
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

/// What an alarm watches and when it sounds.
struct Watch {
    description: &'static str,
    namespace: &'static str,
    metric: &'static str,
    dimensions: Vec<alarm::Dimension>,
    statistic: alarm::Statistic,
    /// Sounds above this.
    threshold: f64,
    /// For so many minutes in a row.
    minutes: i64,
}

impl Watch {
    /// Sounds when anything was counted in a minute.
    fn sum(
        description: &'static str,
        namespace: &'static str,
        metric: &'static str,
        dimensions: Vec<alarm::Dimension>,
    ) -> Watch {
        Watch {
            description,
            namespace,
            metric,
            dimensions,
            statistic: alarm::Statistic::Sum,
            threshold: 0.0,
            minutes: 1,
        }
    }

    /// Sounds when the largest value of a minute is above the threshold.
    fn maximum(
        description: &'static str,
        namespace: &'static str,
        metric: &'static str,
        dimensions: Vec<alarm::Dimension>,
        threshold: f64,
    ) -> Watch {
        Watch {
            description,
            namespace,
            metric,
            dimensions,
            statistic: alarm::Statistic::Maximum,
            threshold,
            minutes: 1,
        }
    }

    fn into_alarm(self, topic: Handle<sns::Topic>) -> cloudwatch::Alarm {
        cloudwatch::Alarm {
            alarm_actions: Some([topic.reference()].into()),
            alarm_description: Some(self.description.into()),
            comparison_operator: Some(alarm::ComparisonOperator::GreaterThanThreshold.into()),
            dimensions: (!self.dimensions.is_empty()).then(|| self.dimensions.into()),
            evaluation_periods: Some(self.minutes.into()),
            metric_name: Some(self.metric.into()),
            namespace: Some(self.namespace.into()),
            ok_actions: Some([topic.reference()].into()),
            period: Some(PERIOD.into()),
            statistic: Some(self.statistic.into()),
            threshold: Some(self.threshold.into()),
            // No messages is no alarm.
            treat_missing_data: Some(alarm::TreatMissingData::NotBreaching.into()),
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
