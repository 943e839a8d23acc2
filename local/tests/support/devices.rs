//! A broker behind TLS, for devices with certificates.

#![allow(dead_code, reason = "each test program uses its part")]

use std::net::SocketAddr;
use std::path::PathBuf;
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
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A listening port.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) status: Arc<Status>,
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
    pub(crate) async fn open() -> Port {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(&folder.path().join("tls")).unwrap();
        let status = Status::new();
        let rules = RuleEngine::new(Vec::new(), "000000000000", Arc::clone(&status)).unwrap();
        let devices = Devices {
            folder: folder.path().join("devices"),
            policies: Arc::clone(&plan().template.policies),
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

    /// Issues a certificate for a device.
    pub(crate) fn add(&self, name: &str) -> DeviceFiles {
        self.authority.device(name, &self.devices()).unwrap()
    }
}
