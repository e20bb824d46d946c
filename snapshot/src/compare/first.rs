//! The first revision at which several databases do not have the same records.
//!
//! The records of all are walked side by side, in the order of their revisions, behind the last compaction of any of them: there
//! a record that one has and another has not was lost, or made by something that the other never applied.

use std::collections::BTreeMap;

use bbolt::{Cursor, Db, Source, Watch};

use super::CompareError;
use super::held::{Differing, Held, Value};
use crate::mvcc::{KeyValue, Revision};
use crate::schema::KEY;

/// How many records are dealt with before it is asked whether to go on.
const BETWEEN_LOOKS: u64 = 4096;

/// Where members part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// The revision.
    pub revision: i64,
    /// Whether they may have parted earlier, in what a compaction removed.
    pub may_be_earlier: bool,
    /// The keys written at that revision, and what each member has there.
    pub keys: Vec<Differing>,
}

/// Where the records of `dbs`, each with its survivor's place, first differ among those above revision `above` and up to `upto`.
/// At most `limit` keys are told of.
pub(super) fn first_difference<S: Source>(
    dbs: &[(usize, &Db<S>)],
    above: i64,
    upto: i64,
    limit: usize,
    watch: &dyn Watch,
) -> Result<Option<First>, CompareError> {
    let start = Revision { main: above.saturating_add(1), sub: 0, tombstone: false }.encode();
    let mut cursors = Vec::with_capacity(dbs.len());
    for (survivor, db) in dbs {
        let mut cursor = db.bucket(KEY)?.map(|bucket| bucket.cursor());
        if let Some(cursor) = &mut cursor {
            cursor.seek(&start)?;
        }
        cursors.push((*survivor, cursor));
    }
    for step in 0_u64.. {
        if step % BETWEEN_LOOKS == 0 && watch.interrupted() {
            return Err(CompareError::Interrupted);
        }
        let here = |cursor: &Option<Cursor<'_, S>>| {
            let item = cursor.as_ref()?.item()?;
            Revision::parse(item.key).filter(|revision| revision.main <= upto)
        };
        let Some(next) = cursors.iter().filter_map(|(_, cursor)| here(cursor)).map(|r| (r.main, r.sub)).min()
        else {
            break;
        };
        let mut first = None;
        let same = cursors.iter().all(|(_, cursor)| {
            let Some(item) = cursor.as_ref().and_then(Cursor::item) else { return false };
            let pair = (item.key, item.value);
            here(cursor).is_some_and(|r| (r.main, r.sub) == next) && *first.get_or_insert(pair) == pair
        });
        if !same {
            let keys = at_revision(&mut cursors, next.0, limit)?;
            return Ok(Some(First { revision: next.0, may_be_earlier: false, keys }));
        }
        for (_, cursor) in &mut cursors {
            if let Some(cursor) = cursor {
                cursor.next()?;
            }
        }
    }
    Ok(None)
}

/// The keys that differ among the records of revision `main`, of which earlier ones may have been passed already, and were the
/// same in all.
fn at_revision<S: Source>(
    cursors: &mut [(usize, Option<Cursor<'_, S>>)],
    main: i64,
    limit: usize,
) -> Result<Vec<Differing>, CompareError> {
    let mut keys: BTreeMap<Vec<u8>, BTreeMap<usize, Held>> = BTreeMap::new();
    for (survivor, cursor) in cursors.iter_mut() {
        let Some(cursor) = cursor else { continue };
        while let Some(item) = cursor.item() {
            let Some(revision) = Revision::parse(item.key).filter(|revision| revision.main == main) else {
                break;
            };
            if let Ok(kv) = KeyValue::decode(item.value)
                && (keys.len() < limit || keys.contains_key(kv.key))
            {
                let held = if revision.tombstone { Held::Deletion } else { Held::Value(Value::of(&kv)) };
                keys.entry(kv.key.to_vec()).or_default().insert(*survivor, held);
            }
            cursor.next()?;
        }
    }
    let survivors: Vec<usize> = cursors.iter().map(|(survivor, _)| *survivor).collect();
    let told = keys.into_iter().map(|(key, mut of)| {
        let held = survivors.iter().map(|at| (*at, of.remove(at).unwrap_or(Held::Nothing))).collect();
        Differing { key, held }
    });
    let differs =
        |one: &Differing| one.held.windows(2).any(|pair| matches!(pair, [(_, a), (_, b)] if a != b));
    let (differing, same): (Vec<_>, Vec<_>) = told.partition(differs);
    // Values may differ behind what is kept of them, or the order in which the records were made.
    Ok(if differing.is_empty() { same } else { differing })
}

/// Where `part` lacks, or has otherwise, a record that `whole` has up to revision `upto`. `whole` was compacted later than that, and what
/// it still has `part` must have.
pub(super) fn first_lack<S: Source>(
    (whole_at, whole): (usize, &Db<S>),
    (part_at, part): (usize, &Db<S>),
    upto: i64,
    watch: &dyn Watch,
) -> Result<Option<First>, CompareError> {
    let (Some(whole), Some(part)) = (whole.bucket(KEY)?, part.bucket(KEY)?) else { return Ok(None) };
    let (mut kept, mut all) = (whole.cursor(), part.cursor());
    kept.first()?;
    all.first()?;
    for step in 0_u64.. {
        if step % BETWEEN_LOOKS == 0 && watch.interrupted() {
            return Err(CompareError::Interrupted);
        }
        let Some(item) = kept.item() else { break };
        let Some(revision) = Revision::parse(item.key).filter(|revision| revision.main <= upto) else {
            break;
        };
        while all.item().is_some_and(|other| other.key < item.key) {
            all.next()?;
        }
        let same = all.item().is_some_and(|other| (other.key, other.value) == (item.key, item.value));
        if !same {
            let held = |tombstone, kv: &KeyValue<'_>| {
                if tombstone { Held::Deletion } else { Held::Value(Value::of(kv)) }
            };
            let kv = KeyValue::decode(item.value).unwrap_or_default();
            let other = all.item().filter(|other| other.key == item.key);
            let other = other
                .and_then(|other| KeyValue::decode(other.value).ok().filter(|found| found.key == kv.key));
            let theirs = other.map_or(Held::Nothing, |found| held(revision.tombstone, &found));
            let keys = vec![Differing {
                key: kv.key.to_vec(),
                held: vec![(whole_at, held(revision.tombstone, &kv)), (part_at, theirs)],
            }];
            return Ok(Some(First { revision: revision.main, may_be_earlier: true, keys }));
        }
        kept.next()?;
    }
    Ok(None)
}
