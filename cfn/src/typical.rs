//! Typical times in which AWS creates resources.
//!
//! Averages of public measurements, for progress messages and for rehearsing at a real pace only.

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

/// Seconds for other types.
const OTHER: u32 = 3;

/// Typical seconds to create a resource of a type.
pub fn seconds(r#type: &str) -> u32 {
    SECONDS
        .iter()
        .find(|(known, _)| *known == r#type)
        .map_or(OTHER, |(_, seconds)| *seconds)
}

/// Formats seconds to follow "about".
pub fn in_words(seconds: u32) -> String {
    match seconds {
        0..=99 => format!("{seconds} seconds"),
        _ => format!("{} minutes", (seconds + 30) / 60),
    }
}
