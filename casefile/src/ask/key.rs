//! `case key`: the life of one key across all sources.

use std::collections::BTreeMap;

use super::merge::is_kept;
use super::{Reading, is_same, row_of};
use crate::block::Record;
use crate::case::Case;
use crate::error::CaseError;
use crate::key_table;
use crate::rows::{Life, RevisionRow, Standing};

/// A record of the key: the source's place among those that are read, the record's ordinal, and the record.
type Copy = (usize, u64, Record);

impl Case {
    /// The life of `key`, as all sources have it together.
    ///
    /// # Errors
    /// When the case is damaged.
    pub fn key(&self, key: &[u8]) -> Result<Life, CaseError> {
        let readings = self.readings()?;
        let mut met: BTreeMap<(i64, i64), Vec<Copy>> = BTreeMap::new();
        for (at, reading) in readings.iter().enumerate() {
            let found = key_table::find(&reading.keys, key)?;
            for ordinal in found.map(|keyed| keyed.ordinals).unwrap_or_default() {
                let record = reading.record(ordinal)?;
                met.entry((record.main, record.sub)).or_default().push((at, ordinal, record));
            }
        }
        let mut steps = Vec::new();
        for (revision, copies) in met {
            steps.extend(rows(&readings, key, revision, &copies)?);
        }
        let newest = steps.iter().map(|row: &RevisionRow| row.main).max().unwrap_or_default();
        let standings = self.sources().iter().map(|source| {
            let reading = readings.iter().find(|reading| reading.source.number == source.number);
            (source.number, reading.map_or(Standing::NoKeySpace, |reading| of_all(reading, newest)))
        });
        let leases = steps.iter().map(|row: &RevisionRow| row.lease).filter(|lease| *lease != 0).collect();
        let log = self.log_of(key, &leases)?;
        Ok(Life { key: key.to_vec(), steps, log, standings: standings.collect() })
    }
}

/// How far a source can tell of all revisions up to `newest`, the key's last. That it ends before that
/// counts more than that it was compacted.
fn of_all(reading: &Reading<'_>, newest: i64) -> Standing {
    match reading.space.compacted {
        _ if !reading.space.is_whole() => Standing::Damaged,
        _ if newest > reading.space.revision => Standing::EndsBefore { last: reading.space.revision },
        Some(at) if at > 0 => Standing::Compacted { at },
        _ => Standing::Asked,
    }
}

/// The rows of one revision of a key.
fn rows(
    readings: &[Reading<'_>],
    key: &[u8],
    revision: (i64, i64),
    copies: &[Copy],
) -> Result<Vec<RevisionRow>, CaseError> {
    let mut rows: Vec<(Record, RevisionRow)> = Vec::new();
    for (at, ordinal, record) in copies {
        let Some(reading) = readings.get(*at) else { continue };
        let held = reading.held(record, *ordinal);
        match rows.iter_mut().find(|(first, _)| is_same(first, record)) {
            Some((_, row)) => row.held.push(held),
            None => rows.push((*record, row_of(record, key.to_vec(), vec![held]))),
        }
    }
    // A source that has not this key here may have something else.
    let mut contested = rows.len() > 1;
    let holds = |at: usize| copies.iter().any(|(holder, ..)| *holder == at);
    let is_kept = |reading: &Reading<'_>| is_kept(reading, revision.0);
    let by_kept = copies.iter().any(|(at, ..)| readings.get(*at).is_some_and(is_kept));
    for (_, reading) in readings.iter().enumerate().filter(|(at, _)| !holds(*at)) {
        if contested || reading.space.last < revision.0 {
            continue;
        }
        // Whoever has one operation of a revision and keeps history there has all of them; else only the same one tells.
        let whole = by_kept && is_kept(reading);
        let ordinal = reading.lower_bound(if whole { (revision.0, i64::MIN) } else { revision })?;
        let record = (ordinal < reading.space.records).then(|| reading.record(ordinal)).transpose()?;
        contested =
            record.is_some_and(|record| record.main == revision.0 && (whole || record.sub == revision.1));
    }
    Ok(rows.into_iter().map(|(_, row)| RevisionRow { contested, ..row }).collect())
}
