//! The SHA-256 that a snapshot carries behind its image: detect, verify, attach (FORMATS D).

use std::fmt;

use bbolt::{Source, SourceError, Watch};
use sha2::{Digest as _, Sha256};

use crate::contents::CRC_32C;
use crate::finding::{Finding, Severity};

/// Length of the trailer in bytes.
pub const TRAILER_BYTES: u64 = 32;
/// A file has a trailer exactly when its length leaves 32 in divisions by this: pages are multiples of it.
const SECTOR_BYTES: u64 = 512;
/// How much is hashed between two looks at the interrupt flag, in bytes.
const STEP_BYTES: u64 = 1 << 20;

/// Of how many bytes each checksum of [`chunk_sums`] is; a multiple of a step.
pub const CHUNK_BYTES: u64 = 2 << 20;

/// A SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is known of a file's integrity hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Integrity {
    /// There is a trailer, and it is the SHA-256 of the image.
    Verified,
    /// There is no trailer: a db from a data dir, or a snapshot cut short.
    Absent,
    /// There is a trailer, and the image has another SHA-256.
    Mismatch,
    /// There is a trailer, and nobody asked to compare it.
    Unchecked,
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::Absent => "absent",
            Self::Mismatch => "mismatch",
            Self::Unchecked => "unchecked",
        })
    }
}

/// The outcome of looking at a file's trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// What is known.
    pub integrity: Integrity,
    /// The trailer, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Digest>,
    /// The image's SHA-256, where it was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed: Option<Digest>,
    /// Length of the image, without trailer, in bytes.
    pub image_bytes: u64,
}

impl Verdict {
    /// The verdict once the image's SHA-256 is known.
    #[must_use]
    pub fn compared(self, computed: Digest) -> Self {
        let integrity = match self.expected {
            None => Integrity::Absent,
            Some(expected) if expected == computed => Integrity::Verified,
            Some(_) => Integrity::Mismatch,
        };
        Self { integrity, computed: Some(computed), ..self }
    }

    /// What a trailer that is not the image's says; `None` when it is, or was not compared.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let (Integrity::Mismatch, Some(expected), Some(computed)) =
            (self.integrity, self.expected, self.computed)
        else {
            return None;
        };
        let message = format!(
            "the image's SHA-256 is {computed}, its trailer says {expected}: the file changed after it was taken. \
             Copy it again, or use another snapshot"
        );
        Some(Finding::new("SNAP-HASH-MISMATCH", Severity::Error, message))
    }
}

/// Why hashing ended early.
#[derive(Debug, thiserror::Error)]
pub enum HashingError {
    /// The file could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Length of the image in a file of `len_bytes`, without its trailer, and whether it has one.
#[must_use]
pub fn image_bytes(len_bytes: u64) -> (u64, bool) {
    let has_trailer = len_bytes % SECTOR_BYTES == TRAILER_BYTES;
    (if has_trailer { len_bytes - TRAILER_BYTES } else { len_bytes }, has_trailer)
}

/// What a file's length alone says: a snapshot's is a multiple of 512 and 32 more, a db's a multiple of 512.
#[must_use]
pub fn length_finding(len_bytes: u64) -> Option<Finding> {
    let (image_bytes, has_trailer) = image_bytes(len_bytes);
    (!has_trailer && !image_bytes.is_multiple_of(SECTOR_BYTES)).then(|| {
        let message = format!(
            "the file has {len_bytes} bytes: a snapshot has a multiple of 512 and 32 more, a db a multiple of 512. It \
             was cut short or added to, most likely on its way here; copy it again"
        );
        Finding::new("SNAP-LENGTH", Severity::Error, message)
    })
}

/// What the file's length and trailer say, without hashing anything.
///
/// # Errors
/// When the trailer cannot be read.
pub fn unchecked<S: Source>(source: &S) -> Result<Verdict, SourceError> {
    let (image_bytes, has_trailer) = image_bytes(source.len_bytes());
    let expected = if has_trailer { Some(trailer(source, image_bytes)?) } else { None };
    let integrity = if has_trailer { Integrity::Unchecked } else { Integrity::Absent };
    Ok(Verdict { integrity, expected, computed: None, image_bytes })
}

/// Compares the trailer with the image. A file without trailer is not hashed.
///
/// # Errors
/// When the file cannot be read, or the user asked to stop.
pub fn verify<S: Source>(source: &S, watch: &dyn Watch) -> Result<Verdict, HashingError> {
    let verdict = unchecked(source)?;
    if verdict.expected.is_none() {
        return Ok(verdict);
    }
    Ok(verdict.compared(sha256(source, verdict.image_bytes, watch)?))
}

/// What [`verify`] says, and the SHA-256 of the whole file, its trailer included, of one read.
///
/// # Errors
/// When the file cannot be read, or the user asked to stop.
pub fn verify_whole<S: Source>(source: &S, watch: &dyn Watch) -> Result<(Verdict, Digest), HashingError> {
    let verdict = unchecked(source)?;
    let mut hasher = Sha256::new();
    each_step(source, verdict.image_bytes, watch, |bytes| hasher.update(bytes))?;
    let Some(trailer) = verdict.expected else { return Ok((verdict, Digest(hasher.finalize().into()))) };
    let image = Digest(hasher.clone().finalize().into());
    hasher.update(trailer.0);
    Ok((verdict.compared(image), Digest(hasher.finalize().into())))
}

/// SHA-256 of the first `len_bytes` of `source`.
///
/// # Errors
/// When the file cannot be read, or the user asked to stop.
pub fn sha256<S: Source>(source: &S, len_bytes: u64, watch: &dyn Watch) -> Result<Digest, HashingError> {
    let mut hasher = Sha256::new();
    each_step(source, len_bytes, watch, |bytes| hasher.update(bytes))?;
    Ok(Digest(hasher.finalize().into()))
}

/// SHA-256 of the first `len_bytes` of `source` and, of the very same reads, their [`chunk_sums`].
///
/// # Errors
/// When the file cannot be read, or the user asked to stop.
pub fn sha256_and_sums<S: Source>(
    source: &S,
    len_bytes: u64,
    watch: &dyn Watch,
) -> Result<(Digest, Vec<u32>), HashingError> {
    let mut hasher = Sha256::new();
    let sums = sums_of(source, len_bytes, watch, |bytes| hasher.update(bytes))?;
    Ok((Digest(hasher.finalize().into()), sums))
}

/// CRC-32C of each [`CHUNK_BYTES`] of the first `len_bytes` of `source`, the last of what is left: what a later read of the
/// same bytes is held against.
///
/// # Errors
/// When the file cannot be read, or the user asked to stop.
pub fn chunk_sums<S: Source>(
    source: &S,
    len_bytes: u64,
    watch: &dyn Watch,
) -> Result<Vec<u32>, HashingError> {
    sums_of(source, len_bytes, watch, |_| {})
}

fn sums_of<S: Source>(
    source: &S,
    len_bytes: u64,
    watch: &dyn Watch,
    mut take: impl FnMut(&[u8]),
) -> Result<Vec<u32>, HashingError> {
    let mut sums = Vec::new();
    let (mut digest, mut done) = (crc_fast::Digest::new(CRC_32C), 0);
    each_step(source, len_bytes, watch, |bytes| {
        take(bytes);
        digest.update(bytes);
        done += bytes.len() as u64;
        if done.is_multiple_of(CHUNK_BYTES) || done == len_bytes {
            sums.push(narrow(digest.finalize()));
            digest = crc_fast::Digest::new(CRC_32C);
        }
    })?;
    Ok(sums)
}

/// A file that was not the same each time it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "changed while it was read{}: something writes to it, or its disk does not answer the same twice. Stop what writes, or \
     copy the file to another disk, and run this again", .offset.map(|offset| format!(", at {offset:#x}")).unwrap_or_default()
)]
pub struct Changed {
    /// Where the first difference is, as far as that is known: the start of a chunk.
    pub offset: Option<u64>,
}

/// Holds the checksums of one read against those of another, as far as both go.
///
/// # Errors
/// [`Changed`], with the first chunk that differs.
pub fn ensure_same(first: &[u32], second: &[u32]) -> Result<(), Changed> {
    match first.iter().zip(second).position(|(first, second)| first != second) {
        None => Ok(()),
        Some(chunk) => Err(Changed { offset: Some(chunk as u64 * CHUNK_BYTES) }),
    }
}

/// CRC-32C of `bytes`, to hold what was read back against what was written.
#[must_use]
pub fn crc32c_of(bytes: &[u8]) -> u32 {
    narrow(crc_fast::checksum(CRC_32C, bytes))
}

/// The algorithm is 32 bits wide: nothing is cut off.
fn narrow(checksum: u64) -> u32 {
    u32::try_from(checksum).unwrap_or_default()
}

fn each_step<S: Source>(
    source: &S,
    len_bytes: u64,
    watch: &dyn Watch,
    mut take: impl FnMut(&[u8]),
) -> Result<(), HashingError> {
    let mut offset = 0;
    while offset < len_bytes {
        if watch.interrupted() {
            return Err(HashingError::Interrupted);
        }
        let step = STEP_BYTES.min(len_bytes - offset);
        take(&source.bytes(offset, step)?);
        watch.advance(step);
        offset += step;
    }
    Ok(())
}

fn trailer<S: Source>(source: &S, image_bytes: u64) -> Result<Digest, SourceError> {
    let bytes = source.bytes(image_bytes, TRAILER_BYTES)?;
    let mut digest = [0; 32];
    digest.copy_from_slice(&bytes);
    Ok(Digest(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FORMATS V, and the length of the input that is not a multiple of a step.
    #[test]
    fn digests_of_known_bytes() {
        let bytes: &[u8] = b"123456789";
        assert_eq!(crc32c_of(bytes), 0xe306_9283);
        let abc: &[u8] = b"abcdef";
        let sha256 = sha256(&abc, 3, &()).unwrap().to_string();
        assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
    #[test]
    fn one_read_is_enough_for_both_hashes() {
        let mut bytes = vec![7u8; 1536];
        for trailer in [None, Some(sha256(&bytes, 1536, &()).unwrap()), Some(Digest([9; 32]))] {
            bytes.truncate(1536);
            bytes.extend(trailer.iter().flat_map(|digest| digest.0));
            let (verdict, whole) = verify_whole(&bytes, &()).unwrap();
            assert_eq!(whole, sha256(&bytes, bytes.len() as u64, &()).unwrap());
            assert_eq!(verdict.integrity, verify(&bytes, &()).unwrap().integrity);
        }
    }
    #[test]
    fn a_chunk_that_reads_otherwise_is_found() {
        let chunk = usize::try_from(CHUNK_BYTES).unwrap();
        let mut bytes: Vec<u8> = (0..2 * chunk + 5).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (digest, sums) = sha256_and_sums(&bytes, bytes.len() as u64, &()).unwrap();
        assert_eq!(digest, sha256(&bytes, bytes.len() as u64, &()).unwrap());
        assert_eq!(sums, bytes.chunks(chunk).map(crc32c_of).collect::<Vec<_>>());
        assert_eq!(ensure_same(&sums, &sums[..1]), Ok(()));
        bytes[2 * chunk] ^= 1;
        let now = chunk_sums(&bytes, bytes.len() as u64, &()).unwrap();
        let changed = ensure_same(&sums, &now).unwrap_err();
        assert_eq!(changed.offset, Some(2 * CHUNK_BYTES));
        assert!(changed.to_string().starts_with("changed while it was read, at 0x400000: "));
    }
}
