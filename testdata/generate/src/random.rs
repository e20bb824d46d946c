//! Pseudo-random numbers that are the same for ever: a file is made again from its seed years later, so no library
//! that may change its generator is asked (SplitMix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
//! Generators", 2014).

/// A stream of pseudo-random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

/// Which of a seed's streams; one purpose never draws from another's. Values have a stream each, by their revision, which
/// is above 2^32.
pub(crate) mod purpose {
    /// What revisions do.
    pub(crate) const HISTORY: u64 = 1;
    /// The text that values are cut from.
    pub(crate) const TEXT: u64 = 2;
    /// Runs of free pages.
    pub(crate) const FREE_RUNS: u64 = 3;
    /// Which requests a log has.
    pub(crate) const REQUESTS: u64 = 4;
    /// How entries of a log are saved together.
    pub(crate) const BATCHES: u64 = 5;
}

/// Spreads the bits of `x`; a bijection.
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// The stream of `seed` for one purpose.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(seed ^ mix(purpose.wrapping_add(GOLDEN))))
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// The next 32 bits.
    pub(crate) fn bits32(&mut self) -> u32 {
        let [.., a, b, c, d] = self.bits().to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let scaled = (u64::from(self.bits32()) * u64::from(bound)) >> 32;
        // Below `bound`, so it fits.
        u32::try_from(scaled).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator's published vectors: seed 1234567, as in the reference of the Java library and of xoshiro's.
    #[test]
    fn published_vectors() {
        let mut random = Random(1_234_567);
        let seen: Vec<u64> = (0..5).map(|_| random.bits()).collect();
        assert_eq!(
            seen,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut random = Random::new(7, 1);
        assert_eq!(random.below(0), 0);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[usize::try_from(random.below(5)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 5]);
    }
}
