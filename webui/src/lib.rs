//! The dashboard server and its page.
//!
//! It keeps the sensors' state in memory: it reads the state from the cache at the start and after every
//! reconnect, and applies announcements. It sends each browser the newest state as fast as the browser
//! accepts it, by default at most 20 times a second.
//!
//! It stores nothing: all its state can be read again from the cache.
//!
//! Layout, in reading order: [`Config`]; [`Cache`] connects to the cache and signs in, with the credentials
//! of `metadata`; `follower` reads the cache; `board` is the state, `rate` its rates; `hub` publishes it;
//! `audience` sends it to all browsers; `socket` is one browser, by the protocol in `websocket`; `admission`
//! limits the browsers; `server` is the HTTP server, `page` its files, `metrics` its metrics.

mod admission;
mod audience;
mod board;
mod cache;
mod config;
mod follower;
mod hub;
mod metadata;
mod metrics;
mod page;
mod rate;
mod server;
mod socket;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use std::future::IntoFuture;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use hub::Hub;

pub use cache::Cache;
pub use config::{CAPS, Caps, Config, WINDOW};
pub use server::{App, app};

/// Time for open requests and closing sockets at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `shutdown`, then closes every browser's socket (code 1001) and drains.
///
/// An unreachable cache, at the start or later, is a state to show and not an error.
///
/// # Errors
/// The listener fails.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let address = listener
        .local_addr()
        .context("get the listener's address")?;
    let app = App::new(config.caps, config.window, shutdown.clone());
    let hub = Arc::clone(app.hub());
    let following = CancellationToken::new();
    let _until_dropped = following.clone().drop_guard();
    keep_up(config.cache, Arc::clone(&hub), following.clone())?;
    let attendants: Vec<_> = (0..hub.audience.parts())
        .map(|part| tokio::spawn(audience::attend(Arc::clone(&hub), part)))
        .collect();
    info!(%address, "listening");

    let service = server::app(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let server =
        axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let serving = tokio::spawn(server.into_future());
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        () = shutdown.cancelled() => None,
    };
    following.cancel();
    hub.audience.dismiss();
    let drained = timeout(DRAIN, async {
        app.sockets_closed().await;
        match ended {
            Some(ended) => ended,
            None => serving.await,
        }
    });
    match drained.await {
        Ok(served) => served.context("serve")?.context("accept connections")?,
        Err(_) => warn!("connections cut after the shutdown timeout"),
    }
    for attendant in attendants {
        attendant.abort();
    }
    info!("stopped");
    Ok(())
}

/// Follows the cache and publishes until cancelled, on one dedicated thread: an announcement that wakes
/// one thread to read it and another to publish it costs several times the CPU.
fn keep_up(cache: Cache, hub: Arc<Hub>, until: CancellationToken) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the follower's runtime")?;
    std::thread::Builder::new()
        .name("follower".to_owned())
        .spawn(move || {
            // Dropped with the runtime.
            runtime.spawn(follower::follow(cache, Arc::clone(&hub)));
            hub.publish_until(&until, &runtime);
        })
        .context("start the follower's thread")?;
    Ok(())
}
