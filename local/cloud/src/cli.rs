//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::fault::Fault;
use crate::pace::Pace;

/// Answers the AWS APIs that a deployment calls, and runs what is deployed, until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "local-cloud", version)]
pub struct Arguments {
    /// Address of the APIs, for `AWS_ENDPOINT_URL`; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4566")]
    pub listen: SocketAddr,
    /// Inject a fault: `cfn:Cache=CREATE_FAILED:no capacity@once`, `cfn:throttle@20%`,
    /// `cfn:token-expired@10s` or `s3:slow@500ms`; may be repeated
    #[arg(long, value_name = "SERVICE:WHAT")]
    pub fault: Vec<Fault>,
    /// Time that a resource takes
    #[arg(long, value_enum, default_value_t)]
    pub pace: Pace,
    /// Start no programs: only the APIs answer
    #[arg(long)]
    pub no_run: bool,
    /// Address for MQTT of the first stack; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    pub mqtt: SocketAddr,
    /// Address for the dashboard of the first stack; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub dashboard: SocketAddr,
    /// Use this running Redis or Valkey instead of starting one
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Folder for stacks, buckets and what the runs keep
    #[arg(long, value_name = "DIR", default_value = "target/local/cloud")]
    pub data: PathBuf,
    /// Show also what the programs log for each batch and request; without, only the log file has it
    #[arg(long)]
    pub verbose: bool,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_and_pace_are_read() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        let cloud = parse("local-cloud --fault s3:slow --pace real").unwrap();
        assert_eq!((cloud.fault.len(), cloud.pace), (1, Pace::Real));
        assert!(parse("local-cloud --fault s3:broken").is_err());
        assert!(parse("local-cloud --fault cache:wipe@1s").is_err());
    }

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
