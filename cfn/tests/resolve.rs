//! Templates without intrinsics: every function, every kind of problem.

mod pipeline;

use cfn::document::Document;
use cfn::resolve::{Context, MissingParameters, Naming, Override, Problem, Resolved, resolve};
use serde_json::{Value as Json, json};

/// A template with a stream (for references) and one resource with the value as property `P`.
fn with(value: Json) -> Result<Resolved, Vec<Problem>> {
    let template = json!({
        "Parameters": {
            "Name": {"Type": "String", "Default": "n"},
            "Count": {"Type": "Number", "Default": "3"},
            "Zones": {"Type": "List<AWS::EC2::AvailabilityZone::Name>", "Default": "x, y"},
            "Secret": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/path"},
        },
        "Mappings": {"M": {"a": {"b": ["v"]}}},
        "Conditions": {
            "Yes": {"Fn::Equals": [{"Ref": "Count"}, 3]},
            "No": {"Fn::And": [{"Condition": "Yes"}, {"Fn::Not": [{"Condition": "Yes"}]}]},
            "Either": {"Fn::Or": [{"Condition": "No"}, {"Condition": "Yes"}]},
        },
        "Resources": {
            "Stream": {"Type": "AWS::Kinesis::Stream"},
            "Absent": {"Type": "AWS::Kinesis::Stream", "Condition": "No"},
            "It": {"Type": "Custom::Thing", "Properties": {"P": value}},
        },
    });
    let mut context = Context::new("123456789012", "eu-central-1", "s");
    context
        .imports
        .insert("other-value".to_owned(), "imported".to_owned());
    resolve(
        &serde_json::from_value::<Document>(template).unwrap(),
        &context,
    )
}

#[test]
fn every_function_has_its_value() {
    for (value, expected) in [
        (json!({"Ref": "Name"}), json!("n")),
        (json!({"Ref": "Count"}), json!(3)),
        (json!({"Ref": "Zones"}), json!(["x", "y"])),
        (json!({"Ref": "Secret"}), json!("/path")),
        (json!({"Ref": "Stream"}), json!("s-Stream")),
        (json!({"Ref": "AWS::Region"}), json!("eu-central-1")),
        (
            json!({"Fn::GetAtt": ["Stream", "Arn"]}),
            json!("arn:aws:kinesis:eu-central-1:123456789012:stream/s-Stream"),
        ),
        (
            json!({"Fn::GetAtt": "Stream.Arn"}),
            json!("arn:aws:kinesis:eu-central-1:123456789012:stream/s-Stream"),
        ),
        (
            json!({"Fn::Sub": "${Name}-${Count} ${!Name} $ {x} ${Stream}"}),
            json!("n-3 ${Name} $ {x} s-Stream"),
        ),
        (
            json!({"Fn::Sub": ["${A}/${Name}/${Stream.Arn}", {"A": {"Ref": "AWS::Partition"}}]}),
            json!("aws/n/arn:aws:kinesis:eu-central-1:123456789012:stream/s-Stream"),
        ),
        (
            json!({"Fn::Join": ["-", ["a", {"Ref": "Count"}, {"Ref": "Name"}]]}),
            json!("a-3-n"),
        ),
        (json!({"Fn::Join": [",", {"Ref": "Zones"}]}), json!("x,y")),
        (
            json!({"Fn::Select": ["1", {"Fn::GetAZs": ""}]}),
            json!("eu-central-1b"),
        ),
        (json!({"Fn::Split": ["|", "a||b"]}), json!(["a", "", "b"])),
        (
            json!({"Fn::If": ["Yes", "yes", {"Ref": "Absent"}]}),
            json!("yes"),
        ),
        (
            json!({"Fn::If": ["No", {"Ref": "Absent"}, "no"]}),
            json!("no"),
        ),
        (json!({"Fn::If": ["Either", 1, 2]}), json!(1)),
        (
            json!([1, {"Ref": "AWS::NoValue"}, {"a": {"Fn::If": ["No", 1, {"Ref": "AWS::NoValue"}]}}]),
            json!([1, {}]),
        ),
        (json!({"Fn::FindInMap": ["M", "a", "b"]}), json!(["v"])),
        (
            json!({"Fn::FindInMap": ["M", "a", "c", {"DefaultValue": "d"}]}),
            json!("d"),
        ),
        (
            json!({"Fn::Base64": "any carnal pleas"}),
            json!("YW55IGNhcm5hbCBwbGVhcw=="),
        ),
        (json!({"Fn::Base64": ""}), json!("")),
        (
            json!({"Fn::Cidr": ["10.1.0.0/16", 3, 8]}),
            json!(["10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24"]),
        ),
        (
            json!({"Fn::Select": [1, {"Fn::Cidr": ["2001:db8::/56", 2, 64]}]}),
            json!("2001:db8:0:1::/64"),
        ),
        (
            json!({"Fn::ImportValue": {"Fn::Sub": "other-${X}"}}),
            Json::Null,
        ),
        (json!({"Fn::ImportValue": "other-value"}), json!("imported")),
        (json!("{{resolve:ssm:/a:1}}"), json!("{{resolve:ssm:/a:1}}")),
    ] {
        match with(value.clone()) {
            Ok(resolved) => {
                assert_eq!(
                    resolved.resources["It"].properties["P"], expected,
                    "{value}"
                );
                assert!(!resolved.resources.contains_key("Absent"));
            }
            Err(problems) => assert_eq!(expected, Json::Null, "{value}: {problems:?}"),
        }
    }
}

#[test]
fn every_problem_says_where_and_what_to_do() {
    for (value, expected) in [
        (
            json!({"Ref": "Straem"}),
            "It.Properties.P.Ref: `Straem` is neither a resource nor a parameter of this template",
        ),
        (
            json!({"Ref": "stream"}),
            "It.Properties.P.Ref: `stream` is neither a resource nor a parameter of this template: did you mean `Stream`",
        ),
        (
            json!([{"Ref": "Absent"}]),
            "It.Properties.P.0.Ref: `Absent` does not exist, because its condition `No` is false: refer to it only under Fn::If with that condition",
        ),
        (
            json!({"Fn::GetAtt": ["Stream", "Nothing"]}),
            "It.Properties.P.Fn::GetAtt: `Stream` of type AWS::Kinesis::Stream has no attribute `Nothing`: it has Arn",
        ),
        (
            json!({"Fn::GetAtt": ["It", "Arn"]}),
            "It.Properties.P.Fn::GetAtt: cannot derive attribute `Arn` of `It`, whose type Custom::Thing is not known here: pass it as an override",
        ),
        (
            json!({"Fn::Sub": "${"}),
            "It.Properties.P.Fn::Sub: `${` has no closing brace: write `${!` for a literal one",
        ),
        (
            json!({"Fn::Select": [7, ["a"]]}),
            "It.Properties.P.Fn::Select: index `7` is not in a list of 1 items",
        ),
        (
            json!({"Fn::GetAZs": "us-east-1"}),
            "It.Properties.P.Fn::GetAZs: asks for the zones of `us-east-1`, only those of `eu-central-1` are known",
        ),
        (
            json!({"Fn::FindInMap": ["M", "a", "z"]}),
            "It.Properties.P.Fn::FindInMap: no mapping holds M → a → z",
        ),
        (
            json!({"Fn::If": ["Maybe", 1, 2]}),
            "It.Properties.P.Fn::If: there is no condition `Maybe`",
        ),
        (
            json!({"Fn::Cidr": ["10.0.0.0/24", 4, 8]}),
            "It.Properties.P.Fn::Cidr: 4 blocks were asked for, only 1 fit",
        ),
        (
            json!({"Fn::ImportValue": "no"}),
            "It.Properties.P.Fn::ImportValue: no stack exports `no`: pass its value as an import",
        ),
        (
            json!({"Fn::Transform": {}}),
            "It.Properties.P.Fn::Transform: is not supported: only CloudFormation's own functions without Transform are",
        ),
        (
            json!({"Fn::Join": ["", "text"]}),
            "It.Properties.P.Fn::Join: got a text, expected a list",
        ),
        (
            json!({"Ref": "AWS::Nothing"}),
            "It.Properties.P.Ref: there is no pseudo parameter `AWS::Nothing`",
        ),
    ] {
        let problems = with(value).unwrap_err();
        assert_eq!(
            problems.iter().map(Problem::to_string).collect::<Vec<_>>(),
            [expected]
        );
    }
}

#[test]
fn all_problems_come_at_once() {
    let problems = with(json!({"a": {"Ref": "X"}, "b": [{"Ref": "Y"}, {"Fn::Sub": "${Z} ${W}"}]}));
    assert_eq!(problems.unwrap_err().len(), 4);
}

#[test]
fn parameters_are_checked_and_all_missing_ones_are_listed() {
    let document: Document = serde_json::from_value(json!({
        "Parameters": {
            "A": {"Type": "String"},
            "B": {"Type": "AWS::EC2::VPC::Id", "Description": "the VPC"},
            "C": {"Type": "String", "AllowedPattern": "[a-z]+"},
            "D": {"Type": "Number", "MaxValue": 5},
            "E": {"Type": "String", "AllowedValues": ["x", "y"]},
            "F": {"Type": "String", "MinLength": 3, "NoEcho": true},
            "G": {"Type": "Strnig"},
            "H": {"Type": "List<Number>"},
        },
        "Resources": {},
    }))
    .unwrap();
    let mut context = Context::new("1", "r", "s");
    for (name, value) in [
        ("C", "aB"),
        ("D", "6"),
        ("E", "z"),
        ("F", "pw"),
        ("H", "1,b"),
        ("Z", "?"),
    ] {
        context.parameters.insert(name.to_owned(), value.to_owned());
    }
    let problems = resolve(&document, &context).unwrap_err();
    assert_eq!(
        problems.iter().map(Problem::to_string).collect::<Vec<_>>(),
        [
            "Parameters.Z: a value was given, but the template declares only `A`, `B`, `C`, `D`, `E`, `F`, `G`, `H`",
            "Parameters.A: no value was given and there is no default (String)",
            "Parameters.B: no value was given and there is no default (the VPC)",
            "Parameters.C: `aB` does not match AllowedPattern `[a-z]+`",
            "Parameters.D: `6` is above MaxValue 5",
            "Parameters.E: `z` is not one of `x`, `y`",
            "Parameters.F: the value has 2 characters, MinLength is 3",
            "Parameters.G: unknown parameter type `Strnig`",
            "Parameters.H: `1,b` is not a number",
        ]
    );
}

#[test]
fn physical_ids_follow_each_services_rules() {
    let resolved = pipeline::edited(|_| {});
    for (id, expected) in [
        ("Archive", "sensors-test-archive"),
        ("Stream", "sensors-test-Stream"),
        ("Rule", "sensors_test_Rule"),
        ("Cache", "sensors-test-cache"),
        ("Alarms", "arn:aws:sns:eu-central-1:123456789012:Alarms"),
    ] {
        let got = &resolved.resources[id].physical_id;
        match id {
            "Alarms" => assert_eq!(
                got,
                "arn:aws:sns:eu-central-1:123456789012:sensors-test-Alarms"
            ),
            _ => assert_eq!(got, expected),
        }
    }
    for (id, prefix) in [
        ("Vpc", "vpc-"),
        ("PublicSubnet", "subnet-"),
        ("WebGroup", "sg-"),
    ] {
        let got = &resolved.resources[id].physical_id;
        let digits = got.strip_prefix(prefix).unwrap();
        assert!(
            digits.len() == 17 && digits.chars().all(|it| it.is_ascii_hexdigit()),
            "{got}"
        );
    }
    let log = resolved.resource("RuleErrors").unwrap();
    assert_eq!(
        log.arn(),
        Some("arn:aws:logs:eu-central-1:123456789012:log-group:sensors-test-RuleErrors:*")
    );
    let again = pipeline::edited(|_| {});
    assert!(
        resolved
            .resources
            .values()
            .zip(again.resources.values())
            .all(|(a, b)| a.physical_id == b.physical_id)
    );
}

#[test]
fn conditions_dependencies_and_outputs_are_resolved() {
    let resolved = pipeline::edited(|_| {});
    assert!(!resolved.resources.contains_key("ReplicaAlarmTopic"));
    let cache = &resolved.resources["Cache"];
    assert_eq!(cache.properties["NumCacheClusters"], 1);
    assert_eq!(cache.properties.get("AutomaticFailoverEnabled"), None);
    assert_eq!(cache.properties["CacheNodeType"], "cache.t4g.micro");
    assert_eq!(cache.depends_on, ["CacheSubnets", "CacheGroup"]);
    assert_eq!(
        resolved.resources["PublicSubnet"].properties["CidrBlock"],
        "10.0.0.0/24"
    );
    assert_eq!(
        resolved.outputs.keys().collect::<Vec<_>>(),
        ["StreamArn", "Url"]
    );
    assert!(resolved.exports.contains_key("sensors-test-stream"));
    let url = &resolved.resources["Function"].properties["Environment"]["Variables"]["REDIS_URL"];
    assert_eq!(
        url,
        "rediss://sensors-test-cache.primaryendpoint.elasticache.invalid:6379"
    );
    let order = resolved.creation_order();
    let place = |id: &str| order.iter().position(|it| *it == id).unwrap();
    for (id, resource) in &resolved.resources {
        assert!(
            resource.depends_on.iter().all(|it| place(it) < place(id)),
            "{id}"
        );
    }
}

#[test]
fn a_caller_can_override_ids_and_attributes() {
    let mut context = pipeline::context();
    let mut cache = Override::default();
    cache
        .attributes
        .insert("PrimaryEndPoint.Address".to_owned(), json!("127.0.0.1"));
    cache
        .attributes
        .insert("PrimaryEndPoint.Port".to_owned(), json!(7000));
    context.overrides.insert("Cache".to_owned(), cache);
    let archive = Override {
        physical_id: Some("kept".to_owned()),
        ..Override::default()
    };
    context.overrides.insert("Archive".to_owned(), archive);
    let resolved = resolve(&pipeline::document(|_| {}), &context).unwrap();
    let url = &resolved.resources["Function"].properties["Environment"]["Variables"]["REDIS_URL"];
    assert_eq!(url, "rediss://127.0.0.1:7000");
    assert_eq!(
        resolved.resources["Archive"].arn(),
        Some("arn:aws:s3:::kept")
    );
}

#[test]
fn placeholders_stand_for_what_is_not_known() {
    let mut context = pipeline::context();
    context.parameters.clear();
    context.missing_parameters = MissingParameters::Placeholder;
    context.naming = Naming::Logical;
    let resolved = resolve(&pipeline::document(|_| {}), &context).unwrap();
    let code = &resolved.resources["Function"].properties["Code"];
    assert_eq!(
        *code,
        json!({"S3Bucket": "{ArtifactsBucket}", "S3Key": "{FunctionKey}"})
    );
    assert_eq!(resolved.resources["WebGroup"].physical_id, "WebGroup");
    assert_eq!(resolved.outputs["Url"], "http://{Environment.EndpointURL}");
}

#[test]
fn a_cycle_is_named_with_its_members() {
    let problems = pipeline::problems(|template| {
        template["Resources"]["Vpc"]["DependsOn"] = json!("Gateway");
        template["Resources"]["Gateway"]["DependsOn"] = json!("PublicSubnet");
    });
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for id in ["Vpc", "Gateway", "PublicSubnet"] {
        assert!(problems[0].contains(id), "{problems:?}");
    }
    let problems = pipeline::problems(|template| {
        template["Resources"]["Stream"]["Properties"]["Name"] = json!({"Fn::Sub": "${Stream}-x"});
    });
    assert!(
        problems
            .iter()
            .any(|it| it.contains("`Stream.Name` refers to itself")),
        "{problems:?}"
    );
}

#[test]
fn dynamic_references_stay_and_are_listed() {
    let resolved = with(json!([
        "a {{resolve:ssm:/x}} b {{resolve:secretsmanager:y}}"
    ]))
    .unwrap();
    let found: Vec<&str> = resolved
        .dynamic_references
        .iter()
        .map(|it| it.reference.as_str())
        .collect();
    assert_eq!(
        found,
        ["{{resolve:ssm:/x}}", "{{resolve:secretsmanager:y}}"]
    );
    assert_eq!(resolved.dynamic_references[0].path, "Properties.P.0");
}
