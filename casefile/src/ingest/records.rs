//! Every record of bucket `key`, packed into blocks, and every key with its records.
//!
//! All threads read runs of leaves, the same runs on every machine. In memory are, for each record, its packed form and eight bytes
//! more (some forty bytes in all), and each distinct key of each run.

use std::collections::HashMap;

use bbolt::reach::Content;
use bbolt::{Node, PageFile, Source, Watch};
use rayon::prelude::*;
use redb::{TableDefinition, WriteTransaction};
use sha2::{Digest, Sha256};
use snapshot::mvcc::{KeyValue, Revision};

use super::AddError;
use crate::block::{Packer, Record, Unkeyed};
use crate::case::Part;
use crate::error::CaseError;
use crate::key_table::KeyWriter;
use crate::source::KeySpace;

/// Leaves of a run.
const LEAVES_PER_RUN: usize = 256;
/// Most records of one source: an ordinal takes four bytes in memory.
const MOST_RECORDS: u64 = u32::MAX as u64;

/// Many short byte strings in one piece of memory.
#[derive(Debug, Default)]
struct Strings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Strings {
    fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.ends.push(self.bytes.len());
    }

    const fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, at: usize) -> Option<&[u8]> {
        let from = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(from..*self.ends.get(at)?)
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

/// What a run of leaves comes to.
#[derive(Debug, Default)]
struct Run {
    blocks: Vec<Unkeyed>,
    /// The distinct keys, by the numbers that the blocks have.
    keys: Strings,
    /// A bit a record: whether it is a tombstone.
    tombstones: Vec<bool>,
    first: Option<(i64, i64)>,
    last: Option<(i64, i64)>,
    value_bytes: u64,
    unreadable: u64,
}

/// All records of a source.
#[derive(Debug, Default)]
pub(super) struct Records {
    runs: Vec<Run>,
    /// For each run, the numbers of its keys among all keys.
    numbers: Vec<Vec<u32>>,
    /// For each key, the run and number where it is first met.
    keys: Vec<(u32, u32)>,
    /// For each key, where its records begin in `ordinals`, and where the last one's end.
    begins: Vec<u32>,
    ordinals: Vec<u32>,
    live_keys: u64,
}

/// Reads the records below the leaves of `bucket`.
pub(super) fn read<S: Source>(
    pages: &PageFile<S>,
    bucket: &bbolt::reach::Reached,
    watch: &dyn Watch,
) -> Result<Records, AddError> {
    let runs: Vec<Run> = if let Content::Tree(_) = bucket.content {
        let run = |leaves: &[bbolt::PageId]| {
            if watch.interrupted() {
                return Err(AddError::Interrupted);
            }
            watch.advance(leaves.len() as u64 * u64::from(pages.page_size()));
            Ok(Run::of(leaves.iter().map(|id| pages.node(*id).ok())))
        };
        bucket.leaves.par_chunks(LEAVES_PER_RUN).with_max_len(1).map(run).collect::<Result<_, _>>()?
    } else {
        vec![Run::of(bucket.nodes(pages).map(Some))]
    };
    Records::of(runs)
}

impl Run {
    /// Reads the nodes; one that is gone since it was found sound counts as a record that cannot be read.
    fn of<'p>(nodes: impl Iterator<Item = Option<Node<'p>>>) -> Self {
        let mut run = Self::default();
        let mut packer = Packer::default();
        let mut numbers: HashMap<Box<[u8]>, u32> = HashMap::new();
        for node in nodes {
            let Some(node) = node else {
                run.unreadable += 1;
                continue;
            };
            for index in 0..node.count() {
                let read =
                    record_of(&node, index).filter(|(record, _)| run.last < Some((record.main, record.sub)));
                let Some((mut record, key)) = read else {
                    run.unreadable += 1;
                    continue;
                };
                record.key = match numbers.get(key) {
                    Some(number) => *number,
                    None => {
                        // There are fewer keys than elements in a run of leaves.
                        let number = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                        numbers.insert(key.into(), number);
                        run.keys.push(key);
                        number
                    }
                };
                let revision = (record.main, record.sub);
                run.first = run.first.or(Some(revision));
                run.last = Some(revision);
                run.value_bytes += record.value_len;
                run.tombstones.push(record.tombstone);
                packer.push(&record);
            }
        }
        run.blocks = packer.finish();
        run.keys.bytes.shrink_to_fit();
        run.keys.ends.shrink_to_fit();
        run
    }
}

/// The record at an element of a leaf, and its key; `None` when it is none.
fn record_of<'n>(node: &'n Node<'_>, index: u16) -> Option<(Record, &'n [u8])> {
    let revision = Revision::parse(node.key(index)).filter(|_| !node.is_bucket(index))?;
    let bytes = node.value(index);
    let kv = KeyValue::decode(bytes).ok()?;
    let mut value_hash = [0; 16];
    if !revision.tombstone {
        let digest: [u8; 32] = Sha256::digest(kv.value).into();
        value_hash.copy_from_slice(digest.get(..16)?);
    }
    let record = Record {
        main: revision.main,
        sub: revision.sub,
        tombstone: revision.tombstone,
        create_revision: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
        value_len: if revision.tombstone { 0 } else { kv.value.len() as u64 },
        value_hash,
        page: node.id().0,
        offset: node.offset() + node.value_range(index).start as u64,
        len_bytes: bytes.len() as u64,
        key: 0,
    };
    Some((record, kv.key))
}

impl Records {
    fn of(runs: Vec<Run>) -> Result<Self, AddError> {
        let count: u64 = runs.iter().map(|run| run.tombstones.len() as u64).sum();
        if count > MOST_RECORDS {
            return Err(AddError::TooManyRecords { most: MOST_RECORDS });
        }
        let (keys, numbers) = number_keys(&runs);
        let (begins, ordinals) = ordinals_of(&runs, &numbers, keys.len());
        let mut records = Self { runs, numbers, keys, begins, ordinals, live_keys: 0 };
        let tombstones: Vec<bool> =
            records.runs.iter().flat_map(|run| run.tombstones.iter().copied()).collect();
        let is_live = |key: usize| {
            let last = records.ordinals_of(key).last().copied().and_then(|last| usize::try_from(last).ok());
            last.and_then(|last| tombstones.get(last)) == Some(&false)
        };
        records.live_keys = (0..records.keys.len()).filter(|key| is_live(*key)).count() as u64;
        Ok(records)
    }

    /// The ordinals of the records of a key, ascending.
    fn ordinals_of(&self, key: usize) -> &[u32] {
        let at = |place: usize| self.begins.get(place).and_then(|begin| usize::try_from(*begin).ok());
        let (Some(from), Some(to)) = (at(key), at(key + 1)) else { return &[] };
        self.ordinals.get(from..to).unwrap_or_default()
    }

    /// What they come to.
    pub(super) fn summary(&self) -> KeySpace {
        KeySpace {
            records: self.ordinals.len() as u64,
            keys: self.keys.len() as u64,
            live_keys: self.live_keys,
            value_bytes: self.runs.iter().map(|run| run.value_bytes).sum(),
            first: self.runs.iter().find_map(|run| run.first).map_or(0, |(main, _)| main),
            last: self.runs.iter().rev().find_map(|run| run.last).map_or(0, |(main, _)| main),
            unreadable: self.runs.iter().map(|run| run.unreadable).sum(),
            ..KeySpace::default()
        }
    }

    /// Writes blocks and keys as those of source `number`.
    pub(super) fn write(&self, write: &WriteTransaction, number: u32) -> Result<(), CaseError> {
        let name = Part::Blocks.of(number);
        let mut blocks = write.open_table(TableDefinition::<u64, &[u8]>::new(&name))?;
        let mut ordinal = 0u64;
        for (run, numbers) in self.runs.iter().zip(&self.numbers) {
            for block in &run.blocks {
                let number = |key: u32| usize::try_from(key).ok().and_then(|key| numbers.get(key)).copied();
                let bytes = block.with_keys(|key| number(key).unwrap_or_default());
                blocks.insert(ordinal, bytes.as_slice())?;
                ordinal += block.keys.len() as u64;
            }
        }
        let name = Part::Keys.of(number);
        let mut keys = write.open_table(TableDefinition::<u64, &[u8]>::new(&name))?;
        let mut writer = KeyWriter::new(&mut keys);
        for (place, (run, key)) in self.keys.iter().enumerate() {
            let key = key_at(&self.runs, *run, *key);
            writer.push(key, self.ordinals_of(place).iter().map(|ordinal| u64::from(*ordinal)))?;
        }
        writer.finish()?;
        Ok(())
    }
}

fn key_at(runs: &[Run], run: u32, key: u32) -> &[u8] {
    let at = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    runs.get(at(run)).and_then(|run| run.keys.get(at(key))).unwrap_or_default()
}

/// All distinct keys in order, each by where it is first met, and the numbers that the keys of each run have among them.
fn number_keys(runs: &[Run]) -> (Vec<(u32, u32)>, Vec<Vec<u32>>) {
    let place = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let mut all: Vec<(&[u8], u32, u32)> = Vec::with_capacity(runs.iter().map(|run| run.keys.len()).sum());
    for (number, run) in runs.iter().enumerate() {
        all.extend(run.keys.iter().enumerate().map(|(key, bytes)| (bytes, place(number), place(key))));
    }
    all.par_sort_unstable();
    let mut numbers: Vec<Vec<u32>> = runs.iter().map(|run| vec![0; run.keys.len()]).collect();
    let mut keys: Vec<(u32, u32)> = Vec::new();
    let mut before: Option<&[u8]> = None;
    for (bytes, run, key) in all {
        if before != Some(bytes) {
            keys.push((run, key));
            before = Some(bytes);
        }
        let (Ok(run), Ok(key)) = (usize::try_from(run), usize::try_from(key)) else { continue };
        if let Some(number) = numbers.get_mut(run).and_then(|numbers| numbers.get_mut(key)) {
            *number = place(keys.len() - 1);
        }
    }
    (keys, numbers)
}

/// The ordinals of all records sorted by key: where each key's begin, and they.
fn ordinals_of(runs: &[Run], numbers: &[Vec<u32>], keys: usize) -> (Vec<u32>, Vec<u32>) {
    let each_key = || {
        runs.iter().zip(numbers).flat_map(|(run, numbers)| {
            let own = run.blocks.iter().flat_map(|block| block.keys.iter().copied());
            own.map(|key| {
                usize::try_from(key).ok().and_then(|key| numbers.get(key)).copied().unwrap_or_default()
            })
        })
    };
    let at = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut begins = vec![0u32; keys + 1];
    let mut count = 0usize;
    for key in each_key() {
        count += 1;
        if let Some(records) = begins.get_mut(at(key) + 1) {
            *records += 1;
        }
    }
    let mut sum = 0;
    for begin in &mut begins {
        sum += *begin;
        *begin = sum;
    }
    let mut next = begins.clone();
    let mut ordinals = vec![0; count];
    for (ordinal, key) in (0u32..).zip(each_key()) {
        if let Some(place) = next.get_mut(at(key)) {
            if let Some(slot) = ordinals.get_mut(at(*place)) {
                *slot = ordinal;
            }
            *place += 1;
        }
    }
    (begins, ordinals)
}
