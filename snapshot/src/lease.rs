//! Leases and the keys that hang on them (FORMATS B.4).
//!
//! A db keeps a lease's id and time to live, and which lease each record was put with, but not which keys a lease has: a server
//! finds that out when it starts, from the newest record of every key. [`Attached`] does the same at any revision.

use std::collections::BTreeMap;

use bbolt::fault::readable;
use bbolt::{Db, Fault, Source, Watch};
use prost::Message;
use rayon::prelude::*;

use crate::finding::{Finding, Severity};
use crate::mvcc::{Index, KeySpaceError, KeyValue, RecordError};
use crate::schema::{LEASE, LeaseRow, each_row};

/// Keys that a finding names.
const NAMED_KEYS: usize = 8;
/// Rows told one by one; the rest are counted.
const MOST_FINDINGS: usize = 100;
/// Keys that one thread looks at before it asks whether to go on.
const KEYS_AT_ONCE: usize = 4096;

/// One lease as a db keeps it. When it expires is not kept: a new leader gives it all of its time again, or what was left at
/// the last checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: i64,
    /// For how long it was granted, in seconds.
    pub ttl: i64,
    /// What was left at its last checkpoint, in seconds; 0 without one.
    pub remaining_ttl: i64,
}

impl Lease {
    /// What is left of it when a leader is elected, in seconds.
    #[must_use]
    pub fn remaining(&self) -> i64 {
        if self.remaining_ttl > 0 { self.remaining_ttl } else { self.ttl }
    }
}

/// The leases of a db.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    by_id: BTreeMap<i64, Lease>,
    /// Rows that cannot be read, or do not say what their key says.
    pub findings: Vec<Finding>,
}

impl Leases {
    /// Reads bucket `lease`. Rows that cannot be read are findings.
    ///
    /// # Errors
    /// When a page on the way is damaged.
    pub fn read<S: Source>(db: &Db<S>) -> Result<Self, Fault> {
        let mut leases = Self::default();
        let mut unlisted = 0_u64;
        each_row(db, LEASE, |key, value, offset| {
            let finding = match (key.first_chunk().filter(|_| key.len() == 8), LeaseRow::decode(value)) {
                (Some(id), Ok(row)) => {
                    let lease = Lease { id: row.id, ttl: row.ttl, remaining_ttl: row.remaining_ttl };
                    leases.by_id.insert(row.id, lease);
                    let id = i64::from_be_bytes(*id);
                    (id != row.id).then(|| {
                        let message = format!(
                            "bucket lease, row {id:016x}: its value is that of lease {:016x}, which a server loads, and whose \
                             row it never removes",
                            row.id
                        );
                        Finding::new("ETCD-LEASE", Severity::Warning, message)
                    })
                }
                (_, row) => {
                    let what = row
                        .err()
                        .map_or_else(|| "its key is no lease's id".to_owned(), |error| error.to_string());
                    let message = format!(
                        "bucket lease, row {}: {what}; a server dies when it starts on it",
                        readable(key)
                    );
                    Some(Finding::new("ETCD-ROW", Severity::Error, message))
                }
            };
            match finding {
                Some(finding) if leases.findings.len() < MOST_FINDINGS => {
                    leases.findings.push(Finding { offset: Some(offset), ..finding });
                }
                Some(_) => unlisted = unlisted.saturating_add(1),
                None => {}
            }
        })?;
        if unlisted > 0 {
            let message = format!("{unlisted} more rows of bucket lease are not what they should be");
            leases.findings.push(Finding::new("ETCD-ROW", Severity::Error, message));
        }
        Ok(leases)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether this one exists.
    #[must_use]
    pub fn has(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The leases in the order in which they would expire, and of several that expire together by their ids: as a server lists
    /// them.
    #[must_use]
    pub fn by_expiry(&self) -> Vec<Lease> {
        let mut leases: Vec<Lease> = self.by_id.values().copied().collect();
        leases.sort_by_key(|lease| (lease.remaining(), lease.id));
        leases
    }

    /// The leases to which no key is attached, by their ids.
    pub fn without_keys<'a>(&'a self, attached: &'a Attached) -> impl Iterator<Item = Lease> + 'a {
        self.by_id.values().copied().filter(|lease| attached.keys_of(lease.id).is_empty())
    }

    /// That keys name leases which do not exist: they never expire, though who wrote them meant them to.
    ///
    /// # Errors
    /// When a record cannot be read again.
    pub fn gone<S: Source>(
        &self,
        index: &Index<'_, S>,
        attached: &Attached,
    ) -> Result<Option<Finding>, RecordError> {
        let missing: Vec<Key> = attached.keys.iter().copied().filter(|key| !self.has(key.lease)).collect();
        let (Some(_), keys) = (missing.first(), missing.len()) else { return Ok(None) };
        let leases = missing.chunk_by(|one, next| one.lease == next.lease).count();
        let mut named = Vec::new();
        for key in missing.iter().take(NAMED_KEYS) {
            let name = match index.history(key.number) {
                Some(history) => readable(&history.key()?),
                None => continue,
            };
            named.push(format!("{name} (lease {:016x})", key.lease));
        }
        let more =
            if keys > named.len() { format!(" and {} more", keys - named.len()) } else { String::new() };
        let message = format!(
            "at revision {}, {keys} key(s) hang on {leases} lease(s) that no longer exist: {}{more}. A server keeps such keys for \
             ever; delete them, or put them again with a lease",
            attached.revision,
            named.join(", ")
        );
        Ok(Some(Finding::new("ETCD-LEASE-GONE", Severity::Warning, message)))
    }
}

/// One key on a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The lease.
    pub lease: i64,
    /// The key's number in the index.
    pub number: usize,
}

/// Which keys hang on which lease at one revision. 16 bytes for each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    revision: i64,
    keys: Vec<Key>,
}

impl Attached {
    /// Reads the put of every key that is its value at `revision`.
    ///
    /// # Errors
    /// When a record cannot be read again, or the user asked to stop.
    pub fn at<S: Source>(
        index: &Index<'_, S>,
        revision: i64,
        watch: &dyn Watch,
    ) -> Result<Self, KeySpaceError> {
        let attached_in = |from: usize| -> Result<Vec<Key>, KeySpaceError> {
            if watch.interrupted() {
                return Err(KeySpaceError::Interrupted);
            }
            let mut keys = Vec::new();
            for number in from..index.key_count().min(from.saturating_add(KEYS_AT_ONCE)) {
                let Some(entry) = index.history(number).and_then(|history| history.at(revision)) else {
                    continue;
                };
                let record = index.record(entry)?;
                let kv = KeyValue::decode(&record.bytes)
                    .map_err(|source| RecordError::Decode { offset: entry.offset(), source })?;
                if kv.lease != 0 {
                    keys.push(Key { lease: kv.lease, number });
                }
            }
            Ok(keys)
        };
        let starts: Vec<usize> = (0..index.key_count()).step_by(KEYS_AT_ONCE).collect();
        let parts: Result<Vec<Vec<Key>>, KeySpaceError> = starts.into_par_iter().map(attached_in).collect();
        let mut keys = parts?.concat();
        keys.par_sort_unstable();
        Ok(Self { revision, keys })
    }

    /// The keys on this lease, in their order.
    #[must_use]
    pub fn keys_of(&self, lease: i64) -> &[Key] {
        let from = self.keys.partition_point(|key| key.lease < lease);
        let rest = self.keys.get(from..).unwrap_or_default();
        rest.get(..rest.partition_point(|key| key.lease <= lease)).unwrap_or_default()
    }

    /// The keys of each lease that keys name, by its id.
    pub fn by_lease(&self) -> impl Iterator<Item = &[Key]> {
        self.keys.chunk_by(|one, next| one.lease == next.lease)
    }
}
