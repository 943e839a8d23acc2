//! Reachability: each edge that the pipeline needs, and each way to cut it.

mod pipeline;

use cfn::network::{Endpoint, Protocol, reachable};
use cfn::resolve::Resolved;
use serde_json::{Value as Json, json};

fn try_connect(resolved: &Resolved, from: &Endpoint, to: &Endpoint, port: u16) -> String {
    match reachable(resolved, from, to, Protocol::Tcp, port) {
        Ok(()) => "reaches".to_owned(),
        Err(cut) => cut.to_string(),
    }
}

fn function_to_cache(edit: impl FnOnce(&mut Json)) -> String {
    let resolved = pipeline::edited(edit);
    let function = Endpoint::of(&resolved, "Function").unwrap();
    let cache = Endpoint::of(&resolved, "Cache").unwrap();
    try_connect(&resolved, &function, &cache, 6379)
}

#[test]
fn the_pipelines_edges_are_open_and_others_are_not() {
    let resolved = pipeline::edited(|_| {});
    let end = |id: &str| Endpoint::of(&resolved, id).unwrap();
    let balancer = Endpoint::balancer(&resolved, "Environment").unwrap();
    let internet = Endpoint::internet();
    for (from, to, port, expected) in [
        (&end("Function"), &end("Cache"), 6379, "reaches"),
        (&internet, &balancer, 80, "reaches"),
        (&balancer, &end("Environment"), 80, "reaches"),
        (&end("Environment"), &internet, 443, "reaches"),
        (
            &end("Function"),
            &end("Cache"),
            6380,
            "Function cannot reach Cache on tcp 6380: security group FunctionGroup has no egress rule for tcp 6380 to CacheGroup",
        ),
        (
            &end("Environment"),
            &end("Cache"),
            6379,
            "Environment cannot reach Cache on tcp 6379: security group CacheGroup has no ingress rule for tcp 6379 from WebGroup",
        ),
        (
            &internet,
            &end("Environment"),
            80,
            "the internet cannot reach Environment on tcp 80: security group WebGroup has no ingress rule for tcp 80 from the internet",
        ),
        (
            &internet,
            &end("Cache"),
            6379,
            "the internet cannot reach Cache on tcp 6379: security group CacheGroup has no ingress rule for tcp 6379 from the internet",
        ),
        (
            &balancer,
            &end("Cache"),
            6379,
            "Environment's balancer cannot reach Cache on tcp 6379: security group BalancerGroup has no egress rule for tcp 6379 to CacheGroup",
        ),
    ] {
        assert_eq!(try_connect(&resolved, from, to, port), expected);
    }
}

#[test]
fn every_missing_piece_is_named() {
    let rules = "/Resources/CacheFromFunction/Properties";
    for (pointer, value, expected) in [
        (
            "/Resources/CacheFromFunction/Properties/FromPort",
            json!(6380),
            "security group CacheGroup has no ingress rule for tcp 6379 from FunctionGroup",
        ),
        (
            "/Resources/CacheFromFunction/Properties/IpProtocol",
            json!("udp"),
            "security group CacheGroup has no ingress rule for tcp 6379 from FunctionGroup",
        ),
        (
            "/Resources/FunctionToCache/Properties/DestinationSecurityGroupId",
            json!({"Ref": "WebGroup"}),
            "security group FunctionGroup has no egress rule for tcp 6379 to CacheGroup",
        ),
        (
            "/Resources/Function/Properties/VpcConfig",
            json!({}),
            "Function is in no VPC: give it subnets",
        ),
        (
            "/Resources/Cache/Properties/SecurityGroupIds",
            json!([]),
            "Cache has no security group, so AWS gives it the VPC's default group, which admits only its own members: name one",
        ),
        (
            "/Resources/Cache/Properties/SecurityGroupIds",
            json!(["sg-1"]),
            "security group `sg-1` of Cache is not in this template",
        ),
        (
            "/Resources/Cache/Properties/CacheSubnetGroupName",
            json!("other"),
            "Cache is in no VPC: give it subnets",
        ),
    ] {
        let got = function_to_cache(|it| *it.pointer_mut(pointer).unwrap() = value);
        assert_eq!(
            got,
            format!("Function cannot reach Cache on tcp 6379: {expected}"),
            "{pointer}"
        );
    }
    assert_eq!(
        function_to_cache(|it| {
            let rule = it.pointer_mut(rules).unwrap().as_object_mut().unwrap();
            rule.remove("SourceSecurityGroupId");
            rule.insert("CidrIp".to_owned(), json!("10.0.1.0/24"));
        }),
        "reaches",
        "by the block of the function's subnet"
    );
    assert!(
        function_to_cache(|it| {
            let rule = it.pointer_mut(rules).unwrap().as_object_mut().unwrap();
            rule.remove("SourceSecurityGroupId");
            rule.insert("CidrIp".to_owned(), json!("10.0.2.0/24"));
        })
        .contains("no ingress rule"),
    );
    assert!(
        function_to_cache(|it| {
            it["Resources"]["Acl"] =
                json!({"Type": "AWS::EC2::NetworkAcl", "Properties": {"VpcId": {"Ref": "Vpc"}}});
        })
        .contains("network ACL Acl is not evaluated here"),
    );
}

#[test]
fn a_group_without_inline_egress_is_open_outward() {
    let without = |it: &mut Json| {
        let group = &mut it["Resources"]["FunctionGroup"]["Properties"];
        group.as_object_mut().unwrap().remove("SecurityGroupEgress");
        it["Resources"]
            .as_object_mut()
            .unwrap()
            .remove("FunctionToCache");
    };
    assert_eq!(function_to_cache(without), "reaches");
}

#[test]
fn the_internet_needs_a_route_and_an_address() {
    let connect = |edit: &dyn Fn(&mut Json)| {
        let resolved = pipeline::edited(edit);
        let web = Endpoint::of(&resolved, "Environment").unwrap();
        try_connect(&resolved, &web, &Endpoint::internet(), 443)
    };
    let start = "Environment cannot reach the internet on tcp 443: subnet PublicSubnet";
    let private = |it: &mut Json| {
        it.pointer_mut("/Resources/Environment/Properties/OptionSettings/3")
            .unwrap()["Value"] = json!("false");
    };
    assert_eq!(
        connect(&private),
        format!(
            "{start} routes to an internet gateway, which needs a public address: add one or a NAT gateway"
        )
    );
    assert_eq!(
        connect(&|it| {
            it["Resources"]
                .as_object_mut()
                .unwrap()
                .remove("PublicAssociation");
        }),
        format!("{start} has no route to the internet")
    );
    assert_eq!(
        connect(&|it| {
            it["Resources"]
                .as_object_mut()
                .unwrap()
                .remove("GatewayAttachment");
            it["Resources"]["PublicRoute"]
                .as_object_mut()
                .unwrap()
                .remove("DependsOn");
        }),
        format!("{start} routes to internet gateway Gateway, which is attached to no VPC")
    );
    // Instances in the private subnet, behind a NAT gateway in the public one.
    let nat = |it: &mut Json| {
        private(it);
        it["Resources"]["Nat"] = json!({"Type": "AWS::EC2::NatGateway", "Properties": {"SubnetId": {"Ref": "PublicSubnet"}}});
        it["Resources"]["PrivateRoutes"] =
            json!({"Type": "AWS::EC2::RouteTable", "Properties": {"VpcId": {"Ref": "Vpc"}}});
        it["Resources"]["PrivateRoute"] = json!({"Type": "AWS::EC2::Route", "Properties": {
            "RouteTableId": {"Ref": "PrivateRoutes"}, "DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": {"Ref": "Nat"}}});
        it["Resources"]["PrivateAssociation"] = json!({"Type": "AWS::EC2::SubnetRouteTableAssociation", "Properties": {
            "RouteTableId": {"Ref": "PrivateRoutes"}, "SubnetId": {"Ref": "PrivateSubnet"}}});
        it.pointer_mut("/Resources/Environment/Properties/OptionSettings/1")
            .unwrap()["Value"] = json!({"Ref": "PrivateSubnet"});
    };
    assert_eq!(connect(&nat), "reaches");
}
