//! Replay: whatever entries come over a small real database, they are applied or stopped at, the consistent index moves with
//! them, and what is folded in the end is a sound database that says what the replay said.

use std::sync::LazyLock;

use bbolt::rebuild::{RebuildOptions, edit};
use bbolt::{Db, check};
use snapshot::edited::Change;
use snapshot::mvcc::{Index, IndexOptions, Release};
use snapshot::replay::small::Name;
use snapshot::replay::{Applied, Replay, ReplayOptions, Stop};
use snapshot::request::decode;
use snapshot::request::schema::{
    CONF_CHANGE, Field, INTERNAL_RAFT_REQUEST, Kind, Label, MessageType, REQUEST_HEADER, Role, V2_REQUEST,
};
use wal::EntryRef;

/// Databases of servers of every kind of content, cut down to their live pages: one that has just started, and one in use,
/// of two versions.
static BASES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    ["3.5.16-used", "3.4.23-used", "3.5.16-first", "3.4.23-first"]
        .iter()
        .map(|name| testdata::decompressed(&format!("fixtures/replay/{name}.db.zst")))
        .collect()
});

/// Entries applied of one input.
const MOST_ENTRIES: usize = 300;
/// Entries with a password of one input: hashing one takes long.
const MOST_SECRETS: usize = 6;
/// Messages within messages of one request that is made.
const MOST_DEPTH: u32 = 5;

const KEYS: [&[u8]; 12] =
    [b"", b"\0", b"a", b"a\0", b"a/1", b"a/2", b"b", b"b/1", b"c", b"c\xff", b"z", b"\xff"];
const TEXTS: [&str; 18] = [
    "",
    "root",
    "alice",
    "bob",
    "carol",
    "d\u{e4}ve",
    "nobody",
    "r1",
    "r2",
    "p0",
    "3.4.0",
    "3.5.0",
    "3.6.0",
    "PUT",
    "DELETE",
    "/0/members/8e9e05c52164694d/attributes",
    "/0/version",
    "{\"name\":\"m1\",\"clientURLs\":[\"http://127.0.0.1:1\"]}",
];
const CONTEXTS: [&str; 4] = [
    "{\"id\":77,\"peerURLs\":[\"http://127.0.0.1:9\"],\"isLearner\":true}",
    "{\"id\":77,\"peerURLs\":[\"http://127.0.0.1:9\"],\"isPromote\":true}",
    "{\"id\":78,\"peerURLs\":[\"http://127.0.0.1:8\"]}",
    "{\"id\":78,\"peerURLs\":null}",
];

/// A byte picks the database, one the release; then each entry is a byte of what it is, and either its length and its data, or
/// bytes that choose the fields of a request.
pub(crate) fn entries(input: &[u8]) {
    let Some(([base, release], program)) = input.split_first_chunk() else { return };
    let base = &BASES[usize::from(*base) % BASES.len()];
    let release: Release = match release % 4 {
        0 => "3.5.16",
        1 => "3.4.23",
        2 => "3.5.1",
        _ => "3.6",
    }
    .parse()
    .unwrap_or_else(|error| panic!("{error}"));
    let options = ReplayOptions { release, ..ReplayOptions::default() };
    let entries: Vec<Made> = Program(program).entries();
    let Some((whole, _)) = folded(base, options, &entries, false) else { return };
    // The same in two goes, where a server that starts in between is none the wiser.
    let (first, second) = entries.split_at(entries.len() / 2);
    if let Some((half, true)) = folded(base, options, first, true)
        && let Some((again, _)) = folded(&half, options, second, false)
    {
        assert_eq!(said(&whole, release), said(&again, release), "in one go, and in two");
    }
}

/// An entry that is made, but for its index.
struct Made {
    entry_type: i32,
    raises_term: bool,
    data: Vec<u8>,
}

/// Applies what can be applied, and writes the outcome; and whether it stands at a place where a server that starts goes on as
/// one that ran. `None` when it came to no entry.
fn folded(base: &[u8], options: ReplayOptions, entries: &[Made], stands: bool) -> Option<(Vec<u8>, bool)> {
    let db = Db::from_source(base).unwrap_or_else(|error| panic!("{error}"));
    let mut replay = Replay::of(&db, options, &()).unwrap_or_else(|error| panic!("{error}"));
    let mut stopped = false;
    for made in entries {
        let before = (replay.consistent_index(), replay.revision(), replay.compact_revision());
        let term = replay.term().max(1).saturating_add(u64::from(made.raises_term));
        let entry =
            EntryRef { entry_type: made.entry_type, term, index: before.0.checked_add(1)?, data: &made.data };
        let small = replay.small().clone();
        let done = replay.apply(&entry);
        let after = (replay.consistent_index(), replay.revision(), replay.compact_revision());
        match done {
            Ok(applied) => {
                assert_eq!((after.0, replay.term()), (entry.index, term), "the index moves with every entry");
                assert!(after.1 == before.1 || Some(after.1) == before.1.checked_add(1), "one revision");
                assert!(after.2 >= before.2 && after.2.is_none_or(|at| at <= after.1), "compacted ahead");
                if applied != Applied::Changed {
                    assert_eq!((after.1, after.2), (before.1, before.2), "{applied:?}");
                }
            }
            Err(Stop { index, .. }) => {
                assert_eq!((index, after), (entry.index, before), "a stop does nothing");
                assert!(*replay.small() == small, "a stop does nothing");
                stopped = true;
            }
        }
    }
    let small = replay.small();
    // An alarm that stands is another thing to a server that starts, and so is a lease below zero.
    let stands = stands
        && !stopped
        && small.rows(Name::Alarm).is_empty()
        && small.rows(Name::Lease).keys().all(|id| id.first().is_none_or(|byte| *byte < 0x80));
    let said = (replay.consistent_index(), replay.revision(), replay.compact_revision());
    let small = small.clone();
    let folded = replay.fold(&()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((folded.consistent_index(), folded.revision(), folded.compact_revision()), said);
    let edits = folded.edits();
    let out = match folded.change(&edits) {
        None => base.to_vec(),
        Some(Change::Patch(patch)) => {
            let mut out = base.to_vec();
            patch.apply_to_vec(&mut out);
            out
        }
        Some(Change::Rebuild { edits, .. }) => {
            let mut out = Vec::new();
            let rebuilt = edit(&db, &mut out, &RebuildOptions::default(), edits, &());
            assert!(rebuilt.is_ok(), "{rebuilt:?}");
            out
        }
    };
    let new = Db::from_source(out.as_slice()).unwrap_or_else(|error| panic!("{error}"));
    let report = check(&new, &());
    assert!(report.is_sound(), "{:?}", report.findings);
    let again = Replay::of(&new, options, &()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((again.consistent_index(), again.revision(), again.compact_revision()), said);
    for name in Name::ALL {
        if name != Name::Meta {
            assert!(again.small().rows(name) == small.rows(name), "{name:?}");
        }
    }
    drop(again);
    drop(new);
    Some((out, stands))
}

/// What a file says: every record, and every row.
fn said(file: &[u8], release: Release) -> Vec<Vec<u8>> {
    let db = Db::from_source(file).unwrap_or_else(|error| panic!("{error}"));
    let options = IndexOptions { release, ..IndexOptions::default() };
    let index = Index::build(&db, &options, &()).unwrap_or_else(|error| panic!("{error}"));
    let revision = index.store().current_revision;
    let newest = index.histories().filter_map(|history| history.at(revision));
    let mut said: Vec<Vec<u8>> = newest
        .map(|entry| index.record(entry).unwrap_or_else(|error| panic!("{error}")).bytes.into_owned())
        .collect();
    let replay = Replay::of(&db, ReplayOptions { release, ..ReplayOptions::default() }, &());
    let replay = replay.unwrap_or_else(|error| panic!("{error}"));
    for name in Name::ALL {
        for (key, value) in replay.small().rows(name) {
            // A password given in clear is hashed with another salt each time.
            let hash = value.windows(4).position(|window| window == b"$2a$" || window == b"$2b$");
            let value = hash.filter(|_| name == Name::AuthUsers).map_or(&**value, |at| &value[..at]);
            said.push([name.bytes(), key, value].concat());
        }
    }
    said
}

/// What is left of the input.
struct Program<'i>(&'i [u8]);

impl<'i> Program<'i> {
    /// 0 when nothing is left, which chooses nothing.
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn take(&mut self, len: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    fn entries(mut self) -> Vec<Made> {
        let (mut entries, mut secrets) = (Vec::new(), 0);
        while !self.0.is_empty() && entries.len() < MOST_ENTRIES {
            let what = self.byte();
            let raises_term = what & 0x80 != 0;
            let (entry_type, data) = match what & 0x7f {
                kind @ 0..4 => {
                    let len = u16::from_le_bytes([self.byte(), self.byte()]);
                    ([0, 1, 2, 7][usize::from(kind)], self.take(len.into()).to_vec())
                }
                4..8 => (1, self.message(&CONF_CHANGE, 0)),
                8..12 => (0, self.message(&V2_REQUEST, 0)),
                _ => (0, self.request()),
            };
            if decode(&data).request().is_some_and(snapshot::request::Request::holds_secret) {
                secrets += 1;
                if secrets > MOST_SECRETS {
                    continue;
                }
            }
            entries.push(Made { entry_type, raises_term, data });
        }
        entries
    }

    /// One of all requests, from somebody.
    fn request(&mut self) -> Vec<u8> {
        let [header, _, kinds @ ..] = INTERNAL_RAFT_REQUEST.fields else { return Vec::new() };
        let kind = self.pick(kinds);
        let mut out = Vec::new();
        self.field(&kind, 0, &mut out);
        let mut named = vec![8, 1];
        for field in REQUEST_HEADER.fields {
            if field.name != "ID" && self.byte() > 63 {
                self.field(field, 0, &mut named);
            }
        }
        put_bytes(header, &named, &mut out);
        out
    }

    fn message(&mut self, kind: &MessageType, depth: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let one_of = self.byte();
        let alternatives = kind.fields.iter().filter(|field| field.label == Label::Oneof).count();
        let mut alternative = 0;
        for field in kind.fields {
            let times = match field.label {
                Label::Oneof => {
                    alternative += 1;
                    usize::from(usize::from(one_of) % alternatives + 1 == alternative)
                }
                Label::Repeated => usize::from(self.byte() % 4),
                Label::Singular | Label::Explicit => usize::from(self.byte() > 63),
            };
            for _ in 0..times {
                self.field(field, depth, &mut out);
            }
        }
        out
    }

    fn field(&mut self, field: &Field, depth: u32, out: &mut Vec<u8>) {
        match field.kind {
            Kind::Bool => put_number(field, u64::from(self.byte() & 1), out),
            Kind::Enum(names) => {
                let number = usize::from(self.byte()) % (names.len() + 1);
                put_number(field, u64::try_from(number).unwrap_or(0), out);
            }
            Kind::Int64 | Kind::Uint64 => {
                let byte = self.byte();
                let number = match byte {
                    0..200 => byte.into(),
                    200..210 => 9_000_000_000 + u64::from(byte) - 205,
                    210..220 => 0x8e9e_05c5_2164_694d,
                    220..230 => u64::MAX,
                    230..240 => 1 << 50,
                    240..248 => 77 + u64::from(byte & 1),
                    248..252 => 1 << 63,
                    _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
                };
                put_number(field, number, out);
            }
            Kind::Bytes if matches!(field.role, Role::Key | Role::RangeEnd) => {
                put_bytes(field, self.pick(&KEYS), out);
            }
            Kind::Bytes if field.name == "context" || field.name == "Context" => {
                put_bytes(field, self.pick(&CONTEXTS).as_bytes(), out);
            }
            Kind::Bytes => {
                let len = self.byte();
                let value = vec![b'v'; usize::from(len) * if len > 250 { 30 } else { 1 }];
                put_bytes(field, &value, out);
            }
            Kind::String => put_bytes(field, self.pick(&TEXTS).as_bytes(), out),
            Kind::Message(_) if depth >= MOST_DEPTH => {}
            Kind::Message(kind) => {
                let message = self.message(kind, depth + 1);
                put_bytes(field, &message, out);
            }
        }
    }
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

fn put_number(field: &Field, number: u64, out: &mut Vec<u8>) {
    put_varint(u64::try_from(field.number).unwrap_or(0) << 3, out);
    put_varint(number, out);
}

fn put_bytes(field: &Field, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::try_from(field.number).unwrap_or(0) << 3 | 2, out);
    put_varint(u64::try_from(bytes.len()).unwrap_or(0), out);
    out.extend_from_slice(bytes);
}
