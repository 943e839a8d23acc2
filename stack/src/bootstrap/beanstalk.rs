//! What Elastic Beanstalk does with its caller's permissions: CloudFormation's service role is that caller, and
//! at managed updates the environment's own role.
//!
//! Nothing publishes it call by call. Each line has its reason, drawn from the policies that AWS manages for
//! the purpose (`AdministratorAccess-AWSElasticBeanstalk` v10, `AWSElasticBeanstalkRoleCore` v3), without what
//! a load-balanced web environment with a launch template does not use: ECS, RDS, SQS, DynamoDB, CodeBuild,
//! classic balancers, elastic addresses, key pairs, notifications.

use super::rule::Rule;
use super::scope;

/// Services to which Beanstalk passes the environment's roles on: itself, and what starts instances.
pub(super) const PASSED_TO: [&str; 4] = [
    "autoscaling.amazonaws.com",
    "cloudformation.amazonaws.com",
    "ec2.amazonaws.com",
    "elasticbeanstalk.amazonaws.com",
];

/// Service-linked roles that it makes where the account has none.
pub(super) const SERVICE_LINKED: [&str; 5] = [
    "autoscaling.amazonaws.com",
    "elasticbeanstalk.amazonaws.com",
    "elasticloadbalancing.amazonaws.com",
    "maintenance.elasticbeanstalk.amazonaws.com",
    "managedupdates.elasticbeanstalk.amazonaws.com",
];

/// Statement, its actions, its resources, why.
type Line = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static str,
);

const LINES: &[Line] = &[
    (
        "Environments",
        &["elasticbeanstalk:*"],
        &[
            "arn:${Partition}:elasticbeanstalk:${Region}:${Account}:application/{stack}-*",
            "arn:${Partition}:elasticbeanstalk:${Region}:${Account}:applicationversion/{stack}-*",
            "arn:${Partition}:elasticbeanstalk:${Region}:${Account}:configurationtemplate/{stack}-*",
            "arn:${Partition}:elasticbeanstalk:${Region}:${Account}:environment/{stack}-*",
            "arn:${Partition}:elasticbeanstalk:${Region}::platform/*",
            "arn:${Partition}:elasticbeanstalk:${Region}::solutionstack/*",
        ],
        "its own resources, and the platforms that they run on",
    ),
    (
        "InnerStack",
        &["cloudformation:*"],
        &["arn:${Partition}:cloudformation:${Region}:${Account}:stack/awseb-*"],
        "Beanstalk makes an environment's resources by a stack of its own, awseb-e-ID-stack",
    ),
    (
        "ScalingGroup",
        &["autoscaling:*"],
        &[
            "arn:${Partition}:autoscaling:${Region}:${Account}:autoScalingGroup:*:autoScalingGroupName/awseb-*",
            "arn:${Partition}:autoscaling:${Region}:${Account}:launchConfiguration:*:launchConfigurationName/awseb-*",
        ],
        "the group of the instances; launch configurations in accounts that still have them",
    ),
    (
        "Balancer",
        &["elasticloadbalancing:*"],
        &[
            "arn:${Partition}:elasticloadbalancing:${Region}:${Account}:listener-rule/app/awseb-*",
            "arn:${Partition}:elasticloadbalancing:${Region}:${Account}:listener/app/awseb-*",
            "arn:${Partition}:elasticloadbalancing:${Region}:${Account}:loadbalancer/app/awseb-*",
            "arn:${Partition}:elasticloadbalancing:${Region}:${Account}:targetgroup/awseb-*",
        ],
        "the application load balancer, its listeners, their rules, the target group",
    ),
    (
        "LaunchTemplate",
        &[
            "autoscaling:DeletePolicy",
            "ec2:AuthorizeSecurityGroupEgress",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:CreateLaunchTemplate",
            "ec2:CreateLaunchTemplateVersion",
            "ec2:CreateSecurityGroup",
            "ec2:CreateTags",
            "ec2:DeleteLaunchTemplate",
            "ec2:DeleteLaunchTemplateVersions",
            "ec2:DeleteSecurityGroup",
            "ec2:DeleteTags",
            "ec2:RevokeSecurityGroupEgress",
            "ec2:RevokeSecurityGroupIngress",
        ],
        &["*"],
        "their ARNs hold IDs that nobody knows beforehand; AWS's own policy has the same resource",
    ),
    (
        "BeanstalkAlarms",
        &["cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm"],
        &["arn:${Partition}:cloudwatch:${Region}:${Account}:alarm:awseb-*"],
        "the alarms that scale the group",
    ),
    (
        "BeanstalkLogs",
        &[
            "logs:CreateLogGroup",
            "logs:DeleteLogGroup",
            "logs:PutRetentionPolicy",
        ],
        &["arn:${Partition}:logs:${Region}:${Account}:log-group:/aws/elasticbeanstalk/*"],
        "the instances' logs, which the environment streams",
    ),
    (
        "BeanstalkBucket",
        &[
            "s3:CreateBucket",
            "s3:GetBucket*",
            "s3:ListBucket",
            "s3:PutBucketAcl",
            "s3:PutBucketObjectLockConfiguration",
            "s3:PutBucketOwnershipControls",
            "s3:PutBucketPolicy",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutBucketVersioning",
        ],
        &["arn:${Partition}:s3:::elasticbeanstalk-*"],
        "Beanstalk's own bucket in the region, made with its first application",
    ),
    (
        "BeanstalkObjects",
        &[
            "s3:DeleteObject",
            "s3:GetObject",
            "s3:GetObjectAcl",
            "s3:GetObjectVersion",
            "s3:GetObjectVersionAcl",
            "s3:PutObject",
            "s3:PutObjectAcl",
            "s3:PutObjectVersionAcl",
        ],
        &["arn:${Partition}:s3:::elasticbeanstalk-*/*"],
        "the bundle's copy and the environment's manifest in that bucket",
    ),
    (
        "Looking",
        &[
            "acm:DescribeCertificate",
            "acm:ListCertificates",
            "autoscaling:Describe*",
            "cloudformation:Describe*",
            "cloudformation:GetTemplate*",
            "cloudformation:List*",
            "cloudformation:ValidateTemplate",
            "cloudwatch:DescribeAlarms",
            "cloudwatch:GetMetricStatistics",
            "cloudwatch:ListMetrics",
            "ec2:Describe*",
            "elasticbeanstalk:CheckDNSAvailability",
            "elasticbeanstalk:CreateStorageLocation",
            "elasticbeanstalk:Describe*",
            "elasticbeanstalk:List*",
            "elasticloadbalancing:Describe*",
            "iam:GetRole",
            "iam:ListAttachedRolePolicies",
            "iam:ListInstanceProfiles",
            "iam:ListRolePolicies",
            "iam:ListRoles",
            "iam:ListServerCertificates",
            "logs:Describe*",
            "sns:ListSubscriptionsByTopic",
        ],
        &["*"],
        "it looks at what is there; most of these calls know no resource",
    ),
];

/// The block for some stacks.
pub(super) fn rules(stacks: &[String]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = LINES
        .iter()
        .map(|(sid, actions, resources, _)| {
            let resources = resources.iter().flat_map(|it| scope::each(stacks, it));
            Rule::allow(sid, actions.iter().copied(), resources)
        })
        .collect();
    // An instance is started from a launch template, and ended only if a stack of Beanstalk's started it.
    rules.push(
        Rule::allow("StartInstances", ["ec2:RunInstances"], ["*"]).when(
            "ArnLike",
            "ec2:LaunchTemplate",
            ["arn:${Partition}:ec2:${Region}:${Account}:launch-template/*"],
        ),
    );
    rules.push(
        Rule::allow(
            "EndInstances",
            ["ec2:RebootInstances", "ec2:TerminateInstances"],
            ["arn:${Partition}:ec2:${Region}:${Account}:instance/*"],
        )
        .when(
            "StringLike",
            "ec2:ResourceTag/aws:cloudformation:stack-id",
            ["arn:${Partition}:cloudformation:${Region}:${Account}:stack/awseb-*"],
        ),
    );
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_reason_and_names_actions_that_exist() {
        for (sid, actions, resources, why) in LINES {
            assert!(!why.is_empty() && !resources.is_empty(), "{sid}");
            for action in *actions {
                assert!(
                    cfn::actions::matching(action).next().is_some(),
                    "{sid}: {action}"
                );
            }
        }
    }
}
