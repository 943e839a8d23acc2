//! What every bucket of ours has: private, encrypted, versioned, TLS only, tidied up.

use cfn::policy::{Anybody, Condition, Document, Principal, Statement};
use cfn::resources::kms;
use cfn::resources::s3::{self, bucket};
use cfn::{Attribute, DeletionPolicy, Handle, ResourceAttributes, Template, UpdateReplacePolicy};

/// Days after which the parts of an upload that never ended are removed.
const UNFINISHED_UPLOAD_DAYS: i64 = 7;

/// What differs between our buckets.
pub(crate) struct Props {
    /// Our own key; `None`: the one that S3 manages.
    pub key: Option<Attribute<kms::KeyArn>>,
    /// Days that a version is kept after another took its place.
    pub noncurrent_days: u32,
    /// Days that objects are kept; `None` is for good.
    pub expiration_days: Option<u32>,
}

/// Defines a bucket and its policy. It outlives its stack, unless the stack that would have made it
/// failed: CloudFormation could not delete it with objects in it anyway.
#[track_caller]
pub(crate) fn define(
    template: &mut Template,
    logical_id: &'static str,
    policy_id: &'static str,
    props: &Props,
) -> Handle<s3::Bucket> {
    let kept = ResourceAttributes {
        deletion_policy: Some(DeletionPolicy::RetainExceptOnCreate),
        update_replace_policy: Some(UpdateReplacePolicy::Retain),
        ..ResourceAttributes::default()
    };
    let bucket = template.define_with(
        logical_id,
        s3::Bucket {
            bucket_encryption: Some(bucket::BucketEncryption::new([encryption(props.key)]).into()),
            lifecycle_configuration: Some(
                bucket::LifecycleConfiguration::new([rule(props)]).into(),
            ),
            ownership_controls: Some(
                bucket::OwnershipControls::new([bucket::OwnershipControlsRule {
                    object_ownership: Some(bucket::ObjectOwnership::BucketOwnerEnforced.into()),
                }])
                .into(),
            ),
            public_access_block_configuration: Some(
                bucket::PublicAccessBlockConfiguration {
                    block_public_acls: Some(true.into()),
                    block_public_policy: Some(true.into()),
                    ignore_public_acls: Some(true.into()),
                    restrict_public_buckets: Some(true.into()),
                }
                .into(),
            ),
            versioning_configuration: Some(
                bucket::VersioningConfiguration::new(
                    bucket::VersioningConfigurationStatus::Enabled,
                )
                .into(),
            ),
            ..Default::default()
        },
        kept.clone(),
    );
    let plain_http = Statement::deny(["s3:*"], [bucket.arn().into(), bucket.objects()])
        .by(Principal::Anybody(Anybody::Anybody))
        .when(Condition::bool("aws:SecureTransport", false));
    // The policy goes with the bucket: without it a kept bucket would answer plain HTTP.
    template.define_with(
        policy_id,
        s3::BucketPolicy::new(bucket.reference(), Document::new([plain_http])),
        kept,
    );
    bucket
}

/// With a key of our own S3 asks KMS once for many objects (its bucket key), not for each.
fn encryption(key: Option<Attribute<kms::KeyArn>>) -> bucket::ServerSideEncryptionRule {
    let algorithm = match key {
        Some(_) => bucket::SseAlgorithm::AwsKms,
        None => bucket::SseAlgorithm::Aes256,
    };
    bucket::ServerSideEncryptionRule {
        bucket_key_enabled: key.map(|_| true.into()),
        server_side_encryption_by_default: Some(
            bucket::ServerSideEncryptionByDefault {
                kms_master_key_id: key.map(Into::into),
                ..bucket::ServerSideEncryptionByDefault::new(algorithm)
            }
            .into(),
        ),
        ..Default::default()
    }
}

fn rule(props: &Props) -> bucket::Rule {
    bucket::Rule {
        abort_incomplete_multipart_upload: Some(
            bucket::AbortIncompleteMultipartUpload::new(UNFINISHED_UPLOAD_DAYS).into(),
        ),
        expiration_in_days: props.expiration_days.map(Into::into),
        noncurrent_version_expiration: Some(
            bucket::NoncurrentVersionExpiration::new(props.noncurrent_days).into(),
        ),
        ..bucket::Rule::new(bucket::RuleStatus::Enabled)
    }
}
