//! The rows of bucket `meta`, made to go with the key space that was chosen.

use bbolt::graft::Pairs;

use super::choose::Point;
use super::words::Consequence;
use crate::mvcc::Revision;
use crate::schema::{
    CONF_STATE, CONSISTENT_INDEX, FINISHED_COMPACT, SCHEDULED_COMPACT, STORAGE_VERSION, TERM,
};
use crate::target::minor_of;

/// The first minor version that keeps a version of the schema.
const KEEPS_STORAGE_VERSION: u32 = 6;

/// Makes `rows` say where the key space stands, and says what follows from what they lack. `version` is that of the cluster, where
/// rows may have been lost.
pub(super) fn settle(rows: &mut Pairs, point: &Point, version: Option<&[u8]>) -> Vec<Consequence> {
    let mut follows = Vec::new();
    match point.entry {
        Some((index, term)) => {
            rows.insert(CONSISTENT_INDEX.to_vec(), index.to_be_bytes().to_vec());
            if term > 0 {
                rows.insert(TERM.to_vec(), term.to_be_bytes().to_vec());
            } else {
                rows.remove(TERM);
            }
        }
        None => {
            rows.remove(CONSISTENT_INDEX);
            rows.remove(TERM);
            follows.push(Consequence::ConsistentIndexLost);
        }
    }
    if point.entry.is_some() && point.is_beyond {
        follows.push(Consequence::ConsistentIndexOlder);
    }
    // What is ordered and not done a server does when it starts; here it is done.
    for row in [SCHEDULED_COMPACT, FINISHED_COMPACT] {
        match point.compacted {
            Some(main) => {
                rows.insert(row.to_vec(), Revision { main, sub: 0, tombstone: false }.encode());
            }
            None => {
                rows.remove(row);
            }
        }
    }
    let minor = version.and_then(|version| minor_of(&String::from_utf8_lossy(version)));
    if let Some(minor) = minor.filter(|minor| *minor >= KEEPS_STORAGE_VERSION)
        && !rows.contains_key(STORAGE_VERSION)
    {
        let version = format!("3.{minor}.0");
        rows.insert(STORAGE_VERSION.to_vec(), version.clone().into_bytes());
        follows.push(Consequence::StorageVersionDerived { version });
    }
    follows
}

/// Where the rows say that the key space stands.
pub(super) fn point_of(rows: &Pairs) -> Point {
    let number = |key: &[u8]| Some(u64::from_be_bytes(rows.get(key)?.as_slice().try_into().ok()?));
    let revision = |key: &[u8]| Some(Revision::parse(rows.get(key)?)?.main);
    Point {
        entry: number(CONSISTENT_INDEX).map(|index| (index, number(TERM).unwrap_or_default())),
        is_beyond: false,
        compacted: revision(SCHEDULED_COMPACT).max(revision(FINISHED_COMPACT)),
    }
}

/// Whether the row says what may have changed since an older page: the others are made to go with the key space, or servers make
/// them anew.
pub(super) fn is_doubtful(key: &[u8]) -> bool {
    key == STORAGE_VERSION || key == CONF_STATE
}
