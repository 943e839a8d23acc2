//! What a person sees while CloudFormation works: plain lines, a live block on a terminal, or JSON.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use indexmap::IndexMap;
use serde_json::json;

use crate::event::Event;
use crate::typical;

/// Lines of the live block at most: a taller one than the screen could not be drawn over.
const MOST_LINES: usize = 16;

/// How things are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// A line for each event.
    Plain,
    /// Finished resources as lines, the others in a block that is drawn again and again.
    Live,
    /// Everything as one JSON object a line, for machines.
    Json,
}

impl Voice {
    /// As the flag and standard output want it.
    pub(crate) fn new(json: bool) -> Voice {
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        match json {
            true => Voice::Json,
            false if std::io::stdout().is_terminal() && !is_dumb => Voice::Live,
            false => Voice::Plain,
        }
    }

    /// Says a line to a person.
    pub(crate) fn say(self, line: impl AsRef<str>) {
        if self != Voice::Json {
            println!("{}", line.as_ref());
        }
    }

    /// Tells a machine something.
    pub(crate) fn tell(self, value: &serde_json::Value) {
        if self == Voice::Json {
            println!("{value}");
        }
    }
}

/// A resource that is being worked on.
#[derive(Debug)]
struct Row {
    what: &'static str,
    r#type: String,
    began: f64,
    seen: Instant,
}

/// Follows one operation of one stack.
#[derive(Debug)]
pub(crate) struct Progress {
    voice: Voice,
    stack: String,
    /// When the operation's first event happened, in seconds since 1970.
    began: Option<f64>,
    open: IndexMap<String, Row>,
    /// Lines of the block that is on the screen.
    drawn: usize,
}

impl Progress {
    pub(crate) fn new(voice: Voice, stack: &str) -> Progress {
        Progress {
            voice,
            stack: stack.to_owned(),
            began: None,
            open: IndexMap::new(),
            drawn: 0,
        }
    }

    /// Takes what has happened.
    pub(crate) fn events(&mut self, events: &[Event]) {
        self.erase();
        for event in events {
            self.event(event);
        }
        self.draw();
    }

    /// Draws the block again: time has gone by.
    pub(crate) fn tick(&mut self) {
        self.erase();
        self.draw();
    }

    /// Leaves the screen to others.
    pub(crate) fn end(&mut self) {
        self.erase();
    }

    fn event(&mut self, event: &Event) {
        let began = *self.began.get_or_insert(event.at);
        let elapsed = (event.at - began).max(0.0);
        let Event {
            logical_id, status, ..
        } = event;
        self.voice.tell(&json!({
            "stack": self.stack, "resource": logical_id, "type": event.r#type, "status": status,
            "reason": event.reason, "physicalId": event.physical_id, "at": event.at,
        }));
        if event.is_stack {
            return;
        }
        let what = in_words(status);
        let took = self.open.get(logical_id).map(|row| event.at - row.began);
        if status.ends_with("_IN_PROGRESS") {
            if took.is_none() {
                self.open.insert(
                    logical_id.clone(),
                    Row {
                        what,
                        r#type: event.r#type.clone(),
                        began: event.at,
                        seen: Instant::now(),
                    },
                );
            } else {
                // A second event in progress only says that the resource has got its ID.
                return;
            }
            if self.voice == Voice::Live {
                return;
            }
        } else {
            self.open.shift_remove(logical_id);
        }
        let mut line = format!("{elapsed:6.0} s  {logical_id}: {what}");
        if let Some(took) = took.filter(|took| *took >= 1.0) {
            line.push_str(&format!(" in {took:.0} s"));
        }
        if let Some(reason) = event.reason.as_ref().filter(|_| event.is_failure()) {
            line.push_str(&format!(": {reason}"));
        }
        self.voice.say(line);
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            // Up so many lines, then clear to the end of the screen.
            print!("\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    fn draw(&mut self) {
        if self.voice != Voice::Live {
            return;
        }
        for (logical_id, row) in self.open.iter().take(MOST_LINES) {
            let usual = typical::in_words(typical::seconds(&row.r#type));
            println!(
                "          {logical_id}: {} … {} s (usually {usual})",
                row.what,
                row.seen.elapsed().as_secs()
            );
            self.drawn += 1;
        }
        if self.open.len() > MOST_LINES {
            println!("          … and {} more", self.open.len() - MOST_LINES);
            self.drawn += 1;
        }
        // Nothing is to be done about a screen that cannot be written.
        let _ = std::io::stdout().flush();
    }
}

/// A resource's status in words.
fn in_words(status: &str) -> &'static str {
    match status {
        "CREATE_IN_PROGRESS" => "is being created",
        "CREATE_COMPLETE" => "created",
        "CREATE_FAILED" => "could not be created",
        "UPDATE_IN_PROGRESS" => "is being updated",
        "UPDATE_COMPLETE" => "updated",
        "UPDATE_FAILED" => "could not be updated",
        "DELETE_IN_PROGRESS" => "is being deleted",
        "DELETE_COMPLETE" => "deleted",
        "DELETE_FAILED" => "could not be deleted",
        "DELETE_SKIPPED" => "kept",
        "ROLLBACK_IN_PROGRESS" | "UPDATE_ROLLBACK_IN_PROGRESS" => "is being taken back",
        "ROLLBACK_COMPLETE" | "UPDATE_ROLLBACK_COMPLETE" => "taken back",
        "ROLLBACK_FAILED" | "UPDATE_ROLLBACK_FAILED" => "could not be taken back",
        "IMPORT_IN_PROGRESS" => "is being imported",
        "IMPORT_COMPLETE" => "imported",
        "IMPORT_FAILED" => "could not be imported",
        _ => "changed its state",
    }
}
