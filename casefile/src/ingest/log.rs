//! Every entry of a log: where it stands, what it asks for, which keys it names.

use std::collections::{BTreeMap, HashSet};

use bbolt::Watch;
use rayon::prelude::*;
use redb::{TableDefinition, WriteTransaction};
use snapshot::log_files::LogFiles;
use snapshot::request;
use wal::log::{Log, Reach, Segments};
use wal::raftpb::EntryType;
use wal::scan::{Item, scan};
use wal::{EntryRef, Payload};

use super::AddError;
use crate::case::Part;
use crate::codec::put;
use crate::error::CaseError;
use crate::key_table::KeyWriter;
use crate::log_block::{ENTRIES_PER_BLOCK, Entry, MOST_NAMED_BYTES, MOST_TOUCHED, REVOKE, pack};
use crate::rows::{EntryStanding, Touched};
use crate::source::{LogSummary, TermRun};

/// The name of a compaction, as a kind and as a field.
const COMPACTION: &str = "compaction";
/// What the keys in one block may come to before it is closed, in bytes.
const BLOCK_KEYS_BYTES: usize = 256 << 10;

/// The entries of a log, in blocks.
#[derive(Debug, Default)]
pub(super) struct Entries {
    blocks: Vec<(u64, Vec<u8>)>,
    /// Keys that entries name, and the ordinals of those entries.
    keys: BTreeMap<Vec<u8>, Vec<u64>>,
    /// The ordinals of entries that name ranges, or take leases and with them keys.
    ranges: Vec<u64>,
    count: u64,
}

/// Reads the entries of `files`, which `log` is of.
pub(super) fn read(files: &LogFiles, log: &Log, watch: &dyn Watch) -> Result<Entries, AddError> {
    let places: Vec<usize> = (0..files.names().len()).collect();
    let mut entries = Entries::default();
    // Some segments at a time, so that not all of their entries are held.
    for places in places.chunks(rayon::current_num_threads().max(1) * 2) {
        let read = places.par_iter().with_max_len(1).map(|at| {
            if watch.interrupted() {
                return Err(AddError::Interrupted);
            }
            Ok(read_segment(files, log, *at))
        });
        for found in read.collect::<Result<Vec<_>, _>>()? {
            entries.push(found);
        }
    }
    Ok(entries)
}

fn read_segment(files: &LogFiles, log: &Log, at: usize) -> Vec<Entry> {
    let piece = files.piece(at);
    let mut found = Vec::new();
    for item in scan(&piece.bytes) {
        let Item::Record(record) = item else { continue };
        let record = record.record;
        let Ok(Payload::Entry(entry)) = record.payload() else { continue };
        let asked = asks_for(&entry);
        found.push(Entry {
            index: entry.index,
            term: entry.term,
            kind: asked.kind,
            standing: standing(log, at, record.offset, entry.index),
            touched: asked.touched,
            leases: asked.leases,
            paths: asked.paths,
            compacts: asked.compacts,
            segment: at,
            offset: record.offset,
            len_bytes: 8 + (record.raw.len() as u64).next_multiple_of(8),
        });
    }
    found
}

fn standing(log: &Log, segment: usize, offset: u64, index: u64) -> EntryStanding {
    let at = log.runs.partition_point(|run| (run.segment, run.first_offset) <= (segment, offset));
    let run = at.checked_sub(1).and_then(|at| log.runs.get(at)).filter(|run| run.segment == segment);
    match run {
        Some(run) if run.reach == Reach::Read => {}
        _ => return EntryStanding::OutOfReach,
    }
    if log.is_overwritten(segment, offset, index) {
        EntryStanding::Overwritten
    } else {
        EntryStanding::Counts
    }
}

/// What an entry asks for, in a word, and what it names.
#[derive(Debug, Default)]
struct Asked {
    kind: String,
    touched: Vec<Touched>,
    leases: Vec<i64>,
    paths: Vec<Vec<u8>>,
    compacts: Option<i64>,
}

fn asks_for(entry: &EntryRef<'_>) -> Asked {
    let of_type = |kind: EntryType| i32::from(kind) == entry.entry_type;
    let alone = |kind: String| Asked { kind, ..Asked::default() };
    if of_type(EntryType::ConfChange) {
        return alone("conf_change".to_owned());
    }
    if of_type(EntryType::ConfChangeV2) {
        return alone("conf_change_v2".to_owned());
    }
    if !of_type(EntryType::Normal) {
        return alone(format!("type_{}", entry.entry_type));
    }
    let decoded = request::decode(entry.data);
    let mut asked = alone(decoded.kind().to_owned());
    let Some(request) = decoded.request() else { return asked };
    let mut seen = HashSet::new();
    let mut left = MOST_NAMED_BYTES;
    let mut has_room = |bytes: usize| left.checked_sub(bytes).inspect(|less| left = *less).is_some();
    let ranges = request.keys().filter(|range| seen.insert((range.key, range.range_end)));
    asked.touched.extend(
        ranges
            .take(MOST_TOUCHED)
            .take_while(|range| has_room(range.key.len() + range.range_end.len()))
            .map(|range| Touched { key: range.key.to_vec(), range_end: range.range_end.to_vec() }),
    );
    let mut seen = HashSet::new();
    asked.leases.extend(request.leases().filter(|id| *id != 0 && seen.insert(*id)).take(MOST_TOUCHED));
    asked.paths.extend(
        request.paths().take(MOST_TOUCHED).take_while(|path| has_room(path.len())).map(<[u8]>::to_vec),
    );
    if asked.kind == COMPACTION {
        let asks = request.message().children().find(|(field, _)| field.name == COMPACTION);
        asked.compacts = asks.map(|(_, message)| message.number(1).cast_signed());
    }
    asked
}

impl Entries {
    fn push(&mut self, found: Vec<Entry>) {
        let mut block: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for entry in found {
            let ordinal = self.count + block.len() as u64;
            for touched in &entry.touched {
                bytes += touched.key.len() + touched.range_end.len();
                if touched.range_end.is_empty() {
                    self.keys.entry(touched.key.clone()).or_default().push(ordinal);
                } else if self.ranges.last() != Some(&ordinal) {
                    self.ranges.push(ordinal);
                }
            }
            bytes += entry.leases.len() * 8 + entry.paths.iter().map(Vec::len).sum::<usize>();
            if entry.kind == REVOKE && self.ranges.last() != Some(&ordinal) {
                self.ranges.push(ordinal);
            }
            block.push(entry);
            if block.len() >= ENTRIES_PER_BLOCK || bytes >= BLOCK_KEYS_BYTES {
                self.close(&mut block);
                bytes = 0;
            }
        }
        self.close(&mut block);
    }

    fn close(&mut self, block: &mut Vec<Entry>) {
        if !block.is_empty() {
            self.blocks.push((self.count, pack(block)));
            self.count += block.len() as u64;
            block.clear();
        }
    }

    /// Writes them as those of source `number`.
    pub(super) fn write(&self, write: &WriteTransaction, number: u32) -> Result<(), CaseError> {
        let name = Part::Log.of(number);
        let mut table = write.open_table(TableDefinition::<u64, &[u8]>::new(&name))?;
        for (first, block) in &self.blocks {
            table.insert(first, block.as_slice())?;
        }
        let name = Part::LogKeys.of(number);
        let mut table = write.open_table(TableDefinition::<u64, &[u8]>::new(&name))?;
        let mut writer = KeyWriter::new(&mut table);
        for (key, ordinals) in &self.keys {
            writer.push(key, ordinals.iter().copied())?;
        }
        writer.finish()?;
        let name = Part::LogRanges.of(number);
        let mut table = write.open_table(TableDefinition::<u64, &[u8]>::new(&name))?;
        for ordinals in self.ranges.chunks(1000) {
            let mut row = Vec::new();
            ordinals.iter().for_each(|ordinal| put(&mut row, *ordinal));
            table.insert(ordinals.first().copied().unwrap_or_default(), row.as_slice())?;
        }
        Ok(())
    }
}

/// What `log` is as a whole; `file_of` gives the place of a segment among the source's files.
pub(super) fn summary(log: &Log, file_of: impl Fn(usize) -> usize) -> LogSummary {
    let mut terms: Vec<TermRun> = Vec::new();
    for run in log.standing_runs().filter(|run| run.reach == Reach::Read) {
        let Some(last) = run.standing_last else { continue };
        match terms.last_mut() {
            Some(before)
                if before.term == run.term && before.last.checked_add(1) == Some(run.first_index) =>
            {
                before.last = last;
            }
            _ => terms.push(TermRun { first: run.first_index, last, term: run.term }),
        }
    }
    let before = |one: &TermRun, other: &TermRun| one.last.checked_add(1) == Some(other.first);
    let first = terms.chunk_by(before).last().and_then(|runs| runs.first());
    LogSummary {
        entries: log.entries,
        first: first.map(|run| run.first),
        last: terms.last().map(|run| run.last),
        commit: log.commit(),
        term: log.hard_state.as_ref().map_or(0, |state| state.value.term()),
        terms,
        snapshots: log.snapshots.iter().map(|found| (found.value.index(), found.value.term())).collect(),
        segments: (0..log.segments.len()).map(file_of).collect(),
    }
}
