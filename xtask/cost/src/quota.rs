//! Limits that the messages run into, by AWS's default quotas.
//!
//! AWS General Reference: "AWS IoT Core endpoints and quotas", "Amazon Kinesis Data Streams endpoints and
//! quotas", "Amazon Data Firehose endpoints and quotas", "Lambda endpoints and quotas".

use cfn::resolve::{Resolved, ResolvedResource};

use crate::messages::Traffic;
use crate::resource::{lanes, number, reads, shards};
use crate::{assumed, messages::Records};

/// Regions with the higher quotas of Firehose.
const LARGE_FIREHOSE: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];

const MIB: f64 = 1024.0 * 1024.0;

/// A limit, and how much of it a load takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// What is limited, such as "SensorStream: records of 1 shard".
    pub what: String,
    /// The limit.
    pub limit: f64,
    /// The load, in the same unit.
    pub load: f64,
    /// The unit, such as "records/s".
    pub unit: &'static str,
    /// What to do before it is reached.
    pub change: String,
    /// Whether more devices bring it nearer; otherwise only a shorter interval does.
    pub by_devices: bool,
}

impl Quota {
    /// Share of the limit that the load takes: 1 and more is too much.
    pub fn share(&self) -> f64 {
        self.load / self.limit
    }
}

/// The limits of a stack that takes the messages; none of one that does not.
pub(crate) fn quotas(stack: &Resolved, traffic: &Traffic, region: &str) -> Vec<Quota> {
    if !traffic.is_taken() {
        return Vec::new();
    }
    let load = traffic.load;
    let rate = load.messages_per_second();
    let ask =
        |quota: &str| format!("ask for a higher quota in Service Quotas: AWS IoT Core, {quota}");
    let mut quotas = vec![
        Quota {
            what: "IoT Core: publishes of one device".to_owned(),
            limit: 100.0,
            load: 1.0 / load.every,
            unit: "messages/s",
            change: "let a device publish several readings in one message".to_owned(),
            by_devices: false,
        },
        Quota {
            what: "IoT Core: publishes of the account".to_owned(),
            limit: 20_000.0,
            load: rate,
            unit: "messages/s",
            change: ask("inbound publish requests per second"),
            by_devices: true,
        },
        Quota {
            what: "IoT Core: connections of the account".to_owned(),
            limit: 500_000.0,
            load: load.devices as f64,
            unit: "devices",
            change: ask("maximum concurrent client connections"),
            by_devices: true,
        },
        Quota {
            what: "IoT Core: rule evaluations of the account".to_owned(),
            limit: 20_000.0,
            load: rate * traffic.rules.len() as f64,
            unit: "rules/s",
            change: ask("rule evaluations per second"),
            by_devices: true,
        },
    ];
    for stream in stack.of_type("AWS::Kinesis::Stream") {
        quotas.extend(of_stream(traffic, stream));
    }
    for stream in stack.of_type("AWS::KinesisFirehose::DeliveryStream") {
        quotas.extend(of_delivery_stream(stack, traffic, stream, region));
    }
    for mapping in stack.of_type("AWS::Lambda::EventSourceMapping") {
        let mut streams = stack.of_type("AWS::Kinesis::Stream");
        if let Some(stream) = streams.find(|stream| reads(mapping, stream)) {
            quotas.extend(of_mapping(traffic, mapping, stream));
        }
    }
    quotas.retain(|quota| quota.load > 0.0);
    quotas
}

fn of_stream(traffic: &Traffic, stream: &ResolvedResource) -> [Quota; 2] {
    let id = &stream.logical_id;
    let Records { count, bytes } = traffic.records(id);
    let rate = traffic.load.messages_per_second() * count;
    let (shards, change) = match shards(stream) {
        Some(shards) => (
            shards,
            format!("raise `ShardCount` of {id} (`shards` in stack/src/config.rs)"),
        ),
        None => (
            assumed::ON_DEMAND_SHARDS,
            format!(
                "{id} is on demand and grows by itself; before a sudden rise set `WarmThroughputMiBps`"
            ),
        ),
    };
    let plural = if shards > 1.0 { "s" } else { "" };
    let quota = |what: &str, limit: f64, load: f64, unit: &'static str| Quota {
        what: format!("{id}: {what} of {shards} shard{plural}"),
        limit: limit * shards,
        load,
        unit,
        change: change.clone(),
        by_devices: true,
    };
    [
        quota("records", 1_000.0, rate, "records/s"),
        quota("data", 1.0, rate * bytes / MIB, "MB/s"),
    ]
}

fn of_delivery_stream(
    stack: &Resolved,
    traffic: &Traffic,
    stream: &ResolvedResource,
    region: &str,
) -> Vec<Quota> {
    let id = &stream.logical_id;
    let Records { count, bytes } = traffic.records(id);
    let rate = traffic.load.messages_per_second() * count;
    let large = LARGE_FIREHOSE.contains(&region);
    let quota = |what: &str, limit: f64, load: f64, unit: &'static str| Quota {
        what: format!("{id}: {what}"),
        limit,
        load,
        unit,
        change: format!("ask for a higher quota of {id} by the form of Amazon Data Firehose"),
        by_devices: true,
    };
    let mut quotas = vec![quota(
        "data",
        if large { 5.0 } else { 1.0 },
        rate * bytes / MIB,
        "MB/s",
    )];
    let rules = stack.of_type("AWS::IoT::TopicRule");
    let mut actions = rules.flat_map(|rule| rule.items("/TopicRulePayload/Actions"));
    // Without batch mode a rule puts one record with each request.
    if actions.all(|action| action["Firehose"]["BatchMode"] != true) {
        let limit = if large { 2_000.0 } else { 1_000.0 };
        quotas.push(quota("put requests", limit, rate, "requests/s"));
    }
    quotas
}

fn of_mapping(
    traffic: &Traffic,
    mapping: &ResolvedResource,
    stream: &ResolvedResource,
) -> [Quota; 2] {
    let rate = traffic.load.messages_per_second() * traffic.records(&stream.logical_id).count;
    let lanes = lanes(mapping, stream);
    let batch = number(mapping, "/BatchSize").unwrap_or(100.0);
    let seconds = assumed::INVOCATION_SECONDS + batch * assumed::RECORD_SECONDS;
    let id = &mapping.logical_id;
    [
        Quota {
            what: format!("{id}: records in full batches, {lanes} at once"),
            limit: lanes * batch / seconds,
            load: rate,
            unit: "records/s",
            change: format!(
                "raise `BatchSize` or `ParallelizationFactor` of {id} (`batch_size`, `parallelization_factor` in stack/src/config.rs)"
            ),
            by_devices: true,
        },
        Quota {
            what: "Lambda: concurrent executions of the account".to_owned(),
            limit: 1_000.0,
            load: lanes,
            unit: "executions",
            change: "ask for a higher quota in Service Quotas: AWS Lambda, concurrent executions (new accounts may have 10)"
                .to_owned(),
            by_devices: false,
        },
    ]
}
