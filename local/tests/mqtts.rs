//! Devices with certificates, as mosquitto's clients speak for them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use cfn::document::Document;
use local::iot::RuleEngine;
use local::mqtt::device::Devices;
use local::mqtt::{self, Broker};
use local::plan::Plan;
use local::status::Status;
use local::tls::{Authority, Clients, DeviceFiles};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

struct Port {
    address: SocketAddr,
    authority: Authority,
    status: Arc<Status>,
    folder: TempDir,
    _stop: tokio_util::sync::DropGuard,
}

/// The policies of the stack: connect as one's own thing, publish to one's own topic.
fn plan() -> Plan {
    let allow = |action: &str, resource: &str| {
        let resource = format!("arn:aws:iot:eu-central-1:000000000000:{resource}");
        json!({ "Effect": "Allow", "Action": action, "Resource": resource })
    };
    let thing = "${iot:Connection.Thing.ThingName}";
    let mut connect = allow("iot:Connect", &format!("client/{thing}"));
    connect["Condition"] = json!({ "Bool": { "iot:Connection.Thing.IsAttached": "true" } });
    let statements = [
        connect,
        allow("iot:Publish", &format!("topic/topic/sensors/{thing}")),
        allow("iot:Subscribe", "topicfilter/commands/*"),
        allow("iot:Receive", &format!("topic/commands/{thing}")),
    ];
    let template = json!({ "Resources": { "DevicePolicy": {
        "Type": "AWS::IoT::Policy",
        "Properties": { "PolicyDocument": { "Version": "2012-10-17", "Statement": statements } },
    } } });
    let document: Document = serde_json::from_value(template).unwrap();
    Plan::new(document, "eu-central-1", "test", Default::default()).unwrap()
}

impl Port {
    async fn open() -> Port {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(&folder.path().join("tls")).unwrap();
        let status = Status::new();
        let rules = RuleEngine::new(Vec::new(), "000000000000", Arc::clone(&status)).unwrap();
        let devices = Devices {
            folder: folder.path().join("devices"),
            policies: plan().policies,
            attached: vec!["DevicePolicy".to_owned()],
            arn_prefix: "arn:aws:iot:eu-central-1:000000000000".to_owned(),
        };
        let settings = authority.server_config_for(&["localhost"], Clients::WithCertificate);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(mqtt::serve_tls(
            listener,
            TlsAcceptor::from(settings.unwrap()),
            Arc::new(devices),
            Broker::new(rules, Arc::clone(&status)),
            stop.clone(),
        ));
        Port {
            address,
            authority,
            status,
            folder,
            _stop: stop.drop_guard(),
        }
    }

    fn devices(&self) -> PathBuf {
        self.folder.path().join("devices")
    }

    fn add(&self, name: &str) -> DeviceFiles {
        self.authority.device(name, &self.devices()).unwrap()
    }

    fn command(
        &self,
        program: &str,
        files: &DeviceFiles,
        rest: &[&str],
    ) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        command
            .args(["-h", "localhost", "-p", &self.address.port().to_string()])
            .arg("--cafile")
            .arg(self.authority.ca_file())
            .arg("--cert")
            .arg(&files.certificate)
            .arg("--key")
            .arg(&files.key)
            .args(rest)
            .kill_on_drop(true);
        command
    }

    async fn run(&self, program: &str, files: &DeviceFiles, rest: &[&str]) -> Output {
        let output = self.command(program, files, rest).output();
        let output = timeout(PATIENCE, output).await.expect("it ends");
        output.unwrap_or_else(|error| {
            panic!(
                "cannot run {program}: {error}; install it with `apt-get install mosquitto-clients`"
            )
        })
    }

    /// Publishes at QoS 1; whether the broker took it.
    async fn publish(
        &self,
        files: &DeviceFiles,
        client_id: &str,
        topic: &str,
        rest: &[&str],
    ) -> bool {
        let mut arguments = vec![
            "-i", client_id, "-t", topic, "-q", "1", "-m", "{}", "-V", "mqttv5",
        ];
        arguments.extend(rest);
        let before = self.status.messages.get();
        let output = self.run("mosquitto_pub", files, &arguments).await;
        let taken = self.status.messages.get() - before;
        assert_eq!(output.status.success(), taken == 1, "{output:?}");
        taken == 1
    }
}

#[tokio::test]
async fn device_publishes_as_itself_to_its_own_topic_alone() {
    let port = Port::open().await;
    let kitchen = port.add("kitchen");
    port.add("cellar");
    assert!(
        port.publish(&kitchen, "kitchen", "topic/sensors/kitchen", &[])
            .await
    );
    assert!(
        !port
            .publish(&kitchen, "kitchen", "topic/sensors/cellar", &[])
            .await
    );
    assert!(
        !port
            .publish(&kitchen, "kitchen", "topic/sensors", &[])
            .await
    );
    // Somebody else's name, and one that is no thing.
    assert!(
        !port
            .publish(&kitchen, "cellar", "topic/sensors/cellar", &[])
            .await
    );
    assert!(
        !port
            .publish(&kitchen, "nobody", "topic/sensors/nobody", &[])
            .await
    );
    // Nothing allows to retain.
    assert!(
        !port
            .publish(&kitchen, "kitchen", "topic/sensors/kitchen", &["-r"])
            .await
    );
    let will = [
        "--will-topic",
        "topic/sensors/cellar",
        "--will-payload",
        "x",
    ];
    assert!(
        !port
            .publish(&kitchen, "kitchen", "topic/sensors/kitchen", &will)
            .await
    );
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
    assert!(
        !port
            .publish(&stranger, "kitchen", "topic/sensors/kitchen", &[])
            .await
    );
    assert!(
        port.publish(&kitchen, "kitchen", "topic/sensors/kitchen", &[])
            .await
    );
    // Its access is taken away.
    let elsewhere = other.path().join("kitchen.pem");
    std::fs::rename(&kitchen.certificate, &elsewhere).unwrap();
    let kitchen = DeviceFiles {
        certificate: elsewhere,
        ..kitchen
    };
    assert!(
        !port
            .publish(&kitchen, "kitchen", "topic/sensors/kitchen", &[])
            .await
    );
}

#[tokio::test]
async fn subscriptions_are_what_the_policy_allows() {
    let port = Port::open().await;
    let kitchen = port.add("kitchen");
    let listen = |topic: &str| {
        let arguments = [
            "-i", "kitchen", "-t", topic, "-C", "1", "-W", "3", "-V", "mqttv5",
        ];
        let mut command = port.command("mosquitto_sub", &kitchen, &arguments);
        async move { command.output().await.unwrap() }
    };
    let refused = timeout(PATIENCE, listen("topic/sensors/#")).await.unwrap();
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.contains("subscription requests were denied"),
        "{refused}"
    );
    // It may subscribe, and nobody sends anything: mosquitto_sub ends with its timeout (27).
    let allowed = timeout(PATIENCE, listen("commands/kitchen")).await.unwrap();
    assert_eq!(allowed.status.code(), Some(27), "{allowed:?}");
}
