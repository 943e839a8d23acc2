//! Credentials and region of the instance's role, from the instance metadata service, version 2.
//!
//! A request for a token, then three with it: the role's name, its credentials, the region. Kept until
//! shortly before they expire. No call leaves the instance.
//! "Retrieve security credentials from instance metadata" of the EC2 user guide:
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

/// Where every instance finds it, unless its settings say otherwise.
const ENDPOINT: &str = "http://169.254.169.254";

/// All requests together. It answers from the instance's host, in milliseconds or not at all.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Credentials that are good for less are asked for anew; new ones are there five minutes before the old
/// ones expire, by the page above.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// No answer is nearly as long.
const MAX_ANSWER: usize = 64 * 1024;

/// Seconds that a request's token is good for; the requests follow at once.
const TOKEN_SECONDS: &str = "60";

/// What signs: whose credentials, for which region.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) credentials: Credentials,
    pub(crate) region: String,
    expires: SystemTime,
}

impl Session {
    fn is_good_for(&self, time: Duration) -> bool {
        self.expires > SystemTime::now() + time
    }
}

/// The service; clones share what it said.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    endpoint: Uri,
    kept: Arc<Mutex<Option<Session>>>,
}

impl Metadata {
    /// At an endpoint like `http://[fd00:ec2::254]`, else where it usually is. Nothing is asked yet.
    ///
    /// # Errors
    /// The endpoint is no HTTP URL.
    pub(crate) fn new(endpoint: Option<String>) -> Result<Metadata, String> {
        let endpoint = endpoint.unwrap_or_else(|| ENDPOINT.to_owned());
        match endpoint.parse::<Uri>() {
            Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some() => Ok(Metadata {
                endpoint: uri,
                kept: Arc::default(),
            }),
            _ => Err(format!("{endpoint:?}, expected something like {ENDPOINT}")),
        }
    }

    /// The role's credentials, asked for only when those at hand are about to expire.
    ///
    /// # Errors
    /// There is no service, no role, or its answer makes no sense.
    pub(crate) async fn session(&self) -> anyhow::Result<Session> {
        let kept = self.kept().clone();
        if let Some(session) = &kept
            && session.is_good_for(MARGIN)
        {
            return Ok(session.clone());
        }
        let asked = timeout(TIMEOUT, self.ask()).await;
        let asked = asked
            .unwrap_or_else(|_| bail!("no answer within {} s", TIMEOUT.as_secs()))
            .with_context(|| {
                format!(
                    "ask the instance metadata service at {} for the role's credentials",
                    self.endpoint
                )
            });
        match (asked, kept) {
            (Ok(session), _) => {
                *self.kept() = Some(session.clone());
                Ok(session)
            }
            (Err(error), Some(session)) if session.is_good_for(Duration::ZERO) => {
                warn!(
                    error = format!("{error:#}"),
                    "the role's credentials are about to expire"
                );
                Ok(session)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Session>> {
        // Whoever panicked left it whole: it is only ever replaced.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self) -> anyhow::Result<Session> {
        let mut connection = Connection::open(&self.endpoint).await?;
        let token = connection
            .token()
            .await
            .context("get a token, which version 2 of the service wants")?;
        let path = "/latest/meta-data/iam/security-credentials/";
        let role = connection.get(path, &token).await.context(
            "find the instance's role; it has none when its instance profile is missing",
        )?;
        let role = role.lines().next().unwrap_or_default().trim();
        let credentials = connection.get(&format!("{path}{role}"), &token).await;
        let credentials =
            credentials.with_context(|| format!("get the credentials of role {role}"))?;
        let region = connection
            .get("/latest/meta-data/placement/region", &token)
            .await;
        let region = region
            .context("find the instance's region")?
            .trim()
            .to_owned();
        session(&credentials, region)
            .with_context(|| format!("read the credentials of role {role}"))
    }
}

/// What the service answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    code: String,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

fn session(answer: &str, region: String) -> anyhow::Result<Session> {
    // Whatever is wrong with it, its text may hold a key.
    let Ok(answer) = serde_json::from_str::<Answer>(answer) else {
        bail!("the answer is not the JSON that it should be");
    };
    let Answer {
        code,
        access_key_id: Some(id),
        secret_access_key: Some(secret),
        token: Some(token),
        expiration: Some(expiration),
    } = answer
    else {
        bail!(
            "its code is {:?}, expected \"Success\" and credentials; look whether the role of the instance profile still exists and trusts ec2.amazonaws.com",
            answer.code
        );
    };
    if code != "Success" {
        bail!("its code is {code:?}, expected \"Success\"");
    }
    let expires = sign_in::time(&expiration)
        .with_context(|| format!("it expires at {expiration:?}, which is no time"))?;
    Ok(Session {
        credentials: Credentials::new(id, secret, Some(token)),
        region,
        expires,
    })
}

/// One connection, ended with us.
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
            .context("connect to it; it is on EC2 instances only")?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Connection {
            requests,
            host: endpoint
                .authority()
                .map_or_else(String::new, ToString::to_string),
            // How it ends, the requests tell.
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
            .context("make a request")?;
        self.requests.ready().await?;
        let response = self.requests.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let Ok(body) = body else {
            bail!("{path}: the answer broke off or is too long");
        };
        if status != StatusCode::OK {
            bail!("{path} answers {status}");
        }
        match String::from_utf8(body.to_bytes().to_vec()) {
            Ok(text) if !text.trim().is_empty() => Ok(text),
            _ => bail!("{path} answers with nothing that could be read"),
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
    fn credentials_are_read_and_not_shown() {
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
    fn what_makes_no_sense_is_told_without_a_key() {
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
                "\"soon\", which is no time",
            ),
            (
                answer(|_| {}).replace("\"Success\"", "the-key"),
                "not the JSON",
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
