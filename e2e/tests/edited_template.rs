//! A template edited by hand runs as edited.

use anyhow::{Context, ensure};
use e2e::dashboard::View;
use e2e::programs::Programs;
use e2e::publish::publish_one;
use e2e::run::{Run, Settings, run_to_end};
use e2e::{PATIENCE, archive, dashboard, template};
use serde_json::{Value as Json, json};

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

#[tokio::test]
async fn on_demand_stream_spreads_devices_over_four_shards() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    let stream = &mut template["Resources"]["SensorStream"]["Properties"];
    stream["StreamModeDetails"]["StreamMode"] = json!("ON_DEMAND");
    // As on AWS: such a stream counts its shards itself.
    let ended = run_to_end(Settings::new(&programs).template(&template)).await?;
    ensure!(
        ended.log.contains("SensorStream.Properties.ShardCount"),
        "{}",
        ended.log
    );

    let stream = &mut template["Resources"]["SensorStream"]["Properties"];
    let properties = stream.as_object_mut().context("properties")?;
    properties.remove("ShardCount");
    let run = Run::start(with_control(Settings::new(&programs)).template(&template)).await?;
    for device in 0..40 {
        let topic = format!("topic/sensors/device{device}");
        publish_one(&run.mqtt, &topic, "{}").await?;
    }
    View::open(&run.dashboard).await?.wait_for_count(40).await?;
    let shards = pipeline(&run).await?["streams"]["SensorStream"].clone();
    let records = shards.as_array().into_iter().flatten();
    let records: Vec<_> = records.filter_map(|it| it["records"].as_u64()).collect();
    ensure!(
        records.len() == 4 && records.iter().sum::<u64>() == 40 && !records.contains(&0),
        "{shards}"
    );
    Ok(())
}

#[tokio::test]
async fn streams_functions_and_consumers_run_beside_one_another() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    add_second_way(&mut template)?;
    let run = Run::start(with_control(Settings::new(&programs)).template(&template)).await?;
    for topic in ["topic/sensors/kitchen", "topic/plant/press", "topic/off/x"] {
        publish_one(&run.mqtt, topic, "{}").await?;
    }
    let mut view = View::open(&run.dashboard).await?;
    // The second consumer of the first stream finds its record counted.
    view.wait_for_count(2).await?;
    let everything_read = async {
        loop {
            let pipeline = pipeline(&run).await?;
            let one = |stream: &str| pipeline["streams"][stream][0].clone();
            let all = [one("SensorStream"), one("PlantStream")];
            let are_read = all
                .iter()
                .all(|it| it["records"] == 1 && it["waiting"] == 0);
            if are_read && pipeline["invocations"] == 3 {
                return anyhow::Ok(pipeline);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let pipeline = tokio::time::timeout(PATIENCE, everything_read)
        .await
        .context("the three mappings do not read both streams")??;
    ensure!(pipeline["invocation_errors"] == 0, "{pipeline}");
    for mapping in ["FunctionEventSource", "PlantEventSource", "SensorsAgain"] {
        let result = &pipeline["mappings"][mapping]["last_processing_result"];
        ensure!(result == "OK", "{mapping}: {result}");
    }
    ensure!(view.count == 2, "{}", view.count);
    let ended = run.stop().await?;
    let archived = archive::read(&ended.data)?;
    let topics: Vec<_> = archived.iter().map(|it| it.topic.as_str()).collect();
    ensure!(topics == ["topic/sensors/kitchen"], "{topics:?}");
    Ok(())
}

#[tokio::test]
async fn queues_take_what_rules_and_mappings_fail_at() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let mut template = template::load(&programs)?;
    let resources = template["Resources"].as_object_mut().context("resources")?;
    let queue = json!({ "Type": "AWS::SQS::Queue", "Properties": { "QueueName": "failures" } });
    resources.insert("Failures".to_owned(), queue);
    let arn = json!({ "Fn::GetAtt": ["Failures", "Arn"] });
    let send = json!({
        "PolicyName": "Send",
        "PolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn }],
        },
    });
    for role in ["FunctionRole", "RuleErrorsRole"] {
        let policies = &mut resources[role]["Properties"]["Policies"];
        policies
            .as_array_mut()
            .context("policies")?
            .push(send.clone());
    }
    let mapping = &mut resources["FunctionEventSource"]["Properties"];
    mapping["MaximumRetryAttempts"] = json!(0);
    mapping["DestinationConfig"]["OnFailure"]["Destination"] = arn;
    for (_, rule) in template::resources_of(&mut template, "AWS::IoT::TopicRule") {
        rule["TopicRulePayload"]["ErrorAction"] = json!({ "Sqs": {
            "QueueUrl": { "Ref": "Failures" },
            "RoleArn": { "Fn::GetAtt": ["RuleErrorsRole", "Arn"] },
            "UseBase64": false,
        }});
    }
    // A partition key that Kinesis does not take.
    let bare = &mut template["Resources"]["BareTopicToStream"]["Properties"]["TopicRulePayload"];
    bare["Actions"][0]["Kinesis"]["PartitionKey"] = json!("${nothing}");
    // A function that does not reach the cache gives its batch back shortly before its deadline.
    template::remove(&mut template, "CacheFromFunction")?;
    template["Resources"]["Function"]["Properties"]["Timeout"] = json!(3);
    let run = Run::start(Settings::new(&programs).template(&template)).await?;
    publish_one(&run.mqtt, "topic/sensors", "{}").await?;
    publish_one(&run.mqtt, "topic/sensors/kitchen", "{}").await?;
    run.wait_for_log("gave up 1 records").await?;
    let ended = run.stop().await?;
    let messages = std::fs::read_to_string(ended.data.join("sqs/failures.jsonl"))?;
    let bodies: Vec<Json> = messages
        .lines()
        .map(|line| {
            let message: Json = serde_json::from_str(line)?;
            let body = message["Body"].as_str().context("Body")?;
            Ok(serde_json::from_str(body)?)
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(bodies.len() == 2, "{messages}");
    ensure!(bodies[0]["topic"] == "topic/sensors", "{messages}");
    ensure!(
        bodies[1]["KinesisBatchInfo"]["batchSize"] == 1 && bodies[1].get("payload").is_none(),
        "{messages}"
    );
    Ok(())
}

/// A second stream with a rule and a function of its own, which reads the first stream, too; and a
/// rule that is disabled.
fn add_second_way(template: &mut Json) -> anyhow::Result<()> {
    let resources = template["Resources"].as_object_mut().context("resources")?;
    let copy = |name: &str| resources.get(name).cloned().context("a resource");
    let mut role = copy("RuleToStreamRole")?;
    role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"][0]["Resource"] =
        json!([{ "Fn::GetAtt": ["PlantStream", "Arn"] }]);
    let rule = |topic: &str, disabled: bool| {
        let mut rule = copy("DeviceTopicsToStream")?;
        let payload = &mut rule["Properties"]["TopicRulePayload"];
        payload["Sql"] = json!(format!("SELECT * FROM '{topic}'"));
        payload["RuleDisabled"] = json!(disabled);
        let action = &mut payload["Actions"][0]["Kinesis"];
        action["RoleArn"] = json!({ "Fn::GetAtt": ["PlantRuleRole", "Arn"] });
        action["StreamName"] = json!({ "Ref": "PlantStream" });
        anyhow::Ok(rule)
    };
    let mapping = |stream: &str| {
        let mut mapping = copy("FunctionEventSource")?;
        mapping["Properties"]["EventSourceArn"] = json!({ "Fn::GetAtt": [stream, "Arn"] });
        mapping["Properties"]["FunctionName"] = json!({ "Ref": "PlantFunction" });
        anyhow::Ok(mapping)
    };
    let mut function_role = copy("FunctionRole")?;
    let read = &mut function_role["Properties"]["Policies"][0]["PolicyDocument"];
    read["Statement"][0]["Resource"] = json!([
        { "Fn::GetAtt": ["SensorStream", "Arn"] },
        { "Fn::GetAtt": ["PlantStream", "Arn"] },
    ]);
    let added = [
        ("FunctionRole", function_role),
        ("PlantStream", copy("SensorStream")?),
        ("PlantRuleRole", role),
        ("PlantRule", rule("topic/plant/+", false)?),
        ("OffRule", rule("topic/off/+", true)?),
        ("PlantFunction", copy("Function")?),
        ("PlantEventSource", mapping("PlantStream")?),
        ("SensorsAgain", mapping("SensorStream")?),
    ];
    for (name, resource) in added {
        resources.insert(name.to_owned(), resource);
    }
    Ok(())
}

fn with_control(mut settings: Settings<'_>) -> Settings<'_> {
    let control = ["--control", "127.0.0.1:0"].map(str::to_owned);
    settings.arguments.extend(control);
    settings
}

/// What the control port says.
async fn pipeline(run: &Run) -> anyhow::Result<Json> {
    let ready = run.events.iter().find(|it| it["event"] == "ready");
    let url = ready.and_then(|it| it["control"].as_str());
    let url = url.and_then(|it| it.strip_prefix("http://"));
    let (address, path) = url
        .and_then(|it| it.split_once('/'))
        .context("no control port")?;
    let (status, body) = dashboard::get(address, &format!("/{path}")).await?;
    ensure!(status == 200, "{status}: {body}");
    Ok(serde_json::from_str(&body)?)
}
