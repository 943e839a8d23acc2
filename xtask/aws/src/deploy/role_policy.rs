//! `deploy --role-policy`: what the principal that deploys and destroys must be allowed to do.
//!
//! CloudFormation acts with the caller's permissions. Which actions a resource type takes is in its
//! registry schema; what this program calls by itself is listed here, beside nothing else that could
//! know it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use cfn::document::Document;
use serde_json::{Value as Json, json};
use stack::Stage;

use crate::deploy::synth;

/// Characters of a managed policy without white space, by "IAM and AWS STS quotas".
const LONGEST: usize = 6_144;

/// What this program calls on the stage's own stacks.
const STACK_CALLS: &[&str] = &[
    "cloudformation:ContinueUpdateRollback",
    "cloudformation:CreateChangeSet",
    "cloudformation:DeleteChangeSet",
    "cloudformation:DeleteStack",
    "cloudformation:DescribeChangeSet",
    "cloudformation:DescribeEvents",
    "cloudformation:DescribeStackEvents",
    "cloudformation:DescribeStacks",
    "cloudformation:ExecuteChangeSet",
    "cloudformation:GetTemplate",
    "cloudformation:ListStackResources",
    "cloudformation:RollbackStack",
    "cloudformation:TagResource",
    "cloudformation:UpdateTerminationProtection",
];

/// What it calls on the stage's own buckets.
const BUCKET_CALLS: &[&str] = &[
    "s3:AbortMultipartUpload",
    "s3:DeleteBucket",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:GetBucketTagging",
    "s3:GetObject",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListBucketVersions",
    "s3:PutObject",
];

/// What it calls that names no resource of ours, or that AWS restricts to none.
const OTHER_CALLS: &[&str] = &[
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeAddresses",
    "ec2:DescribeNatGateways",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeVpcs",
    "elasticache:DescribeCacheClusters",
    "elasticache:DescribeSnapshots",
    "elasticbeanstalk:DescribeEnvironmentHealth",
    "elasticbeanstalk:DescribeEnvironments",
    "elasticbeanstalk:DescribeEvents",
    "elasticbeanstalk:ListPlatformVersions",
    "iot:DescribeEndpoint",
    "iot:DisableTopicRule",
    "iot:EnableTopicRule",
    "iot:GetTopicRule",
    "iot:Publish",
    "lambda:GetEventSourceMapping",
    "lambda:GetFunctionConfiguration",
    "lambda:UpdateEventSourceMapping",
    "lambda:UpdateFunctionConfiguration",
    "logs:DescribeLogGroups",
    "logs:FilterLogEvents",
    "s3:ListAllMyBuckets",
    "servicequotas:GetServiceQuota",
    "sts:GetCallerIdentity",
];

/// What Beanstalk calls for the caller where the balancer signs visitors in: its rules, and the secret that
/// CloudFormation puts into them.
const SIGN_IN_CALLS: &[&str] = &[
    "elasticloadbalancing:CreateRule",
    "elasticloadbalancing:DeleteRule",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:ModifyRule",
    "secretsmanager:GetSecretValue",
];

/// Prints the policies of a stage.
pub(crate) fn print(stage: Stage) -> anyhow::Result<()> {
    let stacks = synth(stage)?;
    let templates: Vec<&str> = stacks.iter().map(|it| it.template.as_str()).collect();
    let policies = policies(stage, &templates)?;
    if policies.len() > 1 {
        eprintln!(
            "{} policies, because one may have at most {LONGEST} characters: attach all of them",
            policies.len()
        );
    }
    for policy in policies {
        println!("{policy:#}");
    }
    Ok(())
}

/// The policies, each short enough for a managed policy.
fn policies(stage: Stage, templates: &[&str]) -> anyhow::Result<Vec<Json>> {
    let mut handlers: BTreeSet<&str> = OTHER_CALLS.iter().copied().collect();
    if stage.config().dashboard.sign_in.is_some() {
        handlers.extend(SIGN_IN_CALLS);
    }
    for template in templates {
        let document = Document::parse(template).context("read the template")?;
        for (id, resource) in &document.resources {
            let Some(shape) = cfn::resources::metadata(&resource.r#type) else {
                bail!("{id}: nothing is known of {}", resource.r#type);
            };
            let permissions = shape.permissions;
            for actions in [
                permissions.create,
                permissions.read,
                permissions.update,
                permissions.delete,
            ] {
                handlers.extend(actions);
            }
        }
    }
    let statement = |actions: Vec<&str>, resources: Json| json!({ "Effect": "Allow", "Action": actions, "Resource": resources });
    let mut statements = vec![
        statement(
            STACK_CALLS.to_vec(),
            json!([
                format!("arn:*:cloudformation:*:*:stack/sensors-{stage}/*"),
                format!("arn:*:cloudformation:*:*:stack/sensors-{stage}-artifacts/*"),
            ]),
        ),
        statement(
            BUCKET_CALLS.to_vec(),
            json!([
                format!("arn:*:s3:::sensors-{stage}-*"),
                format!("arn:*:s3:::sensors-{stage}-*/*"),
            ]),
        ),
    ];
    let mut services: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for action in handlers {
        let service = action.split(':').next().unwrap_or(action);
        services.entry(service).or_default().push(action);
    }
    // CloudFormation chooses the names, so that they cannot be said beforehand.
    statements.extend(services.into_values().map(|it| statement(it, json!("*"))));
    Ok(pack(statements))
}

/// As few documents as the order allows.
fn pack(statements: Vec<Json>) -> Vec<Json> {
    let document =
        |statements: &[Json]| json!({ "Version": "2012-10-17", "Statement": statements });
    let mut packed = Vec::new();
    let mut open: Vec<Json> = Vec::new();
    for statement in statements {
        open.push(statement);
        if document(&open).to_string().len() > LONGEST && open.len() > 1 {
            let last = open.pop();
            packed.push(document(&open));
            open = last.into_iter().collect();
        }
    }
    packed.push(document(&open));
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_gets_policies_that_iam_takes() -> anyhow::Result<()> {
        for stage in Stage::ALL {
            let stacks = synth(stage)?;
            let templates: Vec<&str> = stacks.iter().map(|it| it.template.as_str()).collect();
            let policies = policies(stage, &templates)?;
            let text: String = policies.iter().map(ToString::to_string).collect();
            for policy in &policies {
                assert!(policy.to_string().len() <= LONGEST, "{policy}");
            }
            for needed in ["kinesis:CreateStream", "iam:PassRole", "s3:CreateBucket"] {
                assert!(text.contains(needed), "{needed}");
            }
            // Only what the templates hold.
            assert!(!text.contains("dynamodb:"), "{text}");
        }
        Ok(())
    }
}
