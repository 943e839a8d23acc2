//! Addresses, checked before anything is built: a port that is taken, a server that does not answer.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{anyhow, bail};

/// How long a server may take to accept a connection.
const PATIENCE: Duration = Duration::from_millis(800);

/// Checks that a program of ours can listen on an address.
///
/// # Errors
/// The address is taken, or not one of this machine.
pub(crate) fn check_free(flag: &str, address: SocketAddr) -> anyhow::Result<()> {
    let free = SocketAddr::new(address.ip(), 0);
    if let Err(error) = TcpListener::bind(address) {
        bail!(
            "cannot listen on {address} ({flag}): {error}; fix: stop the program that uses it, or take a free port by `{flag} {free}`"
        );
    }
    Ok(())
}

/// Parses an address to listen on.
pub(crate) fn parse(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected IP:PORT, for example 127.0.0.1:1883".to_owned())
}

/// Checks that a server accepts connections.
///
/// # Errors
/// The host is unknown, or nothing listens there.
pub(crate) fn check_answers(flag: &str, host: &str, port: u16, fix: &str) -> anyhow::Result<()> {
    let cannot =
        |error: io::Error| anyhow!("cannot connect to {host}:{port} ({flag}): {error}; fix: {fix}");
    let mut last = None;
    for address in (host, port).to_socket_addrs().map_err(cannot)? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::other("the host has no address"));
    Err(cannot(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_port_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = check_free("--mqtt", address).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {address} (--mqtt): ")),
            "{error}"
        );
        assert!(error.ends_with("`--mqtt 127.0.0.1:0`"), "{error}");
        drop(taken);
        check_free("--mqtt", address).unwrap();
        check_free("--mqtt", "127.0.0.1:0".parse().unwrap()).unwrap();
    }

    #[test]
    fn server_that_does_not_answer_is_named_with_its_flag() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        check_answers("--redis", "127.0.0.1", port, "start it").unwrap();
        drop(server);
        let error = check_answers("--redis", "127.0.0.1", port, "start it").unwrap_err();
        let error = error.to_string();
        let expected = format!("cannot connect to 127.0.0.1:{port} (--redis): ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.ends_with("; fix: start it"), "{error}");
    }
}
