//! Snapshots of everything emitted: what a reviewer of a pull request looks at.
//!
//! For each stage and stack the template itself, and beside it in plain text who may do what and who
//! may reach whom; and the bundle's files. Change them by `cargo insta review` only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cfn::access;
use cfn::document::Document;
use cfn::resolve::{Resolved, resolve};
use contract::oidc::{Oidc, Secret};
use serde_json::Value as Json;
use stack::config::Encryption;
use stack::{Config, Stage, Synthesized};

/// One snapshot: its folder, its name and its text.
struct Emitted {
    folder: String,
    name: String,
    text: String,
}

#[test]
fn what_is_emitted_is_what_was_reviewed() {
    // Collected first, so that one change shows in all snapshots at once.
    let failures: Vec<String> = emitted()
        .into_iter()
        .filter_map(|Emitted { folder, name, text }| {
            let mut settings = insta::Settings::clone_current();
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings.set_snapshot_path(&folder);
            let assertion = || settings.bind(|| insta::assert_snapshot!(name.as_str(), text));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(assertion))
                .err()
                .map(|_| format!("{folder}/{name}"))
        })
        .collect();
    assert!(
        failures.is_empty(),
        "changed: {}; look at each with `cargo insta review`",
        failures.join(", ")
    );
}

#[test]
fn no_snapshot_is_left_over() {
    let expected: BTreeSet<PathBuf> = emitted()
        .into_iter()
        .map(|Emitted { folder, name, .. }| Path::new(&folder).join(format!("{name}.snap")))
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders: BTreeSet<String> = emitted()
        .into_iter()
        .map(|emitted| emitted.folder)
        .collect();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root).expect("the package's folder is readable") {
        let entry = entry.expect("the package's folder is readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && name != "src" {
            assert!(
                folders.contains(&name),
                "snapshots/{name} belongs to nothing that is emitted: remove the folder"
            );
            for file in std::fs::read_dir(entry.path()).expect("a folder of snapshots is readable")
            {
                found.insert(
                    Path::new(&name)
                        .join(file.expect("a folder of snapshots is readable").file_name()),
                );
            }
        }
    }
    let stale: Vec<&PathBuf> = found
        .difference(&expected)
        .filter(|path| !is_pending(path))
        .collect();
    assert!(
        stale.is_empty(),
        "snapshots of nothing that is emitted, remove them: {stale:?}"
    );
}

#[test]
fn no_snapshot_names_a_hash_a_date_an_account_or_a_machine() {
    for Emitted { folder, name, text } in emitted() {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
            let digits = word.bytes().all(|byte| byte.is_ascii_digit());
            assert!(
                !(digits && word.len() == 12),
                "{folder}/{name} names the account {word}"
            );
            let hexadecimal = word.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(
                !(hexadecimal && word.len() >= 32),
                "{folder}/{name} holds the hash {word}"
            );
        }
        assert!(
            !text.contains(env!("CARGO_MANIFEST_DIR")),
            "{folder}/{name} names a folder of this machine"
        );
    }
}

#[test]
fn two_syntheses_give_the_same_bytes() {
    for stage in Stage::ALL {
        assert_eq!(synth(stage), synth(stage));
    }
}

#[test]
fn environment_variables_set_are_environment_variables_read() {
    for stage in Stage::ALL {
        let resolved = main_stack(stage);
        let function = resolved
            .resource("Function")
            .expect("the function is called Function");
        let set: BTreeSet<String> = match function.property("/Environment/Variables") {
            Some(Json::Object(variables)) => variables.keys().cloned().collect(),
            _ => BTreeSet::new(),
        };
        assert_eq!(
            set,
            names(contract::environment::FUNCTION),
            "of the function in {stage}"
        );

        let environment = resolved
            .resource("DashboardEnvironment")
            .expect("the environment is called DashboardEnvironment");
        let set: BTreeSet<String> = environment
            .items("/OptionSettings")
            .iter()
            .filter(|option| option["Namespace"] == "aws:elasticbeanstalk:application:environment")
            .filter_map(|option| option["OptionName"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(
            set,
            names(contract::environment::WEBUI),
            "of the web UI in {stage}"
        );
    }
}

#[test]
fn function_and_web_ui_reach_the_cache_and_nothing_else_does() {
    use cfn::network::{Endpoint, Protocol, reachable};
    for stage in Stage::ALL {
        let resolved = main_stack(stage);
        let of = |logical_id| Endpoint::of(&resolved, logical_id).expect("stands in the network");
        let (function, web, cache) = (of("Function"), of("DashboardEnvironment"), of("Cache"));
        let balancer =
            Endpoint::balancer(&resolved, "DashboardEnvironment").expect("has a balancer");
        let open = |from: &Endpoint, to: &Endpoint, port| {
            reachable(&resolved, from, to, Protocol::Tcp, port).is_ok()
        };
        assert!(open(&function, &cache, 6379), "{stage}: function to cache");
        assert!(open(&web, &cache, 6379), "{stage}: web UI to cache");
        assert!(open(&balancer, &web, 80), "{stage}: balancer to web UI");
        assert!(
            open(&Endpoint::internet(), &balancer, 80),
            "{stage}: internet to balancer"
        );
        assert!(
            open(&web, &Endpoint::internet(), 443),
            "{stage}: web UI to Beanstalk"
        );
        assert!(!open(&balancer, &cache, 6379), "{stage}: balancer to cache");
        assert!(
            !open(&Endpoint::internet(), &web, 80),
            "{stage}: internet to web UI"
        );
        assert!(
            !open(&Endpoint::internet(), &cache, 6379),
            "{stage}: internet to cache"
        );
        assert!(
            !open(&function, &Endpoint::internet(), 443),
            "{stage}: function to internet"
        );
        assert!(!open(&function, &web, 80), "{stage}: function to web UI");
    }
}

#[test]
fn balancer_reaches_the_identity_provider_only_where_it_signs_in() {
    use cfn::network::{Endpoint, Protocol, reachable};
    let reaches = |stack: &Synthesized| {
        let resolved = resolved(stack);
        let balancer =
            Endpoint::balancer(&resolved, "DashboardEnvironment").expect("has a balancer");
        let open = |port| {
            let internet = Endpoint::internet();
            reachable(&resolved, &balancer, &internet, Protocol::Tcp, port).is_ok()
        };
        (open(443), open(80))
    };
    let mut everywhere = signing_in();
    everywhere.dashboard.sign_in = Some(Oidc {
        provider_cidrs: &["0.0.0.0/0"],
        ..PROVIDER
    });
    for stage in Stage::ALL {
        assert_eq!(reaches(&main(synth(stage))), (false, false), "{stage}");
    }
    assert_eq!(reaches(&main(synth_with(&everywhere))), (true, false));
    // Ranges of the provider are not the whole internet.
    assert_eq!(reaches(&main(synth_with(&signing_in()))), (false, false));
}

#[test]
fn secret_of_the_sign_in_is_only_ever_a_reference() {
    let emitted: String = emitted().into_iter().map(|it| it.text).collect();
    let references = emitted.matches("{{resolve:secretsmanager:").count();
    assert_eq!(emitted.matches("\"ClientSecret\": ").count(), references);
    assert!(references > 0, "the sign-in names its secret");
}

#[test]
fn every_statement_that_is_taken_away_is_missed() {
    // What instances do in Beanstalk's own bucket is granted as AWS's policy for web tiers gives it;
    // which of it an instance needs is not published call by call.
    const NOT_KNOWN_TO_BE_NEEDED: &[&str] = &["BeanstalkBucketList", "BeanstalkBucketObjects"];
    for (stage, template) in main_templates() {
        let resources = template["Resources"]
            .as_object()
            .expect("a template has resources");
        for (logical_id, resource) in resources
            .iter()
            .filter(|(_, resource)| resource["Type"] == "AWS::IAM::Role")
        {
            let policies = resource["Properties"]["Policies"]
                .as_array()
                .map_or(0, Vec::len);
            for index in 0..policies {
                let mut changed = template.clone();
                let list = changed["Resources"][logical_id]["Properties"]["Policies"]
                    .as_array_mut()
                    .expect("is a list");
                let removed = list.remove(index);
                let name = removed["PolicyName"].as_str().expect("a policy has a name");
                if NOT_KNOWN_TO_BE_NEEDED.contains(&name) {
                    continue;
                }
                let problems = stack::permission_problems(&changed.to_string());
                let named = problems
                    .iter()
                    .any(|problem| problem.to_string().contains(logical_id.as_str()));
                assert!(
                    named,
                    "{stage}: nobody misses {name} of {logical_id}, only: {problems:?}"
                );
            }
        }
    }
}

#[test]
fn every_action_that_is_taken_away_is_missed() {
    // As above, and what is allowed beyond need: CloudWatch Logs' agent asks for groups only to list them.
    const NOT_KNOWN_TO_BE_NEEDED: &[&str] = &[
        "s3:GetBucketLocation",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:PutObject",
        "logs:DescribeLogGroups",
    ];
    for (stage, template) in main_templates() {
        for place in statements(&template) {
            let Place {
                logical_id,
                pointer,
            } = &place;
            let is_role = template["Resources"][logical_id]["Type"] == "AWS::IAM::Role";
            let actions = template.pointer(&format!("{pointer}/Action"));
            let actions = actions.and_then(Json::as_array).map_or(0, Vec::len);
            let denies = template.pointer(&format!("{pointer}/Effect")) == Some(&"Deny".into());
            // What a device, a person or the account itself may do follows from no setting.
            let follows = is_role || calls_of_services(&template, pointer);
            if denies || !follows {
                continue;
            }
            for index in 0..actions {
                let mut changed = template.clone();
                let list = changed.pointer_mut(&format!("{pointer}/Action"));
                let list = list.and_then(Json::as_array_mut).expect("is a list");
                let action = list.remove(index);
                let action = action.as_str().expect("an action is text");
                if list.is_empty() {
                    list.push("none:Nothing".into());
                }
                if logical_id == "WebInstanceRole" && NOT_KNOWN_TO_BE_NEEDED.contains(&action) {
                    continue;
                }
                let problems = stack::permission_problems(&changed.to_string());
                let named = |problem: &cfn::Problem| {
                    let text = problem.to_string();
                    text.contains(logical_id.as_str())
                        || text.contains(logical_id.trim_end_matches("Policy"))
                };
                assert!(
                    problems.iter().any(named),
                    "{stage}: nobody misses {action} of {logical_id}, only: {problems:?}"
                );
            }
        }
    }
}

#[test]
fn every_action_too_many_is_noticed() {
    // Two that nothing needs, one of a service that most roles use and one that no role does.
    for (stage, template) in main_templates() {
        for Place {
            logical_id,
            pointer,
        } in statements(&template)
        {
            let denies = template.pointer(&format!("{pointer}/Effect")) == Some(&"Deny".into());
            let is_role = template["Resources"][&logical_id]["Type"] == "AWS::IAM::Role";
            if denies || !(is_role || calls_of_services(&template, &pointer)) {
                continue;
            }
            for action in ["s3:DeleteObject", "dynamodb:Scan"] {
                let mut changed = template.clone();
                let list = changed.pointer_mut(&format!("{pointer}/Action"));
                let list = list.and_then(Json::as_array_mut).expect("is a list");
                list.push(action.into());
                let problems = stack::permission_problems(&changed.to_string());
                let named = |problem: &cfn::Problem| {
                    let text = problem.to_string();
                    text.contains(&logical_id) && text.contains(action)
                };
                assert!(
                    problems.iter().any(named),
                    "{stage}: {logical_id} may {action} ({pointer}), and nobody says so: {problems:?}"
                );
            }
        }
    }
}

/// A policy statement of a template.
struct Place {
    logical_id: String,
    pointer: String,
}

/// The statements of all policies that the template's settings can be held against; a device's policy
/// follows from what devices do.
fn statements(template: &Json) -> Vec<Place> {
    fn find(pointer: &str, value: &Json, found: &mut Vec<String>) {
        match value {
            Json::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    find(&format!("{pointer}/{index}"), item, found);
                }
            }
            Json::Object(members) => {
                if members.contains_key("Effect") && members.contains_key("Action") {
                    found.push(pointer.to_owned());
                }
                for (name, member) in members {
                    find(&format!("{pointer}/{name}"), member, found);
                }
            }
            _ => {}
        }
    }
    let resources = template["Resources"].as_object().expect("has resources");
    let resources = resources
        .iter()
        .filter(|(_, resource)| resource["Type"] != "AWS::IoT::Policy");
    let mut places = Vec::new();
    for (logical_id, resource) in resources {
        let mut found = Vec::new();
        find(&format!("/Resources/{logical_id}"), resource, &mut found);
        places.extend(found.into_iter().map(|pointer| Place {
            logical_id: logical_id.clone(),
            pointer,
        }));
    }
    assert!(places.len() > 20, "few statements are found");
    places
}

/// Whether a statement is about what AWS's services may do.
fn calls_of_services(template: &Json, pointer: &str) -> bool {
    let principal = template.pointer(&format!("{pointer}/Principal"));
    principal.is_some_and(|principal| principal.get("Service").is_some())
}

/// The main stacks of all stages, and of `prod` with the choices that it does not take.
fn main_templates() -> Vec<(String, Json)> {
    let stages = Stage::ALL.map(|stage| (stage.to_string(), main(synth(stage))));
    let others = [(
        "prod with its own key".to_owned(),
        main(synth_with(&own_key())),
    )];
    stages
        .into_iter()
        .chain(others)
        .map(|(name, main)| {
            let template = serde_json::from_str(&main.template).expect("a template is JSON");
            (name, template)
        })
        .collect()
}

/// `prod`, signing visitors in at the balancer.
fn signing_in() -> Config {
    let mut config = Stage::Prod.config();
    config.dashboard.sign_in = Some(PROVIDER);
    config
}

/// An identity provider that does not exist.
const PROVIDER: Oidc = Oidc {
    issuer: "https://id.example.com/tenant",
    authorization_endpoint: "https://id.example.com/tenant/authorize",
    token_endpoint: "https://id.example.com/tenant/token",
    user_info_endpoint: "https://id.example.com/tenant/userinfo",
    client_id: "sensors-dashboard",
    client_secret: Secret {
        name: "sensors/prod/oidc",
        key: "clientSecret",
    },
    scope: "openid email",
    session_seconds: 28_800,
    provider_cidrs: &["192.0.2.0/24", "198.51.100.0/24"],
};

/// `prod`, with a key of our own.
fn own_key() -> Config {
    Config {
        encryption: Encryption::OwnKey,
        ..Stage::Prod.config()
    }
}

#[test]
fn timeouts_are_in_order_in_the_template() {
    for stage in Stage::ALL {
        let resolved = main_stack(stage);
        let number = |logical_id: &str, pointer: &str| {
            let resource = resolved.resource(logical_id).expect("is emitted");
            resource
                .text(pointer)
                .and_then(|text| text.parse::<u64>().ok())
                .expect("is a number")
        };
        let timeout = number("Function", "/Timeout");
        let attempts = number("FunctionEventSource", "/MaximumRetryAttempts") + 1;
        let age = number("FunctionEventSource", "/MaximumRecordAgeInSeconds");
        let retention = number("SensorStream", "/RetentionPeriodHours") * 3600;
        assert!(
            contract::timing::LONGEST_CACHE_OUTAGE.as_secs() <= timeout * attempts,
            "{stage}: outage"
        );
        assert!(
            timeout * attempts < age,
            "{stage}: {timeout} s × {attempts} < {age} s"
        );
        assert!(age < retention, "{stage}: {age} s < {retention} s");
        assert!(
            retention < contract::timing::WATERMARK_TTL.as_secs(),
            "{stage}: a replayed stream finds its watermarks"
        );
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn synth(stage: Stage) -> Vec<Synthesized> {
    stack::synth(stage).unwrap_or_else(|problems| panic!("{stage} has problems:\n{problems}"))
}

fn synth_with(config: &Config) -> Vec<Synthesized> {
    stack::synth_with(config).unwrap_or_else(|problems| panic!("has problems:\n{problems}"))
}

/// The main one of a stage's stacks.
fn main(mut stacks: Vec<Synthesized>) -> Synthesized {
    stacks.pop().expect("the main stack is emitted last")
}

fn main_stack(stage: Stage) -> Resolved {
    resolved(&main(synth(stage)))
}

fn resolved(stack: &Synthesized) -> Resolved {
    let document = Document::parse(&stack.template).expect("what is emitted can be read");
    resolve(&document, &access::context()).unwrap_or_else(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!(
            "{} cannot be resolved:\n{}",
            stack.name,
            problems.join("\n")
        )
    })
}

fn emitted() -> Vec<Emitted> {
    let mut emitted = Vec::new();
    for stage in Stage::ALL {
        for stack in synth(stage) {
            let resolved = resolved(&stack);
            let mut add = |kind: &str, text: String| {
                emitted.push(Emitted {
                    folder: stage.to_string(),
                    name: format!("{}.{kind}", stack.name),
                    text,
                });
            };
            add("permissions", access::permissions(&resolved));
            add("reachability", access::reachability(&resolved));
            add("template", stack.template.clone());
        }
    }
    let (prod, own_key) = (main(synth(Stage::Prod)), main(synth_with(&own_key())));
    for (name, text) in [
        ("permissions", access::permissions(&resolved(&own_key))),
        ("difference", difference(&prod, &own_key)),
    ] {
        emitted.push(Emitted {
            folder: "own-key".to_owned(),
            name: format!("{}.{name}", own_key.name),
            text,
        });
    }
    let signing_in = main(synth_with(&signing_in()));
    for (name, text) in [
        ("reachability", access::reachability(&resolved(&signing_in))),
        ("difference", difference(&prod, &signing_in)),
    ] {
        emitted.push(Emitted {
            folder: "sign-in".to_owned(),
            name: format!("{}.{name}", signing_in.name),
            text,
        });
    }
    for (name, redirect_to_https, sign_in) in [
        ("http", false, None),
        ("https", true, None),
        ("sign-in", true, Some(PROVIDER)),
    ] {
        let files = bundle::files(bundle::Settings {
            redirect_to_https,
            sign_in,
        });
        let text = files
            .iter()
            .map(|file| format!("==> {}\n{}", file.path, file.contents))
            .collect::<Vec<_>>()
            .join("\n");
        emitted.push(Emitted {
            folder: "bundle".to_owned(),
            name: name.to_owned(),
            text,
        });
    }
    emitted
}

/// What another choice changes in a template, value by value.
fn difference(before: &Synthesized, after: &Synthesized) -> String {
    let [before, after] = [before, after].map(|stack| {
        let template = serde_json::from_str(&stack.template).expect("a template is JSON");
        let mut values = BTreeMap::new();
        flatten(String::new(), &template, &mut values);
        values
    });
    let places: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut text = String::new();
    for place in places {
        let (old, new) = (before.get(place), after.get(place));
        if old == new {
            continue;
        }
        for (sign, value) in [('-', old), ('+', new)] {
            if let Some(value) = value {
                text.push_str(&format!("{sign} {place} {value}\n"));
            }
        }
    }
    text
}

/// The values of a template by where they stand; an intrinsic function is one value.
fn flatten(place: String, value: &Json, values: &mut BTreeMap<String, String>) {
    let is_intrinsic = |name: &String| name == "Ref" || name.starts_with("Fn::");
    match value {
        Json::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                flatten(format!("{place}/{index}"), item, values);
            }
        }
        Json::Object(members) if !members.is_empty() && !members.keys().any(is_intrinsic) => {
            for (name, member) in members {
                flatten(format!("{place}/{name}"), member, values);
            }
        }
        value => {
            values.insert(place, value.to_string());
        }
    }
}

/// A change that waits for `cargo insta review`; CI fails on it by itself.
fn is_pending(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "new")
}
