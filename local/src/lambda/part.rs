//! A function as a part of a run.

use std::sync::Arc;

use anyhow::anyhow;
use futures_util::future::BoxFuture;

use super::plan;
use super::{Config, Function};
use crate::elasticache::addresses;
use crate::fault::Fault;
use crate::part::{Change, Context, Part, Shared};
use crate::template::Template;

/// An `AWS::Lambda::Function`; its handle is a [`Function`].
#[derive(Debug)]
pub struct FunctionPart {
    logical_id: String,
    running: Option<Function>,
    /// What it was started with beside its binary.
    settings: String,
}

impl FunctionPart {
    /// A function that does not run yet.
    pub fn boxed(logical_id: &str) -> Box<dyn Part> {
        Box::new(FunctionPart {
            logical_id: logical_id.to_owned(),
            running: None,
            settings: String::new(),
        })
    }

    /// The function with the addresses of the caches that it reaches.
    fn config(&self, context: &Context) -> anyhow::Result<Config> {
        let view = addresses::view(context, &self.logical_id)?;
        let resource = view.resource(&self.logical_id);
        let resource = resource.ok_or_else(|| anyhow!("{} is gone", self.logical_id))?;
        Ok(plan::config(&view, resource)?)
    }

    fn settings(&self, context: &Context) -> anyhow::Result<String> {
        let permissions = context.template.permissions_of(&self.logical_id);
        Ok(format!("{:?} {permissions}", self.config(context)?))
    }
}

impl Part for FunctionPart {
    fn needs(&self, template: &Template) -> Vec<String> {
        addresses::caches(template, &self.logical_id)
    }

    fn inputs(&self, context: &Context) -> anyhow::Result<String> {
        let resource = context.template.resource(&self.logical_id)?;
        let code = resource.property("/Code");
        Ok(format!("{} {code:?}", self.settings(context)?))
    }

    fn start<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async {
            let shared = &context.shared;
            let settings = self.settings(context)?;
            let mut config = self.config(context)?;
            addresses::warn(context, &self.logical_id)?;
            config.bootstrap = context.programs.binary(&self.logical_id)?.to_owned();
            config.folder = shared.data.join("functions").join(&self.logical_id);
            config.ca_file = Some(shared.authority.ca_file().to_owned());
            let permissions = context.permissions();
            let (sign_in, _) = permissions.sign_in(&self.logical_id);
            config.credentials = Some(shared.sessions.open(sign_in));
            let function = Function::start(
                config,
                &shared.logs,
                &permissions.authorizer(&self.logical_id, ""),
                Arc::clone(&shared.status),
                shared.stop.child_token(),
            )?;
            if let Some(chances) = shared.chances.get() {
                function.inject(Arc::clone(chances));
            }
            shared
                .handles
                .put(&self.logical_id, Arc::new(function.clone()));
            self.running = Some(function);
            self.settings = settings;
            Ok(())
        })
    }

    /// Another binary is what the next invocation starts.
    fn change<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, anyhow::Result<Change>> {
        Box::pin(async {
            let Some(function) = &self.running else {
                return Ok(Change::Restart);
            };
            let is_same_path =
                context.programs.binary(&self.logical_id)? == function.config().bootstrap;
            if !is_same_path || self.settings(context)? != self.settings {
                return Ok(Change::Restart);
            }
            function.renew();
            Ok(Change::Kept)
        })
    }

    fn stop<'a>(&'a mut self, shared: &'a Shared) -> BoxFuture<'a, ()> {
        shared.handles.remove::<Function>(&self.logical_id);
        if let Some(running) = self.running.take() {
            running.stop();
        }
        Box::pin(std::future::ready(()))
    }

    fn inject(&self, _fault: &Fault, shared: &Shared) -> anyhow::Result<()> {
        if let (Some(function), Some(chances)) = (&self.running, shared.chances.get()) {
            function.inject(Arc::clone(chances));
        }
        Ok(())
    }

    fn describe(&self) -> Option<String> {
        self.running.as_ref()?;
        Some("function ready".to_owned())
    }
}
