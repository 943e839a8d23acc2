//! Failures and delays of the cloud on demand: `--fault SERVICE:WHAT`.
//!
//! [`local_flags::fault::cloud`] parses them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
pub use local_flags::fault::cloud::{CallFault, FailedStatus, Fault, SERVICES};

use local::random::Random;

use super::call::{Call, Failure, Protocol};

/// The faults of a run.
#[derive(Debug)]
pub struct Faults {
    faults: Vec<Fault>,
    /// Decides what is throttled.
    random: Random,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When each access key was first used.
    first_uses: HashMap<String, Instant>,
    /// Faults that were meant for one time and had it, by their index.
    spent: Vec<usize>,
}

impl Faults {
    /// The faults, the same ones for the same calls in each run.
    pub fn new(faults: Vec<Fault>) -> Faults {
        Faults {
            faults,
            random: Random::new(0x5eed),
            state: Mutex::new(State {
                first_uses: HashMap::new(),
                spent: Vec::new(),
            }),
        }
    }

    /// Takes the time that a call is delayed by, then says what it is answered by instead, if anything.
    pub async fn before(&self, call: &Call, protocol: Protocol) -> Option<Failure> {
        let mut delay = Duration::ZERO;
        let mut failure = None;
        for fault in &self.faults {
            let Fault::Calls { service, fault } = fault else {
                continue;
            };
            if *service != call.service {
                continue;
            }
            match fault {
                CallFault::Slow(by) => delay += *by,
                CallFault::Throttle(share) if self.random.fraction() < *share => {
                    failure.get_or_insert(throttling(protocol));
                }
                CallFault::TokenExpired(after) if self.age(&call.access_key) >= *after => {
                    failure.get_or_insert(expired(protocol));
                }
                CallFault::Throttle(_) | CallFault::TokenExpired(_) => {}
            }
        }
        tokio::time::sleep(delay).await;
        failure
    }

    /// Why a resource shall fail now; one that shall fail once does not fail again.
    pub fn of_resource(&self, logical_id: &str, deed: FailedStatus) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self
            .faults
            .iter()
            .enumerate()
            .find_map(|(index, fault)| match fault {
                Fault::Resource {
                    logical_id: id,
                    status,
                    reason,
                    once,
                } if id == logical_id && *status == deed && !state.spent.contains(&index) => {
                    Some((index, reason.clone(), *once))
                }
                _ => None,
            });
        let (index, reason, once) = found?;
        if once {
            state.spent.push(index);
        }
        Some(reason)
    }

    fn age(&self, access_key: &str) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let first = state.first_uses.entry(access_key.to_owned());
        first.or_insert_with(Instant::now).elapsed()
    }
}

fn throttling(protocol: Protocol) -> Failure {
    match protocol {
        Protocol::Query => Failure::new("Throttling", "Rate exceeded"),
        Protocol::Ec2 => Failure::with(
            StatusCode::SERVICE_UNAVAILABLE,
            "RequestLimitExceeded",
            "Request limit exceeded.",
        ),
        Protocol::S3 => Failure::with(
            StatusCode::SERVICE_UNAVAILABLE,
            "SlowDown",
            "Please reduce your request rate.",
        ),
        Protocol::Json => Failure::new("ThrottlingException", "Rate exceeded"),
        Protocol::RestJson => Failure::with(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequestsException",
            "Rate exceeded",
        ),
    }
}

fn expired(protocol: Protocol) -> Failure {
    let message = "The security token included in the request is expired";
    match protocol {
        Protocol::Query => Failure::with(StatusCode::FORBIDDEN, "ExpiredToken", message),
        Protocol::S3 => Failure::new("ExpiredToken", "The provided token has expired."),
        Protocol::Ec2 => Failure::new("RequestExpired", "Request has expired."),
        Protocol::Json => Failure::new("ExpiredTokenException", message),
        Protocol::RestJson => {
            Failure::with(StatusCode::FORBIDDEN, "ExpiredTokenException", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_for_one_time_happens_once() {
        let faults = Faults::new(vec![
            "cfn:A=CREATE_FAILED:x@once".parse().unwrap(),
            "cfn:B=DELETE_FAILED:y".parse().unwrap(),
        ]);
        let create = || faults.of_resource("A", FailedStatus::Create);
        assert_eq!((create(), create()), (Some("x".to_owned()), None));
        let delete = || faults.of_resource("B", FailedStatus::Delete);
        assert_eq!(
            (delete(), delete()),
            (Some("y".to_owned()), Some("y".to_owned()))
        );
        assert_eq!(faults.of_resource("B", FailedStatus::Update), None);
    }

    #[test]
    fn share_of_throttled_calls_is_kept() {
        let faults = Faults::new(Vec::new());
        let below = (0..10_000)
            .filter(|_| faults.random.fraction() < 0.2)
            .count();
        assert!((1_900..2_100).contains(&below), "{below}");
    }
}
