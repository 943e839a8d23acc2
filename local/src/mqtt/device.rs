//! Devices that sign in with a certificate, and what the template's IoT policies let them do.
//!
//! A registered device has a certificate of the development authority in the data folder, in
//! `devices/<thing name>.pem`; removing the file takes its access away. The thing has that certificate
//! attached, and all IoT policies of the template are attached to the certificate.
//! As on AWS, the policy variables of a thing are those of the thing that is named like the client ID.
//! (AWS IoT Core Developer Guide, "Thing policy variables", "AWS IoT Core policy actions".)

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use cfn::evaluate::{Keys, Policies};
use cfn::resolve::Context;
pub use local_flags::thing::is_name as is_thing_name;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Broker;
use crate::template::Template;
use crate::tls::{Authority, CERTIFICATE, Clients};

/// Decisions kept for one connection, so that a client that makes up topics cannot fill the memory.
const MAX_CACHED: usize = 1_024;

/// Names in the certificate of the port.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// The registered devices and the policies for them; shared by `Arc`.
#[derive(Debug)]
pub struct Devices {
    /// Folder of the certificates.
    pub folder: PathBuf,
    /// All policies of the template.
    pub policies: Arc<Policies>,
    /// Logical IDs of its IoT policies.
    pub attached: Vec<String>,
    /// What stands before the resource in an ARN of AWS IoT, such as
    /// `arn:aws:iot:eu-central-1:000000000000`.
    pub arn_prefix: String,
}

/// The folder of registered devices in a data folder.
pub fn folder(data: &Path) -> PathBuf {
    data.join("devices")
}

/// Opens a port for devices with certificates, and serves it until `stopping` is cancelled; says where it
/// listens.
///
/// # Errors
/// The address cannot be had.
pub async fn serve(
    address: SocketAddr,
    authority: &Authority,
    devices: Arc<Devices>,
    broker: Arc<Broker>,
    stopping: CancellationToken,
) -> anyhow::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address} for MQTT with TLS: choose another address (--mqtts {}:0 takes a free port)",
            address.ip()
        )
    })?;
    let address = listener.local_addr().context("read the port's address")?;
    let mut names = NAMES.map(str::to_owned).to_vec();
    // Devices elsewhere know this machine by its address.
    if !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    names.dedup();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let settings = authority.server_config_for(&names, Clients::WithCertificate)?;
    let acceptor = TlsAcceptor::from(settings);
    let serving = super::serve_tls(listener, acceptor, devices, broker, stopping);
    Ok((address, tokio::spawn(serving)))
}

impl Devices {
    /// The devices that are registered in a data folder, under the policies of a template.
    pub fn of(template: &Template, data: &Path) -> Devices {
        let Context {
            partition,
            region,
            account_id,
            ..
        } = &template.resolved.context;
        let policies = template.resolved.of_type("AWS::IoT::Policy");
        Devices {
            folder: folder(data),
            policies: Arc::clone(&template.policies),
            attached: policies.map(|it| it.logical_id.clone()).collect(),
            arn_prefix: format!("arn:{partition}:iot:{region}:{account_id}"),
        }
    }

    /// Whether others are under the same IoT policies.
    pub fn has_policies_of(&self, other: &Devices) -> bool {
        let text = |it: &Devices| format!("{:?}", it.policies.iot);
        self.attached == other.attached && text(self) == text(other)
    }

    /// The thing that a certificate is attached to; nothing if nobody has registered it, or no more.
    pub(super) fn thing_of(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut paths = entries.map(|entry| entry.path());
        let path = paths.find(|path| {
            path.extension().is_some_and(|it| it == CERTIFICATE)
                && CertificateDer::from_pem_file(path).is_ok_and(|it| it == *certificate)
        })?;
        Some(path.file_stem()?.to_str()?.to_owned())
    }

    fn is_thing(&self, name: &str) -> bool {
        is_thing_name(name) && self.folder.join(format!("{name}.{CERTIFICATE}")).is_file()
    }
}

/// An action, and a resource without what stands before it in the ARN.
type Asked = (&'static str, String);

/// A device that is connected.
#[derive(Debug)]
pub(super) struct Device {
    devices: Arc<Devices>,
    thing: String,
    keys: Keys,
    decisions: Mutex<HashMap<Asked, Result<(), String>>>,
}

impl Device {
    /// A device with the certificate of a thing that connects with a client ID.
    pub(super) fn new(devices: Arc<Devices>, thing: String, client_id: &str) -> Device {
        let mut keys = Keys::new().with("iot:ClientId", client_id);
        if devices.is_thing(client_id) {
            let attached = (client_id == thing).to_string();
            keys = keys
                .with("iot:Connection.Thing.ThingName", client_id)
                .with("iot:Connection.Thing.IsAttached", attached);
        }
        Device {
            devices,
            thing,
            keys,
            decisions: Mutex::default(),
        }
    }

    /// Whether it may do something; `resource` is what follows the account in the ARN.
    ///
    /// # Errors
    /// In AWS's words, why not.
    pub(super) fn may(&self, action: &'static str, resource: String) -> Result<(), String> {
        let mut decisions = self
            .decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (action, resource);
        if let Some(decision) = decisions.get(&key) {
            return decision.clone();
        }
        if decisions.len() >= MAX_CACHED {
            decisions.clear();
        }
        let Devices {
            policies,
            attached,
            arn_prefix,
            ..
        } = &*self.devices;
        let attached: Vec<&str> = attached.iter().map(String::as_str).collect();
        let arn = format!("{arn_prefix}:{}", key.1);
        let (request, decision) =
            policies.certificate_may(&attached, &self.thing, action, &arn, self.keys.clone());
        let decision = match decision.denial(&request) {
            None => Ok(()),
            Some(denial) => Err(denial),
        };
        decisions.insert(key, decision.clone());
        decision
    }
}
