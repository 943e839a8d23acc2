//! What Lambda itself writes into a function's log, in both formats.
//! ("Configuring advanced logging controls", system logs; "Report log".)

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Config, FunctionError, LogFormat};
use crate::logs::LogStream;

/// How a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Success,
    Error,
    Timeout,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Success => "success",
            Status::Error => "error",
            Status::Timeout => "timeout",
        }
    }
}

#[derive(Debug)]
pub(super) struct Reporter {
    format: LogFormat,
    memory_mb: u32,
    stream: LogStream,
}

impl Reporter {
    pub(super) fn new(config: &Config, stream: LogStream) -> Reporter {
        Reporter {
            format: config.log_format,
            memory_mb: config.memory_mb,
            stream,
        }
    }

    pub(super) fn init_start(&self) {
        self.write("INIT_START Runtime Version: provided:al2023", "platform.initStart", || {
            json!({ "initializationType": "on-demand", "phase": "init", "runtimeVersion": "provided:al2023" })
        });
    }

    pub(super) fn init_failed(
        &self,
        took: Duration,
        status: Status,
        error: &FunctionError,
        request_id: Option<&str>,
    ) {
        let phase = if request_id.is_some() {
            "invoke"
        } else {
            "init"
        };
        let text = format!(
            "INIT_REPORT Init Duration: {:.2} ms\tPhase: {phase}\tStatus: {}\tError Type: {}",
            milliseconds(took),
            status.name(),
            error.error_type
        );
        self.write(&text, "platform.initReport", || {
            json!({
                "initializationType": "on-demand",
                "phase": phase,
                "status": status.name(),
                "errorType": error.error_type,
                "metrics": { "durationMs": milliseconds(took) },
            })
        });
        self.stream.put(&format!("{error}"));
    }

    pub(super) fn start(&self, request_id: &str) {
        self.write(
            &format!("START RequestId: {request_id} Version: $LATEST"),
            "platform.start",
            || json!({ "requestId": request_id, "version": "$LATEST" }),
        );
    }

    /// Everything at the end of an invocation. A failure is for people to see, a success is not.
    pub(super) fn end(
        &self,
        request_id: &str,
        took: Duration,
        init: Option<Duration>,
        memory_used_mb: Option<u64>,
        status: Status,
        error: Option<&FunctionError>,
    ) {
        if self.format == LogFormat::Text {
            if let Some(error) = error {
                match status {
                    Status::Timeout => self.stream.put(&format!(
                        "{} {}",
                        Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
                        error.message
                    )),
                    _ => self.stream.put(&format!("{error}")),
                }
            }
            self.stream
                .put_quietly(&format!("END RequestId: {request_id}"));
        } else if let Some(error) = error {
            tracing::warn!(target: "logs", "{error}");
        }
        let used = memory_used_mb.unwrap_or_default();
        let billed = (took + init.unwrap_or_default()).as_micros().div_ceil(1000);
        let mut text = format!(
            "REPORT RequestId: {request_id}\tDuration: {:.2} ms\tBilled Duration: {billed} ms\tMemory Size: {} MB\tMax Memory Used: {used} MB\t",
            milliseconds(took),
            self.memory_mb,
        );
        if let Some(init) = init {
            text.push_str(&format!("Init Duration: {:.2} ms\t", milliseconds(init)));
        }
        if let Some(error) = error {
            text.push_str(&format!(
                "Status: {}\tError Type: {}",
                status.name(),
                error.error_type
            ));
        }
        self.write(&text, "platform.report", || {
            let mut metrics = json!({
                "durationMs": milliseconds(took),
                "billedDurationMs": u64::try_from(billed).unwrap_or(u64::MAX),
                "memorySizeMB": self.memory_mb,
                "maxMemoryUsedMB": used,
            });
            if let Some(init) = init {
                metrics["initDurationMs"] = json!(milliseconds(init));
            }
            let mut record =
                json!({ "requestId": request_id, "metrics": metrics, "status": status.name() });
            if let Some(error) = error {
                record["errorType"] = json!(error.error_type);
            }
            record
        });
    }

    fn write(&self, text: &str, r#type: &str, record: impl FnOnce() -> Value) {
        match self.format {
            LogFormat::Text => self.stream.put_quietly(text),
            LogFormat::Json => {
                let time = Timestamp::now()
                    .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
                    .to_string();
                let event = json!({ "time": time, "type": r#type, "record": record() });
                self.stream.put_quietly(&event.to_string());
            }
        }
    }
}

/// With microseconds, as in AWS's own reports.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}
