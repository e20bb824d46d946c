//! Bytes at an offset: the one way this crate reads, be it from a map, a file or a slice.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Why bytes could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The range does not lie within the source.
    #[error("bytes {offset:#x}..+{len} lie outside the {available} bytes there are")]
    OutOfRange {
        /// First byte wanted.
        offset: u64,
        /// Bytes wanted.
        len: u64,
        /// Length of the source in bytes.
        available: u64,
    },
    /// The operating system refused the read.
    #[error("reading {len} bytes at {offset:#x}: {message}")]
    Read {
        /// First byte wanted.
        offset: u64,
        /// Bytes wanted.
        len: u64,
        /// The system's words.
        message: String,
    },
}

/// A random-access store of bytes that does not change while it is read.
pub trait Source: Send + Sync {
    /// Length in bytes.
    fn len_bytes(&self) -> u64;

    /// True when there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len_bytes() == 0
    }

    /// The `len` bytes at `offset`: borrowed where they are in memory already, read otherwise.
    ///
    /// # Errors
    /// [`SourceError::OutOfRange`] before anything is allocated; [`SourceError::Read`] when the system fails.
    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError>;

    /// Says that the `len` bytes at `offset` are read very soon. Whether anything comes of it, and whether there are such
    /// bytes, does not matter to the caller.
    fn will_read(&self, _offset: u64, _len: u64) {}
}

/// The part of `all` that `offset` and `len` name.
pub(crate) fn slice_of(all: &[u8], offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
    let out = || SourceError::OutOfRange { offset, len, available: all.len() as u64 };
    let start = usize::try_from(offset).map_err(|_| out())?;
    let len_native = usize::try_from(len).map_err(|_| out())?;
    let end = start.checked_add(len_native).ok_or_else(out)?;
    all.get(start..end).map(Cow::Borrowed).ok_or_else(out)
}

impl Source for &[u8] {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        slice_of(self, offset, len)
    }
}

impl Source for Vec<u8> {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        slice_of(self, offset, len)
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn len_bytes(&self) -> u64 {
        (**self).len_bytes()
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        (**self).bytes(offset, len)
    }

    fn will_read(&self, offset: u64, len: u64) {
        (**self).will_read(offset, len);
    }
}

/// A file read with `pread`: slower than a map, but a dying disk or a file cut short under us is an ordinary error.
#[derive(Debug)]
pub struct Pread {
    file: File,
    len_bytes: u64,
}

impl Pread {
    /// Reads from `file`, whose length is taken now.
    ///
    /// # Errors
    /// When the file's length cannot be had.
    pub fn new(file: File) -> std::io::Result<Self> {
        let len_bytes = file.metadata()?.len();
        Ok(Self { file, len_bytes })
    }

    /// The file itself.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Source for Pread {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        let out = SourceError::OutOfRange { offset, len, available: self.len_bytes };
        let Some(end) = offset.checked_add(len) else { return Err(out) };
        let Ok(len_native) = usize::try_from(len) else { return Err(out) };
        if end > self.len_bytes {
            return Err(out);
        }
        let mut buffer = vec![0u8; len_native];
        self.file.read_exact_at(&mut buffer, offset).map_err(|e| SourceError::Read {
            offset,
            len,
            message: e.to_string(),
        })?;
        Ok(Cow::Owned(buffer))
    }
}
