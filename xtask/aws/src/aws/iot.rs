//! IoT's control plane: where devices connect, and whether topic rules are switched on.
//!
//! <https://docs.aws.amazon.com/iot/latest/apireference/API_Operations_AWS_IoT.html>

use anyhow::Context;
use serde_json::Value as Json;

use crate::aws::signed::{Client, Request, Service};
use crate::aws::{CallFailed, Cloud};

/// A client of IoT's control plane.
#[derive(Clone, Debug)]
pub(crate) struct Iot(Client);

impl Iot {
    pub(crate) fn new(cloud: &Cloud) -> anyhow::Result<Iot> {
        let service = Service {
            id: "IoT",
            name: "iot",
        };
        Ok(Iot(Client::new(&cloud.config, service)?))
    }

    /// The host name of the account's data plane in the region, without a port.
    pub(crate) async fn endpoint(&self) -> anyhow::Result<String> {
        let path = "/endpoint?endpointType=iot%3AData-ATS".to_owned();
        let what = "ask for the address of IoT's data plane";
        let answer = self.0.call(what, request("GET", path)).await?;
        let answer: Json = serde_json::from_str(&answer).context("read IoT's answer")?;
        let address = answer["endpointAddress"].as_str();
        address
            .map(str::to_owned)
            .context("IoT gave no address of its data plane")
    }

    /// Whether a rule is switched on; `None` when there is none of the name.
    pub(crate) async fn is_rule_enabled(&self, name: &str) -> Result<Option<bool>, CallFailed> {
        let what = "look at a topic rule";
        let answer = self.0.call(what, request("GET", rule(name, ""))).await;
        let answer = match answer {
            Err(error) if is_missing(&error) => return Ok(None),
            other => other?,
        };
        let answer: Json = serde_json::from_str(&answer).unwrap_or_default();
        Ok(Some(answer["rule"]["ruleDisabled"] != true))
    }

    /// Switches a rule on or off; returns whether there is one.
    pub(crate) async fn set_rule(&self, name: &str, enabled: bool) -> Result<bool, CallFailed> {
        let (what, verb) = if enabled {
            ("switch a topic rule on", "/enable")
        } else {
            ("switch a topic rule off", "/disable")
        };
        let answer = self.0.call(what, request("POST", rule(name, verb))).await;
        match answer {
            Err(error) if is_missing(&error) => Ok(false),
            other => other.map(|_| true),
        }
    }
}

/// IoT answers "unauthorized" for a rule that does not exist, so that nobody learns which names are
/// taken; a missing permission has another code.
///
/// <https://docs.aws.amazon.com/iot/latest/apireference/API_GetTopicRule.html>
fn is_missing(error: &CallFailed) -> bool {
    matches!(
        error.code.as_deref(),
        Some("ResourceNotFoundException" | "UnauthorizedException")
    )
}

/// Names of rules are letters, digits and underscores: nothing to encode.
fn rule(name: &str, verb: &str) -> String {
    format!("/rules/{name}{verb}")
}

fn request(method: &'static str, path: String) -> Request {
    Request {
        method,
        path,
        content_type: "application/json",
        body: String::new(),
    }
}
