//! etcd's ranges of user keys.

/// A range of user keys, from a first one up to, but without, an end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRange {
    start: Vec<u8>,
    /// `None`: up to the last key.
    end: Option<Vec<u8>>,
}

/// The end of a range that has none, as requests write it.
const NO_END: &[u8] = b"\0";

impl KeyRange {
    /// Every key, the empty one included. No request reaches that one, but a store whose revision was bumped holds it
    /// (FORMATS X 22).
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only `key`.
    #[must_use]
    pub fn single(key: &[u8]) -> Self {
        let mut end = key.to_vec();
        end.push(0);
        Self { start: key.to_vec(), end: Some(end) }
    }

    /// The keys that begin with `prefix`; all but the empty key when that is empty, which etcdctl makes `\0` to the end of.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        if prefix.is_empty() {
            return Self::from_key(NO_END);
        }
        let end = prefix.iter().rposition(|byte| *byte != u8::MAX).map(|last| {
            let mut end = prefix.get(..=last).unwrap_or_default().to_vec();
            if let Some(byte) = end.last_mut() {
                *byte = byte.saturating_add(1);
            }
            end
        });
        Self { start: prefix.to_vec(), end }
    }

    /// `key` and everything after it.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Self {
        Self { start: key.to_vec(), end: None }
    }

    /// The range of a request: `key` alone when `range_end` is empty, from `key` on when that is `\0`, else up to it.
    #[must_use]
    pub fn between(key: &[u8], range_end: &[u8]) -> Self {
        match range_end {
            [] => Self::single(key),
            NO_END => Self::from_key(key),
            end => Self { start: key.to_vec(), end: Some(end.to_vec()) },
        }
    }

    /// The first key that may be in.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first key beyond; `None` when there is none.
    #[must_use]
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    /// Whether `key` is in.
    #[inline]
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// Whether every key is in.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.start.is_empty() && self.end.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_a_server_takes_them_for() {
        type Keys<'a> = &'a [&'a [u8]];
        let cases: [(KeyRange, Keys<'_>, Keys<'_>); 8] = [
            (KeyRange::all(), &[b"", b"\0", b"\xff\xff"], &[]),
            (KeyRange::single(b"a"), &[b"a"], &[b"", b"a\0", b"b"]),
            (KeyRange::single(b""), &[b""], &[b"\0", b"a"]),
            (KeyRange::prefix(b"a\xff"), &[b"a\xff", b"a\xff\xff"], &[b"a", b"b", b"a\xfe"]),
            (KeyRange::prefix(b"\xff"), &[b"\xff", b"\xff\xff\x01"], &[b"\xfe", b""]),
            (KeyRange::prefix(b""), &[b"\0", b"z"], &[b""]),
            (KeyRange::between(b"b", b"\0"), &[b"b", b"c"], &[b"a"]),
            (KeyRange::between(b"b", b"a"), &[], &[b"a", b"b"]),
        ];
        for (range, inside, outside) in cases {
            assert!(inside.iter().all(|key| range.contains(key)), "{range:?}");
            assert!(!outside.iter().any(|key| range.contains(key)), "{range:?}");
        }
        assert_eq!(KeyRange::between(b"k", b""), KeyRange::single(b"k"));
        assert!(KeyRange::default().is_all() && !KeyRange::prefix(b"").is_all());
    }
}
