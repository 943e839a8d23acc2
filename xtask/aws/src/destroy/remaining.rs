//! After a stage is destroyed: what of it is still there, and what that costs.
//!
//! It only looks. What it may not look for, it says, and looks for the rest.

use std::fmt::Display;

use aws_sdk_cloudformation::types::StackResourceSummary;
use serde_json::{Value as Json, json};

use crate::aws::ec2::{Ec2, Filter};
use crate::aws::elasticache;
use crate::aws::{Cloud, failed};
use crate::stack::call::STAGE_TAG;

/// What a stack had that may outlive it; known by name only while the stack is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    log_groups: Vec<String>,
    replication_groups: Vec<String>,
    /// Why snapshots cannot be told from those of others.
    unknown_snapshots: bool,
}

/// Something that is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// What it is, such as "log group".
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// Why it is there and what it costs.
    pub(crate) note: &'static str,
}

impl Leftover {
    pub(crate) fn as_json(&self) -> Json {
        json!({ "kind": self.kind, "name": self.name, "note": self.note })
    }
}

impl Expected {
    /// What a stack may have left that went earlier: CloudFormation begins the names that it makes up with
    /// the stack's.
    pub(crate) fn of_gone(stack: &str) -> Expected {
        let prefixes = ["", "/aws/lambda/", "/aws/elasticbeanstalk/"];
        Expected {
            log_groups: prefixes.map(|it| format!("{it}{stack}-*")).to_vec(),
            replication_groups: Vec::new(),
            unknown_snapshots: true,
        }
    }

    /// What the resources of a stack may leave behind.
    pub(crate) fn of(resources: &[StackResourceSummary]) -> Expected {
        let mut expected = Expected::default();
        for resource in resources {
            let Some(id) = resource.physical_resource_id().filter(|id| !id.is_empty()) else {
                continue;
            };
            match resource.resource_type() {
                Some("AWS::Logs::LogGroup") => expected.log_groups.push(id.to_owned()),
                // Where a program of theirs would log if it were not told otherwise.
                Some("AWS::Lambda::Function") => {
                    expected.log_groups.push(format!("/aws/lambda/{id}"));
                }
                Some("AWS::ElasticBeanstalk::Environment") => {
                    expected
                        .log_groups
                        .push(format!("/aws/elasticbeanstalk/{id}/"));
                }
                Some("AWS::ElastiCache::ReplicationGroup") => {
                    expected.replication_groups.push(id.to_owned());
                }
                _ => {}
            }
        }
        expected
    }
}

/// What was found, and what could not be looked for.
#[derive(Debug, Default)]
pub(crate) struct Remaining {
    pub(crate) leftovers: Vec<Leftover>,
    pub(crate) unknown: Vec<String>,
}

impl Remaining {
    fn take(
        &mut self,
        kind: &'static str,
        note: &'static str,
        found: Result<Vec<String>, impl Display>,
    ) {
        match found {
            Ok(names) => self
                .leftovers
                .extend(names.into_iter().map(|name| Leftover { kind, name, note })),
            // Unreachable services of a rehearsal are as good a reason as missing permissions.
            Err(error) => {
                let many = match kind.ends_with('s') {
                    true => format!("{kind}es"),
                    false => format!("{kind}s"),
                };
                let unknown = format!("{many}: {error}");
                if !self.unknown.contains(&unknown) {
                    self.unknown.push(unknown);
                }
            }
        }
    }
}

/// Looks for what may be left of a stage.
pub(crate) async fn find(
    cloud: &Cloud,
    account: &str,
    stage: &str,
    expected: &Expected,
) -> anyhow::Result<Remaining> {
    let mut remaining = Remaining::default();
    let note = "stored logs cost a little each month; delete it if nobody needs them";
    for prefix in &expected.log_groups {
        remaining.take("log group", note, log_groups(cloud, prefix).await);
    }
    let ec2 = Ec2::new(cloud)?;
    let tag = format!("tag:{STAGE_TAG}");
    let tagged: Filter<'_> = (&tag, &[stage]);
    let note = "costs money by the hour; release it";
    let addresses = ec2.addresses(&[tagged]).await;
    remaining.take("Elastic IP address", note, addresses);
    let note = "costs money by the hour; delete it";
    // Deleted ones stay in the list for about an hour.
    let running: Filter<'_> = ("state", &["pending", "available", "failed"]);
    let gateways = ec2.nat_gateways(&[tagged, running]).await;
    remaining.take("NAT gateway", note, gateways);
    let note = "stored snapshots cost money by the gigabyte; delete it if nobody needs it";
    for group in &expected.replication_groups {
        let snapshots = elasticache::snapshots(cloud, group).await;
        remaining.take(
            "snapshot",
            note,
            snapshots.map_err(|error| format!("{error:#}")),
        );
    }
    if expected.unknown_snapshots {
        remaining.unknown.push(
            "snapshots: which cache was the stage's is known only while its stack is there; see `aws elasticache describe-snapshots`".to_owned(),
        );
    }
    let bucket = format!("elasticbeanstalk-{}-{account}", cloud.region);
    let there = cloud.s3.head_bucket().bucket(&bucket).send().await;
    if there.is_ok() {
        remaining.leftovers.push(Leftover {
            kind: "bucket",
            name: bucket,
            note: "Elastic Beanstalk's own, shared by all its applications in the region; not touched",
        });
    }
    Ok(remaining)
}

/// Log groups of a name, below it when it ends with a slash, or that begin with it when it ends with `*`.
async fn log_groups(cloud: &Cloud, name: &str) -> Result<Vec<String>, crate::aws::CallFailed> {
    let mut found = Vec::new();
    let mut next = None;
    let prefix = name.strip_suffix('*').unwrap_or(name);
    loop {
        let call = cloud.logs.describe_log_groups();
        let call = call.log_group_name_prefix(prefix);
        let page = call.set_next_token(next).send().await;
        let page = page.map_err(|error| failed("list the log groups", error))?;
        let names = page
            .log_groups()
            .iter()
            .filter_map(|it| it.log_group_name());
        // A prefix finds `…-2` beside the one of the name.
        found.extend(
            names
                .filter(|found| *found == name || name.ends_with(['/', '*']))
                .map(str::to_owned),
        );
        next = page.next_token;
        if next.is_none() {
            return Ok(found);
        }
    }
}
