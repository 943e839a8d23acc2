//! Settings from environment variables.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use contract::{environment, http};

use crate::cache::Cache;

/// The server's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on.
    pub address: SocketAddr,
    /// Connects to the cache.
    pub cache: Cache,
    /// Limits on WebSockets.
    pub caps: Caps,
    /// Minimum time between two frames to a browser.
    pub window: Duration,
}

/// Limits on open WebSockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// In total.
    pub total: usize,
    /// Per client address.
    pub per_address: usize,
}

/// The contract's limits, for which the bundle's nginx is configured.
pub const CAPS: Caps = Caps {
    total: http::MAX_CLIENTS,
    per_address: http::MAX_CLIENTS_PER_ADDRESS,
};

/// Default of [`Config::window`].
pub const WINDOW: Duration =
    Duration::from_millis(1_000 / environment::DEFAULT_FRAMES_PER_SECOND as u64);

impl Config {
    /// Reads [`environment::WEBUI`], and [`environment::AWS_EC2_METADATA_SERVICE_ENDPOINT`] to sign in.
    ///
    /// # Errors
    /// All problems in one message. It does not repeat a URL, which may contain a password.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut problems = Vec::new();
        let port = match variable(environment::PORT) {
            None => environment::DEFAULT_PORT,
            Some(text) => text.parse().unwrap_or_else(|_| {
                problems.push(format!(
                    "invalid {} {text:?}: expected a port from 0 to 65535",
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
                        "invalid {} {text:?}: expected a number from 1 to {}",
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
                "invalid {} {interface:?}: expected an IP address such as {}",
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
            "invalid PORT \"http\"",
            "invalid INTERFACE \"eth0\"",
            "invalid FRAMES_PER_SECOND \"0\": expected a number from 1 to 100",
            "missing REDIS_URL",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_incomplete_sign_in_is_refused() {
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
            error.starts_with("invalid AWS_EC2_METADATA_SERVICE_ENDPOINT \"ftp://x\""),
            "{error}"
        );
    }

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
        let error = check(&[("REDIS_URL", "https://:secret@cache")]).unwrap_err();
        assert!(
            error.starts_with("invalid REDIS_URL: expected a Redis URL"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
}
