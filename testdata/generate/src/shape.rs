//! What a store is to look like: how much of what, and how it came to be.

use std::ops::RangeInclusive;

use snapshot::target::TargetVersion;

/// Nothing below this many keys has a history to speak of.
const FEWEST: u32 = 1;
/// Operations of a transaction at most, on average over all of them: each takes memory while it is made.
pub(crate) const MOST_OPS: u32 = 1_000_000;
/// Keys that one range delete takes at most.
const MOST_SWEPT: u32 = 10_000_000;
/// Leases at most.
const MOST_LEASES: u32 = 10_000_000;
/// The longest value in bytes: a value is made in memory.
const LONGEST_VALUE_BYTES: u32 = 1 << 28;
/// Page sizes bbolt knows, in bytes: the powers of two among these.
const PAGE_BYTES: RangeInclusive<u32> = 1 << 10..=1 << 16;
/// A scale of 1.
pub const SCALE_ONE: u64 = 1_000_000;

/// A store that was measured once, to be made again at any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// 2.4 GB: 891,720 records in 7,431 large transactions, values of 0.5 to 8 KiB.
    Big,
    /// The same after range deletes and a compaction: a fifth of the file is in use.
    Frag,
    /// 1.3 GB: 486,600 revisions of one operation each, as a Kubernetes API server writes them.
    Flat,
}

/// Range deletes at the end of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// How many of them, one revision each.
    pub revisions: u32,
    /// Live keys left after the last.
    pub live_keys: u32,
}

/// What names of keys look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyShape {
    /// `/registry/pods/billing-04/api-…`, some 50 bytes.
    #[default]
    Kubernetes,
    /// Seven letters, nothing in common.
    Flat,
    /// `/objects/…`, 60 bytes, the seven letters behind that different in each and the rest without a pattern.
    Sixty,
    /// 130 to 1,023 bytes with much in common.
    Deep,
}

/// A store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What all names, values and choices follow from.
    pub seed: u64,
    /// Revisions of transactions, from revision 2 on.
    pub revisions: u32,
    /// Puts and deletes in them, one revision having one at least. A transaction writes a key once, so a store with more
    /// operations in a transaction than it has keys gets fewer.
    pub records: u32,
    /// How many of these are deletes.
    pub deletes: u32,
    /// Live keys after them.
    pub live_keys: u32,
    /// Range deletes after that.
    pub sweep: Option<Sweep>,
    /// Compacted at the last revision, what was removed lying in free pages.
    pub compacted: bool,
    /// What names of keys look like.
    pub keys: KeyShape,
    /// Shortest value in bytes.
    pub value_min_bytes: u32,
    /// Longest value in bytes.
    pub value_max_bytes: u32,
    /// Mean of all values in bytes, as far as it can be had: at most half way between the two.
    pub value_mean_bytes: u32,
    /// Leases, which keys of events hold.
    pub leases: u32,
    /// Members of the cluster, at least one.
    pub members: u32,
    /// Page size in bytes.
    pub page_size: u32,
    /// The version of etcd whose backend this is.
    pub written_by: TargetVersion,
}

/// Why a shape is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// More revisions than records, or none at all.
    #[error(
        "{revisions} revisions cannot share {records} puts and deletes: each has one at least, and there is one at least"
    )]
    Revisions {
        /// Revisions asked for.
        revisions: u32,
        /// Records asked for.
        records: u32,
    },
    /// Every live or deleted key was put once.
    #[error(
        "{records} puts and deletes are too few for {deletes} deletes and {live_keys} live keys, which take {needed}"
    )]
    Records {
        /// Records asked for.
        records: u32,
        /// Deletes asked for.
        deletes: u32,
        /// Live keys asked for.
        live_keys: u32,
        /// How many these take.
        needed: u64,
    },
    /// A put that replaces a value needs a key that is alive.
    #[error("a store without live keys is not generated")]
    NoLiveKeys,
    /// Range deletes delete.
    #[error(
        "range deletes cannot leave {left} of {live_keys} live keys in {revisions} revisions of at least one key each"
    )]
    Sweep {
        /// Live keys before.
        live_keys: u32,
        /// Live keys after.
        left: u32,
        /// Revisions of range deletes.
        revisions: u32,
    },
    /// Bounds of values.
    #[error(
        "values from {min} to {max} bytes with a mean of {mean}: the mean lies from the least to half way between the two"
    )]
    Values {
        /// Shortest.
        min: u32,
        /// Longest.
        max: u32,
        /// Mean.
        mean: u32,
    },
    /// Values are made in memory.
    #[error("values of {longest} bytes: the longest that is generated has {}", LONGEST_VALUE_BYTES)]
    LongValues {
        /// Longest asked for.
        longest: u32,
    },
    /// A revision's operations are made in memory.
    #[error("{operations} keys in one {what}: {most} at most; ask for more revisions")]
    Operations {
        /// What asks for so many.
        what: &'static str,
        /// Operations each has on average.
        operations: u32,
        /// As many as it can have.
        most: u32,
    },
    /// More leases than any server keeps.
    #[error("{leases} leases: {} at most", MOST_LEASES)]
    Leases {
        /// Leases asked for.
        leases: u32,
    },
    /// bbolt has no such pages.
    #[error("pages of {given} bytes: only powers of two from 1024 to 65536 are possible")]
    PageSize {
        /// What was asked for.
        given: u32,
    },
    /// etcd has no cluster of so many members.
    #[error("{members} members: a cluster has 1 to 99")]
    Members {
        /// Members asked for.
        members: u32,
    },
    /// Revisions and keys are counted in 32 bits.
    #[error("a scale that makes {what} more than 4294967295")]
    Scale {
        /// Of what there are too many.
        what: &'static str,
    },
}

impl Shape {
    /// The shape of `preset` at scale 1.
    #[must_use]
    pub fn preset(preset: Preset, seed: u64) -> Self {
        let big = Self {
            seed,
            revisions: 7_431,
            records: 891_720,
            deletes: 50_577,
            live_keys: 421_308,
            sweep: None,
            compacted: false,
            keys: KeyShape::default(),
            value_min_bytes: 512,
            value_max_bytes: 8_192,
            value_mean_bytes: 2_005,
            leases: 64,
            members: 1,
            page_size: 4_096,
            written_by: TargetVersion::V3_5,
        };
        match preset {
            Preset::Big => big,
            Preset::Frag => {
                Self { sweep: Some(Sweep { revisions: 6, live_keys: 160_928 }), compacted: true, ..big }
            }
            Preset::Flat => Self {
                revisions: 486_600,
                records: 486_600,
                deletes: 36_000,
                live_keys: 230_261,
                value_mean_bytes: 2_047,
                ..big
            },
        }
    }

    /// The same at another size: `scale` millionths of everything that grows with a store. The number of members does
    /// not, nor the number of range deletes.
    ///
    /// # Errors
    /// [`ShapeError::Scale`].
    pub fn scaled(&self, scale: u64) -> Result<Self, ShapeError> {
        let times = |what: &'static str, number: u32| {
            let scaled = u128::from(number) * u128::from(scale) / u128::from(SCALE_ONE);
            u32::try_from(scaled).map(|n| n.max(FEWEST.min(number))).map_err(|_| ShapeError::Scale { what })
        };
        let mut shape = Self {
            revisions: times("revisions", self.revisions)?,
            records: times("records", self.records)?,
            deletes: times("deletes", self.deletes)?,
            live_keys: times("live keys", self.live_keys)?,
            leases: times("leases", self.leases)?,
            ..self.clone()
        };
        shape.sweep = match self.sweep {
            Some(sweep) => Some(Sweep { live_keys: times("live keys", sweep.live_keys)?, ..sweep }),
            None => None,
        };
        // Rounding a small store must not leave it with fewer puts than keys.
        let needed = 2 * u64::from(shape.deletes) + u64::from(shape.live_keys);
        shape.records = shape.records.max(u32::try_from(needed).unwrap_or(u32::MAX));
        Ok(shape)
    }

    /// Number of puts that replace a value.
    #[must_use]
    pub fn updates(&self) -> u32 {
        self.records.saturating_sub(self.deletes).saturating_sub(self.creations())
    }

    /// Number of puts that make a key, some of them a key that was deleted before.
    #[must_use]
    pub fn creations(&self) -> u32 {
        self.live_keys.saturating_add(self.deletes)
    }

    /// The last revision.
    #[must_use]
    pub fn last_revision(&self) -> u32 {
        let sweeps = self.sweep.map_or(0, |sweep| sweep.revisions);
        self.revisions.saturating_add(sweeps).saturating_add(1)
    }

    /// Holds the numbers against each other.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn validate(&self) -> Result<(), ShapeError> {
        let Self { revisions, records, deletes, live_keys, members, .. } = *self;
        if revisions > records || records == 0 || revisions == 0 {
            return Err(ShapeError::Revisions { revisions, records });
        }
        if live_keys == 0 {
            return Err(ShapeError::NoLiveKeys);
        }
        let needed = 2 * u64::from(deletes) + u64::from(live_keys);
        if needed > u64::from(records) {
            return Err(ShapeError::Records { records, deletes, live_keys, needed });
        }
        if let Some(Sweep { revisions, live_keys: left }) = self.sweep {
            let gone = live_keys.checked_sub(left).filter(|gone| revisions > 0 && *gone >= revisions);
            let gone = gone.ok_or(ShapeError::Sweep { live_keys, left, revisions })?;
            few_enough("range delete", gone, revisions, MOST_SWEPT)?;
        }
        few_enough("transaction", records, revisions, MOST_OPS)?;
        if self.leases > MOST_LEASES {
            return Err(ShapeError::Leases { leases: self.leases });
        }
        if !self.page_size.is_power_of_two() || !PAGE_BYTES.contains(&self.page_size) {
            return Err(ShapeError::PageSize { given: self.page_size });
        }
        let (min, max, mean) = (self.value_min_bytes, self.value_max_bytes, self.value_mean_bytes);
        if max < min || mean < min || mean > min.midpoint(max) {
            return Err(ShapeError::Values { min, max, mean });
        }
        if max > LONGEST_VALUE_BYTES {
            return Err(ShapeError::LongValues { longest: max });
        }
        if !(1..=99).contains(&members) {
            return Err(ShapeError::Members { members });
        }
        Ok(())
    }
}

/// Holds the mean of `operations` of `revisions` against what one may have. There is a revision at least.
fn few_enough(what: &'static str, operations: u32, revisions: u32, most: u32) -> Result<(), ShapeError> {
    let operations = operations.div_ceil(revisions.max(1));
    if operations > most { Err(ShapeError::Operations { what, operations, most }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_memory_or_bbolt_does_not_have_is_refused() {
        let big = Shape::preset(Preset::Big, 1);
        let many = Shape { records: 4_294_967_295, live_keys: 400_000_000, ..big.clone() };
        let one_delete = Some(Sweep { revisions: 1, live_keys: 100_000_000 });
        for (shape, said) in [
            (Shape { revisions: 1, records: 1_000_001, ..big.clone() }, "1000001 keys in one transaction"),
            (Shape { revisions: 1, ..many.clone() }, "4294967295 keys in one transaction"),
            (Shape { revisions: 5_000, sweep: one_delete, ..many }, "300000000 keys in one range delete"),
            (Shape { leases: 10_000_001, ..big.clone() }, "10000001 leases"),
            (Shape { page_size: 0, ..big.clone() }, "pages of 0 bytes"),
            (Shape { page_size: 1_000, ..big.clone() }, "pages of 1000 bytes"),
            (Shape { page_size: 1 << 17, ..big.clone() }, "pages of 131072 bytes"),
            (Shape { value_max_bytes: u32::MAX, ..big.clone() }, "values of 4294967295 bytes"),
        ] {
            let error = shape.validate().unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
        for shape in [
            Shape { revisions: 1, records: 1_000_000, ..big.clone() },
            Shape { leases: 10_000_000, ..big.clone() },
            Shape { value_max_bytes: 1 << 28, ..big },
        ] {
            assert_eq!(shape.validate(), Ok(()));
        }
    }
}
