//! Devices with certificates.
//!
//! The client speaks plain MQTT to a tunnel, and the tunnel TLS with the device's certificate.

#[path = "support/devices.rs"]
mod devices;

use std::net::SocketAddr;
use std::sync::Arc;

use devices::{PATIENCE, Port};
use local::tls::{Authority, DeviceFiles};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Where a client reaches the port as a device: its TLS is the tunnel's. Takes one connection.
async fn tunnel(port: &Port, files: &DeviceFiles) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(port.authority.ca_file()).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let certificates = CertificateDer::pem_file_iter(&files.certificate)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates, key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = port.address;
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let stream = TcpStream::connect(server).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        // One that is not let in sees its connection end.
        if let Ok(mut stream) = connector.connect(name, stream).await {
            let _ = copy_bidirectional(&mut client, &mut stream).await;
        }
    });
    address
}

async fn client(
    port: &Port,
    files: &DeviceFiles,
    id: &str,
    will: Option<LastWill>,
) -> (AsyncClient, EventLoop) {
    let address = tunnel(port, files).await;
    let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
    if let Some(will) = will {
        options.set_last_will(will);
    }
    AsyncClient::new(options, 10)
}

/// What a device publishes.
struct Attempt<'a> {
    client_id: &'a str,
    topic: &'a str,
    retain: bool,
    will_topic: Option<&'a str>,
}

impl<'a> Attempt<'a> {
    fn new(client_id: &'a str, topic: &'a str) -> Attempt<'a> {
        Attempt {
            client_id,
            topic,
            retain: false,
            will_topic: None,
        }
    }
}

/// Publishes at QoS 1; whether the broker took it.
async fn publish(port: &Port, files: &DeviceFiles, attempt: Attempt<'_>) -> bool {
    let will = attempt
        .will_topic
        .map(|topic| LastWill::new(topic, "x", QoS::AtLeastOnce, false, None));
    let (client, mut events) = client(port, files, attempt.client_id, will).await;
    let before = port.status.messages.get();
    client
        .publish(attempt.topic, QoS::AtLeastOnce, attempt.retain, "{}")
        .await
        .unwrap();
    let acknowledged = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::PubAck(answer))) => {
                    return matches!(
                        answer.reason,
                        PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                    );
                }
                Ok(_) => {}
                // Refused or ended.
                Err(_) => return false,
            }
        }
    };
    let acknowledged = timeout(PATIENCE, acknowledged).await.expect("an answer");
    let taken = port.status.messages.get() - before;
    assert_eq!(acknowledged, taken == 1);
    acknowledged
}

/// The broker's answer to a subscription.
async fn subscribe(
    port: &Port,
    files: &DeviceFiles,
    id: &str,
    filter: &str,
) -> SubscribeReasonCode {
    let (client, mut events) = client(port, files, id, None).await;
    client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    let answered = async {
        loop {
            if let Event::Incoming(Packet::SubAck(answer)) = events.poll().await.unwrap() {
                return answer.return_codes[0];
            }
        }
    };
    timeout(PATIENCE, answered).await.expect("an answer")
}

#[tokio::test]
async fn device_publishes_as_itself_to_its_own_topic_alone() {
    let port = Port::open().await;
    let kitchen = port.add("kitchen");
    port.add("cellar");
    let own = "topic/sensors/kitchen";
    assert!(publish(&port, &kitchen, Attempt::new("kitchen", own)).await);
    for (what, attempt) in [
        (
            "another's topic",
            Attempt::new("kitchen", "topic/sensors/cellar"),
        ),
        ("the bare topic", Attempt::new("kitchen", "topic/sensors")),
        (
            "another's name",
            Attempt::new("cellar", "topic/sensors/cellar"),
        ),
        (
            "the name of no thing",
            Attempt::new("nobody", "topic/sensors/nobody"),
        ),
        // Nothing allows to retain.
        (
            "retained",
            Attempt {
                retain: true,
                ..Attempt::new("kitchen", own)
            },
        ),
        (
            "a last will on another's topic",
            Attempt {
                will_topic: Some("topic/sensors/cellar"),
                ..Attempt::new("kitchen", own)
            },
        ),
    ] {
        assert!(!publish(&port, &kitchen, attempt).await, "{what}");
    }
}

#[tokio::test]
async fn only_registered_certificates_connect() {
    let port = Port::open().await;
    let kitchen = port.add("kitchen");
    // Of another authority.
    let other = tempfile::tempdir().unwrap();
    let stranger = Authority::open(&other.path().join("tls")).unwrap();
    let stranger = stranger
        .device("kitchen", &other.path().join("devices"))
        .unwrap();
    let attempt = || Attempt::new("kitchen", "topic/sensors/kitchen");
    assert!(!publish(&port, &stranger, attempt()).await);
    assert!(publish(&port, &kitchen, attempt()).await);
    // Its access is taken away.
    let elsewhere = other.path().join("kitchen.pem");
    std::fs::rename(&kitchen.certificate, &elsewhere).unwrap();
    let kitchen = DeviceFiles {
        certificate: elsewhere,
        ..kitchen
    };
    assert!(!publish(&port, &kitchen, attempt()).await);
}

#[tokio::test]
async fn subscriptions_are_what_the_policy_allows() {
    let port = Port::open().await;
    let kitchen = port.add("kitchen");
    let refused = subscribe(&port, &kitchen, "kitchen", "topic/sensors/#").await;
    assert!(
        !matches!(refused, SubscribeReasonCode::Success(_)),
        "{refused:?}"
    );
    let allowed = subscribe(&port, &kitchen, "kitchen", "commands/kitchen").await;
    assert!(
        matches!(allowed, SubscribeReasonCode::Success(_)),
        "{allowed:?}"
    );
}
