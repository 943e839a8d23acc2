//! What the environment says.

use std::net::{IpAddr, SocketAddr};

use anyhow::bail;
use contract::{environment, http};

/// The server's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub address: SocketAddr,
    /// The cache. Nothing is connected yet.
    pub redis: redis::Client,
    /// How many WebSockets are let in.
    pub caps: Caps,
}

/// How many WebSockets are let in at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// All of them.
    pub total: usize,
    /// Those of one client address.
    pub per_address: usize,
}

/// What the bundle's nginx is sized for.
pub const CAPS: Caps = Caps {
    total: http::MAX_CLIENTS,
    per_address: http::MAX_CLIENTS_PER_ADDRESS,
};

impl Config {
    /// Reads [`environment::WEBUI`].
    ///
    /// # Errors
    /// Names everything that is wrong at once. A URL is never repeated, since it may hold a password.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let mut problems = Vec::new();
        let port = match variable(environment::PORT) {
            None => environment::DEFAULT_PORT,
            Some(text) => text.parse().unwrap_or_else(|_| {
                problems.push(format!(
                    "{} is {text:?}, expected a port from 0 to 65535",
                    environment::PORT
                ));
                0
            }),
        };
        let interface = variable(environment::INTERFACE);
        let interface = interface
            .as_deref()
            .unwrap_or(environment::DEFAULT_INTERFACE);
        let address = interface.parse::<IpAddr>().map_err(|_| {
            problems.push(format!(
                "{} is {interface:?}, expected an IP address such as {}",
                environment::INTERFACE,
                environment::DEFAULT_INTERFACE
            ));
        });
        let redis = match variable(environment::REDIS_URL) {
            None => {
                problems.push(format!(
                    "{} is not set, expected something like redis://127.0.0.1:6379",
                    environment::REDIS_URL
                ));
                Err(())
            }
            Some(url) => redis::Client::open(url).map_err(|_| {
                problems.push(format!(
                    "{} is not a Redis URL, expected something like rediss://host:6379",
                    environment::REDIS_URL
                ));
            }),
        };
        match (address, redis) {
            (Ok(interface), Ok(redis)) if problems.is_empty() => Ok(Self {
                address: SocketAddr::new(interface, port),
                redis,
                caps: CAPS,
            }),
            _ => bail!("{}", problems.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)]) -> Result<String, String> {
        Config::from_env(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
        .map(|config| config.address.to_string())
        .map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_platform() {
        let address = check(&[("REDIS_URL", "redis://cache")]);
        assert_eq!(address.as_deref(), Ok("0.0.0.0:5000"));
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let error = check(&[("PORT", "http"), ("INTERFACE", "eth0")]).unwrap_err();
        for part in [
            "PORT is \"http\"",
            "INTERFACE is \"eth0\"",
            "REDIS_URL is not set",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
        let error = check(&[("REDIS_URL", "https://:secret@cache")]).unwrap_err();
        assert!(error.starts_with("REDIS_URL is not a Redis URL"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
