//! An environment as a part of a run.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::anyhow;
use cfn::integration::Call;
use cfn::resolve::ResolvedResource;
use futures_util::future::BoxFuture;

use super::instance_metadata::{Instance, Metadata};
use super::plan;
use super::{Config, Environment};
use crate::elasticache::addresses;
use crate::part::{Context, Part, Shared};
use crate::permission::CONNECT;
use crate::template::Template;

/// An `AWS::ElasticBeanstalk::Environment`; its handle is an [`Environment`].
#[derive(Debug)]
pub struct EnvironmentPart {
    logical_id: String,
    running: Option<Arc<Environment>>,
    /// The instances' metadata service, as long as the web process runs.
    metadata: Option<Metadata>,
    /// Where it listened before: browsers find it there again.
    address: Option<SocketAddr>,
}

impl EnvironmentPart {
    /// An environment that does not run yet.
    pub fn boxed(logical_id: &str) -> Box<dyn Part> {
        Box::new(EnvironmentPart {
            logical_id: logical_id.to_owned(),
            running: None,
            metadata: None,
            address: None,
        })
    }

    /// The environment with the addresses of the caches that it reaches.
    fn config(&self, context: &Context) -> anyhow::Result<Config> {
        let view = addresses::view(context, &self.logical_id)?;
        let resource = view.resource(&self.logical_id);
        Ok(plan::config(
            resource.ok_or_else(|| anyhow!("{} is gone", self.logical_id))?,
        )?)
    }

    /// The first environment is found at the dashboard's address, every other at a free one.
    fn address(&self, shared: &Shared) -> SocketAddr {
        self.address.unwrap_or_else(|| {
            let mut address = shared.dashboard;
            if !shared.handles.all::<Environment>().is_empty() {
                address.set_port(0);
            }
            address
        })
    }
}

/// The version that an environment runs.
pub fn version<'a>(
    template: &'a Template,
    environment: &ResolvedResource,
) -> Option<&'a ResolvedResource> {
    let label = environment.text("/VersionLabel")?;
    let resolved = &template.resolved;
    resolved.find("AWS::ElasticBeanstalk::ApplicationVersion", &label)
}

impl Part for EnvironmentPart {
    fn needs(&self, template: &Template) -> Vec<String> {
        addresses::caches(template, &self.logical_id)
    }

    fn inputs(&self, context: &Context) -> anyhow::Result<String> {
        let template = &context.template;
        let version = version(template, template.resource(&self.logical_id)?);
        let source = version.map(|it| (&it.physical_id, &it.properties));
        let permissions = template.permissions_of(&self.logical_id);
        let config = self.config(context)?;
        Ok(format!("{config:?} {source:?} {permissions}"))
    }

    fn start<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async {
            let shared = &context.shared;
            let mut config = self.config(context)?;
            addresses::warn(context, &self.logical_id)?;
            let (authorizer, role) = context.permissions().sign_in(&self.logical_id);
            let role = role.map(|role| (role.to_owned(), shared.sessions.open(authorizer)));
            let region = context.template.resolved.context.region.clone();
            let metadata = Metadata::start(Instance { region, role }).await?;
            let name = contract::environment::AWS_EC2_METADATA_SERVICE_ENDPOINT;
            config
                .environment
                .insert(name.to_owned(), metadata.endpoint());
            context
                .programs
                .bundle(&self.logical_id)?
                .clone_into(&mut config.bundle);
            config.address = self.address(shared);
            config.ca_file = Some(shared.authority.ca_file().to_owned());
            let environment = Arc::new(Environment::start(config, &shared.logs).await?);
            self.address = Some(environment.address());
            shared
                .handles
                .put(&self.logical_id, Arc::clone(&environment));
            self.running = Some(environment);
            self.metadata = Some(metadata);
            Ok(())
        })
    }

    fn stop<'a>(&'a mut self, shared: &'a Shared) -> BoxFuture<'a, ()> {
        Box::pin(async {
            shared.handles.remove::<Environment>(&self.logical_id);
            if let Some(running) = self.running.take() {
                running.stop().await;
            }
            self.metadata = None;
        })
    }

    fn describe(&self) -> Option<String> {
        let address = self.running.as_ref()?.address();
        Some(format!("web UI at http://{address}/"))
    }

    /// Of what instances do, signing in to the cache is all that happens here.
    fn makes(&self, call: &Call) -> bool {
        call.action == CONNECT
    }
}
