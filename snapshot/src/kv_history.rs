//! `kv history`: what is kept of a key, and what between the records that are kept is not there.

use bbolt::Source;

use crate::mvcc::{Entry, History, Index, KeyValue, Record, RecordError};

/// One step in the life of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'d> {
    /// A record: a put or a tombstone.
    Kept(Record<'d>),
    /// Versions of the key that are not in the file.
    Gone(Gone),
}

/// Versions of a key that are not in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// How many; `None` when only a tombstone says that there were some.
    pub versions: Option<i64>,
    /// The revision that created the key, where a later record says it.
    pub created: Option<i64>,
    /// True when a compaction took them; else the file lacks what should be in it.
    pub compacted: bool,
}

/// What is known of the record before.
#[derive(Debug, Clone, Copy)]
enum Before {
    Nothing,
    Put { created: i64, version: i64 },
    Tombstone,
}

/// The steps in the life of one key, by ascending revision.
#[derive(Debug)]
pub struct Steps<'i, 'd, S> {
    index: &'i Index<'d, S>,
    entries: std::slice::Iter<'i, Entry>,
    before: Before,
    /// Up to which revision records may have been taken by a compaction.
    compacted: Option<i64>,
    pending: Option<Record<'d>>,
}

/// The steps in the life of the key that `history` is of, as `index` has it.
#[must_use]
pub fn steps<'i, 'd, S: Source>(index: &'i Index<'d, S>, history: &History<'i, 'd, S>) -> Steps<'i, 'd, S> {
    Steps {
        index,
        entries: history.entries().iter(),
        before: Before::Nothing,
        compacted: index.store().compact_revision,
        pending: None,
    }
}

impl<S> Steps<'_, '_, S> {
    /// What is missing between the record before and this one, which is remembered.
    fn gap(&mut self, record: &Record<'_>) -> Option<Gone> {
        let before = self.before;
        if record.revision.tombstone {
            self.before = Before::Tombstone;
            let is_first = matches!(before, Before::Nothing | Before::Tombstone);
            return is_first.then(|| Gone {
                versions: None,
                created: None,
                compacted: self.explains(before, record.revision.main),
            });
        }
        // A record in an index was decoded before.
        let kv = KeyValue::decode(&record.bytes).unwrap_or_default();
        self.before = Before::Put { created: kv.create_revision, version: kv.version };
        let expected = match before {
            Before::Put { created, version } if created == kv.create_revision => version.saturating_add(1),
            Before::Nothing | Before::Put { .. } | Before::Tombstone => 1,
        };
        let versions = kv.version.saturating_sub(expected);
        (versions > 0).then(|| Gone {
            versions: Some(versions),
            created: Some(kv.create_revision),
            compacted: self.explains(before, record.revision.main),
        })
    }

    /// Whether a compaction took what is missing before the record of revision `main`: then it is the first one that is kept, and
    /// not above the compacted revision, since what was the key's value there stays (FORMATS C.4).
    fn explains(&self, before: Before, main: i64) -> bool {
        matches!(before, Before::Nothing) && self.compacted.is_some_and(|compacted| main <= compacted)
    }
}

impl<'d, S: Source> Iterator for Steps<'_, 'd, S> {
    type Item = Result<Step<'d>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(record) = self.pending.take() {
            return Some(Ok(Step::Kept(record)));
        }
        let record = match self.index.record(self.entries.next()?) {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(match self.gap(&record) {
            Some(gone) => {
                self.pending = Some(record);
                Step::Gone(gone)
            }
            None => Step::Kept(record),
        }))
    }
}
