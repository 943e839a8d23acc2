//! Paths that the web UI serves.

/// The dashboard page.
pub const PAGE: &str = "/";
/// WebSocket of [`Frame`](crate::message::Frame)s.
pub const SOCKET: &str = "/ws";
/// Liveness, the balancer's health check: 200 while the process runs.
pub const HEALTH: &str = "/healthz";
/// Readiness: 200 while the cache is reachable, else 503.
pub const READY: &str = "/readyz";
/// The full [`Frame`](crate::message::Frame) as JSON.
pub const STATE: &str = "/api/state";
/// Metrics in Prometheus's text format.
pub const METRICS: &str = "/metrics";

/// Proxies in front of the web UI, in the template: the balancer, then nginx on the instance.
///
/// Each appends its client's address to `X-Forwarded-For`, so the browser's address is this many entries
/// from the end. Entries before it come from the browser and are not trusted.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html>.
pub const PROXIES: usize = 2;

/// Most WebSockets of one web UI instance.
pub const MAX_CLIENTS: usize = 10_000;

/// Most WebSockets of one client address; an IPv6 address counts by its /64.
pub const MAX_CLIENTS_PER_ADDRESS: usize = 100;

/// Sustained requests a second of one client address; more are answered with 429. An IPv6 address counts
/// by its /64.
pub const REQUESTS_PER_SECOND_PER_ADDRESS: u32 = 50;

/// Burst of requests of one client address: all browsers behind it load the page and its files.
pub const REQUESTS_AT_ONCE_PER_ADDRESS: u32 = 5 * MAX_CLIENTS_PER_ADDRESS as u32;
