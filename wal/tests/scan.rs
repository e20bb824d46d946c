//! What stands behind a break: every record that the damage did not touch is found, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use std::ops::Range;
use wal::raftpb::{Entry, HardState};
use wal::scan::{Item, scan};
use wal::{BitFlip, LogWriter, Metadata, Part, Record, read_segment, walpb};

/// A segment of so many entries with data of these lengths, a hard state after each fifth, a snapshot after each ninth.
fn segment(lengths: &[usize]) -> Vec<u8> {
    let mut writer = LogWriter::new(Metadata { node_id: Some(7), cluster_id: Some(9) });
    for (index, len) in (1u64..).zip(lengths) {
        let data = (0..*len).map(|at| u8::try_from((at * 31 + len * 7) % 251 + 1).unwrap()).collect();
        writer.push_entry(&Entry {
            entry_type: Some(0),
            term: Some(2),
            index: Some(index),
            data: Some(data),
        });
        if index % 5 == 0 {
            writer.push_hard_state(HardState { term: Some(2), vote: Some(7), commit: Some(index) });
        }
        if index % 9 == 0 {
            writer.push_snapshot(&walpb::Snapshot { index: Some(index), term: Some(2), conf_state: None });
        }
    }
    let mut bytes = Vec::new();
    writer.flush(&mut bytes).unwrap();
    bytes
}

fn records(bytes: &[u8]) -> Vec<Record<'_>> {
    scan(bytes)
        .filter_map(|item| match item {
            Item::Record(found) => Some(found.record),
            _ => None,
        })
        .collect()
}

/// Of each record: the bytes of its frame.
fn frames(sound: &[u8]) -> Vec<(Range<usize>, Vec<u8>)> {
    let records: Vec<Record<'_>> = read_segment(sound).collect::<Result<_, _>>().unwrap();
    records
        .iter()
        .map(|record| {
            let start = usize::try_from(record.offset).unwrap();
            (start..start + 8 + record.raw.len().next_multiple_of(8), record.data.to_vec())
        })
        .collect()
}

#[derive(Debug, Clone)]
enum Damage {
    Bit(prop::sample::Index, u8),
    ZeroSector(prop::sample::Index),
    Garbage(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        2 => any::<prop::sample::Index>().prop_map(Damage::ZeroSector),
        2 => (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..80)).prop_map(|(at, bytes)| Damage::Garbage(at, bytes)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
    ]
}

impl Damage {
    /// Damages the bytes; answers which.
    fn apply(&self, bytes: &mut Vec<u8>) -> Range<usize> {
        match self {
            Self::Bit(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                at..at + 1
            }
            Self::ZeroSector(at) => {
                let start = at.index(bytes.len()) / 512 * 512;
                let end = (start + 512).min(bytes.len());
                bytes[start..end].fill(0);
                start..end
            }
            Self::Garbage(at, garbage) => {
                let start = at.index(bytes.len());
                let end = (start + garbage.len()).min(bytes.len());
                bytes[start..end].copy_from_slice(&garbage[..end - start]);
                start..end
            }
            Self::Cut(at) => {
                let start = at.index(bytes.len());
                let end = bytes.len();
                bytes.truncate(start);
                start..end
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_not_damaged_is_found(lengths in prop::collection::vec(prop_oneof![0usize..120, 0usize..1500], 1..50), damages in prop::collection::vec(damage(), 1..4), tail in 0usize..2000) {
        let mut bytes = segment(&lengths);
        let frames = frames(&bytes);
        bytes.resize(bytes.len() + tail, 0);
        let mut touched = Vec::new();
        for damage in &damages {
            if !bytes.is_empty() {
                touched.push(damage.apply(&mut bytes));
            }
        }
        let found = records(&bytes);
        let is_whole = |frame: &Range<usize>| touched.iter().all(|touched| touched.end <= frame.start || frame.end <= touched.start);
        for (number, (frame, data)) in frames.iter().enumerate().filter(|(_, (frame, _))| is_whole(frame)) {
            let offset = u64::try_from(frame.start).unwrap();
            let record = found.iter().find(|record| record.offset == offset);
            // Where the CRC of the record before is damaged and nothing tells that it is, it shows at this one.
            let blamed = || number > 0 && !is_whole(&frames[number - 1].0) && scan(&bytes).any(|item| {
                matches!(item, Item::Fault(broken) if broken.record.is_some_and(|record| record.offset == offset && record.data == data))
            });
            prop_assert!(record.is_some_and(|record| record.data == data) || blamed(), "no record at {offset:#x}");
        }
        // And nothing is found where there was nothing.
        for record in &found {
            let offset = usize::try_from(record.offset).unwrap();
            prop_assert!(frames.iter().any(|(frame, _)| frame.start == offset), "a record at {offset:#x}");
        }
        // The items lie behind each other, and together they are the file.
        let mut scan = scan(&bytes);
        let mut before = 0;
        while let Some(item) = scan.next() {
            let start = match &item {
                Item::Record(found) => found.record.offset,
                Item::Fault(broken) => broken.fault.offset,
                Item::Skipped(skipped) => skipped.offset,
            };
            // Where padding is damaged, the right place for the next record is a little further back.
            prop_assert!(start <= before && before - start < 8, "{start:#x} behind {before:#x}: {item:?}");
            before = match &item {
                Item::Fault(broken) => broken.end.unwrap_or(start),
                Item::Skipped(skipped) => start + skipped.len_bytes,
                Item::Record(_) => scan.offset(),
            };
        }
        prop_assert!(before == scan.offset());
        prop_assert!(bytes[usize::try_from(before).unwrap()..].iter().all(|byte| *byte == 0));
    }

    /// A single turned bit is found, wherever it is, and with it turned back the record is what it was. In the padding it
    /// does no harm. In the type it goes unnoticed if the data is a message of the other type too; at the end of the file a
    /// longer record may look cut.
    #[test]
    fn one_bit(lengths in prop::collection::vec(0usize..300, 3..12), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let sound = segment(&lengths);
        let at = at.index(sound.len());
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << bit;
        let offset = u64::try_from(at).unwrap();
        let flips: Vec<BitFlip> = scan(&bytes)
            .filter_map(|item| match item {
                Item::Fault(broken) => broken.bit_flip,
                Item::Skipped(skipped) => skipped.bit_flip,
                Item::Record(_) => None,
            })
            .collect();
        let clean = scan(&bytes).all(|item| matches!(item, Item::Record(found) if found.is_clean));
        let padding_noticed = scan(&bytes).all(|item| matches!(item, Item::Record(_))) && !clean;
        let frames = frames(&sound);
        let (number, (frame, data)) = frames.iter().enumerate().find(|(_, (frame, _))| frame.contains(&at)).unwrap();
        let in_record = at - frame.start;
        if padding_noticed {
            prop_assert!(in_record >= 7 && flips.is_empty());
        } else if number == 0 {
            // The chain's own start: nothing before it vouches for it.
            prop_assert!(!clean || in_record == 9);
        } else if in_record == 9 && clean {
            prop_assert!(flips.is_empty());
        } else if in_record == 9 {
            // The type: more than one may fit.
            prop_assert!(flips.iter().all(|flip| flip.part == Part::Type));
        } else {
            prop_assert_eq!(flips.len(), 1, "{:?} in a record of {} bytes", in_record, data.len());
            prop_assert_eq!((flips[0].offset, flips[0].bit), (offset, bit));
        }
    }
}

/// Of the last record only its CRC speaks: what was torn is not called a bit, and neither is a bit of a long one.
#[test]
fn the_last_record_needs_more_than_its_checksum() {
    let flip = |bytes: &[u8]| {
        scan(bytes).find_map(|item| match item {
            Item::Fault(broken) => Some(broken.bit_flip.is_some()),
            _ => None,
        })
    };
    for (last, proven) in [(2_000, true), (60_000, true), (70_000, false)] {
        let mut alone = segment(&[100, last]);
        let at = alone.len() - 700;
        alone[at] ^= 4;
        assert_eq!(flip(&alone), Some(proven), "{last}");
        // With a record behind it every length is proven.
        let mut followed = segment(&[100, last, 100]);
        followed[at] ^= 4;
        assert_eq!(flip(&followed), Some(true), "{last}");
    }
    // A sector that was zero but for one bit, which is gone: that is how a torn write looks.
    let mut data = vec![7u8; 2_000];
    data[..1_600].fill(0);
    data[900] = 4;
    let mut writer = LogWriter::new(Metadata { node_id: Some(7), cluster_id: Some(9) });
    writer.push_entry(&Entry { entry_type: Some(0), term: Some(2), index: Some(1), data: Some(data) });
    let mut torn = Vec::new();
    writer.flush(&mut torn).unwrap();
    let at = torn.len() - 2_000 + 900;
    let at = (at - 8..at + 8).find(|at| torn[*at] == 4).unwrap();
    torn[at] = 0;
    assert_eq!(flip(&torn), Some(false));
}

/// Found by fuzzing: the length word of the first frame, one bit of it turned, leads to another place for the second, and the
/// second's to one from which the first's leads back. Each frame is mended once.
#[test]
fn two_bits_that_lead_to_each_other_are_not_followed_for_ever() {
    let mut bytes = vec![0; 42];
    bytes[0] = 6;
    bytes[7] = 0x84;
    bytes[8..11].copy_from_slice(&[8, 4, 16]);
    bytes[23] = 0x84;
    bytes[24..27].copy_from_slice(&[8, 4, 16]);
    bytes[41] = 4;
    assert!(scan(&bytes).take(100).count() < 10);
}
