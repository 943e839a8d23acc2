//! The program is killed, and the same command, run again, finishes: at every call that it makes to
//! AWS, before the cloud has seen it and after the cloud has answered; at random times; and by Ctrl-C.
//!
//! A proxy between the program and the cloud does the killing, so the moments are exact. The cloud is
//! moto, with what `e2e/moto` adds: each case begins with a copy of an account, empty or deployed.

#[path = "killed/cloud.rs"]
mod cloud;
#[path = "killed/proxy.rs"]
mod proxy;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use cloud::{Cloud, Moto};
use proxy::{Call, Moment, Proxy, Signal};
use serde_json::Value as Json;

type Anything = Box<dyn std::error::Error + Send + Sync>;

/// Random moments of a killing, and of a Ctrl-C.
const RANDOM: usize = 50;
const INTERRUPTS: usize = 10;

/// How long after a call a random moment is at most: several calls are made in this time.
const LONGEST: Duration = Duration::from_millis(40);

/// A program that takes longer waits for something that does not come.
const DEADLINE: Duration = Duration::from_secs(120);

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Into an empty account.
    Deploy,
    /// Another function, over what is deployed.
    Change,
    /// What is deployed, with all data.
    Destroy,
}

impl What {
    /// Arguments, in a folder with the programs.
    fn arguments(self, folder: &Path) -> Vec<String> {
        let path = |name: &str| folder.join(name).display().to_string();
        let function = match self {
            What::Destroy => {
                return ["destroy", "--delete-data"].map(str::to_owned).into();
            }
            What::Deploy => "function",
            What::Change => "function-2",
        };
        let mut arguments = ["deploy", "--no-smoke", "--function"]
            .map(str::to_owned)
            .to_vec();
        arguments.extend([path(function), "--webui".into(), path("webui")]);
        arguments.extend(["--lock".into(), path("lock.json")]);
        arguments
    }
}

/// How a run ended.
struct Ended {
    status: ExitStatus,
    out: String,
    error: String,
    calls: Vec<Call>,
    /// The call at which it was struck, or the last one before.
    struck: Option<Call>,
}

impl Ended {
    /// The result that a run says which went well.
    fn result(&self) -> Result<String, Anything> {
        if !self.status.success() {
            return Err(format!("{}{} ({})", self.out, self.error, self.status).into());
        }
        let last = self.out.lines().last().unwrap_or_default();
        let last: Json = serde_json::from_str(last)?;
        Ok(last["result"].as_str().unwrap_or("nothing").to_owned())
    }
}

/// A machine from which somebody deploys.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Result<Machine, Anything> {
        let folder = tempfile::tempdir()?;
        for program in ["function", "function-2", "webui"] {
            std::fs::write(folder.path().join(program), program)?;
        }
        Ok(Machine { folder })
    }

    /// Puts the stage's lock file there, or away.
    fn lock(&self, contents: Option<&[u8]>) -> Result<(), Anything> {
        let path = self.folder.path().join("lock.json");
        if let Some(contents) = contents {
            std::fs::write(path, contents)?;
        } else if path.exists() {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Runs a command until it ends or is struck.
    fn run(&self, cloud: &Cloud, what: What, moment: Moment) -> Result<Ended, Anything> {
        let proxy = Proxy::start(cloud.address, moment)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-aws"));
        command
            .args(what.arguments(self.folder.path()))
            .args(["--yes", "--json", "--poll", "20"])
            .env_clear()
            .env("AWS_ENDPOINT_URL", format!("http://{}", proxy.address))
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let victim = proxy.spawn(&mut command)?;
        let (out, error) = {
            let mut child = victim.child();
            (child.stdout.take(), child.stderr.take())
        };
        let (sender, ended) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let read = out.map(|mut it| it.read_to_string(&mut text));
            // Its output ends with the program.
            let _ = sender.send(());
            read.transpose().map(|_| text)
        });
        let error_reader = std::thread::spawn(move || {
            let mut text = String::new();
            let read = error.map(|mut it| it.read_to_string(&mut text));
            read.transpose().map(|_| text)
        });
        let is_late = ended.recv_timeout(DEADLINE).is_err();
        if is_late {
            victim.child().kill()?;
        }
        let status = victim.child().wait()?;
        let read = |it: std::thread::JoinHandle<std::io::Result<String>>| {
            it.join().map_err(|_| "reading what the program says")
        };
        let (out, error) = (read(reader)??, read(error_reader)??);
        let seen = proxy.end();
        if is_late {
            let last = seen.calls.last().map(ToString::to_string);
            return Err(format!(
                "{what:?} still runs after {DEADLINE:?}; its last call was {last:?}; it said {out}{error}"
            )
            .into());
        }
        Ok(Ended {
            status,
            out,
            error,
            calls: seen.calls,
            struck: seen.struck,
        })
    }

    /// Runs a command to its end and returns its result.
    fn finish(&self, cloud: &Cloud, what: What) -> Result<String, Anything> {
        let ended = self.run(cloud, what, Moment::Never)?;
        ended
            .result()
            .map_err(|error| format!("{what:?} does not finish: {error}").into())
    }
}

/// What accounts are like that nobody disturbed, and the calls that were made for that.
struct Reference {
    /// Nothing is in it, but moto is warm.
    empty: Moto,
    deployed: Cloud,
    lock: Vec<u8>,
    /// What is in the buckets of what is deployed, and of what is changed.
    objects: [Vec<String>; 2],
    calls: [Vec<Call>; 3],
}

impl Reference {
    fn take(machine: &Machine) -> Result<Reference, Anything> {
        let empty = Moto::start(machine.folder.path())?;
        // moto loads each of its services at the first call.
        machine.finish(&empty.cloud, What::Deploy)?;
        machine.finish(&empty.cloud, What::Destroy)?;
        empty.cloud.ask("POST", "/moto-api/reset", "s3", "")?;

        machine.lock(None)?;
        let deployed = empty.cloud.copy()?;
        let run = |cloud: &Cloud, what| {
            let ended = machine.run(cloud, what, Moment::Never)?;
            ended.result()?;
            Ok::<_, Anything>((ended.calls, cloud.account()?))
        };
        let (deploy, (_, first)) = run(&deployed, What::Deploy)?;
        let cloud = deployed.copy()?;
        let (change, (_, second)) = run(&cloud, What::Change)?;
        let (destroy, left) = run(&cloud, What::Destroy)?;
        assert_eq!(left, (Vec::new(), Vec::new()), "of a change");
        let cloud = deployed.copy()?;
        let (destroy_first, left) = run(&cloud, What::Destroy)?;
        assert_eq!(left, (Vec::new(), Vec::new()));
        assert_eq!(destroy.len(), destroy_first.len());
        Ok(Reference {
            lock: std::fs::read(machine.folder.path().join("lock.json"))?,
            empty,
            deployed,
            objects: [first, second],
            calls: [deploy, change, destroy_first],
        })
    }

    /// Fails unless all is as if nothing had happened. Buckets with data that outlived a destroy may
    /// be there, too.
    fn check(&self, cloud: &Cloud, what: What, has_outlived: bool) -> Result<(), Anything> {
        let (stacks, mut objects) = cloud.account()?;
        let expected = match what {
            What::Destroy => &Vec::new(),
            What::Deploy => &self.objects[0],
            What::Change => &self.objects[1],
        };
        let names: Vec<&str> = stacks
            .iter()
            .filter_map(|it| it.split(' ').next())
            .collect();
        let is_whole = stacks
            .iter()
            .all(|it| it.ends_with(" CREATE_COMPLETE") || it.ends_with(" UPDATE_COMPLETE"));
        let wanted: &[&str] = match what {
            What::Destroy => &[],
            What::Deploy | What::Change => &["sensors-dev", "sensors-dev-artifacts"],
        };
        if names != wanted || !is_whole {
            return Err(format!("the stacks are {stacks:?}").into());
        }
        if has_outlived {
            objects.dedup();
        }
        if objects != *expected {
            let [is, expected] = [&objects, expected].map(|it| it.iter().collect::<BTreeSet<_>>());
            return Err(format!(
                "the buckets have {:?} that should not be there, and lack {:?}; they have {objects:?}",
                is.difference(&expected).collect::<Vec<_>>(),
                expected.difference(&is).collect::<Vec<_>>()
            )
            .into());
        }
        Ok(())
    }
}

/// A command that is struck at a moment.
struct Case {
    what: What,
    moment: Moment,
    /// Whether somebody also changes their mind: deploys after a destroy that was cut off, or
    /// destroys after a deployment that was.
    turns_round: bool,
    /// Whether the command is run once more after it has finished, to do nothing.
    is_repeated: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {}", self.what, self.moment)
    }
}

impl Case {
    /// Returns whether the command was struck before it had ended.
    fn run(&self, machine: &Machine, reference: &Reference) -> Result<bool, Anything> {
        let cloud = if self.what == What::Deploy {
            machine.lock(None)?;
            reference.empty.cloud.copy()?
        } else {
            machine.lock(Some(&reference.lock))?;
            reference.deployed.copy()?
        };
        let ended = machine.run(&cloud, self.what, self.moment.clone())?;
        self.check_end(&ended)?;
        if self.turns_round {
            let cloud = cloud.copy()?;
            if self.what == What::Destroy {
                machine.finish(&cloud, What::Deploy)?;
                reference.check(&cloud, What::Deploy, true)?;
                cloud.check_sources()?;
            }
            machine.finish(&cloud, What::Destroy)?;
            reference.check(&cloud, What::Destroy, false)?;
        }
        machine.finish(&cloud, self.what)?;
        reference.check(&cloud, self.what, false)?;
        if self.what != What::Destroy {
            cloud.check_sources()?;
        }
        if self.is_repeated {
            let result = machine.finish(&cloud, self.what)?;
            let expected = match self.what {
                What::Destroy => "nothing to destroy",
                What::Deploy | What::Change => "unchanged",
            };
            if result != expected {
                return Err(format!("once more, it gives `{result}`").into());
            }
        }
        Ok(!ended.status.success())
    }

    /// Fails when it did not end as it was meant to.
    fn check_end(&self, ended: &Ended) -> Result<(), Anything> {
        let Ended { status, error, .. } = ended;
        match &self.moment {
            Moment::Never => {}
            Moment::Before(_) | Moment::After(_) => {
                if ended.struck.is_none() {
                    return Err("it never makes this call".into());
                }
                if status.signal() != Some(9) {
                    return Err(format!("it was not killed: {status}, {error}").into());
                }
            }
            Moment::Soon(.., Signal::Kill) => {
                if status.signal() != Some(9) {
                    ended.result()?;
                }
            }
            Moment::Soon(.., Signal::Interrupt) => {
                // As every program does that has not come to anything yet.
                let is_early = status.signal() == Some(2) && ended.calls.is_empty();
                let says_how =
                    status.code() == Some(130) && error.contains("run the same command again");
                if !is_early && !says_how && !status.success() {
                    return Err(format!("Ctrl-C: {status}, {error}").into());
                }
            }
        }
        Ok(())
    }
}

/// A sequence of numbers that is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's constants; the upper half is random enough.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound
    }
}

fn cases(reference: &Reference) -> Vec<Case> {
    let all = [What::Deploy, What::Change, What::Destroy];
    let mut cases = Vec::new();
    for (what, calls) in all.into_iter().zip(&reference.calls) {
        for (index, call) in calls.iter().enumerate() {
            let is_repeated = index % 5 == 0;
            cases.push(Case {
                what,
                moment: Moment::Before(call.clone()),
                turns_round: false,
                is_repeated,
            });
            cases.push(Case {
                what,
                moment: Moment::After(call.clone()),
                // What only reads leaves what the call before it has left.
                turns_round: call.changes(),
                is_repeated,
            });
        }
    }
    let mut random = Random(20_261_123);
    for index in 0..RANDOM + INTERRUPTS {
        let signal = if index < RANDOM {
            Signal::Kill
        } else {
            Signal::Interrupt
        };
        let which = index % all.len();
        let from = random.below(reference.calls[which].len() + 1);
        let micros = random.below(usize::try_from(LONGEST.as_micros()).unwrap_or(1));
        let delay = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        cases.push(Case {
            what: all[which],
            moment: Moment::Soon(from, delay, signal),
            turns_round: false,
            is_repeated: index % 5 == 0,
        });
    }
    cases
}

#[test]
fn whoever_is_killed_at_any_moment_finishes_when_run_again() -> Result<(), Anything> {
    let machine = Machine::new()?;
    let reference = Reference::take(&machine)?;
    let cases = cases(&reference);
    let [deploy, change, destroy] = reference.calls.each_ref().map(Vec::len);
    eprintln!(
        "{deploy} calls to deploy, {change} to change, {destroy} to destroy: {} cases",
        cases.len()
    );
    let next = AtomicUsize::new(0);
    let struck = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let fail = |text: String| failures.lock().expect("nobody panics").push(text);
    let work = |machine: &Machine| {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
            match case.run(machine, &reference) {
                Ok(true) => _ = struck.fetch_add(1, Ordering::SeqCst),
                // A random moment may be one after the end.
                Ok(false) => {}
                Err(error) => fail(format!("{case}: {error}")),
            }
        }
    };
    // While a program waits for its cloud, another one can compute.
    let others = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..others {
            scope.spawn(|| match Machine::new() {
                Ok(machine) => work(&machine),
                Err(error) => fail(error.to_string()),
            });
        }
        work(&machine);
    });
    let failures = failures.into_inner()?;
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    let late = cases.len() - struck.into_inner();
    eprintln!("{late} random moments came after the end");
    assert!(late < (RANDOM + INTERRUPTS) / 2, "too many came too late");
    Ok(())
}
