//! What a run tells whoever started it, on stdout: lines for people, or one JSON object per line.
//!
//! Everything else goes to stderr as a log.

use std::io::{self, Write};
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::Serialize;

use crate::terminal::above_the_line;

/// Something worth telling.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A resource of the template that does nothing here.
    NotEmulated {
        /// Its logical ID.
        logical_id: String,
        /// Its type, or the setting of it.
        what: String,
    },
    /// A connection that the template's security groups, subnets or routes do not allow.
    Unreachable {
        /// Logical ID of who connects.
        from: String,
        /// Logical ID of to whom.
        to: String,
        /// What cuts them off.
        reason: String,
    },
    /// Something runs.
    Started {
        /// Its logical ID.
        logical_id: String,
        /// Where and what.
        what: String,
    },
    /// All of it runs.
    Ready {
        /// Address of the broker.
        mqtt: String,
        /// Address of the dashboard, if the template has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        dashboard: Option<String>,
        /// Address of the control port, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        control: Option<String>,
        /// Folder of the run's data.
        data: PathBuf,
        /// URL of the cache for tools, if the template has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        redis: Option<String>,
    },
    /// The end has begun.
    Stopping,
    /// The end.
    Stopped {
        /// The run's counters.
        summary: String,
    },
}

/// Writes events to stdout.
#[derive(Clone, Copy, Debug)]
pub struct Reporter {
    json: bool,
}

impl Reporter {
    /// A reporter for machines (`json`) or people.
    pub fn new(json: bool) -> Reporter {
        Reporter { json }
    }

    /// Tells what of the template does nothing here, by logical ID and what it is.
    /// People get a line for each kind of it, machines an event for each.
    pub fn not_emulated<'a>(&self, resources: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut by_what: IndexMap<&str, Vec<&str>> = IndexMap::new();
        for (logical_id, what) in resources {
            by_what.entry(what).or_default().push(logical_id);
        }
        for (what, logical_ids) in by_what {
            let what = what.to_owned();
            if self.json {
                for logical_id in logical_ids {
                    let (logical_id, what) = (logical_id.to_owned(), what.clone());
                    self.tell(&Event::NotEmulated { logical_id, what });
                }
            } else {
                let logical_id = logical_ids.join(", ");
                self.tell(&Event::NotEmulated { logical_id, what });
            }
        }
    }

    /// Tells. Nobody reading any more is no reason to stop.
    pub fn tell(&self, event: &Event) {
        let text = if self.json {
            serde_json::to_string(event).unwrap_or_default()
        } else {
            text(event)
        };
        if !text.is_empty() {
            print_line(&text);
        }
    }
}

/// Writes a line to stdout as it is. That its reader is gone is not an error.
pub fn print_line(text: &str) {
    above_the_line(|| {
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    });
}

fn text(event: &Event) -> String {
    match event {
        Event::NotEmulated { logical_id, what } => format!("not emulated: {what}: {logical_id}"),
        Event::Unreachable { from, to, reason } => {
            format!("UNREACHABLE: {from} cannot reach {to}: {reason}")
        }
        Event::Started { logical_id, what } => format!("{logical_id}: {what}"),
        Event::Ready {
            mqtt,
            dashboard,
            control,
            data,
            redis,
        } => {
            let mut lines = vec![String::new(), format!("MQTT       {mqtt}")];
            lines.extend(dashboard.as_ref().map(|url| format!("Dashboard  {url}")));
            lines.extend(control.as_ref().map(|url| format!("Control    {url}")));
            lines.extend(redis.as_ref().map(|url| format!("Cache      {url}")));
            lines.push(format!("Data       {}", data.display()));
            lines.push(String::new());
            lines.push(format!("Try        {}", publish_line(mqtt)));
            lines.push("Stop with Ctrl-C".to_owned());
            lines.join("\n")
        }
        Event::Stopping => "stopping; Ctrl-C again kills at once".to_owned(),
        Event::Stopped { summary } => format!("stopped: {summary}"),
    }
}

/// The command that sends one message to this broker.
fn publish_line(mqtt: &str) -> String {
    let local = if mqtt == "127.0.0.1:1883" {
        String::new()
    } else {
        format!("--local {mqtt} ")
    };
    format!(
        r#"cargo xtask publish {local}--topic {} '{{"temperature": 21.5}}'"#,
        contract::topic::of_device("kitchen")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_for_machines_name_themselves() {
        let ready = Event::Ready {
            mqtt: "127.0.0.1:41234".to_owned(),
            dashboard: Some("http://127.0.0.1:8080/".to_owned()),
            control: None,
            data: "target/local".into(),
            redis: None,
        };
        assert_eq!(
            serde_json::to_value(&ready).unwrap(),
            serde_json::json!({
                "event": "ready",
                "mqtt": "127.0.0.1:41234",
                "dashboard": "http://127.0.0.1:8080/",
                "data": "target/local",
            })
        );
        assert!(text(&ready).contains("cargo xtask publish --local 127.0.0.1:41234 --topic"));
    }
}
