//! Failures that AWS is known for and that pass: a role that was made a moment ago is not known yet to
//! the service that is to use it, or a managed update has just begun. Tried once more, such a deployment
//! succeeds.
//!
//! The texts are those that the services answer with; a permission that is really missing may read the
//! same, which is why it is tried once and not more.

use crate::stack::event::Event;

/// Type of the resource that fails, and what its failure says, in small letters.
const SIGNATURES: &[(&str, &str)] = &[
    // Firehose looks at the stream and the bucket with its role as soon as it is made.
    (
        "AWS::KinesisFirehose::DeliveryStream",
        "is not authorized to perform",
    ),
    (
        "AWS::KinesisFirehose::DeliveryStream",
        "unable to assume role",
    ),
    ("AWS::Lambda::Function", "cannot be assumed by lambda"),
    ("AWS::Lambda::EventSourceMapping", "cannot access stream"),
    (
        "AWS::Lambda::EventSourceMapping",
        "is not authorized to perform",
    ),
    (
        "AWS::ElasticBeanstalk::Environment",
        "invalid iam instance profile",
    ),
    (
        "AWS::ElasticBeanstalk::Environment",
        "does not exist or is not attached",
    ),
    // A managed update that began after `deploy` had looked.
    (
        "AWS::ElasticBeanstalk::Environment",
        "is in an invalid state for this operation. must be ready",
    ),
    // Both sentences are AWS IoT's; it assumes every role of a rule when the rule is created.
    ("AWS::IoT::TopicRule", "unable to assume role"),
    ("AWS::IoT::TopicRule", "unable to perform: sts:assumerole"),
    // Policies of buckets, keys and topics that name a role.
    ("AWS::S3::BucketPolicy", "invalid principal in policy"),
    ("AWS::KMS::Key", "invalid principals"),
    // Any service, for a moment, with credentials that are as new as their role.
    ("", "security token included in the request is invalid"),
];

/// The failure that may be gone when it is tried again; `None` when the first real cause is another.
pub(crate) fn passing<'a>(failures: &[&'a Event]) -> Option<&'a Event> {
    failures.first().copied().filter(|event| is_passing(event))
}

fn is_passing(event: &Event) -> bool {
    let reason = event.reason.as_deref().unwrap_or_default().to_lowercase();
    // A person's or a pipeline's own missing permission: it will be missing again.
    let is_own_user = reason.contains(":user/");
    !is_own_user
        && SIGNATURES.iter().any(|(r#type, text)| {
            (r#type.is_empty() || *r#type == event.r#type) && reason.contains(text)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(r#type: &str, reason: &str) -> Event {
        Event {
            id: "1".to_owned(),
            logical_id: "Resource".to_owned(),
            physical_id: String::new(),
            r#type: r#type.to_owned(),
            status: "CREATE_FAILED".to_owned(),
            reason: Some(reason.to_owned()),
            at: 0.0,
            is_stack: false,
            token: None,
        }
    }

    #[test]
    fn known_races_pass_and_real_causes_do_not() {
        let firehose = "AWS::KinesisFirehose::DeliveryStream";
        let cases = [
            (
                firehose,
                "The security token included in the request is invalid",
                true,
            ),
            (
                firehose,
                "User: arn:aws:sts::1:assumed-role/ArchiveRole/x is not authorized to perform: kinesis:DescribeStream",
                true,
            ),
            (
                firehose,
                "User: arn:aws:iam::1:user/you is not authorized to perform: firehose:CreateDeliveryStream",
                false,
            ),
            (
                "AWS::Lambda::Function",
                "The role defined for the function cannot be assumed by Lambda.",
                true,
            ),
            (
                "AWS::IoT::TopicRule",
                "AWS IoT (iot.amazonaws.com) is unable to assume role (sts:AssumeRole) on resource: arn:aws:iam::1:role/r.  If the role was just created or updated, please try again in a few seconds.",
                true,
            ),
            (
                "AWS::IoT::TopicRule",
                "iot.amazonaws.com is unable to perform: sts:AssumeRole on resource: arn:aws:iam::1:role/r",
                true,
            ),
            ("AWS::IoT::TopicRule", "Rule SQL is not valid", false),
            (
                "AWS::ElasticBeanstalk::Environment",
                "Environment named e-1 is in an invalid state for this operation. Must be Ready.",
                true,
            ),
            (
                firehose,
                "Firehose is unable to assume role arn:aws:iam::1:role/r. Please check the role provided.",
                true,
            ),
            (
                "AWS::ElastiCache::ReplicationGroup",
                "is not authorized to perform: x",
                false,
            ),
            ("AWS::ElastiCache::ReplicationGroup", "no capacity", false),
        ];
        for (r#type, reason, expected) in cases {
            let event = event(r#type, reason);
            assert_eq!(passing(&[&event]).is_some(), expected, "{reason}");
        }
    }

    #[test]
    fn only_the_first_cause_counts() {
        let race = event("AWS::S3::BucketPolicy", "Invalid principal in policy");
        let other = event("AWS::S3::Bucket", "already exists");
        assert!(passing(&[&other, &race]).is_none());
        assert!(passing(&[]).is_none());
    }
}
