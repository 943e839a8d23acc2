//! Generates the resource types of `cfn` from the CloudFormation registry schemas.
//!
//! The committed input is `cfn/schemas` (published by AWS, without prose) and `cfn/overlays` (corrections with
//! their reasons). The output, `cfn/src/resources`, is committed as well.
//! This crate does not depend on `cfn`, so that it compiles while generated code is broken.
//!
//! Layout: [`schema`] reads the input, [`import`] adds a schema, [`kind`] types the references, [`model`]
//! models a resource type, [`emit`] emits it as Rust.

pub mod emit;
pub mod import;
pub mod kind;
pub mod model;
pub mod name;
pub mod pattern;
pub mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The command that updates the generated files, for their headers and messages.
pub const COMMAND: &str = "cargo xtask codegen";

/// Result of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Files that were written, relative to the repository.
    pub written: Vec<String>,
    /// Properties that look like references and accept any text: candidates for an overlay.
    pub untyped: Vec<String>,
    /// Patterns that the regex engine does not support, so they are not checked.
    pub unchecked: Vec<String>,
}

/// Updates `cfn/src/resources` below `root`. With `check` it writes nothing, and a stale file is an error with
/// [`COMMAND`].
pub fn run(root: &Path, check: bool) -> Result<Report> {
    let input = schema::Input::read(&root.join("cfn/schemas"), &root.join("cfn/overlays"))?;
    let Generated {
        files,
        untyped,
        unchecked,
    } = generate(&input)?;
    let folder = root.join("cfn/src/resources");
    let mut report = Report {
        written: Vec::new(),
        untyped,
        unchecked,
    };
    let mut stale = Vec::new();
    let mut existing: BTreeMap<String, String> = BTreeMap::new();
    if folder.exists() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("read {}", path.display()))?;
                existing.insert(name.to_owned(), text);
            }
        }
    }
    for (name, text) in &files {
        if existing.remove(name).as_ref() != Some(text) {
            stale.push(name.clone());
        }
    }
    let superfluous: Vec<String> = existing.into_keys().collect();
    if check {
        if !stale.is_empty() || !superfluous.is_empty() {
            let names: Vec<String> = stale.into_iter().chain(superfluous).collect();
            bail!(
                "cfn/src/resources is stale ({}): run `{COMMAND}` and commit the result",
                names.join(", ")
            );
        }
        return Ok(report);
    }
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for name in superfluous {
        let path = folder.join(&name);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        report
            .written
            .push(format!("cfn/src/resources/{name} (removed)"));
    }
    for name in stale {
        let path = folder.join(&name);
        fs::write(&path, &files[&name]).with_context(|| format!("write {}", path.display()))?;
        report.written.push(format!("cfn/src/resources/{name}"));
    }
    Ok(report)
}

/// The generated code.
#[derive(Debug)]
pub struct Generated {
    /// The files by name.
    pub files: BTreeMap<String, String>,
    /// See [`Report::untyped`].
    pub untyped: Vec<String>,
    /// See [`Report::unchecked`].
    pub unchecked: Vec<String>,
}

/// Generates everything, in memory.
pub fn generate(input: &schema::Input) -> Result<Generated> {
    let kinds = kind::Kinds::new(input);
    let mut resources = Vec::new();
    for schema in input.schemas.values() {
        let resource = model::Resource::new(schema, input, &kinds)
            .with_context(|| format!("generate {}", schema.type_name))?;
        resources.push(resource);
    }
    let collect = |list: fn(&model::Resource) -> &Vec<String>| {
        resources.iter().flat_map(list).cloned().collect()
    };
    Ok(Generated {
        files: emit::files(&resources, &input.origin)?,
        untyped: collect(|resource| &resource.untyped),
        unchecked: collect(|resource| &resource.unchecked),
    })
}
