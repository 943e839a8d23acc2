//! Packages of Debian and Ubuntu: installed by apt as root, or unpacked into `target/tools` by any user.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::{find, folder, is_executable, is_root, link, output, run, script};

/// Services that apt would start by itself look here first; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Whether apt may install into the system: we are root on Debian or Ubuntu.
pub(super) fn can_install() -> anyhow::Result<bool> {
    Ok(is_root() && find(&["apt-get"])?.is_some())
}

/// Installs packages by one call of apt. No server among them is started.
pub(super) fn install(packages: &BTreeSet<&str>) -> anyhow::Result<()> {
    let policy = Path::new(POLICY);
    let is_ours = !policy.exists();
    if is_ours {
        script(policy, "exit 101")?;
    }
    let installed = try_install(packages);
    if is_ours {
        fs::remove_file(policy).with_context(|| format!("cannot remove {POLICY}"))?;
    }
    installed
}

fn try_install(packages: &BTreeSet<&str>) -> anyhow::Result<()> {
    let install = || {
        run(Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends", "--quiet=2"])
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // Package lists may be missing or old; only then is an update worth its time.
    install().or_else(|_| {
        run(Command::new("apt-get").args(["-o", "Acquire::Retries=3", "update", "--quiet=2"]))?;
        install()
    })
}

/// Downloads packages with what they depend on and is not installed, unpacks them into
/// `target/tools/debian`, and links the programs.
pub(super) fn unpack(packages: &[&str], programs: &[&str]) -> anyhow::Result<()> {
    for tool in ["apt-get", "dpkg"] {
        if find(&[tool])?.is_none() {
            bail!("{tool} is not on the PATH: this is not Debian or Ubuntu");
        }
    }
    let downloads = folder()?.join("debian/packages").join(programs.join("+"));
    fs::create_dir_all(&downloads)
        .with_context(|| format!("cannot create {}", downloads.display()))?;
    let mut wanted: BTreeSet<String> = packages.iter().map(|it| (*it).to_owned()).collect();
    for package in packages {
        // One that the release does not have is not an error: releases split packages differently.
        wanted.extend(dependencies(package).unwrap_or_default());
    }
    let mut last = None;
    for package in &wanted {
        let mut apt = Command::new("apt-get");
        apt.args(["download", "--quiet=2", package]);
        // As root, apt would download as a user who may not write here.
        apt.args(["-o", "APT::Sandbox::User=root"]);
        last = run(apt.current_dir(&downloads)).err().or(last);
    }
    let root = folder()?.join("debian/root");
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    let entries =
        fs::read_dir(&downloads).with_context(|| format!("cannot list {}", downloads.display()))?;
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&file).arg(&root))?;
        }
    }
    for program in programs {
        let Some(file) = in_root(&root, program) else {
            let why = last.map_or_else(String::new, |error| format!(": {error:#}"));
            bail!("no package of {} holds {program}{why}", packages.join(", "));
        };
        start_with_libraries(&root, &file, program)?;
    }
    Ok(())
}

/// Packages that apt would install along with a package.
fn dependencies(package: &str) -> anyhow::Result<Vec<String>> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--simulate", "--no-install-recommends", package]);
    Ok(installed_by(&output(&mut apt)?))
}

/// The packages of apt's simulation: lines such as `Inst libdlt2 (2.18.8-6 Debian:12.15 [amd64])`.
fn installed_by(simulation: &str) -> Vec<String> {
    let lines = simulation.lines();
    lines
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn in_root(root: &Path, program: &str) -> Option<PathBuf> {
    ["usr/bin", "usr/sbin", "bin", "sbin"]
        .iter()
        .map(|folder| root.join(folder).join(program))
        .find(|file| is_executable(file))
}

/// Puts a script that starts the program with the libraries beside it into `target/tools/bin`.
fn start_with_libraries(root: &Path, file: &Path, program: &str) -> anyhow::Result<()> {
    let libraries = root.join("usr/lib");
    let mut folders = vec![libraries.clone()];
    // `x86_64-linux-gnu` and the like.
    for entry in fs::read_dir(&libraries).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with("-linux-gnu") {
            folders.push(entry.path());
        }
    }
    let folders: Vec<String> = folders.iter().map(|it| it.display().to_string()).collect();
    let start = root.join("start");
    fs::create_dir_all(&start).with_context(|| format!("cannot create {}", start.display()))?;
    let start = start.join(program);
    script(
        &start,
        &format!(
            "export LD_LIBRARY_PATH='{}'\"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\nexec '{}' \"$@\"",
            folders.join(":"),
            file.display()
        ),
    )?;
    link(&start, program).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulation_of_apt_names_what_it_would_install() {
        let said = "Reading package lists...\n\
            Inst libdlt2 (2.18.8-6 Debian:12.15/oldstable [amd64])\n\
            Inst mosquitto (2.0.11-1.2+deb12u2 Debian:12.15/oldstable [amd64])\n\
            Conf libdlt2 (2.18.8-6 Debian:12.15/oldstable [amd64])\n";
        assert_eq!(installed_by(said), ["libdlt2", "mosquitto"]);
    }
}
