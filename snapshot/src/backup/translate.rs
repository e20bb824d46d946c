//! Which entries of a log a backup keeps, and which it empties (etcdutl 3.5, `translateWAL`).
//!
//! An emptied entry keeps its place: it is then like the one with which a leader begins its term, and means nothing. So no other
//! entry moves, and the consistent index of the database goes on naming the same entry.

use wal::EntryRef;
use wal::raftpb::EntryType;

use crate::request::{self, Decoded, Message, Request};

/// Fields of a v2 request.
const METHOD: i32 = 2;
const PATH: i32 = 3;
const PREV_INDEX: i32 = 7;
/// Fields of a v3 request.
const V2: i32 = 2;
const HEADER: i32 = 100;
const CLUSTER_MEMBER_ATTR_SET: i32 = 1301;

/// Why an entry is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptied {
    /// It changes who the members are.
    Membership,
    /// It publishes a member's name and client URLs.
    Attributes,
    /// It is a request of the v3 API, which are left out.
    V3,
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is kept.
    Kept,
    /// It is kept, and goes by the index of the v2 store, which is another one in the backup: a comparison with it, or a key created
    /// in order.
    KeptByIndex,
    /// It is emptied.
    Emptied(Emptied),
}

/// An entry that no server understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} {what}, and no server goes on behind it")]
pub struct NoRequest {
    /// Its index.
    pub index: u64,
    /// What it is instead.
    pub what: String,
}

/// What becomes of `entry`.
///
/// # Errors
/// [`NoRequest`].
pub fn fate(entry: &EntryRef<'_>, with_v3: bool) -> Result<Fate, NoRequest> {
    let no_request = |what: String| NoRequest { index: entry.index, what };
    if entry.entry_type == i32::from(EntryType::ConfChange) {
        return Ok(Fate::Emptied(Emptied::Membership));
    }
    if entry.entry_type != i32::from(EntryType::Normal) {
        return Err(no_request(format!("is of type {}", entry.entry_type)));
    }
    match request::decode(entry.data) {
        Decoded::Nothing => Ok(Fate::Kept),
        Decoded::V2(request) => Ok(of_v2(request.message())),
        Decoded::V3(request) => Ok(of_v3(&request, with_v3)),
        Decoded::Undecodable { v3, .. } => Err(no_request(format!("is no request ({v3})"))),
    }
}

fn of_v3(request: &Request<'_>, with_v3: bool) -> Fate {
    let message = request.message();
    if let Some(wrapped) = message.message(V2) {
        return of_v2(wrapped);
    }
    if message.message(CLUSTER_MEMBER_ATTR_SET).is_some() {
        return Fate::Emptied(Emptied::Attributes);
    }
    if !with_v3 && message.message(HEADER).is_some() { Fate::Emptied(Emptied::V3) } else { Fate::Kept }
}

fn of_v2(request: Message<'_>) -> Fate {
    let method = request.data(METHOD);
    if method == b"PUT" && names_attributes(request.data(PATH)) {
        return Fate::Emptied(Emptied::Attributes);
    }
    let compares = matches!(method, b"PUT" | b"DELETE") && request.number(PREV_INDEX) != 0;
    if compares || method == b"POST" { Fate::KeptByIndex } else { Fate::Kept }
}

/// Whether servers up to 3.5 take this path for that of a member's attributes: they look for it anywhere in it.
fn names_attributes(path: &[u8]) -> bool {
    const BEFORE: &[u8] = b"/0/members/";
    const BEHIND: &[u8] = b"/attributes";
    const MOST_DIGITS: usize = 16;
    (0..path.len()).any(|at| {
        let Some(rest) = path.get(at..).and_then(|rest| rest.strip_prefix(BEFORE)) else { return false };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        (1..=MOST_DIGITS).contains(&digits) && rest.get(digits..).is_some_and(|rest| rest.starts_with(BEHIND))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn normal(data: &[u8]) -> EntryRef<'_> {
        EntryRef { entry_type: 0, index: 7, term: 1, data }
    }

    #[test]
    fn what_publishes_a_member_is_emptied() {
        // {ID: 7, Method: "PUT", Path: "/0/members/8e9e/attributes"}, as it is and wrapped.
        let v2 = b"\x08\x07\x12\x03PUT\x1a\x1a/0/members/8e9e/attributes";
        assert_eq!(fate(&normal(v2), true), Ok(Fate::Emptied(Emptied::Attributes)));
        let wrapped = [b"\x12\x23", &v2[..]].concat();
        assert_eq!(fate(&normal(&wrapped), true), Ok(Fate::Emptied(Emptied::Attributes)));
        // {header: {ID: 7}, cluster_member_attr_set: {}}
        assert_eq!(
            fate(&normal(b"\xa2\x06\x02\x08\x07\xaa\x51\x00"), true),
            Ok(Fate::Emptied(Emptied::Attributes))
        );
        // A read of it is not, nor is the cluster's version.
        assert_eq!(
            fate(&normal(b"\x08\x07\x12\x04QGET\x1a\x1a/0/members/8e9e/attributes"), true),
            Ok(Fate::Kept)
        );
        assert_eq!(fate(&normal(b"\x08\x07\x12\x03PUT\x1a\x0a/0/version"), true), Ok(Fate::Kept));
    }

    #[test]
    fn what_goes_by_the_index_is_told() {
        // {Method: "PUT", Path: "/1/a", PrevIndex: 9}, {Method: "DELETE", ...}, {Method: "POST", Path: "/1/a"}
        for data in [
            &b"\x12\x03PUT\x1a\x04/1/a\x38\x09"[..],
            b"\x12\x06DELETE\x1a\x04/1/a\x38\x09",
            b"\x12\x04POST\x1a\x04/1/a",
        ] {
            let whole = [b"\x08\x07", data].concat();
            assert_eq!(fate(&normal(&whole), true), Ok(Fate::KeptByIndex), "{}", data.escape_ascii());
        }
        let plain = b"\x08\x07\x12\x03PUT\x1a\x04/1/a\x38\x00";
        assert_eq!(fate(&normal(plain), true), Ok(Fate::Kept));
    }

    #[test]
    fn requests_of_v3_stay_unless_they_are_left_out() {
        // {header: {ID: 7}, put: {key: "k"}}
        let put = b"\x22\x03\x0a\x01k\xa2\x06\x02\x08\x07";
        assert_eq!(fate(&normal(put), true), Ok(Fate::Kept));
        assert_eq!(fate(&normal(put), false), Ok(Fate::Emptied(Emptied::V3)));
        // Nothing to leave out: a new leader's first, and a v2 request.
        assert_eq!(fate(&normal(b""), false), Ok(Fate::Kept));
        assert_eq!(fate(&normal(b"\x08\x07\x12\x03PUT\x1a\x06/1/foo"), false), Ok(Fate::Kept));
    }

    #[test]
    fn changes_of_members_are_emptied_whatever_they_hold() {
        let entry = EntryRef { entry_type: 1, index: 7, term: 1, data: b"\xff" };
        assert_eq!(fate(&entry, true), Ok(Fate::Emptied(Emptied::Membership)));
        let joint = EntryRef { entry_type: 2, ..entry };
        assert_eq!(fate(&joint, true).unwrap_err().index, 7);
        assert!(fate(&normal(b"\xff"), true).unwrap_err().what.starts_with("is no request"));
    }

    #[test]
    fn paths_of_attributes_are_found_as_the_servers_own_expression_finds_them() {
        for (path, found) in [
            ("/0/members/8e9e05c52164694d/attributes", true),
            ("/0/members/a/attributes", true),
            ("/1/0/members/a/attributes/x", true),
            ("/0/members/0/members/a/attributes", true),
            ("/0/members//attributes", false),
            ("/0/members/8e9e05c52164694d1/attributes", false),
            ("/0/members/xyz/attributes", false),
            ("/0/members/a/raftAttributes", false),
            ("", false),
        ] {
            assert_eq!(names_attributes(path.as_bytes()), found, "{path}");
        }
    }
}
