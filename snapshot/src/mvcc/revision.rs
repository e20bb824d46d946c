//! Revision keys: the keys of bucket `key` (FORMATS B.2).

/// Length of a revision key in bytes; a tombstone's is one longer.
pub const REVISION_KEY_BYTES: usize = 17;
const SEPARATOR: u8 = b'_';
const TOMBSTONE_MARK: u8 = b't';

/// The key of one record in bucket `key`: which revision, and whether it deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    /// The store's revision.
    pub main: i64,
    /// The operation's number within it.
    pub sub: i64,
    /// True when the record is a tombstone.
    pub tombstone: bool,
}

impl Revision {
    /// Parses a key of bucket `key`; `None` when it is none, which 3.6 and later die on.
    #[must_use]
    pub fn parse(key: &[u8]) -> Option<Self> {
        let tombstone = match key.get(REVISION_KEY_BYTES..)? {
            [] => false,
            [TOMBSTONE_MARK] => true,
            _ => return None,
        };
        let main = i64::from_be_bytes(key.get(..8)?.try_into().ok()?);
        let sub = i64::from_be_bytes(key.get(9..REVISION_KEY_BYTES)?.try_into().ok()?);
        (key.get(8) == Some(&SEPARATOR) && main >= 0 && sub >= 0).then_some(Self { main, sub, tombstone })
    }

    /// The key as it stands in the bucket.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(REVISION_KEY_BYTES + 1);
        self.encode_into(&mut key);
        key
    }

    /// Makes `key` what [`Self::encode`] gives.
    pub fn encode_into(&self, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(&self.main.to_be_bytes());
        key.push(SEPARATOR);
        key.extend_from_slice(&self.sub.to_be_bytes());
        if self.tombstone {
            key.push(TOMBSTONE_MARK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_keys_round_trip_and_refuse_what_3_6_panics_on() {
        for revision in [
            Revision { main: 2, sub: 0, tombstone: false },
            Revision { main: i64::MAX, sub: 7, tombstone: true },
        ] {
            assert_eq!(Revision::parse(&revision.encode()), Some(revision));
        }
        let good = Revision { main: 5, sub: 1, tombstone: false }.encode();
        let mut wrong_separator = good.clone();
        wrong_separator[8] = b'-';
        let mut negative = good.clone();
        negative[0] = 0x80;
        let mut wrong_mark = good.clone();
        wrong_mark.push(b'x');
        for bad in [&good[..16], b"alarm", &[], &wrong_separator, &negative, &wrong_mark] {
            assert_eq!(Revision::parse(bad), None, "{bad:?}");
        }
    }
}
