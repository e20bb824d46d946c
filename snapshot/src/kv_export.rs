//! `kv export`: the key space, or a part of it, as JSON lines or as a database of its own.
//!
//! The database is an edited copy: bucket `key` keeps the records that were chosen, as they are, and the store stays at its
//! revision. What is not about keys goes: users and roles, alarms, members, leases that no chosen key has. What is left
//! is what a restore starts from.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bbolt::rebuild::{Edits, Put, Revise};
use bbolt::{Db, Fault, RebuildError, Source, Watch};

use crate::edited::{self, Change, EditError, EditOptions, EditReport, Expected};
use crate::finding::Finding;
use crate::mvcc::{Entry, Index, KeyValue, RecordError, Revision, RevisionError};
use crate::opened::Opened;
use crate::request::Style;
use crate::request::json::{write_bytes, write_name, write_string};
use crate::schema::{
    ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, DOWNGRADE, FINISHED_COMPACT, KEY, LEASE, MEMBERS,
    MEMBERS_REMOVED, META, SCHEDULED_COMPACT,
};
use crate::stage::{Owner, StageError};
use crate::text_file::{self, TextFileError};

/// Which records of an index are exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Selection {
    /// The revision at which the keys are taken; 0 for the current one.
    pub revision: i64,
    /// Every record that is kept up to that revision, not only those in force at it.
    pub history: bool,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store does not have the revision.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// A record cannot be read again.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A page is damaged that was not a moment ago.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The output cannot be where it should.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The new database cannot be written.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The lines could not be written, or read back.
    #[error(transparent)]
    Text(#[from] TextFileError),
    /// The input changed while it was read.
    #[error("{}: the input was written to while it was read; nothing was left behind", path.display())]
    Changed {
        /// The output.
        path: PathBuf,
    },
    /// Who takes the lines refused them.
    #[error(transparent)]
    Out(#[from] io::Error),
    /// The user asked to stop.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
}

impl ExportError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Edit(error) => error.exit_code(),
            Self::Text(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Edit(error) => error.findings(),
            _ => &[],
        }
    }
}

/// Shows the entries of `index` that `selection` asks for to `take`, by key and revision.
fn each<'d, S: Source>(
    index: &Index<'d, S>,
    selection: Selection,
    watch: &dyn Watch,
    mut take: impl FnMut(&Entry) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let revision = index.store().resolve(selection.revision)?;
    for history in index.histories() {
        if watch.interrupted() {
            return Err(ExportError::Interrupted);
        }
        if selection.history {
            for entry in history.entries().iter().take_while(|entry| entry.main() <= revision) {
                take(entry)?;
            }
        } else if let Some(entry) = history.at(revision) {
            take(entry)?;
        }
    }
    Ok(())
}

/// Writes the records of `index` that `selection` asks for to `out`, an object a line, by key and revision. Gives their number.
///
/// Bytes that are UTF-8 are strings; others stand in hexadecimal under the name with `_hex` behind it. IDs of leases are
/// hexadecimal strings.
///
/// # Errors
/// When the revision is not kept, a record cannot be read again, `out` refuses, or the user asked to stop.
pub fn write_lines<S: Source>(
    index: &Index<'_, S>,
    selection: Selection,
    out: &mut dyn Write,
    watch: &dyn Watch,
) -> Result<u64, ExportError> {
    let mut line = Vec::new();
    let mut records = 0;
    each(index, selection, watch, |entry| {
        line.clear();
        let record = index.record(entry)?;
        // What is in an index was decoded before.
        let kv = KeyValue::decode(&record.bytes).unwrap_or_default();
        line.push(b'{');
        push_members(record.revision, &kv, selection.history, &mut line);
        line.extend_from_slice(b"}\n");
        records += 1;
        Ok(out.write_all(&line)?)
    })?;
    Ok(records)
}

/// Appends the members of `kv`, the record of `revision`, to an object. `whole` says where it stands, and not only what it is.
pub(crate) fn push_members(revision: Revision, kv: &KeyValue<'_>, whole: bool, out: &mut Vec<u8>) {
    let Revision { main, sub, tombstone } = revision;
    let style = Style { cut: None, show_secrets: true };
    write_bytes("key", kv.key, &style, out);
    if whole {
        push_number("revision", main, out);
        push_number("sub_revision", sub, out);
    }
    if tombstone {
        write_name("deleted", out);
        out.extend_from_slice(b"true");
    } else {
        write_bytes("value", kv.value, &style, out);
        push_number("create_revision", kv.create_revision, out);
        push_number("mod_revision", kv.mod_revision, out);
        push_number("version", kv.version, out);
        if kv.lease != 0 {
            write_string("lease", &format!("{:x}", kv.lease), out);
        }
    }
}

/// Appends a number member.
pub fn push_number(name: &str, number: i64, out: &mut Vec<u8>) {
    write_name(name, out);
    out.extend_from_slice(number.to_string().as_bytes());
}

/// Makes sure that the output can be where it should, before all the work.
///
/// # Errors
/// When something is there already.
pub fn ensure_free(output: &Path) -> Result<(), ExportError> {
    Ok(text_file::ensure_free(output)?)
}

/// Writes the lines of [`write_lines`] to the new file `output`, reads it back, and gives it its name. Gives the numbers of
/// records and of bytes.
///
/// # Errors
/// As of [`write_lines`], and when the output cannot be written; nothing is left behind then.
pub fn to_file<S: Source>(
    input: &Opened,
    index: &Index<'_, S>,
    selection: Selection,
    output: &Path,
    owner: Option<Owner>,
    watch: &dyn Watch,
) -> Result<(u64, u64), ExportError> {
    let produce = |out: &mut dyn Write| write_lines(index, selection, out, watch);
    let confirm =
        || input.ensure_not_written_to().map_err(|_| ExportError::Changed { path: output.to_owned() });
    text_file::write(output, owner, produce, confirm)
}

/// A database made of a part of another.
#[derive(Debug, Clone)]
pub struct DbExport {
    /// What was written.
    pub report: EditReport,
    /// Records chosen.
    pub records: u64,
    /// The revision at which a server will find the store.
    pub revision: i64,
    /// Whether a record of the empty key was put at that revision, since none that was chosen reaches it: servers go by the
    /// last record. `snapshot restore --bump-revision` makes such a record too, and no request reads it.
    pub marked: bool,
    /// Leases kept, since chosen keys have them.
    pub leases: u64,
    /// Leases of chosen keys that are not in the input.
    pub lost_leases: u64,
}

/// Writes a new database that holds the records of `index` that `selection` asks for, and no others.
///
/// Without their history the keys are those of a store that was compacted at the revision, and in which that one, where no chosen
/// record is of it, is a put of the empty key.
///
/// # Errors
/// When the revision is not kept, or the output cannot be written; nothing is left behind then.
pub fn to_db<S: Source>(
    input: &Opened,
    index: &Index<'_, S>,
    selection: Selection,
    options: &EditOptions,
    watch: &dyn Watch,
) -> Result<DbExport, ExportError> {
    edited::ensure_free(options, None)?;
    let store = index.store();
    let revision = store.resolve(selection.revision)?;
    let mut offsets = Vec::new();
    let mut held = BTreeSet::new();
    let mut last = 0;
    each(index, selection, watch, |entry| {
        offsets.push(entry.offset());
        last = last.max(entry.main());
        if !entry.is_tombstone() {
            let record = index.record(entry)?;
            held.insert(KeyValue::decode(&record.bytes).unwrap_or_default().lease);
        }
        Ok(())
    })?;
    held.remove(&0);
    let records = offsets.len() as u64;
    offsets.sort_unstable();
    let kept = ordinals(index.db(), &offsets, watch)?;
    drop(offsets);
    // The first revision of a store needs no record.
    let marked = last < revision && revision > 1;
    let sifted = Sifted { kept, mark: marked.then_some(revision) };

    let mut meta = rows(index.db(), META)?;
    if !selection.history && revision > 1 {
        let row = Revision { main: revision, sub: 0, tombstone: false }.encode();
        meta.insert(SCHEDULED_COMPACT.to_vec(), row.clone());
        meta.insert(FINISHED_COMPACT.to_vec(), row);
    }
    let mut leases = rows(index.db(), LEASE)?;
    leases.retain(|id, _| {
        <[u8; 8]>::try_from(id.as_slice()).is_ok_and(|id| held.contains(&i64::from_be_bytes(id)))
    });
    let kept_leases = leases.len() as u64;
    let mut cluster = rows(index.db(), CLUSTER)?;
    cluster.remove(DOWNGRADE);
    let mut edits = Edits::default();
    for empty in [ALARM, AUTH, AUTH_ROLES, AUTH_USERS, MEMBERS, MEMBERS_REMOVED] {
        edits.replace(empty, BTreeMap::new());
    }
    edits.replace(META, meta).replace(LEASE, leases).replace(CLUSTER, cluster).revise(KEY, &sifted);
    let change = Change::Rebuild { edits: &edits, expected: Expected::default() };
    let report = edited::write(input, None, change, options, watch)?;
    let lost_leases = (held.len() as u64).saturating_sub(kept_leases);
    Ok(DbExport { report, records, revision, marked, leases: kept_leases, lost_leases })
}

/// A bit for each pair of bucket `key`, in order: whether its value stands at one of `offsets`, which ascend.
fn ordinals<S: Source>(db: &Db<S>, offsets: &[u64], watch: &dyn Watch) -> Result<Vec<u64>, ExportError> {
    let (mut words, mut pairs) = (Vec::new(), 0_u64);
    let Some(bucket) = db.bucket(KEY)? else { return Ok(words) };
    for range in bucket.leaf_ranges(1)? {
        for node in range.nodes() {
            let node = node?;
            if watch.interrupted() {
                return Err(ExportError::Interrupted);
            }
            for index in 0..node.count() {
                if pairs.is_multiple_of(64) {
                    words.push(0);
                }
                let offset = node.offset() + node.value_range(index).start as u64;
                if offsets.binary_search(&offset).is_ok()
                    && let Some(word) = words.last_mut()
                {
                    *word |= 1_u64 << (pairs % 64);
                }
                pairs += 1;
            }
        }
    }
    Ok(words)
}

/// The pairs of a small bucket; none where there is no such bucket.
fn rows<S: Source>(db: &Db<S>, name: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Fault> {
    let mut rows = BTreeMap::new();
    if let Some(bucket) = db.bucket(name)? {
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next()? {
            if !item.is_bucket {
                rows.insert(item.key.to_vec(), item.value.to_vec());
            }
        }
    }
    Ok(rows)
}

/// The pairs of bucket `key` that were chosen, and perhaps one that says how far the store was.
struct Sifted {
    kept: Vec<u64>,
    mark: Option<i64>,
}

impl Revise for Sifted {
    fn keeps(&self, ordinal: u64) -> bool {
        let word = usize::try_from(ordinal / 64).ok().and_then(|word| self.kept.get(word));
        word.is_some_and(|word| word & 1 << (ordinal % 64) != 0)
    }

    fn append(&self, put: &mut Put<'_>) -> Result<(), RebuildError> {
        match self.mark {
            Some(main) => put(&Revision { main, sub: 0, tombstone: false }.encode(), &[]),
            None => Ok(()),
        }
    }
}
