//! The rows.

use std::path::PathBuf;

use super::Base::{Killed, Overwritten, Purged, Segments};
use super::Remedy::{AcceptLoss, Hopeless, Lossless, NotNeeded};
use super::member_dir::{Frame, MemberDir};
use super::rng::Rng;
use super::{Damage, Remedy};

const fn row(
    name: &'static str,
    story: &'static str,
    base: super::Base,
    codes: &'static [&'static str],
    remedy: Remedy,
    apply: fn(&mut MemberDir, &mut Rng),
) -> Damage {
    Damage { name, story, base, codes, remedy, apply }
}

/// The raft indexes of entries in the middle of a `killed` log: the db has them, and a snapshot.
const MIDDLE: std::ops::Range<u64> = 45..60;
/// Those of entries behind its last snapshot, which the db does not have, the last few excepted.
const LATE: std::ops::Range<u64> = 86..93;

/// A segment, and an entry of it with so many bytes of data and an index in this range.
fn entry(
    member: &MemberDir,
    rng: &mut Rng,
    min_data_len: u64,
    indexes: std::ops::Range<u64>,
) -> (PathBuf, Frame) {
    let segment = member.last_segment();
    let mut entries = member.entries(&segment, min_data_len);
    entries.retain(|frame| frame.index.is_some_and(|index| indexes.contains(&index)));
    (segment, rng.pick(&entries).clone())
}

/// The last segment and its last entry; a hard state follows it.
fn last_entry(member: &MemberDir) -> (PathBuf, Frame) {
    let segment = member.last_segment();
    let last = member.entries(&segment, 0).pop().expect("an entry");
    (segment, last)
}

/// Cuts the file so many bytes into the last entry's record.
fn cut_last_entry(member: &mut MemberDir, into: u64) {
    let (segment, last) = last_entry(member);
    member.set_len(&segment, last.record.start + into);
}

/// A large entry in the middle of the segment of this number.
fn large_entry(member: &MemberDir, rng: &mut Rng, number: usize) -> (PathBuf, Frame) {
    let segment = member.segments()[number].clone();
    let entries = member.entries(&segment, 900_000);
    let third = entries.len() / 3;
    (segment, rng.pick(&entries[third..2 * third]).clone())
}

/// What happens to logs. Rows of one kind stand together.
pub const DAMAGES: &[Damage] = &[
    // Logs that look damaged and are not.
    row("killed", "the server was killed; the log is ahead of the db", Killed, &[], NotNeeded, |_, _| {}),
    row("segments", "four segments, stopped cleanly", Segments, &[], NotNeeded, |_, _| {}),
    row(
        "purged",
        "the first segments were purged: the first head crc is not 0",
        Purged,
        &[],
        NotNeeded,
        |_, _| {},
    ),
    row("overwritten", "a new leader overwrote eight entries", Overwritten, &[], NotNeeded, |_, _| {}),
    row(
        "cut-to-content",
        "the preallocated zeros behind the last record are gone",
        Killed,
        &[],
        NotNeeded,
        |member, _| {
            let segment = member.last_segment();
            let end = member.frames(&segment).pop().expect("a record").end();
            member.set_len(&segment, end);
        },
    ),
    // One bit.
    row(
        "bit-in-data",
        "one bit of an entry's data in the middle of the log",
        Killed,
        &["WAL-CRC"],
        Lossless,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, MIDDLE);
            // Past the entry's own fields, into what it asks for.
            member.flip(&segment, frame.data.start + 40 + rng.below(frame.data_len() - 40), rng.below(8));
        },
    ),
    row(
        "bit-in-data-late",
        "one bit of the data of an entry that the db does not have",
        Killed,
        &["WAL-CRC"],
        Lossless,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, LATE);
            member.flip(&segment, frame.data.start + 40 + rng.below(frame.data_len() - 40), rng.below(8));
        },
    ),
    row(
        "bit-in-last-record",
        "one bit of the last record's data",
        Killed,
        &["WAL-CRC"],
        Lossless,
        |member, rng| {
            let segment = member.last_segment();
            let last = member.frames(&segment).pop().expect("a record");
            // Of a hard state: not the commit, which another commit would fit as well, but the vote.
            member.flip(&segment, last.data.start + 4, rng.below(7));
        },
    ),
    row(
        "bit-in-length-high",
        "one high bit of a length word: the record seems to reach beyond the file",
        Killed,
        &["WAL-RECORD-CUT"],
        Lossless,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, MIDDLE);
            member.flip(&segment, frame.offset + 4, rng.below(8));
        },
    ),
    row(
        "bit-in-length-low",
        "bit 4 of a length word: the record seems 16 bytes longer or shorter",
        Killed,
        &["WAL-UNDECODABLE"],
        Lossless,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, MIDDLE);
            member.flip(&segment, frame.offset, 4);
        },
    ),
    row(
        "bit-in-padding-count",
        "one bit of the number of padding bytes in a length word",
        Killed,
        &["WAL-PADDING", "WAL-RECORD-CUT"],
        Lossless,
        |member, rng| {
            let segment = member.last_segment();
            let mut entries = member.entries(&segment, 300);
            entries.retain(|frame| frame.padding == 3 && frame.index.is_some_and(|index| index > 20));
            let frame = rng.pick(&entries).clone();
            // 3 becomes 7: the next frame seems to begin four bytes late.
            member.flip(&segment, frame.offset + 7, 2);
        },
    ),
    row(
        "bit-in-padding",
        "one bit of the padding behind a record, which no checksum covers and no server looks at",
        Killed,
        &["WAL-PADDING"],
        Lossless,
        |member, rng| {
            let segment = member.last_segment();
            let mut entries = member.entries(&segment, 300);
            entries.retain(|frame| frame.padding > 0);
            let frame = rng.pick(&entries).clone();
            member.flip(&segment, frame.record.end + rng.below(frame.padding), rng.below(8));
        },
    ),
    row(
        "bit-in-crc",
        "one bit of the checksum that a record carries",
        Killed,
        &["WAL-CRC"],
        Lossless,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, MIDDLE);
            // Not the bit that says whether the varint goes on.
            member.flip(&segment, frame.crc_at.start + rng.below(4), rng.below(7));
        },
    ),
    row(
        "bit-in-type",
        "one bit of a record's type: 10, which is no type",
        Killed,
        &["WAL-RECORD-TYPE"],
        Lossless,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, MIDDLE);
            member.flip(&segment, frame.type_at, 3);
        },
    ),
    row(
        "bit-in-type-entry-to-state",
        "one bit of a record's type: an entry is read as a hard state, of which its bytes are a valid one",
        Killed,
        &["WAL-ENTRY-GAP"],
        Lossless,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, LATE);
            member.flip(&segment, frame.type_at, 0);
        },
    ),
    row(
        "bit-in-framing",
        "one bit of a record's first tag",
        Killed,
        &["WAL-UNDECODABLE"],
        Lossless,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, MIDDLE);
            // The wire type: a varint becomes a string.
            member.flip(&segment, frame.record.start, 1);
        },
    ),
    row(
        "bit-in-head-crc",
        "one bit of the crc record at the head of a later segment",
        Segments,
        &["WAL-CHAIN"],
        Lossless,
        |member, rng| {
            let segment = member.segments()[2].clone();
            let (crc, _) = member.head(&segment);
            member.flip(&segment, crc.crc_at.start + rng.below(4), rng.below(7));
        },
    ),
    row(
        "bit-in-overwritten-entry",
        "one bit of the data of an entry that was overwritten later",
        Overwritten,
        &["WAL-CRC"],
        Lossless,
        |member, rng| {
            let segment = member.last_segment();
            let entries = member.entries(&segment, 0);
            let back = entries
                .windows(2)
                .position(|pair| pair[1].index <= pair[0].index)
                .expect("entries were overwritten");
            let frame = entries[back].clone();
            member.flip(&segment, frame.data.end - 1 - rng.below(8), rng.below(8));
        },
    ),
    row(
        "two-bits-in-data",
        "two bits of an entry's data: no single one explains the checksum",
        Killed,
        &["WAL-CRC"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, LATE);
            for half in 0..2 {
                let start = frame.data.start + 40 + half * 100;
                member.flip(&segment, start + rng.below(90), rng.below(8));
            }
        },
    ),
    // Sectors.
    row(
        "torn-tail",
        "the last write was torn: from a sector of the last entry on nothing reached the disk",
        Killed,
        &["WAL-TORN"],
        Lossless,
        |member, _| {
            let (segment, last) = last_entry(member);
            let end = member.frames(&segment).pop().expect("a record").end();
            member.zero(&segment, last.sector().end..end);
        },
    ),
    row(
        "zero-sector-last-entry",
        "one sector in the last entry is zero; its hard state behind it is whole",
        Killed,
        &["WAL-TORN"],
        AcceptLoss,
        |member, _| {
            let (segment, last) = last_entry(member);
            member.zero(&segment, last.sector());
        },
    ),
    row(
        "zero-sector-middle",
        "one sector in an entry in the middle of the only segment is zero; many sound records follow",
        Killed,
        &["WAL-TORN"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 1100, MIDDLE);
            member.zero(&segment, frame.sector());
        },
    ),
    row(
        "zero-sector-late",
        "one sector in an entry that the db does not have is zero; a few sound records follow",
        Killed,
        &["WAL-TORN"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 1100, 90..95);
            member.zero(&segment, frame.sector());
        },
    ),
    row(
        "zero-sector-non-last",
        "one sector in an entry of the second of four segments is zero",
        Segments,
        &["WAL-TORN"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = large_entry(member, rng, 1);
            member.zero(&segment, frame.sector());
        },
    ),
    row(
        "zero-length-word",
        "a length word in the middle of the only segment is zero: a server takes it for the end",
        Killed,
        &["WAL-HIDDEN"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, MIDDLE);
            member.zero(&segment, frame.offset..frame.offset + 8);
        },
    ),
    row(
        "zero-length-word-late",
        "a length word behind the last snapshot is zero: a server takes it for the end",
        Killed,
        &["WAL-HIDDEN"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, LATE);
            member.zero(&segment, frame.offset..frame.offset + 8);
        },
    ),
    row(
        "zero-run-non-last",
        "in the second of four segments a page of zeros begins where a record does: a server goes on with the next segment",
        Segments,
        &["WAL-CHAIN", "WAL-HIDDEN"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = large_entry(member, rng, 1);
            member.zero(&segment, frame.offset..frame.offset + 4096);
        },
    ),
    row(
        "zero-to-end-non-last",
        "the second half of the third of four segments is zero",
        Segments,
        &["WAL-CHAIN"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = large_entry(member, rng, 2);
            let end = member.frames(&segment).pop().expect("a record").end();
            member.zero(&segment, frame.offset..end);
        },
    ),
    // Cut short.
    row(
        "cut-at-0",
        "cut 16 bytes into the last entry's record, where a word of 8 begins",
        Killed,
        &["WAL-RECORD-CUT"],
        Lossless,
        |member, _| cut_last_entry(member, 16),
    ),
    row(
        "cut-at-1",
        "cut 17 bytes into the last entry's record",
        Killed,
        &["WAL-RECORD-CUT"],
        Lossless,
        |member, _| cut_last_entry(member, 17),
    ),
    row(
        "cut-at-2",
        "cut 18 bytes into the last entry's record",
        Killed,
        &["WAL-RECORD-CUT"],
        Lossless,
        |member, _| cut_last_entry(member, 18),
    ),
    row(
        "cut-at-3",
        "cut 19 bytes into the last entry's record",
        Killed,
        &["WAL-RECORD-CUT"],
        Lossless,
        |member, _| cut_last_entry(member, 19),
    ),
    row(
        "cut-at-4",
        "cut 20 bytes into the last entry's record",
        Killed,
        &["WAL-RECORD-CUT"],
        Lossless,
        |member, _| cut_last_entry(member, 20),
    ),
    row(
        "cut-at-5",
        "cut 21 bytes into the last entry's record",
        Killed,
        &["WAL-RECORD-CUT"],
        Lossless,
        |member, _| cut_last_entry(member, 21),
    ),
    row(
        "cut-at-6",
        "cut 22 bytes into the last entry's record",
        Killed,
        &["WAL-RECORD-CUT"],
        Lossless,
        |member, _| cut_last_entry(member, 22),
    ),
    row(
        "cut-at-7",
        "cut 23 bytes into the last entry's record",
        Killed,
        &["WAL-RECORD-CUT"],
        Lossless,
        |member, _| cut_last_entry(member, 23),
    ),
    row(
        "cut-in-length",
        "cut three bytes into the last entry's length word",
        Killed,
        &["WAL-LENGTH-CUT"],
        Lossless,
        |member, _| {
            let (segment, last) = last_entry(member);
            member.set_len(&segment, last.offset + 3);
        },
    ),
    row(
        "cut-in-padding",
        "cut in the padding behind the last entry",
        Killed,
        &["WAL-RECORD-CUT"],
        Lossless,
        |member, _| {
            let (segment, last) = last_entry(member);
            member.set_len(&segment, last.end() - 1);
        },
    ),
    row(
        "cut-middle",
        "cut inside an entry in the middle of the only segment",
        Killed,
        &["WAL-BEHIND-DB", "WAL-RECORD-CUT"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, MIDDLE);
            member.set_len(&segment, frame.record.start + 24);
        },
    ),
    row(
        "cut-before-first-entry",
        "cut inside the first entry, the one that adds the member: what is left says whose log it is and nothing else",
        Killed,
        &["WAL-BEHIND-DB", "WAL-RECORD-CUT"],
        AcceptLoss,
        |member, _| {
            let segment = member.last_segment();
            let first = member.entries(&segment, 0).swap_remove(0);
            member.set_len(&segment, first.record.start + 24);
        },
    ),
    row(
        "cut-non-last",
        "the second of four segments is cut inside a record",
        Segments,
        &["WAL-CHAIN", "WAL-RECORD-CUT"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = large_entry(member, rng, 1);
            member.set_len(&segment, frame.record.start + 100_000);
        },
    ),
    // Lengths.
    row(
        "huge-length",
        "a length word of all ones",
        Killed,
        &["WAL-RECORD-CUT"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, LATE);
            member.put(&segment, frame.offset, &[0xff; 8]);
        },
    ),
    row(
        "length-of-20-mib",
        "a length word of 20 MiB: inside the file, beyond what some versions read at once",
        Killed,
        &["WAL-TORN"],
        AcceptLoss,
        |member, rng| {
            let (segment, frame) = entry(member, rng, 300, LATE);
            member.put(&segment, frame.offset, &(20u64 << 20).to_le_bytes());
        },
    ),
    // Whole segments.
    row("no-segments", "the wal directory is empty", Killed, &["WAL-NO-SEGMENTS"], Hopeless, |member, _| {
        let segment = member.last_segment();
        member.remove(&segment);
        let prepared = member.wal_dir().join("0.tmp");
        member.remove(&prepared);
    }),
    row(
        "missing-first",
        "the first of four segments is missing, as if it were purged: its entries are in every snapshot but the first",
        Segments,
        &[],
        NotNeeded,
        |member, _| {
            let segment = member.segments()[0].clone();
            member.remove(&segment);
        },
    ),
    row(
        "missing-second",
        "the second of four segments is missing",
        Segments,
        &["WAL-CHAIN", "WAL-ENTRY-GAP", "WAL-SEQUENCE-GAP"],
        Lossless,
        |member, _| {
            let segment = member.segments()[1].clone();
            member.remove(&segment);
        },
    ),
    row(
        "missing-third",
        "the third of four segments is missing, the one the last snapshot stands in",
        Segments,
        &["WAL-CHAIN", "WAL-ENTRY-GAP", "WAL-SEQUENCE-GAP"],
        AcceptLoss,
        |member, _| {
            let segment = member.segments()[2].clone();
            member.remove(&segment);
        },
    ),
    row(
        "missing-last",
        "the last of four segments is missing; the db has all of its entries",
        Segments,
        &["WAL-BEHIND-DB"],
        AcceptLoss,
        |member, _| {
            let segment = member.last_segment();
            member.remove(&segment);
        },
    ),
    row(
        "missing-first-of-purged",
        "of a purged log the first segment that was left is missing: only the one with the last snapshot remains",
        Purged,
        &[],
        NotNeeded,
        |member, _| {
            let segment = member.segments()[0].clone();
            member.remove(&segment);
        },
    ),
    row(
        "twice-at-end",
        "a copy of the last segment under the next number",
        Segments,
        &["WAL-CHAIN", "WAL-NAME-INDEX"],
        Lossless,
        |member, _| {
            let segment = member.last_segment();
            member.copy(&segment, "0000000000000004-00000000000001a3.wal");
        },
    ),
    row(
        "twice-same-number",
        "a copy of the second segment under the same number and another index",
        Segments,
        &["WAL-CHAIN", "WAL-NAME-INDEX", "WAL-SEQUENCE-TWICE"],
        Lossless,
        |member, _| {
            let segment = member.segments()[1].clone();
            member.copy(&segment, "0000000000000001-000000000000008f.wal");
        },
    ),
    row(
        "renamed-index",
        "the index in the last segment's name is too high by two",
        Segments,
        &["WAL-NAME-INDEX"],
        Lossless,
        |member, _| {
            let segment = member.last_segment();
            member.rename(&segment, "0000000000000003-00000000000001a5.wal");
        },
    ),
    row(
        "renamed-index-past-end",
        "the index in the name of the segment with the last snapshot is beyond the log's end",
        Segments,
        &["WAL-NAME-INDEX"],
        Lossless,
        |member, _| {
            let segment = member.segments()[2].clone();
            member.rename(&segment, "0000000000000002-0000000000000fff.wal");
        },
    ),
    row(
        "renamed-number",
        "the second segment was given a number behind the last",
        Segments,
        &["WAL-CHAIN", "WAL-ENTRY-GAP", "WAL-NAME-INDEX", "WAL-SEQUENCE-GAP"],
        Lossless,
        |member, _| {
            let segment = member.segments()[1].clone();
            member.rename(&segment, "0000000000000007-000000000000008e.wal");
        },
    ),
    row(
        "renamed-foreign",
        "the last segment's name is no segment's any more",
        Segments,
        &["WAL-BEHIND-DB"],
        Lossless,
        |member, _| {
            let segment = member.last_segment();
            member.rename(&segment, "0000000000000003-00000000000001a3.wal.bak");
        },
    ),
    row(
        "empty-only",
        "the only segment has no bytes",
        Killed,
        &["WAL-BEHIND-DB", "WAL-EMPTY-SEGMENT", "WAL-NO-METADATA"],
        Hopeless,
        |member, _| {
            let segment = member.last_segment();
            member.set_len(&segment, 0);
        },
    ),
    row(
        "empty-last",
        "a segment without bytes behind the last one",
        Segments,
        &["WAL-EMPTY-SEGMENT"],
        Lossless,
        |member, _| member.empty_segment("0000000000000004-00000000000001c2.wal"),
    ),
    row(
        "empty-middle",
        "the third of four segments has no bytes",
        Segments,
        &["WAL-CHAIN", "WAL-EMPTY-SEGMENT", "WAL-ENTRY-GAP"],
        AcceptLoss,
        |member, _| {
            let segment = member.segments()[2].clone();
            member.set_len(&segment, 0);
        },
    ),
    row(
        "zeros-last",
        "a segment of zeros behind the last one: made and never written to",
        Segments,
        &["WAL-EMPTY-SEGMENT"],
        Lossless,
        |member, _| {
            let name = "0000000000000004-00000000000001c2.wal";
            member.empty_segment(name);
            let segment = member.wal_dir().join(name);
            member.set_len(&segment, 64_000_000);
        },
    ),
    row(
        "metadata-conflict",
        "the last segment's metadata names another member, its checksums made right",
        Segments,
        &["WAL-METADATA-CONFLICT"],
        AcceptLoss,
        |member, _| member.change_metadata_of_last(),
    ),
    // What the records say.
    row(
        "commit-beyond",
        "a hard state whose commit lies 100 beyond the last entry",
        Killed,
        &["WAL-COMMIT-BEYOND"],
        AcceptLoss,
        |member, _| {
            let (segment, last) = last_entry(member);
            let state = member.hard_state(&segment, last.index.expect("of an entry") + 100);
            member.append(&segment, 3, &state);
        },
    ),
    row(
        "snapshot-record-without-snap",
        "the newest .snap is missing; its snapshot record is there",
        Killed,
        &["WAL-SNAPSHOT-NO-FILE"],
        NotNeeded,
        |member, _| {
            let snap = member.last_snap();
            member.remove(&snap);
        },
    ),
    row(
        "snapshot-records-without-any-snap",
        "every .snap is missing; the log is whole from its beginning",
        Killed,
        &["WAL-SNAPSHOT-NO-FILE"],
        NotNeeded,
        |member, _| {
            for snap in member.snaps() {
                member.remove(&snap);
            }
        },
    ),
    row(
        "purged-without-any-snap",
        "every .snap is missing, and the log does not reach back to its beginning",
        Purged,
        &["WAL-SNAPSHOT-NO-FILE"],
        Lossless,
        |member, _| {
            for snap in member.snaps() {
                member.remove(&snap);
            }
        },
    ),
    row(
        "snapshot-record-beyond-commit",
        "a snapshot record beyond the commit, its .snap beside the db: a snapshot that was being received",
        Killed,
        &["SNAP-NO-DB", "WAL-SNAPSHOT-BEYOND-COMMIT"],
        NotNeeded,
        |member, _| {
            let segment = member.last_segment();
            member.append(&segment, 5, &[0x08, 120, 0x10, 2]);
            member.forge_snap(120);
        },
    ),
    row(
        "snap-newer-than-db",
        "a .snap and its record within the commit, and a db that has not come so far",
        Killed,
        &["SNAP-NO-DB"],
        Lossless,
        |member, _| {
            let segment = member.last_segment();
            member.append(&segment, 5, &[0x08, 94, 0x10, 2]);
            member.forge_snap(94);
        },
    ),
    row(
        "snap-without-record",
        "a .snap that no record of the log names",
        Killed,
        &["SNAP-NO-RECORD"],
        NotNeeded,
        |member, _| member.forge_snap(80),
    ),
    row("snap-damaged", "one bit of the newest .snap", Killed, &["SNAP-CRC"], NotNeeded, |member, rng| {
        let snap = member.last_snap();
        member.flip(&snap, 1000 + rng.below(5000), rng.below(8));
    }),
    row(
        "snap-damaged-purged",
        "one bit of the newest .snap of a purged log: the one before it lies within the log",
        Purged,
        &["SNAP-CRC"],
        NotNeeded,
        |member, rng| {
            let snap = member.last_snap();
            member.flip(&snap, 1000 + rng.below(5000), rng.below(8));
        },
    ),
    row("snaps-damaged", "one bit of each .snap", Killed, &["SNAP-CRC"], NotNeeded, |member, rng| {
        for snap in member.snaps() {
            member.flip(&snap, 1000 + rng.below(5000), rng.below(8));
        }
    }),
    row(
        "snaps-damaged-purged",
        "one bit of each .snap of a purged log",
        Purged,
        &["SNAP-CRC"],
        Lossless,
        |member, rng| {
            for snap in member.snaps() {
                member.flip(&snap, 1000 + rng.below(5000), rng.below(8));
            }
        },
    ),
    row("snap-empty", "the newest .snap has no bytes", Killed, &["SNAP-EMPTY"], NotNeeded, |member, _| {
        let snap = member.last_snap();
        member.set_len(&snap, 0);
    }),
];
