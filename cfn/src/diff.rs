//! Effects of a template's change on each resource, on permissions, and on the network.
//!
//! Both sides are resolved with placeholders ([`crate::access::context`]) and the given parameters, so that
//! moved lines, another order and another notation of a value are not changes.
//! A change of a create-only property replaces the resource. A resource whose create-only property refers
//! to a replaced one is also replaced.
//!
//! CloudFormation decides some replacements ("conditional") during the update; here they count as
//! replacements.
//!
//! Layout: this file has the types and compares resources; `lines` compares permissions and network paths;
//! `rename` finds renamed resources.

mod lines;
mod rename;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::access::{self, permission_rows, reachability_rows};
use crate::document::Document;
use crate::resolve::{Problem, Resolved, ResolvedResource, resolve};

pub use lines::Lines;

/// A template and its parameters; a parameter without a value keeps a placeholder.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The template
    pub document: &'a Document,
    /// Its parameters' values
    pub parameters: &'a BTreeMap<String, String>,
}

/// Properties of resource types that the caller knows.
#[derive(Clone, Copy)]
pub struct Types<'a> {
    /// Paths of a type's create-only properties, as the registry schemas have them
    /// (`/properties/VpcConfig/SubnetIds`) or dotted.
    pub create_only: &'a dyn Fn(&str) -> Vec<String>,
    /// Data that is lost with a resource of the type, in a few words, if any.
    pub state: &'a dyn Fn(&str) -> Option<String>,
}

/// All changes between two templates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Changed resources by logical ID: first those of the new template in its order, then removed ones.
    pub resources: IndexMap<String, Change>,
    /// New logical ID → old one, of each added resource that nearly equals a removed one of its type. Both are
    /// also in `resources`, because to CloudFormation they are two resources.
    pub renamed: IndexMap<String, String>,
    /// Permissions
    pub permissions: Lines,
    /// Network paths
    pub network: Lines,
    /// Outputs that are added, changed or removed
    pub outputs: Vec<OutputChange>,
}

/// An output that is added, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputChange {
    /// Name
    pub name: String,
    /// Value before; `None` if it is added.
    pub before: Option<String>,
    /// Value after; `None` if it is removed.
    pub after: Option<String>,
}

/// Change of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Type; the new one if it changes
    pub r#type: String,
    /// Kind of change
    pub action: Action,
    /// Settings that differ; empty for an added or removed resource, unless it is renamed.
    pub settings: Vec<Setting>,
    /// Data that is lost with the old resource, if it has any and is not kept.
    pub lost: Option<String>,
}

/// The kind of a [`Change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is added.
    Add,
    /// It is updated.
    Update,
    /// It is replaced by a new one.
    Replace {
        /// The settings that cause it.
        because: Vec<String>,
        /// Disposition of the old one.
        old: Disposition,
    },
    /// It is removed.
    Remove(Disposition),
}

/// Disposition of a resource that leaves the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It is deleted.
    Deleted,
    /// It is kept outside of the stack.
    Kept,
    /// It is deleted after a snapshot.
    Snapshot,
}

impl fmt::Display for Disposition {
    /// A phrase that completes "the old one is …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Disposition::Deleted => "deleted",
            Disposition::Kept => "kept outside of the stack",
            Disposition::Snapshot => "deleted after a snapshot",
        })
    }
}

/// Paths of a type's create-only properties by the registry schemas, for [`Types::create_only`].
pub fn create_only(r#type: &str) -> Vec<String> {
    crate::resources::metadata(r#type).map_or_else(Vec::new, |shape| {
        let paths = shape.create_only.iter();
        paths.map(|path| (*path).to_owned()).collect()
    })
}

/// A setting that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Such as `Properties.ShardCount` or `DeletionPolicy`
    pub path: String,
    /// Value before; `None` if it was not set.
    pub before: Option<Json>,
    /// Value after; `None` if it is not set.
    pub after: Option<Json>,
    /// Whether the difference replaces the resource.
    pub replaces: bool,
}

impl Changes {
    /// Whether nothing changes at all.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Whether a reviewer must check it: something is replaced, removed or widened.
    pub fn is_grave(&self) -> bool {
        let gone =
            |change: &Change| matches!(change.action, Action::Replace { .. } | Action::Remove(_));
        self.resources.values().any(gone)
            || !self.permissions.widened.is_empty()
            || !self.network.widened.is_empty()
    }
}

/// Compares two templates.
///
/// # Errors
/// The problems of the side that cannot be resolved.
pub fn diff(before: Side<'_>, after: Side<'_>, types: Types<'_>) -> Result<Changes, Vec<Problem>> {
    let side = |side: Side<'_>| {
        let mut context = access::context();
        let declared = |name: &&String| side.document.parameters.contains_key(*name);
        let names = side.parameters.keys().filter(declared);
        context.parameters = names
            .map(|name| (name.clone(), side.parameters[name].clone()))
            .collect();
        resolve(side.document, &context)
    };
    let (old, new) = (side(before)?, side(after)?);
    let mut resources = IndexMap::new();
    for (id, resource) in &new.resources {
        let change = match old.resources.get(id) {
            Some(previous) => compare(previous, resource, types),
            None => Some(Change {
                r#type: resource.r#type.clone(),
                action: Action::Add,
                settings: Vec::new(),
                lost: None,
            }),
        };
        resources.extend(change.map(|change| (id.clone(), change)));
    }
    follow(&old, &new, after.document, types, &mut resources);
    for (id, resource) in &old.resources {
        if !new.resources.contains_key(id) {
            let disposition = disposition(resource.deletion_policy.as_deref());
            let change = Change {
                r#type: resource.r#type.clone(),
                action: Action::Remove(disposition),
                settings: Vec::new(),
                lost: (disposition == Disposition::Deleted)
                    .then(|| (types.state)(&resource.r#type))
                    .flatten(),
            };
            resources.insert(id.clone(), change);
        }
    }
    let ids: Vec<&String> = new.resources.keys().chain(old.resources.keys()).collect();
    resources.sort_by_cached_key(|id, _| ids.iter().position(|it| *it == id));
    let named = |resolved, document| rename::Side {
        resolved,
        referrers: referrers(document),
    };
    let renamed = rename::find(&named(&old, before.document), &named(&new, after.document));
    for (id, previous) in &renamed {
        let previous = rename::as_renamed(&old.resources[previous], &renamed);
        if let Some(differences) = compare(&previous, &new.resources[id], types)
            && let Some(change) = resources.get_mut(id)
        {
            change.settings = differences.settings;
        }
    }
    let rows = |rows| lines::renamed(rows, &renamed);
    let permissions = Lines::of_permissions(rows(permission_rows(&old)), permission_rows(&new));
    let network = Lines::of_network(rows(reachability_rows(&old)), reachability_rows(&new));
    Ok(Changes {
        resources,
        renamed,
        permissions,
        network,
        outputs: outputs(&old, &new),
    })
}

/// Differences of a resource in both templates; `None` if there are none.
fn compare(old: &ResolvedResource, new: &ResolvedResource, types: Types<'_>) -> Option<Change> {
    let mut settings = Vec::new();
    if old.r#type != new.r#type {
        settings.push(Setting {
            path: "Type".to_owned(),
            before: Some(old.r#type.clone().into()),
            after: Some(new.r#type.clone().into()),
            replaces: true,
        });
    } else {
        let create_only = CreateOnly::of(types, &new.r#type);
        let (old, new) = (Some(&old.properties), Some(&new.properties));
        differences("Properties", old, new, &mut |path, before, after| {
            settings.push(Setting {
                replaces: create_only.covers(path),
                path: path.to_owned(),
                before: before.cloned(),
                after: after.cloned(),
            });
        });
    }
    let attributes = [
        ("DeletionPolicy", &old.deletion_policy, &new.deletion_policy),
        (
            "UpdateReplacePolicy",
            &old.update_replace_policy,
            &new.update_replace_policy,
        ),
    ];
    for (path, before, after) in attributes {
        if before != after {
            settings.push(Setting {
                path: path.to_owned(),
                before: before.clone().map(Json::String),
                after: after.clone().map(Json::String),
                replaces: false,
            });
        }
    }
    (!settings.is_empty()).then(|| change(new, settings, types))
}

fn change(new: &ResolvedResource, settings: Vec<Setting>, types: Types<'_>) -> Change {
    let because: Vec<String> = settings
        .iter()
        .filter(|it| it.replaces)
        .map(|it| it.path.clone())
        .collect();
    let old = disposition(new.update_replace_policy.as_deref());
    let replaced = !because.is_empty();
    Change {
        r#type: new.r#type.clone(),
        action: if replaced {
            Action::Replace { because, old }
        } else {
            Action::Update
        },
        settings,
        lost: (replaced && old == Disposition::Deleted)
            .then(|| (types.state)(&new.r#type))
            .flatten(),
    }
}

fn disposition(policy: Option<&str>) -> Disposition {
    match policy {
        Some("Retain" | "RetainExceptOnCreate") => Disposition::Kept,
        Some("Snapshot") => Disposition::Snapshot,
        _ => Disposition::Deleted,
    }
}

/// Propagates replacements to the resources that refer to a replaced one.
fn follow(
    old: &Resolved,
    new: &Resolved,
    document: &Document,
    types: Types<'_>,
    changes: &mut IndexMap<String, Change>,
) {
    loop {
        let replaced: BTreeSet<String> = changes
            .iter()
            .filter(|(_, change)| matches!(change.action, Action::Replace { .. }))
            .map(|(id, _)| id.clone())
            .collect();
        let mut found = false;
        for (id, resource) in &new.resources {
            let Some(declared) = document.resources.get(id) else {
                continue;
            };
            if !old.resources.contains_key(id) {
                continue;
            }
            let mut settings = match changes.get(id) {
                Some(change) => change.settings.clone(),
                None => Vec::new(),
            };
            let known = settings.len();
            let create_only = CreateOnly::of(types, &resource.r#type);
            references("Properties", &declared.properties, &mut |path, target| {
                let is_new = settings.iter().all(|it| it.path != path);
                if target != id && is_new && replaced.contains(target) {
                    settings.push(Setting {
                        path: path.to_owned(),
                        before: Some(format!("the old {target}").into()),
                        after: Some(format!("the new {target}").into()),
                        replaces: create_only.covers(path),
                    });
                }
            });
            if settings.len() > known {
                found = true;
                changes.insert(id.clone(), change(resource, settings, types));
            }
        }
        if !found {
            return;
        }
    }
}

/// For each logical ID, the properties that refer to it.
fn referrers(document: &Document) -> BTreeMap<String, BTreeSet<String>> {
    let mut referrers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, resource) in &document.resources {
        references(id, &resource.properties, &mut |path, target| {
            let places = referrers.entry(target.to_owned()).or_default();
            places.insert(path.to_owned());
        });
    }
    referrers
}

/// Properties that refer to another resource, without the intrinsics' names in their paths. Includes
/// branches whose condition is false.
fn references<'a>(path: &str, value: &'a Json, found: &mut dyn FnMut(&str, &'a str)) {
    match value {
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let place = match NAMES.iter().find_map(|members| name(item, members)) {
                    Some(name) => format!("{path}.[{name}]"),
                    None => format!("{path}.{index}"),
                };
                references(&place, item, found);
            }
        }
        Json::Object(members) => {
            for (key, member) in members {
                match (key.as_str(), member) {
                    ("Ref", Json::String(id)) => found(path, id),
                    ("Fn::GetAtt", Json::String(dotted)) => {
                        found(path, dotted.split('.').next().unwrap_or(dotted));
                    }
                    ("Fn::GetAtt", Json::Array(parts)) => {
                        parts
                            .first()
                            .and_then(Json::as_str)
                            .into_iter()
                            .for_each(|id| found(path, id));
                    }
                    ("Fn::Sub", Json::String(text)) => substitutions(path, text, found),
                    ("Fn::Sub", Json::Array(parts)) => {
                        for part in parts {
                            match part {
                                Json::String(text) => substitutions(path, text, found),
                                Json::Object(variables) => variables
                                    .values()
                                    .for_each(|variable| inside(path, variable, found)),
                                _ => {}
                            }
                        }
                    }
                    (name, argument) if name.starts_with("Fn::") => inside(path, argument, found),
                    _ => references(&format!("{path}.{key}"), member, found),
                }
            }
        }
        _ => {}
    }
}

/// References in an intrinsic's arguments, at the intrinsic's path.
fn inside<'a>(path: &str, value: &'a Json, found: &mut dyn FnMut(&str, &'a str)) {
    references(path, value, &mut |_, target| found(path, target));
}

fn substitutions<'a>(path: &str, text: &'a str, found: &mut dyn FnMut(&str, &'a str)) {
    for part in text.split("${").skip(1) {
        let name = part.split('}').next().unwrap_or_default();
        if !name.starts_with('!') {
            found(path, name.split('.').next().unwrap_or(name));
        }
    }
}

/// The create-only properties of a type.
struct CreateOnly(Vec<Vec<String>>);

impl CreateOnly {
    fn of(types: Types<'_>, r#type: &str) -> CreateOnly {
        let split = |path: String| -> Vec<String> {
            let path = path.trim_start_matches('/');
            let path = path.strip_prefix("properties/").unwrap_or(path);
            path.split(['/', '.'])
                .filter(|it| *it != "*")
                .map(str::to_owned)
                .collect()
        };
        CreateOnly((types.create_only)(r#type).into_iter().map(split).collect())
    }

    /// Whether a difference at a path (from `Properties`) is at, below or above one of them.
    fn covers(&self, path: &str) -> bool {
        let path = path.strip_prefix("Properties").unwrap_or(path);
        let is_index = |step: &&str| step.chars().all(|it| it.is_ascii_digit());
        let path = without_names(path);
        let steps: Vec<&str> = path.split('.').filter(|it| !is_index(it)).collect();
        self.0
            .iter()
            .any(|only| only.iter().zip(&steps).all(|(only, step)| only == step))
    }
}

/// A path without the names in brackets, which are positions in lists.
fn without_names(path: &str) -> String {
    let mut result = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once(".[") {
        result.push_str(before);
        rest = after.split_once(']').map_or("", |(_, after)| after);
    }
    result + rest
}

/// Members that together identify an item of a list, such as an option setting or a tag.
const NAMES: &[&[&str]] = &[
    &["Namespace", "OptionName"],
    &["PolicyName"],
    &["Sid"],
    &["Key"],
    &["Id"],
    &["Name"],
];

fn name(item: &Json, members: &[&str]) -> Option<String> {
    let name: Option<Vec<&str>> = members.iter().map(|member| item[member].as_str()).collect();
    Some(name?.join(" "))
}

/// The items of a list by name, if each has a unique one.
fn by_name(items: &[Json]) -> Option<IndexMap<String, &Json>> {
    NAMES.iter().find_map(|members| {
        let mut named = IndexMap::new();
        for item in items {
            named.insert(name(item, members)?, item);
        }
        (!named.is_empty() && named.len() == items.len()).then_some(named)
    })
}

/// Called with a path and the values before and after.
type Difference<'f> = &'f mut dyn FnMut(&str, Option<&Json>, Option<&Json>);

/// Calls `report` for each smallest difference. Items of lists are compared by name if they have one, such as
/// `OptionSettings.[aws:ec2:instances InstanceTypes].Value`, then by position; other lists of different
/// lengths as a whole.
fn differences(path: &str, old: Option<&Json>, new: Option<&Json>, found: Difference<'_>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Json::Object(old)), Some(Json::Object(new))) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                differences(&format!("{path}.{key}"), old.get(key), new.get(key), found);
            }
        }
        (Some(Json::Array(old)), Some(Json::Array(new)))
            if by_name(old).is_some() && by_name(new).is_some() =>
        {
            let (old, new) = (
                by_name(old).unwrap_or_default(),
                by_name(new).unwrap_or_default(),
            );
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let of =
                    |items: &IndexMap<String, &'_ Json>| items.get(name).map(|it| (*it).clone());
                let (old, new) = (of(&old), of(&new));
                differences(
                    &format!("{path}.[{name}]"),
                    old.as_ref(),
                    new.as_ref(),
                    found,
                );
            }
        }
        (Some(Json::Array(old)), Some(Json::Array(new))) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                differences(&format!("{path}.{index}"), Some(old), Some(new), found);
            }
        }
        (old, new) => found(path, old, new),
    }
}

fn outputs(old: &Resolved, new: &Resolved) -> Vec<OutputChange> {
    let names: BTreeSet<&String> = old.outputs.keys().chain(new.outputs.keys()).collect();
    names
        .into_iter()
        .map(|name| OutputChange {
            name: name.clone(),
            before: old.outputs.get(name).cloned(),
            after: new.outputs.get(name).cloned(),
        })
        .filter(|output| output.before != output.after)
        .collect()
}
