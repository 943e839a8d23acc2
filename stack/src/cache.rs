//! The cache that holds the live state, and who may come in.
//!
//! Each program signs in as a user of its own, by the credentials of its role: no password exists.
//! What a user may do in the cache is said by its access string, which role may sign in as which user by
//! [`Cache::grant`]. Valkey's user groups need no `default` user, so whoever does not sign in does
//! not come in.

use cfn::intrinsic::{Sub, pseudo};
use cfn::resources::elasticache::{self, user, user_group};
use cfn::resources::iam;
use cfn::{DeletionPolicy, Handle, ResourceAttributes, Template, UpdateReplacePolicy, Value};
use contract::access::{self, Access};

use crate::config;
use crate::encryption::Encryption;
use crate::network::{CACHE_PORT, Network};
use crate::parameters::Parameters;

/// Version of Valkey that a new cache gets. ElastiCache upgrades minor versions by itself
/// (`AutoMinorVersionUpgrade`) and refuses to go back, so what is deployed comes from a parameter.
pub const ENGINE_VERSION: &str = "8.0";

/// Family of parameters of the engine's major version.
const PARAMETER_FAMILY: &str = "valkey8";

/// What the cache depends on.
pub struct Props<'a> {
    /// The stage's choices.
    pub config: &'a config::Cache,
    /// Whose key encrypts what it keeps.
    pub encryption: Encryption,
    /// Where it stands.
    pub network: &'a Network,
    /// Its engine's version.
    pub parameters: &'a Parameters,
}

/// What others may need.
pub struct Cache {
    /// The cache.
    pub replication_group: Handle<elasticache::ReplicationGroup>,
    /// Whom the function signs in as.
    pub function_user: Handle<elasticache::User>,
    /// Whom the web UI signs in as.
    pub webui_user: Handle<elasticache::User>,
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

    /// `role` may sign in as `user`.
    pub fn grant(
        &self,
        template: &mut Template,
        user: Handle<elasticache::User>,
        role: Handle<iam::Role>,
    ) {
        self.replication_group.grant_connect(template, user, role);
    }
}

/// A user that signs in with IAM. Its ID must be its name, and AWS makes neither up.
fn user(
    template: &mut Template,
    logical_id: &'static str,
    program: &str,
    access: Access,
) -> Handle<elasticache::User> {
    let name = || named(program);
    template.define(
        logical_id,
        elasticache::User {
            access_string: Some(access.to_string().into()),
            authentication_mode: Some(user::AuthenticationMode::new("iam").into()),
            ..elasticache::User::new(user::Engine::Valkey, name(), name())
        },
    )
}

/// A name within the account and region: the stack's, and what it is for. At most 40 characters.
fn named(what: &str) -> Value<String> {
    Sub::new()
        .value(pseudo::stack_name())
        .text("-")
        .text(what)
        .build()
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
            ..elasticache::ParameterGroup::new(
                PARAMETER_FAMILY,
                "The live state must not be evicted",
            )
        },
    );
    let function_user = user(template, "FunctionCacheUser", "function", access::FUNCTION);
    let webui_user = user(template, "WebCacheUser", "webui", access::WEBUI);
    let users = template.define(
        "CacheUsers",
        elasticache::UserGroup::new(
            user_group::Engine::Valkey,
            named("cache"),
            [function_user.reference(), webui_user.reference()],
        ),
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
            engine_version: Some(props.parameters.cache_engine_version.reference().into()),
            kms_key_id: props.encryption.arn().map(Into::into),
            multi_az_enabled: Some(replicated.into()),
            num_cache_clusters: Some(nodes.into()),
            port: Some(CACHE_PORT.into()),
            security_group_ids: Some([props.network.cache.group_id()].into()),
            snapshot_retention_limit: Some(snapshot_retention_days.into()),
            transit_encryption_enabled: Some(true.into()),
            transit_encryption_mode: Some("required".into()),
            user_group_ids: Some([users.reference()].into()),
            ..elasticache::ReplicationGroup::new("Live state of the sensors")
        },
        attributes,
    );
    let cache = Cache {
        replication_group,
        function_user,
        webui_user,
    };
    template.output(
        "CacheUrl",
        "URL of the cache, reachable within the network",
        cache.url(),
    );
    cache
}

#[cfg(test)]
mod tests {
    use crate::{Stage, stack_name};

    /// "CreateUser" and "CreateUserGroup" of the ElastiCache API reference.
    #[test]
    fn users_have_ids_that_elasticache_takes_in_every_stage() {
        for stage in Stage::ALL {
            for what in ["function", "webui", "cache"] {
                let id = format!("{}-{what}", stack_name(stage));
                let fits =
                    |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                assert!(id.len() <= 40 && id.bytes().all(fits), "{id}");
                assert!(id.starts_with(|c: char| c.is_ascii_lowercase()), "{id}");
                assert!(!id.contains("--") && !id.ends_with('-'), "{id}");
            }
        }
    }
}
