//! The control port: `GET /api/pipeline` tells as JSON how a run is doing, see
//! [`Snapshot`].

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::response::Json;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::overview::{Overview, Snapshot};

/// Path of the run's state.
pub const PIPELINE: &str = "/api/pipeline";

/// The listening control port. Dropped, it closes.
#[derive(Debug)]
pub struct Control {
    address: SocketAddr,
    overview: Arc<RwLock<Overview>>,
    task: JoinHandle<()>,
}

impl Control {
    /// Listens.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn start(address: SocketAddr, overview: Overview) -> anyhow::Result<Control> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "cannot listen on {address} for the control port: choose another address (--control {}:0 takes a free one)",
                address.ip()
            )
        })?;
        let address = listener.local_addr().context("read the control port")?;
        let overview = Arc::new(RwLock::new(overview));
        let router = Router::new()
            .route(PIPELINE, get(pipeline))
            .with_state(Arc::clone(&overview));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!("the control port has ended: {error}");
            }
        });
        Ok(Control {
            address,
            overview,
            task,
        })
    }

    /// Tells of another run from now on.
    pub fn show(&self, overview: Overview) {
        *self
            .overview
            .write()
            .unwrap_or_else(PoisonError::into_inner) = overview;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pipeline(State(overview): State<Arc<RwLock<Overview>>>) -> Json<Snapshot> {
    let overview = overview.read().unwrap_or_else(PoisonError::into_inner);
    Json(overview.snapshot())
}
