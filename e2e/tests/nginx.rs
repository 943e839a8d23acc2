//! The bundle's nginx files in a real nginx, put together as Beanstalk does.

use std::fs;
use std::io::Cursor;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use bundle::{OPEN_FILES, Settings, WORKER_CONNECTIONS};
use contract::oidc::{Oidc, Secret};
use contract::{environment, http, timing};
use e2e::PATIENCE;
use e2e::programs::Programs;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Beanstalk's own part, as it comes with the Go platform: what matters is that it holds `location /`.
const APPLICATION: &str = "location / {
    proxy_pass http://127.0.0.1:5000;
    proxy_http_version 1.1;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
}
";

#[tokio::test]
async fn websocket_is_upgraded_with_the_clients_address() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let nginx = Nginx::start(
        Settings {
            redirect_to_https: false,
            sign_in: None,
        },
        upstream.address,
    )
    .await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         X-Forwarded-For: 203.0.113.7\r\n\r\n",
        http::SOCKET
    );
    let mut stream = TcpStream::connect(nginx.address).await?;
    stream.write_all(request.as_bytes()).await?;
    let answer = read_until(&mut stream, "over").await?;
    ensure!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let seen = upstream.last_request();
    for line in [
        "upgrade: websocket",
        "connection: upgrade",
        "host: example.com",
    ] {
        ensure!(seen.contains(line), "{line} did not arrive: {seen}");
    }
    ensure!(
        seen.contains("x-forwarded-for: 203.0.113.7, 127.0.0.1"),
        "{seen}"
    );
    Ok(())
}

#[tokio::test]
async fn page_is_served_beside_beanstalks_own_location() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let nginx = Nginx::start(
        Settings {
            redirect_to_https: false,
            sign_in: None,
        },
        upstream.address,
    )
    .await?;
    let answer = nginx.get("/", "X-Forwarded-Proto: http").await?;
    ensure!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("over"),
        "{answer}"
    );
    Ok(())
}

#[tokio::test]
async fn metrics_are_not_served_through_nginx() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    for redirect_to_https in [false, true] {
        let settings = Settings {
            redirect_to_https,
            sign_in: None,
        };
        let nginx = Nginx::start(settings, upstream.address).await?;
        let dotted = format!("/x/..{}", http::METRICS);
        let encoded = format!("/%6d{}", &http::METRICS[2..]);
        let query = format!("{}?a=b", http::METRICS);
        for path in [http::METRICS, &dotted, &encoded, &query] {
            let answer = nginx.get(path, "X-Forwarded-Proto: https").await?;
            ensure!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        }
        let seen = upstream.last_request();
        ensure!(seen.is_empty(), "a request came through: {seen}");
    }
    Ok(())
}

#[tokio::test]
async fn address_that_asks_too_often_is_told_so_and_no_other_one() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let nginx = Nginx::start(
        Settings {
            redirect_to_https: false,
            sign_in: None,
        },
        upstream.address,
    )
    .await?;
    for (number, own, other) in [
        (4, "203.0.113.7", "203.0.113.8"),
        (6, "2001:db8:1:2:3:4:5:6", "2001:db8:1:3::1"),
    ] {
        let at_once = usize::try_from(http::REQUESTS_AT_ONCE_PER_ADDRESS)?;
        let mut asked = 0;
        loop {
            // What stands before the last entry is the client's own word, and so is the second half of
            // an IPv6 address.
            let own = match number {
                6 => format!("{}:{asked:x}", own.rsplit_once(':').context("IPv6")?.0),
                _ => own.to_owned(),
            };
            let header = format!("X-Forwarded-For: 198.51.100.{}, {own}", asked % 250);
            let answer = nginx.get("/", &header).await?;
            if answer.starts_with("HTTP/1.1 429") {
                break;
            }
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            asked += 1;
            ensure!(asked < 20 * at_once, "{own} is never told to slow down");
        }
        ensure!(asked >= at_once, "{own} is refused after {asked} requests");
        for header in [
            &format!("X-Forwarded-For: {own}, {other}"),
            // The balancer's health check.
            "Accept: */*",
        ] {
            let answer = nginx.get("/", header).await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{header}: {answer}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn sessions_of_the_balancer_fit_where_it_signs_in() -> anyhow::Result<()> {
    let url = "https://id.example.com";
    let oidc = Oidc {
        issuer: url,
        authorization_endpoint: url,
        token_endpoint: url,
        user_info_endpoint: url,
        client_id: "dashboard",
        client_secret: Secret {
            name: "oidc",
            key: "clientSecret",
        },
        scope: "openid",
        session_seconds: 3_600,
        provider_cidrs: &["0.0.0.0/0"],
    };
    // Four cookies, each as long as browsers take one.
    let cookies: Vec<String> = (0..4)
        .map(|number| format!("AWSELBAuthSessionCookie-{number}={}", "x".repeat(4_060)))
        .collect();
    let header = format!("Cookie: {}", cookies.join("; "));
    let upstream = Upstream::start().await?;
    for (sign_in, expected) in [(Some(oidc), "HTTP/1.1 200"), (None, "HTTP/1.1 400")] {
        let settings = Settings {
            redirect_to_https: true,
            sign_in,
        };
        let nginx = Nginx::start(settings, upstream.address).await?;
        let header = format!("X-Forwarded-Proto: https\r\n{header}");
        let answer = nginx.get("/", &header).await?;
        ensure!(answer.starts_with(expected), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn plain_http_is_redirected_except_for_the_health_check() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let nginx = Nginx::start(
        Settings {
            redirect_to_https: true,
            sign_in: None,
        },
        upstream.address,
    )
    .await?;
    let answer = nginx.get("/a?b=c", "X-Forwarded-Proto: http").await?;
    ensure!(answer.starts_with("HTTP/1.1 301"), "{answer}");
    ensure!(
        answer.contains("Location: https://example.com/a?b=c\r\n"),
        "{answer}"
    );
    for (path, header) in [
        ("/", "X-Forwarded-Proto: https"),
        (http::HEALTH, "X-Forwarded-Proto: http"),
        // The balancer's health check says nothing.
        (http::HEALTH, "Accept: */*"),
    ] {
        let answer = nginx.get(path, header).await?;
        ensure!(
            answer.starts_with("HTTP/1.1 200"),
            "{path} with {header}: {answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn descriptors_of_a_worker_suffice_for_its_connections() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let nginx = Nginx::start(
        Settings {
            redirect_to_https: false,
            sign_in: None,
        },
        upstream.address,
    )
    .await?;
    let master = fs::read_to_string(nginx.folder.path().join("pid"))?;
    let workers = Command::new("ps")
        .args(["-o", "pid=", "--ppid", master.trim()])
        .output()?;
    let workers = String::from_utf8(workers.stdout)?;
    let worker = workers
        .split_whitespace()
        .next()
        .context("nginx has no worker")?;
    let (soft, _) = open_files(worker)?;
    // A machine may allow less to everybody; Amazon Linux 2023 allows nginx more.
    let (_, allowed) = open_files("self")?;
    let expected = OPEN_FILES.min(allowed);
    ensure!(
        OPEN_FILES > WORKER_CONNECTIONS && soft == expected,
        "{soft} open files for {WORKER_CONNECTIONS} connections, expected {expected}"
    );
    Ok(())
}

#[tokio::test]
async fn packaged_bundle_keeps_a_silent_websocket_open_by_its_heartbeat() -> anyhow::Result<()> {
    let bundle = Unpacked::new()?;
    let instance = bundle.instance().await?;
    // The timeout stands as far above one heartbeat as the test's patience allows, so that only the
    // heartbeat can have kept the connection open when the second comes.
    let nginx = bundle.nginx(&instance, timing::HEARTBEAT * 6 / 5).await?;

    let page = nginx.get("/", "X-Forwarded-Proto: http").await?;
    ensure!(
        page.starts_with("HTTP/1.1 200") && page.contains("<html"),
        "{page}"
    );
    let url = format!("ws://{}{}", nginx.address, http::SOCKET);
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await?;
    let mut heartbeats = 0;
    while heartbeats < 2 {
        let message = timeout(timing::HEARTBEAT * 2, socket.next())
            .await
            .context("no heartbeat")?
            .context("the WebSocket was closed")??;
        heartbeats += u32::from(message.is_ping());
    }
    Ok(())
}

#[tokio::test]
async fn nginx_timeout_below_the_heartbeat_closes_the_websocket() -> anyhow::Result<()> {
    let bundle = Unpacked::new()?;
    let instance = bundle.instance().await?;
    let nginx = bundle.nginx(&instance, timing::HEARTBEAT / 25).await?;
    let url = format!("ws://{}{}", nginx.address, http::SOCKET);
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await?;
    let until_closed = async {
        while let Some(Ok(message)) = socket.next().await {
            ensure!(!message.is_ping(), "a heartbeat came before the timeout");
        }
        Ok(())
    };
    timeout(timing::HEARTBEAT, until_closed).await.context(
        "the WebSocket stays open, so the timeout that is set is not the one that counts",
    )?
}

/// The zip that is uploaded, unpacked as on an instance.
struct Unpacked {
    folder: tempfile::TempDir,
}

/// The Procfile's process. Killed when dropped.
struct Instance {
    process: Child,
    address: SocketAddr,
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Unpacked {
    fn new() -> anyhow::Result<Unpacked> {
        let webui = fs::read(Programs::load()?.webui)?;
        let settings = Settings {
            redirect_to_https: false,
            sign_in: None,
        };
        let zip = bundle::zip(settings, &webui)?;
        let folder = tempfile::tempdir()?;
        // It keeps the modes, which say what may be executed.
        zip::ZipArchive::new(Cursor::new(zip))?.extract(folder.path())?;
        Ok(Unpacked { folder })
    }

    /// Starts what the Procfile says, with a cache that is not there.
    async fn instance(&self) -> anyhow::Result<Instance> {
        let procfile = fs::read_to_string(self.folder.path().join(bundle::PROCFILE))?;
        let program = procfile
            .lines()
            .find_map(|line| line.strip_prefix("web: "))
            .context("the Procfile has no process `web`")?;
        let address = free_address().await?;
        let process = Command::new(self.folder.path().join(program.trim()))
            .current_dir(self.folder.path())
            .env_clear()
            .env(environment::PORT, address.port().to_string())
            .env(environment::INTERFACE, address.ip().to_string())
            .env(environment::REDIS_URL, "redis://127.0.0.1:1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start `{program}` of the Procfile"))?;
        let instance = Instance { process, address };
        listening(address, "the Procfile's process").await?;
        Ok(instance)
    }

    /// nginx with the bundle's files, but for the timeout of a silent connection.
    async fn nginx(&self, instance: &Instance, silence: Duration) -> anyhow::Result<Nginx> {
        let expected = format!("{}s;", timing::NGINX_TIMEOUT.as_secs());
        let scaled = format!("{}s;", silence.as_secs());
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().join(".platform")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let contents = fs::read_to_string(&path)?;
                let path = path.strip_prefix(self.folder.path())?;
                files.push((
                    path.display().to_string(),
                    contents.replace(&expected, &scaled),
                ));
            }
        }
        ensure!(
            files.iter().any(|(_, contents)| contents.contains(&scaled)),
            "no file of the bundle sets {expected}"
        );
        Nginx::of(files.into_iter(), instance.address).await
    }
}

/// Soft and hard limit of a process's open files.
fn open_files(process: &str) -> anyhow::Result<(usize, usize)> {
    let limits = fs::read_to_string(format!("/proc/{process}/limits"))?;
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .context("expected a limit of open files")?;
    let mut numbers = files.split_whitespace();
    let mut next = || match numbers.next() {
        Some("unlimited") => Ok(usize::MAX),
        number => number
            .unwrap_or_default()
            .parse()
            .context("expected a number"),
    };
    Ok((next()?, next()?))
}

/// Stands for the web UI: accepts every upgrade and every request, and remembers the last.
struct Upstream {
    address: SocketAddr,
    last: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Upstream {
    async fn start() -> anyhow::Result<Upstream> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let last = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let seen = last.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Ok(request) = read_until(&mut stream, "\r\n\r\n").await else {
                    continue;
                };
                let answer = if request.to_lowercase().contains("upgrade: websocket") {
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nover"
                } else {
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nover"
                };
                if let Ok(mut last) = seen.lock() {
                    *last = request.to_lowercase();
                }
                // A client that has gone is its own test's matter.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Ok(Upstream { address, last })
    }

    fn last_request(&self) -> String {
        self.last
            .lock()
            .map(|last| last.clone())
            .unwrap_or_default()
    }
}

struct Nginx {
    address: SocketAddr,
    folder: tempfile::TempDir,
    process: Child,
}

impl Nginx {
    /// With the files that a bundle of these settings holds.
    async fn start(settings: Settings, upstream: SocketAddr) -> anyhow::Result<Nginx> {
        let files = bundle::files(settings)
            .into_iter()
            .map(|file| (file.path.to_owned(), file.contents));
        Nginx::of(files, upstream).await
    }

    /// With the files of a bundle: path and contents.
    async fn of(
        files: impl Iterator<Item = (String, String)>,
        upstream: SocketAddr,
    ) -> anyhow::Result<Nginx> {
        let folder = tempfile::tempdir()?;
        let address = free_address().await?;
        let here = folder.path().display();
        for (path, contents) in files {
            let Some(path) = path.strip_prefix(".platform/nginx/") else {
                continue;
            };
            // What is Beanstalk's machine there is a folder and two ports here.
            let contents = contents
                .replace("user nginx;", "daemon off;")
                .replace(
                    "listen 80 default_server",
                    &format!("listen {address} default_server"),
                )
                .replace("/var/log/nginx/", &format!("{here}/"))
                .replace("/var/run/nginx.pid", &format!("{here}/pid"));
            write(&folder.path().join(path), &to_upstream(&contents, upstream))?;
        }
        write(
            &folder
                .path()
                .join("conf.d/elasticbeanstalk/00_application.conf"),
            &to_upstream(APPLICATION, upstream),
        )?;
        let nginx = |flags: &[&str]| {
            let mut command = Command::new("nginx");
            command
                .arg("-p")
                .arg(folder.path())
                .arg("-c")
                .arg(folder.path().join("nginx.conf"))
                .args(flags)
                .stdin(Stdio::null());
            command
        };
        let checked = nginx(&["-t"])
            .output()
            .context("nginx: `cargo xtask test` says how to get it")?;
        let said = String::from_utf8_lossy(&checked.stderr);
        ensure!(
            checked.status.success() && !said.contains("[warn]"),
            "{said}"
        );
        let process = nginx(&[]).spawn()?;
        let started = Nginx {
            address,
            folder,
            process,
        };
        listening(address, "nginx").await?;
        Ok(started)
    }

    async fn get(&self, path: &str, header: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n{header}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
        Ok(answer)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM to the master, which ends its workers; killed alone it would leave them.
        let _ = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        let _ = self.process.wait();
    }
}

fn to_upstream(text: &str, upstream: SocketAddr) -> String {
    text.replace(
        &format!("http://127.0.0.1:{};", environment::DEFAULT_PORT),
        &format!("http://{upstream};"),
    )
}

fn write(path: &Path, contents: &str) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, contents)?)
}

/// Waits until somebody listens.
async fn listening(address: SocketAddr, who: &str) -> anyhow::Result<()> {
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, listening)
        .await
        .with_context(|| format!("{who} does not listen"))
}

async fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}

async fn read_until(stream: &mut TcpStream, end: &str) -> anyhow::Result<String> {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end.as_bytes()) {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).await?;
            ensure!(
                length > 0,
                "closed after {:?}",
                String::from_utf8_lossy(&read)
            );
            read.extend_from_slice(&part[..length]);
        }
        Ok(())
    };
    timeout(PATIENCE, reading).await??;
    Ok(String::from_utf8(read)?)
}
