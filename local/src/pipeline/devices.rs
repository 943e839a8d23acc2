//! The port for devices that sign in with a certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use cfn::resolve::Context as Account;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Pipeline;
use crate::mqtt;
use crate::mqtt::device::Devices;
use crate::plan::Plan;
use crate::tls::{Authority, Clients};

/// Names in the certificate of the port.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// The folder of registered devices in a data folder.
pub fn folder(data: &Path) -> PathBuf {
    data.join("devices")
}

/// The folder of the authority in a data folder.
pub fn authority(data: &Path) -> PathBuf {
    data.join("tls")
}

pub(super) fn of(plan: &Plan, data: &Path) -> Devices {
    let Account {
        partition,
        region,
        account_id,
        ..
    } = &plan.resolved.context;
    let policies = plan.resolved.of_type("AWS::IoT::Policy");
    Devices {
        folder: folder(data),
        policies: Arc::clone(&plan.policies),
        attached: policies.map(|it| it.logical_id.clone()).collect(),
        arn_prefix: format!("arn:{partition}:iot:{region}:{account_id}"),
    }
}

impl Pipeline {
    /// Opens a port for devices with certificates; says where it listens.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn serve_devices(&mut self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
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
        let authority = Authority::open(&authority(&self.data))?;
        let settings = authority.server_config_for(&names, Clients::WithCertificate)?;
        let serving = mqtt::serve_tls(
            listener,
            TlsAcceptor::from(settings),
            Arc::clone(&self.devices),
            Arc::clone(&self.broker),
            self.stops.broker.clone(),
        );
        self.serving_devices = Some(tokio::spawn(serving));
        Ok(address)
    }
}
