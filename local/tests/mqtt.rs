//! The broker, asked by a client that we did not write: rumqttc. `mosquitto.rs` asks it by another one.

mod support;

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, Packet as Packet5};
use rumqttc::{Event, LastWill, Packet, QoS};
use support::{Broker, client, client_v5, connect, next, next_publish, options, publish_as};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_of_either_version_get_what_publishers_of_either_version_send() {
    let broker = Broker::start().await;
    let (subscriber, mut events) = client(&broker, "subscriber");
    let (subscriber_v5, mut events_v5) = client_v5(&broker, "subscriber-v5");
    subscriber.subscribe("a/+", QoS::AtLeastOnce).await.unwrap();
    subscriber_v5
        .subscribe("a/#", QoS5::AtMostOnce)
        .await
        .unwrap();
    support::until(&mut events, |it| {
        matches!(it, Event::Incoming(Packet::SubAck(_)))
    })
    .await;
    support::until_v5(&mut events_v5, |it| matches!(it, Packet5::SubAck(_))).await;

    let (publisher, mut publishing) = client(&broker, "publisher");
    let (publisher_v5, mut publishing_v5) = client_v5(&broker, "publisher-v5");
    tokio::spawn(async move { while publishing.poll().await.is_ok() {} });
    tokio::spawn(async move { while publishing_v5.poll().await.is_ok() {} });
    publisher
        .publish("a/4", QoS::AtLeastOnce, false, "four")
        .await
        .unwrap();
    let got = next_publish(&mut events).await;
    assert_eq!(
        (&*got.topic, &got.payload[..], got.qos),
        ("a/4", &b"four"[..], QoS::AtLeastOnce)
    );
    publisher_v5
        .publish("a/5", QoS5::AtLeastOnce, false, "five")
        .await
        .unwrap();
    let got = next_publish(&mut events).await;
    assert_eq!((&*got.topic, &got.payload[..]), ("a/5", &b"five"[..]));
    for expected in ["four", "five"] {
        let Packet5::Publish(got) =
            support::until_v5(&mut events_v5, |it| matches!(it, Packet5::Publish(_))).await
        else {
            unreachable!("only a PUBLISH ends the wait")
        };
        assert_eq!((got.payload, got.qos), (expected.into(), QoS5::AtMostOnce));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_message_is_kept_until_an_empty_one_removes_it() {
    let broker = Broker::start().await;
    for payload in ["old", "new"] {
        publish_as(&broker, "publisher", "kept/a", payload, true).await;
    }
    let (late, mut events) = client(&broker, "late");
    late.subscribe("kept/+", QoS::AtLeastOnce).await.unwrap();
    let got = next_publish(&mut events).await;
    assert_eq!(
        (&*got.topic, &got.payload[..], got.retain),
        ("kept/a", &b"new"[..], true)
    );
    let (late, mut events) = client_v5(&broker, "late-v5");
    late.subscribe("kept/+", QoS5::AtLeastOnce).await.unwrap();
    let got = support::until_v5(&mut events, |it| matches!(it, Packet5::Publish(_))).await;
    let Packet5::Publish(got) = got else {
        unreachable!("only a PUBLISH ends the wait")
    };
    assert_eq!(
        (&got.topic[..], &got.payload[..], got.retain),
        (&b"kept/a"[..], &b"new"[..], true)
    );
    publish_as(&broker, "publisher", "kept/a", "", true).await;
    let (subscriber, mut events) = client(&broker, "subscriber");
    subscriber
        .subscribe("kept/+", QoS::AtLeastOnce)
        .await
        .unwrap();
    support::until(&mut events, |it| {
        matches!(it, Event::Incoming(Packet::SubAck(_)))
    })
    .await;
    publish_as(&broker, "publisher", "kept/b", "next", false).await;
    assert_eq!(next_publish(&mut events).await.topic, "kept/b");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_will_is_published_when_the_client_vanishes_and_not_after_a_goodbye() {
    let broker = Broker::start().await;
    let (subscriber, mut events) = client(&broker, "subscriber");
    subscriber
        .subscribe("will/+", QoS::AtLeastOnce)
        .await
        .unwrap();
    support::until(&mut events, |it| {
        matches!(it, Event::Incoming(Packet::SubAck(_)))
    })
    .await;
    for (name, goodbye) in [("polite", true), ("vanishing", false)] {
        let mut options = options(&broker, name);
        options.set_last_will(LastWill::new(
            format!("will/{name}"),
            "gone",
            QoS::AtLeastOnce,
            false,
        ));
        let (client, mut connection) = rumqttc::AsyncClient::new(options, 10);
        next(&mut connection).await;
        if goodbye {
            client.disconnect().await.unwrap();
            while connection.poll().await.is_ok() {}
        }
        drop(connection);
    }
    assert_eq!(next_publish(&mut events).await.topic, "will/vanishing");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_connection_with_a_client_id_ends_the_first() {
    let broker = Broker::start().await;
    let (_first, mut first_events) = client_v5(&broker, "same");
    support::until_v5(&mut first_events, |it| matches!(it, Packet5::ConnAck(_))).await;
    let (_second, mut second_events) = client(&broker, "same");
    next(&mut second_events).await;
    let reason = support::disconnected(&mut first_events).await;
    assert_eq!(reason, DisconnectReasonCode::SessionTakenOver);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aws_ends_a_connection_for_ends_it_here() {
    let broker = Broker::start().await;
    let long_topic = "x".repeat(257);
    let cases: &[(&str, &str, QoS5, usize, DisconnectReasonCode)] = &[
        (
            "QoS 2",
            "a",
            QoS5::ExactlyOnce,
            1,
            DisconnectReasonCode::QoSNotSupported,
        ),
        (
            "payload",
            "a",
            QoS5::AtLeastOnce,
            131_073,
            DisconnectReasonCode::PacketTooLarge,
        ),
        (
            "topic",
            &long_topic,
            QoS5::AtLeastOnce,
            1,
            DisconnectReasonCode::TopicNameInvalid,
        ),
        (
            "levels",
            "1/2/3/4/5/6/7/8/9",
            QoS5::AtMostOnce,
            1,
            DisconnectReasonCode::TopicNameInvalid,
        ),
        (
            "reserved",
            "$SYS/a",
            QoS5::AtLeastOnce,
            1,
            DisconnectReasonCode::TopicNameInvalid,
        ),
    ];
    for (name, topic, qos, size, expected) in cases {
        let (client, mut events) = client_v5(&broker, name);
        support::until_v5(&mut events, |it| matches!(it, Packet5::ConnAck(_))).await;
        client
            .publish(*topic, *qos, false, vec![b'x'; *size])
            .await
            .unwrap();
        let reason = support::disconnected(&mut events).await;
        assert_eq!(reason, *expected, "{name}");
    }
    assert_eq!(broker.status.messages.get(), 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payload_and_topic_at_the_limits_are_taken() {
    let broker = Broker::start().await;
    let (client, mut events) = client(&broker, "client");
    let topic = format!("{}/{}", "1/2/3/4/5/6/7", "x".repeat(256 - 14));
    client
        .publish(topic, QoS::AtLeastOnce, false, vec![b'x'; 131_072])
        .await
        .unwrap();
    support::until(&mut events, |it| {
        matches!(it, Event::Incoming(Packet::PubAck(_)))
    })
    .await;
    assert_eq!(broker.status.messages.get(), 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_mqtt_close_the_connection_and_nothing_else() {
    let broker = Broker::start().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x10\x00",
        b"\xc0\x00",
        b"\x10\x04\0\x06MQ",
        b"",
    ] {
        let mut socket = TcpStream::connect(broker.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // Reset or closed: either way the broker is done with it.
        let _ = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest))
            .await
            .expect("the broker closes the connection");
    }
    connect(&broker, "after").await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_tells_clients_and_leaves_no_connection() {
    let broker = Broker::start().await;
    let (_client, mut events) = client_v5(&broker, "client");
    support::until_v5(&mut events, |it| matches!(it, Packet5::ConnAck(_))).await;
    let address = broker.address;
    broker.stop().await;
    let reason = support::disconnected(&mut events).await;
    assert_eq!(reason, DisconnectReasonCode::ServerShuttingDown);
    assert!(TcpStream::connect(address).await.is_err());
}
