//! A template edited by hand runs as edited.

use anyhow::{Context, ensure};
use e2e::dashboard::View;
use e2e::programs::Programs;
use e2e::publish::publish_one;
use e2e::run::{Run, Settings};
use e2e::{PATIENCE, archive, template};
use serde_json::json;

#[tokio::test]
async fn where_clause_filters() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    for (_, rule) in template::resources_of(&mut template, "AWS::IoT::TopicRule") {
        let sql = &mut rule["TopicRulePayload"]["Sql"];
        *sql = json!(format!(
            "{} WHERE temperature > 50",
            sql.as_str().context("Sql")?
        ));
    }
    let run = Run::start(Settings::new(&programs).template(&template)).await?;
    let mut view = View::open(&run.dashboard).await?;
    for temperature in [49, 50, 51, 20, 52] {
        let payload = json!({ "temperature": temperature }).to_string();
        publish_one(&run.mqtt, "topic/sensors/kitchen", payload).await?;
    }
    view.wait_for_count(2).await?;
    let ended = run.stop().await?;
    let archived = archive::read(&ended.data)?;
    let archived: Vec<_> = archived
        .iter()
        .map(|it| String::from_utf8_lossy(&it.data).into_owned())
        .collect();
    ensure!(
        archived == [r#"{"temperature":51}"#, r#"{"temperature":52}"#],
        "{archived:?}"
    );
    Ok(())
}

#[tokio::test]
async fn permission_left_out_stops_messages_and_the_log_names_role_action_and_resource()
-> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    let role = &mut template["Resources"]["RuleToStreamRole"]["Properties"]["Policies"];
    let statements = role[0]["PolicyDocument"]["Statement"]
        .as_array_mut()
        .context("statements")?;
    for statement in statements {
        let actions = statement["Action"].as_array_mut().context("actions")?;
        actions.retain(|action| action != "kinesis:PutRecord");
        actions.push(json!("kinesis:DescribeStreamSummary"));
    }
    let run = Run::start(Settings::new(&programs).template(&template)).await?;
    publish_one(&run.mqtt, "topic/sensors/kitchen", "{}").await?;
    run.wait_for_log("kinesis:PutRecord").await?;
    let log = run.log();
    let line = log
        .lines()
        .find(|line| line.contains("kinesis:PutRecord"))
        .unwrap_or_default();
    for name in ["RuleToStreamRole", "SensorStream"] {
        ensure!(line.contains(name), "{name} is not named in: {line}");
    }
    ensure!(View::open(&run.dashboard).await?.count == 0);
    Ok(())
}

#[tokio::test]
async fn missing_ingress_rule_is_named_with_the_group_that_cuts_off() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    template::remove(&mut template, "CacheFromFunction")?;
    let run = Run::start(Settings::new(&programs).template(&template)).await?;
    let told = run
        .events
        .iter()
        .find(|event| event["event"] == "unreachable")
        .with_context(|| format!("nothing is said: {:?}", run.events))?
        .to_string();
    for name in ["Function", "CacheSecurityGroup"] {
        ensure!(told.contains(name), "{name} is not named in {told}");
    }
    // The dashboard still reaches the cache, and nothing is counted.
    let view = View::open(&run.dashboard).await?;
    publish_one(&run.mqtt, "topic/sensors/kitchen", "{}").await?;
    ensure!(view.count == 0);
    Ok(())
}

#[tokio::test]
async fn buffering_interval_is_the_templates() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    for (_, stream) in template::resources_of(&mut template, "AWS::KinesisFirehose::DeliveryStream")
    {
        stream["ExtendedS3DestinationConfiguration"]["BufferingHints"]["IntervalInSeconds"] =
            json!(1);
    }
    let run = Run::start(Settings::new(&programs).template(&template)).await?;
    publish_one(&run.mqtt, "topic/sensors/kitchen", "{}").await?;
    let delivered = async {
        // Objects are files, which nobody announces.
        loop {
            if let Ok(archived) = archive::read(&run.data())
                && !archived.is_empty()
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE / 2, delivered)
        .await
        .context("nothing is delivered while the run goes on")?;
    Ok(())
}
