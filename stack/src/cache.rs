//! The cache that holds the live state.

use cfn::intrinsic::Sub;
use cfn::resources::elasticache;
use cfn::{DeletionPolicy, Handle, ResourceAttributes, Template, UpdateReplacePolicy, Value};

use crate::config;
use crate::network::{CACHE_PORT, Network};

/// What the cache depends on.
pub struct Props<'a> {
    /// The stage's choices.
    pub config: &'a config::Cache,
    /// Where it stands.
    pub network: &'a Network,
}

/// What others may need.
pub struct Cache {
    /// The cache.
    pub replication_group: Handle<elasticache::ReplicationGroup>,
}

impl Cache {
    /// URL for the programs. `rediss`, because the cache takes TLS only; the primary's name, which
    /// stays the same through a failover.
    pub fn url(&self) -> Value<String> {
        Sub::new()
            .text("rediss://")
            .value(self.replication_group.primary_end_point_address())
            .text(":")
            .value(self.replication_group.primary_end_point_port())
            .build()
    }
}

/// Defines the cache: a replication group even for one node, because a cache cluster has no TLS.
pub fn define(template: &mut Template, props: &Props<'_>) -> Cache {
    let config::Cache {
        node_type,
        nodes,
        snapshot_retention_days,
        keep_snapshot,
    } = *props.config;
    let subnets = template.define(
        "CacheSubnetGroup",
        elasticache::SubnetGroup::new(
            "The cache's private subnets",
            props
                .network
                .private_subnets
                .map(|subnet| subnet.reference()),
        ),
    );
    let parameters = template.define(
        "CacheParameterGroup",
        elasticache::ParameterGroup {
            // The engine's default evicts keys with a time to live when memory runs out: those are the
            // watermarks, without which a retried batch would be counted again. A full cache refuses
            // writes instead, which the function rides out and the alarms tell.
            properties: Some(
                [("maxmemory-policy".to_owned(), "noeviction".into())]
                    .into_iter()
                    .collect(),
            ),
            ..elasticache::ParameterGroup::new("valkey8", "The live state must not be evicted")
        },
    );
    let attributes = if keep_snapshot {
        ResourceAttributes {
            deletion_policy: Some(DeletionPolicy::Snapshot),
            update_replace_policy: Some(UpdateReplacePolicy::Snapshot),
            ..ResourceAttributes::default()
        }
    } else {
        ResourceAttributes::default()
    };
    let replicated = nodes > 1;
    let replication_group = template.define_with(
        "Cache",
        elasticache::ReplicationGroup {
            at_rest_encryption_enabled: Some(true.into()),
            auto_minor_version_upgrade: Some(true.into()),
            automatic_failover_enabled: Some(replicated.into()),
            cache_node_type: Some(node_type.into()),
            cache_parameter_group_name: Some(parameters.reference().into()),
            cache_subnet_group_name: Some(subnets.reference().into()),
            engine: Some("valkey".into()),
            engine_version: Some("8.0".into()),
            multi_az_enabled: Some(replicated.into()),
            num_cache_clusters: Some(nodes.into()),
            port: Some(CACHE_PORT.into()),
            security_group_ids: Some([props.network.cache.group_id()].into()),
            snapshot_retention_limit: Some(snapshot_retention_days.into()),
            transit_encryption_enabled: Some(true.into()),
            transit_encryption_mode: Some("required".into()),
            ..elasticache::ReplicationGroup::new("Live state of the sensors")
        },
        attributes,
    );
    let cache = Cache { replication_group };
    template.output(
        "CacheUrl",
        "URL of the cache, reachable within the network",
        cache.url(),
    );
    cache
}
