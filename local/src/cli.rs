//! The command line, as typed and as meant.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
pub use local_flags::path::{ForResource, path_for};
use local_flags::path::{for_resource, parameter};

use crate::cloud;
use crate::cloud::pace::Pace;
use crate::control::ControlAddress;
use crate::fault::{AnyFault, Fault};

/// Runs an emitted CloudFormation template on one machine until Ctrl-C, or is the cloud that one is
/// deployed to.
#[derive(Debug, Parser)]
#[command(name = "local", version)]
pub struct Arguments {
    /// The template, in JSON
    #[arg(long, value_name = "FILE", required_unless_present_any = ["cloud", "add_device"])]
    pub template: Option<PathBuf>,
    /// Answer the AWS APIs here instead, and run what is deployed; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDR",
        conflicts_with_all = ["template", "function", "bundle", "parameter", "stack_name"]
    )]
    pub cloud: Option<SocketAddr>,
    /// Inject a fault: into a run, e.g. `function:crash@5%`, `cache:restart@30s`, `cache:wipe@30s`,
    /// `stream:throttle@10s..20s` or `record:duplicate@1%`; into the cloud, e.g.
    /// `cfn:Cache=CREATE_FAILED:no capacity@once`, `cfn:throttle@20%`, `cfn:token-expired@10s` or
    /// `s3:slow@500ms`; may be repeated
    #[arg(long, value_name = "WHERE:WHAT")]
    pub fault: Vec<AnyFault>,
    /// How long the cloud takes for a resource
    #[arg(
        long,
        value_enum,
        default_value_t,
        requires = "cloud",
        conflicts_with = "template"
    )]
    pub pace: Pace,
    /// Start no programs in the cloud: only the APIs answer
    #[arg(long, requires = "cloud", conflicts_with = "template")]
    pub no_run: bool,
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
    #[arg(long, value_name = "ADDR", conflicts_with = "cloud")]
    pub mqtts: Option<SocketAddr>,
    /// Register a device in the data folder, show how it publishes to `--mqtts`, and end
    #[arg(long, value_name = "NAME", conflicts_with_all = ["cloud", "template"])]
    pub add_device: Option<String>,
    /// Address for the dashboard; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub dashboard: SocketAddr,
    /// Address of the JSON status endpoint; port 0 takes a free one, `auto` takes 127.0.0.1:8081 or,
    /// where that is taken, a free one
    #[arg(long, value_name = "ADDR", conflicts_with = "cloud")]
    pub control: Option<ControlAddress>,
    /// Use this running Redis or Valkey instead of starting one
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Folder for what the run keeps, such as the archive
    #[arg(long, value_name = "DIR", default_value = "target/local")]
    pub data: PathBuf,
    /// Start again what changes: the template, a function's binary, a bundle
    #[arg(long, conflicts_with = "cloud")]
    pub watch: bool,
    /// Show also what the programs log for each batch and request; without, only the log file has it
    #[arg(long)]
    pub verbose: bool,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
}

impl Arguments {
    /// The faults of a run.
    ///
    /// # Errors
    /// One is of the cloud.
    pub fn run_faults(&self) -> Result<Vec<Fault>, String> {
        let fault = |fault: &AnyFault| match fault {
            AnyFault::Run(fault) => Ok(*fault),
            AnyFault::Cloud(fault) => Err(format!("--fault: {fault:?} happens with --cloud only")),
        };
        self.fault.iter().map(fault).collect()
    }

    /// The faults of the cloud.
    ///
    /// # Errors
    /// One is of a run.
    pub fn cloud_faults(&self) -> Result<Vec<cloud::fault::Fault>, String> {
        let fault = |fault: &AnyFault| match fault {
            AnyFault::Cloud(fault) => Ok(fault.clone()),
            AnyFault::Run(fault) => Err(format!("--fault: {fault:?} happens without --cloud only")),
        };
        self.fault.iter().map(fault).collect()
    }

    /// The parameters by name; the last value of a name counts.
    pub fn parameters(&self) -> BTreeMap<String, String> {
        self.parameter.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloud_stands_alone() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        let cloud = parse("local --cloud 127.0.0.1:0 --fault s3:slow --pace real").unwrap();
        assert_eq!(cloud.pace, Pace::Real);
        assert_eq!(cloud.fault.len(), 1);
        assert!(parse("local --template t.json").is_ok());
        let faults = |line: &str| {
            let arguments = parse(line).unwrap();
            (
                arguments.run_faults().is_ok(),
                arguments.cloud_faults().is_ok(),
            )
        };
        assert_eq!(faults("local --template t --fault s3:slow"), (false, true));
        assert_eq!(
            faults("local --template t --fault cache:wipe@1s"),
            (true, false)
        );
        for line in [
            "local",
            "local --cloud 127.0.0.1:0 --template t.json",
            "local --cloud 127.0.0.1:0 --stack-name s",
            "local --template t.json --no-run",
            "local --cloud 127.0.0.1:0 --fault s3:broken",
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
