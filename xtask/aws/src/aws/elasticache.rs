//! ElastiCache: the engine that a cache runs, and the snapshots that outlive it.
//!
//! <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_DescribeCacheClusters.html>
//! <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_DescribeSnapshots.html>

use aws_smithy_query::QueryWriter;

use crate::aws::signed::{self, Client, Request, Service};
use crate::aws::{CallFailed, Cloud};

const SERVICE: Service = Service {
    id: "ElastiCache",
    name: "elasticache",
};

/// The engine version that the nodes of a replication group run, as ElastiCache reports it, such as
/// `8.0.1`; the lowest while some are upgraded before others. `None`: the group has no nodes.
pub(crate) async fn running_version(cloud: &Cloud, group: &str) -> anyhow::Result<Option<String>> {
    let client = Client::new(&cloud.config, SERVICE)?;
    let mut versions = Vec::new();
    let mut marker = None;
    loop {
        let call = Call {
            what: "look at the cache's engine version",
            action: "DescribeCacheClusters",
            fields: &[],
        };
        let answer = page(&client, &call, marker.as_deref()).await?;
        let list = ["DescribeCacheClustersResult", "CacheClusters"];
        let fields = ["ReplicationGroupId", "EngineVersion"];
        for node in signed::records(&answer, &list, Some("CacheCluster"), &fields) {
            if let [of, version] = node.as_slice()
                && of == group
            {
                versions.push(version.clone());
            }
        }
        marker = signed::text(&answer, &["DescribeCacheClustersResult"], "Marker");
        if marker.is_none() {
            return Ok(versions.into_iter().min_by_key(|it| version(it)));
        }
    }
}

/// The numbers of a version, to compare; what is not a number counts as zero.
pub(crate) fn version(text: &str) -> Vec<u32> {
    let parts = text.split('.');
    parts.map(|part| part.parse().unwrap_or(0)).collect()
}

/// Names of the snapshots of a replication group, whoever made them.
pub(crate) async fn snapshots(cloud: &Cloud, group: &str) -> anyhow::Result<Vec<String>> {
    let client = Client::new(&cloud.config, SERVICE)?;
    let mut found = Vec::new();
    let mut marker = None;
    loop {
        let call = Call {
            what: "list the cache's snapshots",
            action: "DescribeSnapshots",
            fields: &[("ReplicationGroupId", group)],
        };
        let answer = match page(&client, &call, marker.as_deref()).await {
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

/// One call, before its pages.
struct Call<'a> {
    /// What was to be done, for the message.
    what: &'static str,
    action: &'static str,
    fields: &'a [(&'static str, &'a str)],
}

async fn page(
    client: &Client,
    call: &Call<'_>,
    marker: Option<&str>,
) -> Result<String, CallFailed> {
    let mut body = String::new();
    let mut writer = QueryWriter::new(&mut body, call.action, "2015-02-02");
    for (name, value) in call.fields {
        writer.prefix(name).string(value);
    }
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
    client.call(call.what, request).await
}
