//! The nodes of the tree, in one arena, so that no depth of the tree is a depth of calls; and those that expire, in the order in
//! which they do.
//!
//! That order is a heap, kept as Go's `container/heap` keeps it: of two that expire at one instant the heap decides which goes first,
//! and each gets an index of its own by that.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::gotime::Time;

/// A node's place in the arena.
pub(super) type Id = usize;

/// The root's.
pub(super) const ROOT: Id = 0;

/// A key with its value, or a directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) name: Box<[u8]>,
    pub(super) parent: Id,
    pub(super) created: u64,
    pub(super) modified: u64,
    /// When it expires; `None` when never.
    pub(super) expires: Option<Time>,
    pub(super) value: Arc<[u8]>,
    /// What lies in it by name, where it is a directory.
    pub(super) children: Option<BTreeMap<Box<[u8]>, Id>>,
    /// Its place among those that expire.
    pub(super) heap_at: Option<usize>,
}

impl Node {
    pub(super) fn is_dir(&self) -> bool {
        self.children.is_some()
    }

    /// A directory as etcd makes it.
    pub(super) fn dir(name: &[u8], parent: Id, index: u64) -> Self {
        let children = Some(BTreeMap::new());
        Self { name: Box::from(name), parent, created: index, modified: index, children, ..Self::default() }
    }
}

/// All nodes.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    slots: Vec<Node>,
    free: Vec<Id>,
    heap: Vec<Id>,
}

impl Default for Nodes {
    /// A root.
    fn default() -> Self {
        Self { slots: vec![Node::dir(b"", ROOT, 0)], free: Vec::new(), heap: Vec::new() }
    }
}

impl std::ops::Index<Id> for Nodes {
    type Output = Node;

    /// The node; an id of another tree gives one of this.
    fn index(&self, id: Id) -> &Node {
        let root = &self.slots[ROOT];
        self.slots.get(id).unwrap_or(root)
    }
}

impl Nodes {
    /// The node, to be changed.
    pub(super) fn at(&mut self, id: Id) -> &mut Node {
        let id = if id < self.slots.len() { id } else { ROOT };
        &mut self.slots[id]
    }

    /// Its path: names after slashes, and a slash alone for the root.
    pub(super) fn path(&self, id: Id) -> Vec<u8> {
        let (mut names, mut at) = (Vec::new(), id);
        while at != ROOT {
            names.push(&self[at].name);
            at = self[at].parent;
        }
        let mut path = Vec::new();
        for name in names.into_iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }

    /// The directories in which a node lies, from the inmost to the root.
    pub(super) fn above(&self, id: Id) -> impl Iterator<Item = Id> {
        std::iter::successors(Some(id), |at| (*at != ROOT).then(|| self[*at].parent)).skip(1)
    }

    /// The node of this name in a directory.
    pub(super) fn child(&self, parent: Id, name: &[u8]) -> Option<Id> {
        self[parent].children.as_ref()?.get(name).copied()
    }

    /// Puts a node into the directory it names as its parent, in the place of one of that name, which must be gone already.
    pub(super) fn add(&mut self, node: Node) -> Id {
        let (name, parent, expires) = (node.name.clone(), node.parent, node.expires.is_some());
        let id = match self.free.pop() {
            Some(id) => {
                *self.at(id) = node;
                id
            }
            None => {
                self.slots.push(node);
                self.slots.len() - 1
            }
        };
        if let Some(children) = &mut self.at(parent).children {
            children.insert(name, id);
        }
        if expires {
            self.push(id);
        }
        id
    }

    /// Takes a node away, with all that lies in it.
    pub(super) fn remove(&mut self, id: Id) {
        let (name, parent) = (self[id].name.clone(), self[id].parent);
        if let Some(children) = &mut self.at(parent).children {
            children.remove(&name);
        }
        // Children go before what they lie in, each with its own, as in etcd.
        let mut open = vec![(id, false)];
        while let Some((id, is_empty)) = open.pop() {
            if !is_empty {
                open.push((id, true));
                let children = self.at(id).children.take();
                open.extend(
                    children.into_iter().flat_map(BTreeMap::into_values).rev().map(|child| (child, false)),
                );
                continue;
            }
            self.take_out(id);
            *self.at(id) = Node::default();
            self.free.push(id);
        }
    }

    /// Sets when a node expires.
    pub(super) fn expire(&mut self, id: Id, expires: Option<Time>) {
        self.at(id).expires = expires;
        self.take_out(id);
        if expires.is_some() {
            self.push(id);
        }
    }

    /// The node that expires first.
    pub(super) fn first_to_expire(&self) -> Option<Id> {
        self.heap.first().copied()
    }

    fn is_earlier(&self, one: usize, other: usize) -> bool {
        let instant =
            |at: usize| self.heap.get(at).and_then(|id| self[*id].expires).map(|time| time.instant());
        instant(one) < instant(other)
    }

    fn swap(&mut self, one: usize, other: usize) {
        if one.max(other) < self.heap.len() {
            self.heap.swap(one, other);
            for at in [one, other] {
                let id = self.heap[at];
                self.at(id).heap_at = Some(at);
            }
        }
    }

    fn push(&mut self, id: Id) {
        let at = self.heap.len();
        self.heap.push(id);
        self.at(id).heap_at = Some(at);
        self.up(at);
    }

    /// Takes a node out of those that expire, where it is one.
    pub(super) fn take_out(&mut self, id: Id) {
        let Some(at) = self.at(id).heap_at.take() else { return };
        let Some(last) = self.heap.len().checked_sub(1) else { return };
        if at != last {
            self.swap(at, last);
            if !self.down(at, last) {
                self.up(at);
            }
        }
        self.heap.pop();
        self.at(id).heap_at = None;
    }

    fn up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.is_earlier(at, parent) {
                break;
            }
            self.swap(parent, at);
            at = parent;
        }
    }

    /// Says whether it went down.
    fn down(&mut self, from: usize, len: usize) -> bool {
        let mut at = from;
        loop {
            let left = 2 * at + 1;
            if left >= len {
                break;
            }
            let right = left + 1;
            let earlier = if right < len && self.is_earlier(right, left) { right } else { left };
            if !self.is_earlier(earlier, at) {
                break;
            }
            self.swap(at, earlier);
            at = earlier;
        }
        at > from
    }
}

/// The names that a path leads through, as Go's `path.Clean` reads it below the root: without empty ones and dots, and two dots take
/// the name before them away.
pub(super) fn clean(path: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            _ => names.push(name),
        }
    }
    names
}

/// The path of these names.
pub(super) fn joined(names: &[&[u8]]) -> Vec<u8> {
    let mut path = Vec::new();
    for name in names {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<u8> {
        joined(&clean(path.as_bytes()))
    }

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        // From Go's path_test.go, those that begin at the root.
        for (path, want) in [
            ("", "/"),
            ("/", "/"),
            ("/abc/def", "/abc/def"),
            ("abc//def//ghi", "/abc/def/ghi"),
            ("/abc/", "/abc"),
            ("///abc", "/abc"),
            ("abc/./def", "/abc/def"),
            ("/./abc/def", "/abc/def"),
            ("abc/def/ghi/../jkl", "/abc/def/jkl"),
            ("abc/def/../../../ghi", "/ghi"),
            ("/..", "/"),
        ] {
            assert_eq!(names(path), want.as_bytes(), "{path}");
        }
    }

    #[test]
    fn nodes_leave_the_heap_in_the_order_of_their_time() {
        let mut nodes = Nodes::default();
        let mut ids = Vec::new();
        for number in 0..50u8 {
            let time = Time::of_unix_nanoseconds(i64::from(number.wrapping_mul(37) % 41));
            let node = Node { name: Box::from([number]), expires: Some(time), ..Node::default() };
            ids.push(nodes.add(node));
        }
        nodes.expire(ids[3], None);
        nodes.expire(ids[4], Some(Time::of_unix_nanoseconds(1000)));
        nodes.remove(ids[5]);
        let mut seen = Vec::new();
        while let Some(id) = nodes.first_to_expire() {
            seen.push(nodes[id].expires.map(|time| time.instant()));
            nodes.remove(id);
        }
        assert_eq!(seen.len(), 48);
        assert!(seen.is_sorted());
        assert_eq!(seen.last().copied().flatten(), Some((0, 1000)));
        assert_eq!(nodes[ROOT].children.as_ref().map(BTreeMap::len), Some(1));
    }
}
