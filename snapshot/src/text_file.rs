//! A new file of text that is written as it comes: staged, read back, and given its name at the end.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crc_fast::Digest;

use bbolt::PageWriter;

use crate::contents::CRC_32C;
use crate::finding::Finding;
use crate::log_files;
use crate::replicate::ReplicateError;
use crate::stage::{self, Kind, Owner, Stage, StageError};
use crate::stream_file::{self, Stream};

/// Why there is no such file. Nothing is left behind then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextFileError {
    /// It cannot be where it should.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// It would lie in what was given, which is evidence.
    #[error("{}: lies in {}, which is the input and stays as it is; give a place outside of it", output.display(), input.display())]
    Inside {
        /// The output.
        output: PathBuf,
        /// What was given.
        input: PathBuf,
    },
    /// It could not be written, or read back.
    #[error("{}: {source}; nothing was left behind", path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// Why.
        source: ReplicateError,
    },
    /// What was read back is not what was written.
    #[error("{}: read back and found different from what was written; do not trust this disk", path.display())]
    ReadBack {
        /// The output.
        path: PathBuf,
    },
}

impl TextFileError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Write { source: ReplicateError::Interrupted, .. }) { 130 } else { 1 }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// Makes sure that `output` can be where it should, before all the work.
///
/// # Errors
/// When something is there already.
pub fn ensure_free(output: &Path) -> Result<(), TextFileError> {
    Ok(stage::examine(output, Kind::File).map(drop)?)
}

/// Makes sure that `output` lies in none of those of `inputs` that are directories, wherever links lead.
///
/// # Errors
/// When it does.
pub fn ensure_outside<'p>(
    inputs: impl Iterator<Item = &'p Path>,
    output: &Path,
) -> Result<(), TextFileError> {
    match log_files::holding(inputs.filter(|input| input.is_dir()), output) {
        Some(input) => Err(TextFileError::Inside { output: output.to_owned(), input: input.to_owned() }),
        None => Ok(()),
    }
}

/// Lets `produce` write the new file `output`, reads it back, asks `confirm` whether it shall be, and gives it its name and `owner`.
/// Gives what `produce` gave, and the file's length in bytes.
///
/// # Errors
/// Those of `produce` and `confirm`, and when the file cannot be written; nothing is left behind then.
pub fn write<T, E: From<TextFileError>>(
    output: &Path,
    owner: Option<Owner>,
    produce: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    confirm: impl FnOnce() -> Result<(), E>,
) -> Result<(T, u64), E> {
    let stage = Stage::new(output, Kind::File).map_err(TextFileError::from)?;
    let file = stage.file().ok_or_else(|| StageError::NotADirectory(output.to_owned()));
    let file = file.map_err(TextFileError::from)?;
    let written = stream_file::write(file, stage.path(), |stream| {
        let mut text = Text { stream, len_bytes: 0, crc: Digest::new(CRC_32C) };
        let product = produce(&mut text)?;
        Ok::<_, E>((product, text.len_bytes, text.crc.finalize()))
    });
    let path = || output.to_owned();
    let ((product, len_bytes, crc), back) =
        written.map_err(|source| TextFileError::Write { path: path(), source })??;
    if (back.len_bytes, u64::from(back.crc32c)) != (len_bytes, crc) {
        return Err(TextFileError::ReadBack { path: path() }.into());
    }
    confirm()?;
    stage.commit(owner).map_err(TextFileError::from)?;
    Ok((product, len_bytes))
}

/// Text on its way into a file.
struct Text<'s, 'w> {
    stream: &'s mut Stream<'w>,
    len_bytes: u64,
    crc: Digest,
}

impl Write for Text<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_at(self.len_bytes, bytes)?;
        self.len_bytes += bytes.len() as u64;
        self.crc.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
