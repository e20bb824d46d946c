//! Entries that the db does not have yet, and over which a server that applies them ends: seen with 3.4.23, 3.5.1 and 3.5.16.

use std::collections::BTreeMap;

use rayon::prelude::*;
use wal::log::{Log, Segments};
use wal::raftpb::{ConfChangeType, EntryType};
use wal::{Payload, read_segment};

use super::LogFacts;
use crate::boot::Release;
use crate::lone::Config;
use crate::request::{self, Decoded};
use crate::target::{TargetVersion, minor_of};

/// Most kinds that are kept of one segment; there are no more than a dozen but in a log that somebody made up.
const MOST_KINDS: usize = 64;

/// What is the matter with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadly {
    /// It is of no type that raft has.
    EntryType,
    /// Its data is no request.
    Undecodable,
    /// It asks for nothing that an etcd up to 3.7 knows.
    Unknown,
    /// Its request came with this minor version.
    Since(u32),
    /// It makes this minor version that of the cluster.
    Version(u32),
    /// It removes the member itself.
    Removal,
}

impl Deadly {
    /// The words in which a release ends over it; `None` where it does not.
    #[must_use]
    pub fn words(self, release: &Release, is_lone: bool) -> Option<&'static str> {
        let minor = release.minor.minor();
        match self {
            Self::EntryType => Some("EntryNormal or EntryConfChange"),
            Self::Undecodable => Some("unmarshal"),
            Self::Unknown => Some("not implemented"),
            Self::Since(since) => (minor < since).then_some("not implemented"),
            Self::Version(version) => (minor < version).then_some("lower than determined cluster version"),
            Self::Removal if is_lone => Some("removed all voters"),
            Self::Removal => Some("permanently removed"),
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn cause(self, index: u64) -> String {
        match self {
            Self::EntryType => {
                format!("entry {index}, which the db does not have yet, is of no type that raft has")
            }
            Self::Undecodable => {
                format!("the data of entry {index}, which the db does not have yet, is no request")
            }
            Self::Unknown => {
                format!(
                    "entry {index}, which the db does not have yet, asks for something that no etcd up to 3.7 knows"
                )
            }
            Self::Since(since) => {
                format!(
                    "entry {index}, which the db does not have yet, asks for something that came with 3.{since}"
                )
            }
            Self::Version(version) => {
                format!(
                    "entry {index}, which the db does not have yet, makes 3.{version} the version of the cluster"
                )
            }
            Self::Removal => format!("entry {index} removes this member from its cluster"),
        }
    }
}

impl LogFacts {
    /// The first entry up to `last` that a release ends over.
    #[must_use]
    pub fn ends_over(&self, release: &Release, last: u64) -> Option<(u64, &'static str, String)> {
        let of = |(what, index): &(Deadly, u64)| {
            Some((*index, what.words(release, self.is_lone(last))?, what.cause(*index)))
        };
        self.deadly
            .iter()
            .filter(|(_, index)| *index <= last)
            .filter_map(of)
            .min_by_key(|(index, _, _)| *index)
    }

    /// The last entry that a server applies by itself when it starts, of a log of which it reads entries up to `last` and knows
    /// that those up to `commit` are committed: one that alone votes commits them all.
    #[must_use]
    pub fn applied_alone(&self, commit: u64, last: u64) -> u64 {
        if self.is_lone(commit) { last } else { commit }
    }

    /// Whether the member alone votes at entry `index`, before it is removed itself.
    fn is_lone(&self, index: u64) -> bool {
        let removal = self.deadly.iter().find(|(what, _)| *what == Deadly::Removal);
        let upto = removal.map_or(index, |(_, removal)| index.min(removal.saturating_sub(1)));
        let Some(own) = self.report.log.metadata.map(|metadata| metadata.node_id()) else { return false };
        Config::of_log(&self.files, &self.report.log, upto)
            .is_some_and(|config| config.voters.into_iter().eq([own]))
    }
}

/// The first entry of each kind behind entry `from`, the db's last. A server begins again with the entry behind its snapshot,
/// `snapshot`, and is removed once more.
pub(super) fn deadly(log: &Log, segments: &impl Segments, from: u64, snapshot: u64) -> Vec<(Deadly, u64)> {
    let places: Vec<usize> = (0..log.segments.len())
        .filter(|at| log.runs.iter().any(|run| run.segment == *at && run.last_index > from))
        .collect();
    let of_segments: Vec<BTreeMap<Deadly, u64>> = places
        .par_iter()
        .with_max_len(1)
        .map(|at| {
            let piece = segments.piece(*at);
            let mut found = BTreeMap::new();
            for record in read_segment(&piece.bytes).flatten() {
                let Ok(Payload::Entry(entry)) = record.payload() else { continue };
                if entry.index <= from {
                    continue;
                }
                let what = if entry.entry_type == i32::from(EntryType::Normal) {
                    of_request(entry.data)
                } else {
                    [EntryType::try_from(entry.entry_type).is_err().then_some(Deadly::EntryType), None]
                };
                for what in what.into_iter().flatten() {
                    if (found.len() < MOST_KINDS || found.contains_key(&what))
                        && !log.is_overwritten(*at, record.offset, entry.index)
                    {
                        let first = found.entry(what).or_insert(entry.index);
                        *first = entry.index.min(*first);
                    }
                }
            }
            found
        })
        .collect();
    let own = log.metadata.map(|metadata| metadata.node_id());
    let removal = log.conf_changes.iter().find(|located| {
        let entry = &located.value;
        entry.index > snapshot.min(from)
            && Some(entry.change.node_id()) == own
            && entry.change.change_type() == i32::from(ConfChangeType::RemoveNode)
            && !log.is_overwritten(located.segment, located.offset, entry.index)
    });
    let mut all: BTreeMap<Deadly, u64> = BTreeMap::new();
    let removal = removal.map(|located| (Deadly::Removal, located.value.index));
    for (what, index) in of_segments.into_iter().flatten().chain(removal) {
        let first = all.entry(what).or_insert(index);
        *first = index.min(*first);
    }
    all.into_iter().collect()
}

/// What is the matter with a request: it may be unknown to one release, and more than another can do.
fn of_request(data: &[u8]) -> [Option<Deadly>; 2] {
    let since = |version: TargetVersion| Some(Deadly::Since(version.minor()));
    match request::decode(data) {
        Decoded::Nothing => [None; 2],
        Decoded::Undecodable { .. } => [Some(Deadly::Undecodable), None],
        Decoded::V2(request) => {
            let (method, path, value) = (2, 3, 4);
            let asked = request.message();
            let is_version = asked.data(method) == b"PUT" && asked.data(path) == b"/0/version";
            [is_version.then(|| version(asked.data(value))).flatten(), None]
        }
        Decoded::V3(request) => match request.kind() {
            "none" => [Some(Deadly::Unknown), None],
            "cluster_version_set" => {
                let set = request.message().message(1300);
                [since(TargetVersion::V3_5), set.and_then(|set| version(set.data(1)))]
            }
            "cluster_member_attr_set" | "downgrade_info_set" => [since(TargetVersion::V3_5), None],
            "downgrade_version_test" => [since(TargetVersion::V3_6), None],
            _ => [None; 2],
        },
    }
}

fn version(text: &[u8]) -> Option<Deadly> {
    let minor = minor_of(std::str::from_utf8(text).ok()?)?;
    (minor > TargetVersion::V3_4.minor()).then_some(Deadly::Version(minor))
}
