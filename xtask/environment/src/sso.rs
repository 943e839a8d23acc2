//! The token cache of IAM Identity Center (SSO): `~/.aws/sso/cache/<SHA-1 of session or start URL>.json`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value as Json;

/// What the cache says of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// It lasts, or the SDK can renew it.
    Good,
    /// It has ended, at this time as the file has it.
    Expired(String),
    /// There is none.
    Missing,
}

/// The token of a session's name, or of a start URL where a profile has no session.
pub(crate) fn token(home: Option<&Path>, key: &str, now: SystemTime) -> Token {
    let Some(home) = home else {
        return Token::Missing;
    };
    let Ok(text) = fs::read_to_string(path(home, key)) else {
        return Token::Missing;
    };
    let Ok(token) = serde_json::from_str::<Json>(&text) else {
        return Token::Missing;
    };
    let (Some(_), Some(expires_at)) = (token["accessToken"].as_str(), token["expiresAt"].as_str())
    else {
        return Token::Missing;
    };
    let is_past = |text: &str| time(text).is_none_or(|time| time <= now);
    // The SDK renews a session's token as long as its registration lasts.
    let can_be_renewed = ["refreshToken", "clientId", "clientSecret"]
        .iter()
        .all(|name| token[*name].is_string())
        && token["registrationExpiresAt"]
            .as_str()
            .is_some_and(|text| !is_past(text));
    if is_past(expires_at) && !can_be_renewed {
        return Token::Expired(expires_at.to_owned());
    }
    Token::Good
}

pub(crate) fn path(home: &Path, key: &str) -> PathBuf {
    let name = sha1_smol::Sha1::from(key).digest();
    home.join(".aws/sso/cache").join(format!("{name}.json"))
}

/// A time as the AWS CLI writes it: RFC 3339, in older versions with `UTC` for `Z`.
fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(&text.replace("UTC", "Z")).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn token_is_good_until_it_ends_and_cannot_be_renewed() {
        let home = tempfile::tempdir().unwrap();
        // 2026-11-28T12:00:00Z
        let now = UNIX_EPOCH + Duration::from_secs(1_795_867_200);
        let file = path(home.path(), "dev");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let of = |text: &str| {
            fs::write(&file, text).unwrap();
            token(Some(home.path()), "dev", now)
        };
        let ended = "2026-11-28T11:59:59Z";
        let renewable = |until: &str| {
            format!(
                r#"{{"accessToken": "t", "expiresAt": "{ended}", "refreshToken": "r", "clientId": "c", "clientSecret": "s", "registrationExpiresAt": "{until}"}}"#
            )
        };
        let plain = |at: &str| format!(r#"{{"accessToken": "t", "expiresAt": "{at}"}}"#);
        let expired = Token::Expired(ended.to_owned());
        for (text, expected) in [
            (plain("2026-11-28T12:00:01Z"), Token::Good),
            (plain("2026-11-28T12:00:01UTC"), Token::Good),
            (plain(ended), expired.clone()),
            (plain("soon"), Token::Expired("soon".to_owned())),
            (renewable("2027-01-01T00:00:00Z"), Token::Good),
            (renewable("2026-01-01T00:00:00Z"), expired),
            (
                r#"{"expiresAt": "2027-01-01T00:00:00Z"}"#.to_owned(),
                Token::Missing,
            ),
            ("{".to_owned(), Token::Missing),
        ] {
            assert_eq!(of(&text), expected, "{text}");
        }
        assert_eq!(token(Some(home.path()), "other", now), Token::Missing);
        assert_eq!(token(None, "dev", now), Token::Missing);
    }

    #[test]
    fn file_is_named_by_the_hash_of_session_or_start_url() {
        // `printf %s dev | sha1sum`
        let file = path(Path::new("/home/me"), "dev");
        assert_eq!(
            file,
            Path::new("/home/me/.aws/sso/cache/34c6fceca75e456f25e7e99531e2425c6c1de443.json")
        );
    }
}
