//! Failures and delays on demand: `--fault SERVICE:WHAT`.
//!
//! | text | what happens |
//! |---|---|
//! | `cfn:Cache=CREATE_FAILED:no capacity` | the resource fails with the reason, whenever it is created |
//! | `cfn:Cache=UPDATE_FAILED:no capacity@once` | the same, the first time only |
//! | `cfn:throttle@20%` | so many of the calls are answered by `Throttling` |
//! | `cfn:token-expired@10s` | an access key is good for so long after its first use |
//! | `s3:slow@500ms` | each answer comes so much later; 500 ms without a number |
//!
//! A resource that fails without `@once` also fails on the way back: an update ends in
//! `UPDATE_ROLLBACK_FAILED` then, and with `@once` in `UPDATE_ROLLBACK_COMPLETE`.
//!
//! Which calls are throttled follows from a fixed seed, so that a run can be repeated.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use super::call::{Call, Failure, Protocol};

/// Names that services have on the command line, and in credential scopes.
pub const SERVICES: &[(&str, &str)] = &[
    ("beanstalk", "elasticbeanstalk"),
    ("cfn", "cloudformation"),
    ("ec2", "ec2"),
    ("iot", "iot"),
    ("iotdata", "iotdata"),
    ("lambda", "lambda"),
    ("logs", "logs"),
    ("quotas", "servicequotas"),
    ("s3", "s3"),
    ("sts", "sts"),
];

/// What a slow service adds to each answer if nothing is said.
const SLOW: Duration = Duration::from_millis(500);

/// What is understood, for who wrote something else.
const FORMS: &str = "cfn:LOGICALID=CREATE_FAILED:REASON (or UPDATE_FAILED, DELETE_FAILED; with @once at the end the first time only), SERVICE:throttle@20%, SERVICE:token-expired@10s, SERVICE:slow@500ms";

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A resource fails.
    Resource {
        /// Logical ID.
        logical_id: String,
        /// In which deed.
        status: FailedStatus,
        /// What AWS would say.
        reason: String,
        /// Whether the next try succeeds.
        once: bool,
    },
    /// Calls fail or are slow.
    Calls {
        /// Service, as in credential scopes.
        service: String,
        /// What happens to them.
        trouble: Trouble,
    },
}

/// In which deed a resource fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedStatus {
    /// `CREATE_FAILED`
    Create,
    /// `UPDATE_FAILED`
    Update,
    /// `DELETE_FAILED`
    Delete,
}

/// What happens to calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// Some are refused: a share from 0 to 1.
    Throttle(f64),
    /// Access keys end so long after their first use.
    TokenExpired(Duration),
    /// Each takes so much longer.
    Slow(Duration),
}

/// A fault that nobody understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misunderstood {
    got: String,
    why: String,
}

impl fmt::Display for Misunderstood {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Misunderstood { got, why } = self;
        write!(formatter, "`{got}`: {why}; understood are {FORMS}")
    }
}

impl std::error::Error for Misunderstood {}

impl FromStr for Fault {
    type Err = Misunderstood;

    fn from_str(text: &str) -> Result<Fault, Misunderstood> {
        let no = |why: String| Misunderstood {
            got: text.to_owned(),
            why,
        };
        let Some((name, what)) = text.split_once(':') else {
            return Err(no("no service stands before a colon".to_owned()));
        };
        let service = SERVICES
            .iter()
            .find(|(short, long)| *short == name || *long == name)
            .map(|(_, long)| (*long).to_owned())
            .ok_or_else(|| {
                let known: Vec<&str> = SERVICES.iter().map(|(short, _)| *short).collect();
                no(format!(
                    "`{name}` is none of the services {}",
                    known.join(", ")
                ))
            })?;
        if let Some((logical_id, outcome)) = what.split_once('=') {
            if service != "cloudformation" {
                return Err(no(
                    "only CloudFormation (`cfn`) has resources that fail".to_owned()
                ));
            }
            return resource(logical_id, outcome).map_err(no);
        }
        let (kind, amount) = match what.split_once('@') {
            Some((kind, amount)) => (kind, Some(amount)),
            None => (what, None),
        };
        let trouble = match (kind, amount) {
            ("throttle", Some(amount)) => Trouble::Throttle(share(amount).map_err(no)?),
            ("token-expired", Some(amount)) => Trouble::TokenExpired(duration(amount).map_err(no)?),
            ("slow", None) => Trouble::Slow(SLOW),
            ("slow", Some(amount)) => Trouble::Slow(duration(amount).map_err(no)?),
            ("throttle", None) => return Err(no("`throttle` needs a share".to_owned())),
            ("token-expired", None) => return Err(no("`token-expired` needs a time".to_owned())),
            _ => return Err(no(format!("there is no fault `{kind}`"))),
        };
        Ok(Fault::Calls { service, trouble })
    }
}

fn resource(logical_id: &str, outcome: &str) -> Result<Fault, String> {
    let is_id = !logical_id.is_empty() && logical_id.bytes().all(|it| it.is_ascii_alphanumeric());
    if !is_id {
        return Err(format!("`{logical_id}` is no logical ID"));
    }
    let Some((status, reason)) = outcome.split_once(':') else {
        return Err(format!("`{outcome}` has no reason after a colon"));
    };
    let status = match status {
        "CREATE_FAILED" => FailedStatus::Create,
        "UPDATE_FAILED" => FailedStatus::Update,
        "DELETE_FAILED" => FailedStatus::Delete,
        other => {
            return Err(format!(
                "`{other}` is none of CREATE_FAILED, UPDATE_FAILED, DELETE_FAILED"
            ));
        }
    };
    let (reason, once) = match reason.strip_suffix("@once") {
        Some(reason) => (reason, true),
        None => (reason, false),
    };
    Ok(Fault::Resource {
        logical_id: logical_id.to_owned(),
        status,
        reason: reason.to_owned(),
        once,
    })
}

fn share(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .and_then(|it| it.parse::<f64>().ok())
        .filter(|it| (0.0..=100.0).contains(it))
        .map(|it| it / 100.0)
        .ok_or_else(|| format!("`{text}` is no share from 0% to 100%"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or_default(), 1.0),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|it| Duration::try_from_secs_f64(it * unit).ok())
        .ok_or_else(|| format!("`{text}` is no time such as 500ms or 10s"))
}

/// The faults of a run.
#[derive(Debug)]
pub struct Faults {
    faults: Vec<Fault>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Of the generator that decides what is throttled.
    random: u64,
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
            state: Mutex::new(State {
                random: 0x5eed,
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
            let Fault::Calls { service, trouble } = fault else {
                continue;
            };
            if *service != call.service {
                continue;
            }
            match trouble {
                Trouble::Slow(by) => delay += *by,
                Trouble::Throttle(share) if self.draw() < *share => {
                    failure.get_or_insert(throttling(protocol));
                }
                Trouble::TokenExpired(after) if self.age(&call.access_key) >= *after => {
                    failure.get_or_insert(expired(protocol));
                }
                Trouble::Throttle(_) | Trouble::TokenExpired(_) => {}
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

    /// A number from 0 to 1, by SplitMix64.
    fn draw(&self) -> f64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        f64::from(u32::try_from(bits >> 32).unwrap_or(u32::MAX)) / 4_294_967_296.0
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

    fn refused(text: &str) -> String {
        text.parse::<Fault>().unwrap_err().why
    }

    #[test]
    fn faults_are_read() {
        assert_eq!(
            "cfn:Cache=CREATE_FAILED:no: capacity@once".parse(),
            Ok(Fault::Resource {
                logical_id: "Cache".to_owned(),
                status: FailedStatus::Create,
                reason: "no: capacity".to_owned(),
                once: true,
            })
        );
        let calls = |service: &str, trouble| {
            let service = service.to_owned();
            Ok(Fault::Calls { service, trouble })
        };
        assert_eq!(
            "cfn:throttle@20%".parse(),
            calls("cloudformation", Trouble::Throttle(0.2))
        );
        assert_eq!(
            "sts:token-expired@10s".parse(),
            calls("sts", Trouble::TokenExpired(Duration::from_secs(10)))
        );
        assert_eq!("s3:slow".parse(), calls("s3", Trouble::Slow(SLOW)));
        assert_eq!(
            "s3:slow@20ms".parse(),
            calls("s3", Trouble::Slow(Duration::from_millis(20)))
        );
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert_eq!(refused("slow"), "no service stands before a colon");
        assert!(refused("rds:slow").contains("beanstalk, cfn, ec2"));
        assert_eq!(
            refused("cfn:throttle@120%"),
            "`120%` is no share from 0% to 100%"
        );
        assert_eq!(
            refused("cfn:token-expired@ten"),
            "`ten` is no time such as 500ms or 10s"
        );
        assert_eq!(
            refused("cfn:Cache=BROKEN:x"),
            "`BROKEN` is none of CREATE_FAILED, UPDATE_FAILED, DELETE_FAILED"
        );
        assert_eq!(
            refused("cfn:Cache=CREATE_FAILED"),
            "`CREATE_FAILED` has no reason after a colon"
        );
        assert_eq!(
            refused("s3:A=CREATE_FAILED:x"),
            "only CloudFormation (`cfn`) has resources that fail"
        );
        assert_eq!(refused("s3:teapot"), "there is no fault `teapot`");
        let error = "x".parse::<Fault>().unwrap_err().to_string();
        assert!(error.contains("SERVICE:throttle@20%"), "{error}");
    }

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
        let below = (0..10_000).filter(|_| faults.draw() < 0.2).count();
        assert!((1_900..2_100).contains(&below), "{below}");
    }
}
