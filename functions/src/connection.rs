//! Connections to the cache, and sign-in.
//!
//! Each connection that signs in gets its own token, created with the credentials of the function's role.
//! Lambda sets them in the environment when it starts the process and ends the process before they expire,
//! so only the connection is renewed.

use std::time::SystemTime;

use anyhow::bail;
use contract::environment::{
    AWS_ACCESS_KEY_ID, AWS_REGION, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, FUNCTION_CREDENTIALS,
};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo as _, RedisError};
use sign_in::{Credentials, SignIn, token};
use thiserror::Error;

/// Connects to a cache.
#[derive(Clone, Debug)]
pub struct Connector {
    client: Client,
    login: Option<Login>,
}

/// The user to sign in as, and the credentials.
#[derive(Clone, Debug)]
struct Login {
    sign_in: SignIn,
    region: String,
    credentials: Credentials,
}

/// Why connecting failed.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The cache is unreachable, or the protocol fails.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// The cache refuses the sign-in; it does not say for which reason.
    #[error(
        "cannot sign in to cache {cache} as user {user} with access key {access_key_id}: check that the function's role has elasticache:Connect on both, the cache's user group has the user, and the user's access string begins with `on`"
    )]
    Refused {
        /// ID of the replication group.
        cache: String,
        /// ID of the user.
        user: String,
        /// Access key ID of the credentials.
        access_key_id: String,
    },
}

/// For a server without sign-in, or with a password in the URL.
impl From<Client> for Connector {
    fn from(client: Client) -> Self {
        Self {
            client,
            login: None,
        }
    }
}

impl Connector {
    /// Creates a connector for the server of a URL, with sign-in if the environment has its variables.
    ///
    /// # Errors
    /// The URL is invalid, or only some of the variables for signing in are set.
    /// The message does not repeat the URL, which may contain a password.
    pub fn new(url: &str, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let Ok(client) = client(url) else {
            bail!(
                "invalid {}: expected a Redis URL such as rediss://host:6379",
                contract::environment::REDIS_URL
            );
        };
        let login = match SignIn::from_env(&variable)? {
            Some(sign_in) => Some(Login::from_env(sign_in, variable)?),
            None => None,
        };
        Ok(Self { client, login })
    }

    /// The server's address.
    pub fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Opens a connection and signs in.
    ///
    /// # Errors
    /// The cache is unreachable or refuses the sign-in.
    pub async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, ConnectError> {
        let Some(login) = &self.login else {
            let connecting = self
                .client
                .get_multiplexed_async_connection_with_config(config);
            return Ok(connecting.await?);
        };
        let client = login.client(&self.client, SystemTime::now())?;
        let connecting = client.get_multiplexed_async_connection_with_config(config);
        connecting.await.map_err(|error| login.explain(error))
    }
}

impl Login {
    fn from_env(
        sign_in: SignIn,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let missing: Vec<&str> = FUNCTION_CREDENTIALS
            .iter()
            .filter(|name| variable(name).is_none())
            .copied()
            .collect();
        if !missing.is_empty() {
            bail!(
                "missing environment variables: {}; Lambda sets them, and signing in to the cache as {} needs them",
                missing.join(", "),
                sign_in.user
            );
        }
        let value = |name| variable(name).unwrap_or_default();
        Ok(Self {
            sign_in,
            region: value(AWS_REGION),
            credentials: Credentials::new(
                value(AWS_ACCESS_KEY_ID),
                value(AWS_SECRET_ACCESS_KEY),
                variable(AWS_SESSION_TOKEN),
            ),
        })
    }

    /// The client, with a token for one connection.
    fn client(&self, client: &Client, now: SystemTime) -> Result<Client, RedisError> {
        let info = client.get_connection_info();
        let token = token(&self.sign_in, &self.region, &self.credentials, now);
        let settings = info.redis_settings().clone();
        let settings = settings
            .set_username(&self.sign_in.user)
            .set_password(token);
        Client::open(info.clone().set_redis_settings(settings))
    }

    fn explain(&self, error: RedisError) -> ConnectError {
        if error.kind() != ErrorKind::AuthenticationFailed {
            return error.into();
        }
        ConnectError::Refused {
            cache: self.sign_in.cache.clone(),
            user: self.sign_in.user.clone(),
            access_key_id: self.credentials.access_key_id.clone(),
        }
    }
}

fn client(url: &str) -> redis::RedisResult<Client> {
    let info = url.into_connection_info()?;
    // Without Nagle's algorithm, so that the end of a large command is sent at once.
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    // The client would send its name and version, with a command that the user's access string forbids.
    let redis = info.redis_settings().clone().set_skip_set_lib_name();
    Client::open(info.set_tcp_settings(tcp).set_redis_settings(redis))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAMBDA: &[(&str, &str)] = &[
        ("CACHE_USER", "sensors-dev-function"),
        ("CACHE_NAME", "sen1abc"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "the-key"),
        ("AWS_SESSION_TOKEN", "the-session"),
    ];

    fn connector(variables: &[(&str, &str)]) -> Result<Connector, String> {
        let look_up = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Connector::new("rediss://cache:6380", look_up).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_user_nobody_signs_in() {
        let connector = connector(&LAMBDA[2..]).unwrap();
        assert!(connector.login.is_none());
        assert_eq!(connector.address(), "cache:6380");
    }

    #[test]
    fn half_of_a_sign_in_is_refused() {
        let error = connector(&LAMBDA[1..]).unwrap_err();
        assert!(
            error.starts_with("CACHE_NAME is set and CACHE_USER is not"),
            "{error}"
        );
        let error = connector(&LAMBDA[..4]).unwrap_err();
        assert!(
            error.contains("variables: AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN;"),
            "{error}"
        );
    }

    #[test]
    fn every_connection_gets_a_token_of_its_own() {
        let connector = connector(LAMBDA).unwrap();
        let login = connector.login.as_ref().unwrap();
        let password = |seconds| {
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let client = login.client(&connector.client, at).unwrap();
            let settings = client.get_connection_info().redis_settings().clone();
            assert_eq!(settings.username(), Some("sensors-dev-function"));
            settings.password().unwrap().to_owned()
        };
        assert!(password(0).starts_with("sen1abc/?Action=connect&User=sensors-dev-function&"));
        assert_ne!(password(0), password(1));
    }

    #[test]
    fn neither_token_nor_key_is_shown() {
        let connector = connector(LAMBDA).unwrap();
        let login = connector.login.as_ref().unwrap();
        let client = login.client(&connector.client, SystemTime::now()).unwrap();
        let refused = login.explain(RedisError::from((
            ErrorKind::AuthenticationFailed,
            "Password authentication failed",
        )));
        let shown = format!("{connector:?} {client:?} {refused} {refused:?}");
        assert!(
            shown.contains("sen1abc") && shown.contains("ASIAEXAMPLE"),
            "{shown}"
        );
        for secret in ["the-key", "the-session", "X-Amz-"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
