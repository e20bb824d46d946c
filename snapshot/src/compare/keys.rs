//! The keys that are not the same in several databases at one revision.

use bbolt::{Source, Watch};

use super::CompareError;
use super::held::{Differing, Held, Value};
use crate::mvcc::{Entry, Index, KeyValue, Record};

/// How many keys are dealt with before it is asked whether to go on.
const BETWEEN_LOOKS: u64 = 1024;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Keys whose value is another, or that only some have.
    pub values: u64,
    /// Keys with the same value in all, put at another revision or with another lease.
    pub rewritten: u64,
    /// The first of them, in the order of the keys; those with other values before the others.
    pub first: Vec<Differing>,
    /// The one of which a value was put at the smallest revision, and that revision.
    pub earliest: Option<(i64, Differing)>,
}

/// The live keys of one database, one after the other.
struct Live<'i, 'd, S> {
    survivor: usize,
    index: &'i Index<'d, S>,
    next: usize,
    revision: i64,
    entry: Option<&'i Entry>,
    key: Vec<u8>,
}

impl<S: Source> Live<'_, '_, S> {
    fn advance(&mut self) -> Result<(), CompareError> {
        self.entry = None;
        while let Some(history) = self.index.history(self.next) {
            self.next += 1;
            if let Some(entry) = history.at(self.revision) {
                self.key = history.key()?.into_owned();
                self.entry = Some(entry);
                break;
            }
        }
        Ok(())
    }
}

/// The keys of `indexes`, each with its survivor's place, that are not the same in all at `revision`; at most `limit` are kept.
pub(super) fn differing<S: Source>(
    indexes: &[(usize, Index<'_, S>)],
    revision: i64,
    limit: usize,
    watch: &dyn Watch,
) -> Result<Keys, CompareError> {
    let mut lives = Vec::with_capacity(indexes.len());
    for (survivor, index) in indexes {
        let mut live = Live { survivor: *survivor, index, next: 0, revision, entry: None, key: Vec::new() };
        live.advance()?;
        lives.push(live);
    }
    let mut keys = Keys::default();
    let mut rewritten = Vec::new();
    for step in 0_u64.. {
        if step % BETWEEN_LOOKS == 0 && watch.interrupted() {
            return Err(CompareError::Interrupted);
        }
        let present = lives.iter().filter(|live| live.entry.is_some());
        let Some(key) = present.map(|live| live.key.as_slice()).min().map(<[u8]>::to_vec) else { break };
        let mut records: Vec<(usize, Option<Record<'_>>)> = Vec::with_capacity(lives.len());
        for live in &lives {
            let entry = live.entry.filter(|_| live.key == key);
            records.push((live.survivor, entry.map(|entry| live.index.record(entry)).transpose()?));
        }
        if records.windows(2).any(|pair| matches!(pair, [(_, a), (_, b)] if a != b)) {
            take(&key, &records, &mut keys, &mut rewritten, limit)?;
        }
        for live in lives.iter_mut().filter(|live| live.key == key) {
            if live.entry.is_some() {
                live.advance()?;
            }
        }
    }
    rewritten.truncate(limit.saturating_sub(keys.first.len()));
    keys.first.append(&mut rewritten);
    Ok(keys)
}

fn take(
    key: &[u8],
    records: &[(usize, Option<Record<'_>>)],
    keys: &mut Keys,
    rewritten: &mut Vec<Differing>,
    limit: usize,
) -> Result<(), CompareError> {
    let mut held = Vec::with_capacity(records.len());
    let mut values: Vec<Option<&[u8]>> = Vec::with_capacity(records.len());
    let mut first = i64::MAX;
    for (survivor, record) in records {
        let kv = record.as_ref().map(|record| KeyValue::decode(&record.bytes)).transpose()?;
        values.push(kv.map(|kv| kv.value));
        first = first.min(kv.map_or(i64::MAX, |kv| kv.mod_revision));
        held.push((*survivor, kv.map_or(Held::Nothing, |kv| Held::Value(Value::of(&kv)))));
    }
    if keys.earliest.as_ref().is_none_or(|(earliest, _)| first < *earliest) {
        keys.earliest = Some((first, Differing { key: key.to_vec(), held: held.clone() }));
    }
    let same_value = values.windows(2).all(|pair| matches!(pair, [a, b] if a == b));
    let (count, list) =
        if same_value { (&mut keys.rewritten, rewritten) } else { (&mut keys.values, &mut keys.first) };
    *count = count.saturating_add(1);
    if list.len() < limit {
        list.push(Differing { key: key.to_vec(), held });
    }
    Ok(())
}
