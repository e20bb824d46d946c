//! A source with some bytes replaced: how an edit is checked before a byte of it is written.

use std::borrow::Cow;

use bbolt::{Source, SourceError};

use crate::integrity;

/// `base`, cut or extended to `len_bytes`, under patches that do not overlap. Bytes between the base's end and the
/// patches read as zeros, as a file extended by writing there would.
pub struct Overlay<'a, S> {
    base: &'a S,
    len_bytes: u64,
    /// Offset and bytes, ascending.
    patches: Vec<(u64, &'a [u8])>,
}

impl<'a, S: Source> Overlay<'a, S> {
    /// Lays `patches` (offset, bytes) over `base`.
    pub fn new(base: &'a S, len_bytes: u64, patches: impl IntoIterator<Item = (u64, &'a [u8])>) -> Self {
        let mut patches: Vec<_> = patches.into_iter().collect();
        patches.sort_by_key(|(offset, _)| *offset);
        Self { base, len_bytes, patches }
    }

    /// True when some of the `len` bytes at `offset` are not the base's.
    pub(crate) fn is_changed(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len);
        end > self.base.len_bytes() || !self.touching(offset, end).is_empty()
    }

    /// The `len` bytes at `offset` and, of the same read of the base, the CRC-32C of its `summed` bytes there, which may be
    /// more or fewer than `len`.
    pub(crate) fn bytes_and_base_sum(
        &self,
        offset: u64,
        len: u64,
        summed: u64,
    ) -> Result<(Cow<'_, [u8]>, u32), SourceError> {
        let end = self.end(offset, len)?;
        let base = self.base_bytes(offset, end.max(offset.saturating_add(summed)))?;
        let summed = usize::try_from(summed).unwrap_or(usize::MAX).min(base.len());
        let sum = integrity::crc32c_of(base.get(..summed).unwrap_or_default());
        Ok((self.patched(offset, end, base), sum))
    }

    fn end(&self, offset: u64, len: u64) -> Result<u64, SourceError> {
        let out = SourceError::OutOfRange { offset, len, available: self.len_bytes };
        offset.checked_add(len).filter(|end| *end <= self.len_bytes).ok_or(out)
    }

    /// What the base has from `offset` to `end`, as far as it goes.
    fn base_bytes(&self, offset: u64, end: u64) -> Result<Cow<'a, [u8]>, SourceError> {
        let available = self.base.len_bytes();
        let start = offset.min(available);
        self.base.bytes(start, end.min(available).saturating_sub(start))
    }

    /// The bytes from `offset` to `end`, given what the base has from `offset` on, which may be more.
    fn patched(&self, offset: u64, end: u64, mut base: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        let Ok(len) = usize::try_from(end - offset) else { return Cow::default() };
        let touching = self.touching(offset, end);
        if touching.is_empty() && base.len() >= len {
            return match base {
                Cow::Borrowed(all) => Cow::Borrowed(all.get(..len).unwrap_or_default()),
                Cow::Owned(ref mut all) => {
                    all.truncate(len);
                    base
                }
            };
        }
        let mut buffer = vec![0; len];
        copy_part(&mut buffer, offset, offset, &base);
        for (at, bytes) in touching {
            copy_part(&mut buffer, offset, *at, bytes);
        }
        Cow::Owned(buffer)
    }

    /// The patches that touch `offset..end`: none begins at or after `end`, none ends at or before `offset`.
    fn touching(&self, offset: u64, end: u64) -> &[(u64, &'a [u8])] {
        let first = self.patches.partition_point(|(at, bytes)| at + bytes.len() as u64 <= offset);
        let last = self.patches.partition_point(|(at, _)| *at < end);
        self.patches.get(first..last).unwrap_or_default()
    }
}

impl<S: Source> Source for Overlay<'_, S> {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        let end = self.end(offset, len)?;
        Ok(self.patched(offset, end, self.base_bytes(offset, end)?))
    }
}

/// Copies what of `bytes`, which stand at `at`, falls into `buffer`, which stands at `offset`.
fn copy_part(buffer: &mut [u8], offset: u64, at: u64, bytes: &[u8]) {
    let skip = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
    let to = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
    let bytes = bytes.get(skip..).unwrap_or_default();
    if let Some(target) = buffer.get_mut(to..) {
        let len = target.len().min(bytes.len());
        if let (Some(target), Some(bytes)) = (target.get_mut(..len), bytes.get(..len)) {
            target.copy_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_reads_as_the_patched_bytes() {
        let base: Vec<u8> = (0..40).collect();
        let patches: [(u64, &[u8]); 3] = [(3, b"abc"), (10, b"defghi"), (44, b"xyz")];
        let mut expected = base.clone();
        expected.resize(50, 0);
        for (at, bytes) in patches {
            let at = usize::try_from(at).unwrap();
            expected[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let overlay = Overlay::new(&base, 50, patches);
        for offset in 0..=50u64 {
            for len in 0..=50 - offset {
                let range = usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap();
                assert_eq!(*overlay.bytes(offset, len).unwrap(), expected[range.clone()]);
                for summed in 0..=40u64.saturating_sub(offset) {
                    let (bytes, sum) = overlay.bytes_and_base_sum(offset, len, summed).unwrap();
                    assert_eq!(*bytes, expected[range.clone()]);
                    let summed = base.iter().skip(range.start).take(usize::try_from(summed).unwrap());
                    assert_eq!(sum, integrity::crc32c_of(&summed.copied().collect::<Vec<_>>()));
                }
            }
        }
        assert!(overlay.bytes(50, 1).is_err());
        assert!(overlay.bytes(u64::MAX, 2).is_err());
    }
}
