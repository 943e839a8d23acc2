//! Faults of a run on demand: `--fault PART:WHAT`.
//!
//! [`local_flags::fault::run`] parses them. Each may be given several times. What happens to which
//! invocation and record follows from a fixed seed.

use std::time::Duration;

pub use local_flags::fault::run::Fault;

use crate::random::Random;

/// A process is killed at a random moment of an invocation, up to this long after its beginning, early
/// ones more often than late ones because most invocations are short. One that ends before is killed at its
/// end, when its work is done and nobody has heard of it: the hardest case for who counts.
const LATEST_CRASH: Duration = Duration::from_millis(20);

/// The faults of a run that happen by chance.
#[derive(Debug)]
pub struct Chances {
    crash: f64,
    duplicate: f64,
    random: Random,
}

impl Chances {
    /// Those of all faults that are a share; of several of one kind the last counts.
    pub fn of(faults: &[Fault]) -> Chances {
        let mut chances = Chances {
            crash: 0.0,
            duplicate: 0.0,
            random: Random::new(0x5eed),
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
        (self.random.fraction() < self.crash)
            .then(|| LATEST_CRASH.mul_f64(self.random.fraction().powi(2)))
    }

    /// From which of so many records on a batch shall be delivered again, if it shall.
    pub fn duplicate(&self, records: usize) -> Option<usize> {
        if self.duplicate == 0.0 {
            return None;
        }
        (0..records).find(|_| self.random.fraction() < self.duplicate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
