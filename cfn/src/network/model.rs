//! Security groups, subnets and routes as the template's resources declare them.

use std::collections::BTreeMap;
use std::fmt;

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::resolve::{Resolved, ResolvedResource, text};

/// The network in a template; keys are physical IDs.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Security groups
    pub groups: IndexMap<String, Group>,
    /// Subnets
    pub subnets: IndexMap<String, Subnet>,
    /// Subnet of each NAT gateway, by its logical ID.
    pub nats: BTreeMap<String, String>,
    /// Logical IDs of network ACLs, which are not evaluated.
    pub acls: Vec<String>,
    /// Logical IDs of internet gateways that are attached to a VPC.
    attached_gateways: Vec<String>,
}

/// A security group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Logical ID
    pub logical_id: String,
    /// Rules of the group and of separate `AWS::EC2::SecurityGroupIngress` resources.
    pub ingress: Vec<Rule>,
    /// Rules of the group and of separate `AWS::EC2::SecurityGroupEgress` resources.
    pub egress: Vec<Rule>,
    /// Whether it has no inline egress rule, so that EC2 allows all egress.
    pub default_egress: bool,
}

/// A rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The other side.
    pub peer: Peer,
    /// Protocol
    pub protocol: Protocol,
    /// First and last port; `None` for all.
    pub ports: Option<(u16, u16)>,
}

/// The other side of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Members of a security group, by physical ID
    Group(String),
    /// A block of addresses
    Block(String),
    /// A prefix list, or a group by name; not evaluated.
    Unknown(String),
}

/// A protocol of a rule or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// All (`-1`)
    All,
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP, of IPv4 or IPv6
    Icmp,
    /// Another, by its IANA number; 255 for an unknown name
    Other(u8),
}

/// A subnet.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// Logical ID
    pub logical_id: String,
    /// VPC, by physical ID
    pub vpc: Option<String>,
    /// `CidrBlock`
    pub block: Option<String>,
    /// Routes of its route table without the local one: block and target.
    pub routes: Vec<(String, Target)>,
}

/// Target of a route, by logical ID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An attached internet gateway
    InternetGateway(String),
    /// A NAT gateway
    Nat(String),
    /// Another target, as a phrase
    Other(String),
}

impl Network {
    /// Parses a template's network.
    pub fn of(resolved: &Resolved) -> Network {
        let mut network = Network::default();
        for resource in resolved.resources.values() {
            match resource.r#type.as_str() {
                "AWS::EC2::SecurityGroup" => {
                    let inline = |pointer: &str, word: &str| -> Vec<Rule> {
                        resource
                            .items(pointer)
                            .iter()
                            .map(|rule| Rule::read(rule, word))
                            .collect()
                    };
                    let egress = inline("/SecurityGroupEgress", "Destination");
                    let group = Group {
                        logical_id: resource.logical_id.clone(),
                        ingress: inline("/SecurityGroupIngress", "Source"),
                        default_egress: egress.is_empty(),
                        egress,
                    };
                    network.groups.insert(resource.physical_id.clone(), group);
                }
                "AWS::EC2::NetworkAcl" | "AWS::EC2::SubnetNetworkAclAssociation" => {
                    network.acls.push(resource.logical_id.clone());
                }
                "AWS::EC2::NatGateway" => {
                    let subnet = resource.text("/SubnetId").unwrap_or_default();
                    network.nats.insert(resource.logical_id.clone(), subnet);
                }
                "AWS::EC2::VPCGatewayAttachment" => {
                    let gateway = resource.text("/InternetGatewayId");
                    let gateway =
                        gateway.and_then(|id| resolved.find("AWS::EC2::InternetGateway", &id));
                    network
                        .attached_gateways
                        .extend(gateway.map(|it| it.logical_id.clone()));
                }
                _ => {}
            }
        }
        for resource in resolved.resources.values() {
            let group = resource.text("/GroupId").unwrap_or_default();
            match (resource.r#type.as_str(), network.groups.get_mut(&group)) {
                ("AWS::EC2::SecurityGroupIngress", Some(group)) => {
                    group
                        .ingress
                        .push(Rule::read(&resource.properties, "Source"));
                }
                ("AWS::EC2::SecurityGroupEgress", Some(group)) => {
                    group
                        .egress
                        .push(Rule::read(&resource.properties, "Destination"));
                }
                _ => {}
            }
        }
        for resource in resolved.of_type("AWS::EC2::Subnet") {
            let subnet = Subnet {
                logical_id: resource.logical_id.clone(),
                vpc: resource.text("/VpcId"),
                block: resource.text("/CidrBlock"),
                routes: network.routes(resolved, &resource.physical_id),
            };
            network.subnets.insert(resource.physical_id.clone(), subnet);
        }
        network
    }

    fn routes(&self, resolved: &Resolved, subnet: &str) -> Vec<(String, Target)> {
        let table = resolved
            .of_type("AWS::EC2::SubnetRouteTableAssociation")
            .find(|it| it.text("/SubnetId").as_deref() == Some(subnet))
            .and_then(|it| it.text("/RouteTableId"));
        let Some(table) = table else {
            return Vec::new();
        };
        resolved
            .of_type("AWS::EC2::Route")
            .filter(|route| route.text("/RouteTableId").as_deref() == Some(&table))
            .filter_map(|route| {
                let block = route
                    .text("/DestinationCidrBlock")
                    .or_else(|| route.text("/DestinationIpv6CidrBlock"))?;
                Some((block, self.target(resolved, route)))
            })
            .collect()
    }

    fn target(&self, resolved: &Resolved, route: &ResolvedResource) -> Target {
        if let Some(id) = route.text("/NatGatewayId") {
            let nat = resolved.find("AWS::EC2::NatGateway", &id);
            return Target::Nat(nat.map_or(id, |it| it.logical_id.clone()));
        }
        if let Some(id) = route.text("/GatewayId") {
            let gateway = resolved.find("AWS::EC2::InternetGateway", &id);
            let name = gateway.map_or(id, |it| it.logical_id.clone());
            return match self.attached_gateways.contains(&name) {
                true => Target::InternetGateway(name),
                false => Target::Other(format!(
                    "internet gateway {name}, which is attached to no VPC"
                )),
            };
        }
        Target::Other(format!(
            "what route {} names, which is not evaluated here",
            route.logical_id
        ))
    }

    /// Target of a subnet's route to the internet; the subnet is a physical ID.
    pub fn internet_target(&self, subnet: &str) -> Option<&Target> {
        let routes = &self.subnets.get(subnet)?.routes;
        routes
            .iter()
            .find(|(block, _)| block == "0.0.0.0/0")
            .map(|(_, target)| target)
    }
}

impl Rule {
    /// Parses an inline rule or the properties of a separate one; `word` is `Source` or `Destination`.
    fn read(rule: &Json, word: &str) -> Rule {
        let get = |key: &str| rule.get(key).and_then(text);
        let prefix_list = format!("{word}PrefixListId");
        let peer = if let Some(group) = get(&format!("{word}SecurityGroupId")) {
            Peer::Group(group)
        } else if let Some(block) = get("CidrIp").or_else(|| get("CidrIpv6")) {
            Peer::Block(block)
        } else {
            let known = get(&prefix_list).or_else(|| get(&format!("{word}SecurityGroupName")));
            Peer::Unknown(known.unwrap_or_else(|| "nobody".to_owned()))
        };
        let protocol = Protocol::parse(&get("IpProtocol").unwrap_or_default());
        let port = |key: &str| get(key).and_then(|text| text.parse::<u16>().ok());
        let ports = match protocol {
            Protocol::Tcp | Protocol::Udp => {
                match (get("FromPort").as_deref(), get("ToPort").as_deref()) {
                    (Some("-1"), Some("-1")) => None,
                    // EC2 refuses a rule without ports; here it admits nothing, as port 0 is not used.
                    _ => Some(port("FromPort").zip(port("ToPort")).unwrap_or((0, 0))),
                }
            }
            _ => None,
        };
        Rule {
            peer,
            protocol,
            ports,
        }
    }

    /// Whether it applies to a protocol and port.
    pub fn covers(&self, protocol: Protocol, port: u16) -> bool {
        let same = self.protocol == Protocol::All || self.protocol == protocol;
        same && self
            .ports
            .is_none_or(|(first, last)| (first..=last).contains(&port))
    }

    /// Protocol and ports, such as `tcp 6379`, `tcp 8000-8080` or `all`.
    pub fn traffic(&self) -> String {
        match self.ports {
            Some((first, last)) if first == last => format!("{} {first}", self.protocol),
            Some((first, last)) => format!("{} {first}-{last}", self.protocol),
            None => self.protocol.to_string(),
        }
    }
}

impl Protocol {
    /// Parses `IpProtocol`: a name or an IANA number.
    pub fn parse(text: &str) -> Protocol {
        match text.to_ascii_lowercase().as_str() {
            "-1" => Protocol::All,
            "tcp" | "6" => Protocol::Tcp,
            "udp" | "17" => Protocol::Udp,
            "icmp" | "1" | "icmpv6" | "58" => Protocol::Icmp,
            other => Protocol::Other(other.parse().unwrap_or(255)),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::All => f.write_str("all"),
            Protocol::Tcp => f.write_str("tcp"),
            Protocol::Udp => f.write_str("udp"),
            Protocol::Icmp => f.write_str("icmp"),
            Protocol::Other(number) => write!(f, "protocol {number}"),
        }
    }
}
