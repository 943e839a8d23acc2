//! EC2: what there is of a network, and the interfaces that functions have in it.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Welcome.html>
//!
//! A function in a network has an interface for each of its subnets. It stays for a while after the
//! function has gone or has left the network ([`Pace::interfaces_linger`]), and as long as it is there
//! neither its subnet nor its security groups can be deleted.
//! ("Giving Lambda functions access to resources in an Amazon VPC".)
//!
//! [`Pace::interfaces_linger`]: super::pace::Pace::interfaces_linger
//!
//! # Differs from AWS
//! - Networks, addresses and gateways are those of the stacks; there is no default network.
//! - Lists have one page.
//! - An interface of a function that has left the network can be deleted at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use tokio::time::Instant;
use uuid::Uuid;

use super::account::{Account, Resource};
use super::call::{Call, Failure, Protocol, Service, xml_response};
use super::form::Form;
use super::switches::Switches;
use super::xml::Xml;

const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";
const FUNCTION: &str = "AWS::Lambda::Function";

/// The service.
#[derive(Debug)]
pub struct Ec2 {
    account: Arc<Account>,
    interfaces: Arc<Interfaces>,
}

/// The functions' network interfaces; shared by `Arc`.
#[derive(Debug)]
pub struct Interfaces {
    switches: Arc<Switches>,
    by_id: Mutex<BTreeMap<String, Interface>>,
}

#[derive(Clone, Debug)]
struct Interface {
    region: String,
    description: String,
    /// The function's name.
    function: String,
    subnet: String,
    groups: Vec<String>,
    /// When it goes by itself; `None` while the function uses it.
    ends: Option<Instant>,
}

impl Interfaces {
    /// None yet. A function that is switched off has left its network.
    pub fn new(switches: Arc<Switches>) -> Arc<Interfaces> {
        Arc::new(Interfaces {
            switches,
            by_id: Mutex::default(),
        })
    }

    /// A function is there with these settings, and in its network or not.
    pub fn place(&self, function: &Resource) {
        let name = &function.physical_id;
        let is_out = self.switches.is_off(FUNCTION, name);
        let network = &function.properties["VpcConfig"];
        let subnets = if is_out {
            Vec::new()
        } else {
            texts(&network["SubnetIds"])
        };
        let groups = texts(&network["SecurityGroupIds"]);
        let mut interfaces = self.lock();
        interfaces.retain(|_, it| {
            it.function != *name
                || it.ends.is_some()
                || (subnets.contains(&it.subnet) && it.groups == groups)
        });
        for subnet in subnets {
            let is_there =
                |it: &Interface| it.function == *name && it.subnet == subnet && it.ends.is_none();
            if interfaces.values().any(is_there) {
                continue;
            }
            let id = format!("eni-{}", &Uuid::new_v4().simple().to_string()[..17]);
            let description = format!("AWS Lambda VPC ENI-{name}-{}", Uuid::new_v4());
            let interface = Interface {
                region: function.region.clone(),
                description,
                function: name.clone(),
                subnet,
                groups: groups.clone(),
                ends: None,
            };
            interfaces.insert(id, interface);
        }
    }

    /// A function is gone or has left its network: its interfaces follow at an instant.
    pub fn release(&self, function: &str, ends: Instant) {
        for interface in self.lock().values_mut() {
            if interface.function == function {
                interface.ends.get_or_insert(ends);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Interface>> {
        let mut interfaces = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        interfaces.retain(|_, it| it.ends.is_none_or(|ends| ends > now));
        interfaces
    }
}

fn texts(list: &Json) -> Vec<String> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    let texts = list.iter().filter_map(Json::as_str);
    texts.map(str::to_owned).collect()
}

impl Ec2 {
    /// The service of an account.
    pub fn new(account: &Arc<Account>, interfaces: &Arc<Interfaces>) -> Ec2 {
        Ec2 {
            account: Arc::clone(account),
            interfaces: Arc::clone(interfaces),
        }
    }

    fn call(&self, call: &Call) -> Result<Response, Failure> {
        let (action, form) = (call.operation(), call.form());
        let region = call.region.as_str();
        let records = match action.as_str() {
            "DescribeVpcs" => {
                let vpcs = self.of_type(region, "AWS::EC2::VPC");
                vpcs.map(|it| Record::of(&it, "vpcId")).collect()
            }
            "DescribeAddresses" => {
                let addresses = self.of_type(region, "AWS::EC2::EIP");
                addresses.map(|it| Record::of(&it, "publicIp")).collect()
            }
            "DescribeNatGateways" => {
                let gateways = self.of_type(region, "AWS::EC2::NatGateway");
                let gateways = gateways.map(|it| Record::of(&it, "natGatewayId"));
                gateways
                    .map(|it| it.with("state", "available"))
                    .collect::<Vec<_>>()
            }
            "DescribeNetworkInterfaces" => self.described(region),
            "DeleteNetworkInterface" => {
                self.delete(form.get("NetworkInterfaceId").unwrap_or_default())?;
                return Ok(answer(&action, |xml| {
                    xml.text("return", "true");
                }));
            }
            _ => return Err(Failure::not_here("ec2", &action)),
        };
        let set = match action.as_str() {
            "DescribeVpcs" => "vpcSet",
            "DescribeAddresses" => "addressesSet",
            "DescribeNatGateways" => "natGatewaySet",
            _ => "networkInterfaceSet",
        };
        let wanted = records.into_iter().filter(|it| it.passes(&form));
        Ok(answer(&action, |xml| {
            xml.within(set, |xml| {
                for record in wanted {
                    xml.within("item", |xml| record.write(xml));
                }
            });
        }))
    }

    fn of_type(&self, region: &str, r#type: &str) -> impl Iterator<Item = Resource> + use<> {
        self.account.of_type(region, r#type).into_iter()
    }

    fn described(&self, region: &str) -> Vec<Record> {
        let interfaces = self.interfaces.lock();
        let there = interfaces.iter().filter(|(_, it)| it.region == region);
        there
            .map(|(id, it)| {
                let status = if it.ends.is_some() {
                    "available"
                } else {
                    "in-use"
                };
                Record {
                    fields: vec![
                        ("networkInterfaceId", id.clone()),
                        ("description", it.description.clone()),
                        ("status", status.to_owned()),
                        ("interfaceType", "lambda".to_owned()),
                        ("subnetId", it.subnet.clone()),
                    ],
                    groups: it.groups.clone(),
                    tags: Vec::new(),
                }
            })
            .collect()
    }

    fn delete(&self, id: &str) -> Result<(), Failure> {
        let mut interfaces = self.interfaces.lock();
        let Some(interface) = interfaces.get(id) else {
            return Err(Failure::new(
                "InvalidNetworkInterfaceID.NotFound",
                format!("The networkInterface ID '{id}' does not exist"),
            ));
        };
        if interface.ends.is_none() {
            return Err(Failure::new(
                "InvalidParameterValue",
                format!("Network interface '{id}' is currently in use."),
            ));
        }
        interfaces.remove(id);
        Ok(())
    }
}

impl Service for Ec2 {
    fn names(&self) -> &'static [&'static str] {
        &["ec2"]
    }

    fn protocol(&self) -> Protocol {
        Protocol::Ec2
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Response> {
        let answer = self.call(&call);
        Box::pin(async move { answer.unwrap_or_else(|it| it.response(Protocol::Ec2)) })
    }

    fn refuses_deletion(&self, resource: &Resource) -> Option<String> {
        let id = &resource.physical_id;
        let why = match resource.r#type.as_str() {
            "AWS::EC2::Subnet" => {
                format!("The subnet '{id}' has dependencies and cannot be deleted.")
            }
            "AWS::EC2::SecurityGroup" => format!("resource {id} has a dependent object"),
            _ => return None,
        };
        let interfaces = self.interfaces.lock();
        let is_used = interfaces
            .values()
            .any(|it| it.subnet == *id || it.groups.contains(id));
        is_used.then(|| {
            format!("{why} (Service: Ec2, Status Code: 400, Error Code: DependencyViolation)")
        })
    }

    fn put_resource(&self, resource: &Resource) {
        if resource.r#type == FUNCTION {
            self.interfaces.place(resource);
        }
    }

    fn removed_resource(&self, resource: &Resource) {
        if resource.r#type == FUNCTION {
            let linger = self.account.settings.pace.interfaces_linger();
            let ends = Instant::now() + linger;
            self.interfaces.release(&resource.physical_id, ends);
        }
    }
}

/// Something in a list.
struct Record {
    fields: Vec<(&'static str, String)>,
    groups: Vec<String>,
    tags: Vec<(String, String)>,
}

impl Record {
    fn of(resource: &Resource, id: &'static str) -> Record {
        let tags = resource.properties["Tags"].as_array();
        let tags = tags.map_or(&[][..], Vec::as_slice).iter();
        let tags = tags.filter_map(|it| {
            Some((
                it["Key"].as_str()?.to_owned(),
                it["Value"].as_str()?.to_owned(),
            ))
        });
        // What CloudFormation puts on everything that it makes.
        let own = ("aws:cloudformation:stack-name", &resource.stack_name);
        Record {
            fields: vec![(id, resource.physical_id.clone())],
            groups: Vec::new(),
            tags: tags.chain([(own.0.to_owned(), own.1.clone())]).collect(),
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Record {
        self.fields.push((name, value.to_owned()));
        self
    }

    /// Whether every filter of the question lets it through; a filter that nobody knows lets nothing.
    fn passes(&self, form: &Form) -> bool {
        form.structures("Filter").iter().all(|filter| {
            let name = filter.get("Name").unwrap_or_default();
            let patterns = filter.texts("Value");
            let is = |value: &str| patterns.iter().any(|pattern| matches(pattern, value));
            if let Some(key) = name.strip_prefix("tag:") {
                return self.tags.iter().any(|(it, value)| it == key && is(value));
            }
            if name == "group-id" {
                return self.groups.iter().any(|it| is(it));
            }
            let name = camel_case(name);
            self.fields
                .iter()
                .any(|(field, value)| *field == name && is(value))
        })
    }

    fn write(&self, xml: &mut Xml) {
        for (name, value) in &self.fields {
            xml.text(name, value);
        }
        xml.within("groupSet", |xml| {
            for group in &self.groups {
                xml.within("item", |xml| {
                    xml.text("groupId", group);
                });
            }
        });
        xml.within("tagSet", |xml| {
            for (key, value) in &self.tags {
                xml.within("item", |xml| {
                    xml.text("key", key).text("value", value);
                });
            }
        });
    }
}

/// Names of filters are written with hyphens, those of fields are not.
fn camel_case(name: &str) -> String {
    let mut words = name.split('-');
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        text.push_str(&first.to_ascii_uppercase());
        text.push_str(rest);
    }
    text
}

/// `*` stands for any characters and `?` for one.
fn matches(pattern: &str, value: &str) -> bool {
    let (pattern, value): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), value.chars().collect());
    let (mut at, mut star, mut retry) = (0, None, 0);
    let mut i = 0;
    while i < value.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some(at);
                retry = i;
                at += 1;
            }
            Some(it) if *it == '?' || *it == value[i] => {
                at += 1;
                i += 1;
            }
            _ => match star {
                None => return false,
                Some(star) => {
                    at = star + 1;
                    retry += 1;
                    i = retry;
                }
            },
        }
    }
    pattern[at..].iter().all(|it| *it == '*')
}

fn answer(action: &str, fill: impl FnOnce(&mut Xml)) -> Response {
    let id = Uuid::new_v4().to_string();
    let mut xml = Xml::new(&format!("{action}Response"), Some(NAMESPACE));
    xml.text("requestId", &id);
    fill(&mut xml);
    xml_response(StatusCode::OK, xml.finish(), &id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_know_wildcards() {
        for (pattern, value, expected) in [
            ("AWS Lambda VPC ENI-a-*", "AWS Lambda VPC ENI-a-1", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b", "a-c", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, value), expected, "{pattern} {value}");
        }
    }

    #[test]
    fn names_of_filters_become_those_of_fields() {
        assert_eq!(camel_case("network-interface-id"), "networkInterfaceId");
        assert_eq!(camel_case("status"), "status");
    }
}
