//! Who finds which cache where: at its endpoint, or behind a cut that the template's network makes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use cfn::network::{self, Endpoint, Protocol};
use cfn::resolve::{Resolved, ResolvedResource};
use serde_json::Value as Json;

use crate::elasticache::{Blackhole, Cache, Config};
use crate::events::{Event, Reporter};
use crate::plan::Plan;

/// Addresses of caches, for each consumer its own.
#[derive(Debug)]
pub(super) struct Addresses {
    /// Consumer → cache → address; logical IDs.
    by_consumer: BTreeMap<String, BTreeMap<String, SocketAddr>>,
    /// Where caches are that cannot be reached, as long as it lives.
    blackhole: Arc<Blackhole>,
}

impl Addresses {
    /// Finds out whether security groups, subnets and routes let each function and environment reach
    /// the caches that it names, and tells when they do not. Whoever was cut off `before` finds the
    /// same address.
    pub(super) async fn find(
        plan: &Plan,
        caches: &BTreeMap<String, (Config, Arc<Cache>)>,
        reporter: &Reporter,
        before: Option<&Addresses>,
    ) -> anyhow::Result<Addresses> {
        let blackhole = match before {
            Some(before) => Arc::clone(&before.blackhole),
            None => Arc::new(
                Blackhole::open()
                    .await
                    .context("open an address that never answers")?,
            ),
        };
        let nowhere = blackhole.address().context("read its address")?;
        let consumers = plan
            .functions
            .iter()
            .map(|it| &it.logical_id)
            .chain(plan.environments.iter().map(|it| &it.logical_id));
        let mut by_consumer = BTreeMap::new();
        for consumer in consumers {
            let mut addresses = BTreeMap::new();
            for config in &plan.caches {
                let Some((_, cache)) = caches.get(&config.logical_id) else {
                    continue;
                };
                let mut address = cache.endpoint();
                if let Err(reason) =
                    reach(&plan.resolved, consumer, &config.logical_id, config.port)
                {
                    // On AWS the packets vanish, and so they do here.
                    address = nowhere;
                    if names(&plan.resolved, consumer, &config.logical_id) {
                        tracing::error!("{reason}; its connections to the cache time out");
                        let (from, to) = (consumer.clone(), config.logical_id.clone());
                        reporter.tell(&Event::Unreachable { from, to, reason });
                    }
                }
                addresses.insert(config.logical_id.clone(), address);
            }
            by_consumer.insert(consumer.clone(), addresses);
        }
        Ok(Addresses {
            by_consumer,
            blackhole,
        })
    }

    /// The template as a consumer sees it.
    pub(super) fn view(&self, plan: &Plan, consumer: &str) -> anyhow::Result<Resolved> {
        let addresses = self.by_consumer.get(consumer).into_iter().flatten();
        let addresses = addresses
            .map(|(cache, address)| (cache.clone(), (address.ip().to_string(), address.port())))
            .collect();
        plan.with_addresses(&addresses)
            .map_err(|error| anyhow!("{consumer}: {error}"))
    }
}

/// Whether a consumer can reach a cache; else why not.
fn reach(resolved: &Resolved, consumer: &str, cache: &str, port: u16) -> Result<(), String> {
    let (Some(from), Some(to)) = (
        Endpoint::of(resolved, consumer),
        Endpoint::of(resolved, cache),
    ) else {
        return Ok(());
    };
    network::reachable(resolved, &from, &to, Protocol::Tcp, port).map_err(|cut| cut.to_string())
}

/// Whether a resource's settings hold an address of a cache.
fn names(resolved: &Resolved, consumer: &str, cache: &str) -> bool {
    let (Some(consumer), Some(cache)) = (resolved.resource(consumer), resolved.resource(cache))
    else {
        return false;
    };
    let settings = consumer.properties.to_string();
    addresses_of(cache).any(|address| settings.contains(address))
}

fn addresses_of(cache: &ResolvedResource) -> impl Iterator<Item = &str> {
    let addresses = cache
        .attributes
        .iter()
        .filter(|(name, _)| name.ends_with(".Address"));
    addresses
        .filter_map(|(_, value)| Json::as_str(value))
        .filter(|address| !address.is_empty())
}
