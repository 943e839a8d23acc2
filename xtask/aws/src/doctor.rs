//! `doctor`: what a deployment needs, looked at before anything is begun; each line that fails says
//! how to mend it.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use stack::{Arch, Stage};

use crate::arguments::Ask;
use crate::beanstalk;
use crate::cloud::Cloud;
use crate::deploy::synth;
use crate::progress::Voice;

pub(crate) async fn run(arguments: Ask) -> anyhow::Result<()> {
    let stage = arguments.stage;
    let voice = if arguments.json {
        Voice::Json
    } else {
        Voice::Plain
    };
    let arch = stage.config().arch;
    let mut report = Report { voice, failed: 0 };
    report.line("template", synth(stage).and_then(|_| architecture(stage)));
    report.line("cargo-lambda", cargo_lambda());
    report.line("build target", target(arch));
    match Cloud::connect(Duration::from_secs(1)).await {
        Err(error) => report.line("region", Err(error)),
        Ok(cloud) => {
            report.line("region", Ok(cloud.region.clone()));
            let identity = cloud.identity().await;
            let is_known = identity.is_ok();
            report.line(
                "credentials",
                identity.map(|it| format!("account {}, {}", it.account, it.arn)),
            );
            // Without credentials it would only fail for the same reason.
            if is_known {
                report.line("platform", beanstalk::newest_platform(&cloud).await);
            }
        }
    }
    match report.failed {
        0 => Ok(()),
        failed => bail!("{failed} of the checks failed"),
    }
}

struct Report {
    voice: Voice,
    failed: usize,
}

impl Report {
    fn line(&mut self, what: &str, found: anyhow::Result<String>) {
        let (is_good, said) = match found {
            Ok(said) => (true, said),
            Err(error) => (false, format!("{error:#}")),
        };
        let verdict = if is_good { "ok    " } else { "FAILED" };
        self.failed += usize::from(!is_good);
        self.voice.say(format!("{verdict}  {what}: {said}"));
        let line = json!({ "check": what, "ok": is_good, "says": said });
        self.voice.tell(&line);
    }
}

/// Function, instances and build must be of one architecture; all follow from one value, and this
/// looks at what the template came to.
fn architecture(stage: Stage) -> anyhow::Result<String> {
    let [_, main] = synth(stage)?;
    let arch = stage.config().arch.beanstalk();
    for other in [Arch::Arm64, Arch::X86_64].map(Arch::beanstalk) {
        if other != arch && main.template.contains(&format!("\"{other}\"")) {
            bail!(
                "the stage builds for {arch}, and its template names {other}: look for it in `stack`"
            );
        }
    }
    Ok(format!("synthesises; everything is for {arch}"))
}

fn cargo_lambda() -> anyhow::Result<String> {
    said(Command::new("cargo-lambda").args(["lambda", "--version"])).context(
        "cargo-lambda is missing: `cargo xtask deploy` brings it, and so does `pip install cargo-lambda`",
    )
}

fn target(arch: Arch) -> anyhow::Result<String> {
    let target = arch.target();
    let mend = format!("mend it by `rustup target add {target}`");
    let folder = said(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))
        .with_context(|| mend.clone())?;
    if !std::path::Path::new(&folder).is_dir() {
        bail!("Rust's library for {target} is not installed; {mend}");
    }
    Ok(target.to_owned())
}

/// The first line that a command says.
fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("it ended with {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
