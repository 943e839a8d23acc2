//! What a deployment would change, as a person wants to read it.
//!
//! Which property replaces what comes from [`cfn::diff`], which knows the registry schemas; what
//! CloudFormation's own change set says beyond that is added, never left out.

use std::collections::BTreeMap;

use anyhow::anyhow;
use aws_sdk_cloudformation::types::{Change as Announced, ChangeAction, Replacement};
use cfn::access::Row;
use cfn::diff::{Action, Changes, Lines, Setting, Side, Types, create_only};
use cfn::document::Document;
use serde_json::{Value as Json, json};

use crate::screen::progress::Output;

/// Characters of a value that are shown.
const LONGEST_VALUE: usize = 60;

/// A template with the values of its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) document: Document,
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Version {
    /// # Errors
    /// Text that is no template.
    pub(crate) fn new(
        template: &str,
        parameters: BTreeMap<String, String>,
    ) -> anyhow::Result<Version> {
        let document = Document::parse(template)
            .map_err(|error| anyhow!("the template is not readable: {error}"))?;
        Ok(Version {
            document,
            parameters,
        })
    }

    /// Before there is a stack.
    pub(crate) fn nothing() -> anyhow::Result<Version> {
        Version::new("{\"Resources\": {}}", BTreeMap::new())
    }
}

/// Compares two versions of a stack.
pub(crate) fn compare(before: &Version, after: &Version) -> anyhow::Result<Changes> {
    let side = |version| {
        let Version {
            document,
            parameters,
        }: &Version = version;
        Side {
            document,
            parameters,
        }
    };
    let types = Types {
        create_only: &create_only,
        state: &stack::state::lost,
    };
    cfn::diff::diff(side(before), side(after), types).map_err(|problems| {
        let problems: Vec<String> = problems
            .iter()
            .map(|problem| format!("{}: {}", problem.logical_id, problem.message))
            .collect();
        anyhow!("the templates cannot be compared: {}", problems.join("; "))
    })
}

/// The changes as lines.
pub(crate) fn lines(changes: &Changes, announced: &[Announced]) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, change) in &changes.resources {
        let r#type = &change.r#type;
        lines.push(match &change.action {
            Action::Add => format!("  + add      {id} ({type})"),
            Action::Update => format!("  ~ change   {id} ({type})"),
            Action::Replace { old, .. } => {
                format!("  ! REPLACE  {id} ({type}); the old one is {old}")
            }
            Action::Remove(what) => format!("  - remove   {id} ({type}); it is {what}"),
        });
        for setting in &change.settings {
            lines.push(format!("               {}", setting_line(setting)));
        }
        if let Some(lost) = &change.lost {
            lines.push(format!("               DATA LOSS: {lost}"));
        }
    }
    lines.extend(announced.iter().filter_map(|it| beyond(changes, it)));
    for output in &changes.outputs {
        let shown = |value: &Option<String>| match value {
            Some(value) => cut(value),
            None => "nothing".to_owned(),
        };
        lines.push(format!(
            "  ~ output   {}: {} → {}",
            output.name,
            shown(&output.before),
            shown(&output.after)
        ));
    }
    section(&mut lines, "permissions", &changes.permissions);
    section(&mut lines, "network paths", &changes.network);
    lines
}

/// What a new stack brings, in few lines: everything in it is new.
pub(crate) fn lines_of_new(after: &Version, changes: &Changes) -> Vec<String> {
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    for change in changes.resources.values() {
        *types.entry(&change.r#type).or_default() += 1;
    }
    let mut lines: Vec<String> = types
        .iter()
        .map(|(r#type, count)| format!("  + {count:>3} × {type}"))
        .collect();
    lines.push(format!(
        "  {} resources, {} permissions, {} network paths; all of them are new",
        changes.resources.len(),
        changes.permissions.widened.len(),
        changes.network.widened.len()
    ));
    let (chain, seconds) = crate::screen::typical::longest_chain(&after.document);
    lines.push(format!(
        "  usually done in {}; critical path: {}",
        crate::screen::typical::in_words(seconds),
        chain.join(" → ")
    ));
    lines
}

/// Says lines of a plan; what replaces or loses something is not to be overlooked.
pub(crate) fn say(output: Output, lines: &[String]) {
    for line in lines {
        match line.starts_with("  ! ") || line.contains("DATA LOSS") {
            true => output.warn(line),
            false => output.say(line),
        }
    }
}

/// The changes for a machine.
pub(crate) fn as_json(changes: &Changes) -> Json {
    let resources: Vec<Json> = changes
        .resources
        .iter()
        .map(|(id, change)| {
            let action = match &change.action {
                Action::Add => "add",
                Action::Update => "change",
                Action::Replace { .. } => "replace",
                Action::Remove(_) => "remove",
            };
            let settings: Vec<Json> = change
                .settings
                .iter()
                .map(|it| {
                    json!({
                        "path": it.path, "before": it.before, "after": it.after,
                        "replaces": it.replaces,
                    })
                })
                .collect();
            json!({
                "id": id, "type": change.r#type, "action": action, "settings": settings,
                "lost": change.lost,
            })
        })
        .collect();
    let texts = |rows: &[Row]| rows.iter().map(|row| row.join(" ")).collect::<Vec<_>>();
    let widened = |lines: &Lines| json!({ "widened": texts(&lines.widened), "narrowed": texts(&lines.narrowed) });
    json!({
        "resources": resources,
        "permissions": widened(&changes.permissions),
        "network": widened(&changes.network),
    })
}

fn section(lines: &mut Vec<String>, what: &str, found: &Lines) {
    for (title, rows) in [("widen", &found.widened), ("narrow", &found.narrowed)] {
        if !rows.is_empty() {
            lines.push(format!("  {what} that {title}:"));
            lines.extend(rows.iter().map(|row| format!("      {}", row.join(" "))));
        }
    }
}

fn setting_line(setting: &Setting) -> String {
    let shown = |value: &Option<Json>| match value {
        Some(Json::String(text)) => cut(text),
        Some(value) => cut(&value.to_string()),
        None => "not set".to_owned(),
    };
    let path = setting.path.strip_prefix("Properties.");
    let mut line = format!(
        "{}: {} → {}",
        path.unwrap_or(&setting.path),
        shown(&setting.before),
        shown(&setting.after)
    );
    if setting.replaces {
        line.push_str("  (this replaces it)");
    }
    line
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST_VALUE {
        return text.to_owned();
    }
    let start: String = text.chars().take(LONGEST_VALUE).collect();
    format!("{start}…")
}

/// What CloudFormation announces and the comparison does not know.
fn beyond(changes: &Changes, announced: &Announced) -> Option<String> {
    let announced = announced.resource_change()?;
    let id = announced.logical_resource_id()?;
    let r#type = announced.resource_type().unwrap_or_default();
    let replacement = match announced.replacement() {
        Some(Replacement::True) => Some("replaces it"),
        Some(Replacement::Conditional) => Some("may replace it"),
        _ => None,
    };
    match (changes.resources.get(id), announced.action()?) {
        (Some(change), ChangeAction::Modify) => {
            let is_known = matches!(change.action, Action::Replace { .. });
            let replacement = replacement.filter(|_| !is_known)?;
            Some(format!(
                "  ! {id} ({type}): CloudFormation says that it {replacement}"
            ))
        }
        (Some(_), _) => None,
        (None, action) => Some(match replacement {
            Some(replacement) => {
                format!("  ! {id} ({type}): CloudFormation says that it {replacement}")
            }
            None => format!(
                "  ~ {id} ({type}): CloudFormation touches it, too ({})",
                action.as_str()
            ),
        }),
    }
}
