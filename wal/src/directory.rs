//! What the names in a log's directory are (FORMATS E.1).

use crate::names::parse_segment_name;

/// The name of a segment, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// The file's name.
    pub name: String,
    /// Its sequence number; consecutive segments have consecutive numbers.
    pub seq: u64,
    /// The raft index of the first entry expected in it: one more than the last saved when it was begun.
    pub index: u64,
}

impl SegmentName {
    /// Takes a name apart; `None` when it is not that of a segment.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        parse_segment_name(name).map(|(seq, index)| Self { name: name.to_owned(), seq, index })
    }
}

/// The names in a log's directory, told apart as a server does: what is not a segment's name it passes over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The segments in the order in which a server reads them: that of their names as strings.
    pub segments: Vec<SegmentName>,
    /// Copies that a server made before it cut a torn segment (`….wal.broken`).
    pub broken: Vec<String>,
    /// Segments in the making, without a record (`0.tmp`, `1.tmp`).
    pub temporary: Vec<String>,
    /// Anything else.
    pub other: Vec<String>,
}

/// Tells the names in a log's directory apart. Every list of the answer is sorted.
#[must_use]
pub fn list(names: impl IntoIterator<Item = String>) -> Listing {
    let mut listing = Listing::default();
    for name in names {
        if let Some(segment) = SegmentName::parse(&name) {
            listing.segments.push(segment);
        } else if name.strip_suffix(".broken").is_some_and(|stem| parse_segment_name(stem).is_some()) {
            listing.broken.push(name);
        } else if name.strip_suffix(".tmp").is_some() {
            listing.temporary.push(name);
        } else {
            listing.other.push(name);
        }
    }
    listing.segments.sort();
    listing.broken.sort();
    listing.temporary.sort();
    listing.other.sort();
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let names = [
            "0000000000000001-0000000000000010.wal",
            "1.tmp",
            "0000000000000000-0000000000000000.wal",
            "0000000000000000-0000000000000000.wal.broken",
            "0.tmp",
            "note.broken",
            "x.wal",
        ];
        let listing = list(names.map(str::to_owned));
        let segments: Vec<(u64, u64)> =
            listing.segments.iter().map(|segment| (segment.seq, segment.index)).collect();
        assert_eq!(segments, [(0, 0), (1, 16)]);
        assert_eq!(listing.broken, ["0000000000000000-0000000000000000.wal.broken"]);
        assert_eq!(listing.temporary, ["0.tmp", "1.tmp"]);
        assert_eq!(listing.other, ["note.broken", "x.wal"]);
    }
}
