//! Records behind the end of a member's log: what may be put there, and how it is put there byte for byte as etcd does.

use wal::log::{Log, Reach, ServerEndKind};
use wal::raftpb::{ConfChange, Entry, EntryType, HardState, walpb};
use wal::{LogWriter, Resume};

use crate::lone::Config;

/// What is put behind the last record of a log, and what the log then says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The offset in the last segment, in bytes, at which [`Self::records`] take the place of what stands there.
    pub offset: u64,
    /// The records, framed, with their checksums.
    pub records: Vec<u8>,
    /// The rolling CRC-32C behind them.
    pub crc: u32,
    /// Index of the last entry that the log then has; `None` when it has none.
    pub last_index: Option<u64>,
    /// The hard state that then counts.
    pub state: Option<HardState>,
    /// Who then takes part in the cluster, once all the log is applied.
    pub config: Config,
}

impl Appended {
    /// Puts `entries`, `state` and `snapshot` behind the end of `log`, in this order, which is a server's own; `config` is what the
    /// log then says of the members.
    ///
    /// # Errors
    /// When the log has no segment to go on with, in a sentence's end.
    pub fn behind(
        log: &Log,
        entries: &[Entry],
        state: Option<HardState>,
        snapshot: Option<&walpb::Snapshot>,
        config: Config,
    ) -> Result<Self, String> {
        let Some(segment) = log.segments.last() else { return Err("its log has no segment".to_owned()) };
        let failed = |error: wal::SaveError| format!("its log cannot be gone on with: {error}");
        let mut writer = LogWriter::resume(Resume {
            seq: segment.name.seq,
            first_index: segment.name.index,
            last_index: log.last_index().unwrap_or_default(),
            crc: segment.end_crc,
            metadata: log.metadata_raw.clone().unwrap_or_default(),
            state: None,
            offset: segment.end_offset,
        })
        .map_err(failed)?;
        for entry in entries {
            writer.push_entry(entry);
        }
        if let Some(state) = state {
            writer.push_hard_state(state);
        }
        if let Some(snapshot) = snapshot {
            writer.push_snapshot(snapshot);
        }
        // A segment that is full already is ended by the server that goes on with it.
        let mut records = Vec::new();
        let crc = writer.crc();
        writer.flush(&mut records).map_err(|error| error.to_string())?;
        Ok(Self {
            offset: segment.end_offset,
            records,
            crc,
            last_index: entries.last().map(Entry::index).or_else(|| log.last_index()),
            state: state.or_else(|| log.server_hard_state.as_ref().map(|state| state.value)),
            config,
        })
    }
}

/// Makes sure that a server reads all there is of `log`, so that what is put behind its end is read too. What a server does not
/// read, a repair accounts for.
///
/// # Errors
/// What keeps a server from it, as a sentence.
pub fn ensure_readable(log: &Log) -> Result<(), &'static str> {
    if log.server_end.is_none_or(|end| end.kind == ServerEndKind::Stops) {
        return Err("no server starts from its log");
    }
    if log.runs.iter().any(|run| run.reach != Reach::Read) {
        return Err("its log has entries that no server comes to");
    }
    if log.more_runs > 0 || !log.conf_changes_v2.is_empty() {
        return Err("no server wrote this log");
    }
    // A server that was killed while it began a segment: which records stand before it is a repair's business.
    if log.segments.last().is_none_or(|segment| segment.head_crc.is_none()) {
        return Err("the last segment of its log has no head");
    }
    Ok(())
}

/// The entries of these changes of members, from the one behind `last` on.
#[must_use]
pub fn conf_entries(changes: Vec<ConfChange>, last: u64, term: u64) -> Vec<Entry> {
    let mut index = last;
    let entry = |change: ConfChange| {
        index = index.saturating_add(1);
        Entry {
            entry_type: Some(EntryType::ConfChange.into()),
            term: Some(term),
            index: Some(index),
            data: Some(prost::Message::encode_to_vec(&change)),
        }
    };
    changes.into_iter().map(entry).collect()
}
