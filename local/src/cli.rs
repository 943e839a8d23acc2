//! The command line, as typed and as meant.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use local_flags::path::{ForResource, for_resource, parameter};

use crate::control::ControlAddress;
use crate::fault::Fault;

/// Runs an emitted CloudFormation template on one machine until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "local", version)]
pub struct Arguments {
    /// The template, in JSON
    #[arg(long, value_name = "FILE", required_unless_present = "add_device")]
    pub template: Option<PathBuf>,
    /// Inject a fault, e.g. `function:crash@5%`, `cache:restart@30s`, `cache:wipe@30s`,
    /// `stream:throttle@10s..20s` or `record:duplicate@1%`; may be repeated
    #[arg(long, value_name = "PART:WHAT")]
    pub fault: Vec<Fault>,
    /// The function's binary; with several functions in the template, LOGICALID=FILE for each
    #[arg(long, value_name = "[LOGICALID=]FILE", value_parser = for_resource)]
    pub function: Vec<ForResource>,
    /// The unpacked Beanstalk bundle with its Procfile; with several environments, LOGICALID=DIR for each
    #[arg(long, value_name = "[LOGICALID=]DIR", value_parser = for_resource)]
    pub bundle: Vec<ForResource>,
    /// Value of a template parameter; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameter: Vec<(String, String)>,
    /// Name of the stack
    #[arg(long, value_name = "NAME", default_value = "sensors-local")]
    pub stack_name: String,
    /// Address for MQTT; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    pub mqtt: SocketAddr,
    /// Address for MQTT with TLS, for devices with certificates; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub mqtts: Option<SocketAddr>,
    /// Register a device in the data folder, show how it publishes to `--mqtts`, and end
    #[arg(long, value_name = "NAME", conflicts_with = "template")]
    pub add_device: Option<String>,
    /// Address for the dashboard; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub dashboard: SocketAddr,
    /// Address of the JSON status endpoint; port 0 takes a free one, `auto` takes 127.0.0.1:8081 or,
    /// where that is taken, a free one
    #[arg(long, value_name = "ADDR")]
    pub control: Option<ControlAddress>,
    /// Use this running Redis or Valkey instead of starting one
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Folder for what the run keeps, such as the archive
    #[arg(long, value_name = "DIR", default_value = "target/local")]
    pub data: PathBuf,
    /// Start again what changes: the template, a function's binary, a bundle
    #[arg(long)]
    pub watch: bool,
    /// Show also what the programs log for each batch and request; without, only the log file has it
    #[arg(long)]
    pub verbose: bool,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
}

impl Arguments {
    /// The parameters by name; the last value of a name counts.
    pub fn parameters(&self) -> BTreeMap<String, String> {
        self.parameter.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_is_needed_unless_a_device_is_registered() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        let run = parse("local --template t.json --fault cache:wipe@1s").unwrap();
        assert_eq!(run.fault.len(), 1);
        assert!(parse("local --add-device kitchen").is_ok());
        for line in [
            "local",
            "local --add-device kitchen --template t.json",
            "local --template t.json --fault s3:slow",
            "local --template t.json --no-run",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
