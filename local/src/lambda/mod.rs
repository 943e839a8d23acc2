//! Lambda: functions as processes that speak the Runtime API, version 2018-06-01.
//!
//! The function is the very binary that runs on AWS. Each execution environment is one process with a
//! Runtime API of its own; it takes one invocation at a time, is used again afterwards, and is thrown
//! away when it fails. More environments start when more invocations come at once.
//! (AWS Lambda Developer Guide: "Using the Lambda runtime API for custom runtimes", "Understanding the
//! Lambda execution environment lifecycle", "Using Lambda environment variables".)
//!
//! # Differs from AWS
//! - The process is not frozen between invocations, and runs as the user who runs us, with the whole
//!   file system in sight. Its working directory is its own, and `LAMBDA_TASK_ROOT` names it.
//! - `LD_LIBRARY_PATH` is not set: Amazon Linux's folders would be the wrong ones elsewhere.
//! - `AWS_ACCESS_KEY_ID` and its companions are credentials that this run made up: nobody but its cache
//!   takes them.
//! - Memory is looked at every 20 ms and at the end of an invocation, so that what goes beyond the limit
//!   for a moment is killed a little later than on AWS. It counts the process's resident memory.
//! - A streamed response is taken as a whole; the account's concurrency is 1,000 for each function.
//!
//! Layout: `environment` is one process, `runtime_api` the server that it talks to, `report` what
//! Lambda itself writes into the log.

mod environment;
pub mod part;
pub mod plan;
mod report;
mod runtime_api;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use sign_in::Credentials;
use tokio::sync::{Semaphore, TryAcquireError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fault::Chances;
use crate::logs::Logs;
use crate::permission::Authorizer;
use crate::status::Status;
use environment::Environment;

/// Invocations at a time where `ReservedConcurrentExecutions` says nothing: an account's default.
/// ("Lambda quotas".)
const DEFAULT_CONCURRENCY: u32 = 1_000;

/// What a function needs to know of its `AWS::Lambda::Function`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logical ID in the template.
    pub logical_id: String,
    /// Physical name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Region.
    pub region: String,
    /// The binary.
    pub bootstrap: PathBuf,
    /// `Handler`; any text for a custom runtime.
    pub handler: String,
    /// `Environment.Variables`
    pub environment: BTreeMap<String, String>,
    /// `Timeout`, 1 to 900 seconds.
    pub timeout: Duration,
    /// `MemorySize` in MB, 128 to 10,240.
    pub memory_mb: u32,
    /// Name of the log group.
    pub log_group: String,
    /// ARN of the log group, without `:*`.
    pub log_group_arn: String,
    /// `LoggingConfig.LogFormat`
    pub log_format: LogFormat,
    /// `LoggingConfig.ApplicationLogLevel`; with JSON only.
    pub log_level: Option<String>,
    /// `ReservedConcurrentExecutions`
    pub reserved_concurrency: Option<u32>,
    /// Credentials of its role; none are made up otherwise.
    pub credentials: Option<Credentials>,
    /// What the program shall trust as `SSL_CERT_FILE`; the only variable that AWS does not set.
    pub ca_file: Option<PathBuf>,
    /// Folder for working directories.
    pub folder: PathBuf,
}

/// `LoggingConfig.LogFormat`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `Text`
    Text,
    /// `JSON`
    Json,
}

/// What became of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Its request ID.
    pub request_id: String,
    /// Its end.
    pub outcome: Outcome,
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The function returned this.
    Completed(Bytes),
    /// The function failed, crashed or took too long.
    Failed(FunctionError),
    /// It was not invoked: throttled, or we are stopping. This counts as no attempt.
    NotInvoked(String),
}

/// Why an invocation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error_type}: {message}")]
pub struct FunctionError {
    /// Such as `Runtime.ExitError`, or what the function says.
    pub error_type: String,
    /// In words.
    pub message: String,
}

impl FunctionError {
    fn new(error_type: &str, message: impl Into<String>) -> FunctionError {
        FunctionError {
            error_type: error_type.to_owned(),
            message: message.into(),
        }
    }
}

/// Something that takes events as a function does.
pub trait Invoke: Send + Sync {
    /// Invokes and waits for the end. Dropped in between, the event may have been processed or not.
    fn invoke(&self, event: Bytes) -> BoxFuture<'_, Invocation>;
}

/// A function; clones are the same.
#[derive(Clone, Debug)]
pub struct Function {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Arc<Config>,
    logs: Option<Logs>,
    status: Arc<Status>,
    concurrency: Semaphore,
    idle: Mutex<Vec<Environment>>,
    shutdown: CancellationToken,
    chances: OnceLock<Arc<Chances>>,
    /// Grows with every new binary.
    generation: AtomicU64,
}

impl Function {
    /// Makes a function ready for invocations; a process starts with the first one.
    ///
    /// When `shutdown` is cancelled, running invocations are given up and all processes are killed.
    /// `authorizer` stands for the function's role and decides whether it may write logs.
    ///
    /// # Errors
    /// The binary is missing or cannot be executed, or a setting is out of range.
    pub fn start(
        config: Config,
        logs: &Logs,
        authorizer: &Authorizer,
        status: Arc<Status>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Function> {
        check(&config)?;
        let task = config.folder.join("task");
        std::fs::create_dir_all(&task).with_context(|| {
            format!(
                "{}: make the working directory {}",
                config.logical_id,
                task.display()
            )
        })?;
        // As on AWS: who may not write logs runs all the same, and is not heard.
        let streams = format!("{}:log-stream:*", config.log_group_arn);
        let may_log = authorizer
            .authorize(
                "logs:CreateLogStream",
                &format!("{}:*", config.log_group_arn),
            )
            .and_then(|()| authorizer.authorize("logs:PutLogEvents", &streams))
            .is_ok();
        let concurrency = config.reserved_concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        let function = Function {
            inner: Arc::new(Inner {
                concurrency: Semaphore::new(concurrency as usize),
                config: Arc::new(config),
                logs: may_log.then(|| logs.clone()),
                status,
                idle: Mutex::default(),
                shutdown: shutdown.clone(),
                chances: OnceLock::new(),
                generation: AtomicU64::new(0),
            }),
        };
        let inner = Arc::downgrade(&function.inner);
        tokio::spawn(async move {
            shutdown.cancelled().await;
            if let Some(inner) = inner.upgrade() {
                inner.idle().clear();
            }
        });
        Ok(function)
    }

    /// What it was made from.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The binary is another one now: processes of the old one take no more invocations.
    pub fn renew(&self) {
        self.inner.generation.fetch_add(1, Ordering::SeqCst);
        self.inner.idle().clear();
    }

    /// Gives running invocations up and kills all processes.
    pub fn stop(&self) {
        self.inner.shutdown.cancel();
    }

    /// From now on its process is killed now and then.
    pub fn inject(&self, chances: Arc<Chances>) {
        // Given once; a second time changes nothing.
        let _ = self.inner.chances.set(chances);
    }

    /// Invokes the function and waits for the end of it.
    pub async fn invoke(&self, event: Bytes) -> Invocation {
        let request_id = Uuid::new_v4().to_string();
        let outcome = tokio::select! {
            biased;
            () = self.inner.shutdown.cancelled() => Outcome::NotInvoked("the local run is stopping".to_owned()),
            outcome = self.inner.invoke(&request_id, event) => outcome,
        };
        if matches!(outcome, Outcome::Failed(_)) {
            self.inner.status.invocation_errors.increment();
        }
        Invocation {
            request_id,
            outcome,
        }
    }
}

impl Invoke for Function {
    fn invoke(&self, event: Bytes) -> BoxFuture<'_, Invocation> {
        Box::pin(Function::invoke(self, event))
    }
}

impl Inner {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Environment>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn invoke(&self, request_id: &str, event: Bytes) -> Outcome {
        let _permit = match self.concurrency.try_acquire() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                return Outcome::NotInvoked("TooManyRequestsException: Rate Exceeded.".to_owned());
            }
        };
        self.status.invocations.increment();
        let generation = self.generation.load(Ordering::SeqCst);
        let mut environment = match self.take_idle() {
            Some(environment) => environment,
            None => match self.start_environment(request_id).await {
                Ok(environment) => environment,
                Err(error) => return Outcome::Failed(error),
            },
        };
        let crash = self.chances.get().and_then(|it| it.crash());
        let result = environment.invoke(request_id, event, crash).await;
        if environment.is_usable() && !self.shutdown.is_cancelled() {
            let mut idle = self.idle();
            // Looked at under the lock, so that a renewal in between removes it.
            if self.generation.load(Ordering::SeqCst) == generation {
                idle.push(environment);
            }
        }
        match result {
            Ok(response) => Outcome::Completed(response),
            Err(error) => Outcome::Failed(error),
        }
    }

    /// The environment used last: it is the one that is most likely warm.
    fn take_idle(&self) -> Option<Environment> {
        loop {
            let mut environment = self.idle().pop()?;
            if environment.is_usable() {
                return Some(environment);
            }
        }
    }

    /// An initialisation that fails or takes longer than ten seconds is tried once more, as part of the
    /// invocation, within the function's timeout.
    /// ("Understanding the Lambda execution environment lifecycle", Init phase.)
    async fn start_environment(&self, request_id: &str) -> Result<Environment, FunctionError> {
        let init = environment::INIT_TIMEOUT;
        match Environment::start(&self.config, self.logs.as_ref(), init, None).await {
            Ok(environment) => Ok(environment),
            Err(error) => {
                tracing::warn!(
                    function = self.config.logical_id,
                    "init phase failed, trying once more: {error}"
                );
                let timeout = self.config.timeout;
                Environment::start(&self.config, self.logs.as_ref(), timeout, Some(request_id))
                    .await
            }
        }
    }
}

fn check(config: &Config) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let Config {
        logical_id,
        bootstrap,
        ..
    } = config;
    let metadata = std::fs::metadata(bootstrap)
        .with_context(|| format!("{logical_id}: cannot find the function's binary {}; build it with `cargo build -p functions`", bootstrap.display()))?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        bail!(
            "{logical_id}: {} is no executable file, and the function cannot start from it (Runtime.InvalidEntrypoint)",
            bootstrap.display()
        );
    }
    if let Some((property, message)) = refused(config).first() {
        bail!("{logical_id}: {property}: {message}");
    }
    Ok(())
}

/// Settings that Lambda does not take, each with what is wrong.
pub(crate) fn refused(config: &Config) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut range = |property, got, least, most| {
        if !(least..=most).contains(&got) {
            found.push((property, format!("got {got}, expected {least} to {most}")));
        }
    };
    range("Timeout", config.timeout.as_secs(), 1, 900);
    range("MemorySize", u64::from(config.memory_mb), 128, 10_240);
    let mut variables = |message: String| found.push(("Environment.Variables", message));
    for name in config.environment.keys() {
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
        if !first
            || name.len() < 2
            || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            variables(format!(
                "got the name {name:?}, expected a letter and then at least one letter, digit or `_`"
            ));
        }
        if environment::RESERVED.contains(&name.as_str()) {
            variables(format!("got {name}, which Lambda reserves for itself"));
        }
    }
    let sizes = config.environment.iter();
    let size: usize = sizes.map(|(name, value)| name.len() + value.len()).sum();
    if size > 4096 {
        variables(format!("got {size} bytes, at most 4096 are allowed"));
    }
    found
}
