//! Durations that several layers must keep in order.
//!
//! A WebSocket stays open only if the server's heartbeat comes before the shortest timeout of
//! everything in between: heartbeat < nginx < balancer.
//! A batch is retried long enough only if the function's attempts end before its records expire:
//! longest cache outage ≤ function timeout × attempts < record age < retention.

use std::time::Duration;

/// The web UI pings every WebSocket this often.
pub const HEARTBEAT: Duration = Duration::from_secs(25);

/// nginx closes a proxied connection that was silent this long.
pub const NGINX_TIMEOUT: Duration = Duration::from_secs(75);

/// The balancer closes a connection that was silent this long.
pub const BALANCER_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// The function's timeout.
pub const FUNCTION_TIMEOUT: Duration = Duration::from_secs(30);

/// The function gives up waiting for the cache this long before its deadline, to answer in time.
pub const FUNCTION_DEADLINE_MARGIN: Duration = Duration::from_secs(3);

/// Retries of a failed batch, after its first attempt.
pub const MAXIMUM_RETRY_ATTEMPTS: u32 = 40;

/// The longest outage of the cache that loses no record.
pub const LONGEST_CACHE_OUTAGE: Duration = Duration::from_secs(15 * 60);

/// Records older than this are not retried; the failure bucket takes them.
pub const MAXIMUM_RECORD_AGE: Duration = Duration::from_secs(6 * 60 * 60);

/// Time to live of a watermark: longer than any record can be retried (an event source mapping
/// retries for seven days at most).
pub const WATERMARK_TTL: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// ElastiCache ends a connection that was signed in with IAM after so long:
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html#auth-iam-limits>.
pub const CACHE_CONNECTION_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// Programs give up a connection to the cache after so long, before it is ended under a batch or a
/// browser.
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
