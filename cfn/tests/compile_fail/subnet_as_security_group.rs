//! A subnet where a security group belongs.

use cfn::resources::{ec2, lambda};
use cfn::{Handle, List};

fn mistake(subnet: Handle<ec2::Subnet>) -> lambda::function::VpcConfig {
    lambda::function::VpcConfig {
        security_group_ids: Some(List::from([subnet.reference()])),
        ..Default::default()
    }
}

fn main() {}
