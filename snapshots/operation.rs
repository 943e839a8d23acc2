//! What of the emitted templates and of the bundle decides how a stage is deployed, watched and repaired.

use std::collections::BTreeMap;

use cfn::document::Document;
use cfn::network::option;
use cfn::resolve::{Resolved, ResolvedResource, resolve};
use cfn::typical;
use serde_json::Value as Json;
use stack::Stage;

const ENVIRONMENT: &str = "DashboardEnvironment";

/// Seconds that IAM may need until a role that was just created can be assumed everywhere.
const PROPAGATION: u32 = 30;

#[test]
fn roles_that_are_used_at_once_are_old_enough() {
    for stage in Stage::ALL {
        let resolved = main_stack(stage);
        let finished = finished(&resolved, stage, &|_| true);
        let mut checked = 0;
        for resource in resolved.resources.values() {
            let uses_its_roles_at_once = [
                "AWS::IoT::TopicRule",
                "AWS::KinesisFirehose::DeliveryStream",
            ];
            if !uses_its_roles_at_once.contains(&&*resource.r#type) {
                continue;
            }
            let id = resource.logical_id.as_str();
            let begun = finished[id] - typical::seconds(&resource.r#type);
            for needed in &resource.depends_on {
                if resolved.resources[needed].r#type != "AWS::IAM::Role" {
                    continue;
                }
                let age = begun - finished[needed.as_str()];
                assert!(
                    age >= PROPAGATION,
                    "{stage}: {needed} is {age} s old when {id} uses it"
                );
                checked += 1;
            }
        }
        // Four rules with two roles each, and the delivery stream with one.
        assert_eq!(checked, 9, "{stage}");
    }
}

#[test]
fn waiting_for_roles_does_not_make_the_stack_later() {
    for stage in Stage::ALL {
        let resolved = main_stack(stage);
        let last = |finished: BTreeMap<&str, u32>| finished.values().copied().max();
        let waits = |id: &str| {
            let r#type = &resolved.resources[id].r#type;
            r#type == "AWS::IoT::TopicRule" || r#type == "AWS::KinesisFirehose::DeliveryStream"
        };
        assert_eq!(
            last(finished(&resolved, stage, &|_| true)),
            last(finished(&resolved, stage, &|id| !waits(id))),
            "{stage}"
        );
    }
}

#[test]
fn messages_arrive_after_their_consumer() {
    for stage in Stage::ALL {
        let resolved = main_stack(stage);
        for rule in resolved.of_type("AWS::IoT::TopicRule") {
            let id = &rule.logical_id;
            let waits = rule.depends_on.iter().any(|it| it == "FunctionEventSource");
            assert!(waits, "{stage}: {id}");
        }
    }
}

#[test]
fn environment_is_created_after_the_rules_of_its_security_groups() {
    for stage in Stage::ALL {
        let resolved = main_stack(stage);
        let environment = resource(&resolved, ENVIRONMENT);
        for rule in [
            "WebFromBalancer",
            "BalancerToWeb",
            "WebToCache",
            "CacheFromWeb",
        ] {
            assert!(
                environment.depends_on.iter().any(|it| it == rule),
                "{stage}: {rule}"
            );
        }
    }
}

#[test]
fn prod_replaces_one_instance_at_a_time() {
    let prod = main_stack(Stage::Prod);
    let command = |name| {
        option(
            resource(&prod, ENVIRONMENT),
            "aws:elasticbeanstalk:command",
            name,
        )
    };
    assert_eq!(command("DeploymentPolicy"), ["RollingWithAdditionalBatch"]);
    assert_eq!(command("BatchSizeType"), ["Fixed"]);
    assert_eq!(command("BatchSize"), ["1"]);
}

#[test]
fn answers_4xx_leave_the_health_as_it_is() {
    for stage in Stage::ALL {
        let stack = main_stack(stage);
        let namespace = "aws:elasticbeanstalk:healthreporting:system";
        // `option` reads lists: the document has commas of its own.
        let document = option(resource(&stack, ENVIRONMENT), namespace, "ConfigDocument").join(",");
        let document: Json = serde_json::from_str(&document).expect("is JSON");
        for pointer in [
            "/Rules/Environment/Application/ApplicationRequests4xx/Enabled",
            "/Rules/Environment/ELB/ELBRequests4xx/Enabled",
        ] {
            assert_eq!(
                document.pointer(pointer),
                Some(&Json::Bool(false)),
                "{stage}"
            );
        }
    }
}

#[test]
fn instance_that_does_not_answer_the_balancer_is_replaced() {
    for redirect_to_https in [false, true] {
        let settings = bundle::Settings {
            redirect_to_https,
            sign_in: None,
        };
        let files = bundle::files(settings);
        let file = files
            .iter()
            .find(|file| file.path == ".ebextensions/auto-scaling.config")
            .expect("is in the bundle");
        let config: Json = serde_json::from_str(&file.contents).expect("is JSON");
        let group = &config["Resources"]["AWSEBAutoScalingGroup"]["Properties"];
        assert_eq!(group["HealthCheckType"], "ELB");
        // Longer than a deployment command may take: "General options for all environments".
        assert!(group["HealthCheckGracePeriod"].as_u64() >= Some(600));
    }
}

#[test]
fn metric_of_rule_errors_is_of_one_stack() {
    for stage in Stage::ALL {
        let stack = main_stack(stage);
        let counted = resource(&stack, "RuleErrorCount").items("/MetricTransformations");
        let alarm = resource(&stack, "RuleErrorsAlarm");
        let name = counted[0]["MetricName"].as_str().expect("has a name");
        assert!(name.contains(&stack.context.stack_name), "{stage}: {name}");
        assert_eq!(alarm.text("/MetricName").as_deref(), Some(name), "{stage}");
        assert_eq!(
            alarm.text("/Namespace").as_deref(),
            counted[0]["MetricNamespace"].as_str(),
            "{stage}"
        );
    }
}

#[test]
fn alarms_watch_what_somebody_must_be_told_of() {
    // Metric, and the threshold of its alarm in both stages.
    let expected = [
        ("AWS/ElasticBeanstalk EnvironmentHealth", "20"),
        ("AWS/ElastiCache CPUUtilization", "45"),
        ("AWS/ElastiCache DatabaseMemoryUsagePercentage", "80"),
        ("AWS/ElastiCache AuthenticationFailures", "0"),
        ("AWS/ElastiCache CommandAuthorizationFailures", "0"),
        ("AWS/ElastiCache KeyAuthorizationFailures", "0"),
        ("AWS/ElastiCache ChannelAuthorizationFailures", "0"),
        ("AWS/Firehose ThrottledRecords", "0"),
        ("AWS/Firehose DeliveryToS3.DataFreshness", "900"),
        ("AWS/Lambda DestinationDeliveryFailures", "0"),
        ("AWS/Lambda Errors", "0"),
        ("AWS/Lambda Throttles", "0"),
        ("AWS/Lambda IteratorAge", "7200000"),
        ("AWS/Kinesis WriteProvisionedThroughputExceeded", "0"),
    ];
    for stage in Stage::ALL {
        let stack = main_stack(stage);
        let nodes = stage.config().cache.nodes as usize;
        for (metric, threshold) in expected {
            let alarms: Vec<String> = stack
                .of_type("AWS::CloudWatch::Alarm")
                .filter(|alarm| {
                    let text = |pointer| alarm.text(pointer).unwrap_or_default();
                    metric == format!("{} {}", text("/Namespace"), text("/MetricName"))
                })
                .map(|alarm| {
                    let threshold = alarm.text("/Threshold").unwrap_or_default();
                    threshold.trim_end_matches(".0").to_owned()
                })
                .collect();
            let count = match metric.starts_with("AWS/ElastiCache") {
                true => nodes,
                false => 1,
            };
            assert_eq!(alarms, vec![threshold; count], "{stage}: {metric}");
        }
        let health = resource(&stack, "DashboardHealthAlarm");
        // At 20 the environment is Degraded already.
        assert_eq!(
            health.text("/ComparisonOperator").as_deref(),
            Some("GreaterThanOrEqualToThreshold"),
            "{stage}"
        );
        assert_eq!(
            health.text("/TreatMissingData").as_deref(),
            Some("breaching"),
            "{stage}"
        );
    }
}

#[test]
fn function_logs_no_lines_of_the_platform_for_each_invocation() {
    for stage in Stage::ALL {
        let level = resource(&main_stack(stage), "Function").text("/LoggingConfig/SystemLogLevel");
        assert_eq!(level.as_deref(), Some("WARN"), "{stage}");
    }
}

#[test]
fn instances_have_the_one_type_that_beanstalk_uses() {
    for stage in Stage::ALL {
        let stack = main_stack(stage);
        let environment = resource(&stack, ENVIRONMENT);
        let instances = |name| option(environment, "aws:ec2:instances", name);
        assert_eq!(instances("InstanceTypes").len(), 1, "{stage}");
        assert_eq!(instances("EnableSpot"), [""; 0], "{stage}");
    }
}

#[test]
fn prod_keeps_the_web_logs_of_an_environment_that_is_replaced() {
    for (stage, deletes) in [(Stage::Dev, "true"), (Stage::Prod, "false")] {
        let stack = main_stack(stage);
        let environment = resource(&stack, ENVIRONMENT);
        let logs = |name| option(environment, "aws:elasticbeanstalk:cloudwatch:logs", name);
        assert_eq!(logs("StreamLogs"), ["true"], "{stage}");
        assert_eq!(logs("DeleteOnTerminate"), [deletes], "{stage}");
    }
}

#[test]
fn engine_version_is_given_by_the_deployment() {
    for stage in Stage::ALL {
        let document = Document::parse(&template(stage)).expect("what is emitted can be read");
        let cache = &document.resources["Cache"].properties;
        let parameter = stack::parameters::CACHE_ENGINE_VERSION;
        assert_eq!(
            cache["EngineVersion"],
            serde_json::json!({ "Ref": parameter })
        );
        let default = document.parameters[parameter].default.as_ref();
        assert_eq!(default, Some(&Json::from(stack::cache::ENGINE_VERSION)));
    }
}

#[test]
fn prod_is_protected_from_deletion() {
    for (stage, is_protected) in [(Stage::Dev, false), (Stage::Prod, true)] {
        assert_eq!(
            stage.config().termination_protection,
            is_protected,
            "{stage}"
        );
    }
}

/// Logical ID → seconds after which each resource is usually there; `DependsOn` counts for those that
/// `counts` says.
fn finished<'a>(
    stack: &'a Resolved,
    stage: Stage,
    counts: &dyn Fn(&str) -> bool,
) -> BTreeMap<&'a str, u32> {
    let document = Document::parse(&template(stage)).expect("what is emitted can be read");
    let mut finished: BTreeMap<&str, u32> = BTreeMap::new();
    for id in stack.creation_order() {
        let resource = resource(stack, id);
        let declared = &document.resources[id].depends_on;
        let needed = resource.depends_on.iter();
        let begun = needed
            .filter(|it| counts(id) || !declared.contains(it))
            .map(|it| finished[it.as_str()])
            .max()
            .unwrap_or(0);
        finished.insert(id, begun + typical::seconds(&resource.r#type));
    }
    finished
}

fn resource<'a>(stack: &'a Resolved, id: &str) -> &'a ResolvedResource {
    let found = stack.resource(id);
    found.unwrap_or_else(|| panic!("{id} is not in the template"))
}

fn template(stage: Stage) -> String {
    let stacks = stack::synth(stage).unwrap_or_else(|problems| panic!("{problems}"));
    stacks.into_iter().last().expect("has stacks").template
}

fn main_stack(stage: Stage) -> Resolved {
    let document = Document::parse(&template(stage)).expect("what is emitted can be read");
    let resolved = resolve(&document, &cfn::access::context());
    resolved.unwrap_or_else(|problems| panic!("{problems:?}"))
}
