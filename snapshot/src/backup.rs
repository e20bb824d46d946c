//! `backup`: what `etcdctl backup` of 3.4 and `etcdutl backup` of 3.5 do (FORMATS I.2): a member's directory copied with another
//! identity, to be started with `--force-new-cluster`.
//!
//! The copy's log is written anew, from the newest `.snap` on. Entries that say who the members are stay where they were, and say
//! nothing ([`translate`]); `.snap` and database name one member in the place of all others, whom that start removes. Node and
//! cluster have new ids ([`Identity`]), so that the copy never joins the cluster it was taken from.
//!
//! Between consistent index, commit and last entry that order holds which a server relies on. One that applies entries up to the
//! consistent index never applies others of the same index, so a commit that lay below it would cost the first writes of the new
//! cluster: [`Plan`] raises it to what is certain.

mod database;
mod identity;
mod output;
mod plan;
pub mod translate;

use std::path::{Path, PathBuf};

use bbolt::{BuildError, GraftError, Watch};

use crate::boot::SnapshotPoint;
use crate::facts::{self, Facts, FactsError, FactsOptions};
use crate::finding::{Finding, Severity};
use crate::log_files::LogFilesError;
use crate::member_copy;
use crate::opened::OpenError;
use crate::replay::range::RangeError;
use crate::save::SaveError;
use crate::stage::{self, Owner, StageError};

pub use identity::Identity;
pub use plan::{NewSnap, Plan};

/// What is backed up, and where to.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The data dir to write. It must not exist, or be empty.
    pub output: PathBuf,
    /// The log's directory, where that is not to be `member/wal` of the data dir.
    pub output_wal_dir: Option<PathBuf>,
    /// Whether the keys of the v3 API go along. Without them the database is a new one, and requests of the v3 API are emptied.
    pub with_v3: bool,
    /// The id of the backup's member, which is made where none is given; not 0.
    pub node_id: Option<u64>,
    /// The id of its cluster, likewise.
    pub cluster_id: Option<u64>,
    /// The time of which ids are made, in milliseconds since 1970.
    pub now_ms: u64,
    /// Do everything but write.
    pub dry_run: bool,
    /// Remove what earlier, killed runs left for the same output.
    pub clean: bool,
    /// Who shall own it.
    pub owner: Option<Owner>,
}

/// What became of the entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Entries that were kept.
    pub kept: u64,
    /// Those of them that go by the index of the v2 store, which is another one in the backup.
    pub by_index: u64,
    /// Entries that were emptied since they change who the members are.
    pub membership: u64,
    /// Entries that were emptied since they publish a member's name and client URLs.
    pub attributes: u64,
    /// Entries that were emptied since requests of the v3 API are left out.
    pub v3: u64,
}

impl Account {
    fn count(&mut self, fate: translate::Fate) {
        use translate::{Emptied, Fate};
        let counter = match fate {
            Fate::Kept => &mut self.kept,
            Fate::KeptByIndex => {
                self.by_index = self.by_index.saturating_add(1);
                &mut self.kept
            }
            Fate::Emptied(Emptied::Membership) => &mut self.membership,
            Fate::Emptied(Emptied::Attributes) => &mut self.attributes,
            Fate::Emptied(Emptied::V3) => &mut self.v3,
        };
        *counter = counter.saturating_add(1);
    }

    /// Requests that do another thing in the backup than they did.
    fn by_another_index(&self) -> Option<Finding> {
        (self.by_index > 0).then(|| {
            Finding::new(
                "ETCD-BACKUP-V2-INDEX",
                Severity::Warning,
                format!(
                    "{} request(s) of the v2 API behind the .snap compare with an index of the v2 store or make a key of it, and that index is \
                     another one in the backup: such a key may keep an older value, or get another name, when a server starts on it",
                    self.by_index
                ),
            )
        })
    }
}

/// What was done.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The ids of the member it was taken from, and of its cluster.
    pub from: (u64, u64),
    /// The backup's own.
    pub identity: Identity,
    /// The snapshot it starts from; 0 and 0 when it starts from none.
    pub start: SnapshotPoint,
    /// The `.snap`, where there is one.
    pub snap: Option<String>,
    /// The last entry.
    pub last_index: u64,
    /// The last entry that a start with `--force-new-cluster` keeps.
    pub commit: u64,
    /// The last entry in the backup's database.
    pub consistent_index: u64,
    /// What became of the entries behind the snapshot.
    pub account: Account,
    /// Alarms that stand in the database and go along.
    pub alarms: usize,
    /// What is to be known of the input, and of what the start will drop.
    pub findings: Vec<Finding>,
    /// What earlier, killed runs left for the same output.
    pub leftovers: Vec<PathBuf>,
    /// What of that was removed.
    pub cleaned: Vec<PathBuf>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is nothing at the path.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// A file of its own, or a directory that lacks something.
    #[error("{path}: {what}; the data dir of a member is needed")]
    NoMember {
        /// What was given.
        path: String,
        /// What it lacks.
        what: &'static str,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogFilesError),
    /// The log is not what it was when it was read first.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The database cannot be read.
    #[error("{path}: {reason}; 'etcd-rescue bbolt check {path}' tells more. Nothing was written")]
    Database {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The `.snap` cannot be rewritten.
    #[error("{path}: {name}: {reason}. Nothing was written")]
    Snap {
        /// What was given.
        path: String,
        /// The file's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// No server goes on with the log as it is.
    #[error(
        "{path}: {what}. 'etcd-rescue wal verify {path}' says more, 'etcd-rescue wal repair {path} -o REPAIRED' makes a copy that can be given \
         to this command. Nothing was written"
    )]
    BrokenLog {
        /// What was given.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The cluster cannot be taken out of the database.
    #[error("{path}: {source}. Nothing was written")]
    Graft {
        /// The file.
        path: String,
        /// Why.
        source: GraftError,
    },
    /// A database of its own cannot be made.
    #[error("the backup's database cannot be made: {0}")]
    Build(#[from] BuildError),
    /// A record cannot be made.
    #[error("the backup's log cannot be made: {0}")]
    Record(#[from] wal::SaveError),
    /// The backup could not be written.
    #[error(transparent)]
    Output(#[from] SaveError),
    /// What was read back is not what it should be.
    #[error("{path}: read back, and {what}; do not trust this disk. Nothing was left behind")]
    ReadBack {
        /// The log's directory.
        path: String,
        /// In what it differs.
        what: String,
    },
}

impl From<StageError> for BackupError {
    fn from(error: StageError) -> Self {
        Self::Output(error.into())
    }
}

impl BackupError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Facts(FactsError::Interrupted) => 130,
            Self::Open(error) => error.exit_code(),
            Self::Log(error) => error.exit_code(),
            Self::Output(SaveError::Damaged { .. }) => 3,
            Self::Output(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Open(error) => error.findings(),
            Self::Output(error) => error.findings(),
            _ => &[],
        }
    }
}

/// Backs the member at `path` up.
///
/// # Errors
/// [`BackupError`]; nothing is left behind then.
pub fn backup(
    path: &Path,
    options: &BackupOptions,
    input: &FactsOptions,
    watch: &dyn Watch,
) -> Result<BackupReport, BackupError> {
    let facts = opened(facts::gather(path, input, watch)?, options.with_v3)?;
    let plan = Plan::of(&facts, options, input, watch)?;
    let log = plan::log_of(&facts)?;
    stage::ensure_owner(options.owner)?;
    let wal_dir = options.output_wal_dir.as_deref();
    let (leftovers, cleaned) =
        member_copy::make_room(&facts, &options.output, wal_dir, options.clean, options.dry_run)?;
    let account = output::write(&facts, log, &plan, options, watch)?;
    let mut findings: Vec<Finding> = log.report.findings.iter().map(|found| found.finding.clone()).collect();
    findings.extend(plan.uncertain());
    findings.extend(account.by_another_index());
    let alarms = facts.database_facts().filter(|_| options.with_v3);
    Ok(BackupReport {
        from: plan.from,
        identity: plan.identity,
        start: plan.start,
        snap: plan.snap.map(|snap| snap.name),
        last_index: plan.last,
        commit: plan.commit,
        consistent_index: plan.consistent_index,
        account,
        alarms: alarms.map_or(0, |database| database.schema.alarms.len()),
        findings,
        leftovers,
        cleaned,
    })
}

/// `facts`, if the log could be opened, and the database where it is needed.
fn opened(mut facts: Facts, with_v3: bool) -> Result<Facts, BackupError> {
    match facts.database.take() {
        Some(Err(error)) if with_v3 => return Err(error.into()),
        database => facts.database = database,
    }
    match facts.log.take() {
        Some(Err(error)) => return Err(error.into()),
        log => facts.log = log,
    }
    Ok(facts)
}

impl Plan {
    /// Entries that are in the backup and that the start with `--force-new-cluster` drops.
    fn uncertain(&self) -> Option<Finding> {
        let first = self.commit.saturating_add(1);
        if first > self.last {
            return None;
        }
        let (entries, them) = if first == self.last {
            (format!("entry {first} is"), "it")
        } else {
            (format!("entries {first} to {} are", self.last), "them")
        };
        Some(Finding::new(
            "ETCD-TAIL-DROPPED",
            Severity::Warning,
            format!(
                "{entries} in the backup, and a start with --force-new-cluster drops {them}: this member does not know that the cluster had \
                 committed so far. If it had, clients were told that it is done; 'etcd-rescue recover' keeps what may have been"
            ),
        ))
    }
}
