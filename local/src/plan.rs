//! From a template to what must run.
//!
//! Resolves parameters, conditions and intrinsics, reads every resource that is emulated into the
//! struct generated for its type, finds what refers to what, and gathers policies and calls.
//! Everything that is wrong is reported at once; nothing has been started by then.

use std::collections::BTreeMap;
use std::sync::Arc;

use cfn::document::Document;
use cfn::evaluate::{ManagedPolicies, Policies};
use cfn::integration::{self, Call};
use cfn::resolve::{Context, MissingParameters, Resolved, ResolvedResource, resolve};
use serde_json::json;

use crate::event_source_mapping::plan::MappingPlan;
use crate::firehose::plan::DeliveryStreamPlan;
use crate::iot::plan::RulePlan;
use crate::template::{ACCOUNT_ID, NotEmulated, Unplannable};
use crate::{beanstalk, elasticache, event_source_mapping, firehose, iot, kinesis, lambda, sqs};

/// Types that run.
const EMULATED: &[&str] = &[
    "AWS::ElasticBeanstalk::Application",
    "AWS::ElasticBeanstalk::ApplicationVersion",
    "AWS::ElasticBeanstalk::Environment",
    "AWS::ElastiCache::ParameterGroup",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::ElastiCache::User",
    "AWS::ElastiCache::UserGroup",
    "AWS::IoT::TopicRule",
    "AWS::Kinesis::Stream",
    "AWS::KinesisFirehose::DeliveryStream",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
    "AWS::Logs::LogGroup",
    "AWS::Logs::LogStream",
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
];

/// Types that decide about what runs: permissions and reachability.
const ENFORCED: &[&str] = &[
    "AWS::EC2::EIP",
    "AWS::EC2::InternetGateway",
    "AWS::EC2::NatGateway",
    "AWS::EC2::Route",
    "AWS::EC2::RouteTable",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::Subnet",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPC",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::ElastiCache::SubnetGroup",
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::IAM::RolePolicy",
    // Decides with `--mqtts`.
    "AWS::IoT::Policy",
    "AWS::KMS::Key",
    "AWS::S3::BucketPolicy",
];

/// Whether resources of a type run, or decide about what runs.
pub fn concerns(r#type: &str) -> bool {
    EMULATED.contains(&r#type) || ENFORCED.contains(&r#type)
}

/// What must run.
#[derive(Debug)]
pub struct Plan {
    document: Document,
    /// The template with the addresses that AWS would give.
    pub resolved: Resolved,
    /// Its policies.
    pub policies: Arc<Policies>,
    /// The calls that its settings imply.
    pub calls: Vec<Call>,
    /// Streams by logical ID, in the template's order.
    pub streams: Vec<kinesis::Config>,
    /// Functions; binary, folder and certificate are not known yet.
    pub functions: Vec<lambda::Config>,
    /// Event source mappings.
    pub mappings: Vec<MappingPlan>,
    /// Queues.
    pub queues: Vec<sqs::Config>,
    /// Delivery streams.
    pub delivery_streams: Vec<DeliveryStreamPlan>,
    /// Caches; server and folder are not known yet.
    pub caches: Vec<elasticache::Config>,
    /// Beanstalk environments; bundle, address and certificate are not known yet.
    pub environments: Vec<beanstalk::Config>,
    /// Rules, in the template's order.
    pub rules: Vec<RulePlan>,
    /// What does nothing here.
    pub not_emulated: Vec<NotEmulated>,
}

impl Plan {
    /// Plans a template.
    ///
    /// Parameters without value or default are given `{Name}`: on AWS they say where the artifacts
    /// are and which platform runs them, and neither matters here.
    ///
    /// # Errors
    /// Everything that is wrong with it or not understood, by logical ID.
    pub fn new(
        document: Document,
        region: &str,
        stack_name: &str,
        parameters: BTreeMap<String, String>,
    ) -> Result<Plan, Unplannable> {
        let mut context = Context::new(ACCOUNT_ID, region, stack_name);
        context.parameters = parameters;
        context.missing_parameters = MissingParameters::Placeholder;
        Plan::of(document, context, &ManagedPolicies::new())
    }

    /// Plans a template for a caller who knows all that it depends on, managed policies of the account included.
    ///
    /// # Errors
    /// Everything that is wrong with it or not understood, by logical ID.
    pub fn of(
        document: Document,
        context: Context,
        account: &ManagedPolicies,
    ) -> Result<Plan, Unplannable> {
        let resolved = resolve(&document, &context).map_err(Unplannable)?;
        let mut managed = managed_policies(&resolved);
        managed.extend(
            account
                .iter()
                .map(|(arn, document)| (arn.clone(), document.clone())),
        );

        let mut problems = Vec::new();
        let policies = Policies::collect(&resolved, &managed)
            .map_err(|found| problems.extend(found))
            .unwrap_or_default();
        let calls = integration::calls(&resolved);
        let mut not_emulated = Vec::new();
        for resource in resolved.resources.values() {
            let known = [EMULATED, ENFORCED]
                .iter()
                .any(|it| it.contains(&&*resource.r#type));
            if !known {
                not_emulated.push(NotEmulated {
                    logical_id: resource.logical_id.clone(),
                    what: resource.r#type.clone(),
                });
            }
        }
        let streams = kinesis::plan::plan(&resolved, &mut problems);
        let functions = lambda::plan::plan(&resolved, &mut problems, &mut not_emulated);
        let mappings = event_source_mapping::plan::plan(&resolved, &mut problems);
        let queues = sqs::plan::plan(&resolved);
        let delivery_streams = firehose::plan::plan(&resolved, &mut problems, &mut not_emulated);
        let caches = elasticache::plan::plan(&resolved, &mut problems, &mut not_emulated);
        let environments = beanstalk::plan::plan(&resolved, &mut problems);
        let rules = iot::plan::plan(&resolved, &mut problems, &mut not_emulated);
        if !problems.is_empty() {
            return Err(Unplannable(problems));
        }
        Ok(Plan {
            document,
            resolved,
            policies: Arc::new(policies),
            calls,
            streams,
            functions,
            mappings,
            queues,
            delivery_streams,
            caches,
            environments,
            rules,
            not_emulated,
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

    /// The resources of a type, in the template's order.
    pub fn of_type<'a>(&'a self, r#type: &'a str) -> impl Iterator<Item = &'a ResolvedResource> {
        self.resolved.of_type(r#type)
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
