//! From MQTT through topic rules into a stream, a delivery stream and a log group.

mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use iot_sql::SqlVersion;
use local::iot::{Action, Choice, RuleConfig, RuleEngine, Sink, SinkError};
use local::kinesis::{Config, Mode, Position, Record, Stream};
use local::permission::{Authorizer, Permission};
use local::s3::Store;
use local::sqs::{self, Queue};
use local::status::Status;
use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5::Packet as Packet5;
use rumqttc::{Event, Packet, QoS, v5};
use support::{Broker, client, client_v5, publish, publish_as, until};

/// Takes everything, or refuses everything.
struct Records {
    refuse: bool,
    taken: Mutex<Vec<Bytes>>,
}

impl Records {
    fn new(refuse: bool) -> Arc<Records> {
        Arc::new(Records {
            refuse,
            taken: Mutex::default(),
        })
    }

    fn taken(&self) -> Vec<Bytes> {
        self.taken.lock().unwrap().clone()
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records")
    }
}

impl Sink for Records {
    fn name(&self) -> &str {
        "records"
    }

    fn put(&self, records: Vec<Bytes>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            if self.refuse {
                return Err(SinkError {
                    message: "refused".to_owned(),
                    is_transient: false,
                });
            }
            self.taken.lock().unwrap().extend(records);
            Ok(())
        })
    }
}

fn allowed() -> Permission {
    Permission::new(Authorizer::new("test", Status::new(), |_, _| Ok(())), &[])
}

fn denied() -> Permission {
    let authorizer = Authorizer::new("test", Status::new(), |action, resource| {
        Err(format!(
            "User: role is not authorized to perform: {action} on resource: {resource}"
        ))
    });
    Permission::new(
        authorizer,
        &[("kinesis:PutRecord".to_owned(), "stream-arn".to_owned())],
    )
}

fn stream(shard_count: u32) -> Arc<Stream> {
    Stream::new(Config {
        logical_id: "Stream".to_owned(),
        name: "stream".to_owned(),
        arn: "arn:aws:kinesis:eu-central-1:000000000000:stream/stream".to_owned(),
        mode: Mode::Provisioned { shard_count },
        retention: Duration::from_secs(86_400),
        max_record_bytes: 1 << 20,
    })
}

fn records(stream: &Stream) -> Vec<Arc<Record>> {
    let all = |shard| stream.read(shard, Position::TrimHorizon, usize::MAX, usize::MAX);
    stream.shards().into_iter().flat_map(all).collect()
}

fn to_stream(stream: &Arc<Stream>, permission: Permission) -> Action {
    Action::Kinesis {
        stream: Choice::One(Arc::clone(stream), permission),
        partition_key: Some("${topic()}".to_owned()),
    }
}

fn to_logs(log_group: &Arc<Records>) -> Action {
    let log_group: Arc<dyn Sink> = Arc::<Records>::clone(log_group);
    Action::CloudwatchLogs {
        log_group,
        permission: allowed(),
        batch_mode: false,
    }
}

fn rule(name: &str, sql: &str, actions: Vec<Action>, error_action: Option<Action>) -> RuleConfig {
    RuleConfig {
        logical_id: format!("{name}Id"),
        name: name.to_owned(),
        sql: sql.to_owned(),
        version: SqlVersion::V20160323,
        disabled: false,
        actions: actions.into_iter().enumerate().collect(),
        error_action,
        error_action_not_emulated: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_messages_are_in_the_stream_in_order_and_byte_for_byte() {
    let stream = stream(4);
    let rules = vec![
        rule(
            "Bare",
            "SELECT * FROM 't/s'",
            vec![to_stream(&stream, allowed())],
            None,
        ),
        rule(
            "Devices",
            "SELECT * FROM 't/s/+'",
            vec![to_stream(&stream, allowed())],
            None,
        ),
    ];
    let broker = Broker::with_rules(rules).await;
    let (publisher, mut events) = client(&broker, "publisher");
    const EACH: usize = 100;
    tokio::spawn(async move {
        for index in 0..EACH {
            for device in 0..7 {
                let topic = format!("t/s/{device}");
                publisher
                    .publish(
                        topic,
                        QoS::AtLeastOnce,
                        false,
                        format!("{{ \"n\":{index}}}"),
                    )
                    .await
                    .unwrap();
            }
        }
        publisher
            .publish("t/s", QoS::AtLeastOnce, false, vec![0, 255])
            .await
            .unwrap();
        publisher
            .publish("t/s/empty", QoS::AtLeastOnce, false, vec![])
            .await
            .unwrap();
        publisher
            .publish("t/s/a/b", QoS::AtLeastOnce, false, "too deep")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    for _ in 0..7 * EACH + 3 {
        until(&mut events, |it| {
            matches!(it, Event::Incoming(Packet::PubAck(_)))
        })
        .await;
    }
    let mut by_key: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
    for record in records(&stream) {
        by_key
            .entry(record.partition_key.to_string())
            .or_default()
            .push(record.data.clone());
    }
    assert_eq!(
        by_key.remove("t/s"),
        Some(vec![Bytes::from_static(&[0, 255])])
    );
    assert_eq!(by_key.remove("t/s/empty"), Some(vec![Bytes::new()]));
    assert_eq!(by_key.len(), 7);
    for (key, got) in by_key {
        let expected: Vec<_> = (0..EACH)
            .map(|it| Bytes::from(format!("{{ \"n\":{it}}}")))
            .collect();
        assert_eq!(got, expected, "{key}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_versions_reach_a_rule_that_selects() {
    let stream = stream(1);
    let all = "SELECT *, topic(2) AS device FROM 't/+' WHERE temperature > 50";
    let rules = vec![rule("Hot", all, vec![to_stream(&stream, allowed())], None)];
    let broker = Broker::with_rules(rules).await;
    let (four, mut events) = client(&broker, "four");
    let (five, mut events_v5) = client_v5(&broker, "five");
    tokio::spawn(async move { while events.poll().await.is_ok() {} });
    tokio::spawn(async move { while events_v5.poll().await.is_ok() {} });
    for temperature in ["50", "51"] {
        let message = format!("{{\"temperature\":{temperature}}}");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let message = message.clone();
            four.publish("t/x", qos, false, message).await.unwrap();
        }
        for qos in [QoS5::AtMostOnce, QoS5::AtLeastOnce] {
            let message = message.clone();
            five.publish("t/x", qos, false, message).await.unwrap();
        }
    }
    let arrived = async {
        while broker.status.messages.get() < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::PATIENCE, arrived)
        .await
        .unwrap();
    let status = Arc::clone(&broker.status);
    broker.stop().await;
    let got = records(&stream);
    assert_eq!(got.len(), 4);
    for record in got {
        let json: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
        assert_eq!(
            json,
            serde_json::json!({ "temperature": 51, "device": "x" })
        );
    }
    assert_eq!(status.rules_fired.get(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_of_actions_and_error_actions_know_what_set_found() {
    let (stream, second) = (stream(4), stream(4));
    let by_variable = |stream: &Arc<Stream>, permission| Action::Kinesis {
        stream: Choice::One(Arc::clone(stream), permission),
        partition_key: Some("key-${@k}".to_owned()),
    };
    let rules = vec![rule(
        "Rule",
        "SET @k = concat(room, '-', newuuid()) SELECT *, @k AS k FROM 't'",
        vec![
            by_variable(&stream, allowed()),
            by_variable(&stream, denied()),
        ],
        Some(by_variable(&second, allowed())),
    )];
    let broker = Broker::with_rules(rules).await;
    publish(&broker, "t", r#"{"room":"hall"}"#).await;
    let [record] = &records(&stream)[..] else {
        panic!("expected one record")
    };
    let data: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
    let found = data["k"].as_str().unwrap();
    assert!(found.starts_with("hall-"), "{found}");
    assert_eq!(*record.partition_key, format!("key-{found}"));
    let [error] = &records(&second)[..] else {
        panic!("expected one error")
    };
    assert_eq!(error.partition_key, record.partition_key);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_choose_among_streams_by_a_template_and_what_is_not_there_is_told() {
    let (hot, cold, errors) = (stream(1), stream(1), Records::new(false));
    let by_template = Action::Kinesis {
        stream: Choice::Named {
            template: "stream-${kind}".to_owned(),
            resources: BTreeMap::from([
                ("stream-hot".to_owned(), (Arc::clone(&hot), allowed())),
                ("stream-cold".to_owned(), (Arc::clone(&cold), denied())),
            ]),
        },
        partition_key: None,
    };
    let rules = vec![rule(
        "Rule",
        "SELECT * FROM 't'",
        vec![by_template],
        Some(to_logs(&errors)),
    )];
    let broker = Broker::with_rules(rules).await;
    for kind in ["hot", "cold", "mild"] {
        let payload = format!(r#"{{"kind":"{kind}"}}"#);
        publish(&broker, "t", payload).await;
    }
    assert_eq!(records(&hot).len(), 1);
    assert_eq!(records(&cold), []);
    let errors = errors.taken();
    let failure = |error: &Bytes| {
        let error: serde_json::Value = serde_json::from_slice(error).unwrap();
        let failure = &error["failures"][0];
        let text = |name: &str| failure[name].as_str().unwrap().to_owned();
        (text("failedResource"), text("errorMessage"))
    };
    let [refused, missing] = &errors[..] else {
        panic!("expected two errors")
    };
    let (name, message) = failure(refused);
    assert_eq!(name, "stream-cold");
    assert!(message.contains("is not authorized"), "{message}");
    let (name, message) = failure(missing);
    assert_eq!(name, "stream-mild");
    assert!(
        message.contains("ResourceNotFoundException: Stream stream-mild not found"),
        "{message}"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_and_queues_take_what_a_rule_selects_and_what_its_actions_failed_at() {
    let folder = tempfile::tempdir().unwrap();
    let config = sqs::Config {
        logical_id: "Failures".to_owned(),
        name: "failures".to_owned(),
        arn: "arn:aws:sqs:eu-central-1:000000000000:failures".to_owned(),
        url: "https://sqs.eu-central-1.amazonaws.com/000000000000/failures".to_owned(),
        max_message_bytes: 1 << 20,
    };
    let queue = Queue::new(config, folder.path());
    let to_queue = |use_base64| Action::Sqs {
        queue: queue.clone(),
        permission: allowed(),
        use_base64,
    };
    let store = Store::new(folder.path().join("s3")).unwrap();
    // A role that may write below one prefix.
    let authorizer = Authorizer::new("test", Status::new(), |action, resource| {
        let may = action == "s3:PutObject" && resource.starts_with("arn:aws:s3:::b/kitchen/");
        may.then_some(())
            .ok_or_else(|| format!("{action} on {resource} is denied"))
    });
    let to_bucket = Action::S3 {
        bucket: "b".to_owned(),
        arn: "arn:aws:s3:::b".to_owned(),
        key: "${topic(2)}/${@at}.json".to_owned(),
        store: Arc::clone(&store),
        authorizer,
        encryption: allowed(),
    };
    let rules = vec![rule(
        "Rule",
        "SET @at = at SELECT value FROM 't/+'",
        vec![to_bucket, to_queue(true)],
        Some(to_queue(false)),
    )];
    let broker = Broker::with_rules(rules).await;
    for topic in ["t/kitchen", "t/hall"] {
        let payload = r#"{"value":1,"at":7}"#;
        publish(&broker, topic, payload).await;
    }
    let object = std::fs::read(store.path("b", "kitchen/7.json")).unwrap();
    assert_eq!(object, br#"{"value":1}"#);
    assert!(!store.path("b", "hall/7.json").exists());
    let messages = std::fs::read_to_string(queue.path()).unwrap();
    let bodies: Vec<String> = messages
        .lines()
        .map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            message["Body"].as_str().unwrap().to_owned()
        })
        .collect();
    let selected = BASE64_STANDARD.encode(r#"{"value":1}"#);
    assert_eq!(bodies[..2], [selected.clone(), selected]);
    let error: serde_json::Value = serde_json::from_str(&bodies[2]).unwrap();
    assert_eq!(bodies.len(), 3);
    let failure = &error["failures"][0];
    assert_eq!(failure["failedAction"], "S3Action");
    assert_eq!(failure["failedResource"], "b");
    let message = failure["errorMessage"].as_str().unwrap();
    for part in [
        "arn:aws:s3:::b/hall/7.json is denied",
        "Key: \"hall/7.json\"",
    ] {
        assert!(message.contains(part), "{message}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_actions_reach_the_error_action_in_the_shape_of_aws() {
    let (stream, errors, archive) = (stream(1), Records::new(false), Records::new(false));
    let delivery_stream: Arc<dyn Sink> = Arc::<Records>::clone(&archive);
    let to_archive = Action::Firehose {
        delivery_stream: Choice::One(delivery_stream, allowed()),
        separator: Some("\n".to_owned()),
        batch_mode: false,
    };
    let actions = vec![to_stream(&stream, denied()), to_archive];
    let rules = vec![rule(
        "Rule",
        "SELECT * FROM 't/+'",
        actions,
        Some(to_logs(&errors)),
    )];
    let broker = Broker::with_rules(rules).await;
    publish_as(&broker, "me", "t/x", "hello", false).await;
    assert_eq!(records(&stream), []);
    assert_eq!(archive.taken(), [Bytes::from_static(b"hello\n")]);
    let [error] = &errors.taken()[..] else {
        panic!("expected one error")
    };
    let error: serde_json::Value = serde_json::from_slice(error).unwrap();
    assert_eq!(error["ruleName"], "Rule");
    assert_eq!(error["topic"], "t/x");
    assert_eq!(error["clientId"], "me");
    assert_eq!(
        error["base64OriginalPayload"],
        BASE64_STANDARD.encode("hello")
    );
    assert!(error["cloudwatchTraceId"].is_string());
    let failures = error["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0]["failedAction"], "KinesisAction");
    assert_eq!(failures[0]["failedResource"], "stream");
    let message = failures[0]["errorMessage"].as_str().unwrap();
    let expected = "not authorized to perform: kinesis:PutRecord on resource: stream-arn";
    assert!(message.contains(expected), "{message}");
    assert_eq!(broker.status.failures_lost.get(), 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_without_a_working_error_action_is_counted_and_still_acknowledged() {
    let (stream, errors) = (stream(1), Records::new(true));
    let rules = vec![
        rule(
            "None",
            "SELECT * FROM 'a'",
            vec![to_stream(&stream, denied())],
            None,
        ),
        rule(
            "Broken",
            "SELECT * FROM 'b'",
            vec![to_stream(&stream, denied())],
            Some(to_logs(&errors)),
        ),
    ];
    let broker = Broker::with_rules(rules).await;
    for topic in ["a", "b"] {
        publish(&broker, topic, "hello").await;
    }
    assert_eq!(broker.status.failures_lost.get(), 2);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_ingest_reaches_one_enabled_rule_and_no_subscriber() {
    let stream = stream(1);
    let mut disabled = rule(
        "Disabled",
        "SELECT * FROM 'x'",
        vec![to_stream(&stream, allowed())],
        None,
    );
    disabled.disabled = true;
    let rules = vec![
        rule(
            "Rule",
            "SELECT topic() AS topic FROM 'a/b'",
            vec![to_stream(&stream, allowed())],
            None,
        ),
        rule(
            "Other",
            "SELECT * FROM 'a/b'",
            vec![to_stream(&stream, allowed())],
            None,
        ),
        disabled,
    ];
    let broker = Broker::with_rules(rules).await;
    for topic in [
        "$aws/rules/Rule/a/b",
        "$aws/rules/Disabled/x",
        "$aws/rules/Unknown/x",
        "x",
    ] {
        publish(&broker, topic, "{}").await;
    }
    let got = records(&stream);
    assert_eq!(got.len(), 1);
    assert_eq!(
        (&*got[0].partition_key, &got[0].data[..]),
        ("a/b", &br#"{"topic":"a/b"}"#[..])
    );
    assert_eq!(broker.status.rules_not_found.get(), 2);
    assert_eq!(broker.status.unmatched.get(), 3);
    assert_eq!(broker.status.devices.get(), 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_no_rule_takes_is_confirmed_with_a_reason_to_clients_that_want_one() {
    let stream = stream(1);
    let to_stream = vec![to_stream(&stream, allowed())];
    // A rule that takes the topic and does not fire has had the message.
    let sql = "SELECT * FROM 'a' WHERE fires = true";
    let broker = Broker::with_rules(vec![rule("Rule", sql, to_stream, None)]).await;
    let no_rule = Some(contract::topic::NO_RULE);
    for (topic, wants_reasons, max_packet, expected) in [
        ("a", true, None, None),
        ("b", true, None, no_rule),
        ("b", true, Some(1024), no_rule),
        ("b", false, None, None),
        ("b", true, Some(32), None),
    ] {
        let mut options = v5::MqttOptions::new("client", "127.0.0.1", broker.address.port());
        let wants = (!wants_reasons).then_some(0);
        options
            .set_request_problem_info(wants)
            .set_max_packet_size(max_packet);
        let (client, mut events) = v5::AsyncClient::new(options, 10);
        client
            .publish(topic, v5::mqttbytes::QoS::AtLeastOnce, false, "{}")
            .await
            .unwrap();
        let acknowledged =
            support::until_v5(&mut events, |it| matches!(it, Packet5::PubAck(_))).await;
        let Packet5::PubAck(ack) = acknowledged else {
            unreachable!("it is a PUBACK");
        };
        let reason = ack.properties.and_then(|it| it.reason_string);
        assert_eq!(
            reason.as_deref(),
            expected,
            "{topic} {wants_reasons} {max_packet:?}"
        );
    }
    assert_eq!(broker.status.unmatched.get(), 4);
    assert_eq!(broker.status.devices.get(), 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_shard_holds_the_publisher_back_and_loses_nothing() {
    let stream = stream(1);
    let rules = vec![rule(
        "Rule",
        "SELECT * FROM 't'",
        vec![to_stream(&stream, allowed())],
        None,
    )];
    let broker = Broker::with_rules(rules).await;
    let (publisher, mut events) = client(&broker, "publisher");
    const MESSAGES: usize = 1_500;
    tokio::spawn(async move {
        for index in 0..MESSAGES {
            publisher
                .publish("t", QoS::AtLeastOnce, false, index.to_string())
                .await
                .unwrap();
        }
        std::future::pending::<()>().await;
    });
    for _ in 0..MESSAGES {
        until(&mut events, |it| {
            matches!(it, Event::Incoming(Packet::PubAck(_)))
        })
        .await;
    }
    let got: Vec<_> = records(&stream).iter().map(|it| it.data.clone()).collect();
    let expected: Vec<_> = (0..MESSAGES)
        .map(|it| Bytes::from(it.to_string()))
        .collect();
    assert!(got == expected, "every message once, in order");
    assert!(broker.status.action_retries.get() > 0);
    broker.stop().await;
}

#[test]
fn unreadable_sql_is_refused_with_logical_id_and_position() {
    let rules = vec![
        rule("A", "SELECT nonsense( FROM 't'", vec![], None),
        rule(
            "B",
            "SELECT * FROM 't' WHERE get_thing_shadow('a', 'b')",
            vec![],
            None,
        ),
    ];
    let errors = RuleEngine::new(rules, "000000000000", Status::new()).unwrap_err();
    assert_eq!(errors.len(), 2);
    let text = errors[1].to_string();
    assert!(
        text.starts_with("BId.Properties.TopicRulePayload.Sql: "),
        "{text}"
    );
    assert!(
        text.contains("get_thing_shadow") && text.contains('^'),
        "{text}"
    );
}
