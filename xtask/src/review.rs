//! `cargo xtask review`: what a change means for the infrastructure, in words.
//!
//! Compares what the source emits now with the snapshots of a git revision. The working tree's own
//! snapshots never decide: where they are not what is emitted, that is said beside it. Nothing is fetched
//! and nothing is asked of AWS; git is called as a program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use review::{Input, Stack, TextFile, Tone};
use serde_json::Value as Json;
use stack::Stage;

use crate::{Exit, style, workspace};

/// Where the snapshots are, from the repository's root.
const SNAPSHOTS: &str = "snapshots";

/// What updates the snapshots; needs nothing but cargo.
const UPDATE: &str = "INSTA_UPDATE=always cargo test -p snapshots";

/// The exit code is 0 when nothing is grave, 3 when something is replaced, removed, widened, opened or
/// weakened, 1 when it could not be told.
#[derive(Args)]
#[command(
    after_help = "Exit code: 0 nothing grave; 3 something is replaced, removed, widened, \
    opened or weakened; 1 an error; 2 a wrong flag"
)]
pub(crate) struct Arguments {
    /// Revision to compare with [default: where this branch left origin/main or main, else HEAD]
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// Write Markdown, for a comment on a pull request
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        base,
        markdown,
        json,
    } = arguments;
    let root = workspace::root()?;
    let base = Base::find(&root, base)?;
    let review = review::review(&input(&root, &base, emitted()?)?)?;
    if json {
        println!("{}", review.json());
    } else if markdown {
        print!("{}", review.markdown());
    } else {
        let style = style::stdout();
        let paint = |tone, text: &str| match tone {
            Tone::Title => style.title(text),
            Tone::Grave => style.bad(text),
            Tone::Good => style.good(text),
            Tone::Faint => style.faint(text),
        };
        print!("{}", review.text(&paint));
    }
    Ok(if review.is_grave() {
        Exit::Attention
    } else {
        Exit::Done
    })
}

/// The revision that is compared with.
struct Base {
    commit: String,
    /// As a person says it
    name: String,
}

impl Base {
    fn find(root: &Path, given: Option<String>) -> anyhow::Result<Base> {
        if git(root, ["rev-parse", "--is-inside-work-tree"])?.is_none() {
            bail!(
                "{} is not in a git repository: review compares with one of its revisions",
                root.display()
            );
        }
        if let Some(given) = given {
            return match commit(root, &given)? {
                Some(commit) => Ok(Base::named(&given, commit)),
                None => bail!(
                    "--base: got `{given}`, which this repository does not know; expected a branch, a tag or a commit (fetch it first)"
                ),
            };
        }
        for branch in ["origin/main", "main"] {
            if commit(root, branch)?.is_none() {
                continue;
            }
            if let Some(commit) = git(root, ["merge-base", "HEAD", branch])? {
                return Ok(Base::named(
                    &format!("{branch}, where this branch left it"),
                    commit,
                ));
            }
        }
        match commit(root, "HEAD")? {
            Some(commit) => Ok(Base::named("HEAD", commit)),
            None => bail!("this repository has no commit yet: there is nothing to compare with"),
        }
    }

    fn named(name: &str, commit: String) -> Base {
        let short: String = commit.chars().take(7).collect();
        let name = match commit.starts_with(name) {
            true => short,
            false => format!("{name} ({short})"),
        };
        Base { commit, name }
    }

    /// The snapshots of the revision: path below `snapshots` → text.
    fn snapshots(&self, root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
        let list = git(
            root,
            [
                "ls-tree",
                "-r",
                "--name-only",
                &self.commit,
                "--",
                SNAPSHOTS,
            ],
        )?;
        let mut snapshots = BTreeMap::new();
        for path in list.unwrap_or_default().lines() {
            let Some(name) = snapshot_name(path) else {
                continue;
            };
            let text = git(root, ["show", &format!("{}:./{path}", self.commit)])?
                .with_context(|| format!("git cannot show {path} of {}", self.name))?;
            snapshots.insert(name, body(&text));
        }
        if snapshots.is_empty() {
            bail!(
                "{} has no snapshots (no {SNAPSHOTS}/*/*.snap): choose a later revision by --base",
                self.name
            );
        }
        Ok(snapshots)
    }

    /// Where a logical ID stood in the revision: IDs are literal words in the source.
    fn place(&self, root: &Path, id: &str) -> anyhow::Result<Option<String>> {
        let word = format!("\"{id}\"");
        let found = git(
            root,
            ["grep", "-n", "-F", &word, &self.commit, "--", "stack/src"],
        )?;
        let found = found.unwrap_or_default();
        let mut lines = found.lines();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Ok(None);
        };
        // REV:path:line:text
        let mut parts = line.splitn(4, ':').skip(1);
        Ok(match (parts.next(), parts.next()) {
            (Some(path), Some(line)) => Some(format!("{path}:{line}")),
            _ => None,
        })
    }
}

/// The commit that a revision means.
fn commit(root: &Path, revision: &str) -> anyhow::Result<Option<String>> {
    let revision = format!("{revision}^{{commit}}");
    git(
        root,
        [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &revision,
        ],
    )
}

/// What git writes, without the last line end; `None` when it fails.
fn git<'a>(
    root: &Path,
    arguments: impl IntoIterator<Item = &'a str>,
) -> anyhow::Result<Option<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(arguments.into_iter().map(OsStr::new))
        .stdin(Stdio::null())
        .output()
        .context("run git, which review needs: is it installed?")?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Some(text.trim_end_matches('\n').to_owned()))
}

/// `snapshots/dev/sensors-dev.template.snap` → `dev/sensors-dev.template`
fn snapshot_name(path: &str) -> Option<String> {
    let path = path.strip_prefix(SNAPSHOTS)?.strip_prefix('/')?;
    Some(path.strip_suffix(".snap")?.to_owned())
}

/// A snapshot's text without insta's header.
fn body(text: &str) -> String {
    let body = text
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"))
        .map_or(text, |(_, body)| body);
    body.trim_end_matches('\n').to_owned()
}

/// What the source emits now.
struct Emitted {
    /// Path below `snapshots` → text, as a snapshot would hold it.
    texts: BTreeMap<String, String>,
    /// Stack → logical ID → where it is defined, such as `stack/src/cache.rs:12`.
    places: BTreeMap<String, BTreeMap<String, String>>,
}

fn emitted() -> anyhow::Result<Emitted> {
    let emitted = snapshots::emitted().map_err(|error| anyhow!("cannot review: {error}"))?;
    let texts = emitted.into_iter().map(|it| {
        let text = it.text.trim_end_matches('\n').to_owned();
        (format!("{}/{}", it.folder, it.name), text)
    });
    let problem = |problems: cfn::Problems| anyhow!("cannot review: {problems}");
    let mut stacks = vec![stack::bootstrap::synth().map_err(problem)?];
    for stage in Stage::ALL {
        stacks.extend(stack::synth(stage).map_err(problem)?);
    }
    let places = stacks.into_iter().map(|stack| {
        let sources: BTreeMap<String, Json> =
            serde_json::from_str(&stack.sources).unwrap_or_default();
        let place = |(id, place): (String, Json)| {
            Some((id, format!("{}:{}", place["file"].as_str()?, place["line"])))
        };
        (stack.name, sources.into_iter().filter_map(place).collect())
    });
    let places = places.collect();
    Ok(Emitted {
        texts: texts.collect(),
        places,
    })
}

/// The working tree's snapshots: path below `snapshots` → text. Empty where there are none.
fn working_tree(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut snapshots = BTreeMap::new();
    let home = root.join(SNAPSHOTS);
    let list = |folder: &Path| {
        fs::read_dir(folder).with_context(|| format!("cannot list {}", workspace::shown(folder)))
    };
    if !home.is_dir() {
        return Ok(snapshots);
    }
    for folder in list(&home)? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        for file in list(&folder)? {
            let file = file?.path();
            let path = file.strip_prefix(root)?.to_string_lossy().into_owned();
            if let Some(name) = snapshot_name(&path) {
                let text = fs::read_to_string(&file)
                    .with_context(|| format!("cannot read {}", workspace::shown(&file)))?;
                snapshots.insert(name, body(&text));
            }
        }
    }
    Ok(snapshots)
}

/// Which of the working tree's snapshots are not what is emitted, in one note.
fn stale(
    emitted: &BTreeMap<String, String>,
    snapshots: &BTreeMap<String, String>,
) -> Option<String> {
    let mut names: Vec<&String> = emitted.keys().chain(snapshots.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| emitted.get(*name) != snapshots.get(*name));
    let (first, others) = names.split_first()?;
    let others = match others.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!(
        "stale snapshots: {SNAPSHOTS}/{first}.snap{others}; this review is of what the source emits now; fix: `{UPDATE}`"
    ))
}

fn input(root: &Path, base: &Base, emitted: Emitted) -> anyhow::Result<Input> {
    let before = base.snapshots(root)?;
    let Emitted {
        texts: after,
        mut places,
    } = emitted;
    let notes = stale(&after, &working_tree(root)?).into_iter().collect();
    let template = |name: &&String| name.ends_with(".template");
    let mut names: Vec<&String> = before.keys().chain(after.keys()).filter(template).collect();
    names.sort();
    names.dedup();
    let mut stacks = Vec::new();
    for name in names {
        let (stage, file) = name.split_once('/').unwrap_or(("", name));
        let mut stack = Stack {
            stage: stage.to_owned(),
            name: file.trim_end_matches(".template").to_owned(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
            places: places
                .remove(file.trim_end_matches(".template"))
                .unwrap_or_default(),
            ..Stack::default()
        };
        for id in gone(&stack) {
            if let Some(place) = base.place(root, &id)? {
                stack.places_before.insert(id, place);
            }
        }
        stacks.push(stack);
    }
    // What is emitted beside the stages: the bundle, and what prod's other choices change. What is beside
    // a template is a summary of it.
    let folder = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
    let stages: Vec<String> = stacks.iter().map(|stack| stack.stage.clone()).collect();
    let is_file = |name: &&String| !stages.contains(&folder(name));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).filter(is_file).collect();
    names.sort();
    names.dedup();
    let text = |snapshots: &BTreeMap<String, String>, name: &String| {
        snapshots.get(name).cloned().unwrap_or_default()
    };
    let files = names.into_iter().map(|name| TextFile {
        name: name.clone(),
        before: text(&before, name),
        after: text(&after, name),
    });
    Ok(Input {
        base: base.name.clone(),
        notes,
        stacks,
        files: files.collect(),
    })
}

/// Logical IDs that only the older template has.
fn gone(stack: &Stack) -> Vec<String> {
    let ids = |template: &Option<String>| -> Vec<String> {
        let template = template
            .as_deref()
            .and_then(|text| serde_json::from_str::<Json>(text).ok());
        let resources = template.as_ref().and_then(|it| it["Resources"].as_object());
        resources.map_or_else(Vec::new, |it| it.keys().cloned().collect())
    };
    let after = ids(&stack.after);
    ids(&stack.before)
        .into_iter()
        .filter(|id| !after.contains(id))
        .collect()
}

#[cfg(test)]
mod tests {
    use stack::Config;

    use super::*;

    #[test]
    fn snapshot_is_read_without_its_header() {
        assert_eq!(body("---\nsource: a\n---\n{\n}\n"), "{\n}");
        assert_eq!(body("no header\n"), "no header");
        let name = snapshot_name("snapshots/dev/sensors-dev.template.snap");
        assert_eq!(name.as_deref(), Some("dev/sensors-dev.template"));
        assert_eq!(snapshot_name("snapshots/dev/x.template.snap.new"), None);
        assert_eq!(snapshot_name("snapshots/templates.rs"), None);
    }

    /// A repository with snapshots of this as its only commit.
    fn repository(emitted: &Emitted) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for (name, text) in &emitted.texts {
            let file = folder.path().join(SNAPSHOTS).join(format!("{name}.snap"));
            fs::create_dir_all(file.parent().expect("is in a folder")).expect("can be made");
            fs::write(file, text).expect("can be written");
        }
        for arguments in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["add", "."],
            &[
                "-c",
                "user.name=tests",
                "-c",
                "user.email=tests@example.com",
                "-c",
                "commit.gpgsign=false",
                "commit",
                "--quiet",
                "--message=snapshots",
            ],
        ] {
            let done = git(folder.path(), arguments.iter().copied()).expect("git runs");
            assert!(done.is_some(), "git {arguments:?} fails");
        }
        folder
    }

    /// What is emitted after an edit of `dev` in `stack/src/config.rs`.
    fn edited(edit: impl Fn(&mut Config)) -> Emitted {
        let mut emitted = emitted().expect("everything synthesises");
        let mut config = Stage::Dev.config();
        edit(&mut config);
        for stack in stack::synth_with(&config).expect("synthesises") {
            let template = stack.template.trim_end_matches('\n').to_owned();
            let name = format!("dev/{}.template", stack.name);
            assert!(emitted.texts.insert(name, template).is_some());
        }
        emitted
    }

    /// What a review says of what is emitted, and whether it is grave.
    fn reviewed(
        root: &Path,
        base: Option<&str>,
        emitted: Emitted,
    ) -> anyhow::Result<(String, bool)> {
        let base = Base::find(root, base.map(str::to_owned))?;
        let review = review::review(&input(root, &base, emitted)?)?;
        Ok((review.text(&|_, text| text.to_owned()), review.is_grave()))
    }

    const NO_CHANGE: &str = "the infrastructure stays as it is";

    #[test]
    fn what_is_emitted_is_compared_with_the_snapshots_of_a_revision() {
        let repository = repository(&edited(|_| {}));
        let root = repository.path();
        for base in [None, Some("HEAD"), Some("main")] {
            let (text, grave) = reviewed(root, base, edited(|_| {})).expect("can be told");
            assert!(text.contains(NO_CHANGE), "{text}");
            assert!(!text.contains("stale"), "{text}");
            assert!(!grave);
        }
    }

    #[test]
    fn edited_tree_is_reviewed_before_its_snapshots_are_renewed() {
        let narrow = |config: &mut Config| config.network.allowed_cidrs = &["192.0.2.0/24"];
        let wide = |config: &mut Config| config.network.allowed_cidrs = &["0.0.0.0/0"];
        let more_memory = |config: &mut Config| config.processing.memory_mb = 512;
        for (before, after, said, is_grave) in [
            (
                &narrow as &dyn Fn(&mut Config),
                &wide as &dyn Fn(&mut Config),
                "0.0.0.0/0",
                true,
            ),
            (&wide, &narrow, "192.0.2.0/24", false),
            (&wide, &more_memory, "128 → 512", false),
        ] {
            let repository = repository(&edited(before));
            let (text, grave) =
                reviewed(repository.path(), Some("HEAD"), edited(after)).expect("can be told");
            assert!(!text.contains(NO_CHANGE), "{text}");
            assert!(text.contains(said), "{said}: {text}");
            assert_eq!(grave, is_grave, "{text}");
            let note = "stale snapshots: snapshots/dev/sensors-dev.template.snap";
            assert!(text.contains(note), "{text}");
        }
    }

    #[test]
    fn stale_snapshots_are_reported_and_change_nothing_else() {
        let repository = repository(&edited(|_| {}));
        let root = repository.path();
        let file = root.join(SNAPSHOTS).join("dev/sensors-dev.template.snap");
        let text = fs::read_to_string(&file).expect("is readable");
        let retained = "\"DeletionPolicy\": \"RetainExceptOnCreate\"";
        assert!(text.contains(retained));
        let text = text.replace(retained, "\"DeletionPolicy\": \"Delete\"");
        fs::write(&file, text).expect("can be written");
        let (text, grave) = reviewed(root, Some("HEAD"), edited(|_| {})).expect("can be told");
        assert!(text.contains("stale snapshots: snapshots/dev/sensors-dev.template.snap;"));
        assert!(text.contains(NO_CHANGE) && !grave, "{text}");
        fs::remove_dir_all(root.join(SNAPSHOTS)).expect("can be removed");
        let (text, grave) = reviewed(root, Some("HEAD"), edited(|_| {})).expect("can be told");
        assert!(
            text.contains("stale snapshots") && text.contains(UPDATE),
            "{text}"
        );
        assert!(text.contains(NO_CHANGE) && !grave, "{text}");
    }

    #[test]
    fn choices_that_no_stage_takes_are_reviewed_too() {
        let repository = repository(&edited(|_| {}));
        let mut emitted = edited(|_| {});
        let permissions = emitted.texts.get_mut("own-key/sensors-prod.permissions");
        let permissions = permissions.expect("is emitted");
        *permissions = permissions.replacen("kms:Decrypt", "kms:*", 1);
        let (text, grave) =
            reviewed(repository.path(), Some("HEAD"), emitted).expect("can be told");
        assert!(grave, "{text}");
        assert!(text.contains("permissions that widen"), "{text}");
        assert!(text.contains("kms:*"), "{text}");
    }

    #[test]
    fn revisions_that_cannot_be_compared_with_are_named() {
        let repository = repository(&edited(|_| {}));
        let root = repository.path();
        let error = reviewed(root, Some("nowhere"), edited(|_| {})).expect_err("is unknown");
        assert!(
            error.to_string().contains("--base: got `nowhere`"),
            "{error}"
        );
        let folder = tempfile::tempdir().expect("a folder can be made");
        let error = reviewed(folder.path(), None, edited(|_| {})).expect_err("is no repository");
        assert!(
            error.to_string().contains("is not in a git repository"),
            "{error}"
        );
    }
}
