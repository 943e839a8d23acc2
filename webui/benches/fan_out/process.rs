//! What a process costs, by the kernel's own account. Linux only.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fs, io};

/// `/proc` counts in hundredths of a second, whatever the kernel's own tick is.
const TICKS: f64 = 100.0;

/// A process and the children that it has.
fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

/// Seconds of CPU used so far.
pub(crate) fn cpu(pid: u32) -> f64 {
    let of = |pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) / TICKS)
    };
    family(pid).into_iter().filter_map(of).sum()
}

/// Bytes in memory now, and at most so far.
pub(crate) fn memory(pid: u32) -> (f64, f64) {
    let of = |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes = line.split_whitespace().next()?.parse::<f64>().ok()?;
            Some(kilobytes * 1024.0)
        };
        Some((field("VmRSS:")?, field("VmHWM:")?))
    };
    let family = family(pid).into_iter().filter_map(of);
    family.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// A running program, ended when dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
        variables: &[(&str, String)],
    ) -> io::Result<Self> {
        let child = Command::new(program)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let children = family(self.id());
        let _ = self.0.kill();
        let _ = self.0.wait();
        // Those of a killed parent would stay; without a parent they are not ours to wait for.
        for child in &children[1..] {
            let _ = Command::new("kill").arg(child.to_string()).status();
        }
    }
}

/// An address on this machine that nobody listens on.
pub(crate) fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Waits until somebody listens.
pub(crate) fn is_up(address: SocketAddr) -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
}
