//! Lambda: event source mappings switched on and off, and functions taken out of their network.
//!
//! <https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html>,
//! <https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionConfiguration.html>
//!
//! # Differs from AWS
//! - A mapping is switched at once; AWS says `Disabling` or `Enabling` for a minute or so.
//! - Of a function's configuration only the network can be changed, and the running function does not
//!   notice: who may reach what follows the template.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::account::{Account, Resource};
use super::call::{Call, Failure, Protocol, Service};
use super::ec2::Interfaces;
use super::iot::rest_json;
use super::switches::Switches;
use local::run::Run;

const FUNCTION: &str = "AWS::Lambda::Function";
const MAPPING: &str = "AWS::Lambda::EventSourceMapping";

/// The service.
#[derive(Debug)]
pub struct Lambda {
    account: Arc<Account>,
    switches: Arc<Switches>,
    interfaces: Arc<Interfaces>,
}

impl Lambda {
    /// The service of an account.
    pub fn new(
        account: &Arc<Account>,
        switches: &Arc<Switches>,
        interfaces: &Arc<Interfaces>,
    ) -> Lambda {
        Lambda {
            account: Arc::clone(account),
            switches: Arc::clone(switches),
            interfaces: Arc::clone(interfaces),
        }
    }

    async fn call(&self, call: &Call) -> Result<Json, Failure> {
        let path = call.uri.path().trim_matches('/');
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let region = call.region.as_str();
        match (call.method.as_str(), &parts[..]) {
            ("GET", ["event-source-mappings", id]) => {
                let mapping = self.resource(region, MAPPING, id)?;
                Ok(self.mapping(&mapping).await)
            }
            ("PUT", ["event-source-mappings", id]) => {
                let mapping = self.resource(region, MAPPING, id)?;
                let asked = body(call)?;
                if let Some(enabled) = asked["Enabled"].as_bool() {
                    self.switch(&mapping, enabled).await;
                }
                Ok(self.mapping(&mapping).await)
            }
            ("GET", ["functions", name, "configuration"]) => {
                let function = self.resource(region, FUNCTION, name)?;
                Ok(self.function(&function))
            }
            ("GET", ["functions", name]) => {
                let function = self.resource(region, FUNCTION, name)?;
                Ok(json!({ "Configuration": self.function(&function) }))
            }
            ("PUT", ["functions", name, "configuration"]) => {
                let function = self.resource(region, FUNCTION, name)?;
                let asked = body(call)?;
                if let Some(network) = asked.get("VpcConfig") {
                    self.place(&function, network);
                }
                Ok(self.function(&function))
            }
            _ => Err(Failure::not_here("lambda", &call.operation())),
        }
    }

    fn resource(&self, region: &str, r#type: &str, id: &str) -> Result<Resource, Failure> {
        self.account.resource(region, r#type, id).ok_or_else(|| {
            let message = match r#type {
                FUNCTION => format!(
                    "Function not found: arn:aws:lambda:{region}:{}:function:{id}",
                    self.account.id
                ),
                _ => "The resource you requested does not exist.".to_owned(),
            };
            Failure::with(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
        })
    }

    async fn mapping(&self, mapping: &Resource) -> Json {
        let id = &mapping.physical_id;
        let is_off = mapping.properties["Enabled"] == false && !self.switches.is_off("enabled", id)
            || self.switches.is_off(MAPPING, id);
        let mut result = "No records processed".to_owned();
        if let Some(running) = self.account.pipeline(&mapping.stack_id)
            && let Some(run) = &*running.pipeline.read().await
            && let Some(here) = run.mappings().get(&mapping.logical_id)
        {
            result = here.last_processing_result();
        }
        json!({
            "UUID": id,
            "State": if is_off { "Disabled" } else { "Enabled" },
            "LastProcessingResult": result,
            "EventSourceArn": mapping.properties["EventSourceArn"],
            "FunctionArn": mapping.properties["FunctionName"],
            "BatchSize": mapping.properties["BatchSize"],
        })
    }

    async fn switch(&self, mapping: &Resource, enabled: bool) {
        let id = &mapping.physical_id;
        self.switches.set(MAPPING, id, !enabled);
        // What the template itself has switched off can be switched on by a call.
        let against = enabled && mapping.properties["Enabled"] == false;
        self.switches.set("enabled", id, against);
        if let Some(running) = self.account.pipeline(&mapping.stack_id)
            && let Some(run) = &*running.pipeline.read().await
            && let Some(here) = run.mappings().get(&mapping.logical_id)
        {
            here.enable(enabled);
        }
    }

    fn function(&self, function: &Resource) -> Json {
        let name = &function.physical_id;
        let network = &function.properties["VpcConfig"];
        let is_out = self.switches.is_off(FUNCTION, name) || network.is_null();
        let (subnets, groups) = if is_out {
            (json!([]), json!([]))
        } else {
            (
                network["SubnetIds"].clone(),
                network["SecurityGroupIds"].clone(),
            )
        };
        json!({
            "FunctionName": name,
            "FunctionArn": function.attributes.get("Arn"),
            "Role": function.properties["Role"],
            "MemorySize": function.properties["MemorySize"],
            "Timeout": function.properties["Timeout"],
            "Architectures": function.properties["Architectures"],
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "VpcConfig": {
                "SubnetIds": subnets,
                "SecurityGroupIds": groups,
                "VpcId": if is_out { "" } else { "vpc" },
            },
        })
    }

    /// An empty network takes the function out of the one that it is in; any other puts it back.
    fn place(&self, function: &Resource, network: &Json) {
        let subnets = network["SubnetIds"].as_array();
        let is_out = subnets.is_none_or(Vec::is_empty);
        let name = &function.physical_id;
        self.switches.set(FUNCTION, name, is_out);
        if is_out {
            let linger = self.account.settings.pace.interfaces_linger();
            self.interfaces.release(name, Instant::now() + linger);
        } else {
            self.interfaces.place(function);
        }
    }
}

fn body(call: &Call) -> Result<Json, Failure> {
    serde_json::from_slice(&call.body)
        .map_err(|error| Failure::new("InvalidRequestContentException", error.to_string()))
}

impl Service for Lambda {
    fn names(&self) -> &'static [&'static str] {
        &["lambda"]
    }

    fn protocol(&self) -> Protocol {
        Protocol::RestJson
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match self.call(&call).await {
                Ok(answer) => rest_json(&answer),
                Err(failure) => failure.response(Protocol::RestJson),
            }
        })
    }

    fn run_changed(&self, stack_id: &str, run: &Run) {
        let Some(running) = self.account.pipeline(stack_id) else {
            return;
        };
        for mapping in self.account.of_type(&running.region, MAPPING) {
            let is_off = self.switches.is_off(MAPPING, &mapping.physical_id);
            let is_on = self.switches.is_off("enabled", &mapping.physical_id);
            if mapping.stack_id == stack_id
                && (is_off || is_on)
                && let Some(here) = run.mappings().get(&mapping.logical_id)
            {
                here.enable(is_on);
            }
        }
    }

    fn removed_resource(&self, resource: &Resource) {
        if matches!(resource.r#type.as_str(), FUNCTION | MAPPING) {
            self.switches.forget(resource);
            self.switches.set("enabled", &resource.physical_id, false);
        }
    }
}
