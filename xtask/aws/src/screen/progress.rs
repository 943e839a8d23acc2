//! Output of a running operation: plain lines, a live block on a terminal, or JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use console::Term;
use indexmap::IndexMap;
use serde_json::json;

use crate::screen::block::{self, Block};
use crate::screen::forecast::{Forecast, Rest};
use crate::stack::event::Event;

/// Rows and columns of a screen whose size is unknown.
const USUAL_SCREEN: (u16, u16) = (24, 80);

/// Maximum rows of the live block.
const MOST_ROWS: usize = 20;

/// Lines of the block on the screen. There is one screen: the block is removed before other output is
/// written.
static DRAWN: Mutex<usize> = Mutex::new(0);

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// One line for each event.
    Plain,
    /// Finished resources as lines, the others in a block that is redrawn.
    Live,
    /// One JSON object a line.
    Json,
}

impl Output {
    /// The form for the flag and for standard output.
    pub(crate) fn new(json: bool) -> Output {
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        match json {
            true => Output::Json,
            false if std::io::stdout().is_terminal() && !is_dumb => Output::Live,
            false => Output::Plain,
        }
    }

    /// Prints a line, unless the output is JSON.
    pub(crate) fn say(self, line: impl AsRef<str>) {
        if self != Output::Json {
            redraw(&format!("{}\n", line.as_ref()), 0);
        }
    }

    /// Prints a warning, in red where there are colours.
    pub(crate) fn warn(self, line: impl AsRef<str>) {
        self.say(self.painted("31", line.as_ref()));
    }

    /// The text in a colour, on a terminal without `NO_COLOR` (<https://no-color.org>).
    fn painted(self, code: &str, text: &str) -> String {
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match self == Output::Live && is_wanted {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Prints a JSON object, if the output is JSON.
    pub(crate) fn tell(self, value: &serde_json::Value) {
        if self == Output::Json {
            println!("{value}");
        }
    }
}

/// Replaces the block on the screen by `text`, whose last `lines` lines are the next block.
fn redraw(text: &str, lines: usize) {
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = String::new();
    if *drawn > 0 {
        // Move up, then clear to the end of the screen.
        out.push_str(&format!("\x1b[{drawn}A\x1b[J"));
    }
    out.push_str(text);
    *drawn = lines;
    let mut stdout = std::io::stdout().lock();
    // An output that cannot be written has no other place to report that.
    let _ = stdout.write_all(out.as_bytes());
    let _ = stdout.flush();
}

/// A resource under way.
#[derive(Debug)]
struct Row {
    what: &'static str,
    began: f64,
    seen: Instant,
}

/// Progress of one operation of one stack.
#[derive(Debug)]
pub(crate) struct Progress {
    output: Output,
    stack: String,
    forecast: Option<Forecast>,
    /// Time of the operation's first event, in seconds since the Unix epoch.
    began: Option<f64>,
    started: Instant,
    open: IndexMap<String, Row>,
    done: BTreeSet<String>,
    goes_back: bool,
}

impl Progress {
    pub(crate) fn new(output: Output, stack: &str, forecast: Option<Forecast>) -> Progress {
        Progress {
            output,
            stack: stack.to_owned(),
            forecast,
            began: None,
            started: Instant::now(),
            open: IndexMap::new(),
            done: BTreeSet::new(),
            goes_back: false,
        }
    }

    /// Adds new events.
    pub(crate) fn events(&mut self, events: &[Event]) {
        for event in events {
            self.event(event);
        }
        self.draw();
    }

    /// Redraws the block with the current times.
    pub(crate) fn tick(&mut self) {
        self.draw();
    }

    /// Removes the block from the screen.
    pub(crate) fn end(&mut self) {
        if self.output == Output::Live {
            redraw("", 0);
        }
    }

    fn event(&mut self, event: &Event) {
        let began = *self.began.get_or_insert(event.at);
        let elapsed = (event.at - began).max(0.0);
        let Event {
            logical_id, status, ..
        } = event;
        self.output.tell(&json!({
            "stack": self.stack, "resource": logical_id, "type": event.r#type, "status": status,
            "reason": event.reason, "physicalId": event.physical_id, "at": event.at,
        }));
        // A failed deletion stops where it is; any other failure rolls back.
        self.goes_back |=
            status.contains("ROLLBACK") || status == "CREATE_FAILED" || status == "UPDATE_FAILED";
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
                        began: event.at,
                        seen: Instant::now(),
                    },
                );
            } else {
                // A second event in progress only adds the physical ID.
                return;
            }
            if self.output == Output::Live {
                return;
            }
        } else {
            self.open.shift_remove(logical_id);
            self.done.insert(logical_id.clone());
        }
        let mut line = format!("{elapsed:6.0} s  {logical_id}: {what}");
        if let Some(took) = took.filter(|took| *took >= 1.0) {
            line.push_str(&format!(" in {took:.0} s"));
        }
        if let Some(reason) = event.reason.as_ref().filter(|_| event.is_failure()) {
            line.push_str(&format!(": {reason}"));
        }
        match event.is_failure() {
            true => self.output.warn(line),
            false => self.output.say(line),
        }
    }

    fn draw(&self) {
        if self.output != Output::Live {
            return;
        }
        let seconds = |since: Instant| u32::try_from(since.elapsed().as_secs()).unwrap_or(u32::MAX);
        let open = self.open.iter();
        let open: BTreeMap<&str, u32> = open
            .map(|(id, row)| (id.as_str(), seconds(row.seen)))
            .collect();
        let forecast = self.forecast.as_ref().filter(|_| !self.goes_back);
        let rest = forecast.map_or_else(Rest::default, |it| it.rest(&self.done, &open));
        let rows = self.open.iter().map(|(id, row)| block::Row {
            id,
            what: row.what,
            elapsed: open[id.as_str()],
            usually: forecast.and_then(|it| it.usually(id)),
        });
        let block = Block {
            elapsed: seconds(self.started),
            done: forecast.map_or(self.done.len(), |it| it.done(&self.done)),
            of: forecast.map(Forecast::len),
            left: forecast.map(|_| rest.seconds),
            goes_back: self.goes_back,
            rows: rows.collect(),
            chain: &rest.chain,
        };
        let (height, width) = Term::stdout().size_checked().unwrap_or(USUAL_SCREEN);
        let lines = block.lines(width.into(), usize::from(height).min(MOST_ROWS));
        let mut text = String::new();
        for line in &lines {
            match line.decides {
                true => text.push_str(&self.output.painted("1", &line.text)),
                false => text.push_str(&line.text),
            }
            text.push('\n');
        }
        redraw(&text, lines.len());
    }
}

/// Words for a resource's status.
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
