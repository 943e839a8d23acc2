//! The function and the web UI: built for the stage's architecture, packaged to the same bytes every
//! time, named by their contents.

pub(crate) mod sbom;
pub(crate) mod unused;
pub(crate) mod upload;
pub(crate) mod zip_cache;

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use aws_lc_rs::digest;
use stack::Arch;
use tokio::process::Command;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipWriter};

use crate::artifact::zip_cache::Zips;

/// The programs, as they run on AWS.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) function: Vec<u8>,
    pub(crate) webui: Vec<u8>,
}

/// Something to upload.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    /// What a person calls it.
    pub(crate) what: &'static str,
    pub(crate) key: String,
    pub(crate) contents: Vec<u8>,
}

/// Reads programs that somebody else has built.
pub(crate) fn read(function: &Path, webui: &Path) -> anyhow::Result<Programs> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    Ok(Programs {
        function: read(function)?,
        webui: read(webui)?,
    })
}

/// Package and binary of the function and of the web UI.
pub(crate) const BUILT: [(&str, &str); 2] = [("functions", "sensors"), ("webui", "webui")];

/// Builds both programs by cargo-lambda, each by a call of its own, so that no other package's
/// features get into it.
pub(crate) async fn build(root: &Path, arch: Arch) -> anyhow::Result<Programs> {
    build_in(root, &target(root, arch), arch).await
}

async fn build_in(root: &Path, target: &Path, arch: Arch) -> anyhow::Result<Programs> {
    let [function, webui] = BUILT;
    Ok(Programs {
        function: build_one(root, target, arch, function).await?,
        webui: build_one(root, target, arch, webui).await?,
    })
}

/// The folder of an architecture's builds: cargo-lambda puts its result at a path that does not name
/// it.
pub(crate) fn target(root: &Path, arch: Arch) -> PathBuf {
    builds(root).join("aws").join(arch.beanstalk())
}

/// The folder that cargo builds into.
fn builds(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => root.join(target),
        None => root.join("target"),
    }
}

/// Zips that were made before; none where nothing was ever built.
pub(crate) fn zips(root: &Path) -> Zips {
    let builds = builds(root);
    Zips::new(builds.is_dir().then(|| builds.join("aws").join("zips")))
}

/// The processors that an ELF file names as those that run it (`e_machine`); `None` for anything that
/// is no program of Linux, such as a script.
fn machine(program: &[u8]) -> Option<u16> {
    let machine = program.get(18..20)?;
    let is_elf = program.starts_with(b"\x7fELF");
    is_elf.then(|| u16::from_le_bytes([machine[0], machine[1]]))
}

/// Programs must be of the architecture that everything else in the template is of.
///
/// The numbers are those of the "System V Application Binary Interface", chapter 4.
pub(crate) fn check(programs: &Programs, arch: Arch) -> anyhow::Result<()> {
    let expected = match arch {
        Arch::Arm64 => 183,
        Arch::X86_64 => 62,
    };
    let Programs { function, webui } = programs;
    for (what, program) in [("the function", function), ("the web UI", webui)] {
        let got = match machine(program) {
            Some(got) if got != expected => got,
            _ => continue,
        };
        let got = match got {
            183 => "arm64".to_owned(),
            62 => "x86_64".to_owned(),
            other => format!("machine {other}"),
        };
        bail!(
            "{what} is a program for {got}, and the stage is for {}: build it for {}, or change `arch` in stack/src/config.rs",
            arch.beanstalk(),
            arch.target()
        );
    }
    Ok(())
}

async fn build_one(
    root: &Path,
    target: &Path,
    arch: Arch,
    (package, binary): (&str, &str),
) -> anyhow::Result<Vec<u8>> {
    let flag = match arch {
        Arch::Arm64 => "--arm64",
        Arch::X86_64 => "--x86-64",
    };
    let output = Command::new("cargo-lambda")
        .args(["lambda", "build", "--release", "--locked", flag])
        .args(["--package", package, "--bin", binary])
        .current_dir(root)
        // Not as a flag: cargo-lambda hands flags on to `cargo metadata`, which has none such.
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", remap(root))
        // Cargo tells its children about the package that it runs; this is another one.
        .env_remove("CARGO_MANIFEST_DIR")
        .stdin(Stdio::null())
        // A deployment that has failed meanwhile waits for no build.
        .kill_on_drop(true)
        .output()
        .await
        .context(
            "run cargo-lambda: `cargo xtask deploy` brings it, and so does `pip install cargo-lambda`",
        )?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "building {binary} for AWS failed ({}):\n{said}",
            output.status
        );
    }
    let built = target.join("lambda").join(binary).join("bootstrap");
    fs::read(&built).with_context(|| format!("read what cargo-lambda built, {}", built.display()))
}

/// Flags that keep this machine's folders out of the programs: panics name files by their path.
fn remap(root: &Path) -> String {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=/sensors", root.display())];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    flags.join(" ")
}

/// The function's zip and the web UI's bundle.
pub(crate) fn package(
    programs: &Programs,
    settings: bundle::Settings,
    zips: &Zips,
) -> anyhow::Result<[Artifact; 2]> {
    let Programs { function, webui } = programs;
    let (function, webui) = std::thread::scope(|scope| {
        let function = scope.spawn(|| zips.zip("function", function, function_zip));
        let webui = zips.zip("webui", webui, |program| bundle::zip(settings, program));
        (function.join(), webui)
    });
    let function =
        function.map_err(|_| anyhow::anyhow!("zip the function: its thread panicked"))?;
    Ok([
        zipped("the function", "function", function?),
        zipped("the web UI", "webui", webui?),
    ])
}

fn zipped(what: &'static str, folder: &str, (contents, hash): (Vec<u8>, String)) -> Artifact {
    Artifact {
        what,
        key: format!("{folder}/{hash}.zip"),
        contents,
    }
}

/// A template as an artifact: CloudFormation takes more than 51,200 bytes only from S3.
pub(crate) fn template(text: &str) -> Artifact {
    let contents = text.as_bytes().to_vec();
    Artifact {
        what: "the template",
        key: format!("template/{}.json", hash(&contents)),
        contents,
    }
}

/// The first half of SHA-256 in hexadecimal digits: 128 bits, and a key that can be read aloud.
pub(crate) fn hash(contents: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, contents);
    digest.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Lambda wants the program as `bootstrap`; fixed time and mode make the same bytes every time.
fn function_zip(program: &[u8]) -> anyhow::Result<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(DateTime::default())
        .system(System::Unix)
        .unix_permissions(0o755);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer
        .start_file("bootstrap", options)
        .and_then(|()| Ok(writer.write_all(program)?))
        .context("zip the function")?;
    Ok(writer.finish().context("zip the function")?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: bundle::Settings = bundle::Settings {
        redirect_to_https: false,
        sign_in: None,
    };

    #[test]
    fn same_programs_make_the_same_keys_and_other_programs_others() -> anyhow::Result<()> {
        let programs = Programs {
            function: vec![1; 100_000],
            webui: vec![2; 100_000],
        };
        let keys = |programs: &Programs| -> anyhow::Result<[String; 2]> {
            let zips = Zips::new(None);
            Ok(package(programs, SETTINGS, &zips)?.map(|artifact| artifact.key))
        };
        let first = keys(&programs)?;
        assert_eq!(first, keys(&programs)?);
        let other = Programs {
            function: vec![3; 100_000],
            ..programs
        };
        let second = keys(&other)?;
        assert_ne!(first[0], second[0]);
        assert_eq!(first[1], second[1]);
        Ok(())
    }

    /// Every file of the repository that is not ignored, in another folder.
    fn copy(root: &Path, folder: &Path) -> anyhow::Result<()> {
        let files = std::process::Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root)
            .output()
            .context("run git")?;
        for name in String::from_utf8(files.stdout)?.split_terminator('\0') {
            let (from, to) = (root.join(name), folder.join(name));
            // What is deleted and not committed.
            if !from.exists() {
                continue;
            }
            fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
            fs::copy(from, to)?;
        }
        Ok(())
    }

    #[tokio::test]
    #[ignore = "builds both programs twice, some minutes: `cargo xtask test --only reproducible`"]
    async fn same_source_in_two_folders_makes_the_same_artifacts() -> anyhow::Result<()> {
        let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))?;
        let arch = match cfg!(target_arch = "aarch64") {
            true => Arch::Arm64,
            false => Arch::X86_64,
        };
        let home = builds(&root).join("reproducible");
        // What an earlier test has built proves nothing.
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        let keys = async |name| {
            let folder = home.join(name);
            copy(&root, &folder)?;
            let programs = build_in(&folder, &folder.join("target"), arch).await?;
            check(&programs, arch)?;
            let artifacts = package(&programs, SETTINGS, &Zips::new(None))?;
            anyhow::Ok(artifacts.map(|artifact| artifact.key))
        };
        // Both at once: half of a build is one linker on one core.
        let (one, other) = tokio::try_join!(keys("one"), keys("another/with/a/longer/name"))?;
        fs::remove_dir_all(&home)?;
        assert_eq!(one, other);
        Ok(())
    }

    #[test]
    fn program_of_another_architecture_is_refused() {
        let elf = |machine: u8| {
            let mut program = b"\x7fELF".to_vec();
            program.resize(18, 0);
            program.extend([machine, 0]);
            program
        };
        let refused = |program: Vec<u8>, arch| {
            let programs = Programs {
                function: b"#!/bin/sh".to_vec(),
                webui: program,
            };
            check(&programs, arch).err().map(|error| error.to_string())
        };
        assert_eq!(refused(elf(183), Arch::Arm64), None);
        assert_eq!(refused(elf(62), Arch::X86_64), None);
        assert_eq!(
            refused(elf(62), Arch::Arm64).as_deref(),
            Some(
                "the web UI is a program for x86_64, and the stage is for arm64: build it for aarch64-unknown-linux-gnu, or change `arch` in stack/src/config.rs"
            )
        );
        assert!(refused(elf(183), Arch::X86_64).is_some());
    }

    #[test]
    fn function_is_an_executable_bootstrap() -> anyhow::Result<()> {
        let mut archive = zip::ZipArchive::new(Cursor::new(function_zip(b"program")?))?;
        assert_eq!(archive.len(), 1);
        let entry = archive.by_index(0)?;
        assert_eq!(entry.name()?.as_ref(), "bootstrap");
        assert_eq!(entry.unix_mode(), Some(0o100_755));
        Ok(())
    }
}
