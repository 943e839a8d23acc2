//! A Kinesis stream where a Firehose delivery stream belongs.

use cfn::Handle;
use cfn::resources::iam;
use cfn::resources::kinesis::Stream;
use cfn::resources::iot::topic_rule::FirehoseAction;

fn mistake(role: Handle<iam::Role>, stream: Handle<Stream>) -> FirehoseAction {
    FirehoseAction::new(stream.reference(), role.arn())
}

fn main() {}
