//! Whether the instance metadata service of EC2 is there: it has region and credentials of an instance.
//!
//! One request for a session token tells ("Access instance metadata for an EC2 instance"). Other clouds
//! have a service at the same address, which refuses it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use http::Uri;

use crate::Variables;

/// An instance's own service answers in milliseconds.
const PATIENCE: Duration = Duration::from_millis(700);

const ADDRESS: &str = "http://169.254.169.254";

/// Where the service would be.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// `None`: it is switched off.
    endpoint: Option<String>,
}

impl Service {
    pub(crate) fn of(variables: &Variables) -> Service {
        let endpoint = variables.get("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        Service {
            endpoint: (!variables.is_true("AWS_EC2_METADATA_DISABLED"))
                .then(|| endpoint.unwrap_or(ADDRESS).to_owned()),
        }
    }

    /// Whether it gives a session token.
    pub(crate) fn answers(&self) -> bool {
        self.endpoint
            .as_deref()
            .and_then(address)
            .is_some_and(|(address, host)| token(address, &host).unwrap_or(false))
    }
}

fn address(endpoint: &str) -> Option<(SocketAddr, String)> {
    let uri: Uri = endpoint.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(80);
    let address = (host.as_str(), port).to_socket_addrs().ok()?.next()?;
    Some((address, host))
}

fn token(address: SocketAddr, host: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!(
        "PUT /latest/api/token HTTP/1.1\r\nHost: {host}\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status.ends_with(b" 200"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn only_the_service_of_an_instance_gives_a_token() {
        for (response, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\ntoken", true),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", false),
            ("", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("http://{}/", listener.local_addr().unwrap());
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"PUT /latest/api/token "));
                stream.write_all(response.as_bytes()).unwrap();
            });
            let service = |name: &str, value: &str| {
                let variable = (name.to_owned(), value.to_owned());
                Service::of(&[variable].into_iter().collect())
            };
            let there = service("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint);
            assert_eq!(there.answers(), expected, "{response:?}");
            assert!(!service("AWS_EC2_METADATA_DISABLED", "TRUE").answers());
            server.join().unwrap();
        }
    }
}
