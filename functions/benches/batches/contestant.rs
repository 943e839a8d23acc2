//! A measured function: its process, its own Lambda Runtime API, and its own Redis server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

/// Ticks a second in `/proc/<pid>/stat`; the same on common Linux systems.
const TICKS: f64 = 100.0;

const REQUEST_ID: &str = "8f1f2a0e-0000-4000-8000-00000000000b";

/// A Redis server in memory, ended on drop.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        // The port is free when it is looked for, and may be taken when the server wants it.
        for _ in 0..10 {
            let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            let mut child = Command::new("redis-server")
                .args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"])
                .args(["--port", &address.port().to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .context("start redis-server; install it: apt-get install redis-server")?;
            for _ in 0..200 {
                if TcpStream::connect(address).is_ok() {
                    return Ok(Self { child, address });
                }
                if child.try_wait()?.is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            child.kill().ok();
            child.wait()?;
        }
        bail!("redis-server does not start");
    }

    /// User and system time of the server, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        cpu(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The function's process, ended on drop.
pub(crate) struct Function {
    child: Child,
    listener: TcpListener,
    connection: Option<BufReader<TcpStream>>,
}

impl Function {
    /// Starts `command` with the Redis server at `redis`.
    pub(crate) fn start(command: &[&Path], redis: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let [program, arguments @ ..] = command else {
            bail!("an empty command");
        };
        let child = Command::new(program)
            .args(arguments)
            .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("REDIS_URL", format!("redis://{redis}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self {
            child,
            listener,
            connection: None,
        })
    }

    /// Sends an event. Returns the time until the function's response.
    pub(crate) fn invoke(&mut self, event: &str) -> Result<Duration> {
        let path = self.request()?.0;
        ensure!(path.ends_with("/next"), "the function asked for {path}");
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH)? + Duration::from_secs(60);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Lambda-Runtime-Aws-Request-Id: {REQUEST_ID}\r\nLambda-Runtime-Deadline-Ms: {}\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:123456789012:function:f\r\n\
             \r\n",
            event.len(),
            deadline.as_millis(),
        );
        let response = head + event;
        let started = Instant::now();
        self.respond(&response)?;
        let (path, body) = self.request()?;
        let took = started.elapsed();
        ensure!(
            path.ends_with("/response") && body.contains(r#""batchItemFailures":"#),
            "the function answered at {path}: {body}"
        );
        // Python puts a space there.
        ensure!(
            body.replace(' ', "").contains(":[]"),
            "records failed: {body}"
        );
        self.respond("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?;
        Ok(took)
    }

    /// User and system time of the process, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        cpu(self.child.id())
    }

    /// Its peak memory, in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))
            .context("no VmHWM in the process's status")?;
        Ok(kilobytes.parse::<u64>()? * 1024)
    }

    /// Path and body of the next request.
    fn request(&mut self) -> Result<(String, String)> {
        loop {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => {
                    let connection = self.listener.accept()?.0;
                    connection.set_nodelay(true)?;
                    none.insert(BufReader::new(connection))
                }
            };
            let mut line = String::new();
            if connection.read_line(&mut line)? == 0 {
                self.connection = None;
                if let Some(status) = self.child.try_wait()? {
                    bail!("the function ended: {status}");
                }
                continue;
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut length = 0;
            loop {
                let mut header = String::new();
                connection.read_line(&mut header)?;
                let header = header.trim().to_ascii_lowercase();
                if header.is_empty() {
                    break;
                }
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse()?;
                }
            }
            let mut body = vec![0; length];
            connection.read_exact(&mut body)?;
            return Ok((path, String::from_utf8(body)?));
        }
    }

    fn respond(&mut self, response: &str) -> Result<()> {
        let connection = self.connection.as_mut().context("nobody is connected")?;
        connection.get_mut().write_all(response.as_bytes())?;
        Ok(())
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cpu(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name stands in parentheses and may hold anything; user and system time are the 12th and 13th
    // word behind it.
    let (_, words) = stat
        .rsplit_once(") ")
        .context("no name in the process's stat")?;
    let mut ticks = 0.0;
    for word in words.split(' ').skip(11).take(2) {
        ticks += word.parse::<f64>()?;
    }
    Ok(ticks / TICKS)
}
