//! A token as whoever receives it sees it: what it says, and whether to believe it.
//!
//! ElastiCache does this on AWS; here the local run does.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::signature::{self, Request};
use crate::{Credentials, SignIn, VALIDITY, date};

/// A signer's clock may be so far ahead.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A token taken apart, not yet believed.
#[derive(Debug)]
pub struct Presented<'t> {
    /// The cache that it names.
    pub cache: &'t str,
    /// The user that it names.
    pub user: String,
    /// The region that it was signed for.
    pub region: String,
    /// Public part of the credentials that it claims to be signed with.
    pub access_key_id: String,
    session_token: Option<Hidden<String>>,
    date: String,
    at: SystemTime,
    valid_for: Duration,
    query: Hidden<Vec<String>>,
    signature: Hidden<Vec<u8>>,
}

/// Why a token is not believed. Nothing of the token is repeated but what is public.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is no token at all.
    #[error("the password is not a sign-in token: {0}")]
    Malformed(String),
    /// It is for something else.
    #[error("the token is for {what} `{got}`, expected `{expected}`")]
    Elsewhere {
        /// What it is about.
        what: &'static str,
        /// What the token says.
        got: String,
        /// What it should say.
        expected: String,
    },
    /// It was made too long ago, or by a clock that is wrong.
    #[error("the token was made at {made} and is good for {} s; it is {now} now: look at the clocks", VALIDITY.as_secs())]
    OutOfTime {
        /// When, as it says.
        made: String,
        /// The time here.
        now: String,
    },
    /// Somebody else made it, or it was changed.
    #[error("the token's signature is not one of access key {0}")]
    Forged(String),
}

impl<'t> Presented<'t> {
    /// Takes a token apart, whatever the order of its parameters.
    ///
    /// # Errors
    /// It is not a presigned `connect`.
    pub fn parse(token: &'t str) -> Result<Presented<'t>, Refusal> {
        let malformed = |message: &str| Refusal::Malformed(message.to_owned());
        let (cache, query) = token
            .split_once("/?")
            .ok_or_else(|| malformed("expected CACHE/?Action=connect&…"))?;
        if cache.is_empty() || cache.contains(['/', '\n', ':']) {
            return Err(malformed("it does not begin with the cache's name"));
        }
        let mut values = BTreeMap::new();
        let mut signed = Vec::new();
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(name), Some(value)) = (signature::decode(name), signature::decode(value))
            else {
                return Err(malformed("a parameter is not percent-encoded UTF-8"));
            };
            if name != "X-Amz-Signature" {
                signed.push(signature::pair(&name, &value));
            }
            if values.insert(name, value).is_some() {
                return Err(malformed("a parameter stands in it twice"));
            }
        }
        let mut take = |name: &str| {
            let value = values.remove(name);
            value.ok_or_else(|| Refusal::Malformed(format!("it has no {name}")))
        };
        let mut fixed = |name: &str, expected: &str| match take(name)? {
            got if got == expected => Ok(()),
            got => Err(Refusal::Malformed(format!(
                "{name} is `{got}`, expected `{expected}`"
            ))),
        };
        fixed("Action", "connect")?;
        fixed("X-Amz-Algorithm", signature::ALGORITHM)?;
        fixed("X-Amz-SignedHeaders", "host")?;
        let user = take("User")?;
        let date = take("X-Amz-Date")?;
        let at = date::parse(&date).ok_or_else(|| malformed("X-Amz-Date is no time"))?;
        let expires = take("X-Amz-Expires")?.parse().ok();
        let valid_for = expires
            .map(Duration::from_secs)
            .filter(|expires| *expires <= VALIDITY)
            .ok_or_else(|| malformed("X-Amz-Expires is not a number up to 900"))?;
        let bytes = signature::unhex(&take("X-Amz-Signature")?)
            .ok_or_else(|| malformed("X-Amz-Signature is not hexadecimal"))?;
        let credential = take("X-Amz-Credential")?;
        let session_token = take("X-Amz-Security-Token").ok();
        let parts: Vec<&str> = credential.rsplitn(5, '/').collect();
        let [_, _, region, _, access_key_id] = parts[..] else {
            return Err(malformed(
                "X-Amz-Credential is not KEY/DAY/REGION/elasticache/aws4_request",
            ));
        };
        if credential != format!("{access_key_id}/{}", signature::scope(&date, region)) {
            return Err(malformed(
                "X-Amz-Credential is not of that day and of elasticache",
            ));
        }
        if let Some(name) = values.keys().next() {
            return Err(Refusal::Malformed(format!("{name} is not expected in it")));
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

    /// Whether these credentials made it, in time, for this cache, user and region.
    ///
    /// # Errors
    /// The first thing that is wrong.
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
                return Err(Refusal::Elsewhere {
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
        // The session token is signed as well, so a comparison that stops early tells nothing.
        let session = self.session_token.as_ref().map(|token| token.0.as_str());
        if self.access_key_id != credentials.access_key_id
            || session != credentials.session_token()
            || !request.is_signed_by(credentials.secret_access_key(), &self.signature.0)
        {
            return Err(Refusal::Forged(self.access_key_id.clone()));
        }
        let too_early = self.at > now + CLOCK_SKEW;
        if too_early || now > self.at + self.valid_for {
            return Err(Refusal::OutOfTime {
                made: self.date.clone(),
                now: date::compact(now),
            });
        }
        Ok(())
    }
}

/// What is not shown.
struct Hidden<T>(T);

impl<T> std::fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}
