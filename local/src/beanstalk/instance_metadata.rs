//! EC2's instance metadata service, version 2: the web UI asks it for the credentials of its role.
//! (Amazon EC2 User Guide: "Use the Instance Metadata Service to access instance metadata".)
//!
//! Each environment has one of its own, on a free port, named to the program by
//! `AWS_EC2_METADATA_SERVICE_ENDPOINT` as every AWS SDK reads it.
//!
//! # Differs from AWS
//! - It knows the role's name and credentials and the region, and nothing else; version 1 is off, as the
//!   templates here have it.
//! - Credentials stay the same, so they always have six hours to go.
//! - Whoever is on this machine may ask; the hop limit means nothing here.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::json;
use sign_in::Credentials;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use uuid::Uuid;

/// Seconds that a token may be good for.
const TOKEN_SECONDS: std::ops::RangeInclusive<u64> = 1..=21_600;

/// Tokens kept at once; whoever asks for so many forgets the earlier ones.
const MAX_TOKENS: usize = 1_000;

const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/";

/// What an instance knows of itself.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Region.
    pub region: String,
    /// Its role's name and credentials; nothing without an instance profile.
    pub role: Option<(String, Credentials)>,
}

/// A running service. Dropped, it ends.
#[derive(Debug)]
pub struct Metadata {
    address: SocketAddr,
    task: AbortHandle,
}

impl Metadata {
    /// Starts it.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(instance: Instance) -> anyhow::Result<Metadata> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("open a port for the instance metadata service")?;
        let address = listener.local_addr()?;
        let service = Arc::new(Service {
            instance,
            tokens: Mutex::default(),
        });
        let app = Router::new().fallback(answer).with_state(service);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!("instance metadata service: {error}");
            }
        });
        Ok(Metadata {
            address,
            task: task.abort_handle(),
        })
    }

    /// What `AWS_EC2_METADATA_SERVICE_ENDPOINT` says.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service {
    instance: Instance,
    /// Token → its end.
    tokens: Mutex<HashMap<String, Instant>>,
}

impl Service {
    fn token(&self, seconds: u64) -> String {
        let token = Uuid::new_v4().simple().to_string();
        let now = Instant::now();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, end| *end > now);
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(token.clone(), now + Duration::from_secs(seconds));
        token
    }

    fn knows(&self, token: &str) -> bool {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(token).is_some_and(|end| *end > Instant::now())
    }

    fn look_up(&self, path: &str) -> Option<String> {
        if path == "/latest/meta-data/placement/region" {
            return Some(self.instance.region.clone());
        }
        let (role, credentials) = self.instance.role.as_ref()?;
        match path.strip_prefix(CREDENTIALS)? {
            "" => Some(role.clone()),
            name if name == role => {
                let now = jiff::Timestamp::now();
                let time = |time: jiff::Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                let answer = json!({
                    "Code": "Success",
                    "LastUpdated": time(now),
                    "Type": "AWS-HMAC",
                    "AccessKeyId": credentials.access_key_id,
                    "SecretAccessKey": credentials.secret_access_key(),
                    "Token": credentials.session_token(),
                    "Expiration": time(now + jiff::SignedDuration::from_hours(6)),
                });
                Some(answer.to_string())
            }
            _ => None,
        }
    }
}

async fn answer(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let no = |status| (status, String::new());
    if uri.path() == "/latest/api/token" {
        if method != Method::PUT {
            return no(StatusCode::METHOD_NOT_ALLOWED);
        }
        // Who is behind a proxy gets none, so that no proxy can be made to ask.
        if headers.contains_key("x-forwarded-for") {
            return no(StatusCode::FORBIDDEN);
        }
        let seconds = header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|it| it.parse().ok());
        return match seconds.filter(|seconds| TOKEN_SECONDS.contains(seconds)) {
            Some(seconds) => (StatusCode::OK, service.token(seconds)),
            None => no(StatusCode::BAD_REQUEST),
        };
    }
    if !header("x-aws-ec2-metadata-token").is_some_and(|token| service.knows(token)) {
        return no(StatusCode::UNAUTHORIZED);
    }
    if method != Method::GET {
        return no(StatusCode::METHOD_NOT_ALLOWED);
    }
    match service.look_up(uri.path()) {
        Some(text) => (StatusCode::OK, text),
        None => no(StatusCode::NOT_FOUND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(role: Option<(String, Credentials)>) -> Arc<Service> {
        let region = "eu-central-1".to_owned();
        Arc::new(Service {
            instance: Instance { region, role },
            tokens: Mutex::default(),
        })
    }

    async fn ask(
        service: &Arc<Service>,
        method: Method,
        path: &'static str,
        header: (&'static str, &str),
    ) -> (u16, String) {
        let mut headers = HeaderMap::new();
        headers.insert(header.0, header.1.parse().unwrap());
        let uri = Uri::from_static(path);
        let (status, text) = answer(State(Arc::clone(service)), method, uri, headers).await;
        (status.as_u16(), text)
    }

    const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
    const TOKEN: &str = "x-aws-ec2-metadata-token";
    const REGION: &str = "/latest/meta-data/placement/region";

    #[tokio::test]
    async fn who_has_a_token_gets_role_credentials_and_region() {
        let credentials = Credentials::new("ASIAX", "key", Some("session".to_owned()));
        let service = service(Some(("WebRole".to_owned(), credentials)));
        let (status, token) = ask(&service, Method::PUT, "/latest/api/token", (TTL, "60")).await;
        assert_eq!(status, 200);
        let get = async |path| ask(&service, Method::GET, path, (TOKEN, &token)).await;
        assert_eq!(get(REGION).await, (200, "eu-central-1".to_owned()));
        assert_eq!(get(CREDENTIALS).await, (200, "WebRole".to_owned()));
        let (status, text) = get("/latest/meta-data/iam/security-credentials/WebRole").await;
        assert_eq!(status, 200);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["AccessKeyId"], "ASIAX");
        assert_eq!(answer["Token"], "session");
        let other = get("/latest/meta-data/iam/security-credentials/Other").await;
        assert_eq!(other.0, 404);
    }

    #[tokio::test]
    async fn who_has_none_gets_nothing() {
        let service = service(None);
        for (seconds, expected) in [("0", 400), ("21601", 400), ("soon", 400), ("21600", 200)] {
            let (status, _) = ask(&service, Method::PUT, "/latest/api/token", (TTL, seconds)).await;
            assert_eq!(status, expected, "{seconds}");
        }
        let (status, _) = ask(&service, Method::GET, REGION, (TOKEN, "made-up")).await;
        assert_eq!(status, 401);
        let (status, _) = ask(&service, Method::GET, "/latest/api/token", (TTL, "60")).await;
        assert_eq!(status, 405);
        // Without an instance profile there is no role.
        let (_, token) = ask(&service, Method::PUT, "/latest/api/token", (TTL, "60")).await;
        let (status, _) = ask(&service, Method::GET, CREDENTIALS, (TOKEN, &token)).await;
        assert_eq!(status, 404);
    }
}
