//! Address of a Redis or Valkey server that runs already.

/// Port of Redis when a URL names none.
const DEFAULT_PORT: u16 = 6379;

/// Host and port of a URL such as `redis://127.0.0.1:6379/0`.
///
/// User and password of the URL are not looked at, and never part of an error.
///
/// # Errors
/// The URL has another scheme, no host, or a port or database that is not a number.
pub fn address(url: &str) -> Result<(String, u16), String> {
    let wrong = |what: &str| {
        Err(format!(
            "{what}; expected redis://HOST:PORT or rediss://HOST:PORT"
        ))
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return wrong("not a URL");
    };
    if !matches!(scheme, "redis" | "rediss" | "valkey" | "valkeys") {
        return wrong(&format!("unknown scheme `{scheme}`"));
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() && path.parse::<u16>().is_err() {
        return wrong("the path is not the number of a database");
    }
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let (host, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => return wrong("the host has no closing bracket"),
        },
        None => match host.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host, None),
        },
    };
    if host.is_empty() || host.chars().any(char::is_whitespace) {
        return wrong("there is no host");
    }
    match port.map(str::parse::<u16>) {
        None => Ok((host.to_owned(), DEFAULT_PORT)),
        Some(Ok(port)) if port > 0 => Ok((host.to_owned(), port)),
        Some(_) => wrong("the port is not a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_those_of_the_url() {
        for (url, host, port) in [
            ("redis://127.0.0.1:6390", "127.0.0.1", 6390),
            ("redis://127.0.0.1:6390/2", "127.0.0.1", 6390),
            ("redis://localhost", "localhost", 6379),
            ("rediss://user:p@ss@cache.example:1/", "cache.example", 1),
            ("valkey://[::1]:6379/0?protocol=resp3", "::1", 6379),
            ("redis://[::1]", "::1", 6379),
        ] {
            assert_eq!(address(url), Ok((host.to_owned(), port)), "{url}");
        }
    }

    #[test]
    fn anything_else_is_refused_without_its_password() {
        for url in [
            "",
            "localhost:6379",
            "http://localhost:6379",
            "redis://",
            "redis://:secret@",
            "redis://:secret@host:port",
            "redis://:secret@host:0",
            "redis://:secret@host:70000",
            "redis://:secret@host/zero",
            "redis://:secret@[::1",
        ] {
            let error = address(url).expect_err(url);
            assert!(error.contains("expected redis://HOST:PORT"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
