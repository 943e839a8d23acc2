//! The HTTP server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use contract::http;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::admission::{self, Admission, Full, Permit};
use crate::config::Caps;
use crate::hub::Hub;
use crate::metrics::{self, Gauges};
use crate::page;
use crate::socket::{Ended, Socket};
use crate::websocket;

/// Allows files and connections of this server only, nothing inline, and no framing.
/// `'self'` includes the WebSocket: <https://www.w3.org/TR/CSP3/#match-url-to-source-expression>.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every response.
const HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Sent for HTTPS requests: one year.
const STRICT_TRANSPORT_SECURITY: &str = "max-age=31536000";

/// State that all requests share.
#[derive(Clone, Debug)]
pub struct App {
    hub: Arc<Hub>,
    admission: Arc<Admission>,
    sockets: TaskTracker,
    shutdown: CancellationToken,
}

impl App {
    /// Creates an empty state, with the cache unreachable.
    ///
    /// `window` is the minimum time between two frames to a browser.
    pub fn new(caps: Caps, window: Duration, shutdown: CancellationToken) -> Self {
        Self {
            hub: Hub::new(window),
            admission: Admission::new(caps),
            sockets: TaskTracker::new(),
            shutdown,
        }
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Waits until all sockets are closed.
    pub(crate) async fn sockets_closed(&self) {
        self.sockets.close();
        self.sockets.wait().await;
    }
}

/// All routes. Must be served with [`ConnectInfo`] of the peer.
pub fn app(app: App) -> Router {
    let mut router = Router::new()
        .route(http::SOCKET, get(socket))
        .route(http::HEALTH, get(|| async { "alive\n" }))
        .route(http::READY, get(ready))
        .route(http::STATE, get(state))
        .route(http::METRICS, get(metrics));
    for &(path, media_type, contents) in page::FILES {
        let file = Arc::new(page::File::new(media_type, contents));
        router = router.route(
            path,
            get(async move |headers: HeaderMap| file.respond(&headers)),
        );
    }
    router
        .fallback(async || (StatusCode::NOT_FOUND, "not found\n"))
        .layer(from_fn(add_headers))
        .with_state(app)
}

async fn add_headers(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let is_https = admission::is_https(peer.ip(), request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for &(name, value) in HEADERS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    if is_https {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static(STRICT_TRANSPORT_SECURITY),
        );
    }
    response
}

async fn ready(State(app): State<App>) -> Response {
    if app.hub.read(|board| board.is_ready()) {
        "ready\n".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the cache is unreachable\n",
        )
            .into_response()
    }
}

async fn state(State(app): State<App>) -> Response {
    let now = app.hub.clock().milliseconds;
    let frame = app.hub.read(|board| board.full(now));
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, frame).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    let ((records, devices), ready) = app.hub.read(|board| (board.totals(), board.is_ready()));
    let gauges = Gauges {
        clients: app.admission.sockets(),
        devices,
        records,
        ready,
    };
    let headers = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    (headers, app.hub.metrics.text(&gauges)).into_response()
}

async fn socket(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let headers = request.headers();
    let Some(accept) = websocket::accept(request.method(), headers) else {
        let upgrade = [
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
        ];
        return (
            StatusCode::UPGRADE_REQUIRED,
            upgrade,
            "expected a WebSocket handshake of version 13\n",
        )
            .into_response();
    };
    let metrics = &app.hub.metrics;
    if !admission::is_same_origin(headers) {
        metrics.refused_origin.increment();
        return (
            StatusCode::FORBIDDEN,
            "the Origin header names another site\n",
        )
            .into_response();
    }
    if app.shutdown.is_cancelled() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is shutting down\n",
        )
            .into_response();
    }
    let permit = match app.admission.admit(admission::client(peer.ip(), headers)) {
        Ok(permit) => permit,
        Err(Full::Total) => {
            metrics.refused_total.increment();
            return (StatusCode::SERVICE_UNAVAILABLE, "too many clients\n").into_response();
        }
        Err(Full::Address) => {
            metrics.refused_address.increment();
            return (
                StatusCode::TOO_MANY_REQUESTS,
                "too many clients from one address\n",
            )
                .into_response();
        }
    };
    let upgraded = hyper::upgrade::on(request);
    let sockets = app.sockets.clone();
    app.sockets
        .spawn(take_over(upgraded, sockets, app.hub, permit));
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, &accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Takes the TCP socket and its buffered bytes back from hyper, and serves it by a task that owns nothing
/// else.
async fn take_over(
    upgraded: hyper::upgrade::OnUpgrade,
    sockets: TaskTracker,
    hub: Arc<Hub>,
    permit: Permit,
) {
    let upgraded = match upgraded.await {
        Ok(upgraded) => upgraded,
        Err(error) => return debug!(%error, "handshake not completed"),
    };
    let Ok(parts) = downcast::<TokioIo<TcpStream>>(upgraded) else {
        return tracing::error!("expected a TCP listener");
    };
    let socket = Socket::new(parts.io.into_inner(), &parts.read_buf);
    sockets.spawn(serve(socket, hub, permit));
}

async fn serve(socket: Arc<Socket>, hub: Arc<Hub>, permit: Permit) {
    let ended = socket.serve(Arc::clone(&hub)).await;
    drop(permit);
    let counter = match ended {
        Ended::Left | Ended::ShutDown => return,
        Ended::Violation => &hub.metrics.violations,
        Ended::Stalled => &hub.metrics.stalled,
        Ended::Silent => &hub.metrics.silent,
    };
    counter.increment();
    info!(reason = ?ended, "client dropped");
}
