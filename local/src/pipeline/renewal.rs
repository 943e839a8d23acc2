//! Another template for a pipeline that runs: what it changes is started again, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cfn::resolve::ResolvedResource;

use super::addresses::Addresses;
use super::hop::Hops;
use super::starter::{Programs, Starter};
use super::{Options, Pipeline};
use crate::beanstalk::Environment;
use crate::beanstalk::instance_metadata::Metadata;
use crate::event_source_mapping::Mapping;
use crate::firehose::DeliveryStream;
use crate::kinesis::Stream;
use crate::lambda::Function;
use crate::plan::{Plan, concerns};

/// Types that are started again by themselves, with whoever holds them. Everything else that concerns a
/// run decides about several parts: who may do what, who reaches whom, where the data are.
const BY_THEMSELVES: &[&str] = &[
    "AWS::ElasticBeanstalk::Environment",
    "AWS::IoT::TopicRule",
    "AWS::KinesisFirehose::DeliveryStream",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
];

/// What another template means for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Only these parts are started again, by logical ID; none at all where it changes nothing here.
    Parts(BTreeSet<String>),
    /// Everything is started again, but what holds data and is the same.
    Everything,
}

impl Renewal {
    /// Compares two plans of one stack.
    pub fn between(old: &Plan, new: &Plan) -> Renewal {
        let (old, new) = (&old.resolved.resources, &new.resolved.resources);
        let mut parts = BTreeSet::new();
        for id in old.keys().chain(new.keys()) {
            let (before, after) = (old.get(id), new.get(id));
            if before
                .zip(after)
                .is_some_and(|(it, other)| is_same(it, other))
            {
                continue;
            }
            for resource in before.into_iter().chain(after) {
                let r#type = resource.r#type.as_str();
                if BY_THEMSELVES.contains(&r#type) {
                    parts.insert(id.clone());
                } else if concerns(r#type) {
                    return Renewal::Everything;
                }
            }
        }
        Renewal::Parts(parts)
    }
}

fn is_same(one: &ResolvedResource, other: &ResolvedResource) -> bool {
    one.r#type == other.r#type
        && one.name == other.name
        && one.physical_id == other.physical_id
        && one.properties == other.properties
        && one.attributes == other.attributes
}

impl Pipeline {
    /// What another plan of the same stack would start again.
    pub fn renewal(&self, plan: &Plan) -> Renewal {
        Renewal::between(&self.plan, plan)
    }

    /// Whether everything that a plan needs beside the template is there.
    ///
    /// # Errors
    /// A program or a bundle is missing.
    pub fn check(plan: &Plan, options: &Options) -> anyhow::Result<()> {
        Programs::find(plan, options).map(drop)
    }

    /// Starts these parts again as another plan has them, with whoever holds them. Connections of
    /// devices and of browsers to what is the same are kept, and nothing that is published meanwhile is
    /// lost: it waits.
    ///
    /// # Errors
    /// The first part that does not start; the run is of no use then.
    pub async fn renew(&mut self, plan: Plan, parts: &BTreeSet<String>) -> anyhow::Result<()> {
        let programs = Programs::find(&plan, &self.options)?;
        let hops = Hops::new(&plan, &self.status);
        if !parts.is_empty() {
            hops.warn_of_denials();
        }
        let starter = Starter {
            plan: &plan,
            options: &self.options,
            programs: &programs,
            reporter: self.reporter,
            data: &self.data,
            status: &self.status,
            logs: &self.logs,
            hops: &hops,
            sessions: &self.sessions,
            authority: &self.authority,
            store: &self.store,
            queues: &self.queues,
            stops: &self.stops,
            chances: self.chances.get(),
            gate: None,
        };
        let changed = Changed {
            starter,
            old: &self.plan,
            parts,
        };
        if changed.has(|plan| ids(&plan.environments, |it| &it.logical_id))
            || changed.has(|plan| ids(&plan.functions, |it| &it.logical_id))
        {
            let before = Some(&self.addresses);
            self.addresses = Addresses::find(&plan, &self.caches, &self.reporter, before).await?;
        }
        changed
            .environments(&mut self.environments, &mut self.metadata, &self.addresses)
            .await?;
        changed
            .functions(
                &mut self.functions,
                &mut self.mappings,
                &self.streams,
                &self.addresses,
            )
            .await?;
        if changed.has(|plan| ids(&plan.rules, |it| &it.logical_id))
            || changed.has(|plan| ids(&plan.delivery_streams, |it| &it.config.logical_id))
        {
            // What is published waits until the other rules are in place.
            let mut in_place = self.broker.hold().await;
            let delivery_streams = &mut self.delivery_streams;
            changed.delivery_streams(delivery_streams).await?;
            let starter = &changed.starter;
            self.rules = starter.rules(&self.streams, delivery_streams).await?;
            *in_place = Arc::clone(&self.rules);
        }
        let first = plan.environments.first();
        self.first_environment = first.map(|it| it.logical_id.clone());
        self.plan = plan;
        Ok(())
    }
}

/// What is started again, and how.
struct Changed<'a> {
    starter: Starter<'a>,
    old: &'a Plan,
    parts: &'a BTreeSet<String>,
}

impl Changed<'_> {
    /// Whether one of these is changed, in the old plan or in the new one.
    fn has<'p>(&'p self, of: impl Fn(&'p Plan) -> Vec<&'p str>) -> bool {
        let mut ids = of(self.old).into_iter().chain(of(self.starter.plan));
        ids.any(|id| self.parts.contains(id))
    }

    async fn environments(
        &self,
        running: &mut BTreeMap<String, Environment>,
        metadata: &mut BTreeMap<String, Metadata>,
        addresses: &Addresses,
    ) -> anyhow::Result<()> {
        // Who was there before is found where it was.
        let mut places = BTreeMap::new();
        for id in self.parts {
            if let Some(old) = running.remove(id) {
                places.insert(id.clone(), old.address());
                old.stop().await;
                metadata.remove(id);
            }
        }
        for config in &self.starter.plan.environments {
            let id = &config.logical_id;
            if running.contains_key(id) {
                continue;
            }
            let mut address = self.starter.options.dashboard;
            if !running.is_empty() {
                address.set_port(0);
            }
            let address = places.get(id).copied().unwrap_or(address);
            let service = self.starter.metadata(id).await?;
            let starting = self
                .starter
                .environment(config, address, addresses, &service);
            let environment = starting.await?;
            metadata.insert(id.clone(), service);
            running.insert(id.clone(), environment);
        }
        Ok(())
    }

    /// Functions, and the mappings that hold them: these end first and start last.
    async fn functions(
        &self,
        running: &mut BTreeMap<String, Function>,
        mappings: &mut Vec<Mapping>,
        streams: &BTreeMap<String, Arc<Stream>>,
        addresses: &Addresses,
    ) -> anyhow::Result<()> {
        let plan = self.starter.plan;
        let mut kept = Vec::new();
        for mapping in mappings.drain(..) {
            if self.concerns(mapping.logical_id()) {
                mapping.stop();
                mapping.finished().await;
            } else {
                kept.push(mapping);
            }
        }
        running.retain(|id, function| {
            let is_changed = self.parts.contains(id);
            if is_changed {
                function.stop();
            }
            !is_changed
        });
        for config in &plan.functions {
            if !running.contains_key(&config.logical_id) {
                let function = self.starter.function(config, addresses).await?;
                running.insert(config.logical_id.clone(), function);
            }
        }
        for mapping in &plan.mappings {
            let id = &mapping.config.logical_id;
            match kept.iter().position(|it| it.logical_id() == id) {
                Some(place) => mappings.push(kept.swap_remove(place)),
                None => mappings.extend(self.starter.mapping(mapping, streams, running).await?),
            }
        }
        Ok(())
    }

    /// Whether a mapping is changed, or its function is.
    fn concerns(&self, mapping: &str) -> bool {
        let mut plans = self.old.mappings.iter().chain(&self.starter.plan.mappings);
        self.parts.contains(mapping)
            || plans.any(|it| it.config.logical_id == mapping && self.parts.contains(&it.function))
    }

    async fn delivery_streams(
        &self,
        running: &mut BTreeMap<String, DeliveryStream>,
    ) -> anyhow::Result<()> {
        for id in self.parts {
            if let Some(old) = running.remove(id) {
                old.stop();
                old.finished().await;
            }
        }
        for plan in &self.starter.plan.delivery_streams {
            let id = &plan.config.logical_id;
            if !running.contains_key(id) {
                let delivery_stream = self.starter.delivery_stream(plan).await?;
                running.insert(id.clone(), delivery_stream);
            }
        }
        Ok(())
    }
}

fn ids<T>(parts: &[T], id: impl Fn(&T) -> &String) -> Vec<&str> {
    parts.iter().map(|it| id(it).as_str()).collect()
}
