//! Credentials and region of the instance's role, from the instance metadata service, version 2.
//!
//! One request gets a token, three use it: for the role's name, its credentials and the region. The result
//! is kept until shortly before it expires. No request leaves the instance.
//! "Retrieve security credentials from instance metadata" in the EC2 user guide:
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html>.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use sign_in::Credentials;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::warn;

/// Default endpoint of all instances.
const ENDPOINT: &str = "http://169.254.169.254";

/// Timeout of all requests together. The service runs on the instance's host and answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Credentials are renewed if they expire within this time; by the page above, new ones are available five
/// minutes before the old ones expire.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// Limit of a response, in bytes; real ones are much shorter.
const MAX_RESPONSE: usize = 64 * 1024;

/// Lifetime of a token, in seconds; the requests follow immediately.
const TOKEN_SECONDS: &str = "60";

/// Credentials and region.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) credentials: Credentials,
    pub(crate) region: String,
    expires: SystemTime,
}

impl Session {
    fn is_valid_for(&self, time: Duration) -> bool {
        self.expires > SystemTime::now() + time
    }
}

/// The service; clones share the credentials.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    endpoint: Uri,
    kept: Arc<Mutex<Option<Session>>>,
}

impl Metadata {
    /// Creates a client of an endpoint such as `http://[fd00:ec2::254]`, or of the default endpoint.
    ///
    /// # Errors
    /// The endpoint is not an HTTP URL.
    pub(crate) fn new(endpoint: Option<String>) -> Result<Metadata, String> {
        let endpoint = endpoint.unwrap_or_else(|| ENDPOINT.to_owned());
        match endpoint.parse::<Uri>() {
            Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some() => Ok(Metadata {
                endpoint: uri,
                kept: Arc::default(),
            }),
            _ => Err(format!("{endpoint:?}: expected a URL such as {ENDPOINT}")),
        }
    }

    /// The role's credentials, requested again only if the kept ones are about to expire.
    ///
    /// # Errors
    /// The service is unreachable, the instance has no role, or a response is invalid.
    pub(crate) async fn session(&self) -> anyhow::Result<Session> {
        let kept = self.kept().clone();
        if let Some(session) = &kept
            && session.is_valid_for(MARGIN)
        {
            return Ok(session.clone());
        }
        let asked = timeout(TIMEOUT, self.ask()).await;
        let asked = asked
            .unwrap_or_else(|_| bail!("no response within {} s", TIMEOUT.as_secs()))
            .with_context(|| {
                format!(
                    "cannot get the role's credentials from the instance metadata service at {}",
                    self.endpoint
                )
            });
        match (asked, kept) {
            (Ok(session), _) => {
                *self.kept() = Some(session.clone());
                Ok(session)
            }
            (Err(error), Some(session)) if session.is_valid_for(Duration::ZERO) => {
                warn!(error = format!("{error:#}"), "credentials about to expire");
                Ok(session)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Session>> {
        // A panic cannot leave it half changed: it is only replaced.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self) -> anyhow::Result<Session> {
        let mut connection = Connection::open(&self.endpoint).await?;
        let token = connection
            .token()
            .await
            .context("get a token of version 2 of the service")?;
        let path = "/latest/meta-data/iam/security-credentials/";
        let role = connection
            .get(path, &token)
            .await
            .context("get the instance's role; an instance without an instance profile has none")?;
        let role = role.lines().next().unwrap_or_default().trim();
        let credentials = connection.get(&format!("{path}{role}"), &token).await;
        let credentials =
            credentials.with_context(|| format!("get the credentials of role {role}"))?;
        let region = connection
            .get("/latest/meta-data/placement/region", &token)
            .await;
        let region = region
            .context("get the instance's region")?
            .trim()
            .to_owned();
        session(&credentials, region)
            .with_context(|| format!("parse the credentials of role {role}"))
    }
}

/// The credentials as the service returns them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response {
    code: String,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

fn session(text: &str, region: String) -> anyhow::Result<Session> {
    // The error does not repeat the text, which may contain a key.
    let Ok(response) = serde_json::from_str::<Response>(text) else {
        bail!("invalid response: expected JSON with credentials");
    };
    let Response {
        code,
        access_key_id: Some(id),
        secret_access_key: Some(secret),
        token: Some(token),
        expiration: Some(expiration),
    } = response
    else {
        bail!(
            "invalid code {:?}: expected \"Success\" and credentials; check that the role of the instance profile exists and trusts ec2.amazonaws.com",
            response.code
        );
    };
    if code != "Success" {
        bail!("invalid code {code:?}: expected \"Success\"");
    }
    let expires = sign_in::time(&expiration)
        .with_context(|| format!("invalid expiration {expiration:?}: expected a time"))?;
    Ok(Session {
        credentials: Credentials::new(id, secret, Some(token)),
        region,
        expires,
    })
}

/// A connection to the service, closed on drop.
struct Connection {
    requests: SendRequest<Empty<Bytes>>,
    host: String,
    task: AbortHandle,
}

impl Connection {
    async fn open(endpoint: &Uri) -> anyhow::Result<Connection> {
        let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
        let address = (host, endpoint.port_u16().unwrap_or(80));
        let stream = TcpStream::connect(address)
            .await
            .context("connect; only EC2 instances have the service")?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Connection {
            requests,
            host: endpoint
                .authority()
                .map_or_else(String::new, ToString::to_string),
            // Its errors are those of the requests.
            task: tokio::spawn(async move { drop(connection.await) }).abort_handle(),
        })
    }

    async fn token(&mut self) -> anyhow::Result<String> {
        let header = ("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
        self.request(Method::PUT, "/latest/api/token", header).await
    }

    async fn get(&mut self, path: &str, token: &str) -> anyhow::Result<String> {
        self.request(Method::GET, path, ("x-aws-ec2-metadata-token", token))
            .await
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        (name, value): (&str, &str),
    ) -> anyhow::Result<String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, &self.host)
            .header(name, value)
            .body(Empty::new())
            .context("create a request")?;
        self.requests.ready().await?;
        let response = self.requests.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_RESPONSE)
            .collect()
            .await;
        let Ok(body) = body else {
            bail!("{path}: incomplete or too long response");
        };
        if status != StatusCode::OK {
            bail!("{path}: status {status}");
        }
        match String::from_utf8(body.to_bytes().to_vec()) {
            Ok(text) if !text.trim().is_empty() => Ok(text),
            _ => bail!("{path}: empty response, or not UTF-8"),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(edit: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut answer = serde_json::json!({
            "Code": "Success", "LastUpdated": "2026-11-23T05:00:00Z", "Type": "AWS-HMAC",
            "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "the-key", "Token": "the-session",
            "Expiration": "2026-11-23T11:22:33Z",
        });
        edit(&mut answer);
        answer.to_string()
    }

    #[test]
    fn credentials_are_parsed_and_not_shown() {
        let session = session(&answer(|_| {}), "eu-central-1".to_owned()).unwrap();
        assert_eq!(session.credentials.secret_access_key(), "the-key");
        assert_eq!(session.credentials.session_token(), Some("the-session"));
        let since_epoch = session
            .expires
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(since_epoch.as_secs(), 1_795_432_953);
        let shown = format!("{session:?}");
        assert!(!shown.contains("the-"), "{shown}");
    }

    #[test]
    fn errors_of_an_invalid_response_do_not_repeat_a_key() {
        for (text, expected) in [
            (
                answer(|it| it["Code"] = "AssumeRoleUnauthorizedAccess".into()),
                "AssumeRoleUnauthorizedAccess",
            ),
            (
                answer(|it| it["Token"] = serde_json::Value::Null),
                "expected \"Success\" and credentials",
            ),
            (
                answer(|it| it["Expiration"] = "soon".into()),
                "invalid expiration \"soon\"",
            ),
            (
                answer(|_| {}).replace("\"Success\"", "the-key"),
                "expected JSON",
            ),
        ] {
            let error = session(&text, String::new()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("the-"), "{error}");
        }
    }

    #[test]
    fn endpoints_are_http() {
        for (endpoint, right) in [
            (None, true),
            (Some("http://[fd00:ec2::254]"), true),
            (Some("http://127.0.0.1:1338/"), true),
            (Some("https://169.254.169.254"), false),
            (Some("169.254.169.254"), false),
            (Some("http://"), false),
        ] {
            let metadata = Metadata::new(endpoint.map(str::to_owned));
            assert_eq!(metadata.is_ok(), right, "{endpoint:?}");
        }
    }
}
