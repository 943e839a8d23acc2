//! Kinesis events as Lambda writes them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const STREAM: &str = "arn:aws:kinesis:eu-central-1:123456789012:stream/sensors";

/// Creates events with new records.
#[derive(Default)]
pub(crate) struct Events {
    records: u64,
}

impl Events {
    /// An event of `records` records of `devices` devices in turn, with payloads of about 60 bytes.
    pub(crate) fn next(&mut self, records: u64, devices: u64) -> String {
        let mut text = String::from(r#"{"Records":["#);
        for _ in 0..records {
            self.records += 1;
            let n = self.records;
            if !text.ends_with('[') {
                text.push(',');
            }
            let payload = format!(
                r#"{{"temperature":{}.{:02},"humidity":{}.5,"battery":3.{:02},"n":{n}}}"#,
                15 + n % 12,
                n % 100,
                40 + n % 30,
                50 + n % 50,
            );
            // 56 digits, as Kinesis makes them.
            let sequence = format!("495903382714902566085596925383615710{n:020}");
            write!(
                text,
                concat!(
                    r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","#,
                    r#""partitionKey":"topic/sensors/device-{device:05}","#,
                    r#""sequenceNumber":"{sequence}","data":"{data}","#,
                    r#""approximateArrivalTimestamp":{seconds}.{milliseconds:03}}},"#,
                    r#""eventSource":"aws:kinesis","eventVersion":"1.0","#,
                    r#""eventID":"shardId-000000000000:{sequence}","#,
                    r#""eventName":"aws:kinesis:record","#,
                    r#""invokeIdentityArn":"arn:aws:iam::123456789012:role/sensors-function","#,
                    r#""awsRegion":"eu-central-1","eventSourceARN":"{stream}"}}"#,
                ),
                device = n % devices,
                sequence = sequence,
                data = STANDARD.encode(payload),
                seconds = 1_732_330_000 + n / 1000,
                milliseconds = n % 1000,
                stream = STREAM,
            )
            .expect("writing to memory");
        }
        text + "]}"
    }
}
