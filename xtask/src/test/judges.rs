//! Checks of the templates by programs that we did not write. Each finds other faults.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use cfn::document::Document;
use cfn::resolve::{MissingParameters, Naming, resolve};
use serde_json::Value as Json;
use stack::Stage;

use super::{Setting, succeed};
use crate::{program, synth, tools, workspace};

/// cfn-lint with AWS's registry schemas: no error and no warning.
pub(super) fn cfn_lint(setting: &Setting) -> anyhow::Result<()> {
    let lint = setting.tools.path(&tools::CFN_LINT)?;
    succeed(
        Command::new(lint)
            .args(["--non-zero-exit-code", "warning", "--"])
            .args(templates()?),
        setting,
    )
}

/// AWS's own validator. It wants a newer Rust than ours, though it compiles with ours, so it is a
/// package outside the workspace, with its own lock file.
pub(super) fn cloudformation_validate(setting: &Setting) -> anyhow::Result<()> {
    const NAME: &str = "judge-cloudformation-validate";
    let package = setting.root.join("e2e/judges/cloudformation-validate");
    let mut cargo = program::cargo();
    cargo
        .args(["build", "--quiet", "--locked", "--ignore-rust-version"])
        .arg("--manifest-path")
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(workspace::target()?.join("judges"));
    let artifacts = setting.cargo("the validator", &mut cargo, &[])?;
    let validator = artifacts.program(NAME);
    let validator = validator.with_context(|| format!("cargo has built no program `{NAME}`"))?;
    succeed(Command::new(validator).args(templates()?), setting)
}

/// checkov: no finding but those that are accepted, with their reasons, in the templates' metadata.
pub(super) fn checkov(setting: &Setting) -> anyhow::Result<()> {
    let mut command = Command::new(setting.tools.path(&tools::CHECKOV)?);
    // Without `--skip-download` it asks a server for texts about its checks.
    command.args([
        "--framework",
        "cloudformation",
        "--compact",
        "--quiet",
        "--skip-download",
    ]);
    for template in templates()? {
        // Relative: checkov looks for secrets in the file's path too, and takes 40 letters and slashes for one.
        command.arg("--file").arg(workspace::shown(&template));
    }
    succeed(&mut command, setting)
        .context("fix it, or accept it with a reason in stack/src/accepted.rs")
}

/// A finding of parliament that is accepted.
struct Accepted {
    issue: String,
    /// Name of the policy's file
    file: String,
    is_found: bool,
}

/// parliament: no finding in a role's policies but those that are accepted, with their reasons, in the
/// templates' metadata.
pub(super) fn parliament(setting: &Setting) -> anyhow::Result<()> {
    let folder = workspace::target()?.join("judges/parliament");
    let (count, mut accepted) = write_policies(&folder)?;
    let parliament = setting.tools.path(&tools::PARLIAMENT)?;
    let output = Command::new(parliament)
        .arg("--directory")
        .arg(&folder)
        .args(["--include_policy_extension", "json", "--json"])
        .stdin(Stdio::null())
        .output()
        .context("run parliament")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut findings = Vec::new();
    for line in said.lines().filter(|line| !line.is_empty()) {
        let finding: Json = serde_json::from_str(line)
            .with_context(|| format!("parliament says what nobody understands: {line}"))?;
        let text = |pointer| {
            finding
                .pointer(pointer)
                .and_then(Json::as_str)
                .unwrap_or_default()
        };
        let (issue, path) = (text("/issue"), text("/location/filepath"));
        let policy = path.rsplit('/').next().unwrap_or(path);
        let known = accepted
            .iter_mut()
            .find(|it| it.issue == issue && it.file == policy);
        match known {
            Some(known) => known.is_found = true,
            None => findings.push(format!(
                "{policy}: {} {}",
                text("/title"),
                finding["detail"]
            )),
        }
    }
    // 1 is said for findings; anything else is a failure of the program itself.
    let ended = output.status.code();
    if !matches!(ended, Some(0 | 1)) || (ended == Some(1) && said.trim().is_empty()) {
        bail!(
            "parliament ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    for Accepted { issue, file, .. } in accepted.iter().filter(|it| !it.is_found) {
        findings.push(format!(
            "{file}: {issue} is accepted, but parliament does not find it any more: remove the reason in stack/src/accepted.rs"
        ));
    }
    if !findings.is_empty() {
        bail!("{}", findings.join("\n"));
    }
    println!("parliament has looked at {count} policies");
    Ok(())
}

/// cargo-deny: licences, sources, withdrawn and unwanted packages of the lock file, by `deny.toml`; and
/// advisories when their database is at hand, so that this needs no network once the packages are here.
pub(super) fn deny(setting: &Setting) -> anyhow::Result<()> {
    let deny = setting.tools.path(&tools::CARGO_DENY)?;
    // It looks at packages for other systems too, which no build here has brought. What is here already
    // needs no network.
    succeed(
        program::cargo().args(["fetch", "--locked", "--quiet"]),
        setting,
    )?;
    let mut command = Command::new(&deny);
    command.args([
        "--offline",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]);
    if !has_advisories() && in_ci() {
        // CI has a network as a rule; where it has none, the rest is checked all the same.
        let fetched = Command::new(&deny)
            .args(["fetch", "db"])
            .stdin(Stdio::null())
            .output()
            .context("run cargo-deny")?;
        if !fetched.status.success() {
            let said = String::from_utf8_lossy(&fetched.stderr);
            let first = said.lines().find(|line| !line.trim().is_empty());
            println!(
                "the database of advisories cannot be fetched: {}",
                first.unwrap_or_default().trim()
            );
        }
    }
    if has_advisories() {
        command.arg("advisories");
    } else {
        println!("no database of advisories at hand: `cargo deny fetch db` brings it");
    }
    succeed(&mut command, setting)
}

/// Whether this runs for CI, as all of its services say.
pub(super) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Whether cargo-deny has fetched its database once.
fn has_advisories() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let databases = home.and_then(|home| fs::read_dir(home.join("advisory-dbs")).ok());
    // A fetch that failed leaves its lock behind.
    databases.is_some_and(|entries| {
        let mut folders = entries.flatten().filter(|it| it.path().is_dir());
        folders.next().is_some()
    })
}

/// Stands for the name of a policy that is a resource by itself.
const MANAGED: &str = "managed";

/// The policies of all roles and all managed policies, resolved, each in a file; how many, and what of them is accepted.
fn write_policies(folder: &Path) -> anyhow::Result<(usize, Vec<Accepted>)> {
    if folder.exists() {
        fs::remove_dir_all(folder).context("remove what an earlier run wrote")?;
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let mut count = 0;
    let mut accepted = Vec::new();
    for (number, path) in templates()?.into_iter().enumerate() {
        let template = fs::read_to_string(&path)?;
        let json: Json = serde_json::from_str(&template)?;
        let document = Document::parse(&template)?;
        // The account of AWS's own examples; names as AWS could have made them.
        let context = cfn::resolve::Context {
            missing_parameters: MissingParameters::Placeholder,
            naming: Naming::Logical,
            ..cfn::resolve::Context::new("123456789012", "eu-central-1", "sensors")
        };
        let resolved = resolve(&document, &context).map_err(|problems| {
            anyhow::anyhow!(
                "{} cannot be resolved: {problems:?}",
                workspace::shown(&path)
            )
        })?;
        let stack = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let stack = stack.trim_end_matches(".template.json");
        let holders = resolved
            .of_type("AWS::IAM::Role")
            .chain(resolved.of_type("AWS::IAM::ManagedPolicy"));
        for holder in holders {
            let id = &holder.logical_id;
            let file = |policy: &str| format!("{number}-{stack}.{id}.{policy}.json");
            let skip = &json["Resources"][id]["Metadata"]["parliament"]["skip"];
            for skipped in skip.as_array().into_iter().flatten() {
                let text = |name: &str| skipped[name].as_str().unwrap_or_default();
                accepted.push(Accepted {
                    issue: text("issue").to_owned(),
                    file: file(text("policy")),
                    is_found: false,
                });
            }
            let inline = holder.items("/Policies").iter();
            let inline = inline.map(|policy| {
                let name = policy["PolicyName"].as_str().unwrap_or_default();
                (name, &policy["PolicyDocument"])
            });
            let managed = holder.property("/PolicyDocument");
            for (name, document) in inline.chain(managed.map(|it| (MANAGED, it))) {
                let file = folder.join(file(name));
                fs::write(&file, document.to_string())
                    .with_context(|| format!("write {}", file.display()))?;
                count += 1;
            }
        }
    }
    Ok((count, accepted))
}

/// The templates of every stage and of every choice that no stage takes, synthesised now.
fn templates() -> anyhow::Result<Vec<PathBuf>> {
    let mut templates = Vec::new();
    for stage in Stage::ALL {
        let folder = synth::default_folder(stage)?;
        let written = synth::write(stage, &folder).context("synthesise")?;
        templates.extend(written.into_iter().map(|written| written.template));
    }
    let written = synth::write_bootstrap(None).context("synthesise")?;
    templates.extend(written.into_iter().map(|written| written.template));
    for (name, config) in stack::choices::all() {
        let folder = workspace::target()?.join("judges/templates").join(name);
        let written = synth::write_with(&config, &folder).context("synthesise")?;
        templates.extend(written.into_iter().map(|written| written.template));
    }
    Ok(templates)
}
