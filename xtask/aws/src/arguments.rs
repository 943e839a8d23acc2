//! The flags of every subcommand that talks to AWS.
//!
//! `xtask` includes this very file, so that `--help` and a wrong flag are answered without the SDK
//! being compiled, and both programs read the same words.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use stack::Stage;

/// What this program does.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Build and deploy a stage
    Deploy(Deploy),
    /// Take a stage down
    Destroy(Destroy),
    /// Show what a deployment would change
    Diff(Diff),
    /// Show how a stage's stacks are
    Status(Ask),
    /// Show the outputs of a stage
    Outputs(Ask),
    /// Open the dashboard of a stage
    Open(Open),
    /// Check what a deployment needs
    Doctor(Ask),
    /// Send a message through a deployed stage and time its way to the dashboard
    Smoke(Smoke),
    /// Show what a stage's programs and rules have logged
    Logs(Logs),
    /// Send one message to a deployed stage
    Publish(Publish),
    /// Send what a fleet of simulated sensors says to a deployed stage
    Simulate(Simulate),
}

/// Deploying.
#[derive(Args, Clone, Debug)]
pub(crate) struct Deploy {
    /// Stage to deploy: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Deploy without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Stop before anything that runs is changed, and keep the change set: only the artifacts and their
    /// stack are brought up. With its name: execute it
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub(crate) plan: Option<String>,
    /// Print events and the result as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
    /// Take the newest Beanstalk platform instead of the one in the lock file
    #[arg(long)]
    pub(crate) update_platform: bool,
    /// Address that alarms are mailed to; empty for none [default: as it is]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) alarm_email: Option<String>,
    /// Certificate for HTTPS, which prod needs the first time; empty for plain HTTP [default: as it is]
    #[arg(long, value_name = "ARN")]
    pub(crate) certificate: Option<String>,
    /// Use this program as the function's bootstrap instead of building it
    #[arg(long, value_name = "FILE", requires = "webui")]
    pub(crate) function: Option<PathBuf>,
    /// Use this program as the web UI instead of building it
    #[arg(long, value_name = "FILE", requires = "function")]
    pub(crate) webui: Option<PathBuf>,
    /// In a rehearsal: take the given programs though they are of another architecture than the stage's
    #[arg(long, requires = "function", hide_short_help = true)]
    pub(crate) any_architecture: bool,
    /// In a rehearsal: change a property of the main stack; may be repeated
    #[arg(long, value_name = "LOGICAL_ID.PROPERTY=VALUE", hide_short_help = true)]
    pub(crate) set: Vec<String>,
    /// Leave a resource out when a stuck rollback is continued; may be repeated
    #[arg(long, value_name = "LOGICAL_ID")]
    pub(crate) skip: Vec<String>,
    /// Print the least IAM policies that deploying and destroying need, and do nothing
    #[arg(long)]
    pub(crate) role_policy: bool,
    /// File that remembers the Beanstalk platform [default: platforms/STAGE.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
    /// End without sending a message through what was deployed
    #[arg(long)]
    pub(crate) no_smoke: bool,
    /// Milliseconds between two questions while waiting
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub(crate) poll: u64,
}

/// Taking down.
#[derive(Args, Clone, Debug)]
pub(crate) struct Destroy {
    /// Stage to take down: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Take it down without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Delete the archive and the records that failed, too
    #[arg(long)]
    pub(crate) delete_data: bool,
    /// Leave a resource behind that cannot be deleted; may be repeated
    #[arg(long, value_name = "LOGICAL_ID")]
    pub(crate) retain: Vec<String>,
    /// Lift the termination protection of the stacks
    #[arg(long)]
    pub(crate) lift_protection: bool,
    /// Print events and the result as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
    /// Milliseconds between two questions while waiting
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub(crate) poll: u64,
}

/// Comparing.
#[derive(Args, Clone, Debug)]
pub(crate) struct Diff {
    /// Stage to compare: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Ask CloudFormation, too, by a change set that is deleted again
    #[arg(long)]
    pub(crate) online: bool,
    /// Exit with 4 when something would change
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Print the changes as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

/// Asking something about a stage.
#[derive(Args, Clone, Debug)]
pub(crate) struct Ask {
    /// Stage to look at: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Opening the dashboard.
#[derive(Args, Clone, Debug)]
pub(crate) struct Open {
    /// Stage whose dashboard opens: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Print the address instead of opening it
    #[arg(long)]
    pub(crate) print: bool,
}

impl Deploy {
    /// Whether programs are built: neither given, nor part of a plan that was made before, nor beside
    /// the point.
    pub(crate) fn builds(&self) -> bool {
        let is_resumed = self.plan.as_ref().is_some_and(|name| !name.is_empty());
        self.function.is_none() && !is_resumed && !self.role_policy
    }
}

/// Trying what is deployed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Smoke {
    /// Stage to try: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Wait until the archive holds the message, too: about two minutes
    #[arg(long)]
    pub(crate) archive: bool,
    /// Seconds that each part of the way may take; the archive may take 120 more
    #[arg(long, value_name = "S", default_value_t = 120)]
    pub(crate) patience: u64,
    /// Print each part of the way and the result as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reading logs.
#[derive(Args, Clone, Debug)]
pub(crate) struct Logs {
    /// Stage whose logs are shown: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// How far back: a number with s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span)]
    pub(crate) since: Duration,
    /// Go on with what is logged from now on, until Ctrl-C
    #[arg(long)]
    pub(crate) follow: bool,
    /// Print each line as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Sending one message.
#[derive(Args, Clone, Debug)]
pub(crate) struct Publish {
    /// Stage to send to: dev or prod
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Stage,
    /// Topic to publish to; topic/sensors/NAME is the device NAME
    #[arg(long, value_name = "TOPIC", default_value = contract::topic::BARE)]
    pub(crate) topic: String,
    /// Payload: JSON, text, or `-` for the bytes of standard input
    #[arg(allow_negative_numbers = true)]
    pub(crate) message: String,
}

/// Sending what a fleet says.
#[derive(Args, Clone, Debug)]
pub(crate) struct Simulate {
    /// Stage to send to: dev or prod
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Stage,
    /// Number of devices
    #[arg(long, value_name = "N")]
    pub(crate) devices: usize,
    /// Messages a second, of all devices together
    #[arg(long, value_name = "R")]
    pub(crate) rate: f64,
    /// Seconds until it ends; without, until Ctrl-C
    #[arg(long, value_name = "S")]
    pub(crate) seconds: Option<f64>,
    /// What goes wrong now and then: silence, spikes, garbage, duplicates (separated by commas)
    #[arg(long, value_name = "FAULTS")]
    pub(crate) faults: Option<String>,
    /// Seed of the values: the same seed gives the same messages
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads a time such as `90s`, `10m`, `2h` or `1d`.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("got `{text}`, expected a number with s, m, h or d, such as 10m");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: u64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| wrong())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = number.checked_mul(seconds).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}
