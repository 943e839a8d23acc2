//! A stream's name where its ARN belongs, in a property that takes several kinds.

use cfn::Handle;
use cfn::resources::kinesis::Stream;
use cfn::resources::lambda::EventSourceMapping;

fn mistake(stream: Handle<Stream>) -> EventSourceMapping {
    EventSourceMapping {
        event_source_arn: Some(stream.reference().into()),
        ..EventSourceMapping::new(cfn::resources::lambda::event_source_mapping::FunctionName::literal("f"))
    }
}

fn main() {}
