//! Snapshots of everything emitted: what a reviewer of a pull request looks at.
//!
//! For each stage and stack the template itself, and beside it in plain text who may do what and who
//! may reach whom; and the bundle's files. Change them by `cargo insta review` only.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cfn::access;
use cfn::document::Document;
use cfn::integration::Declared;
use cfn::resolve::{Resolved, resolve};
use contract::oidc::Oidc;
use serde_json::Value as Json;
use snapshots::Emitted;
use stack::choices::{PROVIDER, signing_in};
use stack::{Config, Stage, Synthesized};

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
    for emitted in every_template() {
        for place in statements(&emitted.template) {
            let mut changed = emitted.template.clone();
            let (list, index) = place.pointer.rsplit_once('/').expect("is in a list");
            let list = changed.pointer_mut(list).and_then(Json::as_array_mut);
            let list = list.expect("statements are a list");
            list.remove(index.parse().expect("is a position"));
            emitted.check_named(&changed, &place, "a statement less", "");
        }
    }
}

#[test]
fn every_action_that_is_taken_away_is_missed() {
    for emitted in every_template() {
        for place in statements(&emitted.template) {
            let actions = emitted.actions(&place);
            for index in 0..actions {
                let mut changed = emitted.template.clone();
                let list = place.actions_mut(&mut changed);
                let removed = list.remove(index);
                if list.is_empty() {
                    list.push("none:Nothing".into());
                }
                emitted.check_named(&changed, &place, &format!("less {removed}"), "");
            }
        }
    }
}

#[test]
fn every_managed_policy_that_is_taken_away_is_missed() {
    for emitted in every_template() {
        let resources = emitted.template["Resources"]
            .as_object()
            .expect("has resources");
        for (logical_id, resource) in resources {
            let held = resource["Properties"]["ManagedPolicyArns"].as_array();
            for index in 0..held.map_or(0, Vec::len) {
                let pointer = format!("/Resources/{logical_id}/Properties/ManagedPolicyArns");
                let mut changed = emitted.template.clone();
                let list = changed.pointer_mut(&pointer).and_then(Json::as_array_mut);
                let removed = list.expect("is a list").remove(index);
                let place = Place {
                    logical_id: logical_id.clone(),
                    pointer,
                };
                emitted.check_named(&changed, &place, &format!("less {removed}"), "");
            }
        }
    }
}

#[test]
fn every_action_too_many_is_noticed() {
    // Two that nothing needs, one of a service that most roles use and one that no role does.
    for emitted in every_template() {
        for place in statements(&emitted.template) {
            for action in ["s3:DeleteObject", "dynamodb:Scan"] {
                let mut changed = emitted.template.clone();
                place.actions_mut(&mut changed).push(action.into());
                emitted.check_named(&changed, &place, &format!("more {action}"), action);
            }
        }
    }
}

#[test]
fn every_statement_too_many_is_noticed() {
    // What nobody should be let do, by whoever a policy can admit.
    for emitted in every_template() {
        for place in statements(&emitted.template) {
            let of = |name: &str| {
                emitted
                    .template
                    .pointer(&format!("{}/{name}", place.pointer))
            };
            let principals: &[Json] = match of("Principal") {
                None => &[Json::Null],
                Some(_) => &[
                    "*".into(),
                    serde_json::json!({ "AWS": "arn:aws:iam::210987654321:root" }),
                    serde_json::json!({ "AWS": "arn:aws:iam::123456789012:user/somebody" }),
                    serde_json::json!({ "Service": "ec2.amazonaws.com" }),
                ],
            };
            for principal in principals {
                let mut statement = emitted.template.pointer(&place.pointer).cloned();
                let statement = statement.as_mut().expect("is there");
                let members = statement.as_object_mut().expect("is an object");
                members.remove("Condition");
                members.insert("Effect".to_owned(), "Allow".into());
                if principal.is_null() {
                    members.insert("Action".to_owned(), serde_json::json!(["iam:PassRole"]));
                } else {
                    members.insert("Principal".to_owned(), principal.clone());
                }
                let mut changed = emitted.template.clone();
                let (list, _) = place.pointer.rsplit_once('/').expect("is in a list");
                let list = changed.pointer_mut(list).and_then(Json::as_array_mut);
                list.expect("statements are a list").push(statement.take());
                // Instances of EC2 are whom one role is for.
                let is_needed =
                    principal.to_string().contains("ec2.") && place.logical_id == "WebInstanceRole";
                if !is_needed {
                    emitted.check_named(&changed, &place, &format!("for {principal}"), "");
                }
            }
        }
    }
}

/// A template, and what is called that it does not say.
struct Checked {
    name: String,
    template: Json,
    declared: Declared,
}

impl Checked {
    fn actions(&self, place: &Place) -> usize {
        let actions = self.template.pointer(&format!("{}/Action", place.pointer));
        actions.and_then(Json::as_array).map_or(0, Vec::len)
    }

    /// Some problem of the changed template must name the place's resource (for a policy at least what
    /// it is attached to) and the text.
    #[track_caller]
    fn check_named(&self, changed: &Json, place: &Place, what: &str, text: &str) {
        let problems = stack::permission_problems(&changed.to_string(), &self.declared);
        let logical_id = place.logical_id.as_str();
        let named = |problem: &cfn::Problem| {
            let told = problem.to_string();
            let name = logical_id.trim_end_matches("Policy");
            told.contains(name) && told.contains(text)
        };
        assert!(
            problems.iter().any(named),
            "{}: {what} in {} of {logical_id}, and nobody says so: {problems:?}",
            self.name,
            place.pointer
        );
    }
}

/// A policy statement of a template.
struct Place {
    logical_id: String,
    pointer: String,
}

impl Place {
    fn actions_mut<'a>(&self, template: &'a mut Json) -> &'a mut Vec<Json> {
        let list = template.pointer_mut(&format!("{}/Action", self.pointer));
        list.and_then(Json::as_array_mut).expect("is a list")
    }
}

/// The statements of all policies of a template: of roles, of who may assume them, of resources, of devices.
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
    let mut places = Vec::new();
    for (logical_id, resource) in resources {
        let mut found = Vec::new();
        find(&format!("/Resources/{logical_id}"), resource, &mut found);
        places.extend(found.into_iter().map(|pointer| Place {
            logical_id: logical_id.clone(),
            pointer,
        }));
    }
    assert!(!places.is_empty(), "no statements are found");
    places
}

/// Both stacks of all stages, and the main one of `prod` with the choices that it does not take.
fn every_template() -> Vec<Checked> {
    let checked = |name: String, stack: &Synthesized, declared: Declared| Checked {
        name,
        template: serde_json::from_str(&stack.template).expect("a template is JSON"),
        declared,
    };
    let mut all = Vec::new();
    for stage in Stage::ALL {
        let stacks = synth(stage);
        all.push(checked(
            format!("{stage}'s artifacts"),
            &stacks[0],
            Declared::default(),
        ));
        let declared = stack::declared::main(&stage.config());
        all.push(checked(stage.to_string(), &main(stacks), declared));
    }
    for (name, config) in stack::choices::all() {
        let declared = stack::declared::main(&config);
        let main = main(synth_with(&config));
        all.push(checked(format!("prod with {name}"), &main, declared));
    }
    all
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
    snapshots::emitted().unwrap_or_else(|problem| panic!("{problem}"))
}

/// A change that waits for `cargo insta review`; CI fails on it by itself.
fn is_pending(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "new")
}
