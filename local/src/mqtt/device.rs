//! Devices that sign in with a certificate, and what the template's IoT policies let them do.
//!
//! A registered device has a certificate of the development authority in the data folder, in
//! `devices/<thing name>.pem`; removing the file takes its access away. The thing has that certificate
//! attached, and all IoT policies of the template are attached to the certificate.
//! As on AWS, the policy variables of a thing are those of the thing that is named like the client ID.
//! (AWS IoT Core Developer Guide, "Thing policy variables", "AWS IoT Core policy actions".)

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cfn::evaluate::{Keys, Policies};
pub use local_flags::thing::is_name as is_thing_name;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::tls::CERTIFICATE;

/// Decisions kept for one connection, so that a client that makes up topics cannot fill the memory.
const MAX_CACHED: usize = 1_024;

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

impl Devices {
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
