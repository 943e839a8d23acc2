//! What a deployment needs of this machine: the template, the tools, and what the environment names.
//!
//! `cargo xtask doctor` and `deploy` check it before they compile the AWS client; the program that calls AWS
//! adds what only the account knows.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, bail};
use aws_environment::{Environment, Problem};
use serde_json::{Value as Json, json};
use stack::{Arch, Stage};

/// Result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the check.
    pub what: &'static str,
    /// The result.
    pub verdict: Verdict,
}

/// Verdict of a check, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As needed.
    Good(String),
    /// Missing, and `deploy` brings it by itself.
    Note(String),
    /// The check could not be made; nothing is stopped by it.
    Unknown(String),
    /// A deployment would fail.
    Failed(String),
}

impl Finding {
    /// The finding of a check that fails when it returns an error.
    pub fn new(what: &'static str, found: anyhow::Result<String>) -> Finding {
        let verdict = match found {
            Ok(text) => Verdict::Good(text),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        Finding { what, verdict }
    }

    fn word(&self) -> (&'static str, &str) {
        match &self.verdict {
            Verdict::Good(text) => ("ok", text),
            Verdict::Note(text) => ("note", text),
            Verdict::Unknown(text) => ("unknown", text),
            Verdict::Failed(text) => ("FAILED", text),
        }
    }

    /// The finding as a line for a person.
    pub fn line(&self) -> String {
        let (word, text) = self.word();
        format!("{word:7}  {}: {text}", self.what)
    }

    /// The finding as JSON.
    pub fn json(&self) -> Json {
        let (word, text) = self.word();
        let is_good = !matches!(self.verdict, Verdict::Failed(_));
        json!({
            "check": self.what, "ok": is_good, "verdict": word.to_lowercase(), "says": text,
        })
    }
}

/// Name and reason of each check that failed.
pub fn failures(findings: &[Finding]) -> impl Iterator<Item = String> {
    findings
        .iter()
        .filter_map(|finding| match &finding.verdict {
            Verdict::Failed(text) => Some(format!("{}: {text}", finding.what)),
            _ => None,
        })
}

/// Checks the template and the tools that build it, found by `path`.
pub fn machine(stage: Stage, path: &OsStr) -> Vec<Finding> {
    let mut findings = vec![Finding::new("template", architecture(stage))];
    findings.extend(tools(stage, path));
    findings
}

/// Checks the tools that build the programs: cargo-lambda and the Rust target.
pub fn tools(stage: Stage, path: &OsStr) -> [Finding; 2] {
    thread::scope(|scope| {
        let lambda = scope.spawn(|| cargo_lambda(path));
        let target = target(stage.config().arch, path);
        let lambda = lambda
            .join()
            .unwrap_or_else(|_| Verdict::Unknown("it could not be run".to_owned()));
        [
            Finding {
                what: "cargo-lambda",
                verdict: lambda,
            },
            Finding {
                what: "build target",
                verdict: target,
            },
        ]
    })
}

/// The problems of the environment as findings, `environment.problems()` given.
pub fn environment(environment: &Environment, problems: &[Problem]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = problems
        .iter()
        .map(|problem| Finding {
            what: problem.part.name(),
            verdict: Verdict::Failed(problem.message.clone()),
        })
        .collect();
    if let Ok(Some(region)) = &environment.region {
        findings.insert(
            0,
            Finding {
                what: "region",
                verdict: Verdict::Good(region.to_string()),
            },
        );
    }
    findings
}

fn cargo_lambda(path: &OsStr) -> Verdict {
    let mut command = Command::new("cargo-lambda");
    match first_line(command.args(["lambda", "--version"]), path) {
        Ok(version) => Verdict::Good(version),
        Err(Failed::Missing) => Verdict::Note("not installed; `deploy` installs it".to_owned()),
        Err(Failed::Ended(how)) => Verdict::Failed(format!(
            "it does not run: {how}; fix: `pip install --force-reinstall cargo-lambda`"
        )),
    }
}

fn target(arch: Arch, path: &OsStr) -> Verdict {
    let target = arch.target();
    let mut command = Command::new("rustc");
    let folder = first_line(
        command.args(["--print", "target-libdir", "--target", target]),
        path,
    );
    let what = match folder {
        Ok(folder) if Path::new(&folder).is_dir() => return Verdict::Good(target.to_owned()),
        Ok(_) => format!("Rust's library for {target} is not installed"),
        Err(Failed::Missing) => "rustc is not on the PATH".to_owned(),
        Err(Failed::Ended(how)) => format!("rustc does not know {target}: {how}"),
    };
    // Only rustup can bring it.
    match first_line(Command::new("rustup").arg("--version"), path) {
        Ok(_) => Verdict::Note(format!(
            "{what}; `deploy` installs it by `rustup target add {target}`"
        )),
        Err(_) => Verdict::Failed(format!("{what}; fix: `rustup target add {target}`")),
    }
}

/// Why a command printed nothing.
enum Failed {
    Missing,
    Ended(String),
}

/// First line of a command's output.
fn first_line(command: &mut Command, path: &OsStr) -> Result<String, Failed> {
    let output = command
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failed::Missing,
            _ => Failed::Ended(error.to_string()),
        })?;
    if !output.status.success() {
        return Err(Failed::Ended(output.status.to_string()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Checks that function, instances and build are of one architecture.
///
/// All follow from one value of the configuration; this looks at the template that came of it.
///
/// # Errors
/// The stage does not synthesize, or a resource is of another architecture.
pub fn architecture(stage: Stage) -> anyhow::Result<String> {
    let stacks = stack::synth(stage).with_context(|| format!("cannot synthesize stage {stage}"))?;
    let main = stacks.last().context("the stage has no stack")?;
    let arch = stage.config().arch;
    let template: Json =
        serde_json::from_str(&main.template).context("cannot parse the template")?;
    let resources = template["Resources"]
        .as_object()
        .context("the template has no resources")?;
    for (id, resource) in resources {
        for (path, got) in architectures(resource) {
            if got != arch.beanstalk() {
                bail!(
                    "the stage builds for {}, and {id} is for {got} ({path}); fix: change {id} in `stack`",
                    arch.beanstalk()
                );
            }
        }
    }
    Ok(format!(
        "synthesizes; everything is for {}",
        arch.beanstalk()
    ))
}

/// Architectures that a resource names, each with its property.
fn architectures(resource: &Json) -> Vec<(String, String)> {
    let properties = &resource["Properties"];
    let texts = |value: &Json| -> Vec<String> {
        let values = value.as_array().cloned().unwrap_or_default();
        values
            .iter()
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect()
    };
    match resource["Type"].as_str() {
        Some("AWS::Lambda::Function") => texts(&properties["Architectures"])
            .into_iter()
            .map(|arch| ("Architectures".to_owned(), arch))
            .collect(),
        Some("AWS::ElasticBeanstalk::Environment") => {
            let options = properties["OptionSettings"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let options = options.iter().filter_map(|option| {
                let name = option["OptionName"].as_str()?;
                Some((name.to_owned(), option["Value"].as_str()?.to_owned()))
            });
            options
                .flat_map(|(name, value)| {
                    let values = value.split(',').map(str::trim).map(str::to_owned);
                    let values: Vec<String> = match name.as_str() {
                        "SupportedArchitectures" => values.collect(),
                        "InstanceTypes" => values.map(|it| of_instance(&it).to_owned()).collect(),
                        _ => Vec::new(),
                    };
                    values.into_iter().map(move |value| (name.clone(), value))
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The architecture of an instance type: after its generation, `g` stands for Graviton.
///
/// "Amazon EC2 instance type naming conventions".
fn of_instance(r#type: &str) -> &'static str {
    let family = r#type.split('.').next().unwrap_or_default();
    let options = family.trim_start_matches(|it: char| it.is_ascii_lowercase());
    let is_graviton = options.contains('g') || family == "a1";
    let arch = if is_graviton {
        Arch::Arm64
    } else {
        Arch::X86_64
    };
    arch.beanstalk()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_types_name_their_processors() {
        for (r#type, arch) in [
            ("t4g.micro", "arm64"),
            ("m7gd.large", "arm64"),
            ("c8gn.large", "arm64"),
            ("a1.medium", "arm64"),
            ("t3.micro", "x86_64"),
            ("m7i.large", "x86_64"),
            // The letters before the generation say nothing about processors.
            ("g4dn.xlarge", "x86_64"),
        ] {
            assert_eq!(of_instance(r#type), arch, "{}", r#type);
        }
    }

    #[test]
    fn every_stage_is_of_one_architecture_and_a_foreign_part_is_found() -> anyhow::Result<()> {
        for stage in Stage::ALL {
            assert!(architecture(stage)?.contains("arm64"));
        }
        let function = json!({
            "Type": "AWS::Lambda::Function", "Properties": { "Architectures": ["x86_64"] },
        });
        assert_eq!(architectures(&function)[0].1, "x86_64");
        let environment = json!({
            "Type": "AWS::ElasticBeanstalk::Environment",
            "Properties": { "OptionSettings": [
                { "OptionName": "InstanceTypes", "Value": "t4g.micro, t3.micro" },
                { "OptionName": "SupportedArchitectures", "Value": "arm64" },
            ] },
        });
        let found: Vec<String> = architectures(&environment)
            .into_iter()
            .map(|it| it.1)
            .collect();
        assert_eq!(found, ["arm64", "x86_64", "arm64"]);
        Ok(())
    }
}
