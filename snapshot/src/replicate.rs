//! One image into several files at once, each byte of each read back from the device.
//!
//! The image is cut into windows. A worker takes a window, writes it to every target, syncs it, makes the page cache
//! forget it, and reads it back, comparing CRC-32C chunk by chunk with that of the image. While one worker waits for its
//! sync or reads, others write: the device is never idle, and nothing waits for all that was written to be synced.
//!
//! Where the file system can (`O_DIRECT`), bytes go to the device and come back from there without a copy in the page
//! cache, whose upkeep costs a processor more than all the rest. Where blocks can be shared, only what
//! the image changes is written; reading back stays.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bbolt::{Source, SourceError, Watch};
use memmap2::{Advice as MapAdvice, MmapMut};
use rustix::fs::{Advice, OFlags};
use rustix::io::Errno;

use crate::copy;
use crate::integrity;
use crate::overlay::Overlay;

/// How an image is cut up, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// What is written at once, and compared at once.
    pub(crate) chunk: u64,
    /// What is synced at once.
    pub(crate) window: u64,
}

/// A chunk keeps a device busy and stays in a processor's cache between checksum and copy. A window's sync costs
/// milliseconds, and the last window's is waited for.
pub(crate) const SIZES: Sizes = Sizes { chunk: integrity::CHUNK_BYTES, window: 8 * integrity::CHUNK_BYTES };
/// Windows under way at once: some are written while others are synced and read, and memory, a chunk and a huge page
/// each, stays small.
pub(crate) const WORKERS: u64 = 6;
/// The same through the page cache, where a file lets one write at a time and the others spin.
pub(crate) const WORKERS_IN_CACHE: u64 = 2;
/// What `O_DIRECT` asks of addresses, offsets and lengths: a multiple of the device's block, of which pages are.
const ALIGN_BYTES: usize = 4096;
/// The smallest huge page of the machines etcd runs on; a multiple of the above.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// What `statfs` calls a tmpfs: memory, which has no device to go to.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// Why an image is not in a target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicateError {
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] SourceError),
    /// A target cannot be written, or read back.
    #[error("{doing} at {offset:#x}: {error}")]
    Target {
        /// Which one, as an index into those given.
        target: usize,
        /// What was tried.
        doing: &'static str,
        /// At which byte.
        offset: u64,
        /// What the system said.
        error: io::Error,
    },
    /// What was read back is not what was written.
    #[error("CRC-32C {found:08x} instead of {expected:08x} in the {len_bytes} bytes at {offset:#x}")]
    Differs {
        /// Which target, as an index into those given.
        target: usize,
        /// The first byte of those that were compared.
        offset: u64,
        /// Their number.
        len_bytes: u64,
        /// Checksum of the image's bytes.
        expected: u32,
        /// Checksum of those read back.
        found: u32,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What was read to be written, as CRC-32C of each [`integrity::CHUNK_BYTES`]: to be held against what else was read of the
/// same file, since a check, a hash and a copy are worth nothing together unless they saw the same bytes.
#[derive(Debug, Default)]
pub struct Sums {
    /// Of the image.
    pub image: Vec<u32>,
    /// Of the image's base, up to the length that was asked for.
    pub base: Vec<u32>,
}

/// Writes `image` to every one of `targets`, fresh files and their paths, and reads it back. `origin` is the file behind
/// the image's base, whose blocks may be shared; the base's first `base_bytes` are summed as they are read. `watch` hears of every byte twice for each target: written, and read
/// back.
///
/// When it returns all is synced, and equal to the image as far as CRC-32C tells.
///
/// # Errors
/// [`ReplicateError`]; the targets then hold parts.
pub fn replicate<S: Source>(
    image: &Overlay<'_, S>,
    base_bytes: u64,
    origin: &File,
    targets: &[(&File, &Path)],
    watch: &dyn Watch,
) -> Result<Sums, ReplicateError> {
    let mut copies = Vec::with_capacity(targets.len());
    for (target, (file, path)) in targets.iter().enumerate() {
        let failed = |error| ReplicateError::Target { target, doing: "write", offset: 0, error };
        copies.push(Copy::new(image, origin, file, path).map_err(failed)?);
    }
    let sums = run(image, base_bytes, &copies, SIZES, watch)?;
    for (target, copy) in copies.iter().enumerate() {
        let failed =
            |error| ReplicateError::Target { target, doing: "sync", offset: image.len_bytes(), error };
        copy.file.sync_all().map_err(failed)?;
    }
    Ok(sums)
}

/// Something that keeps bytes, and may not.
pub(crate) trait Target: Sync {
    /// True when bytes had better come from a [`Buffer`].
    fn is_direct(&self) -> bool;
    /// Makes room for the `len_bytes` at `offset`, which will be written.
    fn reserve(&self, offset: u64, len_bytes: u64) -> io::Result<()>;
    /// Writes `bytes`; `is_changed` when they are not those of the image's base.
    fn write(&self, bytes: &[u8], offset: u64, is_changed: bool) -> io::Result<()>;
    /// Syncs what was written, and forgets the `len_bytes` at `offset`, so that they have to be read from the device.
    fn settle(&self, offset: u64, len_bytes: u64) -> io::Result<()>;
    /// Fills `buffer`.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A file in the making.
pub(crate) struct Copy<'a> {
    file: &'a File,
    /// The same file, past the page cache; `None` where there is no such way.
    direct: Option<File>,
    /// False once the system refused to.
    is_direct: AtomicBool,
    /// Shares the blocks of the image's base: what is not changed is there.
    is_shared: bool,
    /// What is read back is kept in the page cache, for who reads it next.
    is_kept: bool,
}

impl<'a> Copy<'a> {
    fn new<S: Source>(
        image: &Overlay<'_, S>,
        origin: &File,
        file: &'a File,
        path: &Path,
    ) -> io::Result<Self> {
        let is_shared = rustix::fs::ioctl_ficlone(file, origin).is_ok();
        if is_shared {
            // The clone is of the whole file, which may be longer or shorter than the image.
            file.set_len(image.len_bytes())?;
        }
        Ok(Self { is_shared, is_kept: false, ..Self::fresh(file, path) })
    }

    /// A file without anything in it yet, which is read again as soon as it is written: what is read back from the device
    /// is kept in the page cache for that.
    pub(crate) fn fresh(file: &'a File, path: &Path) -> Self {
        let flags = OFlags::DIRECT.bits().cast_signed();
        let is_memory = rustix::fs::fstatfs(file).is_ok_and(|found| found.f_type == TMPFS_MAGIC);
        let open = || OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok();
        let direct = if is_memory { None } else { open() };
        Self { file, is_direct: AtomicBool::new(direct.is_some()), direct, is_shared: false, is_kept: true }
    }

    /// The way past the page cache, for memory that `fits` it.
    fn direct(&self, fits: bool) -> Option<&File> {
        self.direct.as_ref().filter(|_| fits && self.is_direct.load(Ordering::Relaxed))
    }

    /// True when `done` says that this file has no such way after all.
    fn is_refused(&self, done: &io::Result<()>) -> bool {
        let code = done.as_ref().err().and_then(io::Error::raw_os_error);
        let refused = code == Some(Errno::INVAL.raw_os_error());
        if refused {
            self.is_direct.store(false, Ordering::Relaxed);
        }
        refused
    }
}

impl Target for Copy<'_> {
    fn is_direct(&self) -> bool {
        self.direct(true).is_some()
    }

    fn reserve(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        // Past the page cache, several can write at once only where there is room already.
        if self.is_direct() && !self.is_shared {
            copy::reserve(self.file, offset, len_bytes)?;
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64, is_changed: bool) -> io::Result<()> {
        if self.is_shared && !is_changed {
            return Ok(());
        }
        if let Some(direct) = self.direct(is_aligned(bytes)) {
            let done = direct.write_all_at(bytes, offset);
            if !self.is_refused(&done) {
                return done;
            }
        }
        self.file.write_all_at(bytes, offset)
    }

    fn settle(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.file.sync_data()?;
        // Forgetting is a wish and cannot fail. Past the page cache there should be nothing to forget, but some file
        // systems only say that they go there.
        let _a_wish = rustix::fs::fadvise(self.file, offset, NonZeroU64::new(len_bytes), Advice::DontNeed);
        Ok(())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct(is_aligned(buffer) && !self.is_kept) {
            let done = direct.read_exact_at(buffer, offset);
            if !self.is_refused(&done) {
                return done;
            }
        }
        self.file.read_exact_at(buffer, offset)
    }
}

/// True when `bytes` begin and end where `O_DIRECT` wants them to.
fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(ALIGN_BYTES) == 0 && bytes.len().is_multiple_of(ALIGN_BYTES)
}

/// Room for a chunk, placed as `O_DIRECT` wants it, and in huge pages where there are any: a device takes a request of
/// few long pieces two to three times as fast as one of many short ones.
pub(crate) struct Buffer {
    memory: MmapMut,
    start: usize,
}

impl Buffer {
    pub(crate) fn new(len_bytes: u64) -> io::Result<Self> {
        let len = usize::try_from(len_bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let memory = MmapMut::map_anon(len.saturating_add(HUGE_PAGE_BYTES))?;
        // Without huge pages it is only slower.
        let _a_wish = memory.advise(MapAdvice::HugePage);
        let start = memory.as_ptr().align_offset(HUGE_PAGE_BYTES).min(HUGE_PAGE_BYTES);
        Ok(Self { memory, start })
    }

    /// Its first `len_bytes`, at most a chunk.
    pub(crate) fn first(&mut self, len_bytes: u64) -> &mut [u8] {
        let len = usize::try_from(len_bytes).unwrap_or(usize::MAX);
        let room = self.memory.get_mut(self.start..).unwrap_or_default();
        let len = len.min(room.len());
        room.get_mut(..len).unwrap_or_default()
    }
}

/// What the workers share.
struct Work<'a, S, T> {
    image: &'a Overlay<'a, S>,
    base_bytes: u64,
    targets: &'a [T],
    sizes: Sizes,
    watch: &'a dyn Watch,
    /// Number of the next window.
    next: AtomicU64,
    /// One of them failed.
    stop: AtomicBool,
    /// By the offset of the chunk.
    sums: Mutex<BTreeMap<u64, ChunkSums>>,
}

/// What was read of a chunk of the image, and of the base there.
#[derive(Clone, Copy)]
struct ChunkSums {
    image: u32,
    base: u32,
}

fn run<S: Source, T: Target>(
    image: &Overlay<'_, S>,
    base_bytes: u64,
    targets: &[T],
    sizes: Sizes,
    watch: &dyn Watch,
) -> Result<Sums, ReplicateError> {
    let work = Work {
        image,
        base_bytes,
        targets,
        sizes,
        watch,
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        sums: Mutex::default(),
    };
    let workers = if targets.iter().any(Target::is_direct) { WORKERS } else { WORKERS_IN_CACHE };
    let others = image.len_bytes().div_ceil(sizes.window).min(workers).saturating_sub(1);
    std::thread::scope(|scope| {
        // A system that has no thread left gets by with fewer.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, || work.work()).ok();
        let others: Vec<_> = (0..others).filter_map(spawn).collect();
        let mut done = vec![work.work()];
        for other in others {
            done.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done.into_iter().collect::<Result<(), _>>()
    })?;
    let sums = work.sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    let base = sums.range(..base_bytes).map(|(_, sums)| sums.base).collect();
    Ok(Sums { image: sums.values().map(|sums| sums.image).collect(), base })
}

impl<S: Source, T: Target> Work<'_, S, T> {
    fn work(&self) -> Result<(), ReplicateError> {
        let done = self.windows();
        if done.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        done
    }

    fn windows(&self) -> Result<(), ReplicateError> {
        let len_bytes = self.image.len_bytes();
        let mut buffer = Buffer::new(self.sizes.chunk.min(len_bytes)).map_err(failed(0, "write", 0))?;
        while !self.stop.load(Ordering::Relaxed) {
            let start = self.next.fetch_add(1, Ordering::Relaxed).saturating_mul(self.sizes.window);
            if start >= len_bytes {
                break;
            }
            let end = len_bytes.min(start.saturating_add(self.sizes.window));
            let chunks = Chunks { offset: start, end, chunk_bytes: self.sizes.chunk };
            let sums = self.write(chunks, &mut buffer)?;
            self.read_back(chunks, &sums, &mut buffer)?;
        }
        Ok(())
    }

    fn look(&self) -> Result<(), ReplicateError> {
        // What stopped the others is theirs to tell.
        if self.watch.interrupted() { Err(ReplicateError::Interrupted) } else { Ok(()) }
    }

    /// Writes the chunks to every target; returns their checksums.
    fn write(&self, chunks: Chunks, buffer: &mut Buffer) -> Result<Vec<ChunkSums>, ReplicateError> {
        for (target, file) in self.targets.iter().enumerate() {
            file.reserve(chunks.offset, chunks.end - chunks.offset).map_err(failed(
                target,
                "write",
                chunks.offset,
            ))?;
        }
        let mut sums = Vec::new();
        for (offset, len) in chunks {
            let is_changed = self.image.is_changed(offset, len);
            let summed = self.sizes.chunk.min(self.base_bytes.saturating_sub(offset));
            // A map's broken page is best met here, outside of a system call.
            let (bytes, base) = self.image.bytes_and_base_sum(offset, len, summed)?;
            let bytes = if self.targets.iter().any(Target::is_direct) {
                let room = buffer.first(len);
                room.copy_from_slice(&bytes);
                room
            } else {
                &*bytes
            };
            let image = if is_changed || summed != len { integrity::crc32c_of(bytes) } else { base };
            sums.push(ChunkSums { image, base });
            for (target, file) in self.targets.iter().enumerate() {
                self.look()?;
                file.write(bytes, offset, is_changed).map_err(|error| {
                    // The memory was there a moment ago: the file behind it was cut short.
                    if error.raw_os_error() == Some(Errno::FAULT.raw_os_error()) {
                        let message = "the file was cut short while it was read".to_owned();
                        return ReplicateError::Image(SourceError::Read { offset, len, message });
                    }
                    failed(target, "write", offset)(error)
                })?;
                self.watch.advance(len);
            }
        }
        let mut all = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(chunks.map(|(offset, _)| offset).zip(sums.iter().copied()));
        Ok(sums)
    }

    /// Reads the chunks back from every target and compares them with `sums`.
    fn read_back(
        &self,
        chunks: Chunks,
        sums: &[ChunkSums],
        buffer: &mut Buffer,
    ) -> Result<(), ReplicateError> {
        for (target, file) in self.targets.iter().enumerate() {
            file.settle(chunks.offset, chunks.end - chunks.offset).map_err(failed(
                target,
                "sync",
                chunks.offset,
            ))?;
        }
        for (target, file) in self.targets.iter().enumerate() {
            for ((offset, len_bytes), expected) in chunks.zip(sums.iter().map(|sums| sums.image)) {
                self.look()?;
                let room = buffer.first(len_bytes);
                file.read(room, offset).map_err(failed(target, "read back", offset))?;
                let found = integrity::crc32c_of(room);
                if found != expected {
                    return Err(ReplicateError::Differs { target, offset, len_bytes, expected, found });
                }
                self.watch.advance(len_bytes);
            }
        }
        Ok(())
    }
}

pub(crate) fn failed(
    target: usize,
    doing: &'static str,
    offset: u64,
) -> impl FnOnce(io::Error) -> ReplicateError {
    move |error| ReplicateError::Target { target, doing, offset, error }
}

/// Offset and length of every chunk up to `end`.
#[derive(Clone, Copy)]
struct Chunks {
    offset: u64,
    end: u64,
    chunk_bytes: u64,
}

impl Iterator for Chunks {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let (offset, len_bytes) = (self.offset, self.chunk_bytes.min(self.end.checked_sub(self.offset)?));
        self.offset += len_bytes;
        (len_bytes > 0).then_some((offset, len_bytes))
    }
}

#[cfg(test)]
#[path = "replicate_tests.rs"]
mod tests;
