//! Room for outputs, on the file system and in files, and getting them to the device. Bytes are moved by
//! [`replicate`](mod@crate::replicate), names by [`stage`](crate::stage).

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;

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
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), offset, len_bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(()),
            // Whoever sent the signal is answered at the next look.
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
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

/// As [`ensure_space`], for a member's data of `data_bytes` at `output` and its log of `log_bytes`, which lies in `wal_dir` where that is
/// given, on whatever file system.
///
/// # Errors
/// [`SpaceError`].
pub fn ensure_space_for_member(
    output: &Path,
    data_bytes: u64,
    wal_dir: Option<&Path>,
    log_bytes: u64,
) -> Result<(), SpaceError> {
    match wal_dir {
        Some(wal_dir) if !same_file_system(output, wal_dir) => {
            ensure_space(output, data_bytes)?;
            ensure_space(wal_dir, log_bytes)
        }
        _ => ensure_space(output, data_bytes.saturating_add(log_bytes)),
    }
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
