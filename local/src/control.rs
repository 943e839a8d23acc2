//! The control port: `GET /api/pipeline` tells as JSON how a run is doing, see
//! [`Snapshot`].

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
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

/// The address that [`ControlAddress::Auto`] prefers.
const PREFERRED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// Where the control port is to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlAddress {
    /// 127.0.0.1:8081, or a free port where that is taken.
    Auto,
    /// This address and no other.
    At(SocketAddr),
}

impl FromStr for ControlAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ControlAddress, String> {
        if text == "auto" {
            return Ok(ControlAddress::Auto);
        }
        let address = text.parse().map(ControlAddress::At);
        address.map_err(|_| {
            format!(
                "invalid address \"{text}\": expected IP:PORT, such as 127.0.0.1:8081, or `auto`"
            )
        })
    }
}

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
    pub async fn start(address: ControlAddress, overview: Overview) -> anyhow::Result<Control> {
        let listener = match address {
            ControlAddress::At(address) => listen(address).await?,
            ControlAddress::Auto => listen_on_or_beside(PREFERRED).await?,
        };
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

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address} for the control port; fix: `--control {}:0` takes a free port",
            address.ip()
        )
    })
}

/// Listens on the address, or on a free port of the same interface where it is taken.
async fn listen_on_or_beside(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            listen(SocketAddr::new(address.ip(), 0)).await
        }
        Err(_) => listen(address).await,
        Ok(listener) => Ok(listener),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn preferred_port_that_is_taken_gives_way_and_a_named_one_does_not() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let beside = listen_on_or_beside(address).await.unwrap();
        assert_ne!(beside.local_addr().unwrap(), address);
        assert_eq!(beside.local_addr().unwrap().ip(), address.ip());
        let refused = listen(address).await.unwrap_err().to_string();
        assert!(refused.contains("--control 127.0.0.1:0"), "{refused}");
        drop(taken);
        let same = listen_on_or_beside(address).await.unwrap();
        assert_eq!(same.local_addr().unwrap(), address);
    }

    #[test]
    fn address_is_auto_or_an_address() {
        assert_eq!("auto".parse(), Ok(ControlAddress::Auto));
        let address = ControlAddress::At("127.0.0.1:0".parse().unwrap());
        assert_eq!("127.0.0.1:0".parse(), Ok(address));
        let refused = "8081".parse::<ControlAddress>().unwrap_err();
        assert!(refused.contains("invalid address \"8081\""), "{refused}");
    }
}
