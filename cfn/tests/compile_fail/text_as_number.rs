//! Text where a number belongs.

use cfn::resources::kinesis::Stream;

fn mistake() -> Stream {
    Stream { shard_count: Some("two".into()), ..Default::default() }
}

fn main() {}
