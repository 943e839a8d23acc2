//! A VPC where a subnet belongs.

use cfn::Handle;
use cfn::resources::ec2::{RouteTable, SubnetRouteTableAssociation, Vpc};

fn mistake(table: Handle<RouteTable>, vpc: Handle<Vpc>) -> SubnetRouteTableAssociation {
    SubnetRouteTableAssociation::new(table.reference(), vpc.reference())
}

fn main() {}
