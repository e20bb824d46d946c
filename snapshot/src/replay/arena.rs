//! Bytes that are written once and stay.

/// The least that is taken from the heap at a time, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Records, one behind the other in large pieces, so that growing moves none of them.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Vec<u8>>,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    chunk: usize,
    start: usize,
    end: usize,
}

impl Arena {
    /// Adds what `write` appends, which takes about `len` bytes.
    pub(super) fn add(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Place {
        let fits = self.chunks.last().is_some_and(|chunk| chunk.capacity() - chunk.len() >= len);
        if !fits {
            self.chunks.push(Vec::with_capacity(len.max(CHUNK_BYTES)));
        }
        let chunk = self.chunks.len().saturating_sub(1);
        let Some(bytes) = self.chunks.last_mut() else { return Place { chunk, start: 0, end: 0 } };
        let start = bytes.len();
        write(bytes);
        Place { chunk, start, end: bytes.len() }
    }

    /// The record at this place.
    pub(super) fn bytes(&self, place: Place) -> &[u8] {
        let chunk = self.chunks.get(place.chunk).map_or(&[][..], Vec::as_slice);
        chunk.get(place.start..place.end).unwrap_or_default()
    }

    /// Forgets the record at this place and all after it.
    pub(super) fn truncate(&mut self, place: Place) {
        self.chunks.truncate(place.chunk + 1);
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.truncate(place.start);
        }
    }
}
