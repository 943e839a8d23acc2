//! The stack that comes first: the bucket that the deployment uploads to.

use cfn::resources::s3;
use cfn::{Handle, Template};

use crate::bucket;

/// Output: the bucket's name, for the main stack's [`crate::parameters::ARTIFACTS_BUCKET`].
pub const BUCKET_OUTPUT: &str = "BucketName";

/// What others may need.
pub struct Artifacts {
    /// Function zips, bundles and templates, by content hash.
    pub bucket: Handle<s3::Bucket>,
}

/// Defines the bucket.
///
/// Nothing current expires by age: Beanstalk fetches the bundle whenever it launches an instance, and
/// a rollback needs the previous one. The deployment removes what no kept version refers to.
pub fn define(template: &mut Template) -> Artifacts {
    let props = bucket::Props {
        key: None,
        noncurrent_days: 30,
        expiration_days: None,
    };
    let bucket = bucket::define(template, "ArtifactsBucket", "ArtifactsBucketPolicy", &props);
    template.output(
        BUCKET_OUTPUT,
        "Bucket that artifacts are uploaded to",
        bucket.reference(),
    );
    Artifacts { bucket }
}
