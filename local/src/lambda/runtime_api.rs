//! The Runtime API of one environment: paths, statuses and headers as AWS documents them
//! ("Using the Lambda runtime API for custom runtimes"; the details that the page leaves out are those
//! of AWS's own Runtime Interface Emulator).

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::FunctionError;

/// Bytes of a response at most: 6 MiB and 100 bytes.
pub(super) const MAX_RESPONSE: usize = 6 * 1024 * 1024 + 100;

const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const DEADLINE_MS: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const INVOKED_FUNCTION_ARN: HeaderName =
    HeaderName::from_static("lambda-runtime-invoked-function-arn");
const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-runtime-function-error-type");
const RESPONSE_MODE: HeaderName = HeaderName::from_static("lambda-runtime-function-response-mode");

/// An event for the process.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request_id: String,
    /// Milliseconds since the Unix epoch.
    pub(super) deadline_ms: u64,
    pub(super) event: Bytes,
}

/// What the process says.
#[derive(Debug)]
pub(super) enum Message {
    /// It asks for its first event.
    Ready,
    /// It cannot begin.
    InitError(FunctionError),
    /// It has handled an event.
    Answer {
        request_id: String,
        result: Result<Bytes, FunctionError>,
    },
}

#[derive(Debug)]
struct Api {
    arn: HeaderValue,
    phase: Mutex<Phase>,
    jobs: tokio::sync::Mutex<mpsc::Receiver<Job>>,
    messages: mpsc::UnboundedSender<Message>,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Init,
    Idle,
    Invoking(String),
}

pub(super) async fn serve(
    listener: TcpListener,
    arn: String,
    jobs: mpsc::Receiver<Job>,
    messages: mpsc::UnboundedSender<Message>,
) {
    let api = Api {
        arn: HeaderValue::try_from(arn).unwrap_or(HeaderValue::from_static("")),
        phase: Mutex::new(Phase::Init),
        jobs: tokio::sync::Mutex::new(jobs),
        messages,
    };
    // Without it each answer waits for the acknowledgement of the one before.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    // Ends with its environment; `axum::serve` itself never fails.
    let _ = axum::serve(listener, router(Arc::new(api))).await;
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route(
            "/2018-06-01/runtime/invocation/{id}/response",
            post(response),
        )
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .with_state(api)
}

impl Api {
    fn phase(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the answer to the current invocation, once.
    fn finish(&self, id: &str) -> Result<(), Refusal> {
        let mut phase = self.phase();
        match &*phase {
            Phase::Invoking(current) if current == id => {
                *phase = Phase::Idle;
                Ok(())
            }
            Phase::Invoking(_) => Err(Refusal::InvalidRequestId),
            Phase::Init | Phase::Idle => Err(Refusal::InvalidStateTransition),
        }
    }

    fn answer(&self, request_id: String, result: Result<Bytes, FunctionError>) {
        // Nobody waits any more when the invocation has timed out.
        let _ = self.messages.send(Message::Answer { request_id, result });
    }
}

async fn next(State(api): State<Arc<Api>>) -> Response {
    {
        let mut phase = api.phase();
        match *phase {
            Phase::Init => {
                let _ = api.messages.send(Message::Ready);
                *phase = Phase::Idle;
            }
            Phase::Idle => {}
            Phase::Invoking(_) => return Refusal::InvalidStateTransition.into_response(),
        }
    }
    let Some(job) = api.jobs.lock().await.recv().await else {
        return refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            "the environment has ended",
        );
    };
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(DEADLINE_MS, HeaderValue::from(job.deadline_ms));
    headers.insert(INVOKED_FUNCTION_ARN, api.arn.clone());
    if let Ok(id) = HeaderValue::try_from(&job.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    *api.phase() = Phase::Invoking(job.request_id);
    (headers, job.event).into_response()
}

async fn response(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if headers
        .get(RESPONSE_MODE)
        .is_some_and(|mode| mode != "streaming")
    {
        return refusal(
            StatusCode::BAD_REQUEST,
            "InvalidFunctionResponseMode",
            "Invalid function response mode",
        );
    }
    let body = to_bytes(body, MAX_RESPONSE).await;
    if let Err(refusal) = api.finish(&id) {
        return refusal.into_response();
    }
    match body {
        Ok(body) => {
            api.answer(id, Ok(body));
            accepted()
        }
        Err(error) => {
            let too_large = format!(
                "Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
            );
            // The same type for a body that broke off: the invocation has failed either way.
            tracing::debug!("response of {id}: {error}");
            api.answer(
                id,
                Err(FunctionError::new(
                    "Function.ResponseSizeTooLarge",
                    &*too_large,
                )),
            );
            refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                &too_large,
            )
        }
    }
}

async fn error(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = to_bytes(body, MAX_RESPONSE).await.unwrap_or_default();
    if let Err(refusal) = api.finish(&id) {
        return refusal.into_response();
    }
    api.answer(id, Err(function_error(&headers, &body)));
    accepted()
}

async fn init_error(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    let body = to_bytes(body, MAX_RESPONSE).await.unwrap_or_default();
    if *api.phase() != Phase::Init {
        return Refusal::InvalidStateTransition.into_response();
    }
    let _ = api
        .messages
        .send(Message::InitError(function_error(&headers, &body)));
    accepted()
}

/// The error that a process describes: in the body, or at least its type in the header.
fn function_error(headers: &HeaderMap, body: &[u8]) -> FunctionError {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Described {
        error_message: Option<String>,
        error_type: Option<String>,
    }
    let described: Described = serde_json::from_slice(body).unwrap_or_default();
    let header = headers
        .get(ERROR_TYPE)
        .and_then(|value| value.to_str().ok());
    let error_type = described
        .error_type
        .unwrap_or_else(|| known_type(header.unwrap_or_default()).to_owned());
    FunctionError::new(&error_type, described.error_message.unwrap_or_default())
}

/// What becomes of the header: `Runtime.` or `Function.` and a capitalised word is taken as it is.
fn known_type(text: &str) -> &str {
    let is_known = text
        .strip_prefix("Runtime.")
        .or_else(|| text.strip_prefix("Function."))
        .is_some_and(|word| {
            word.len() > 1
                && word.starts_with(|first: char| first.is_ascii_uppercase())
                && word.bytes().all(|byte| byte.is_ascii_alphabetic())
        });
    match is_known {
        true => text,
        false if text.starts_with("Function.") => "Function.Unknown",
        false => "Runtime.Unknown",
    }
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, axum::Json(json!({ "status": "OK" }))).into_response()
}

/// An answer that comes at the wrong time.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    InvalidRequestId,
    InvalidStateTransition,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::InvalidRequestId => refusal(
                StatusCode::BAD_REQUEST,
                "InvalidRequestID",
                "Invalid request ID",
            ),
            Refusal::InvalidStateTransition => refusal(
                StatusCode::FORBIDDEN,
                "InvalidStateTransition",
                "State transition is not allowed",
            ),
        }
    }
}

fn refusal(status: StatusCode, error_type: &str, message: &str) -> Response {
    (
        status,
        axum::Json(json!({ "errorMessage": message, "errorType": error_type })),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_types_of_the_header_are_checked() {
        for (header, expected) in [
            ("Runtime.ExitError", "Runtime.ExitError"),
            ("Function.Custom", "Function.Custom"),
            ("Function.custom", "Function.Unknown"),
            ("Function.With Space", "Function.Unknown"),
            ("Other", "Runtime.Unknown"),
            ("", "Runtime.Unknown"),
        ] {
            assert_eq!(known_type(header), expected, "{header}");
        }
    }

    #[test]
    fn body_describes_the_error_and_the_header_stands_in() {
        let mut headers = HeaderMap::new();
        headers.insert(ERROR_TYPE, HeaderValue::from_static("Function.Broken"));
        let described = function_error(&headers, br#"{"errorType":"Mine","errorMessage":"no"}"#);
        assert_eq!(described, FunctionError::new("Mine", "no"));
        assert_eq!(function_error(&headers, b"?").error_type, "Function.Broken");
    }
}
