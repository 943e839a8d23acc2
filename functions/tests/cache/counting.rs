//! What the script does to the state, and what it announces.

use contract::redis as names;
use contract::timing::WATERMARK_TTL;
use functions::script::Limits;
use redis::AsyncCommands as _;

use crate::events::{Record, STREAM, invoke, record};
use crate::server::Server;

#[tokio::test]
async fn a_batch_is_counted_once_and_announced() {
    let server = Server::start();
    let function = server.function();
    let mut listener = server.listen().await;
    let batch = [
        record("kitchen", 1, 1000, r#"{"t":21.50}"#),
        record("cellar", 2, 1001, "damp"),
        record("kitchen", 3, 1002, r#"{"t":21.75}"#),
        record("topic/sensors", 4, 1003, [0, 255]),
        record("attic", 5, 1004, ""),
    ];
    assert!(invoke(&function, &batch).await.is_empty());
    let state = server.state().await;
    assert_eq!((state.count, state.seq), (5, 1));
    let summary = r#"attic=1:"" cellar=1:"damp" kitchen=2:{"t":21.75} topic/sensors=1:"AP8=""#;
    assert_eq!(state.summary(), summary);
    assert_eq!(state.latest_payload(), r#""""#);

    assert!(invoke(&function, &batch).await.is_empty());
    assert!(invoke(&function, &batch[1..4]).await.is_empty());
    let again = server.state().await;
    assert_eq!(
        (again.count, again.seq),
        (5, 1),
        "duplicates change nothing"
    );

    let announcements = listener.announcements(&server).await;
    let [announcement] = &announcements[..] else {
        panic!("{announcements:?}")
    };
    assert_eq!((announcement.count, announcement.seq), (5, 1));
    assert_eq!(Some(&announcement.epoch), state.epoch.as_ref());
    assert_eq!(announcement.latest.as_ref().unwrap().device, "attic");
    assert!(announcement.unsent.is_empty() && announcement.removed.is_empty());
    let mut devices = announcement.devices.clone();
    devices.sort_by(|a, b| a.device.cmp(&b.device));
    let announced = crate::server::State { devices, ..state };
    assert_eq!(announced.summary(), summary);
}

#[tokio::test]
async fn a_batch_is_one_command() {
    use futures_util::StreamExt as _;
    let server = Server::start();
    let function = server.function();
    invoke(&function, &[record("kitchen", 1, 1, "warm-up")]).await;
    let mut monitor = server.client.get_async_monitor().await.unwrap();
    let mut end = server.connection().await;
    let batch: Vec<Record> = (2..=1001)
        .map(|n| record(&format!("d{}", n % 100), n, n, format!("{n}")))
        .collect();
    assert!(invoke(&function, &batch).await.is_empty());
    assert!(invoke(&function, &[]).await.is_empty());
    let _: () = end.set("end", "").await.unwrap();
    let mut commands = Vec::new();
    let mut lines = monitor.on_message::<String>();
    while let Some(line) = lines.next().await {
        // `<time> [<db> <client>] "<command>" "<argument>" …`; the script's own commands are of `lua`.
        let (source, command) = line.split_once("] ").unwrap();
        let command = command.split(' ').next().unwrap();
        match (source.ends_with(" lua"), command) {
            (false, r#""set""# | r#""SET""#) => break,
            (false, r#""CLIENT""#) | (true, _) => {}
            _ => commands.push(command.to_owned()),
        }
    }
    assert_eq!(commands, [r#""EVALSHA""#]);
    assert_eq!(server.state().await.count, 1001);
}

#[tokio::test]
async fn sequence_numbers_are_numbers_of_any_length() {
    let server = Server::start();
    let function = server.function();
    let nines = "9".repeat(128);
    let next = format!("1{}", "0".repeat(128));
    for (sequence, count) in [
        ("9", 1),
        ("10", 2),
        ("0011", 3),
        ("11", 3),
        (&nines, 4),
        (&next, 5),
        (&nines, 5),
    ] {
        invoke(&function, &[record("d", sequence, 7, sequence)]).await;
        assert_eq!(server.state().await.count, count, "{sequence}");
    }
    let latest = server.state().await;
    assert_eq!(
        latest.latest_payload(),
        next,
        "in one millisecond the higher number is the later"
    );
}

#[tokio::test]
async fn only_what_is_above_the_watermark_is_new() {
    let server = Server::start();
    let function = server.function();
    let records: Vec<Record> = (1..=9)
        .map(|n| record("d", n * 7, n, format!("{n}")))
        .collect();
    invoke(&function, &records[..4]).await;
    invoke(&function, &records[2..7]).await;
    invoke(&function, &records).await;
    let state = server.state().await;
    assert_eq!((state.count, state.seq), (9, 3));
    assert_eq!(state.summary(), "d=9:9");
}

#[tokio::test]
async fn watermarks_are_kept_per_stream_and_key_with_the_device_and_expire_after_it() {
    let server = Server::start();
    let function = server.function_with(Limits {
        devices: 1,
        ..Limits::default()
    });
    let other = Record {
        stream: format!("{STREAM}-2"),
        ..record("d", 1, 2, "other stream")
    };
    let bare_key = Record {
        key: "d".to_owned(),
        ..record("d", 1, 3, "other key")
    };
    let batch = [record("d", 5, 1, "first"), other, bare_key];
    invoke(&function, &batch).await;
    assert_eq!(server.state().await.summary(), r#"d=3:"other key""#);
    let mut connection = server.connection().await;
    for record in &batch {
        let field = names::mark_key(&record.stream, &record.key);
        let mark: String = connection
            .hget(names::device_key("d"), field)
            .await
            .unwrap();
        assert_eq!(mark, record.sequence);
    }
    invoke(&function, &[record("e", 6, 4, "another device")]).await;
    assert_eq!(server.state().await.summary(), r#"e=1:"another device""#);
    let ttl = WATERMARK_TTL.as_secs() as i64;
    for record in &batch {
        let key = names::mark_key(&record.stream, &record.key);
        let mark: String = connection.get(&key).await.unwrap();
        assert_eq!(mark, record.sequence);
        let left: i64 = connection.ttl(&key).await.unwrap();
        assert!((ttl - 60..=ttl).contains(&left), "{left}");
    }
    // A device that comes back finds them again.
    let next = record("d", 6, 5, "back");
    invoke(&function, &[&batch[..], &[next]].concat()).await;
    assert_eq!(server.state().await.summary(), r#"d=1:"back""#);
    assert_eq!(server.state().await.count, 5);
}

#[tokio::test]
async fn latest_follows_arrival_across_streams() {
    let server = Server::start();
    let function = server.function();
    invoke(&function, &[record("a", 100, 2000, "newer")]).await;
    let older = Record {
        stream: format!("{STREAM}-2"),
        ..record("a", 999, 1000, "older")
    };
    invoke(&function, &[older]).await;
    invoke(&function, &[record("b", 999, 1500, "in between")]).await;
    let state = server.state().await;
    assert_eq!(state.summary(), r#"a=2:"newer" b=1:"in between""#);
    assert_eq!(state.latest_payload(), r#""newer""#);
}

#[tokio::test]
async fn an_announcement_without_a_newer_message_carries_the_stored_one() {
    let server = Server::start();
    let function = server.function();
    let mut listener = server.listen().await;
    invoke(&function, &[record("a", 1, 2000, "newer")]).await;
    invoke(&function, &[record("a", 2, 1000, "older")]).await;
    let announcements = listener.announcements(&server).await;
    let last = announcements.last().unwrap();
    assert_eq!((last.seq, last.count, last.devices[0].count), (2, 2, 2));
    assert_eq!(last.latest.as_ref().unwrap().payload.get(), r#""newer""#);
    assert_eq!(last.devices[0].latest.payload.get(), r#""newer""#);
}

#[tokio::test]
async fn hostile_names_and_payloads_arrive_as_they_are() {
    let server = Server::start();
    let function = server.function();
    let mut listener = server.listen().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let messages = [
        (
            "quote\"back\\slash",
            r#"{"x":1e999,"x":12345678901234567890123456789.10}"#,
        ),
        (
            "sensors/../%d%s\u{202e}\u{7f}\u{0}",
            "</script><script>\u{0}\u{1f600}",
        ),
        ("newline\nand\ttab", "{\"a\":NaN}"),
        ("deep", deep.as_str()),
    ];
    let batch: Vec<Record> = messages
        .iter()
        .zip(1..)
        .map(|((device, text), n)| record(device, n, n, text))
        .collect();
    assert!(invoke(&function, &batch).await.is_empty());
    let announcements = listener.announcements(&server).await;
    let devices = &announcements[0].devices;
    for (device, text) in messages {
        let found = devices.iter().find(|found| found.device == device).unwrap();
        assert_eq!(found.latest.device, device);
        let payload = found.latest.payload.get();
        if text.contains("1e999") {
            assert_eq!(payload, text);
        } else {
            assert_eq!(serde_json::from_str::<String>(payload).unwrap(), text);
        }
    }
    assert_eq!(server.state().await.devices.len(), messages.len());
}

#[tokio::test]
async fn rejected_records_are_named_and_hold_up_nothing() {
    let server = Server::start();
    let function = server.function();
    let bad = |device: &str, sequence: u64| Record {
        data: "%".to_owned(),
        ..record(device, sequence, 1, "")
    };
    let no_key = Record {
        key: String::new(),
        ..record("x", 4, 1, "whose?")
    };
    let too_large = record(
        "big",
        6,
        1,
        vec![b'x'; functions::record::MAX_PAYLOAD_BYTES + 1],
    );
    let batch = [
        record("a", 1, 1, "1"),
        bad("a", 2),
        record("a", 3, 3, "3"),
        no_key,
        bad("b", 5),
        too_large,
    ];
    assert_eq!(invoke(&function, &batch).await, ["2", "4", "5", "6"]);
    assert_eq!(server.state().await.summary(), "a=2:3");
    for _ in 0..3 {
        // Lambda's retry from the lowest: rejected each time, the others are duplicates by now.
        assert_eq!(invoke(&function, &batch[1..]).await, ["2", "4", "5", "6"]);
    }
    let state = server.state().await;
    assert_eq!((state.summary().as_str(), state.seq), ("a=2:3", 1));
    assert_eq!(invoke(&function, &[bad("b", 5)]).await, ["5"]);
}

#[tokio::test]
async fn the_longest_silent_devices_are_forgotten_first() {
    let server = Server::start();
    let function = server.function_with(Limits {
        devices: 3,
        ..Limits::default()
    });
    let mut listener = server.listen().await;
    let batch: Vec<Record> = ["a", "b", "c"]
        .iter()
        .zip(1..)
        .map(|(device, n)| record(device, n, n, format!("{n}")))
        .collect();
    invoke(&function, &batch).await;
    invoke(&function, &[record("a", 4, 4, "4")]).await;
    invoke(&function, &[record("d", 5, 5, "5")]).await;
    assert_eq!(server.state().await.summary(), "a=2:4 c=1:3 d=1:5");
    // A device that the batch brings may be the longest silent itself.
    invoke(
        &function,
        &[record("e", 6, 2, "late"), record("f", 7, 6, "6")],
    )
    .await;
    let state = server.state().await;
    assert_eq!(state.summary(), "a=2:4 d=1:5 f=1:6");
    assert_eq!(state.count, 7, "what was counted stays counted");
    // Watermarks outlive their devices: nothing is counted again.
    invoke(&function, &batch).await;
    assert_eq!(server.state().await.count, 7);

    let removed: Vec<_> = listener
        .announcements(&server)
        .await
        .into_iter()
        .map(|announcement| announcement.removed)
        .collect();
    assert_eq!(
        removed,
        [
            vec![],
            vec![],
            vec!["b".to_owned()],
            vec!["e".to_owned(), "c".to_owned()]
        ]
    );
}

#[tokio::test]
async fn bytes_of_devices_are_limited_too() {
    let server = Server::start();
    let function = server.function_with(Limits {
        device_bytes: 3000,
        ..Limits::default()
    });
    let mut connection = server.connection().await;
    for n in 1..=30_u64 {
        let size = [900, 10, 400][n as usize % 3];
        invoke(
            &function,
            &[record(&format!("d{}", n % 7), n, n, "x".repeat(size))],
        )
        .await;
        let state = server.state().await;
        let mut bytes = 0_usize;
        for device in &state.devices {
            let length: usize = redis::cmd("HSTRLEN")
                .arg(&[&names::device_key(&device.device), names::field::LATEST])
                .query_async(&mut connection)
                .await
                .unwrap();
            bytes += length;
        }
        let ledger: String = connection.get(names::LEDGER).await.unwrap();
        let (_, noted) = ledger.rsplit_once(' ').unwrap();
        assert_eq!(noted, bytes.to_string());
        assert!(bytes <= 3000, "{bytes}");
        assert!(
            state
                .devices
                .iter()
                .any(|device| device.device == format!("d{}", n % 7))
        );
    }
    // One that exceeds the limit by itself is counted all the same.
    invoke(&function, &[record("huge", 31, 31, "x".repeat(4000))]).await;
    let state = server.state().await;
    assert_eq!((state.count, state.devices.len()), (31, 0));
    assert_eq!(state.latest.unwrap().device, "huge");
    invoke(&function, &[record("small", 32, 32, "x")]).await;
    assert_eq!(server.state().await.summary(), r#"small=1:"x""#);
}

#[tokio::test]
async fn a_large_announcement_carries_names() {
    let server = Server::start();
    let function = server.function_with(Limits {
        announcement_bytes: 2000,
        ..Limits::default()
    });
    let mut listener = server.listen().await;
    let batch: Vec<Record> = (1..=9_u64)
        .map(|n| record(&format!("d{n}"), n, n, "x".repeat(300)))
        .collect();
    invoke(&function, &batch).await;
    invoke(
        &function,
        &[
            record("d10", 10, 10, "x".repeat(3000)),
            record("d11", 11, 1, "small"),
        ],
    )
    .await;
    let announcements = listener.announcements(&server).await;
    let [many, one] = &announcements[..] else {
        panic!("{announcements:?}")
    };
    assert!(many.latest.is_some());
    assert!(!many.devices.is_empty() && !many.unsent.is_empty());
    assert!(serde_json::to_string(&many.devices).unwrap().len() < 2000);
    let mut names: Vec<_> = many
        .devices
        .iter()
        .map(|device| &device.device)
        .chain(&many.unsent)
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9"]
    );
    assert!(one.latest.is_none());
    assert_eq!(one.unsent, ["d10"]);
    assert_eq!(one.devices[0].device, "d11");
}

#[tokio::test]
async fn an_emptied_cache_begins_another_epoch() {
    let mut server = Server::start();
    let function = server.function();
    invoke(&function, &[record("a", 1, 1, "1")]).await;
    invoke(&function, &[record("a", 2, 2, "2")]).await;
    let before = server.state().await;
    server.restart();
    invoke(&function, &[record("a", 3, 3, "3")]).await;
    let after = server.state().await;
    assert_eq!((after.count, after.seq), (1, 1));
    assert_ne!(before.epoch, after.epoch);
    let mut connection = server.connection().await;
    let _: () = connection.del(names::SEQ).await.unwrap();
    invoke(&function, &[record("a", 4, 4, "4")]).await;
    let reset = server.state().await;
    assert_eq!((reset.count, reset.seq), (2, 1));
    assert_ne!(
        after.epoch, reset.epoch,
        "numbers never start anew within an epoch"
    );
}

#[tokio::test]
async fn counts_beyond_fourteen_digits_stay_whole() {
    let server = Server::start();
    let function = server.function();
    let mut listener = server.listen().await;
    let mut connection = server.connection().await;
    let large = 9_007_199_254_740_000_u64;
    let _: () = connection.set(names::COUNT, large).await.unwrap();
    let _: () = connection
        .hset(names::device_key("a"), names::field::COUNT, large)
        .await
        .unwrap();
    let at = 4_102_444_800_123;
    invoke(&function, &[record("a", 1, at, "1")]).await;
    let announcement = listener.announcements(&server).await.remove(0);
    assert_eq!(
        (announcement.count, announcement.devices[0].count),
        (large + 1, large + 1)
    );
    assert_eq!(server.state().await.devices[0].latest.at, at);
}

#[tokio::test]
async fn foreign_data_in_the_cache_stops_a_batch_before_it_changes_anything() {
    let server = Server::start();
    let mut connection = server.connection().await;
    for (command, key, value) in [
        ("SET", names::COUNT, "many"),
        ("SET", names::SEQ, "many"),
        ("SET", names::COUNT, "1e5"),
        ("SET", names::COUNT, "1.5"),
        ("SET", names::COUNT, "-1"),
        ("SET", names::COUNT, "9007199254740993"),
        ("SET", names::SEQ, " 1"),
        ("RPUSH", names::SEQ, "1"),
        ("RPUSH", names::COUNT, "1"),
        ("RPUSH", names::EPOCH, "1"),
        ("SET", names::DEVICES, "1"),
        ("SET", names::LEDGER, "1"),
        ("SET", names::LEDGER, "1 2 9007199254740993"),
        ("RPUSH", names::LEDGER, "1"),
        ("SET", "sensor:a", "1"),
        ("HSET", "sensor:a", "0x10"),
    ] {
        let _: () = redis::cmd("FLUSHALL")
            .query_async(&mut connection)
            .await
            .unwrap();
        let _: () = redis::cmd(command)
            .arg(key)
            .arg((command == "HSET").then_some(names::field::AT))
            .arg(value)
            .query_async(&mut connection)
            .await
            .unwrap();
        let batch = [record("b", 1, 1, "1"), record("a", 2, 2, "2")];
        let time = std::time::Duration::from_millis(300);
        let failures = crate::events::invoke_within(&server.function(), &batch, time).await;
        assert_eq!(failures, ["1"], "{command} {key}");
        let keys: usize = redis::cmd("DBSIZE")
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(keys, 1, "{command} {key}");
    }
}

#[tokio::test]
async fn what_bears_a_devices_name_and_is_none_stops_no_eviction() {
    let server = Server::start();
    let function = server.function_with(Limits {
        devices: 1,
        ..Limits::default()
    });
    let mut connection = server.connection().await;
    let _: () = connection.zadd(names::DEVICES, "a", 1).await.unwrap();
    let _: () = connection.set(names::device_key("a"), "1").await.unwrap();
    invoke(&function, &[record("b", 1, 5, "1")]).await;
    let state = server.state().await;
    assert_eq!(state.count, 1);
    let kept: Vec<_> = state.devices.iter().map(|device| &device.device).collect();
    assert_eq!(kept, ["b"]);
    // The set alone is gone, and the device is known.
    let _: () = connection.del(names::DEVICES).await.unwrap();
    invoke(&function, &[record("b", 2, 6, "2")]).await;
    let state = server.state().await;
    assert_eq!((state.count, state.devices[0].count), (2, 2));
}
