//! What the store does for each kind of request, refusals and what they leave behind included.
//!
//! etcd counts some refused requests as done: `err` stays unset where it returns a new error at once. The counts are in the JSON, so
//! that is followed.

use std::sync::Arc;

use super::V2Tree;
use super::event::{Event, Told};
use super::node::{Id, Node, ROOT, clean, joined};
use super::stats::Stat;
use crate::gotime::Time;

/// Seconds since 1970 of the year 2000: a node that is created to expire before never does.
const LEAST_EXPIRY_SECONDS: i64 = 946_684_800;

/// How deep a tree of ours may be. A server cannot read its own `.snap` again beyond some 5,000 levels.
pub(super) const MOST_LEVELS: usize = 1_000;

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such key.
    #[error("there is no such key")]
    NotFound,
    /// A key is on the way where a directory should be.
    #[error("a key lies on the way, not a directory")]
    NotADir,
    /// It is a directory.
    #[error("it is a directory")]
    NotAFile,
    /// It is there already.
    #[error("it is there already")]
    Exists,
    /// The roots of the store cannot be changed.
    #[error("the root cannot be changed")]
    ReadOnly,
    /// The key is not as the request wants it.
    #[error("the key is not as the request wants it")]
    TestFailed,
    /// The directory is not empty.
    #[error("the directory is not empty")]
    NotEmpty,
    /// The path has more levels than are kept here.
    #[error("its path has more than {MOST_LEVELS} levels")]
    TooDeep,
}

/// What is to become of a key, and when it expires.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    pub(super) is_dir: bool,
    pub(super) value: &'a [u8],
    pub(super) expires: Option<Time>,
    /// Set only the time anew: the value stays, and nobody is told.
    pub(super) is_refresh: bool,
}

impl<'a> Write<'a> {
    /// A value that never expires.
    pub(super) fn value(value: &'a [u8]) -> Self {
        Self { is_dir: false, value, expires: None, is_refresh: false }
    }
}

/// What the key must be for a request to be carried out; what is empty or 0 is not asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Test<'a> {
    pub(super) value: &'a [u8],
    pub(super) index: u64,
}

impl Test<'_> {
    fn passes(self, node: &Node) -> bool {
        let is_index = self.index == 0 || node.modified == self.index;
        is_index && (self.value.is_empty() || *node.value == *self.value)
    }
}

/// Whether a path is one that servers make themselves, and keep.
fn is_read_only(names: &[&[u8]]) -> bool {
    matches!(names, [] | [b"0" | b"1"])
}

impl V2Tree {
    pub(super) fn find(&self, names: &[&[u8]]) -> Result<Id, Refusal> {
        let mut at = ROOT;
        for name in names {
            if !self.nodes[at].is_dir() {
                return Err(Refusal::NotADir);
            }
            at = self.nodes.child(at, name).ok_or(Refusal::NotFound)?;
        }
        Ok(at)
    }

    /// A node as it is told of.
    fn tell(&self, id: Id, key: Vec<u8>) -> Told {
        let node = &self.nodes[id];
        Told {
            key,
            value: (!node.is_dir()).then(|| Arc::clone(&node.value)),
            is_dir: node.is_dir(),
            expires: node.expires.map(Time::utc),
            ttl_seconds: 0,
            modified: node.modified,
            created: node.created,
        }
    }

    pub(super) fn get(&mut self, path: &[u8]) {
        let is_there = self.find(&clean(path)).is_ok();
        self.stats.count_if(is_there, Stat::GetsSuccess, Stat::GetsFail);
    }

    pub(super) fn create(&mut self, path: &[u8], is_unique: bool, write: Write<'_>) -> Result<(), Refusal> {
        let created = self.put("create", path, is_unique, false, write);
        self.stats.count_if(created.is_ok(), Stat::CreateSuccess, Stat::CreateFail);
        self.history.add(created?);
        Ok(())
    }

    pub(super) fn set(&mut self, path: &[u8], write: Write<'_>) -> Result<(), Refusal> {
        let done = self.replace(path, write);
        self.stats.count_if(done.is_ok(), Stat::SetsSuccess, Stat::SetsFail);
        self.history.add(done?);
        Ok(())
    }

    fn replace(&mut self, path: &[u8], write: Write<'_>) -> Result<Event, Refusal> {
        let found = match self.find(&clean(path)) {
            Ok(id) => Some(id),
            Err(Refusal::NotFound) if !write.is_refresh => None,
            Err(refusal) => return Err(refusal),
        };
        // Told under the path as it was asked for.
        let previous = found.map(|id| self.tell(id, path.to_vec()));
        let kept = previous.as_ref().and_then(|told| told.value.clone()).filter(|_| write.is_refresh);
        let value = kept.as_deref().unwrap_or(write.value);
        let mut event = self.put("set", path, false, true, Write { value, ..write })?;
        event.previous = previous;
        event.is_refresh = write.is_refresh;
        Ok(event)
    }

    /// Creates a node, with the directories on the way; `may_replace` lets it take the place of a key.
    fn put(
        &mut self,
        action: &'static str,
        path: &[u8],
        is_unique: bool,
        may_replace: bool,
        write: Write<'_>,
    ) -> Result<Event, Refusal> {
        let next = self.current_index.wrapping_add(1);
        let mut names = clean(path);
        let unique = format!("{next:020}");
        if is_unique {
            names.push(unique.as_bytes());
        }
        if is_read_only(&names) {
            return Err(Refusal::ReadOnly);
        }
        if names.len() > MOST_LEVELS {
            return Err(Refusal::TooDeep);
        }
        let expires = write.expires.filter(|time| time.instant().0 >= LEAST_EXPIRY_SECONDS);
        let Some((name, dirs)) = names.split_last() else { return Err(Refusal::ReadOnly) };
        let mut parent = ROOT;
        for dir in dirs {
            parent = match self.nodes.child(parent, dir) {
                Some(id) if self.nodes[id].is_dir() => id,
                Some(_) => {
                    self.stats.count(Stat::SetsFail);
                    return Err(Refusal::NotADir);
                }
                None => self.nodes.add(Node::dir(dir, parent, next)),
            };
        }
        if let Some(id) = self.nodes.child(parent, name) {
            if !may_replace {
                return Err(Refusal::Exists);
            }
            if self.nodes[id].is_dir() {
                return Err(Refusal::NotAFile);
            }
            self.nodes.remove(id);
        }
        let mut node = Node::dir(name, parent, next);
        node.expires = expires;
        if !write.is_dir {
            node.children = None;
            node.value = Arc::from(write.value);
        }
        let id = self.nodes.add(node);
        self.current_index = next;
        Ok(Event::of(action, self.tell(id, joined(&names))))
    }

    pub(super) fn update(&mut self, path: &[u8], write: Write<'_>) -> Result<(), Refusal> {
        let names = clean(path);
        if is_read_only(&names) {
            self.stats.count(Stat::UpdateSuccess);
            return Err(Refusal::ReadOnly);
        }
        let found = self.find(&names);
        self.stats.count_if(found.is_ok(), Stat::UpdateSuccess, Stat::UpdateFail);
        let id = found?;
        let is_dir = self.nodes[id].is_dir();
        if is_dir && (!write.value.is_empty() || !self.release.sets_time_of_v2_dirs()) {
            return Err(Refusal::NotAFile);
        }
        let next = self.current_index.wrapping_add(1);
        let previous = self.tell(id, joined(&names));
        let node = self.nodes.at(id);
        if !is_dir {
            if !write.is_refresh {
                node.value = Arc::from(write.value);
            }
            node.modified = next;
        }
        self.nodes.expire(id, write.expires);
        // What lies in a directory is none of its own changes: it keeps its index, and the event has the new one.
        let told = Told { modified: next, ..self.tell(id, joined(&names)) };
        let mut event = Event::of("update", told);
        event.previous = Some(previous);
        event.is_refresh = write.is_refresh;
        self.history.add(event);
        self.current_index = next;
        Ok(())
    }

    pub(super) fn compare_and_swap(
        &mut self,
        path: &[u8],
        test: Test<'_>,
        write: Write<'_>,
    ) -> Result<(), Refusal> {
        let names = clean(path);
        if is_read_only(&names) {
            self.stats.count(Stat::SwapSuccess);
            return Err(Refusal::ReadOnly);
        }
        let tested = self.find(&names).and_then(|id| self.tested(id, test));
        self.stats.count_if(tested.is_ok(), Stat::SwapSuccess, Stat::SwapFail);
        let id = tested?;
        self.current_index = self.current_index.wrapping_add(1);
        let previous = self.tell(id, joined(&names));
        let index = self.current_index;
        let node = self.nodes.at(id);
        if !write.is_refresh {
            node.value = Arc::from(write.value);
        }
        node.modified = index;
        self.nodes.expire(id, write.expires);
        let mut event = Event::of("compareAndSwap", self.tell(id, joined(&names)));
        event.previous = Some(previous);
        event.is_refresh = write.is_refresh;
        self.history.add(event);
        Ok(())
    }

    fn tested(&self, id: Id, test: Test<'_>) -> Result<Id, Refusal> {
        let node = &self.nodes[id];
        if node.is_dir() {
            return Err(Refusal::NotAFile);
        }
        if test.passes(node) { Ok(id) } else { Err(Refusal::TestFailed) }
    }

    pub(super) fn delete(&mut self, path: &[u8], is_dir: bool, is_recursive: bool) -> Result<(), Refusal> {
        let names = clean(path);
        if is_read_only(&names) {
            self.stats.count(Stat::DeleteSuccess);
            return Err(Refusal::ReadOnly);
        }
        let found = self.find(&names).and_then(|id| match &self.nodes[id].children {
            None => Ok(id),
            Some(_) if !is_dir && !is_recursive => Err(Refusal::NotAFile),
            Some(children) if !children.is_empty() && !is_recursive => Err(Refusal::NotEmpty),
            Some(_) => Ok(id),
        });
        self.stats.count_if(found.is_ok(), Stat::DeleteSuccess, Stat::DeleteFail);
        self.gone("delete", found?);
        Ok(())
    }

    pub(super) fn compare_and_delete(&mut self, path: &[u8], test: Test<'_>) -> Result<(), Refusal> {
        let found = self.find(&clean(path));
        self.stats.count_if(found.is_ok(), Stat::CompareAndDeleteSuccess, Stat::CompareAndDeleteFail);
        let id = self.tested(found?, test)?;
        self.gone("compareAndDelete", id);
        Ok(())
    }

    /// Removes all that expires at `cutoff` or before.
    pub(super) fn expire(&mut self, cutoff: Time) {
        while let Some(id) = self.nodes.first_to_expire() {
            let is_due = self.nodes[id].expires.is_some_and(|time| time.instant() <= cutoff.instant());
            if !is_due {
                break;
            }
            self.stats.count(Stat::Expired);
            // First, as in etcd: what lies in it may expire too.
            self.nodes.take_out(id);
            self.gone("expire", id);
        }
    }

    /// Removes a node with all that lies in it, and tells of it.
    fn gone(&mut self, action: &'static str, id: Id) {
        let path = self.nodes.path(id);
        let previous = self.tell(id, path.clone());
        self.nodes.remove(id);
        self.current_index = self.current_index.wrapping_add(1);
        let told = Told {
            key: path,
            is_dir: previous.is_dir,
            modified: self.current_index,
            created: previous.created,
            ..Told::default()
        };
        let mut event = Event::of(action, told);
        event.previous = Some(previous);
        self.history.add(event);
    }
}
