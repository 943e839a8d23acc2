//! Elastic Beanstalk: its platforms, and how environments are.
//!
//! <https://docs.aws.amazon.com/elasticbeanstalk/latest/api/Welcome.html>
//!
//! # Differs from AWS
//! - There is one platform branch, "Go 1 running on 64bit Amazon Linux 2023", with three versions.
//! - An environment is healthy when its web process runs; instances are not looked into.
//! - Environments are made and changed by CloudFormation only.

use std::sync::Arc;

use axum::response::Response;
use futures_util::future::BoxFuture;

use super::account::{Account, Resource};
use super::call::{Call, Failure, Protocol, Service, query_response};
use super::form::Form;
use super::xml::Xml;

const NAMESPACE: &str = "http://elasticbeanstalk.amazonaws.com/docs/2010-12-01/";
const ENVIRONMENT: &str = "AWS::ElasticBeanstalk::Environment";
const BRANCH: &str = "Go 1 running on 64bit Amazon Linux 2023";

/// Versions of the branch, the newest first, and their lifecycle states: AWS marks the one that it
/// recommends, which need not be the newest, and leaves the others without a state.
const VERSIONS: [(&str, &str); 3] = [("4.5.1", ""), ("4.5.0", "recommended"), ("4.4.3", "")];

/// Writes an answer.
type Fill = Box<dyn FnOnce(&mut Xml) + Send>;

/// The service.
#[derive(Debug)]
pub struct ElasticBeanstalk {
    account: Arc<Account>,
}

impl ElasticBeanstalk {
    /// The service of an account.
    pub fn new(account: &Arc<Account>) -> ElasticBeanstalk {
        ElasticBeanstalk {
            account: Arc::clone(account),
        }
    }

    async fn call(&self, call: &Call) -> Result<Response, Failure> {
        let (action, form) = (call.operation(), call.form());
        let fill: Fill = match action.as_str() {
            "ListPlatformVersions" => {
                let region = call.region.clone();
                Box::new(move |xml| platforms(xml, &region, &form))
            }
            "DescribePlatformVersion" => described(&call.region, &form)?,
            "DescribeEnvironments" => {
                let environments = self.environments(&call.region, &form).await;
                Box::new(move |xml| {
                    xml.members("Environments", environments, |xml, it| {
                        it.describe(xml);
                    });
                })
            }
            "DescribeEnvironmentHealth" => {
                let environment = self.environment(&call.region, &form).await?;
                Box::new(move |xml| environment.health(xml))
            }
            "DescribeInstancesHealth" => {
                self.environment(&call.region, &form).await?;
                Box::new(|xml| {
                    xml.within("InstanceHealthList", |_| {});
                })
            }
            "DescribeEvents" => self.events(&form),
            _ => return Err(Failure::not_here("elasticbeanstalk", &action)),
        };
        Ok(query_response(NAMESPACE, &action, fill))
    }

    async fn environments(&self, region: &str, form: &Form) -> Vec<Environment> {
        let names = form.texts("EnvironmentNames");
        let ids = form.texts("EnvironmentIds");
        let application = form.get("ApplicationName");
        let mut found = Vec::new();
        for resource in self.account.of_type(region, ENVIRONMENT) {
            let environment = self.look_at(resource).await;
            let is_asked = (names.is_empty() || names.contains(&environment.name.as_str()))
                && (ids.is_empty() || ids.contains(&environment.id().as_str()))
                && application.is_none_or(|it| environment.application() == it);
            if is_asked {
                found.push(environment);
            }
        }
        found
    }

    async fn environment(&self, region: &str, form: &Form) -> Result<Environment, Failure> {
        let name = form.get("EnvironmentName").unwrap_or_default();
        match self.account.resource(region, ENVIRONMENT, name) {
            Some(resource) => Ok(self.look_at(resource).await),
            None => Err(Failure::new(
                "InvalidParameterValue",
                format!("No Environment found for EnvironmentName = '{name}'."),
            )),
        }
    }

    async fn look_at(&self, resource: Resource) -> Environment {
        let mut address = None;
        if let Some(running) = self.account.pipeline(&resource.stack_id)
            && let Some(pipeline) = &*running.pipeline.read().await
        {
            let environments = pipeline.environments();
            let environment = environments.get(&resource.logical_id);
            address = environment.map(|it| it.address().to_string());
        }
        let runs = address.is_some() || !self.account.settings.run;
        Environment {
            name: resource.physical_id.clone(),
            address,
            runs,
            resource,
        }
    }

    fn events(&self, form: &Form) -> Fill {
        let name = form.get("EnvironmentName").unwrap_or_default().to_owned();
        let least = severity(form.get("Severity").unwrap_or("TRACE"));
        let most = form.get("MaxRecords").and_then(|it| it.parse().ok());
        let mut events = self.account.environment_events(&name);
        events.retain(|event| severity(event.severity) >= least);
        // The newest first.
        events.reverse();
        events.truncate(most.unwrap_or(100));
        Box::new(move |xml| {
            xml.members("Events", events, |xml, event| {
                xml.text("EventDate", &event.at.to_string())
                    .text("Message", &event.message)
                    .text("EnvironmentName", &name)
                    .text("Severity", event.severity);
            });
        })
    }
}

impl Service for ElasticBeanstalk {
    fn names(&self) -> &'static [&'static str] {
        &["elasticbeanstalk"]
    }

    fn protocol(&self) -> Protocol {
        Protocol::Query
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let answer = self.call(&call).await;
            answer.unwrap_or_else(|failure| failure.response(Protocol::Query))
        })
    }
}

/// An environment at one moment.
struct Environment {
    name: String,
    address: Option<String>,
    runs: bool,
    resource: Resource,
}

impl Environment {
    fn application(&self) -> &str {
        let name = &self.resource.properties["ApplicationName"];
        name.as_str().unwrap_or_default()
    }

    /// Made from the name, so that it stays the same.
    fn id(&self) -> String {
        let sum = self.name.bytes().fold(0_u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        format!("e-{:010x}", sum & 0xff_ffff_ffff)
    }

    fn describe(&self, xml: &mut Xml) {
        let text = |name: &str| self.resource.properties[name].as_str();
        let (health, status) = self.words();
        xml.text("EnvironmentName", &self.name)
            .text("EnvironmentId", &self.id())
            .text("ApplicationName", self.application())
            .maybe("VersionLabel", text("VersionLabel"))
            .maybe("PlatformArn", text("PlatformArn"))
            .maybe("EndpointURL", self.address.as_deref())
            .maybe("CNAME", self.address.as_deref())
            .text("Status", "Ready")
            .text("Health", health)
            .text("HealthStatus", status)
            .text("AbortableOperationInProgress", "false");
    }

    fn health(&self, xml: &mut Xml) {
        let (color, status) = self.words();
        let causes: &[&str] = if self.runs {
            &[]
        } else {
            &["None of the instances are sending data."]
        };
        xml.text("EnvironmentName", &self.name)
            .text("HealthStatus", status)
            .text("Status", "Ready")
            .text("Color", color)
            .texts("Causes", causes);
    }

    fn words(&self) -> (&'static str, &'static str) {
        if self.runs {
            ("Green", "Ok")
        } else {
            ("Grey", "NoData")
        }
    }
}

fn arn(region: &str, version: &str) -> String {
    format!("arn:aws:elasticbeanstalk:{region}::platform/{BRANCH}/{version}")
}

/// Filters are by equality alone, which is what a type of `=` means.
fn platforms(xml: &mut Xml, region: &str, form: &Form) {
    let filters = form.structures("Filters");
    let is_wanted = |version: &str, state: &str| {
        filters.iter().all(|filter| {
            let is = match filter.get("Type").unwrap_or_default() {
                "PlatformBranchName" => BRANCH,
                "PlatformStatus" => "Ready",
                "PlatformVersion" => version,
                "PlatformLifecycleState" => state,
                _ => return true,
            };
            filter.texts("Values").contains(&is)
        })
    };
    let wanted = VERSIONS
        .into_iter()
        .filter(|(version, state)| is_wanted(version, state));
    xml.members("PlatformSummaryList", wanted, |xml, (version, state)| {
        xml.text("PlatformArn", &arn(region, version))
            .text("PlatformOwner", "AWSElasticBeanstalk")
            .text("PlatformStatus", "Ready")
            .text("PlatformCategory", "Go")
            .text("OperatingSystemName", "Amazon Linux")
            .text("OperatingSystemVersion", "2023")
            .text("PlatformVersion", version)
            .text("PlatformBranchName", BRANCH)
            .text("PlatformLifecycleState", state)
            .text("PlatformBranchLifecycleState", "Supported");
    });
}

fn described(region: &str, form: &Form) -> Result<Fill, Failure> {
    let asked = form.get("PlatformArn").unwrap_or_default();
    let known = VERSIONS
        .into_iter()
        .find(|(version, _)| arn(region, version) == asked);
    let (version, state) = known.ok_or_else(|| {
        Failure::new(
            "ElasticBeanstalkServiceException",
            format!("Platform with arn '{asked}' does not exist."),
        )
    })?;
    let asked = asked.to_owned();
    Ok(Box::new(move |xml| {
        xml.within("PlatformDescription", |xml| {
            xml.text("PlatformArn", &asked)
                .text("PlatformStatus", "Ready")
                .text("PlatformVersion", version)
                .text("PlatformBranchName", BRANCH)
                .text("PlatformLifecycleState", state);
        });
    }))
}

/// Severities in order: `TRACE` is the least.
fn severity(name: &str) -> usize {
    let order = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    order.iter().position(|it| *it == name).unwrap_or(0)
}
