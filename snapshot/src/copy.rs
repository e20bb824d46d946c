//! Bytes from file to file, and the room for them.
//!
//! The cheapest way that works is taken: a reflink shares the blocks, `copy_file_range` lets the kernel copy, and plain
//! reads and writes work everywhere. Nothing here renames; [`stage`](crate::stage) does.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bbolt::Watch;
use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;

/// Bytes handed to the kernel between two looks at the interrupt flag.
const STEP_BYTES: u64 = 16 << 20;
const BUFFER_BYTES: usize = 1 << 20;

/// Why bytes did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// Reading the source failed.
    #[error("read at {offset:#x}: {error}")]
    Read {
        /// Where in the source.
        offset: u64,
        /// What the system said.
        error: io::Error,
    },
    /// The source ends early; it may have been cut while it was read.
    #[error("the source ends at {offset:#x}, {missing} bytes short")]
    Short {
        /// Where it ends.
        offset: u64,
        /// How many bytes are missing.
        missing: u64,
    },
    /// Writing failed.
    #[error("write at {offset:#x}: {error}")]
    Write {
        /// Where in the target.
        offset: u64,
        /// What the system said.
        error: io::Error,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// How the bytes travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMethod {
    /// Blocks are shared until one side changes them.
    Reflink,
    /// The kernel copied.
    CopyFileRange,
    /// Read and written.
    ReadWrite,
}

/// Copies the first `len_bytes` of `source` to the start of `target`, which should be empty, and makes `target` exactly
/// that long. Neither file's cursor matters.
///
/// # Errors
/// [`CopyError`]; the target then holds a part.
pub fn copy_range(
    source: &File,
    len_bytes: u64,
    target: &File,
    watch: &dyn Watch,
) -> Result<CopyMethod, CopyError> {
    if watch.interrupted() {
        return Err(CopyError::Interrupted);
    }
    let source_len = source.metadata().map_err(|error| CopyError::Read { offset: 0, error })?.len();
    if source_len < len_bytes {
        return Err(CopyError::Short { offset: source_len, missing: len_bytes - source_len });
    }
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        // The clone is of the whole file, which may be longer than the part asked for.
        set_len(target, len_bytes)?;
        watch.advance(len_bytes);
        return Ok(CopyMethod::Reflink);
    }
    let mut done = 0;
    let copied = copy_in_kernel(source, len_bytes, target, watch, &mut done)?;
    let method = if copied { CopyMethod::CopyFileRange } else { CopyMethod::ReadWrite };
    if !copied {
        copy_by_hand(source, len_bytes, target, watch, done)?;
    }
    set_len(target, len_bytes)?;
    Ok(method)
}

fn set_len(target: &File, len_bytes: u64) -> Result<(), CopyError> {
    match target.metadata() {
        Ok(m) if !m.is_file() || m.len() == len_bytes => Ok(()),
        _ => target.set_len(len_bytes).map_err(|error| CopyError::Write { offset: len_bytes, error }),
    }
}

/// False if the kernel cannot do it for these files; `done` then says how far it came.
fn copy_in_kernel(
    source: &File,
    len_bytes: u64,
    target: &File,
    watch: &dyn Watch,
    done: &mut u64,
) -> Result<bool, CopyError> {
    while *done < len_bytes {
        if watch.interrupted() {
            return Err(CopyError::Interrupted);
        }
        let step = usize::try_from((len_bytes - *done).min(STEP_BYTES)).unwrap_or(BUFFER_BYTES);
        let (mut from, mut to) = (*done, *done);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), step) {
            // Some file systems answer 0 for files they cannot copy this way.
            Ok(0) => return Ok(false),
            Ok(n) => {
                let n = u64::try_from(n).unwrap_or(0);
                *done += n;
                watch.advance(n);
            }
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                return Err(CopyError::Write { offset: *done, error: error.into() });
            }
            // Whatever else it is, plain reads and writes will either work or say which side is at fault.
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

fn copy_by_hand(
    source: &File,
    len_bytes: u64,
    target: &File,
    watch: &dyn Watch,
    start: u64,
) -> Result<(), CopyError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = start;
    while offset < len_bytes {
        if watch.interrupted() {
            return Err(CopyError::Interrupted);
        }
        let want = usize::try_from(len_bytes - offset).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let part = buffer.get_mut(..want).unwrap_or_default();
        let n = match source.read_at(part, offset) {
            Ok(0) => return Err(CopyError::Short { offset, missing: len_bytes - offset }),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read { offset, error }),
        };
        let part = part.get(..n).unwrap_or_default();
        target.write_all_at(part, offset).map_err(|error| CopyError::Write { offset, error })?;
        let n = u64::try_from(n).unwrap_or(0);
        offset += n;
        watch.advance(n);
    }
    Ok(())
}

/// Reserves `len_bytes` for `file` and makes it that long, zeros beyond what was written. Where the file system cannot
/// reserve, the file is only made long (sparse).
///
/// # Errors
/// What the system says, above all that there is no room.
pub fn preallocate(file: &File, len_bytes: u64) -> io::Result<()> {
    reserve(file, 0, len_bytes)?;
    if file.metadata()?.len() < len_bytes {
        file.set_len(len_bytes)?;
    }
    Ok(())
}

/// Reserves the `len_bytes` at `offset`, making `file` longer where it ends before; where the file system cannot, does
/// nothing.
///
/// # Errors
/// What the system says, above all that there is no room.
pub(crate) fn reserve(file: &File, offset: u64, len_bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), offset, len_bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Syncs `file` and then asks the kernel to forget its pages, so that the next read comes from the device.
///
/// # Errors
/// What `fsync` says: the data is then not safe. Forgetting is a wish and cannot fail.
pub fn sync_and_drop_cache(file: &File) -> io::Result<()> {
    file.sync_all()?;
    let _a_wish = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
    Ok(())
}

/// Why there is no room for an output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpaceError {
    /// Too little.
    #[error("{}: needs {need_bytes} bytes, {available_bytes} are free", path.display())]
    Full {
        /// Where the output would go.
        path: PathBuf,
        /// What it needs.
        need_bytes: u64,
        /// What is free there for this user.
        available_bytes: u64,
    },
    /// The file system would not say.
    #[error("{}: {error}", path.display())]
    Io {
        /// Where the output would go.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// The bytes this user may still write on the file system that holds `path`, or will hold it: the nearest directory
/// that exists is asked.
///
/// # Errors
/// [`SpaceError::Io`].
pub fn available_bytes(path: &Path) -> Result<u64, SpaceError> {
    let fail = |error: io::Error| SpaceError::Io { path: path.to_owned(), error };
    let absolute = std::path::absolute(path).map_err(fail)?;
    for place in absolute.ancestors() {
        match rustix::fs::statvfs(place) {
            Ok(fs) => return Ok(fs.f_bavail.saturating_mul(fs.f_frsize)),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(e) => return Err(fail(e.into())),
        }
    }
    Err(fail(Errno::NOENT.into()))
}

/// True when `a` and `b` are, or will be, on one file system; false also when that cannot be told.
#[must_use]
pub fn same_file_system(a: &Path, b: &Path) -> bool {
    let device = |path: &Path| {
        let absolute = std::path::absolute(path).ok()?;
        absolute.ancestors().find_map(|place| place.metadata().ok()).map(|found| found.dev())
    };
    device(a).is_some_and(|found| device(b) == Some(found))
}

/// Makes sure `need_bytes` fit where `path` will be.
///
/// # Errors
/// [`SpaceError`].
pub fn ensure_space(path: &Path, need_bytes: u64) -> Result<(), SpaceError> {
    let available_bytes = available_bytes(path)?;
    if need_bytes <= available_bytes {
        return Ok(());
    }
    Err(SpaceError::Full { path: path.to_owned(), need_bytes, available_bytes })
}
