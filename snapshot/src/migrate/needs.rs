//! Which version of etcd an entry needs, and which entries of a log keep it from being handed to an older one.
//!
//! etcdutl takes the highest annotation of all entries behind the last snapshot record that a server believes, whether they are
//! committed or not, and says that one number. Here each entry that is in the way is kept, with what in it is.

use bbolt::Watch;
use rayon::prelude::*;
use wal::log::{Log, Reach, Segments};
use wal::raftpb::EntryType;
use wal::{EntryRef, Payload, read_segment};

use super::since::{REQUEST, Since};
use crate::facts::writes_v2;
use crate::log_files::{LogFiles, LogFilesError};
use crate::request::schema::Kind;
use crate::request::{self, ConfChange, Decoded, Message, Value};
use crate::semver::{Semver, SemverError};

/// Most entries that are kept one by one.
pub const MOST_KEPT: usize = 100;

/// Field of a request that asks for a version of etcd by name, to try downgrades.
const DOWNGRADE_VERSION_TEST: i32 = 9900;
/// Field of a request that sets the cluster's version.
const CLUSTER_VERSION_SET: i32 = 1300;
/// The version in either.
const VER: i32 = 1;

/// The version that something needs, and what in it does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    /// The version.
    #[serde(serialize_with = "as_text")]
    pub version: Semver,
    /// The message, field or value that came with it, by its full name in etcd's definitions.
    pub by: String,
}

fn as_text<S: serde::Serializer>(version: &Semver, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

/// An entry that a version of etcd does not know, or that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocking {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// What it needs; `Err` says why that cannot be told.
    #[serde(flatten, serialize_with = "as_need")]
    pub need: Result<Need, Unclear>,
}

fn as_need<S: serde::Serializer>(need: &Result<Need, Unclear>, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::Serialize as _;
    #[derive(serde::Serialize)]
    struct Why {
        unclear: String,
    }
    match need {
        Ok(need) => need.serialize(serializer),
        Err(unclear) => Why { unclear: unclear.to_string() }.serialize(serializer),
    }
}

/// Why nobody can say what an entry needs. etcdutl panics over such an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// It is no request.
    #[error("its data is no request: {0}")]
    NoRequest(request::WireError),
    /// No etcd writes entries of this type.
    #[error("its type is {0}, and no etcd writes such entries")]
    Type(i32),
    /// The version in it is none.
    #[error("it tries a downgrade to a version that is none: {0}")]
    Version(SemverError),
    /// A number stands where etcd has names, and none is for it.
    #[error("{name} has the value {number}, for which etcd has no name")]
    NoName {
        /// The full name of the field.
        name: String,
        /// The number.
        number: i32,
    },
}

/// What a log needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// How many entries were looked at.
    pub entries: u64,
    /// The highest version that one of them needs, with the first that does; `None` without an entry that says so.
    pub highest: Option<(Need, u64)>,
    /// Entries that need a later version than the one asked about, ascending, at most [`MOST_KEPT`] of each segment.
    pub blocking: Vec<Blocking>,
    /// How many there are.
    pub blocking_count: u64,
    /// The versions that the cluster was given, each with the index of the entry, ascending; at most [`MOST_KEPT`] of each segment.
    pub cluster_versions: Vec<(u64, String)>,
    /// Requests of the v2 API that write keys of clients, over which 3.6 ends and which 3.7 does not see.
    pub v2_writes: u64,
}

/// What the highest annotation in `entry` is; `None` where nothing in it has one.
///
/// Requests of the v2 API, which 3.7 no longer reads, have none, as in 3.6.
///
/// # Errors
/// [`Unclear`].
pub fn of_entry(entry: &EntryRef<'_>) -> Result<Option<Need>, Unclear> {
    let says = |minor, by: &str| Need { version: Semver::minor(3, minor), by: by.to_owned() };
    if entry.entry_type == i32::from(EntryType::ConfChange) {
        return Ok(ConfChange::v1(entry.data).is_ok().then(|| says(0, "raftpb.ConfChange")));
    }
    if entry.entry_type == i32::from(EntryType::ConfChangeV2) {
        return Ok(ConfChange::v2(entry.data).is_ok().then(|| says(4, "raftpb.ConfChangeV2")));
    }
    if entry.entry_type != i32::from(EntryType::Normal) {
        return Err(Unclear::Type(entry.entry_type));
    }
    of_normal(&request::decode(entry.data))
}

fn of_normal(asked: &Decoded<'_>) -> Result<Option<Need>, Unclear> {
    match asked {
        Decoded::Nothing => Ok(Some(Need { version: Semver::minor(3, 0), by: REQUEST.name.to_owned() })),
        Decoded::V3(request) => of_request(request.message()).map(Some),
        Decoded::V2(_) => Ok(None),
        Decoded::Undecodable { v3, .. } => Err(Unclear::NoRequest(*v3)),
    }
}

/// The highest annotation in a request.
fn of_request(request: Message<'_>) -> Result<Need, Unclear> {
    let mut highest = Need { version: Semver::minor(3, 0), by: REQUEST.name.to_owned() };
    let mut stack = vec![(request, &REQUEST)];
    while let Some((message, since)) = stack.pop() {
        raise(&mut highest, since.minor, || since.name.to_owned());
        for (number, minor) in since.fields {
            if is_set(message, since, *number) {
                raise(&mut highest, Some(*minor), || since.field_name(*number));
            }
        }
        for (number, names) in since.names {
            let value = message.enumeration(*number);
            if value == 0 {
                continue;
            }
            raise(&mut highest, names.minor, || names.name.to_owned());
            let field = since.kind.fields.iter().find(|field| field.number == *number);
            let known = match field.map(|field| field.kind) {
                Some(Kind::Enum(known)) => known.len(),
                _ => 0,
            };
            if usize::try_from(value).map_or(true, |value| value >= known) {
                return Err(Unclear::NoName { name: since.field_name(*number), number: value });
            }
            if let Some((_, minor, name)) = names.values.iter().find(|(number, ..)| *number == value) {
                raise(&mut highest, Some(*minor), || (*name).to_owned());
            }
        }
        for (number, inner) in since.messages {
            stack.extend(message.message(*number).map(|message| (message, *inner)));
        }
    }
    if let Some(test) = request.message(DOWNGRADE_VERSION_TEST) {
        let text = String::from_utf8_lossy(test.data(VER)).into_owned();
        let version = Semver::parse(&text).map_err(Unclear::Version)?;
        if highest.version.is_before(&version) {
            highest = Need { version, by: REQUEST.field_name(DOWNGRADE_VERSION_TEST) };
        }
    }
    Ok(highest)
}

/// Whether a field counts as written: a message that is there, and of other values one that is not zero.
fn is_set(message: Message<'_>, since: &Since, number: i32) -> bool {
    let is_message = since.messages.iter().any(|(of, _)| *of == number);
    match message.last(number) {
        None => false,
        Some(_) if is_message => true,
        Some(Value::Number(value)) => value != 0,
        Some(Value::Bytes(bytes) | Value::Packed(bytes)) => !bytes.is_empty(),
    }
}

fn raise(highest: &mut Need, minor: Option<i64>, by: impl FnOnce() -> String) {
    if let Some(minor) = minor.filter(|minor| *minor > highest.version.minor) {
        *highest = Need { version: Semver::minor(3, minor), by: by() };
    }
}

/// The last snapshot record that a server believes: its index, 0 without one. From there 3.7's etcdutl reads; that of 3.6 reads from
/// the newest `.snap` instead.
#[must_use]
pub fn last_snapshot(log: &Log) -> u64 {
    let commit = log.server_hard_state.as_ref().map_or(0, |state| state.value.commit());
    let seen = log.snapshots.iter().filter(|record| record.reach == Reach::Read);
    seen.map(|record| record.value.index()).rfind(|index| *index <= commit).unwrap_or_default()
}

/// What the entries of `log` behind `from` need that a server comes to, held against `version`.
///
/// # Errors
/// When the user asked to stop.
pub fn of_log(
    log: &Log,
    files: &LogFiles,
    from: u64,
    version: &Semver,
    watch: &dyn Watch,
) -> Result<Needs, LogFilesError> {
    watch.begin("reading the log", files.len_bytes());
    let places: Vec<usize> = (0..log.segments.len())
        .filter(|at| log.runs.iter().any(|run| run.segment == *at && run.last_index > from))
        .collect();
    let found: Result<Vec<Needs>, LogFilesError> = places
        .par_iter()
        .with_max_len(1)
        .map(|at| {
            if watch.interrupted() {
                return Err(LogFilesError::Interrupted);
            }
            let piece = files.piece(*at);
            let mut needs = Needs::default();
            for record in read_segment(&piece.bytes).flatten() {
                let Ok(Payload::Entry(entry)) = record.payload() else { continue };
                if entry.index > from && !log.is_overwritten(*at, record.offset, entry.index) {
                    needs.take(&entry, version);
                }
            }
            Ok(needs)
        })
        .collect();
    Ok(found?.into_iter().fold(Needs::default(), Needs::with))
}

impl Needs {
    /// Takes one more entry into account.
    pub fn take(&mut self, entry: &EntryRef<'_>, version: &Semver) {
        self.entries = self.entries.saturating_add(1);
        let asked = (entry.entry_type == i32::from(EntryType::Normal)).then(|| request::decode(entry.data));
        let need = asked.as_ref().map_or_else(|| of_entry(entry), of_normal).transpose();
        if let Some(Ok(need)) = &need
            && self.highest.as_ref().is_none_or(|(highest, _)| highest.version.is_before(&need.version))
        {
            self.highest = Some((need.clone(), entry.index));
        }
        if let Some(need) = need
            && need.as_ref().map_or(true, |need| version.is_before(&need.version))
        {
            self.blocking_count = self.blocking_count.saturating_add(1);
            if self.blocking.len() < MOST_KEPT {
                self.blocking.push(Blocking { index: entry.index, term: entry.term, need });
            }
        }
        let is_v2 = matches!(asked, Some(Decoded::V2(_)));
        self.v2_writes = self.v2_writes.saturating_add(u64::from(is_v2 && writes_v2(entry.data)));
        if self.cluster_versions.len() < MOST_KEPT
            && let Some(Decoded::V3(request)) = &asked
            && let Some(set) = request.message().message(CLUSTER_VERSION_SET)
        {
            let version = String::from_utf8_lossy(set.data(VER)).into_owned();
            self.cluster_versions.push((entry.index, version));
        }
    }

    /// These, and those of a later segment.
    fn with(mut self, later: Self) -> Self {
        self.entries = self.entries.saturating_add(later.entries);
        self.blocking_count = self.blocking_count.saturating_add(later.blocking_count);
        self.blocking.extend(later.blocking);
        self.v2_writes = self.v2_writes.saturating_add(later.v2_writes);
        self.cluster_versions.extend(later.cluster_versions);
        if let Some((need, index)) = later.highest
            && self.highest.as_ref().is_none_or(|(highest, _)| highest.version.is_before(&need.version))
        {
            self.highest = Some((need, index));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut number: u64, out: &mut Vec<u8>) {
        while number >= 0x80 {
            out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        out.push(u8::try_from(number).unwrap());
    }

    /// A field that holds bytes or a message.
    fn holding(number: u64, inner: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        varint(number << 3 | 2, &mut out);
        varint(inner.len() as u64, &mut out);
        out.extend_from_slice(inner);
        out
    }

    /// A field that holds a number.
    fn saying(number: u64, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        varint(number << 3, &mut out);
        varint(value, &mut out);
        out
    }

    fn entry(entry_type: EntryType, data: &[u8]) -> EntryRef<'_> {
        EntryRef { entry_type: entry_type.into(), term: 1, index: 2, data }
    }

    /// What a request needs, as `3.x name`.
    fn needed(data: &[u8]) -> Result<String, String> {
        let need = of_entry(&entry(EntryType::Normal, data)).map_err(|unclear| unclear.to_string())?;
        Ok(need.map_or_else(|| "nothing".to_owned(), |need| format!("{} {}", need.version.short(), need.by)))
    }

    fn tries(version: &str) -> Vec<u8> {
        holding(9900, &holding(1, version.as_bytes()))
    }

    /// The cases of etcd's own tests (`server/storage/wal/version_test.go`), and the rules its code has besides.
    #[test]
    fn a_request_needs_what_etcd_says() {
        for (data, expected) in [
            (Vec::new(), "3.0 etcdserverpb.InternalRaftRequest"),
            (saying(1, 7), "3.0 etcdserverpb.InternalRaftRequest"),
            (holding(100, &saying(3, 1)), "3.1 etcdserverpb.RequestHeader.auth_revision"),
            (holding(100, &holding(2, b"Alice")), "3.0 etcdserverpb.InternalRaftRequest"),
            (holding(1302, &[]), "3.5 etcdserverpb.InternalRaftRequest.downgrade_info_set"),
            (
                holding(1300, &holding(1, b"3.7.0")),
                "3.5 etcdserverpb.InternalRaftRequest.cluster_version_set",
            ),
            (holding(11, &[]), "3.4 etcdserverpb.InternalRaftRequest.lease_checkpoint"),
            (tries("3.5.0"), "3.6 etcdserverpb.InternalRaftRequest.downgrade_version_test"),
            (tries("3.6.0"), "3.6 etcdserverpb.InternalRaftRequest.downgrade_version_test"),
            (tries("3.7.0"), "3.7 etcdserverpb.InternalRaftRequest.downgrade_version_test"),
            (tries("4.0.0"), "4.0 etcdserverpb.InternalRaftRequest.downgrade_version_test"),
            (holding(4, &saying(6, 1)), "3.2 etcdserverpb.PutRequest.ignore_lease"),
            // A zero that was written counts as absent.
            (holding(4, &saying(6, 0)), "3.0 etcdserverpb.InternalRaftRequest"),
            (holding(1100, &holding(4, b"hash")), "3.5 etcdserverpb.AuthUserAddRequest.hashedPassword"),
            (holding(1100, &holding(3, &[])), "3.4 etcdserverpb.AuthUserAddRequest.options"),
            (holding(10, &saying(3, 2)), "3.3 etcdserverpb.CORRUPT"),
            (holding(10, &saying(3, 1)), "3.0 etcdserverpb.InternalRaftRequest"),
            // etcd does not look into lists: a transaction in a transaction (3.3) does not count.
            (holding(6, &holding(2, &holding(4, &[]))), "3.0 etcdserverpb.InternalRaftRequest"),
            // A request of the v2 API: {ID: 7, Method: PUT, Path: /0/version}.
            (b"\x08\x07\x12\x03PUT\x1a\x0a/0/version".to_vec(), "nothing"),
        ] {
            assert_eq!(needed(&data).as_deref(), Ok(expected), "{data:?}");
        }
    }

    #[test]
    fn other_entries_need_what_etcd_says() {
        let of = |kind, data: &[u8]| of_entry(&entry(kind, data)).map(|need| need.map(|need| need.version));
        assert_eq!(of(EntryType::ConfChange, &saying(2, 3)), Ok(Some(Semver::minor(3, 0))));
        assert_eq!(of(EntryType::ConfChangeV2, &saying(1, 2)), Ok(Some(Semver::minor(3, 4))));
        // What cannot be read is passed over.
        assert_eq!(of(EntryType::ConfChange, &[0xff]), Ok(None));
        assert_eq!(of(EntryType::ConfChangeV2, &[0xff]), Ok(None));
        let strange = EntryRef { entry_type: 3, ..EntryRef::default() };
        assert_eq!(of_entry(&strange), Err(Unclear::Type(3)));
    }

    /// Over these etcdutl ends with a panic.
    #[test]
    fn what_cannot_be_told_is_said() {
        for (data, words) in [
            (tries(""), "it tries a downgrade to a version that is none:  is not in dotted-tri format"),
            (tries("3.6"), "it tries a downgrade to a version that is none: 3.6 is not in dotted-tri format"),
            (
                holding(10, &saying(3, 3)),
                "etcdserverpb.AlarmRequest.alarm has the value 3, for which etcd has no name",
            ),
        ] {
            assert_eq!(needed(&data), Err(words.to_owned()));
        }
        assert!(needed(&[0xff]).unwrap_err().starts_with("its data is no request: "));
    }

    #[test]
    fn every_entry_that_is_in_the_way_is_kept_and_counted() {
        let mut needs = Needs::default();
        let (trial, put, set) = (tries("3.7.0"), holding(4, &[]), holding(1300, &holding(1, b"3.6.0")));
        for (index, data) in (5..).zip([&put, &trial, &set, &tries("3.6.0"), &trial]) {
            let entry = EntryRef { index, ..entry(EntryType::Normal, data) };
            needs.take(&entry, &Semver::minor(3, 5));
        }
        let blocking: Vec<u64> = needs.blocking.iter().map(|entry| entry.index).collect();
        assert_eq!((blocking, needs.blocking_count, needs.entries), (vec![6, 8, 9], 3, 5));
        assert_eq!(
            needs.highest.as_ref().map(|(need, index)| (need.version.short(), *index)),
            Some(("3.7".to_owned(), 6))
        );
        assert_eq!(needs.cluster_versions, [(7, "3.6.0".to_owned())]);
        for index in 10..1000 {
            let entry = EntryRef { index, ..entry(EntryType::Normal, &trial) };
            needs.take(&entry, &Semver::minor(3, 6));
        }
        assert_eq!((needs.blocking.len(), needs.blocking_count), (MOST_KEPT, 993));
    }
}
