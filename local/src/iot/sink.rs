//! Delivery streams and log groups as targets of a rule's action.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{Sink, SinkError};
use crate::firehose::{DeliveryStream, PutRecordError};
use crate::logs::{LogStream, Logs};

/// A delivery stream as the target of a rule's action.
#[derive(Debug)]
pub(super) struct Delivery(pub(super) DeliveryStream);

impl Sink for Delivery {
    fn name(&self) -> &str {
        &self.0.config().name
    }

    fn put(&self, mut records: Vec<Bytes>) -> BoxFuture<'_, Result<(), SinkError>> {
        let failed = |error: PutRecordError| SinkError {
            is_transient: error.is_transient(),
            message: error.to_string(),
        };
        Box::pin(async move {
            if records.len() > 1 {
                let results = self.0.put_record_batch(records).await.map_err(failed)?;
                return results
                    .into_iter()
                    .collect::<Result<(), _>>()
                    .map_err(failed);
            }
            match records.pop() {
                Some(record) => self.0.put_record(record).await.map_err(failed),
                // `BatchMode` with an empty array.
                None => Ok(()),
            }
        })
    }
}

/// A log group as the target of a rule's action: each rule writes its own stream.
#[derive(Debug)]
pub(super) struct LogGroup {
    name: String,
    stream: LogStream,
}

impl LogGroup {
    pub(super) fn new(logs: &Logs, name: &str, rule: &str) -> LogGroup {
        LogGroup {
            name: name.to_owned(),
            stream: logs.stream(name, rule),
        }
    }
}

impl Sink for LogGroup {
    fn name(&self) -> &str {
        &self.name
    }

    fn put(&self, records: Vec<Bytes>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            for record in records {
                // The rules engine has told the terminal already.
                self.stream.put_quietly(&String::from_utf8_lossy(&record));
            }
            Ok(())
        })
    }
}
