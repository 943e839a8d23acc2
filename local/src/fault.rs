//! Faults of a run on demand: `--fault PART:WHAT`.
//!
//! | text | what happens |
//! |---|---|
//! | `function:crash@5%` | in so many invocations the function's process is killed at some moment of the work, or its answer is lost |
//! | `cache:restart@30s` | so long after the start the cache is restarted; it keeps its data |
//! | `cache:wipe@30s` | the same, but it loses them |
//! | `stream:throttle@10s..20s` | from one moment to the other no stream takes a record |
//! | `record:duplicate@1%` | so many records are delivered a second time with all that follow them in their batch, as when a checkpoint is lost |
//!
//! Each may be given several times; times count from the moment when the run is ready. What happens to
//! which invocation and record follows from a fixed seed.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cloud;

/// What is understood, for who wrote something else.
const FORMS: &str = "function:crash@5%, cache:restart@30s, cache:wipe@30s, stream:throttle@10s..20s, record:duplicate@1%";

/// A process is killed at a random moment of an invocation, up to this long after its beginning, early
/// ones more often than late ones because most invocations are short. One that ends before is killed at its
/// end, when its work is done and nobody has heard of it: the hardest case for who counts.
const LATEST_CRASH: Duration = Duration::from_millis(20);

/// One fault of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A share of invocations, 0 to 1, whose process is killed.
    FunctionCrash(f64),
    /// The cache is restarted so long after the start.
    CacheRestart(Duration),
    /// The cache is restarted so long after the start, and its data are gone.
    CacheWipe(Duration),
    /// Streams take nothing between two moments after the start.
    StreamThrottle(Duration, Duration),
    /// A share of records, 0 to 1, that are delivered twice.
    RecordDuplicate(f64),
}

/// A fault of a run or of the cloud, whichever the command line names.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyFault {
    /// Of a run.
    Run(Fault),
    /// Of the cloud.
    Cloud(cloud::fault::Fault),
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
        let (what, amount) = text
            .split_once('@')
            .ok_or_else(|| no("no share or time stands after an `@`".to_owned()))?;
        match what {
            "function:crash" => share(amount).map(Fault::FunctionCrash),
            "record:duplicate" => share(amount).map(Fault::RecordDuplicate),
            "cache:restart" => moment(amount).map(Fault::CacheRestart),
            "cache:wipe" => moment(amount).map(Fault::CacheWipe),
            "stream:throttle" => match amount.split_once("..") {
                None => Err(format!("`{amount}` is no span such as 10s..20s")),
                Some((from, to)) => match (moment(from), moment(to)) {
                    (Ok(from), Ok(to)) if from < to => Ok(Fault::StreamThrottle(from, to)),
                    (Ok(_), Ok(_)) => Err(format!("`{amount}` ends before it begins")),
                    (Err(error), _) | (_, Err(error)) => Err(error),
                },
            },
            other => Err(format!("there is no fault `{other}`")),
        }
        .map_err(no)
    }
}

impl FromStr for AnyFault {
    type Err = String;

    fn from_str(text: &str) -> Result<AnyFault, String> {
        let part = text.split(':').next().unwrap_or_default();
        if matches!(part, "function" | "cache" | "stream" | "record") {
            let fault = text.parse().map(AnyFault::Run);
            return fault.map_err(|error: Misunderstood| error.to_string());
        }
        let fault = text.parse().map(AnyFault::Cloud);
        fault.map_err(|error: cloud::fault::Misunderstood| {
            format!("{error}; and, without --cloud, {FORMS}")
        })
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .and_then(|it| it.parse::<f64>().ok())
        .filter(|it| (0.0..=100.0).contains(it))
        .map(|it| it / 100.0)
        .ok_or_else(|| format!("`{text}` is no share from 0% to 100%"))
}

fn moment(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or_default(), 1.0),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|it| Duration::try_from_secs_f64(it * unit).ok())
        .ok_or_else(|| format!("`{text}` is no time such as 500ms or 30s"))
}

/// The faults of a run that happen by chance.
#[derive(Debug)]
pub struct Chances {
    crash: f64,
    duplicate: f64,
    random: AtomicU64,
}

impl Chances {
    /// Those of all faults that are a share; of several of one kind the last counts.
    pub fn of(faults: &[Fault]) -> Chances {
        let mut chances = Chances {
            crash: 0.0,
            duplicate: 0.0,
            random: AtomicU64::new(0x5eed),
        };
        for fault in faults {
            match fault {
                Fault::FunctionCrash(share) => chances.crash = *share,
                Fault::RecordDuplicate(share) => chances.duplicate = *share,
                _ => {}
            }
        }
        chances
    }

    /// After how long at most an invocation's process shall be killed, if it shall.
    pub fn crash(&self) -> Option<Duration> {
        (self.draw() < self.crash).then(|| LATEST_CRASH.mul_f64(self.draw().powi(2)))
    }

    /// From which of so many records on a batch shall be delivered again, if it shall.
    pub fn duplicate(&self, records: usize) -> Option<usize> {
        if self.duplicate == 0.0 {
            return None;
        }
        (0..records).find(|_| self.draw() < self.duplicate)
    }

    /// A number from 0 to 1, by SplitMix64.
    fn draw(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.random.fetch_add(STEP, Ordering::Relaxed);
        let mut bits = state.wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        f64::from(u32::try_from(bits >> 32).unwrap_or(u32::MAX)) / 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let seconds = Duration::from_secs;
        for (text, expected) in [
            ("function:crash@5%", Fault::FunctionCrash(0.05)),
            ("record:duplicate@1%", Fault::RecordDuplicate(0.01)),
            ("cache:restart@30s", Fault::CacheRestart(seconds(30))),
            ("cache:wipe@500ms", Fault::CacheWipe(seconds(1) / 2)),
            (
                "stream:throttle@10s..20s",
                Fault::StreamThrottle(seconds(10), seconds(20)),
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(text.parse(), Ok(AnyFault::Run(expected)));
        }
        assert!(matches!("s3:slow".parse(), Ok(AnyFault::Cloud(_))));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let refused = |text: &str| text.parse::<Fault>().unwrap_err().why;
        assert_eq!(
            refused("function:crash"),
            "no share or time stands after an `@`"
        );
        assert_eq!(
            refused("function:crash@5"),
            "`5` is no share from 0% to 100%"
        );
        assert_eq!(
            refused("cache:restart@soon"),
            "`soon` is no time such as 500ms or 30s"
        );
        assert_eq!(
            refused("stream:throttle@10s"),
            "`10s` is no span such as 10s..20s"
        );
        assert_eq!(
            refused("stream:throttle@20s..10s"),
            "`20s..10s` ends before it begins"
        );
        assert_eq!(refused("cache:melt@1s"), "there is no fault `cache:melt`");
        let error = "rds:slow".parse::<AnyFault>().unwrap_err();
        assert!(error.contains("cache:restart@30s"), "{error}");
    }

    #[test]
    fn chances_are_as_asked_for_and_the_same_in_each_run() {
        let faults = ["function:crash@20%", "record:duplicate@1%"].map(|it| it.parse().unwrap());
        let crashes = || {
            let chances = Chances::of(&faults);
            (0..10_000).map(|_| chances.crash()).collect::<Vec<_>>()
        };
        let first = crashes();
        let count = first.iter().flatten().count();
        assert!((1_800..2_200).contains(&count), "{count}");
        assert_eq!(crashes(), first);
        let chances = Chances::of(&faults);
        let twice = (0..1_000).filter_map(|_| chances.duplicate(10)).count();
        assert!((60..140).contains(&twice), "{twice}");
        let none = Chances::of(&[]);
        assert!((0..1_000).all(|_| none.crash().is_none() && none.duplicate(10).is_none()));
    }
}
