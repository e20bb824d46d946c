//! The plainest reading of a member's log: which entries stand, by raft's rule that an entry drops those from its index on. It
//! shares no code with the crates it is held against.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::damage::crc_32c;

/// An entry that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainEntry {
    /// The term of the leader that proposed it.
    pub term: u64,
    /// What it carries.
    pub data: Vec<u8>,
}

/// What stands in one log, as far as a server would read it. Where the member was sent a snapshot in place of entries, they are
/// not there, and those before them are as far as they were committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainLog {
    /// By index.
    pub entries: BTreeMap<u64, PlainEntry>,
    /// Entries that stood, were not known to be committed, and have been passed by a snapshot that the member was sent: they may be
    /// what the cluster has at these indexes, or not.
    pub passed: BTreeMap<u64, PlainEntry>,
    /// The commit index of the last hard state, 0 without one.
    pub commit: u64,
    /// The term of the last hard state, 0 without one.
    pub term: u64,
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn taken<'a>(rest: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = tail;
    Some(head)
}

/// The fields of a message that are numbers, and those that are bytes, by their numbers.
type Parts<'a> = (BTreeMap<u64, u64>, BTreeMap<u64, &'a [u8]>);

fn parts(mut rest: &[u8]) -> Option<Parts<'_>> {
    let (mut numbers, mut bytes) = (BTreeMap::new(), BTreeMap::new());
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => drop(numbers.insert(tag >> 3, varint(&mut rest)?)),
            2 => {
                let len = varint(&mut rest)?;
                bytes.insert(tag >> 3, taken(&mut rest, len)?);
            }
            _ => return None,
        }
    }
    Some((numbers, bytes))
}

/// The record at the start of `rest`; `None` where a server would stop reading.
fn record<'a>(rest: &mut &'a [u8]) -> Option<Parts<'a>> {
    let word = u64::from_le_bytes(taken(rest, 8)?.try_into().ok()?);
    let padding = if word >> 63 == 0 { 0 } else { (word >> 56) & 7 };
    let record = taken(rest, word & 0x00ff_ffff_ffff_ffff)?;
    taken(rest, padding)?;
    parts(record)
}

impl PlainLog {
    /// Reads the segments of a directory in order, each to the first record that is not whole.
    #[must_use]
    pub fn read(wal_dir: &Path) -> Self {
        let listed = fs::read_dir(wal_dir).unwrap_or_else(|e| panic!("{}: {e}", wal_dir.display()));
        let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "wal"));
        paths.sort();
        let mut log = Self::default();
        for path in paths {
            log.push(&fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        }
        log
    }

    fn push(&mut self, mut rest: &[u8]) {
        let mut crc = 0;
        while let Some((numbers, bytes)) = record(&mut rest) {
            let number = |field: u64| numbers.get(&field).copied().unwrap_or(0);
            let data = bytes.get(&3).copied().unwrap_or_default();
            let stated = u32::try_from(number(2)).unwrap_or(0);
            match number(1) {
                0 => return,
                4 => crc = stated,
                kind => {
                    crc = crc_32c(crc, data);
                    if crc != stated || self.take(kind, data).is_none() {
                        return;
                    }
                }
            }
        }
    }

    fn take(&mut self, kind: u64, data: &[u8]) -> Option<()> {
        let (numbers, bytes) = parts(data)?;
        let number = |field: u64| numbers.get(&field).copied().unwrap_or(0);
        match kind {
            2 => {
                let data = bytes.get(&4).copied().unwrap_or_default().to_vec();
                drop(self.entries.split_off(&number(3)));
                self.entries.insert(number(3), PlainEntry { term: number(2), data });
            }
            3 => (self.term, self.commit) = (number(1), number(3)),
            // One that was received from a leader, in place of entries that it does not have any more.
            5 if self.entries.get(&number(1)).is_none_or(|entry| entry.term != number(2)) => {
                self.passed.append(&mut self.entries.split_off(&(self.commit + 1)));
            }
            _ => {}
        }
        Some(())
    }

    /// Whether it has an entry of this index and term.
    #[must_use]
    pub fn has(&self, index: u64, term: u64) -> bool {
        [&self.entries, &self.passed]
            .iter()
            .any(|all| all.get(&index).is_some_and(|entry| entry.term == term))
    }

    /// The index of the last entry, 0 without one.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(index, _)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::PlainLog;
    use crate::damage::MemberDir;

    /// Three members that were killed agree on every entry that two of them hold, and a cut file ends with the record before.
    #[test]
    fn logs_of_a_real_cluster() {
        let scratch = tempfile::tempdir().unwrap();
        let mut logs = Vec::new();
        crate::unpack("3.5.30/cluster3/data.tar.zst", scratch.path());
        for name in ["n1", "n2", "n3"] {
            logs.push(PlainLog::read(&scratch.path().join(name).join("member/wal")));
        }
        for log in &logs {
            assert!(log.entries.len() > 100 && log.commit > 100 && log.commit <= log.last_index());
            let keys: Vec<u64> = log.entries.keys().copied().collect();
            assert!(keys.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            for (index, entry) in &log.entries {
                assert!(*index > log.commit || logs[0].entries.get(index).is_none_or(|other| other == entry));
            }
        }
        let mut dir = MemberDir::of_data_dir(&scratch.path().join("n1"));
        let segment = dir.last_segment();
        let last = dir.entries(&segment, 0).pop().unwrap();
        dir.set_len(&segment, last.end() - 1);
        let cut = PlainLog::read(&dir.wal_dir());
        assert_eq!(Some(cut.last_index() + 1), last.index);
    }
}
