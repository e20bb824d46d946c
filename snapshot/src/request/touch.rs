//! Which keys and members a request concerns.

use super::message::Message;
use super::schema::Role;
use super::wire::Value;

/// A key, or a range of keys, as requests name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// The key, or the first key of the range.
    pub key: &'a [u8],
    /// Empty for the key alone; `\0` for all keys from the first on; else the key after the last (FORMATS G.7).
    pub range_end: &'a [u8],
}

/// Keys that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix<'a>(pub &'a [u8]);

/// Where a range without an end ends.
const NO_END: &[u8] = b"\0";

impl<'a> KeyRange<'a> {
    /// The range this message names itself; `None` when messages of its type name none.
    pub(super) fn of(message: Message<'a>) -> Option<Self> {
        let number_of = |role| {
            let mut fields = message.kind().fields.iter();
            fields.find(|field| field.role == role).map(|field| field.number)
        };
        let bytes = |role| match number_of(role).and_then(|number| message.last(number)) {
            Some(Value::Bytes(bytes)) => bytes,
            _ => &[],
        };
        number_of(Role::Key)?;
        Some(Self { key: bytes(Role::Key), range_end: bytes(Role::RangeEnd) })
    }

    /// Whether this key is the key, or in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.range_end {
            [] => self.key == key,
            NO_END => key >= self.key,
            end => self.key <= key && key < end,
        }
    }

    /// Whether a key that begins so is the key, or may be in the range.
    #[must_use]
    pub fn meets(&self, Prefix(prefix): Prefix<'_>) -> bool {
        if self.range_end.is_empty() {
            return self.key.starts_with(prefix);
        }
        // The keys with this prefix are those from it on and before the first key that is greater and has it not.
        let begins_before_their_end = self.key <= prefix || self.key.starts_with(prefix);
        let ends_after_their_begin = self.range_end == NO_END || self.range_end > prefix;
        let holds_any = self.range_end == NO_END || self.key < self.range_end;
        begins_before_their_end && ends_after_their_begin && holds_any
    }
}

/// The member whose record in the v2 store this path is, or lies in (FORMATS F.2).
pub(super) fn member_of_path(path: &[u8]) -> Option<u64> {
    let rest = path.strip_prefix(b"/0/members/").or_else(|| path.strip_prefix(b"/0/removed_members/"))?;
    let id = rest.split(|byte| *byte == b'/').next()?;
    if !(1..=16).contains(&id.len()) || !id.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range<'a>(key: &'a [u8], range_end: &'a [u8]) -> KeyRange<'a> {
        KeyRange { key, range_end }
    }

    #[test]
    fn the_forms_of_a_range() {
        assert!(range(b"a", b"").contains(b"a"));
        assert!(!range(b"a", b"").contains(b"aa"));
        assert!(range(b"a", b"\0").contains(b"zz"));
        assert!(!range(b"b", b"\0").contains(b"a"));
        assert!(range(b"a", b"b").contains(b"azz"));
        assert!(!range(b"a", b"b").contains(b"b"));
        assert!(!range(b"b", b"a").meets(Prefix(b"")));
        assert!(range(b"/a/", b"/a0").meets(Prefix(b"/a/key")));
        assert!(range(b"/a/key", b"").meets(Prefix(b"/a/")));
        assert!(!range(b"/a/", b"/a0").meets(Prefix(b"/b")));
    }

    #[test]
    fn members_in_paths() {
        assert_eq!(member_of_path(b"/0/members/2fa0a134ee80bef8/attributes"), Some(0x2fa0_a134_ee80_bef8));
        assert_eq!(member_of_path(b"/0/removed_members/a"), Some(0xa));
        for path in [&b"/0/members/"[..], b"/0/members/xyz", b"/0/version", b"/0/members/12345678901234567"] {
            assert_eq!(member_of_path(path), None);
        }
    }

    proptest! {
        /// A range meets a prefix if it contains one of the keys with it, tried over a small alphabet.
        #[test]
        fn meets_is_not_empty(key in "[ab]{0,3}", end in prop_oneof![Just(String::new()), Just("\0".to_owned()), "[abc]{1,3}"], prefix in "[ab]{0,2}") {
            let range = range(key.as_bytes(), end.as_bytes());
            let mut all = vec![prefix.clone()];
            for at in 0.. {
                let Some(stem) = all.get(at).cloned() else { break };
                if stem.len() < 5 {
                    all.extend(["a", "b", "c"].map(|next| stem.clone() + next));
                }
            }
            // Keys in between that the alphabet lacks do not matter: ends are at most three letters long.
            let any = all.iter().any(|key| range.contains(key.as_bytes()));
            prop_assert_eq!(range.meets(Prefix(prefix.as_bytes())), any);
        }
    }
}
