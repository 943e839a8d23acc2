//! A received token: parsing and verification.
//!
//! ElastiCache does this on AWS, `local` on this machine.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::signature::{self, Request};
use crate::{Credentials, SignIn, VALIDITY, date};

/// Most by which a signer's clock may be ahead.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A parsed token, not yet verified.
#[derive(Debug)]
pub struct Presented<'t> {
    /// The cache in the token.
    pub cache: &'t str,
    /// The user in the token.
    pub user: String,
    /// The region in the token.
    pub region: String,
    /// Access key ID of the credentials that the token claims to be signed with.
    pub access_key_id: String,
    session_token: Option<Hidden<String>>,
    date: String,
    at: SystemTime,
    valid_for: Duration,
    query: Hidden<Vec<String>>,
    signature: Hidden<Vec<u8>>,
}

/// Why a token is refused. Messages repeat no secret part of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The text is not a token.
    #[error("invalid sign-in token: {0}")]
    Malformed(String),
    /// The token is for another cache, user or region.
    #[error("invalid sign-in token for {what} \"{got}\": expected \"{expected}\"")]
    Mismatch {
        /// `cache`, `user` or `region`.
        what: &'static str,
        /// The token's.
        got: String,
        /// The server's.
        expected: String,
    },
    /// The token is expired, or a clock is wrong.
    #[error("expired sign-in token: created at {created}, valid for {} s, now {now}; fix: check the clocks", VALIDITY.as_secs())]
    Expired {
        /// The token's time.
        created: String,
        /// The server's time.
        now: String,
    },
    /// The signature is of other credentials, or the token was changed.
    #[error("invalid sign-in token: its signature is not of access key {0}")]
    Signature(String),
}

impl<'t> Presented<'t> {
    /// Parses a token, its parameters in any order.
    ///
    /// # Errors
    /// It is not a presigned `connect` request.
    pub fn parse(token: &'t str) -> Result<Presented<'t>, Refusal> {
        let malformed = |message: &str| Refusal::Malformed(message.to_owned());
        let (cache, query) = token
            .split_once("/?")
            .ok_or_else(|| malformed("expected CACHE/?Action=connect&…"))?;
        if cache.is_empty() || cache.contains(['/', '\n', ':']) {
            return Err(malformed("expected the cache's name at its start"));
        }
        let mut values = BTreeMap::new();
        let mut signed = Vec::new();
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(name), Some(value)) = (signature::decode(name), signature::decode(value))
            else {
                return Err(malformed("expected percent-encoded UTF-8 parameters"));
            };
            if name != "X-Amz-Signature" {
                signed.push(signature::pair(&name, &value));
            }
            if values.insert(name, value).is_some() {
                return Err(malformed("expected each parameter once"));
            }
        }
        let mut take = |name: &str| {
            let value = values.remove(name);
            value.ok_or_else(|| Refusal::Malformed(format!("expected {name}")))
        };
        let mut fixed = |name: &str, expected: &str| match take(name)? {
            got if got == expected => Ok(()),
            got => Err(Refusal::Malformed(format!(
                "invalid {name} \"{got}\": expected \"{expected}\""
            ))),
        };
        fixed("Action", "connect")?;
        fixed("X-Amz-Algorithm", signature::ALGORITHM)?;
        fixed("X-Amz-SignedHeaders", "host")?;
        let user = take("User")?;
        let date = take("X-Amz-Date")?;
        let at = date::parse(&date).ok_or_else(|| malformed("expected a time in X-Amz-Date"))?;
        let expires = take("X-Amz-Expires")?.parse().ok();
        let valid_for = expires
            .map(Duration::from_secs)
            .filter(|expires| *expires <= VALIDITY)
            .ok_or_else(|| malformed("expected a number up to 900 in X-Amz-Expires"))?;
        let bytes = signature::unhex(&take("X-Amz-Signature")?)
            .ok_or_else(|| malformed("expected hexadecimal digits in X-Amz-Signature"))?;
        let credential = take("X-Amz-Credential")?;
        let session_token = take("X-Amz-Security-Token").ok();
        let parts: Vec<&str> = credential.rsplitn(5, '/').collect();
        let [_, _, region, _, access_key_id] = parts[..] else {
            return Err(malformed(
                "expected KEY/DAY/REGION/elasticache/aws4_request in X-Amz-Credential",
            ));
        };
        if credential != format!("{access_key_id}/{}", signature::scope(&date, region)) {
            return Err(malformed(
                "expected that day and elasticache in X-Amz-Credential",
            ));
        }
        if let Some(name) = values.keys().next() {
            return Err(Refusal::Malformed(format!("unexpected {name}")));
        }
        Ok(Presented {
            cache,
            user,
            region: region.to_owned(),
            access_key_id: access_key_id.to_owned(),
            session_token: session_token.map(Hidden),
            date,
            at,
            valid_for,
            query: Hidden(signed),
            signature: Hidden(bytes),
        })
    }

    /// Verifies that these credentials signed the token for this cache, user and region, and that it is not
    /// expired.
    ///
    /// # Errors
    /// The first mismatch.
    pub fn verify(
        &self,
        expected: &SignIn,
        region: &str,
        credentials: &Credentials,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        for (what, got, expected) in [
            ("cache", self.cache, expected.cache.as_str()),
            ("user", &self.user, &expected.user),
            ("region", &self.region, region),
        ] {
            if got != expected {
                return Err(Refusal::Mismatch {
                    what,
                    got: got.to_owned(),
                    expected: expected.to_owned(),
                });
            }
        }
        let request = Request {
            host: self.cache,
            query: &self.query.0,
            date: &self.date,
            region,
        };
        // The session token is signed as well, so a comparison that stops early leaks nothing useful.
        let session = self.session_token.as_ref().map(|token| token.0.as_str());
        if self.access_key_id != credentials.access_key_id
            || session != credentials.session_token()
            || !request.is_signed_by(credentials.secret_access_key(), &self.signature.0)
        {
            return Err(Refusal::Signature(self.access_key_id.clone()));
        }
        let too_early = self.at > now + CLOCK_SKEW;
        if too_early || now > self.at + self.valid_for {
            return Err(Refusal::Expired {
                created: self.date.clone(),
                now: date::compact(now),
            });
        }
        Ok(())
    }
}

/// A value that `Debug` does not show.
struct Hidden<T>(T);

impl<T> std::fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}
