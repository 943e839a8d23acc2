//! Why a deletion fails that is known to go through when it is tried again.

use crate::stack::event::Event;

/// What is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryReason {
    /// Something in the network is still used: interfaces, or a group that another refers to.
    Network,
    /// The bucket is not empty.
    Bucket,
    /// Another change is under way, or AWS throttles CloudFormation.
    Busy,
}

/// What holds a resource whose deletion failed; `None` for a reason that stays when it is tried again.
pub(crate) fn retry_reason(event: &Event) -> Option<RetryReason> {
    let reason = event.reason.as_deref().unwrap_or_default();
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if event.r#type == "AWS::S3::Bucket" && says(&["not empty", "BucketNotEmpty"]) {
        return Some(RetryReason::Bucket);
    }
    let network = [
        "DependencyViolation",
        "has a dependent object",
        "has dependencies and cannot be deleted",
        "has some mapped public address",
        "is currently in use",
        "InvalidNetworkInterface",
    ];
    if says(&network) {
        return Some(RetryReason::Network);
    }
    let busy = [
        "Rate exceeded",
        "Throttling",
        "ConflictException",
        "ResourceInUse",
        "invalid state for this operation",
        "in an invalid state",
        "did not stabilize",
        "is being modified",
    ];
    says(&busy).then_some(RetryReason::Busy)
}

impl RetryReason {
    /// What is in the way, in words.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            RetryReason::Network => "something still uses it",
            RetryReason::Bucket => "it was filled again meanwhile",
            RetryReason::Busy => "AWS is still busy with it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_pass_are_told_from_those_that_stay() {
        let table = [
            (
                "AWS::EC2::SecurityGroup",
                "resource sg-1 has a dependent object (Service: Ec2, Status Code: 400)",
                Some(RetryReason::Network),
            ),
            (
                "AWS::EC2::Subnet",
                "The subnet 'subnet-1' has dependencies and cannot be deleted. (Service: Ec2, Error Code: DependencyViolation)",
                Some(RetryReason::Network),
            ),
            (
                "AWS::EC2::VPCGatewayAttachment",
                "Network vpc-1 has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.",
                Some(RetryReason::Network),
            ),
            (
                "AWS::S3::Bucket",
                "The bucket you tried to delete is not empty (Service: S3, Status Code: 409)",
                Some(RetryReason::Bucket),
            ),
            // Only of a bucket.
            ("AWS::ECR::Repository", "The repository is not empty", None),
            (
                "AWS::ElasticBeanstalk::Environment",
                "Environment named e is in an invalid state for this operation. Must be Ready.",
                Some(RetryReason::Busy),
            ),
            (
                "AWS::Kinesis::Stream",
                "Rate exceeded for stream (Service: Kinesis)",
                Some(RetryReason::Busy),
            ),
            (
                "AWS::IAM::Role",
                "User is not authorized to perform: iam:DeleteRole",
                None,
            ),
            ("AWS::IAM::Role", "", None),
        ];
        for (r#type, reason, expected) in table {
            let event = Event {
                id: String::new(),
                logical_id: String::new(),
                physical_id: String::new(),
                r#type: r#type.to_owned(),
                status: "DELETE_FAILED".to_owned(),
                reason: Some(reason.to_owned()),
                at: 0.0,
                is_stack: false,
                token: None,
            };
            assert_eq!(retry_reason(&event), expected, "{reason}");
        }
    }
}
