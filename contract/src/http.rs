//! Paths that the web UI serves.

/// The page.
pub const PAGE: &str = "/";
/// WebSocket of [`Frame`](crate::message::Frame)s.
pub const SOCKET: &str = "/ws";
/// Alive: 200 as long as the process runs. The balancer's health check.
pub const HEALTH: &str = "/healthz";
/// Ready: 200 while the cache is reachable, else 503.
pub const READY: &str = "/readyz";
/// The full [`Frame`](crate::message::Frame) as JSON.
pub const STATE: &str = "/api/state";
/// Prometheus text.
pub const METRICS: &str = "/metrics";

/// Proxies in front of the web UI, in the template: the balancer, then nginx on the instance.
///
/// Each appends to `X-Forwarded-For` the address of whoever connected to it, so the client is this
/// many entries from the end; what stands before was written by the client itself and proves nothing.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html>.
pub const PROXIES: usize = 2;

/// WebSockets that one instance of the web UI holds at most.
pub const MAX_CLIENTS: usize = 10_000;

/// WebSockets that one client address may hold at most; an IPv6 address counts by its /64.
pub const MAX_CLIENTS_PER_ADDRESS: usize = 100;

/// Requests a second that one client address may send for long; more are answered with 429. An IPv6
/// address counts by its /64.
pub const REQUESTS_PER_SECOND_PER_ADDRESS: u32 = 50;

/// Requests that one client address may send at once: all the browsers behind one address, each loading the
/// page with what belongs to it.
pub const REQUESTS_AT_ONCE_PER_ADDRESS: u32 = 5 * MAX_CLIENTS_PER_ADDRESS as u32;
