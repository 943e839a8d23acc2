//! Building everything that the tests run, by one call of cargo, and running test programs side by side.
//!
//! One call, because every other selection of packages gives the packages that they share other
//! features, and these are compiled once more for each.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{REPRODUCIBLE, Setting};
use crate::program::{Artifacts, Executable};
use crate::{program, tools, workspace};

/// How often programs that still run are named.
const REMINDER: Duration = Duration::from_secs(60);

/// What `reproducible` runs.
const SAME_ARTIFACTS: &str = "artifact::tests::same_source_in_two_folders_makes_the_same_artifacts";

/// Builds the programs and the test programs of the workspace, once in a run.
pub(super) fn build<'a>(setting: &'a Setting) -> anyhow::Result<&'a Artifacts> {
    let built = setting
        .built
        .get_or_init(|| build_now(setting).map_err(|error| format!("{error:#}")));
    match built {
        Ok(artifacts) => Ok(artifacts),
        Err(error) => bail!("{error}"),
    }
}

fn build_now(setting: &Setting) -> anyhow::Result<Artifacts> {
    let mut cargo = program::cargo();
    cargo.args(["build", "--workspace", "--locked", "--quiet", "--bins"]);
    if setting.chosen == ["end-to-end"] {
        for test in end_to_end_tests(setting.root)? {
            cargo.args(["--test", &test]);
        }
    } else {
        cargo.arg("--tests");
    }
    let artifacts = setting.cargo("programs and tests", &mut cargo, &[])?;
    if setting.runs(REPRODUCIBLE) {
        let is_alone = setting.chosen.len() == 1;
        let background = Background::start(&artifacts, is_alone)?;
        setting.background.replace(Some(background));
    }
    Ok(artifacts)
}

fn end_to_end_tests(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = root.join("e2e/tests");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut tests = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem()
        {
            tests.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(tests)
}

/// Cores of this machine, at least two: tests wait more than they compute.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

/// How a test program is named in the output: as for `cargo test`.
fn name(program: &Executable) -> String {
    match program.kind.as_str() {
        "test" => format!("-p {} --test {}", program.package, program.name),
        "bin" => format!("-p {} --bin {}", program.package, program.name),
        _ => format!("-p {} --lib", program.package),
    }
}

/// A test program as cargo would run it.
fn command(program: &Executable, environment: &[(&str, OsString)]) -> Command {
    let mut command = Command::new(&program.path);
    command
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .env("CARGO_PKG_NAME", &program.package)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    command
}

/// Sends everything that a command says to a file; what it leaves behind then cannot hold us up.
fn to_file(command: &mut Command, log: &Path) -> anyhow::Result<()> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    file.set_len(0)?;
    command.stdout(file.try_clone()?).stderr(file);
    Ok(())
}

/// A test program that has ended.
struct Ended {
    name: String,
    took: Duration,
    status: anyhow::Result<ExitStatus>,
    said: String,
}

/// Runs test programs, some at a time, and prints the output of each when it has ended; returns how many
/// tests ran.
///
/// # Errors
/// Some failed: their names and the line that runs the first again.
pub(super) fn run<'a>(
    programs: impl Iterator<Item = &'a Executable>,
    environment: &[(&str, OsString)],
    at_a_time: usize,
    arguments: &[String],
) -> anyhow::Result<usize> {
    let logs = workspace::target()?.join("tests");
    let seconds = Seconds::load(&logs.join("seconds.json"));
    let mut programs: Vec<&Executable> = programs.collect();
    if programs.is_empty() {
        bail!("cargo has built no such test program");
    }
    // The longest first, so that none is left alone at the end.
    programs.sort_by(|a, b| seconds.of(b).total_cmp(&seconds.of(a)));
    let count = programs.len();
    let queue = Mutex::new(programs.into_iter().collect::<VecDeque<_>>());
    let running = Mutex::new(Vec::new());
    let mut failed = Vec::new();
    let mut took = BTreeMap::new();
    let mut tests = 0;
    let (sender, ended) = channel();
    thread::scope(|scope| {
        for _ in 0..at_a_time.min(count) {
            let (queue, running, logs, sender) = (&queue, &running, &logs, sender.clone());
            scope.spawn(move || {
                let next = || {
                    queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front()
                };
                while let Some(program) = next() {
                    let name = name(program);
                    running
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(name.clone());
                    let log = logs.join(format!("{}-{}.log", program.package, program.name));
                    let started = Instant::now();
                    let mut command = command(program, environment);
                    command.args(arguments);
                    let status = to_file(&mut command, &log)
                        .and_then(|()| command.status().context("cannot run it"));
                    running
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .retain(|it| *it != name);
                    let said = fs::read(&log).unwrap_or_default();
                    let sent = sender.send(Ended {
                        name,
                        took: started.elapsed(),
                        status,
                        said: String::from_utf8_lossy(&said).into_owned(),
                    });
                    if sent.is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        loop {
            match ended.recv_timeout(REMINDER) {
                Ok(program) => {
                    let Ended {
                        name,
                        took: time,
                        status,
                        said,
                    } = program;
                    println!("\n     Ran {name} in {:.1} s", time.as_secs_f64());
                    println!("{}", said.trim_end());
                    tests += tests_in(&said);
                    match status {
                        Ok(status) if status.success() => {}
                        Ok(_) => failed.push(name.clone()),
                        Err(error) => {
                            println!("{error:#}");
                            failed.push(name.clone());
                        }
                    }
                    took.insert(name, time.as_secs_f64());
                }
                Err(RecvTimeoutError::Timeout) => {
                    let running = running.lock().unwrap_or_else(PoisonError::into_inner);
                    eprintln!("still running: {}", running.join(", "));
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    if arguments.is_empty() {
        seconds.save(took)?;
    }
    if failed.is_empty() {
        return Ok(tests);
    }
    bail!(
        "{} of {count} test programs failed: {}",
        failed.len(),
        failed.join("; ")
    )
}

/// How many tests ran, from lines such as `running 7 tests`.
fn tests_in(said: &str) -> usize {
    let counts = said.lines().filter_map(|line| {
        let (count, _) = line.strip_prefix("running ")?.split_once(" test")?;
        count.parse::<usize>().ok()
    });
    counts.sum()
}

/// How long each test program took the last time.
struct Seconds {
    file: PathBuf,
    by_name: BTreeMap<String, f64>,
}

impl Seconds {
    fn load(file: &Path) -> Seconds {
        let text = fs::read_to_string(file).unwrap_or_default();
        Seconds {
            file: file.to_owned(),
            by_name: serde_json::from_str(&text).unwrap_or_default(),
        }
    }

    /// An unknown one may be long.
    fn of(&self, program: &Executable) -> f64 {
        let known = self.by_name.get(&name(program)).copied();
        known.unwrap_or(f64::INFINITY)
    }

    fn save(mut self, took: BTreeMap<String, f64>) -> anyhow::Result<()> {
        self.by_name.extend(took);
        let text = serde_json::to_string_pretty(&self.by_name)?;
        fs::write(&self.file, text).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// The comparison of two builds, while other steps run.
pub(super) struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    fn start(artifacts: &Artifacts, is_alone: bool) -> anyhow::Result<Background> {
        let program = artifacts
            .tests()
            .find(|it| it.package == "xtask-aws" && it.kind == "bin")
            .context("cargo has built no test program of xtask-aws")?;
        let environment = [("PATH", tools::path_for_aws()?)];
        let mut command = command(program, &environment);
        if !is_alone {
            let own = command;
            command = Command::new("nice");
            command.args(["-n", "19"]).arg(own.get_program());
            command.stdin(Stdio::null());
            for (name, value) in own.get_envs() {
                command.env(name, value.unwrap_or_default());
            }
            if let Some(folder) = own.get_current_dir() {
                command.current_dir(folder);
            }
            eprintln!("{REPRODUCIBLE} builds in the background from now on");
        }
        command.args(["--ignored", "--exact", SAME_ARTIFACTS]);
        let log = workspace::target()?.join("tests/reproducible.log");
        to_file(&mut command, &log)?;
        Ok(Background {
            child: command.spawn().context("cannot run the comparison")?,
            log,
        })
    }

    fn wait(mut self) -> anyhow::Result<()> {
        let status = self.child.wait().context("wait for the comparison")?;
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        println!("{}", said.trim_end());
        if !status.success() {
            bail!("the two builds differ, or one of them failed: {status}");
        }
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The artifacts are the same bytes from whatever folder they are built.
pub(super) fn reproducible(setting: &Setting) -> anyhow::Result<()> {
    build(setting)?;
    let background = setting.background.take();
    background.context("the comparison was not started")?.wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_from_what_a_test_program_says() {
        assert_eq!(tests_in("\nrunning 0 tests\n\ntest result: ok."), 0);
        assert_eq!(
            tests_in("\nrunning 1 test\ntest a ... ok\n\nrunning 12 tests\n"),
            13
        );
    }
}
