//! Types that cost nothing, each with its reason.

/// Part of something else that is paid for.
const PART: &str = "paid for with what it belongs to";

/// Settings, which AWS charges nothing for.
const SETTING: &str = "a setting";

/// Type → reason.
pub(crate) const FREE: &[(&str, &str)] = &[
    ("AWS::Budgets::Budget", "free without budget actions"),
    (
        "AWS::CertificateManager::Certificate",
        "public certificates are free",
    ),
    (
        "AWS::EC2::InternetGateway",
        "data out is paid for, the gateway is not",
    ),
    ("AWS::EC2::Route", SETTING),
    ("AWS::EC2::RouteTable", SETTING),
    ("AWS::EC2::SecurityGroup", SETTING),
    ("AWS::EC2::SecurityGroupEgress", SETTING),
    ("AWS::EC2::SecurityGroupIngress", SETTING),
    ("AWS::EC2::Subnet", SETTING),
    ("AWS::EC2::SubnetRouteTableAssociation", SETTING),
    ("AWS::EC2::VPC", SETTING),
    ("AWS::EC2::VPCGatewayAttachment", SETTING),
    ("AWS::ElastiCache::ParameterGroup", SETTING),
    ("AWS::ElastiCache::SubnetGroup", SETTING),
    ("AWS::ElastiCache::User", SETTING),
    ("AWS::ElastiCache::UserGroup", SETTING),
    (
        "AWS::ElasticBeanstalk::Application",
        "Elastic Beanstalk costs what its environments consist of",
    ),
    (
        "AWS::ElasticBeanstalk::ApplicationVersion",
        "its bundle, a few MB, is in the artifacts bucket",
    ),
    ("AWS::IAM::InstanceProfile", "IAM is free"),
    ("AWS::IAM::ManagedPolicy", "IAM is free"),
    ("AWS::IAM::OIDCProvider", "IAM is free"),
    ("AWS::IAM::Policy", "IAM is free"),
    ("AWS::IAM::Role", "IAM is free"),
    (
        "AWS::IoT::Policy",
        "connections and messages are paid for, policies are not",
    ),
    ("AWS::KMS::Alias", PART),
    (
        "AWS::Lambda::EventSourceMapping",
        "polling a stream is part of the function's price",
    ),
    ("AWS::Lambda::Permission", SETTING),
    ("AWS::Logs::LogStream", PART),
    (
        "AWS::Route53::RecordSet",
        "alias records of load balancers are free",
    ),
    ("AWS::S3::BucketPolicy", SETTING),
    ("AWS::SNS::Subscription", "1,000 mails a month are free"),
    ("AWS::SNS::Topic", "a million alarms a month are free"),
    ("AWS::SNS::TopicPolicy", SETTING),
];

/// Why the type costs nothing; none if it is not known to.
pub(crate) fn reason(r#type: &str) -> Option<&'static str> {
    let mut known = FREE.iter();
    known
        .find(|(name, _)| *name == r#type)
        .map(|(_, reason)| *reason)
}
