//! Parts of a file that must not be believed: what a rescue of a dying disk could not read.
//!
//! [`BadMap`] reads the map file that GNU ddrescue keeps beside its copy, and [`Holes`] makes reading those parts the error it
//! would have been on the disk, so that the zeros which stand there in the copy are taken for nobody's data.

use std::borrow::Cow;
use std::ops::Range;

use crate::source::{Source, SourceError};

/// The parts of a copy that ddrescue did not rescue.
///
/// The format is that of the GNU ddrescue manual, "Mapfile structure": comments from `#` to the end of the line, a status line, then
/// one line a block with position, size (decimal, `0x…` or `0…`) and status. Of the statuses `?`, `*`, `/`, `-` and `+` only the last
/// means that the bytes are those of the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadMap {
    /// Bytes that were not rescued, counted from the start of the copy: ascending, apart from each other, none empty. What lies
    /// between, before or behind the blocks of the map was not rescued either, so the last range ends at `u64::MAX` unless a block
    /// reaches there.
    pub bad: Vec<Range<u64>>,
    /// Where the last block ends: the length in bytes of what ddrescue was told to copy.
    pub end: u64,
}

/// Why a text is no map file of ddrescue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadMapError {
    /// A line that is neither comment nor what its place demands.
    #[error("line {line}: '{text}' is not {expected}; a map file of GNU ddrescue is expected")]
    Line {
        /// The line's number, from 1.
        line: usize,
        /// Its first characters.
        text: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A block begins before the one in front of it ends, or has an end that no file reaches.
    #[error(
        "line {line}: the block at {offset:#x} begins before the one in front of it ends, or ends beyond any file"
    )]
    Order {
        /// The line's number, from 1.
        line: usize,
        /// Where the block begins, in bytes.
        offset: u64,
    },
    /// Nothing but comments, or no block behind the status line: ddrescue never came to write one.
    #[error("lists no blocks: this is no map file of GNU ddrescue, or one of a rescue that never began")]
    Empty,
}

/// How many characters of a line an error shows.
const SHOWN_CHARS: usize = 60;

impl BadMap {
    /// Reads the text of a map file.
    ///
    /// # Errors
    /// The first line that is not as the format has it.
    pub fn parse(text: &str) -> Result<Self, BadMapError> {
        let mut has_status_line = false;
        let mut has_blocks = false;
        let mut map = Self::default();
        let mut good_end = 0;
        for (line, text) in (1..).zip(text.lines()) {
            let wrong = |expected| {
                let text = text.chars().take(SHOWN_CHARS).collect();
                BadMapError::Line { line, text, expected }
            };
            let words: Vec<&str> =
                text.split_whitespace().take_while(|word| !word.starts_with('#')).take(4).collect();
            match words.as_slice() {
                [] => {}
                // The pass is missing before ddrescue 1.22.
                [position, status] | [position, status, _] if !has_status_line => {
                    if number(position).is_none()
                        || !matches!(*status, "?" | "*" | "/" | "-" | "F" | "G" | "+")
                    {
                        return Err(wrong("a status line: position, status, pass"));
                    }
                    has_status_line = true;
                }
                [offset, len, status] if has_status_line => {
                    let block = number(offset).zip(number(len));
                    let Some((offset, len)) =
                        block.filter(|_| matches!(*status, "?" | "*" | "/" | "-" | "+"))
                    else {
                        return Err(wrong("a block: position, size, one of ? * / - +"));
                    };
                    let end = offset.checked_add(len).filter(|_| offset >= map.end);
                    map.end = end.ok_or(BadMapError::Order { line, offset })?;
                    has_blocks = true;
                    if *status == "+" && len > 0 {
                        if good_end < offset {
                            map.bad.push(good_end..offset);
                        }
                        good_end = map.end;
                    }
                }
                _ if has_status_line => return Err(wrong("a block: position, size, one of ? * / - +")),
                _ => return Err(wrong("a status line: position, status, pass")),
            }
        }
        if !has_blocks {
            return Err(BadMapError::Empty);
        }
        if good_end < u64::MAX {
            map.bad.push(good_end..u64::MAX);
        }
        Ok(map)
    }
}

/// A number as C's `strtoll` takes it: decimal, hexadecimal behind `0x`, octal behind `0`.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    digits
        .starts_with(|first: char| first.is_ascii_hexdigit())
        .then(|| u64::from_str_radix(digits, radix).ok())?
}

/// A source some of whose bytes must not be read, as if the disk had refused them.
#[derive(Debug)]
pub struct Holes<S> {
    source: S,
    bad: Vec<Range<u64>>,
}

impl<S> Holes<S> {
    /// `source` without the bytes in `bad`, in any order.
    #[must_use]
    pub fn new(source: S, mut bad: Vec<Range<u64>>) -> Self {
        bad.retain(|range| !range.is_empty());
        bad.sort_unstable_by_key(|range| range.start);
        bad.dedup_by(|next, range| {
            let touches = next.start <= range.end;
            if touches {
                range.end = range.end.max(next.end);
            }
            touches
        });
        Self { source, bad }
    }

    /// What is behind the holes.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.source
    }

    /// The holes: ascending, apart from each other, none empty.
    #[must_use]
    pub fn bad(&self) -> &[Range<u64>] {
        &self.bad
    }
}

impl<S: Source> Source for Holes<S> {
    fn len_bytes(&self) -> u64 {
        self.source.len_bytes()
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        let first = self.bad.partition_point(|range| range.end <= offset);
        let end = offset.saturating_add(len);
        match self.bad.get(first).filter(|range| range.start < end && len > 0) {
            // Outside of the source there is nothing to be refused.
            Some(range) if end <= self.len_bytes() => {
                let hole_end = range.end.min(self.len_bytes());
                let message =
                    format!("bytes {:#x} to {hole_end:#x} were not rescued from the disk", range.start);
                Err(SourceError::Read { offset, len, message })
            }
            _ => self.source.bytes(offset, len),
        }
    }

    fn will_read(&self, offset: u64, len: u64) {
        self.source.will_read(offset, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As GNU ddrescue 1.27 writes it, by hand, of a file of 0x5000 bytes.
    const MAP: &str = "\
# Mapfile. Created by GNU ddrescue version 1.27
# Command line: ddrescue -r3 /mnt/member/snap/db db.copy db.map
# Start time:   2026-03-02 09:14:02
# Current time: 2026-03-02 09:31:55
# Finished
# current_pos  current_status  current_pass
0x00002E00     +               3
#      pos        size  status
0x00000000  0x00001000  +
0x00001000  0x00000200  -
0x00001200  0x00000C00  +
0x00001E00  0x00000200  *
0x00002000  0x00000E00  /
0x00002E00  0x00000200  -
0x00003000  0x00001000  ?
0x00004000  0x00001000  +
";

    #[test]
    fn only_what_is_finished_is_good() {
        let map = BadMap::parse(MAP).unwrap();
        assert_eq!(map.bad, [0x1000..0x1200, 0x1E00..0x4000, 0x5000..u64::MAX]);
        assert_eq!(map.end, 0x5000);
    }

    #[test]
    fn other_ways_to_write_the_same() {
        // Decimal, octal, without a pass as before 1.22, comments behind, no final line feed.
        let map = BadMap::parse("0 ?\n\n 0 4096 + # all well\r\n010000 512 -\n4608\t0xE00 +").unwrap();
        assert_eq!((map.bad, map.end), (vec![4096..4608, 8192..u64::MAX], 8192));
        // A map of a part: nothing is known of the rest. Blocks side by side are one.
        let map = BadMap::parse("0 + 1\n512 512 +\n1024 512 +\n2048 0 +\n").unwrap();
        assert_eq!((map.bad, map.end), (vec![0..512, 1536..u64::MAX], 2048));
        let map = BadMap::parse("0 + 1\n0 0xffffffffffffffff +\n").unwrap();
        assert_eq!((map.bad.len(), map.end), (0, u64::MAX));
        let map = BadMap::parse("0 F 1\n0 512 ?\n").unwrap();
        assert_eq!((map.bad.first(), map.bad.len(), map.end), (Some(&(0..u64::MAX)), 1, 512));
    }

    #[test]
    fn what_is_no_map_is_told_with_its_line() {
        let line = |text: &str| match BadMap::parse(text).unwrap_err() {
            BadMapError::Line { line, .. } | BadMapError::Order { line, .. } => line,
            BadMapError::Empty => 0,
        };
        assert_eq!(line(""), 0);
        assert_eq!(line("# nothing\n\n"), 0);
        assert_eq!(line("0x0 ? 1\n"), 0);
        assert_eq!(line("# c\nhello world\n"), 2);
        assert_eq!(line("0 x 1\n"), 1);
        assert_eq!(line("0 + 1 2\n"), 1);
        for block in
            ["0 512", "0 512 F", "0 512 + +", "-1 512 +", "+1 512 +", "0x 512 +", "09 512 +", "1 1e9 +"]
        {
            assert_eq!(line(&format!("0 + 1\n0 1 +\n{block}\n")), 3, "{block}");
        }
        assert_eq!(line("0 + 1\n0 512 +\n256 512 +\n"), 3);
        assert_eq!(line("0 + 1\n512 512 +\n0 512 +\n"), 3);
        assert_eq!(line("0 + 1\n1 0xffffffffffffffff +\n"), 2);
        let error =
            BadMap::parse("0 + 1\n0 512 maybe and much more text that nobody wants to read in one line\n");
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("line 2: '0 512 maybe") && error.len() < 200, "{error}");
    }

    #[test]
    fn what_touches_a_hole_is_an_error() {
        let bytes: Vec<u8> = (0..100).collect();
        let holes = Holes::new(bytes.as_slice(), vec![60..70, 10..20, 15..30, 30..31, 50..50, 90..u64::MAX]);
        assert_eq!(holes.bad(), [10..31, 60..70, 90..u64::MAX]);
        assert_eq!((holes.len_bytes(), holes.inner().len()), (100, 100));
        for offset in 0..=100u64 {
            for len in 0..=100 - offset {
                let is_bad = (offset..offset + len)
                    .any(|at| (10..31).contains(&at) || (60..70).contains(&at) || at >= 90);
                match holes.bytes(offset, len) {
                    Ok(read) => assert!(!is_bad && read == bytes.as_slice().bytes(offset, len).unwrap()),
                    Err(SourceError::Read { .. }) => assert!(is_bad),
                    Err(SourceError::OutOfRange { .. }) => panic!("{offset} {len}"),
                }
            }
        }
        assert!(matches!(holes.bytes(95, 6), Err(SourceError::OutOfRange { .. })));
        assert!(matches!(holes.bytes(u64::MAX, 6), Err(SourceError::OutOfRange { .. })));
        let error = holes.bytes(0, 100).unwrap_err().to_string();
        assert!(error.contains("bytes 0xa to 0x1f were not rescued"), "{error}");
        let error = holes.bytes(95, 5).unwrap_err().to_string();
        assert!(error.contains("bytes 0x5a to 0x64 were not rescued"), "{error}");
    }
}
