//! What is left of a killed member: a copy of its files, whole, with a log that was cut or has a turned bit, with an older
//! database, or the database alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use testdata::damage::{Frame, MemberDir, Rng};
use testdata::oracle::{Acknowledged, Tag, tag_in};
use testdata::plain_log::PlainLog;

use super::records::Records;

/// What is done to a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    Whole,
    /// The log ends inside a record.
    Cut,
    /// From a sector inside a record on, the log is zeros.
    Torn,
    /// One bit of an entry is turned, with many records behind it.
    Bit,
    /// An older database of the same member lies over the log.
    OlderDb(PathBuf),
    /// There is nothing but the database.
    DbAlone,
}

/// A copy of what a member left.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Which of the three, from 0.
    pub(crate) member: usize,
    pub(crate) shape: Shape,
    /// What is given to the program.
    pub(crate) input: PathBuf,
    /// The entries that are left of its log.
    pub(crate) log: PlainLog,
    /// The index of each request among them.
    pub(crate) tags: BTreeMap<Tag, u64>,
    /// What is left of its database.
    pub(crate) records: Records,
}

pub(crate) fn db_of(data_dir: &Path) -> PathBuf {
    data_dir.join("member/snap/db")
}

pub(crate) fn copied(from: &Path, to: &Path) {
    // A segment of the log is 64 MB of which little was written.
    let status = Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).status().unwrap();
    assert!(status.success());
}

/// How far from the end of the log it is damaged, in records.
const LAST_RECORDS: u64 = 60;
/// Records behind a turned bit.
const BEHIND: usize = 8;

/// The offset of a byte of one of the last records, neither its first nor behind its last.
fn inside_of_one(frames: &[Frame], rng: &mut Rng) -> u64 {
    let last = &frames[frames.len().saturating_sub(usize::try_from(LAST_RECORDS).unwrap())..];
    let frame = rng.pick(last);
    frame.offset + 1 + rng.below(frame.record.end - frame.offset - 1)
}

impl Kept {
    /// Copies the dir of a member that was killed to `to`, and damages the copy.
    pub(crate) fn made(member: usize, shape: Shape, from: &Path, to: &Path, rng: &mut Rng) -> Self {
        copied(from, to);
        let mut dir = MemberDir::of_data_dir(to);
        let segment = dir.last_segment();
        let mut input = to.to_owned();
        match &shape {
            Shape::Whole => {}
            Shape::Cut => {
                let at = inside_of_one(&dir.frames(&segment), rng);
                dir.set_len(&segment, at);
            }
            Shape::Torn => {
                let frames = dir.frames(&segment);
                let end = frames.last().unwrap().end();
                let tearable =
                    |frame: &&Frame| frame.record_type == 2 && frame.offset + 16 < sector_in(frame);
                let sectors: Vec<u64> = frames.iter().rev().filter(tearable).map(sector_in).take(4).collect();
                if !sectors.is_empty() {
                    dir.zero(&segment, *rng.pick(&sectors)..end);
                }
            }
            Shape::Bit => {
                let frames = dir.frames(&segment);
                let last = frames[frames.len() - BEHIND].offset;
                let entries = dir.entries(&segment, 40);
                let before: Vec<&Frame> = entries.iter().filter(|frame| frame.offset < last).collect();
                let frame = *rng.pick(&before);
                dir.flip(&segment, frame.data.end - 1 - rng.below(30), rng.below(8));
            }
            Shape::OlderDb(older) => drop(std::fs::copy(older, db_of(to)).unwrap()),
            Shape::DbAlone => input = db_of(to),
        }
        let log = match &shape {
            Shape::DbAlone => PlainLog::default(),
            // It says itself which bit was turned, so that nothing of it is lost.
            Shape::Bit => PlainLog::read(&MemberDir::of_data_dir(from).wal_dir()),
            _ => PlainLog::read(&dir.wal_dir()),
        };
        let records = Records::of(&db_of(to));
        let tags = tags_of(&log);
        Self { member, shape, input, log, tags, records }
    }

    /// Whether all that the member wrote to its log is there.
    pub(crate) fn has_whole_log(&self) -> bool {
        matches!(self.shape, Shape::Whole | Shape::Bit | Shape::OlderDb(_))
    }

    /// Whether its database says that it has a write which it does not have. Servers of 3.5.0 to 3.5.2 may leave such ones when
    /// they are killed.
    pub(crate) fn lies(&self, acknowledged: &[Acknowledged], index_of: &BTreeMap<Tag, u64>) -> bool {
        let applied = |write: &&Acknowledged| {
            index_of.get(&write.tag).is_some_and(|index| *index <= self.records.consistent_index)
        };
        acknowledged.iter().filter(applied).any(|write| !self.records.hold(write))
    }
}

/// The index of each request of a load in a log.
pub(crate) fn tags_of(log: &PlainLog) -> BTreeMap<Tag, u64> {
    log.passed
        .iter()
        .chain(&log.entries)
        .filter_map(|(index, entry)| Some((tag_in(&entry.data)?, *index)))
        .collect()
}

/// The last sector boundary before the end of a record.
fn sector_in(frame: &Frame) -> u64 {
    (frame.end() - 1) / 512 * 512
}
