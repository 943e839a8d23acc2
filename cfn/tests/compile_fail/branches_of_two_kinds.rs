//! `Fn::If` with a bucket's name and a stream's name.

use cfn::intrinsic::either;
use cfn::resources::kinesis::Stream;
use cfn::resources::s3::{Bucket, BucketName};
use cfn::{Condition, Handle, Value};

fn mistake(condition: Condition, bucket: Handle<Bucket>, stream: Handle<Stream>) -> Value<BucketName> {
    either(condition, bucket.reference(), stream.reference())
}

fn main() {}
