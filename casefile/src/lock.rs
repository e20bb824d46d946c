//! One writer at a time: the lock on a case file, and who holds it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use bbolt::file::open_read_only;
use rustix::fs::{FlockOperation, flock};

use crate::error::CaseError;

/// How often the name may lead to another file by the time this one is locked.
const TRIES: u32 = 8;
/// How often a lock is tried that somebody holds, and the time between two tries. A process that was just started holds the locks of the
/// one that started it, until it runs a program of its own.
const PAUSES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// Where the case is that `path` names: where a link leads, if it is one.
pub(crate) fn resolved(path: &Path) -> Result<PathBuf, CaseError> {
    if path.is_symlink() {
        path.canonicalize().map_err(|source| CaseError::Io { path: path.to_owned(), source })
    } else {
        Ok(path.to_owned())
    }
}

/// Opens the case at `path` and locks it for whoever will put another file in its place.
pub(crate) fn lock(path: &Path) -> Result<File, CaseError> {
    let refused = |source| CaseError::Io { path: path.to_owned(), source };
    let (mut moved, mut held) = (0, 0);
    while moved < TRIES {
        let file = open_read_only(path).map_err(refused)?;
        let own = file.metadata().map_err(refused)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) if held < PAUSES => {
                held += 1;
                sleep(PAUSE);
                continue;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(CaseError::Busy { path: path.to_owned(), process: holder(own.ino()) });
            }
            Err(error) => return Err(refused(error.into())),
        }
        // Somebody may have put a new file in its place meanwhile.
        let named = path.metadata().map_err(refused)?;
        if (named.dev(), named.ino()) == (own.dev(), own.ino()) {
            return Ok(file);
        }
        moved += 1;
    }
    Err(CaseError::Busy { path: path.to_owned(), process: None })
}

/// The process that holds the lock on the file with this number, by the system's own list.
fn holder(inode: u64) -> Option<u32> {
    let list = std::fs::read_to_string("/proc/locks").ok()?;
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, process) = (words.next()?, words.nth(2)?);
        let number = words.next()?.rsplit(':').next()?;
        (kind == "FLOCK" && number.parse() == Ok(inode)).then(|| process.parse().ok())?
    };
    list.lines().find_map(of_line)
}
