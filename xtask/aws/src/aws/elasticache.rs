//! ElastiCache: the snapshots that outlive a cache.
//!
//! <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_DescribeSnapshots.html>

use aws_smithy_query::QueryWriter;

use crate::aws::signed::{self, Client, Request, Service};
use crate::aws::{CallFailed, Cloud};

/// Names of the snapshots of a replication group, whoever made them.
pub(crate) async fn snapshots(cloud: &Cloud, group: &str) -> anyhow::Result<Vec<String>> {
    let service = Service {
        id: "ElastiCache",
        name: "elasticache",
    };
    let client = Client::new(&cloud.config, service)?;
    let mut found = Vec::new();
    let mut marker = None;
    loop {
        let answer = match page(&client, group, marker.as_deref()).await {
            // The group went, and no snapshot remembers it.
            Err(error) if error.code.as_deref() == Some("ReplicationGroupNotFoundFault") => {
                return Ok(found);
            }
            answer => answer?,
        };
        let list = ["DescribeSnapshotsResult", "Snapshots"];
        let names = signed::records(&answer, &list, Some("Snapshot"), &["SnapshotName"]);
        found.extend(names.into_iter().flatten());
        marker = signed::text(&answer, &["DescribeSnapshotsResult"], "Marker");
        if marker.is_none() {
            return Ok(found);
        }
    }
}

async fn page(client: &Client, group: &str, marker: Option<&str>) -> Result<String, CallFailed> {
    let mut body = String::new();
    let mut writer = QueryWriter::new(&mut body, "DescribeSnapshots", "2015-02-02");
    writer.prefix("ReplicationGroupId").string(group);
    if let Some(marker) = marker {
        writer.prefix("Marker").string(marker);
    }
    writer.finish();
    let request = Request {
        method: "POST",
        path: "/".to_owned(),
        content_type: "application/x-www-form-urlencoded",
        body,
    };
    client.call("list the cache's snapshots", request).await
}
