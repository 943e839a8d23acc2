//! What [`cfn::diff`] leaves out because it changes no resource by itself: parameters, conditions, and
//! a resource's attributes beside its properties.

use serde_json::{Map, Value as Json};

use crate::words::shown;
use crate::{Finding, Weight};

/// Sections of a template whose members are compared one by one.
const SECTIONS: &[(&str, &str)] = &[
    ("Parameters", "parameter"),
    ("Conditions", "condition"),
    ("Mappings", "mapping"),
    ("Metadata", "metadata"),
];

/// Attributes of a resource that [`cfn::diff`] does not compare.
const ATTRIBUTES: &[&str] = &[
    "Condition",
    "DependsOn",
    "CreationPolicy",
    "UpdatePolicy",
    "Metadata",
];

pub(crate) fn findings(before: &Json, after: &Json) -> Vec<Finding> {
    let empty = Map::new();
    let members =
        |template: &'_ Json, section: &str| template[section].as_object().unwrap_or(&empty).clone();
    let mut findings = Vec::new();
    if before["Description"] != after["Description"] {
        findings.push(changed(
            "the template's description".to_owned(),
            vec![line(&before["Description"], &after["Description"])],
        ));
    }
    for (section, what) in SECTIONS {
        let (old, new) = (members(before, section), members(after, section));
        for (name, value) in &new {
            match old.get(name) {
                None => {
                    let must = *section == "Parameters" && value.get("Default").is_none();
                    let must = if must {
                        "; it has no default and must be given"
                    } else {
                        ""
                    };
                    findings.push(Finding {
                        weight: Weight::Added,
                        headline: format!("{what} {name}{must}"),
                        details: vec![shown(value)],
                        place: None,
                    });
                }
                Some(old) if old != value => {
                    findings.push(changed(format!("{what} {name}"), vec![line(old, value)]));
                }
                Some(_) => {}
            }
        }
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            findings.push(changed(format!("{what} {name} goes"), Vec::new()));
        }
    }
    findings
}

/// Differences of a resource's attributes, as `name: before → after`.
pub(crate) fn attributes(before: &Json, after: &Json) -> Vec<String> {
    ATTRIBUTES
        .iter()
        .filter(|name| before[**name] != after[**name])
        .map(|name| format!("{name}: {}", line(&before[*name], &after[*name])))
        .collect()
}

fn changed(headline: String, details: Vec<String>) -> Finding {
    Finding {
        weight: Weight::Changed,
        headline,
        details,
        place: None,
    }
}

fn line(before: &Json, after: &Json) -> String {
    let value = |value: &Json| match value {
        Json::Null => "not set".to_owned(),
        value => shown(value),
    };
    format!("{} → {}", value(before), value(after))
}
