//! The dashboard server and its page.
//!
//! It keeps the sensors' state in memory, rebuilt from the cache at start and after every reconnect
//! and kept up by the announcements themselves, and gives every browser the newest state as fast as
//! that browser takes it, at most about twenty times a second unless its
//! environment says otherwise.
//!
//! What it deliberately is not: a store. Whatever it holds can be read again from the cache.
//!
//! Layout, in reading order: [`Config`]; [`Cache`] says where the cache is and signs in, with
//! what `metadata` gives it; `follower` is the only one that talks to the cache;
//! `board` is the state, `rate` its records a second; `hub` publishes it; `audience` brings it
//! to all browsers; `socket` is one browser's WebSocket on `wire`, the protocol's bytes; `admission` says who is let in; `server` is the HTTP
//! side, `page` what it serves, `metrics` what it tells.

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
mod wire;

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

/// Time that open requests and closing sockets get at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `shutdown`, then says goodbye to every browser (close code 1001) and drains.
///
/// The cache may be away at the start or at any time; that is a state to show, not an error.
///
/// # Errors
/// When the listener fails.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let address = listener
        .local_addr()
        .context("read the listener's address")?;
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
        Err(_) => warn!("some connections did not end in time and were cut"),
    }
    for attendant in attendants {
        attendant.abort();
    }
    info!("stopped");
    Ok(())
}

/// Follows the cache and publishes, until cancelled, on a thread of its own: an announcement that wakes
/// one thread for reading and another for the rest costs several times as much.
fn keep_up(cache: Cache, hub: Arc<Hub>, until: CancellationToken) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the follower's runtime")?;
    let work = async move {
        let both = async {
            tokio::join!(
                follower::follow(cache, Arc::clone(&hub)),
                hub.publish_forever()
            )
        };
        until.run_until_cancelled(both).await;
    };
    std::thread::Builder::new()
        .name("follower".to_owned())
        .spawn(move || runtime.block_on(work))
        .context("start the follower's thread")?;
    Ok(())
}
