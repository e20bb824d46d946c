//! The files of a source, read again: which are what they were, which are not, and which are new.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use bbolt::file::open_read_only;
use bbolt::{FileSource, Io, Source as _, Watch};
use serde::Serialize;
use snapshot::facts::look;
use snapshot::integrity::{HashingError, sha256};

use crate::error::CaseError;
use crate::ingest::files::{Found, find, modified};
use crate::names::text_of;
use crate::place::Place;
use crate::source::{Source, SourceFile};

/// What became of a file of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// It is what it was.
    Same,
    /// It is there, and something else.
    Changed {
        /// Its length now, in bytes.
        len_bytes: u64,
        /// Its SHA-256 now, hexadecimal.
        sha256: String,
    },
    /// It is not there, or cannot be read.
    NotThere {
        /// Why.
        why: String,
    },
    /// It was not there when the source was added.
    New {
        /// Its length, in bytes.
        len_bytes: u64,
        /// Its SHA-256, hexadecimal.
        sha256: String,
    },
    /// Its bytes are what they were, but a link leads to them that was none.
    Linked {
        /// The link, named as files are.
        link: String,
        /// Where it leads.
        to: String,
    },
}

/// A file of a source, read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CustodyRow {
    /// The source's name.
    pub source: String,
    /// The file, as [`SourceFile::path`] has it.
    pub file: String,
    /// Its SHA-256 when it was added, hexadecimal; empty of a new one.
    pub sha256: String,
    /// What became of it.
    pub state: FileState,
    /// Its bytes are what they were, and the time of the last write is another, in seconds and nanoseconds since 1970. A copy has another,
    /// too, so this alone is nothing wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<(i64, i64)>,
}

/// Reads all files of `source` again, which lies at `place`.
pub(crate) fn reread(
    source: &Source,
    place: &Place,
    watch: &dyn Watch,
) -> Result<Vec<CustodyRow>, CaseError> {
    let mut rows = Vec::new();
    for file in &source.files {
        let (state, modified) = state_of(source, file, place, watch)?;
        rows.push(CustodyRow {
            source: source.name.clone(),
            file: file.path.clone(),
            sha256: file.sha256.clone(),
            modified: modified.filter(|modified| state == FileState::Same && *modified != file.modified),
            state,
        });
    }
    let known: BTreeSet<&str> = source.files.iter().map(|file| file.path.as_str()).collect();
    for Found { name, path, .. } in
        found(place).into_iter().filter(|found| !known.contains(found.name.as_str()))
    {
        let state = match hashed(&path, watch)? {
            Ok((len_bytes, sha256, _)) => FileState::New { len_bytes, sha256 },
            Err(error) => FileState::New { len_bytes: error.len_bytes, sha256: String::new() },
        };
        rows.push(CustodyRow {
            source: source.name.clone(),
            file: name,
            sha256: String::new(),
            state,
            modified: None,
        });
    }
    Ok(rows)
}

/// The files of a source as adding it would find them; none where that is not possible any more.
fn found(place: &Place) -> Vec<Found> {
    if !place.root().is_dir() {
        return Vec::new();
    }
    let looked = look(place.root(), place.wal_dir()).ok();
    looked.and_then(|looked| find(place.root(), place.wal_dir(), &looked).ok()).unwrap_or_default()
}

/// Why a file has no hash.
struct Unread {
    why: String,
    len_bytes: u64,
}

type Hashed = (u64, String, (i64, i64));

/// Length, hash and time of the last write of the file at `path`.
fn hashed(path: &Path, watch: &dyn Watch) -> Result<Result<Hashed, Unread>, CaseError> {
    let unread = |len_bytes, why: &dyn std::fmt::Display| {
        Ok(Err(Unread { why: format!("{}: {why}", path.display()), len_bytes }))
    };
    // A FIFO or a device is not even opened.
    match path.metadata() {
        Ok(meta) if !meta.is_file() => return unread(0, &"is no regular file any more"),
        Ok(_) => {}
        Err(error) => return unread(0, &error),
    }
    let opened = open_read_only(path).and_then(|file| {
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("is no regular file any more"));
        }
        Ok((FileSource::new(file, path, Io::Pread)?, modified(&meta)))
    });
    let (source, modified) = match opened {
        Ok(opened) => opened,
        Err(error) => return unread(0, &error),
    };
    let len_bytes = source.len_bytes();
    match sha256(&source, len_bytes, watch) {
        Ok(digest) => Ok(Ok((len_bytes, digest.to_string(), modified))),
        Err(HashingError::Interrupted) => Err(CaseError::Interrupted),
        Err(HashingError::Source(error)) => unread(len_bytes, &error),
    }
}

fn state_of(
    source: &Source,
    file: &SourceFile,
    place: &Place,
    watch: &dyn Watch,
) -> Result<(FileState, Option<(i64, i64)>), CaseError> {
    let path = place.path_of(&file.path);
    let (state, modified) = match hashed(&path, watch)? {
        Ok((len_bytes, sha256, modified)) if (len_bytes, &sha256) == (file.len_bytes, &file.sha256) => {
            (FileState::Same, Some(modified))
        }
        Ok((len_bytes, sha256, _)) => (FileState::Changed { len_bytes, sha256 }, None),
        // A sector that could not be read then cannot be read now: all that is known of it.
        Err(unread) if file.unreadable.is_some() && unread.len_bytes == file.len_bytes => {
            (FileState::Same, None)
        }
        Err(unread) => (FileState::NotThere { why: unread.why }, None),
    };
    if state != FileState::Same {
        return Ok((state, modified));
    }
    let new = place.links(&file.path).into_iter().find(|link| !source.links.contains(link));
    if let Some(link) = new {
        let to = place.path_of(&link).read_link().map(|to| text_of(&to)).unwrap_or_default();
        return Ok((FileState::Linked { link, to }, modified));
    }
    Ok((state, modified))
}
