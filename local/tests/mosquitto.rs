//! The broker as mosquitto's clients know it: they share no code with rumqttc nor with us.
//!
//! Ignored by default, because they are a program of their own; `cargo xtask test --only mosquitto` brings
//! and asks them, and so does CI.

#[path = "support/devices.rs"]
mod devices;
mod support;

use std::process::Output;

use devices::Port;
use local::tls::DeviceFiles;
use support::Broker;
use tokio::time::timeout;

/// Runs `mosquitto_pub` or `mosquitto_sub` to its end.
async fn run(program: &str, port: u16, arguments: &[&str]) -> Output {
    let run = tokio::process::Command::new(program)
        .args(["-p", &port.to_string()])
        .args(arguments)
        .kill_on_drop(true)
        .output();
    timeout(support::PATIENCE, run)
        .await
        .expect("it ends")
        .unwrap_or_else(|error| {
            panic!("cannot run {program}: {error}; fix: `cargo xtask test --only mosquitto`")
        })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mosquitto's clients: `cargo xtask test --only mosquitto`"]
async fn mosquittos_publisher_is_acknowledged_in_both_versions() {
    let broker = Broker::start().await;
    for version in ["311", "5"] {
        for qos in ["0", "1"] {
            let arguments = [
                "-h",
                "127.0.0.1",
                "-V",
                version,
                "-q",
                qos,
                "-t",
                "t/x",
                "-m",
                "{}",
            ];
            let output = run("mosquitto_pub", broker.address.port(), &arguments).await;
            assert!(output.status.success(), "{output:?}");
        }
    }
    // A publisher at QoS 0 may be gone before its message has been read.
    let arrived = async {
        while broker.status.messages.get() < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    timeout(support::PATIENCE, arrived).await.unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mosquitto's clients: `cargo xtask test --only mosquitto`"]
async fn mosquittos_subscriber_gets_the_retained_message() {
    let broker = Broker::start().await;
    let port = broker.address.port();
    let publish = [
        "-h",
        "127.0.0.1",
        "-t",
        "kept/a",
        "-m",
        "new",
        "-r",
        "-q",
        "1",
    ];
    assert!(run("mosquitto_pub", port, &publish).await.status.success());
    for version in ["311", "5"] {
        let arguments = [
            "-h",
            "127.0.0.1",
            "-V",
            version,
            "-t",
            "kept/+",
            "-C",
            "1",
            "-W",
            "10",
            "-F",
            "%r %t %p",
        ];
        let got = run("mosquitto_sub", port, &arguments).await;
        assert_eq!(String::from_utf8_lossy(&got.stdout), "1 kept/a new\n");
    }
    broker.stop().await;
}

async fn run_as_device(program: &str, port: &Port, files: &DeviceFiles, rest: &[&str]) -> Output {
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, certificate, key) = (
        text(port.authority.ca_file()),
        text(&files.certificate),
        text(&files.key),
    );
    let mut arguments = vec!["-h", "localhost", "-V", "mqttv5", "-i", "kitchen"];
    arguments.extend(["--cafile", &ca, "--cert", &certificate, "--key", &key]);
    arguments.extend(rest);
    run(program, port.address.port(), &arguments).await
}

#[tokio::test]
#[ignore = "needs mosquitto's clients: `cargo xtask test --only mosquitto`"]
async fn mosquittos_clients_sign_in_with_a_certificate_and_are_told_what_is_refused() {
    let port = Port::open().await;
    let kitchen = port.add("kitchen");
    for (topic, is_allowed) in [
        ("topic/sensors/kitchen", true),
        ("topic/sensors/cellar", false),
    ] {
        let arguments = ["-q", "1", "-m", "{}", "-t", topic];
        let output = run_as_device("mosquitto_pub", &port, &kitchen, &arguments).await;
        assert_eq!(output.status.success(), is_allowed, "{topic}: {output:?}");
    }
    assert_eq!(port.status.messages.get(), 1);
    let listen = async |topic| {
        let arguments = ["-C", "1", "-W", "3", "-t", topic];
        run_as_device("mosquitto_sub", &port, &kitchen, &arguments).await
    };
    let refused = listen("topic/sensors/#").await;
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.contains("subscription requests were denied"),
        "{refused}"
    );
    // It may subscribe, and nobody sends anything: mosquitto_sub ends with its timeout (27).
    let allowed = listen("commands/kitchen").await;
    assert_eq!(allowed.status.code(), Some(27), "{allowed:?}");
}
