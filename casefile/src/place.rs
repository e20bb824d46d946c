//! Where the files of a source are now: where it was added from, unless somebody says that it lies elsewhere.

use std::path::{Path, PathBuf};

use crate::case::Case;
use crate::error::CaseError;
use crate::names::{self, WAL_DIR, text_of};
use crate::source::Source;

/// Where a source lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    root: PathBuf,
    /// The log's directory, where one was given apart.
    wal_dir: Option<PathBuf>,
    /// The name of the file that the source is, where it is one.
    file: Option<String>,
}

impl Place {
    /// Where `path` and `wal_dir`, both absolute, were given.
    pub(crate) fn new(path: &Path, wal_dir: Option<&Path>) -> Self {
        let file = (!path.is_dir()).then(|| name_of(path));
        Self { root: path.to_owned(), wal_dir: wal_dir.map(Path::to_owned), file }
    }

    /// Where `source` was when it was added.
    pub(crate) fn of(source: &Source) -> Self {
        let root = names::path_of(&source.path);
        let file = match source.files.as_slice() {
            [file] if file.path == name_of(&root) => Some(file.path.clone()),
            _ => None,
        };
        Self { root, wal_dir: source.wal_dir.as_deref().map(names::path_of), file }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn wal_dir(&self) -> Option<&Path> {
        self.wal_dir.as_deref()
    }

    /// Where the file is that the case calls `name`.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        if self.is_file(name) {
            return self.root.clone();
        }
        let (dir, below) = self.parted(name);
        dir.join(names::path_of(below))
    }

    /// Links that the way to the file leads through that the case calls `name`, as the case would call them.
    pub(crate) fn links(&self, name: &str) -> Vec<String> {
        if self.is_file(name) {
            return self.root.is_symlink().then(|| name.to_owned()).into_iter().collect();
        }
        let (dir, below) = self.parted(name);
        let before = name.len() - below.len();
        let ends = below.match_indices('/').map(|(at, _)| at).chain([below.len()]);
        let is_link =
            |end: &usize| below.get(..*end).is_some_and(|part| dir.join(names::path_of(part)).is_symlink());
        ends.filter(is_link).filter_map(|end| name.get(..before + end)).map(str::to_owned).collect()
    }

    /// Whether the source is that one file, and no directory has come in its place.
    fn is_file(&self, name: &str) -> bool {
        self.file.as_deref() == Some(name) && !self.root.is_dir()
    }

    /// The directory that a name is below, and the name there.
    fn parted<'n>(&self, name: &'n str) -> (PathBuf, &'n str) {
        if let (Some(dir), Some(below)) = (&self.wal_dir, name.strip_prefix(WAL_DIR)) {
            return (dir.clone(), below);
        }
        let (mut dir, mut below) = (self.root.clone(), name);
        while let Some(rest) = below.strip_prefix("../") {
            dir.pop();
            below = rest;
        }
        (dir, below)
    }
}

fn name_of(path: &Path) -> String {
    text_of(Path::new(path.file_name().unwrap_or(path.as_os_str())))
}

/// What leads from `root` to `dir`, both absolute, as the names of files begin.
pub(crate) fn way(root: &Path, dir: &Path) -> String {
    let shared = root.components().zip(dir.components()).take_while(|(one, other)| one == other).count();
    let up = "../".repeat(root.components().count() - shared);
    let down: PathBuf = dir.components().skip(shared).collect();
    if down.as_os_str().is_empty() { up } else { format!("{up}{}/", text_of(&down)) }
}

impl Case {
    /// Says that the source `name` is at `path` now: there `verify` and `value` look for it. `wal_dir` is the log's directory, of a
    /// source whose log was given apart.
    ///
    /// # Errors
    /// When there is no source of this name, or nothing at the paths.
    pub fn moved(&mut self, name: &str, path: &Path, wal_dir: Option<&Path>) -> Result<(), CaseError> {
        let source = self.source(name)?;
        let found = |path: &Path| {
            path.canonicalize().map_err(|source| CaseError::Io { path: path.to_owned(), source })
        };
        let before = self.place(source);
        let wal_dir = wal_dir.map(found).transpose()?.or(before.wal_dir);
        let place = Place { root: found(path)?, wal_dir, file: before.file };
        let number = source.number;
        self.places.insert(number, place);
        Ok(())
    }

    /// Where `source` is.
    pub(crate) fn place(&self, source: &Source) -> Place {
        self.places.get(&source.number).cloned().unwrap_or_else(|| Place::of(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_file() {
        for (root, dir, expected) in [
            ("/a/member/wal", "/a/member/snap", "../snap/"),
            ("/a", "/a/member/wal", "member/wal/"),
            ("/a/b/c", "/x", "../../../x/"),
            ("/a/b", "/a", "../"),
        ] {
            let label = way(Path::new(root), Path::new(dir));
            assert_eq!(label, expected);
            let place = Place { root: root.into(), wal_dir: None, file: None };
            assert_eq!(place.path_of(&format!("{label}db")), Path::new(dir).join("db"));
        }
        let place = Place { root: "/a".into(), wal_dir: Some("/log".into()), file: None };
        assert_eq!(place.path_of("wal-dir:0.wal"), Path::new("/log/0.wal"));
    }
}
