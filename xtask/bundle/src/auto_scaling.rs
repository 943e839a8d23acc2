//! The auto scaling group replaces an instance whose web UI does not answer.
//!
//! Elastic Beanstalk makes the group and has no option for its health checks. By default the group looks at
//! the machine alone: a web UI that hangs is taken out of the balancer and never replaced. What stands under
//! `Resources` of a configuration file changes the environment's own CloudFormation template.
//!
//! <https://docs.aws.amazon.com/elasticbeanstalk/latest/dg/environmentconfig-autoscaling-healthchecktype.html>

use serde_json::json;

/// Seconds in which a new instance is not judged: Beanstalk's own limit for a deployment command (option
/// `Timeout` of `aws:elasticbeanstalk:command`), so that none is replaced while it is still being set up.
const GRACE_SECONDS: u32 = 600;

/// The configuration file, in JSON.
pub(crate) fn health_checks() -> String {
    let file = json!({
        "Resources": {
            "AWSEBAutoScalingGroup": {
                "Type": "AWS::AutoScaling::AutoScalingGroup",
                "Properties": {
                    "HealthCheckType": "ELB",
                    "HealthCheckGracePeriod": GRACE_SECONDS,
                },
            },
        },
    });
    format!("{file:#}\n")
}
