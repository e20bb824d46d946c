//! Where a log can begin: at a tree that is sound, or at an empty store.

use std::collections::BTreeMap;

use bbolt::graft::Pairs;
use bbolt::{Db, Watch};

use super::made::{Made, NotMade, make, unreadable};
use super::reading::{Read, release_of};
use super::verify::{Verified, verify};
use crate::finding::{Finding, Severity};
use crate::mvcc::Store;
use crate::replay::range::{Bound, Range, WhyLeftOut};
use crate::replay::small::Name;
use crate::salvage::SalvageError;
use crate::salvage::ground::{Ground, Selection};
use crate::salvage::report::{BucketOrigin, BucketReport, WayKind};
use crate::salvage::small;
use crate::salvage::sweep::Trust;
use crate::salvage::ways::{Base, FromLogs, LogWay, Small};
use crate::schema::{AUTH_REVISION, META, STORAGE_VERSION};

/// That a log is of another cluster than the database.
const FOREIGN_LOG: &str = "SALVAGE-LOG-FOREIGN";

/// A base that is to be tried.
pub(super) struct Attempt<'a> {
    pub(super) kind: WayKind,
    pub(super) tree: Option<usize>,
    /// What it is called, as in "the log, applied to …".
    pub(super) called: String,
    /// The small buckets of the base.
    pub(super) small: &'a Small,
    /// What the log has to do with the records of the base.
    pub(super) origin: Origin,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// It is a way, or the base is one by itself.
    Held,
    /// The log goes with the base, but the entries behind that cannot be applied.
    Broken,
    /// It is none.
    Refused,
    /// The log is that of another cluster.
    Foreign,
}

/// What the log has to do with the records of a base.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    /// Main revisions that the log made or says the same of, as ranges.
    pub(super) from_log: Vec<(i64, i64)>,
    /// Main revisions with records that are made from the log and may be wrong, as ranges.
    pub(super) doubtful: Vec<(i64, i64)>,
    /// Whether what is missing may make what is applied to it come out otherwise.
    pub(super) is_incomplete: bool,
    /// Parts of the key space of which nothing says everything.
    pub(super) open_holes: u64,
    /// What is to be known of it, one sentence each.
    pub(super) notes: Vec<String>,
}

/// Tries the log on every sound tree, the newest first, until it holds; what came of it at best.
pub(super) fn on_trees(
    ground: &Ground<'_>,
    read: &Read<'_>,
    found: &mut FromLogs,
    watch: &dyn Watch,
) -> Result<Tried, SalvageError> {
    let trees = ground.evidence.trees.iter().enumerate();
    let mut sound: Vec<(usize, u64)> = trees
        .filter(|(_, tree)| tree.is_sound)
        .filter_map(|(number, tree)| Some((number, tree.facts.consistent_index?)))
        .collect();
    sound.sort_by_key(|(number, index)| (std::cmp::Reverse(*index), *number));
    let mut is_foreign = false;
    for (number, index) in sound {
        let called = format!("the tree at entry {index}");
        let small = small::gather(ground, Selection::Tree(number), watch)?;
        let attempt = Attempt {
            kind: WayKind::TreeAndLog,
            tree: Some(number),
            called,
            small: &small,
            origin: Origin::default(),
        };
        // The release that wrote it is told by the base.
        let release = ground.evidence.options.as_etcd;
        match attempt.run(ground, read, (Base::Tree(number), release), found, watch)? {
            Tried::Held => return Ok(Tried::Held),
            Tried::Foreign => is_foreign = true,
            Tried::Broken | Tried::Refused => {}
        }
    }
    Ok(if is_foreign { Tried::Foreign } else { Tried::Refused })
}

/// Tries the log on an empty store, where it has everything from the first entry on; whether that held.
pub(super) fn on_nothing(
    ground: &Ground<'_>,
    read: &Read<'_>,
    found: &mut FromLogs,
    watch: &dyn Watch,
) -> Result<bool, SalvageError> {
    if let Some(why) = read.begins_with_more() {
        found.not_alone = Some(why);
        return Ok(false);
    }
    let known = small::gather(ground, Selection::Leaves, watch)?;
    let release = release_of(ground, read, &known);
    let small = first(&known);
    let called = "an empty store".to_owned();
    let attempt =
        Attempt { kind: WayKind::LogAlone, tree: None, called, small: &small, origin: Origin::default() };
    Ok(attempt.run(ground, read, (Base::Empty, Some(release)), found, watch)? == Tried::Held)
}

/// The small buckets of a store that a server has made and nobody has written to.
fn first(known: &Small) -> Small {
    let mut buckets: BTreeMap<Vec<u8>, Pairs> =
        Name::ALL.iter().map(|name| (name.bytes().to_vec(), Pairs::new())).collect();
    let revision = (AUTH_REVISION.to_vec(), 1_u64.to_be_bytes().to_vec());
    buckets.insert(Name::Auth.bytes().to_vec(), [revision].into());
    // No entry says which schema it is: servers from 3.6 on see to that beside the log.
    let version = known.buckets.get(META).and_then(|rows| rows.get(STORAGE_VERSION));
    if let Some(version) = version {
        let row = (STORAGE_VERSION.to_vec(), version.clone());
        buckets.insert(Name::Meta.bytes().to_vec(), [row].into());
    }
    Small { buckets, ..Small::default() }
}

impl Attempt<'_> {
    /// Applies the log to the base and holds what comes of it against all that survived; whether that held.
    fn run(
        &self,
        ground: &Ground<'_>,
        read: &Read<'_>,
        (base, release): (Base, Option<crate::mvcc::Release>),
        found: &mut FromLogs,
        watch: &dyn Watch,
    ) -> Result<Tried, SalvageError> {
        let source = ground.build_base(base, self.small, watch)?;
        let base_revision = revision_of(&source)?;
        self.try_on(ground, read, (source, base_revision), release, found, watch)
    }

    /// As [`Self::run`], of a base that is there.
    pub(super) fn try_on(
        &self,
        ground: &Ground<'_>,
        read: &Read<'_>,
        (source, base_revision): (bbolt::FileSource, i64),
        release: Option<crate::mvcc::Release>,
        found: &mut FromLogs,
        watch: &dyn Watch,
    ) -> Result<Tried, SalvageError> {
        let made = match make(ground, read, source, release, watch) {
            Ok(made) => made,
            Err(NotMade::Failed(error)) => return Err(error),
            Err(NotMade::Refused(why)) => {
                self.refuse(found, &why);
                return Ok(Tried::Refused);
            }
            Err(NotMade::Foreign(why)) => {
                let message = format!("{why}: it was not used");
                if !found.findings.iter().any(|finding| finding.code == FOREIGN_LOG) {
                    found.findings.push(Finding::new(FOREIGN_LOG, Severity::Error, message));
                }
                self.refuse(found, &why);
                return Ok(Tried::Foreign);
            }
            Err(NotMade::Broken(why, needed)) => {
                found.committed = found.committed.max(needed).max(read.committed(false));
                self.refuse(found, &why);
                return Ok(Tried::Broken);
            }
        };
        // Where the log has nothing behind the base, the base is a way of its own.
        let committed = read.committed(made.range.is_lone);
        if made.fold.is_none() && self.kind == WayKind::TreeAndLog {
            found.committed = found.committed.max(committed);
            return Ok(Tried::Held);
        }
        let tried = self.offer(ground, made, base_revision, found, watch)?;
        // What goes with an empty store and with nothing that survived is another member's.
        if tried == Tried::Held || self.kind != WayKind::LogAlone {
            found.committed = found.committed.max(committed);
        }
        Ok(tried)
    }

    /// Takes the base as it is, at entry `index`, with nothing of the log applied to it.
    pub(super) fn stand_on(
        &self,
        ground: &Ground<'_>,
        read: &Read<'_>,
        (source, base_revision, index): (bbolt::FileSource, i64, u64),
        found: &mut FromLogs,
        watch: &dyn Watch,
    ) -> Result<Tried, SalvageError> {
        let range = Range {
            after: index,
            last: index,
            bound: Bound::ConsistentIndex,
            log_first: read.log.first_index(),
            log_last: read.log.last_index().unwrap_or_default(),
            commit: read.log.commit(),
            is_lone: false,
            left_out: Vec::new(),
        };
        self.offer(ground, Made { db: source, fold: None, range }, base_revision, found, watch)
    }

    /// Holds what was made against all that survived, and makes it a way if that holds.
    fn offer(
        &self,
        ground: &Ground<'_>,
        made: Made,
        base_revision: i64,
        found: &mut FromLogs,
        watch: &dyn Watch,
    ) -> Result<Tried, SalvageError> {
        let verified = verify(ground, &made.db, base_revision, watch)?;
        if !verified.holds() {
            let first = verified.first_differing.unwrap_or_default();
            self.refuse(
                found,
                &format!(
                    "of the records that survived {} differ from what it makes and {} do not, the first that does at revision {first}: \
                     the entries were proposed to another store",
                    verified.differing, verified.equal
                ),
            );
            return Ok(Tried::Refused);
        }
        let way = self.way(made, base_revision, &verified)?;
        found.last_revision = found.last_revision.max(way.last_revision);
        if self.kind == WayKind::LogAlone {
            // It says all that there ever was. What survived and differs is damaged, and so is what was made with it.
            if verified.differing > 0 || verified.absent > 0 {
                found.ways.clear();
            }
            found.missing = found.missing.max(verified.absent);
            found.says.told = vec![(1, way.last_revision)];
            found.says.denied.extend(verified.denied);
            found.says.denied.sort_unstable();
            found.says.denied.dedup();
        }
        found.ways.push(way);
        Ok(Tried::Held)
    }

    fn refuse(&self, found: &mut FromLogs, why: &str) {
        let message = format!("the log, applied to {}, is no way out: {why}", self.called);
        if let Some(report) = found.reports.iter_mut().max_by_key(|report| report.last_index) {
            report.notes.push(message);
        }
    }

    fn way(&self, made: Made, base_revision: i64, verified: &Verified) -> Result<LogWay, SalvageError> {
        let Made { db, fold, range } = made;
        let last_revision = revision_of(&db)?;
        let mut notes = self.origin.notes.clone();
        if fold.is_some() {
            notes.push(format!(
                "the log, applied to {}: entries {} to {}, revisions {} to {last_revision}",
                self.called,
                range.after.saturating_add(1),
                range.last,
                base_revision.saturating_add(1)
            ));
            notes.push(match verified.equal {
                0 => "nothing survived that this could be held against".to_owned(),
                equal => format!("{equal} record(s) that survived say the same"),
            });
        }
        notes.extend(left_out(&range));
        let mut findings = Vec::new();
        let mut doubtful = self.origin.doubtful.clone();
        if self.origin.is_incomplete && last_revision > base_revision {
            doubtful.push((base_revision.saturating_add(1), last_revision));
            notes.push(
                "what the log was applied to lacks something, so that what it made may have come out otherwise".to_owned(),
            );
        }
        if verified.differing > 0 {
            let message = format!(
                "{} record(s) that were found differ from what the log says, the first at revision {}; the log is believed, whose checksums \
                 hold",
                verified.differing,
                verified.first_differing.unwrap_or_default()
            );
            findings.push(Finding::new("SALVAGE-DISAGREE", Severity::Warning, message));
        }
        if verified.last_seen > last_revision {
            let message = format!(
                "records were found up to revision {}, and the log leads to {last_revision} only: its end is lost, or was not known to be \
                 committed",
                verified.last_seen
            );
            findings.push(Finding::new("SALVAGE-LOG-SHORT", Severity::Warning, message));
        }
        if let Some(fold) = &fold {
            findings.extend(fold.findings.iter().cloned());
        }
        findings.extend(self.small.findings.iter().cloned());
        Ok(LogWay {
            kind: self.kind,
            tree: self.tree,
            small: self.reports(&db)?,
            small_lost: self.small.lost,
            from_log: self.origin.from_log.clone(),
            doubtful,
            open_holes: self.origin.open_holes,
            db,
            base_revision,
            last_revision,
            last_entry: range.last,
            notes,
            findings,
        })
    }

    /// The small buckets in `db`, by what they were before.
    fn reports(&self, db: &bbolt::FileSource) -> Result<Vec<BucketReport>, SalvageError> {
        let db = Db::from_source(db).map_err(|error| unreadable(&error.to_string()))?;
        let now = crate::replay::small::Small::read(&db).map_err(|error| unreadable(&error.to_string()))?;
        let report = |name: Name| {
            let shown = String::from_utf8_lossy(name.bytes()).into_owned();
            let before = self.small.reports.iter().find(|report| report.name == shown);
            let is_changed = self.small.buckets.get(name.bytes()) != Some(now.rows(name));
            let of_log = BucketReport {
                name: shown.clone(),
                rows: now.rows(name).len() as u64,
                from: BucketOrigin::Log,
                trust: Trust::Confirmed,
                lost_rows: 0,
                notes: Vec::new(),
            };
            match before {
                None => of_log,
                Some(before) if is_changed => BucketReport {
                    trust: before.trust,
                    lost_rows: before.lost_rows,
                    notes: before.notes.clone(),
                    ..of_log
                },
                Some(before) => before.clone(),
            }
        };
        let mut reports: Vec<BucketReport> = Name::ALL.into_iter().map(report).collect();
        reports.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(reports)
    }
}

/// What a range leaves out, and why.
fn left_out(range: &Range) -> Vec<String> {
    let told = range.left_out.iter().filter(|left| left.why != WhyLeftOut::Asked);
    told.map(|left| {
        format!(
            "entries {} to {} of the log are left out: {}",
            left.entries.start(),
            left.entries.end(),
            left.why.words()
        )
    })
    .collect()
}

/// The store's revision in a database that was made here.
pub(super) fn revision_of(db: &bbolt::FileSource) -> Result<i64, SalvageError> {
    let db = Db::from_source(db).map_err(|error| unreadable(&error.to_string()))?;
    let store =
        Store::read(&db, crate::mvcc::Release::NEWEST).map_err(|fault| unreadable(&fault.to_string()))?;
    Ok(store.current_revision)
}
