//! Types that the stacks do not use, and that others stumbled over, become code that compiles:
//! recursion (WAFv2), alternatives of objects (S3), depth (CloudFront), a type whose identifiers are
//! all required (Glue), and the two that CONTRIBUTING.md adds as its example.

use std::fs;
use std::path::Path;
use std::process::Command;

use cfn_codegen::schema::Input;

#[test]
fn awkward_resource_types_become_code_that_compiles() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cfn = here.join("..");
    let mut input = Input::read(&cfn.join("schemas"), &cfn.join("overlays"))
        .expect("the committed input is readable");
    let extra = Input::read(&here.join("tests/schemas"), &here.join("tests/overlays"))
        .expect("the test's input is readable");
    let expected: Vec<String> = extra.schemas.keys().cloned().collect();
    input.schemas.extend(extra.schemas);
    input.overlays.extend(extra.overlays);
    let generated = cfn_codegen::generate(&input).expect("every type can be generated");
    for r#type in &expected {
        assert!(
            generated.files["mod.rs"].contains(r#type.as_str()),
            "{type} is in the index"
        );
    }

    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("src");
    fs::create_dir_all(source.join("resources")).expect("a folder for the code");
    for (name, text) in &generated.files {
        fs::write(source.join("resources").join(name), text).expect("write generated code");
    }
    copy_sources(&cfn.join("src"), &source);
    let schemas = folder.path().join("schemas");
    fs::create_dir(&schemas).expect("a folder for the schemas");
    fs::copy(
        cfn.join("schemas/actions.json"),
        schemas.join("actions.json"),
    )
    .expect("copy the list of actions");
    let library = fs::read_to_string(source.join("lib.rs")).expect("the library is copied");
    fs::write(
        source.join("lib.rs"),
        format!("{library}\npub mod contributing;\n"),
    )
    .expect("add the example");
    fs::write(source.join("contributing.rs"), example(&cfn)).expect("write the example");
    fs::write(folder.path().join("Cargo.toml"), MANIFEST).expect("write the manifest");
    fs::copy(cfn.join("../Cargo.lock"), folder.path().join("Cargo.lock"))
        .expect("copy the lock file");

    let output = Command::new(env!("CARGO"))
        .args(["check", "--quiet", "--offline"])
        .current_dir(folder.path())
        .env(
            "CARGO_TARGET_DIR",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("awkward"),
        )
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "the generated code does not compile:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Everything of `cfn` but what is generated.
fn copy_sources(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder for the code");
    for entry in fs::read_dir(from).expect("cfn's sources are readable") {
        let entry = entry.expect("cfn's sources are readable");
        let (name, path) = (entry.file_name(), entry.path());
        if name == "resources" {
            continue;
        }
        if path.is_dir() {
            copy_sources(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).expect("copy a source");
        }
    }
}

/// The Rust of CONTRIBUTING.md's "How to add a resource type", so that it stays true.
fn example(cfn: &Path) -> String {
    let text =
        fs::read_to_string(cfn.join("../CONTRIBUTING.md")).expect("there is a CONTRIBUTING.md");
    let (_, section) = text
        .split_once("## How to add a resource type")
        .expect("the section is there");
    let (_, code) = section.split_once("```rust\n").expect("it shows Rust");
    let (code, _) = code.split_once("```").expect("the Rust ends");
    format!(
        "//! The example.\nuse crate::Template;\nuse crate::resources::{{dynamodb, sqs}};\n\
         /// Defines what the example defines.\npub fn example(template: &mut Template) {{\n{code}\n\
         let _ = (table.stream_arn(), table.arn(), queue.reference());\n}}\n"
    )
}

const MANIFEST: &str = r#"
[package]
name = "awkward"
version = "0.1.0"
edition = "2024"

[dependencies]
erased-serde = "0.4"
fancy-regex = "0.20"
indexmap = { version = "2.14", features = ["serde"] }
serde = { version = "1.0", features = ["derive"] }
serde_json = { version = "1.0", features = ["raw_value"] }
serde_path_to_error = "0.1"
thiserror = "2.0"

[workspace]
"#;
