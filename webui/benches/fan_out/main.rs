//! Fan-out: how fast and at what cost the dashboard server keeps many browsers up to date, beside
//! what one would write first and beside other servers.
//!
//! ```text
//! cargo bench -p webui --bench fan_out
//! ```
//!
//! needs a redis-server on the PATH and takes about ten minutes. After `--`:
//!
//! - `--clients 1000,5000,10000`, `--rates 10,100,1000` (updates a second), `--rounds 3`,
//!   `--seconds 3` (of input per cell);
//! - `--servers webui,naive,bare,bun,nchan`: `naive` broadcasts every message to every client with
//!   axum; `bare` is an epoll loop that writes the dashboard server's frames; `bun` is npm's `bun`
//!   (on the PATH or at `$BUN`); `nchan` is nginx with Debian's module (at its place or at `$NCHAN`).
//!   Those that are missing are left out with a word. All of them by default.
//! - `--only stalled`: just the clients that never read; `--only cells`: all but them.
//!
//! Every update is one record of one of 100 devices, published into a real cache. Rounds are
//! interleaved: each measures all servers one after the other, and ratios are taken within a round,
//! so that what else the machine does weighs on all of them.

mod bare;
mod cache;
mod clients;
mod histogram;
mod naive;
mod process;
mod report;
mod servers;

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, bail};

use crate::cache::{Cache, Publisher};
use crate::clients::{Crowd, Times};
use crate::report::{Memory, Results, Sample, Stalled};
use crate::servers::{Kind, Server};

/// A server that has not brought the newest state to everybody so long after the input stopped is
/// not measured further, and not at higher rates.
const PATIENCE: Duration = Duration::from_secs(30);

/// Input before anything is measured; Bun compiles what runs often.
const WARM_UP: Duration = Duration::from_millis(500);

/// Clients that never read.
const STALLED: usize = 100;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["naive", address, redis] => return naive::run(address.parse()?, redis),
        ["bare", address, source] => return bare::run(address.parse()?, source.parse()?),
        _ => {}
    }
    // `cargo test --all-targets` runs benches too, without this word.
    if !words.contains(&"--bench") {
        println!("this measures only under cargo bench");
        return Ok(());
    }
    raise_limit()?;
    // Before it waits for anything else: which peers are left out is said by `Options::parse`.
    if process::Process::start("redis-server", ["--version"], &[]).is_err() {
        bail!(
            "cannot measure: redis-server is not on the PATH\nfix: `apt-get install redis-server`, or put \
             target/tools/bin on the PATH, where `cargo xtask test --only test --prepare` brings it"
        );
    }
    Bench::new(Options::parse(&words)?)?.run()
}

/// Every client is a descriptor here and one in the server: starts this program again with as many
/// as are allowed.
fn raise_limit() -> anyhow::Result<()> {
    const MARK: &str = "FAN_OUT_LIMIT_RAISED";
    if env::var_os(MARK).is_some() {
        return Ok(());
    }
    let error = Command::new("sh")
        .args(["-c", r#"ulimit -n "$(ulimit -Hn)"; exec "$0" "$@""#])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(MARK, "yes")
        .exec();
    Err(error).context("start again with more descriptors")
}

fn descriptors() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

struct Options {
    clients: Vec<usize>,
    rates: Vec<u64>,
    rounds: usize,
    seconds: u64,
    servers: Vec<Kind>,
    cells: bool,
    stalled: bool,
}

impl Options {
    fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            clients: vec![1000, 5000, 10_000],
            rates: vec![10, 100, 1000],
            rounds: 3,
            seconds: 3,
            servers: Kind::ALL.to_vec(),
            cells: true,
            stalled: true,
        };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            if word == "--bench" {
                continue;
            }
            let value = *words
                .next()
                .with_context(|| format!("{word} needs a value"))?;
            let wrong = || format!("{word} {value} is not understood");
            match word {
                "--clients" => options.clients = numbers(value).with_context(wrong)?,
                "--rates" => options.rates = numbers(value).with_context(wrong)?,
                "--rounds" => options.rounds = value.parse().with_context(wrong)?,
                "--seconds" => options.seconds = value.parse().with_context(wrong)?,
                "--servers" => {
                    let kind = |name| Kind::ALL.into_iter().find(|kind| kind.name() == name);
                    let servers: Option<_> = value.split(',').map(kind).collect();
                    options.servers = servers.with_context(wrong)?;
                }
                "--only" => match value {
                    "cells" => options.stalled = false,
                    "stalled" => options.cells = false,
                    _ => bail!(wrong()),
                },
                _ => bail!("{word} is not known; see the first lines of the bench's main.rs"),
            }
        }
        options.servers.retain(|kind| {
            let missing = kind.missing();
            if let Some(why) = missing {
                println!("{} is left out: {why}", kind.name());
            }
            missing.is_none()
        });
        let room = descriptors().unwrap_or(usize::MAX).saturating_sub(200);
        options.clients.retain(|&clients| {
            if clients > room {
                println!("{clients} clients are left out: only {room} descriptors, see ulimit -Hn");
            }
            clients <= room
        });
        Ok(options)
    }
}

fn numbers<T: std::str::FromStr>(value: &str) -> Result<Vec<T>, T::Err> {
    value.split(',').map(str::parse).collect()
}

struct Bench {
    options: Options,
    cache: Cache,
    times: Arc<Times>,
    /// The last update that was ever published; the numbers go on over all servers.
    seq: u64,
}

impl Bench {
    fn new(options: Options) -> anyhow::Result<Self> {
        Ok(Self {
            options,
            cache: Cache::start()?,
            times: Times::new(),
            seq: 1000,
        })
    }

    fn run(mut self) -> anyhow::Result<()> {
        let mut results = Results::default();
        println!("{}", report::machine());
        for round in 1..=self.options.rounds {
            eprintln!("round {round}, load {}", report::load());
            if self.options.cells {
                for clients in self.options.clients.clone() {
                    for kind in self.options.servers.clone() {
                        self.measure(kind, clients, &mut results)
                            .with_context(|| format!("{} with {clients}", kind.name()))?;
                    }
                }
            }
            if self.options.stalled {
                let wait_for_drop = round == self.options.rounds;
                results.stalled.push(self.stalled(wait_for_drop)?);
            }
        }
        println!("{results}");
        Ok(())
    }

    fn start(&self, kind: Kind) -> anyhow::Result<Server> {
        self.cache.hold(self.seq)?;
        Server::start(kind, &self.cache)
    }

    /// All rates with one server and its clients.
    fn measure(&mut self, kind: Kind, clients: usize, results: &mut Results) -> anyhow::Result<()> {
        let server = self.start(kind)?;
        let (before, _) = process::memory(server.id());
        let crowd = Crowd::connect(server.address, clients, &self.times)?;
        sleep(Duration::from_secs(1));
        let (idle, _) = process::memory(server.id());
        let mut publisher = Publisher::connect(server.channel, &self.times)?;
        for rate in self.options.rates.clone() {
            let mut cpu = process::cpu(server.id());
            let mut sample = self.publish(&mut publisher, &crowd, clients, rate, WARM_UP)?;
            // Who has not got over that will not get over more.
            if sample.is_complete {
                let duration = Duration::from_secs(self.options.seconds);
                cpu = process::cpu(server.id());
                sample = self.publish(&mut publisher, &crowd, clients, rate, duration)?;
            }
            let sample = Sample {
                cpu: process::cpu(server.id()) - cpu,
                ..sample
            };
            eprintln!(
                "{:>6} {clients:>6} clients {rate:>5}/s {sample}",
                kind.name()
            );
            let kept_up = sample.is_complete;
            results
                .cells
                .entry((clients, rate, kind))
                .or_default()
                .push(sample);
            if !kept_up {
                break;
            }
        }
        let (_, peak) = process::memory(server.id());
        let memory = Memory {
            idle_per_client: (idle - before) / clients as f64,
            empty: before,
            peak,
        };
        eprintln!("{:>6} {clients:>6} clients {memory}", kind.name());
        let all = results.memory.entry((clients, kind)).or_default();
        all.push(memory);
        Ok(())
    }

    /// Publishes for a while and waits until everybody holds the last update, or for [`PATIENCE`].
    fn publish(
        &mut self,
        publisher: &mut Publisher,
        crowd: &Crowd,
        clients: usize,
        rate: u64,
        duration: Duration,
    ) -> anyhow::Result<Sample> {
        let number = (rate as f64 * duration.as_secs_f64()).ceil() as u64;
        let (after, last) = (self.seq, self.seq + number);
        self.seq = last;
        crowd.measure(after, last);
        let began = Instant::now();
        publisher.publish(after, last, duration)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let tally = crowd.tally().context("the clients ended early")?;
            let is_complete = tally.reached == clients;
            if is_complete || Instant::now() > end {
                return Ok(Sample {
                    is_complete,
                    seconds: duration.as_secs_f64(),
                    elapsed: began.elapsed().as_secs_f64(),
                    cpu: 0.0,
                    tally,
                });
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// A thousand clients that read, without and with some that never do.
    fn stalled(&mut self, wait_for_drop: bool) -> anyhow::Result<Stalled> {
        const CLIENTS: usize = 1000;
        const RATE: u64 = 1000;
        let duration = Duration::from_secs(5);
        let server = self.start(Kind::Webui)?;
        let crowd = Crowd::connect(server.address, CLIENTS, &self.times)?;
        let mut publisher = Publisher::connect(server.channel, &self.times)?;
        let warm_up = Duration::from_secs(2);
        self.publish(&mut publisher, &crowd, CLIENTS, RATE, warm_up)?;
        let without = self.publish(&mut publisher, &crowd, CLIENTS, RATE, duration)?;
        let (before, _) = process::memory(server.id());
        let deaf = (0..STALLED)
            .map(|_| deaf(server.address))
            .collect::<anyhow::Result<Vec<_>>>()?;
        // Until the kernel holds what it will hold for them.
        self.publish(
            &mut publisher,
            &crowd,
            CLIENTS,
            RATE,
            Duration::from_secs(4),
        )?;
        let with = self.publish(&mut publisher, &crowd, CLIENTS, RATE, duration)?;
        let (after, _) = process::memory(server.id());
        let frame = with.tally.bytes as f64 / with.tally.frames.max(1) as f64;
        let mut dropped = None;
        if wait_for_drop {
            // Dropped after twenty seconds without a byte taken.
            sleep(Duration::from_secs(20));
            let metrics = server.get(contract::http::METRICS)?;
            dropped = metrics
                .lines()
                .find_map(|line| {
                    line.strip_prefix(r#"webui_clients_dropped_total{reason="stalled"} "#)
                })
                .and_then(|count| count.trim().parse().ok());
        }
        drop(deaf);
        let stalled = Stalled {
            without,
            with,
            bytes_each: (after - before) / STALLED as f64,
            frame,
            dropped,
        };
        eprintln!("{stalled}");
        Ok(stalled)
    }
}

/// A client that never reads, with little room in its kernel.
fn deaf(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&address.into())?;
    Ok(clients::handshake(socket.into(), address)?)
}
