//! The connection to the cache, kept from one invocation to the next.
//!
//! Lambda freezes the process between invocations, so the connection may be dead when it is used again.
//! The script is idempotent, so it is sent again after any error.

use std::time::{Duration, SystemTime};

use contract::timing;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisError, ServerErrorKind};
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};

use crate::batch::Groups;
use crate::connection::{ConnectError, Connector};
use crate::script::{Counted, Limits, Script};

/// Time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for a response: a batch of 10,000 devices takes a small server less than a second.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(8);

/// Idle time after which a connection is replaced. The network may have dropped it silently, and waiting
/// for [`RESPONSE_TIMEOUT`] costs more than connecting. AWS drops idle connections after 350 seconds:
/// <https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html>.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Delays between attempts: they double from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The cache did not count the batch in time; probably nothing changed.
#[derive(Debug, Error)]
#[error("cannot count the batch in time: {attempts} attempts, the last: {last}")]
pub struct Unavailable {
    /// Number of attempts.
    pub attempts: u32,
    /// Error of the last attempt.
    pub last: String,
}

/// The connection and the script.
#[derive(Debug)]
pub struct Cache {
    connector: Connector,
    script: Script,
    connection: Option<MultiplexedConnection>,
    connected: SystemTime,
    used: SystemTime,
}

#[derive(Debug, Error)]
enum Failure {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    NoConnection,
    #[error("no response within {} s", RESPONSE_TIMEOUT.as_secs())]
    NoResponse,
}

impl Cache {
    /// Nothing is connected before the first batch.
    pub fn new(connector: impl Into<Connector>) -> Self {
        Self::with_limits(connector, Limits::default())
    }

    /// Creates one with limits other than the contract's.
    pub fn with_limits(connector: impl Into<Connector>, limits: Limits) -> Self {
        let script = Script::new(limits);
        Self {
            connector: connector.into(),
            script,
            connection: None,
            connected: SystemTime::UNIX_EPOCH,
            used: SystemTime::UNIX_EPOCH,
        }
    }

    /// Counts the groups and announces the changes in one atomic step and, without errors, one round trip.
    /// Retries until the deadline.
    ///
    /// If an attempt succeeds but its response is lost, the result is the retry's: all records are
    /// duplicates.
    ///
    /// # Errors
    /// The deadline passes first.
    pub async fn count(
        &mut self,
        groups: &Groups<'_>,
        deadline: Instant,
    ) -> Result<Counted, Unavailable> {
        let command = self.script.command(groups);
        let mut wait = BACKOFF.0;
        let mut unavailable = Unavailable {
            attempts: 0,
            last: "no response".to_owned(),
        };
        loop {
            unavailable.attempts += 1;
            let kept = self.connection_is_kept();
            let failure = match self.attempt(&command, deadline).await {
                Ok(counted) => return Ok(counted),
                Err(failure) => failure,
            };
            self.connection = None;
            if Instant::now() >= deadline {
                return Err(unavailable);
            }
            unavailable.last = failure.to_string();
            if kept {
                // It probably died while the process was frozen; the cache may be fine.
                debug!(error = %failure, "kept connection failed, reconnecting");
                continue;
            }
            warn!(error = %failure, attempt = unavailable.attempts, "cache unreachable");
            let next = Instant::now() + wait;
            if next >= deadline {
                return Err(unavailable);
            }
            sleep_until(next).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    fn connection_is_kept(&mut self) -> bool {
        // The wall clock: the monotonic clock may stop while the process is frozen.
        if is_expired(self.connected, self.used, SystemTime::now()) {
            self.connection = None;
        }
        self.connection.is_some()
    }

    /// Sends the command once; ends at the deadline.
    async fn attempt(&mut self, command: &Cmd, deadline: Instant) -> Result<Counted, Failure> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let connection = connect(&self.connector, deadline).await?;
                self.connected = SystemTime::now();
                none.insert(connection)
            }
        };
        let counted = match send(connection, command, deadline).await {
            Err(Failure::Redis(error))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                // The server is new, was restarted, or its scripts were flushed.
                send::<String>(connection, &self.script.load(), deadline).await?;
                send(connection, command, deadline).await?
            }
            answer => answer?,
        };
        self.used = SystemTime::now();
        Ok(counted)
    }
}

/// Time that a batch may wait for the cache if Lambda ends the invocation in `remaining`.
///
/// The margin is for the response; a function timeout shorter than two margins is halved.
pub fn patience(remaining: Duration) -> Duration {
    remaining
        .saturating_sub(timing::FUNCTION_DEADLINE_MARGIN)
        .max(remaining / 2)
}

/// Whether to replace a connection: it was idle for too long, or is so old that the cache may close it
/// while it is in use.
fn is_expired(connected: SystemTime, used: SystemTime, now: SystemTime) -> bool {
    let longer_ago =
        |then: SystemTime, limit| now.duration_since(then).is_ok_and(|age| age > limit);
    longer_ago(used, IDLE_TIMEOUT) || longer_ago(connected, timing::CACHE_CONNECTION_RENEWAL)
}

async fn connect(
    connector: &Connector,
    deadline: Instant,
) -> Result<MultiplexedConnection, Failure> {
    // This module has its own timeouts: the client's are too short for a large batch.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let end = deadline.min(Instant::now() + CONNECT_TIMEOUT);
    Ok(timeout_at(end, connector.connect(&config))
        .await
        .map_err(|_| Failure::NoConnection)??)
}

async fn send<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    deadline: Instant,
) -> Result<T, Failure> {
    // One timer for both limits, because each timer wakes the thread.
    let end = deadline.min(Instant::now() + RESPONSE_TIMEOUT);
    Ok(timeout_at(end, command.query_async(connection))
        .await
        .map_err(|_| Failure::NoResponse)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_replaced_before_it_is_closed() {
        let check = |age: u64, idle: u64, expected: bool| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            let ago = |seconds| now - Duration::from_secs(seconds);
            let expired = is_expired(ago(age), ago(idle), now);
            assert_eq!(expired, expected, "{age} s old, idle for {idle} s");
        };
        check(0, 0, false);
        check(300, 300, false);
        check(301, 301, true);
        check(11 * 60 * 60, 1, false);
        check(11 * 60 * 60 + 1, 1, true);
        // Frozen overnight.
        check(9 * 60 * 60, 8 * 60 * 60, true);
    }

    #[test]
    fn patience_ends_before_the_deadline() {
        let check = |remaining: f64, expected: f64| {
            let patience = patience(Duration::from_secs_f64(remaining)).as_secs_f64();
            assert!(
                (patience - expected).abs() < 1e-6,
                "{remaining}: {patience}"
            );
        };
        check(30.0, 27.0);
        check(6.0, 3.0);
        check(2.0, 1.0);
        check(0.0, 0.0);
    }
}
