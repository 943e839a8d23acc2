//! Nothing is left running, and what prevents a start is said in one message.

use anyhow::ensure;
use e2e::programs::Programs;
use e2e::publish::publish_one;
use e2e::run::{Run, Settings, run_to_end, running};
use serde_json::json;

#[tokio::test]
async fn ctrl_c_leaves_no_process() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let run = Run::start(Settings::new(&programs)).await?;
    // The function's process is started by its first batch at the latest.
    publish_one(&run.mqtt, "topic/sensors/kitchen", "{}").await?;
    let mut view = e2e::dashboard::View::open(&run.dashboard).await?;
    view.wait_for_count(1).await?;
    let processes = run.processes()?;
    ensure!(
        processes.len() >= 4,
        "expected cache, function and web UI below the run: {processes:?}"
    );
    let ended = run.stop().await?;
    ensure!(ended.status.success(), "{}\n{}", ended.status, ended.log);
    let left = running(&processes)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

#[tokio::test]
async fn taken_port_is_one_message() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let ended = run_to_end(Settings {
        mqtt: &address,
        ..Settings::new(&programs)
    })
    .await?;
    ensure!(!ended.status.success());
    let errors: Vec<_> = ended
        .log
        .lines()
        .filter(|line| line.contains("error"))
        .collect();
    ensure!(
        errors.len() == 1 && errors[0].contains(&address),
        "expected one message that names {address}:\n{}",
        ended.log
    );
    Ok(())
}

#[tokio::test]
async fn unsupported_function_of_a_rule_stops_the_start_by_name() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = e2e::template::load(&programs)?;
    let rule = &mut template["Resources"]["DeviceTopicsToStream"]["Properties"]["TopicRulePayload"];
    rule["Sql"] = json!("SELECT aws_lambda('x', *) AS y FROM 'topic/sensors/+'");
    let ended = run_to_end(Settings::new(&programs).template(&template)).await?;
    ensure!(!ended.status.success());
    for name in ["DeviceTopicsToStream", "aws_lambda"] {
        ensure!(
            ended.log.contains(name),
            "{name} is not named:\n{}",
            ended.log
        );
    }
    Ok(())
}

#[tokio::test]
async fn each_delivered_object_is_in_the_log_file_and_only_with_verbose_on_stderr()
-> anyhow::Result<()> {
    let programs = Programs::load()?;
    for verbose in [false, true] {
        let mut settings = Settings::new(&programs);
        settings
            .arguments
            .extend(verbose.then(|| "--verbose".to_owned()));
        let run = Run::start(settings).await?;
        publish_one(&run.mqtt, "topic/sensors/kitchen", "{}").await?;
        // Stopping delivers what is buffered.
        let ended = run.stop().await?;
        let file = std::fs::read_to_string(ended.data.join("local.log"))?;
        let line = "ArchiveStream: 1 records to s3://";
        ensure!(file.contains(line), "{file}");
        ensure!(ended.log.contains(line) == verbose, "{}", ended.log);
    }
    Ok(())
}
