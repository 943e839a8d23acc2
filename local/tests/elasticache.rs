//! Caches: a real server, with and without TLS in front.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use local::elasticache::{Blackhole, Cache, Config};
use local::tls::Authority;
use redis::AsyncTypedCommands;
use redis::TlsCertificates;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

async fn start(folder: &Path, tls: bool, url: Option<String>) -> anyhow::Result<Cache> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = Authority::open(&folder.join("tls"))?;
    let config = Config {
        logical_id: "Cache".to_owned(),
        port: 6379,
        maxmemory_policy: Some("volatile-lru".to_owned()),
        url,
        tls,
        guard: None,
        folder: folder.join("cache"),
    };
    Cache::start(config, &authority, &Arc::default()).await
}

#[tokio::test]
async fn programs_speak_tls_and_tools_see_the_same_data() {
    let folder = tempfile::tempdir().unwrap();
    let cache = start(folder.path(), true, None).await.unwrap();
    let root_cert = std::fs::read(folder.path().join("tls/ca.pem")).unwrap();
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(root_cert),
    };
    let url = format!("rediss://{}/", cache.endpoint());
    let client = redis::Client::build_with_tls(url, certificates).unwrap();
    let mut encrypted = client.get_multiplexed_async_connection().await.unwrap();
    encrypted.set("key", vec![b'x'; 1 << 20]).await.unwrap();

    let client = redis::Client::open(cache.url()).unwrap();
    let mut plain = client.get_multiplexed_async_connection().await.unwrap();
    assert_eq!(plain.strlen("key").await.unwrap(), 1 << 20);

    // Whoever does not trust the authority does not get in.
    let stranger = redis::Client::open(format!("rediss://{}/", cache.endpoint())).unwrap();
    assert!(stranger.get_multiplexed_async_connection().await.is_err());

    let (endpoint, server) = (
        cache.endpoint(),
        cache
            .url()
            .trim_start_matches("redis://")
            .trim_end_matches('/')
            .to_owned(),
    );
    cache.stop().await;
    assert!(TcpStream::connect(endpoint).await.is_err());
    assert!(TcpStream::connect(server).await.is_err());
}

#[tokio::test]
async fn given_server_is_used_and_left_running() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), false, None).await.unwrap();
    let cache = start(folder.path(), true, Some(server.url().to_owned()))
        .await
        .unwrap();
    assert_eq!(cache.url(), server.url());
    cache.stop().await;
    TcpStream::connect(server.endpoint()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn given_url_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for url in [
        "redis://127.0.0.1:1",
        "http://127.0.0.1",
        "redis://user@127.0.0.1",
    ] {
        let error = start(folder.path(), false, Some(url.to_owned()))
            .await
            .unwrap_err();
        assert!(format!("{error:#}").contains(url), "{error:#}");
    }
}

#[tokio::test]
async fn who_is_cut_off_waits_and_is_not_refused() {
    let blackhole = Blackhole::open().await.unwrap();
    let connecting = TcpStream::connect(blackhole.address().unwrap());
    assert!(
        tokio::time::timeout(Duration::from_millis(300), connecting)
            .await
            .is_err()
    );
}

/// What a server answers once it is there again.
async fn get(cache: &Cache, key: &str) -> Option<String> {
    let client = redis::Client::open(cache.url()).unwrap();
    let asked = async {
        loop {
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && let Ok(value) = connection.get(key).await
            {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked)
        .await
        .expect("the server is there again")
}

async fn set(cache: &Cache, key: &str, value: &str) {
    let client = redis::Client::open(cache.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    connection.set(key, value).await.unwrap();
}

/// Ends with the connection, which a restart ends.
async fn connection_ends(cache: &Cache) -> impl Future<Output = ()> {
    let mut connection = TcpStream::connect(cache.endpoint()).await.unwrap();
    async move {
        let mut buffer = [0; 1];
        let read = tokio::io::AsyncReadExt::read(&mut connection, &mut buffer);
        let ended = tokio::time::timeout(Duration::from_secs(20), read);
        assert!(matches!(ended.await.expect("it ends"), Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn restart_keeps_the_data_and_a_wipe_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let cache = start(folder.path(), false, None).await.unwrap();
    let restarter = cache.restarter().unwrap();
    set(&cache, "key", "value").await;

    let ended = connection_ends(&cache).await;
    restarter.restart(true).await;
    ended.await;
    assert_eq!(get(&cache, "key").await.as_deref(), Some("value"));

    let ended = connection_ends(&cache).await;
    restarter.restart(false).await;
    ended.await;
    assert_eq!(get(&cache, "key").await, None);
    cache.stop().await;
}

#[tokio::test]
async fn server_that_ends_by_itself_is_started_again_with_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let cache = start(folder.path(), true, None).await.unwrap();
    set(&cache, "key", "value").await;
    let (endpoint, url) = (cache.endpoint(), cache.url().to_owned());
    let client = redis::Client::open(url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let ended: redis::RedisResult<()> = redis::cmd("SHUTDOWN")
        .arg("NOSAVE")
        .query_async(&mut connection)
        .await;
    assert!(ended.is_err());
    assert_eq!(get(&cache, "key").await.as_deref(), Some("value"));
    assert_eq!((cache.endpoint(), cache.url()), (endpoint, url.as_str()));
    cache.stop().await;
}

#[tokio::test]
async fn data_outlive_the_run_however_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let cache = start(folder.path(), false, None).await.unwrap();
    set(&cache, "before", "a stop").await;
    cache.stop().await;
    assert!(!cache.is_running());

    let cache = start(folder.path(), false, None).await.unwrap();
    assert_eq!(get(&cache, "before").await.as_deref(), Some("a stop"));
    // What was answered is kept, also when nobody has told the server that it ends.
    set(&cache, "before", "a kill").await;
    let server = server_of(folder.path());
    kill_process(server, Signal::KILL).unwrap();
    drop(cache);

    let cache = start(folder.path(), false, None).await.unwrap();
    assert_eq!(get(&cache, "before").await.as_deref(), Some("a kill"));
    cache.restarter().unwrap().restart(false).await;
    while get(&cache, "before").await.is_some() {}
    cache.stop().await;

    let cache = start(folder.path(), false, None).await.unwrap();
    assert_eq!(get(&cache, "before").await, None);
    cache.stop().await;
}

/// The process whose working directory is the cache's.
fn server_of(folder: &Path) -> Pid {
    let data = std::fs::canonicalize(folder.join("cache/data")).unwrap();
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .find_map(|process| {
            let folder = std::fs::read_link(process.path().join("cwd")).ok()?;
            let id = process.file_name().to_str()?.parse().ok()?;
            Pid::from_raw(id).filter(|_| folder == data)
        })
        .expect("the server runs")
}

#[tokio::test]
async fn data_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let cache = start(folder.path(), false, None).await.unwrap();
    set(&cache, "key", "value").await;
    cache.stop().await;
    let data = folder.path().join("cache/data");
    // Redis 7 keeps a folder of files there, older ones a file.
    let parts = data.join("appendonlydir");
    let files: Vec<_> = match parts.is_dir() {
        true => std::fs::read_dir(parts).unwrap().collect(),
        false => std::fs::read_dir(&data).unwrap().collect(),
    };
    assert!(!files.is_empty());
    for file in files {
        std::fs::write(file.unwrap().path(), "no data of a cache").unwrap();
    }
    let error = start(folder.path(), false, None).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains(&data.display().to_string()), "{error}");
}

#[tokio::test]
async fn given_server_is_not_ours_to_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), false, None).await.unwrap();
    let url = Some(server.url().to_owned());
    let cache = start(folder.path(), false, url).await.unwrap();
    let error = cache.restarter().unwrap_err().to_string();
    assert!(error.contains("--redis"), "{error}");
    cache.stop().await;
    server.stop().await;
}
