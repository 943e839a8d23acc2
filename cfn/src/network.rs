//! Network paths: evaluation of security groups, subnets and routes of a resolved template.
//!
//! The rules are from the VPC user guide. Security groups are stateful and only allow; a rule admits the
//! members of a group or an address block. Within a VPC, each subnet has a route to every other. The
//! internet needs a route to an internet gateway and a public address, or a route to a NAT gateway that has
//! one.
//!
//! A group without inline `SecurityGroupEgress` allows all egress, as in EC2.
//! A subnet without an association uses the VPC's main route table, which a template cannot change and
//! which has the local route only.
//!
//! Not supported: network ACLs (a template with one is refused), VPC peering, prefix lists (they admit
//! nothing), rules with a group's name.
//!
//! Layout: `model` parses the resources.

mod model;

use std::fmt;

pub use model::{Group, Network, Peer, Protocol, Rule, Subnet, Target};

use crate::resolve::cidr::Block;
use crate::resolve::{Resolved, ResolvedResource};

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A block of addresses outside of the VPC, such as `0.0.0.0/0`.
    Outside(String),
    /// Network interfaces of a resource; IDs are physical.
    Inside {
        /// Name in messages: a logical ID, or a phrase such as `<LogicalId>'s balancer`.
        name: String,
        /// Subnets of its interfaces; empty if it is not in a VPC.
        subnets: Vec<String>,
        /// Security groups of each interface.
        security_groups: Vec<String>,
        /// Whether its interfaces have public addresses.
        public_address: bool,
    },
}

/// Why a connection is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{from} cannot reach {to} on {protocol} {port}: {reason}")]
pub struct Cut {
    /// Name of the source
    pub from: String,
    /// Name of the destination
    pub to: String,
    /// Protocol
    pub protocol: Protocol,
    /// Destination port
    pub port: u16,
    /// The missing rule of a security group, or the missing route, by logical ID
    pub reason: String,
}

impl Endpoint {
    /// The internet.
    pub fn internet() -> Endpoint {
        Endpoint::Outside("0.0.0.0/0".to_owned())
    }

    /// The interfaces of a resource: a Lambda function, an ElastiCache replication group, cluster or
    /// serverless cache, or the instances of a Beanstalk environment. `None` for other types.
    pub fn of(resolved: &Resolved, logical_id: &str) -> Option<Endpoint> {
        let resource = resolved.resource(logical_id)?;
        let inside = |subnets, security_groups, public_address| Endpoint::Inside {
            name: logical_id.to_owned(),
            subnets,
            security_groups,
            public_address,
        };
        Some(match resource.r#type.as_str() {
            "AWS::Lambda::Function" => inside(
                resource.texts("/VpcConfig/SubnetIds"),
                resource.texts("/VpcConfig/SecurityGroupIds"),
                false,
            ),
            "AWS::ElastiCache::ReplicationGroup" => inside(
                subnet_group(resolved, resource),
                resource.texts("/SecurityGroupIds"),
                false,
            ),
            "AWS::ElastiCache::CacheCluster" => inside(
                subnet_group(resolved, resource),
                resource.texts("/VpcSecurityGroupIds"),
                false,
            ),
            "AWS::ElastiCache::ServerlessCache" => inside(
                resource.texts("/SubnetIds"),
                resource.texts("/SecurityGroupIds"),
                false,
            ),
            "AWS::ElasticBeanstalk::Environment" => inside(
                option(resource, "aws:ec2:vpc", "Subnets"),
                option(
                    resource,
                    "aws:autoscaling:launchconfiguration",
                    "SecurityGroups",
                ),
                option(resource, "aws:ec2:vpc", "AssociatePublicIpAddress") == ["true"],
            ),
            _ => return None,
        })
    }

    /// The load balancer of a Beanstalk environment; `None` for other types, and without a balancer.
    pub fn balancer(resolved: &Resolved, logical_id: &str) -> Option<Endpoint> {
        let resource = resolved.resource(logical_id)?;
        let is_environment = resource.r#type == "AWS::ElasticBeanstalk::Environment";
        let kind = option(
            resource,
            "aws:elasticbeanstalk:environment",
            "EnvironmentType",
        );
        if !is_environment || kind == ["SingleInstance"] {
            return None;
        }
        let mut security_groups = option(resource, "aws:elbv2:loadbalancer", "SecurityGroups");
        security_groups.extend(option(
            resource,
            "aws:elbv2:loadbalancer",
            "ManagedSecurityGroup",
        ));
        security_groups.sort();
        security_groups.dedup();
        Some(Endpoint::Inside {
            name: format!("{logical_id}'s balancer"),
            subnets: option(resource, "aws:ec2:vpc", "ELBSubnets"),
            security_groups,
            public_address: option(resource, "aws:ec2:vpc", "ELBScheme") != ["internal"],
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Outside(block) if block == "0.0.0.0/0" => f.write_str("the internet"),
            Endpoint::Outside(block) => f.write_str(block),
            Endpoint::Inside { name, .. } => f.write_str(name),
        }
    }
}

/// A Beanstalk option setting, its value split at commas; empty if it is not set.
pub fn option(environment: &ResolvedResource, namespace: &str, name: &str) -> Vec<String> {
    let is = |setting: &serde_json::Value, key: &str, value: &str| {
        setting.get(key).and_then(serde_json::Value::as_str) == Some(value)
    };
    let setting = environment
        .items("/OptionSettings")
        .iter()
        .find(|it| is(it, "Namespace", namespace) && is(it, "OptionName", name));
    let value = setting
        .and_then(|it| it.get("Value"))
        .and_then(crate::resolve::text);
    let value = value.unwrap_or_default();
    value
        .split(',')
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The subnets of a cache by its subnet group.
fn subnet_group(resolved: &Resolved, cache: &ResolvedResource) -> Vec<String> {
    let name = cache.text("/CacheSubnetGroupName").unwrap_or_default();
    resolved
        .of_type("AWS::ElastiCache::SubnetGroup")
        .find(|group| group.physical_id.eq_ignore_ascii_case(&name))
        .map(|group| group.texts("/SubnetIds"))
        .unwrap_or_default()
}

/// Checks that a connection is possible.
///
/// # Errors
/// The first obstacle: egress, then ingress, then routes.
pub fn reachable(
    resolved: &Resolved,
    from: &Endpoint,
    to: &Endpoint,
    protocol: Protocol,
    port: u16,
) -> Result<(), Cut> {
    let network = Network::of(resolved);
    let connection = Connection {
        network: &network,
        from,
        to,
        protocol,
        port,
    };
    connection.check().map_err(|reason| Cut {
        from: from.to_string(),
        to: to.to_string(),
        protocol,
        port,
        reason,
    })
}

struct Connection<'a> {
    network: &'a Network,
    from: &'a Endpoint,
    to: &'a Endpoint,
    protocol: Protocol,
    port: u16,
}

impl Connection<'_> {
    fn check(&self) -> Result<(), String> {
        if let Some(acl) = self.network.acls.first() {
            return Err(format!(
                "network ACL {acl} is not evaluated here: use security groups alone"
            ));
        }
        for end in [self.from, self.to] {
            self.known(end)?;
        }
        if let Endpoint::Inside {
            security_groups, ..
        } = self.from
        {
            self.admits(security_groups, self.to, "egress", "to")?;
        }
        if let Endpoint::Inside {
            security_groups, ..
        } = self.to
        {
            self.admits(security_groups, self.from, "ingress", "from")?;
        }
        match (self.from, self.to) {
            (Endpoint::Inside { .. }, Endpoint::Inside { .. }) => self.same_vpc(),
            (
                Endpoint::Inside {
                    subnets,
                    public_address,
                    ..
                },
                Endpoint::Outside(_),
            ) => subnets
                .iter()
                .try_for_each(|it| self.way_out(it, *public_address)),
            (
                Endpoint::Outside(_),
                Endpoint::Inside {
                    subnets,
                    public_address,
                    name,
                    ..
                },
            ) => {
                if !public_address {
                    return Err(format!("{name} has no public address"));
                }
                subnets.iter().try_for_each(|it| self.gateway(it))
            }
            (Endpoint::Outside(_), Endpoint::Outside(_)) => Ok(()),
        }
    }

    /// Checks that the template has all subnets and groups of an endpoint.
    fn known(&self, end: &Endpoint) -> Result<(), String> {
        let Endpoint::Inside {
            name,
            subnets,
            security_groups,
            ..
        } = end
        else {
            return Ok(());
        };
        if subnets.is_empty() {
            return Err(format!("{name} is in no VPC: give it subnets"));
        }
        if security_groups.is_empty() {
            return Err(format!(
                "{name} has no security group, so AWS gives it the VPC's default group, which admits only its own members: name one"
            ));
        }
        for subnet in subnets {
            if !self.network.subnets.contains_key(subnet) {
                return Err(format!(
                    "subnet `{subnet}` of {name} is not in this template"
                ));
            }
        }
        for group in security_groups {
            if !self.network.groups.contains_key(group) {
                return Err(format!(
                    "security group `{group}` of {name} is not in this template"
                ));
            }
        }
        Ok(())
    }

    /// Checks that one of the groups has a rule for the other end.
    fn admits(
        &self,
        groups: &[String],
        other: &Endpoint,
        direction: &str,
        word: &str,
    ) -> Result<(), String> {
        let groups = groups.iter().filter_map(|id| self.network.groups.get(id));
        let mut names = Vec::new();
        for group in groups {
            let rules = if direction == "egress" {
                &group.egress
            } else {
                &group.ingress
            };
            let open = direction == "egress" && group.default_egress;
            if open || rules.iter().any(|rule| self.fits(rule, other)) {
                return Ok(());
            }
            names.push(group.logical_id.as_str());
        }
        let (noun, verb) = if names.len() == 1 {
            ("group", "has")
        } else {
            ("groups", "have")
        };
        Err(format!(
            "security {noun} {} {verb} no {direction} rule for {} {} {word} {}",
            names.join(" and "),
            self.protocol,
            self.port,
            self.describe(other)
        ))
    }

    fn fits(&self, rule: &Rule, other: &Endpoint) -> bool {
        if !rule.covers(self.protocol, self.port) {
            return false;
        }
        match (&rule.peer, other) {
            (
                Peer::Group(id),
                Endpoint::Inside {
                    security_groups, ..
                },
            ) => security_groups.contains(id),
            (Peer::Block(block), Endpoint::Inside { subnets, .. }) => {
                let Some(block) = Block::parse(block) else {
                    return false;
                };
                subnets.iter().all(|id| {
                    let subnet = self.network.subnets.get(id);
                    let own = subnet.and_then(|subnet| Block::parse(subnet.block.as_deref()?));
                    block.is_everything() || own.is_some_and(|own| block.contains(&own))
                })
            }
            (Peer::Block(block), Endpoint::Outside(other)) => {
                match (Block::parse(block), Block::parse(other)) {
                    (Some(block), Some(other)) => block.contains(&other),
                    _ => block == other,
                }
            }
            _ => false,
        }
    }

    fn describe(&self, end: &Endpoint) -> String {
        match end {
            Endpoint::Outside(_) => end.to_string(),
            Endpoint::Inside {
                security_groups, ..
            } => {
                let name = |id: &String| match self.network.groups.get(id) {
                    Some(group) => group.logical_id.clone(),
                    None => id.clone(),
                };
                security_groups
                    .iter()
                    .map(name)
                    .collect::<Vec<_>>()
                    .join(" or ")
            }
        }
    }

    fn same_vpc(&self) -> Result<(), String> {
        let vpcs = |end: &Endpoint| -> Vec<String> {
            let Endpoint::Inside { subnets, .. } = end else {
                return Vec::new();
            };
            let vpcs = subnets.iter().filter_map(|id| self.network.subnets.get(id));
            vpcs.filter_map(|subnet| subnet.vpc.clone()).collect()
        };
        let (left, right) = (vpcs(self.from), vpcs(self.to));
        match left
            .iter()
            .all(|vpc| right.iter().all(|other| vpc == other))
        {
            true => Ok(()),
            false => {
                Err("they are in different VPCs, and peering is not evaluated here".to_owned())
            }
        }
    }

    /// Checks that a subnet has a route to the internet for an interface with or without a public address.
    fn way_out(&self, subnet: &str, public_address: bool) -> Result<(), String> {
        match self.network.internet_target(subnet) {
            Some(Target::InternetGateway(_)) if public_address => Ok(()),
            Some(Target::InternetGateway(_)) => Err(format!(
                "subnet {} routes to an internet gateway, which needs a public address: add one or a NAT gateway",
                self.subnet_name(subnet)
            )),
            Some(Target::Nat(nat)) => {
                let gateway = self.network.nats.get(nat);
                let onward = gateway.and_then(|subnet| self.network.internet_target(subnet));
                match onward {
                    Some(Target::InternetGateway(_)) => Ok(()),
                    _ => Err(format!(
                        "subnet {} routes to NAT gateway {nat}, whose own subnet has no route to an internet gateway",
                        self.subnet_name(subnet)
                    )),
                }
            }
            Some(Target::Other(target)) => Err(format!(
                "subnet {} routes to {target}",
                self.subnet_name(subnet)
            )),
            None => Err(format!(
                "subnet {} has no route to the internet",
                self.subnet_name(subnet)
            )),
        }
    }

    fn gateway(&self, subnet: &str) -> Result<(), String> {
        match self.network.internet_target(subnet) {
            Some(Target::InternetGateway(_)) => Ok(()),
            _ => Err(format!(
                "subnet {} has no route to an internet gateway",
                self.subnet_name(subnet)
            )),
        }
    }

    fn subnet_name<'n>(&'n self, id: &'n str) -> &'n str {
        self.network
            .subnets
            .get(id)
            .map_or(id, |subnet| &subnet.logical_id)
    }
}
