//! How long the cloud takes for a resource.

use std::time::Duration;

use clap::ValueEnum;

/// Whether operations take their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Pace {
    /// As fast as it can be.
    #[default]
    Fast,
    /// As long as AWS usually takes, by the table of [`cfn::typical`].
    Real,
}

/// What is done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is created.
    Create,
    /// It is changed in place.
    Update,
    /// It is deleted.
    Delete,
}

impl Pace {
    /// How long to wait for a deed on a resource of a type, beside the time that it really takes.
    pub fn of(self, r#type: &str, deed: Deed) -> Duration {
        let seconds = match (self, deed) {
            (Pace::Fast, _) => return Duration::ZERO,
            (Pace::Real, Deed::Create) => cfn::typical::seconds(r#type),
            // Public measurements are about creation; what changes or goes takes about half as long.
            (Pace::Real, Deed::Update | Deed::Delete) => cfn::typical::seconds(r#type).div_ceil(2),
        };
        Duration::from_secs(u64::from(seconds))
    }

    /// How long a function's network interfaces stay after the function has gone or was detached.
    /// ("Giving Lambda functions access to resources in an Amazon VPC": up to 20 minutes.)
    pub fn interfaces_linger(self) -> Duration {
        match self {
            Pace::Fast => Duration::ZERO,
            Pace::Real => Duration::from_secs(20 * 60),
        }
    }
}
