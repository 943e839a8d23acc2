//! The server with a real cache and real WebSocket clients.

mod support;

use std::io::Read;
use std::time::Duration;

use contract::http;
use futures_util::{SinkExt, StreamExt};
use support::{Cache, Client, LIMIT, Server, Writer, frame, frame_where, next, until};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message, protocol::frame::coding::CloseCode};
use webui::{CAPS, Caps};

async fn refused(server: &Server, headers: &[(&'static str, &str)]) -> u16 {
    match server.connect_with(headers).await {
        Err(Error::Http(answer)) => answer.status().as_u16(),
        other => panic!("not refused: {other:?}"),
    }
}

async fn close_code(client: &mut Client) -> CloseCode {
    loop {
        if let Message::Close(Some(close)) = next(client).await {
            return close.code;
        }
    }
}

#[tokio::test]
async fn a_client_gets_everything_first_and_then_the_changes() {
    let cache = Cache::start().await;
    let mut writer = Writer::new("first");
    writer.write(&cache, "hall", 1, true).await;
    writer.write(&cache, "kitchen", 1, true).await;
    let server = Server::start(&cache).await;
    let mut client = server.connect().await;
    let full = frame(&mut client).await;
    assert!(full.full);
    assert_eq!(
        (full.count, full.devices.len(), full.unreachable_since),
        (2, 2, None)
    );
    assert_eq!(full.epoch, "first");

    writer.write(&cache, "kitchen", 2, true).await;
    let change = frame_where(&mut client, |frame| frame.count == 3).await;
    assert!(!change.full);
    let [device] = &change.devices[..] else {
        panic!("{change:?}")
    };
    assert_eq!((device.device.as_str(), device.count), ("kitchen", 2));
    assert_eq!(device.latest.payload.get(), r#"{"n":2}"#);
    assert_eq!(change.latest.unwrap().device, "kitchen");
}

#[tokio::test]
async fn a_lost_announcement_is_detected_with_or_without_a_next_one() {
    let cache = Cache::start().await;
    let mut writer = Writer::new("first");
    writer.write(&cache, "hall", 1, true).await;
    let server = Server::start(&cache).await;
    let mut client = server.connect().await;
    writer.write(&cache, "lost", 1, false).await;
    writer.write(&cache, "hall", 2, true).await;
    let change = frame_where(&mut client, |frame| frame.count == 3).await;
    assert!(
        change.devices.iter().any(|device| device.device == "lost"),
        "{change:?}"
    );
    writer.write(&cache, "last", 1, false).await;
    let change = frame_where(&mut client, |frame| frame.count == 4).await;
    assert!(
        change.devices.iter().any(|device| device.device == "last"),
        "{change:?}"
    );
}

#[tokio::test]
async fn devices_too_large_to_announce_are_read() {
    let cache = Cache::start().await;
    let mut writer = Writer::new("first");
    writer.write(&cache, "hall", 1, true).await;
    let server = Server::start(&cache).await;
    let mut client = server.connect().await;
    writer.write(&cache, "large", 1, false).await;
    let mut pipe = redis::pipe();
    pipe.publish(
        contract::redis::CHANNEL,
        r#"{"epoch":"first","seq":2,"count":2,"latest":null,"devices":[],"unsent":["large"],"removed":["hall"]}"#,
    );
    cache.run(&pipe).await;
    let change = frame_where(&mut client, |frame| frame.count == 2).await;
    assert_eq!(change.removed, ["hall"]);
    assert_eq!(change.devices[0].device, "large");
    assert_eq!(change.latest.unwrap().device, "large");
}

#[tokio::test]
async fn a_new_epoch_replaces_everything_for_everybody() {
    let mut cache = Cache::start().await;
    Writer::new("first").write(&cache, "hall", 7, true).await;
    let server = Server::start(&cache).await;
    let mut client = server.connect().await;
    frame(&mut client).await;
    cache.kill();
    let away = frame_where(&mut client, |frame| frame.unreachable_since.is_some()).await;
    assert_eq!(away.count, 1, "the last known state stays");
    assert!(server.get(http::READY).await.starts_with("HTTP/1.1 503"));
    assert!(server.get(http::HEALTH).await.starts_with("HTTP/1.1 200"));
    cache.restart().await;
    Writer::new("second")
        .write(&cache, "kitchen", 1, true)
        .await;
    let back = frame_where(&mut client, |frame| frame.epoch == "second").await;
    assert!(back.full);
    assert_eq!(back.devices.len(), 1);
    until("ready again", async || {
        server.get(http::READY).await.starts_with("HTTP/1.1 200")
    })
    .await;
    let state = server.get(http::STATE).await;
    assert!(
        state.contains("kitchen") && !state.contains("hall"),
        "{state}"
    );
}

#[tokio::test]
async fn the_server_starts_without_a_cache_and_reports_it() {
    let mut cache = Cache::start().await;
    cache.kill();
    let server = Server::start_with(cache.client(), CAPS).await;
    let mut client = server.connect().await;
    assert!(frame(&mut client).await.unreachable_since.is_some());
    cache.restart().await;
    frame_where(&mut client, |frame| frame.unreachable_since.is_none()).await;
}

#[tokio::test]
async fn a_hanging_cache_is_detected() {
    let cache = Cache::start().await;
    let server = Server::start(&cache).await;
    let mut client = server.connect().await;
    let mut pipe = redis::pipe();
    pipe.cmd("CLIENT").arg("PAUSE").arg(15_000).arg("ALL");
    cache.run(&pipe).await;
    frame_where(&mut client, |frame| frame.unreachable_since.is_some()).await;
    frame_where(&mut client, |frame| frame.unreachable_since.is_none()).await;
}

#[tokio::test]
async fn a_slow_client_skips_frames_and_ends_with_the_newest() {
    let cache = Cache::start().await;
    let mut writer = Writer::new("first");
    writer.write(&cache, "hall", 1, true).await;
    let server = Server::start(&cache).await;
    let mut quick = server.connect().await;
    let mut slow = server.connect().await;
    // Far more than kernel and window take: large messages, many of them, unread.
    let filler = "x".repeat(300_000);
    for n in 2..=60_u64 {
        let message =
            format!(r#"{{"device":"hall","payload":"{filler}{n}","encoding":"json","at":{n}}}"#);
        let mut pipe = redis::pipe();
        pipe.publish(
            contract::redis::CHANNEL,
            format!(r#"{{"epoch":"first","seq":{n},"count":{n},"latest":{message},"devices":[{{"device":"hall","count":{n},"latest":{message}}}]}}"#),
        );
        cache.run(&pipe).await;
        frame_where(&mut quick, |frame| frame.seq == n).await;
    }
    let mut seqs = Vec::new();
    while seqs.last() != Some(&60) {
        seqs.push(frame(&mut slow).await.seq);
    }
    assert!(seqs.is_sorted(), "{seqs:?}");
    assert!(seqs.len() < 55, "it skipped none: {seqs:?}");
    let metrics = server.get(http::METRICS).await;
    let merged = metrics
        .lines()
        .find_map(|line| line.strip_prefix("webui_frames_merged_total "));
    assert_ne!(merged, Some("0"));
}

#[tokio::test]
async fn a_client_gets_at_most_about_twenty_frames_a_second() {
    let cache = Cache::start().await;
    let mut writer = Writer::new("first");
    writer.write(&cache, "hall", 1, true).await;
    let server = Server::start(&cache).await;
    let mut client = server.connect().await;
    let start = std::time::Instant::now();
    for n in 2..=300 {
        writer.write(&cache, "hall", n, true).await;
    }
    let mut frames = 0_u32;
    frame_where(&mut client, |frame| frame.count == 300).await;
    while let Ok(Some(Ok(_))) = timeout(Duration::from_millis(200), client.next()).await {
        frames += 1;
    }
    let metrics = server.get(http::METRICS).await;
    let sent = metrics
        .lines()
        .find_map(|line| line.strip_prefix("webui_frames_sent_total "));
    let sent: f64 = sent.expect("the metric").parse().expect("a number");
    assert!(
        sent <= start.elapsed().as_secs_f64() * 20.0 + 3.0,
        "{sent} frames, {frames} late"
    );
}

#[tokio::test]
async fn limits_count_clients_by_the_addresses_of_the_proxies() {
    let cache = Cache::start().await;
    let caps = Caps {
        total: 3,
        per_address: 1,
    };
    let server = Server::start_with(cache.client(), caps).await;
    let far = [("x-forwarded-for", "198.51.100.1, 10.0.0.9")];
    let first = server.connect_with(&far).await.expect("the first");
    let liar = [("x-forwarded-for", "6.6.6.6, 198.51.100.1, 10.0.0.8")];
    assert_eq!(refused(&server, &liar).await, 429);
    let other = [("x-forwarded-for", "198.51.100.2, 10.0.0.9")];
    let _second = server.connect_with(&other).await.expect("another address");
    let _third = server.connect().await;
    assert_eq!(refused(&server, &[]).await, 503);
    drop(first);
    until("the permit is returned", async || {
        server.connect_with(&far).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn other_sites_are_refused() {
    let cache = Cache::start().await;
    let server = Server::start(&cache).await;
    assert_eq!(
        refused(&server, &[("origin", "http://evil.example")]).await,
        403
    );
    let own = format!("http://{}", server.address);
    assert!(server.connect_with(&[("origin", &own)]).await.is_ok());
    assert!(server.get(http::SOCKET).await.starts_with("HTTP/1.1 426"));
}

#[tokio::test]
async fn small_frames_are_ignored_pings_answered_and_large_frames_close() {
    let cache = Cache::start().await;
    let server = Server::start(&cache).await;
    let mut client = server.connect().await;
    frame(&mut client).await;
    client.send(Message::text("hello")).await.unwrap();
    client
        .send(Message::Ping(b"there?".as_slice().into()))
        .await
        .unwrap();
    assert_eq!(
        next(&mut client).await,
        Message::Pong(b"there?".as_slice().into())
    );
    client.send(Message::text("x".repeat(5000))).await.unwrap();
    assert_eq!(close_code(&mut client).await, CloseCode::Size);
}

#[tokio::test]
async fn shutdown_closes_all_clients_and_ends() {
    let cache = Cache::start().await;
    let mut server = Server::start(&cache).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(server.connect().await);
    }
    server.shutdown.cancel();
    for client in &mut clients {
        assert_eq!(close_code(client).await, CloseCode::Away);
    }
    drop(clients);
    timeout(LIMIT, &mut server.task)
        .await
        .expect("in time")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_page_is_compressed_validated_and_protected() {
    let cache = Cache::start().await;
    let server = Server::start(&cache).await;
    let plain = server.get("/").await;
    let header = |name: &str, answer: &str| {
        let lines = answer.lines().take_while(|line| !line.is_empty());
        lines
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    assert!(plain.contains("<title>Sensor data</title>"));
    let policy = header("content-security-policy", &plain).unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(
        !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    assert_eq!(
        header("x-content-type-options", &plain).as_deref(),
        Some("nosniff")
    );
    assert_eq!(header("strict-transport-security", &plain), None);

    let tag = header("etag", &plain).unwrap();
    let again = server
        .request("/", &format!("if-none-match: W/{tag}\r\n"))
        .await;
    let again = String::from_utf8(again).unwrap();
    assert!(again.starts_with("HTTP/1.1 304"), "{again}");
    assert!(again.ends_with("\r\n\r\n"), "{again}");

    let packed = server
        .request(
            "/app.js",
            "accept-encoding: br, gzip\r\nx-forwarded-proto: https\r\n",
        )
        .await;
    let end = packed
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap()
        + 4;
    let head = String::from_utf8(packed[..end].to_vec()).unwrap();
    assert_eq!(header("content-encoding", &head).as_deref(), Some("gzip"));
    assert!(header("strict-transport-security", &head).is_some());
    let mut script = String::new();
    flate2::read::GzDecoder::new(&packed[end..])
        .read_to_string(&mut script)
        .unwrap();
    assert!(server.get("/app.js").await.ends_with(&script));
    assert!(server.get("/nothing").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn metrics_have_clients_devices_and_lag() {
    let cache = Cache::start().await;
    let mut writer = Writer::new("first");
    let server = Server::start(&cache).await;
    let mut client = server.connect().await;
    writer.write(&cache, "hall", 1, true).await;
    frame_where(&mut client, |frame| frame.count == 1).await;
    let metrics = server.get(http::METRICS).await;
    for line in [
        "webui_clients 1",
        "webui_devices 1",
        "webui_cache_up 1",
        "webui_lag_seconds_count 1",
    ] {
        assert!(
            metrics.lines().any(|other| other == line),
            "{line} in {metrics}"
        );
    }
}
