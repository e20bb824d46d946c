//! What the entries ask for that are not certain.

use std::collections::BTreeMap;

use bbolt::Watch;
use rayon::prelude::*;
use wal::EntryRef;
use wal::RecordType;
use wal::log::Segments;
use wal::raftpb::EntryType;
use wal::scan::{Item, scan};

use super::CompareError;
use crate::certainty::{Class, Judged};
use crate::facts::LogFacts;
use crate::request::{self, ConfChange, Style};
use crate::survivors::Survivors;

/// The most entries that are told of.
pub const MOST_ENTRIES: usize = 4096;
/// The most keys that are told of one entry.
const MOST_KEYS: usize = 16;
/// The most bytes that are shown of a value inside a request.
const MOST_VALUE_BYTES: usize = 64;
/// The most characters of a request.
const MOST_TEXT: usize = 512;

/// An entry that is not certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailEntry {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Whether it may have been committed.
    pub class: Class,
    /// Whether it lies on the history that an election among the readable members would choose.
    pub is_on_chain: bool,
    /// The testimonies that have it.
    pub holders: Vec<usize>,
    /// One word for what it is: a request's name, `nothing`, `conf_change`.
    pub kind: &'static str,
    /// What it asks for, on one line; secrets are not shown.
    pub request: String,
    /// The keys it names, and ranges of keys by their first, at most sixteen.
    pub keys: Vec<Vec<u8>>,
}

/// The entries that are not certain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    /// Them: those on the chain first, each by ascending index; at most [`MOST_ENTRIES`].
    pub entries: Vec<TailEntry>,
    /// How many there are in all.
    pub count: u64,
}

/// Entries to be looked up in one log: by index and term, the place among those told of.
type Wanted = BTreeMap<(u64, u64), usize>;

/// Reads the entries that `survivors` cannot be certain of.
///
/// # Errors
/// When the user asked to stop.
pub fn read(survivors: &Survivors, watch: &dyn Watch) -> Result<Tail, CompareError> {
    let mut tail = Tail::default();
    let mut wanted: BTreeMap<usize, Wanted> = BTreeMap::new();
    let judgement = &survivors.judgement;
    let on_chain = judgement.chain.iter().map(|judged| (judged, true));
    for (judged, is_on_chain) in on_chain.chain(judgement.branches.iter().map(|judged| (judged, false))) {
        if judged.class != Class::Certain {
            tail.take(judged, is_on_chain, survivors, &mut wanted);
        }
    }
    for (place, wanted) in wanted {
        let Some(log) = survivors.all.get(place).and_then(|survivor| survivor.facts.log_facts()) else {
            continue;
        };
        for (at, kind, request, keys) in look_up(log, &wanted, watch)? {
            if let Some(entry) = tail.entries.get_mut(at) {
                (entry.kind, entry.request, entry.keys) = (kind, request, keys);
            }
        }
    }
    Ok(tail)
}

impl Tail {
    fn take(
        &mut self,
        judged: &Judged,
        is_on_chain: bool,
        survivors: &Survivors,
        wanted: &mut BTreeMap<usize, Wanted>,
    ) {
        let count = (judged.last - judged.first).saturating_add(1);
        self.count = self.count.saturating_add(count);
        let holder = judged.holders.first().and_then(|holder| survivors.witnesses.get(*holder));
        for index in judged.first..=judged.last {
            if self.entries.len() >= MOST_ENTRIES {
                return;
            }
            if let Some(place) = holder {
                wanted.entry(*place).or_default().insert((index, judged.term), self.entries.len());
            }
            self.entries.push(TailEntry {
                index,
                term: judged.term,
                class: judged.class,
                is_on_chain,
                holders: judged.holders.clone(),
                kind: "unreadable",
                request: String::new(),
                keys: Vec::new(),
            });
        }
    }
}

type Said = (usize, &'static str, String, Vec<Vec<u8>>);

fn look_up(facts: &LogFacts, wanted: &Wanted, watch: &dyn Watch) -> Result<Vec<Said>, CompareError> {
    let log = &facts.report.log;
    let has_any = |at: &usize| {
        log.runs.iter().filter(|run| run.segment == *at).any(|run| {
            wanted
                .range((run.first_index, 0)..=(run.last_index, u64::MAX))
                .any(|((_, term), _)| *term == run.term)
        })
    };
    let places: Vec<usize> = (0..log.segments.len()).filter(has_any).collect();
    let said: Result<Vec<Vec<Said>>, CompareError> = places
        .par_iter()
        .with_max_len(1)
        .map(|at| {
            if watch.interrupted() {
                return Err(CompareError::Interrupted);
            }
            let piece = facts.files.piece(*at);
            let mut said = Vec::new();
            for item in scan(&piece.bytes) {
                let Item::Record(found) = item else { continue };
                if found.record.record_type != RecordType::Entry {
                    continue;
                }
                let Ok(entry) = EntryRef::decode(found.record.data) else { continue };
                if let Some(place) = wanted.get(&(entry.index, entry.term))
                    && !log.is_overwritten(*at, found.record.offset, entry.index)
                {
                    let (kind, request, keys) = say(&entry);
                    said.push((*place, kind, request, keys));
                }
            }
            Ok(said)
        })
        .collect();
    Ok(said?.into_iter().flatten().collect())
}

/// What an entry is, what it asks for, and the keys it names.
fn say(entry: &EntryRef<'_>) -> (&'static str, String, Vec<Vec<u8>>) {
    let mut text = Vec::new();
    let change = match EntryType::try_from(entry.entry_type) {
        Ok(EntryType::Normal) => None,
        Ok(EntryType::ConfChange) => Some(ConfChange::v1(entry.data)),
        Ok(EntryType::ConfChangeV2) => Some(ConfChange::v2(entry.data)),
        Err(_) => return ("unknown", format!("an entry of type {}", entry.entry_type), Vec::new()),
    };
    if let Some(change) = change {
        match change {
            Ok(change) => change.write_text(&mut text),
            Err(error) => return ("conf_change", error.to_string(), Vec::new()),
        }
        return ("conf_change", cut(&text), Vec::new());
    }
    let decoded = request::decode(entry.data);
    decoded.write_text(&Style { cut: Some(MOST_VALUE_BYTES), show_secrets: false }, &mut text);
    let keys = decoded
        .request()
        .into_iter()
        .flat_map(|request| request.keys().map(|range| range.key.to_vec()).collect::<Vec<_>>());
    let mut keys: Vec<Vec<u8>> = keys.collect();
    keys.sort();
    keys.dedup();
    keys.truncate(MOST_KEYS);
    (decoded.kind(), cut(&text), keys)
}

/// What fits on a line.
fn cut(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut out: String = text.chars().take(MOST_TEXT).collect();
    if out.len() < text.len() {
        out.push_str("...");
    }
    out
}
