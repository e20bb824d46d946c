//! What the files of a `snap` directory say, and what is wrong with them.

use std::path::Path;

use bbolt::file::open_read_only;
use bbolt::{Db, FileSource, Io};
use prost::Message;
use wal::raftpb::{ConfState, Snapshot};
use wal::snappb;

use super::{SnapFacts, SnapFile, SnapFileError, SnapKind, facts_of};
use crate::finding::{Finding, Severity};
use crate::membership::Member;
use crate::mvcc::Revision;
use crate::schema::Schema;
use crate::v2store::{self, V2Store};

/// One file, described.
#[derive(Debug)]
pub struct Described<'a> {
    /// The file.
    pub file: &'a SnapFile,
    /// Of a `.snap`, broken or not: what its envelope is worth. `None` of other files.
    pub envelope: Option<Result<(), SnapFileError>>,
    /// What a `.snap` says. With a wrong checksum this is what can be made of its bytes all the same.
    pub facts: Option<SnapFacts>,
    /// What the v2 store in it says.
    pub store: Option<V2Store>,
    /// What a `.snap.db` says.
    pub database: Option<Database>,
    /// What is wrong with the file.
    pub findings: Vec<Finding>,
}

/// A whole database from the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The last raft entry in it.
    pub consistent_index: u64,
    /// Its last revision; 0 when there is none.
    pub revision: i64,
}

/// Describes `file`. What its name says it is decides how it is read.
#[must_use]
pub fn describe(file: &SnapFile, io: Io) -> Described<'_> {
    let mut described =
        Described { file, envelope: None, facts: None, store: None, database: None, findings: Vec::new() };
    match file.kind() {
        SnapKind::Snap { term, index } => {
            described.read_snap();
            described.hold_against_name(term, index);
        }
        SnapKind::Broken => {
            described.read_snap();
            let why = match &described.envelope {
                Some(Err(error)) => format!("what is wrong with it: {error}"),
                _ => "it reads well now".to_owned(),
            };
            // What is wrong with it harms nobody any more.
            described.findings.clear();
            described.find(
                "SNAP-BROKEN-LEFT",
                Severity::Warning,
                &format!("a server could not read it and put it aside; {why}"),
            );
        }
        SnapKind::Database { index } => described.read_database(index, io),
        SnapKind::Temporary | SnapKind::DefragLeftover => {
            let what = if file.kind() == SnapKind::Temporary {
                "a database that was being received, or a file that was being written, when the member stopped"
            } else {
                "left behind by a defragmentation that did not end"
            };
            described.find(
                "SNAP-LEFTOVER",
                Severity::Warning,
                &format!("{what}; a server removes it when it starts"),
            );
        }
        SnapKind::Db | SnapKind::Other => {}
    }
    described
}

impl Described<'_> {
    fn find(&mut self, code: &'static str, severity: Severity, message: &str) {
        let name = self.file.name();
        let finding = Finding::new(code, severity, format!("{name}: {message}")).in_file(name);
        self.findings.push(finding);
    }

    fn read_snap(&mut self) {
        let (envelope, snapshot) = match self.file.read() {
            Ok(snapshot) => (Ok(()), Some(snapshot)),
            Err(SnapFileError::Content(wal::SnapError::CrcMismatch { expected, found })) => {
                let error = SnapFileError::Content(wal::SnapError::CrcMismatch { expected, found });
                (Err(error), self.unverified())
            }
            Err(error) => (Err(error), None),
        };
        if let Err(error) = &envelope {
            let consequence = match error {
                SnapFileError::Unreadable(_) => "image the disk first, or see who may read the file",
                SnapFileError::TooLong { .. } => "it is not a server's",
                SnapFileError::Content(_) => {
                    "etcd 3.4 to 3.6 put it aside as .snap.broken and start from the one before it"
                }
            };
            self.find(error.code(), Severity::Error, &format!("{error}; {consequence}"));
        }
        let sound = envelope.is_ok();
        self.envelope = Some(envelope);
        let Some(snapshot) = snapshot else { return };
        let facts = facts_of(&snapshot);
        match v2store::read(snapshot.data()) {
            Ok(store) => {
                if sound {
                    self.judge_store(&store, &facts.conf_state);
                }
                self.store = Some(store);
            }
            Err(error) if sound => {
                let message = format!("{error}; etcd 3.4 to 3.6 do not start from it");
                self.find("SNAP-V2STORE", Severity::Error, &message);
            }
            Err(_) => {}
        }
        self.facts = Some(facts);
    }

    /// What the bytes of a `.snap` with a wrong checksum would say.
    fn unverified(&self) -> Option<Snapshot> {
        let bytes = self.file.bytes().ok()?;
        let envelope = snappb::Snapshot::decode(bytes.as_slice()).ok()?;
        Snapshot::decode(envelope.data()).ok()
    }

    fn judge_store(&mut self, store: &V2Store, conf_state: &ConfState) {
        if store.unexpected.count > 0 {
            let message = format!(
                "its v2 store has {} under /0 that etcd does not know ({}), over which a server dies when it starts",
                plural(store.unexpected.count, "node"),
                store.unexpected.first.join(", ")
            );
            self.find("SNAP-V2-UNKNOWN", Severity::Error, &message);
        }
        if store.foreign.count > 0 {
            let message = format!(
                "its v2 store has {} of the v2 API ({}{}): etcd 3.6 refuses to start over them",
                plural(store.foreign.count, "key"),
                store.foreign.first.join(", "),
                if store.foreign.count > store.foreign.first.len() as u64 { ", ..." } else { "" }
            );
            self.find("SNAP-V2-KEYS", Severity::Warning, &message);
        }
        if let Some(message) = members_differ(&store.members, conf_state) {
            self.find("SNAP-MEMBERS", Severity::Error, &message);
        }
    }

    fn hold_against_name(&mut self, term: u64, index: u64) {
        let Some(facts) = self.facts.as_ref().filter(|_| matches!(self.envelope, Some(Ok(())))) else {
            return;
        };
        if (facts.term, facts.index) != (term, index) {
            let message = format!(
                "is named term {term}, index {index}, and holds term {}, index {}: it was renamed. A server orders \
                 snapshots by their names and believes what is in them",
                facts.term, facts.index
            );
            self.find("SNAP-NAME", Severity::Warning, &message);
        }
    }

    fn read_database(&mut self, index: u64, io: Io) {
        match read_database(self.file.path(), io) {
            Ok(database) => {
                let message = format!(
                    "a whole database from the leader, up to entry {index}: a server whose newest .snap is of that entry \
                     takes it in place of an older db. 'etcd-rescue snapshot status {}' checks it",
                    self.file.name()
                );
                self.find("SNAP-DB-PENDING", Severity::Warning, &message);
                self.database = Some(database);
            }
            Err(error) => {
                let message = format!(
                    "is no readable database: {error}. A member whose newest .snap is of entry {index} does not start"
                );
                self.find("SNAP-DB", Severity::Error, &message);
            }
        }
    }
}

/// How many there are, in words.
fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Why the members of a v2 store are not those that raft has; `None` when they are, or in the middle of a change of several,
/// which no etcd makes.
fn members_differ(members: &[Member], conf_state: &ConfState) -> Option<String> {
    if !conf_state.voters_outgoing.is_empty() {
        return None;
    }
    if conf_state.voters.is_empty() {
        return Some("names no voter: whoever starts from it can never elect a leader".to_owned());
    }
    let ids = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.iter().map(|id| format!("{id:x}")).collect::<Vec<_>>().join(" ")
    };
    let of_store = |learner: bool| -> Vec<u64> {
        members.iter().filter(|member| member.is_learner == learner).map(|member| member.id).collect()
    };
    for (what, raft, store) in
        [("voters", &conf_state.voters, of_store(false)), ("learners", &conf_state.learners, of_store(true))]
    {
        let (raft, store) = (ids(raft), ids(&store));
        if raft != store {
            return Some(format!("its {what} are [{raft}] to raft and [{store}] in its v2 store"));
        }
    }
    None
}

fn read_database(path: &Path, io: Io) -> Result<Database, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let file = open_read_only(path).map_err(|error| text(&error))?;
    let source = FileSource::new(file, path, io).map_err(|error| text(&error))?;
    let db = Db::from_source(source).map_err(|error| text(&error))?;
    let schema = Schema::read(&db).map_err(|error| text(&error))?;
    let revision = match db.bucket(b"key").map_err(|error| text(&error))? {
        Some(bucket) => {
            let mut cursor = bucket.cursor();
            let last = cursor.last().map_err(|error| text(&error))?;
            last.and_then(|item| Revision::parse(item.key)).map_or(0, |revision| revision.main)
        }
        None => return Err("it has no bucket key".to_owned()),
    };
    Ok(Database { consistent_index: schema.consistent_index, revision })
}
