//! Prices of the resource types that cost.

use std::collections::{BTreeMap, BTreeSet};

use cfn::resolve::{Resolved, ResolvedResource};
use serde_json::Value as Json;

use crate::load::HOURS_PER_MONTH;
use crate::messages::{Records, Traffic};
use crate::prices::Regional;
use crate::{Estimate, Free, Line, Unpriced, assumed, free};

/// Bytes of a GB.
const GB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Bytes that a message, a rule and an action are metered in.
const IOT_STEP: f64 = 5.0 * 1024.0;

/// Bytes that Firehose rounds each record up to.
const FIREHOSE_STEP: f64 = 5.0 * 1024.0;

/// Bytes of a PUT payload unit.
const PUT_UNIT: f64 = 25.0 * 1024.0;

/// Bytes that an on-demand stream rounds each record up to.
const ON_DEMAND_STEP: f64 = 1024.0;

/// Seconds of a month.
const MONTH: f64 = HOURS_PER_MONTH * 3_600.0;

/// Adds what a stack costs.
pub(crate) fn price(
    stack: &Resolved,
    traffic: &Traffic,
    prices: &Regional<'_>,
    estimate: &mut Estimate,
) {
    let mut bill = Bill {
        stack,
        traffic,
        prices,
        estimate,
    };
    bill.devices();
    for resource in stack.resources.values() {
        bill.resource(resource);
    }
    bill.alarms();
}

/// How many times a step fits into so many bytes, at least once.
fn steps(bytes: f64, step: f64) -> f64 {
    (bytes / step).ceil().max(1.0)
}

/// A price by its name, and how many of its units.
type Quantity<'a> = (&'a str, f64);

struct Bill<'a> {
    stack: &'a Resolved,
    traffic: &'a Traffic,
    prices: &'a Regional<'a>,
    estimate: &'a mut Estimate,
}

impl Bill<'_> {
    /// Adds a line: units a month without any message, and units a month for the messages.
    fn add(
        &mut self,
        logical_id: Option<&str>,
        r#type: &str,
        what: String,
        fixed: &[Quantity<'_>],
        usage: &[Quantity<'_>],
    ) {
        let mut line = Line {
            logical_id: logical_id.map(str::to_owned),
            r#type: r#type.to_owned(),
            what,
            fixed: 0.0,
            per_million: 0.0,
            is_estimate: false,
        };
        let load = self.traffic.load;
        for (name, units) in fixed {
            let Some(usd) = self.usd(name, *units, &mut line) else {
                return;
            };
            line.fixed += usd;
        }
        for (name, units) in usage {
            let Some(usd) = self.usd(name, *units, &mut line) else {
                return;
            };
            line.per_million += load.per_million(usd);
        }
        self.estimate.lines.push(line);
    }

    /// USD for so many units; a price that is not known is reported instead.
    fn usd(&mut self, name: &str, units: f64, line: &mut Line) -> Option<f64> {
        let Some(price) = self.prices.get(name) else {
            self.estimate.unpriced.push(Unpriced {
                logical_id: line.logical_id.clone().unwrap_or_default(),
                r#type: line.r#type.clone(),
                missing: format!("a price of `{name}`"),
            });
            return None;
        };
        line.is_estimate |= price.estimate;
        Some(price.usd * units)
    }

    fn resource(&mut self, resource: &ResolvedResource) {
        match resource.r#type.as_str() {
            // All of them in one line, see `alarms`.
            "AWS::CloudWatch::Alarm" => {}
            "AWS::EC2::EIP" => {
                self.of(
                    resource,
                    "public IPv4 address",
                    &[("public-ipv4-hour", HOURS_PER_MONTH)],
                );
            }
            "AWS::EC2::FlowLog" => self.flow_log(resource),
            "AWS::EC2::NatGateway" => self.of(
                resource,
                "NAT gateway, without the data through it",
                &[("nat-gateway-hour", HOURS_PER_MONTH)],
            ),
            "AWS::ElastiCache::ReplicationGroup" => self.cache(resource),
            "AWS::ElasticBeanstalk::Environment" => self.environment(resource),
            "AWS::IoT::TopicRule" => self.rule(resource),
            "AWS::KMS::Key" => self.of(resource, "key", &[("kms-key", 1.0)]),
            "AWS::Kinesis::Stream" => self.stream(resource),
            "AWS::KinesisFirehose::DeliveryStream" => self.delivery_stream(resource),
            "AWS::Lambda::Function" => self.function(resource),
            "AWS::Logs::LogGroup" => self.log_group(resource),
            "AWS::Logs::MetricFilter" => self.metric_filter(resource),
            "AWS::Route53::HostedZone" => self.of(resource, "hosted zone", &[("hosted-zone", 1.0)]),
            "AWS::S3::Bucket" => self.bucket(resource),
            "AWS::SecretsManager::Secret" => self.of(resource, "secret", &[("secret", 1.0)]),
            r#type => match free::reason(r#type) {
                Some(reason) => self.free(r#type, reason),
                None => self.estimate.unpriced.push(Unpriced {
                    logical_id: resource.logical_id.clone(),
                    r#type: r#type.to_owned(),
                    missing: "this resource type".to_owned(),
                }),
            },
        }
    }

    fn free(&mut self, r#type: &str, reason: &'static str) {
        let mut known = self.estimate.free.iter_mut();
        match known.find(|free| free.r#type == r#type) {
            Some(free) => free.count += 1,
            None => self.estimate.free.push(Free {
                r#type: r#type.to_owned(),
                count: 1,
                reason,
            }),
        }
    }

    /// A resource that costs the same whatever the messages.
    fn of(&mut self, resource: &ResolvedResource, what: &str, fixed: &[Quantity<'_>]) {
        self.both(resource, what.to_owned(), fixed, &[]);
    }

    fn both(
        &mut self,
        resource: &ResolvedResource,
        what: String,
        fixed: &[Quantity<'_>],
        usage: &[Quantity<'_>],
    ) {
        self.add(
            Some(&resource.logical_id),
            &resource.r#type,
            what,
            fixed,
            usage,
        );
    }

    /// Messages of a month, in millions.
    fn millions(&self) -> f64 {
        self.traffic.load.messages_per_month() / 1e6
    }

    /// Connections and messages, which no resource stands for.
    fn devices(&mut self) {
        if !self.traffic.is_taken() {
            return;
        }
        let load = self.traffic.load;
        let minutes = load.devices as f64 * HOURS_PER_MONTH * 60.0 / 1e6;
        let messages = self.millions() * steps(load.bytes as f64, IOT_STEP);
        for (what, usage) in [
            ("connections", [("iot-connection-minute", minutes)]),
            ("messages", [("iot-message", messages)]),
        ] {
            self.add(None, "AWS IoT Core", what.to_owned(), &[], &usage);
        }
    }

    fn rule(&mut self, resource: &ResolvedResource) {
        let mut rules = self.traffic.rules.iter();
        let Some(rule) = rules.find(|rule| rule.logical_id == resource.logical_id) else {
            let what = "takes none of these messages".to_owned();
            return self.both(resource, what, &[], &[]);
        };
        let metered = self.millions() * steps(self.traffic.load.bytes as f64, IOT_STEP);
        let actions = rule.actions as f64;
        let what = format!("1 rule triggered, {} a message", counted(actions, "action"));
        let usage = [("iot-rule", metered), ("iot-action", metered * actions)];
        self.both(resource, what, &[], &usage);
    }

    fn stream(&mut self, resource: &ResolvedResource) {
        let Records { count, bytes } = self.traffic.records(&resource.logical_id);
        let records = self.millions() * count;
        let retention = number(resource, "/RetentionPeriodHours").unwrap_or(24.0);
        if let Some(shards) = shards(resource) {
            let hours = shards * HOURS_PER_MONTH;
            let mut fixed = vec![("kinesis-shard-hour", hours)];
            if retention > 24.0 {
                fixed.push(("kinesis-extended-shard-hour", hours));
            }
            let usage = [("kinesis-put-unit", records * steps(bytes, PUT_UNIT))];
            self.both(resource, counted(shards, "shard"), &fixed, &usage);
        } else {
            let written = records * 1e6 * steps(bytes, ON_DEMAND_STEP) * ON_DEMAND_STEP / GB;
            let stored = records * 1e6 * bytes / GB;
            let readers = self.stack.of_type("AWS::Lambda::EventSourceMapping");
            let readers = readers.filter(|mapping| reads(mapping, resource)).count();
            let months = (retention - 24.0).max(0.0) / HOURS_PER_MONTH;
            let usage = [
                ("kinesis-on-demand-in", written),
                ("kinesis-on-demand-out", stored * readers as f64),
                ("kinesis-on-demand-retention", stored * months),
            ];
            let fixed = [("kinesis-on-demand-hour", HOURS_PER_MONTH)];
            self.both(resource, "on demand".to_owned(), &fixed, &usage);
        }
    }

    fn delivery_stream(&mut self, resource: &ResolvedResource) {
        let Records { count, bytes } = self.traffic.records(&resource.logical_id);
        let metered = steps(bytes, FIREHOSE_STEP) * FIREHOSE_STEP;
        let gb = self.millions() * 1e6 * count * metered / GB;
        let what = format!(
            "records of {bytes:.0} bytes, each metered as {:.0} KB",
            metered / 1024.0
        );
        let what = if count > 0.0 {
            what
        } else {
            "no records".to_owned()
        };
        self.both(resource, what, &[], &[("firehose-in", gb)]);
    }

    fn function(&mut self, resource: &ResolvedResource) {
        let memory = number(resource, "/MemorySize").unwrap_or(128.0);
        let architecture = resource.text("/Architectures/0");
        let architecture = architecture.as_deref().unwrap_or("x86_64");
        let invocations = invocations(self.stack, self.traffic, resource);
        let seconds = invocations.count * assumed::INVOCATION_SECONDS
            + invocations.records * assumed::RECORD_SECONDS;
        let usage = [
            ("lambda-request", invocations.count / 1e6),
            (
                &*format!("lambda-gb-second-{architecture}"),
                seconds * memory / 1024.0,
            ),
        ];
        let each = match invocations.count > 0.0 {
            true => invocations.records / invocations.count,
            false => 0.0,
        };
        let what = format!("{memory:.0} MB on {architecture}, {each:.1} records an invocation");
        self.both(resource, what, &[], &usage);
    }

    fn log_group(&mut self, resource: &ResolvedResource) {
        let functions = self.stack.of_type("AWS::Lambda::Function");
        let writers = functions.filter(|function| {
            function.text("/LoggingConfig/LogGroup").as_deref() == Some(&*resource.physical_id)
        });
        let bytes: f64 = writers
            .map(|function| {
                let count = invocations(self.stack, self.traffic, function).count;
                count * log_bytes(function)
            })
            .sum();
        let gb = bytes / GB;
        if gb == 0.0 {
            return self.of(resource, "nothing, while little is logged", &[]);
        }
        let days = number(resource, "/RetentionInDays").unwrap_or(365.0);
        let usage = [
            ("logs-in", gb),
            ("logs-storage", gb * days * 24.0 / HOURS_PER_MONTH),
        ];
        self.both(
            resource,
            "what each invocation logs".to_owned(),
            &[],
            &usage,
        );
    }

    fn metric_filter(&mut self, resource: &ResolvedResource) {
        let transformations = resource.items("/MetricTransformations");
        let steady = transformations
            .iter()
            .filter(|it| !it["DefaultValue"].is_null());
        match steady.count() {
            0 => self.of(resource, "nothing, in hours without an event", &[]),
            count => {
                let what = counted(count as f64, "metric");
                self.of(resource, &what, &[("metric", count as f64)]);
            }
        }
    }

    fn cache(&mut self, resource: &ResolvedResource) {
        let groups = number(resource, "/NumNodeGroups").unwrap_or(1.0);
        let replicas = number(resource, "/ReplicasPerNodeGroup").unwrap_or(0.0);
        let nodes = number(resource, "/NumCacheClusters").unwrap_or(groups * (1.0 + replicas));
        let engine = resource
            .text("/Engine")
            .unwrap_or_else(|| "redis".to_owned());
        let node = resource.text("/CacheNodeType").unwrap_or_default();
        let what = format!("{nodes} × {node}, {engine}");
        let price = format!("{engine} {node}");
        self.of(resource, &what, &[(&price, nodes * HOURS_PER_MONTH)]);
    }

    fn environment(&mut self, resource: &ResolvedResource) {
        let option = |namespace: &str, name: &str| option(resource, namespace, name);
        let instances = min_instances(resource);
        let types = option("aws:ec2:instances", "InstanceTypes")
            .or_else(|| option("aws:autoscaling:launchconfiguration", "InstanceType"))
            .unwrap_or_default();
        // The first one is taken unless there is no capacity for it.
        let instance = types.split(',').next().unwrap_or_default().trim();
        let price = format!("instance {instance}");
        let what = format!("{instances} × {instance}");
        self.of(resource, &what, &[(&price, instances * HOURS_PER_MONTH)]);

        let launch = "aws:autoscaling:launchconfiguration";
        let size = option(launch, "RootVolumeSize").and_then(|size| size.parse().ok());
        let size: f64 = size.unwrap_or(assumed::VOLUME_GB);
        let volume = option(launch, "RootVolumeType").unwrap_or_else(|| "gp3".to_owned());
        let price = format!("volume-{volume}");
        let what = format!("{instances} × {size} GB of {volume}");
        self.of(resource, &what, &[(&price, instances * size)]);

        let vpc = "aws:ec2:vpc";
        let mut addresses = 0.0;
        if option(vpc, "AssociatePublicIpAddress").as_deref() == Some("true") {
            addresses += instances;
        }
        let kind = option("aws:elasticbeanstalk:environment", "EnvironmentType");
        if kind.as_deref() != Some("SingleInstance") {
            let units = assumed::BALANCER_UNITS;
            let what = format!("load balancer, {}", counted(units, "capacity unit"));
            let fixed = [
                ("balancer-hour", HOURS_PER_MONTH),
                ("balancer-lcu-hour", units * HOURS_PER_MONTH),
            ];
            self.of(resource, &what, &fixed);
            if option(vpc, "ELBScheme").as_deref() != Some("internal") {
                let subnets = option(vpc, "ELBSubnets").unwrap_or_default();
                // One address in each subnet; a balancer has at least two.
                addresses += (subnets.split(',').count() as f64).max(2.0);
            }
        }
        if addresses > 0.0 {
            let what = format!("{addresses} public IPv4 addresses");
            self.of(
                resource,
                &what,
                &[("public-ipv4-hour", addresses * HOURS_PER_MONTH)],
            );
        }
    }

    fn flow_log(&mut self, resource: &ResolvedResource) {
        let environments = self.stack.of_type("AWS::ElasticBeanstalk::Environment");
        let instances: f64 = environments.map(min_instances).sum();
        let gb = assumed::FLOW_LOG_GB + instances * assumed::FLOW_LOG_GB_PER_INSTANCE;
        self.of(
            resource,
            &format!("{gb:.1} GB of flow logs"),
            &[("logs-in", gb)],
        );
    }

    fn bucket(&mut self, resource: &ResolvedResource) {
        let arn = resource.arn();
        let streams = self.stack.of_type("AWS::KinesisFirehose::DeliveryStream");
        let destination = "/ExtendedS3DestinationConfiguration";
        let sources: Vec<&ResolvedResource> = streams
            .filter(|stream| {
                let bucket = stream.text(&format!("{destination}/BucketARN"));
                arn.is_some() && bucket.as_deref() == arn
            })
            .collect();
        let (mut gb, mut puts) = (0.0, 0.0);
        for stream in sources {
            let setting = |name: &str| format!("{destination}/{name}");
            let Records { count, bytes } = self.traffic.records(&stream.logical_id);
            let rate = self.traffic.load.messages_per_second() * count;
            let interval = number(stream, &setting("BufferingHints/IntervalInSeconds"));
            let size = number(stream, &setting("BufferingHints/SizeInMBs")).unwrap_or(5.0);
            let full = rate * bytes / (size * 1024.0 * 1024.0);
            puts += rate.min((1.0 / interval.unwrap_or(300.0)).max(full)) * MONTH / 1e6;
            let compression = stream.text(&setting("CompressionFormat"));
            let compression = match compression.as_deref() {
                None | Some("UNCOMPRESSED") => 1.0,
                Some(_) => assumed::COMPRESSION,
            };
            gb += rate * MONTH * bytes / compression / GB;
        }
        if puts == 0.0 {
            return self.of(resource, "nothing, while little is stored", &[]);
        }
        let (months, kept) = match expiration_days(resource) {
            Some(days) => (days * 24.0 / HOURS_PER_MONTH, format!("{days} days")),
            None => (
                assumed::MONTHS_OF_ARCHIVE,
                "a month, and as much for each further one".to_owned(),
            ),
        };
        let what = format!("{gb:.2} GB a month, kept for {kept}");
        let usage = [("s3-storage", gb * months), ("s3-put", puts)];
        self.both(resource, what, &[], &usage);
    }

    /// Alarms, and the metrics of our own that they look at.
    fn alarms(&mut self) {
        let alarms: Vec<&ResolvedResource> = self.stack.of_type("AWS::CloudWatch::Alarm").collect();
        if alarms.is_empty() {
            return;
        }
        let mut prices: BTreeMap<&str, f64> = BTreeMap::new();
        for alarm in &alarms {
            let metrics = alarm.items("/Metrics").iter();
            let metrics = metrics
                .filter(|it| it["MetricStat"].is_object())
                .count()
                .max(1);
            let period = number(alarm, "/Period").unwrap_or(60.0);
            let price = if period < 60.0 {
                "alarm-high-resolution"
            } else {
                "alarm"
            };
            *prices.entry(price).or_default() += metrics as f64;
        }
        let fixed: Vec<Quantity<'_>> = prices.into_iter().collect();
        let what = counted(alarms.len() as f64, "alarm");
        self.add(None, "AWS::CloudWatch::Alarm", what, &fixed, &[]);
        // A filter without a default value counts in some hours only; with one it has a line of its own.
        let filters = self.stack.of_type("AWS::Logs::MetricFilter");
        let filtered: BTreeSet<(String, String)> = filters
            .flat_map(|filter| filter.items("/MetricTransformations"))
            .map(|it| (plain(&it["MetricNamespace"]), plain(&it["MetricName"])))
            .collect();
        let own: BTreeSet<String> = alarms
            .iter()
            .map(|alarm| &alarm.properties)
            .filter(|it| {
                let namespace = plain(&it["Namespace"]);
                let name = plain(&it["MetricName"]);
                !namespace.is_empty()
                    && !namespace.starts_with("AWS/")
                    && !filtered.contains(&(namespace, name))
            })
            .map(|it| {
                format!(
                    "{} {} {}",
                    it["Namespace"], it["MetricName"], it["Dimensions"]
                )
            })
            .collect();
        if !own.is_empty() {
            let count = own.len() as f64;
            let what = format!("{} that alarms look at", counted(count, "custom metric"));
            self.add(None, "AWS::CloudWatch", what, &[("metric", count)], &[]);
        }
    }
}

/// Invocations of a function in a month.
#[derive(Clone, Copy, Debug, Default)]
struct Invocations {
    count: f64,
    records: f64,
}

fn invocations(stack: &Resolved, traffic: &Traffic, function: &ResolvedResource) -> Invocations {
    let mut all = Invocations::default();
    for mapping in stack.of_type("AWS::Lambda::EventSourceMapping") {
        let name = mapping.text("/FunctionName").unwrap_or_default();
        if name != function.physical_id && Some(&*name) != function.arn() {
            continue;
        }
        let mut streams = stack.of_type("AWS::Kinesis::Stream");
        let Some(stream) = streams.find(|stream| reads(mapping, stream)) else {
            continue;
        };
        let rate = traffic.load.messages_per_second() * traffic.records(&stream.logical_id).count;
        let lanes = lanes(mapping, stream);
        let batch = number(mapping, "/BatchSize").unwrap_or(100.0);
        // A shard is polled once a second; a window makes a lane wait longer for a batch to fill.
        let window = number(mapping, "/MaximumBatchingWindowInSeconds")
            .unwrap_or(0.0)
            .max(1.0);
        let each = rate / lanes;
        let per_second = lanes * each.min((1.0 / window).max(each / batch));
        all.count += per_second * MONTH;
        all.records += rate * MONTH;
    }
    all
}

/// Bytes that an invocation writes into the function's log group.
fn log_bytes(function: &ResolvedResource) -> f64 {
    let level = function.text("/LoggingConfig/SystemLogLevel");
    match level.as_deref() {
        Some("WARN") => assumed::LOG_BYTES_PER_INVOCATION,
        _ => assumed::LOG_BYTES_PER_INVOCATION + assumed::PLATFORM_LOG_BYTES_PER_INVOCATION,
    }
}

/// Batches of a mapping that may be under way at once.
pub(crate) fn lanes(mapping: &ResolvedResource, stream: &ResolvedResource) -> f64 {
    let factor = number(mapping, "/ParallelizationFactor").unwrap_or(1.0);
    factor * shards(stream).unwrap_or(assumed::ON_DEMAND_SHARDS)
}

/// Whether a mapping reads a stream.
pub(crate) fn reads(mapping: &ResolvedResource, stream: &ResolvedResource) -> bool {
    stream.arn().is_some() && mapping.text("/EventSourceArn").as_deref() == stream.arn()
}

/// Shards of a provisioned stream; none for one that is on demand.
pub(crate) fn shards(stream: &ResolvedResource) -> Option<f64> {
    let mode = stream.text("/StreamModeDetails/StreamMode");
    if mode.as_deref() == Some("ON_DEMAND") {
        return None;
    }
    Some(number(stream, "/ShardCount").unwrap_or(1.0))
}

/// A number, also when it is written as text.
pub(crate) fn number(resource: &ResolvedResource, pointer: &str) -> Option<f64> {
    resource.text(pointer)?.parse().ok()
}

fn option(environment: &ResolvedResource, namespace: &str, name: &str) -> Option<String> {
    let mut options = environment.items("/OptionSettings").iter();
    let option = options.find(|it| it["Namespace"] == namespace && it["OptionName"] == name)?;
    Some(plain(&option["Value"]))
}

fn min_instances(environment: &ResolvedResource) -> f64 {
    let min = option(environment, "aws:autoscaling:asg", "MinSize");
    min.and_then(|min| min.parse().ok()).unwrap_or(1.0)
}

/// Days after which the objects of a bucket are deleted.
fn expiration_days(bucket: &ResolvedResource) -> Option<f64> {
    let rules = bucket.items("/LifecycleConfiguration/Rules").iter();
    let days = rules.filter_map(|rule| rule["ExpirationInDays"].as_f64());
    days.reduce(f64::min)
}

fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        value => value.to_string(),
    }
}

fn counted(count: f64, what: &str) -> String {
    let plural = if count == 1.0 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
