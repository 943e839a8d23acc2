//! Signed calls of services whose SDK would take minutes to compile for a few calls.
//!
//! Signer, retries, HTTP client, credentials and endpoints are the SDK's, so such a call fails, waits and is
//! explained like any other. Only the shapes are ours.

use std::error::Error;
use std::fmt;

use anyhow::Context;
use aws_config::SdkConfig;
use aws_runtime::auth::{SigV4OperationSigningConfig, SigningOptions, sigv4};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{
    HttpStatusCodeClassifier, TransientErrorClassifier,
};
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{
    AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_xml::decode::{Document, ScopedDecoder, try_data};
use aws_types::SigningName;
use aws_types::region::SigningRegion;
use aws_types::service_config::ServiceConfigKey;
use serde_json::Value as Json;

use crate::aws::{CallFailed, failed};

/// Names of a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    /// ID of its model: `AWS_ENDPOINT_URL_<ID>`, in capitals, sets its endpoint.
    pub(crate) id: &'static str,
    /// First label of its host name, and the service in the signature's scope.
    pub(crate) name: &'static str,
}

/// The parts of a request that differ between calls.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    /// Path and query, encoded.
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

/// A client of one service.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    operation: Operation<Request, String, Refusal>,
}

/// Error response of a service.
#[derive(Debug)]
pub(crate) struct Refusal(ErrorMetadata);

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Error for Refusal {}

impl ProvideErrorMetadata for Refusal {
    fn meta(&self) -> &ErrorMetadata {
        &self.0
    }
}

impl Client {
    /// A client with the region, credentials, endpoints and retries of `config`.
    ///
    /// # Errors
    /// `config` has no region or no credentials provider.
    pub(crate) fn new(config: &SdkConfig, service: Service) -> anyhow::Result<Client> {
        let region = config.region().context("no region is set")?;
        let mut layer = Layer::new("signed");
        layer.store_put(SigningRegion::from(region.clone()));
        layer.store_put(SigningName::from_static(service.name));
        layer.store_put(AuthSchemeOptionResolverParams::new(()));
        layer.store_put(SigV4OperationSigningConfig {
            signing_options: SigningOptions::default(),
            ..Default::default()
        });
        let mut components = RuntimeComponentsBuilder::new("signed");
        components.push_auth_scheme(SharedAuthScheme::new(sigv4::SigV4AuthScheme::new()));
        components.set_auth_scheme_option_resolver(Some(SharedAuthSchemeOptionResolver::new(
            StaticAuthSchemeOptionResolver::new(vec![sigv4::SCHEME_ID]),
        )));
        let credentials = config
            .credentials_provider()
            .context("no AWS credentials were found")?;
        components.set_identity_resolver(sigv4::SCHEME_ID, credentials);
        components.set_identity_cache(config.identity_cache());
        if let Some(client) = config.http_client() {
            components.set_http_client(Some(client));
        }
        let plugin = StaticRuntimePlugin::new()
            .with_config(layer.freeze())
            .with_runtime_components(components);
        let mut builder = Operation::builder()
            .service_name(service.id)
            .operation_name(service.id)
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&endpoint(config, service, region.as_ref()))
            .with_connection_poisoning()
            .retry_classifier(HttpStatusCodeClassifier::default())
            .retry_classifier(TransientErrorClassifier::<Refusal>::new())
            .retry_classifier(AwsErrorCodeClassifier::<Refusal>::new())
            .runtime_plugin(plugin);
        if let Some(retries) = config.retry_config() {
            builder = builder.standard_retry(retries);
        }
        if let Some(timeouts) = config.timeout_config() {
            builder = builder.timeout_config(timeouts.clone());
        }
        let operation = builder
            .serializer(|request: Request| Ok(request.into_http()?))
            .deserializer(read)
            .build();
        Ok(Client { operation })
    }

    /// Calls the service and returns the response's text. `what` names the intended action in an error.
    pub(crate) async fn call(
        &self,
        what: &'static str,
        request: Request,
    ) -> Result<String, CallFailed> {
        let answer = self.operation.invoke(request).await;
        answer.map_err(|error| failed(what, error))
    }
}

impl Request {
    fn into_http(self) -> Result<HttpRequest, aws_smithy_runtime_api::http::HttpError> {
        let mut request = HttpRequest::new(SdkBody::from(self.body.as_str()));
        request.set_method(self.method)?;
        request.set_uri(self.path)?;
        let headers = request.headers_mut();
        headers.insert("content-type", self.content_type);
        headers.insert("content-length", self.body.len().to_string());
        Ok(request)
    }
}

/// Endpoint of a service: its own, the one for all services, or Amazon's.
///
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
fn endpoint(config: &SdkConfig, service: Service, region: &str) -> String {
    let own = || {
        let key = ServiceConfigKey::builder()
            .service_id(service.id)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .ok()?;
        config.service_config()?.load_config(key)
    };
    let chosen = own().or_else(|| config.endpoint_url().map(str::to_owned));
    match chosen {
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
        None => {
            let fips = if config.use_fips() == Some(true) {
                "-fips"
            } else {
                ""
            };
            let suffix = if region.starts_with("cn-") {
                "amazonaws.com.cn"
            } else {
                "amazonaws.com"
            };
            format!("https://{}{fips}.{region}.{suffix}", service.name)
        }
    }
}

fn read(response: &HttpResponse) -> Result<String, OrchestratorError<Refusal>> {
    let body = response.body().bytes().unwrap_or_default();
    let body = std::str::from_utf8(body).map_err(OrchestratorError::other)?;
    if response.status().is_success() {
        return Ok(body.to_owned());
    }
    let kind = response.headers().get("x-amzn-errortype");
    Err(OrchestratorError::operation(Refusal(refusal(kind, body))))
}

/// Code and message of an error, in XML or in JSON.
fn refusal(header: Option<&str>, body: &str) -> ErrorMetadata {
    let mut metadata = ErrorMetadata::builder();
    if let Ok(json) = serde_json::from_str::<Json>(body) {
        let code = header.or_else(|| json["__type"].as_str());
        if let Some(code) = code {
            // Some services add a namespace before it, or a URL after it.
            let code = code.split(':').next().unwrap_or(code);
            metadata = metadata.code(code.rsplit('#').next().unwrap_or(code));
        }
        let message = json["message"].as_str().or(json["Message"].as_str());
        if let Some(message) = message {
            metadata = metadata.message(message);
        }
        return metadata.build();
    }
    // EC2 nests its errors one level deeper.
    for path in [&["Error"][..], &["Errors", "Error"]] {
        for error in records(body, path, None, &["Code", "Message"]) {
            let [code, message] = error.as_slice() else {
                continue;
            };
            metadata = metadata.code(code).message(message);
        }
    }
    metadata.build()
}

/// Texts of an element's children.
pub(crate) type Record = Vec<String>;

/// Reads the elements that `path` leads to, from within the root on: of each its children named
/// `item`, or itself for `None`, and of those the texts of `fields`, empty where there is none.
///
/// Elements that cannot be parsed are left out.
pub(crate) fn records(
    xml: &str,
    path: &[&str],
    item: Option<&str>,
    fields: &[&str],
) -> Vec<Record> {
    let mut found = Vec::new();
    let mut document = Document::new(xml);
    if let Ok(mut root) = document.root_element() {
        descend(&mut root, path, item, fields, &mut found);
    }
    found
}

fn descend(
    element: &mut ScopedDecoder<'_, '_>,
    path: &[&str],
    item: Option<&str>,
    fields: &[&str],
    found: &mut Vec<Record>,
) {
    let (wanted, rest) = match (path.split_first(), item) {
        (Some((first, rest)), _) => (*first, Some((rest, item))),
        (None, Some(item)) => (item, Some((path, None))),
        (None, None) => {
            found.push(texts(element, fields));
            return;
        }
    };
    while let Some(mut child) = element.next_tag() {
        if child.start_el().local() == wanted
            && let Some((rest, item)) = rest
        {
            descend(&mut child, rest, item, fields, found);
        }
    }
}

fn texts(element: &mut ScopedDecoder<'_, '_>, fields: &[&str]) -> Record {
    let mut record = vec![String::new(); fields.len()];
    while let Some(mut child) = element.next_tag() {
        let index = fields
            .iter()
            .position(|field| *field == child.start_el().local());
        if let Some(index) = index
            && let Ok(text) = try_data(&mut child)
        {
            record[index] = text.into_owned();
        }
    }
    record
}

/// The text of a child of the element that `path` leads to; `None` when it is missing or empty.
pub(crate) fn text(xml: &str, path: &[&str], name: &str) -> Option<String> {
    let parent = records(xml, path, None, &[name]);
    let text = parent.into_iter().next()?.into_iter().next()?;
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_in_every_dialect() {
        let ec2 = "<Response><Errors><Error><Code>A</Code><Message>m &amp; n</Message></Error></Errors><RequestID>1</RequestID></Response>";
        let query = "<ErrorResponse><Error><Type>Sender</Type><Code>A</Code><Message>m &amp; n</Message></Error></ErrorResponse>";
        let json = r#"{"message": "m & n"}"#;
        let typed = r##"{"__type": "com.amazon#A", "Message": "m & n"}"##;
        for (header, body) in [
            (None, ec2),
            (None, query),
            (Some("A:http://internal.amazon.com/"), json),
            (None, typed),
        ] {
            let error = refusal(header, body);
            assert_eq!(error.code(), Some("A"), "{body}");
            assert_eq!(error.message(), Some("m & n"), "{body}");
        }
    }

    #[test]
    fn answers_that_are_no_answers_are_refusals_without_a_code() {
        for body in ["", "<html><body>502</body></html>", "<a", "{", "[]"] {
            assert_eq!(refusal(None, body).code(), None, "{body}");
        }
    }

    #[test]
    fn records_are_read_at_their_depth_only() {
        let xml = "<R><s><item><id>1</id><tags><item><id>tag</id></item></tags></item><item/><item><id>2</id></item></s><id>0</id><nextToken>n</nextToken></R>";
        let found = records(xml, &["s"], Some("item"), &["id"]);
        assert_eq!(found, [["1"], [""], ["2"]]);
        assert_eq!(text(xml, &[], "nextToken").as_deref(), Some("n"));
        assert_eq!(text(xml, &["s"], "nextToken"), None);
    }
}
