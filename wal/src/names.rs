//! File names of segments and snapshots.
//!
//! All numbers are hexadecimal and zero padded to 16 digits. A segment is named by its sequence number and the index
//! of the first entry expected in it; a `.snap` by term, then index (FORMATS E.1, F.1). Parsers take one to
//! sixteen digits of either case, as etcd's do.

/// The name of the segment with this sequence number whose first entry has this raft index.
#[must_use]
pub fn segment_name(seq: u64, index: u64) -> String {
    format!("{seq:016x}-{index:016x}.wal")
}

/// Sequence number and first raft index of a segment's name; `None` for any other name.
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<(u64, u64)> {
    pair(name.strip_suffix(".wal")?)
}

/// The name of the `.snap` file of this raft term and index.
#[must_use]
pub fn snap_name(term: u64, index: u64) -> String {
    format!("{term:016x}-{index:016x}.snap")
}

/// Term and index of a `.snap` file's name; `None` for any other name.
#[must_use]
pub fn parse_snap_name(name: &str) -> Option<(u64, u64)> {
    pair(name.strip_suffix(".snap")?)
}

/// The name under which a db received from the leader waits for its installation at this raft index.
#[must_use]
pub fn snap_db_name(index: u64) -> String {
    format!("{index:016x}.snap.db")
}

/// The raft index of a `.snap.db` file's name; `None` for any other name.
#[must_use]
pub fn parse_snap_db_name(name: &str) -> Option<u64> {
    hex(name.strip_suffix(".snap.db")?)
}

fn pair(stem: &str) -> Option<(u64, u64)> {
    let (first, second) = stem.split_once('-')?;
    Some((hex(first)?, hex(second)?))
}

fn hex(digits: &str) -> Option<u64> {
    // from_str_radix would also take a sign.
    if !(1..=16).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_real_files() {
        assert_eq!(segment_name(0, 0), "0000000000000000-0000000000000000.wal");
        assert_eq!(snap_name(3, 0xd0), "0000000000000003-00000000000000d0.snap");
        assert_eq!(parse_snap_name("0000000000000003-00000000000000d0.snap"), Some((3, 0xd0)));
        assert_eq!(parse_segment_name("0000000000000000-0000000000000000.wal"), Some((0, 0)));
        assert_eq!(parse_snap_db_name("00000000000000d0.snap.db"), Some(0xd0));
        assert_eq!(parse_segment_name("1-AB.wal"), Some((1, 0xab)));
    }

    #[test]
    fn other_names_of_a_member_directory_are_none() {
        for name in [
            "0.tmp",
            "0000000000000000-0000000000000000.wal.broken",
            "0000000000000000-0000000000000000.tmp",
            "0000000000000003-00000000000000d0.snap.broken",
            "db",
            "tmp123",
            "",
            ".wal",
            "-.wal",
            "+1-2.wal",
            "1--2.wal",
            "00000000000000000-0.wal",
            "é-1.wal",
        ] {
            assert_eq!(parse_segment_name(name), None, "{name}");
            assert_eq!(parse_snap_name(name), None, "{name}");
            assert_eq!(parse_snap_db_name(name), None, "{name}");
        }
        assert_eq!(parse_snap_name("00000000000000d0.snap.db"), None);
        assert_eq!(parse_snap_db_name("0000000000000003-00000000000000d0.snap"), None);
    }

    proptest! {
        #[test]
        fn round_trip(first in any::<u64>(), second in any::<u64>()) {
            prop_assert_eq!(parse_segment_name(&segment_name(first, second)), Some((first, second)));
            prop_assert_eq!(parse_snap_name(&snap_name(first, second)), Some((first, second)));
            prop_assert_eq!(parse_snap_db_name(&snap_db_name(first)), Some(first));
        }

        #[test]
        fn any_text_is_safe(name in ".*") {
            let _ = (parse_segment_name(&name), parse_snap_name(&name), parse_snap_db_name(&name));
        }
    }
}
