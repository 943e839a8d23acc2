//! The one connection to the cache, kept over invocations.
//!
//! Between invocations Lambda freezes the process, so the connection may have died without anybody
//! noticing. The script is idempotent: whatever went wrong, sending it again is right.

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

/// Time for an answer: a batch of 10,000 devices takes a small server well below a second.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(8);

/// A connection unused for so long is not tried: what stands between function and cache may have
/// forgotten it without a word, and waiting for [`RESPONSE_TIMEOUT`] is dearer than connecting anew.
/// AWS's stateful network devices forget after 350 seconds:
/// <https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html>.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Waiting times between attempts double from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The cache did not take the batch in time. As far as anybody can tell nothing has changed.
#[derive(Debug, Error)]
#[error("the cache did not answer in time after {attempts} attempts; last: {last}")]
pub struct Unavailable {
    /// How often it was tried.
    pub attempts: u32,
    /// What was wrong last.
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
    #[error("no answer within {} s", RESPONSE_TIMEOUT.as_secs())]
    Answer,
}

impl Cache {
    /// Nothing is connected before the first batch.
    pub fn new(connector: impl Into<Connector>) -> Self {
        Self::with_limits(connector, Limits::default())
    }

    /// With other limits than the contract's.
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

    /// Counts the groups and announces what changed, in one atomic step and, unless something fails,
    /// one round trip. Tries again until the deadline.
    ///
    /// When an attempt succeeded but its answer was lost, the numbers are those of the repetition:
    /// everything is a duplicate.
    ///
    /// # Errors
    /// When the deadline passed first.
    pub async fn count(
        &mut self,
        groups: &Groups<'_>,
        deadline: Instant,
    ) -> Result<Counted, Unavailable> {
        let command = self.script.command(groups);
        let mut wait = BACKOFF.0;
        let mut unavailable = Unavailable {
            attempts: 0,
            last: "no answer".to_owned(),
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
                // Most likely it did not outlive the freeze, which says nothing about the cache.
                debug!(error = %failure, "the kept connection failed, connecting anew");
                continue;
            }
            warn!(error = %failure, attempt = unavailable.attempts, "the cache did not take the batch");
            let next = Instant::now() + wait;
            if next >= deadline {
                return Err(unavailable);
            }
            sleep_until(next).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    fn connection_is_kept(&mut self) -> bool {
        // The wall clock, since the other one may stand still in the freezer.
        if is_over(self.connected, self.used, SystemTime::now()) {
            self.connection = None;
        }
        self.connection.is_some()
    }

    /// Never takes longer than until the deadline.
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
                // A new server, or one that was restarted or told to forget.
                send::<String>(connection, &self.script.load(), deadline).await?;
                send(connection, command, deadline).await?
            }
            answer => answer?,
        };
        self.used = SystemTime::now();
        Ok(counted)
    }
}

/// Until when a batch may wait for the cache, for an invocation that Lambda ends in `remaining`.
///
/// The margin is what the answer needs; a function timeout set too short for it still gets half of
/// its time.
pub fn patience(remaining: Duration) -> Duration {
    remaining
        .saturating_sub(timing::FUNCTION_DEADLINE_MARGIN)
        .max(remaining / 2)
}

/// Whether a connection is not to be tried any more: unused for too long, or so old that the cache may
/// end it while a batch is on it.
fn is_over(connected: SystemTime, used: SystemTime, now: SystemTime) -> bool {
    let longer_ago =
        |then: SystemTime, limit| now.duration_since(then).is_ok_and(|age| age > limit);
    longer_ago(used, IDLE_TIMEOUT) || longer_ago(connected, timing::CACHE_CONNECTION_RENEWAL)
}

async fn connect(
    connector: &Connector,
    deadline: Instant,
) -> Result<MultiplexedConnection, Failure> {
    // Timeouts are ours: the client's own are too short for a large batch.
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
    // One timer for both limits: each that is set wakes the thread once.
    let end = deadline.min(Instant::now() + RESPONSE_TIMEOUT);
    Ok(timeout_at(end, command.query_async(connection))
        .await
        .map_err(|_| Failure::Answer)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_given_up_before_anybody_ends_it() {
        let check = |age: u64, idle: u64, expected: bool| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            let ago = |seconds| now - Duration::from_secs(seconds);
            let over = is_over(ago(age), ago(idle), now);
            assert_eq!(over, expected, "{age} s old, unused for {idle} s");
        };
        check(0, 0, false);
        check(300, 300, false);
        check(301, 301, true);
        check(11 * 60 * 60, 1, false);
        check(11 * 60 * 60 + 1, 1, true);
        // Lambda has it frozen for a night.
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
