//! Cache of zips: compressing two programs takes longer than everything else in a deployment without
//! changes.
//!
//! A zip is keyed by its inputs and used only if its bytes still have the recorded hash. The folder may be
//! deleted at any time; the next deployment then compresses again.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::artifact::hash;

/// Zips of each kind that are kept: enough for a few stages and the previous version of each.
const KEPT: usize = 4;

/// The cache's folder.
#[derive(Clone, Debug)]
pub(crate) struct Zips {
    folder: Option<PathBuf>,
}

/// File name of a zip: hash of its inputs and hash of its bytes.
struct Name {
    kind: &'static str,
    inputs: String,
}

impl Name {
    fn prefix(&self) -> String {
        format!("{}-{}-", self.kind, self.inputs)
    }
}

impl Zips {
    /// A cache in `folder`; without one, every zip is compressed again.
    pub(crate) fn new(folder: Option<PathBuf>) -> Zips {
        Zips { folder }
    }

    /// The zip that `make` makes of `program`, from the cache or new; with its hash.
    pub(crate) fn zip(
        &self,
        kind: &'static str,
        program: &[u8],
        make: impl Fn(&[u8]) -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<(Vec<u8>, String)> {
        // The zip of an empty program represents the other inputs: files, modes, settings.
        let rest = make(&[])?;
        let name = Name {
            kind,
            inputs: hash(format!("{} {}", hash(&rest), hash(program)).as_bytes()),
        };
        if let Some(found) = self.find(&name) {
            return Ok(found);
        }
        let zip = make(program)?;
        let hash = hash(&zip);
        // A zip that cannot be stored is compressed again next time.
        let _ = self.keep(&name, &hash, &zip);
        Ok((zip, hash))
    }

    fn find(&self, name: &Name) -> Option<(Vec<u8>, String)> {
        let folder = self.folder.as_ref()?;
        let prefix = name.prefix();
        fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let expected = file.strip_prefix(&prefix)?.strip_suffix(".zip")?;
            let zip = fs::read(entry.path()).ok()?;
            let got = hash(&zip);
            (got == expected).then_some((zip, got))
        })
    }

    fn keep(&self, name: &Name, hash: &str, zip: &[u8]) -> std::io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        fs::create_dir_all(folder)?;
        // Concurrent deployments write the same bytes: each to its own file, which is then renamed.
        let unfinished = folder.join(format!("{}{}.part", name.prefix(), std::process::id()));
        fs::write(&unfinished, zip)?;
        fs::rename(
            &unfinished,
            folder.join(format!("{}{hash}.zip", name.prefix())),
        )?;
        let mut same: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)?
            .flatten()
            .filter(|entry| {
                let file = entry.file_name();
                file.to_string_lossy()
                    .starts_with(&format!("{}-", name.kind))
            })
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        same.sort();
        for (_, old) in same.iter().rev().skip(KEPT) {
            fs::remove_file(old)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    type Anything = Box<dyn std::error::Error>;

    /// Counts how often a real program is compressed.
    fn made<'a>(
        count: &'a Cell<usize>,
        mark: &'a str,
    ) -> impl Fn(&[u8]) -> anyhow::Result<Vec<u8>> + 'a {
        move |program| {
            count.set(count.get() + usize::from(!program.is_empty()));
            Ok([mark.as_bytes(), program].concat())
        }
    }

    #[test]
    fn zip_is_made_once_for_the_same_program_and_files() -> Result<(), Anything> {
        let folder = tempfile::tempdir()?;
        let zips = Zips::new(Some(folder.path().join("zips")));
        let count = Cell::new(0);
        let first = zips.zip("webui", b"program", made(&count, "a"))?;
        assert_eq!(first, zips.zip("webui", b"program", made(&count, "a"))?);
        assert_eq!(count.get(), 1);
        // Another program, other files beside it, and another kind are other zips.
        zips.zip("webui", b"other", made(&count, "a"))?;
        zips.zip("webui", b"program", made(&count, "b"))?;
        zips.zip("function", b"program", made(&count, "a"))?;
        assert_eq!(count.get(), 4);
        Ok(())
    }

    #[test]
    fn damaged_zip_is_made_again() -> Result<(), Anything> {
        let folder = tempfile::tempdir()?;
        let zips = Zips::new(Some(folder.path().to_owned()));
        let count = Cell::new(0);
        let first = zips.zip("webui", b"program", made(&count, "a"))?;
        for entry in fs::read_dir(folder.path())? {
            fs::write(entry?.path(), "half")?;
        }
        assert_eq!(first, zips.zip("webui", b"program", made(&count, "a"))?);
        assert_eq!(count.get(), 2);
        assert_eq!(first, zips.zip("webui", b"program", made(&count, "a"))?);
        assert_eq!(count.get(), 2);
        Ok(())
    }

    #[test]
    fn old_zips_make_room_and_a_missing_folder_is_no_error() -> Result<(), Anything> {
        let folder = tempfile::tempdir()?;
        let zips = Zips::new(Some(folder.path().to_owned()));
        let count = Cell::new(0);
        for number in 0..10_u8 {
            zips.zip("webui", &[number + 1], made(&count, "a"))?;
        }
        assert_eq!(fs::read_dir(folder.path())?.count(), KEPT);
        Zips::new(None).zip("webui", b"program", made(&count, "a"))?;
        assert_eq!(count.get(), 11);
        Ok(())
    }
}
