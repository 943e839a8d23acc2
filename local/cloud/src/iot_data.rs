//! IoT's data plane: publishing by HTTP.
//!
//! <https://docs.aws.amazon.com/iot/latest/apireference/API_iotdata_Publish.html>
//!
//! # Differs from AWS
//! - A message goes to every broker that runs in the region: one to a stack.
//! - Shadows, jobs and reading retained messages are not here.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::account::Account;
use super::call::{Call, Failure, Protocol, Service};
use super::iot::rest_json;
use local::iot::Publish;
use local::status::now_ms;

/// "AWS IoT Core message broker and protocol limits and quotas": publish size and topic size.
const MOST_BYTES: usize = 128 * 1024;
const LONGEST_TOPIC: usize = 256;

/// The service.
#[derive(Debug)]
pub struct IotData {
    account: Arc<Account>,
}

impl IotData {
    /// The service of an account.
    pub fn new(account: &Arc<Account>) -> IotData {
        IotData {
            account: Arc::clone(account),
        }
    }

    async fn publish(&self, call: &Call) -> Result<Json, Failure> {
        let topic = call.uri.path().strip_prefix("/topics/");
        let (Some(topic), "POST") = (topic, call.method.as_str()) else {
            return Err(Failure::not_here("iotdata", &call.operation()));
        };
        let topic = percent_decoded(topic);
        let is_filter = topic.contains(['+', '#', '\0']);
        if topic.is_empty() || topic.len() > LONGEST_TOPIC || is_filter {
            return Err(Failure::new(
                "InvalidRequestException",
                format!("'{topic}' is no topic to publish to"),
            ));
        }
        if call.body.len() > MOST_BYTES {
            return Err(Failure::with(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                format!(
                    "the payload has {} bytes, more than {MOST_BYTES}",
                    call.body.len()
                ),
            ));
        }
        let query = call.uri.query().unwrap_or_default().as_bytes();
        let asked = |name: &str| {
            let mut fields = form_urlencoded::parse(query);
            fields.find(|(it, _)| it == name).map(|(_, value)| value)
        };
        let is_confirmed = asked("qos").is_some_and(|it| it == "1");
        let is_retained = asked("retain").is_some_and(|it| it == "true");
        for running in self.account.pipelines(&call.region) {
            let running = running.pipeline.read().await;
            let Some(pipeline) = &*running else { continue };
            let publish = Publish {
                topic: topic.clone(),
                payload: call.body.clone(),
                received: now_ms(),
                // A call by HTTP has neither.
                client_id: Arc::from(""),
                source_ip: Arc::from("127.0.0.1"),
                properties: None,
            };
            let broker = pipeline.broker();
            broker
                .publish_by_http(publish, is_confirmed, is_retained)
                .await;
        }
        Ok(json!({ "message": "OK", "traceId": uuid::Uuid::new_v4().to_string() }))
    }
}

fn percent_decoded(text: &str) -> String {
    // A plus sign stands for itself in a path.
    let text = text.replace('+', "%2B");
    let mut fields = form_urlencoded::parse(text.as_bytes());
    fields
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

impl Service for IotData {
    fn names(&self) -> &'static [&'static str] {
        &["iotdata", "iotdevicegateway"]
    }

    fn protocol(&self) -> Protocol {
        Protocol::RestJson
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match self.publish(&call).await {
                Ok(answer) => rest_json(&answer),
                Err(failure) => failure.response(Protocol::RestJson),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_from_the_path() {
        for (path, topic) in [
            ("topic%2Fsensors%2Fa", "topic/sensors/a"),
            ("topic/sensors/a", "topic/sensors/a"),
            ("a%20b+c%26d%3De", "a b+c&d=e"),
        ] {
            assert_eq!(percent_decoded(path), topic);
        }
    }
}
