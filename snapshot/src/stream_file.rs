//! A file written as a stream, each byte of it read back from the device while later ones are still on their way.
//!
//! What a [`bbolt::Build`] writes is not known before it is written, so it cannot be
//! [replicated](mod@crate::replicate); the rest is as there. Bytes are collected in chunks and the chunks of a window go to
//! one worker, which writes them, syncs, makes the page cache forget them, and reads them back against the CRC-32C of
//! what it was given. Meanwhile other workers write what comes next. The head, which is written last, is read back with
//! the chunk it begins.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};

use bbolt::PageWriter;
use crc_fast::checksum_combine;

use crate::contents::CRC_32C;
use crate::integrity;
use crate::replicate::{
    Buffer, Copy, ReplicateError, SIZES, Sizes, Target, WORKERS, WORKERS_IN_CACHE, failed,
};

/// Chunks that are filled or wait for a worker: memory, a chunk and a huge page each.
const BUFFERS: u64 = 6;

/// What was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBack {
    /// Length of the file in bytes.
    pub len_bytes: u64,
    /// CRC-32C of all of it.
    pub crc32c: u32,
}

/// Lets `produce` write to the fresh file `file`, which `path` names, and reads all of it back. When it returns all is
/// synced, and every chunk but the first is equal to what was given as far as CRC-32C tells; the caller holds the CRC of
/// the whole against that of what it produced.
///
/// # Errors
/// The first error of the outer kind is of the file, which then holds a part; the inner one is `produce`'s own.
pub fn write<T, E>(
    file: &File,
    path: &Path,
    produce: impl FnOnce(&mut Stream<'_>) -> Result<T, E>,
) -> Result<Result<(T, ReadBack), E>, ReplicateError> {
    write_in(&Copy::fresh(file, path), SIZES, produce)
}

fn write_in<F: Target, T, E>(
    target: &F,
    sizes: Sizes,
    produce: impl FnOnce(&mut Stream<'_>) -> Result<T, E>,
) -> Result<Result<(T, ReadBack), E>, ReplicateError> {
    let (windows, queue) = mpsc::channel();
    let (give_back, free) = mpsc::channel();
    for _ in 0..BUFFERS {
        // The receiver lives as long as this function.
        let _ = give_back.send(Buffer::new(sizes.chunk).map_err(failed(0, "write", 0))?);
    }
    let work = Work {
        target,
        sizes,
        queue: Mutex::new(queue),
        stop: AtomicBool::new(false),
        failure: Mutex::default(),
        sums: Mutex::default(),
    };
    let workers = if target.is_direct() { WORKERS } else { WORKERS_IN_CACHE };
    let produced = std::thread::scope(|scope| {
        let spawn = |_| {
            let (work, give_back) = (&work, give_back.clone());
            std::thread::Builder::new().spawn_scoped(scope, move || work.work(&give_back)).is_ok()
        };
        // A system that has few threads left gets by with fewer.
        if (0..workers).filter(|number| spawn(*number)).count() == 0 {
            let error = io::Error::from(io::ErrorKind::OutOfMemory);
            return Err(failed(0, "start a thread to write", 0)(error));
        }
        drop(give_back);
        let mut stream = Stream {
            sizes,
            stop: &work.stop,
            windows: Some(windows),
            window: None,
            free,
            chunk: None,
            end: 0,
            head: Vec::new(),
        };
        let produced = produce(&mut stream);
        // What a failed producer left behind need not be written.
        work.stop.fetch_or(produced.is_err(), Ordering::Relaxed);
        let end = stream.end;
        Ok((produced, end, stream.finish()))
    })?;
    let (produced, len_bytes, head) = produced;
    if let Some(error) = work.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let product = match produced {
        Ok(product) => product,
        Err(error) => return Ok(Err(error)),
    };
    let mut sums = work.sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !head.is_empty() {
        let first_bytes = sizes.chunk.min(len_bytes);
        target.write(&head, 0, true).map_err(failed(0, "write", 0))?;
        target.settle(0, first_bytes).map_err(failed(0, "sync", 0))?;
        let mut buffer = Buffer::new(first_bytes).map_err(failed(0, "read back", 0))?;
        let room = buffer.first(first_bytes);
        target.read(room, 0).map_err(failed(0, "read back", 0))?;
        sums.insert(0, (integrity::crc32c_of(room), first_bytes));
    }
    let crc =
        sums.values().fold(0, |crc, (next, len)| checksum_combine(CRC_32C, crc, u64::from(*next), *len));
    // The algorithm is 32 bits wide: nothing is cut off.
    let crc32c = u32::try_from(crc).unwrap_or_default();
    Ok(Ok((product, ReadBack { len_bytes, crc32c })))
}

/// Bytes on their way to a worker.
struct Chunk {
    offset: u64,
    len_bytes: u64,
    buffer: Buffer,
}

/// Where the producer writes to: in ascending order and without a gap, and last, if it likes, over the start.
pub struct Stream<'w> {
    sizes: Sizes,
    /// A worker failed.
    stop: &'w AtomicBool,
    windows: Option<Sender<Receiver<Chunk>>>,
    /// The window that is being filled.
    window: Option<Sender<Chunk>>,
    free: Receiver<Buffer>,
    /// The chunk that is being filled.
    chunk: Option<Chunk>,
    end: u64,
    /// What is to stand at the start in the end.
    head: Vec<u8>,
}

/// What the writer of a stream is told when a worker has met the real error.
fn gone() -> io::Error {
    io::Error::other("the file cannot be written")
}

impl PageWriter for Stream<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(gone());
        }
        if offset == 0 && self.end > 0 {
            if bytes.len() as u64 > self.end.min(self.sizes.chunk) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            self.head = bytes.to_vec();
            return Ok(());
        }
        if offset != self.end {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (offset, chunk_bytes) = (self.end, self.sizes.chunk);
            let chunk = match &mut self.chunk {
                Some(chunk) => chunk,
                empty => {
                    let buffer = self.free.recv().map_err(|_| gone())?;
                    empty.insert(Chunk { offset, len_bytes: 0, buffer })
                }
            };
            let filled = usize::try_from(chunk.len_bytes).unwrap_or(usize::MAX);
            let room = chunk.buffer.first(chunk_bytes).get_mut(filled..).unwrap_or_default();
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            if let Some(to) = room.get_mut(..now.len()) {
                to.copy_from_slice(now);
            }
            chunk.len_bytes += now.len() as u64;
            self.end += now.len() as u64;
            rest = later;
            if chunk.len_bytes == chunk_bytes {
                self.hand_over()?;
            }
        }
        Ok(())
    }
}

impl Stream<'_> {
    /// Gives the chunk at hand to the worker of its window.
    fn hand_over(&mut self) -> io::Result<()> {
        let Some(chunk) = self.chunk.take() else { return Ok(()) };
        if chunk.offset.is_multiple_of(self.sizes.window) {
            let (sender, receiver) = mpsc::channel();
            self.windows.as_ref().and_then(|windows| windows.send(receiver).ok()).ok_or_else(gone)?;
            self.window = Some(sender);
        }
        self.window.as_ref().and_then(|window| window.send(chunk).ok()).ok_or_else(gone)
    }

    /// Hands over the rest, and lets the workers end; returns the head.
    fn finish(mut self) -> Vec<u8> {
        if !self.stop.load(Ordering::Relaxed) {
            // A worker that is gone has told why.
            let _ = self.hand_over();
        }
        self.windows = None;
        self.window = None;
        std::mem::take(&mut self.head)
    }
}

/// What the workers share.
struct Work<'a, F> {
    target: &'a F,
    sizes: Sizes,
    queue: Mutex<Receiver<Receiver<Chunk>>>,
    stop: AtomicBool,
    failure: Mutex<Option<ReplicateError>>,
    /// CRC-32C and length by the offset of the chunk.
    sums: Mutex<BTreeMap<u64, (u32, u64)>>,
}

impl<F: Target> Work<'_, F> {
    fn work(&self, give_back: &Sender<Buffer>) {
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(window) = next else { return };
            if let Err(error) = self.window(&window, give_back) {
                self.stop.store(true, Ordering::Relaxed);
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
            // Nobody waits for a buffer that is in a window nobody writes.
            for chunk in window {
                let _ = give_back.send(chunk.buffer);
            }
        }
    }

    /// Writes the chunks of a window as they come, syncs them and reads them back.
    fn window(&self, window: &Receiver<Chunk>, give_back: &Sender<Buffer>) -> Result<(), ReplicateError> {
        let mut sums = BTreeMap::new();
        while let Ok(Chunk { offset, len_bytes, mut buffer }) = window.recv() {
            let bytes = buffer.first(len_bytes);
            let written = if self.stop.load(Ordering::Relaxed) {
                Ok(())
            } else {
                sums.insert(offset, (integrity::crc32c_of(bytes), len_bytes));
                let reserved = self.target.reserve(offset, len_bytes);
                reserved.and_then(|()| self.target.write(bytes, offset, true))
            };
            // The producer may have ended, and wants none.
            let _ = give_back.send(buffer);
            written.map_err(failed(0, "write", offset))?;
        }
        let (Some((first, _)), Some((last, (_, last_bytes)))) =
            (sums.first_key_value(), sums.last_key_value())
        else {
            return Ok(());
        };
        if self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let len_bytes = last + last_bytes - first;
        self.target.settle(*first, len_bytes).map_err(failed(0, "sync", *first))?;
        let mut buffer =
            Buffer::new(self.sizes.chunk.min(len_bytes)).map_err(failed(0, "read back", *first))?;
        for (&offset, &(expected, len_bytes)) in &sums {
            let room = buffer.first(len_bytes);
            self.target.read(room, offset).map_err(failed(0, "read back", offset))?;
            let found = integrity::crc32c_of(room);
            if found != expected {
                return Err(ReplicateError::Differs { target: 0, offset, len_bytes, expected, found });
            }
        }
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).append(&mut sums);
        Ok(())
    }
}

#[cfg(test)]
#[path = "stream_file_tests.rs"]
mod tests;
