//! Environments: the web process of a bundle, started as Beanstalk starts it, and started again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use local::beanstalk::{Config, Environment};
use local::logs::Logs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// Says its process ID and what it was told; ends when asked to.
const SERVER: &str = r#"
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/end":
            os._exit(3)
        body = f"{os.getpid()} {os.environ.get('MINE')} {os.environ.get('SECRET')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
address = (os.environ["INTERFACE"], int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"#;

fn config(bundle: &Path) -> Config {
    Config {
        logical_id: "Environment".to_owned(),
        name: "sensors".to_owned(),
        bundle: bundle.to_owned(),
        environment: BTreeMap::from([("MINE".to_owned(), "1".to_owned())]),
        address: "127.0.0.1:0".parse().unwrap(),
        health_check_path: "/healthz".to_owned(),
        ca_file: None,
    }
}

fn bundle(folder: &Path, procfile: &str) {
    fs::write(folder.join("Procfile"), procfile).unwrap();
    fs::write(folder.join("server.py"), SERVER).unwrap();
}

async fn get(environment: &Environment, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(environment.address()).await?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn web_process_that_ends_is_started_again_at_its_address() {
    let folder = tempfile::tempdir().unwrap();
    bundle(folder.path(), "web: python3 server.py\n");
    let logs = Logs::new(folder.path().join("logs"));
    let environment = Environment::start(config(folder.path()), &logs)
        .await
        .expect("this test needs python3 (apt install python3)");
    let first = get(&environment, "/").await.unwrap();
    // The environment's property, and nothing of ours.
    assert!(first.ends_with(" 1 None"), "{first}");
    let _ = get(&environment, "/end").await;
    let again = async {
        loop {
            match get(&environment, "/").await {
                Ok(answer) if !answer.is_empty() => return answer,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let second = timeout(PATIENCE, again).await.expect("it is there again");
    assert_ne!(first, second);
    let address = environment.address();
    environment.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn web_process_that_ends_at_once_is_named() {
    let folder = tempfile::tempdir().unwrap();
    bundle(folder.path(), "web: false\n");
    let logs = Logs::new(folder.path().join("logs"));
    let started = Environment::start(config(folder.path()), &logs).await;
    let error = format!("{:#}", started.unwrap_err());
    assert!(
        error.contains("Environment: its web process `false` ended at once"),
        "{error}"
    );
}
