//! The program repairs generated code that does not compile.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn codegen(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cfn-codegen"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn copy(folder: &str, to: &Path) {
    fs::create_dir_all(to.join(folder)).unwrap();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(folder).join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn broken_generated_code_is_regenerated() {
    let copied = tempfile::tempdir().unwrap();
    for folder in ["cfn/schemas", "cfn/overlays", "cfn/src/resources"] {
        copy(folder, copied.path());
    }
    let kinesis = copied.path().join("cfn/src/resources/kinesis.rs");
    let good = fs::read_to_string(&kinesis).unwrap();
    fs::write(&kinesis, "pub struct Broken {").unwrap();
    fs::remove_file(copied.path().join("cfn/src/resources/iot.rs")).unwrap();

    let check = codegen(copied.path(), &["--check"]);
    let error = String::from_utf8(check.stderr).unwrap();
    assert!(!check.status.success());
    assert!(
        error.contains("kinesis.rs") && error.contains("cargo xtask codegen"),
        "{error}"
    );

    let written = codegen(&copied.path().join("cfn"), &[]);
    assert!(written.status.success(), "{written:?}");
    assert_eq!(fs::read_to_string(&kinesis).unwrap(), good);
    assert!(codegen(copied.path(), &["--check"]).status.success());
}

/// The package compiles while `cfn` does not, and so does what `cargo xtask` starts it with.
#[test]
fn neither_generator_nor_launcher_depends_on_cfn() {
    for package in ["cfn-codegen", "launcher"] {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--locked", "--edges", "normal,build"])
            .args(["--prefix", "none", "--package", package])
            .current_dir(root())
            .output()
            .unwrap();
        let tree = String::from_utf8(tree.stdout).unwrap();
        assert!(tree.starts_with(package), "{tree}");
        let forbidden = ["cfn ", "stack ", "xtask "];
        let line = tree
            .lines()
            .find(|line| forbidden.iter().any(|name| line.starts_with(name)));
        assert_eq!(line, None, "{package} depends on it");
    }
}
