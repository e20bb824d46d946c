//! What runs that were killed left behind, and what to do about it.

use std::path::{Path, PathBuf};

use snapshot::save::SaveError;
use snapshot::stage;

use crate::exit::Failure;
use crate::outcome::Note;

/// The remains of earlier runs for one output.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// What is still there.
    pub(crate) found: Vec<PathBuf>,
    /// What was removed.
    pub(crate) removed: Vec<PathBuf>,
}

impl Leftovers {
    /// Looks for what killed runs left for `output`, and removes it if `clean`.
    ///
    /// # Errors
    /// When a directory cannot be listed, or something cannot be removed or is in use.
    pub(crate) fn sweep(output: &Path, clean: bool) -> Result<Self, Failure> {
        let removed = if clean { stage::clean(output, None).map_err(SaveError::from)? } else { Vec::new() };
        let found = stage::abandoned(output).map_err(SaveError::from)?;
        Ok(Self { found, removed })
    }

    /// Names them, for the user to hear even with `--quiet`.
    pub(crate) fn notes(&self) -> impl Iterator<Item = Note> {
        let removed = self.removed.iter().map(|path| {
            Note::Prose(format!("removed {}, which an earlier run had left unfinished", path.display()))
        });
        let found = self.found.iter().map(|path| {
            Note::Warning(format!(
                "warning: {} is what an earlier run left when it was killed; it is of no use, and --clean removes it",
                path.display()
            ))
        });
        removed.chain(found)
    }
}
