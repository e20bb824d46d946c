//! The entries that change who belongs to a cluster, out of all of a log: few among many, so that all cores look for them, and
//! only they are kept.

use rayon::prelude::*;
use wal::log::{Log, Segments};
use wal::raftpb::EntryType;
use wal::{EntryRef, Payload, read_segment};

use crate::log_files::LogFiles;
use crate::mvcc::Release;
use crate::replay::Cluster;
use crate::request::{self, Decoded};

/// An entry that is none of the key space's.
struct Kept {
    index: u64,
    term: u64,
    entry_type: i32,
    data: Vec<u8>,
}

/// Makes `cluster` follow the entries behind the first index up to the second.
pub(super) fn follow(
    cluster: &mut Cluster,
    files: &LogFiles,
    log: &Log,
    (since, up_to): (u64, u64),
    release: Release,
) {
    for Kept { index, term, entry_type, data } in between(files, log, since, up_to) {
        cluster.follow(&EntryRef { entry_type, index, term, data: &data }, release);
    }
}

/// The index of the first entry behind `since` up to `up_to` that changes members or version.
pub(super) fn first(files: &LogFiles, log: &Log, since: u64, up_to: u64) -> Option<u64> {
    between(files, log, since, up_to).first().map(|kept| kept.index)
}

/// Those that stand in the log, in the order of their indexes.
fn between(files: &LogFiles, log: &Log, since: u64, up_to: u64) -> Vec<Kept> {
    let is_asked_for = |index: u64| index > since && index <= up_to;
    let places: Vec<usize> = (0..log.segments.len())
        .filter(|at| {
            let mut runs = log.runs.iter().filter(|run| run.segment == *at);
            runs.any(|run| run.first_index <= up_to && run.standing_last.is_some_and(|last| last > since))
        })
        .collect();
    let of_segments: Vec<Vec<Kept>> = places
        .par_iter()
        .with_max_len(1)
        .map(|at| {
            let piece = files.piece(*at);
            let mut kept = Vec::new();
            for record in read_segment(&piece.bytes).flatten() {
                let Ok(Payload::Entry(entry)) = record.payload() else { continue };
                if is_asked_for(entry.index)
                    && concerns_members(&entry)
                    && !log.is_overwritten(*at, record.offset, entry.index)
                {
                    let EntryRef { entry_type, index, term, data } = entry;
                    kept.push(Kept { index, term, entry_type, data: data.to_vec() });
                }
            }
            kept
        })
        .collect();
    let mut all: Vec<Kept> = of_segments.into_iter().flatten().collect();
    all.sort_by_key(|kept| kept.index);
    all.dedup_by_key(|kept| kept.index);
    all
}

fn concerns_members(entry: &EntryRef<'_>) -> bool {
    const METHOD: i32 = 2;
    const PATH: i32 = 3;
    if entry.entry_type == EntryType::ConfChange as i32 {
        return true;
    }
    if entry.entry_type != EntryType::Normal as i32 {
        return false;
    }
    match request::decode(entry.data) {
        Decoded::V2(request) => {
            let asked = request.message();
            asked.data(METHOD) == b"PUT" && asked.data(PATH).starts_with(b"/0/")
        }
        Decoded::V3(request) => matches!(
            request.kind(),
            "v2" | "cluster_version_set" | "cluster_member_attr_set" | "downgrade_info_set"
        ),
        Decoded::Nothing | Decoded::Undecodable { .. } => false,
    }
}
