//! What the environment says.

use anyhow::bail;
use contract::environment::{self, REDIS_URL};
use redis::IntoConnectionInfo as _;

/// The function's settings.
#[derive(Debug)]
pub struct Config {
    /// The cache. Nothing is connected yet.
    pub redis: redis::Client,
}

impl Config {
    /// Reads [`environment::FUNCTION`], and proves the presence of
    /// [`environment::FUNCTION_PLATFORM`], which the Lambda runtime needs.
    ///
    /// # Errors
    /// Names everything that is missing at once. A URL is never repeated, since it may hold a password.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let set = |name: &&&str| variable(name).is_none_or(|value| value.is_empty());
        let missing: Vec<&str> = environment::FUNCTION
            .iter()
            .chain(environment::FUNCTION_PLATFORM)
            .filter(set)
            .copied()
            .collect();
        if !missing.is_empty() {
            bail!(
                "environment variables missing: {}; the template sets {}, Lambda sets the rest",
                missing.join(", "),
                environment::FUNCTION.join(", "),
            );
        }
        let url = variable(REDIS_URL).unwrap_or_default();
        let Ok(redis) = client(&url) else {
            bail!("{REDIS_URL} is not a Redis URL; expected something like rediss://host:6379");
        };
        Ok(Self { redis })
    }
}

fn client(url: &str) -> redis::RedisResult<redis::Client> {
    let info = url.into_connection_info()?;
    // The last piece of a command must not wait until what went before is acknowledged.
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    redis::Client::open(info.set_tcp_settings(tcp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)]) -> String {
        let look_up = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        match Config::from_env(look_up) {
            Ok(config) => config.redis.get_connection_info().addr().to_string(),
            Err(error) => error.to_string(),
        }
    }

    const PLATFORM: &[(&str, &str)] = &[
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "sensors"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
    ];

    #[test]
    fn all_missing_variables_are_named_at_once() {
        let text = check(&PLATFORM[1..]);
        assert!(
            text.contains("missing: REDIS_URL, AWS_LAMBDA_RUNTIME_API;"),
            "{text}"
        );
    }

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
        let text = check(&[PLATFORM, &[("REDIS_URL", "https://:secret@cache")]].concat());
        assert!(text.starts_with("REDIS_URL is not a Redis URL"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_complete_environment_is_taken() {
        let text = check(&[PLATFORM, &[("REDIS_URL", "rediss://:secret@cache:6380")]].concat());
        assert_eq!(text, "cache:6380");
    }
}
