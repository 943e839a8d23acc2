//! Outages that the connection survives.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

use crate::events::{Record, invoke, invoke_within, record};
use crate::server::Server;

async fn statistic(
    connection: &mut MultiplexedConnection,
    section: &str,
    name: &str,
) -> Option<String> {
    let info: String = redis::cmd("INFO")
        .arg(section)
        .query_async(connection)
        .await
        .unwrap();
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::to_owned)
}

async fn connections(connection: &mut MultiplexedConnection) -> u64 {
    let text = statistic(connection, "stats", "total_connections_received").await;
    text.unwrap().parse().unwrap()
}

#[tokio::test]
async fn one_connection_serves_all_batches() {
    let server = Server::start();
    let function = server.function();
    let mut connection = server.connection().await;
    let before = connections(&mut connection).await;
    for n in 1..=5 {
        assert!(
            invoke(&function, &[record("a", n, n, "x")])
                .await
                .is_empty()
        );
    }
    assert_eq!(connections(&mut connection).await, before + 1);
    // Subcommands have their own statistics since Redis 7.
    let mut loads = statistic(&mut connection, "commandstats", "cmdstat_script|load").await;
    if loads.is_none() {
        loads = statistic(&mut connection, "commandstats", "cmdstat_script").await;
    }
    let loads = loads.unwrap();
    assert!(loads.starts_with("calls=1,"), "{loads}");
}

#[tokio::test]
async fn a_dead_connection_costs_one_new_one_and_no_batch() {
    let server = Server::start();
    let function = server.function();
    invoke(&function, &[record("a", 1, 1, "x")]).await;
    let mut connection = server.connection().await;
    for n in 2..=4 {
        let before = connections(&mut connection).await;
        let killed: u64 = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(killed, 1);
        assert!(
            invoke(&function, &[record("a", n, n, "x")])
                .await
                .is_empty()
        );
        assert_eq!(connections(&mut connection).await, before + 1);
    }
    assert_eq!(server.state().await.count, 4);
}

#[tokio::test]
async fn a_restarted_server_costs_no_batch() {
    let mut server = Server::start();
    let function = server.function();
    invoke(&function, &[record("a", 1, 1, "x")]).await;
    server.restart();
    assert!(
        invoke(&function, &[record("a", 2, 2, "x")])
            .await
            .is_empty()
    );
    assert_eq!(
        server.state().await.count,
        1,
        "the restarted server was empty and counted the batch"
    );
}

#[tokio::test]
async fn a_server_without_the_script_gets_it_again() {
    let server = Server::start();
    let function = server.function();
    invoke(&function, &[record("a", 1, 1, "x")]).await;
    let mut connection = server.connection().await;
    let before = connections(&mut connection).await;
    let _: () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(
        invoke(&function, &[record("a", 2, 2, "x")])
            .await
            .is_empty()
    );
    assert_eq!(connections(&mut connection).await, before);
    assert_eq!(server.state().await.count, 2);
}

#[tokio::test]
async fn an_unavailable_cache_returns_the_whole_batch_in_time() {
    let mut server = Server::start();
    let function = server.function();
    let bad = Record {
        data: "%".to_owned(),
        ..record("a", 12, 1, "")
    };
    let batch = [record("a", 11, 1, "x"), bad, record("b", 13, 2, "x")];
    server.stop();
    let start = Instant::now();
    let failures = invoke_within(&function, &batch, Duration::from_millis(800)).await;
    assert_eq!(
        failures,
        ["11"],
        "the first record and not the rejected one, so that the whole batch is retried"
    );
    assert!(
        start.elapsed() < Duration::from_millis(700),
        "{:?}",
        start.elapsed()
    );
    server.restart();
    assert_eq!(invoke(&function, &batch).await, ["12"]);
    assert_eq!(server.state().await.count, 2);
}

#[tokio::test]
async fn a_hanging_cache_returns_the_batch_in_time() {
    let server = Server::start();
    let function = server.function();
    invoke(&function, &[record("a", 1, 1, "x")]).await;
    let mut connection = server.connection().await;
    let _: () = redis::cmd("CLIENT")
        .arg(&["PAUSE", "60000", "WRITE"])
        .query_async(&mut connection)
        .await
        .unwrap();
    let start = Instant::now();
    let failures = invoke_within(
        &function,
        &[record("a", 2, 2, "x")],
        Duration::from_millis(800),
    )
    .await;
    assert_eq!(failures, ["2"]);
    assert!(
        start.elapsed() < Duration::from_millis(700),
        "{:?}",
        start.elapsed()
    );
    let _: () = redis::cmd("CLIENT")
        .arg("UNPAUSE")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(
        invoke(&function, &[record("a", 2, 2, "x")])
            .await
            .is_empty()
    );
    assert_eq!(
        server.state().await.count,
        2,
        "whether or not the first attempt was executed late"
    );
}

#[tokio::test]
async fn a_cache_that_comes_back_within_the_deadline_costs_no_retry() {
    let mut server = Server::start();
    let function = server.function();
    invoke(&function, &[record("a", 1, 1, "x")]).await;
    server.stop();
    let batch = [record("a", 2, 2, "x")];
    let (failures, ()) = tokio::join!(invoke(&function, &batch), async {
        // The function's first attempt fails: it is polled first, and nothing listens.
        tokio::task::yield_now().await;
        server.restart();
    });
    assert!(failures.is_empty());
    assert_eq!(server.state().await.count, 1);
}

#[tokio::test]
async fn a_replica_is_retried_until_it_is_promoted() {
    let server = Server::start();
    let function = server.function();
    let mut connection = server.connection().await;
    // Nothing listens on port 1: a replica without its primary, as after a failover.
    let _: () = redis::cmd("REPLICAOF")
        .arg(&["127.0.0.1", "1"])
        .query_async(&mut connection)
        .await
        .unwrap();
    let batch = [record("a", 1, 1, "x")];
    assert_eq!(
        invoke_within(&function, &batch, Duration::from_millis(400)).await,
        ["1"]
    );
    let _: () = redis::cmd("REPLICAOF")
        .arg(&["NO", "ONE"])
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(invoke(&function, &batch).await.is_empty());
    assert_eq!(server.state().await.count, 1);
}

#[tokio::test]
async fn a_full_cache_counts_nothing_of_a_batch() {
    let server = Server::start();
    let function = server.function();
    let mut connection = server.connection().await;
    let mut memory = async |limit: &str| {
        let _: () = redis::cmd("CONFIG")
            .arg(&["SET", "maxmemory", limit])
            .query_async(&mut connection)
            .await
            .unwrap();
    };
    memory("1").await;
    let batch = [record("a", 1, 1, "x"), record("b", 2, 2, "x")];
    assert_eq!(
        invoke_within(&function, &batch, Duration::from_millis(400)).await,
        ["1"]
    );
    memory("0").await;
    let keys: usize = redis::cmd("DBSIZE")
        .query_async(&mut server.connection().await)
        .await
        .unwrap();
    assert_eq!(keys, 0);
    assert!(invoke(&function, &batch).await.is_empty());
    assert_eq!(server.state().await.count, 2);
}
