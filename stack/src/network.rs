//! VPC, subnets, routes, and who may reach whom.

use cfn::intrinsic::{Sub, availability_zones, pseudo, select};
use cfn::policy::{Condition, Document, Statement};
use cfn::resources::ec2::{self, flow_log, security_group};
use cfn::resources::{iam, logs};
use cfn::{Handle, ResourceAttributes, Tag, Template, Value};

use contract::oidc::Oidc;

use crate::config::{self, LogRetention};
use crate::encryption::Encryption;

/// Port of HTTP, on the balancer and on the instances' nginx.
const HTTP: i64 = 80;
/// Port of HTTPS.
const HTTPS: i64 = 443;
/// Port of NTP.
const NTP: i64 = 123;
/// Port of the cache.
pub const CACHE_PORT: i64 = 6379;

/// Everywhere.
const ANYWHERE: &str = "0.0.0.0/0";

/// What the network depends on.
pub struct Props<'a> {
    /// The stage's choices.
    pub config: &'a config::Network,
    /// Whose key encrypts flow logs.
    pub encryption: Encryption,
    /// The identity provider that the balancer must reach, where it signs visitors in.
    pub sign_in: Option<&'a Oidc>,
    /// How long flow logs are kept, where there are any.
    pub log_retention: LogRetention,
}

/// What others may need.
pub struct Network {
    /// The VPC.
    pub vpc: Handle<ec2::Vpc>,
    /// One in each zone, with a route to the internet.
    pub public_subnets: [Handle<ec2::Subnet>; 2],
    /// One in each zone, with a route to the internet only through NAT, where the stage has it.
    pub private_subnets: [Handle<ec2::Subnet>; 2],
    /// Of the balancer: HTTP and HTTPS from the allowed ranges.
    pub balancer: Handle<ec2::SecurityGroup>,
    /// Of the web UI's instances: HTTP from the balancer.
    pub web: Handle<ec2::SecurityGroup>,
    /// Of the function: nothing inward.
    pub function: Handle<ec2::SecurityGroup>,
    /// Of the cache: its port from function and web UI.
    pub cache: Handle<ec2::SecurityGroup>,
    /// Logical IDs that must be there before an instance can reach the internet, and must go after it.
    pub internet: Vec<&'static str>,
    /// Logical IDs of the rules that let balancer, web UI and cache talk to each other.
    pub web_rules: Vec<&'static str>,
}

/// Defines the network over two availability zones of whatever region the stack is in.
pub fn define(template: &mut Template, props: &Props<'_>) -> Network {
    let vpc = template.define(
        "Vpc",
        ec2::Vpc {
            cidr_block: Some("10.0.0.0/16".into()),
            enable_dns_hostnames: Some(true.into()),
            enable_dns_support: Some(true.into()),
            tags: Some(named("Vpc")),
            ..Default::default()
        },
    );
    let public_subnets = [
        subnet(template, "PublicSubnet1", vpc, 0, "10.0.1.0/24"),
        subnet(template, "PublicSubnet2", vpc, 1, "10.0.2.0/24"),
    ];
    let private_subnets = [
        subnet(template, "PrivateSubnet1", vpc, 0, "10.0.4.0/24"),
        subnet(template, "PrivateSubnet2", vpc, 1, "10.0.5.0/24"),
    ];
    let mut internet = public_routes(template, vpc, public_subnets);
    internet.extend(private_routes(
        template,
        vpc,
        public_subnets,
        private_subnets,
        props.config.nat_gateways,
    ));

    let balancer = template.define(
        "BalancerSecurityGroup",
        ec2::SecurityGroup {
            security_group_ingress: Some(
                props
                    .config
                    .allowed_cidrs
                    .iter()
                    .flat_map(|cidr| [(cidr, HTTP), (cidr, HTTPS)])
                    .map(|(cidr, port)| security_group::Ingress {
                        description: Some("Visitors of the dashboard".into()),
                        cidr_ip: Some((*cidr).into()),
                        from_port: Some(port.into()),
                        to_port: Some(port.into()),
                        ..security_group::Ingress::new("tcp")
                    })
                    .collect(),
            ),
            ..group(
                "Load balancer of the dashboard",
                vpc,
                balancer_egress(props.sign_in),
            )
        },
    );
    let web = template.define(
        "WebSecurityGroup",
        group(
            "Instances of the web UI",
            vpc,
            [
                outward("Beanstalk, S3, CloudWatch and packages", "tcp", HTTPS),
                outward("Time", "udp", NTP),
            ],
        ),
    );
    let function = template.define(
        "FunctionSecurityGroup",
        group("Function", vpc, [no_traffic()]),
    );
    let cache = template.define("CacheSecurityGroup", group("Cache", vpc, [no_traffic()]));
    let mut web_rules = connect(
        template,
        ["BalancerToWeb", "WebFromBalancer"],
        "The dashboard",
        balancer,
        web,
        HTTP,
    )
    .to_vec();
    connect(
        template,
        ["FunctionToCache", "CacheFromFunction"],
        "The function writes the live state",
        function,
        cache,
        CACHE_PORT,
    );
    web_rules.extend(connect(
        template,
        ["WebToCache", "CacheFromWeb"],
        "The web UI reads the live state",
        web,
        cache,
        CACHE_PORT,
    ));
    if props.config.flow_logs {
        flow_logs(template, vpc, props);
    }
    Network {
        vpc,
        public_subnets,
        private_subnets,
        balancer,
        web,
        function,
        cache,
        internet,
        web_rules,
    }
}

#[track_caller]
fn subnet(
    template: &mut Template,
    logical_id: &'static str,
    vpc: Handle<ec2::Vpc>,
    zone: u32,
    cidr: &str,
) -> Handle<ec2::Subnet> {
    template.define(
        logical_id,
        ec2::Subnet {
            availability_zone: Some(select(zone, availability_zones())),
            cidr_block: Some(cidr.into()),
            // Beanstalk asks for addresses itself where its instances need them.
            map_public_ip_on_launch: Some(false.into()),
            tags: Some(named(logical_id)),
            ..ec2::Subnet::new(vpc.reference())
        },
    )
}

fn public_routes(
    template: &mut Template,
    vpc: Handle<ec2::Vpc>,
    subnets: [Handle<ec2::Subnet>; 2],
) -> Vec<&'static str> {
    let gateway = template.define(
        "InternetGateway",
        ec2::InternetGateway {
            tags: Some(named("InternetGateway")),
        },
    );
    let attachment = template.define(
        "InternetGatewayAttachment",
        ec2::VpcGatewayAttachment {
            internet_gateway_id: Some(gateway.reference().into()),
            ..ec2::VpcGatewayAttachment::new(vpc.reference())
        },
    );
    let table = template.define(
        "PublicRouteTable",
        ec2::RouteTable {
            tags: Some(named("PublicRouteTable")),
            ..ec2::RouteTable::new(vpc.reference())
        },
    );
    let route = template.define_with(
        "PublicRoute",
        ec2::Route {
            destination_cidr_block: Some(ANYWHERE.into()),
            gateway_id: Some(gateway.reference().into()),
            ..ec2::Route::new(table.reference())
        },
        // A route to a gateway that is not attached yet is refused.
        ResourceAttributes {
            depends_on: vec![attachment.logical_id()],
            ..ResourceAttributes::default()
        },
    );
    let mut internet = vec![route.logical_id()];
    for (logical_id, subnet) in ["PublicSubnet1Routes", "PublicSubnet2Routes"]
        .into_iter()
        .zip(subnets)
    {
        template.define(
            logical_id,
            ec2::SubnetRouteTableAssociation::new(table.reference(), subnet.reference()),
        );
        internet.push(logical_id);
    }
    internet
}

/// A route table for each private subnet, so that one zone's NAT gateway serves that zone alone.
fn private_routes(
    template: &mut Template,
    vpc: Handle<ec2::Vpc>,
    public_subnets: [Handle<ec2::Subnet>; 2],
    private_subnets: [Handle<ec2::Subnet>; 2],
    nat_gateways: bool,
) -> Vec<&'static str> {
    struct Names {
        table: &'static str,
        association: &'static str,
        address: &'static str,
        gateway: &'static str,
        route: &'static str,
    }
    const NAMES: [Names; 2] = [
        Names {
            table: "PrivateRouteTable1",
            association: "PrivateSubnet1Routes",
            address: "NatAddress1",
            gateway: "NatGateway1",
            route: "PrivateRoute1",
        },
        Names {
            table: "PrivateRouteTable2",
            association: "PrivateSubnet2Routes",
            address: "NatAddress2",
            gateway: "NatGateway2",
            route: "PrivateRoute2",
        },
    ];
    let mut internet = Vec::new();
    for (names, (public, private)) in NAMES
        .into_iter()
        .zip(public_subnets.into_iter().zip(private_subnets))
    {
        let table = template.define(
            names.table,
            ec2::RouteTable {
                tags: Some(named(names.table)),
                ..ec2::RouteTable::new(vpc.reference())
            },
        );
        template.define(
            names.association,
            ec2::SubnetRouteTableAssociation::new(table.reference(), private.reference()),
        );
        if !nat_gateways {
            continue;
        }
        let attached = ResourceAttributes {
            depends_on: vec!["InternetGatewayAttachment"],
            ..ResourceAttributes::default()
        };
        let address = template.define_with(
            names.address,
            ec2::Eip {
                domain: Some("vpc".into()),
                tags: Some(named(names.address)),
                ..Default::default()
            },
            attached,
        );
        let gateway = template.define(
            names.gateway,
            ec2::NatGateway {
                allocation_id: Some(address.allocation_id().into()),
                subnet_id: Some(public.reference().into()),
                tags: Some(named(names.gateway)),
                ..Default::default()
            },
        );
        template.define(
            names.route,
            ec2::Route {
                destination_cidr_block: Some(ANYWHERE.into()),
                nat_gateway_id: Some(gateway.reference().into()),
                ..ec2::Route::new(table.reference())
            },
        );
        internet.extend([names.route, names.association]);
    }
    internet
}

/// Writes down who talked to whom, and what was refused.
fn flow_logs(template: &mut Template, vpc: Handle<ec2::Vpc>, props: &Props<'_>) {
    let group = template.define(
        "FlowLogs",
        logs::LogGroup {
            kms_key_id: props.encryption.arn().map(Into::into),
            retention_in_days: Some(props.log_retention.days().into()),
            ..Default::default()
        },
    );
    let role = template.define(
        "FlowLogsRole",
        iam::Role {
            description: Some("EC2 writes down who talks to whom in the VPC".into()),
            ..iam::Role::new(Document::trust(
                "vpc-flow-logs.amazonaws.com",
                &[Condition::source_account()],
            ))
        },
    );
    // "IAM role for publishing flow logs to CloudWatch Logs" of the VPC user guide; the group is there,
    // so nobody needs to make one.
    let actions = [
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
    ];
    template.grant(
        role,
        "FlowLogsWrite",
        Statement::allow(actions, [group.arn()]),
    );
    // Describing groups knows no single group.
    let groups = Sub::new()
        .text("arn:")
        .value(pseudo::partition())
        .text(":logs:")
        .value(pseudo::region())
        .text(":")
        .value(pseudo::account_id())
        .text(":log-group:*")
        .build();
    template.grant(
        role,
        "FlowLogsFind",
        Statement::allow(["logs:DescribeLogGroups"], [groups]),
    );
    template.define(
        "VpcFlowLog",
        ec2::FlowLog {
            deliver_logs_permission_arn: Some(role.arn().into()),
            log_group_name: Some(group.reference().into()),
            tags: Some(named("VpcFlowLog")),
            traffic_type: Some(flow_log::TrafficType::All.into()),
            ..ec2::FlowLog::new(vpc.reference(), flow_log::ResourceType::Vpc)
        },
    );
}

fn group(
    description: &str,
    vpc: Handle<ec2::Vpc>,
    egress: impl IntoIterator<Item = security_group::Egress>,
) -> ec2::SecurityGroup {
    ec2::SecurityGroup {
        security_group_egress: Some(egress.into_iter().collect()),
        vpc_id: Some(vpc.reference().into()),
        ..ec2::SecurityGroup::new(description)
    }
}

/// A group without an egress rule would get AWS's default, which lets everything out. This one lets
/// nothing out: an ICMP message that does not exist, to the machine itself.
fn no_traffic() -> security_group::Egress {
    security_group::Egress {
        description: Some("Nothing else".into()),
        cidr_ip: Some("127.0.0.1/32".into()),
        from_port: Some(252.into()),
        to_port: Some(86.into()),
        ..security_group::Egress::new("icmp")
    }
}

fn outward(description: &str, protocol: &str, port: i64) -> security_group::Egress {
    outward_to(ANYWHERE, description, protocol, port)
}

/// What the balancer may reach beside the instances: the identity provider, whom it asks who somebody is.
fn balancer_egress(sign_in: Option<&Oidc>) -> Vec<security_group::Egress> {
    let Some(oidc) = sign_in else {
        return vec![no_traffic()];
    };
    let provider = |cidr: &&str| outward_to(cidr, "The identity provider", "tcp", HTTPS);
    oidc.provider_cidrs.iter().map(provider).collect()
}

fn outward_to(cidr: &str, description: &str, protocol: &str, port: i64) -> security_group::Egress {
    security_group::Egress {
        description: Some(description.into()),
        cidr_ip: Some(cidr.into()),
        from_port: Some(port.into()),
        to_port: Some(port.into()),
        ..security_group::Egress::new(protocol)
    }
}

/// Opens one port from one group to another, on both sides; the logical IDs of both rules. Rules of
/// their own, because two groups that name each other inline would be a cycle.
#[track_caller]
fn connect(
    template: &mut Template,
    [egress, ingress]: [&'static str; 2],
    description: &str,
    from: Handle<ec2::SecurityGroup>,
    to: Handle<ec2::SecurityGroup>,
    port: i64,
) -> [&'static str; 2] {
    let port = || Some(Value::from(port));
    template.define(
        egress,
        ec2::SecurityGroupEgress {
            description: Some(description.into()),
            destination_security_group_id: Some(to.group_id().into()),
            from_port: port(),
            to_port: port(),
            ..ec2::SecurityGroupEgress::new(from.group_id(), "tcp")
        },
    );
    template.define(
        ingress,
        ec2::SecurityGroupIngress {
            description: Some(description.into()),
            group_id: Some(to.group_id().into()),
            source_security_group_id: Some(from.group_id().into()),
            from_port: port(),
            to_port: port(),
            ..ec2::SecurityGroupIngress::new("tcp")
        },
    );
    [egress, ingress]
}

fn named(logical_id: &str) -> cfn::List<Tag> {
    let name = cfn::intrinsic::Sub::new()
        .value(cfn::intrinsic::pseudo::stack_name())
        .text("/")
        .text(logical_id)
        .build();
    [Tag::new("Name", name)].into()
}
