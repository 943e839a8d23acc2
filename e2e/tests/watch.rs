//! What changes while it runs is started again, and nobody else notices.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::dashboard::{self, View};
use e2e::programs::Programs;
use e2e::run::{Run, Settings};
use e2e::template;
use rumqttc::{AsyncClient, MqttOptions, QoS};
use serde_json::{Value as Json, json};

#[tokio::test]
async fn parts_that_another_template_changes_are_started_again() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    let mut settings = Settings::new(&programs).template(&template);
    let flags = ["--watch", "--control", "127.0.0.1:0"];
    settings.arguments = flags.map(str::to_owned).to_vec();
    let run = Run::start(settings).await?;
    let file = file(&run)?;
    // Both connections are there to the end.
    let device = Device::connect(&run.mqtt)?;
    let mut view = View::open(&run.dashboard).await?;
    device.publish(1).await?;
    view.wait_for_count(1).await?;

    // A rule: the broker keeps its connections.
    let rule = &mut template["Resources"]["DeviceTopicsToStream"]["Properties"];
    rule["TopicRulePayload"]["Sql"] = json!("SELECT * FROM 'topic/sensors/+' WHERE value > 5");
    fs::write(&file, template.to_string())?;
    run.wait_for_log("updating: DeviceTopicsToStream").await?;
    run.wait_for_log("the new template runs").await?;
    device.publish(1).await?;
    device.publish(9).await?;
    view.wait_for_count(2).await?;

    // A mapping and a function, which take what comes meanwhile.
    let resources = &mut template["Resources"];
    resources["FunctionEventSource"]["Properties"]["BatchSize"] = json!(7);
    resources["Function"]["Properties"]["Timeout"] = json!(29);
    fs::write(&file, template.to_string())?;
    for value in 10..40 {
        device.publish(value).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    run.wait_for_log("updating: Function, FunctionEventSource")
        .await?;
    view.wait_for_count(32).await?;

    // The archive: what is buffered is delivered before the other settings hold.
    let archive = &mut template["Resources"]["ArchiveStream"]["Properties"];
    archive["ExtendedS3DestinationConfiguration"]["Prefix"] = json!("raw/other/");
    fs::write(&file, template.to_string())?;
    run.wait_for_log("updating: ArchiveStream").await?;
    device.publish(40).await?;
    view.wait_for_count(33).await?;

    // A mistake changes nothing.
    let right = template.to_string();
    template["Resources"]["FunctionEventSource"]["Properties"]["BatchSize"] = json!(70_000);
    fs::write(&file, template.to_string())?;
    run.wait_for_log("keeping the previous template").await?;
    fs::write(&file, right)?;
    device.publish(41).await?;
    view.wait_for_count(34).await?;

    // The count is there a moment before the batch is through.
    let all_read = async {
        loop {
            let state = pipeline(&run).await?;
            if state["streams"]["SensorStream"][0]["waiting"] == 0 {
                return anyhow::Ok(state);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let state = tokio::time::timeout(e2e::PATIENCE, all_read).await??;
    ensure!(state["messages"] == 35, "counters begin anew: {state}");
    ensure!(!device.is_lost(), "the device's connection was closed");
    let ended = run.stop().await?;
    ensure!(ended.status.success(), "{}\n{}", ended.status, ended.log);
    let archived = e2e::archive::read(&ended.data)?;
    ensure!(archived.len() == 35, "{} are archived", archived.len());
    let objects = e2e::archive::objects(&ended.data)?;
    let is_other = |it: &&PathBuf| it.to_string_lossy().contains("raw/other/");
    ensure!(objects.iter().filter(is_other).count() == 1, "{objects:?}");
    Ok(())
}

#[tokio::test]
async fn template_that_changes_a_role_changes_only_what_uses_it() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    let right = template.to_string();
    let mut settings = Settings::new(&programs).template(&template);
    settings.arguments = vec!["--watch".to_owned()];
    let run = Run::start(settings).await?;
    let file = file(&run)?;
    // Both connections are there to the end.
    let device = Device::connect(&run.mqtt)?;
    let mut view = View::open(&run.dashboard).await?;
    device.publish(1).await?;
    view.wait_for_count(1).await?;

    let role = &mut template["Resources"]["RuleToStreamRole"]["Properties"]["Policies"][0];
    role["PolicyDocument"]["Statement"][0]["Action"] = json!(["kinesis:PutRecords"]);
    fs::write(&file, template.to_string())?;
    run.wait_for_log("updating: BareTopicToStream, DeviceTopicsToStream")
        .await?;
    run.wait_for_log("will fail").await?;
    device.publish(2).await?;
    run.wait_for_log("AccessDenied").await?;

    // What was denied is not made up for; what comes after it gets through.
    fs::write(&file, right)?;
    let through = async {
        while view.count == 1 {
            device.publish(3).await?;
            let _ = tokio::time::timeout(Duration::from_millis(200), view.wait_for_count(2)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(e2e::PATIENCE, through).await??;
    ensure!(!device.is_lost(), "the device's connection was closed");
    Ok(())
}

/// The edited template's file.
fn file(run: &Run) -> anyhow::Result<PathBuf> {
    let folder = run.data().parent().context("a folder")?.to_owned();
    Ok(folder.join("edited.template.json"))
}

/// What the control port says.
async fn pipeline(run: &Run) -> anyhow::Result<Json> {
    let ready = run.events.iter().find(|it| it["event"] == "ready");
    let url = ready.and_then(|it| it["control"].as_str());
    let url = url.and_then(|it| it.strip_prefix("http://"));
    let (address, path) = url
        .and_then(|it| it.split_once('/'))
        .context("no control port")?;
    let (_, body) = dashboard::get(address, &format!("/{path}")).await?;
    Ok(serde_json::from_str(&body)?)
}

/// A device that never connects again.
struct Device {
    client: AsyncClient,
    lost: Arc<AtomicBool>,
}

impl Device {
    fn connect(address: &str) -> anyhow::Result<Device> {
        let (host, port) = address.rsplit_once(':').context("expected HOST:PORT")?;
        let mut options = MqttOptions::new("kitchen", host, port.parse()?);
        options.set_keep_alive(Duration::from_secs(60));
        let (client, mut event_loop) = AsyncClient::new(options, 10);
        let lost = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&lost);
        tokio::spawn(async move {
            while event_loop.poll().await.is_ok() {}
            told.store(true, Ordering::Relaxed);
        });
        Ok(Device { client, lost })
    }

    async fn publish(&self, value: u32) -> anyhow::Result<()> {
        let payload = json!({ "value": value }).to_string();
        let topic = "topic/sensors/kitchen";
        let publishing = self.client.publish(topic, QoS::AtLeastOnce, false, payload);
        publishing.await.context("the connection was closed")
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}
