//! The table of resource types: what `local` does with each.
//!
//! Everything else is derived from it: which resources are parts of a run, what is listed as not
//! emulated, and which changes concern a run at all.

use crate::beanstalk::part::EnvironmentPart;
use crate::elasticache::part::CachePart;
use crate::event_source_mapping::part::MappingPart;
use crate::firehose::part::DeliveryStreamPart;
use crate::iot::part::RulePart;
use crate::kinesis::part::StreamPart;
use crate::lambda::part::FunctionPart;
use crate::part::Part;
use crate::sqs::part::QueuePart;

/// What `local` does with the resources of a type.
#[derive(Clone, Copy, Debug)]
pub enum Disposition {
    /// They run, each as a part of its own.
    Runs(fn(&str) -> Box<dyn Part>),
    /// They are settings of parts, or come into being when a part uses them.
    Belongs,
    /// They decide about parts: who may do what, who may reach whom.
    Decides,
    /// They do nothing here, for this reason.
    Ignored(&'static str),
}

use Disposition::{Belongs, Decides, Ignored, Runs};

const ALARMS: &str = "alarms are not evaluated here";
const BALANCER: &str = "there is no load balancer here: the web UI is reached directly";

/// The resource types, by name.
const TYPES: &[(&str, Disposition)] = &[
    ("AWS::CloudWatch::Alarm", Ignored(ALARMS)),
    ("AWS::EC2::EIP", Decides),
    (
        "AWS::EC2::FlowLog",
        Ignored("there are no packets of a VPC here"),
    ),
    ("AWS::EC2::InternetGateway", Decides),
    ("AWS::EC2::NatGateway", Decides),
    ("AWS::EC2::Route", Decides),
    ("AWS::EC2::RouteTable", Decides),
    ("AWS::EC2::SecurityGroup", Decides),
    ("AWS::EC2::SecurityGroupEgress", Decides),
    ("AWS::EC2::SecurityGroupIngress", Decides),
    ("AWS::EC2::Subnet", Decides),
    ("AWS::EC2::SubnetRouteTableAssociation", Decides),
    ("AWS::EC2::VPC", Decides),
    ("AWS::EC2::VPCGatewayAttachment", Decides),
    ("AWS::ElastiCache::ParameterGroup", Belongs),
    ("AWS::ElastiCache::ReplicationGroup", Runs(CachePart::boxed)),
    ("AWS::ElastiCache::SubnetGroup", Decides),
    ("AWS::ElastiCache::User", Belongs),
    ("AWS::ElastiCache::UserGroup", Belongs),
    ("AWS::ElasticBeanstalk::Application", Belongs),
    ("AWS::ElasticBeanstalk::ApplicationVersion", Belongs),
    (
        "AWS::ElasticBeanstalk::Environment",
        Runs(EnvironmentPart::boxed),
    ),
    (
        "AWS::ElasticLoadBalancingV2::ListenerRule",
        Ignored(BALANCER),
    ),
    ("AWS::IAM::InstanceProfile", Decides),
    ("AWS::IAM::ManagedPolicy", Decides),
    ("AWS::IAM::Policy", Decides),
    ("AWS::IAM::Role", Decides),
    ("AWS::IAM::RolePolicy", Decides),
    // Decides with `--mqtts`.
    ("AWS::IoT::Policy", Decides),
    ("AWS::IoT::TopicRule", Runs(RulePart::boxed)),
    ("AWS::KMS::Key", Decides),
    ("AWS::Kinesis::Stream", Runs(StreamPart::boxed)),
    (
        "AWS::KinesisFirehose::DeliveryStream",
        Runs(DeliveryStreamPart::boxed),
    ),
    ("AWS::Lambda::EventSourceMapping", Runs(MappingPart::boxed)),
    ("AWS::Lambda::Function", Runs(FunctionPart::boxed)),
    ("AWS::Logs::LogGroup", Belongs),
    ("AWS::Logs::LogStream", Belongs),
    (
        "AWS::Logs::MetricFilter",
        Ignored("there are no metrics here"),
    ),
    ("AWS::S3::Bucket", Belongs),
    ("AWS::S3::BucketPolicy", Decides),
    ("AWS::SNS::Subscription", Ignored(ALARMS)),
    ("AWS::SNS::Topic", Ignored(ALARMS)),
    ("AWS::SNS::TopicPolicy", Ignored(ALARMS)),
    ("AWS::SQS::Queue", Runs(QueuePart::boxed)),
];

/// What is done with the resources of a type.
pub fn disposition(r#type: &str) -> Disposition {
    let known = TYPES.iter().find(|(name, _)| *name == r#type);
    known.map_or(Ignored("the type is not known here"), |(_, it)| *it)
}

/// Whether a type stands in the table.
pub fn is_known(r#type: &str) -> bool {
    TYPES.iter().any(|(name, _)| *name == r#type)
}

/// A part for a resource that does not run yet; `None` for a resource that is no part of a run.
pub fn part(r#type: &str, logical_id: &str) -> Option<Box<dyn Part>> {
    match disposition(r#type) {
        Runs(new) => Some(new(logical_id)),
        Belongs | Decides | Ignored(_) => None,
    }
}

/// Whether resources of a type run, or decide about what runs.
pub fn concerns(r#type: &str) -> bool {
    !matches!(disposition(r#type), Ignored(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_names_each_type_once() {
        let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        assert!(names.is_sorted_by(|one, other| one < other), "{names:?}");
    }
}
