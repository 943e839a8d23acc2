//! Durations that several layers share, and their required order.
//!
//! A WebSocket stays open only if the server's heartbeat is shorter than every timeout on its way:
//! heartbeat < nginx < balancer.
//! A batch survives a cache outage only if the function is retried for as long, and its records do not
//! expire before: longest cache outage ≤ function timeout × attempts < record age < retention.

use std::time::Duration;

/// Interval at which the web UI pings every WebSocket.
pub const HEARTBEAT: Duration = Duration::from_secs(25);

/// Idle time after which nginx closes a proxied connection.
pub const NGINX_TIMEOUT: Duration = Duration::from_secs(75);

/// Idle time after which the balancer closes a connection.
pub const BALANCER_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// The function's timeout.
pub const FUNCTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Time before its deadline at which the function stops waiting for the cache, to respond in time.
pub const FUNCTION_DEADLINE_MARGIN: Duration = Duration::from_secs(3);

/// Retries of a failed batch after its first attempt.
pub const MAXIMUM_RETRY_ATTEMPTS: u32 = 40;

/// Longest cache outage without a lost record.
pub const LONGEST_CACHE_OUTAGE: Duration = Duration::from_secs(15 * 60);

/// Age after which a record is not retried and goes to the failure bucket.
pub const MAXIMUM_RECORD_AGE: Duration = Duration::from_secs(6 * 60 * 60);

/// Time to live of a watermark: longer than any record can be retried (an event source mapping
/// retries for seven days at most).
pub const WATERMARK_TTL: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// Time after which ElastiCache closes a connection that signed in with IAM:
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html#auth-iam-limits>.
pub const CACHE_CONNECTION_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// Time after which the programs replace a connection to the cache, before ElastiCache closes it while it
/// is in use.
pub const CACHE_CONNECTION_RENEWAL: Duration = Duration::from_secs(11 * 60 * 60);

const _: () = {
    assert!(CACHE_CONNECTION_RENEWAL.as_secs() < CACHE_CONNECTION_LIFETIME.as_secs());
    assert!(HEARTBEAT.as_secs() * 2 < NGINX_TIMEOUT.as_secs());
    assert!(NGINX_TIMEOUT.as_secs() < BALANCER_IDLE_TIMEOUT.as_secs());
    assert!(
        LONGEST_CACHE_OUTAGE.as_secs()
            <= (FUNCTION_TIMEOUT.as_secs() - FUNCTION_DEADLINE_MARGIN.as_secs())
                * MAXIMUM_RETRY_ATTEMPTS as u64
    );
    assert!(
        FUNCTION_TIMEOUT.as_secs() * (MAXIMUM_RETRY_ATTEMPTS as u64 + 1)
            < MAXIMUM_RECORD_AGE.as_secs()
    );
    assert!(MAXIMUM_RECORD_AGE.as_secs() < WATERMARK_TTL.as_secs());
};
