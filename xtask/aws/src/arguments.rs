//! The flags of every subcommand that talks to AWS.
//!
//! `xtask` includes this very file, so that `--help` and a wrong flag are answered without the SDK
//! being compiled, and both programs read the same words.

use std::path::PathBuf;

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
    /// Stop before anything changes and keep the change set; with its name: execute it
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
    /// Certificate for HTTPS; empty for plain HTTP [default: as it is]
    #[arg(long, value_name = "ARN")]
    pub(crate) certificate: Option<String>,
    /// Use this program as the function's bootstrap instead of building it
    #[arg(long, value_name = "FILE", requires = "webui")]
    pub(crate) function: Option<PathBuf>,
    /// Use this program as the web UI instead of building it
    #[arg(long, value_name = "FILE", requires = "function")]
    pub(crate) webui: Option<PathBuf>,
    /// Leave a resource out when a stuck rollback is continued; may be repeated
    #[arg(long, value_name = "LOGICAL_ID")]
    pub(crate) skip: Vec<String>,
    /// Print the least IAM policies that deploying and destroying need, and do nothing
    #[arg(long)]
    pub(crate) role_policy: bool,
    /// File that remembers the Beanstalk platform [default: platforms/STAGE.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
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
