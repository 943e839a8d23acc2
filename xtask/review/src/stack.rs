//! The changes of one stack as findings.

use std::collections::{BTreeMap, BTreeSet};

use cfn::diff::{Action, Change, Changes, Disposition, Setting, Side, Types, create_only, diff};
use cfn::document::Document;
use serde_json::Value as Json;

use crate::protection::{self, Verdict};
use crate::{Finding, Stack, Unreadable, Weight, section, words};

/// Properties that hold policies: what they allow is said by the permissions.
const POLICIES: &[&str] = &[
    "Properties.Policies",
    "Properties.PolicyDocument",
    "Properties.AssumeRolePolicyDocument",
    "Properties.KeyPolicy",
];

/// Seconds from which it is worth saying how long something takes.
const WORTH_SAYING: u32 = 60;

/// A readable template.
struct Template {
    json: Json,
    document: Document,
}

pub(crate) fn findings(stack: &Stack) -> Result<Vec<Finding>, Unreadable> {
    let read = |side: &str, text: &Option<String>| -> Result<Option<Template>, Unreadable> {
        let unreadable = |error: serde_json::Error| Unreadable {
            stack: stack.name.clone(),
            message: format!("the template {side} is not readable: {error}"),
        };
        let Some(text) = text else { return Ok(None) };
        Ok(Some(Template {
            json: serde_json::from_str(text).map_err(unreadable)?,
            document: Document::parse(text).map_err(unreadable)?,
        }))
    };
    let (before, after) = (read("before", &stack.before)?, read("now", &stack.after)?);
    match (before, after) {
        (None, None) => Ok(Vec::new()),
        (None, Some(after)) => Ok(vec![Finding {
            weight: Weight::Widened,
            headline: format!(
                "the stack {} is new: {} resources, each with what it may do",
                stack.name,
                after.document.resources.len()
            ),
            details: Vec::new(),
            place: None,
        }]),
        (Some(_), None) => Ok(vec![Finding {
            weight: Weight::Removed,
            headline: format!("the stack {} is not emitted any more", stack.name),
            details: vec![
                "where it is deployed it stays: `cargo xtask destroy` of the older revision takes it down"
                    .to_owned(),
            ],
            place: None,
        }]),
        (Some(before), Some(after)) => compare(stack, &before, &after),
    }
}

fn compare(stack: &Stack, before: &Template, after: &Template) -> Result<Vec<Finding>, Unreadable> {
    let mut found = section::findings(&before.json, &after.json);
    let plain = changes(stack, &before.document, &after.document)?;
    found.extend(
        Told {
            stack,
            before,
            after,
            changes: &plain,
        }
        .findings(),
    );

    // What exists only where an optional parameter is given is compared with all of them given.
    let given = optional_parameters(&[&before.document, &after.document]);
    if !given.is_empty() {
        let filled = |template: &Template| with(&template.document, &given);
        let changes = changes(stack, &filled(before), &filled(after))?;
        let names: Vec<&str> = given.iter().map(String::as_str).collect();
        let where_given = format!("where given: {}", names.join(", "));
        let known = found.clone();
        let told = Told {
            stack,
            before,
            after,
            changes: &changes,
        };
        for mut finding in told.findings() {
            if known.contains(&finding) {
                continue;
            }
            let said = |it: &&Finding| it.headline == finding.headline;
            if let Some(known) = known.iter().find(said) {
                finding.details.retain(|line| !known.details.contains(line));
                if finding.details.is_empty() {
                    continue;
                }
            }
            finding.details.push(where_given.clone());
            found.push(finding);
        }
    }
    Ok(found)
}

/// Parameters that may be left empty.
fn optional_parameters(documents: &[&Document]) -> BTreeSet<String> {
    let parameters = documents.iter().flat_map(|it| &it.parameters);
    parameters
        .filter(|(_, parameter)| parameter.default == Some(Json::String(String::new())))
        .map(|(name, _)| name.clone())
        .collect()
}

/// The template with these parameters given: without their defaults they stand for themselves.
fn with(document: &Document, given: &BTreeSet<String>) -> Document {
    let mut document = document.clone();
    for (name, parameter) in &mut document.parameters {
        if given.contains(name) {
            parameter.default = None;
        }
    }
    document
}

fn changes(stack: &Stack, before: &Document, after: &Document) -> Result<Changes, Unreadable> {
    let parameters = BTreeMap::new();
    let side = |document| Side {
        document,
        parameters: &parameters,
    };
    let types = Types {
        create_only: &create_only,
        state: &::stack::state::lost,
    };
    diff(side(before), side(after), types).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Unreadable {
            stack: stack.name.clone(),
            message: format!("the templates cannot be compared: {}", problems.join("; ")),
        }
    })
}

/// Changes, told.
struct Told<'a> {
    stack: &'a Stack,
    before: &'a Template,
    after: &'a Template,
    changes: &'a Changes,
}

impl Told<'_> {
    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (id, change) in &self.changes.resources {
            self.resource(id, change, &mut findings);
        }
        self.attributes(&mut findings);
        self.permissions(&mut findings);
        self.network(&mut findings);
        for output in &self.changes.outputs {
            let value = |value: &Option<String>| value.clone().unwrap_or("not there".to_owned());
            let (before, after) = (value(&output.before), value(&output.after));
            findings.push(Finding {
                weight: Weight::Changed,
                headline: format!("output {}", output.name),
                details: vec![format!("{before} → {after}")],
                place: None,
            });
        }
        findings
    }

    fn place(&self, id: &str) -> Option<String> {
        let now = self.stack.places.get(id).cloned();
        let was = || Some(format!("was at {}", self.stack.places_before.get(id)?));
        now.or_else(was)
    }

    fn resource(&self, id: &str, change: &Change, findings: &mut Vec<Finding>) {
        let r#type = &change.r#type;
        let mut add = |weight, headline, details| {
            findings.push(Finding {
                weight,
                headline,
                details,
                place: self.place(id),
            });
        };
        let settings = |chosen: &[&Setting]| -> Vec<String> {
            chosen.iter().flat_map(|it| words::setting(it)).collect()
        };
        match &change.action {
            Action::Add => match self.changes.renamed.get(id) {
                Some(old) => {
                    let headline = format!("{old} is renamed to {id} ({type}): that replaces it");
                    let mut details = Vec::new();
                    if let Some(gone) = self.changes.resources.get(old)
                        && let Action::Remove(fate) = gone.action
                    {
                        details.push(consequence(gone, fate));
                    }
                    details.extend(self.held_name(old, id, r#type));
                    details.extend(settings(&change.settings.iter().collect::<Vec<_>>()));
                    add(Weight::Replaced, headline, details);
                }
                None => {
                    add(Weight::Added, format!("{id} ({type})"), self.described(id));
                    let properties = &self.after.json["Resources"][id]["Properties"];
                    let lacking = protection::lacking(r#type, properties);
                    if !lacking.is_empty() {
                        let details = lacking.into_iter().map(str::to_owned).collect();
                        add(
                            Weight::Weakened,
                            format!("{id} ({type}) comes without protection"),
                            details,
                        );
                    }
                    // Whom the access string lets do what is no policy of IAM.
                    if let Some(access) = properties["AccessString"].as_str() {
                        let headline = format!("{id} ({type}) is one more who may sign in");
                        let details = vec![format!("AccessString: {}", words::cut(access))];
                        add(Weight::Widened, headline, details);
                    }
                }
            },
            Action::Remove(_) if self.changes.renamed.values().any(|old| old == id) => {}
            Action::Remove(fate) => {
                let mut details = vec![match (&change.lost, fate) {
                    (Some(lost), _) => format!("lost with it: {lost}"),
                    (None, Disposition::Deleted) => "it is deleted; it holds no data".to_owned(),
                    (None, fate) => format!("its data stays: it is {fate}"),
                }];
                details.extend(self.nobody_is_told(id));
                add(Weight::Removed, format!("{id} ({type})"), details);
            }
            Action::Replace { because, .. } if because.iter().any(|path| path == "Type") => {
                let before = &self.before.document.resources[id].r#type;
                let headline = format!(
                    "{id} becomes another type, {before} → {type}, which CloudFormation refuses"
                );
                let mut details = vec!["give the new one another logical ID".to_owned()];
                details.extend(
                    ::stack::state::lost(before)
                        .map(|lost| format!("lost with the old one: {lost}")),
                );
                add(Weight::Replaced, headline, details);
            }
            Action::Replace { because, old } => {
                let because: Vec<String> = because.iter().map(|path| words::path(path)).collect();
                let headline = format!(
                    "{id} ({type}): {} cannot change on an existing one",
                    because.join(", ")
                );
                let mut details = vec![consequence(change, *old)];
                details.extend(self.held_name(id, id, r#type));
                details.extend(settings(&change.settings.iter().collect::<Vec<_>>()));
                add(Weight::Replaced, headline, details);
            }
            Action::Update => {
                let all: Vec<&Setting> = change.settings.iter().collect();
                for (verdict, weight) in [
                    (Verdict::Weaker, Weight::Weakened),
                    (Verdict::Stronger, Weight::Strengthened),
                ] {
                    let chosen: Vec<&Setting> = all
                        .iter()
                        .copied()
                        .filter(|it| protection::of(it).is_some_and(|(_, is)| is == verdict))
                        .collect();
                    if chosen.is_empty() {
                        continue;
                    }
                    let subjects: BTreeSet<&str> = chosen
                        .iter()
                        .filter_map(|it| Some(protection::of(it)?.0))
                        .collect();
                    let subjects: Vec<&str> = subjects.into_iter().collect();
                    let headline = format!("{id} ({type}): {}", subjects.join(", "));
                    add(weight, headline, settings(&chosen));
                }
                let rest: Vec<&Setting> = all
                    .iter()
                    .copied()
                    .filter(|it| {
                        let verdict = protection::of(it).map(|(_, verdict)| verdict);
                        matches!(verdict, None | Some(Verdict::Other))
                    })
                    .collect();
                let lines = self.in_place(id, &rest);
                if !lines.is_empty() {
                    add(Weight::Changed, format!("{id} ({type})"), lines);
                }
            }
        }
    }

    /// A name that the old one holds when the new one is made: CloudFormation makes it first.
    fn held_name(&self, old: &str, new: &str, r#type: &str) -> Option<String> {
        let shape = cfn::resources::metadata(r#type)?;
        let [pointer] = shape.primary_identifier else {
            return None;
        };
        let name = pointer.rsplit('/').next()?;
        let of = |template: &Template, id: &str| {
            let name = template.json["Resources"][id]["Properties"].get(name);
            name.cloned()
        };
        let (before, after) = (of(self.before, old)?, of(self.after, new)?);
        // What is named after another that is replaced has another name, too.
        let text = after.to_string();
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let follows = words.any(|word| self.changes.resources.contains_key(word));
        (before == after && !follows).then(|| {
            format!(
                "its {name} stays the same, and the old one still has it when the new one is made: the deployment fails; change it, too"
            )
        })
    }

    /// Settings line by line, but for policies: what they allow is said as permissions.
    fn in_place(&self, id: &str, settings: &[&Setting]) -> Vec<String> {
        let is_policy = |it: &&&Setting| POLICIES.iter().any(|path| it.path.starts_with(path));
        let mut lines: Vec<String> = settings
            .iter()
            .filter(|it| !is_policy(it))
            .flat_map(|it| words::setting(it))
            .collect();
        if settings.iter().any(|it| is_policy(&it)) {
            let permissions = &self.changes.permissions;
            let rows = permissions.widened.iter().chain(&permissions.narrowed);
            // A policy of a bucket or a key names others: then any change may be its own.
            let is_role = self.after.json["Resources"][id]["Type"] == "AWS::IAM::Role";
            let mut rows = rows.filter(|row| !is_role || row.iter().any(|column| column == id));
            if rows.next().is_none() {
                lines.push("its policy is written differently; who may do what stays".to_owned());
            }
        }
        lines
    }

    /// Attributes beside properties, and what is only written differently.
    fn attributes(&self, findings: &mut Vec<Finding>) {
        let (old, new) = (
            &self.before.json["Resources"],
            &self.after.json["Resources"],
        );
        for id in self.after.document.resources.keys() {
            if old[id].is_null() {
                continue;
            }
            let details = section::attributes(&old[id], &new[id]);
            if details.is_empty() {
                continue;
            }
            let r#type = &self.after.document.resources[id].r#type;
            findings.push(Finding {
                weight: Weight::Changed,
                headline: format!("{id} ({type}), beside its properties"),
                details,
                place: self.place(id),
            });
        }
    }

    fn permissions(&self, findings: &mut Vec<Finding>) {
        let lines = &self.changes.permissions;
        for (weight, rows, widens) in [
            (Weight::Widened, &lines.widened, true),
            (Weight::Narrowed, &lines.narrowed, false),
        ] {
            let (deny, allow): (Vec<_>, Vec<_>) = rows
                .iter()
                .cloned()
                .partition(|row| row.get(1).is_some_and(|effect| effect == "DENY"));
            // A deny that goes widens.
            let mut sentences = words::permissions(&allow, widens);
            sentences.extend(words::permissions(&deny, !widens));
            for (about, headline) in sentences {
                let place = self
                    .place(&about)
                    .or_else(|| self.place(self.changed_policy(&headline)?));
                findings.push(Finding {
                    weight,
                    headline,
                    details: Vec::new(),
                    place,
                });
            }
        }
    }

    /// The resource whose policy changes and that a sentence is about: itself, or what it is attached to.
    fn changed_policy(&self, sentence: &str) -> Option<&str> {
        let words: Vec<&str> = sentence
            .split(|c: char| !c.is_ascii_alphanumeric())
            .collect();
        let resources = self.changes.resources.iter();
        let with_policy = resources.filter(|(_, change)| {
            let mut settings = change.settings.iter();
            let is_policy = |it: &Setting| POLICIES.iter().any(|path| it.path.starts_with(path));
            settings.any(is_policy) || !matches!(change.action, Action::Update)
        });
        let mut ids = with_policy.map(|(id, _)| id.as_str());
        ids.find(|id| words.contains(id) || words.contains(&id.trim_end_matches("Policy")))
    }

    fn network(&self, findings: &mut Vec<Finding>) {
        let lines = &self.changes.network;
        for (weight, rows, opens) in [
            (Weight::Opened, &lines.widened, true),
            (Weight::Closed, &lines.narrowed, false),
        ] {
            for row in rows {
                let is_no_way = row.last().is_some_and(|way| way == "no way");
                let (about, headline) = words::edge(row, opens != is_no_way);
                findings.push(Finding {
                    weight,
                    headline,
                    details: Vec::new(),
                    place: self.place(&about),
                });
            }
        }
    }

    /// A new resource by its most telling settings.
    fn described(&self, id: &str) -> Vec<String> {
        let properties = &self.after.json["Resources"][id]["Properties"];
        let members = properties.as_object().into_iter().flatten();
        members
            .filter(|(name, value)| {
                let is_policy = POLICIES.iter().any(|path| path.ends_with(name.as_str()));
                !is_policy && (value.is_string() || value.is_number() || value.is_boolean())
            })
            .map(|(name, value)| format!("{name}: {}", words::shown(value)))
            .collect()
    }

    /// What an alarm told that goes.
    fn nobody_is_told(&self, id: &str) -> Option<String> {
        let resource = &self.before.json["Resources"][id];
        if resource["Type"] != "AWS::CloudWatch::Alarm" {
            return None;
        }
        let description = resource["Properties"]["AlarmDescription"].as_str();
        Some(format!(
            "nobody is told any more: {}",
            description.unwrap_or("an alarm without description")
        ))
    }
}

/// What is lost with the old one, and how long the new one takes.
fn consequence(change: &Change, old: Disposition) -> String {
    let seconds = cfn::typical::seconds(&change.r#type);
    let time = cfn::typical::in_words(seconds);
    let old = match (&change.lost, old) {
        (Some(lost), _) => format!("lost with the old one: {lost}"),
        (None, Disposition::Deleted) => "the old one is deleted; it holds no data".to_owned(),
        (None, Disposition::Kept) => {
            "the old one is kept outside of the stack; the new one is empty".to_owned()
        }
        (None, Disposition::Snapshot) => {
            "the old one is deleted after a snapshot, which the new one does not read".to_owned()
        }
    };
    if seconds < WORTH_SAYING {
        return old;
    }
    format!("{old}; about {time}")
}
