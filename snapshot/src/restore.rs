//! `snapshot restore`: a snapshot in, data directories of a new cluster out (FORMATS D, H).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bbolt::rebuild::{Edits, edited_bytes};
use bbolt::{FileSource, Io, OpenError as DbError, Patch, Source, SourceError, Unmetered, Watch};

use crate::at_revision::BackError;
use crate::copy::{self, SpaceError};
use crate::datadir;
use crate::defrag::AS_ETCD;
use crate::edited::{self, Change, EditError, Expected};
use crate::finding::Finding;
use crate::fold::{self, Entries, FoldError, FoldOptions, FoldReport};
use crate::gourl::{PeerUrls, UrlError};
use crate::integrity::{self, Changed, Integrity, Verdict};
use crate::member_files::{self, Contents, MemberError, Places};
use crate::membership::{ClusterError, InitialCluster, Member};
use crate::new_cluster::{Bump, NewClusterError};
use crate::opened::Opened;
use crate::overlay::Overlay;
use crate::plan::{self, Plan, Until};
use crate::replicate::{ReplicateError, replicate};
use crate::save::{self, SaveError};
use crate::stage::{self, Kind, Relation, Remains, Stage, StageError};
use crate::status::StatusError;
use crate::structure::way_out;
use crate::target::TargetVersion;

pub use crate::stage::Owner;

/// What to write where.
#[derive(Debug, Clone)]
pub enum Output {
    /// One member's data dir.
    OneMember {
        /// The member's name in the initial cluster.
        name: String,
        /// Its peer URLs as it knows them, comma-separated; they must be those of the initial cluster.
        advertise_peer_urls: String,
        /// Its data dir.
        data_dir: PathBuf,
        /// Its log's directory, when that is not `member/wal` of the data dir.
        wal_dir: Option<PathBuf>,
    },
    /// A directory with every member's data dir in it, called by its name.
    AllMembers {
        /// The directory.
        dir: PathBuf,
    },
}

/// What to restore into.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The members: `name=url,name=url…`.
    pub initial_cluster: String,
    /// The cluster's token, which makes its ids its own.
    pub token: String,
    /// What to write where.
    pub output: Output,
    /// Accept a file without integrity hash, and do not compare one.
    pub skip_hash_check: bool,
    /// The revision the key space goes back to; `None` for all of it.
    pub at_revision: Option<i64>,
    /// How far to raise the revision, everything up to there marked for compaction.
    pub bump_revision: Option<Bump>,
    /// The etcd to write for; `None` for the one that wrote the data.
    pub target: Option<TargetVersion>,
    /// Keep alarms.
    pub keep_alarms: bool,
    /// Who shall own the output.
    pub owner: Option<Owner>,
    /// Do everything but write.
    pub dry_run: bool,
    /// Remove what earlier, killed runs left for the same output.
    pub clean: bool,
}

/// One member of the new cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredMember {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u64,
    /// Its peer URLs.
    pub peer_urls: Vec<String>,
    /// Its data dir; `None` when this run did not write it.
    pub data_dir: Option<PathBuf>,
    /// Its log's directory, when that is a separate one.
    pub wal_dir: Option<PathBuf>,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct RestoreReport {
    /// What is known of the snapshot's integrity hash.
    pub verdict: Verdict,
    /// What was folded of the log, where it was.
    pub fold: Option<FoldReport>,
    /// What is wrong with the snapshot, short of damage.
    pub findings: Vec<Finding>,
    /// What was dropped, changed or kept, and why: one sentence each.
    pub notices: Vec<String>,
    /// The etcd written for.
    pub target: TargetVersion,
    /// Why that one.
    pub target_reason: String,
    /// The new cluster's id.
    pub cluster_id: u64,
    /// The new cluster's token.
    pub token: String,
    /// Its members, in the order of their names.
    pub members: Vec<RestoredMember>,
    /// The snapshot's revision, or the one it was taken back to.
    pub revision: i64,
    /// The snapshot's own revision, where it was taken back.
    pub back_from: Option<i64>,
    /// The revision it was raised to.
    pub bumped_to: Option<i64>,
    /// Length of each member's db in bytes.
    pub db_bytes: u64,
    /// True when the data looks like Kubernetes': some key starts with `/registry/`.
    pub key_prefix_registry: bool,
    /// Number of leases, all of which start anew.
    pub leases: u64,
    /// True when an alarm about a full database was dropped.
    pub dropped_nospace_alarm: bool,
    /// True when authentication is on.
    pub auth_enabled: bool,
    /// True when nothing was written.
    pub dry_run: bool,
    /// What earlier, killed runs left for the same output.
    pub leftovers: Vec<PathBuf>,
    /// What of that was removed.
    pub cleaned: Vec<PathBuf>,
}

/// Why nothing was restored. Nothing is left behind then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The initial cluster is not what it should be.
    #[error(transparent)]
    InitialCluster(ClusterError),
    /// The member does not fit the cluster.
    #[error(transparent)]
    Member(ClusterError),
    /// The advertised URLs are none.
    #[error("--initial-advertise-peer-urls: {0}")]
    Advertise(UrlError),
    /// A name that cannot name a directory.
    #[error(
        "member name {name:?} cannot be the name of a directory; restore the members one by one with --data-dir"
    )]
    NameIsNoDirectory {
        /// The name.
        name: String,
    },
    /// The snapshot has no hash, and none was waived.
    #[error(
        "snapshot missing hash but --skip-hash-check=false: {path} has no integrity hash behind its image ({len_bytes} \
         bytes){hint}"
    )]
    MissingHash {
        /// The file.
        path: String,
        /// Its length in bytes.
        len_bytes: u64,
        /// What that may mean.
        hint: String,
    },
    /// The snapshot is not the one that was hashed.
    #[error(
        "{path}: expected sha256 {expected}, got {computed}: the file changed after it was taken. Copy it again, or use \
         another snapshot; --skip-hash-check restores it all the same"
    )]
    HashMismatch {
        /// The file.
        path: String,
        /// The trailer.
        expected: String,
        /// The image's hash.
        computed: String,
    },
    /// The snapshot is damaged.
    #[error(
        "{path}: its structure is damaged ({} finding(s)), and a server would crash on it; nothing was restored. Use \
         another snapshot; where there is none, 'etcd-rescue salvage {path} --dry-run' says what can be saved of this one",
        findings.len()
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// The snapshot cannot be read.
    #[error(transparent)]
    Examine(StatusError),
    /// The snapshot cannot be edited.
    #[error("{path}: {source}")]
    NewCluster {
        /// The file.
        path: String,
        /// Why.
        source: NewClusterError,
    },
    /// The revision to go back to is not kept.
    #[error("{path}: --at-revision: {source}")]
    AtRevision {
        /// The file.
        path: String,
        /// Why.
        source: BackError,
    },
    /// The snapshot could be read once, and could not be read again.
    #[error("{path}: {what}; nothing was left behind")]
    Unreadable {
        /// The file.
        path: String,
        /// Where, and what the system said.
        what: String,
    },
    /// The edited db would not be sound: an error in this program.
    #[error(
        "{path}: the edited db does not pass its own check ({what}); nothing was written. Please report this"
    )]
    Edited {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The snapshot cannot be read again.
    #[error("{path}: {source}")]
    Source {
        /// The file.
        path: String,
        /// Why.
        source: SourceError,
    },
    /// The snapshot was not the same each time it was read.
    #[error("{path}: {source}. Nothing was left behind")]
    Changed {
        /// The file.
        path: String,
        /// Where.
        source: Changed,
    },
    /// The snapshot cannot be opened again.
    #[error("{path}: {source}{}", way_out(source))]
    Db {
        /// The file.
        path: String,
        /// Why.
        source: DbError,
    },
    /// The log cannot be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The db with its log folded in could not be made.
    #[error(transparent)]
    Folded(Box<SaveError>),
    /// There is no place for the folded db.
    #[error("cannot write the database with its log folded in to {}: {error}; --tmp-dir takes another directory", path.display())]
    TmpDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The output lies in the input, which is evidence.
    #[error(
        "{}: lies in {}, which is the input and stays as it is; give a place outside of it", output.display(), input.display()
    )]
    Inside {
        /// The output.
        output: PathBuf,
        /// The directory of the input that it lies in.
        input: PathBuf,
    },
    /// The output cannot be where it should.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// There is no room.
    #[error("{0}; nothing was written")]
    Space(#[from] SpaceError),
    /// A member could not be written.
    #[error("{0}; nothing was left behind")]
    Write(MemberError),
    /// The user asked to stop.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
}

impl RestoreError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Examine(error) => error.exit_code(),
            Self::Fold(error) => error.exit_code(),
            Self::Folded(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Fold(error) => error.findings(),
            Self::Folded(error) => error.findings(),
            Self::Damaged { findings, .. } => findings,
            Self::AtRevision { source, .. } => source.findings(),
            _ => &[],
        }
    }
}

impl From<MemberError> for RestoreError {
    fn from(error: MemberError) -> Self {
        Self::Write(error)
    }
}

impl From<SaveError> for RestoreError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Interrupted => Self::Interrupted,
            other => Self::Folded(Box::new(other)),
        }
    }
}

impl From<EditError> for RestoreError {
    fn from(error: EditError) -> Self {
        SaveError::from(error).into()
    }
}

/// What is restored: a database file, and what of it is other than the file has it.
#[derive(Clone, Copy)]
struct Basis<'a> {
    /// What was given.
    input: &'a Opened,
    /// The file: the input's own, or one without a name that was made of it.
    file: &'a FileSource,
    /// What its log changed in it, where that is some pages.
    patch: Option<&'a Patch>,
    /// What was folded.
    fold: Option<&'a FoldReport>,
}

impl Basis<'_> {
    /// The restored database: the file under what its log changed and what `plan` does.
    fn edited<'p>(&'p self, plan: &'p Plan) -> Overlay<'p, FileSource> {
        let patch = &plan.backend.patch;
        // The plan's pages lie behind the first patch's, and its metas replace that one's.
        let below = self.patch.into_iter().flat_map(Patch::data_writes);
        let writes = below.chain(patch.data_writes()).chain(patch.meta_writes());
        Overlay::new(self.file, patch.len_bytes(), writes)
    }

    fn plan(
        &self,
        members: Vec<Member>,
        options: &RestoreOptions,
        watch: &dyn Watch,
    ) -> Result<Plan, RestoreError> {
        let path = self.input.path().display().to_string();
        let plan = match self.patch {
            None => Plan::of_structure(self.file, &path, members, options, watch)?,
            Some(patch) => {
                Plan::of_structure(&edited::patched(self.input, patch), &path, members, options, watch)?
            }
        };
        if let Some(fold) = self.fold {
            save::ensure_stands_there(&plan.contents, &plan.schema, &path, fold)?;
        }
        Ok(plan)
    }
}

/// Restores `input` into a new cluster's data directories: everything is written beside its place, synced, read back
/// and compared, and only then given its name.
///
/// # Errors
/// [`RestoreError`]; nothing is left behind then.
pub fn restore(
    input: &Opened,
    options: &RestoreOptions,
    watch: &dyn Watch,
) -> Result<RestoreReport, RestoreError> {
    restore_from(Basis { input, file: input.source(), patch: None, fold: None }, options, watch)
}

/// As [`restore()`], with the `entries` beyond `input`'s db folded in. Of what comes out there is no hash to compare; the
/// input's own, where it has one, must be right. With a compaction in the log the folded db is written to a file without a name
/// in `tmp_dir` first.
///
/// # Errors
/// As [`restore()`], and when the log cannot be folded.
pub fn restore_folded(
    input: &Opened,
    entries: Entries<'_>,
    fold: &FoldOptions,
    options: &RestoreOptions,
    tmp_dir: &Path,
    watch: &dyn Watch,
) -> Result<RestoreReport, RestoreError> {
    let logs = entries.files();
    for output in options.output.places() {
        if let Some(holding) = logs.iter().find_map(|files| files.holding(output)) {
            return Err(RestoreError::Inside { output: output.to_owned(), input: holding.to_owned() });
        }
    }
    let path = || input.path().display().to_string();
    let has_hash = edited::verify_hash(input, watch)?;
    let db = input.db().map_err(|source| RestoreError::Db { path: path(), source })?;
    let (folded, report) = fold::fold(input, &db, entries, fold, watch)?;
    let edits = folded.edits();
    let change = folded.change(&edits);
    // That a db has no hash is known, and what is made of a snapshot has none any more.
    let waived = !has_hash || change.is_some();
    let options = &RestoreOptions { skip_hash_check: options.skip_hash_check || waived, ..options.clone() };
    let basis = Basis { input, file: input.source(), patch: None, fold: Some(&report) };
    let mut restored = match change {
        None => restore_from(basis, options, watch)?,
        Some(Change::Patch(patch)) => restore_from(Basis { patch: Some(patch), ..basis }, options, watch)?,
        Some(Change::Rebuild { edits, expected }) => {
            let rebuilt = rebuilt(input, edits, expected, tmp_dir, watch)?;
            restore_from(Basis { file: &rebuilt, ..basis }, options, watch)?
        }
    };
    if has_hash && waived {
        // It was compared, before the log was folded in.
        let verdict = integrity::unchecked(input.source())
            .map_err(|source| RestoreError::Source { path: path(), source })?;
        restored.verdict = Verdict { integrity: Integrity::Verified, computed: verdict.expected, ..verdict };
    }
    Ok(restored)
}

/// `input`'s db written anew under `edits`, in a file without a name.
fn rebuilt(
    input: &Opened,
    edits: &Edits<'_>,
    expected: Expected,
    tmp_dir: &Path,
    watch: &dyn Watch,
) -> Result<FileSource, RestoreError> {
    let path = || input.path().display().to_string();
    let failed = |error| RestoreError::TmpDir { path: tmp_dir.to_owned(), error };
    let db = input.db().map_err(|source| RestoreError::Db { path: path(), source })?;
    let need_bytes = edited_bytes(&db, &AS_ETCD, edits, &Unmetered(watch))
        .map_err(|source| EditError::Rebuild { path: path(), source })?;
    copy::ensure_space(tmp_dir, need_bytes)?;
    let file = tempfile::tempfile_in(tmp_dir).map_err(failed)?;
    edited::rebuild_into(&file, input, edits, expected, watch)?;
    input.ensure_not_written_to().map_err(|source| RestoreError::Changed { path: path(), source })?;
    FileSource::new(file, tmp_dir, Io::Mmap).map_err(failed)
}

/// Makes sure, before all the work, that `options` name a cluster, and a place where it can be; gives the cluster and its members.
pub(crate) fn ensure_ready(options: &RestoreOptions) -> Result<(InitialCluster, Vec<Member>), RestoreError> {
    let cluster = InitialCluster::parse(&options.initial_cluster).map_err(RestoreError::InitialCluster)?;
    let members = cluster.members(&options.token).map_err(RestoreError::InitialCluster)?;
    jobs(&cluster, &members, &options.output)?;
    stage::ensure_owner(options.owner)?;
    let remains = if options.clean {
        let (data_dir, wal_dir) = options.output.dirs();
        Remains::find(data_dir, wal_dir)?
    } else {
        Remains::default()
    };
    for place in options.output.places() {
        stage::examine_without(place, Kind::Dir, &remains)?;
    }
    Ok((cluster, members))
}

fn restore_from(
    basis: Basis<'_>,
    options: &RestoreOptions,
    watch: &dyn Watch,
) -> Result<RestoreReport, RestoreError> {
    let input = basis.input;
    let path = || input.path().display().to_string();
    let (cluster, members) = ensure_ready(options)?;
    let jobs = jobs(&cluster, &members, &options.output)?;

    let carry_out = |plan: Plan, watch: &dyn Watch| {
        let leftovers = leftovers(options)?;
        ensure_space(options, &jobs, &plan)?;
        let edited = basis.edited(&plan);
        if options.dry_run {
            plan.verify(&edited, &path(), watch)?;
            return Ok((plan, leftovers, None));
        }
        // Every byte is written once and read back once.
        watch.begin("writing", 2 * plan.backend.patch.len_bytes() * jobs.len() as u64);
        let staged = write(basis, options, &jobs, &plan, &edited, watch)?;
        Ok((plan, leftovers, Some(staged)))
    };
    let (done, hashed) = if options.clean {
        // Nothing is taken away for a snapshot that turns out to be of no use, so all is known of it first.
        let skip = options.skip_hash_check;
        let (plan, hashed) = plan::beside_hash(basis.file, &path(), skip, watch, |_| {
            basis.plan(members.clone(), options, watch)
        })?;
        (carry_out(plan, watch)?, hashed)
    } else {
        plan::beside_hash(basis.file, &path(), options.skip_hash_check, watch, |until| {
            let plan = basis.plan(members.clone(), options, watch)?;
            carry_out(plan, until)
        })?
    };
    let (plan, (leftovers, cleaned), staged) = done;
    if let Some(staged) = staged {
        if watch.interrupted() {
            return Err(RestoreError::Interrupted);
        }
        // Hash and copy read the snapshot each on its own.
        let changed = |source| RestoreError::Changed { path: path(), source };
        integrity::ensure_same(&hashed.sums, &staged.sums).map_err(changed)?;
        input.ensure_not_written_to().map_err(changed)?;
        staged.publish(&jobs, options)?;
    }
    let verdict = hashed.verdict;

    let not_folded = if basis.fold.is_none() { not_folded(input, &plan, &verdict) } else { None };
    let mut findings = plan.findings;
    match basis.fold {
        Some(fold) => findings.extend(fold.findings.iter().cloned()),
        None => findings.extend(input.pending_snapshots(plan.schema.consistent_index)),
    }
    let mut notices = plan.backend.notices;
    notices.extend(not_folded);
    Ok(RestoreReport {
        verdict,
        fold: basis.fold.cloned(),
        findings,
        notices,
        target: plan.cluster.target,
        target_reason: plan.target_reason,
        cluster_id: plan.cluster.id(),
        token: options.token.clone(),
        members: report_members(&plan.cluster.members, &options.output),
        revision: plan.back.as_ref().map_or(plan.contents.revision, |back| back.revision),
        back_from: plan.back.as_ref().map(|back| back.from).filter(|from| *from > plan.backend.revision),
        bumped_to: plan.backend.bumped_to,
        db_bytes: plan.backend.patch.len_bytes(),
        key_prefix_registry: plan.contents.has_registry_keys,
        leases: plan.schema.leases,
        dropped_nospace_alarm: plan.backend.dropped_nospace_alarm,
        auth_enabled: plan.schema.auth_enabled,
        dry_run: options.dry_run,
        leftovers,
        cleaned,
    })
}

impl Output {
    /// The data dir, or what holds all of them, and the log's directory.
    fn dirs(&self) -> (&Path, Option<&Path>) {
        match self {
            Self::OneMember { data_dir, wal_dir, .. } => (data_dir.as_path(), wal_dir.as_deref()),
            Self::AllMembers { dir } => (dir.as_path(), None),
        }
    }

    /// The paths that must not be taken yet.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Path> {
        let (first, second) = self.dirs();
        std::iter::once(first).chain(second)
    }

    /// The log's directory, when it lies apart from the data dir.
    fn wal_dir_apart(&self) -> Result<Option<&Path>, StageError> {
        let Self::OneMember { data_dir, wal_dir: Some(wal_dir), .. } = self else { return Ok(None) };
        Ok((stage::relation(data_dir, wal_dir)? == Relation::Apart).then_some(wal_dir.as_path()))
    }
}

/// One member to write: where its parts go below the stages.
struct Job<'a> {
    member: &'a Member,
    /// Below the data stage: empty, or the member's name.
    prefix: PathBuf,
    /// Below the data stage; empty when the log has a stage of its own.
    wal_dir: PathBuf,
}

fn jobs<'a>(
    cluster: &InitialCluster,
    members: &'a [Member],
    output: &Output,
) -> Result<Vec<Job<'a>>, RestoreError> {
    match output {
        Output::OneMember { name, advertise_peer_urls, data_dir, wal_dir } => {
            cluster.urls(name).map_err(RestoreError::Member)?;
            let advertised = PeerUrls::from_list(advertise_peer_urls).map_err(RestoreError::Advertise)?;
            cluster.check_advertised(name, &advertised).map_err(RestoreError::Member)?;
            // A log with a stage of its own is that stage.
            let wal_dir = stage::log_below(data_dir, wal_dir.as_deref())?.unwrap_or_default();
            let own = members.iter().filter(|member| member.name == *name);
            Ok(own.map(|member| Job { member, prefix: PathBuf::new(), wal_dir: wal_dir.clone() }).collect())
        }
        Output::AllMembers { .. } => members
            .iter()
            .map(|member| {
                let prefix = PathBuf::from(&member.name);
                let mut parts = prefix.components();
                let plain =
                    matches!(parts.next(), Some(std::path::Component::Normal(part)) if *part == *member.name);
                if !plain || parts.next().is_some() {
                    return Err(RestoreError::NameIsNoDirectory { name: member.name.clone() });
                }
                let wal_dir = prefix.join("member/wal");
                Ok(Job { member, prefix, wal_dir })
            })
            .collect(),
    }
}

/// What earlier runs left; removed where that was asked for.
fn leftovers(options: &RestoreOptions) -> Result<(Vec<PathBuf>, Vec<PathBuf>), StageError> {
    let mut cleaned = Vec::new();
    if options.clean && !options.dry_run {
        let (data_dir, wal_dir) = options.output.dirs();
        cleaned = stage::clean(data_dir, wal_dir)?;
    }
    let mut found = Vec::new();
    for place in options.output.places() {
        found.extend(stage::abandoned(place)?);
    }
    Ok((found, cleaned))
}

/// What a db taken from a member lacks.
fn not_folded(input: &Opened, plan: &Plan, verdict: &Verdict) -> Option<String> {
    let log = match input.wal_dir() {
        Some(wal_dir) => format!("the log in {}", wal_dir.display()),
        None if verdict.integrity == Integrity::Absent => "the member's log".to_owned(),
        None => return None,
    };
    let how = match input.kind() {
        datadir::Kind::File => "; given the data dir, this command folds it in",
        _ => "",
    };
    Some(format!(
        "{log} was not folded in: writes it holds beyond index {}, up to where the db had come, are not in the result{how}",
        plan.schema.consistent_index
    ))
}

fn ensure_space(options: &RestoreOptions, jobs: &[Job<'_>], plan: &Plan) -> Result<(), RestoreError> {
    let (data, log) = member_files::needed_bytes(&plan.backend.patch, &plan.snap);
    let count = jobs.len() as u64;
    let (data_dir, _) = options.output.dirs();
    let apart = options.output.wal_dir_apart()?;
    match apart {
        Some(wal_dir) if !copy::same_file_system(data_dir, wal_dir) => {
            copy::ensure_space(data_dir, data * count)?;
            copy::ensure_space(wal_dir, log * count)?;
        }
        _ => copy::ensure_space(data_dir, (data + log) * count)?,
    }
    Ok(())
}

fn not_copied(error: ReplicateError, input: &Opened, targets: &[(&File, &Path)]) -> RestoreError {
    let path = |target: usize| targets.get(target).map(|(_, path)| path.to_path_buf()).unwrap_or_default();
    match error {
        ReplicateError::Interrupted => RestoreError::Interrupted,
        ReplicateError::Image(source) => {
            RestoreError::Source { path: input.path().display().to_string(), source }
        }
        ReplicateError::Target { target, .. } => {
            RestoreError::Write(MemberError::Db { path: path(target), source: error })
        }
        ReplicateError::Differs { target, .. } => {
            // Between its checksum and its way to the device, a byte of the map can change.
            if let Err(source) = input.ensure_not_written_to() {
                return RestoreError::Changed { path: input.path().display().to_string(), source };
            }
            RestoreError::Write(MemberError::ReadBack { path: path(target), what: error.to_string() })
        }
    }
}

/// What was written and verified, and has no name yet.
struct Staged {
    data: Stage,
    log: Option<Stage>,
    /// Of what the snapshot held when it was copied.
    sums: Vec<u32>,
}

impl Staged {
    fn publish(self, jobs: &[Job<'_>], options: &RestoreOptions) -> Result<(), StageError> {
        let Self { data, log, .. } = self;
        match (log, jobs, &options.output) {
            (Some(log), ..) => stage::commit_pair(data, log, options.owner),
            (None, [job], Output::OneMember { .. }) => data.commit_with_log(&job.wal_dir, options.owner),
            _ => data.commit(options.owner),
        }
    }
}

fn write(
    basis: Basis<'_>,
    options: &RestoreOptions,
    jobs: &[Job<'_>],
    plan: &Plan,
    edited: &Overlay<'_, FileSource>,
    watch: &dyn Watch,
) -> Result<Staged, RestoreError> {
    let input = basis.input;
    let path = || input.path().display().to_string();
    let (data_dir, _) = options.output.dirs();
    let data = Stage::new(data_dir, Kind::Dir)?;
    let apart = options.output.wal_dir_apart()?;
    let log = apart.map(|wal_dir| Stage::new(wal_dir, Kind::Dir)).transpose()?;
    let files = Contents { db_bytes: edited.len_bytes(), cluster: &plan.cluster, snap: &plan.snap };
    let places: Vec<(Places<'_>, &Member)> = jobs
        .iter()
        .map(|job| {
            let snap_dir = job.prefix.join("member/snap");
            let log = log.as_ref().unwrap_or(&data);
            (Places { data: &data, snap_dir, log, wal_dir: job.wal_dir.clone() }, job.member)
        })
        .collect();
    let dbs = places.iter().map(|(places, _)| member_files::create(places)).collect::<Result<Vec<_>, _>>()?;
    let targets: Vec<(&File, &Path)> = dbs.iter().map(|(file, path)| (file, path.as_path())).collect();
    // What is small waits more than it works, and so does not wait for what is big.
    let stop = AtomicBool::new(false);
    let until = Until { watch, stop: &stop };
    let (small, big) = std::thread::scope(|scope| {
        let small = || {
            let written = places
                .iter()
                .try_for_each(|(places, member)| member_files::write_log(places, member, &files))
                .map_err(RestoreError::Write)
                .and_then(|()| plan.verify(edited, &path(), &Unmetered(&until)));
            stop.fetch_or(written.is_err(), Ordering::Relaxed);
            written
        };
        let beside = std::thread::Builder::new().spawn_scoped(scope, small);
        let (image_bytes, _) = integrity::image_bytes(basis.file.len_bytes());
        let big = replicate(edited, image_bytes, basis.file.file(), &targets, &until);
        let small = match beside {
            Ok(beside) => beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // No thread is left: one after the other, then.
            Err(_) => small(),
        };
        (small, big)
    });
    small?;
    let sums = big.map_err(|error| not_copied(error, input, &targets))?.base;
    for (_, path) in &dbs {
        member_files::verify_db(path, &files)?;
    }
    Ok(Staged { data, log, sums })
}

fn report_members(members: &[Member], output: &Output) -> Vec<RestoredMember> {
    let mut restored: Vec<RestoredMember> = members
        .iter()
        .map(|member| {
            let (data_dir, wal_dir) = match output {
                Output::AllMembers { dir } => (Some(dir.join(&member.name)), None),
                Output::OneMember { name, data_dir, wal_dir, .. } if *name == member.name => {
                    (Some(data_dir.clone()), wal_dir.clone())
                }
                Output::OneMember { .. } => (None, None),
            };
            RestoredMember {
                name: member.name.clone(),
                id: member.id,
                peer_urls: member.peer_urls.clone(),
                data_dir,
                wal_dir,
            }
        })
        .collect();
    restored.sort_by(|a, b| a.name.cmp(&b.name));
    restored
}
