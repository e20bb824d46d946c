//! A model of a file system that loses power.
//!
//! What a program issued is a list of [`Op`]s on inodes. After any of them the power may go, and what is then on the disk
//! is what was synced, and of the rest whatever the file system happened to write:
//! - data of a file: everything up to its last fsync, then all, nothing, a torn part, or zeros in place of what followed;
//! - names: those whose directory was synced since, and of the others any subset (POSIX promises no more); of the
//!   subsets, all, none, every prefix (a journal), each one alone, and all but each one are tried; where part of the
//!   tree is on a file system of its own, every prefix of the one's with every prefix of the other's too.
//!
//! A rename is one operation (every file system in use journals it as one), lasting once the directory it leads to is
//! synced. The fsync of a file does not make its name last.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// Number of an inode of the model.
pub(crate) type Ino = usize;
/// The top of the tree.
pub(crate) const ROOT: Ino = 0;
const PAGE_BYTES: u64 = 4096;
const MAX_LINKS: u32 = 40;

/// What is in a file: pages that are not all zeros, and its length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    len_bytes: u64,
    pages: BTreeMap<u64, Arc<Page>>,
    hash: OnceLock<u64>,
}

/// A page, shared by all contents that hold it.
#[derive(Debug)]
struct Page {
    bytes: Vec<u8>,
    hash: u64,
}

impl Page {
    /// `None` for zeros.
    fn of(bytes: Vec<u8>) -> Option<Arc<Self>> {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let is_zero = bytes.iter().all(|byte| *byte == 0);
        (!is_zero).then(|| Arc::new(Self { hash: hasher.finish(), bytes }))
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.len_bytes == other.len_bytes && self.hash() == other.hash()
    }
}

impl Content {
    /// What `bytes` are.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    /// Its length.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Its pages with what is not zero, and where they begin.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().map(|(page, bytes)| (page * PAGE_BYTES, bytes.bytes.as_slice()))
    }

    /// `len_bytes` bytes from `offset`, or as many as there are.
    pub(crate) fn read(&self, offset: u64, len_bytes: u64) -> Vec<u8> {
        let end = offset.saturating_add(len_bytes).min(self.len_bytes);
        let mut out = vec![0; size(end.saturating_sub(offset))];
        for (start, bytes) in self.pages() {
            let (from, to) = (start.max(offset), (start + PAGE_BYTES).min(end));
            if from < to {
                let part = &bytes[size(from - start)..size(to - start)];
                out[size(from - offset)..size(to - offset)].copy_from_slice(part);
            }
        }
        out
    }

    /// Puts `bytes` at `offset`.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.hash = OnceLock::new();
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (page, within) = (at / PAGE_BYTES, size(at % PAGE_BYTES));
            let n = (bytes.len() - done).min(size(PAGE_BYTES) - within);
            let part = &bytes[done..done + n];
            let mut new = match self.pages.get(&page) {
                Some(old) if n < size(PAGE_BYTES) => old.bytes.clone(),
                _ => vec![0; size(PAGE_BYTES)],
            };
            new[within..within + n].copy_from_slice(part);
            self.set_page(page, Page::of(new));
            done += n;
        }
        self.len_bytes = self.len_bytes.max(offset + bytes.len() as u64);
    }

    fn set_page(&mut self, page: u64, to: Option<Arc<Page>>) {
        match to {
            Some(to) => drop(self.pages.insert(page, to)),
            None => drop(self.pages.remove(&page)),
        }
    }

    /// Makes it `len_bytes` long.
    pub(crate) fn set_len(&mut self, len_bytes: u64) {
        self.hash = OnceLock::new();
        if len_bytes < self.len_bytes {
            let page_end = len_bytes.next_multiple_of(PAGE_BYTES).min(self.len_bytes);
            self.write(len_bytes, &vec![0; size(page_end - len_bytes)]);
            self.pages.retain(|page, _| page * PAGE_BYTES < len_bytes);
        }
        self.len_bytes = len_bytes;
    }

    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            self.len_bytes.hash(&mut hasher);
            self.pages.iter().for_each(|(number, page)| (number, page.hash).hash(&mut hasher));
            hasher.finish()
        })
    }
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

/// Bytes to be written, cut at the ends of pages: whole ones are shared, not copied, by what they are written to.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    offset: u64,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    /// A page; `None` for zeros.
    Whole(Option<Arc<Page>>),
    Some(Vec<u8>),
}

impl Part {
    fn len_bytes(&self) -> u64 {
        match self {
            Self::Whole(_) => PAGE_BYTES,
            Self::Some(bytes) => bytes.len() as u64,
        }
    }
}

impl Written {
    fn new(offset: u64, bytes: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut rest = bytes;
        let mut room = size(PAGE_BYTES - offset % PAGE_BYTES);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(room.min(rest.len()));
            let is_whole = part.len() == size(PAGE_BYTES);
            let part = part.to_vec();
            parts.push(if is_whole { Part::Whole(Page::of(part)) } else { Part::Some(part) });
            (rest, room) = (after, size(PAGE_BYTES));
        }
        Self { offset, parts }
    }

    fn len_bytes(&self) -> u64 {
        self.parts.iter().map(Part::len_bytes).sum()
    }

    /// Its first `len_bytes`.
    fn apply(&self, content: &mut Content, len_bytes: u64) {
        content.hash = OnceLock::new();
        let (mut at, end) = (self.offset, self.offset + len_bytes);
        for part in &self.parts {
            if at >= end {
                break;
            }
            match part {
                Part::Whole(page) if at + PAGE_BYTES <= end => {
                    content.set_page(at / PAGE_BYTES, page.clone());
                    content.len_bytes = content.len_bytes.max(at + PAGE_BYTES);
                }
                Part::Whole(page) => {
                    let zeros = vec![0; size(PAGE_BYTES)];
                    let bytes = page.as_ref().map_or(&zeros, |page| &page.bytes);
                    content.write(at, &bytes[..size(end - at)]);
                }
                Part::Some(bytes) => content.write(at, &bytes[..bytes.len().min(size(end - at))]),
            }
            at += part.len_bytes();
        }
    }
}

/// A change to what is in a file.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    /// Bytes.
    Write(Written),
    /// This length.
    SetLen(u64),
}

impl Edit {
    /// `bytes` at `offset`.
    pub(crate) fn write(offset: u64, bytes: &[u8]) -> Self {
        Self::Write(Written::new(offset, bytes))
    }

    fn apply(&self, content: &mut Content) {
        match self {
            Self::Write(written) => written.apply(content, written.len_bytes()),
            Self::SetLen(len_bytes) => content.set_len(*len_bytes),
        }
    }

    /// What is left of it when it is torn.
    fn apply_half(&self, content: &mut Content) {
        match self {
            Self::Write(written) => written.apply(content, written.len_bytes() / 2),
            Self::SetLen(_) => {}
        }
    }
}

/// A change of names: in which directory, which name, what it leads to from now on.
type Names = Vec<(Ino, String, Option<Ino>)>;

/// One operation.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Names, all of them at once; the last one's directory must be synced for them to last.
    Names(String, Names),
    /// Data.
    Data(Ino, Edit),
    /// fsync of a file or directory.
    Sync(Ino),
    /// sync of everything.
    SyncAll,
}

/// What an inode is.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// A directory.
    Dir(BTreeMap<String, Ino>),
    /// A file.
    File(Arc<Content>),
    /// A symbolic link, with its target.
    Link(String),
}

/// A running system: what a program sees, and the list of what it did.
#[derive(Debug, Clone)]
pub(crate) struct Fs {
    nodes: Vec<Node>,
    modes: Vec<u32>,
    /// The nodes before the first operation.
    before: Vec<Node>,
    ops: Vec<Op>,
}

/// Why an operation cannot be: the model and the system disagree.
pub(crate) type Refused = String;

impl Default for Fs {
    fn default() -> Self {
        let nodes = vec![Node::Dir(BTreeMap::new())];
        Self { before: nodes.clone(), nodes, modes: vec![0o755], ops: Vec::new() }
    }
}

impl Fs {
    /// Takes what is there now for what has been on the disk for long.
    pub(crate) fn settle(&mut self) {
        self.ops.clear();
        self.before = self.nodes.clone();
    }

    /// What was done since.
    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// A file's content.
    pub(crate) fn content(&self, ino: Ino) -> Result<&Arc<Content>, Refused> {
        match &self.nodes[ino] {
            Node::File(content) => Ok(content),
            other => Err(format!("no file: {other:?}")),
        }
    }

    /// Sets permission bits, which are not part of the model.
    pub(crate) fn set_mode(&mut self, ino: Ino, mode: u32) {
        self.modes[ino] = mode;
    }

    /// Where `path` leads from `start`; a link at its end is followed if asked for.
    pub(crate) fn find(&self, start: Ino, path: &str, follow: bool) -> Result<Ino, Refused> {
        let (dir, name) = self.place(start, path)?;
        self.step(dir, &name, follow, &mut 0)
    }

    /// The directory of `path` and the name in it.
    pub(crate) fn place(&self, start: Ino, path: &str) -> Result<(Ino, String), Refused> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let Some((name, above)) = parts.split_last() else { return Ok((start, ".".to_owned())) };
        let mut at = start;
        for part in above {
            at = self.step(at, part, true, &mut 0)?;
        }
        Ok((at, (*name).to_owned()))
    }

    fn step(&self, dir: Ino, name: &str, follow: bool, links: &mut u32) -> Result<Ino, Refused> {
        if name == "." {
            return Ok(dir);
        }
        let Node::Dir(entries) = &self.nodes[dir] else {
            return Err(format!("{name}: above it is no directory"));
        };
        if name == ".." {
            let is_above =
                |node: &Node| matches!(node, Node::Dir(names) if names.values().any(|ino| *ino == dir));
            return self.nodes.iter().position(is_above).ok_or_else(|| "..: leads out".to_owned());
        }
        let found = *entries.get(name).ok_or_else(|| format!("{name}: not there"))?;
        match &self.nodes[found] {
            Node::Link(target) if follow => {
                *links += 1;
                if *links > MAX_LINKS || target.starts_with('/') {
                    return Err(format!("{name}: too many links, or an absolute one: {target}"));
                }
                let mut at = dir;
                for part in target.split('/').filter(|part| !part.is_empty()) {
                    at = self.step(at, part, true, links)?;
                }
                Ok(at)
            }
            _ => Ok(found),
        }
    }

    /// Makes an inode without a name.
    pub(crate) fn make(&mut self, node: Node, mode: u32) -> Ino {
        // What it is like before anything was written or synced.
        self.before.push(match &node {
            Node::Dir(_) => Node::Dir(BTreeMap::new()),
            Node::File(_) => Node::File(Arc::default()),
            Node::Link(target) => Node::Link(target.clone()),
        });
        self.nodes.push(node);
        self.modes.push(mode);
        self.nodes.len() - 1
    }

    /// Changes names; `what` says it to people.
    pub(crate) fn names(&mut self, what: String, names: Names) -> Result<(), Refused> {
        for (dir, name, to) in &names {
            let Node::Dir(entries) = &mut self.nodes[*dir] else {
                return Err(format!("{what}: no directory"));
            };
            match to {
                Some(to) => entries.insert(name.clone(), *to),
                None => Some(entries.remove(name).ok_or_else(|| format!("{what}: {name} is not there"))?),
            };
        }
        self.ops.push(Op::Names(what, names));
        Ok(())
    }

    /// Changes what is in a file.
    pub(crate) fn edit(&mut self, ino: Ino, edit: Edit) -> Result<(), Refused> {
        let mut content = Content::clone(self.content(ino)?);
        edit.apply(&mut content);
        self.nodes[ino] = Node::File(Arc::new(content));
        self.ops.push(Op::Data(ino, edit));
        Ok(())
    }

    /// fsync.
    pub(crate) fn sync(&mut self, ino: Ino) {
        self.ops.push(Op::Sync(ino));
    }

    /// sync, and syncfs.
    pub(crate) fn sync_all(&mut self) {
        self.ops.push(Op::SyncAll);
    }

    /// Gives `ino` a name.
    pub(crate) fn link(&mut self, start: Ino, path: &str, ino: Ino) -> Result<(), Refused> {
        let (dir, name) = self.place(start, path)?;
        self.names(format!("make {path}"), vec![(dir, name, Some(ino))])
    }

    /// Takes a name away.
    pub(crate) fn unlink(&mut self, start: Ino, path: &str) -> Result<(), Refused> {
        let (dir, name) = self.place(start, path)?;
        self.names(format!("remove {path}"), vec![(dir, name, None)])
    }

    /// Renames.
    pub(crate) fn rename(&mut self, (from, old): (Ino, &str), (to, new): (Ino, &str)) -> Result<(), Refused> {
        let (from_dir, from_name) = self.place(from, old)?;
        let (to_dir, to_name) = self.place(to, new)?;
        let ino = self.step(from_dir, &from_name, false, &mut 0)?;
        let names = vec![(from_dir, from_name, None), (to_dir, to_name, Some(ino))];
        self.names(format!("rename {old} to {new}"), names)
    }

    /// Lets two names change places, at once.
    pub(crate) fn exchange(
        &mut self,
        (one, first): (Ino, &str),
        (other, second): (Ino, &str),
    ) -> Result<(), Refused> {
        let (one_dir, one_name) = self.place(one, first)?;
        let (other_dir, other_name) = self.place(other, second)?;
        let one_ino = self.step(one_dir, &one_name, false, &mut 0)?;
        let other_ino = self.step(other_dir, &other_name, false, &mut 0)?;
        let names = vec![(one_dir, one_name, Some(other_ino)), (other_dir, other_name, Some(one_ino))];
        self.names(format!("exchange {first} and {second}"), names)
    }

    /// What is there now, below the directory `top`.
    pub(crate) fn now(&self, top: &str) -> Result<State, Refused> {
        let mut state = State::of(&self.nodes, &self.modes, self.find(ROOT, top, false)?);
        state.story = "as it is".to_owned();
        Ok(state)
    }

    /// Every distinct state of the directory `top` that a loss of power can leave, after each operation; how many were
    /// looked at in all. What is in `top` under the name `apart` is on a file system of its own.
    pub(crate) fn cuts(&self, top: &str, apart: Option<&str>) -> Result<(Vec<State>, usize), Refused> {
        let top = self.find(ROOT, top, false)?;
        let mut disk = Disk {
            fs: self,
            apart: self.apart(top, apart),
            pending: Vec::new(),
            lasting: Vec::new(),
            synced: HashMap::new(),
            dirty: BTreeMap::new(),
        };
        let (mut seen, mut states, mut looked_at) = (BTreeSet::new(), Vec::new(), 0);
        for done in 0..=self.ops.len() {
            if let Some(op) = done.checked_sub(1).and_then(|last| self.ops.get(last)) {
                disk.run(op);
            }
            let contents = disk.contents();
            for (names, which) in disk.subsets() {
                for (data, contents) in &contents {
                    looked_at += 1;
                    let mut state = disk.state(top, &names, contents);
                    if seen.insert(state.hash()) {
                        state.story =
                            format!("after operation {done} of {}: {which}; {data}", self.ops.len());
                        states.push(state);
                    }
                }
            }
        }
        Ok((states, looked_at))
    }

    /// All that is ever below the name `apart` in `top`.
    fn apart(&self, top: Ino, apart: Option<&str>) -> BTreeSet<Ino> {
        let names = self.ops.iter().filter_map(|op| match op {
            Op::Names(_, names) => Some(names),
            _ => None,
        });
        let mut found = BTreeSet::new();
        let first = |dir: Ino, name: &str| dir == top && apart == Some(name);
        for (dir, node) in self.before.iter().enumerate() {
            let Node::Dir(entries) = node else { continue };
            found.extend(entries.iter().filter(|(name, _)| first(dir, name)).map(|(_, ino)| *ino));
        }
        let mut open: Vec<Ino> = found.iter().copied().collect();
        while let Some(dir) = open.pop() {
            let Node::Dir(entries) = &self.before[dir] else { continue };
            open.extend(entries.values().filter(|ino| found.insert(**ino)));
        }
        for (dir, name, to) in names.flatten() {
            if found.contains(dir) || first(*dir, name) {
                found.extend(to);
            }
        }
        found
    }
}

/// The disk under an [`Fs`], some operations on.
struct Disk<'a> {
    fs: &'a Fs,
    /// What is on a file system of its own.
    apart: BTreeSet<Ino>,
    /// Changes of names that need not last, in order of time with those that do.
    pending: Vec<(usize, &'a str, &'a Names)>,
    lasting: Vec<(usize, &'a Names)>,
    /// Files as they were last synced; those that are not in it are as they were before.
    synced: HashMap<Ino, Arc<Content>>,
    /// What was done to files since.
    dirty: BTreeMap<Ino, Vec<&'a Edit>>,
}

type Contents = Vec<(Ino, Arc<Content>)>;

impl<'a> Disk<'a> {
    fn run(&mut self, op: &'a Op) {
        match op {
            Op::Names(what, names) => {
                self.pending.push((self.pending.len() + self.lasting.len(), what, names));
            }
            Op::Data(ino, edit) => self.dirty.entry(*ino).or_default().push(edit),
            Op::Sync(ino) => self.sync(|dirty| dirty == *ino, |dir| dir == *ino),
            Op::SyncAll => self.sync(|_| true, |_| true),
        }
    }

    fn sync(&mut self, file: impl Fn(Ino) -> bool, dir: impl Fn(Ino) -> bool) {
        let clean: Vec<Ino> = self.dirty.keys().copied().filter(|ino| file(*ino)).collect();
        for ino in clean {
            let content =
                self.written(ino, |edits, content| edits.iter().for_each(|edit| edit.apply(content)));
            self.synced.insert(ino, content);
            self.dirty.remove(&ino);
        }
        let leads_there = |names: &Names| names.last().is_some_and(|(to, ..)| dir(*to));
        let (lasting, pending): (Vec<_>, Vec<_>) =
            self.pending.drain(..).partition(|(_, _, names)| leads_there(names));
        self.pending = pending;
        self.lasting.extend(lasting.into_iter().map(|(at, _, names)| (at, names)));
        self.lasting.sort_by_key(|(at, _)| *at);
    }

    fn base(&self, ino: Ino) -> Content {
        match (self.synced.get(&ino), &self.fs.before[ino]) {
            (Some(content), _) | (None, Node::File(content)) => Content::clone(content),
            _ => Content::default(),
        }
    }

    fn written(&self, ino: Ino, write: impl Fn(&[&Edit], &mut Content)) -> Arc<Content> {
        let mut content = self.base(ino);
        write(self.dirty.get(&ino).map(Vec::as_slice).unwrap_or_default(), &mut content);
        Arc::new(content)
    }

    /// What files can hold: of those that were written to since they were synced.
    fn contents(&self) -> Vec<(&'static str, Contents)> {
        type Write = fn(&[&Edit], &mut Content);
        let ways: [(&'static str, Write); 5] = [
            ("all data", |edits, content| edits.iter().for_each(|edit| edit.apply(content))),
            ("only synced data", |_, _| {}),
            ("lengths, but zeros for unsynced data", |edits, content| {
                let mut live = content.clone();
                edits.iter().for_each(|edit| edit.apply(&mut live));
                content.set_len(live.len_bytes());
            }),
            ("torn data", |edits, content| {
                let (whole, torn) = edits.split_at(edits.len() / 2);
                whole.iter().for_each(|edit| edit.apply(content));
                torn.iter().take(1).for_each(|edit| edit.apply_half(content));
            }),
            ("only the last written data", |edits, content| {
                edits.iter().rev().take(1).for_each(|edit| edit.apply(content));
            }),
        ];
        let all = |write: Write| self.dirty.keys().map(|ino| (*ino, self.written(*ino, write))).collect();
        let ways = ways.into_iter().take(if self.dirty.is_empty() { 1 } else { 5 });
        ways.map(|(what, write)| (what, all(write))).collect()
    }

    /// Which names can have reached the disk.
    fn subsets(&self) -> Vec<(Vec<&'a Names>, String)> {
        let n = self.pending.len();
        let kept = |keep: &dyn Fn(usize) -> bool| -> Vec<&'a Names> {
            let pending = self.pending.iter().enumerate().filter(|(i, _)| keep(*i));
            let mut all: Vec<(usize, &Names)> = pending.map(|(_, (at, _, names))| (*at, *names)).collect();
            all.extend(&self.lasting);
            all.sort_by_key(|(at, _)| *at);
            all.into_iter().map(|(_, names)| names).collect()
        };
        let mut subsets = vec![(kept(&|_| true), "all names".to_owned())];
        for first in 0..n {
            subsets.push((kept(&|i| i < first), format!("synced names and the first {first} after them")));
            let what = self.pending[first].1;
            subsets.push((kept(&|i| i == first), format!("synced names and '{what}' alone")));
            subsets.push((kept(&|i| i != first), format!("all names but '{what}'")));
        }
        let is_apart =
            |i: &usize| self.pending[*i].2.last().is_some_and(|(dir, ..)| self.apart.contains(dir));
        let (there, here): (Vec<usize>, Vec<usize>) = (0..n).partition(is_apart);
        for (a, b) in (0..here.len()).flat_map(|a| (0..there.len()).map(move |b| (a, b))) {
            let which = format!("the first {a} names of one file system, and {b} of the other");
            subsets.push((kept(&|i| here[..a].contains(&i) || there[..b].contains(&i)), which));
            // All of the one, and some of the other.
            let which = format!("all names of one file system, and {b} of the other");
            subsets.push((kept(&|i| here.contains(&i) || there[..b].contains(&i)), which));
            let which = format!("the first {a} names of one file system, and all of the other");
            subsets.push((kept(&|i| here[..a].contains(&i) || there.contains(&i)), which));
        }
        subsets
    }

    fn state(&self, top: Ino, names: &[&Names], contents: &Contents) -> State {
        let mut nodes = self.fs.before.clone();
        for (dir, name, to) in names.iter().copied().flatten() {
            if let Node::Dir(entries) = &mut nodes[*dir] {
                match to {
                    Some(to) => drop(entries.insert(name.clone(), *to)),
                    None => drop(entries.remove(name)),
                }
            }
        }
        let unsynced = contents.iter().map(|(ino, content)| (ino, content));
        for (ino, content) in self.synced.iter().chain(unsynced) {
            nodes[*ino] = Node::File(Arc::clone(content));
        }
        State::of(&nodes, &self.fs.modes, top)
    }
}

/// What a directory holds: every path below it.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// What is there, by path.
    pub found: BTreeMap<String, Found>,
    /// How it came to be.
    pub story: String,
}

/// One path of a [`State`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// Its inode, in the model.
    pub ino: Ino,
    /// Its permission bits.
    pub mode: u32,
    /// What it is.
    pub what: What,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// A directory.
    Dir,
    /// A file.
    File(Arc<Content>),
    /// A symbolic link.
    Link(String),
}

impl State {
    fn of(nodes: &[Node], modes: &[u32], top: Ino) -> Self {
        let mut found = BTreeMap::new();
        let mut open = vec![(String::new(), top)];
        while let Some((at, dir)) = open.pop() {
            let Node::Dir(entries) = &nodes[dir] else { continue };
            for (name, &ino) in entries {
                let path = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
                let what = match &nodes[ino] {
                    Node::Dir(_) => {
                        open.push((path.clone(), ino));
                        What::Dir
                    }
                    Node::File(content) => What::File(Arc::clone(content)),
                    Node::Link(target) => What::Link(target.clone()),
                };
                found.insert(path, Found { ino, mode: modes[ino], what });
            }
        }
        Self { found, story: String::new() }
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, found) in &self.found {
            path.hash(&mut hasher);
            match &found.what {
                What::Dir => 0.hash(&mut hasher),
                What::File(content) => (1, content.hash()).hash(&mut hasher),
                What::Link(target) => (2, target).hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}
