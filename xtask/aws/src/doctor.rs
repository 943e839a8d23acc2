//! `doctor`: what a deployment needs, checked before anything is begun. `deploy` checks the same first, as
//! far as it concerns what it is about to do.
//!
//! The checks of this machine are `checks`'; here are those of the account. One that cannot be made, for
//! whatever reason, is a warning and stops nothing.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_environment::Environment;
use aws_sdk_elasticbeanstalk::types::PlatformFilter;
use checks::{Finding, Verdict, failures};
use serde_json::Value as Json;
use stack::Stage;

use crate::arguments::{Ask, Deploy};
use crate::aws::beanstalk;
use crate::aws::ec2::Ec2;
use crate::aws::{CallFailed, Cloud, failed};
use crate::bootstrap;
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
    let machine = tokio::task::spawn_blocking(move || checks::machine(stage, &path()));
    let (machine, account) = tokio::join!(machine, account(stage));
    let mut findings = machine.context("check this machine")?;
    findings.extend(account);
    for finding in &findings {
        print(output, finding);
    }
    match failures(&findings).count() {
        0 => Ok(()),
        1 => bail!("1 check failed"),
        failed => bail!("{failed} checks failed"),
    }
}

/// Checks what this deployment needs: the tools when it builds, the account's room when the stack is new.
/// Prints warnings only, and fails when something is missing.
pub(crate) async fn before_deploying(
    cloud: &Cloud,
    output: Output,
    arguments: &Deploy,
    is_new: bool,
) -> anyhow::Result<()> {
    let stage = arguments.stage;
    let builds = arguments.builds();
    let machine = tokio::task::spawn_blocking(move || match builds {
        true => checks::machine(stage, &path()),
        false => vec![Finding::new("template", checks::architecture(stage))],
    });
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
        room.push(of_account("platform", platform));
        room
    };
    let (machine, room) = tokio::join!(machine, room);
    let machine = machine.context("check this machine")?;
    // `cargo xtask deploy` has brought what it brings before it ran this program.
    let missing = machine.iter().filter_map(|it| match &it.verdict {
        Verdict::Note(text) => Some(format!("{}: {text}", it.what)),
        _ => None,
    });
    let failed: Vec<String> = failures(&machine)
        .chain(missing)
        .chain(failures(&room))
        .collect();
    for finding in &room {
        if matches!(finding.verdict, Verdict::Unknown(_)) {
            print(output, finding);
        }
    }
    if !failed.is_empty() {
        bail!("nothing was begun:\n  {}", failed.join("\n  "));
    }
    Ok(())
}

fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

fn print(output: Output, finding: &Finding) {
    output.say(finding.line());
    output.tell(&finding.json());
}

/// The finding of a check that asks AWS: unknown when the call fails.
fn of_account(what: &'static str, found: anyhow::Result<Verdict>) -> Finding {
    let verdict = found.unwrap_or_else(|error| match error.is::<CallFailed>() {
        true => Verdict::Unknown(format!("{error:#}")),
        false => Verdict::Failed(format!("{error:#}")),
    });
    Finding { what, verdict }
}

/// Checks the environment and the account.
async fn account(stage: Stage) -> Vec<Finding> {
    let environment = Environment::of_process();
    let problems = environment.problems();
    let mut findings = checks::environment(&environment, &problems);
    if !problems.is_empty() {
        return findings;
    }
    let cloud = match Cloud::connect(Duration::from_secs(1)).await {
        Ok(cloud) => cloud,
        Err(error) => {
            findings.push(Finding::new("region", Err(error)));
            return findings;
        }
    };
    let identity = cloud.identity().await;
    let is_known = identity.is_ok();
    let account = identity.map(|it| format!("account {}, {}", it.account, it.arn));
    findings.push(Finding::new("credentials", account));
    // Without credentials the others would only fail for the same reason.
    if !is_known {
        return findings;
    }
    let lock = root().map(|root| platform::file(&root, stage));
    findings.push(of_account("bootstrap", bootstrapped(&cloud).await));
    let (platform, room) = tokio::join!(async { platform_of(&cloud, Some(&lock?)).await }, async {
        let name = stack::stack_name(stage);
        match call::find(&cloud, &name).await {
            // The stage has what it needs already.
            Ok(Some(stack)) if stack.state() == crate::stack::state::State::Ready => Vec::new(),
            _ => room(&cloud, stage).await,
        }
    });
    findings.push(of_account("platform", platform));
    findings.extend(room);
    findings
}

/// By whose rights CloudFormation would deploy.
async fn bootstrapped(cloud: &Cloud) -> anyhow::Result<Verdict> {
    Ok(match bootstrap::find(cloud).await? {
        Some(bootstrap) => Verdict::Good(format!(
            "CloudFormation deploys by {}, and every role is limited by {}",
            bootstrap.service_role, bootstrap.boundary
        )),
        None => Verdict::Note("none: CloudFormation deploys with your own rights, which must equal administration; `cargo xtask bootstrap` creates a service role for it".to_owned()),
    })
}

/// Checks that Beanstalk still offers the platform that would be taken.
async fn platform_of(cloud: &Cloud, lock: Option<&Path>) -> anyhow::Result<Verdict> {
    let Some(known) = lock
        .map(|lock| platform::known(cloud, lock))
        .transpose()?
        .flatten()
    else {
        return beanstalk::recommended_platform(cloud)
            .await
            .map(Verdict::Good);
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
        (Some(_), None | Some("Ready")) => Ok(Verdict::Good(known)),
        (_, status) => Ok(Verdict::Failed(format!(
            "{known} is {}; fix: `cargo xtask deploy --update-platform` takes the newest",
            status.unwrap_or("not offered any more")
        ))),
    }
}

/// A service quota, and the resource type that counts against it.
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

/// Checks that the account has room for a new stage.
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
            .then_some(async move { of_account(quota.what, enough(cloud, quota, needed).await) })
    });
    futures_util::future::join_all(checks).await
}

async fn enough(cloud: &Cloud, quota: &Quota, needed: usize) -> anyhow::Result<Verdict> {
    let ec2 = Ec2::new(cloud)?;
    let used = async {
        let used = match quota.r#type {
            "AWS::EC2::VPC" => ec2.vpcs(&[]).await,
            _ => ec2.addresses(&[]).await,
        };
        anyhow::Ok(used?.len())
    };
    let (used, allowed) = tokio::try_join!(used, allowed(cloud, quota))?;
    let Some(allowed) = allowed else {
        return Ok(Verdict::Unknown(
            "Service Quotas returned no value".to_owned(),
        ));
    };
    if used + needed > allowed {
        return Ok(Verdict::Failed(format!(
            "{used} of {allowed} are used, and the stage needs {needed}; fix: delete some, or request more at https://{}.console.aws.amazon.com/servicequotas/home/services/{}/quotas/{}",
            cloud.region, quota.service, quota.code
        )));
    }
    Ok(Verdict::Good(format!(
        "{used} of {allowed} are used, the stage needs {needed}"
    )))
}

async fn allowed(cloud: &Cloud, quota: &Quota) -> anyhow::Result<Option<usize>> {
    let answer = cloud
        .quotas
        .get_service_quota()
        .service_code(quota.service)
        .quota_code(quota.code)
        .send()
        .await
        .map_err(|error| failed("read the service quotas", error))?;
    let value = answer.quota().and_then(|quota| quota.value());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "quotas are whole and small; a negative one would be none"
    )]
    let whole = |value: f64| value.max(0.0) as usize;
    Ok(value.map(whole))
}
