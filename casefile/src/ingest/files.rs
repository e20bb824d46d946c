//! The files of a source: which they are, their hashes, and whether anybody wrote to them meanwhile.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bbolt::file::open_read_only;
use bbolt::{FileSource, Io, Source as _, Watch};
use rayon::prelude::*;
use snapshot::facts::Looked;
use snapshot::integrity::{HashingError, sha256};

use super::AddError;
use crate::names::{WAL_DIR, text_of};
use crate::place::way;
use crate::source::SourceFile;

/// Most files of one source.
pub const MOST_FILES: usize = 100_000;

/// A file and what it was when it was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// Its path as the case names it.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) len_bytes: u64,
    pub(crate) modified: (i64, i64),
}

/// The files below `root`, which is absolute, and those of its log where that lies elsewhere, by their names. Nothing that is asked for by
/// a link is left out, and a data dir's files are named by where a server finds them.
pub(crate) fn find(root: &Path, wal_dir: Option<&Path>, looked: &Looked) -> Result<Vec<Found>, AddError> {
    let mut found = BTreeSet::new();
    walk(root, root, "", &mut found)?;
    // A directory that a link leads to is part of the source when a server would read it there, and so is the other half of a member of
    // which one was given.
    for dir in [&looked.wal_dir, &looked.snap_dir].into_iter().flatten().filter(|_| root.is_dir()) {
        if found.iter().any(|file| file.path.starts_with(dir)) {
            continue;
        }
        let label = if wal_dir == Some(dir) { WAL_DIR.to_owned() } else { way(root, dir) };
        walk(dir, dir, &label, &mut found)?;
    }
    Ok(found.into_iter().collect())
}

fn name_of(path: &Path) -> String {
    text_of(Path::new(path.file_name().unwrap_or(path.as_os_str())))
}

fn of_file(path: &Path, name: String) -> Result<Found, AddError> {
    let refused = |source| AddError::File { path: path.to_owned(), source };
    let meta = path.metadata().map_err(refused)?;
    Ok(Found { name, path: path.to_owned(), len_bytes: meta.len(), modified: modified(&meta) })
}

/// When a file was last written to, in seconds and nanoseconds since 1970.
pub(crate) fn modified(meta: &Metadata) -> (i64, i64) {
    (meta.mtime(), meta.mtime_nsec())
}

/// Every regular file below `dir`. Links to directories are not followed: those of a tree lead in circles.
fn walk(dir: &Path, root: &Path, label: &str, found: &mut BTreeSet<Found>) -> Result<(), AddError> {
    if !dir.is_dir() {
        found.insert(of_file(dir, name_of(dir))?);
        return Ok(());
    }
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let refused = |source: io::Error| AddError::File { path: dir.clone(), source };
        for entry in dir.read_dir().map_err(refused)? {
            let path = entry.map_err(refused)?.path();
            let Ok(link) = path.symlink_metadata() else { continue };
            if link.is_dir() {
                open.push(path);
            } else if path.is_file() {
                let below = text_of(path.strip_prefix(root).unwrap_or(&path));
                found.insert(of_file(&path, format!("{label}{below}"))?);
            }
            if found.len() > MOST_FILES {
                return Err(AddError::TooManyFiles { path: root.to_owned() });
            }
        }
    }
    Ok(())
}

/// The files with their hashes, in the order they come in.
pub(super) fn hash(found: &[Found], io: Io, watch: &dyn Watch) -> Result<Vec<SourceFile>, AddError> {
    found.par_iter().with_max_len(1).map(|file| hash_one(file, io, watch)).collect()
}

pub(super) fn hash_one(found: &Found, io: Io, watch: &dyn Watch) -> Result<SourceFile, AddError> {
    let refused = |source| AddError::File { path: found.path.clone(), source };
    let file = open_read_only(&found.path).map_err(refused)?;
    let source = FileSource::new(file, &found.path, io).map_err(refused)?;
    let (sha256, unreadable) = match sha256(&source, source.len_bytes(), watch) {
        Ok(digest) => (digest.to_string(), None),
        Err(HashingError::Interrupted) => return Err(AddError::Interrupted),
        Err(HashingError::Source(error)) => (String::new(), Some(error.to_string())),
    };
    Ok(SourceFile { unreadable, ..found.hashed(sha256) })
}

impl Found {
    /// The file, of which this is the hash.
    pub(super) fn hashed(&self, sha256: String) -> SourceFile {
        SourceFile {
            path: self.name.clone(),
            len_bytes: self.len_bytes,
            sha256,
            modified: self.modified,
            unpacked: None,
            unreadable: None,
        }
    }
}

/// Makes sure that nobody wrote to the files since they were found.
pub(super) fn ensure_unchanged(found: &[Found]) -> Result<(), AddError> {
    for file in found {
        if of_file(&file.path, file.name.clone()).ok().as_ref() != Some(file) {
            return Err(AddError::Written { path: file.path.clone() });
        }
    }
    Ok(())
}

/// The names of files in which two accounts of a source differ.
pub(super) fn differing(old: &[SourceFile], new: &[SourceFile]) -> Vec<String> {
    let same = |a: &SourceFile, b: &SourceFile| (a.len_bytes, &a.sha256) == (b.len_bytes, &b.sha256);
    let lacks = |file: &SourceFile, others: &[SourceFile]| {
        !others.iter().any(|other| other.path == file.path && same(file, other))
    };
    let mut names: BTreeSet<String> = BTreeSet::new();
    names.extend(old.iter().filter(|file| lacks(file, new)).map(|file| file.path.clone()));
    names.extend(new.iter().filter(|file| lacks(file, old)).map(|file| file.path.clone()));
    names.into_iter().collect()
}
