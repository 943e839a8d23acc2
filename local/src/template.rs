//! A template as every service reads it: resolved, with its policies and the calls that it implies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use cfn::document::Document;
use cfn::evaluate::{ManagedPolicies, Policies};
use cfn::integration::{self, Call, Caller};
use cfn::resolve::{Context, Problem, Resolved, ResolvedResource, resolve};
use serde_json::json;

/// The account that templates run in here.
pub const ACCOUNT_ID: &str = "000000000000";

/// Something of the template that does nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEmulated {
    /// Logical ID of the resource.
    pub logical_id: String,
    /// Its type, or the setting of it.
    pub what: String,
}

/// Everything that keeps a template from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplannable(pub Vec<Problem>);

impl fmt::Display for Unplannable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the template cannot run here")?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unplannable {}

/// A template without intrinsics, and what its policies and settings mean.
#[derive(Debug)]
pub struct Template {
    document: Document,
    /// The template with the addresses that AWS would give.
    pub resolved: Resolved,
    /// Its policies.
    pub policies: Arc<Policies>,
    /// The calls that its settings imply.
    pub calls: Vec<Call>,
}

impl Template {
    /// Resolves a template and gathers its policies; what is wrong with these is added to `problems`.
    /// `account` has the managed policies that other stacks have made.
    ///
    /// # Errors
    /// Everything that keeps it from being resolved.
    pub fn new(
        document: Document,
        context: &Context,
        account: &ManagedPolicies,
        problems: &mut Vec<Problem>,
    ) -> Result<Template, Unplannable> {
        let resolved = resolve(&document, context).map_err(Unplannable)?;
        let mut managed = managed_policies(&resolved);
        managed.extend(account.clone());
        let policies = Policies::collect(&resolved, &managed)
            .map_err(|found| problems.extend(found))
            .unwrap_or_default();
        Ok(Template {
            document,
            calls: integration::calls(&resolved),
            policies: Arc::new(policies),
            resolved,
        })
    }

    /// The template as one consumer sees it: with these addresses of caches (logical ID → host and
    /// port) in place of AWS's.
    ///
    /// # Errors
    /// As [`new`](Self::new), which has succeeded with the same template.
    pub fn with_addresses(
        &self,
        addresses: &BTreeMap<String, (String, u16)>,
    ) -> Result<Resolved, Unplannable> {
        let mut context = self.resolved.context.clone();
        for (logical_id, (host, port)) in addresses {
            let mut attributes = BTreeMap::new();
            // Every spelling that the cache types use; a type has only its own.
            for endpoint in [
                "PrimaryEndPoint",
                "ReaderEndPoint",
                "ConfigurationEndPoint",
                "RedisEndpoint",
                "ConfigurationEndpoint",
                "Endpoint",
                "ReaderEndpoint",
            ] {
                attributes.insert(format!("{endpoint}.Address"), json!(host));
                attributes.insert(format!("{endpoint}.Port"), json!(port.to_string()));
            }
            // An ID that was given, as the cloud does, stays.
            let known = context.overrides.entry(logical_id.clone()).or_default();
            known.attributes.extend(attributes);
        }
        resolve(&self.document, &context).map_err(Unplannable)
    }

    /// A resource of the template.
    ///
    /// # Errors
    /// The template has none with this logical ID.
    pub fn resource(&self, logical_id: &str) -> anyhow::Result<&ResolvedResource> {
        self.resolved
            .resource(logical_id)
            .ok_or_else(|| anyhow::anyhow!("the template has no resource {logical_id}"))
    }

    /// The calls that a resource's settings imply, at or below a path; all of them for `""`.
    pub fn calls_of(&self, logical_id: &str, path: &str) -> Vec<Call> {
        self.calls
            .iter()
            .filter(|call| call.from == logical_id)
            .filter(|call| {
                call.path
                    .strip_prefix(path)
                    .is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('.'))
            })
            .cloned()
            .collect()
    }

    /// The calls of a resource and every policy that decides about them, as text to compare: equal texts
    /// mean equal permissions.
    pub fn permissions_of(&self, logical_id: &str) -> String {
        let calls = self.calls_of(logical_id, "");
        let mut roles = BTreeSet::new();
        let mut resources = BTreeSet::new();
        for call in &calls {
            if let Caller::Role { role, .. } = &call.caller {
                roles.insert(role);
            }
            resources.insert(&call.resource);
        }
        let mut text = format!("{calls:?}");
        for role in roles {
            let _ = write!(text, "{:?}", self.policies.role(role));
        }
        for resource in resources {
            let _ = write!(text, "{:?}", self.policies.of_resource(resource));
        }
        text
    }
}

/// Documents of the managed policies that roles of hops may use; every other one that a role names
/// allows nothing here, because what it is for does not run here.
/// (AWS Managed Policy Reference Guide.)
fn managed_policies(resolved: &Resolved) -> ManagedPolicies {
    let allow = |actions: &[&str]| {
        json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }],
        })
    };
    let logs = [
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ];
    let kinesis = [
        "kinesis:DescribeStream",
        "kinesis:DescribeStreamSummary",
        "kinesis:GetRecords",
        "kinesis:GetShardIterator",
        "kinesis:ListShards",
        "kinesis:ListStreams",
        "kinesis:SubscribeToShard",
    ];
    let network = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ];
    resolved
        .of_type("AWS::IAM::Role")
        .flat_map(|role| role.texts("/ManagedPolicyArns"))
        .filter(|arn| arn.contains(":iam::aws:policy/"))
        .map(|arn| {
            let document = match arn.rsplit('/').next().unwrap_or_default() {
                "AWSLambdaBasicExecutionRole" => allow(&logs),
                "AWSLambdaKinesisExecutionRole" => allow(&[&kinesis[..], &logs].concat()),
                "AWSLambdaVPCAccessExecutionRole" => allow(&[&network[..], &logs].concat()),
                _ => json!({ "Version": "2012-10-17", "Statement": [] }),
            };
            (arn, document)
        })
        .collect()
}
