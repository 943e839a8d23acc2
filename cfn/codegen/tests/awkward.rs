//! Types that the stacks do not use, and that others stumbled over, become code that compiles:
//! recursion (WAFv2), alternatives of objects (S3), depth (CloudFront), a type whose identifiers are
//! all required (Glue), and the two that CONTRIBUTING.md adds as its example.

use std::fs;
use std::path::Path;
use std::process::Command;

use cfn_codegen::schema::Input;

/// Everything of `cfn` that generated code leans on. The modules that read templates are left out:
/// they know some resource types by name.
const BESIDE: &[&str] = &[
    "intrinsic.rs",
    "policy.rs",
    "problem.rs",
    "reference.rs",
    "resource.rs",
    "shape.rs",
    "value.rs",
];

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
    for name in BESIDE {
        fs::copy(cfn.join("src").join(name), source.join(name))
            .expect("copy what generated code leans on");
    }
    // Intrinsics name the handles of conditions and mappings; nothing of the writer is needed.
    fs::write(
        source.join("template.rs"),
        "#[derive(Clone, Copy)] pub struct Condition(&'static str);\n\
         impl Condition { pub const fn name(self) -> &'static str { self.0 } }\n\
         #[derive(Clone, Copy)] pub struct Mapping(&'static str);\n\
         impl Mapping { pub const fn name(self) -> &'static str { self.0 } }\n",
    )
    .expect("write the stand-ins");
    let modules = BESIDE
        .iter()
        .map(|name| format!("pub mod {};\n", name.trim_end_matches(".rs")));
    let library: String = modules
        .chain(["pub mod template;\npub mod resources;\n".to_owned()])
        .collect();
    fs::write(
        source.join("lib.rs"),
        format!("#![allow(dead_code, unused)]\n{library}"),
    )
    .expect("write the library");
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

const MANIFEST: &str = r#"
[package]
name = "awkward"
version = "0.1.0"
edition = "2024"

[dependencies]
indexmap = { version = "2.14", features = ["serde"] }
serde = { version = "1.0", features = ["derive"] }
serde_json = { version = "1.0", features = ["raw_value"] }
serde_path_to_error = "0.1"
thiserror = "2.0"

[workspace]
"#;
