//! What each etcd version does with a log, its snapshots and its db when it starts, told from the files alone
//! (FORMATS E.4 to E.8, F, X 29-43).
//!
//! [`verdicts`] follows a server's own steps: it reads every segment for snapshot records (`ValidSnapshotEntries`), picks a
//! snapshot, holds it against the db, picks the segments, reads them (`ReadAll`), cuts a torn tail off the last one
//! (`Repair`), and hands hard state and entries to raft. What comes after that, applying entries, is told only as far as
//! [`Scene`] has facts about it: the version gate, and requests that a version no longer knows.
//!
//! The claims for 3.4 and 3.5 were booted: `testdata/log-boots` has what the servers did with each row of the table of
//! damage, and a test holds these verdicts against it. Those for 3.6 and 3.7 follow the source of 3.6.14 and 3.7.1.

mod beside;
mod gogo;
mod reading;

use std::ops::RangeInclusive;

use crate::target::TargetVersion;
pub use beside::Beside;
use reading::{Break, Reading, Stop};

/// The files of one member, as far as a start depends on them.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The log.
    pub log: &'a wal::Log,
    /// The same log's bytes: those of a broken record are looked at again.
    pub segments: &'a dyn wal::Segments,
    /// Whether the log's directory has names that end in `.wal` and are no segment's. With these alone a server takes the
    /// log for existing and does not start; without any it founds a new cluster.
    pub stray_wal_names: bool,
    /// Index and term that each readable `.snap` file has in it, in descending order of the files' names.
    pub snaps: &'a [SnapshotPoint],
    /// The indexes of the `.snap.db` files: databases that were received from a leader.
    pub received_dbs: &'a [u64],
    /// The consistent index of the db; 0 when it has none, `None` without a db.
    pub consistent_index: Option<u64>,
    /// The minor version the cluster had agreed on (`3.5.0` is 5), as the db has it.
    pub cluster_minor: Option<u32>,
    /// The index of the last entry whose request has the form of the v2 API, which 3.7 no longer knows. Every 3.4 and 3.5
    /// member writes some when it starts.
    pub last_v2_request: Option<u64>,
}

/// A snapshot's place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct SnapshotPoint {
    /// The last entry in it.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
}

/// Releases that start in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Release {
    /// Their minor version.
    pub minor: TargetVersion,
    /// Which patch releases.
    pub patches: &'static str,
    /// The release that was booted to know; `None` for what is taken from the source.
    pub booted: Option<&'static str>,
    /// Records of 10 MiB and more are refused, and so is a length word that says so.
    #[serde(skip)]
    limits_records: bool,
}

/// All releases, oldest first.
pub const RELEASES: [Release; 5] = [
    Release {
        minor: TargetVersion::V3_4,
        patches: "3.4.10 and later",
        booted: Some("3.4.23"),
        limits_records: true,
    },
    Release {
        minor: TargetVersion::V3_5,
        patches: "3.5.0 to 3.5.4",
        booted: Some("3.5.1"),
        limits_records: true,
    },
    Release {
        minor: TargetVersion::V3_5,
        patches: "3.5.5 and later",
        booted: Some("3.5.16"),
        limits_records: false,
    },
    Release { minor: TargetVersion::V3_6, patches: "3.6", booted: None, limits_records: false },
    Release { minor: TargetVersion::V3_7, patches: "3.7", booted: None, limits_records: false },
];

/// What one release does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Which release.
    pub release: Release,
    /// What it does.
    pub start: Start,
}

/// How a start goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Start {
    /// The server starts with the log as it is, or as much of it as it sees.
    Starts(Found),
    /// The server cuts the last segment at a record that was never wholly written, keeps a copy named `.broken`, and starts.
    StartsAfterCut {
        /// What is left.
        #[serde(flatten)]
        found: Found,
        /// The segment's name.
        file: String,
        /// The file offset of the cut.
        offset: u64,
        /// How many bytes are cut off.
        dropped_bytes: u64,
    },
    /// The server finds no log, takes the member for a new one, and founds a cluster on whatever is in the db.
    FoundsNewCluster,
    /// The server ends.
    Fails {
        /// Words it prints then, by which the case is found in its output; numbers and names stand around them.
        words: &'static str,
        /// What it stumbles over.
        cause: String,
    },
}

/// What a server finds when it starts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// The snapshot it starts from; index 0 for the log's beginning.
    pub snapshot: SnapshotPoint,
    /// The commit index of its hard state; that of the snapshot where it has none.
    pub commit: u64,
    /// The last entry.
    pub last: SnapshotPoint,
    /// Entries behind that which are in the files and which the server does not see, or cuts off.
    pub lost: Option<RangeInclusive<u64>>,
    /// Whether raft then knows of no voter: no snapshot, and no entry up to the commit that adds one. The server runs and serves
    /// nobody; only a leader of its cluster can tell it who votes, as one does with a member that has just joined.
    pub voterless: bool,
    /// The db's consistent index, where it lies beyond the last entry: the server starts all the same, and passes over
    /// every new entry up to that index without applying it.
    pub db_ahead: Option<u64>,
}

/// What each of [`RELEASES`] does, in that order.
#[must_use]
pub fn verdicts(scene: &Scene<'_>) -> Vec<Verdict> {
    let reading = Reading::of(scene);
    RELEASES
        .into_iter()
        .map(|release| {
            let start = start(scene, &reading, &release)
                .unwrap_or_else(|stumble| Start::Fails { words: stumble.words, cause: stumble.cause });
            Verdict { release, start }
        })
        .collect()
}

/// Why a server ends.
struct Stumble {
    words: &'static str,
    cause: String,
}

impl Stumble {
    fn over(words: &'static str, cause: impl Into<String>) -> Self {
        Self { words, cause: cause.into() }
    }

    /// A break in the log.
    fn at(stop: &Stop, scene: &Scene<'_>) -> Self {
        let words = match &stop.what {
            Break::UnexpectedEnd | Break::MessageEnd => "unexpected EOF",
            Break::TooLarge => "max entry size limit exceeded",
            Break::NotARecord => "proto: ",
            Break::Crc | Break::Chain => "crc mismatch",
            Break::BlockType => "unexpected block type",
            Break::Metadata => "conflicting metadata found",
            Break::Payload | Break::PayloadOfState => "unmarshal",
            Break::Unreadable => "input/output error",
        };
        let name = scene.log.segments.get(stop.segment).map_or("", |facts| facts.name.name.as_str());
        Self::over(words, format!("{name} at {:#x}: {}", stop.offset, stop.why))
    }
}

fn start(scene: &Scene<'_>, reading: &Reading, release: &Release) -> Result<Start, Stumble> {
    let names = &scene.log.segments;
    if names.is_empty() {
        return if scene.stray_wal_names {
            Err(Stumble::over("file not found", "no name in the log's directory is a segment's"))
        } else {
            Ok(Start::FoundsNewCluster)
        };
    }
    let stop = reading.stop(release);
    let stop = stop.as_ref();
    if let Some(stop) = stop.filter(|stop| stop.what != Break::UnexpectedEnd) {
        return Err(Stumble::at(stop, scene));
    }
    let snapshot = pick_snapshot(scene, reading, release)?;
    let first = names.iter().rposition(|facts| facts.name.index <= snapshot.index).ok_or_else(|| {
        Stumble::over(
            "file not found",
            format!(
                "no segment begins at or before entry {}, that of the snapshot to start from",
                snapshot.index
            ),
        )
    })?;
    sequence(scene, first, release)?;
    let entries = reading.entries_from(first, snapshot, stop).map_err(|stumble| match stumble {
        reading::Refused::Stop(stop) => Stumble::at(&stop, scene),
        reading::Refused::Gap { segment, after, found } => Stumble::over(
            "slice bounds out of range",
            format!(
                "{}: entry {found} follows entry {after}",
                names.get(segment).map_or("", |facts| facts.name.name.as_str())
            ),
        ),
    })?;
    let cut = match stop {
        Some(stop) if stop.segment + 1 < names.len() => return Err(Stumble::at(stop, scene)),
        cut => cut,
    };
    let metadata = scene.log.metadata.filter(|_| reading.has_metadata(first));
    if metadata.is_none_or(|metadata| metadata.node_id() == 0) {
        return Err(Stumble::over("cannot use none as id", "no metadata record says which member this is"));
    }
    let commit = reading.hard_state(first).map_or(snapshot.index, |state| state.commit());
    if commit < snapshot.index || commit > entries.last.index {
        return Err(Stumble::over(
            "is out of range",
            format!("commit {commit} lies outside of {} to {}", snapshot.index, entries.last.index),
        ));
    }
    let last = entries.last;
    after_raft(scene, release, snapshot, last.index)?;
    let known = scene.log.last_index().unwrap_or_default();
    let found = Found {
        snapshot,
        commit,
        last,
        lost: last.index.checked_add(1).map(|next| next..=known).filter(|lost| !lost.is_empty()),
        voterless: release.minor < TargetVersion::V3_7
            && snapshot.index == 0
            && !reading.adds_a_member(commit),
        db_ahead: scene.consistent_index.filter(|index| *index > last.index),
    };
    let Some(cut) = cut else { return Ok(Start::Starts(found)) };
    let facts = names.get(cut.segment);
    Ok(Start::StartsAfterCut {
        found,
        file: facts.map(|facts| facts.name.name.clone()).unwrap_or_default(),
        offset: cut.offset,
        dropped_bytes: facts.map_or(0, |facts| facts.len_bytes).saturating_sub(cut.offset),
    })
}

/// The snapshot a server starts from, and whether the db goes with it.
fn pick_snapshot(scene: &Scene<'_>, reading: &Reading, release: &Release) -> Result<SnapshotPoint, Stumble> {
    let recorded = reading.valid_snapshots();
    let picked = if release.minor >= TargetVersion::V3_7 {
        recorded.last().copied()
    } else {
        scene.snaps.iter().find(|snap| recorded.contains(snap)).copied()
    };
    let snapshot = picked.unwrap_or(SnapshotPoint { index: 0, term: 0 });
    let db = scene.consistent_index.unwrap_or_default();
    if snapshot.index > db && !scene.received_dbs.contains(&snapshot.index) {
        let missing = format!("{:016x}.snap.db", snapshot.index);
        return Err(Stumble::over(
            "failed to find database snapshot file",
            format!(
                "the snapshot at entry {} is newer than the db ({db}), and there is no {missing}",
                snapshot.index
            ),
        ));
    }
    Ok(snapshot)
}

/// A server looks at the numbers of the segments from the first it reads, and not at what follows number 0.
fn sequence(scene: &Scene<'_>, first: usize, release: &Release) -> Result<(), Stumble> {
    let mut before: Option<&wal::SegmentName> = None;
    for facts in scene.log.segments.iter().skip(first) {
        if let Some(before) = before
            && before.seq != 0
            && before.seq.checked_add(1) != Some(facts.name.seq)
        {
            let words = if release.minor >= TargetVersion::V3_6 {
                "do not increase continuously"
            } else {
                "file not found"
            };
            return Err(Stumble::over(words, format!("{} follows {}", facts.name.name, before.name)));
        }
        before = Some(&facts.name);
    }
    Ok(())
}

/// What is known of the time after raft has its log.
fn after_raft(
    scene: &Scene<'_>,
    release: &Release,
    snapshot: SnapshotPoint,
    last_index: u64,
) -> Result<(), Stumble> {
    let changes = scene.log.conf_changes_v2.iter().filter(|located| {
        let index = located.value.index;
        snapshot.index < index
            && index <= last_index
            && !scene.log.is_overwritten(located.segment, located.offset, index)
    });
    if let Some(change) = changes.map(|located| located.value.index).next() {
        return Err(Stumble::over(
            "EntryNormal or EntryConfChange",
            format!("entry {change} is a change of several members at once, which no server applies"),
        ));
    }
    if let Some(cluster) = scene.cluster_minor.filter(|cluster| *cluster > release.minor.minor()) {
        return Err(Stumble::over(
            "lower than determined cluster version",
            format!("the cluster had agreed on 3.{cluster}, which {} does not speak", release.minor),
        ));
    }
    if release.minor >= TargetVersion::V3_7 {
        if !scene.log.segments.is_empty() && scene.log.snapshots.is_empty() {
            return Err(Stumble::over("nil pointer dereference", "the log has no snapshot record at all"));
        }
        if let Some(index) = scene.last_v2_request.filter(|index| *index > snapshot.index) {
            return Err(Stumble::over(
                "unmarshal",
                format!(
                    "entry {index} behind the snapshot is a request of the v2 API; a snapshot taken by 3.6 is needed first"
                ),
            ));
        }
    }
    Ok(())
}
