//! Everything about a file or a tree that a command might change and must not.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Bytes, times, size and mode of a file, or of everything below a directory. Compare one taken before with one
/// taken after: equal means untouched. (Access times are left out: hashing moves them.)
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    inode: u64,
    len_bytes: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    sha256: Option<String>,
    target: Option<PathBuf>,
}

impl Fingerprint {
    /// The digest of one file, by its path relative to what was fingerprinted (empty for a single file).
    pub fn sha256(&self, rel: impl AsRef<Path>) -> Option<&str> {
        self.entries.get(rel.as_ref())?.sha256.as_deref()
    }

    /// Paths of all files and directories, relative to what was fingerprinted, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.entries.keys().map(PathBuf::as_path)
    }

    /// Digests of all regular files by relative path, without times and modes: equal for two trees of the same
    /// content.
    pub fn contents(&self) -> BTreeMap<&Path, &str> {
        self.entries.iter().filter_map(|(path, e)| Some((path.as_path(), e.sha256.as_deref()?))).collect()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One entry a line: what a failed assert_eq shows can then be compared by eye.
        for (path, entry) in &self.entries {
            writeln!(f, "{}: {entry:?}", path.display())?;
        }
        Ok(())
    }
}

/// SHA-256 of `bytes` in lowercase hex.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

/// Takes the fingerprint of a file or of a directory with everything in it. Symbolic links are not followed.
pub fn fingerprint(path: &Path) -> Fingerprint {
    let mut entries = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(rel) = todo.pop() {
        let full = if rel.as_os_str().is_empty() { path.to_path_buf() } else { path.join(&rel) };
        let entry = look(&full, &rel, &mut todo).unwrap_or_else(|e| panic!("{}: {e}", full.display()));
        entries.insert(rel, entry);
    }
    Fingerprint { entries }
}

fn look(full: &Path, rel: &Path, todo: &mut Vec<PathBuf>) -> io::Result<Entry> {
    let meta = fs::symlink_metadata(full)?;
    if meta.is_dir() {
        for child in fs::read_dir(full)? {
            todo.push(rel.join(child?.file_name()));
        }
    }
    Ok(Entry {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        inode: meta.ino(),
        len_bytes: meta.len(),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        ctime: (meta.ctime(), meta.ctime_nsec()),
        sha256: if meta.is_file() { Some(sha256_of(full)?) } else { None },
        target: if meta.is_symlink() { Some(fs::read_link(full)?) } else { None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_a_touched_time_a_mode_and_a_new_name_all_show() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/f");
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(&file, b"abc").unwrap();
        let before = fingerprint(dir.path());
        assert_eq!(before, fingerprint(dir.path()));
        assert_eq!(
            before.sha256("sub/f").unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );

        let mtime = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, b"abd").unwrap();
        // The old mtime put back leaves the bytes and the ctime to give the change away.
        File::options().write(true).open(&file).unwrap().set_modified(mtime).unwrap();
        let changed = fingerprint(dir.path());
        assert_ne!(before, changed);
        assert_ne!(before.contents(), changed.contents());

        fs::set_permissions(&file, fs::Permissions::from_mode(0o705)).unwrap();
        let mode = fingerprint(dir.path());
        assert_ne!(changed, mode);
        assert_eq!(changed.contents(), mode.contents());

        fs::write(dir.path().join("sub/g"), b"").unwrap();
        assert_eq!(fingerprint(dir.path()).paths().count(), 4);
    }

    #[test]
    fn a_single_file_is_its_own_entry() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, b"abc").unwrap();
        assert_eq!(fingerprint(&file).sha256("").unwrap(), sha256_hex("abc"));
    }
}
