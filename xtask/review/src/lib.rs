//! What a change of the emitted templates means, for whoever reviews it.
//!
//! Text in, words out: this package reads no file and calls no git; `cargo xtask review` does.
//! A template is compared by what it means ([`cfn::diff`]): moved lines are nothing, a renamed logical ID
//! is a replacement, and settings that only exist where an optional parameter is given count, too.
//!
//! Layout: [`Input`], [`review`] and [`Review`] here; `stack` turns the changes of one stack into
//! [`Finding`]s; `words` says permissions, network edges and settings in plain words; `protection`
//! knows which settings protect; `section` compares what `cfn::diff` leaves out; `text_file` compares
//! files; `render` shows a review on a terminal, as Markdown and as JSON.

mod protection;
mod render;
mod section;
mod stack;
mod text_file;
mod words;

use std::collections::BTreeMap;
use std::fmt;

pub use render::Tone;

/// What is compared.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// What it is compared with, as a person says it, such as "main (1a2b3c4)".
    pub base: String,
    /// What must be said beforehand, such as that a snapshot is not up to date.
    pub notes: Vec<String>,
    /// The stacks, in the order in which they are deployed.
    pub stacks: Vec<Stack>,
    /// Other text that is emitted, such as the files of the bundle.
    pub files: Vec<TextFile>,
}

/// A stack before and after.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    /// Such as `dev`
    pub stage: String,
    /// Such as `sensors-dev`
    pub name: String,
    /// The template; `None`: the stack was not emitted.
    pub before: Option<String>,
    /// The template; `None`: the stack is not emitted any more.
    pub after: Option<String>,
    /// Logical ID → where it was defined, as far as that is known.
    pub places_before: BTreeMap<String, String>,
    /// Logical ID → where it is defined, such as `stack/src/cache.rs:12`.
    pub places: BTreeMap<String, String>,
}

/// Emitted text before and after.
#[derive(Clone, Debug, Default)]
pub struct TextFile {
    /// Such as `bundle/http`
    pub name: String,
    /// Empty when it was not there.
    pub before: String,
    /// Empty when it is gone.
    pub after: String,
}

/// How much something matters; the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// A new one comes, the old one goes.
    Replaced,
    /// It goes.
    Removed,
    /// Somebody may do more.
    Widened,
    /// Somebody may reach more.
    Opened,
    /// Encryption, public access, retention or another safeguard is less than it was.
    Weakened,
    /// Somebody may do less.
    Narrowed,
    /// Somebody may reach less.
    Closed,
    /// A safeguard is more than it was.
    Strengthened,
    /// Anything else that changes in place.
    Changed,
    /// It comes.
    Added,
}

impl Weight {
    /// All of them, in order.
    pub const ALL: [Weight; 10] = [
        Weight::Replaced,
        Weight::Removed,
        Weight::Widened,
        Weight::Opened,
        Weight::Weakened,
        Weight::Narrowed,
        Weight::Closed,
        Weight::Strengthened,
        Weight::Changed,
        Weight::Added,
    ];

    /// Whether somebody must look at it before it is merged.
    pub fn is_grave(self) -> bool {
        self <= Weight::Weakened
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Weight::Replaced => "replaced",
            Weight::Removed => "removed",
            Weight::Widened => "permissions that widen",
            Weight::Opened => "network that opens",
            Weight::Weakened => "protection that weakens",
            Weight::Narrowed => "permissions that narrow",
            Weight::Closed => "network that closes",
            Weight::Strengthened => "protection that grows",
            Weight::Changed => "changed in place",
            Weight::Added => "added",
        })
    }
}

/// One thing to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters
    pub weight: Weight,
    /// What happens, in one line.
    pub headline: String,
    /// More of it, such as values before and after.
    pub details: Vec<String>,
    /// File and line that define it, if known.
    pub place: Option<String>,
}

/// What is found about some stages, or about something that belongs to none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Such as `dev and prod`
    pub title: String,
    /// The gravest first
    pub findings: Vec<Finding>,
}

/// What a change means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// What was compared with
    pub base: String,
    /// What must be said beforehand
    pub notes: Vec<String>,
    /// The part with the gravest finding comes first; parts without findings are left out.
    pub parts: Vec<Part>,
}

impl Review {
    /// Whether something is replaced, removed, widened, opened or weakened.
    pub fn is_grave(&self) -> bool {
        self.findings().any(|finding| finding.weight.is_grave())
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.parts.iter().flat_map(|part| &part.findings)
    }
}

/// A template that cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The stack
    pub stack: String,
    /// Why, and which side
    pub message: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stack, self.message)
    }
}

impl std::error::Error for Unreadable {}

/// Compares everything.
///
/// # Errors
/// The first template that is none or that cannot be resolved.
pub fn review(input: &Input) -> Result<Review, Unreadable> {
    let mut stages: Vec<Part> = Vec::new();
    for stack in &input.stacks {
        let findings = stack::findings(stack)?;
        match stages.iter_mut().find(|part| part.title == stack.stage) {
            Some(part) => part.findings.extend(findings),
            None => stages.push(Part {
                title: stack.stage.clone(),
                findings,
            }),
        }
    }
    let mut parts = together(stages);
    for file in &input.files {
        let findings = text_file::findings(file);
        parts.push(Part {
            title: file.name.clone(),
            findings,
        });
    }
    for part in &mut parts {
        // Stable: within a weight the template's order stays.
        part.findings.sort_by_key(|finding| finding.weight);
    }
    parts.retain(|part| !part.findings.is_empty());
    // Stable, too: what stages have in common stays before what is only one's.
    parts.sort_by_key(|part| part.findings.first().map(|finding| finding.weight));
    Ok(Review {
        base: input.base.clone(),
        notes: input.notes.clone(),
        parts,
    })
}

/// What is the same in every stage that changes is said once, before what is not.
fn together(mut stages: Vec<Part>) -> Vec<Part> {
    // The bootstrap stack is a part of its own, and mostly one without findings.
    stages.retain(|part| !part.findings.is_empty());
    if stages.len() < 2 {
        return stages;
    }
    let in_all = |finding: &Finding| stages.iter().all(|part| part.findings.contains(finding));
    let first = stages.first().map(|part| part.findings.clone());
    let common: Vec<Finding> = first
        .unwrap_or_default()
        .into_iter()
        .filter(in_all)
        .collect();
    for part in &mut stages {
        part.findings.retain(|finding| !common.contains(finding));
    }
    let names: Vec<&str> = stages.iter().map(|part| part.title.as_str()).collect();
    let title = match names.split_last() {
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    };
    let common = Part {
        title,
        findings: common,
    };
    std::iter::once(common).chain(stages).collect()
}
