//! What a path is, told by names where etcd gives them and by first bytes where it does not. Nothing is opened that is not a
//! regular file: a FIFO or a device would wait, or answer for ever.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use bbolt::file::open_read_only;

use super::FactsError;
use crate::datadir::{LocateError, locate_log};
use crate::integrity::image_bytes;
use crate::snap_files::SnapKind;

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// What `--data-dir` names: a directory with `member` in it.
    DataDir,
    /// What etcd calls `member`: a directory with `wal` or `snap` in it.
    MemberDir,
    /// A log's own directory.
    WalDir,
    /// The directory of the database and its `.snap` files.
    SnapDir,
    /// A database without a trailer: one out of a data dir.
    Database,
    /// A database whose length is that of a snapshot with its SHA-256, or a packed one.
    Snapshot,
    /// `INDEX.snap.db`: a database that a leader sent.
    ReceivedDatabase,
    /// One segment of a log.
    Segment,
    /// `TERM-INDEX.snap`: a raft snapshot with the v2 store.
    Snap,
    /// A directory in which several of these lie.
    Several,
    /// None of etcd's.
    Other,
}

/// What a path is, and what lies where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What it is.
    pub what: What,
    /// The database.
    pub db: Option<PathBuf>,
    /// What to open the log by: a directory, or the one segment.
    pub log: Option<PathBuf>,
    /// The log's directory.
    pub wal_dir: Option<PathBuf>,
    /// The directory of the database and its `.snap` files.
    pub snap_dir: Option<PathBuf>,
    /// Of [`What::Several`]: what lies in it, by name, at most [`MOST_WITHIN`].
    pub within: Vec<PathBuf>,
    /// Whether more lies in it.
    pub more_within: bool,
    /// Of [`What::Other`], and of a file whose name does not fit: what it seems to be, in a sentence's end.
    pub seems: Option<String>,
    /// The member directory around a single file or directory of it.
    pub member_dir: Option<PathBuf>,
}

/// Most paths that are listed of a directory with several.
pub const MOST_WITHIN: usize = 64;
/// Most names of a directory that are looked at.
const MOST_NAMES: usize = 10_000;
/// How much of a file's beginning is looked at, in bytes.
const HEAD_BYTES: usize = 512;
/// bbolt's magic number, and where it stands in a meta page (FORMATS A.2).
const MAGIC: u32 = 0xED0C_DAED;
const MAGIC_OFFSET: u64 = 16;

impl Looked {
    fn only(what: What) -> Self {
        Self {
            what,
            db: None,
            log: None,
            wal_dir: None,
            snap_dir: None,
            within: Vec::new(),
            more_within: false,
            seems: None,
            member_dir: None,
        }
    }

    fn other(seems: impl Into<String>) -> Self {
        Self { seems: Some(seems.into()), ..Self::only(What::Other) }
    }
}

/// Looks at `path`; `wal_dir` is the log's directory where etcd was given one of its own.
///
/// # Errors
/// When there is nothing at `path`, or the system does not let us look.
pub fn look(path: &Path, wal_dir: Option<&Path>) -> Result<Looked, FactsError> {
    let refused = |source| FactsError::Io { path: path.to_owned(), source };
    let meta = path.metadata().map_err(refused)?;
    if meta.is_dir() {
        return of_directory(path, wal_dir).map_err(refused);
    }
    let kind = meta.file_type();
    let special = [
        (kind.is_fifo(), "a FIFO: nothing is read from it"),
        (kind.is_socket(), "a socket: nothing is read from it"),
        (kind.is_char_device(), "a character device: nothing is read from it"),
        (
            kind.is_block_device(),
            "a block device; mount its file system read-only and give the data dir on it",
        ),
    ];
    if let Some((_, seems)) = special.into_iter().find(|(is, _)| *is) {
        return Ok(Looked::other(seems));
    }
    of_file(path, meta.len()).map_err(refused)
}

fn of_directory(path: &Path, wal_dir: Option<&Path>) -> io::Result<Looked> {
    match locate_log(path, wal_dir) {
        Ok(places) => {
            let is_member = |dir: &Path| dir.join("wal").is_dir() || dir.join("snap").is_dir();
            let what = if is_member(&path.join("member")) {
                What::DataDir
            } else if places.snap_dir.as_deref() == Some(path) {
                What::SnapDir
            } else if places.wal_dir.as_deref() == Some(path) {
                What::WalDir
            } else {
                What::MemberDir
            };
            let member_dir = match what {
                What::DataDir => Some(path.join("member")),
                What::MemberDir => Some(path.to_owned()),
                _ => parent(path).filter(|_| places.snap_dir.is_some() && places.wal_dir.is_some()),
            };
            return Ok(Looked {
                db: places.db,
                log: places.wal_dir.as_ref().map(|_| path.to_owned()),
                wal_dir: places.wal_dir,
                snap_dir: places.snap_dir,
                member_dir,
                ..Looked::only(what)
            });
        }
        Err(LocateError::Io { source, .. }) => return Err(source),
        Err(_) => {}
    }
    let db = path.join("db");
    if is_database(&db) {
        let snap_dir = Some(path.to_owned());
        return Ok(Looked { db: Some(db), snap_dir, ..Looked::only(What::SnapDir) });
    }
    let mut found = Within::default();
    found.look_into(path, 2)?;
    found.paths.sort();
    if found.paths.is_empty() {
        return Ok(Looked::other(found.seems(path)));
    }
    let more_within = found.more || found.paths.len() > MOST_WITHIN;
    found.paths.truncate(MOST_WITHIN);
    Ok(Looked { within: found.paths, more_within, ..Looked::only(What::Several) })
}

fn parent(path: &Path) -> Option<PathBuf> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Some(parent.to_owned()),
        _ => std::path::absolute(path).ok()?.parent().map(Path::to_owned),
    }
}

/// What lies in a directory that is none of etcd's.
#[derive(Default)]
struct Within {
    paths: Vec<PathBuf>,
    names: u64,
    more: bool,
    pki: bool,
}

impl Within {
    /// Looks at the names in `dir`, and `levels` deep.
    fn look_into(&mut self, dir: &Path, levels: u32) -> io::Result<()> {
        let mut open = vec![(dir.to_owned(), levels)];
        while let Some((dir, levels)) = open.pop() {
            let entries = match dir.read_dir() {
                Ok(entries) => entries,
                // Of what was given one is told; what lies deeper and is closed is passed over.
                Err(error) if self.names == 0 => return Err(error),
                Err(_) => continue,
            };
            for entry in entries.flatten() {
                self.names += 1;
                if self.names > MOST_NAMES as u64 {
                    self.more = true;
                    return Ok(());
                }
                let path = entry.path();
                self.pki |= entry.file_name() == "ca.crt";
                // Links to directories are not followed: those of a tree lead in circles.
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    if is_member_or_data_dir(&path) {
                        self.paths.push(path);
                    } else if levels > 1 {
                        open.push((path, levels - 1));
                    }
                } else if is_database(&path) || is_packed_database(&path) {
                    self.paths.push(path);
                }
            }
        }
        Ok(())
    }

    fn seems(&self, path: &Path) -> String {
        if path.join("member").is_dir() {
            return "a data dir whose member directory is empty: a server that starts on it takes itself for new".to_owned();
        }
        match self.names {
            0 => "an empty directory".to_owned(),
            _ if self.pki => "a directory of certificates, without etcd's data".to_owned(),
            names => format!(
                "a directory with {}{names} name(s), two levels deep, none of which is a data dir, a database or a log",
                if self.more { "more than " } else { "" }
            ),
        }
    }
}

fn is_member_or_data_dir(dir: &Path) -> bool {
    [dir.join("member"), dir.to_owned()].iter().any(|member| {
        let (snap, wal) = (member.join("snap"), member.join("wal"));
        (snap.is_dir() && wal.is_dir()) || snap.join("db").is_file()
    })
}

/// Whether `path` is a regular file with a bbolt meta at its beginning.
fn is_database(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 2 * MAGIC_OFFSET)
        && open_read_only(path).is_ok_and(|file| has_magic_at(&file, 0))
}

/// Whether the name of the regular file `path` says that it is a packed database; what is packed is not looked into.
fn is_packed_database(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [".db.gz", ".db.zst", ".db.zip"].iter().any(|end| name.ends_with(end)) && path.is_file()
}

fn has_magic_at(file: &File, page_offset: u64) -> bool {
    let mut word = [0; 4];
    file.read_exact_at(&mut word, page_offset.saturating_add(MAGIC_OFFSET)).is_ok()
        && (u32::from_le_bytes(word) == MAGIC || u32::from_be_bytes(word) == MAGIC)
}

fn of_file(path: &Path, len_bytes: u64) -> io::Result<Looked> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.strip_suffix(".broken").unwrap_or(&name);
    let owned = || Some(path.to_owned());
    if len_bytes == 0 {
        return Ok(Looked::other("an empty file"));
    }
    if wal::parse_segment_name(stem).is_some() {
        let member_dir = parent(path).filter(|dir| dir.file_name().is_some_and(|name| name == "wal"));
        return Ok(Looked {
            log: owned(),
            wal_dir: parent(path),
            member_dir: member_dir.as_deref().and_then(parent),
            ..Looked::only(What::Segment)
        });
    }
    let in_snap = parent(path).filter(|dir| dir.file_name().is_some_and(|name| name == "snap"));
    let member_dir = in_snap.as_deref().and_then(parent);
    match SnapKind::of_name(stem) {
        SnapKind::Snap { .. } => return Ok(Looked { member_dir, ..Looked::only(What::Snap) }),
        SnapKind::Database { .. } => {
            return Ok(Looked { db: owned(), member_dir, ..Looked::only(What::ReceivedDatabase) });
        }
        _ => {}
    }
    let file = open_read_only(path)?;
    let mut head = vec![0; HEAD_BYTES];
    let got = file.read_at(&mut head, 0)?;
    head.truncate(got);
    let database = |what| Looked { db: owned(), member_dir: member_dir.clone(), ..Looked::only(what) };
    if (0..=14).any(|doubling| has_magic_at(&file, 1024 << doubling)) || has_magic_at(&file, 0) {
        let whole = if image_bytes(len_bytes).1 { What::Snapshot } else { What::Database };
        return Ok(database(whole));
    }
    Ok(match seems(&head) {
        // Both are unpacked, and judged by what comes out.
        Some("packed") => database(What::Snapshot),
        Some(other) => Looked::other(other),
        // A database that lost both metas still says of its pages which they are.
        None if numbered_pages(&file) || name == "db" => database(What::Database),
        None => Looked::other("none of etcd's files, by its first bytes"),
    })
}

/// Whether most of the pages at the beginning say that they are where they are.
fn numbered_pages(file: &File) -> bool {
    let numbered = |page: &u64| {
        let mut id = [0; 8];
        file.read_exact_at(&mut id, page * 4096).is_ok() && u64::from_le_bytes(id) == *page
    };
    (1..=8).filter(numbered).count() >= 4
}

/// What the first bytes of a file say it is; `packed` for what is unpacked here.
fn seems(head: &[u8]) -> Option<&'static str> {
    Some(match head {
        [0x1f, 0x8b, 8, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [b'P', b'K', 3, 4, ..] => "packed",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "packed with xz; unpack it first",
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => "packed with bzip2; unpack it first",
        [4, 0x22, 0x4d, 0x18, ..] => "packed with lz4; unpack it first",
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => "packed with 7z; unpack it first",
        _ if head.get(257..262) == Some(b"ustar") => "a tar archive; unpack it, and give what is inside",
        // A crc record, with which each segment begins (FORMATS E.3).
        [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 0x10, ..] | [_, 0, 0, 0, 0, 0, 0, 0x80..=0x87, 8, 4, 0x10, ..] => {
            "a segment of a log without its name; give a copy of it one like 0000000000000000-0000000000000000.wal"
        }
        [0x7f, b'E', b'L', b'F', ..] => "a program (ELF)",
        _ if head.starts_with(b"SQLite format 3\0") => {
            "an SQLite database: a k3s server without etcd keeps its state in one; nothing here reads it"
        }
        [b'{' | b'[', ..] => "a JSON text, none of etcd's files",
        _ if head.starts_with(b"-----BEGIN ") => "a certificate or key (PEM)",
        _ if head.iter().all(|byte| *byte == 0) => {
            "zeros, as far as was looked: a file that was made and never written, or whose blocks were lost"
        }
        _ if head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..)) => {
            "a text, none of etcd's files"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(path: &Path) -> (What, Option<String>) {
        let looked = look(path, None).unwrap();
        (looked.what, looked.seems)
    }

    #[test]
    fn a_fifo_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("db");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        let (what, seems) = looked(&fifo);
        assert_eq!(what, What::Other);
        assert!(seems.unwrap().contains("FIFO"));
        // Nor as a database inside of a directory.
        let (what, seems) = looked(dir.path());
        assert_eq!(what, What::Other, "{seems:?}");
    }

    #[test]
    fn files_that_are_not_etcds_are_told_by_their_first_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        for (bytes, says) in [
            (&b""[..], "an empty file"),
            (b"\x7fELF\x02\x01", "a program"),
            (b"SQLite format 3\0......", "SQLite"),
            (b"name: n1\ndata-dir: /var/lib/etcd\n", "a text"),
            (&[0; 600], "zeros"),
            (b"\x04\0\0\0\0\0\0\x84\x08\x04\x10\0\0\0\0\0", "a segment"),
            (b"-----BEGIN CERTIFICATE-----", "PEM"),
            (b"\x01\x02\x03\x04", "none of etcd's"),
        ] {
            std::fs::write(&file, bytes).unwrap();
            let (what, seems) = looked(&file);
            assert_eq!(what, What::Other, "{says}");
            assert!(seems.as_deref().is_some_and(|seems| seems.contains(says)), "{seems:?} for {says}");
        }
    }

    #[test]
    fn directories_are_told_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(looked(root), (What::Other, Some("an empty directory".to_owned())));
        for made in ["n1/member/snap", "n1/member/wal", "deep/n2/wal", "deep/n2/snap", "empty/member"] {
            std::fs::create_dir_all(root.join(made)).unwrap();
        }
        for (path, what) in [
            ("n1", What::DataDir),
            ("n1/member", What::MemberDir),
            ("n1/member/snap", What::SnapDir),
            ("n1/member/wal", What::WalDir),
            ("deep/n2", What::MemberDir),
        ] {
            assert_eq!(looked(&root.join(path)).0, what, "{path}");
        }
        let several = look(root, None).unwrap();
        assert_eq!(several.what, What::Several);
        assert_eq!(several.within, [root.join("deep/n2"), root.join("n1")]);
        assert!(looked(&root.join("empty")).1.unwrap().contains("member directory is empty"));
    }

    #[test]
    fn links_in_circles_end() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("b")).unwrap();
        assert_eq!(looked(dir.path()).0, What::Other);
        assert!(look(&dir.path().join("b"), None).is_err());
    }
}
