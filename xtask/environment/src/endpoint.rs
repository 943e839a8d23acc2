//! Endpoint URLs: `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_<SERVICE>`, and `endpoint_url` of a profile and of
//! its services section.
//!
//! AWS SDKs and Tools Reference Guide, "Service-specific endpoints".

use std::collections::BTreeMap;

use http::Uri;

use crate::profiles::Profiles;
use crate::{Part, Problem, Variables};

const GLOBAL: &str = "AWS_ENDPOINT_URL";

/// Endpoints that are not Amazon's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// For every service that has none of its own.
    global: Option<String>,
    /// By service, in lower case with underscores, for example `elastic_beanstalk`.
    services: BTreeMap<String, String>,
}

impl Endpoints {
    /// The endpoint of a service, without a slash at its end; `None`: Amazon's own.
    pub fn of(&self, service: &str) -> Option<&str> {
        self.services
            .get(service)
            .or(self.global.as_ref())
            .map(String::as_str)
    }

    /// The endpoint of every service that has none of its own.
    pub fn global(&self) -> Option<&str> {
        self.global.as_deref()
    }

    pub(crate) fn read(
        variables: &Variables,
        profiles: Option<&Profiles>,
        profile: &str,
    ) -> Result<Endpoints, Problem> {
        let profile = profiles.and_then(|profiles| Some((profiles, profiles.profile(profile)?)));
        let is_ignored = variables.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
            || profile.is_some_and(|(_, profile)| {
                profile
                    .get("ignore_configured_endpoint_urls")
                    .is_some_and(|value| value.eq_ignore_ascii_case("true"))
            });
        if is_ignored {
            return Ok(Endpoints::default());
        }
        let mut endpoints = Endpoints::default();
        // From the weakest source to the strongest.
        if let Some((profiles, profile)) = profile {
            if let Some(url) = profile.get("endpoint_url") {
                endpoints.global = Some(checked(url, "`endpoint_url` of the profile")?);
            }
            let section = profile.get("services");
            for (service, url) in section.iter().flat_map(|name| profiles.endpoints(name)) {
                let origin = format!("`endpoint_url` of `{service}` in the services section");
                endpoints
                    .services
                    .insert(service.to_owned(), checked(url, &origin)?);
            }
        }
        if let Some(url) = variables.get(GLOBAL) {
            endpoints = Endpoints {
                global: Some(checked(url, GLOBAL)?),
                services: BTreeMap::new(),
            };
        }
        for (variable, url) in &variables.0 {
            if let Some(service) = variable.strip_prefix("AWS_ENDPOINT_URL_") {
                let url = checked(url, variable)?;
                endpoints.services.insert(service.to_lowercase(), url);
            }
        }
        Ok(endpoints)
    }
}

/// A URL that the SDK can call, without a slash at its end.
fn checked(url: &str, origin: &str) -> Result<String, Problem> {
    let wrong = |what: &str| {
        Err(Part::Endpoints.problem(format!(
            "invalid {origin} \"{}\": {what}; expected a URL such as http://127.0.0.1:4566, or unset it",
            without_user(url).escape_debug()
        )))
    };
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return wrong("it does not start with http:// or https://");
    }
    let Ok(uri) = url.parse::<Uri>() else {
        return wrong("not a URL");
    };
    let Some(authority) = uri.authority().filter(|it| !it.host().is_empty()) else {
        return wrong("there is no host");
    };
    let has_port = authority.as_str().rsplit(']').next().unwrap_or_default();
    if has_port.contains(':') && authority.port_u16().is_none() {
        return wrong("the port is not a number up to 65535");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// A URL without the user and password that may stand before its host.
fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            match rest[..end].rfind('@') {
                Some(at) => format!("{scheme}://…{}", &rest[at..]),
                None => url.to_owned(),
            }
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_those_that_can_be_called() {
        for (url, expected) in [
            ("http://127.0.0.1:4566", "http://127.0.0.1:4566"),
            ("https://host.example/", "https://host.example"),
            ("http://[::1]:4566/path/", "http://[::1]:4566/path"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(checked(url, "X").as_deref(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn malformed_url_is_named_with_its_origin_and_without_its_password() {
        for url in [
            "localhost:4566",
            "ftp://host",
            "http://",
            "http://host:port",
            "http://host:99999",
            "http://ho st",
            "http://user:secret@host:99999",
        ] {
            let error = checked(url, "AWS_ENDPOINT_URL_S3").expect_err(url).message;
            assert!(
                error.starts_with("invalid AWS_ENDPOINT_URL_S3 \""),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
