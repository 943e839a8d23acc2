//! Flags of every subcommand that calls AWS.
//!
//! `xtask` includes this file, so that `--help` and a wrong flag are answered before the SDK is compiled,
//! and both programs parse the same arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use stack::Stage;

/// Subcommands that call AWS.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Build and deploy a stage
    Deploy(Deploy),
    /// Delete a stage
    Destroy(Destroy),
    /// Set up an account and region: who may deploy, and what a stage's roles can do at most
    Bootstrap(Bootstrap),
    /// Show what a deployment would change
    Diff(Diff),
    /// Show the status of a stage's stacks
    Status(Ask),
    /// Show the outputs of a stage
    Outputs(Ask),
    /// Open the dashboard of a stage
    Open(Open),
    /// Check what a deployment needs
    Doctor(Ask),
    /// Send a message through a deployed stage and time each hop to the dashboard
    Smoke(Smoke),
    /// Show the logs of a stage's programs and rules
    Logs(Logs),
    /// Send one message to a deployed stage
    Publish(Publish),
    /// Simulate a fleet of sensors for a deployed stage
    Simulate(Simulate),
}

/// Flags of `deploy`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Deploy {
    /// Stage to deploy: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Deploy without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Upload the artifacts and keep the change set without executing it; with NAME, execute that change
    /// set
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub(crate) plan: Option<String>,
    /// Print events and the result as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
    /// Take the Beanstalk platform that AWS recommends instead of the one in the lock file
    #[arg(long)]
    pub(crate) update_platform: bool,
    /// Mail address for alarms; empty for none [default: keep]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) alarm_email: Option<String>,
    /// Certificate for HTTPS, which prod needs the first time; empty for plain HTTP [default: keep]
    #[arg(long, value_name = "ARN")]
    pub(crate) certificate: Option<String>,
    /// Use this program as the function's bootstrap instead of building it
    #[arg(long, value_name = "FILE", requires = "webui")]
    pub(crate) function: Option<PathBuf>,
    /// Use this program as the web UI instead of building it
    #[arg(long, value_name = "FILE", requires = "function")]
    pub(crate) webui: Option<PathBuf>,
    /// In a rehearsal: accept programs of another architecture than the stage's
    #[arg(long, requires = "function", hide_short_help = true)]
    pub(crate) any_architecture: bool,
    /// In a rehearsal: change a property of the main stack; may be repeated
    #[arg(long, value_name = "LOGICAL_ID.PROPERTY=VALUE", hide_short_help = true)]
    pub(crate) set: Vec<String>,
    /// Protect the stacks from deletion, as prod always does
    #[arg(long)]
    pub(crate) protect: bool,
    /// Skip a resource when a stuck rollback is continued; may be repeated
    #[arg(long, value_name = "LOGICAL_ID")]
    pub(crate) skip: Vec<String>,
    /// Print the IAM policies that deploying and destroying need, and do nothing: with bootstrap the
    /// small one, without it one that equals administration
    #[arg(long)]
    pub(crate) role_policy: bool,
    /// File with the Beanstalk platform of each region [default: platforms/STAGE.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
    /// Skip the message that is sent through the deployed stage at the end
    #[arg(long)]
    pub(crate) no_smoke: bool,
    /// Milliseconds between two polls while waiting
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub(crate) poll: u64,
}

/// Flags of `destroy`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Destroy {
    /// Stage to delete: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Delete without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Delete the archive and the failed records as well
    #[arg(long)]
    pub(crate) delete_data: bool,
    /// Keep a resource that cannot be deleted; may be repeated
    #[arg(long, value_name = "LOGICAL_ID")]
    pub(crate) retain: Vec<String>,
    /// With --yes: delete stacks that are protected from deletion as well
    #[arg(long)]
    pub(crate) lift_protection: bool,
    /// Print events and the result as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
    /// Milliseconds between two polls while waiting
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub(crate) poll: u64,
}

/// Flags of `bootstrap`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Bootstrap {
    /// Let this GitHub repository and environment deploy, by the subject of its tokens, such as
    /// repo:OWNER@1/NAME@2:environment:prod; empty for none [default: as it is]
    #[arg(long, value_name = "SUB", value_parser = subject, conflicts_with = "remove")]
    pub(crate) github_subject: Option<String>,
    /// Use the account's identity provider for GitHub instead of creating it
    #[arg(long, conflicts_with = "remove")]
    pub(crate) github_provider_exists: bool,
    /// Show what would change, and change nothing
    #[arg(long, conflicts_with = "remove")]
    pub(crate) plan: bool,
    /// Remove the bootstrap; refused while a stage uses it
    #[arg(long)]
    pub(crate) remove: bool,
    /// Do it without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print events and the result as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
    /// Milliseconds between two questions while waiting
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub(crate) poll: u64,
}

/// Flags of `diff`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Diff {
    /// Stage to compare: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Ask CloudFormation as well, by a change set that is deleted again
    #[arg(long)]
    pub(crate) online: bool,
    /// Exit with 4 when something would change
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Print the changes as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of commands that show something of a stage.
#[derive(Args, Clone, Debug)]
pub(crate) struct Ask {
    /// Stage to show: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `open`.
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
    /// Whether programs are built: they are not given, and the command neither executes an earlier plan nor
    /// prints a policy.
    pub(crate) fn builds(&self) -> bool {
        let is_resumed = self.plan.as_ref().is_some_and(|name| !name.is_empty());
        self.function.is_none() && !is_resumed && !self.role_policy
    }
}

/// Flags of `smoke`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Smoke {
    /// Stage to test: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Wait until the archive holds the message as well: about two minutes
    #[arg(long)]
    pub(crate) archive: bool,
    /// Seconds that each hop may take; the archive may take 120 more
    #[arg(long, value_name = "S", default_value_t = 120)]
    pub(crate) patience: u64,
    /// Print each hop and the result as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `logs`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Logs {
    /// Stage whose logs are shown: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    pub(crate) stage: Stage,
    /// Age of the oldest line: a number with s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span)]
    pub(crate) since: Duration,
    /// Show new lines until Ctrl-C
    #[arg(long)]
    pub(crate) follow: bool,
    /// Print each line as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `publish`.
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

/// Flags of `simulate`.
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
    /// Seconds until the simulation ends [default: until Ctrl-C]
    #[arg(long, value_name = "S")]
    pub(crate) seconds: Option<f64>,
    /// Faults to inject: silence, spikes, garbage, duplicates (separated by commas)
    #[arg(long, value_name = "FAULTS")]
    pub(crate) faults: Option<String>,
    /// Seed of the values: the same seed gives the same messages
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How to print the subject of a repository's tokens.
pub(crate) const PRINT_SUBJECT: &str = r#"gh api repos/OWNER/REPOSITORY --jq '"repo:\(.owner.login)@\(.owner.id)/\(.name)@\(.id):environment:ENVIRONMENT"'"#;

/// Reads the subject of a GitHub repository and environment.
fn subject(text: &str) -> Result<String, String> {
    if text.is_empty() || stack::bootstrap::is_subject(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "expected repo:OWNER@ID/REPOSITORY@ID:environment:NAME without wildcards (without the IDs for a repository that GitHub has neither created nor renamed since 2026-07-15)\nfix: print it by `{PRINT_SUBJECT}`"
    ))
}

/// Parses a time such as `90s`, `10m`, `2h` or `1d`.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number with s, m, h or d, for example 10m".to_owned();
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
