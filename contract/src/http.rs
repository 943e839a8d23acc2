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
