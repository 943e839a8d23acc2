//! A name written by hand where a reference belongs: CloudFormation would not know the order.

use cfn::resources::elasticache::ReplicationGroup;

fn mistake() -> ReplicationGroup {
    ReplicationGroup { cache_subnet_group_name: Some("my-subnets".into()), ..ReplicationGroup::new("cache") }
}

fn main() {}
