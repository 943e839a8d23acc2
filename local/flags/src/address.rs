//! Address of an MQTT broker.

use std::fmt;
use std::str::FromStr;

/// Host and port; the host may be a DNS name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// IP address or DNS name, without brackets.
    pub host: String,
    /// Port, 1 to 65535.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let expected = || "expected HOST:PORT, for example 127.0.0.1:1883".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().map_err(|_| expected())?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(expected)?,
            None if host.contains(':') => return Err(expected()),
            None => host,
        };
        if bare.is_empty() || port == 0 {
            return Err(expected());
        }
        Ok(Address {
            host: bare.to_owned(),
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_taken_apart_and_put_together() {
        for (text, host, port) in [
            ("127.0.0.1:1883", "127.0.0.1", 1883),
            ("localhost:1", "localhost", 1),
            ("[::1]:1883", "::1", 1883),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "localhost",
            ":1883",
            "localhost:",
            "localhost:0",
            "::1:1883",
            "[::1:1",
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert!(error.contains("expected HOST:PORT"), "{error}");
        }
    }
}
