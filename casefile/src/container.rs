//! The file of a case: one redb database in chunks with a checksum each, so that redb never sees a byte that was not written.
//!
//! ```text
//! 0     magic, version, length of a chunk, length of the database, CRC-32C of the table, CRC-32C of this head
//! 4096  the database
//!       table: CRC-32C of each chunk of the database, the last of what is left
//! ```
//! All numbers are little-endian. redb takes its own pages at their word, and ends a program over damaged ones. Here each chunk is
//! held against its checksum when it is first read, so damage is an error with a place. A file made by hand, with checksums that fit,
//! is not recognized. A finished file is never written to again: a change is a new file that takes its place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bbolt::file::open_read_only;
use snapshot::integrity::crc32c_of;

use crate::error::CaseError;

/// The version of container and tables. Files of other versions are refused.
pub const SCHEMA_VERSION: u32 = 1;

const MAGIC: &[u8; 16] = b"etcd-rescue case";
/// Length of the head's fields in bytes, its own checksum included.
const HEAD_BYTES: usize = 44;
/// Where the database begins.
const BASE: u64 = 4096;
const CHUNK_BYTES: u64 = 16 << 10;

/// A finished case file, open for reading.
#[derive(Debug)]
pub(crate) struct Container {
    path: PathBuf,
    file: File,
    len_bytes: u64,
    sums: Vec<u32>,
    /// One bit a chunk: whether it was held against its checksum.
    checked: Vec<AtomicU64>,
}

impl Container {
    pub(crate) fn open(path: &Path) -> Result<Self, CaseError> {
        let refused = |source| CaseError::Io { path: path.to_owned(), source };
        let meta = path.metadata().map_err(refused)?;
        if !meta.is_file() {
            return Err(CaseError::Foreign { path: path.to_owned(), what: "it is no regular file" });
        }
        let file = open_read_only(path).map_err(refused)?;
        Self::of(path, file)
    }

    /// The container in `file`, which `path` names in messages.
    pub(crate) fn of(path: &Path, file: File) -> Result<Self, CaseError> {
        let refused = |source| CaseError::Io { path: path.to_owned(), source };
        let damaged = |what: &str| CaseError::Damaged { path: path.to_owned(), what: what.to_owned() };
        let file_len = file.metadata().map_err(refused)?.len();
        let mut head = [0; HEAD_BYTES];
        let got = file.read_at(&mut head, 0).map_err(refused)?;
        if head.get(..MAGIC.len()) != Some(MAGIC) {
            let what = if got == 0 { "it is empty" } else { "it does not begin like one" };
            return Err(CaseError::Foreign { path: path.to_owned(), what });
        }
        let word = |at: usize| {
            let bytes = head.get(at..).and_then(<[u8]>::first_chunk::<4>);
            u32::from_le_bytes(*bytes.unwrap_or(&[0; 4]))
        };
        let version = word(16);
        if version != SCHEMA_VERSION {
            return Err(CaseError::OtherVersion { path: path.to_owned(), version, known: SCHEMA_VERSION });
        }
        if crc32c_of(head.get(..HEAD_BYTES - 4).unwrap_or_default()) != word(HEAD_BYTES - 4) {
            return Err(damaged("its head does not have the checksum it states"));
        }
        let len_bytes = u64::from(word(24)) | u64::from(word(28)) << 32;
        let chunks = len_bytes.div_ceil(CHUNK_BYTES);
        let whole = BASE.saturating_add(len_bytes).saturating_add(chunks.saturating_mul(4));
        if file_len != whole {
            return Err(damaged(&format!("it has {file_len} bytes, and should have {whole}")));
        }
        let count = usize::try_from(chunks).map_err(|_| damaged("it is too long for this machine"))?;
        let mut table = vec![0; count * 4];
        file.read_exact_at(&mut table, BASE + len_bytes).map_err(refused)?;
        if crc32c_of(&table) != word(32) {
            return Err(damaged("its table of checksums does not have the checksum it should have"));
        }
        let sums = table.as_chunks::<4>().0.iter().map(|sum| u32::from_le_bytes(*sum)).collect();
        let checked = std::iter::repeat_with(AtomicU64::default).take(count.div_ceil(64)).collect();
        Ok(Self { path: path.to_owned(), file, len_bytes, sums, checked })
    }

    /// The bytes of a chunk, held against their checksum.
    fn chunk(&self, number: usize) -> io::Result<Vec<u8>> {
        let from = number as u64 * CHUNK_BYTES;
        let len = CHUNK_BYTES.min(self.len_bytes.saturating_sub(from));
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, BASE + from)?;
        let (found, expected) = (crc32c_of(&bytes), self.sums.get(number).copied().unwrap_or_default());
        if found != expected {
            let message = format!(
                "the {len} bytes at {:#x} have the checksum {found:08x}, expected {expected:08x}",
                BASE + from
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if let Some(word) = self.checked.get(number / 64) {
            word.fetch_or(1 << (number % 64), Ordering::Relaxed);
        }
        Ok(bytes)
    }

    fn is_checked(&self, number: usize) -> bool {
        self.checked
            .get(number / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (number % 64) != 0)
    }

    /// Holds every chunk against its checksum.
    pub(crate) fn check_all(&self, watch: &dyn bbolt::Watch) -> Result<(), CaseError> {
        for number in 0..self.sums.len() {
            let len = self.chunk(number).map_err(|error| self.failed(error))?.len();
            watch.advance(len as u64);
            if watch.interrupted() {
                return Err(CaseError::Interrupted);
            }
        }
        Ok(())
    }

    /// Copies the database, chunk by chunk and checked, into `output`, a container in the making.
    pub(crate) fn copy_to(&self, output: &File, watch: &dyn bbolt::Watch) -> Result<(), CaseError> {
        for number in 0..self.sums.len() {
            let bytes = self.chunk(number).map_err(|error| self.failed(error))?;
            let to = BASE + number as u64 * CHUNK_BYTES;
            output
                .write_all_at(&bytes, to)
                .map_err(|source| CaseError::Io { path: self.path.clone(), source })?;
            if watch.interrupted() {
                return Err(CaseError::Interrupted);
            }
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> CaseError {
        let path = self.path.clone();
        if error.kind() == io::ErrorKind::InvalidData {
            return CaseError::Damaged { path, what: error.to_string() };
        }
        CaseError::Io { path, source: error }
    }
}

fn cannot() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "a finished case is not written to")
}

impl redb::StorageBackend for Container {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len_bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= self.len_bytes);
        let end =
            end.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the case"))?;
        let beyond = |_| io::Error::from(io::ErrorKind::UnexpectedEof);
        let first = usize::try_from(offset / CHUNK_BYTES).map_err(beyond)?;
        let behind = usize::try_from(end.div_ceil(CHUNK_BYTES)).map_err(beyond)?;
        for number in (first..behind).filter(|number| !self.is_checked(*number)) {
            self.chunk(number)?;
        }
        self.file.read_exact_at(out, BASE + offset)
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(cannot())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(cannot())
    }
}

/// A container in the making: the database lies where it will, and everything else is still to come.
#[derive(Debug)]
pub(crate) struct Draft(pub(crate) File);

impl redb::StorageBackend for Draft {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len().saturating_sub(BASE))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, BASE.saturating_add(offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(BASE.saturating_add(len))
    }

    /// Nothing: the file is synced as a whole before it gets its name.
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, BASE.saturating_add(offset))
    }
}

/// Makes a container of the database that was written to the draft in `file`.
pub(crate) fn finish(file: &File) -> io::Result<()> {
    let len_bytes = file.metadata()?.len().saturating_sub(BASE);
    let mut table = Vec::new();
    let mut bytes = vec![0; usize::try_from(CHUNK_BYTES).unwrap_or_default()];
    let mut from = 0;
    while from < len_bytes {
        let len = usize::try_from(CHUNK_BYTES.min(len_bytes - from)).unwrap_or_default();
        let chunk = bytes.get_mut(..len).unwrap_or_default();
        file.read_exact_at(chunk, BASE + from)?;
        table.extend_from_slice(&crc32c_of(chunk).to_le_bytes());
        from += CHUNK_BYTES;
    }
    file.write_all_at(&table, BASE + len_bytes)?;
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&SCHEMA_VERSION.to_le_bytes());
    head.extend_from_slice(&(16u32 << 10).to_le_bytes());
    head.extend_from_slice(&len_bytes.to_le_bytes());
    head.extend_from_slice(&crc32c_of(&table).to_le_bytes());
    head.extend_from_slice(&[0; 4]);
    let sum = crc32c_of(&head);
    head.extend_from_slice(&sum.to_le_bytes());
    file.write_all_at(&head, 0)
}
