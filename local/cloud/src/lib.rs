//! The AWS APIs that our own deployment calls, and no more: what `xtask/aws` calls, answered on one machine.
//!
//! A deployment with `AWS_ENDPOINT_URL` set to this address creates, changes and deletes stacks as
//! on AWS; what is deployed runs in [`local`], from the artifacts that were uploaded.
//!
//! Layout: `server` takes requests and finds their service; [`call`], [`form`] and [`xml`] are
//! what services read and write; [`account`] is what they share; [`fault`] and [`pace`] decide what
//! fails and what takes its time; [`cloudformation`] and its neighbours are the services.
//!
//! # Differs from AWS
//! - Signatures are not verified: any access key does. The account is `000000000000`.
//! - It is no general emulator of AWS: every other service and operation is refused, by its name and in the
//!   protocol of the caller.
//! - Every region is there, and all of them share one set of bucket names.

pub mod account;
pub mod call;
pub mod cli;
pub mod cloudformation;
pub mod ec2;
pub mod elasticache;
pub mod elasticbeanstalk;
pub mod fault;
pub mod form;
pub mod iot;
pub mod iot_data;
pub mod lambda;
pub mod logs;
pub mod pace;
pub mod s3;
mod server;
pub mod service_quotas;
pub mod sts;
pub mod switches;
pub mod xml;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use account::{Account, Buckets, Settings};
pub use call::{Call, Failure, Protocol, Service};
use cloudformation::CloudFormation;
use ec2::{Ec2, Interfaces};
use elasticache::ElastiCache;
use elasticbeanstalk::ElasticBeanstalk;
use iot::Iot;
use iot_data::IotData;
use lambda::Lambda;
use logs::Logs;
use s3::S3;
use service_quotas::ServiceQuotas;
use sts::Sts;
use switches::Switches;

/// All services; each is in a module of its own.
fn services(account: &Arc<Account>) -> anyhow::Result<Vec<Arc<dyn Service>>> {
    let switches = Switches::open(account.settings.data.join("switches.json"))
        .context("read what was switched off")?;
    let interfaces = Interfaces::new(Arc::clone(&switches));
    let s3 = Arc::new(S3::open(account)?);
    account.lend_buckets(s3.buckets());
    Ok(vec![
        s3,
        Arc::new(Sts::new(account)),
        Arc::new(ServiceQuotas),
        Arc::new(ElasticBeanstalk::new(account)),
        Arc::new(Iot::new(account, &switches)),
        Arc::new(IotData::new(account)),
        Arc::new(Lambda::new(account, &switches, &interfaces)),
        Arc::new(Logs::new(account)),
        Arc::new(Ec2::new(account, &interfaces)),
        Arc::new(ElastiCache::open(account).context("read the caches' snapshots")?),
        Arc::new(CloudFormation::open(account)?),
    ])
}

/// A running cloud. Dropped, it ends with everything that runs in it.
#[derive(Debug)]
pub struct Cloud {
    address: SocketAddr,
    account: Arc<Account>,
    services: Vec<Arc<dyn Service>>,
    stop: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Cloud {
    /// Starts the services, and goes on with what an earlier run was doing in the same folder.
    ///
    /// # Errors
    /// The address is taken, or the data folder cannot be used.
    pub async fn start(
        address: SocketAddr,
        settings: impl FnOnce(String) -> Settings,
    ) -> anyhow::Result<Cloud> {
        Cloud::start_with(address, None, settings).await
    }

    /// The same with buckets that somebody else keeps.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(
        address: SocketAddr,
        buckets: Option<Arc<dyn Buckets>>,
        settings: impl FnOnce(String) -> Settings,
    ) -> anyhow::Result<Cloud> {
        let listener = server::listen(address).await?;
        let address = listener.local_addr().context("read the cloud's address")?;
        let settings = settings(format!("http://{address}"));
        let data = settings.data.display().to_string();
        let account =
            Account::new(settings).with_context(|| format!("cannot use the data folder {data}"))?;
        let services = services(&account)?;
        if let Some(buckets) = buckets {
            account.lend_buckets(buckets);
        }
        account.introduce(&services);
        let stop = CancellationToken::new();
        let server = tokio::spawn(server::serve(
            listener,
            Arc::clone(&account),
            services.clone(),
            stop.clone(),
        ));
        services.iter().for_each(|it| it.resume());
        Ok(Cloud {
            address,
            account,
            services,
            stop,
            server,
        })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its services share.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Returns when the server has ended by itself, with the reason. Cancel safe.
    pub async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.server).await {
            Ok(Ok(())) => anyhow::anyhow!("the cloud's server has ended"),
            Ok(Err(error)) => error,
            Err(error) => anyhow::anyhow!("the cloud's server has ended: {error}"),
        }
    }

    /// Ends the server; then every pipeline, in order.
    pub async fn stop(mut self) {
        self.stop.cancel();
        // A client that keeps its connection open keeps nobody waiting.
        self.server.abort();
        let _ = (&mut self.server).await;
        for service in &self.services {
            service.stop().await;
        }
    }
}

impl Drop for Cloud {
    /// The server's task would outlive us, and with it the services: two clouds on one folder.
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.abort();
        self.services.iter().for_each(|it| it.halt());
    }
}
