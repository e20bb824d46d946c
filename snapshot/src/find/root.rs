//! The root of a dead system, mounted somewhere: its paths, resolved as it would have resolved them, and never out of it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bbolt::file::open_read_only;

/// Longest file that is read, in bytes. Unit files and manifests have some kilobytes.
const MOST_FILE_BYTES: u64 = 1 << 20;
/// Most names of a directory that are looked at.
const MOST_NAMES: usize = 10_000;
/// Most symbolic links on the way to one file, as Linux has it.
const MOST_LINKS: u32 = 40;
/// Most components on the way to one file, those of links included.
const MOST_COMPONENTS: usize = 4096;

/// Where a path of the dead system leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path on this machine; no component of it is a link.
    pub real: PathBuf,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
}

/// Why a path of the dead system leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// There is nothing.
    #[error("is not there")]
    Absent,
    /// Links lead in a circle, or are too many.
    #[error("its links lead in circles")]
    Circle,
    /// It is not what is read here: a FIFO, a device, a directory.
    #[error("is no regular file, and is not opened")]
    NotAFile,
    /// Too long for what it should be.
    #[error("has {len_bytes} bytes, more than are read of such a file")]
    TooLong {
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// Not text.
    #[error("is no text")]
    NotText,
    /// The system refused.
    #[error("{0}")]
    Refused(String),
}

impl From<io::Error> for Unresolved {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent,
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// The root.
#[derive(Debug)]
pub struct Root {
    /// On this machine, without links.
    real: PathBuf,
}

impl Root {
    /// The root mounted at `mounted`.
    ///
    /// # Errors
    /// When that is no directory.
    pub fn open(mounted: &Path) -> io::Result<Self> {
        let real = mounted.canonicalize()?;
        real.read_dir()?;
        Ok(Self { real })
    }

    /// Where `path` leads; one that does not begin at the root is taken as if it did.
    ///
    /// # Errors
    /// When it leads nowhere.
    pub fn resolve(&self, path: &Path) -> Result<Resolved, Unresolved> {
        let mut open: VecDeque<OsString> = VecDeque::new();
        let push_front = |open: &mut VecDeque<OsString>, path: &Path| {
            for component in path.components().rev() {
                match component {
                    Component::Normal(name) => open.push_front(name.to_owned()),
                    Component::ParentDir => open.push_front(OsString::from("..")),
                    Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
                }
            }
        };
        push_front(&mut open, path);
        let mut inside: Vec<OsString> = Vec::new();
        let mut links = 0;
        let real_of = |inside: &[OsString]| {
            let mut real = self.real.clone();
            real.extend(inside);
            real
        };
        while let Some(name) = open.pop_front() {
            if open.len() > MOST_COMPONENTS {
                return Err(Unresolved::Circle);
            }
            if name == ".." {
                // Above the root there is the root.
                inside.pop();
                continue;
            }
            inside.push(name);
            let here = real_of(&inside);
            if !here.symlink_metadata()?.file_type().is_symlink() {
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Unresolved::Circle);
            }
            let target = here.read_link()?;
            inside.pop();
            if target.is_absolute() {
                inside.clear();
            }
            push_front(&mut open, &target);
        }
        let real = real_of(&inside);
        let kind = real.symlink_metadata()?.file_type();
        Ok(Resolved { is_dir: kind.is_dir(), is_file: kind.is_file(), real })
    }

    /// The text of the file `path`; bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// When it is not there, no regular file, too long, or no text.
    pub fn read(&self, path: &Path) -> Result<String, Unresolved> {
        let resolved = self.resolve(path)?;
        if !resolved.is_file {
            return Err(Unresolved::NotAFile);
        }
        let len_bytes = resolved.real.symlink_metadata()?.len();
        if len_bytes > MOST_FILE_BYTES {
            return Err(Unresolved::TooLong { len_bytes });
        }
        let mut bytes = Vec::new();
        open_read_only(&resolved.real)?.take(MOST_FILE_BYTES).read_to_end(&mut bytes)?;
        if bytes.contains(&0) {
            return Err(Unresolved::NotText);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names in the directory `path` that are UTF-8, in order, at most some thousands.
    ///
    /// # Errors
    /// When it is not there, or cannot be listed.
    pub fn names(&self, path: &Path) -> Result<Vec<String>, Unresolved> {
        let resolved = self.resolve(path)?;
        if !resolved.is_dir {
            return Ok(Vec::new());
        }
        let entries = resolved.real.read_dir()?.flatten().take(MOST_NAMES);
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// The links in the member of the data dir `data_dir`, but for that of the log's directory: whoever opens the files by
    /// name would be led to wherever this machine has what they name.
    #[must_use]
    pub fn links_within(&self, data_dir: &Path) -> Vec<String> {
        let mut links = Vec::new();
        for within in ["member", "member/snap"] {
            self.push_link(&mut links, &data_dir.join(within));
        }
        for dir in ["member/snap", "member/wal"] {
            let Ok(names) = self.names(&data_dir.join(dir)) else { continue };
            for name in names {
                let path = data_dir.join(dir).join(name);
                self.push_link(&mut links, &path);
            }
        }
        links
    }

    fn push_link(&self, links: &mut Vec<String>, path: &Path) {
        let Some((parent, name)) = path.parent().zip(path.file_name()) else { return };
        let Ok(parent) = self.resolve(parent) else { return };
        if let Ok(target) = parent.real.join(name).read_link() {
            links.push(format!("{} -> {}", path.display(), target.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_within_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let mounted = dir.path().join("mnt");
        fs::create_dir_all(mounted.join("etc/real")).unwrap();
        fs::create_dir_all(mounted.join("data")).unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        fs::write(mounted.join("etc/real/f"), "inside").unwrap();
        symlink("/etc/real", mounted.join("etc/absolute")).unwrap();
        symlink("../../../../etc/real", mounted.join("data/up")).unwrap();
        symlink("../../secret", mounted.join("etc/out")).unwrap();
        symlink(dir.path().join("secret"), mounted.join("etc/out2")).unwrap();
        symlink("loop", mounted.join("etc/loop")).unwrap();
        let root = Root::open(&mounted).unwrap();
        for path in ["/etc/real/f", "/etc/absolute/f", "/data/up/f", "/../../etc/./real/f", "etc/real/f"] {
            assert_eq!(root.read(Path::new(path)).as_deref(), Ok("inside"), "{path}");
        }
        for path in ["/etc/out", "/etc/out2", "/etc/none", "/etc/real/f/x"] {
            assert_eq!(root.read(Path::new(path)), Err(Unresolved::Absent), "{path}");
        }
        assert_eq!(root.read(Path::new("/etc/loop")), Err(Unresolved::Circle));
        assert_eq!(root.read(Path::new("/etc")), Err(Unresolved::NotAFile));
    }

    #[test]
    fn what_is_no_short_text_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let fifo = dir.path().join("fifo");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, rustix::fs::Mode::RWXU, 0).unwrap();
        assert_eq!(root.read(Path::new("fifo")), Err(Unresolved::NotAFile));
        fs::File::create(dir.path().join("huge")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(root.read(Path::new("huge")), Err(Unresolved::TooLong { len_bytes: 1 << 40 }));
        fs::write(dir.path().join("binary"), b"a\0b").unwrap();
        assert_eq!(root.read(Path::new("binary")), Err(Unresolved::NotText));
        use std::os::unix::ffi::OsStrExt;
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
        assert_eq!(root.names(Path::new("/")).unwrap(), ["binary", "fifo", "huge"]);
    }
}
