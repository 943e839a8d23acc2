//! Settings from environment variables.

use anyhow::bail;
use contract::environment::{self, REDIS_URL};

use crate::connection::Connector;

/// The function's settings.
#[derive(Debug)]
pub struct Config {
    /// Connects to the cache.
    pub cache: Connector,
}

impl Config {
    /// Reads [`environment::FUNCTION`], and [`environment::FUNCTION_CREDENTIALS`] to sign in. Checks that
    /// [`environment::FUNCTION_PLATFORM`] is set, which the Lambda runtime needs.
    ///
    /// # Errors
    /// Variables are missing, all of which are named, or invalid. The message does not repeat a URL, which
    /// may contain a password.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let set = |name: &&&str| variable(name).is_none_or(|value| value.is_empty());
        let missing: Vec<&str> = [REDIS_URL]
            .iter()
            .chain(environment::FUNCTION_PLATFORM)
            .filter(set)
            .copied()
            .collect();
        if !missing.is_empty() {
            bail!(
                "missing environment variables: {}; the template sets {REDIS_URL}, Lambda sets the rest",
                missing.join(", "),
            );
        }
        let cache = Connector::new(&variable(REDIS_URL).unwrap_or_default(), variable)?;
        Ok(Self { cache })
    }
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
            Ok(config) => config.cache.address(),
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
            text.contains("variables: REDIS_URL, AWS_LAMBDA_RUNTIME_API;"),
            "{text}"
        );
    }

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
        let text = check(&[PLATFORM, &[("REDIS_URL", "https://:secret@cache")]].concat());
        assert!(
            text.starts_with("invalid REDIS_URL: expected a Redis URL"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_complete_environment_is_accepted() {
        let text = check(&[PLATFORM, &[("REDIS_URL", "rediss://:secret@cache:6380")]].concat());
        assert_eq!(text, "cache:6380");
    }
}
