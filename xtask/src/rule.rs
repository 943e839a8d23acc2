//! `cargo xtask rule`: the output of a topic rule for a message, evaluated in this process.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use iot_sql::{Context, Message, Outcome, Rule, SqlVersion};

use crate::Exit;
use crate::output::written;

#[derive(Args)]
#[command(after_help = "Exit code: 0 the rule fires; 3 it does not; 1 an error; 2 a wrong flag")]
pub(crate) struct Arguments {
    /// Statement of the rule, e.g. "SELECT * FROM 'topic/sensors/+' WHERE temperature > 50"
    #[arg(long, value_name = "SQL")]
    sql: String,
    /// Topic that the message is published to
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// Payload of the message
    #[arg(
        long,
        value_name = "JSON",
        required_unless_present = "payload_file",
        allow_hyphen_values = true
    )]
    payload: Option<String>,
    /// File with the payload, taken byte for byte
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    payload_file: Option<PathBuf>,
    /// Client ID of the publisher, for `clientid()` [default: none, as for a message sent by HTTP]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Time of receipt, for `timestamp()` and the time functions, in milliseconds since the Unix epoch
    /// [default: now]
    #[arg(long, value_name = "MS")]
    timestamp: Option<u64>,
    /// Version of the SQL engine
    #[arg(long, value_name = "VERSION", default_value = "2016-03-23")]
    sql_version: String,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        sql,
        topic,
        payload,
        payload_file,
        client_id,
        timestamp,
        sql_version,
    } = arguments;
    let version: SqlVersion = sql_version.parse().context("--sql-version")?;
    let payload = match (payload, payload_file) {
        (Some(payload), _) => payload.into_bytes(),
        (None, Some(file)) => {
            fs::read(&file).with_context(|| format!("--payload-file: read {}", file.display()))?
        }
        (None, None) => bail!("expected --payload or --payload-file"),
    };
    if let Some(wildcard) = topic.chars().find(|c| matches!(c, '+' | '#')) {
        bail!("--topic: got `{wildcard}` in `{topic}`, expected the topic of one message");
    }
    let rule = Rule::compile(&sql, version).context("--sql")?;
    if let Some(filter) = rule.topic_filter()
        && !rule.takes(&topic)
    {
        eprintln!(
            "the rule does not fire: its FROM '{}' does not match {topic}",
            filter.as_str()
        );
        return Ok(Exit::Attention);
    }
    let timestamp_ms = match timestamp {
        Some(given) => given,
        None => u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?,
    };
    let message = Message {
        topic: &topic,
        payload: &payload,
        timestamp_ms,
        client_id: client_id.as_deref(),
        ..Message::default()
    };
    match rule.evaluate(&message, &Here) {
        Outcome::Fired(output) => {
            written(print(output.bytes())).context("write the result")?;
            Ok(Exit::Done)
        }
        Outcome::NotFired => {
            eprintln!("the rule does not fire: its WHERE is not true for this message");
            Ok(Exit::Attention)
        }
        Outcome::Failed(error) => Err(error.into()),
    }
}

/// Prints the output: text with a line end, anything else byte for byte.
fn print(bytes: &[u8]) -> std::io::Result<()> {
    let mut output = stdout().lock();
    output.write_all(bytes)?;
    if std::str::from_utf8(bytes).is_ok() {
        output.write_all(b"\n")?;
    }
    output.flush()
}

/// Context of a statement: random numbers, UUIDs and the account.
struct Here;

impl Context for Here {
    fn random(&self) -> f64 {
        (bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn new_uuid(&self) -> String {
        let (high, low) = (bits(), bits());
        // Version 4, variant 1 of RFC 9562.
        let high = (high & !0xf000) | 0x4000;
        let low = (low & !(0b11 << 62)) | (0b10 << 62);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    fn account_id(&self) -> &str {
        // The account of AWS's own examples.
        "123456789012"
    }
}

/// 64 random bits: the standard library seeds every hasher differently.
fn bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_uuid_is_of_version_4_and_never_the_same() {
        let uuid = Here.new_uuid();
        let parts: Vec<_> = uuid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{uuid}");
        assert_eq!(&uuid[14..15], "4", "{uuid}");
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
        assert_ne!(uuid, Here.new_uuid());
    }

    #[test]
    fn random_stays_below_one() {
        assert!((0..100).all(|_| (0.0..1.0).contains(&Here.random())));
    }
}
