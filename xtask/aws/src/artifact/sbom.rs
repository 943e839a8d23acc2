//! CycloneDX lists of the packages that are compiled into a program, with versions, licences and the
//! registry's checksums.
//!
//! <https://cyclonedx.org/docs/1.6/json/>. It holds no time and no serial number: the same source gives
//! the same list. Build scripts and macros run on the building machine and do not ship.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};
use serde_json::{Value as Json, json};
use stack::Arch;
use tokio::process::Command;

use crate::artifact::{Artifact, BUILT, target};

/// Format of a line of `cargo tree`; the separator occurs in no licence and in no path of ours.
const FORMAT: &str = "{p}\t{l}";

/// The lists of the function and of the web UI, in the order of the artifacts; each is also written
/// beside the program that was built.
pub(crate) async fn of_both(root: &Path, arch: Arch) -> anyhow::Result<Vec<String>> {
    let lock = root.join("Cargo.lock");
    let lock =
        std::fs::read_to_string(&lock).with_context(|| format!("read {}", lock.display()))?;
    let checksums = checksums(&lock);
    let [function, webui] = BUILT;
    let (function, webui) = tokio::try_join!(
        of(root, arch, function, &checksums),
        of(root, arch, webui, &checksums)
    )?;
    Ok(vec![function, webui])
}

/// The list as an artifact, stored beside the one that it describes.
pub(crate) fn beside(of: &Artifact, list: String) -> Artifact {
    let key = of.key.strip_suffix(".zip").unwrap_or(&of.key);
    Artifact {
        what: "the list of what is in it",
        key: format!("{key}.cdx.json"),
        contents: list.into_bytes(),
    }
}

async fn of(
    root: &Path,
    arch: Arch,
    (package, binary): (&str, &str),
    checksums: &BTreeMap<(String, String), String>,
) -> anyhow::Result<String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--locked", "--package", package])
        .args(["--target", arch.target(), "--edges", "normal,no-proc-macro"])
        .args(["--prefix", "none", "--format", FORMAT])
        .current_dir(root)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("run cargo tree")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "listing what is in {binary} failed ({}):\n{said}",
            output.status
        );
    }
    let tree = String::from_utf8(output.stdout).context("read the output of cargo tree")?;
    let mut text =
        serde_json::to_string_pretty(&list(&tree, checksums)?).context("write the list")?;
    text.push('\n');
    let folder = target(root, arch);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let file = folder.join(format!("{binary}.cdx.json"));
    std::fs::write(&file, &text).with_context(|| format!("write {}", file.display()))?;
    Ok(text)
}

/// A package as cargo names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
}

/// Parses `name v1.2.3 (source)`, a tab and the licence; a package that was listed before is marked.
fn package(line: &str) -> Option<Package> {
    let (package, licence) = line.split_once('\t')?;
    let mut words = package.split(' ');
    let name = words.next()?.to_owned();
    let version = words.next()?.strip_prefix('v')?.to_owned();
    let licence = licence.trim_end_matches("(*)").trim().to_owned();
    Some(Package {
        name,
        version,
        licence,
    })
}

fn list(tree: &str, checksums: &BTreeMap<(String, String), String>) -> anyhow::Result<Json> {
    let mut lines = tree.lines().filter(|line| !line.is_empty());
    let read = |line: &str| package(line).with_context(|| format!("cargo tree said `{line}`"));
    let root = read(lines.next().context("cargo tree said nothing")?)?;
    let packages = lines
        .map(read)
        .collect::<anyhow::Result<BTreeSet<Package>>>()?;
    let components: Vec<Json> = packages
        .iter()
        .filter(|package| **package != root)
        .map(|package| component("library", package, checksums))
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": component("application", &root, checksums) },
        "components": components,
    }))
}

fn component(
    r#type: &str,
    package: &Package,
    checksums: &BTreeMap<(String, String), String>,
) -> Json {
    let Package {
        name,
        version,
        licence,
    } = package;
    let mut component = json!({ "type": r#type, "name": name, "version": version });
    if !licence.is_empty() {
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    // Only packages of the registry have a checksum and a package URL.
    if let Some(checksum) = checksums.get(&(name.clone(), version.clone())) {
        component["purl"] = json!(format!("pkg:cargo/{name}@{version}"));
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// Name and version → checksum, from the lock file.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let packages = lock.split("[[package]]").skip(1);
    packages
        .filter_map(|text| {
            let value = |name: &str| {
                let mut lines = text.lines();
                let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
                Some(value.trim_matches('"').to_owned())
            };
            Some(((value("name")?, value("version")?), value("checksum")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_names_each_package_once_with_licence_and_checksum() -> anyhow::Result<()> {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"ab12\"\n\n[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        let tree = "functions v0.1.0 (/x/functions)\tMIT OR Apache-2.0\na v1.0.0\tMIT/Apache-2.0\nours v0.1.0 (/x/ours)\tMIT\na v1.0.0\tMIT/Apache-2.0 (*)\n";
        let list = list(tree, &checksums(lock))?;
        assert_eq!(list["metadata"]["component"]["name"], "functions");
        assert_eq!(
            list["components"],
            json!([
                {
                    "type": "library", "name": "a", "version": "1.0.0",
                    "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                    "purl": "pkg:cargo/a@1.0.0",
                    "hashes": [{ "alg": "SHA-256", "content": "ab12" }],
                },
                {
                    "type": "library", "name": "ours", "version": "0.1.0",
                    "licenses": [{ "expression": "MIT" }],
                },
            ])
        );
        Ok(())
    }

    #[tokio::test]
    async fn list_of_this_repository_holds_what_ships_and_not_what_builds() -> anyhow::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let lists = of_both(&root, Arch::Arm64).await?;
        let names = |list: &str| -> anyhow::Result<Vec<String>> {
            let list: Json = serde_json::from_str(list)?;
            let components = list["components"].as_array().cloned().unwrap_or_default();
            let names = components.iter().filter_map(|it| it["name"].as_str());
            Ok(names.map(str::to_owned).collect())
        };
        for (list, used) in lists.iter().zip(["lambda_runtime", "axum"]) {
            let names = names(list)?;
            assert!(names.iter().any(|name| name == used), "{names:?}");
            assert!(
                !names
                    .iter()
                    .any(|name| name == "serde_derive" || name == "insta"),
                "{names:?}"
            );
        }
        Ok(())
    }
}
