//! Tokens equal those of AWS's own signer, byte for byte; see `fixture.py`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;
use sign_in::{Credentials, Presented, Refusal, SignIn, VALIDITY, token};

struct Case {
    sign_in: SignIn,
    region: String,
    credentials: Credentials,
    at: SystemTime,
    token: String,
}

fn cases() -> Vec<Case> {
    let file: Json = serde_json::from_str(include_str!("botocore.json")).expect("it is JSON");
    let cases = file["cases"].as_array().expect("it has cases");
    let text = |value: &Json| value.as_str().expect("it is text").to_owned();
    let case = |case: &Json| Case {
        sign_in: SignIn {
            user: text(&case["user"]),
            cache: text(&case["cache"]),
        },
        region: text(&case["region"]),
        credentials: Credentials::new(
            text(&case["credentials"][0]),
            text(&case["credentials"][1]),
            case["credentials"][2].as_str().map(str::to_owned),
        ),
        at: UNIX_EPOCH + Duration::from_secs(case["at"].as_u64().expect("it is a number")),
        token: text(&case["token"]),
    };
    cases.iter().map(case).collect()
}

#[test]
fn tokens_are_those_of_botocore() {
    let cases = cases();
    assert!(cases.len() >= 40, "{}", cases.len());
    for case in cases {
        let ours = token(&case.sign_in, &case.region, &case.credentials, case.at);
        assert_eq!(ours, case.token);
    }
}

#[test]
fn tokens_of_botocore_are_accepted_while_they_are_valid() {
    for case in cases() {
        let presented = Presented::parse(&case.token).expect("is a token");
        assert_eq!(presented.user, case.sign_in.user);
        let verify = |now| presented.verify(&case.sign_in, &case.region, &case.credentials, now);
        assert_eq!(verify(case.at), Ok(()));
        assert_eq!(verify(case.at + VALIDITY), Ok(()));
        let late = verify(case.at + VALIDITY + Duration::from_secs(1));
        assert!(matches!(late, Err(Refusal::Expired { .. })), "{late:?}");
        if let Some(early) = case.at.checked_sub(Duration::from_secs(301)) {
            let early = verify(early);
            assert!(matches!(early, Err(Refusal::Expired { .. })), "{early:?}");
        }
    }
}

#[test]
fn the_order_of_parameters_does_not_matter() {
    for case in cases() {
        let (cache, query) = case.token.split_once("/?").expect("has a query");
        let mut parameters: Vec<&str> = query.split('&').collect();
        parameters.reverse();
        let token = format!("{cache}/?{}", parameters.join("&"));
        let presented = Presented::parse(&token).expect("is a token");
        let believed = presented.verify(&case.sign_in, &case.region, &case.credentials, case.at);
        assert_eq!(believed, Ok(()));
    }
}

#[test]
fn a_token_for_another_server_is_refused_with_the_difference() {
    let case = &cases()[0];
    let presented = Presented::parse(&case.token).expect("is a token");
    let check = |sign_in: &SignIn, region: &str, expected: &str| {
        let refused = presented.verify(sign_in, region, &case.credentials, case.at);
        let error = refused.expect_err("is for something else").to_string();
        assert!(error.contains(expected), "{error}");
    };
    let mut other = case.sign_in.clone();
    other.user = "somebody".to_owned();
    check(&other, &case.region, "invalid sign-in token for user ");
    let mut other = case.sign_in.clone();
    other.cache = "elsewhere".to_owned();
    check(&other, &case.region, "invalid sign-in token for cache ");
    check(
        &case.sign_in,
        "mars-north-1",
        "invalid sign-in token for region ",
    );
}

#[test]
fn a_changed_token_is_refused_and_its_secrets_are_not_repeated() {
    let cases = cases();
    let case = cases
        .iter()
        .find(|case| case.credentials.session_token().is_some())
        .expect("there is one with a session");
    let credentials = &case.credentials;
    let forged = |token: &str, credentials: &Credentials| {
        let presented = Presented::parse(token).expect("is a token");
        let refused = presented.verify(&case.sign_in, &case.region, credentials, case.at);
        let error = refused.expect_err("is changed");
        let told = format!("{error} {error:?} {presented:?}");
        let signature = token.rsplit_once('=').expect("has a signature").1;
        for secret in [
            signature,
            credentials.secret_access_key(),
            credentials.session_token().unwrap_or("X-Amz-Security"),
        ] {
            assert!(!told.contains(secret), "{told} repeats {secret}");
        }
        assert!(matches!(error, Refusal::Signature(_)), "{error}");
    };
    let other = Credentials::new(
        &credentials.access_key_id,
        "another key",
        credentials.session_token().map(str::to_owned),
    );
    forged(&case.token, &other);
    let ended = Credentials::new(
        &credentials.access_key_id,
        credentials.secret_access_key(),
        Some("another session".to_owned()),
    );
    forged(&case.token, &ended);
    let longer = case.token.replace("X-Amz-Expires=900", "X-Amz-Expires=899");
    forged(&longer, credentials);
    forged(&case.token[..case.token.len() - 2], credentials);
}

#[test]
fn an_invalid_token_is_refused_without_being_repeated() {
    let token = &cases()[0].token;
    let removed = |name: &str| {
        let (cache, query) = token.split_once("/?").expect("has a query");
        let kept = query.split('&').filter(|part| !part.starts_with(name));
        format!("{cache}/?{}", kept.collect::<Vec<_>>().join("&"))
    };
    for (text, expected) in [
        (String::new(), "expected CACHE/?Action=connect"),
        ("hunter2".to_owned(), "expected CACHE/?Action=connect"),
        (format!("http://{token}"), "expected the cache's name"),
        (format!("{token}&User=x"), "expected each parameter once"),
        (format!("{token}&Else=x"), "unexpected Else"),
        (format!("{token}%"), "expected percent-encoded"),
        (format!("{token}0"), "expected hexadecimal"),
        (
            token.replace("=connect", "=delete"),
            "invalid Action \"delete\": expected \"connect\"",
        ),
        (
            token.replace("s=900", "s=901"),
            "expected a number up to 900 in X-Amz-Expires",
        ),
        (
            token.replace("elasticache", "rds"),
            "expected that day and elasticache",
        ),
        (removed("User"), "expected User"),
        (removed("X-Amz-Signature"), "expected X-Amz-Signature"),
        (removed("X-Amz-Date"), "expected X-Amz-Date"),
    ] {
        let error = Presented::parse(&text)
            .expect_err("is no token")
            .to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
