//! Where the cache is, and how to be let in.

use std::time::{Duration, SystemTime};

use contract::{environment, timing};
use redis::{Client, ErrorKind, IntoConnectionInfo as _, RedisError};
use sign_in::{SignIn, token};

use crate::metadata::Metadata;

/// The cache. Nothing is connected yet.
#[derive(Clone, Debug)]
pub struct Cache {
    client: Client,
    login: Option<Login>,
    /// Connections are made anew after so long, before the cache ends them.
    pub renewal: Duration,
}

/// Who signs in, and where to find the credentials.
#[derive(Clone, Debug)]
struct Login {
    sign_in: SignIn,
    metadata: Metadata,
}

/// A server that asks nobody, or takes what is in its URL.
impl From<Client> for Cache {
    fn from(client: Client) -> Cache {
        Cache {
            client,
            login: None,
            renewal: timing::CACHE_CONNECTION_RENEWAL,
        }
    }
}

impl Cache {
    /// The server of a URL, signed in to when the environment says so.
    ///
    /// # Errors
    /// What is wrong with the environment, all of it. A URL is never repeated, since it may hold a
    /// password.
    pub(crate) fn from_env(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Cache, Vec<String>> {
        let mut problems = Vec::new();
        let client = match variable(environment::REDIS_URL).map(|url| client(&url)) {
            Some(Ok(client)) => Some(client),
            Some(Err(_)) => {
                problems.push(format!(
                    "{} is not a Redis URL, expected something like rediss://host:6379",
                    environment::REDIS_URL
                ));
                None
            }
            None => {
                problems.push(format!(
                    "{} is not set, expected something like redis://127.0.0.1:6379",
                    environment::REDIS_URL
                ));
                None
            }
        };
        let mut login = None;
        match SignIn::from_env(&variable) {
            Ok(None) => {}
            Ok(Some(sign_in)) => {
                match Metadata::new(variable(environment::AWS_EC2_METADATA_SERVICE_ENDPOINT)) {
                    Ok(metadata) => login = Some(Login { sign_in, metadata }),
                    Err(error) => problems.push(format!(
                        "{} is {error}",
                        environment::AWS_EC2_METADATA_SERVICE_ENDPOINT
                    )),
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
        match client {
            Some(client) if problems.is_empty() => Ok(Cache {
                login,
                ..Cache::from(client)
            }),
            _ => Err(problems),
        }
    }

    /// A client for connections that are made now: with a token, where we sign in.
    ///
    /// # Errors
    /// There are no credentials.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let Some(Login { sign_in, metadata }) = &self.login else {
            return Ok(self.client.clone());
        };
        let session = metadata.session().await?;
        let token = token(
            sign_in,
            &session.region,
            &session.credentials,
            SystemTime::now(),
        );
        let info = self.client.get_connection_info();
        let settings = info.redis_settings().clone();
        let settings = settings.set_username(&sign_in.user).set_password(token);
        Ok(Client::open(info.clone().set_redis_settings(settings))?)
    }

    /// Says what to look at when we are not let in, which the cache does not.
    pub(crate) fn explain(&self, error: RedisError) -> anyhow::Error {
        match &self.login {
            Some(Login { sign_in, .. }) if error.kind() == ErrorKind::AuthenticationFailed => {
                anyhow::anyhow!(
                    "the cache {} does not let user {} in; look whether the instance's role has elasticache:Connect on both, the cache's user group holds the user, and the user's access string begins with `on`",
                    sign_in.cache,
                    sign_in.user,
                )
            }
            _ => error.into(),
        }
    }
}

fn client(url: &str) -> redis::RedisResult<Client> {
    let info = url.into_connection_info()?;
    // The client would tell its name and version, by a command that the web UI's user may not use.
    let redis = info.redis_settings().clone().set_skip_set_lib_name();
    Client::open(info.set_redis_settings(redis))
}
