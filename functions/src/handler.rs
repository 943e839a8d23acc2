//! One invocation: counts a batch and returns the sequence numbers to retry.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lambda_events::event::streams::KinesisEventResponse;
use lambda_runtime::{Context, LambdaEvent};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{Level, enabled, error, warn};

use crate::batch::Batch;
use crate::cache::{Cache, patience};
use crate::event::Event;
use crate::log;
use crate::metrics::{self, Outcome};
use crate::record::Record;
use crate::script::Counted;

/// The function and its state between invocations.
#[derive(Debug)]
pub struct Function {
    cache: Mutex<Cache>,
    write: fn(&str),
}

impl Function {
    /// Creates the function. It connects with the first batch; `write` gets the log lines of each batch, see
    /// [`log::batch`] and [`metrics::line`].
    pub fn new(cache: Cache, write: fn(&str)) -> Self {
        Self {
            cache: Mutex::new(cache),
            write,
        }
    }

    /// Counts a batch.
    ///
    /// The response has the rejected records. Lambda retries from the lowest of them: the record is rejected
    /// again and the records behind it are duplicates, until the mapping's retries are used up and the
    /// batch goes to the failure bucket.
    /// If the cache is unavailable, the response has the first record only, so that Lambda retries the whole
    /// batch. It would retry after an error, too, but split the batch in two.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html>
    ///
    /// # Errors
    /// None: a body that is not a Kinesis event fails in the Lambda runtime.
    pub async fn handle(
        &self,
        event: LambdaEvent<Event>,
    ) -> Result<KinesisEventResponse, Infallible> {
        let LambdaEvent {
            payload: Event { started, records },
            context,
            ..
        } = event;
        let batch = Batch::new(&records);
        for (record, rejection) in &batch.rejected {
            warn!(
                device = record.device(),
                sequence_number = record.sequence_number,
                reason = %rejection,
                request_id = context.request_id,
                "record rejected",
            );
        }
        let mut response = KinesisEventResponse::default();
        let mut outcome = Outcome {
            records: records.len() as u64,
            rejected: batch.rejected.len() as u64,
            ..Outcome::default()
        };
        let counted = if batch.groups.is_empty() {
            Ok(Counted::default())
        } else {
            let deadline = Instant::now() + patience(remaining(&context));
            self.cache.lock().await.count(&batch.groups, deadline).await
        };
        let retry = |record: &Record<'_>| record.sequence_number.to_owned();
        match counted {
            Ok(counted) => {
                outcome.new = counted.new;
                outcome.duplicates = counted.duplicates + batch.repeated as u64;
                outcome.devices = counted.devices;
                outcome.evicted = counted.evicted;
                response.set_failures(batch.rejected.iter().map(|(record, _)| retry(record)));
            }
            Err(unavailable) => {
                error!(error = %unavailable, request_id = context.request_id, "batch returned for a retry");
                outcome.cache_unavailable = true;
                response.set_failures(records.iter().next().as_ref().map(retry));
            }
        }
        outcome.milliseconds = started.elapsed().as_micros() as f64 / 1000.0;
        self.report(&outcome, response.batch_item_failures.len(), &context);
        Ok(response)
    }

    /// Writes one log line and one line of metrics, in one call.
    fn report(&self, outcome: &Outcome, failed: usize, context: &Context) {
        let mut lines = String::new();
        if enabled!(Level::INFO) {
            lines = log::batch(outcome, failed, &context.request_id);
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis() as u64;
        let function = &context.env_config.function_name;
        lines += &metrics::line(outcome, function, &context.request_id, now);
        (self.write)(&lines);
    }
}

/// Time until Lambda ends the invocation.
fn remaining(context: &Context) -> Duration {
    let deadline = UNIX_EPOCH + Duration::from_millis(context.deadline);
    deadline
        .duration_since(SystemTime::now())
        .unwrap_or_default()
}
