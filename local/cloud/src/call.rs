//! One request to a service of the cloud, and what every service needs to read it and to answer.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::json;
use uuid::Uuid;

use super::account::Resource;
use super::form::Form;
use super::xml::Xml;
use local::run::Run;

/// A request whose service is known.
#[derive(Clone, Debug)]
pub struct Call {
    /// The service's name in the credential scope, such as `cloudformation`.
    pub service: String,
    /// The region in the credential scope.
    pub region: String,
    /// Whose key signed; never checked against anything.
    pub access_key: String,
    /// HTTP method.
    pub method: Method,
    /// Path and query as they came.
    pub uri: Uri,
    /// Headers as they came.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Call {
    /// The fields of a request in the query protocol: those of the body, or of the URI without one.
    pub fn form(&self) -> Form {
        if self.body.is_empty() {
            Form::parse(self.uri.query().unwrap_or_default().as_bytes())
        } else {
            Form::parse(&self.body)
        }
    }

    /// The protocol of an unknown service, by what its clients send.
    pub fn protocol(&self) -> Protocol {
        let content_type = self.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|it| it.to_str().ok());
        match content_type.unwrap_or_default() {
            _ if self.headers.contains_key("x-amz-target") => Protocol::Json,
            it if it.starts_with("application/x-www-form-urlencoded") => Protocol::Query,
            it if it.contains("json") => Protocol::RestJson,
            it if it.contains("xml") => Protocol::S3,
            // Most services that send no body with a method and a path answer in JSON.
            _ if self.form().get("Action").is_none() => Protocol::RestJson,
            _ => Protocol::Query,
        }
    }

    /// What is asked, in the words of the service's protocol: the action, the target, or method and path.
    pub fn operation(&self) -> String {
        if let Some(target) = self.headers.get("x-amz-target")
            && let Ok(target) = target.to_str()
        {
            return target.rsplit('.').next().unwrap_or(target).to_owned();
        }
        let content_type = self.headers.get(header::CONTENT_TYPE);
        let is_form = content_type
            .and_then(|it| it.to_str().ok())
            .is_some_and(|it| it.starts_with("application/x-www-form-urlencoded"));
        if is_form && let Some(action) = self.form().get("Action") {
            return action.to_owned();
        }
        format!("{} {}", self.method, self.uri.path())
    }
}

/// How a service writes its answers; errors are written in it by [`Failure::response`].
///
/// ("AWS Query protocol", "AWS JSON 1.1 protocol", "AWS restJson1 protocol" and "AWS restXml
/// protocol" of the Smithy specification.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Form in, XML out.
    Query,
    /// Form in, XML out, with EC2's own errors.
    Ec2,
    /// JSON in both ways; `X-Amz-Target` names the operation.
    Json,
    /// JSON in both ways; method and path name the operation.
    RestJson,
    /// S3's XML.
    S3,
}

/// A service of the cloud.
pub trait Service: fmt::Debug + Send + Sync {
    /// Its names in credential scopes; the first one is the usual one.
    fn names(&self) -> &'static [&'static str];

    /// How its errors are written.
    fn protocol(&self) -> Protocol;

    /// Answers one request. Faults were asked before.
    fn answer(&self, call: Call) -> BoxFuture<'_, Response>;

    /// Goes on with what was under way when an earlier run ended; called once, when every service is there.
    fn resume(&self) {}

    /// Ends at once what it does by itself, as a kill would; nothing is written any more.
    fn halt(&self) {}

    /// Ends what runs, in order.
    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Why AWS would refuse to delete a resource now; asked before CloudFormation deletes one.
    fn refuses_deletion(&self, _resource: &Resource) -> Option<String> {
        None
    }

    /// A part of a stack was started or changed: what a call has switched off is switched off again.
    fn run_changed(&self, _stack_id: &str, _run: &Run) {}

    /// CloudFormation has created or changed a resource.
    fn put_resource(&self, _resource: &Resource) {}

    /// A resource goes, and its policy wants a snapshot of it to stay.
    fn snapshot(&self, _resource: &Resource) {}

    /// CloudFormation has deleted a resource, or let go of it.
    fn removed_resource(&self, _resource: &Resource) {}
}

/// An error that a service answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status.
    pub status: StatusCode,
    /// AWS's code, such as `ValidationError`.
    pub code: String,
    /// AWS's words.
    pub message: String,
}

impl Failure {
    /// An error that the caller made: 400.
    pub fn new(code: &str, message: impl Into<String>) -> Failure {
        Failure::with(StatusCode::BAD_REQUEST, code, message)
    }

    /// An error with a status of its own.
    pub fn with(status: StatusCode, code: &str, message: impl Into<String>) -> Failure {
        Failure {
            status,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// An operation that AWS has and this cloud does not: 501.
    pub fn not_here(service: &str, operation: &str) -> Failure {
        Failure::with(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!(
                "local-cloud does not answer `{operation}` of the service `{service}`: only what our own deployment calls"
            ),
        )
    }

    /// The error in a protocol.
    pub fn response(&self, protocol: Protocol) -> Response {
        let id = Uuid::new_v4().to_string();
        let (code, message) = (self.code.as_str(), self.message.as_str());
        match protocol {
            Protocol::Query => {
                let sender = if self.status.is_server_error() {
                    "Receiver"
                } else {
                    "Sender"
                };
                let mut xml = Xml::new("ErrorResponse", None);
                xml.within("Error", |xml| {
                    xml.text("Type", sender)
                        .text("Code", code)
                        .text("Message", message);
                })
                .text("RequestId", &id);
                xml_response(self.status, xml.finish(), &id)
            }
            Protocol::Ec2 => {
                let mut xml = Xml::new("Response", None);
                xml.within("Errors", |xml| {
                    xml.within("Error", |xml| {
                        xml.text("Code", code).text("Message", message);
                    });
                })
                .text("RequestID", &id);
                xml_response(self.status, xml.finish(), &id)
            }
            Protocol::S3 => {
                let mut xml = Xml::new("Error", None);
                xml.text("Code", code)
                    .text("Message", message)
                    .text("RequestId", &id);
                xml_response(self.status, xml.finish(), &id)
            }
            Protocol::Json | Protocol::RestJson => {
                let content_type = match protocol {
                    Protocol::Json => "application/x-amz-json-1.1",
                    _ => "application/json",
                };
                let body = json!({ "__type": code, "message": message }).to_string();
                Response::builder()
                    .status(self.status)
                    .header(header::CONTENT_TYPE, content_type)
                    .header("x-amzn-errortype", code)
                    .header("x-amzn-requestid", id)
                    .body(Body::from(body))
                    .unwrap_or_else(|_| self.status.into_response())
            }
        }
    }
}

/// The answer of the query protocol: `<ActionResponse><ActionResult>…`.
pub fn query_response(namespace: &str, action: &str, result: impl FnOnce(&mut Xml)) -> Response {
    let id = Uuid::new_v4().to_string();
    let mut xml = Xml::new(&format!("{action}Response"), Some(namespace));
    xml.within(&format!("{action}Result"), result)
        .within("ResponseMetadata", |xml| {
            xml.text("RequestId", &id);
        });
    xml_response(StatusCode::OK, xml.finish(), &id)
}

/// An answer in XML.
pub fn xml_response(status: StatusCode, body: String, request_id: &str) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/xml")
        .header("x-amzn-requestid", request_id)
        .body(Body::from(body))
        .unwrap_or_else(|_| status.into_response())
}
