//! `kv diff`: in what the keys of two stores differ, or those of one at two revisions.

use std::cmp::Ordering;
use std::io;

use bbolt::{Source, Watch};

use crate::finding::Finding;
use crate::mvcc::{DecodeError, Entry, History, Index, KeyValue, Record, RecordError, RevisionError};

/// A store at a revision.
#[derive(Debug)]
pub struct Side<'i, 'd, S> {
    /// The keys that are compared. Both sides must have the same range.
    pub index: &'i Index<'d, S>,
    /// The revision; 0 for the current one.
    pub revision: i64,
}

/// How a key differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only the second side has it.
    Added,
    /// Only the first side has it.
    Removed,
    /// Its value is another.
    Changed,
    /// Its value is the same, but it was put at another revision, or with another lease.
    Rewritten,
}

/// A key that differs.
#[derive(Debug, Clone, Copy)]
pub struct Change<'c> {
    /// How.
    pub kind: Kind,
    /// The key.
    pub key: &'c [u8],
    /// What the first side has.
    pub before: Option<KeyValue<'c>>,
    /// What the second side has.
    pub after: Option<KeyValue<'c>>,
}

/// How many keys there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Those that only the second side has.
    pub added: u64,
    /// Those that only the first side has.
    pub removed: u64,
    /// Those whose value is another.
    pub changed: u64,
    /// Those with the same value, put at another revision or with another lease.
    pub rewritten: u64,
    /// Those that are the same in all.
    pub same: u64,
}

impl Counts {
    /// Whether the sides are the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.added == 0 && self.removed == 0 && self.changed == 0 && self.rewritten == 0
    }

    fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Added => self.added += 1,
            Kind::Removed => self.removed += 1,
            Kind::Changed => self.changed += 1,
            Kind::Rewritten => self.rewritten += 1,
        }
    }
}

/// Why the sides cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// The first side does not have the revision.
    #[error("the first: {0}")]
    FirstRevision(#[source] RevisionError),
    /// The second side does not.
    #[error("the second: {0}")]
    SecondRevision(#[source] RevisionError),
    /// A record cannot be read again.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record that was one is none any more.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What takes the changes refused one.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl DiffError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Interrupted) { 130 } else { 1 }
    }

    /// Findings that go with it: none, those of the files are the indexes'.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// Gives `take` every key that differs between `first` and `second`, in the order of the keys, and counts them.
///
/// # Errors
/// When a side does not have its revision, a record cannot be read again, `take` fails, or the user asked to stop.
pub fn diff<A: Source, B: Source>(
    first: &Side<'_, '_, A>,
    second: &Side<'_, '_, B>,
    take: &mut dyn FnMut(&Change<'_>) -> io::Result<()>,
    watch: &dyn Watch,
) -> Result<Counts, DiffError> {
    let before = first.index.store().resolve(first.revision).map_err(DiffError::FirstRevision)?;
    let after = second.index.store().resolve(second.revision).map_err(DiffError::SecondRevision)?;
    let mut olds = Live { index: first.index, next: 0, revision: before };
    let mut news = Live { index: second.index, next: 0, revision: after };
    let (mut old, mut new) = (olds.next(), news.next());
    let mut counts = Counts::default();
    loop {
        if watch.interrupted() {
            return Err(DiffError::Interrupted);
        }
        let order = match (&old, &new) {
            (None, None) => return Ok(counts),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.key()?.cmp(&new.key()?),
        };
        let old_record = old.filter(|_| order.is_le()).map(|(_, entry)| first.index.record(entry));
        let new_record = new.filter(|_| order.is_ge()).map(|(_, entry)| second.index.record(entry));
        let (old_record, new_record) = (old_record.transpose()?, new_record.transpose()?);
        compare(old_record.as_ref(), new_record.as_ref(), &mut counts, take)?;
        if order.is_le() {
            old = olds.next();
        }
        if order.is_ge() {
            new = news.next();
        }
    }
}

/// Compares what two sides have of one key.
fn compare(
    old: Option<&Record<'_>>,
    new: Option<&Record<'_>>,
    counts: &mut Counts,
    take: &mut dyn FnMut(&Change<'_>) -> io::Result<()>,
) -> Result<(), DiffError> {
    if old == new {
        counts.same += 1;
        return Ok(());
    }
    let before = old.map(|record| KeyValue::decode(&record.bytes)).transpose()?;
    let after = new.map(|record| KeyValue::decode(&record.bytes)).transpose()?;
    let kind = match (&before, &after) {
        (None, _) => Kind::Added,
        (_, None) => Kind::Removed,
        (Some(before), Some(after)) if before.value != after.value => Kind::Changed,
        _ => Kind::Rewritten,
    };
    counts.count(kind);
    let key = after.or(before).map_or(&[][..], |kv| kv.key);
    take(&Change { kind, key, before, after })?;
    Ok(())
}

/// The keys that are there at a revision.
struct Live<'i, 'd, S> {
    index: &'i Index<'d, S>,
    next: usize,
    revision: i64,
}

impl<'i, 'd, S: Source> Live<'i, 'd, S> {
    fn next(&mut self) -> Option<(History<'i, 'd, S>, &'i Entry)> {
        loop {
            let history = self.index.history(self.next)?;
            self.next += 1;
            if let Some(entry) = history.at(self.revision) {
                return Some((history, entry));
            }
        }
    }
}
