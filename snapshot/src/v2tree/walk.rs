//! The nodes of a tree one after the other.

use std::sync::Arc;

use super::V2Tree;
use super::node::{Id, clean};
use crate::gotime::Time;

/// A key or a directory of the v2 API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V2Node {
    /// Its whole path, such as `/1/foo` for a client's key `/foo`.
    pub path: Vec<u8>,
    /// What it holds; `None` for a directory.
    pub value: Option<Arc<[u8]>>,
    /// The store's index when it was created.
    pub created_index: u64,
    /// The store's index when it was changed last.
    pub modified_index: u64,
    /// When it expires; `None` when never.
    pub expires: Option<Time>,
    /// Whether a directory in which it lies expires, which takes it along.
    pub expires_with_dir: bool,
    /// Whether a name in its path begins with `_`: clients that list a directory are not told of it.
    pub is_hidden: bool,
}

/// The nodes below a path; see [`V2Tree::below`].
#[derive(Debug)]
pub struct Walk<'a> {
    tree: &'a V2Tree,
    open: Vec<(Id, bool)>,
    is_recursive: bool,
}

impl V2Tree {
    /// The node at a path, if there is one.
    #[must_use]
    pub fn node(&self, path: &[u8]) -> Option<V2Node> {
        let id = self.find(&clean(path)).ok()?;
        Some(self.shown(id, false))
    }

    /// The nodes in the directory at `path`, in the order of their names, without itself: those right in it, or all below it. Nothing
    /// for a key, or where there is nothing. A node is hidden if a name below `path` hides it.
    #[must_use]
    pub fn below(&self, path: &[u8], is_recursive: bool) -> Walk<'_> {
        let mut walk = Walk { tree: self, open: Vec::new(), is_recursive };
        if let Ok(id) = self.find(&clean(path)) {
            walk.enter(id, false);
        }
        walk
    }

    fn shown(&self, id: Id, is_hidden: bool) -> V2Node {
        let node = &self.nodes[id];
        V2Node {
            path: self.nodes.path(id),
            value: (!node.is_dir()).then(|| Arc::clone(&node.value)),
            created_index: node.created,
            modified_index: node.modified,
            expires: node.expires,
            expires_with_dir: self.nodes.above(id).any(|dir| self.nodes[dir].expires.is_some()),
            is_hidden,
        }
    }
}

impl Walk<'_> {
    fn enter(&mut self, id: Id, is_hidden: bool) {
        let nodes = &self.tree.nodes;
        let children = nodes[id].children.iter().flatten().rev();
        let hides = |name: &[u8]| is_hidden || name.starts_with(b"_");
        self.open.extend(children.map(|(name, id)| (*id, hides(name))));
    }
}

impl Iterator for Walk<'_> {
    type Item = V2Node;

    fn next(&mut self) -> Option<V2Node> {
        let (id, is_hidden) = self.open.pop()?;
        if self.is_recursive {
            self.enter(id, is_hidden);
        }
        Some(self.tree.shown(id, is_hidden))
    }
}
