//! `cargo xtask rehearse`: the programs that deploy to AWS against the local run's cloud, from an empty
//! account to an empty account, with messages through what is deployed in between.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::programs::Programs;
use serde_json::Value as Json;
use tokio::process::Command;
use tokio::time::timeout;

/// Beyond it something hangs.
const TOO_LONG: Duration = Duration::from_secs(300);

/// What a rehearsal printed.
struct Rehearsal {
    lines: Vec<Json>,
    errors: String,
}

impl Rehearsal {
    /// Rehearses in a folder of its own, to a good end.
    async fn run(flags: &[&str]) -> anyhow::Result<Rehearsal> {
        let (is_success, rehearsal) = Rehearsal::try_out(flags).await?;
        ensure!(is_success, "{}", rehearsal.errors);
        Ok(rehearsal)
    }

    /// Rehearses, and whether it came to a good end. Neither a profile nor an endpoint of the user gets
    /// through.
    async fn try_out(flags: &[&str]) -> anyhow::Result<(bool, Rehearsal)> {
        let programs = Programs::load()?;
        let folder = tempfile::tempdir()?;
        let running = Command::new(&programs.xtask)
            .args(["rehearse", "--json", "--data"])
            .arg(folder.path().join("rehearsal"))
            .args(flags)
            .env("PATH", &programs.path)
            .env("XTASK_PROGRAMS", &programs.built)
            .env("AWS_PROFILE", "somebody-elses")
            .env("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(TOO_LONG, running)
            .await
            .context("the rehearsal does not end")??;
        let errors = String::from_utf8(output.stderr)?;
        let lines = String::from_utf8(output.stdout)?;
        let lines = lines.lines().map(serde_json::from_str);
        let rehearsal = Rehearsal {
            lines: lines.collect::<Result<_, _>>()?,
            errors,
        };
        Ok((output.status.success(), rehearsal))
    }

    /// The steps with whether they went well.
    fn steps(&self) -> Vec<(&str, bool)> {
        let steps = self.lines.iter().filter(|line| line["event"] == "step");
        steps
            .filter_map(|line| Some((line["name"].as_str()?, line["ok"].as_bool()?)))
            .collect()
    }

    /// What the commands say they did.
    fn results(&self) -> Vec<&str> {
        let results = self.lines.iter();
        results.filter_map(|line| line["result"].as_str()).collect()
    }
}

#[tokio::test]
async fn stage_comes_up_changes_and_goes_with_messages_getting_through() -> anyhow::Result<()> {
    let rehearsal = Rehearsal::run(&[]).await?;
    assert_eq!(
        rehearsal.steps(),
        [
            ("the cloud answers", true),
            ("bootstrap the account", true),
            ("deploy to an empty account", true),
            ("a message gets through", true),
            ("deploy a changed property", true),
            ("a message gets through", true),
            ("deploy without a change", true),
            ("the bootstrap is not removed while the stage uses it", true),
            ("destroy with all data", true),
            ("destroy finds nothing", true),
            ("remove the bootstrap", true),
        ]
    );
    assert_eq!(
        rehearsal.results(),
        [
            "bootstrapped",
            "deployed",
            "works",
            "deployed",
            "works",
            "unchanged",
            "failed",
            "destroyed",
            "nothing to destroy",
            "removed",
        ],
        "{}",
        rehearsal.errors
    );
    let destroyed = rehearsal
        .lines
        .iter()
        .find(|line| line["result"] == "destroyed");
    let destroyed = destroyed.context("nothing was destroyed")?;
    for nothing in ["kept", "leftovers"] {
        assert_eq!(destroyed[nothing], Json::Array(Vec::new()), "{destroyed}");
    }
    Ok(())
}

#[tokio::test]
async fn creation_that_fails_names_its_cause_and_the_next_one_goes_through() -> anyhow::Result<()> {
    let fault = "cfn:Cache=CREATE_FAILED:no capacity@once";
    let rehearsal = Rehearsal::run(&["--fault", fault]).await?;
    assert_eq!(
        rehearsal.steps()[2..5],
        [
            ("deploy to an empty account", false),
            ("deploy to an empty account, again", true),
            ("a message gets through", true),
        ]
    );
    for words in ["Cache", "no capacity", "stack/src/cache.rs:"] {
        ensure!(
            rehearsal.errors.contains(words),
            "`{words}` is not said: {}",
            rehearsal.errors
        );
    }
    Ok(())
}

#[tokio::test]
async fn throttling_and_slow_uploads_are_ridden_out() -> anyhow::Result<()> {
    let faults = ["--fault", "cfn:throttle@20%", "--fault", "s3:slow"];
    let rehearsal = Rehearsal::run(&faults).await?;
    let steps = rehearsal.steps();
    ensure!(
        steps.len() == 11 && steps.iter().all(|(_, ok)| *ok),
        "{steps:?}: {}",
        rehearsal.errors
    );
    Ok(())
}

#[tokio::test]
async fn credentials_that_expire_end_a_deployment_with_what_to_do() -> anyhow::Result<()> {
    let faults = ["--fault", "cfn:token-expired@1s"];
    let (is_success, rehearsal) = Rehearsal::try_out(&faults).await?;
    ensure!(!is_success, "{:?}", rehearsal.lines);
    let words = [
        "the credentials have expired; fix: renew them",
        "run the same command again; what CloudFormation has begun goes on",
    ];
    for words in words {
        ensure!(rehearsal.errors.contains(words), "{}", rehearsal.errors);
    }
    let mut results = rehearsal.lines.iter();
    let told = results.find(|line| line["result"] == "failed");
    let told = told.context("a machine is not told")?["error"].to_string();
    ensure!(told.contains("expired"), "{told}");
    Ok(())
}
