//! The control port: `GET /api/pipeline` tells as JSON how a run is doing, see
//! [`Snapshot`](crate::overview::Snapshot).

use std::net::SocketAddr;

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
        let router = Router::new()
            .route(PIPELINE, get(pipeline))
            .with_state(overview);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!("the control port has ended: {error}");
            }
        });
        Ok(Control { address, task })
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

async fn pipeline(State(overview): State<Overview>) -> Json<Snapshot> {
    Json(overview.snapshot())
}
