//! The function as the cache user that the template creates for it, on a real server.
//!
//! A Redis server cannot verify a token, so the user accepts any password; the tests are about the user's
//! rights. The package `sign-in` tests the tokens.

use std::collections::BTreeSet;

use contract::{access, environment, redis as names};
use functions::cache::Cache;
use functions::handler::Function;
use functions::script::Limits;
use redis::{Client, ErrorKind, RedisError, ServerErrorKind, Value};

use crate::events::{event, invoke, record};
use crate::program::{RuntimeApi, start};
use crate::server::Server;

const USER: &str = "sensors-test-function";

async fn server() -> Server {
    let server = Server::start();
    let mut rules = redis::cmd("ACL");
    rules.arg("SETUSER").arg(USER).arg("nopass");
    for rule in access::FUNCTION.to_string().split(' ') {
        rules.arg(rule);
    }
    let _: () = rules
        .query_async(&mut server.connection().await)
        .await
        .unwrap();
    server
}

fn url(server: &Server) -> String {
    let info = server.client.get_connection_info();
    format!("redis+unix://{}", info.addr())
}

fn as_user(server: &Server) -> Client {
    Client::open(format!("{}?user={USER}&pass=any", url(server))).unwrap()
}

#[test]
fn its_rights_are_the_commands_that_it_sends() {
    let script = include_str!("../../src/batch.lua");
    let calls = script.split("redis.call(").skip(1).map(|call| {
        let name = call
            .strip_prefix('\'')
            .and_then(|call| call.split('\'').next());
        name.unwrap_or_else(|| panic!("expected a command's name after redis.call: {call:.40}"))
    });
    let sent: BTreeSet<String> = calls
        .map(str::to_lowercase)
        .chain(["evalsha", "script|load"].map(str::to_owned))
        .collect();
    let allowed = access::FUNCTION.commands.iter().map(|it| (*it).to_owned());
    assert_eq!(sent, allowed.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_counts_as_that_user() {
    let server = server().await;
    let api = RuntimeApi::start();
    let program = start(&[
        ("AWS_LAMBDA_RUNTIME_API", &api.address),
        (environment::REDIS_URL, &url(&server)),
        (environment::CACHE_USER, USER),
        (environment::CACHE_NAME, "cache"),
        (environment::AWS_REGION, "eu-central-1"),
        (environment::AWS_ACCESS_KEY_ID, "ASIAEXAMPLE"),
        (environment::AWS_SECRET_ACCESS_KEY, "do-not-log-this-key"),
        (environment::AWS_SESSION_TOKEN, "do-not-log-this-session"),
    ]);
    let batch = event(&[record("a", 1, 1, "x"), record("b", 2, 2, "y")]).to_string();
    for _ in 0..2 {
        let (path, body) = api.invoke(&batch);
        assert_eq!(
            (&*path, &*body),
            ("response", r#"{"batchItemFailures":[]}"#)
        );
    }
    assert_eq!(server.state().await.summary(), "a=1:\"x\" b=1:\"y\"");

    // The server refuses the user from now on.
    let mut admin = server.connection().await;
    let mut off = redis::cmd("ACL");
    off.arg("SETUSER").arg(USER).arg("off");
    let _: () = off.query_async(&mut admin).await.unwrap();
    let _: i64 = redis::cmd("CLIENT")
        .arg(&["KILL", "USER", USER])
        .query_async(&mut admin)
        .await
        .unwrap();
    api.grant(std::time::Duration::from_secs(4));
    let (path, body) = api.invoke(&event(&[record("a", 7, 3, "z")]).to_string());
    assert_eq!(path, "response");
    assert_eq!(body, r#"{"batchItemFailures":[{"itemIdentifier":"7"}]}"#);

    let output = program.end();
    assert!(
        output.contains("cannot sign in to cache cache as user sensors-test-function"),
        "{output}"
    );
    for secret in ["do-not-log", "X-Amz-Signature", "X-Amz-Security-Token"] {
        assert!(!output.contains(secret), "{secret}: {output}");
    }
}

/// Counts, repeats, evicts: runs every line of the script.
#[tokio::test]
async fn the_whole_script_runs_as_that_user() {
    let server = server().await;
    let limits = Limits {
        devices: 2,
        ..Limits::default()
    };
    let function = Function::new(Cache::with_limits(as_user(&server), limits), |_| ());
    let mut listener = server.listen().await;
    for sequence in 1..=4 {
        let device = format!("d{sequence}");
        let late = record(&device, sequence, 5 - sequence, "x");
        let records = [late, record("d0", 10 + sequence, 10 + sequence, "y")];
        assert!(invoke(&function, &records).await.is_empty());
        assert!(invoke(&function, &records).await.is_empty());
    }
    // New, but not the latest.
    assert!(
        invoke(&function, &[record("d0", 100, 1, "late")])
            .await
            .is_empty()
    );
    let state = server.state().await;
    assert_eq!(state.count, 9, "{state:?}");
    let announcements = listener.announcements(&server).await;
    assert_eq!(announcements.len(), 5);
    assert!(announcements.iter().any(|it| !it.removed.is_empty()));
}

#[tokio::test]
async fn everything_else_is_refused() {
    let server = server().await;
    let mut connection = as_user(&server)
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    for command in [
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG GET *",
        "CONFIG SET maxmemory 1",
        "KEYS *",
        "SCAN 0",
        "ACL LIST",
        "CLIENT LIST",
        "CLIENT KILL TYPE normal",
        "INFO",
        "MONITOR",
        "SHUTDOWN NOSAVE",
        "SCRIPT FLUSH",
        "SUBSCRIBE sensors",
        "EVAL return 0",
        "EXPIRE sensorCount 1",
        "HGETALL sensor:a",
        "PUBLISH elsewhere x",
        "GET other",
        "SET other 1",
        "DEL other",
        "SET Sensor 1",
        "MSET sensorCount 1 other 1",
    ] {
        let refused = run(&mut connection, command).await;
        assert!(refused.is_err_and(|error| is_refusal(&error)), "{command}");
    }
    for command in ["SET sensorCount 7", "GET sensorCount", "PUBLISH sensors x"] {
        let taken = run(&mut connection, command).await;
        assert!(taken.is_ok(), "{command}: {taken:?}");
    }
    // The user can load another script, which is limited to the user's rights.
    for (script, may) in [
        (
            format!("return redis.call('GET', '{}')", names::COUNT),
            true,
        ),
        ("return redis.call('GET', 'other')".to_owned(), false),
        ("return redis.call('FLUSHALL')".to_owned(), false),
        (
            "return redis.call('PUBLISH', 'sensors', 'x')".to_owned(),
            true,
        ),
        (
            "return redis.call('PUBLISH', 'elsewhere', 'x')".to_owned(),
            false,
        ),
    ] {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(&script);
        let hash: String = load.query_async(&mut connection).await.unwrap();
        let ran = run(&mut connection, &format!("EVALSHA {hash} 0")).await;
        assert_eq!(ran.is_ok(), may, "{script}: {ran:?}");
    }
}

async fn run(
    connection: &mut redis::aio::MultiplexedConnection,
    command: &str,
) -> Result<Value, RedisError> {
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    for word in words {
        command.arg(word);
    }
    command.query_async(connection).await
}

fn is_refusal(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}
