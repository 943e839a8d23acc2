//! What somebody has switched off by a call of its own, beside CloudFormation: topic rules, event
//! source mappings, and functions' connections to their network.
//!
//! It stays so over updates of the stack that do not touch the setting, as on AWS, and over restarts of
//! the cloud; it ends with the resource.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::account::Resource;

/// All that is off; shared by `Arc`.
#[derive(Debug)]
pub struct Switches {
    file: PathBuf,
    off: Mutex<BTreeSet<(String, String)>>,
}

impl Switches {
    /// Reads what an earlier run has left in the file.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn open(file: PathBuf) -> io::Result<Arc<Switches>> {
        let off = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: {error}", file.display()),
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        Ok(Arc::new(Switches {
            file,
            off: Mutex::new(off),
        }))
    }

    /// Whether a resource is switched off, by its type and physical ID.
    pub fn is_off(&self, r#type: &str, id: &str) -> bool {
        let off = self.off.lock().unwrap_or_else(PoisonError::into_inner);
        off.contains(&(r#type.to_owned(), id.to_owned()))
    }

    /// Switches a resource on or off.
    pub fn set(&self, r#type: &str, id: &str, is_off: bool) {
        let mut off = self.off.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (r#type.to_owned(), id.to_owned());
        let changed = if is_off {
            off.insert(key)
        } else {
            off.remove(&key)
        };
        if changed && let Err(error) = self.write(&off) {
            tracing::error!(
                "cannot write {}: {error}; after a restart of the cloud what is switched off now may be on again",
                self.file.display()
            );
        }
    }

    /// A resource is gone, and what was said of it.
    pub fn forget(&self, resource: &Resource) {
        self.set(&resource.r#type, &resource.physical_id, false);
    }

    fn write(&self, off: &BTreeSet<(String, String)>) -> io::Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, serde_json::to_vec(off)?)?;
        fs::rename(new, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_stays_off_over_a_restart() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("switches.json");
        let switches = Switches::open(file.clone())?;
        switches.set("AWS::IoT::TopicRule", "a", true);
        switches.set("AWS::IoT::TopicRule", "b", true);
        switches.set("AWS::IoT::TopicRule", "b", false);
        drop(switches);
        let switches = Switches::open(file)?;
        assert!(switches.is_off("AWS::IoT::TopicRule", "a"));
        assert!(!switches.is_off("AWS::IoT::TopicRule", "b"));
        Ok(())
    }
}
