//! Which log there is, and what it can be relied on for.

use bbolt::Watch;

use crate::log_files::{LogFiles, progress};
use crate::log_verify;
use crate::membership::hex_id;
use crate::mvcc::Release;
use crate::request::{self, Decoded};
use crate::salvage::SalvageError;
use crate::salvage::ground::Ground;
use crate::salvage::report::LogReport;
use crate::salvage::ways::{FromLogs, Small};
use crate::schema::{CLUSTER, CLUSTER_VERSION, META, STORAGE_VERSION, Schema, TERM};
use crate::target::minor_of;

/// A log that was read.
#[derive(Debug)]
pub(super) struct Read<'e> {
    pub(super) files: &'e LogFiles,
    pub(super) log: wal::Log,
}

/// Reads all logs, says what they are, and gives the one that goes furthest. Several of one member are of different times.
pub(super) fn newest<'e>(
    ground: &Ground<'e>,
    found: &mut FromLogs,
    watch: &dyn Watch,
) -> Result<Option<Read<'e>>, SalvageError> {
    let mut read = Vec::new();
    for input in &ground.evidence.logs {
        watch.begin("reading the log", input.len_bytes());
        let log = wal::log::read(input, &progress(watch)).map_err(|_| SalvageError::Interrupted)?;
        found.reports.push(LogReport {
            path: input.wal_dir().to_owned(),
            first_index: log.first_index(),
            last_index: log.last_index(),
            commit_index: (log.commit() > 0).then(|| log.commit()),
            notes: Vec::new(),
        });
        read.push(Read { files: input, log });
    }
    let furthest = |(_, read): &(usize, &Read<'_>)| (read.log.last_index(), read.log.commit());
    let Some((at, newest)) = read.iter().enumerate().max_by_key(furthest) else { return Ok(None) };
    for (other, report) in found.reports.iter_mut().enumerate() {
        if other != at {
            let own = |read: &Read<'_>| read.log.metadata.map(|of| (of.cluster_id(), of.node_id()));
            let is_other = read.get(other).is_some_and(|read| own(read) != own(newest));
            report.notes.push(match own(newest).filter(|_| is_other) {
                Some((_, id)) => format!(
                    "of another member or cluster than the log that goes furthest, which is that of member {}; it was left alone",
                    hex_id(id)
                ),
                None => "another log of this member goes further; this one was left alone".to_owned(),
            });
        }
    }
    let path = newest.files.wal_dir().display().to_string();
    let faults = log_verify::findings(&newest.log, newest.files);
    // What lies beside the log is salvaged, and need not be what a server would start on.
    let of_log = faults.into_iter().filter(|finding| finding.code.starts_with("WAL-"));
    found.findings.extend(
        of_log
            .filter(|finding| !finding.code.starts_with("WAL-DB-"))
            .map(|finding| finding.in_file(path.clone())),
    );
    Ok(read.into_iter().nth(at))
}

impl Read<'_> {
    /// The newest version that the cluster agreed on in the log.
    pub(super) fn cluster_version(&self) -> Option<String> {
        let mut version = None;
        crate::lone::each_standing(self.files, &self.log, 0, &mut |entry| {
            if entry.entry_type == 0 {
                version = version_set(entry.data).or(version.take());
            }
            std::ops::ControlFlow::Continue(())
        });
        version
    }

    /// Whether it begins with a member that had nothing, and has all entries since.
    pub(super) fn begins_with_nothing(&self) -> bool {
        self.begins_with_more().is_none()
    }

    /// Why the log alone makes no database, in words; `None` where it begins with a member that had nothing, and has all entries
    /// since.
    pub(super) fn begins_with_more(&self) -> Option<String> {
        let first = self.log.standing_runs().next().map(|run| run.first_index);
        if let Some(first) = first.filter(|first| *first > 1) {
            return Some(format!(
                "it begins with entry {first}, and what the entries before it wrote was in the database alone. An older database or \
                 snapshot of this member that reaches entry {} or a later one, given beside the log, would do",
                first - 1
            ));
        }
        let founding =
            self.log.conf_changes.iter().zip(1..).take_while(|(change, index)| change.value.index == *index);
        let founding = founding.count() as u64;
        let is_restored =
            self.log.snapshots.iter().any(|record| (1..=founding).contains(&record.value.index()));
        if first.is_none() || is_restored {
            return Some(
                "this member was restored from a snapshot: its log begins with its members, and all that was there before was in the \
                 database alone. Restore that snapshot once more, with the same flags and into another directory, and give the \
                 database that comes of it beside this log"
                    .to_owned(),
            );
        }
        None
    }

    /// The entries that can be read, as ranges, ascending.
    pub(super) fn readable(&self) -> Vec<(u64, u64)> {
        let runs = self.log.standing_runs();
        runs.filter_map(|run| Some((run.first_index, run.standing_last?))).collect()
    }

    /// The last entry that is known to be committed; the last of all where the member votes alone.
    pub(super) fn committed(&self, is_lone: bool) -> u64 {
        let commit = self.log.commit();
        if is_lone { commit.max(self.log.last_index().unwrap_or_default()) } else { commit }
    }
}

/// The cluster's version that an entry sets, `/0/version` of the v2 store up to 3.5.
fn version_set(data: &[u8]) -> Option<String> {
    let (path, value) = match request::decode(data) {
        Decoded::V3(request) if request.kind() == "cluster_version_set" => {
            let (_, asked) = request.message().children().find(|(field, _)| field.name == request.kind())?;
            return String::from_utf8(asked.data(1).to_vec()).ok();
        }
        Decoded::V3(request) if request.kind() == "v2" => {
            let (_, asked) = request.message().children().find(|(field, _)| field.name == "v2")?;
            (asked.data(3).to_vec(), asked.data(4).to_vec())
        }
        Decoded::V2(request) => (request.message().data(3).to_vec(), request.message().data(4).to_vec()),
        _ => return None,
    };
    (path == b"/0/version").then(|| String::from_utf8(value).ok()).flatten()
}

/// The release by whose rules the log is applied to an empty store: that which was asked for, else the newest of the minor version
/// that the cluster has come to.
pub(super) fn release_of(ground: &Ground<'_>, read: &Read<'_>, small: &Small) -> Release {
    if let Some(release) = ground.evidence.options.as_etcd {
        return release;
    }
    let row = |bucket: &[u8], key: &[u8]| small.buckets.get(bucket).and_then(|rows| rows.get(key));
    let text = |row: Option<&Vec<u8>>| row.map(|row| String::from_utf8_lossy(row).into_owned());
    let schema = Schema {
        storage_version: text(row(META, STORAGE_VERSION)).unwrap_or_default(),
        cluster_version: read
            .cluster_version()
            .filter(|version| minor_of(version).is_some_and(|minor| minor > 0))
            .or_else(|| text(row(CLUSTER, CLUSTER_VERSION)))
            .unwrap_or_default(),
        term: row(META, TERM).and_then(|row| row.as_slice().try_into().ok()).map(u64::from_be_bytes),
        ..Schema::default()
    };
    let written = schema.written_by().and_then(|(version, _)| version.to_string().parse().ok());
    written.unwrap_or(Release::NEWEST)
}
