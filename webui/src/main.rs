//! The dashboard server's program; the code is in the library.

use std::process::ExitCode;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    // Before the first TLS connection: rustls does not choose a provider by itself.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| {
            anyhow::anyhow!("cannot install the TLS provider: another one is installed")
        })?;
    let config = webui::Config::from_env(|name| std::env::var(name).ok())?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    raise_descriptor_limit();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(serve(config))
}

/// Raises the limit of open files to the hard limit: each browser is a descriptor, and the usual limit is
/// 1,024.
fn raise_descriptor_limit() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => before.current,
    };
    // For other files and connections.
    let needed = webui::CAPS.total as u64 + 100;
    match limit {
        Some(descriptors) if descriptors < needed => warn!(
            descriptors,
            needed, "limit of open files below the limit of browsers; fix: raise the hard limit"
        ),
        Some(descriptors) => info!(descriptors, "limit of open files"),
        None => info!("open files are not limited"),
    }
}

async fn serve(config: webui::Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let listener = TcpListener::bind(config.address).await.with_context(|| {
        format!(
            "cannot listen on {}; fix: set {} and {} to a free port and an address of this machine",
            config.address,
            contract::environment::PORT,
            contract::environment::INTERFACE
        )
    })?;
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            shutdown.cancel();
        }
    });
    webui::run(listener, config, shutdown).await
}
