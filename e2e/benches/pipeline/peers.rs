//! Programs that we did not write, found before anything is built or measured.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// What a measurement runs.
pub(crate) struct Peers {
    /// A PATH on which the local run finds its cache server
    pub(crate) path: String,
    /// The broker; empty if it takes no part
    pub(crate) mosquitto: PathBuf,
}

/// Finds the peers on the PATH, among the tools that `cargo xtask test` has brought, or in /usr/sbin,
/// which is not on every user's PATH.
///
/// # Errors
///
/// Some are missing: all of them, and how to get them or do without.
pub(crate) fn find(with_mosquitto: bool) -> anyhow::Result<Peers> {
    let path = env::var_os("PATH").unwrap_or_default();
    let brought = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin");
    let folders: Vec<PathBuf> = std::iter::once(brought)
        .chain(env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .collect();
    let find = |programs: &[&str]| {
        let files = folders
            .iter()
            .flat_map(|folder| programs.iter().map(move |program| folder.join(program)));
        files.into_iter().find(|file| file.is_file())
    };
    let mut missing = Vec::new();
    if find(&["redis-server", "valkey-server"]).is_none() {
        missing.push("redis-server: `cargo xtask test --only end-to-end --prepare` brings it");
    }
    let mosquitto = match with_mosquitto {
        true => find(&["mosquitto"]),
        false => Some(PathBuf::new()),
    };
    if mosquitto.is_none() {
        missing.push(
            "mosquitto: `apt-get install mosquitto`, or measure without it by \
             `cargo bench -p e2e --bench pipeline -- latency`",
        );
    }
    let (Some(mosquitto), true) = (mosquitto, missing.is_empty()) else {
        bail!(
            "cannot measure: missing on the PATH, in target/tools/bin and in /usr/sbin:\n  {}",
            missing.join("\n  ")
        );
    };
    let path = env::join_paths(&folders).context("cannot put target/tools/bin on the PATH")?;
    Ok(Peers {
        path: path.to_string_lossy().into_owned(),
        mosquitto,
    })
}
