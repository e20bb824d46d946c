//! What a report shows, out of a case.

use std::ops::ControlFlow;

use bbolt::Watch;

use super::data::{Bin, CaseFacts, Data, Examined, Pair, Sample, Seal, Version};
use super::prefixes;
use crate::ask::Reading;
use crate::block::unpack;
use crate::case::Case;
use crate::container::SCHEMA_VERSION;
use crate::error::CaseError;
use crate::rows::{DiffRow, Parting, RevisionRow};
use crate::source::Source;

/// Stretches that the revisions of a source are told in.
const BINS: i64 = 240;
/// Differences of a pair that are told one by one.
const SAMPLES: usize = 20;
/// Sources of which each is held against each; of more, all are held against one.
const ALL_PAIRS: usize = 6;

/// Gathers it.
///
/// # Errors
/// When the case is damaged, or the user asked to stop.
pub fn gather(case: &Case, watch: &dyn Watch) -> Result<Data, CaseError> {
    let name = case.path().file_name().unwrap_or(case.path().as_os_str());
    let seal = match case.seals()?.pop() {
        Some(seal) => {
            let state = case.seal_state(&seal, watch)?;
            Some(Seal { sha256: seal.digest, state })
        }
        None => None,
    };
    let facts = CaseFacts {
        name: name.to_string_lossy().into_owned(),
        schema: SCHEMA_VERSION,
        tool: crate::case::TOOL.to_owned(),
        commands: case.commands()?,
        seal,
    };
    let mut sources = Vec::new();
    for source in case.sources() {
        sources.push(examined(case, source, watch)?);
    }
    Ok(Data { case: facts, sources, partings: partings(case, watch)? })
}

fn examined(case: &Case, source: &Source, watch: &dyn Watch) -> Result<Examined, CaseError> {
    let pages = case.page_runs(source)?;
    let Some(reading) = Reading::open(case, source)? else {
        return Ok(Examined { source: source.clone(), pages, space: Vec::new(), history: Vec::new() });
    };
    let (first, last) = (reading.space.first, reading.space.last);
    let width = last.saturating_sub(first) / BINS + 1;
    let mut history: Vec<Bin> = Vec::new();
    let mut sums = prefixes::Sums::default();
    for block in reading.blocks.range::<u64>(..)? {
        for record in unpack(block?.1.value())? {
            sums.take(&record);
            let at = first.saturating_add(record.main.saturating_sub(first) / width * width);
            match history.last_mut().filter(|bin| bin.first >= at) {
                Some(bin) => bin.records += 1,
                None => history.push(Bin {
                    first: at,
                    last: at.saturating_add(width - 1).min(last).max(at),
                    records: 1,
                }),
            }
        }
        if watch.interrupted() {
            return Err(CaseError::Interrupted);
        }
    }
    let space = prefixes::of(&reading, &sums, watch)?;
    Ok(Examined { source: source.clone(), pages, space, history })
}

/// The pairs of sources that are held against each other.
fn pairs(case: &Case) -> Vec<(&Source, &Source)> {
    let with: Vec<&Source> = case.sources().iter().filter(|source| source.key_space.is_some()).collect();
    let revision = |source: &&&Source| source.key_space.as_ref().map(|space| space.revision);
    let kin = |(one, other): &(&Source, &Source)| {
        let clusters = one.identity.cluster.zip(other.identity.cluster);
        clusters.is_none_or(|(one, other)| one == other)
    };
    let mut pairs = Vec::new();
    if with.len() <= ALL_PAIRS {
        for (at, one) in with.iter().enumerate() {
            pairs.extend(with.iter().skip(at + 1).map(|other| (*one, *other)));
        }
    } else if let Some(furthest) = with.iter().rev().max_by_key(revision) {
        let others = with.iter().filter(|other| other.number != furthest.number);
        pairs.extend(others.map(|other| (*furthest, *other)));
    }
    pairs.retain(kin);
    pairs
}

fn partings(case: &Case, watch: &dyn Watch) -> Result<Vec<Pair>, CaseError> {
    let mut partings = Vec::new();
    for (one, other) in pairs(case) {
        let mut samples = Vec::new();
        let diff = case.diff(one, other, &mut |row| {
            let is_parted = matches!(row.parting, Parting::Missing | Parting::Differs);
            if is_parted && samples.len() < SAMPLES {
                samples.extend(sample(case, row));
            }
            if watch.interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if watch.interrupted() {
            return Err(CaseError::Interrupted);
        }
        partings.push(Pair { one: one.name.clone(), other: other.name.clone(), diff, samples });
    }
    Ok(partings)
}

fn sample(case: &Case, row: &DiffRow) -> Option<Sample> {
    let any = row.a.as_ref().or(row.b.as_ref())?;
    let of = |row: &Option<RevisionRow>| row.as_ref().map(|row| version(case, row));
    Some(Sample { main: any.main, sub: any.sub, one: of(&row.a), other: of(&row.b) })
}

/// What a source has, with its value only where that is in the case: a report does not depend on what is mounted.
fn version(case: &Case, row: &RevisionRow) -> Version {
    let held = row.held.first().map(|held| case.cite(held));
    let has_values = |number: u32| {
        let source = usize::try_from(number).ok().and_then(|number| case.sources().get(number));
        source.is_some_and(|source| source.has_values)
    };
    let kept: Vec<_> = row.held.iter().filter(|held| has_values(held.source)).cloned().collect();
    let value = (!kept.is_empty() && !row.tombstone)
        .then(|| case.value(&RevisionRow { held: kept, ..row.clone() }).ok())
        .flatten();
    let page = held.as_ref().and_then(|held| held.page).map(|page| format!(", page {page}"));
    Version {
        key: row.key.clone(),
        deleted: row.tombstone,
        version: row.version,
        value_len: row.value_len,
        value_hash: (!row.tombstone)
            .then(|| row.value_hash.iter().map(|byte| format!("{byte:02x}")).collect()),
        value,
        place: held.map_or_else(String::new, |held| {
            format!("{}, offset {}{}", held.file, held.offset, page.unwrap_or_default())
        }),
    }
}
