//! The Elastic Beanstalk source bundle of the web UI: Procfile, nginx configuration, deterministic zip.
//!
//! The same list of files is snapshotted, zipped for deployment and written to a folder for the
//! local run, so there is one answer to "what does the instance get".
//! What it deliberately is not: a builder. The web UI's binary comes from outside.
//!
//! Layout: [`files`] says what a bundle holds, `nginx` makes the proxy's part of it, `auto_scaling` the
//! auto scaling group's, `sign_in` the balancer's; [`zip()`] and [`write_folder`] put the binary beside it.

mod archive;
mod auto_scaling;
mod nginx;
mod sign_in;

use std::path::Path;

use anyhow::Context;
use contract::oidc::Oidc;

pub use archive::zip;
pub use nginx::{OPEN_FILES, WORKER_CONNECTIONS};

/// Path of the web UI's binary in the bundle; the Procfile starts it.
pub const WEBUI: &str = "bin/webui";

/// Path of the Procfile in the bundle.
pub const PROCFILE: &str = "Procfile";

/// What differs between bundles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether requests that reached the balancer as plain HTTP are redirected to HTTPS.
    ///
    /// Only where the balancer has an HTTPS listener: without one, the redirect would lead nowhere.
    pub redirect_to_https: bool,
    /// Who signs visitors in at the balancer; `None`: nobody.
    ///
    /// Only where the balancer has an HTTPS listener: it signs in nobody over plain HTTP, and its rules
    /// belong to that listener.
    pub sign_in: Option<Oidc>,
}

/// One file of the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path in the bundle, with `/` between folders.
    pub path: &'static str,
    /// The text.
    pub contents: String,
}

/// Everything in the bundle but the binary, in the order in which it is zipped.
///
/// <https://docs.aws.amazon.com/elasticbeanstalk/latest/dg/platforms-linux-extend.html>
pub fn files(settings: Settings) -> Vec<File> {
    let mut files = vec![
        File {
            path: PROCFILE,
            // The first line must be `web`, and a process that ends is started again.
            contents: format!("web: {WEBUI}\n"),
        },
        File {
            path: ".platform/nginx/nginx.conf",
            contents: nginx::main(),
        },
        File {
            path: ".platform/nginx/conf.d/elasticbeanstalk/websocket.conf",
            contents: nginx::websocket(),
        },
        File {
            path: ".platform/nginx/conf.d/elasticbeanstalk/metrics.conf",
            contents: nginx::metrics(),
        },
        File {
            path: ".ebextensions/auto-scaling.config",
            contents: auto_scaling::health_checks(),
        },
    ];
    if settings.redirect_to_https {
        files.push(File {
            path: ".platform/nginx/conf.d/redirect.conf",
            contents: nginx::redirect_map(),
        });
        files.push(File {
            path: ".platform/nginx/conf.d/elasticbeanstalk/redirect.conf",
            contents: nginx::redirect(),
        });
    }
    if let Some(oidc) = &settings.sign_in {
        files.push(File {
            path: ".ebextensions/sign-in.config",
            contents: sign_in::rules(oidc),
        });
        files.push(File {
            path: ".platform/nginx/conf.d/sign-in.conf",
            contents: sign_in::headers(),
        });
    }
    files
}

/// Writes the bundle unpacked, as Beanstalk lays it out on an instance.
///
/// What an earlier call left in `folder` is removed first, so that no file of other settings stays.
/// The binary is linked where the file system allows it and copied otherwise.
///
/// # Errors
///
/// A file that cannot be read or written, by its path.
pub fn write_folder(folder: &Path, settings: Settings, webui: &Path) -> anyhow::Result<()> {
    if folder.join(PROCFILE).exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    for file in files(settings) {
        let path = folder.join(file.path);
        make_parent(&path)?;
        std::fs::write(&path, file.contents)
            .with_context(|| format!("write {}", path.display()))?;
    }
    let binary = folder.join(WEBUI);
    make_parent(&binary)?;
    // A copy that is being executed cannot be overwritten, so it is replaced.
    if binary.exists() {
        std::fs::remove_file(&binary).with_context(|| format!("replace {}", binary.display()))?;
    }
    std::fs::hard_link(webui, &binary)
        .or_else(|_| std::fs::copy(webui, &binary).map(drop))
        .with_context(|| format!("copy {} to {}", webui.display(), binary.display()))
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    match path.parent() {
        Some(parent) => std::fs::create_dir_all(parent)
            .with_context(|| format!("make the folder {}", parent.display())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Settings = Settings {
        redirect_to_https: false,
        sign_in: None,
    };
    const SECURE: Settings = Settings {
        redirect_to_https: true,
        sign_in: None,
    };

    fn all(settings: Settings) -> String {
        files(settings)
            .iter()
            .map(|file| file.contents.as_str())
            .collect()
    }

    #[test]
    fn procfile_comes_first_and_starts_the_binary_of_the_bundle() {
        let first = &files(PLAIN)[0];
        assert_eq!(
            (first.path, first.contents.as_str()),
            ("Procfile", "web: bin/webui\n")
        );
    }

    #[test]
    fn redirect_is_only_in_a_bundle_with_https() {
        assert!(!all(PLAIN).contains("301"));
        assert!(all(SECURE).contains("return 301 https://"));
        assert!(!all(PLAIN).contains("Strict-Transport-Security"));
        assert!(all(SECURE).contains("Strict-Transport-Security"));
    }

    #[test]
    fn location_of_the_whole_site_is_left_to_beanstalk() {
        assert!(!all(SECURE).contains("location / "));
    }

    #[test]
    fn folder_holds_the_files_the_binary_and_nothing_of_an_earlier_call() -> anyhow::Result<()> {
        let temporary = tempfile::tempdir()?;
        let webui = temporary.path().join("webui");
        std::fs::write(&webui, "program")?;
        let folder = temporary.path().join("bundle");
        write_folder(&folder, SECURE, &webui)?;
        write_folder(&folder, PLAIN, &webui)?;
        for file in files(PLAIN) {
            assert_eq!(
                std::fs::read_to_string(folder.join(file.path))?,
                file.contents
            );
        }
        assert_eq!(std::fs::read_to_string(folder.join(WEBUI))?, "program");
        assert!(!folder.join(".platform/nginx/conf.d/redirect.conf").exists());
        Ok(())
    }
}
