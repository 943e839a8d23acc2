//! A bucket's name where its ARN belongs.

use cfn::Handle;
use cfn::resources::iam;
use cfn::resources::kinesisfirehose::delivery_stream::ExtendedS3DestinationConfiguration;
use cfn::resources::s3::Bucket;

fn mistake(bucket: Handle<Bucket>, role: Handle<iam::Role>) -> ExtendedS3DestinationConfiguration {
    ExtendedS3DestinationConfiguration::new(bucket.reference(), role.arn())
}

fn main() {}
