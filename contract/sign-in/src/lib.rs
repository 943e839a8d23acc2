//! Sign-in to an ElastiCache cache with the credentials of a role, without a stored secret.
//!
//! The password is a token: a presigned request that is never sent. The program signs it without a call to
//! AWS, and it is valid for [`VALIDITY`]. The cache verifies it and checks with IAM that the role has
//! `elasticache:Connect` on cache and user.
//! "Authenticating with IAM" in the Amazon ElastiCache user guide:
//! <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html>.
//!
//! Pure: time and credentials are arguments. `tests/botocore.json` has the tokens of AWS's own signer
//! (botocore) for the same time, credentials and user; these tokens equal them byte for byte.
//!
//! Not supported: serverless caches, whose token has a `ResourceType`; requests with a body or further
//! headers.
//!
//! Layout: [`SignIn`] and [`token`]; [`Credentials`]; `signature` is Signature Version 4, `date` its
//! times; [`Presented`] is a received token.

mod credentials;
mod date;
mod presented;
mod signature;

use std::time::{Duration, SystemTime};

use contract::environment::{CACHE_NAME, CACHE_USER};
use thiserror::Error;

pub use credentials::Credentials;
pub use presented::{Presented, Refusal};
use signature::Request;

/// Time for which a token opens connections; a connection outlives its token.
pub const VALIDITY: Duration = Duration::from_secs(900);

/// A user and the cache to sign in to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// ID of the cache user.
    pub user: String,
    /// ID of the replication group in lower case, as AWS returns it; not its address.
    pub cache: String,
}

/// One of the two variables is set without the other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{set} is set and {missing} is not: set both to sign in to the cache, or neither to connect without signing in"
)]
pub struct OnlyOne {
    set: &'static str,
    missing: &'static str,
}

impl SignIn {
    /// Reads [`CACHE_USER`] and [`CACHE_NAME`]. `None` if neither is set: the program does not sign in.
    ///
    /// # Errors
    /// One is set without the other.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Option<SignIn>, OnlyOne> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let only = |set, missing| Err(OnlyOne { set, missing });
        match (variable(CACHE_USER), variable(CACHE_NAME)) {
            (Some(user), Some(cache)) => Ok(Some(SignIn { user, cache })),
            (None, None) => Ok(None),
            (Some(_), None) => only(CACHE_USER, CACHE_NAME),
            (None, Some(_)) => only(CACHE_NAME, CACHE_USER),
        }
    }
}

/// The password of a connection that is opened within [`VALIDITY`] of `at`.
///
/// It is a secret: use it in the `AUTH` command only.
pub fn token(sign_in: &SignIn, region: &str, credentials: &Credentials, at: SystemTime) -> String {
    let date = date::compact(at);
    let credential = format!(
        "{}/{}",
        credentials.access_key_id,
        signature::scope(&date, region)
    );
    let mut parameters = vec![
        ("Action", "connect"),
        ("User", &sign_in.user),
        ("X-Amz-Algorithm", signature::ALGORITHM),
        ("X-Amz-Credential", &credential),
        ("X-Amz-Date", &date),
        ("X-Amz-Expires", "900"),
        ("X-Amz-SignedHeaders", "host"),
    ];
    if let Some(session_token) = credentials.session_token() {
        parameters.push(("X-Amz-Security-Token", session_token));
    }
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| signature::pair(name, value))
        .collect();
    let request = Request {
        host: &sign_in.cache,
        query: &query,
        date: &date,
        region,
    };
    let signature = signature::hex(request.sign(credentials.secret_access_key()).as_ref());
    format!(
        "{}/?{}&X-Amz-Signature={signature}",
        sign_in.cache,
        query.join("&")
    )
}

/// Parses a time in AWS's formats, `2026-11-23T05:30:00Z` or `20261123T053000Z`, such as the expiration of
/// credentials.
pub fn time(text: &str) -> Option<SystemTime> {
    date::parse(&text.replace(['-', ':'], ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)]) -> Result<Option<SignIn>, String> {
        SignIn::from_env(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn both_variables_sign_in_and_none_does_not() {
        let sign_in = SignIn {
            user: "sensors-dev-webui".to_owned(),
            cache: "sen1abc".to_owned(),
        };
        let both = [
            ("CACHE_USER", "sensors-dev-webui"),
            ("CACHE_NAME", "sen1abc"),
        ];
        assert_eq!(check(&both), Ok(Some(sign_in)));
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&[("CACHE_USER", ""), ("CACHE_NAME", "")]), Ok(None));
    }

    #[test]
    fn one_variable_without_the_other_is_refused() {
        let error = check(&[("CACHE_USER", "a")]).unwrap_err();
        assert!(
            error.starts_with("CACHE_USER is set and CACHE_NAME is not:"),
            "{error}"
        );
        let error = check(&[("CACHE_NAME", "a"), ("CACHE_USER", "")]).unwrap_err();
        assert!(
            error.starts_with("CACHE_NAME is set and CACHE_USER is not:"),
            "{error}"
        );
    }
}
