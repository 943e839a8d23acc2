//! The project's command line: `cargo xtask`.
//!
//! One file per subcommand. What is light runs in this process (`synth`, `rule`); what is heavy
//! to compile (the broker, an MQTT client, the AWS SDK) is built and run as a program of its own, so
//! that `cargo xtask synth` compiles none of them.
//!
//! Whatever can be known before a build is checked before it: flags, files, addresses, and what the
//! environment names.
//!
//! Layout: `output` (printing); the subcommands; then `address` (ports and servers), `workspace` (folders),
//! `program` (building and becoming programs), `tools` (outside programs), `style` (colours).

#[macro_use]
mod output;

mod address;
mod aws;
mod codegen;
mod completions;
mod cost;
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

use clap::{Parser, Subcommand};
use outcome::{Exit, Failure};

/// Real-time sensor backend on AWS: its infrastructure, its local run, its tests.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
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
    /// Simulate a fleet of sensors
    Simulate(simulate::Arguments),
    /// Manage devices that sign in to the local run with a certificate
    Device(device::Arguments),
    /// Publish under faults and prove that every message is accounted for
    Soak(soak::Arguments),
    /// Show what a topic rule emits for a message
    Rule(rule::Arguments),
    /// Build and deploy a stage
    Deploy(aws::arguments::Deploy),
    /// Delete a stage
    Destroy(aws::arguments::Destroy),
    /// Set up an account and region: who may deploy, and what a stage's roles can do at most
    Bootstrap(aws::arguments::Bootstrap),
    /// Show what a deployment would change
    Diff(aws::arguments::Diff),
    /// Show the status of a stage's stacks
    Status(aws::arguments::Ask),
    /// Show the outputs of a stage
    Outputs(aws::arguments::Ask),
    /// Open the dashboard of a stage
    Open(aws::arguments::Open),
    /// Check what a deployment needs
    Doctor(aws::arguments::Ask),
    /// Rehearse a full deployment locally: create, update, destroy
    Rehearse(rehearse::Arguments),
    /// Send a message through a deployed stage and time each hop to the dashboard
    Smoke(aws::arguments::Smoke),
    /// Show the logs of a stage's programs and rules
    Logs(aws::arguments::Logs),
    /// Review infrastructure changes since a base revision
    Review(review::Arguments),
    /// Estimate what a stage costs a month, and which quota is reached first
    Cost(cost::Arguments),
    /// Generate the resource types from the registry schemas
    Codegen(codegen::Arguments),
    /// Run every check that CI runs
    Test(test::Arguments),
    /// Print the completion script of a shell, for an alias `xtask` of `cargo xtask`
    Completions(completions::Arguments),
}

fn main() -> Exit {
    let is_json = outcome::is_json();
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return outcome::not_parsed(&error, is_json),
    };
    run(command).unwrap_or_else(|error| {
        let error = format!("{error:#}");
        let exit = Exit::Failed;
        eprintln!("{}: {error}", style::stderr().bad("error"));
        Failure { error, exit }.print(is_json);
        exit
    })
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Synth(arguments) => synth::run(arguments),
        Command::Local(arguments) => local::run(arguments),
        Command::Publish(arguments) => publish::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Device(arguments) => device::run(arguments),
        Command::Soak(arguments) => soak::run(arguments),
        Command::Rule(arguments) => rule::run(arguments),
        Command::Deploy(arguments) => aws::deploy(&arguments),
        Command::Doctor(arguments) => aws::doctor(&arguments),
        Command::Rehearse(arguments) => rehearse::run(arguments),
        Command::Bootstrap(_)
        | Command::Destroy(_)
        | Command::Diff(_)
        | Command::Status(_)
        | Command::Outputs(_)
        | Command::Open(_)
        | Command::Smoke(_)
        | Command::Logs(_) => aws::run(),
        Command::Review(arguments) => review::run(arguments),
        Command::Cost(arguments) => cost::run(arguments),
        Command::Codegen(arguments) => codegen::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Columns of a terminal, and of a line of help.
    const WIDTH: usize = 80;

    /// Every command with its subcommands, by the words that call it.
    fn commands() -> Vec<(String, clap::Command)> {
        fn collect(prefix: &str, command: &clap::Command, all: &mut Vec<(String, clap::Command)>) {
            let name = format!("{prefix} {}", command.get_name());
            for subcommand in command.get_subcommands() {
                collect(&name, subcommand, all);
            }
            all.push((name, command.clone()));
        }
        let mut all = Vec::new();
        collect("", &Arguments::command(), &mut all);
        all
    }

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_help_text_is_in_sentence_case_without_a_full_stop() {
        for (name, command) in commands() {
            let abouts = [command.get_about(), command.get_long_about()];
            let helps = command.get_arguments().flat_map(|argument| {
                assert!(
                    argument.get_help().is_some(),
                    "{name}: {}",
                    argument.get_id()
                );
                [argument.get_help(), argument.get_long_help()]
            });
            let about_is_a_title = command.get_name() == "cargo xtask";
            for text in abouts.into_iter().chain(helps).flatten() {
                let text = text.to_string();
                let mut letters = text.chars();
                assert!(
                    letters.next().is_some_and(char::is_uppercase),
                    "{name}: {text:?}"
                );
                assert!(
                    letters.next().is_some_and(|c| !c.is_uppercase()),
                    "{name}: {text:?}"
                );
                assert!(about_is_a_title || !text.ends_with('.'), "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn every_help_line_fits_a_terminal_and_breaks_at_words() {
        for (name, command) in commands() {
            for is_long in [false, true] {
                let mut command = command.clone().term_width(WIDTH);
                let help = match is_long {
                    true => command.render_long_help(),
                    false => command.render_help(),
                };
                let help = help.to_string();
                for line in help.lines() {
                    // A usage line is wrapped by the shell that it is copied into.
                    let is_usage = line.starts_with("Usage:");
                    assert!(
                        is_usage || line.chars().count() <= WIDTH,
                        "{name}: {} columns: {line}",
                        line.chars().count()
                    );
                }
            }
        }
    }
}
