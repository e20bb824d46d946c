//! Entries of the log applied to a tree, as servers up to 3.5 do it.

use wal::EntryRef;
use wal::raftpb::EntryType;

use super::ops::{Refusal, Test, Write};
use super::{V2Tree, V2TreeError};
use crate::gotime::Time;
use crate::membership::{Member, hex_id};
use crate::replay::Applied;
use crate::replay::cluster::{ATTRIBUTES_SET, V2_REQUEST, VERSION_SET};
use crate::replay::v2::{VERSION_PATH, member_of};
use crate::request::{self, ConfChange, Decoded, Message};

/// Fields of `etcdserverpb.Request`.
mod field {
    pub(super) const METHOD: i32 = 2;
    pub(super) const PATH: i32 = 3;
    pub(super) const VALUE: i32 = 4;
    pub(super) const DIR: i32 = 5;
    pub(super) const PREVIOUS_VALUE: i32 = 6;
    pub(super) const PREVIOUS_INDEX: i32 = 7;
    pub(super) const PREVIOUS_EXISTS: i32 = 8;
    pub(super) const EXPIRATION: i32 = 9;
    pub(super) const RECURSIVE: i32 = 12;
    pub(super) const TIME: i32 = 15;
    pub(super) const REFRESH: i32 = 17;
}

const MEMBERS: &[u8] = b"/0/members";
const REMOVED_MEMBERS: &[u8] = b"/0/removed_members";

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is not about the v2 store, or says what is so already.
    Nothing,
    /// It changed the store.
    Changed,
    /// The store refused it.
    Refused(Refusal),
}

impl From<Result<(), Refusal>> for Done {
    fn from(result: Result<(), Refusal>) -> Self {
        result.map_or_else(Self::Refused, |()| Self::Changed)
    }
}

impl V2Tree {
    /// Applies the entry that follows the last one.
    ///
    /// # Errors
    /// When it does not follow, or a server dies over it.
    pub fn apply(&mut self, entry: &EntryRef<'_>) -> Result<Done, V2TreeError> {
        if self.raft_index.checked_add(1) != Some(entry.index) {
            return Err(V2TreeError::NotNext { index: entry.index, applied: self.raft_index });
        }
        let done = self.carry_out(entry)?;
        self.raft_index = entry.index;
        Ok(done)
    }

    fn carry_out(&mut self, entry: &EntryRef<'_>) -> Result<Done, V2TreeError> {
        let index = entry.index;
        let dies = |why: String| V2TreeError::Entry { index, why };
        if entry.entry_type == EntryType::ConfChange as i32 {
            let change = ConfChange::v1(entry.data).map_err(|error| dies(error.to_string()))?;
            // A server looks at who belongs to the cluster before it changes that.
            self.get(MEMBERS);
            if self.node(MEMBERS).is_some() {
                self.get(REMOVED_MEMBERS);
            }
            return self.follow(entry, change.message().number(3));
        }
        if entry.entry_type != EntryType::Normal as i32 {
            return Err(dies(format!("it is of type {}, which no server applies", entry.entry_type)));
        }
        match request::decode(entry.data) {
            Decoded::Nothing => Ok(Done::Nothing),
            Decoded::V2(request) => self.request(entry, request.message()),
            Decoded::V3(request) => {
                let request = request.message();
                if let Some(wrapped) = request.message(V2_REQUEST) {
                    return self.request(entry, wrapped);
                }
                if request.message(VERSION_SET).is_some() {
                    return self.follow_version(entry);
                }
                match request.message(ATTRIBUTES_SET) {
                    Some(asked) => self.follow(entry, asked.number(1)),
                    None => Ok(Done::Nothing),
                }
            }
            Decoded::Undecodable { v3, v2 } => Err(dies(format!(
                "it is neither a request of the v3 API ({v3}) nor one of the v2 API ({v2})"
            ))),
        }
    }

    /// Carries out what an entry asks for about the member `id`, and brings its nodes after it.
    fn follow(&mut self, entry: &EntryRef<'_>, id: u64) -> Result<Done, V2TreeError> {
        let is_change = entry.entry_type == EntryType::ConfChange as i32;
        let before = self.member(id).cloned();
        if !self.follow_members(entry)? {
            return Ok(Done::Nothing);
        }
        let after = self.member(id).cloned();
        let done = match (before, after) {
            (None, None) => return Ok(Done::Nothing),
            (None, Some(member)) => self.create_member(&member),
            (Some(_), None) => self.remove_nodes(id),
            (Some(_), Some(member)) if is_change => {
                let value = member.raft_attributes_json();
                self.update(raft_path(id).as_bytes(), Write::value(&value))
            }
            (Some(_), Some(member)) => self.set_attributes(&member),
        };
        Ok(done.into())
    }

    pub(super) fn create_member(&mut self, member: &Member) -> Result<(), Refusal> {
        let value = member.raft_attributes_json();
        self.create(raft_path(member.id).as_bytes(), false, Write::value(&value))
    }

    pub(super) fn set_attributes(&mut self, member: &Member) -> Result<(), Refusal> {
        let path = format!("/0/members/{}/attributes", hex_id(member.id));
        self.set(path.as_bytes(), Write::value(&member.attributes_json()))
    }

    pub(super) fn remove_nodes(&mut self, id: u64) -> Result<(), Refusal> {
        self.delete(format!("/0/members/{}", hex_id(id)).as_bytes(), true, true)?;
        self.note_removed(id)
    }

    pub(super) fn note_removed(&mut self, id: u64) -> Result<(), Refusal> {
        let path = format!("/0/removed_members/{}", hex_id(id));
        self.create(path.as_bytes(), false, Write::value(b""))
    }

    /// Carries out an entry that sets the cluster's version.
    fn follow_version(&mut self, entry: &EntryRef<'_>) -> Result<Done, V2TreeError> {
        self.follow_members(entry)?;
        let version = self.cluster.version().unwrap_or_default().to_owned();
        Ok(self.set(VERSION_PATH, Write::value(version.as_bytes())).into())
    }

    /// Does to the members and the version what an entry asks for, and says whether that did anything.
    fn follow_members(&mut self, entry: &EntryRef<'_>) -> Result<bool, V2TreeError> {
        match self.cluster.carry_out(entry, self.release) {
            None => Ok(false),
            Some(Ok(applied)) => Ok(applied == Applied::Changed),
            Some(Err(reason)) => Err(V2TreeError::Entry { index: entry.index, why: reason.to_string() }),
        }
    }

    /// Carries out a request of the v2 API.
    fn request(&mut self, entry: &EntryRef<'_>, asked: Message<'_>) -> Result<Done, V2TreeError> {
        let path = asked.data(field::PATH);
        let flag = |number: i32| asked.number(number) != 0;
        let test =
            Test { value: asked.data(field::PREVIOUS_VALUE), index: asked.number(field::PREVIOUS_INDEX) };
        let expires = asked.number(field::EXPIRATION).cast_signed();
        let write = Write {
            is_dir: flag(field::DIR),
            value: asked.data(field::VALUE),
            expires: (expires != 0).then(|| Time::of_unix_nanoseconds(expires)),
            is_refresh: flag(field::REFRESH),
        };
        let is_tested = test.index != 0 || !test.value.is_empty();
        let done = match asked.data(field::METHOD) {
            b"POST" => self.create(path, true, write),
            b"PUT" => match asked.last(field::PREVIOUS_EXISTS).map(|_| flag(field::PREVIOUS_EXISTS)) {
                Some(false) => self.create(path, false, write),
                Some(true) if !is_tested => self.update(path, write),
                _ if is_tested => self.compare_and_swap(path, test, write),
                _ => match member_of(path) {
                    Some(id) => return self.follow(entry, id),
                    None if path == VERSION_PATH => {
                        return self.follow_version(entry);
                    }
                    None => self.set(path, write),
                },
            },
            b"DELETE" if is_tested => self.compare_and_delete(path, test),
            b"DELETE" => self.delete(path, flag(field::DIR), flag(field::RECURSIVE)),
            b"QGET" => {
                self.get(path);
                return Ok(Done::Nothing);
            }
            b"SYNC" => {
                let before = self.current_index;
                self.expire(Time::of_unix_nanoseconds(asked.number(field::TIME).cast_signed()));
                return Ok(if self.current_index == before { Done::Nothing } else { Done::Changed });
            }
            // A server answers that it does not know it.
            _ => return Ok(Done::Nothing),
        };
        Ok(done.into())
    }
}

pub(super) fn raft_path(id: u64) -> String {
    format!("/0/members/{}/raftAttributes", hex_id(id))
}
