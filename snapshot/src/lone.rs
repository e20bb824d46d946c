//! May the key space, the leases, the users or the alarms of this be edited? (Law 11 of the design; FORMATS R.5, X 10, X 69.)
//!
//! A cluster has one history, and each member applies the same log to the same data. An edit of one member's files that the
//! others know nothing of makes them disagree, in silence or with a CORRUPT alarm. So a directory is edited only where
//! nobody else holds that history: the member is the only one of its cluster. And it is edited where it stands at the end
//! of its log, since a server applies what the log has beyond the database when it starts, to other data than those that were
//! proposed. A file of its own belongs to no cluster until it is restored.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bbolt::Watch;
use wal::log::{Log, Segments, ServerEndKind};
use wal::raftpb::{ConfChangeType, ConfState};
use wal::scan::{Item, scan};
use wal::{EntryRef, RecordType};

use crate::datadir::Kind;
use crate::finding::Finding;
use crate::log_files::{self, LogFiles, LogFilesError, LogOptions, progress};
use crate::log_verify;
use crate::membership::{Member, hex_id};
use crate::opened::Opened;
use crate::request::{self, Decoded, schema as messages};
use crate::schema::Schema;
use crate::snap_files::SnapKind;

/// Name of the flag that accepts a member that disagrees with its cluster.
const DIVERGE: &str = "--diverge";

/// What is to be done to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A compaction at this revision. What the log has beyond the database can be applied to what is left, unless it
    /// reads an older revision.
    Compaction {
        /// The revision.
        revision: i64,
    },
    /// Anything else.
    Edit,
}

/// Where what is edited stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// True for a member's directory; false for a file of its own.
    pub is_member: bool,
    /// The member's own id, by its log.
    pub member_id: Option<u64>,
    /// The other members of its cluster, learners included.
    pub others: Vec<u64>,
    /// Index of the last entry in the database.
    pub consistent_index: u64,
    /// Index of the log's last entry; `None` without a log.
    pub last_index: Option<u64>,
    /// How many entries beyond [`Self::consistent_index`] ask for a change of what the database holds. A server applies them
    /// when it starts.
    pub pending: u64,
    /// True when only `--diverge` let it pass.
    pub diverges: bool,
    /// True when that is about other members, of which there are some or nobody knows.
    pub leaves_peers: bool,
    /// What `--diverge` accepted of what the log has beyond the database.
    pub accepted: Option<String>,
    /// What is wrong with the log, with which a server starts all the same.
    pub findings: Vec<Finding>,
}

/// Why it may not be edited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoneError {
    /// The log cannot be read.
    #[error(transparent)]
    Files(#[from] LogFilesError),
    /// The cluster has other members.
    #[error(
        "{path}: its cluster has {} other member(s): {}. Edited here alone, this member would disagree with them, which etcd \
         does not notice or answers with a CORRUPT alarm. Stop all members, edit a snapshot of one and restore the whole \
         cluster from it; or accept with {DIVERGE} a copy that must never meet its old peers", others.len(), ids(others)
    )]
    Others {
        /// What was given.
        path: String,
        /// Their ids.
        others: Vec<u64>,
    },
    /// The member itself is no voter.
    #[error(
        "{path}: this member ({}) is not a voter of its cluster: it was removed, or only learns; {DIVERGE} edits its copy \
         all the same", hex_id(*member_id)
    )]
    NoVoter {
        /// What was given.
        path: String,
        /// The member's id.
        member_id: u64,
    },
    /// Nothing says who the members are.
    #[error(
        "{path}: neither the log, the .snap files nor the database say who the members of its cluster are; where it is known \
         to be the only one, {DIVERGE} accepts that"
    )]
    UnknownMembers {
        /// What was given.
        path: String,
    },
    /// The log has more than the database.
    #[error(
        "{path}: the database ends at entry {consistent_index}, the log at {last_index}, and {pending} of the entries \
         between change the data: a server would apply them when it starts, to what was edited. 'etcd-rescue \
         snapshot save {path} -o FILE' folds them into a snapshot, which can be edited and restored; or accept with {DIVERGE} that \
         they come after the edit"
    )]
    Behind {
        /// What was given.
        path: String,
        /// The last entry in the database.
        consistent_index: u64,
        /// The last entry of the log.
        last_index: u64,
        /// Those that change something.
        pending: u64,
    },
    /// The log has an entry beyond the database that reads what is to be compacted.
    #[error(
        "{path}: entry {index} of the log, which the database does not have yet, is a transaction that reads revision \
         {reads}, and after a compaction at {revision} a server refuses it when it starts, with all it was to write. Compact at {reads} at the \
         most, or a snapshot into which 'etcd-rescue snapshot save {path} -o FILE' folded the log; {DIVERGE} accepts the loss"
    )]
    ReadsBelow {
        /// What was given.
        path: String,
        /// The entry.
        index: u64,
        /// The revision that it reads.
        reads: i64,
        /// The revision of the compaction.
        revision: i64,
    },
    /// An entry beyond the database is none that is known.
    #[error(
        "{path}: entry {index} of the log, which the database does not have yet, is of a kind that is not known here, so that \
         nobody can say what it would do to what was edited; {DIVERGE} accepts that"
    )]
    UnknownEntry {
        /// What was given.
        path: String,
        /// The entry.
        index: u64,
    },
    /// The directory's database is not the one that a server would start on.
    #[error("{path}: {}. Nothing was edited", finding.message)]
    NewerSnapshot {
        /// What was given.
        path: String,
        /// What lies beside it.
        finding: Box<Finding>,
    },
    /// No server starts from the log.
    #[error(
        "{}: no server starts from this log, so that nobody can say what it would do to the edited database. 'etcd-rescue wal verify' says \
         what is wrong, 'etcd-rescue wal repair' mends it; for the database alone, give its file", path.display()
    )]
    BrokenLog {
        /// The log's directory.
        path: PathBuf,
    },
}

impl LoneError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Files(error) => error.exit_code(),
            Self::NewerSnapshot { .. } | Self::BrokenLog { .. } => 1,
            _ => 4,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::NewerSnapshot { finding, .. } => std::slice::from_ref(finding),
            _ => &[],
        }
    }
}

/// Members as they are told in a message.
pub(crate) fn ids(members: &[u64]) -> String {
    members.iter().map(|id| hex_id(*id)).collect::<Vec<_>>().join(", ")
}

/// The log and the snaps of `input`, where that is a member's directory; `None` for a file of its own, wherever it lies.
///
/// # Errors
/// When the directory has no log, or it cannot be opened.
pub fn log_of(
    input: &Opened,
    options: &LogOptions,
    watch: &dyn Watch,
) -> Result<Option<LogFiles>, LogFilesError> {
    match input.kind() {
        Kind::File => Ok(None),
        Kind::MemberDir | Kind::DataDir => log_files::open(input.path(), options, watch).map(Some),
    }
}

/// Makes sure that `input`, whose small buckets are `schema` and whose log is `files` ([`log_of`]), may be edited for this
/// `purpose`; `diverge` accepts what would be refused, short of a log from which no server starts.
///
/// # Errors
/// [`LoneError`].
pub fn ensure(
    input: &Opened,
    schema: &Schema,
    files: Option<&LogFiles>,
    purpose: Purpose,
    diverge: bool,
    watch: &dyn Watch,
) -> Result<Standing, LoneError> {
    let consistent_index = schema.consistent_index;
    let mut standing = Standing {
        is_member: files.is_some(),
        member_id: None,
        others: Vec::new(),
        consistent_index,
        last_index: None,
        pending: 0,
        diverges: false,
        leaves_peers: false,
        accepted: None,
        findings: Vec::new(),
    };
    let Some(files) = files else { return Ok(standing) };
    let path = input.path().display().to_string();
    if let Some(finding) = input.pending_snapshots(consistent_index) {
        return Err(LoneError::NewerSnapshot { path, finding: Box::new(finding) });
    }
    watch.begin("reading the log", files.len_bytes());
    let log = wal::log::read(files, &progress(watch)).map_err(|_| LogFilesError::Interrupted)?;
    if log.server_end.is_none_or(|end| end.kind == ServerEndKind::Stops) {
        return Err(LoneError::BrokenLog { path: files.wal_dir().to_owned() });
    }
    standing.member_id = log.metadata.as_ref().map(wal::Metadata::node_id);
    standing.last_index = log.last_index();
    standing.findings = log_verify::findings(&log, files);
    let of_members = members(&mut standing, &path, schema, files, &log);
    let of_log = beyond(&mut standing, &path, files, &log, purpose);
    standing.leaves_peers = of_members.is_some();
    standing.accepted = of_log.as_ref().map(ToString::to_string);
    standing.diverges = of_members.is_some() || of_log.is_some();
    match of_members.or(of_log) {
        Some(refusal) if !diverge => Err(refusal),
        _ => Ok(standing),
    }
}

/// Who takes part in the cluster, by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Those who vote.
    pub voters: BTreeSet<u64>,
    /// Those who only listen.
    pub learners: BTreeSet<u64>,
}

impl Config {
    fn of(state: &ConfState) -> Self {
        let all = |ids: [&Vec<u64>; 2]| ids.into_iter().flatten().copied().collect();
        Self {
            voters: all([&state.voters, &state.voters_outgoing]),
            learners: all([&state.learners, &state.learners_next]),
        }
    }

    /// The members by raft's own account: those of the newest snapshot that the log knows, and the changes since, each up to
    /// the entry `up_to`. It is what servers of all releases elect by; the database's rows are old news in 3.4 (FORMATS I.4).
    ///
    /// `None` where nothing says who took part before the first change that the log has: before 3.5 its own snapshot records do not,
    /// so that without the `.snap` a log that begins later names only those who came since.
    pub(crate) fn of_log(files: &LogFiles, log: &Log, up_to: u64) -> Option<Self> {
        let (mut config, since) = Self::begin(files, log, up_to)?;
        for (index, id, change_type) in changes_behind(log, since) {
            if index <= up_to {
                config.change(id, change_type);
            }
        }
        Some(config)
    }

    /// All of them that the log tells of, and the entry that made each, as [`Config::of_log`] finds the last; before the first also the
    /// one before it, where the log has the change. What founds a cluster, one entry for each member, is one change. Nobody is
    /// known where there are more than `most` of them, or one has more than `most_voters`.
    pub(crate) fn history(
        files: &LogFiles,
        log: &Log,
        most: usize,
        most_voters: usize,
    ) -> Option<Vec<(u64, Self)>> {
        let (mut config, since) = Self::begin(files, log, u64::MAX)?;
        let mut made = Vec::new();
        if let Some((index, id, change_type)) =
            changes_behind(log, 0).filter(|(index, ..)| *index <= since).last()
        {
            let mut older = config.clone();
            match ConfChangeType::try_from(change_type) {
                Ok(ConfChangeType::AddNode) => older.voters.remove(&id),
                Ok(ConfChangeType::RemoveNode) => older.voters.insert(id),
                _ => false,
            };
            made.push((index.saturating_sub(1), older));
            made.push((index, config.clone()));
        } else if !config.voters.is_empty() {
            made.push((since, config.clone()));
        }
        for (index, id, change_type) in changes_behind(log, since) {
            let founds = since == 0
                && change_type == ConfChangeType::AddNode as i32
                && u64::try_from(config.voters.len())
                    .is_ok_and(|members| members.checked_add(1) == Some(index));
            config.change(id, change_type);
            if founds {
                made.clear();
            }
            made.push((index, config.clone()));
            if made.len() > most || config.voters.len() > most_voters {
                return None;
            }
        }
        Some(made)
    }

    /// The configuration at the newest snapshot, not beyond `up_to`, and that snapshot's index.
    fn begin(files: &LogFiles, log: &Log, up_to: u64) -> Option<(Self, u64)> {
        if log.more_conf_changes > 0 {
            return None;
        }
        let recorded = |index: u64, term: u64| {
            index <= up_to && log.snapshots.iter().any(|r| (r.value.index(), r.value.term()) == (index, term))
        };
        let snaps = files.snaps().iter().rev().filter(|snap| matches!(snap.kind(), SnapKind::Snap { .. }));
        let newest = snaps.filter_map(|snap| snap.facts().ok()).find(|f| recorded(f.index, f.term));
        let of_record = || {
            let records = log.snapshots.iter().filter(|record| record.value.conf_state.is_some());
            let records = records.filter(|record| record.value.index() <= up_to);
            records.max_by_key(|record| record.value.index())
        };
        let (config, since) = match newest {
            Some(facts) => (Self::of(&facts.conf_state), facts.index),
            None => of_record().map_or_else(Default::default, |record| {
                let state = record.value.conf_state.clone().unwrap_or_default();
                (Self::of(&state), record.value.index())
            }),
        };
        is_followed(log, since, up_to).then_some((config, since))
    }

    fn change(&mut self, id: u64, change_type: i32) {
        match ConfChangeType::try_from(change_type) {
            Ok(ConfChangeType::AddNode) => {
                self.learners.remove(&id);
                self.voters.insert(id);
            }
            Ok(ConfChangeType::AddLearnerNode) if !self.voters.contains(&id) => {
                self.learners.insert(id);
            }
            Ok(ConfChangeType::RemoveNode) => {
                self.voters.remove(&id);
                self.learners.remove(&id);
            }
            Ok(ConfChangeType::AddLearnerNode | ConfChangeType::UpdateNode) | Err(_) => {}
        }
    }
}

/// The changes of members behind the entry `since` that stand in `log`: index, member, and what becomes of it.
fn changes_behind(log: &Log, since: u64) -> impl Iterator<Item = (u64, u64, i32)> {
    log.conf_changes.iter().filter_map(move |located| {
        let entry = &located.value;
        let counts = entry.index > since && !log.is_overwritten(located.segment, located.offset, entry.index);
        counts.then(|| (entry.index, entry.change.node_id(), entry.change.change_type()))
    })
}

/// Whether `log` has every entry behind `since` up to `up_to`, as far as it goes: a change of members may be in any of them.
pub(crate) fn is_followed(log: &Log, since: u64, up_to: u64) -> bool {
    let last = log.last_index().unwrap_or_default().min(up_to);
    last <= since || log.first_index().is_some_and(|first| first <= since.saturating_add(1))
}

/// Who votes, by raft's own account, once all changes up to the entry `up_to` of `log` are made; nobody where neither the log nor
/// the `.snap` files of `files` say.
#[must_use]
pub fn voters(files: &LogFiles, log: &Log, up_to: u64) -> BTreeSet<u64> {
    Config::of_log(files, log, up_to).unwrap_or_default().voters
}

/// Finds the other members.
fn members(
    standing: &mut Standing,
    path: &str,
    schema: &Schema,
    files: &LogFiles,
    log: &Log,
) -> Option<LoneError> {
    let path = || path.to_owned();
    let Some(mut config) = Config::of_log(files, log, u64::MAX) else {
        return Some(LoneError::UnknownMembers { path: path() });
    };
    // Databases of 3.4 keep rows of members that a restore has left behind.
    if schema.term.is_some_and(|term| term > 0) {
        for member in schema.members.iter().filter_map(|row| Member::from_json(row).ok()) {
            let role = if member.is_learner { &mut config.learners } else { &mut config.voters };
            role.insert(member.id);
        }
    }
    let all: BTreeSet<u64> = config.voters.union(&config.learners).copied().collect();
    let Some(own) = standing.member_id.filter(|_| !all.is_empty()) else {
        return Some(LoneError::UnknownMembers { path: path() });
    };
    standing.others = all.into_iter().filter(|id| *id != own).collect();
    if !standing.others.is_empty() {
        return Some(LoneError::Others { path: path(), others: standing.others.clone() });
    }
    (!config.voters.contains(&own)).then(|| LoneError::NoVoter { path: path(), member_id: own })
}

/// What an entry does to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// None.
    Nothing,
    /// It changes something.
    Change,
    /// A transaction that reads this revision.
    Reads(i64),
    /// Nobody knows.
    Unknown,
}

/// Looks at the entries that the database does not have yet. All of them count: a lone voter commits what it has.
fn beyond(
    standing: &mut Standing,
    path: &str,
    files: &LogFiles,
    log: &Log,
    purpose: Purpose,
) -> Option<LoneError> {
    let consistent_index = standing.consistent_index;
    let last_index = log.last_index().unwrap_or_default();
    let mut refusal = None;
    each_standing(files, log, consistent_index, &mut |entry| {
        let effect = effect(entry);
        standing.pending += u64::from(effect != Effect::Nothing);
        let (path, index) = (path.to_owned(), entry.index);
        let why = match (effect, purpose) {
            (Effect::Unknown, _) => Some(LoneError::UnknownEntry { path, index }),
            (Effect::Reads(reads), Purpose::Compaction { revision }) if reads < revision => {
                Some(LoneError::ReadsBelow { path, index, reads, revision })
            }
            _ => None,
        };
        refusal = refusal.take().or(why);
        ControlFlow::Continue(())
    });
    if purpose == Purpose::Edit && standing.pending > 0 {
        let pending = standing.pending;
        refusal = Some(LoneError::Behind { path: path.to_owned(), consistent_index, last_index, pending });
    }
    refusal
}

/// Shows `look` the entries behind `from` that stand in `log`, in the order of their indexes, until it breaks off.
pub(crate) fn each_standing(
    files: &LogFiles,
    log: &Log,
    from: u64,
    look: &mut dyn FnMut(&EntryRef<'_>) -> ControlFlow<()>,
) {
    let is_new = |last: u64| last > from;
    for at in 0..log.segments.len() {
        if !log.runs.iter().any(|run| run.segment == at && run.standing_last.is_some_and(is_new)) {
            continue;
        }
        let piece = files.piece(at);
        for item in scan(&piece.bytes) {
            let Item::Record(found) = item else { continue };
            let record = found.record;
            if record.record_type != RecordType::Entry {
                continue;
            }
            let Ok(entry) = EntryRef::decode(record.data) else { continue };
            let stands = is_new(entry.index) && !log.is_overwritten(at, record.offset, entry.index);
            if stands && look(&entry).is_break() {
                return;
            }
        }
    }
}

/// What `entry` asks for.
pub(crate) fn effect(entry: &EntryRef<'_>) -> Effect {
    // Changes of membership are about none of what is edited.
    if entry.entry_type != 0 {
        return Effect::Nothing;
    }
    let request = match request::decode(entry.data) {
        Decoded::Nothing | Decoded::V2(_) => return Effect::Nothing,
        Decoded::Undecodable { .. } => return Effect::Unknown,
        Decoded::V3(request) => request,
    };
    match request.kind() {
        "v2"
        | "range"
        | "authenticate"
        | "auth_status"
        | "auth_user_get"
        | "auth_user_list"
        | "auth_role_get"
        | "auth_role_list"
        | "cluster_version_set"
        | "cluster_member_attr_set"
        | "downgrade_info_set" => Effect::Nothing,
        "none" => Effect::Unknown,
        "txn" => {
            let ranges =
                request.message().walk().filter(|m| std::ptr::eq(m.kind(), &raw const messages::RANGE));
            let reads = ranges.map(|range| range.number(REVISION).cast_signed()).filter(|read| *read > 0);
            reads.min().map_or(Effect::Change, Effect::Reads)
        }
        _ => Effect::Change,
    }
}

/// Field of `RangeRequest`.
const REVISION: i32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data: &[u8]) -> Effect {
        effect(&EntryRef { data, ..EntryRef::default() })
    }

    #[test]
    fn entries_are_told_apart_by_what_they_do_to_the_data() {
        // A leader's first, a v2 request as servers of 3.5 publish themselves with, an authentication, a change of membership.
        assert_eq!(of(b""), Effect::Nothing);
        assert_eq!(of(b"\x08\x07\x12\x03PUT\x1a\x02/0"), Effect::Nothing);
        assert_eq!(of(b"\xa2\x3f\x00"), Effect::Nothing);
        assert_eq!(
            effect(&EntryRef { entry_type: 1, data: b"\x22\x00", ..EntryRef::default() }),
            Effect::Nothing
        );
        // A put, a compaction, a lease.
        for change in [&b"\x22\x03\x0a\x01k"[..], b"\x3a\x02\x08\x09", b"\x42\x02\x08\x05"] {
            assert_eq!(of(change), Effect::Change, "{change:?}");
        }
        // A transaction that reads key k at revision 7, at none, and at 9 beside 7.
        assert_eq!(of(b"\x32\x09\x12\x07\x0a\x05\x0a\x01k\x20\x07"), Effect::Reads(7));
        assert_eq!(of(b"\x32\x07\x12\x05\x0a\x03\x0a\x01k"), Effect::Change);
        let both = b"\x32\x12\x12\x07\x0a\x05\x0a\x01k\x20\x09\x1a\x07\x0a\x05\x0a\x01k\x20\x07";
        assert_eq!(of(both), Effect::Reads(7));
        // A request of a version that is not known.
        assert_eq!(of(b"\xfa\x7f\x00"), Effect::Unknown);
    }

    #[test]
    fn members_come_and_go_as_the_log_says() {
        let mut config =
            Config::of(&ConfState { voters: vec![1], learners: vec![2], ..ConfState::default() });
        let added = ConfChangeType::AddNode as i32;
        let learns = ConfChangeType::AddLearnerNode as i32;
        config.change(2, added);
        config.change(3, learns);
        // Nobody loses a vote by it.
        config.change(1, learns);
        assert_eq!((config.voters.len(), config.learners.len()), (2, 1));
        for id in [2, 3] {
            config.change(id, ConfChangeType::RemoveNode as i32);
        }
        config.change(1, ConfChangeType::UpdateNode as i32);
        config.change(9, 77);
        assert_eq!(config, Config { voters: BTreeSet::from([1]), learners: BTreeSet::new() });
    }
}
