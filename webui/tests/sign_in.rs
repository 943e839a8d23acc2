//! The server as the cache user that the template creates for it, with credentials from an instance metadata
//! service, on a real cache.
//!
//! A Redis server cannot verify a token, so the user accepts any password; the tests are about the user's
//! rights. The package `sign-in` tests the tokens.

#[allow(dead_code, reason = "each test binary uses its part")]
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use contract::{access, environment};
use redis::{ErrorKind, RedisError, ServerErrorKind};
use support::{Cache, Server, Writer, frame, frame_where, until};
use tokio::net::TcpListener;
use webui::Config;

const USER: &str = "sensors-test-webui";

/// Creates the user with the template's access string or another one.
async fn admit(cache: &Cache, rules: &str) {
    let mut pipe = redis::pipe();
    let command = pipe.cmd("ACL").arg("SETUSER").arg(USER).arg("nopass");
    for rule in rules.split(' ') {
        command.arg(rule);
    }
    cache.run(&pipe).await;
}

/// An instance's metadata service, version 2 only.
#[derive(Clone, Default)]
struct Instance {
    asked: Arc<AtomicUsize>,
    has_no_role: Arc<AtomicBool>,
    expires_soon: bool,
}

impl Instance {
    async fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().fallback(answer).with_state(self);
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }
}

async fn answer(
    State(instance): State<Instance>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let role = "/latest/meta-data/iam/security-credentials/";
    let ok = |text: &str| (StatusCode::OK, text.to_owned());
    if (method.as_str(), uri.path()) == ("PUT", "/latest/api/token") {
        let seconds = header("x-aws-ec2-metadata-token-ttl-seconds");
        assert!(seconds.is_some_and(|it| it.parse::<u32>().is_ok_and(|it| it <= 21_600)));
        return ok("the-metadata-token");
    }
    if header("x-aws-ec2-metadata-token") != Some("the-metadata-token") {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    match uri.path() {
        _ if instance.has_no_role.load(SeqCst) => (StatusCode::NOT_FOUND, String::new()),
        "/latest/meta-data/placement/region" => ok("eu-central-1"),
        path if path == role => ok("WebInstanceRole"),
        path if path == format!("{role}WebInstanceRole") => {
            instance.asked.fetch_add(1, SeqCst);
            let year = if instance.expires_soon { 1970 } else { 2999 };
            ok(&serde_json::json!({
                "Code": "Success", "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "the-key",
                "Token": "the-session", "Expiration": format!("{year}-11-23T11:22:33Z"),
            })
            .to_string())
        }
        _ => (StatusCode::NOT_FOUND, String::new()),
    }
}

fn config(cache: &Cache, endpoint: &str) -> Config {
    let url = format!(
        "redis+unix://{}",
        cache.client().get_connection_info().addr()
    );
    Config::from_env(|name| {
        let value = match name {
            environment::REDIS_URL => &url,
            environment::CACHE_USER => USER,
            environment::CACHE_NAME => "cache",
            environment::AWS_EC2_METADATA_SERVICE_ENDPOINT => endpoint,
            _ => return None,
        };
        Some(value.to_owned())
    })
    .expect("the environment is complete")
}

async fn serve(config: Config) -> Server {
    Server::start_with(config.cache, config.caps).await
}

async fn ready(server: &Server) {
    until("the server is ready", async || {
        server.get("/readyz").await.starts_with("HTTP/1.1 200")
    })
    .await;
}

/// IDs of the user's connections.
async fn connections(cache: &Cache) -> BTreeSet<String> {
    let client = cache.client();
    let mut admin = client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    let list: String = redis::cmd("CLIENT")
        .arg("LIST")
        .query_async(&mut admin)
        .await
        .expect("a list");
    list.lines()
        .filter(|line| line.contains(&format!(" user={USER} ")))
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn its_rights_are_sufficient_and_connections_are_renewed_unnoticed() {
    let cache = Cache::start().await;
    admit(&cache, &access::WEBUI.to_string()).await;
    let instance = Instance::default();
    let asked = Arc::clone(&instance.asked);
    let mut config = config(&cache, &instance.start().await);
    config.cache.renewal = Duration::from_millis(100);
    let mut writer = Writer::new("first");
    for device in ["hall", "kitchen"] {
        writer.write(&cache, device, 1, true).await;
    }
    let server = serve(config).await;
    ready(&server).await;
    let mut client = server.connect().await;
    let first = frame(&mut client).await;
    assert_eq!((first.count, first.devices.len()), (2, 2));

    let before = connections(&cache).await;
    let mut seen = before.clone();
    let mut count = 1;
    while seen.len() < before.len() + 6 {
        count += 1;
        let total = writer.count + 1;
        writer.write(&cache, "kitchen", count, true).await;
        let frame = frame_where(&mut client, |frame| frame.count == total).await;
        assert_eq!(frame.unreachable_since, None);
        assert!(server.get("/readyz").await.starts_with("HTTP/1.1 200"));
        let now = connections(&cache).await;
        assert!(now.len() <= 4, "old connections are closed: {now:?}");
        seen.extend(now);
    }
    assert_eq!(
        asked.load(SeqCst),
        1,
        "credentials are kept while they are valid"
    );
    // A lost announcement is found by looking, and read with the same rights.
    writer.write(&cache, "attic", 1, false).await;
    let total = writer.count;
    frame_where(&mut client, |frame| frame.count == total).await;
}

#[tokio::test]
async fn connections_that_cannot_be_renewed_are_kept() {
    let cache = Cache::start().await;
    admit(&cache, &access::WEBUI.to_string()).await;
    let mut config = config(&cache, &Instance::default().start().await);
    config.cache.renewal = Duration::from_millis(300);
    let mut writer = Writer::new("first");
    writer.write(&cache, "hall", 1, true).await;
    let server = serve(config).await;
    ready(&server).await;
    // Whoever is in stays in, and nobody else gets in any more.
    admit(&cache, "resetpass >another").await;
    until("somebody is refused", async || {
        let client = cache.client();
        let mut admin = client
            .get_multiplexed_async_connection()
            .await
            .expect("a connection");
        let log: Vec<redis::Value> = redis::cmd("ACL")
            .arg("LOG")
            .query_async(&mut admin)
            .await
            .expect("a log");
        !log.is_empty()
    })
    .await;
    let mut client = server.connect().await;
    writer.write(&cache, "hall", 2, true).await;
    let frame = frame_where(&mut client, |frame| frame.count == 2).await;
    assert_eq!(frame.unreachable_since, None);
    assert!(server.get("/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn credentials_about_to_expire_are_renewed() {
    let cache = Cache::start().await;
    admit(&cache, &access::WEBUI.to_string()).await;
    let instance = Instance {
        expires_soon: true,
        ..Instance::default()
    };
    let asked = Arc::clone(&instance.asked);
    let mut config = config(&cache, &instance.start().await);
    config.cache.renewal = Duration::from_millis(50);
    let _server = serve(config).await;
    until("credentials are requested three times", async || {
        asked.load(SeqCst) >= 3
    })
    .await;
}

#[tokio::test]
async fn it_signs_in_once_the_role_and_the_user_exist() {
    let cache = Cache::start().await;
    let instance = Instance::default();
    instance.has_no_role.store(true, SeqCst);
    let has_no_role = Arc::clone(&instance.has_no_role);
    let asked = Arc::clone(&instance.asked);
    let server = serve(config(&cache, &instance.start().await)).await;
    assert!(server.get("/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200"));
    has_no_role.store(false, SeqCst);
    until("credentials are requested", async || asked.load(SeqCst) > 0).await;
    assert!(server.get("/readyz").await.starts_with("HTTP/1.1 503"));
    admit(&cache, &access::WEBUI.to_string()).await;
    ready(&server).await;
}

#[tokio::test]
async fn the_log_says_what_to_check_and_has_no_secret() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let cache = Cache::start().await;
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_webui"))
        .env_clear()
        .envs([
            (environment::PORT, "0"),
            (environment::CACHE_USER, USER),
            (environment::CACHE_NAME, "cache"),
            (
                environment::AWS_EC2_METADATA_SERVICE_ENDPOINT,
                &Instance::default().start().await,
            ),
            (
                environment::REDIS_URL,
                &format!(
                    "redis+unix://{}",
                    cache.client().get_connection_info().addr()
                ),
            ),
        ])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(program.stdout.take().expect("a pipe")).lines();
    let (mut log, mut refusals) = (String::new(), 0);
    while refusals < 2 {
        let line = lines.next_line().await.expect("text").expect("it goes on");
        refusals += usize::from(line.contains("as user sensors-test-webui: check that"));
        log += &line;
    }
    for secret in ["the-key", "the-session", "the-metadata-token", "X-Amz-"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[tokio::test]
async fn everything_else_is_refused() {
    let cache = Cache::start().await;
    admit(&cache, &access::WEBUI.to_string()).await;
    let url = format!(
        "redis+unix://{}?user={USER}&pass=any",
        cache.client().get_connection_info().addr()
    );
    let client = redis::Client::open(url).expect("a URL");
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    let mut refused = async |command: &str| {
        let mut words = command.split(' ');
        let mut packed = redis::cmd(words.next().unwrap_or_default());
        for word in words {
            packed.arg(word);
        }
        let answer: Result<redis::Value, RedisError> = packed.query_async(&mut connection).await;
        answer.err().map(|error| error.kind())
    };
    for command in [
        "SET sensorCount 1",
        "DEL sensorCount",
        "INCR sensorSeq",
        "HSET sensor:a count 1",
        "ZADD sensorDevices 1 a",
        "EXPIRE sensorCount 1",
        "PUBLISH sensors x",
        "EVAL return 0",
        "EVALSHA 0 0",
        "SCRIPT FLUSH",
        "FLUSHALL",
        "CONFIG GET *",
        "KEYS *",
        "SCAN 0",
        "INFO",
        "CLIENT LIST",
        "MONITOR",
        "ACL LIST",
        "GET other",
        "MGET sensorCount other",
        "SUBSCRIBE elsewhere",
        "PSUBSCRIBE *",
    ] {
        let no = ErrorKind::Server(ServerErrorKind::NoPerm);
        assert_eq!(refused(command).await, Some(no), "{command}");
    }
    for command in ["GET sensorCount", "MGET sensorEpoch sensorSeq", "PING"] {
        assert_eq!(refused(command).await, None, "{command}");
    }
}
