//! Detection of removed resources that are added again under another logical ID.
//!
//! CloudFormation identifies a resource by its logical ID: it deletes the old one and creates a new one.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::lines::rename;
use crate::resolve::{Resolved, ResolvedResource};

/// Similarity, in hundredths, from which a removed and an added resource are the same.
const ALIKE: usize = 70;

/// Weight of equal properties with other values.
const SAME_PLACE: usize = 30;

/// Weight of references to both from the same properties.
const SAME_REFERENCES: usize = 40;

/// One side: its resources, and for each logical ID the properties that refer to it.
pub(super) struct Side<'a> {
    pub(super) resolved: &'a Resolved,
    pub(super) referrers: BTreeMap<String, BTreeSet<String>>,
}

/// New logical ID → old one, each at most once, the most similar first.
pub(super) fn find(old: &Side<'_>, new: &Side<'_>) -> IndexMap<String, String> {
    let mut pairs = Vec::new();
    for added in only_in(new.resolved, old.resolved) {
        for removed in only_in(old.resolved, new.resolved) {
            let mut likeness = likeness(removed, added);
            let places = old.referrers.get(&removed.logical_id);
            if places.is_some() && places == new.referrers.get(&added.logical_id) {
                likeness += SAME_REFERENCES;
            }
            if removed.r#type == added.r#type && likeness >= ALIKE {
                pairs.push((likeness, added, removed));
            }
        }
    }
    // Stable, so that equal pairs keep the template's order.
    pairs.sort_by_key(|(likeness, ..)| std::cmp::Reverse(*likeness));
    let mut renames = IndexMap::new();
    for (_, added, removed) in pairs {
        let is_taken = renames.values().any(|old| *old == removed.logical_id);
        if !is_taken && !renames.contains_key(&added.logical_id) {
            renames.insert(added.logical_id.clone(), removed.logical_id.clone());
        }
    }
    renames
}

/// A resource with renamed references.
pub(super) fn as_renamed(
    resource: &ResolvedResource,
    renames: &IndexMap<String, String>,
) -> ResolvedResource {
    let mut resource = resource.clone();
    rename_in(&mut resource.properties, renames);
    resource
}

fn rename_in(value: &mut Json, renames: &IndexMap<String, String>) {
    match value {
        Json::Array(items) => items.iter_mut().for_each(|it| rename_in(it, renames)),
        Json::Object(members) => members.values_mut().for_each(|it| rename_in(it, renames)),
        Json::String(text) => *text = rename(text, renames),
        _ => {}
    }
}

fn only_in<'a>(one: &'a Resolved, other: &Resolved) -> Vec<&'a ResolvedResource> {
    let resources = one.resources.values();
    resources
        .filter(|it| !other.resources.contains_key(&it.logical_id))
        .collect()
}

/// Similarity of the properties, without the resource's name; 0 for different types.
fn likeness(old: &ResolvedResource, new: &ResolvedResource) -> usize {
    if old.r#type != new.r#type {
        return 0;
    }
    let renames = IndexMap::from([(new.logical_id.clone(), old.logical_id.clone())]);
    let leaves = |resource: &ResolvedResource| {
        let mut found = BTreeSet::new();
        leaves("", &resource.properties, &renames, &mut found);
        found
    };
    let (old, new) = (leaves(old), leaves(new));
    let all = old.len().max(new.len());
    if all == 0 {
        return 100;
    }
    let same = old.intersection(&new).count();
    let paths = |side: &BTreeSet<(String, String)>, other: &BTreeSet<(String, String)>| {
        let rest = side.difference(other);
        rest.map(|(path, _)| path.clone()).collect::<BTreeSet<_>>()
    };
    let same_place = paths(&old, &new).intersection(&paths(&new, &old)).count();
    (same * 100 + same_place * SAME_PLACE) / all
}

/// Every value with its path, with renamed words.
fn leaves(
    path: &str,
    value: &Json,
    renames: &IndexMap<String, String>,
    found: &mut BTreeSet<(String, String)>,
) {
    match value {
        Json::Array(items) => {
            for item in items {
                leaves(&format!("{path}."), item, renames, found);
            }
        }
        Json::Object(members) => {
            for (name, member) in members {
                leaves(&format!("{path}.{name}"), member, renames, found);
            }
        }
        Json::String(text) => {
            found.insert((path.to_owned(), rename(text, renames)));
        }
        other => {
            found.insert((path.to_owned(), other.to_string()));
        }
    }
}
