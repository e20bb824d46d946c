//! The hash of the key space that members compare with each other (FORMATS C.5).

use std::collections::HashSet;

use bbolt::{Db, Source, Watch};
use crc_fast::Digest;

use super::bad_records::{BadRecords, Pair};
use super::pass::{KeySpaceError, Take, only_records, pass, revision_of};
use super::store::last_record;
use super::{AtRevisionError, Index, IndexOptions, Release, RevisionError, Store};
use crate::contents::{CRC_32C, Piece};
use crate::schema::{KEY, Schema};

/// A hash of the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// The revision up to which records count.
    pub hash_revision: i64,
    /// The compacted revision, on which the hash depends; -1 when nothing was ever compacted.
    pub compact_revision: i64,
}

/// The hash of the key space in `db` at `revision`, 0 being the current one, that a server of `release` answers when it was
/// started on that file. Proves the structure of all of `db` on the way.
///
/// # Errors
/// When the revision is compacted or has not come yet, the structure is damaged, a pair of bucket `key` is no record, or the
/// user asked to stop.
pub fn hashkv<S: Source>(
    db: &Db<S>,
    revision: i64,
    release: Release,
    watch: &dyn Watch,
) -> Result<HashKv, AtRevisionError> {
    let schema = Schema::read(db).map_err(KeySpaceError::from)?;
    let store = Store::of(&schema, last_record(db).map_err(KeySpaceError::from)?, release);
    let at_compaction = store.compact_revision == Some(revision) && revision > 0;
    if at_compaction && !release.hashes_at_compaction() {
        let (first, last) = (store.first_kept().saturating_add(1), store.current_revision);
        return Err(RevisionError::Compacted { wanted: revision, first, last }.into());
    }
    let hash_revision = store.resolve(revision)?;
    let options = IndexOptions { upto: Some(hash_revision), release, ..IndexOptions::default() };
    let index = Index::build(db, &options, watch)?;
    let keep: HashSet<u64> =
        index.histories().filter_map(|history| history.at(hash_revision)).map(super::Entry::offset).collect();
    let compact_revision = store.compact_revision.unwrap_or(-1);
    let hashing = || Hashing { keep: &keep, hash_revision, compact_revision, release };
    let passed = pass(db, hashing, &bbolt::Unmetered(watch))?;
    let (mut piece, mut bad) = (Piece::of(KEY), BadRecords::default());
    for run in passed.runs {
        piece = piece.followed_by(Piece::new(&run.crc, run.len_bytes));
        bad.append(run.bad);
    }
    only_records(bad)?;
    Ok(HashKv { hash: piece.crc(), hash_revision, compact_revision })
}

struct Hashing<'k> {
    keep: &'k HashSet<u64>,
    hash_revision: i64,
    compact_revision: i64,
    release: Release,
}

struct Run {
    crc: Digest,
    len_bytes: u64,
    bad: BadRecords,
}

impl Take for Hashing<'_> {
    type Run = Run;

    fn begin(&self) -> Run {
        Run { crc: Digest::new(CRC_32C), len_bytes: 0, bad: BadRecords::default() }
    }

    fn pair(&self, run: &mut Run, pair: &Pair<'_>) {
        let revision = match revision_of(pair) {
            Ok(revision) => revision,
            Err(what) => return run.bad.malformed_pair(pair, &what),
        };
        let superseded = revision.main <= self.compact_revision
            && !self.keep.is_empty()
            && !self.keep.contains(&pair.offset);
        let left_out = revision.main == self.compact_revision
            && revision.tombstone
            && self.release.keeps_tombstone_at_compaction();
        if revision.main > self.hash_revision || superseded || left_out {
            return;
        }
        run.crc.update(pair.key);
        run.crc.update(pair.value);
        run.len_bytes += (pair.key.len() + pair.value.len()) as u64;
    }

    fn end(&self, _run: &mut Run) {}
}
