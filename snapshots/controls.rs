//! The controls of `docs/SECURITY.md`, held against the emitted templates.

use std::collections::BTreeSet;
use std::path::Path;

use cfn::document::Document;
use cfn::network::option;
use cfn::resolve::{ResolvedResource, resolve};
use serde_json::Value as Json;
use stack::Stage;

/// The controls that a row must exist for.
const CONTROLS: &[&str] = &[
    "Kinesis.1",
    "Kinesis.3",
    "DataFirehose.1",
    "Lambda.1",
    "Lambda.2",
    "Lambda.5",
    "ElastiCache.1",
    "ElastiCache.2",
    "ElastiCache.3",
    "ElastiCache.4",
    "ElastiCache.5",
    "ElastiCache.6",
    "ElastiCache.7",
    "ElasticBeanstalk.1",
    "ElasticBeanstalk.2",
    "ElasticBeanstalk.3",
    "S3.1",
    "S3.2",
    "S3.3",
    "S3.5",
    "S3.6",
    "S3.8",
    "S3.9",
    "S3.12",
    "S3.13",
    "ELB.1",
    "ELB.4",
    "ELB.5",
    "ELB.6",
    "ELB.12",
    "ELB.13",
    "ELB.17",
    "ELB.18",
    "AutoScaling.1",
    "AutoScaling.2",
    "AutoScaling.3",
    "AutoScaling.5",
    "AutoScaling.6",
    "AutoScaling.9",
    "EC2.2",
    "EC2.6",
    "EC2.8",
    "EC2.9",
    "EC2.10",
    "EC2.15",
    "EC2.18",
    "EC2.19",
    "EC2.21",
    "EC2.25",
    "EC2.170",
    "EC2.172",
    "EC2.181",
    "KMS.1",
    "KMS.2",
    "KMS.3",
    "KMS.5",
    "SQS.1",
    "SQS.3",
    "SNS.1",
    "SNS.4",
    "cw_loggroup_retention_period_check",
    "cloudwatch_log_group_encrypted",
    "lambda_concurrency_check",
    "lambda_dlq_check",
    "lambda_inside_vpc",
    "s3_bucket_versioning_enabled",
];

/// A row of the table.
struct Row {
    control: String,
    property: String,
    wanted: String,
    /// Whether it holds, as the document says, for each of [`Stage::ALL`]
    says: [String; 2],
    why: String,
}

#[test]
fn every_control_has_a_row() {
    let rows = rows();
    let known: BTreeSet<&str> = rows.iter().map(|row| row.control.as_str()).collect();
    let missing: Vec<&&str> = CONTROLS.iter().filter(|it| !known.contains(**it)).collect();
    assert!(
        missing.is_empty(),
        "docs/SECURITY.md has no row for {missing:?}"
    );
    let wrong: Vec<&&str> = known.iter().filter(|it| !CONTROLS.contains(*it)).collect();
    assert!(
        wrong.is_empty(),
        "docs/SECURITY.md has rows for unknown controls: {wrong:?}"
    );
}

#[test]
fn rows_say_what_the_templates_say() {
    let mut wrong = Vec::new();
    for (stage, index) in [(Stage::Dev, 0), (Stage::Prod, 1)] {
        let resources = resources(stage);
        for Row {
            control,
            property,
            wanted,
            says,
            why,
        } in rows()
        {
            let holds = holds(&resources, &property, &wanted);
            let is = if holds { "yes" } else { "no" };
            if says[index] != is {
                wrong.push(format!(
                    "{control}: `{property}` is {wanted} in {stage}: the row says {}, the template {is}",
                    says[index]
                ));
            }
            if !holds && why.is_empty() {
                wrong.push(format!("{control}: refused in {stage} without a reason"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "docs/SECURITY.md and the templates disagree:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn logical_ids_of_rows_exist() {
    let all: Vec<ResolvedResource> = Stage::ALL.into_iter().flat_map(resources).collect();
    for Row {
        control, property, ..
    } in rows()
    {
        let first = property.split(' ').next().unwrap_or_default();
        let known = matches!(first, "no" | "every" | "bundle")
            || all.iter().any(|it| it.logical_id == first);
        assert!(known, "{control}: no template has `{first}`");
    }
}

/// Both stacks' resources.
fn resources(stage: Stage) -> Vec<ResolvedResource> {
    let stacks = stack::synth(stage).unwrap_or_else(|problems| panic!("{problems}"));
    let mut resources = Vec::new();
    for stack in stacks {
        let document = Document::parse(&stack.template).expect("what is emitted can be read");
        let resolved = resolve(&document, &cfn::access::context());
        let resolved = resolved.unwrap_or_else(|problems| panic!("{problems:?}"));
        resources.extend(resolved.resources.into_values());
    }
    resources
}

fn holds(resources: &[ResolvedResource], property: &str, wanted: &str) -> bool {
    let words: Vec<&str> = property.split(' ').collect();
    let of_type = |name: &str| -> Vec<&ResolvedResource> {
        resources.iter().filter(|it| it.r#type == name).collect()
    };
    match *words.as_slice() {
        ["no", name] => of_type(name).is_empty(),
        ["no", name, verb, object] => !of_type(name).iter().any(|it| asks(it, verb, object)),
        ["every", name, "denies", "plain-http"] => {
            let policies = of_type("AWS::S3::BucketPolicy");
            let is_for = |bucket: &ResolvedResource, policy: &&&ResolvedResource| {
                policy.text("/Bucket").as_deref() == Some(&*bucket.physical_id)
            };
            let all = of_type(name);
            !all.is_empty()
                && all.iter().all(|bucket| {
                    let policy = policies.iter().find(|it| is_for(bucket, it));
                    policy.is_some_and(|it| denies_plain_http(it, bucket))
                })
        }
        // The same file in every stage's bundle.
        ["bundle", path, pointer] => {
            let files = bundle::files(bundle::Settings::default());
            let file = files.iter().find(|file| file.path == path);
            let file = file.unwrap_or_else(|| panic!("the bundle has no {path}"));
            let config: Json = serde_json::from_str(&file.contents).expect("is JSON");
            let value = config.pointer(pointer).and_then(Json::as_str);
            is(&Vec::from_iter(value.map(str::to_owned)), wanted)
        }
        ["every", name, pointer] => {
            let all = of_type(name);
            !all.is_empty() && all.iter().all(|it| is(&values(it, &[pointer]), wanted))
        }
        [id, ref place @ ..] => resources
            .iter()
            .find(|it| it.logical_id == id)
            .is_some_and(|it| is(&values(it, place), wanted)),
        [] => false,
    }
}

/// The statements of a resource's own policies.
fn statements(resource: &ResolvedResource) -> Vec<&Json> {
    let mut found = Vec::new();
    for pointer in ["/PolicyDocument", "/KeyPolicy"] {
        found.extend(resource.items(&format!("{pointer}/Statement")));
    }
    for policy in resource.items("/Policies") {
        let inline = policy.pointer("/PolicyDocument/Statement");
        found.extend(inline.and_then(Json::as_array).into_iter().flatten());
    }
    found
}

/// One text or several.
fn texts(value: &Json) -> Vec<&str> {
    match value {
        Json::String(text) => vec![text],
        Json::Array(items) => items.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn allows(statement: &Json) -> bool {
    statement["Effect"] == "Allow"
}

/// Whether a resource is as a question has it.
fn asks(resource: &ResolvedResource, verb: &str, object: &str) -> bool {
    let is_everybody = |statement: &&Json| {
        let principal = &statement["Principal"];
        texts(principal).contains(&"*") || texts(&principal["AWS"]).contains(&"*")
    };
    let mut allowing = statements(resource).into_iter().filter(|it| allows(it));
    match (verb, object) {
        ("admits", "anybody") => allowing.next().is_some(),
        ("admits", "everybody") => allowing.any(|it| is_everybody(&it)),
        ("decrypts", "every-key") => allowing.any(|it| {
            let decrypts = |action: &&str| ["*", "kms:*", "kms:Decrypt"].contains(action);
            let is_every = |arn: &&str| *arn == "*" || arn.ends_with(":key/*");
            texts(&it["Action"]).iter().any(decrypts) && texts(&it["Resource"]).iter().any(is_every)
        }),
        ("opens", "other-ports") => opens(resource, |port| ![80, 443].contains(&port)),
        ("opens", "high-risk-ports") => opens(resource, |port| HIGH_RISK.contains(&port)),
        _ => panic!("{verb} {object}: expected a question that is known here"),
    }
}

/// The ports of EC2.19.
const HIGH_RISK: [i64; 24] = [
    20, 21, 22, 23, 25, 110, 135, 143, 445, 1433, 1434, 3000, 3306, 3389, 4333, 5000, 5432, 5500,
    5601, 8080, 8088, 8888, 9200, 9300,
];

/// Whether a group admits everybody to a port of these.
fn opens(group: &ResolvedResource, is_one: impl Fn(i64) -> bool) -> bool {
    group.items("/SecurityGroupIngress").iter().any(|rule| {
        let everybody = |name: &str| matches!(rule[name].as_str(), Some("0.0.0.0/0" | "::/0"));
        let number = |name: &str| {
            let value = &rule[name];
            value.as_i64().or_else(|| value.as_str()?.parse().ok())
        };
        (everybody("CidrIp") || everybody("CidrIpv6"))
            && match (number("FromPort"), number("ToPort")) {
                (Some(first), Some(last)) => (first..=last).any(&is_one),
                // All of them.
                _ => true,
            }
    })
}

/// Whether a policy keeps everybody from a bucket and its objects without TLS.
fn denies_plain_http(policy: &ResolvedResource, bucket: &ResolvedResource) -> bool {
    let arn = bucket.arn().expect("a bucket has an ARN");
    let objects = format!("{arn}/*");
    statements(policy).into_iter().any(|it| {
        let resources = texts(&it["Resource"]);
        it["Effect"] == "Deny"
            && it["Principal"] == "*"
            && texts(&it["Action"]) == ["s3:*"]
            && resources.contains(&arn)
            && resources.contains(&&*objects)
            && it["Condition"] == serde_json::json!({ "Bool": { "aws:SecureTransport": "false" } })
    })
}

/// The value at a pointer, or those of an option setting.
fn values(resource: &ResolvedResource, place: &[&str]) -> Vec<String> {
    match *place {
        [pointer] => resource
            .property(pointer)
            .map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            })
            .into_iter()
            .collect(),
        [namespace, name] => option(resource, namespace, name),
        _ => panic!("{place:?}: expected a path, or an option's namespace and name"),
    }
}

fn is(values: &[String], wanted: &str) -> bool {
    let joined = values.join(",");
    match wanted.strip_prefix(">= ") {
        Some(least) => {
            let least: f64 = least.parse().expect("a number is wanted");
            joined.parse::<f64>().is_ok_and(|value| value >= least)
        }
        None if wanted == "set" => !values.is_empty(),
        None if wanted == "several" => values.len() > 1,
        None => !values.is_empty() && joined == wanted,
    }
}

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SECURITY.md");
    let document = std::fs::read_to_string(path).expect("docs/SECURITY.md is there");
    let (_, controls) = document
        .split_once("\n## Controls\n")
        .expect("has its section");
    let controls = controls.split("\n## ").next().unwrap_or_default();
    let rows: Vec<Row> = controls
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---"))
        .skip(1)
        .map(|line| {
            let cells: Vec<String> = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect();
            let [control, property, wanted, dev, prod, why] =
                <[String; 6]>::try_from(cells).unwrap_or_else(|_| panic!("six cells: {line}"));
            let plain = |cell: String| cell.trim_matches('`').to_owned();
            Row {
                control,
                property: plain(property),
                wanted: plain(wanted),
                says: [dev, prod],
                why,
            }
        })
        .collect();
    assert!(!rows.is_empty(), "the table has no rows");
    rows
}
