//! Keys of an index that are kept at hand, so that a search reads few from the file.
//!
//! An index finds a key by bisection, and each of its steps reads a key from somewhere in the file. The first of these steps meet the
//! same few keys each time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bbolt::Source;

use crate::mvcc::{Index, RecordError};

/// The most keys that are kept.
const MOST: usize = 1 << 14;
/// Bytes of keys after which no more are kept.
const MOST_BYTES: usize = 8 << 20;
/// Searches after which keys are kept: what that costs is then worth it.
const SEARCHES: usize = 1 << 10;

/// Keys at equal distances, from the first on.
#[derive(Debug, Default)]
pub(super) struct Signposts {
    searches: AtomicUsize,
    kept: OnceLock<Kept>,
}

#[derive(Debug)]
struct Kept {
    distance: usize,
    keys: Vec<Box<[u8]>>,
}

impl Signposts {
    /// The number of keys before `key`, in their order.
    ///
    /// # Errors
    /// When a record cannot be read again.
    pub(super) fn lower_bound<S: Source>(
        &self,
        index: &Index<'_, S>,
        key: &[u8],
    ) -> Result<usize, RecordError> {
        if self.searches.fetch_add(1, Ordering::Relaxed) == SEARCHES {
            // Whoever was faster kept the same.
            _ = self.kept.set(Kept::of(index)?);
        }
        let (mut low, mut high) = match self.kept.get() {
            Some(kept) => kept.around(key, index.key_count()),
            None => (0, index.key_count()),
        };
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(history) = index.history(middle) else { break };
            if *history.key()? < *key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

impl Kept {
    fn of<S: Source>(index: &Index<'_, S>) -> Result<Self, RecordError> {
        let distance = index.key_count().div_ceil(MOST).max(1);
        let (mut keys, mut bytes) = (Vec::new(), 0_usize);
        for number in (0..index.key_count()).step_by(distance) {
            let Some(history) = index.history(number) else { break };
            let key = history.key()?;
            bytes = bytes.saturating_add(key.len());
            if bytes > MOST_BYTES {
                break;
            }
            keys.push(Box::from(key.as_ref()));
        }
        Ok(Self { distance, keys })
    }

    /// Between which numbers `key` belongs, of `count` keys.
    fn around(&self, key: &[u8], count: usize) -> (usize, usize) {
        let after = self.keys.partition_point(|kept| **kept < *key);
        let low = after.checked_sub(1).map_or(0, |before| before * self.distance + 1);
        let high = if after < self.keys.len() { after * self.distance } else { count };
        (low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lies_between_its_signposts() {
        let all: Vec<Vec<u8>> = (0..10_u8).map(|n| vec![n * 2]).collect();
        let kept = |distance: usize, most: usize| {
            let keys = all.iter().step_by(distance).take(most).map(|key| Box::from(key.as_slice()));
            Kept { distance, keys: keys.collect() }
        };
        for (distance, most) in [(1, 10), (3, 10), (3, 2), (20, 10), (1, 0)] {
            let kept = kept(distance, most);
            for key in 0..=20_u8 {
                let right = all.partition_point(|other| other.as_slice() < [key].as_slice());
                let (low, high) = kept.around(&[key], all.len());
                assert!(low <= right && right <= high, "{key} {distance} {most}: {low} {right} {high}");
            }
        }
    }
}
