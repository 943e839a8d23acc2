//! The proxy on the instance, between the balancer and the web UI.
//!
//! Beanstalk includes `.platform/nginx/conf.d/elasticbeanstalk/*.conf` inside `server { }`, beside its own
//! `00_application.conf`, which holds `location /`; a second one would be refused by nginx.
//! Files of `.platform/nginx/conf.d/` are included inside `http { }`, and `.platform/nginx/nginx.conf`
//! replaces the platform's main file.
//! <https://docs.aws.amazon.com/elasticbeanstalk/latest/dg/platforms-linux-extend.proxy.html>
//!
//! The main file is replaced because two numbers of the platform's own do not fit and can be set
//! nowhere else: 1,024 connections a worker, and a keep-alive of 60 s, which is shorter than the
//! balancer's idle timeout, so that nginx would close a connection just as the balancer reuses it
//! (HTTP 502). A deploy hook that edits the platform's file would depend on how that is written.

use contract::{environment, http, timing};

/// Browsers that one instance serves at most.
const CLIENTS: usize = 10_000;

/// Connections of one nginx worker: every browser costs one to the balancer and one to the web UI,
/// and all of them may land on the same worker. The rest is for plain requests.
pub const WORKER_CONNECTIONS: usize = 2 * CLIENTS + 4 * 1024;

/// Open files of one nginx worker: its connections and room for logs, listeners and the rest.
pub const OPEN_FILES: usize = 2 * WORKER_CONNECTIONS;

/// The main file, written anew with what Beanstalk needs of it: the two includes, the port, the logs
/// that it collects, and the map that its `00_application.conf` uses.
pub(crate) fn main() -> String {
    let keep_alive = timing::BALANCER_IDLE_TIMEOUT.as_secs() + 5;
    let timeout = timing::NGINX_TIMEOUT.as_secs();
    let (rate, burst) = (
        http::REQUESTS_PER_SECOND_PER_ADDRESS,
        http::REQUESTS_AT_ONCE_PER_ADDRESS,
    );
    format!(
        r#"# Replaces the platform's nginx.conf, for the number of connections and the keep-alive.
user nginx;
worker_processes auto;
worker_rlimit_nofile {OPEN_FILES};
error_log /var/log/nginx/error.log warn;
pid /var/run/nginx.pid;

events {{
    worker_connections {WORKER_CONNECTIONS};
}}

http {{
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    server_tokens off;

    log_format main '$remote_addr - $remote_user [$time_local] "$request" '
                    '$status $body_bytes_sent "$http_referer" '
                    '"$http_user_agent" "$http_x_forwarded_for"';

    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' '';
    }}

    # Whoever connected to the balancer: the last entry, which the balancer wrote; an IPv6 address by
    # its /64. The balancer's own health check has none and is not counted.
    map $http_x_forwarded_for $client_network {{
        default '';
        '~(?<v6>([0-9a-fA-F]{{0,4}}:){{2,4}})[0-9a-fA-F:.]*$' $v6;
        '~(?<v4>[0-9.]+)$' $v4;
    }}
    limit_req_zone $client_network zone=clients:10m rate={rate}r/s;

    include conf.d/*.conf;

    server {{
        listen 80 default_server;
        access_log /var/log/nginx/access.log main;

        limit_req zone=clients burst={burst} nodelay;
        limit_req_status 429;

        # Longer than the balancer's idle timeout: who keeps the connection longer never closes it
        # under a request.
        keepalive_timeout {keep_alive}s;
        client_header_timeout {timeout}s;
        client_body_timeout {timeout}s;

        include conf.d/elasticbeanstalk/*.conf;
    }}
}}
"#
    )
}

/// The WebSocket, inside `server { }`.
pub(crate) fn websocket() -> String {
    let (socket, port, timeout) = (
        http::SOCKET,
        environment::DEFAULT_PORT,
        timing::NGINX_TIMEOUT.as_secs(),
    );
    format!(
        r#"# The heartbeat of the web UI comes more than twice within these timeouts.
location = {socket} {{
    proxy_pass http://127.0.0.1:{port};
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_read_timeout {timeout}s;
    proxy_send_timeout {timeout}s;
    proxy_buffering off;
}}
"#
    )
}

/// The web UI's metrics, inside `server { }`: for programs on the instance, which ask the web UI itself.
///
/// Who is outside gets the answer of a path that does not exist.
pub(crate) fn metrics() -> String {
    let (metrics, port) = (http::METRICS, environment::DEFAULT_PORT);
    format!(
        r#"# On the instance: curl http://127.0.0.1:{port}{metrics}
location = {metrics} {{
    return 404;
}}
"#
    )
}

/// Which requests are redirected, inside `http { }`.
pub(crate) fn redirect_map() -> String {
    let health = http::HEALTH;
    format!(
        r#"# Plain HTTP as the balancer saw it, except for the health check.
map "$http_x_forwarded_proto $uri" $redirect_to_https {{
    default 0;
    "http {health}" 0;
    "~^http " 1;
}}
"#
    )
}

/// Seconds for which a browser that came by HTTPS comes by nothing else: a year, which is what
/// "HTTP Strict Transport Security" of OWASP's cheat sheets advises.
const STRICT_TRANSPORT: u32 = 31_536_000;

/// The redirect, inside `server { }`, and the word to browsers that makes it needless from then on.
///
/// Browsers ignore the word over plain HTTP (RFC 6797, section 8.1), so it may stand in every answer.
pub(crate) fn redirect() -> String {
    format!(
        r#"if ($redirect_to_https) {{
    return 301 https://$host$request_uri;
}}
add_header Strict-Transport-Security "max-age={STRICT_TRANSPORT}" always;
"#
    )
}
