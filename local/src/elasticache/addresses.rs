//! The addresses at which a program finds the caches: their endpoints, or one that never answers where
//! the template's network does not let it through.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, anyhow};
use cfn::network::{self, Endpoint, Protocol};
use cfn::resolve::{Resolved, ResolvedResource};
use serde_json::Value as Json;

use super::part::NOWHERE;
use super::{Blackhole, Cache, plan};
use crate::part::Context;
use crate::template::Template;

const TYPE: &str = "AWS::ElastiCache::ReplicationGroup";

/// The caches whose addresses a program's settings hold, by logical ID.
pub fn caches(template: &Template, consumer: &str) -> Vec<String> {
    let caches = template.resolved.of_type(TYPE);
    caches
        .filter(|cache| names(&template.resolved, consumer, cache))
        .map(|cache| cache.logical_id.clone())
        .collect()
}

/// The template as a program sees it: with the addresses of the running caches.
///
/// # Errors
/// The addresses cannot be put in.
pub fn view(context: &Context, consumer: &str) -> anyhow::Result<Resolved> {
    let template = &context.template;
    let mut addresses: BTreeMap<String, (String, u16)> = BTreeMap::new();
    for (cache, address) in find(context, consumer)? {
        addresses.insert(cache.0, (address.ip().to_string(), address.port()));
    }
    template
        .with_addresses(&addresses)
        .map_err(|error| anyhow!("{consumer}: {error}"))
}

/// Tells of the caches that a program names and cannot reach.
///
/// # Errors
/// As [`view`].
pub fn warn(context: &Context, consumer: &str) -> anyhow::Result<()> {
    let resolved = &context.template.resolved;
    for ((cache, reason), _) in find(context, consumer)? {
        let named = resolved.resource(&cache);
        let is_named = named.is_some_and(|cache| names(resolved, consumer, cache));
        if let Some(reason) = reason.filter(|_| is_named) {
            tracing::error!("{reason}; its connections to the cache time out");
            let observer = &context.shared.observer;
            observer.unreachable(consumer, &cache, &reason);
        }
    }
    Ok(())
}

/// A cache, and why it cannot be reached if it cannot.
type Reached = (String, Option<String>);

/// The address of every running cache for one program.
fn find(context: &Context, consumer: &str) -> anyhow::Result<Vec<(Reached, SocketAddr)>> {
    let handles = &context.shared.handles;
    let resolved = &context.template.resolved;
    let mut found = Vec::new();
    for resource in resolved.of_type(TYPE) {
        let id = &resource.logical_id;
        let Some(cache) = handles.get::<Cache>(id) else {
            continue;
        };
        let port = plan::config(resolved, resource, &mut Vec::new())?.port;
        found.push(match reach(resolved, consumer, id, port) {
            Ok(()) => ((id.clone(), None), cache.endpoint()),
            Err(reason) => {
                // On AWS the packets vanish, and so they do here.
                let nowhere = handles.get::<Blackhole>(NOWHERE);
                let nowhere = nowhere.context("no address that never answers is open")?;
                let address = nowhere.address().context("read its address")?;
                ((id.clone(), Some(reason)), address)
            }
        });
    }
    Ok(found)
}

/// Whether a program can reach a cache; else why not.
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
fn names(resolved: &Resolved, consumer: &str, cache: &ResolvedResource) -> bool {
    let Some(consumer) = resolved.resource(consumer) else {
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
