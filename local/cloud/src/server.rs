//! The one HTTP server in front of all services.
//!
//! A request goes to the service that its signature's credential scope names, with the region that
//! stands beside it: every AWS client writes both there, whatever the endpoint.
//! ("Elements of an AWS API request signature" in the IAM user guide.)

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::call::{Call, Failure, Protocol, Service};

/// Bytes of a body. Clients send larger objects in parts.
const BODY_LIMIT: usize = 256 << 20;

#[derive(Debug)]
struct Front {
    account: Arc<Account>,
    services: Vec<Arc<dyn Service>>,
}

/// Serves until the token is cancelled; requests at hand are answered.
///
/// # Errors
/// The listener's.
pub(super) async fn serve(
    listener: TcpListener,
    account: Arc<Account>,
    services: Vec<Arc<dyn Service>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let router = Router::new()
        .fallback(answer)
        .with_state(Arc::new(Front { account, services }));
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("serve the cloud")
}

/// Binds, or says what is in the way.
///
/// # Errors
/// The address cannot be listened on.
pub(super) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: choose another address for the cloud (--cloud {}:0 takes a free port)", address.ip())
    })
}

async fn answer(State(front): State<Arc<Front>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Some(scope) = scope(&parts) else {
        return Failure::with(
            StatusCode::FORBIDDEN,
            "MissingAuthenticationToken",
            "Missing Authentication Token",
        )
        .response(Protocol::Query);
    };
    let body = match axum::body::to_bytes(body, BODY_LIMIT).await {
        Ok(body) => body,
        Err(error) => {
            return Failure::with(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                format!("the body is longer than {BODY_LIMIT} bytes or broke off: {error}"),
            )
            .response(Protocol::Query);
        }
    };
    let mut call = Call {
        service: scope.service,
        region: scope.region,
        access_key: scope.access_key,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body,
    };
    let service = front
        .services
        .iter()
        .find(|it| it.names().contains(&call.service.as_str()));
    let Some(service) = service else {
        let operation = call.operation();
        tracing::warn!("no service {}: {operation}", call.service);
        return Failure::not_here(&call.service, &operation).response(call.protocol());
    };
    // Faults know a service by one name.
    if let Some(name) = service.names().first() {
        call.service = (*name).to_owned();
    }
    let protocol = service.protocol();
    tracing::debug!("{} {}", call.service, call.operation());
    if let Some(failure) = front.account.settings.faults.before(&call, protocol).await {
        tracing::debug!("{} fault: {}", call.service, failure.code);
        return failure.response(protocol);
    }
    service.answer(call).await
}

struct Scope {
    access_key: String,
    region: String,
    service: String,
}

/// What the signature says of itself, in a header or in the query of a presigned URL.
fn scope(parts: &Parts) -> Option<Scope> {
    let header = parts.headers.get(header::AUTHORIZATION);
    let credential = match header.and_then(|it| it.to_str().ok()) {
        Some(authorization) => {
            let (_, rest) = authorization.split_once("Credential=")?;
            rest.split([',', ' ']).next()?.to_owned()
        }
        None => {
            let query = parts.uri.query()?.as_bytes();
            let (_, value) =
                form_urlencoded::parse(query).find(|(name, _)| name == "X-Amz-Credential")?;
            value.into_owned()
        }
    };
    // From the end, because an access key may hold slashes.
    let mut steps = credential.rsplit('/');
    if steps.next()? != "aws4_request" {
        return None;
    }
    let service = steps.next()?.to_owned();
    let third = steps.next()?;
    // An asymmetric signature names no region in its scope, but in a header of its own.
    let is_date = third.len() == 8 && third.bytes().all(|it| it.is_ascii_digit());
    let region = if is_date {
        let set = parts.headers.get("x-amz-region-set")?.to_str().ok()?;
        set.split(',').next()?.trim().to_owned()
    } else {
        steps.next()?;
        third.to_owned()
    };
    let mut access_key: Vec<&str> = steps.collect();
    access_key.reverse();
    Some(Scope {
        access_key: access_key.join("/"),
        region,
        service,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str, headers: &[(&str, &str)]) -> Option<(String, String, String)> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        scope(&parts).map(|it| (it.access_key, it.region, it.service))
    }

    #[test]
    fn service_and_region_are_those_of_the_credential_scope() {
        let expected = ["AKID", "eu-west-1", "s3"].map(str::to_owned);
        let [key, region, service] = expected;
        let expected = Some((key, region, service));
        let header = "AWS4-HMAC-SHA256 Credential=AKID/20261123/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        assert_eq!(read("/", &[("authorization", header)]), expected);
        let presigned = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20261123%2Feu-west-1%2Fs3%2Faws4_request";
        assert_eq!(read(presigned, &[]), expected);
        let asymmetric =
            "AWS4-ECDSA-P256-SHA256 Credential=AKID/20261123/s3/aws4_request, SignedHeaders=host";
        let set = [
            ("authorization", asymmetric),
            ("x-amz-region-set", "eu-west-1"),
        ];
        assert_eq!(read("/", &set), expected);
    }

    #[test]
    fn unsigned_requests_have_no_scope() {
        assert_eq!(read("/?Action=GetCallerIdentity", &[]), None);
        assert_eq!(read("/", &[("authorization", "Basic eDp5")]), None);
        let cut = "AWS4-HMAC-SHA256 Credential=AKID/20261123";
        assert_eq!(read("/", &[("authorization", cut)]), None);
    }
}
