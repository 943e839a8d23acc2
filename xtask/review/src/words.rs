//! Permissions, network edges and settings in plain words.

use cfn::access::Row;
use cfn::diff::Setting;
use serde_json::Value as Json;

/// Characters of a value that are shown.
const LONGEST_VALUE: usize = 160;

/// Rows of permissions as sentences, actions of the same kind together; with whom each is about.
///
/// `comes` says whether the rows come or go.
pub(crate) fn permissions(rows: &[Row], comes: bool) -> Vec<(String, String)> {
    let column = |row: &Row, index: usize| row.get(index).cloned().unwrap_or_default();
    let mut groups: Vec<([String; 4], Vec<String>)> = Vec::new();
    for row in rows {
        let key = [0, 1, 3, 4].map(|index| column(row, index));
        let action = column(row, 2);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, actions)) => actions.push(action),
            None => groups.push((key, vec![action])),
        }
    }
    groups
        .into_iter()
        .map(|([who, effect, resource, condition], actions)| {
            let sentence = permission(&who, &effect, &actions, &resource, comes);
            let about = if actions == ["sts:AssumeRole"] {
                resource
            } else {
                who
            };
            match condition.as_str() {
                "" => (about, sentence),
                condition => (about, format!("{sentence}, {condition}")),
            }
        })
        .collect()
}

fn permission(who: &str, effect: &str, actions: &[String], resource: &str, comes: bool) -> String {
    let what = actions.join(", ");
    if actions == ["sts:AssumeRole"] && effect != "DENY" {
        let may = if comes { "may now" } else { "may no longer" };
        return format!("{who} {may} act as {resource}");
    }
    let on = match resource {
        "*" => "every resource (`*`)".to_owned(),
        name => name.to_owned(),
    };
    let every = if actions.iter().any(|action| action.contains('*')) {
        " (a wildcard)"
    } else {
        ""
    };
    let verb = match (effect, comes) {
        ("DENY", true) => "is now denied",
        ("DENY", false) => "is no longer denied",
        (_, true) => "may now do",
        (_, false) => "may no longer do",
    };
    format!("{who} {verb} {what}{every} on {on}")
}

/// A row of reachability as a sentence, with whom it is about.
pub(crate) fn edge(row: &Row, comes: bool) -> (String, String) {
    let text = |index: usize| row.get(index).map_or("", String::as_str);
    let now = if comes { "now" } else { "no longer" };
    let block = |name: &str| match name {
        "0.0.0.0/0" | "::/0" => format!("everywhere ({name})"),
        name => name.to_owned(),
    };
    match text(0) {
        "in" => {
            let verb = if comes {
                "now admits"
            } else {
                "no longer admits"
            };
            let (group, from) = (text(3), block(text(1)));
            (
                group.to_owned(),
                format!("{group} {verb} {} from {from}", text(4)),
            )
        }
        "out" => {
            let (group, to) = (text(1), block(text(3)));
            let sentence = format!("{group} may {now} connect to {to} by {}", text(4));
            (group.to_owned(), sentence)
        }
        "member" => {
            let (name, group) = (text(1), text(3));
            let id = name.split('\'').next().unwrap_or(name).to_owned();
            (id, format!("{name} is {now} in {group}"))
        }
        "route" => {
            let (subnet, to, way) = (text(1), block(text(3)), text(4));
            let sentence = match (way, comes) {
                ("no way", true) => format!("{subnet} has no way to the {to} any more"),
                ("no way", false) => format!("{subnet} had no way to the {to}, now it has"),
                (way, _) => format!("{subnet} {now} reaches the {to} {way}"),
            };
            (subnet.to_owned(), sentence)
        }
        _ => (text(1).to_owned(), format!("{}: {now}", row.join(" "))),
    }
}

/// A setting before and after; several lines for a list whose items come and go.
pub(crate) fn setting(setting: &Setting) -> Vec<String> {
    let path = path(&setting.path);
    let mark = if setting.replaces {
        "  (this replaces it)"
    } else {
        ""
    };
    if let (Some(Json::Array(before)), Some(Json::Array(after))) = (&setting.before, &setting.after)
    {
        let mut lines = vec![format!("{path}:{mark}")];
        let gone = before.iter().filter(|item| !after.contains(item));
        lines.extend(gone.map(|item| format!("  − {}", shown(item))));
        let come = after.iter().filter(|item| !before.contains(item));
        lines.extend(come.map(|item| format!("  + {}", shown(item))));
        return lines;
    }
    let value = |value: &Option<Json>| value.as_ref().map_or("not set".to_owned(), shown);
    vec![format!(
        "{path}: {} → {}{mark}",
        value(&setting.before),
        value(&setting.after)
    )]
}

/// A path as a person reads it: an option setting by its option.
pub(crate) fn path(path: &str) -> String {
    let path = path.strip_prefix("Properties.").unwrap_or(path);
    match path.strip_prefix("OptionSettings.[") {
        Some(option) => option.replace("].Value", "").replace(']', ""),
        None => path.to_owned(),
    }
}

/// A value, an option setting by its value, cut where it is long.
pub(crate) fn shown(value: &Json) -> String {
    match value {
        Json::String(text) if text.is_empty() => "\"\"".to_owned(),
        Json::String(text) => cut(text),
        option if option.get("OptionName").is_some() => {
            option.get("Value").map_or(String::new(), shown)
        }
        other => cut(&other.to_string()),
    }
}

pub(crate) fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST_VALUE {
        return text.to_owned();
    }
    let start: String = text.chars().take(LONGEST_VALUE).collect();
    format!("{start}…")
}
