//! Child processes that cannot outlive the run.
//!
//! Every program gets a process group of its own, so that what it starts is ended with it, and so that
//! a Ctrl-C on the terminal reaches nobody but us.
//! A group is killed when its [`Program`] is dropped. When we ourselves are killed nothing of ours runs
//! any more; therefore a shell stands beside each program, reads from a pipe that only we hold open, and
//! kills the group when that pipe ends.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// What the shell does: wait for the end of its input, then kill the group `$1`.
/// `-s`, because Debian's shell takes no `--` after `-KILL`.
const GUARDIAN: &str = r#"while read -r _; do :; done; kill -s KILL -- "-$1""#;

/// Bytes of one line at most, as CloudWatch Logs allows for one event; a longer one is cut into several.
/// ("CloudWatch Logs quotas": event size.)
const MAX_LINE: usize = 256 * 1024;

/// A running program with everything that it has started.
#[derive(Debug)]
pub struct Program {
    child: Child,
    group: Option<Pid>,
    guardian: Option<std::process::Child>,
}

impl Program {
    /// Starts a program in a process group of its own, with stdout and stderr as pipes and without stdin.
    /// Whatever else is to be set, such as environment and working directory, the command says.
    ///
    /// # Errors
    /// The program cannot be started, or `/bin/sh` cannot.
    pub fn start(mut command: Command) -> anyhow::Result<Program> {
        let name = command.as_std().get_program().to_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", name.display()))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut program = Program {
            child,
            group,
            guardian: None,
        };
        if let Some(group) = group {
            use std::os::unix::process::CommandExt;
            let guardian = std::process::Command::new("/bin/sh")
                .args([
                    "-c",
                    GUARDIAN,
                    "guardian",
                    &group.as_raw_nonzero().to_string(),
                ])
                .env_clear()
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .context("start /bin/sh, which ends our programs if we are killed")?;
            program.guardian = Some(guardian);
        }
        Ok(program)
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its standard output, once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard error, once.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Whether it has ended.
    pub fn has_exited(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, then ends what it has left behind. Cancel safe.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.kill_group();
        Ok(status)
    }

    /// Asks it to end by SIGTERM, kills it when the grace period is over, and waits until it is gone.
    pub async fn stop(&mut self, grace: Duration) {
        if let Some(group) = self.group {
            // It may be gone already.
            let _ = kill_process_group(group, Signal::TERM);
        }
        if tokio::time::timeout(grace, self.child.wait())
            .await
            .is_err()
        {
            self.kill().await;
        }
        self.kill_group();
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(&mut self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait().await;
        self.kill_group();
    }

    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        if let Some(mut guardian) = self.guardian.take() {
            let _ = guardian.kill();
            let _ = guardian.wait();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// How a program ended, for people.
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Hands over every line of a pipe until its end; what is no UTF-8 is replaced.
///
/// The pipe is read on also when nobody wants the lines, because a program blocks on a full one.
pub async fn lines(pipe: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        let (used, ended) = match reader.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(buffer) => match buffer.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    line.extend_from_slice(&buffer[..end]);
                    (end + 1, true)
                }
                None => {
                    line.extend_from_slice(buffer);
                    (buffer.len(), line.len() >= MAX_LINE)
                }
            },
        };
        reader.consume(used);
        if ended {
            take(String::from_utf8_lossy(&line).trim_end_matches('\r'));
            line.clear();
        }
    }
    if !line.is_empty() {
        take(&String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Program::start(command).unwrap()
    }

    async fn first_line(program: &mut Program) -> String {
        let mut line = String::new();
        let mut reader = BufReader::new(program.stdout().unwrap());
        reader.read_line(&mut line).await.unwrap();
        line.trim().to_owned()
    }

    /// Whether a process exists and is not merely waiting to be reaped.
    fn runs(id: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn what_a_program_started_ends_with_it() {
        let mut program = shell("sleep 1000 & echo $!; wait");
        let grandchild = first_line(&mut program).await;
        assert!(runs(&grandchild));
        program.kill().await;
        while runs(&grandchild) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn dropping_a_program_ends_it() {
        let mut program = shell("echo $$; exec sleep 1000");
        let id = first_line(&mut program).await;
        drop(program);
        while runs(&id) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn program_ends_when_the_pipe_that_we_hold_ends() {
        let mut program = shell("echo $$; exec sleep 1000");
        let id = first_line(&mut program).await;
        // What the operating system does when we are killed.
        drop(
            program
                .guardian
                .as_mut()
                .and_then(|guardian| guardian.stdin.take()),
        );
        program.child.wait().await.unwrap();
        assert!(!runs(&id));
    }

    #[tokio::test]
    async fn stop_lets_a_program_finish_within_its_grace_period() {
        let mut program =
            shell("trap 'echo finished; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
        let mut reader = BufReader::new(program.stdout().unwrap()).lines();
        assert_eq!(reader.next_line().await.unwrap().as_deref(), Some("ready"));
        program.stop(Duration::from_secs(20)).await;
        assert_eq!(
            reader.next_line().await.unwrap().as_deref(),
            Some("finished")
        );
    }

    #[tokio::test]
    async fn lines_are_kept_apart_and_the_last_needs_no_end() {
        let mut seen = Vec::new();
        lines(&b"one\r\n\ntwo\xff\nthree"[..], |line| {
            seen.push(line.to_owned())
        })
        .await;
        assert_eq!(seen, ["one", "", "two\u{fffd}", "three"]);
    }
}
