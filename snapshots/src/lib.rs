//! Everything that is emitted, as the texts that the snapshots hold.
//!
//! `templates.rs` locks them; `cargo xtask review` compares them with the snapshots of another revision.
//! For each stage and stack the template itself, and beside it in plain text who may do what and who may
//! reach whom; what a choice that no stage takes changes in `prod`; and the bundle's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cfn::access;
use cfn::document::Document;
use cfn::resolve::{Context, Resolved, resolve};
use contract::oidc::Oidc;
use serde_json::Value as Json;
use stack::choices::{PROVIDER, own_key, signing_in, with_budget};
use stack::{Config, Stage, Synthesized};

/// One text: the folder and the name of its snapshot, without `.snap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Folder below `snapshots`: a stage, a choice, or `bundle`.
    pub folder: String,
    /// Name of the file, such as `sensors-dev.template`.
    pub name: String,
    /// The text.
    pub text: String,
}

/// A configuration that does not synthesise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEmitted {
    /// The stage, or the choice.
    pub what: String,
    /// Everything that is wrong.
    pub problems: String,
}

impl fmt::Display for NotEmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not synthesise:\n{}", self.what, self.problems)
    }
}

impl std::error::Error for NotEmitted {}

/// The texts of all snapshots, as the source emits them now.
///
/// # Errors
/// The first stage or choice that does not synthesise.
pub fn emitted() -> Result<Vec<Emitted>, NotEmitted> {
    let mut emitted = Vec::new();
    for stage in Stage::ALL {
        for stack in synth(&format!("stage {stage}"), &stage.config())? {
            let resolved = resolved(&stack)?;
            for (kind, text) in [
                ("permissions", access::permissions(&resolved)),
                ("reachability", access::reachability(&resolved)),
                ("template", stack.template.clone()),
            ] {
                emitted.push(Emitted::new(&stage.to_string(), &stack.name, kind, text));
            }
        }
    }
    let bootstrap = stack::bootstrap::synth()
        .map_err(|problems| NotEmitted::new("the bootstrap stack", &problems))?;
    for (kind, text) in [
        (
            "permissions",
            access::permissions(&resolved_in(&bootstrap, bootstrapped())?),
        ),
        ("template", bootstrap.template.clone()),
    ] {
        emitted.push(Emitted::new("bootstrap", &bootstrap.name, kind, text));
    }
    let prod = main("stage prod", &Stage::Prod.config())?;
    let own_key = main("prod with a key of its own", &own_key())?;
    let signing_in = main("prod with a sign-in", &signing_in())?;
    let budget = main("prod with a budget", &with_budget())?;
    let permissions = access::permissions(&resolved(&own_key)?);
    let reachability = access::reachability(&resolved(&signing_in)?);
    for (folder, stack, kind, text) in [
        ("own-key", &own_key, "permissions", permissions),
        (
            "own-key",
            &own_key,
            "difference",
            difference(&prod, &own_key),
        ),
        ("sign-in", &signing_in, "reachability", reachability),
        ("budget", &budget, "difference", difference(&prod, &budget)),
        (
            "sign-in",
            &signing_in,
            "difference",
            difference(&prod, &signing_in),
        ),
    ] {
        emitted.push(Emitted::new(folder, &stack.name, kind, text));
    }
    emitted.extend(
        [
            ("http", false, None),
            ("https", true, None),
            ("sign-in", true, Some(PROVIDER)),
        ]
        .map(|(name, redirect_to_https, sign_in)| bundle_files(name, redirect_to_https, sign_in)),
    );
    Ok(emitted)
}

impl Emitted {
    fn new(folder: &str, stack: &str, kind: &str, text: String) -> Emitted {
        Emitted {
            folder: folder.to_owned(),
            name: format!("{stack}.{kind}"),
            text,
        }
    }
}

fn synth(what: &str, config: &Config) -> Result<Vec<Synthesized>, NotEmitted> {
    stack::synth_with(config).map_err(|problems| NotEmitted::new(what, &problems))
}

/// The main stack, which is emitted last.
fn main(what: &str, config: &Config) -> Result<Synthesized, NotEmitted> {
    let last = synth(what, config)?.pop();
    last.ok_or_else(|| NotEmitted::new(what, &"no stack"))
}

/// The context of a bootstrap where a GitHub environment may deploy.
fn bootstrapped() -> Context {
    let mut context = access::context();
    context.parameters.insert(
        stack::bootstrap::GITHUB_SUBJECT.to_owned(),
        "repo:OWNER@1/REPOSITORY@2:environment:NAME".to_owned(),
    );
    context
}

fn resolved(stack: &Synthesized) -> Result<Resolved, NotEmitted> {
    resolved_in(stack, access::context())
}

fn resolved_in(stack: &Synthesized, context: Context) -> Result<Resolved, NotEmitted> {
    let document =
        Document::parse(&stack.template).map_err(|error| NotEmitted::new(&stack.name, &error))?;
    resolve(&document, &context).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        NotEmitted::new(&stack.name, &problems.join("\n"))
    })
}

impl NotEmitted {
    fn new(what: &str, problems: &dyn fmt::Display) -> NotEmitted {
        NotEmitted {
            what: what.to_owned(),
            problems: problems.to_string(),
        }
    }
}

/// The bundle's files, one after the other.
fn bundle_files(name: &str, redirect_to_https: bool, sign_in: Option<Oidc>) -> Emitted {
    let files = bundle::files(bundle::Settings {
        redirect_to_https,
        sign_in,
    });
    let texts: Vec<String> = files
        .iter()
        .map(|file| format!("==> {}\n{}", file.path, file.contents))
        .collect();
    Emitted {
        folder: "bundle".to_owned(),
        name: name.to_owned(),
        text: texts.join("\n"),
    }
}

/// What another choice changes in a template, value by value.
fn difference(before: &Synthesized, after: &Synthesized) -> String {
    let [before, after] = [before, after].map(|stack| {
        // What was synthesised is JSON.
        let template = serde_json::from_str(&stack.template).unwrap_or_default();
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
