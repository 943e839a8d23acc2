//! Admission of WebSockets: limits in total and per client address, and the origin check.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, header};
use contract::http::PROXIES;

use crate::config::Caps;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Counts open sockets.
#[derive(Debug)]
pub(crate) struct Admission {
    caps: Caps,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Permission for one socket, returned on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

/// Why a socket is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The server has its maximum.
    Total,
    /// The client address has its maximum.
    Address,
}

impl Admission {
    pub(crate) fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self {
            caps,
            held: Mutex::default(),
        })
    }

    /// Admits a socket of an address; `None` is a client on this machine.
    pub(crate) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Permit, Full> {
        let address = address.map(network);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.total >= self.caps.total {
            return Err(Full::Total);
        }
        if let Some(address) = address {
            let count = held.by_address.entry(address).or_default();
            if *count >= self.caps.per_address {
                return Err(Full::Address);
            }
            *count += 1;
        }
        held.total += 1;
        Ok(Permit {
            admission: Arc::clone(self),
            address,
        })
    }

    /// Number of sockets.
    pub(crate) fn sockets(&self) -> usize {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .total
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self
            .admission
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.total -= 1;
        if let Some(address) = self.address
            && let Some(count) = held.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                held.by_address.remove(&address);
            }
        }
    }
}

/// The network by which an address counts: a customer usually has a /64 of IPv6 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// The client address by which sockets are counted.
///
/// Only nginx on this machine is trusted. It and the balancer have each appended the address that connected
/// to them; entries before those come from the client and are ignored.
/// `None` if a client on this machine connects without the header; it does not count.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if !peer.is_loopback() {
        return Some(peer);
    }
    let values = headers.get_all(FORWARDED_FOR);
    let entries: Vec<&str> = values
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .collect();
    // Fewer entries than proxies: there is no balancer, as in a local run.
    let entry = entries.get(entries.len().saturating_sub(PROXIES))?;
    // Invalid entries count together, as an unused address.
    Some(address(entry).unwrap_or(Ipv4Addr::UNSPECIFIED.into()))
}

/// Parses an entry, to which the balancer may append the port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[');
    let bare = bare.split_once(']').map_or(bare, |(address, _)| address);
    bare.parse()
        .ok()
        .or_else(|| bare.rsplit_once(':')?.0.parse().ok())
}

/// Whether the browser connected to the balancer by HTTPS.
pub(crate) fn is_https(peer: IpAddr, headers: &HeaderMap) -> bool {
    peer.to_canonical().is_loopback()
        && headers
            .get(FORWARDED_PROTO)
            .is_some_and(|protocol| protocol == "https")
}

/// Whether a request comes from a page of this site, or has no origin and so is not from a browser.
///
/// nginx forwards the host without the port, so ports are compared only if both have one.
pub(crate) fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let (Ok(origin), Some(Ok(host))) = (
        origin.to_str(),
        headers.get(header::HOST).map(|host| host.to_str()),
    ) else {
        return false;
    };
    let (authority, default_port) = match origin.split_once("://") {
        Some(("http", authority)) => (authority, "80"),
        Some(("https", authority)) => (authority, "443"),
        _ => return false,
    };
    let (origin_name, origin_port) = split_port(authority);
    let (host_name, host_port) = split_port(host);
    origin_name.eq_ignore_ascii_case(host_name)
        && host_port.is_none_or(|port| port == origin_port.unwrap_or(default_port))
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address are in brackets.
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_client_address_is_taken_from_the_proxies_only() {
        for (peer, forwarded, expected) in [
            ("203.0.113.9", "198.51.100.1", Some("203.0.113.9")),
            ("127.0.0.1", "", None),
            ("127.0.0.1", "198.51.100.1", Some("198.51.100.1")),
            ("127.0.0.1", "198.51.100.1, 10.0.1.5", Some("198.51.100.1")),
            (
                "127.0.0.1",
                "6.6.6.6, 198.51.100.1, 10.0.1.5",
                Some("198.51.100.1"),
            ),
            ("::1", "198.51.100.1:4711, 10.0.1.5", Some("198.51.100.1")),
            (
                "::ffff:127.0.0.1",
                "[2001:db8::7]:4711, 10.0.1.5",
                Some("2001:db8::7"),
            ),
            ("127.0.0.1", "2001:db8::7, 10.0.1.5", Some("2001:db8::7")),
            ("127.0.0.1", "nonsense, 10.0.1.5", Some("0.0.0.0")),
        ] {
            let pairs = [(FORWARDED_FOR, forwarded)];
            let headers = headers(if forwarded.is_empty() { &[] } else { &pairs });
            let client = client(peer.parse().unwrap(), &headers);
            assert_eq!(
                client,
                expected.map(|address| address.parse().unwrap()),
                "{forwarded}"
            );
        }
    }

    #[test]
    fn origin_must_be_the_host() {
        for (origin, host, same) in [
            ("http://dash.example", "dash.example", true),
            ("https://dash.example", "dash.example:443", true),
            ("http://DASH.example:8080", "dash.example:8080", true),
            ("http://dash.example:8080", "dash.example", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("http://dash.example:8081", "dash.example:8080", false),
            ("http://dash.example", "dash.example:8080", false),
            ("http://dash.example.evil", "dash.example", false),
            ("http://evil", "dash.example", false),
            ("null", "dash.example", false),
        ] {
            let headers = headers(&[(header::ORIGIN, origin), (header::HOST, host)]);
            assert_eq!(is_same_origin(&headers), same, "{origin} {host}");
        }
        assert!(is_same_origin(&headers(&[(header::HOST, "dash.example")])));
    }

    #[test]
    fn sockets_are_counted_and_permits_returned() {
        let admission = Admission::new(Caps {
            total: 3,
            per_address: 2,
        });
        let (a, b) = ("2001:db8::1", "2001:db8::2");
        let admit = |text: &str| admission.admit(Some(text.parse().unwrap()));
        let first = admit(a).unwrap();
        let second = admit(b).unwrap();
        assert_eq!(admit(a).unwrap_err(), Full::Address);
        drop(first);
        let _third = admit(a).unwrap();
        let _fourth = admission.admit(None).unwrap();
        assert_eq!(admit("192.0.2.1").unwrap_err(), Full::Total);
        drop(second);
        let _fifth = admit("192.0.2.1").unwrap();
        assert_eq!(admission.sockets(), 3);
    }
}
