//! All stacks, in memory and in the data folder.
//!
//! A stack's folder holds `stack.json`, replaced as a whole after each change, and `events.jsonl`, to
//! which events are added before. Killed in between, the state says how many of the events count.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::Context;
use tokio::sync::Notify;

use super::stack::{Event, Stack};

/// One stack, shared by calls and by the operation on it.
#[derive(Debug)]
pub(super) struct StackCell {
    pub(super) id: String,
    pub(super) region: String,
    folder: PathBuf,
    stack: Mutex<Stack>,
    is_unwritten: AtomicBool,
    /// Says that something about the operation has changed from outside, such as a cancellation.
    pub(super) nudged: Notify,
}

impl StackCell {
    /// The stack, to read.
    pub(super) fn read(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the stack, and writes what it has become.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Stack) -> T) -> T {
        let mut stack = self.read();
        let result = change(&mut stack);
        self.write(&mut stack);
        result
    }

    /// Changes the stack as a step of the operation on it; it is written a moment later. A run that
    /// is killed before that does the step again; what outlives a kill must be written before it is
    /// made, by [`change`](Self::change).
    pub(super) fn step<T>(&self, change: impl FnOnce(&mut Stack) -> T) -> T {
        let mut stack = self.read();
        let result = change(&mut stack);
        self.is_unwritten.store(true, Ordering::Release);
        result
    }

    fn write(&self, stack: &mut Stack) {
        self.is_unwritten.store(false, Ordering::Release);
        if let Err(error) = write(&self.folder, stack) {
            // The stack goes on in memory: a full disk is no reason to leave it half made.
            tracing::error!("cannot keep the stack {}: {error:#}", stack.name);
        }
    }
}

/// All stacks.
#[derive(Debug)]
pub(super) struct Stacks {
    folder: PathBuf,
    cells: RwLock<Vec<Arc<StackCell>>>,
}

impl Stacks {
    /// Reads the stacks of an earlier run.
    pub(super) fn open(folder: PathBuf) -> anyhow::Result<Stacks> {
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let entries =
            fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
        let mut stacks = Vec::new();
        for entry in entries {
            let path = entry.context("read the folder of stacks")?.path();
            if let Some(stack) =
                read(&path).with_context(|| format!("read the stack in {}", path.display()))?
            {
                stacks.push((path, stack));
            }
        }
        stacks.sort_by_key(|(_, stack)| stack.created_at);
        let cells = stacks.into_iter().map(|(path, stack)| cell(path, stack));
        Ok(Stacks {
            folder,
            cells: RwLock::new(cells.collect()),
        })
    }

    /// Adds a stack.
    pub(super) fn add(&self, stack: Stack) -> Arc<StackCell> {
        let cell = cell(self.folder.join(stack.uuid()), stack);
        cell.change(|_| ());
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        cells.push(Arc::clone(&cell));
        cell
    }

    /// Writes what steps have changed.
    pub(super) fn write(&self) {
        for cell in self.all() {
            if cell.is_unwritten.load(Ordering::Acquire) {
                cell.write(&mut cell.read());
            }
        }
    }

    /// All stacks, the oldest first.
    pub(super) fn all(&self) -> Vec<Arc<StackCell>> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.clone()
    }

    /// A stack of a region by its ID, or one that is not deleted by its name.
    pub(super) fn find(&self, region: &str, name_or_id: &str) -> Option<Arc<StackCell>> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let mut of_region = cells.iter().rev().filter(|it| it.region == region);
        if name_or_id.starts_with("arn:") {
            return of_region.find(|it| it.id == name_or_id).cloned();
        }
        of_region
            .find(|it| {
                let stack = it.read();
                stack.name == name_or_id && !stack.is_deleted()
            })
            .cloned()
    }
}

fn cell(folder: PathBuf, stack: Stack) -> Arc<StackCell> {
    Arc::new(StackCell {
        id: stack.id.clone(),
        region: stack.region.clone(),
        folder,
        stack: Mutex::new(stack),
        is_unwritten: AtomicBool::new(false),
        nudged: Notify::new(),
    })
}

fn write(folder: &Path, stack: &mut Stack) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let new = stack.events.get(stack.event_count..).unwrap_or_default();
    if !new.is_empty() {
        let mut lines = Vec::new();
        for event in new {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        let path = folder.join("events.jsonl");
        let mut file = File::options().create(true).append(true).open(path)?;
        file.write_all(&lines)?;
        stack.event_count = stack.events.len();
    }
    let path = folder.join("stack.json");
    let new = folder.join("stack.json.new");
    fs::write(&new, serde_json::to_vec(stack)?)?;
    fs::rename(new, path)?;
    Ok(())
}

fn read(folder: &Path) -> anyhow::Result<Option<Stack>> {
    let text = match fs::read(folder.join("stack.json")) {
        // A run was killed before it had made anything.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let mut stack: Stack = serde_json::from_slice(&text)?;
    let path = folder.join("events.jsonl");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let mut kept = 0;
    for line in text.lines().take(stack.event_count) {
        stack.events.push(serde_json::from_str::<Event>(line)?);
        kept += line.len() + 1;
    }
    if kept < text.len() {
        File::options()
            .write(true)
            .open(&path)?
            .set_len(kept as u64)?;
    }
    Ok(Some(stack))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_state_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let stacks = Stacks::open(folder.path().to_owned()).unwrap();
        let cell = stacks.add(Stack::new("000000000000", "eu-west-1", "s"));
        cell.change(|stack| stack.set_status("CREATE_IN_PROGRESS", Some("User Initiated")));
        let events = cell.folder.join("events.jsonl");
        let text = fs::read_to_string(&events).unwrap();
        // Another event was written, but the state was not.
        fs::write(&events, format!("{text}{text}")).unwrap();
        let again = Stacks::open(folder.path().to_owned()).unwrap();
        let again = again.find("eu-west-1", "s").unwrap();
        assert_eq!(again.read().events, cell.read().events);
        assert_eq!(fs::read_to_string(&events).unwrap(), text);
    }

    #[test]
    fn deleted_stack_is_found_by_its_id_only() {
        let folder = tempfile::tempdir().unwrap();
        let stacks = Stacks::open(folder.path().to_owned()).unwrap();
        let cell = stacks.add(Stack::new("000000000000", "eu-west-1", "s"));
        assert!(stacks.find("eu-west-1", "s").is_some());
        assert!(stacks.find("eu-west-2", "s").is_none());
        cell.change(|stack| stack.set_status("DELETE_COMPLETE", None));
        assert!(stacks.find("eu-west-1", "s").is_none());
        assert!(stacks.find("eu-west-1", &cell.id).is_some());
    }
}
