//! Credentials of a role, whose secrets are never shown.

use std::fmt;

/// Credentials of a role's session, or of a user.
///
/// `Debug` shows the access key ID only.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Not secret, such as `ASIAIOSFODNN7EXAMPLE`.
    pub access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl Credentials {
    /// Creates credentials; those of a role have a session token.
    pub fn new(
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        session_token: Option<String>,
    ) -> Credentials {
        Credentials {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token,
        }
    }

    /// The key that signs.
    pub fn secret_access_key(&self) -> &str {
        &self.secret_access_key
    }

    /// Proof that the key belongs to a session that has not expired.
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials::new("AKID", "the-key", Some("the-session".to_owned()));
        let shown = format!("{credentials:?} {credentials:#?}");
        assert!(shown.contains("AKID"), "{shown}");
        assert!(
            !shown.contains("the-key") && !shown.contains("the-session"),
            "{shown}"
        );
    }
}
