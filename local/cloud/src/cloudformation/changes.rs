//! What a new version does to each resource of a stack: what a change set shows, and what executing
//! it does.

use std::collections::{BTreeMap, BTreeSet};

use cfn::diff::{Action, Disposition, Setting, Side, Types, diff};
use cfn::document::Document;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::stack::{Deed, Stack, Version};
use super::version::{HIDDEN, has_tags, hidden};
use crate::call::Failure;

/// A change of one resource, as `DescribeChangeSet` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) logical_id: String,
    pub(super) physical_id: String,
    pub(super) r#type: String,
    /// `Add`, `Modify`, `Remove` or `Import`
    pub(super) action: String,
    /// `True`, `False` or `Conditional`, of a modification.
    pub(super) replacement: Option<String>,
    /// Such as `Retain`, of a removal or replacement.
    pub(super) policy_action: Option<String>,
    pub(super) scope: Vec<String>,
    pub(super) details: Vec<Detail>,
}

/// A setting that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Detail {
    /// `Properties`, `Tags`, `DeletionPolicy` or `UpdateReplacePolicy`
    pub(super) attribute: String,
    pub(super) name: Option<String>,
    pub(super) path: String,
    pub(super) requires_recreation: String,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    /// Whether it is known only when another resource is there.
    pub(super) is_dynamic: bool,
    pub(super) change_source: String,
    pub(super) causing_entity: Option<String>,
}

/// Compares a stack with a new version, whose resources under its conditions are `existing`.
/// The second value says whether outputs differ.
///
/// # Errors
/// `ValidationError`: one of the two cannot be resolved.
pub(super) fn compare(
    stack: &Stack,
    version: &Version,
    imported: &BTreeMap<String, String>,
    existing: &BTreeSet<String>,
) -> Result<(Vec<Change>, bool), Failure> {
    let nothing = Version {
        template: r#"{"Resources": {}}"#.to_owned(),
        ..Version::default()
    };
    let old = stack.version.as_ref().unwrap_or(&nothing);
    let parse = |version: &Version| {
        Document::parse(&version.template).map_err(|error| {
            Failure::new("ValidationError", format!("Template format error: {error}"))
        })
    };
    let (before, after) = (parse(old)?, parse(version)?);
    let types = Types {
        create_only: &|r#type| {
            cfn::resources::metadata(r#type).map_or_else(Vec::new, |shape| {
                let certain = shape.create_only.iter();
                let certain = certain.chain(shape.conditional_create_only);
                certain.map(|path| (*path).to_owned()).collect()
            })
        },
        state: &|_| None,
    };
    let side = |document, version| {
        let Version { parameters, .. }: &Version = version;
        Side {
            document,
            parameters,
        }
    };
    let found = diff(side(&before, old), side(&after, version), types).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::new("ValidationError", problems.join("; "))
    })?;
    let secrets: Vec<&str> = [(&before, old), (&after, version)]
        .into_iter()
        .flat_map(|(document, version)| {
            let names = hidden(document).into_iter();
            names.filter_map(|name| version.parameters.get(name).map(String::as_str))
        })
        .filter(|secret| !secret.is_empty())
        .collect();
    let mut changes = Vec::new();
    for (id, change) in &found.resources {
        let there = stack.resources.get(id).filter(|it| it.exists());
        let mut entry = Change {
            logical_id: id.clone(),
            physical_id: there.map_or_else(String::new, |it| it.physical_id.clone()),
            r#type: change.r#type.clone(),
            action: String::new(),
            replacement: None,
            policy_action: None,
            scope: Vec::new(),
            details: Vec::new(),
        };
        match &change.action {
            Action::Remove(_) if there.is_none() => continue,
            Action::Remove(fate) => {
                "Remove".clone_into(&mut entry.action);
                entry.policy_action = Some(policy(*fate, false));
            }
            _ if there.is_none() => added(&mut entry, imported),
            Action::Add => added(&mut entry, imported),
            Action::Update | Action::Replace { .. } => {
                "Modify".clone_into(&mut entry.action);
                entry.details = change
                    .settings
                    .iter()
                    .map(|it| detail(&change.r#type, it, &secrets))
                    .collect();
                entry.scope = scope(&entry.details);
                entry.replacement = Some(replacement(&entry.details).to_owned());
                if let Action::Replace { old, .. } = change.action {
                    entry.policy_action = Some(policy(old, true));
                }
            }
        }
        changes.push(entry);
    }
    unfinished(stack, &after, imported, existing, &mut changes);
    tagged(stack, old, version, &after, &mut changes);
    Ok((changes, !found.outputs.is_empty()))
}

fn added(entry: &mut Change, imported: &BTreeMap<String, String>) {
    match imported.get(&entry.logical_id) {
        Some(physical_id) => {
            "Import".clone_into(&mut entry.action);
            entry.physical_id.clone_from(physical_id);
        }
        None => "Add".clone_into(&mut entry.action),
    }
}

/// What a failed operation has not finished is still to be done.
fn unfinished(
    stack: &Stack,
    document: &Document,
    imported: &BTreeMap<String, String>,
    existing: &BTreeSet<String>,
    changes: &mut Vec<Change>,
) {
    let known: BTreeSet<String> = changes.iter().map(|it| it.logical_id.clone()).collect();
    for (id, declared) in &document.resources {
        if known.contains(id) {
            continue;
        }
        let there = stack.resources.get(id);
        let is_there = there.is_some_and(|it| it.exists() && it.status != "CREATE_FAILED");
        let is_whole = there.is_some_and(|it| !it.is_stale && it.status != "UPDATE_FAILED");
        if (is_there && is_whole) || !existing.contains(id) {
            continue;
        }
        let mut entry = Change {
            logical_id: id.clone(),
            physical_id: there.map_or_else(String::new, |it| it.physical_id.clone()),
            r#type: declared.r#type.clone(),
            action: "Modify".to_owned(),
            replacement: Some("False".to_owned()),
            policy_action: None,
            scope: vec!["Properties".to_owned()],
            details: Vec::new(),
        };
        if !is_there {
            entry.replacement = None;
            entry.scope.clear();
            added(&mut entry, imported);
        }
        changes.push(entry);
    }
}

/// Other tags of the stack change every resource that has tags.
fn tagged(
    stack: &Stack,
    old: &Version,
    new: &Version,
    document: &Document,
    changes: &mut Vec<Change>,
) {
    if old.tags == new.tags || stack.version.is_none() {
        return;
    }
    let known: BTreeSet<String> = changes.iter().map(|it| it.logical_id.clone()).collect();
    for (id, resource) in &stack.resources {
        let stays = document.resources.contains_key(id) && resource.exists();
        if stays && !known.contains(id) && has_tags(&resource.r#type) {
            changes.push(Change {
                logical_id: id.clone(),
                physical_id: resource.physical_id.clone(),
                r#type: resource.r#type.clone(),
                action: "Modify".to_owned(),
                replacement: Some("False".to_owned()),
                policy_action: None,
                scope: vec!["Tags".to_owned()],
                details: vec![Detail {
                    attribute: "Tags".to_owned(),
                    name: None,
                    path: "/Properties/Tags".to_owned(),
                    requires_recreation: "Never".to_owned(),
                    before: None,
                    after: None,
                    is_dynamic: false,
                    change_source: "DirectModification".to_owned(),
                    causing_entity: None,
                }],
            });
        }
    }
}

fn policy(disposition: Disposition, is_replacement: bool) -> String {
    let name = match disposition {
        Disposition::Deleted => "Delete",
        Disposition::Kept => "Retain",
        Disposition::Snapshot => "Snapshot",
    };
    if is_replacement {
        format!("ReplaceAnd{name}")
    } else {
        name.to_owned()
    }
}

fn detail(r#type: &str, setting: &Setting, secrets: &[&str]) -> Detail {
    let steps: Vec<&str> = setting.path.split('.').collect();
    let (attribute, name) = match steps.as_slice() {
        ["Properties", "Tags", ..] => ("Tags", Some("Tags")),
        ["Properties", name, ..] => ("Properties", Some(*name)),
        [attribute, ..] => (*attribute, None),
        [] => ("Properties", None),
    };
    let dynamic = |value: &Option<Json>, which: &str| {
        let text = value.as_ref()?.as_str()?;
        text.strip_prefix(which).map(str::to_owned)
    };
    // What another resource's replacement brings is known when that one is there.
    let causing_entity = match (
        dynamic(&setting.before, "the old "),
        dynamic(&setting.after, "the new "),
    ) {
        (Some(old), Some(new)) if old == new => Some(new),
        _ => None,
    };
    let is_dynamic = causing_entity.is_some();
    let shown = |value: &Option<Json>| {
        let text = match value.as_ref()? {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut shown = text;
        for secret in secrets {
            shown = shown.replace(secret, HIDDEN);
        }
        Some(shown)
    };
    let is_conditional = setting.replaces && is_conditional(r#type, &steps);
    let requires_recreation = match (setting.replaces, is_conditional) {
        (false, _) => "Never",
        (true, true) => "Conditionally",
        (true, false) => "Always",
    };
    Detail {
        attribute: attribute.to_owned(),
        name: name.map(str::to_owned),
        path: format!("/{}", steps.join("/")),
        requires_recreation: requires_recreation.to_owned(),
        before: shown(&setting.before).filter(|_| !is_dynamic),
        after: shown(&setting.after).filter(|_| !is_dynamic),
        is_dynamic,
        change_source: if is_dynamic {
            "ResourceReference".to_owned()
        } else {
            "DirectModification".to_owned()
        },
        causing_entity,
    }
}

/// Whether only some changes of the property replace a resource of the type.
fn is_conditional(r#type: &str, steps: &[&str]) -> bool {
    let Some(shape) = cfn::resources::metadata(r#type) else {
        return false;
    };
    let is_index = |step: &&&str| step.bytes().all(|it| it.is_ascii_digit());
    let steps: Vec<&str> = steps
        .iter()
        .skip(1)
        .filter(|it| !is_index(it))
        .copied()
        .collect();
    let covers = |path: &str| {
        let path = path.trim_start_matches("/properties/");
        let path = path.split('/').filter(|it| *it != "*");
        path.zip(&steps).all(|(only, step)| only == *step)
    };
    shape.conditional_create_only.iter().any(|it| covers(it))
        && !shape.create_only.iter().any(|it| covers(it))
}

fn scope(details: &[Detail]) -> Vec<String> {
    let attributes: BTreeSet<&str> = details.iter().map(|it| it.attribute.as_str()).collect();
    attributes.into_iter().map(str::to_owned).collect()
}

/// ("ResourceChange" in the API reference: a certain cause decides; a dynamic or conditional one makes
/// the replacement conditional.)
fn replacement(details: &[Detail]) -> &'static str {
    let certain = |it: &&Detail| it.requires_recreation == "Always" && !it.is_dynamic;
    if details.iter().any(|it| certain(&it)) {
        "True"
    } else if details.iter().any(|it| it.requires_recreation != "Never") {
        "Conditional"
    } else {
        "False"
    }
}

impl Change {
    /// What executing it does; `None` for a removal, which comes after everything else.
    pub(super) fn deed(&self) -> Option<Deed> {
        Some(match (self.action.as_str(), self.replacement.as_deref()) {
            ("Add", _) => Deed::Add,
            ("Import", _) => Deed::Import,
            ("Modify", Some("True")) => Deed::Replace,
            // Here a replacement elsewhere always gives other values.
            ("Modify", Some("Conditional"))
                if self
                    .details
                    .iter()
                    .any(|it| it.is_dynamic && it.requires_recreation == "Always") =>
            {
                Deed::Replace
            }
            ("Modify", _) => Deed::Modify,
            _ => return None,
        })
    }
}
