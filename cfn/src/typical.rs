//! How long AWS usually takes for a resource.
//!
//! Averages of public measurements. They are good enough to tell a person what to expect and to
//! rehearse at a real pace; nothing else may depend on them.

/// Type, seconds to create.
const SECONDS: &[(&str, u32)] = &[
    ("AWS::EC2::InternetGateway", 17),
    ("AWS::EC2::NatGateway", 106),
    ("AWS::EC2::VPC", 15),
    ("AWS::ElastiCache::ReplicationGroup", 712),
    ("AWS::ElasticBeanstalk::Environment", 252),
    ("AWS::IAM::InstanceProfile", 126),
    ("AWS::IAM::Role", 18),
    ("AWS::Kinesis::Stream", 14),
    ("AWS::KinesisFirehose::DeliveryStream", 77),
    ("AWS::Lambda::EventSourceMapping", 10),
    ("AWS::Lambda::Function", 25),
    ("AWS::S3::Bucket", 30),
];

/// What most other resources take.
const OTHER: u32 = 3;

/// Seconds that a resource of the type usually takes to be created.
pub fn seconds(r#type: &str) -> u32 {
    SECONDS
        .iter()
        .find(|(known, _)| *known == r#type)
        .map_or(OTHER, |(_, seconds)| *seconds)
}

/// Seconds as a person says them after "about".
pub fn in_words(seconds: u32) -> String {
    match seconds {
        0..=99 => format!("{seconds} seconds"),
        _ => format!("{} minutes", (seconds + 30) / 60),
    }
}
