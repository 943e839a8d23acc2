//! What a person or CI needs beside the service role: every call that this project's command line makes.
//!
//! A test in `xtask/aws` holds the calls in its source against this list, both ways.

use super::rule::Rule;
use super::scope;

/// On what a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// The stacks of the stages.
    Stacks,
    /// The stages' buckets, by the names that CloudFormation generates.
    Buckets,
    /// The objects in them.
    Objects,
    /// Resources that [`scope`] names.
    Named,
    /// All: the call knows no resource, or reads a list.
    All,
}

/// A call that the command line makes.
struct Call {
    action: &'static str,
    on: On,
    because: &'static str,
}

const fn call(action: &'static str, on: On, because: &'static str) -> Call {
    Call {
        action,
        on,
        because,
    }
}

const CALLS: &[Call] = &[
    call(
        "cloudformation:ContinueUpdateRollback",
        On::Stacks,
        "deploy: a rollback that is stuck",
    ),
    call(
        "cloudformation:CreateChangeSet",
        On::Stacks,
        "deploy, diff --online: what would change",
    ),
    call(
        "cloudformation:DeleteChangeSet",
        On::Stacks,
        "deploy, diff: a plan that nobody wants",
    ),
    call(
        "cloudformation:DeleteStack",
        On::Stacks,
        "destroy, and deploy after a failed creation",
    ),
    call(
        "cloudformation:DescribeChangeSet",
        On::Stacks,
        "deploy: the plan",
    ),
    call(
        "cloudformation:DescribeEvents",
        On::Stacks,
        "deploy: what validation found",
    ),
    call(
        "cloudformation:DescribeStackEvents",
        On::Stacks,
        "deploy, destroy: progress and failures",
    ),
    call("cloudformation:DescribeStacks", On::Stacks, "all commands"),
    call(
        "cloudformation:ExecuteChangeSet",
        On::Stacks,
        "deploy: the plan is carried out",
    ),
    call(
        "cloudformation:GetTemplate",
        On::Stacks,
        "deploy, diff: what is deployed",
    ),
    call(
        "cloudformation:ListStackResources",
        On::Stacks,
        "all commands: names of what is deployed",
    ),
    call(
        "cloudformation:RollbackStack",
        On::Stacks,
        "deploy: a stack that is half updated",
    ),
    call(
        "cloudformation:UpdateTerminationProtection",
        On::Stacks,
        "destroy --lift-protection",
    ),
    call(
        "ec2:DeleteNetworkInterface",
        On::Named,
        "destroy: interfaces that Lambda leaves behind",
    ),
    call(
        "ec2:DescribeAddresses",
        On::All,
        "destroy: what still costs money; doctor: the quota",
    ),
    call(
        "ec2:DescribeNatGateways",
        On::All,
        "destroy: what still costs money",
    ),
    call(
        "ec2:DescribeNetworkInterfaces",
        On::All,
        "destroy: the function's interfaces",
    ),
    call("ec2:DescribeVpcs", On::All, "doctor: the quota"),
    call(
        "elasticache:DescribeCacheClusters",
        On::All,
        "deploy: the engine version that runs",
    ),
    call(
        "elasticache:DescribeSnapshots",
        On::All,
        "destroy: what still costs money",
    ),
    call(
        "elasticbeanstalk:DescribeEnvironmentHealth",
        On::All,
        "status, and why a deployment failed",
    ),
    call(
        "elasticbeanstalk:DescribeEnvironments",
        On::All,
        "deploy: the platform that runs",
    ),
    call(
        "elasticbeanstalk:DescribeEvents",
        On::All,
        "deploy: why an environment failed",
    ),
    call(
        "elasticbeanstalk:ListPlatformVersions",
        On::All,
        "deploy, doctor: the platform",
    ),
    call(
        "iot:DescribeEndpoint",
        On::All,
        "smoke, publish, simulate: where to send to",
    ),
    call(
        "iot:DisableTopicRule",
        On::Named,
        "destroy: nothing new comes in",
    ),
    call(
        "iot:EnableTopicRule",
        On::Named,
        "deploy after a destroy that was interrupted",
    ),
    call(
        "iot:GetTopicRule",
        On::Named,
        "deploy: whether a rule is switched off",
    ),
    call("iot:Publish", On::Named, "smoke, publish, simulate"),
    call(
        "lambda:GetEventSourceMapping",
        On::Named,
        "destroy, deploy, smoke: its state",
    ),
    call(
        "lambda:GetFunctionConfiguration",
        On::Named,
        "destroy, deploy: the function's network",
    ),
    call(
        "lambda:UpdateEventSourceMapping",
        On::Named,
        "destroy switches it off, deploy on again",
    ),
    call(
        "lambda:UpdateFunctionConfiguration",
        On::Named,
        "destroy takes the function out of the network, deploy puts it back",
    ),
    call(
        "logs:DescribeLogGroups",
        On::All,
        "logs, destroy: the log groups",
    ),
    call("logs:FilterLogEvents", On::Named, "logs"),
    call(
        "s3:AbortMultipartUpload",
        On::Objects,
        "destroy, and an upload that failed",
    ),
    call("s3:DeleteBucket", On::Buckets, "destroy --delete-data"),
    call(
        "s3:DeleteObject",
        On::Objects,
        "destroy, and artifacts that nothing refers to",
    ),
    call(
        "s3:DeleteObjectVersion",
        On::Objects,
        "destroy, and artifacts that nothing refers to",
    ),
    call(
        "s3:GetBucketTagging",
        On::Buckets,
        "destroy: buckets that outlived an earlier one",
    ),
    call(
        "s3:GetObject",
        On::Objects,
        "deploy: whether an artifact is there; smoke --archive",
    ),
    call(
        "s3:ListAllMyBuckets",
        On::All,
        "destroy: buckets that outlived an earlier one",
    ),
    call(
        "s3:ListBucket",
        On::Buckets,
        "destroy: whether a bucket is there",
    ),
    call(
        "s3:ListBucketMultipartUploads",
        On::Buckets,
        "destroy: unfinished uploads",
    ),
    call(
        "s3:ListBucketVersions",
        On::Buckets,
        "destroy: every version of every object; smoke --archive",
    ),
    call("s3:PutObject", On::Objects, "deploy: artifacts"),
    call(
        "servicequotas:GetServiceQuota",
        On::All,
        "deploy, doctor: whether a new stage has room",
    ),
    call(
        "sts:GetCallerIdentity",
        On::All,
        "all commands: whose credentials these are",
    ),
];

/// What AWS asks for beside the calls themselves.
const IMPLIED: &[Call] = &[
    call(
        "cloudformation:TagResource",
        On::Stacks,
        "deploy: a change set with tags",
    ),
    // "Giving Lambda functions access to resources in an Amazon VPC", permissions of the user.
    call(
        "ec2:DescribeSecurityGroups",
        On::All,
        "deploy puts a function back into its network",
    ),
    call(
        "ec2:DescribeSubnets",
        On::All,
        "deploy puts a function back into its network",
    ),
];

/// Log groups of the environments, which Beanstalk names.
const BEANSTALK_LOGS: &str =
    "arn:${Partition}:logs:${Region}:${Account}:log-group:/aws/elasticbeanstalk/*";

/// The calls' actions, each with what it is for.
pub fn calls() -> impl Iterator<Item = (&'static str, &'static str)> {
    CALLS.iter().map(|call| (call.action, call.because))
}

/// The policy for some stacks, without the service role.
pub(super) fn rules(names: &[String]) -> Vec<Rule> {
    let stacks: Vec<String> = scope::each(
        names,
        "arn:${Partition}:cloudformation:${Region}:${Account}:stack/{stack}/*",
    )
    .into_iter()
    .chain(scope::each(
        names,
        "arn:${Partition}:cloudformation:${Region}:${Account}:stack/{stack}-artifacts/*",
    ))
    .collect();
    let buckets = scope::each(names, "arn:${Partition}:s3:::{stack}-*");
    let on = |wanted: On| {
        CALLS
            .iter()
            .chain(IMPLIED)
            .filter(move |call| call.on == wanted)
            .map(|call| call.action)
    };
    let mut rules = vec![
        Rule::allow("Stacks", on(On::Stacks), stacks),
        Rule::allow(
            "Bootstrap",
            ["cloudformation:DescribeStacks"],
            [format!(
                "arn:${{Partition}}:cloudformation:${{Region}}:${{Account}}:stack/{}/*",
                super::STACK_NAME
            )],
        ),
        Rule::allow("Buckets", on(On::Buckets), buckets.clone()),
        Rule::allow("Objects", on(On::Objects), buckets),
        Rule::allow("Looking", on(On::All), ["*"]),
    ];
    let mut named: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
    for action in on(On::Named) {
        let mut resources = match action {
            "iot:Publish" => vec![format!(
                "arn:${{Partition}}:iot:${{Region}}:${{Account}}:topic/{}*",
                contract::topic::BARE
            )],
            _ => scope::of(names, action),
        };
        if action == "logs:FilterLogEvents" {
            resources.push(BEANSTALK_LOGS.to_owned());
        }
        match named.iter_mut().find(|(known, _)| *known == resources) {
            Some((_, actions)) => actions.push(action),
            None => named.push((resources, vec![action])),
        }
    }
    for (number, (resources, actions)) in named.into_iter().enumerate() {
        let service = actions[0].split(':').next().unwrap_or_default();
        let sid = format!("{}{}", super::pascal(service), number + 1);
        rules.push(Rule::allow(&sid, actions, resources));
    }
    rules
}

/// The right to hand the stacks to the service role, and to nothing else.
pub(super) fn pass_service_role() -> Rule {
    Rule::allow("PassServiceRole", ["iam:PassRole"], ["${ServiceRole}"]).when(
        "StringEquals",
        "iam:PassedToService",
        ["cloudformation.amazonaws.com"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_an_action_with_a_reason() {
        for Call {
            action, because, ..
        } in CALLS.iter().chain(IMPLIED)
        {
            assert!(cfn::actions::exists(action), "{action}");
            assert!(!because.is_empty(), "{action}");
        }
    }
}
