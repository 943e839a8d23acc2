//! ElastiCache: the nodes of caches, and the snapshots that caches leave behind.
//!
//! <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_DescribeCacheClusters.html>
//! <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_DescribeSnapshots.html>
//!
//! A cache whose deletion policy is `Snapshot` leaves one when it goes; it stays until somebody deletes
//! it. ("`DeletionPolicy` attribute", AWS `CloudFormation` User Guide.)
//!
//! # Differs from AWS
//! - A snapshot holds nothing but its name, and a cache cannot be made from it.
//! - There are no automatic snapshots.
//! - A cache keeps the engine version that its template names; its patch version is 0.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::response::Response;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::account::{Account, Resource};
use super::call::{Call, Failure, Protocol, Service, query_response};

const NAMESPACE: &str = "http://elasticache.amazonaws.com/doc/2015-02-02/";

const REPLICATION_GROUP: &str = "AWS::ElastiCache::ReplicationGroup";

/// Types that leave a snapshot.
const TYPES: [&str; 3] = [
    "AWS::ElastiCache::CacheCluster",
    REPLICATION_GROUP,
    "AWS::ElastiCache::ServerlessCache",
];

/// The service.
#[derive(Debug)]
pub struct ElastiCache {
    account: Arc<Account>,
    file: PathBuf,
    snapshots: Mutex<Vec<Snapshot>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Snapshot {
    name: String,
    region: String,
    /// Physical ID of the cache that it is of.
    group: String,
}

impl ElastiCache {
    /// The service of an account, with the snapshots of earlier runs.
    ///
    /// # Errors
    /// The file of the snapshots is there and cannot be read.
    pub fn open(account: &Arc<Account>) -> io::Result<ElastiCache> {
        let file = account.settings.data.join("snapshots.json");
        let snapshots = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(ElastiCache {
            account: Arc::clone(account),
            file,
            snapshots: Mutex::new(snapshots),
        })
    }

    fn call(&self, call: &Call) -> Result<Response, Failure> {
        let (action, form) = (call.operation(), call.form());
        let region = call.region.as_str();
        match action.as_str() {
            "DescribeSnapshots" => {
                let group = form.get("ReplicationGroupId");
                let is_asked = |it: &&Snapshot| {
                    it.region == region && group.is_none_or(|group| group == it.group)
                };
                let found: Vec<Snapshot> = self.lock().iter().filter(is_asked).cloned().collect();
                if let Some(group) = group
                    && found.is_empty()
                    && !self.has(region, group)
                {
                    return Err(Failure::with(
                        axum::http::StatusCode::NOT_FOUND,
                        "ReplicationGroupNotFoundFault",
                        format!("Replication group {group} not found."),
                    ));
                }
                Ok(query_response(NAMESPACE, &action, |xml| {
                    xml.within("Snapshots", |xml| {
                        for snapshot in &found {
                            xml.within("Snapshot", |xml| snapshot.write(xml));
                        }
                    });
                }))
            }
            "DescribeCacheClusters" => {
                let id = form.get("CacheClusterId");
                let groups = self.account.of_type(region, REPLICATION_GROUP);
                let nodes: Vec<Node> = groups
                    .iter()
                    .flat_map(nodes)
                    .filter(|node| id.is_none_or(|id| id == node.id))
                    .collect();
                if let Some(id) = id
                    && nodes.is_empty()
                {
                    return Err(Failure::with(
                        axum::http::StatusCode::NOT_FOUND,
                        "CacheClusterNotFound",
                        format!("CacheCluster not found: {id}"),
                    ));
                }
                Ok(query_response(NAMESPACE, &action, |xml| {
                    xml.within("CacheClusters", |xml| {
                        for node in &nodes {
                            xml.within("CacheCluster", |xml| node.write(xml));
                        }
                    });
                }))
            }
            "DeleteSnapshot" => {
                let name = form.get("SnapshotName").unwrap_or_default();
                let mut snapshots = self.lock();
                let place = snapshots
                    .iter()
                    .position(|it| it.region == region && it.name == name);
                let Some(place) = place else {
                    return Err(Failure::with(
                        axum::http::StatusCode::NOT_FOUND,
                        "SnapshotNotFoundFault",
                        format!("Snapshot {name} not found."),
                    ));
                };
                let gone = snapshots.remove(place);
                self.write(&snapshots);
                Ok(query_response(NAMESPACE, &action, |xml| {
                    xml.within("Snapshot", |xml| gone.write(xml));
                }))
            }
            _ => Err(Failure::not_here("elasticache", &action)),
        }
    }

    fn has(&self, region: &str, group: &str) -> bool {
        TYPES
            .iter()
            .any(|it| self.account.resource(region, it, group).is_some())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Snapshot>> {
        self.snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, snapshots: &[Snapshot]) {
        let new = self.file.with_extension("new");
        let written = serde_json::to_vec(snapshots)
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &self.file));
        if let Err(error) = written {
            tracing::error!(
                "cannot write {}: {error}; after a restart of the cloud its snapshots are not those of now",
                self.file.display()
            );
        }
    }
}

/// A node of a replication group.
struct Node {
    id: String,
    group: String,
    engine: String,
    version: String,
}

/// The nodes of a replication group without cluster mode, which are named after it.
fn nodes(group: &Resource) -> Vec<Node> {
    let text = |name: &str| match &group.properties[name] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    let count: u32 = text("NumCacheClusters").parse().unwrap_or(1);
    (1..=count)
        .map(|number| Node {
            id: format!("{}-{number:03}", group.physical_id),
            group: group.physical_id.clone(),
            engine: text("Engine"),
            version: format!("{}.0", text("EngineVersion")),
        })
        .collect()
}

impl Node {
    fn write(&self, xml: &mut super::xml::Xml) {
        xml.text("CacheClusterId", &self.id)
            .text("ReplicationGroupId", &self.group)
            .text("Engine", &self.engine)
            .text("EngineVersion", &self.version)
            .text("CacheClusterStatus", "available");
    }
}

impl Snapshot {
    fn write(&self, xml: &mut super::xml::Xml) {
        xml.text("SnapshotName", &self.name)
            .text("ReplicationGroupId", &self.group)
            .text("SnapshotStatus", "available")
            .text("SnapshotSource", "manual");
    }
}

impl Service for ElastiCache {
    fn names(&self) -> &'static [&'static str] {
        &["elasticache"]
    }

    fn protocol(&self) -> Protocol {
        Protocol::Query
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Response> {
        let answer = self.call(&call);
        Box::pin(async move { answer.unwrap_or_else(|it| it.response(Protocol::Query)) })
    }

    fn snapshot(&self, resource: &Resource) {
        if !TYPES.contains(&resource.r#type.as_str()) {
            return;
        }
        let unique = Uuid::new_v4().simple().to_string();
        let name = format!(
            "{}-{}-snapshot-{}",
            resource.stack_name,
            resource.logical_id,
            &unique[..12]
        );
        let mut snapshots = self.lock();
        snapshots.push(Snapshot {
            name: name.to_lowercase(),
            region: resource.region.clone(),
            group: resource.physical_id.clone(),
        });
        self.write(&snapshots);
    }
}
