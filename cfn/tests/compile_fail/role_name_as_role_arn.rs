//! A role's name where its ARN belongs.

use cfn::Handle;
use cfn::resources::iam;
use cfn::resources::kinesis::Stream;
use cfn::resources::iot::topic_rule::KinesisAction;

fn mistake(role: Handle<iam::Role>, stream: Handle<Stream>) -> KinesisAction {
    KinesisAction::new(role.reference(), stream.reference())
}

fn main() {}
