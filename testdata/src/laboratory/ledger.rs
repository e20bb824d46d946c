//! The book of what a file holds and where: the truth that a salvage is held against.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::damaged::{Damaged, Origin};
use super::plain::{Pairs, PlainFile};
use crate::key_space::{message_of, revision_of};

/// Bytes of a page header.
const HEADER: usize = 16;
/// Flags of a leaf.
const LEAF: u16 = 2;

/// A whole copy of a record: the page run it lies in, and the bytes without which it could not be read, counted from the start
/// of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Copy {
    /// The record, by its place in the truth.
    record: usize,
    /// The page's header, the entry in its table, and key and value.
    spans: [Range<usize>; 3],
}

/// All records of the live tree, all records that ever were, and where whole copies of the former lie.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Bucket `key` of the live tree.
    pub truth: Pairs,
    /// The truth, and every record that was there before: what a compaction removed, by its revision.
    pub history: Pairs,
    /// By the first page of their run.
    copies: BTreeMap<Origin, Vec<Copy>>,
}

/// The page runs of a file that may hold records, each with the bytes' own reading of it: leaves wherever they lie, reachable
/// or not.
fn leaves(file: PlainFile<'_>) -> impl Iterator<Item = usize> + '_ {
    (0..file.pages()).filter(move |page| file.head(*page).is_some_and(|head| head.flags == LEAF))
}

impl Ledger {
    /// Reads the undamaged file, which comes first, and files of the same member whose pages a damage mixes with it. `earlier`
    /// are still others, whose records are history, as those in `history` are. Panics when one is not sound.
    #[must_use]
    pub fn of(files: &[PlainFile<'_>], earlier: &[PlainFile<'_>], history: Pairs) -> Self {
        let live = |file: &PlainFile<'_>| -> Pairs {
            let (_, meta) = file.newest().expect("a meta");
            let mut tree = file.tree(meta.root).expect("a sound tree");
            tree.buckets.remove(&b"key"[..]).expect("bucket key")
        };
        let truth = live(&files[0]);
        let mut history = history;
        for (key, value) in earlier.iter().chain(files).flat_map(live) {
            let before = history.insert(key.clone(), value);
            assert!(
                before.is_none_or(|before| before == history[&key]),
                "a revision with two values: {key:x?}"
            );
        }
        let places: BTreeMap<&[u8], usize> =
            truth.keys().enumerate().map(|(place, key)| (key.as_slice(), place)).collect();
        let values: Vec<&[u8]> = truth.values().map(Vec::as_slice).collect();
        let mut copies: BTreeMap<Origin, Vec<Copy>> = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            for page in leaves(*file) {
                let start = page * file.page_size();
                let relative = |span: Range<usize>| span.start - start..span.end - start;
                let found = file.leaf(page).into_iter().filter_map(|pair| {
                    let record = *places.get(file.bytes(&pair.key))?;
                    (file.bytes(&pair.value) == values[record]).then(|| Copy {
                        record,
                        spans: [0..HEADER, relative(pair.entry), relative(pair.key.start..pair.value.end)],
                    })
                });
                let found: Vec<Copy> = found.collect();
                if !found.is_empty() {
                    copies.insert((number, page), found);
                }
            }
        }
        Self { truth, history, copies }
    }

    /// How many page runs hold a whole copy of each record of the truth.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.truth.len()];
        for copy in self.copies.values().flatten() {
            counts[copy.record] += 1;
        }
        counts
    }

    /// The records of the truth of which a whole copy is still in the file: those whose bytes, entry and page header all lie on
    /// pages that the damage left as they were, in their order.
    #[must_use]
    pub fn there(&self, damaged: &Damaged, files: &[PlainFile<'_>]) -> BTreeSet<&[u8]> {
        let mut there = vec![false; self.truth.len()];
        for (at, place) in damaged.places().iter().enumerate() {
            let Some((number, page)) = place.origin else { continue };
            for (other, file) in files.iter().enumerate() {
                // What follows a page may be of another file than the page is.
                if other != number && file.page(page) != files[number].page(page) {
                    continue;
                }
                for copy in self.copies.get(&(other, page)).into_iter().flatten() {
                    there[copy.record] = there[copy.record]
                        || copy.spans.iter().all(|span| damaged.keeps_span(at, files, (other, page), span));
                }
            }
        }
        self.truth.keys().zip(there).filter(|(_, is)| *is).map(|(key, _)| key.as_slice()).collect()
    }

    /// As [`Self::there`], by looking for the records in the file itself: for a file whose pages nobody has a book of.
    #[must_use]
    pub fn seen(&self, file: PlainFile<'_>) -> BTreeSet<&[u8]> {
        let pairs = leaves(file).flat_map(|page| file.leaf(page));
        let found = pairs.filter_map(|pair| {
            let (key, value) = self.truth.get_key_value(file.bytes(&pair.key))?;
            (file.bytes(&pair.value) == value.as_slice()).then_some(key.as_slice())
        });
        found.collect()
    }

    /// The records of all history of which a whole copy is in the file.
    #[must_use]
    pub fn seen_of_history(&self, file: PlainFile<'_>) -> Pairs {
        let pairs = leaves(file).flat_map(|page| file.leaf(page));
        let found = pairs.filter_map(|pair| {
            let (key, value) = self.history.get_key_value(file.bytes(&pair.key))?;
            (file.bytes(&pair.value) == value.as_slice()).then(|| (key.clone(), value.clone()))
        });
        found.collect()
    }

    /// The records of the truth of which the file has, in a leaf, a copy with other bytes that could be right as well: the message of a
    /// record that names the revision under which it stands.
    #[must_use]
    pub fn disputed(&self, file: PlainFile<'_>) -> BTreeSet<&[u8]> {
        let pairs = leaves(file).flat_map(|page| file.leaf(page));
        let found = pairs.filter_map(|pair| {
            let (key, value) = self.truth.get_key_value(file.bytes(&pair.key))?;
            let other = file.bytes(&pair.value);
            let (main, ..) = revision_of(key)?;
            let is_possible = message_of(other).is_some_and(|kv| kv.mod_revision == main);
            (other != value.as_slice() && is_possible).then_some(key.as_slice())
        });
        found.collect()
    }

    /// The newest record of each key that is alive in `records`, by the key.
    #[must_use]
    pub fn alive<'a>(
        records: impl IntoIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    ) -> BTreeMap<Vec<u8>, &'a Vec<u8>> {
        let mut newest = BTreeMap::new();
        for (revision, value) in records {
            let (Some((.., is_tombstone)), Some(kv)) = (revision_of(revision), message_of(value)) else {
                continue;
            };
            if is_tombstone {
                newest.remove(&kv.key);
            } else {
                newest.insert(kv.key, revision);
            }
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bbolt_damage::Base;
    use crate::damage::Rng;
    use crate::key_space::KeySpace;
    use crate::laboratory::Fill;

    /// The hash and the keys that the live server told when the snapshot was taken.
    #[test]
    fn the_truth_of_a_snapshot_is_what_its_server_told() {
        for version in crate::VERSIONS {
            for stage in crate::STAGES {
                let bytes = crate::snapshot(version, stage);
                let bytes = &bytes[..bytes.len() / 4096 * 4096];
                let file = PlainFile::of(bytes).unwrap();
                let ledger = Ledger::of(&[file], &[], Pairs::new());
                let (hash, revision, compacted) = crate::hashkv_facts(version, stage);
                let finished = (compacted > 0).then_some(compacted);
                let space = KeySpace::new(ledger.truth.clone(), finished, finished, true).unwrap();
                assert_eq!(
                    (u64::from(space.hashkv(revision)), space.revision()),
                    (hash, revision),
                    "{version} {stage}"
                );
                let keys = &crate::facts_json(version, stage, "keys.json")[0];
                let count = keys["count"].as_u64().unwrap();
                assert_eq!(Ledger::alive(&ledger.truth).len() as u64, count, "{version} {stage}");
                // A live record lies where the walk found it, at least.
                assert!(ledger.counts().iter().all(|count| *count > 0));
                assert_eq!(ledger.seen(file).len(), ledger.truth.len());
            }
        }
    }

    /// What is known of the file of 3.5.1: bucket `key` is pages 5, 7 to 29, and 31 (`bbolt_damage::Base::Etcd`).
    #[test]
    fn records_are_gone_with_the_last_page_that_holds_them() {
        let bytes = Base::Etcd.bytes();
        let files = [PlainFile::of(&bytes).unwrap()];
        let ledger = Ledger::of(&files, &[], Pairs::new());
        let (mut rng, whole) = (Rng::seeded_by("ledger"), Damaged::new(bytes.clone(), 4096));
        assert_eq!(ledger.there(&whole, &files).len(), ledger.truth.len());
        let live: Vec<Vec<Vec<u8>>> = [5, 7, 31]
            .map(|page| files[0].leaf(page).iter().map(|pair| files[0].bytes(&pair.key).to_vec()).collect())
            .to_vec();
        let counts: BTreeMap<&[u8], usize> =
            ledger.truth.keys().map(Vec::as_slice).zip(ledger.counts()).collect();
        for (number, page) in [5, 7, 31].into_iter().enumerate() {
            let mut damaged = whole.clone();
            damaged.fill(page, Fill::Noise, &mut rng);
            let there = ledger.there(&damaged, &files);
            assert_eq!(there, ledger.seen(damaged.file()));
            for key in ledger.truth.keys().map(Vec::as_slice) {
                let is_on_it = live[number].iter().any(|own| own == key);
                assert_eq!(there.contains(key), !is_on_it || counts[key] > 1, "page {page}, {key:x?}");
            }
        }
        // The long value is on page 7 and those behind it; what lies on page 7 alone is there without them.
        let mut damaged = whole.clone();
        damaged.fill(20, Fill::Zeros, &mut rng);
        let lost: Vec<_> = ledger
            .truth
            .keys()
            .filter(|key| !ledger.there(&damaged, &files).contains(key.as_slice()))
            .collect();
        assert_eq!(lost.len(), 1);
        assert!(ledger.truth[lost[0]].len() > 80_000);
        // A page that is elsewhere has its records still, and one whose header was changed has none.
        let mut damaged = whole.clone();
        damaged.swap(5, 31);
        assert_eq!(ledger.there(&damaged, &files).len(), ledger.truth.len());
        damaged.write(5, 10, &[0]);
        let own = live[2].iter().filter(|key| counts[key.as_slice()] == 1).count();
        assert!(own > 0);
        assert_eq!(ledger.there(&damaged, &files).len(), ledger.truth.len() - own);
    }
}
