//! The records of several sources side by side, in the order of their revisions; and `case timeline`.

use std::ops::{ControlFlow, Range, RangeInclusive};

use super::{Reading, is_same, row_of};
use crate::block::{Record, unpack};
use crate::case::Case;
use crate::error::CaseError;
use crate::key_table::{self, numbers_with};
use crate::rows::RevisionRow;

/// From how many records on the keys of all sources are put side by side once, rather than each looked up.
const MANY_RECORDS: u64 = 200_000;

/// Which revisions are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Only keys that begin so.
    pub prefix: Vec<u8>,
    /// The first revision.
    pub from: i64,
    /// The last revision.
    pub to: i64,
}

impl Default for Timeline {
    /// All keys at all revisions.
    fn default() -> Self {
        Self { prefix: Vec::new(), from: 0, to: i64::MAX }
    }
}

/// The records of one source in order, from one revision to another, of keys whose numbers are in a range.
pub(super) struct Stream {
    rows: redb::Range<'static, u64, &'static [u8]>,
    block: std::vec::IntoIter<Record>,
    next_ordinal: u64,
    skip_before: u64,
    to: i64,
    keys: Range<u64>,
}

impl Stream {
    pub(super) fn new(reading: &Reading<'_>, asked: &Timeline) -> Result<Self, CaseError> {
        let from = reading.lower_bound((asked.from, i64::MIN))?;
        let first = reading
            .blocks
            .range::<u64>(..=from)?
            .next_back()
            .transpose()?
            .map_or(0, |(first, _)| first.value());
        let keys =
            if asked.prefix.is_empty() { 0..u64::MAX } else { numbers_with(&reading.keys, &asked.prefix)? };
        let rows = reading.blocks.range::<u64>(first..)?;
        Ok(Self {
            rows,
            block: Vec::new().into_iter(),
            next_ordinal: first,
            skip_before: from,
            to: asked.to,
            keys,
        })
    }

    /// The next record and its ordinal.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Record)>, CaseError> {
        loop {
            for record in self.block.by_ref() {
                let ordinal = self.next_ordinal;
                self.next_ordinal += 1;
                if record.main > self.to {
                    return Ok(None);
                }
                if ordinal >= self.skip_before && self.keys.contains(&u64::from(record.key)) {
                    return Ok(Some((ordinal, record)));
                }
            }
            let Some(row) = self.rows.next() else { return Ok(None) };
            let (first, row) = row?;
            self.next_ordinal = first.value();
            self.block = unpack(row.value())?.into_iter();
        }
    }
}

/// How records of several sources are known to be of the same key.
pub(super) enum Keys {
    /// By their names, each looked up.
    ByName,
    /// By numbers that are the same in all of them: for each source, those of its keys.
    Shared(Vec<Vec<u32>>),
}

/// Numbers that are the same in all of `readings`, for each of them by the numbers of its own keys.
pub(super) fn shared_numbers(readings: &[Reading<'_>]) -> Result<Vec<Vec<u32>>, CaseError> {
    let mut streams = Vec::with_capacity(readings.len());
    for reading in readings {
        let mut stream = key_table::WithPrefix::new(&reading.keys, b"")?;
        let head = stream.next()?;
        streams.push((stream, head));
    }
    let mut numbers: Vec<Vec<u32>> = readings.iter().map(|_| Vec::new()).collect();
    let mut shared = 0u32;
    while let Some(key) =
        streams.iter().filter_map(|(_, head)| head.as_ref().map(|head| &head.key)).min().cloned()
    {
        for ((stream, head), numbers) in streams.iter_mut().zip(&mut numbers) {
            if head.as_ref().is_some_and(|head| head.key == key) {
                numbers.push(shared);
                *head = stream.next()?;
            }
        }
        shared = shared.saturating_add(1);
    }
    Ok(numbers)
}

/// A record of one of several sources.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    /// The source's place among those that are read.
    pub(super) at: usize,
    pub(super) ordinal: u64,
    pub(super) record: Record,
}

/// The records of several sources, all of one revision at a time.
pub(super) struct Merge<'r, 'c> {
    readings: &'r [Reading<'c>],
    streams: Vec<(Stream, Option<(u64, Record)>)>,
    keys: Keys,
}

impl<'r, 'c> Merge<'r, 'c> {
    pub(super) fn new(readings: &'r [Reading<'c>], asked: &Timeline) -> Result<Self, CaseError> {
        let mut streams = Vec::with_capacity(readings.len());
        let mut many = 0;
        for reading in readings {
            let mut stream = Stream::new(reading, asked)?;
            let behind = reading.lower_bound((asked.to, i64::MAX))?;
            many += behind.saturating_sub(stream.skip_before);
            let head = stream.next()?;
            streams.push((stream, head));
        }
        let keys = if many < MANY_RECORDS || readings.len() < 2 {
            Keys::ByName
        } else {
            Keys::Shared(shared_numbers(readings)?)
        };
        Ok(Self { readings, streams, keys })
    }

    /// All records of the next revision, those of each operation together; empty at the end.
    fn next_revision(&mut self) -> Result<Vec<Vec<Met>>, CaseError> {
        let mut operations: Vec<Vec<Met>> = Vec::new();
        let main = self.peek();
        while main.is_some() && self.peek() == main {
            operations.push(self.next()?);
        }
        Ok(operations)
    }

    /// Whether sources that should have the same at a revision have something else there.
    fn is_contested(&self, operations: &[Vec<Met>]) -> Result<bool, CaseError> {
        let can_tell =
            |met: &&Met| self.readings.get(met.at).is_some_and(|reading| is_kept(reading, met.record.main));
        let mut tellers: Vec<usize> =
            operations.iter().flatten().filter(can_tell).map(|met| met.at).collect();
        tellers.sort_unstable();
        tellers.dedup();
        // Whoever has one of a revision's operations and keeps history there has all of them.
        let lacks = |met: &Vec<Met>| tellers.iter().any(|at| !met.iter().any(|met| met.at == *at));
        if operations.iter().any(lacks) && tellers.len() > 1 {
            return Ok(true);
        }
        for met in operations {
            if self.groups(met)?.len() > 1 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The main number of the next revision.
    fn peek(&self) -> Option<i64> {
        self.streams.iter().filter_map(|(_, head)| head.as_ref().map(|(_, record)| record.main)).min()
    }

    /// All records of the next operation; empty at the end.
    pub(super) fn next(&mut self) -> Result<Vec<Met>, CaseError> {
        let revision =
            |head: &Option<(u64, Record)>| head.as_ref().map(|(_, record)| (record.main, record.sub));
        let next = self.streams.iter().filter_map(|(_, head)| revision(head)).min();
        let mut met = Vec::new();
        for (at, (stream, head)) in self.streams.iter_mut().enumerate() {
            if next.is_some() && revision(head) == next {
                met.extend(head.take().map(|(ordinal, record)| Met { at, ordinal, record }));
                *head = stream.next()?;
            }
        }
        Ok(met)
    }

    /// Whether two records are the same in all but where they stand.
    pub(super) fn are_same(&self, a: &Met, b: &Met) -> Result<bool, CaseError> {
        if !is_same(&a.record, &b.record) {
            return Ok(false);
        }
        if let Keys::Shared(numbers) = &self.keys {
            let of = |met: &Met| numbers.get(met.at)?.get(usize::try_from(met.record.key).ok()?);
            return Ok(of(a).is_some() && of(a) == of(b));
        }
        Ok(self.name(a)? == self.name(b)?)
    }

    pub(super) fn name(&self, met: &Met) -> Result<Vec<u8>, CaseError> {
        self.readings.get(met.at).map_or_else(|| Ok(Vec::new()), |reading| reading.name(met.record.key))
    }

    /// The records of one revision, those that are the same together.
    pub(super) fn groups(&self, met: &[Met]) -> Result<Vec<Vec<Met>>, CaseError> {
        let mut groups: Vec<Vec<Met>> = Vec::new();
        'met: for one in met {
            for group in &mut groups {
                if let Some(first) = group.first()
                    && self.are_same(first, one)?
                {
                    group.push(*one);
                    continue 'met;
                }
            }
            groups.push(vec![*one]);
        }
        Ok(groups)
    }

    /// The row of records that are the same.
    pub(super) fn row(&self, group: &[Met], contested: bool) -> Result<Option<RevisionRow>, CaseError> {
        let Some(first) = group.first() else { return Ok(None) };
        let held =
            group.iter().filter_map(|met| Some(self.readings.get(met.at)?.held(&met.record, met.ordinal)));
        let row = row_of(&first.record, self.name(first)?, held.collect());
        Ok(Some(RevisionRow { contested, ..row }))
    }
}

impl Case {
    /// Every revision that is asked for, in order. What sources have differently at one revision is several rows.
    ///
    /// # Errors
    /// When the case is damaged.
    pub fn timeline(
        &self,
        asked: &Timeline,
        each: &mut dyn FnMut(&RevisionRow) -> ControlFlow<()>,
    ) -> Result<(), CaseError> {
        self.rows_where(asked, &|_| true, None, each)
    }

    /// Every revision that is asked for, that `takes` takes, and that no source but `only_in` has so, where that is given.
    pub(super) fn rows_where(
        &self,
        asked: &Timeline,
        takes: &dyn Fn(&Record) -> bool,
        only_in: Option<u32>,
        each: &mut dyn FnMut(&RevisionRow) -> ControlFlow<()>,
    ) -> Result<(), CaseError> {
        let readings = self.readings()?;
        // A revision is contested also by a key that was not asked for.
        let mut merge = Merge::new(&readings, &revisions(asked.from..=asked.to))?;
        let mut wanted: Vec<Range<u64>> = Vec::with_capacity(readings.len());
        for reading in &readings {
            let all = asked.prefix.is_empty();
            wanted.push(if all { 0..u64::MAX } else { numbers_with(&reading.keys, &asked.prefix)? });
        }
        let is_wanted = |met: &Met| {
            takes(&met.record)
                && wanted.get(met.at).is_some_and(|keys| keys.contains(&u64::from(met.record.key)))
        };
        let number = |met: &Met| readings.get(met.at).map(|reading| reading.source.number);
        let is_shown = |group: &&Vec<Met>| {
            group.iter().any(is_wanted)
                && only_in.is_none_or(|only| group.iter().all(|met| number(met) == Some(only)))
        };
        loop {
            let operations = merge.next_revision()?;
            if operations.is_empty() {
                return Ok(());
            }
            if !operations.iter().flatten().any(is_wanted) {
                continue;
            }
            let contested = merge.is_contested(&operations)?;
            for met in &operations {
                for group in merge.groups(met)?.iter().filter(is_shown) {
                    let Some(row) = merge.row(group, contested)? else { continue };
                    if each(&row).is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Whether a source has all operations of a revision of which it has one: no compaction took some, and nothing is damaged there.
pub(super) fn is_kept(reading: &Reading<'_>, main: i64) -> bool {
    reading.space.compacted.is_none_or(|compacted| main > compacted) && !reading.space.is_hole(main)
}

/// All revisions from the first of a range to its last.
pub(super) fn revisions(range: RangeInclusive<i64>) -> Timeline {
    Timeline { prefix: Vec::new(), from: *range.start(), to: *range.end() }
}
