//! What a restore will do, worked out from the snapshot's bytes before any file is touched.

use std::sync::atomic::{AtomicBool, Ordering};

use bbolt::{Db, MetaFault, OpenError as DbError, Source, Unmetered, Watch};

use crate::at_revision::{Back, BackError};
use crate::contents::Contents;
use crate::finding::{Finding, Severity};
use crate::integrity::{self, HashingError, Integrity, Verdict};
use crate::member_files::{self, BackendError};
use crate::membership::Member;
use crate::mvcc::KeySpaceError;
use crate::new_cluster::{Backend, NewCluster};
use crate::overlay::Overlay;
use crate::restore::{RestoreError, RestoreOptions};
use crate::schema::Schema;
use crate::status::{self, StatusError};
use crate::target::TargetVersion;

/// What a restore will do.
#[derive(Debug)]
pub struct Plan {
    /// What is wrong with the snapshot, short of damage.
    pub findings: Vec<Finding>,
    /// What the snapshot holds.
    pub contents: Contents,
    /// What the snapshot says of itself.
    pub schema: Schema,
    /// Why the cluster's files are written for the etcd they are.
    pub target_reason: String,
    /// The cluster to be.
    pub cluster: NewCluster,
    /// The edits that make the snapshot's db the cluster's.
    pub backend: Backend,
    /// The `.snap` of every member.
    pub snap: Vec<u8>,
    /// What going back to an earlier revision means, where that was asked for.
    pub back: Option<Back>,
}

impl Plan {
    /// Reads all of `source`, which messages call `path`, believes or refuses it, and works out the edits for a cluster
    /// of `members`, ascending by id. Of `options`, those about places are not looked at.
    ///
    /// # Errors
    /// When the snapshot is damaged, or its hash is missing or wrong and that was not waived.
    pub fn new<S: Source>(
        source: &S,
        path: &str,
        members: Vec<Member>,
        options: &RestoreOptions,
        watch: &dyn Watch,
    ) -> Result<(Self, Hashed), RestoreError> {
        beside_hash(source, path, options.skip_hash_check, watch, |_| {
            Self::of_structure(source, path, members, options, watch)
        })
    }

    /// The same, but for the hash: that there is one is asked for, what it says is left for [`beside_hash`].
    pub(crate) fn of_structure<S: Source>(
        source: &S,
        path: &str,
        members: Vec<Member>,
        options: &RestoreOptions,
        watch: &dyn Watch,
    ) -> Result<Self, RestoreError> {
        let examined = status::examine(source, path, false, watch).map_err(|error| match error {
            StatusError::Interrupted => RestoreError::Interrupted,
            other => RestoreError::Examine(other),
        })?;
        // Damage comes first: no waived hash would help against it.
        let damaged = examined.findings.iter().any(stands_in_the_way);
        let Some((contents, schema)) = examined.contents.filter(|_| !damaged) else {
            return Err(RestoreError::Damaged { path: path.to_owned(), findings: examined.findings });
        };
        if examined.verdict.integrity == Integrity::Absent && !options.skip_hash_check {
            return Err(missing_hash(path, source.len_bytes()));
        }
        let (target, target_reason) = target(options.target, &schema);
        let cluster = NewCluster {
            members,
            target,
            at_revision: options.at_revision,
            bump_revision: options.bump_revision,
            keep_alarms: options.keep_alarms,
        };
        let db =
            Db::from_source(source).map_err(|source| RestoreError::Db { path: path.to_owned(), source })?;
        let back = options.at_revision.map(|revision| Back::to(revision, &db, &schema, &contents, watch));
        let back = back.transpose().map_err(|source| match source {
            BackError::Read(KeySpaceError::Interrupted) => RestoreError::Interrupted,
            source => RestoreError::AtRevision { path: path.to_owned(), source },
        })?;
        let mut backend = cluster
            .edit(&db, &schema, contents.revision)
            .map_err(|source| RestoreError::NewCluster { path: path.to_owned(), source })?;
        let (snap, mut findings) = (cluster.snap(), examined.findings);
        if let Some(back) = &back {
            backend.notices.extend(back.notices(backend.bumped_to));
            findings.extend(back.findings.iter().cloned());
        }
        Ok(Self { findings, contents, schema, target_reason, cluster, backend, snap, back })
    }

    /// The new cluster's db: `source`, of which the plan was made, under the edits.
    pub fn edited<'a, S: Source>(&'a self, source: &'a S) -> Overlay<'a, S> {
        let patch = &self.backend.patch;
        Overlay::new(source, patch.len_bytes(), patch.data_writes().chain(patch.meta_writes()))
    }

    /// Checks the new cluster's db as it will be, before it is written.
    ///
    /// # Errors
    /// When it would not be sound or not the cluster's, which is an error in this program, or the user asked to stop.
    pub fn verify<S: Source>(
        &self,
        edited: &Overlay<'_, S>,
        path: &str,
        watch: &dyn Watch,
    ) -> Result<(), RestoreError> {
        let wrong = |what| RestoreError::Edited { path: path.to_owned(), what };
        let unreadable = |what| RestoreError::Unreadable { path: path.to_owned(), what };
        let db = Db::from_source(edited).map_err(|error| match error {
            DbError::Source(_)
            | DbError::NoMeta { meta0: MetaFault::Unreadable { .. }, .. }
            | DbError::NoMeta { meta1: MetaFault::Unreadable { .. }, .. } => unreadable(error.to_string()),
            _ => wrong(error.to_string()),
        })?;
        member_files::verify_backend(&db, &self.cluster, watch).map_err(|error| match error {
            BackendError::Interrupted => RestoreError::Interrupted,
            BackendError::Unreadable(what) => unreadable(what),
            BackendError::Differs(what) => wrong(what),
        })
    }
}

/// True for damage, and for rows on which a server would die when it starts. What is wrong with the file around the db is
/// for `believe` to judge, and rows that a restore drops are no obstacle.
fn stands_in_the_way(finding: &Finding) -> bool {
    let dropped = ["ETCD-ALARM", "ETCD-DOWNGRADE"].contains(&finding.code);
    finding.severity == Severity::Error && !finding.code.starts_with("SNAP-") && !dropped
}

/// What the pass that hashes came to.
#[derive(Debug)]
pub struct Hashed {
    /// What is known of the snapshot's integrity hash.
    pub verdict: Verdict,
    /// [`integrity::chunk_sums`] of the bytes that were hashed, or, when they were not, that would have been.
    pub sums: Vec<u32>,
}

/// Does `job` while the hash of `source` is compared on another core, unless that is waived. What `job` made of a
/// snapshot whose hash is wrong is dropped, and it is told to stop as soon as that is known; of two errors the one that
/// says more about the snapshot is returned, whichever came first. Damage says most: whoever looks for it does not use
/// the watch that `job` gets.
pub(crate) fn beside_hash<S: Source, T>(
    source: &S,
    path: &str,
    skip_hash_check: bool,
    watch: &dyn Watch,
    job: impl FnOnce(&dyn Watch) -> Result<T, RestoreError>,
) -> Result<(T, Hashed), RestoreError> {
    let stop = AtomicBool::new(false);
    let until = Until { watch, stop: &stop };
    let mut compared = None;
    let done = rayon::in_place_scope(|scope| {
        scope.spawn(|_| {
            let hashed = compare(source, path, skip_hash_check, &Unmetered(watch));
            let is_wrong = hashed.as_ref().map_or(true, |h| h.verdict.integrity == Integrity::Mismatch);
            stop.store(is_wrong, Ordering::Relaxed);
            compared = Some(hashed);
        });
        job(&until)
    });
    let hashed = compared.unwrap_or(Err(RestoreError::Interrupted));
    match (done, hashed) {
        (Err(RestoreError::Damaged { path, mut findings }), Ok(hashed)) => {
            findings.extend(hashed.verdict.finding());
            Err(RestoreError::Damaged { path, findings })
        }
        (Err(error @ (RestoreError::Examine(_) | RestoreError::MissingHash { .. })), _) => Err(error),
        (_, Err(error)) => Err(error),
        (
            _,
            Ok(Hashed {
                verdict:
                    Verdict {
                        integrity: Integrity::Mismatch,
                        expected: Some(expected),
                        computed: Some(computed),
                        ..
                    },
                ..
            }),
        ) => Err(RestoreError::HashMismatch {
            path: path.to_owned(),
            expected: expected.to_string(),
            computed: computed.to_string(),
        }),
        (done, Ok(hashed)) => done.map(|done| (done, hashed)),
    }
}

/// Passes everything on, and also tells when there is no use in going on.
pub(crate) struct Until<'a> {
    pub(crate) watch: &'a dyn Watch,
    pub(crate) stop: &'a AtomicBool,
}

impl Watch for Until<'_> {
    fn begin(&self, stage: &'static str, total_bytes: u64) {
        self.watch.begin(stage, total_bytes);
    }

    fn advance(&self, bytes: u64) {
        self.watch.advance(bytes);
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.watch.interrupted()
    }
}

fn compare<S: Source>(
    source: &S,
    path: &str,
    skip_hash_check: bool,
    watch: &dyn Watch,
) -> Result<Hashed, RestoreError> {
    let hash = || {
        let verdict = integrity::unchecked(source)?;
        if skip_hash_check || verdict.expected.is_none() {
            let sums = integrity::chunk_sums(source, verdict.image_bytes, watch)?;
            return Ok(Hashed { verdict, sums });
        }
        let (digest, sums) = integrity::sha256_and_sums(source, verdict.image_bytes, watch)?;
        Ok(Hashed { verdict: verdict.compared(digest), sums })
    };
    hash().map_err(|error| match error {
        HashingError::Interrupted => RestoreError::Interrupted,
        source @ HashingError::Source(_) => {
            RestoreError::Examine(StatusError::Hashing { path: path.to_owned(), source })
        }
    })
}

fn missing_hash(path: &str, len_bytes: u64) -> RestoreError {
    let hint = integrity::length_finding(len_bytes).map_or_else(
        || {
            ". A db copied from a data dir has none: --skip-hash-check restores it, or give it a hash with \
             'etcd-rescue snapshot hash --attach'"
                .to_owned()
        },
        |finding| {
            format!(": {}. If there is no other, --skip-hash-check restores what it holds", finding.message)
        },
    );
    RestoreError::MissingHash { path: path.to_owned(), len_bytes, hint }
}

fn target(wanted: Option<TargetVersion>, schema: &Schema) -> (TargetVersion, String) {
    match (wanted, schema.written_by()) {
        (Some(version), _) => (version, "asked for with --target-version".to_owned()),
        (None, Some((version, reason))) => (version, reason),
        (None, None) => {
            let reason =
                "nothing in the data tells which version wrote it; this layout boots on 3.5, 3.6 and 3.7";
            (TargetVersion::V3_5, reason.to_owned())
        }
    }
}
