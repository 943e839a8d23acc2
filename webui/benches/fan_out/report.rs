//! What was measured, as Markdown.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::time::Duration;

use crate::clients::Tally;
use crate::servers::Kind;

/// One rate with one server.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Whether everybody got the last update.
    pub(crate) is_complete: bool,
    /// Seconds of input.
    pub(crate) seconds: f64,
    /// Seconds until everybody had the last update.
    pub(crate) elapsed: f64,
    /// Seconds of CPU that the server used in that time.
    pub(crate) cpu: f64,
    pub(crate) tally: Tally,
}

impl Sample {
    /// Seconds of CPU for a second of input.
    fn cores(&self) -> f64 {
        self.cpu / self.seconds
    }

    /// Microseconds of CPU.
    fn per_frame(&self) -> f64 {
        self.cpu * 1e6 / self.tally.frames.max(1) as f64
    }

    fn state(&self, share: f64) -> f64 {
        milliseconds(self.tally.state.quantile(share))
    }

    fn update(&self, share: f64) -> f64 {
        milliseconds(self.tally.update.quantile(share))
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Display for Sample {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:.2} cores, {:.1} us a frame, state {:.1}/{:.1} ms, update {:.1}/{:.1} ms, newest after {:.1} ms, {} frames in {:.1} s",
            if self.is_complete { "   " } else { "cut" },
            self.cores(),
            self.per_frame(),
            self.state(0.5),
            self.state(0.99),
            self.update(0.5),
            self.update(0.99),
            milliseconds(self.tally.settled),
            self.tally.frames,
            self.elapsed,
        )
    }
}

/// Bytes of one server with its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Before the first client.
    pub(crate) empty: f64,
    /// What each client added before the first update.
    pub(crate) idle_per_client: f64,
    /// The most of all, after all rates.
    pub(crate) peak: f64,
}

impl Display for Memory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} MB empty, {:.2} KB an idle client, peak {:.1} MB",
            self.empty / 1e6,
            self.idle_per_client / 1e3,
            self.peak / 1e6
        )
    }
}

/// The same server without and with clients that never read.
#[derive(Clone, Debug)]
pub(crate) struct Stalled {
    pub(crate) without: Sample,
    pub(crate) with: Sample,
    /// Bytes that each of those clients added.
    pub(crate) bytes_each: f64,
    /// Mean bytes of a frame.
    pub(crate) frame: f64,
    /// How many of them the server dropped in the end, if that was waited for.
    pub(crate) dropped: Option<usize>,
}

impl Display for Stalled {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "clients that never read: p99 of the others {:.1} ms without, {:.1} ms with them; {:.1} KB each, a frame is {:.1} KB",
            self.without.state(0.99),
            self.with.state(0.99),
            self.bytes_each / 1e3,
            self.frame / 1e3
        )?;
        self.dropped.map_or(Ok(()), |dropped| {
            write!(f, "; {dropped} of them were dropped in the end")
        })
    }
}

/// Everything, one entry a round.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// By clients, updates a second, and server.
    pub(crate) cells: BTreeMap<(usize, u64, Kind), Vec<Sample>>,
    /// By clients and server.
    pub(crate) memory: BTreeMap<(usize, Kind), Vec<Memory>>,
    pub(crate) stalled: Vec<Stalled>,
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    f64::midpoint(values[last / 2], values[values.len() / 2])
}

impl Display for Results {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.cells.is_empty() {
            self.fmt_cells(f)?;
            self.fmt_ratios(f)?;
            self.fmt_memory(f)?;
        }
        for stalled in &self.stalled {
            writeln!(f, "{stalled}")?;
        }
        Ok(())
    }
}

impl Results {
    fn fmt_cells(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nMedians over the rounds. CPU is the server's, in seconds for a second of input, until \
             everybody holds the newest state; times are p50 / p99 in ms.\n\n\
             | clients | updates/s | server | CPU | µs per frame | frames per client and s | state is old on arrival | update is shown after | newest state at all, after the end |\n\
             |---|---|---|---|---|---|---|---|---|"
        )?;
        for ((clients, rate, kind), samples) in &self.cells {
            let of = |what: &dyn Fn(&Sample) -> f64| median(samples.iter().map(what));
            let cut = samples.iter().any(|sample| !sample.is_complete);
            writeln!(
                f,
                "| {clients} | {rate} | {} | {}{:.2} | {:.1} | {:.1} | {:.1} / {:.1} | {:.1} / {:.1} | {} |",
                kind.name(),
                if cut { "> " } else { "" },
                of(&Sample::cores),
                of(&Sample::per_frame),
                of(&|sample| sample.tally.frames as f64 / *clients as f64 / sample.elapsed),
                of(&|sample| sample.state(0.5)),
                of(&|sample| sample.state(0.99)),
                of(&|sample| sample.update(0.5)),
                of(&|sample| sample.update(0.99)),
                if cut {
                    "not in 30 s".to_owned()
                } else {
                    format!("{:.0}", of(&|sample| milliseconds(sample.tally.settled)))
                },
            )?;
        }
        Ok(())
    }

    fn fmt_ratios(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nwebui as a ratio to the others, median of the ratios of each round (least to most).\n\n\
             | clients | updates/s | to | CPU | CPU per frame | p50 of the state's age | p50 of an update |\n\
             |---|---|---|---|---|---|---|"
        )?;
        for ((clients, rate, kind), others) in &self.cells {
            let ours = self.cells.get(&(*clients, *rate, Kind::Webui));
            let Some(ours) = ours.filter(|_| *kind != Kind::Webui) else {
                continue;
            };
            let ratio = |what: &dyn Fn(&Sample) -> f64| {
                let pairs = ours.iter().zip(others);
                let all: Vec<f64> = pairs.map(|(our, other)| what(our) / what(other)).collect();
                let least = all.iter().copied().fold(f64::INFINITY, f64::min);
                let most = all.iter().copied().fold(0.0, f64::max);
                let median = median(all.into_iter());
                format!("{median:.2} ({least:.2} to {most:.2})")
            };
            writeln!(
                f,
                "| {clients} | {rate} | {} | {} | {} | {} | {} |",
                kind.name(),
                ratio(&Sample::cores),
                ratio(&Sample::per_frame),
                ratio(&|sample| sample.state(0.5)),
                ratio(&|sample| sample.update(0.5)),
            )?;
        }
        Ok(())
    }

    fn fmt_memory(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| clients | server | empty, MB | idle client, KB | peak, MB |\n|---|---|---|---|---|"
        )?;
        for ((clients, kind), memory) in &self.memory {
            let of = |what: &dyn Fn(&Memory) -> f64| median(memory.iter().map(what));
            writeln!(
                f,
                "| {clients} | {} | {:.1} | {:.2} | {:.1} |",
                kind.name(),
                of(&|memory| memory.empty) / 1e6,
                of(&|memory| memory.idle_per_client) / 1e3,
                of(&|memory| memory.peak) / 1e6
            )?;
        }
        writeln!(f)
    }
}

/// What all this ran on.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |line: &str| {
        Some(
            line.strip_prefix("model name")?
                .split_once(':')?
                .1
                .to_owned(),
        )
    };
    let model = cpu.lines().find_map(field).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores,{model}, Linux {}, load {}",
        kernel.trim(),
        load()
    )
}

/// Processes that want to run, over the last minute, five and fifteen.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let words: Vec<&str> = load.split_whitespace().take(3).collect();
    words.join(" ")
}
