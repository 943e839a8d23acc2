//! The project's command line: `cargo xtask`.
//!
//! One file per subcommand. What is light runs in this process (`synth`, `rule`, `codegen`); what is heavy
//! to compile (the broker, an MQTT client, the AWS SDK) is built and run as a program of its own, so
//! that `cargo xtask synth` compiles none of them.
//!
//! Layout: `output` (printing); the subcommands; then `workspace` (folders), `program` (building and becoming programs),
//! `tools` (outside programs), `style` (colours).

#[macro_use]
mod output;

mod aws;
mod codegen;
mod device;
mod local;
mod program;
mod publish;
mod rehearse;
mod review;
mod rule;
mod simulate;
mod soak;
mod style;
mod synth;
mod test;
mod tools;
mod workspace;

use std::process::{ExitCode, Termination};

use clap::{Parser, Subcommand};

/// Real-time sensor backend on AWS: its infrastructure, its local run, its tests.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the CloudFormation templates of a stage
    Synth(synth::Arguments),
    /// Run a stage's template on this machine until Ctrl-C
    Local(local::Arguments),
    /// Send one message to the local run or to a deployed stage
    Publish(publish::Arguments),
    /// Send what a fleet of simulated sensors says
    Simulate(simulate::Arguments),
    /// Devices that sign in to the local run with a certificate
    Device(device::Arguments),
    /// Publish for a while, make everything fail now and then, and prove that nothing is lost
    Soak(soak::Arguments),
    /// Show what a topic rule emits for a message
    Rule(rule::Arguments),
    /// Build and deploy a stage
    Deploy(aws::arguments::Deploy),
    /// Take a stage down
    Destroy(aws::arguments::Destroy),
    /// Show what a deployment would change
    Diff(aws::arguments::Diff),
    /// Show how a stage's stacks are
    Status(aws::arguments::Ask),
    /// Show the outputs of a stage
    Outputs(aws::arguments::Ask),
    /// Open the dashboard of a stage
    Open(aws::arguments::Open),
    /// Check what a deployment needs
    Doctor(aws::arguments::Ask),
    /// Deploy to a cloud on this machine, change, destroy, and time each part
    Rehearse(rehearse::Arguments),
    /// Send a message through a deployed stage and time its way to the dashboard
    Smoke(aws::arguments::Smoke),
    /// Show what a stage's programs and rules have logged
    Logs(aws::arguments::Logs),
    /// Tell what the working tree changes in the infrastructure
    Review(review::Arguments),
    /// Generate the resource types from the registry schemas
    Codegen(codegen::Arguments),
    /// Run every check that CI runs
    Test(test::Arguments),
}

/// What the exit code tells.
enum Exit {
    /// 0: done.
    Done,
    /// 1: it failed, and standard error says why. (2 is a wrong flag, from the flag parser.)
    Failed,
    /// 3: the rule does not fire for the message.
    NotFired,
    /// 3: the change must be looked at.
    Grave,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::NotFired | Exit::Grave => 3,
        })
    }
}

fn main() -> Exit {
    let done = match Arguments::parse().command {
        Command::Synth(arguments) => synth::run(arguments),
        Command::Local(arguments) => local::run(arguments),
        Command::Publish(arguments) => publish::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Device(arguments) => device::run(arguments),
        Command::Soak(arguments) => soak::run(arguments),
        Command::Rule(arguments) => rule::run(arguments),
        Command::Deploy(arguments) => aws::deploy(&arguments),
        Command::Rehearse(arguments) => rehearse::run(arguments),
        Command::Destroy(_)
        | Command::Diff(_)
        | Command::Status(_)
        | Command::Outputs(_)
        | Command::Open(_)
        | Command::Doctor(_)
        | Command::Smoke(_)
        | Command::Logs(_) => aws::run(),
        Command::Review(arguments) => review::run(arguments),
        Command::Codegen(arguments) => codegen::run(arguments),
        Command::Test(arguments) => test::run(arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{}: {error:#}", style::stderr().bad("error"));
        Exit::Failed
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_help_line_is_in_sentence_case_without_a_full_stop() {
        for command in Arguments::command().get_subcommands() {
            let about = command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            let helps = command
                .get_arguments()
                .filter(|argument| argument.get_id() != "help");
            let helps = helps.map(|argument| {
                argument
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default()
            });
            for line in std::iter::once(about).chain(helps) {
                let name = command.get_name();
                let mut letters = line.chars();
                assert!(
                    letters.next().is_some_and(char::is_uppercase),
                    "{name}: {line:?}"
                );
                assert!(
                    letters.next().is_some_and(|c| !c.is_uppercase()),
                    "{name}: {line:?}"
                );
                assert!(!line.ends_with('.'), "{name}: {line:?}");
            }
        }
    }
}
