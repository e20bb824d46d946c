//! `v2 migrate`: the keys of the v2 API as records of the v3 key space, as `etcdctl migrate` of 3.0 to 3.4 makes them (FORMATS I.3).
//!
//! Each key below `/1` becomes one record: the key without `/1`, its value, created and changed at the v2 store's indexes, version 1,
//! at the revision of its last change. Directories become nothing, nor do keys that a listing hides (a name with `_` at its
//! beginning), unless they are asked for. What expires is migrated too and never expires then, or left out with `--no-ttl`; a key
//! that only its directory takes along when that expires is migrated either way.
//!
//! Three things differ from there, each because what `etcdctl` does loses or breaks something:
//! - What the log has of the v3 API beyond the database is folded in first. `etcdctl` declares it applied without applying it.
//! - The consistent index goes as far as entries are committed (the only voter commits all it has), not to whatever the log ends
//!   with.
//! - Nothing is migrated into a store that was ever written to: records at the v2 store's indexes could stand in the place of its
//!   own, or below what it has compacted.
//!
//! The key space of a cluster is the same on all members (law 11), and what a member migrates goes as far as its own commit. So
//! a member with peers is migrated only together with them, and [`Migration::digest`] must come out the same on each.

use std::ops::ControlFlow;
use std::path::Path;

use bbolt::graft::{Graft, GraftError, Pairs, Patch};
use bbolt::{Db, Fault, OpenError as DbError, Source, Watch};
use sha2::{Digest as _, Sha256};
use wal::log::Log;

use crate::facts::{FactsOptions, writes_v2};
use crate::finding::{Finding, Severity};
use crate::fold::{self, Entries, FoldError, FoldOptions, FoldReport, History};
use crate::log_files::LogFiles;
use crate::lone;
use crate::member_copy::{self, Copied, CopyOptions, MemberCopy, MemberCopyError};
use crate::mvcc::{KeyValue, Revision};
use crate::replay::range::{self, RangeError, Stretch};
use crate::schema::KEY;
use crate::v2tree::{V2Tree, V2TreeError, as_json_reads};
use crate::whole_member::{self, Whole, WholeError};

/// The code of the finding that a `.snap` has keys of the v2 API.
pub const V2_KEYS: &str = "SNAP-V2-KEYS";
/// Where clients' keys are in the store.
const CLIENTS: &[u8] = b"/1";
/// The revision of a store that was never written to.
const NEVER_WRITTEN: i64 = 1;

/// What is migrated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MigrateOptions {
    /// Leave out keys that expire.
    pub no_ttl: bool,
    /// Take along keys that a listing hides.
    pub hidden: bool,
    /// The same is done to every other member of the cluster.
    pub on_every_member: bool,
}

/// What was migrated, or would be.
#[derive(Debug)]
pub struct Migration {
    /// Keys that became records.
    pub keys: u64,
    /// Keys among them that expired once, and no longer do.
    pub expiring: u64,
    /// Keys among them that did not expire by themselves, but with a directory in which they lay.
    pub expiring_with_dir: u64,
    /// Keys that expire and were left out.
    pub left_out_expiring: u64,
    /// Keys that were left out since a listing hides them.
    pub left_out_hidden: u64,
    /// Directories, which become nothing.
    pub directories: u64,
    /// The v2 store's index.
    pub v2_index: u64,
    /// The v3 store's revision: the index at which a migrated key was changed last.
    pub revision: i64,
    /// SHA-256 of the records: the same on every member that migrated the same keys.
    pub digest: String,
    /// Others who vote or listen in the member's cluster.
    pub others: Vec<u64>,
    /// What the log had beyond the database.
    pub fold: FoldReport,
    /// What was written.
    pub copied: Copied,
    /// What is wrong or doubtful.
    pub findings: Vec<Finding>,
}

/// Why nothing was migrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// It is not a whole member.
    #[error(transparent)]
    Whole(#[from] WholeError),
    /// The v2 store cannot be read.
    #[error("{path}: {source}. Nothing was written")]
    Tree {
        /// What was given.
        path: String,
        /// Why.
        source: V2TreeError,
    },
    /// The log cannot be folded into the database.
    #[error(transparent)]
    Fold(Box<FoldError>),
    /// An entry cannot be applied.
    #[error("{path}: {stop}. Nothing was written: what stands behind it would be lost")]
    Stopped {
        /// What was given.
        path: String,
        /// Where, and why.
        stop: String,
    },
    /// The cluster has other members.
    #[error(
        "{path}: its cluster has {} other member(s): {}. Every member must get the same keys. Stop all of them, run this command on \
         each with --on-every-member, and start them only if all print the same digest; or make this one the only member with 'etcd-rescue \
         cluster force-new', migrate that and add the others anew", others.len(), lone::ids(others)
    )]
    Others {
        /// What was given.
        path: String,
        /// Their ids.
        others: Vec<u64>,
    },
    /// There are no keys.
    #[error("{path}: there are no v2 keys to migrate{left_out}; nothing was written")]
    NoKeys {
        /// What was given.
        path: String,
        /// That some were left out.
        left_out: &'static str,
    },
    /// The v3 store was used.
    #[error(
        "{path}: the v3 key space was written to already: the database has {records} record(s) of it, and with what the log has it stands at \
         revision {revision}. The keys of the v2 API \
         would get revisions among or in the place of those. Migrate a data dir whose v3 key space was never used, or write the keys \
         into a running cluster: 'etcd-rescue v2 list {path} -r -w json' prints them"
    )]
    NotEmpty {
        /// What was given.
        path: String,
        /// Records of keys in the database, without what only the log has.
        records: u64,
        /// The store's revision.
        revision: i64,
    },
    /// Two keys would be one record, or one none.
    #[error(
        "{path}: the v2 key {key} was changed at index {index}, {what}; no server makes such a store. Nothing was written"
    )]
    Index {
        /// What was given.
        path: String,
        /// The key.
        key: String,
        /// The index.
        index: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The database is damaged.
    #[error("{path}: {reason}; 'etcd-rescue bbolt check {path}' tells more. Nothing was written")]
    Database {
        /// The database.
        path: String,
        /// Why.
        reason: String,
    },
    /// The copy was not written.
    #[error(transparent)]
    Copy(Box<MemberCopyError>),
}

impl From<FoldError> for MigrateError {
    fn from(error: FoldError) -> Self {
        Self::Fold(Box::new(error))
    }
}

impl From<MemberCopyError> for MigrateError {
    fn from(error: MemberCopyError) -> Self {
        Self::Copy(Box::new(error))
    }
}

impl MigrateError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Whole(error) => error.exit_code(),
            Self::Fold(error) => error.exit_code(),
            Self::Copy(error) => error.exit_code(),
            Self::Others { .. } | Self::NoKeys { .. } | Self::NotEmpty { .. } => 4,
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Whole(error) => error.findings(),
            Self::Fold(error) => error.findings(),
            Self::Copy(error) => error.findings(),
            _ => &[],
        }
    }
}

/// What became of the keys.
#[derive(Debug, Default)]
struct Records {
    pairs: Pairs,
    expiring: u64,
    expiring_with_dir: u64,
    left_out_expiring: u64,
    left_out_hidden: u64,
    directories: u64,
    revision: i64,
}

/// Migrates the keys of the v2 API of the member at `path`, and writes what becomes of the member.
///
/// # Errors
/// [`MigrateError`]; nothing is left behind then.
pub fn migrate(
    path: &Path,
    options: MigrateOptions,
    copy: &CopyOptions,
    input: &FactsOptions,
    watch: &dyn Watch,
) -> Result<Migration, MigrateError> {
    let facts = whole_member::open(path, input, watch)?;
    let settled = member_copy::settle(&facts, copy, input)?;
    let whole = Whole::of(&facts)?;
    let shown = || path.display().to_string();
    let others = others(&whole);
    if !others.is_empty() && !options.on_every_member {
        return Err(MigrateError::Others { path: shown(), others });
    }
    let damaged =
        |reason: String| MigrateError::Database { path: whole.input.path().display().to_string(), reason };
    let db = whole.input.db().map_err(|error: DbError| damaged(error.to_string()))?;
    let (folded, fold) = folded(&whole, &db, watch)?;
    if let Some(stop) = &fold.stop {
        return Err(MigrateError::Stopped { path: shown(), stop: stop.to_string() });
    }
    watch.begin("reading the v2 store", 0);
    let tree = V2Tree::of_log(whole.files, whole.log, fold.after.index, fold.release)
        .map_err(|source| MigrateError::Tree { path: shown(), source })?;
    let records = records(&tree, options, &shown())?;
    if records.pairs.is_empty() {
        let is_choice = records.left_out_expiring + records.left_out_hidden > 0;
        let left_out = if is_choice { " but those that are left out" } else { "" };
        return Err(MigrateError::NoKeys { path: shown(), left_out });
    }
    let records_before = records_of(&db).map_err(|fault| damaged(fault.to_string()))?;
    if records_before > 0 || fold.after.revision > NEVER_WRITTEN {
        let revision = fold.after.revision;
        return Err(MigrateError::NotEmpty { path: shown(), records: records_before, revision });
    }
    let mut findings = whole_member::findings(&facts);
    // What is said of them here is more.
    findings.retain(|found| found.code != V2_KEYS);
    findings.extend_from_slice(&fold.findings);
    findings.extend(hidden(records.left_out_hidden));
    findings.extend(auth(&tree));
    findings.extend(behind(whole.files, whole.log, fold.after.index));
    let digest = digest(&records.pairs);
    let keys = u64::try_from(records.pairs.len()).unwrap_or(u64::MAX);
    let Records {
        pairs,
        expiring,
        expiring_with_dir,
        left_out_expiring,
        left_out_hidden,
        directories,
        revision,
    } = records;
    let patch = patch(&db, pairs, &folded).map_err(|error| damaged(error.to_string()))?;
    let mut copied = MemberCopy { facts: &facts, db: Some(&patch), snap: None, appended: None }
        .write(copy, input, watch)?;
    copied.note_settled(settled);
    Ok(Migration {
        keys,
        expiring,
        expiring_with_dir,
        left_out_expiring,
        left_out_hidden,
        directories,
        v2_index: tree.current_index(),
        revision,
        digest,
        others,
        fold,
        copied,
        findings,
    })
}

/// The others of the member's cluster.
fn others(whole: &Whole<'_>) -> Vec<u64> {
    let known = whole.facts.members();
    let own = whole.metadata.node_id();
    let is_other = |id: &u64| *id != own;
    let config = whole.facts.raft_members();
    match config {
        Some((voters, learners)) => voters.union(&learners).copied().filter(is_other).collect(),
        None => known.iter().map(|member| member.id).filter(is_other).collect(),
    }
}

fn folded<'d, S: Source>(
    whole: &Whole<'_>,
    db: &'d Db<S>,
    watch: &dyn Watch,
) -> Result<(crate::replay::Folded<'d, S>, FoldReport), FoldError> {
    let (files, log): (_, &Log) = (whole.files, whole.log);
    let range = range::find(whole.input, &whole.database.schema, files, log, None)
        .map_err(|error: RangeError| FoldError::from(error))?;
    let stretch = Stretch { files, log, entries: range.entries() };
    let history = History { range, stretches: vec![stretch], logs: vec![(files, log)], newest: None };
    fold::fold(whole.input, db, Entries::Chosen(&history), &FoldOptions::default(), watch)
}

/// Records that the key space has.
fn records_of<S: Source>(db: &Db<S>) -> Result<u64, Fault> {
    let mut count = 0;
    if let Some(bucket) = db.bucket(KEY)? {
        for range in bucket.leaf_ranges(1)? {
            for node in range.nodes() {
                count += u64::from(node?.count());
            }
        }
    }
    Ok(count)
}

fn records(tree: &V2Tree, options: MigrateOptions, path: &str) -> Result<Records, MigrateError> {
    let mut records = Records::default();
    for node in tree.below(CLIENTS, true) {
        let Some(value) = &node.value else {
            records.directories += 1;
            continue;
        };
        if node.is_hidden && !options.hidden {
            records.left_out_hidden += 1;
            continue;
        }
        if node.expires.is_some() && options.no_ttl {
            records.left_out_expiring += 1;
            continue;
        }
        records.expiring += u64::from(node.expires.is_some());
        records.expiring_with_dir += u64::from(node.expires.is_none() && node.expires_with_dir);
        // As JSON has it, through which both etcdctl and every client of the v2 API get it.
        let key = as_json_reads(node.path.get(CLIENTS.len()..).unwrap_or_default());
        let value = as_json_reads(value);
        let wrong = |index: u64, what| MigrateError::Index {
            path: path.to_owned(),
            key: bbolt::fault::readable(&key),
            index,
            what,
        };
        let revision = |index: u64| {
            let number = i64::try_from(index).ok().filter(|number| *number > 0);
            number.ok_or_else(|| wrong(index, "which is no revision"))
        };
        let (create_revision, mod_revision) = (revision(node.created_index)?, revision(node.modified_index)?);
        let mut record = Vec::new();
        KeyValue { key: &key, create_revision, mod_revision, version: 1, value: &value, lease: 0 }
            .encode(&mut record);
        let at = Revision { main: mod_revision, sub: 0, tombstone: false }.encode();
        if records.pairs.insert(at, record).is_some() {
            return Err(wrong(node.modified_index, "as another key was"));
        }
        records.revision = records.revision.max(mod_revision);
    }
    Ok(records)
}

/// The pages that change: the key space, and what the log makes of the small buckets.
fn patch<S: Source>(
    db: &Db<S>,
    pairs: Pairs,
    folded: &crate::replay::Folded<'_, S>,
) -> Result<Patch, GraftError> {
    let mut graft = Graft::new(db);
    graft.replace_bucket(KEY, pairs)?;
    for (name, rows) in folded.small().changed() {
        graft.replace_bucket(name.bytes(), rows.clone())?;
    }
    graft.finish()
}

fn digest(pairs: &Pairs) -> String {
    let mut hash = Sha256::new();
    for (key, record) in pairs {
        for bytes in [key, record] {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// That the store has users or roles of the v2 API, which are no keys.
#[must_use]
pub fn auth(tree: &V2Tree) -> Option<Finding> {
    let [users, roles] = [&b"/2/users"[..], b"/2/roles"].map(|dir| tree.below(dir, false).count());
    (users + roles > 0).then(|| {
        let message = format!(
            "the v2 store has {users} user(s) and {roles} role(s) of the v2 API. They are no keys, and no users of the v3 API: they are not \
             migrated, and etcd 3.6 refuses to start while they are there"
        );
        Finding::new("ETCD-V2-AUTH", Severity::Warning, message)
    })
}

/// That requests of the v2 API stand in the log behind `index`, the last entry that was looked at: a server that starts carries them out in the
/// v2 store, and nothing brings them into the v3 key space.
#[must_use]
pub fn behind(files: &LogFiles, log: &Log, index: u64) -> Option<Finding> {
    let mut count = 0_u64;
    lone::each_standing(files, log, index, &mut |entry| {
        count = count.saturating_add(u64::from(entry.entry_type == 0 && writes_v2(entry.data)));
        ControlFlow::Continue(())
    });
    (count > 0).then(|| {
        let message = format!(
            "{count} request(s) of the v2 API behind entry {index} are left out, since this member does not know that they are committed. \
             Clients may have been told that they are done, and servers that start carry them out in the v2 store alone. To migrate them too, \
             start the members as they were, without clients, for a moment, and stop them first"
        );
        Finding::new("ETCD-V2-UNCERTAIN", Severity::Warning, message)
    })
}

fn hidden(count: u64) -> Option<Finding> {
    (count > 0).then(|| {
        let message = format!(
            "{count} v2 key(s) are not migrated, since a name in their path begins with an underscore, which hides them from listings: etcdctl \
             leaves them out too, without a word; --hidden takes them along"
        );
        Finding::new("ETCD-V2-HIDDEN", Severity::Warning, message)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::mvcc::Release;

    /// A node of a `.snap`'s store; `inner` are those in it, where it is a directory.
    fn node(path: &str, index: u64, expires: bool, inner: Option<&[(&str, String)]>) -> String {
        let time = if expires { "2100-01-01T00:00:00Z" } else { "0001-01-01T00:00:00Z" };
        let children = inner.map_or("null".to_owned(), |inner| {
            let inner: Vec<String> = inner.iter().map(|(name, node)| format!("\"{name}\":{node}")).collect();
            format!("{{{}}}", inner.join(","))
        });
        format!(
            r#"{{"Path":"{path}","CreatedIndex":{index},"ModifiedIndex":{index},"ExpireTime":"{time}","Value":"","Children":{children}}}"#
        )
    }

    #[test]
    fn keys_that_only_their_directory_takes_along_are_counted() {
        let inner = node("/1/dir/in", 4, false, Some(&[("key", node("/1/dir/in/key", 5, false, None))]));
        let dir = node("/1/dir", 3, true, Some(&[("in", inner)]));
        let keys = [
            ("dir", dir),
            ("own", node("/1/own", 6, true, None)),
            ("stays", node("/1/stays", 7, false, None)),
        ];
        let root = node("/", 0, false, Some(&[("1", node("/1", 0, false, Some(&keys)))]));
        let json = format!(r#"{{"Root":{root},"CurrentIndex":7,"CurrentVersion":2}}"#);
        let tree = V2Tree::from_json(json.as_bytes(), Release::NEWEST).unwrap();
        for no_ttl in [false, true] {
            let options = MigrateOptions { no_ttl, ..MigrateOptions::default() };
            let records = records(&tree, options, "data").unwrap();
            assert_eq!(records.pairs.len(), if no_ttl { 2 } else { 3 });
            assert_eq!((records.expiring, records.left_out_expiring), if no_ttl { (0, 1) } else { (1, 0) });
            // etcdctl keeps it with --no-ttl too.
            assert_eq!(records.expiring_with_dir, 1);
        }
    }
}
