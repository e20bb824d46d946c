//! A set of a bucket's pairs, by their number in the order of the keys.

/// A set of a bucket's pairs, by their number in the order of the keys, from 0: one bit a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ordinals {
    words: Vec<u64>,
    pairs: u64,
}

impl Ordinals {
    /// The empty set of a bucket with that many pairs.
    pub(super) fn new(pairs: u64) -> Self {
        let words = usize::try_from(pairs.div_ceil(64)).unwrap_or_default();
        Self { words: vec![0; words], pairs }
    }

    /// Whether pair number `ordinal` is in.
    #[inline]
    #[must_use]
    pub fn contains(&self, ordinal: u64) -> bool {
        let word = usize::try_from(ordinal / 64).ok().and_then(|word| self.words.get(word));
        word.is_some_and(|word| word & 1 << (ordinal % 64) != 0)
    }

    /// Number of pairs that the bucket has.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    /// Number of pairs that are in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Adds the pair that follows those of the bucket that are known, whether it is in or not.
    #[inline]
    pub(super) fn push(&mut self, is_in: bool) {
        if self.pairs.is_multiple_of(u64::from(u64::BITS)) {
            self.words.push(0);
        }
        self.pairs += 1;
        if is_in {
            self.insert(self.pairs - 1);
        }
    }

    /// Adds pair number `ordinal`, when there is one.
    #[inline]
    pub(super) fn insert(&mut self, ordinal: u64) {
        let word = usize::try_from(ordinal / 64).ok().and_then(|word| self.words.get_mut(word));
        if let Some(word) = word.filter(|_| ordinal < self.pairs) {
            *word |= 1 << (ordinal % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_in_and_nothing_else() {
        let mut set = Ordinals::new(130);
        for ordinal in [0, 63, 64, 129, 130, u64::MAX] {
            set.insert(ordinal);
        }
        let found: Vec<u64> = (0..300).filter(|ordinal| set.contains(*ordinal)).collect();
        assert_eq!(found, [0, 63, 64, 129]);
        assert_eq!((set.count(), set.pairs()), (4, 130));
        let mut grown = Ordinals::default();
        (0..130).for_each(|ordinal| grown.push(set.contains(ordinal)));
        assert_eq!(grown, set);
    }
}
