//! One execution environment: a process and the Runtime API that it talks to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use uuid::Uuid;

use super::report::{Reporter, Status};
use super::runtime_api::{self, Job, Message};
use super::{Config, FunctionError, LogFormat};
use crate::logs::{LogStream, Logs};
use crate::process::{Program, describe, lines};
use crate::status::now_ms;

/// The init phase may take so long ("Understanding the Lambda execution environment lifecycle").
pub(super) const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Variables that a function's configuration may not set ("Using Lambda environment variables").
pub(super) const RESERVED: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
];

/// How often the memory of a process at work is looked at.
const MEMORY_CHECK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Environment {
    config: Arc<Config>,
    program: Program,
    jobs: mpsc::Sender<Job>,
    messages: mpsc::UnboundedReceiver<Message>,
    reporter: Reporter,
    /// Told by the first report, then gone.
    init: Option<Duration>,
    usable: bool,
    server: JoinHandle<()>,
}

impl Environment {
    /// Starts the process and waits until it asks for its first event.
    ///
    /// `request_id`: the invocation that this is part of, when an earlier init phase has failed.
    pub(super) async fn start(
        config: &Arc<Config>,
        logs: Option<&Logs>,
        limit: Duration,
        request_id: Option<&str>,
    ) -> Result<Environment, FunctionError> {
        let stream_name = stream_name();
        let stream = logs.map_or_else(
            || LogStream::terminal_only(&config.log_group),
            |logs| logs.stream(&config.log_group, &stream_name),
        );
        let reporter = Reporter::new(config, stream.clone());
        reporter.init_start();
        let started = Instant::now();
        let deadline = tokio::time::Instant::now() + limit;
        let mut environment = Environment::launch(config, &stream_name, stream, reporter)
            .await
            .map_err(|error| {
                FunctionError::new("Runtime.InvalidEntrypoint", format!("{error:#}"))
            })?;
        let result = match timeout_at(deadline, environment.initialised()).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("Task timed out after {:.2} seconds", limit.as_secs_f64());
                Err((
                    Status::Timeout,
                    FunctionError::new("Sandbox.Timedout", message),
                ))
            }
        };
        match result {
            Ok(()) => {
                environment.init = Some(started.elapsed());
                Ok(environment)
            }
            Err((status, error)) => {
                environment.program.kill().await;
                environment
                    .reporter
                    .init_failed(started.elapsed(), status, &error, request_id);
                Err(error)
            }
        }
    }

    async fn launch(
        config: &Arc<Config>,
        stream_name: &str,
        stream: LogStream,
        reporter: Reporter,
    ) -> anyhow::Result<Environment> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mut program = Program::start(command(config, listener.local_addr()?, stream_name))?;
        for pipe in [
            program.stdout().map(Pipe::Out),
            program.stderr().map(Pipe::Error),
        ] {
            let stream = stream.clone();
            tokio::spawn(async move {
                match pipe {
                    Some(Pipe::Out(pipe)) => lines(pipe, |line| keep(&stream, line)).await,
                    Some(Pipe::Error(pipe)) => lines(pipe, |line| keep(&stream, line)).await,
                    None => {}
                }
            });
        }
        let (jobs, job_receiver) = mpsc::channel(1);
        let (message_sender, messages) = mpsc::unbounded_channel();
        let server = tokio::spawn(runtime_api::serve(
            listener,
            config.arn.clone(),
            job_receiver,
            message_sender,
        ));
        Ok(Environment {
            config: config.clone(),
            program,
            jobs,
            messages,
            reporter,
            init: None,
            usable: true,
            server,
        })
    }

    async fn initialised(&mut self) -> Result<(), (Status, FunctionError)> {
        tokio::select! {
            biased;
            message = self.messages.recv() => match message {
                Some(Message::InitError(error)) => Err((Status::Error, error)),
                _ => Ok(()),
            },
            status = self.program.wait() => {
                let ended = status.map_or_else(|error| error.to_string(), describe);
                Err((Status::Error, FunctionError::new("Runtime.ExitError", format!("Runtime exited before it asked for an event: {ended}"))))
            }
        }
    }

    /// Whether it can take another invocation.
    pub(super) fn is_usable(&mut self) -> bool {
        self.usable && !self.program.has_exited()
    }

    /// Lets the process handle one event; `crash`: it is killed after so long, or when it has answered
    /// before, and the answer is lost with it.
    pub(super) async fn invoke(
        &mut self,
        request_id: &str,
        event: Bytes,
        crash: Option<Duration>,
    ) -> Result<Bytes, FunctionError> {
        self.reporter.start(request_id);
        let started = Instant::now();
        let timeout = self.config.timeout;
        let deadline = tokio::time::Instant::now() + timeout;
        let job = Job {
            request_id: request_id.to_owned(),
            deadline_ms: now_ms() + u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            event,
        };
        // There is room: one job at a time, and the previous one was taken. If not, the process is at fault.
        let _ = self.jobs.try_send(job);
        // Measured while the process still is.
        let outcome = timeout_at(deadline, self.outcome(request_id, crash)).await;
        let (status, mut result) = match outcome {
            Ok(Ok(response)) => (Status::Success, Ok(response)),
            Ok(Err(error)) => (Status::Error, Err(error)),
            Err(_) => {
                let message = format!(
                    "{request_id} Task timed out after {:.2} seconds",
                    timeout.as_secs_f64()
                );
                (
                    Status::Timeout,
                    Err(FunctionError::new("Sandbox.Timedout", message)),
                )
            }
        };
        let memory = self.program.id().and_then(peak_memory_mb);
        let limit = u64::from(self.config.memory_mb);
        if result.is_ok() && memory.is_some_and(|used| used > limit) {
            result = Err(self.out_of_memory(request_id).await);
        }
        let status = match &result {
            Err(_) if status == Status::Success => Status::Error,
            _ => status,
        };
        if status == Status::Timeout {
            self.usable = false;
            self.program.kill().await;
        }
        let error = result.as_ref().err();
        self.reporter.end(
            request_id,
            started.elapsed(),
            self.init.take(),
            memory,
            status,
            error,
        );
        result
    }

    /// The answer, or what ends the process before it comes.
    async fn outcome(
        &mut self,
        request_id: &str,
        crash: Option<Duration>,
    ) -> Result<Bytes, FunctionError> {
        let (id, limit) = (self.program.id(), u64::from(self.config.memory_mb));
        let crashes = async {
            match crash {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let answered = tokio::select! {
            biased;
            answer = self.answer(request_id) => match crash {
                None => return answer,
                Some(_) => true,
            },
            () = exceeds(id, limit) => return Err(self.out_of_memory(request_id).await),
            () = crashes => false,
        };
        tracing::warn!(
            function = self.config.logical_id,
            answered,
            "killed by --fault function:crash"
        );
        self.program.kill().await;
        self.usable = false;
        let message =
            format!("RequestId: {request_id} Error: Runtime exited with error: signal: killed");
        Err(FunctionError::new("Runtime.ExitError", message))
    }

    async fn out_of_memory(&mut self, request_id: &str) -> FunctionError {
        self.usable = false;
        self.program.kill().await;
        let limit = self.config.memory_mb;
        tracing::error!(
            function = self.config.logical_id,
            "killed: it used more than {limit} MB (MemorySize)"
        );
        let message =
            format!("RequestId: {request_id} Error: Runtime exited with error: signal: killed");
        FunctionError::new("Runtime.OutOfMemory", message)
    }

    async fn answer(&mut self, request_id: &str) -> Result<Bytes, FunctionError> {
        loop {
            tokio::select! {
                biased;
                message = self.messages.recv() => match message {
                    Some(Message::Answer { request_id: id, result }) if id == request_id => return result,
                    Some(_) => {}
                    None => {
                        self.usable = false;
                        return Err(FunctionError::new("Runtime.Unknown", "the Runtime API has ended"));
                    }
                },
                status = self.program.wait() => {
                    self.usable = false;
                    let ended = status.map_or_else(|error| error.to_string(), describe);
                    let message = format!("RequestId: {request_id} Error: Runtime exited with error: {ended}");
                    return Err(FunctionError::new("Runtime.ExitError", message));
                }
            }
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.server.abort();
    }
}

enum Pipe {
    Out(tokio::process::ChildStdout),
    Error(tokio::process::ChildStderr),
}

fn command(config: &Config, runtime_api: SocketAddr, stream_name: &str) -> Command {
    let task: PathBuf = std::path::absolute(config.folder.join("task"))
        .unwrap_or_else(|_| config.folder.join("task"));
    let bootstrap =
        std::path::absolute(&config.bootstrap).unwrap_or_else(|_| config.bootstrap.clone());
    let (key, secret, session) = match &config.credentials {
        Some(it) => (
            it.access_key_id.as_str(),
            it.secret_access_key(),
            it.session_token().unwrap_or_default(),
        ),
        None => ("ASIALOCALLOCALLOCAL0", "local", "local"),
    };
    let mut command = Command::new(bootstrap);
    command
        .current_dir(&task)
        .env_clear()
        .envs(&config.environment)
        .envs([
            ("LANG", "en_US.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
            ("TZ", ":UTC"),
            ("AWS_ACCESS_KEY_ID", key),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_SESSION_TOKEN", session),
            ("AWS_REGION", &config.region),
            ("AWS_DEFAULT_REGION", &config.region),
            ("AWS_LAMBDA_FUNCTION_NAME", &config.name),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &config.log_group),
            ("AWS_LAMBDA_LOG_STREAM_NAME", stream_name),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("_HANDLER", &config.handler),
        ])
        .env(
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            config.memory_mb.to_string(),
        )
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string())
        .env("LAMBDA_TASK_ROOT", &task);
    if config.log_format == LogFormat::Json {
        command.env("AWS_LAMBDA_LOG_FORMAT", "JSON");
        command.env(
            "AWS_LAMBDA_LOG_LEVEL",
            config.log_level.as_deref().unwrap_or("INFO"),
        );
    }
    if let Some(ca_file) = &config.ca_file {
        command.env("SSL_CERT_FILE", ca_file);
    }
    command
}

/// `2026/11/23/[$LATEST]` and 32 hexadecimal digits.
fn stream_name() -> String {
    let today = jiff::Timestamp::now().strftime("%Y/%m/%d");
    format!("{today}/[$LATEST]{}", Uuid::new_v4().simple())
}

/// Returns when a process uses more than so many MB.
async fn exceeds(id: Option<u32>, limit: u64) {
    let mut ticks = tokio::time::interval(MEMORY_CHECK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first one is at once, when nothing can have happened yet.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if id.and_then(peak_memory_mb).is_some_and(|used| used > limit) {
            return;
        }
    }
}

/// The most memory that a process has used so far, in MB; none where the system does not tell.
fn peak_memory_mb(id: u32) -> Option<u64> {
    let status =
        std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib.div_ceil(1024))
}
/// Keeps a line of output. Metrics in the embedded format are for CloudWatch, not for people: they
/// are in the log file only.
fn keep(stream: &LogStream, line: &str) {
    if line.starts_with('{') && line.contains("\"_aws\":") {
        stream.put_quietly(line);
    } else {
        stream.put(line);
    }
}
