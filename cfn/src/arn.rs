//! Physical IDs, ARNs and attributes: the values of `Ref` and `Fn::GetAtt` for each resource type.
//!
//! Their forms are from the "Return values" sections of CloudFormation's resource reference and the
//! "Resource types" tables of the service authorization reference.
//! An ID that AWS generates (`vpc-…`, a key's UUID) is derived from stack name and logical ID, so that the
//! same template always has the same IDs.
//!
//! Addresses that AWS assigns (a cache's endpoint, an environment's URL) are names below `.invalid`, the
//! top-level domain that never resolves (RFC 2606). A caller that runs such a resource passes the real
//! address as an [`Override`](crate::resolve::Override).

use serde_json::Value as Json;

use crate::resolve::{Context, Naming};

/// Identity of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Logical ID
    pub logical_id: String,
    /// Its name in its ARN
    pub name: String,
    /// The value of `Ref`
    pub physical_id: String,
}

/// Looks up a property of the resource as text.
pub type Property<'p> = &'p mut dyn FnMut(&str) -> Option<String>;

/// The property that sets a type's physical name, if it has one.
pub fn name_property(r#type: &str) -> Option<&'static str> {
    Some(match r#type {
        "AWS::CloudWatch::Alarm" | "AWS::CloudWatch::CompositeAlarm" => "AlarmName",
        "AWS::CloudWatch::Dashboard" => "DashboardName",
        "AWS::DynamoDB::Table" => "TableName",
        "AWS::ElastiCache::CacheCluster" => "ClusterName",
        "AWS::ElastiCache::ParameterGroup" => "CacheParameterGroupName",
        "AWS::ElastiCache::ReplicationGroup" => "ReplicationGroupId",
        "AWS::ElastiCache::ServerlessCache" => "ServerlessCacheName",
        "AWS::ElastiCache::SubnetGroup" => "CacheSubnetGroupName",
        "AWS::ElastiCache::User" => "UserId",
        "AWS::ElastiCache::UserGroup" => "UserGroupId",
        "AWS::ElasticBeanstalk::Application" => "ApplicationName",
        "AWS::ElasticBeanstalk::Environment" => "EnvironmentName",
        "AWS::IAM::InstanceProfile" => "InstanceProfileName",
        "AWS::IAM::ManagedPolicy" => "ManagedPolicyName",
        "AWS::IAM::Policy" | "AWS::IAM::RolePolicy" | "AWS::IoT::Policy" => "PolicyName",
        "AWS::IAM::Role" => "RoleName",
        "AWS::IAM::User" => "UserName",
        "AWS::IoT::Thing" => "ThingName",
        "AWS::IoT::TopicRule" => "RuleName",
        "AWS::KMS::Alias" => "AliasName",
        "AWS::Kinesis::Stream" => "Name",
        "AWS::KinesisFirehose::DeliveryStream" => "DeliveryStreamName",
        "AWS::Lambda::Function" => "FunctionName",
        "AWS::Logs::LogGroup" => "LogGroupName",
        "AWS::Logs::LogStream" => "LogStreamName",
        "AWS::S3::Bucket" => "BucketName",
        "AWS::SNS::Topic" => "TopicName",
        "AWS::SQS::Queue" => "QueueName",
        _ => return None,
    })
}

/// The prefix of IDs that EC2 generates.
fn ec2_prefix(r#type: &str) -> Option<&'static str> {
    Some(match r#type {
        "AWS::EC2::EIP" => "eipalloc",
        "AWS::EC2::FlowLog" => "fl",
        "AWS::EC2::Instance" => "i",
        "AWS::EC2::InternetGateway" => "igw",
        "AWS::EC2::LaunchTemplate" => "lt",
        "AWS::EC2::NatGateway" => "nat",
        "AWS::EC2::NetworkAcl" => "acl",
        "AWS::EC2::NetworkInterface" => "eni",
        "AWS::EC2::Route" => "rte",
        "AWS::EC2::RouteTable" => "rtb",
        "AWS::EC2::SecurityGroup" => "sg",
        "AWS::EC2::SecurityGroupEgress" | "AWS::EC2::SecurityGroupIngress" => "sgr",
        "AWS::EC2::Subnet" => "subnet",
        "AWS::EC2::SubnetRouteTableAssociation" => "rtbassoc",
        "AWS::EC2::VPC" => "vpc",
        "AWS::EC2::VPCEndpoint" => "vpce",
        _ => return None,
    })
}

/// Longest generated name, in characters.
fn longest(r#type: &str) -> usize {
    match r#type {
        "AWS::ElastiCache::ReplicationGroup"
        | "AWS::ElastiCache::User"
        | "AWS::ElastiCache::UserGroup"
        | "AWS::ElastiCache::ServerlessCache"
        | "AWS::ElasticBeanstalk::Environment" => 40,
        "AWS::ElastiCache::CacheCluster" => 50,
        "AWS::S3::Bucket" => 63,
        "AWS::IAM::Role" | "AWS::Lambda::Function" | "AWS::KinesisFirehose::DeliveryStream" => 64,
        "AWS::SQS::Queue" => 80,
        _ => 128,
    }
}

/// Identifies a resource by its name property, or by a physical ID of the caller.
pub fn identity(
    r#type: &str,
    logical_id: &str,
    name: Option<String>,
    physical_id: Option<String>,
    context: &Context,
    property: Property<'_>,
) -> Identity {
    let own = name.unwrap_or_else(|| match context.naming {
        Naming::Logical => logical_id.to_owned(),
        Naming::Physical => invented(r#type, logical_id, context, property),
    });
    let physical_id = physical_id.unwrap_or_else(|| {
        let Context {
            partition,
            region,
            account_id,
            ..
        } = context;
        match r#type {
            "AWS::SNS::Topic" => format!("arn:{partition}:sns:{region}:{account_id}:{own}"),
            "AWS::IAM::ManagedPolicy" => {
                let path = property("Path").unwrap_or_else(|| "/".to_owned());
                format!("arn:{partition}:iam::{account_id}:policy{path}{own}")
            }
            "AWS::SQS::Queue" if context.naming == Naming::Physical => {
                format!(
                    "https://sqs.{region}.{}/{account_id}/{own}",
                    context.url_suffix
                )
            }
            "AWS::EC2::EIP" if context.naming == Naming::Physical => address(logical_id, context),
            _ => own.clone(),
        }
    });
    // The caller's ID is also the name, except for types whose ID only contains the name.
    let name = match r#type {
        "AWS::SNS::Topic" => last(&physical_id, ':'),
        "AWS::SQS::Queue" | "AWS::IAM::ManagedPolicy" => last(&physical_id, '/'),
        "AWS::EC2::EIP" => own,
        _ => physical_id.clone(),
    };
    Identity {
        logical_id: logical_id.to_owned(),
        name,
        physical_id,
    }
}

fn last(text: &str, separator: char) -> String {
    text.rsplit(separator).next().unwrap_or(text).to_owned()
}

fn invented(r#type: &str, logical_id: &str, context: &Context, property: Property<'_>) -> String {
    let stack = &context.stack_name;
    let seed = format!("{stack}/{logical_id}");
    if let Some(prefix) = ec2_prefix(r#type) {
        return format!("{prefix}-{}", hex(&seed, 17));
    }
    match r#type {
        "AWS::KMS::Key" | "AWS::Lambda::EventSourceMapping" => return uuid(&seed),
        "AWS::S3::BucketPolicy" => {
            if let Some(bucket) = property("Bucket") {
                return bucket;
            }
        }
        _ => {}
    }
    let name = match r#type {
        // Rule names have no hyphen.
        "AWS::IoT::TopicRule" => format!("{stack}_{logical_id}").replace('-', "_"),
        "AWS::S3::Bucket"
        | "AWS::ElastiCache::CacheCluster"
        | "AWS::ElastiCache::ReplicationGroup"
        | "AWS::ElastiCache::ServerlessCache"
        | "AWS::ElastiCache::SubnetGroup"
        | "AWS::ElastiCache::User"
        | "AWS::ElastiCache::UserGroup" => format!("{stack}-{logical_id}").to_lowercase(),
        _ => format!("{stack}-{logical_id}"),
    };
    let longest = longest(r#type);
    if name.len() <= longest {
        return name;
    }
    // Truncated but unique, as CloudFormation does it.
    let kept: String = name.chars().take(longest - 9).collect();
    format!("{kept}-{}", hex(&seed, 8))
}

/// The ARN of a resource, for types that have one, also without an attribute for it.
///
/// A log group's ends with `:*`, as in CloudFormation, for its streams; a queue's has its name, though its
/// physical ID is a URL.
pub fn arn(
    r#type: &str,
    identity: &Identity,
    context: &Context,
    property: Property<'_>,
) -> Option<String> {
    let name = &identity.name;
    let Context {
        partition,
        region,
        account_id: account,
        ..
    } = context;
    let path = |property: Property<'_>| property("Path").unwrap_or_else(|| "/".to_owned());
    let (service, resource) = match r#type {
        "AWS::SNS::Topic" | "AWS::IAM::ManagedPolicy" => return Some(identity.physical_id.clone()),
        "AWS::S3::Bucket" => return Some(format!("arn:{partition}:s3:::{name}")),
        "AWS::IAM::Role" => return Some(iam(context, "role", &path(property), name)),
        "AWS::IAM::User" => return Some(iam(context, "user", &path(property), name)),
        "AWS::IAM::InstanceProfile" => {
            return Some(iam(context, "instance-profile", &path(property), name));
        }
        "AWS::CloudWatch::Alarm" | "AWS::CloudWatch::CompositeAlarm" => {
            ("cloudwatch", format!("alarm:{name}"))
        }
        "AWS::CloudWatch::Dashboard" => {
            return Some(format!(
                "arn:{partition}:cloudwatch::{account}:dashboard/{name}"
            ));
        }
        "AWS::DynamoDB::Table" => ("dynamodb", format!("table/{name}")),
        "AWS::EC2::SecurityGroup" => ("ec2", format!("security-group/{name}")),
        "AWS::EC2::Subnet" => ("ec2", format!("subnet/{name}")),
        "AWS::EC2::VPC" => ("ec2", format!("vpc/{name}")),
        "AWS::ElastiCache::CacheCluster" => ("elasticache", format!("cluster:{name}")),
        "AWS::ElastiCache::ReplicationGroup" => ("elasticache", format!("replicationgroup:{name}")),
        "AWS::ElastiCache::ServerlessCache" => ("elasticache", format!("serverlesscache:{name}")),
        "AWS::ElastiCache::SubnetGroup" => ("elasticache", format!("subnetgroup:{name}")),
        "AWS::ElastiCache::User" => ("elasticache", format!("user:{name}")),
        "AWS::ElastiCache::UserGroup" => ("elasticache", format!("usergroup:{name}")),
        "AWS::ElasticBeanstalk::Application" => ("elasticbeanstalk", format!("application/{name}")),
        "AWS::ElasticBeanstalk::ApplicationVersion" => {
            let application = property("ApplicationName")?;
            (
                "elasticbeanstalk",
                format!("applicationversion/{application}/{name}"),
            )
        }
        "AWS::ElasticBeanstalk::Environment" => {
            let application = property("ApplicationName")?;
            (
                "elasticbeanstalk",
                format!("environment/{application}/{name}"),
            )
        }
        "AWS::IoT::Policy" => ("iot", format!("policy/{name}")),
        "AWS::IoT::Thing" => ("iot", format!("thing/{name}")),
        "AWS::IoT::TopicRule" => ("iot", format!("rule/{name}")),
        "AWS::KMS::Key" => ("kms", format!("key/{name}")),
        "AWS::KMS::Alias" => ("kms", name.clone()),
        "AWS::Kinesis::Stream" => ("kinesis", format!("stream/{name}")),
        "AWS::KinesisFirehose::DeliveryStream" => ("firehose", format!("deliverystream/{name}")),
        "AWS::Lambda::Function" => ("lambda", format!("function:{name}")),
        "AWS::Lambda::EventSourceMapping" => ("lambda", format!("event-source-mapping:{name}")),
        "AWS::Logs::LogGroup" => ("logs", format!("log-group:{name}:*")),
        "AWS::Logs::LogStream" => {
            let group = property("LogGroupName")?;
            ("logs", format!("log-group:{group}:log-stream:{name}"))
        }
        "AWS::SQS::Queue" => ("sqs", name.clone()),
        _ => return None,
    };
    Some(format!(
        "arn:{partition}:{service}:{region}:{account}:{resource}"
    ))
}

/// `arn:<partition>:iam::<account>:<kind><path><name>`; a path starts and ends with `/`.
fn iam(context: &Context, kind: &str, path: &str, name: &str) -> String {
    format!(
        "arn:{}:iam::{}:{kind}{path}{name}",
        context.partition, context.account_id
    )
}

/// The attributes of a type that [`attribute`] supports, by dotted name; empty for an unknown type.
pub fn attributes(r#type: &str) -> &'static [&'static str] {
    match r#type {
        "AWS::CloudWatch::Alarm" | "AWS::CloudWatch::CompositeAlarm" => &["Arn"],
        "AWS::DynamoDB::Table" => &["Arn"],
        "AWS::EC2::EIP" => &["AllocationId", "PublicIp"],
        "AWS::EC2::FlowLog" => &["Id"],
        "AWS::EC2::InternetGateway" => &["InternetGatewayId"],
        "AWS::EC2::NatGateway" => &["NatGatewayId"],
        "AWS::EC2::RouteTable" => &["RouteTableId"],
        "AWS::EC2::SecurityGroup" => &["GroupId", "Id", "VpcId"],
        "AWS::EC2::SecurityGroupEgress" | "AWS::EC2::SecurityGroupIngress" => &["Id"],
        "AWS::EC2::Subnet" => &["SubnetId", "VpcId", "AvailabilityZone", "CidrBlock"],
        "AWS::EC2::SubnetRouteTableAssociation" => &["Id"],
        "AWS::EC2::VPC" => &[
            "VpcId",
            "CidrBlock",
            "DefaultSecurityGroup",
            "DefaultNetworkAcl",
        ],
        "AWS::EC2::VPCEndpoint" => &["Id"],
        "AWS::ElastiCache::CacheCluster" => &[
            "RedisEndpoint.Address",
            "RedisEndpoint.Port",
            "ConfigurationEndpoint.Address",
            "ConfigurationEndpoint.Port",
        ],
        "AWS::ElastiCache::ReplicationGroup" => &[
            "PrimaryEndPoint.Address",
            "PrimaryEndPoint.Port",
            "ReaderEndPoint.Address",
            "ReaderEndPoint.Port",
            "ConfigurationEndPoint.Address",
            "ConfigurationEndPoint.Port",
        ],
        "AWS::ElastiCache::ServerlessCache" => &[
            "ARN",
            "Endpoint.Address",
            "Endpoint.Port",
            "ReaderEndpoint.Address",
            "ReaderEndpoint.Port",
        ],
        "AWS::ElastiCache::User" | "AWS::ElastiCache::UserGroup" => &["Arn", "Status"],
        "AWS::ElasticBeanstalk::ApplicationVersion" => &["Id"],
        "AWS::ElasticBeanstalk::Environment" => &["EndpointURL"],
        "AWS::IAM::InstanceProfile" | "AWS::IAM::User" => &["Arn"],
        "AWS::IAM::ManagedPolicy" => &["PolicyArn"],
        "AWS::IAM::Role" => &["Arn", "RoleId"],
        "AWS::IoT::Policy" => &["Arn", "Id"],
        "AWS::IoT::Thing" => &["Arn", "Id"],
        "AWS::IoT::TopicRule" => &["Arn"],
        "AWS::KMS::Key" => &["Arn", "KeyId"],
        "AWS::Kinesis::Stream" => &["Arn"],
        "AWS::KinesisFirehose::DeliveryStream" => &["Arn"],
        "AWS::Lambda::EventSourceMapping" => &["Id", "EventSourceMappingArn"],
        "AWS::Lambda::Function" => &["Arn"],
        "AWS::Logs::LogGroup" => &["Arn"],
        "AWS::S3::Bucket" => &[
            "Arn",
            "DomainName",
            "DualStackDomainName",
            "RegionalDomainName",
            "WebsiteURL",
        ],
        "AWS::SNS::Topic" => &["TopicArn", "TopicName"],
        "AWS::SQS::Queue" => &["Arn", "QueueName", "QueueUrl"],
        _ => &[],
    }
}

/// An attribute by its dotted name; `None` if the type or the attribute is unknown.
///
/// With [`Naming::Logical`], addresses are `{LogicalId.Attribute}`.
pub fn attribute(
    r#type: &str,
    identity: &Identity,
    attribute: &str,
    context: &Context,
    property: Property<'_>,
) -> Option<Json> {
    if !attributes(r#type).contains(&attribute) {
        return None;
    }
    let Identity {
        logical_id,
        name,
        physical_id,
    } = identity;
    let logical = context.naming == Naming::Logical;
    let suffix = &context.url_suffix;
    let invented = |prefix: &str| {
        if logical {
            format!("{{{logical_id}.{attribute}}}")
        } else {
            let seed = format!("{}/{logical_id}/{attribute}", context.stack_name);
            format!("{prefix}{}", hex(&seed, 17))
        }
    };
    let text = match (r#type, attribute) {
        ("AWS::IoT::Policy" | "AWS::ElasticBeanstalk::ApplicationVersion", "Id") => name.clone(),
        ("AWS::IoT::Thing", "Id") => uuid(&format!("{}/{logical_id}", context.stack_name)),
        ("AWS::EC2::EIP", "AllocationId") => name.clone(),
        ("AWS::EC2::VPC", "DefaultSecurityGroup") => invented("sg-"),
        ("AWS::EC2::VPC", "DefaultNetworkAcl") => invented("acl-"),
        (_, "VpcId") if r#type != "AWS::EC2::VPC" => property("VpcId")?,
        (_, "AvailabilityZone" | "CidrBlock") => property(attribute)?,
        ("AWS::IAM::Role", "RoleId") => invented("AROA").to_uppercase(),
        (_, "Status") => "active".to_owned(),
        (_, "PolicyArn" | "TopicArn") => physical_id.clone(),
        (_, "QueueUrl") => physical_id.clone(),
        (_, "TopicName" | "QueueName" | "KeyId") => name.clone(),
        (
            _,
            "GroupId" | "Id" | "SubnetId" | "VpcId" | "RouteTableId" | "InternetGatewayId"
            | "NatGatewayId" | "PublicIp",
        ) => physical_id.clone(),
        (_, "DomainName") => format!("{name}.s3.{suffix}"),
        (_, "RegionalDomainName") => format!("{name}.s3.{}.{suffix}", context.region),
        (_, "DualStackDomainName") => format!("{name}.s3.dualstack.{}.{suffix}", context.region),
        (_, "WebsiteURL") => format!("http://{name}.s3-website-{}.{suffix}", context.region),
        (_, "EndpointURL") if !logical => {
            format!("{}.elasticbeanstalk.invalid", name.to_lowercase())
        }
        (_, endpoint) if endpoint.ends_with(".Port") => {
            property("Port").unwrap_or_else(|| "6379".to_owned())
        }
        (_, endpoint) if endpoint.ends_with(".Address") && !logical => {
            let which = endpoint.trim_end_matches(".Address").to_lowercase();
            format!("{}.{which}.elasticache.invalid", name.to_lowercase())
        }
        (_, "EndpointURL") => format!("{{{logical_id}.{attribute}}}"),
        (_, endpoint) if endpoint.ends_with(".Address") => format!("{{{logical_id}.{attribute}}}"),
        _ => arn(r#type, identity, context, property)?,
    };
    Some(Json::String(text))
}

/// An address from the documentation block 203.0.113.0/24 (RFC 5737).
fn address(logical_id: &str, context: &Context) -> String {
    let seed = format!("{}/{logical_id}", context.stack_name);
    format!("203.0.113.{}", fnv(&seed) % 254 + 1)
}

/// A UUID derived from the seed.
pub(crate) fn uuid(seed: &str) -> String {
    let digits = hex(seed, 32);
    format!(
        "{}-{}-4{}-8{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[13..16],
        &digits[17..20],
        &digits[20..32]
    )
}

/// The first digits (at most 32) of the seed's hash.
fn hex(seed: &str, digits: usize) -> String {
    let mut text = format!("{:016x}{:016x}", fnv(seed), fnv(&format!("{seed}#")));
    text.truncate(digits);
    text
}

/// FNV-1a with 64 bits: stable over releases; it need not resist attacks.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The name in a role's ARN.
pub(crate) fn role_name(arn: &str) -> Option<&str> {
    let (_, path) = arn.split_once(":role/")?;
    path.rsplit('/').next()
}
