//! IoT's control plane: where devices connect, and topic rules switched on and off.
//!
//! <https://docs.aws.amazon.com/iot/latest/apireference/API_Operations_AWS_IoT.html>
//!
//! # Differs from AWS
//! - The address of the data plane is this cloud's own, without TLS.
//! - Rules are made and changed by CloudFormation only.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::account::{Account, Resource};
use super::call::{Call, Failure, Protocol, Service};
use super::switches::Switches;
use local::run::Run;

const RULE: &str = "AWS::IoT::TopicRule";

/// The service.
#[derive(Debug)]
pub struct Iot {
    account: Arc<Account>,
    switches: Arc<Switches>,
}

impl Iot {
    /// The service of an account.
    pub fn new(account: &Arc<Account>, switches: &Arc<Switches>) -> Iot {
        Iot {
            account: Arc::clone(account),
            switches: Arc::clone(switches),
        }
    }

    async fn call(&self, call: &Call) -> Result<Json, Failure> {
        let path = call.uri.path().trim_end_matches('/');
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (call.method.as_str(), &parts[..]) {
            ("GET", ["endpoint"]) => {
                let endpoint = &self.account.settings.endpoint;
                let address = endpoint.split_once("://").map_or(&**endpoint, |it| it.1);
                Ok(json!({ "endpointAddress": address }))
            }
            ("GET", ["rules", name]) => {
                let rule = self.rule(&call.region, name)?;
                Ok(self.described(&rule))
            }
            ("POST", ["rules", name, verb @ ("enable" | "disable")]) => {
                let rule = self.rule(&call.region, name)?;
                self.switch(&rule, *verb == "disable").await;
                Ok(Json::Null)
            }
            _ => Err(Failure::not_here("iot", &call.operation())),
        }
    }

    /// AWS does not tell a rule that is not there from one that may not be seen.
    fn rule(&self, region: &str, name: &str) -> Result<Resource, Failure> {
        self.account.resource(region, RULE, name).ok_or_else(|| {
            Failure::with(
                StatusCode::UNAUTHORIZED,
                "UnauthorizedException",
                format!("Access to TopicRule '{name}' was denied"),
            )
        })
    }

    fn described(&self, rule: &Resource) -> Json {
        let name = &rule.physical_id;
        let payload = &rule.properties["TopicRulePayload"];
        let is_disabled = payload["RuleDisabled"] == true || self.switches.is_off(RULE, name);
        json!({
            "ruleArn": rule.attributes.get("Arn"),
            "rule": {
                "ruleName": name,
                "sql": payload["Sql"],
                "awsIotSqlVersion": payload["AwsIotSqlVersion"],
                "ruleDisabled": is_disabled,
            },
        })
    }

    async fn switch(&self, rule: &Resource, is_off: bool) {
        self.switches.set(RULE, &rule.physical_id, is_off);
        if let Some(running) = self.account.pipeline(&rule.stack_id)
            && let Some(pipeline) = &*running.pipeline.read().await
        {
            pipeline.rules().disable(&rule.physical_id, is_off);
        }
    }
}

impl Service for Iot {
    fn names(&self) -> &'static [&'static str] {
        &["iot", "execute-api"]
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
        for name in &run.rules().names() {
            let of_stack = |region: &str| {
                let rule = self.account.resource(region, RULE, name);
                rule.is_some_and(|it| it.stack_id == stack_id)
            };
            let is_off = self.switches.is_off(RULE, name);
            if is_off
                && self
                    .account
                    .pipeline(stack_id)
                    .is_some_and(|it| of_stack(&it.region))
            {
                run.rules().disable(name, true);
            }
        }
    }

    fn removed_resource(&self, resource: &Resource) {
        if resource.r#type == RULE {
            self.switches.forget(resource);
        }
    }
}

/// An answer of a REST service in JSON; null is an empty body.
pub(super) fn rest_json(answer: &Json) -> Response {
    if answer.is_null() {
        return StatusCode::OK.into_response();
    }
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (content_type, Body::from(answer.to_string())).into_response()
}
