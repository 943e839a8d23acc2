//! What is lost with a resource: which types hold something, and what that is in this application.

/// What goes when a resource of the type is deleted, in a few words; `None`: nothing that the template
/// does not bring back.
pub fn lost(r#type: &str) -> Option<String> {
    Some(
        match r#type {
            "AWS::ElastiCache::ReplicationGroup" => {
                "the live state: counts and latest messages of all devices"
            }
            "AWS::Kinesis::Stream" => "records that are not processed yet",
            "AWS::KinesisFirehose::DeliveryStream" => "records that are not delivered yet",
            "AWS::Lambda::EventSourceMapping" => {
                "its place in the stream: the new one reads again what the stream still has"
            }
            "AWS::ElasticBeanstalk::Environment" => "its address",
            "AWS::Logs::LogGroup" => "its logs",
            "AWS::S3::Bucket" => "its objects",
            "AWS::KMS::Key" => "everything encrypted with it",
            _ => return None,
        }
        .to_owned(),
    )
}
