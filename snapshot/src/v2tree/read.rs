//! A tree from the JSON of a `.snap`, as a starting server reads it.

use std::borrow::Cow;
use std::sync::Arc;

use super::event::History;
use super::json::{JsonError, Reader};
use super::node::{Id, Node, ROOT};
use super::ops::MOST_LEVELS;
use super::stats::Stats;
use super::{V2Tree, V2TreeError};
use crate::gotime::Time;
use crate::mvcc::Release;

/// A directory that is being read.
struct Open {
    id: Id,
    /// Length of its path in bytes.
    path_len: usize,
    /// The next field is its first.
    is_first: bool,
    /// The next name in it is the first; `None` while its own fields are read.
    children: Option<bool>,
    has_path: bool,
}

impl V2Tree {
    /// Reads the JSON of a store (the `data` of a raft snapshot); what follows is applied by the rules of `release`.
    ///
    /// # Errors
    /// When it is none, or not one that a server wrote: a node whose path is not the one at which it lies, a ring of events that
    /// does not hold together, more levels than any server has.
    pub fn from_json(json: &[u8], release: Release) -> Result<Self, V2TreeError> {
        let mut tree = Self::empty(release);
        let mut reader = Reader::new(json);
        let (mut is_first, mut has_root) = (true, false);
        reader.object()?;
        while let Some(key) = reader.key(&mut is_first)? {
            match key.as_ref() {
                b"Root" if !has_root => {
                    has_root = true;
                    tree.read_nodes(&mut reader)?;
                }
                b"WatcherHub" => tree.history = History::read(&mut reader)?,
                b"CurrentIndex" => tree.current_index = reader.unsigned()?,
                b"Stats" => tree.stats = Stats::read(&mut reader)?,
                b"CurrentVersion" => tree.version = reader.signed()?,
                _ => reader.skip()?,
            }
        }
        reader.end()?;
        if !has_root {
            return Err(V2TreeError::NoRoot);
        }
        tree.found_namespaces();
        tree.cluster = tree.cluster_of_nodes()?;
        Ok(tree)
    }

    fn read_nodes(&mut self, reader: &mut Reader<'_>) -> Result<(), V2TreeError> {
        let mut path: Vec<u8> = Vec::new();
        let root = Open { id: ROOT, path_len: 0, is_first: true, children: None, has_path: false };
        self.nodes.at(ROOT).children = None;
        reader.object()?;
        let mut open = vec![root];
        while let Some(top) = open.last_mut() {
            path.truncate(top.path_len);
            let Some(is_first) = &mut top.children else {
                match reader.key(&mut top.is_first)? {
                    Some(field) => self.read_field(top, &field, &path, reader)?,
                    None if !top.has_path => {
                        let path = String::from_utf8_lossy(if path.is_empty() { b"/" } else { &path });
                        return Err(V2TreeError::Path { path: path.into_owned(), says: String::new() });
                    }
                    None => {
                        let id = top.id;
                        open.pop();
                        self.close(id);
                    }
                }
                continue;
            };
            let Some(name) = reader.key(is_first)? else {
                top.children = None;
                continue;
            };
            let parent = top.id;
            path.push(b'/');
            path.extend_from_slice(&name);
            let is_name = !name.is_empty() && !name.contains(&b'/') && !matches!(&*name, b"." | b"..");
            if open.len() > MOST_LEVELS || !is_name {
                return Err(V2TreeError::Name { path: String::from_utf8_lossy(&path).into_owned() });
            }
            // Names that differ only in bytes that are no text are one name in JSON; the last counts.
            if let Some(id) = self.nodes.child(parent, &name) {
                self.nodes.remove(id);
            }
            reader.object()?;
            let id = self.nodes.add(Node { name: Box::from(&*name), parent, ..Node::default() });
            open.push(Open { id, path_len: path.len(), is_first: true, children: None, has_path: false });
        }
        if self.nodes[ROOT].is_dir() { Ok(()) } else { Err(V2TreeError::NoRoot) }
    }

    fn read_field(
        &mut self,
        top: &mut Open,
        field: &[u8],
        path: &[u8],
        reader: &mut Reader<'_>,
    ) -> Result<(), V2TreeError> {
        match field {
            b"Path" => {
                let says = reader.string()?;
                let path = if path.is_empty() { b"/" } else { path };
                if *says != *path {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    return Err(V2TreeError::Path { path: text(path), says: text(&says) });
                }
                top.has_path = true;
            }
            b"CreatedIndex" => self.nodes.at(top.id).created = reader.unsigned()?,
            b"ModifiedIndex" => self.nodes.at(top.id).modified = reader.unsigned()?,
            b"ExpireTime" => {
                let expires = time(reader)?;
                self.nodes.at(top.id).expires = Some(expires).filter(|time| !time.is_zero());
            }
            b"Value" => self.nodes.at(top.id).value = Arc::from(&*value(reader)?),
            b"Children" => {
                if !reader.null() {
                    reader.object()?;
                    let children = &mut self.nodes.at(top.id).children;
                    if children.is_some() {
                        return Err(reader.error("one list of children").into());
                    }
                    *children = Some(std::collections::BTreeMap::new());
                    top.children = Some(true);
                }
            }
            _ => reader.skip()?,
        }
        Ok(())
    }

    /// A node has been read whole: from now on it may expire. What lies in a directory comes first, as in etcd.
    fn close(&mut self, id: Id) {
        if let Some(expires) = self.nodes[id].expires {
            self.nodes.expire(id, Some(expires));
        }
    }
}

fn time(reader: &mut Reader<'_>) -> Result<Time, JsonError> {
    let text = reader.string()?;
    Time::parse(&text).ok_or_else(|| reader.error("a time"))
}

fn value<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, JsonError> {
    if reader.null() { Ok(Cow::Borrowed(b"")) } else { reader.string() }
}
