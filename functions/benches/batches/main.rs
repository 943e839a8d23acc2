//! `cargo bench -p functions --bench batches`: compares the function's binary with simpler designs, over the
//! Lambda Runtime API, in interleaved rounds of one run.
//!
//! Prints the tables of `docs/PERFORMANCE.md`. Needs redis-server; node and python3 are measured if they are
//! installed. `-- 5` runs five rounds instead of ten; `-- 100x10 1000x10` measures batches of 100 and 1,000
//! records of 10 devices only. `BEFORE=FILE` also measures another binary of the function.

mod baseline;
mod contestant;
mod event;
mod latency;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use contestant::{Function, Server};
use event::Events;
use latency::Proxy;

/// Number of records of a batch, and of the devices that send them in turn.
///
/// One device is the load of the original system, whose sensors publish to one topic.
const BATCHES: [(u64, u64); 8] = [
    (10, 1),
    (100, 1),
    (1_000, 1),
    (10, 10),
    (100, 10),
    (1_000, 10),
    (100, 100),
    (1_000, 1_000),
];
const ADDED_LATENCY: Duration = Duration::from_micros(500);

/// Time of a design in a round, in whole batches.
const TURN: Duration = Duration::from_millis(250);
const WARM_UP: Duration = Duration::from_millis(1_000);

/// Does not count.
const IDLE: &str = "idle handler, Rust";

struct Design {
    name: &'static str,
    command: Vec<PathBuf>,
}

fn main() -> Result<()> {
    let mut rounds = 10;
    let mut cases = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "original" => return baseline::original().map_err(|error| anyhow::anyhow!(error)),
            "idle" => return baseline::idle().map_err(|error| anyhow::anyhow!(error)),
            "plain" => return baseline::plain().map_err(|error| anyhow::anyhow!(error)),
            // Cargo's own.
            "--bench" => {}
            argument => match argument.split_once('x') {
                Some((records, devices)) => cases.push((records.parse()?, devices.parse()?)),
                None => {
                    rounds = argument
                        .parse()
                        .with_context(|| format!("expected a number of rounds, got {argument}"))?;
                }
            },
        }
    }
    ensure!(rounds > 0, "expected at least one round");
    ensure!(
        version("redis-server").is_some(),
        "cannot measure: redis-server is not on the PATH\nfix: `apt-get install redis-server`, or put \
         target/tools/bin on the PATH, where `cargo xtask test --only test --prepare` brings it"
    );
    if cases.is_empty() {
        cases.extend(BATCHES);
    }
    let designs = designs()?;
    machine()?;
    for delayed in [false, true] {
        throughput(&designs, &cases, delayed, rounds)?;
    }
    memory(&designs)?;
    println!("load average at the end: {}", load()?);
    Ok(())
}

/// This function first.
fn designs() -> Result<Vec<Design>> {
    let this = std::env::current_exe()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/baseline");
    let packages = folder.join("node_modules");
    if version("npm").is_some() && !packages.exists() {
        let status = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .status()?;
        ensure!(status.success(), "npm ci: {status}");
    }
    let mut designs = vec![
        Design {
            name: "this function",
            command: vec![env!("CARGO_BIN_EXE_sensors").into()],
        },
        Design {
            name: "original's design, Rust",
            command: vec![this.clone(), "original".into()],
        },
        Design {
            name: "plain handler, Rust",
            command: vec![this.clone(), "plain".into()],
        },
        Design {
            name: IDLE,
            command: vec![this, "idle".into()],
        },
    ];
    if let Some(before) = std::env::var_os("BEFORE") {
        designs.push(Design {
            name: "this function, before",
            command: vec![before.into()],
        });
    }
    for (name, program, script) in [
        ("plain handler, Node", "node", "plain.mjs"),
        ("no Redis client, Node", "node", "bare.mjs"),
        ("plain handler, Python", "python3", "plain.py"),
        ("no Redis client, Python", "python3", "bare.py"),
    ] {
        if script == "plain.py" && !runs(program, &["-c", "import redis"]) {
            println!("{name}: left out, because python3 does not find redis; pip install redis");
            continue;
        }
        match version(program) {
            Some(_) => designs.push(Design {
                name,
                command: vec![program.into(), folder.join(script)],
            }),
            None => println!("{name}: left out, because {program} does not run"),
        }
    }
    Ok(designs)
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn machine() -> Result<()> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!(
        "{} cores of {model}, Linux {}",
        std::thread::available_parallelism()?,
        kernel.trim(),
    );
    for program in ["redis-server", "node", "python3"] {
        if let Some(version) = version(program) {
            println!("{program}: {version}");
        }
    }
    println!("load average at the start: {}", load()?);
    Ok(())
}

fn load() -> Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    Ok(load.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

struct Entry<'a> {
    design: &'a Design,
    function: Function,
    proxy: Option<Proxy>,
    server: Server,
    events: Events,
    records: u64,
}

impl<'a> Entry<'a> {
    fn start(design: &'a Design, delay: Option<Duration>) -> Result<Self> {
        let server = Server::start()?;
        let proxy = match delay {
            Some(delay) => Some(Proxy::start(server.address, delay)?),
            None => None,
        };
        let redis = proxy.as_ref().map_or(server.address, |proxy| proxy.address);
        let command: Vec<&Path> = design.command.iter().map(PathBuf::as_path).collect();
        Ok(Self {
            design,
            function: Function::start(&command, redis)?,
            proxy,
            server,
            events: Events::default(),
            records: 0,
        })
    }

    fn invoke(&mut self, records: u64, devices: u64) -> Result<Duration> {
        let event = self.events.next(records, devices);
        self.records += records;
        self.function
            .invoke(&event)
            .with_context(|| self.design.name)
    }

    /// Sends whole batches until the time is over. Returns their number and seconds.
    fn turn(&mut self, size: u64, devices: u64, time: Duration) -> Result<(u64, f64)> {
        let (mut batches, mut took) = (0, Duration::ZERO);
        while took < time {
            took += self.invoke(size, devices)?;
            batches += 1;
        }
        Ok((batches, took.as_secs_f64()))
    }

    fn sample(&self) -> Result<Sample> {
        Ok(Sample {
            function: self.function.cpu()?,
            server: self.server.cpu()?,
            round_trips: self.proxy.as_ref().map_or(0, Proxy::round_trips),
        })
    }

    /// Checks that every record was counted.
    fn check(&self) -> Result<()> {
        if self.design.name == IDLE {
            return Ok(());
        }
        let counted = ask(self.server.address, "GET sensorCount\r\n", 2)?;
        ensure!(
            counted == self.records.to_string(),
            "{}: {counted} records counted of {}",
            self.design.name,
            self.records,
        );
        Ok(())
    }
}

struct Sample {
    function: f64,
    server: f64,
    round_trips: u64,
}

fn throughput(designs: &[Design], cases: &[(u64, u64)], delayed: bool, rounds: u32) -> Result<()> {
    let delay = if delayed { Some(calibrate()?) } else { None };
    let mut entries = Vec::new();
    for design in designs {
        entries.push(Entry::start(design, delay)?);
    }
    for &(size, devices) in cases {
        let latency = match delayed {
            false => "no latency added",
            true => "0.5 ms added to each round trip",
        };
        println!("\n### Batches of {size} records of {devices} devices, {latency}\n");
        for entry in &mut entries {
            entry.turn(size, devices, WARM_UP)?;
        }
        let mut before = Vec::new();
        for entry in &entries {
            before.push(entry.sample()?);
        }
        let mut rates = vec![Vec::new(); entries.len()];
        let mut batches = vec![0; entries.len()];
        for round in 0..rounds as usize {
            // Each design is first in turn.
            for place in 0..entries.len() {
                let place = (place + round) % entries.len();
                let (count, seconds) = entries[place].turn(size, devices, TURN)?;
                rates[place].push((count * size) as f64 / seconds);
                batches[place] += count;
            }
        }
        println!(
            "| design | records/s | ours is | CPU µs/record | theirs/ours | Redis CPU µs/record | round trips/batch |"
        );
        println!("|---|--:|--:|--:|--:|--:|--:|");
        let mut ours = None;
        for (place, entry) in entries.iter().enumerate() {
            let after = entry.sample()?;
            let records = (batches[place] * size) as f64;
            let cpu = (after.function - before[place].function) / records * 1e6;
            let server = (after.server - before[place].server) / records * 1e6;
            let ours = *ours.get_or_insert(cpu);
            let faster = rates[0].iter().zip(&rates[place]).map(|(a, b)| a / b);
            let round_trips = match &entry.proxy {
                Some(_) => {
                    let count = after.round_trips - before[place].round_trips;
                    format!("{:.2}", count as f64 / batches[place] as f64)
                }
                None => "".to_owned(),
            };
            println!(
                "| {} | {:.0} | {:.2}× | {cpu:.2} | {:.2} | {server:.2} | {round_trips} |",
                entry.design.name,
                median(rates[place].iter().copied()),
                median(faster),
                cpu / ours,
            );
            std::io::stdout().flush()?;
        }
    }
    entries.iter().try_for_each(Entry::check)
}

/// Measures memory for one event of Lambda's maximum size.
fn memory(designs: &[Design]) -> Result<()> {
    for devices in [10_000, 10] {
        let size = Events::default().next(10_000, devices).len() as f64;
        println!(
            "\n### Memory for an event of {:.2} MB: 10,000 records of {devices} devices\n",
            size / 1e6
        );
        println!("| design | peak before, MB | peak, MB | growth, MB | growth/event |");
        println!("|---|--:|--:|--:|--:|");
        for design in designs {
            let mut entry = Entry::start(design, None)?;
            entry.invoke(10, 10)?;
            let before = entry.function.peak_memory()? as f64;
            entry.invoke(10_000, devices)?;
            let peak = entry.function.peak_memory()? as f64;
            println!(
                "| {} | {:.1} | {:.1} | {:.1} | {:.2} |",
                design.name,
                before / 1e6,
                peak / 1e6,
                (peak - before) / 1e6,
                (peak - before) / size,
            );
            entry.check()?;
        }
    }
    Ok(())
}

/// Finds the delay with which a round trip through the proxy takes [`ADDED_LATENCY`] longer than without.
fn calibrate() -> Result<Duration> {
    let server = Server::start()?;
    // The first measurement also wakes the cores.
    let direct = ping(server.address)?.min(ping(server.address)?);
    let expected = direct + ADDED_LATENCY;
    let mut delay = ADDED_LATENCY;
    let mut through = ping(Proxy::start(server.address, delay)?.address)?;
    // The proxy's own time depends on the delay.
    for _ in 0..5 {
        delay = (delay + expected).saturating_sub(through);
        through = ping(Proxy::start(server.address, delay)?.address)?;
    }
    println!(
        "\nmedian round trip to Redis: {} µs direct, {} µs through the proxy",
        direct.as_micros(),
        through.as_micros(),
    );
    Ok(delay)
}

/// Median round trip.
fn ping(address: SocketAddr) -> Result<Duration> {
    let mut redis = BufReader::new(TcpStream::connect(address)?);
    redis.get_ref().set_nodelay(true)?;
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let started = Instant::now();
        redis.get_mut().write_all(b"PING\r\n")?;
        redis.read_line(&mut String::new())?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(Duration::from_secs_f64(median(times.into_iter())))
}

/// Sends a command. Returns the last of the response's `lines` lines.
fn ask(address: SocketAddr, command: &str, lines: usize) -> Result<String> {
    let mut redis = BufReader::new(TcpStream::connect(address)?);
    redis.get_mut().write_all(command.as_bytes())?;
    let mut line = String::new();
    for _ in 0..lines {
        line.clear();
        redis.read_line(&mut line)?;
    }
    Ok(line.trim().to_owned())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}
