//! What the stages' templates cost, and how the sum follows a changed configuration.

use cost::{Error, Estimate, Line, Load, estimate};
use stack::config::{InstanceSize, StreamMode};
use stack::{Config, Stage};

const REGION: &str = "eu-central-1";

fn of(config: &Config, load: Load) -> Estimate {
    let stacks = stack::synth_with(config).unwrap_or_else(|problems| panic!("{problems}"));
    let templates: Vec<&str> = stacks.iter().map(|stack| &*stack.template).collect();
    estimate(&templates, REGION, load).unwrap_or_else(|error| panic!("{error}"))
}

fn of_stage(stage: Stage) -> Estimate {
    of(&stage.config(), Load::default())
}

fn line<'a>(estimate: &'a Estimate, logical_id: &str, what: &str) -> &'a Line {
    let mut lines = estimate.lines.iter();
    lines
        .find(|line| line.logical_id.as_deref() == Some(logical_id) && line.what.contains(what))
        .unwrap_or_else(|| panic!("no line of {logical_id} with {what}: {:#?}", estimate.lines))
}

#[track_caller]
fn near(got: f64, expected: f64) {
    let difference = (got - expected).abs();
    assert!(difference < 0.005, "got {got}, expected {expected}");
}

#[test]
fn every_resource_of_every_stage_is_priced_or_free_with_a_reason() {
    let mut configs: Vec<Config> = Stage::ALL.iter().map(|stage| stage.config()).collect();
    configs.extend(stack::choices::all().map(|(_, config)| config));
    for config in configs {
        let estimate = of(&config, Load::default());
        assert_eq!(estimate.unpriced, [], "{}", config.stage);
        assert!(estimate.free.iter().all(|free| free.reason.len() > 5));
        assert!(estimate.fixed() > 10.0 && estimate.per_million() > 0.1);
    }
}

#[test]
fn unknown_type_and_unknown_size_are_listed_as_not_priced() {
    let template = r#"{ "Resources": {
        "Table": { "Type": "AWS::DynamoDB::Table", "Properties": {} },
        "Cache": { "Type": "AWS::ElastiCache::ReplicationGroup", "Properties": {
            "Engine": "redis", "CacheNodeType": "cache.r7g.16xlarge", "NumCacheClusters": 1 } }
    } }"#;
    let estimate = estimate(&[template], REGION, Load::default()).unwrap();
    let listed: Vec<_> = estimate
        .unpriced
        .iter()
        .map(|it| (it.logical_id.as_str(), it.missing.as_str()))
        .collect();
    assert_eq!(
        listed,
        [
            ("Table", "this resource type"),
            ("Cache", "a price of `redis cache.r7g.16xlarge`")
        ]
    );
    let text = estimate.text("it");
    assert!(
        text.contains("Not priced: Table (AWS::DynamoDB::Table)"),
        "{text}"
    );
}

#[test]
fn figures_are_those_of_the_price_list() {
    let dev = of_stage(Stage::Dev);
    // 0.018 USD an hour, 730 hours.
    near(line(&dev, "SensorStream", "1 shard").fixed, 13.14);
    near(
        line(&dev, "Cache", "1 × cache.t4g.micro, valkey").fixed,
        11.096,
    );
    near(
        line(&dev, "DashboardEnvironment", "1 × t4g.micro").fixed,
        7.008,
    );
    near(
        line(&dev, "DashboardEnvironment", "load balancer").fixed,
        19.71 + 5.84,
    );
    // The balancer's two, and the instance's.
    near(
        line(&dev, "DashboardEnvironment", "3 public IPv4").fixed,
        10.95,
    );
    // 0.033 USD for a GB: a record of some hundred bytes is metered as 5 KB.
    let archive = line(&dev, "ArchiveStream", "each metered as 5 KB");
    near(
        archive.per_million,
        0.033 * 5.0 * 1024.0 * 1e6 / 1024_f64.powi(3),
    );
    near(
        line(&dev, "DeviceTopicsToStream", "1 action").per_million,
        0.36,
    );
    near(
        line(&dev, "BareTopicToStream", "none of these").per_million,
        0.0,
    );
    let prod = of_stage(Stage::Prod);
    near(line(&prod, "NatGateway1", "NAT gateway").fixed, 37.96);
    near(line(&prod, "SensorStream", "on demand").fixed, 35.04);
    assert!(line(&prod, "VpcFlowLog", "flow logs").fixed > 0.0);
}

#[test]
fn sum_follows_the_configuration() {
    let sum = |edit: &dyn Fn(&mut Config)| {
        let mut config = Stage::Dev.config();
        edit(&mut config);
        of(&config, Load::default()).fixed()
    };
    let before = sum(&|_| {});
    near(
        sum(&|config| config.stream.mode = StreamMode::Provisioned { shards: 3 }) - before,
        2.0 * 13.14,
    );
    // One more node, with six alarms of its own.
    near(
        sum(&|config| config.cache.nodes = 2) - before,
        11.096 + 6.0 * 0.10,
    );
    near(
        sum(&|config| config.dashboard.instance_size = InstanceSize::Small) - before,
        7.008,
    );
    near(
        sum(&|config| config.network.nat_gateways = true) - before,
        2.0 * (37.96 + 3.65),
    );
    let memory = |memory_mb| {
        let mut config = Stage::Dev.config();
        config.processing.memory_mb = memory_mb;
        of(&config, Load::default()).per_million()
    };
    assert!(memory(1024) > memory(128));
}

#[test]
fn messages_are_metered_in_the_services_steps() {
    let at = |bytes| {
        let load = Load {
            bytes,
            ..Load::default()
        };
        of(&Stage::Dev.config(), load)
    };
    let messages = |bytes| {
        let estimate = at(bytes);
        let mut lines = estimate.lines.iter();
        lines
            .find(|line| line.what == "messages")
            .map(|line| line.per_million)
    };
    assert_eq!(messages(1), messages(5 * 1024));
    near(messages(5 * 1024 + 1).unwrap_or_default(), 2.4);
    // Encoded for the archive, 4,000 bytes are more than 5 KB.
    near(
        line(&at(4_000), "ArchiveStream", "each metered as 10 KB").per_million,
        2.0 * 0.033 * 5.0 * 1024.0 * 1e6 / 1024_f64.powi(3),
    );
}

#[test]
fn first_limit_comes_first_and_says_what_to_change() {
    let load = |devices, every| Load {
        devices,
        every,
        bytes: 300,
    };
    let first = |config: &Config, load| {
        let estimate = of(config, load);
        let first = estimate.quotas.first().cloned();
        (first.unwrap_or_else(|| panic!("no limits")), estimate)
    };
    let (quota, estimate) = first(&Stage::Dev.config(), load(2_000, 1.0));
    assert_eq!(quota.what, "SensorStream: records of 1 shard");
    near(quota.share(), 2.0);
    let text = estimate.text("it");
    assert!(
        text.contains("First limit: SensorStream: records of 1 shard"),
        "{text}"
    );
    assert!(text.contains("exceeded; raise `ShardCount`"), "{text}");
    let mut config = Stage::Dev.config();
    config.stream.mode = StreamMode::Provisioned { shards: 10 };
    let (quota, _) = first(&config, load(2_000, 1.0));
    assert_eq!(quota.what, "ArchiveStream: put requests");
    let (quota, estimate) = first(&config, load(1, 0.011));
    assert_eq!(quota.what, "IoT Core: publishes of one device");
    let text = estimate.text("it");
    assert!(text.contains("a message every 0.01 s"), "{text}");
}

#[test]
fn unknown_region_is_refused_with_the_known_ones() {
    let error = estimate(&[], "mars-1", Load::default()).unwrap_err();
    assert!(matches!(error, Error::Region { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("expected eu-central-1 or us-east-1")
    );
}

#[test]
fn estimates_are_marked_and_what_json_says_is_what_the_text_says() {
    let dev = of_stage(Stage::Dev);
    assert!(dev.is_estimate());
    let text = dev.text("Stage dev");
    assert!(text.contains("≈ is an estimate"), "{text}");
    let address = line(&dev, "DashboardEnvironment", "public IPv4");
    assert!(!address.is_estimate);
    let json = dev.json();
    assert!(text.contains(&format!("≈{:.2}", dev.monthly())), "{text}");
    assert!(
        text.contains("Nothing at this load: ArtifactsBucket, "),
        "{text}"
    );
    assert_eq!(json["fixed"].as_f64(), Some(dev.fixed()));
    assert_eq!(
        json["lines"].as_array().map(Vec::len),
        Some(dev.lines.len())
    );
    assert_eq!(json["notPriced"].as_array().map(Vec::len), Some(0));
}

#[test]
fn readme_says_what_the_stages_cost() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"));
    let readme = readme.unwrap();
    for stage in Stage::ALL {
        let estimate = of_stage(stage);
        let said = format!(
            "`{stage}` costs about USD {:.0} a month without messages and {:.2} for a million messages",
            estimate.fixed(),
            estimate.per_million()
        );
        assert!(readme.contains(&said), "README.md lacks: {said}");
    }
}
