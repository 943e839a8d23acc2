//! The cache's address, and sign-in.

use std::time::{Duration, SystemTime};

use contract::{environment, timing};
use redis::{Client, ErrorKind, IntoConnectionInfo as _, RedisError};
use sign_in::{SignIn, token};

use crate::metadata::Metadata;

/// Connects to the cache.
#[derive(Clone, Debug)]
pub struct Cache {
    client: Client,
    login: Option<Login>,
    /// Age at which connections are replaced, before the cache closes them.
    pub renewal: Duration,
}

/// The user to sign in as, and the source of the credentials.
#[derive(Clone, Debug)]
struct Login {
    sign_in: SignIn,
    metadata: Metadata,
}

/// For a server without sign-in, or with a password in the URL.
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
    /// Reads the cache's URL, and the variables for signing in if they are set.
    ///
    /// # Errors
    /// All problems of the environment. A message does not repeat a URL, which may contain a password.
    pub(crate) fn from_env(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Cache, Vec<String>> {
        let mut problems = Vec::new();
        let client = match variable(environment::REDIS_URL).map(|url| client(&url)) {
            Some(Ok(client)) => Some(client),
            Some(Err(_)) => {
                problems.push(format!(
                    "invalid {}: expected a Redis URL such as rediss://host:6379",
                    environment::REDIS_URL
                ));
                None
            }
            None => {
                problems.push(format!(
                    "missing {}: expected a Redis URL such as redis://127.0.0.1:6379",
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
                        "invalid {} {error}",
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

    /// A client that connects now, with a token if the program signs in.
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

    /// Adds what to check to a refused sign-in, for which the cache gives no reason.
    pub(crate) fn explain(&self, error: RedisError) -> anyhow::Error {
        match &self.login {
            Some(Login { sign_in, .. }) if error.kind() == ErrorKind::AuthenticationFailed => {
                anyhow::anyhow!(
                    "cannot sign in to cache {} as user {}: check that the instance's role has elasticache:Connect on both, the cache's user group has the user, and the user's access string begins with `on`",
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
    // The client would send its name and version, with a command that the user's access string forbids.
    let redis = info.redis_settings().clone().set_skip_set_lib_name();
    Client::open(info.set_redis_settings(redis))
}
