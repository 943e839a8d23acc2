//! `doctor`: what a deployment needs, looked at before anything is begun; each line that fails says
//! how to mend it. `deploy` looks at the same first, as far as it concerns what it is about to do.
//!
//! A check that may not be made for want of a permission is a doubt, not a failure.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_elasticbeanstalk::types::PlatformFilter;
use serde_json::{Value as Json, json};
use stack::{Arch, Stage};
use tokio::process::Command;

use crate::arguments::{Ask, Deploy};
use crate::aws::beanstalk;
use crate::aws::ec2::Ec2;
use crate::aws::{CallFailed, Cloud, failed};
use crate::deploy::platform;
use crate::deploy::{lock, root, synth};
use crate::screen::progress::Output;
use crate::stack::call;

pub(crate) async fn run(arguments: Ask) -> anyhow::Result<()> {
    let stage = arguments.stage;
    let output = if arguments.json {
        Output::Json
    } else {
        Output::Plain
    };
    let (here, there) = tokio::join!(here(stage), there(stage));
    let findings: Vec<Finding> = here.into_iter().chain(there).collect();
    for finding in &findings {
        finding.tell(output);
    }
    match failures(&findings).count() {
        0 => Ok(()),
        failed => bail!("{failed} of the checks failed"),
    }
}

/// Looks at what this deployment needs: the tools when it builds, the account's room when the stack is
/// new. Says only what is not as it should be, and fails when something is missing.
pub(crate) async fn before_deploying(
    cloud: &Cloud,
    output: Output,
    arguments: &Deploy,
    is_new: bool,
) -> anyhow::Result<()> {
    let stage = arguments.stage;
    let arch = stage.config().arch;
    let tools = async {
        if !arguments.builds() {
            return Vec::new();
        }
        let (lambda, target) = tokio::join!(cargo_lambda(), target(arch));
        vec![
            Finding::new("cargo-lambda", lambda),
            Finding::new("build target", target),
        ]
    };
    let room = async {
        if !is_new {
            return Vec::new();
        }
        let file = (!arguments.update_platform)
            .then(|| lock(arguments))
            .transpose();
        let (mut room, platform) = tokio::join!(room(cloud, stage), async {
            platform_of(cloud, file?.as_deref()).await
        });
        room.push(Finding::new("platform", platform));
        room
    };
    let (tools, room) = tokio::join!(tools, room);
    let mut findings = vec![Finding::new("architecture", architecture(stage))];
    findings.extend(tools.into_iter().chain(room));
    for finding in findings
        .iter()
        .filter(|it| matches!(it.verdict, Verdict::Doubt(_)))
    {
        finding.tell(output);
    }
    let failed: Vec<String> = failures(&findings).collect();
    if !failed.is_empty() {
        bail!("nothing was begun:\n  {}", failed.join("\n  "));
    }
    Ok(())
}

/// What came of a check.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
}

#[derive(Debug)]
enum Verdict {
    Good(String),
    /// It could not be looked at.
    Doubt(String),
    Bad(String),
}

impl Finding {
    fn new(what: &'static str, found: anyhow::Result<String>) -> Finding {
        let verdict = match found {
            Ok(said) => Verdict::Good(said),
            Err(error) if is_denied(&error) => Verdict::Doubt(format!("{error:#}")),
            Err(error) => Verdict::Bad(format!("{error:#}")),
        };
        Finding { what, verdict }
    }

    fn tell(&self, output: Output) {
        let (word, said) = match &self.verdict {
            Verdict::Good(said) => ("ok", said),
            Verdict::Doubt(said) => ("unknown", said),
            Verdict::Bad(said) => ("FAILED", said),
        };
        output.say(format!("{word:7}  {}: {said}", self.what));
        let is_good = !matches!(self.verdict, Verdict::Bad(_));
        output.tell(&json!({
            "check": self.what, "ok": is_good, "verdict": word.to_lowercase(), "says": said,
        }));
    }
}

fn failures(findings: &[Finding]) -> impl Iterator<Item = String> {
    findings
        .iter()
        .filter_map(|finding| match &finding.verdict {
            Verdict::Bad(said) => Some(format!("{}: {said}", finding.what)),
            _ => None,
        })
}

/// Whether a check failed because it may not be made, or because nobody answers such questions there.
fn is_denied(error: &anyhow::Error) -> bool {
    let code = error
        .downcast_ref::<CallFailed>()
        .and_then(|it| it.code.as_deref());
    matches!(
        code,
        Some(
            "AccessDenied"
                | "AccessDeniedException"
                | "UnauthorizedOperation"
                | "NotImplemented"
                | "InsufficientPrivilegesException"
        )
    )
}

/// What can be seen on this machine.
async fn here(stage: Stage) -> Vec<Finding> {
    let arch = stage.config().arch;
    let (lambda, target) = tokio::join!(cargo_lambda(), target(arch));
    vec![
        Finding::new("template", architecture(stage)),
        Finding::new("cargo-lambda", lambda),
        Finding::new("build target", target),
    ]
}

/// What can be seen in the account.
async fn there(stage: Stage) -> Vec<Finding> {
    let cloud = match Cloud::connect(Duration::from_secs(1)).await {
        Ok(cloud) => cloud,
        Err(error) => return vec![Finding::new("region", Err(error))],
    };
    let mut findings = vec![Finding::new("region", Ok(cloud.region.clone()))];
    let identity = cloud.identity().await;
    let is_known = identity.is_ok();
    let said = identity.map(|it| format!("account {}, {}", it.account, it.arn));
    findings.push(Finding::new("credentials", said));
    // Without credentials the others would only fail for the same reason.
    if !is_known {
        return findings;
    }
    let lock = root().map(|root| platform::file(&root, stage));
    let (platform, room) = tokio::join!(async { platform_of(&cloud, Some(&lock?)).await }, async {
        let name = stack::stack_name(stage);
        match call::find(&cloud, &name).await {
            // What the stage takes it has already.
            Ok(Some(stack)) if stack.state() == crate::stack::state::State::Ready => Vec::new(),
            _ => room(&cloud, stage).await,
        }
    });
    findings.push(Finding::new("platform", platform));
    findings.extend(room);
    findings
}

/// Function, instances and build must be of one architecture; all follow from one value, and this
/// looks at what the template came to.
fn architecture(stage: Stage) -> anyhow::Result<String> {
    let [_, main] = synth(stage)?;
    let arch = stage.config().arch;
    let template: Json = serde_json::from_str(&main.template).context("read the template")?;
    let resources = template["Resources"]
        .as_object()
        .context("the template has no resources")?;
    for (id, resource) in resources {
        for (path, got) in architectures(resource) {
            if got != arch.beanstalk() {
                bail!(
                    "the stage builds for {}, and {id} is for {got} ({path}): look for {id} in `stack`",
                    arch.beanstalk()
                );
            }
        }
    }
    Ok(format!(
        "synthesises; everything is for {}",
        arch.beanstalk()
    ))
}

/// The architectures that a resource names, with the property that names each.
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

/// Whether the platform that would be taken is one that Beanstalk still offers.
async fn platform_of(cloud: &Cloud, lock: Option<&Path>) -> anyhow::Result<String> {
    let Some(known) = lock
        .map(|lock| platform::known(cloud, lock))
        .transpose()?
        .flatten()
    else {
        return beanstalk::newest_platform(cloud).await;
    };
    let version = beanstalk::version(&known);
    let version: Vec<String> = version.iter().map(u32::to_string).collect();
    let filter = PlatformFilter::builder()
        .r#type("PlatformVersion")
        .operator("=")
        .values(version.join("."))
        .build();
    let answer = cloud
        .beanstalk
        .list_platform_versions()
        .filters(filter)
        .send()
        .await
        .map_err(|error| failed("list Elastic Beanstalk's platforms", error))?;
    let platforms = answer.platform_summary_list();
    let found = platforms
        .iter()
        .find(|it| it.platform_arn() == Some(&known));
    let status = found.and_then(|it| it.platform_status());
    match (found, status.map(|it| it.as_str())) {
        (Some(_), None | Some("Ready")) => Ok(known),
        (_, status) => bail!(
            "{known} is {}: take the newest by `cargo xtask deploy --update-platform`",
            status.unwrap_or("not offered any more")
        ),
    }
}

/// A quota, what a stage takes of it, and how what is used is counted.
struct Quota {
    what: &'static str,
    service: &'static str,
    code: &'static str,
    r#type: &'static str,
}

/// <https://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html>
const QUOTAS: [Quota; 2] = [
    Quota {
        what: "networks (VPCs)",
        service: "vpc",
        code: "L-F678F1CE",
        r#type: "AWS::EC2::VPC",
    },
    Quota {
        what: "Elastic IP addresses",
        service: "ec2",
        code: "L-0263D0A3",
        r#type: "AWS::EC2::EIP",
    },
];

/// Whether the account has room for a new stage.
async fn room(cloud: &Cloud, stage: Stage) -> Vec<Finding> {
    let template = synth(stage).and_then(|[_, main]| {
        serde_json::from_str::<Json>(&main.template).context("read the template")
    });
    let template = match template {
        Ok(template) => template,
        Err(error) => return vec![Finding::new("template", Err(error))],
    };
    let checks = QUOTAS.iter().filter_map(|quota| {
        let resources = template["Resources"].as_object()?.values();
        let needed = resources.filter(|it| it["Type"] == quota.r#type).count();
        (needed > 0)
            .then_some(async move { Finding::new(quota.what, enough(cloud, quota, needed).await) })
    });
    futures_util::future::join_all(checks).await
}

async fn enough(cloud: &Cloud, quota: &Quota, needed: usize) -> anyhow::Result<String> {
    let ec2 = Ec2::new(cloud)?;
    let used = async {
        let used = match quota.r#type {
            "AWS::EC2::VPC" => ec2.vpcs(&[]).await,
            _ => ec2.addresses(&[]).await,
        };
        anyhow::Ok(used?.len())
    };
    let (used, allowed) = tokio::try_join!(used, allowed(cloud, quota))?;
    if used + needed > allowed {
        bail!(
            "{used} of {allowed} are used, and the stage needs {needed}: delete some, or ask for more at https://{}.console.aws.amazon.com/servicequotas/home/services/{}/quotas/{}",
            cloud.region,
            quota.service,
            quota.code
        );
    }
    Ok(format!(
        "{used} of {allowed} are used, the stage needs {needed}"
    ))
}

async fn allowed(cloud: &Cloud, quota: &Quota) -> anyhow::Result<usize> {
    let answer = cloud
        .quotas
        .get_service_quota()
        .service_code(quota.service)
        .quota_code(quota.code)
        .send()
        .await
        .map_err(|error| failed("look at the service quotas", error))?;
    let value = answer.quota().and_then(|quota| quota.value());
    let value = value.context("AWS gave no value of the quota")?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "quotas are whole and small; a negative one would be none"
    )]
    Ok(value.max(0.0) as usize)
}

async fn cargo_lambda() -> anyhow::Result<String> {
    said(Command::new("cargo-lambda").args(["lambda", "--version"]))
        .await
        .context(
            "cargo-lambda is missing: `cargo xtask deploy` brings it, and so does `pip install cargo-lambda`",
        )
}

async fn target(arch: Arch) -> anyhow::Result<String> {
    let target = arch.target();
    let mend = format!("mend it by `rustup target add {target}`");
    let mut rustc = Command::new("rustc");
    let folder = said(rustc.args(["--print", "target-libdir", "--target", target]))
        .await
        .with_context(|| mend.clone())?;
    if !Path::new(&folder).is_dir() {
        bail!("Rust's library for {target} is not installed; {mend}");
    }
    Ok(target.to_owned())
}

/// The first line that a command says.
async fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!("it ended with {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
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
