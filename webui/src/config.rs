//! What the environment says.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use contract::{environment, http};

use crate::cache::Cache;

/// The server's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub address: SocketAddr,
    /// The cache. Nothing is connected yet.
    pub cache: Cache,
    /// How many WebSockets are let in.
    pub caps: Caps,
    /// Least time between two frames to a browser.
    pub window: Duration,
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

/// Least time between two frames to a browser where nothing else is said.
pub const WINDOW: Duration =
    Duration::from_millis(1_000 / environment::DEFAULT_FRAMES_PER_SECOND as u64);

impl Config {
    /// Reads [`environment::WEBUI`], and [`environment::AWS_EC2_METADATA_SERVICE_ENDPOINT`] when the cache
    /// asks who we are.
    ///
    /// # Errors
    /// Names everything that is wrong at once. A URL is never repeated, since it may hold a password.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
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
        let frames = match variable(environment::FRAMES_PER_SECOND) {
            None => environment::DEFAULT_FRAMES_PER_SECOND,
            Some(text) => match text.parse() {
                Ok(frames @ 1..=environment::MAX_FRAMES_PER_SECOND) => frames,
                _ => {
                    problems.push(format!(
                        "{} is {text:?}, expected a number from 1 to {}",
                        environment::FRAMES_PER_SECOND,
                        environment::MAX_FRAMES_PER_SECOND
                    ));
                    1
                }
            },
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
        let cache = Cache::from_env(variable).map_err(|found| problems.extend(found));
        match (address, cache) {
            (Ok(interface), Ok(cache)) if problems.is_empty() => Ok(Self {
                address: SocketAddr::new(interface, port),
                cache,
                caps: CAPS,
                window: Duration::from_secs(1) / frames,
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
        let variables = [
            ("PORT", "http"),
            ("INTERFACE", "eth0"),
            ("FRAMES_PER_SECOND", "0"),
        ];
        let error = check(&variables).unwrap_err();
        for part in [
            "PORT is \"http\"",
            "INTERFACE is \"eth0\"",
            "FRAMES_PER_SECOND is \"0\", expected a number from 1 to 100",
            "REDIS_URL is not set",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn half_of_a_sign_in_is_refused() {
        let url = ("REDIS_URL", "rediss://cache");
        let error = check(&[url, ("CACHE_USER", "webui")]).unwrap_err();
        assert!(
            error.starts_with("CACHE_USER is set and CACHE_NAME is not"),
            "{error}"
        );
        let both = [url, ("CACHE_USER", "webui"), ("CACHE_NAME", "cache")];
        assert!(check(&both).is_ok());
        let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ftp://x");
        let error = check(&[&both[..], &[endpoint]].concat()).unwrap_err();
        assert!(
            error.starts_with("AWS_EC2_METADATA_SERVICE_ENDPOINT is \"ftp://x\""),
            "{error}"
        );
    }

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
        let error = check(&[("REDIS_URL", "https://:secret@cache")]).unwrap_err();
        assert!(error.starts_with("REDIS_URL is not a Redis URL"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
