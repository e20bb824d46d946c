//! What a server would do with the log, as far as the files tell.

use bbolt::Watch;
use rayon::prelude::*;
use wal::log::{Log, Segments};
use wal::raftpb::EntryType;
use wal::{Payload, read_segment};

use super::LogReport;
use super::beside::valid_records;
use crate::boot::{Beside, Scene, SnapshotPoint, Start, verdicts};
use crate::log_files::{LogFiles, LogFilesError};
use crate::request::{self, Decoded};
use crate::target::TargetVersion;

/// Fills in what each release does.
pub(super) fn foretell(
    report: &mut LogReport,
    files: &LogFiles,
    watch: &dyn Watch,
) -> Result<(), LogFilesError> {
    let database = match &report.database {
        Some(Err(_)) => return Ok(()),
        Some(Ok(database)) => Some(&database.schema),
        None => None,
    };
    if files.is_single_segment() {
        return Ok(());
    }
    let log = &report.log;
    let mut beside = Beside::of(files, database);
    report.supposes_snaps = files.snap_dir().is_none();
    if report.supposes_snaps {
        let points = valid_records(log).filter(|record| record.value.index() > 0);
        beside.snaps =
            points.map(|at| SnapshotPoint { index: at.value.index(), term: at.value.term() }).rev().collect();
        beside.consistent_index = beside.snaps.iter().map(|point| point.index).max();
    }
    let mut scene = beside.scene(log, files);
    let mut found = verdicts(&scene);
    // Reading every request again is for the one release that cares, and only where nothing else keeps it from starting.
    let newest = found.iter().find(|verdict| verdict.release.minor == TargetVersion::V3_7);
    if let Some(Start::Starts(start) | Start::StartsAfterCut { found: start, .. }) =
        newest.map(|verdict| &verdict.start)
    {
        scene = Scene { last_v2_request: last_v2_request(log, files, start.snapshot.index, watch)?, ..scene };
        if scene.last_v2_request.is_some() {
            found = verdicts(&scene);
        }
    }
    report.verdicts = found;
    Ok(())
}

/// The last entry behind `from` whose request has the form of the v2 API.
fn last_v2_request(
    log: &Log,
    files: &LogFiles,
    from: u64,
    watch: &dyn Watch,
) -> Result<Option<u64>, LogFilesError> {
    let places: Vec<usize> = (0..log.segments.len())
        .filter(|at| log.runs.iter().any(|run| run.segment == *at && run.last_index > from))
        .collect();
    let found: Result<Vec<Option<u64>>, LogFilesError> = places
        .par_iter()
        .with_max_len(1)
        .map(|at| {
            if watch.interrupted() {
                return Err(LogFilesError::Interrupted);
            }
            let piece = files.piece(*at);
            let indexes = read_segment(&piece.bytes).flatten().filter_map(|record| {
                let Ok(Payload::Entry(entry)) = record.payload() else { return None };
                let is_v2 = entry.index > from
                    && entry.entry_type == i32::from(EntryType::Normal)
                    // The ID, which servers always write first. What begins otherwise need not be taken apart.
                    && entry.data.first() == Some(&0x08)
                    && matches!(request::decode(entry.data), Decoded::V2(_))
                    && !log.is_overwritten(*at, record.offset, entry.index);
                is_v2.then_some(entry.index)
            });
            Ok(indexes.max())
        })
        .collect();
    Ok(found?.into_iter().flatten().max())
}
