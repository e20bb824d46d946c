//! `graft`, the small-edit writer: a few pages behind the high-water mark and two metas turn one sound file into
//! another, whatever its size.
//!
//! A [`Graft`] collects edits of top-level buckets: replaced whole, deleted, cut or appended to at their right edge.
//! [`Graft::finish`] builds what they need in memory, with a new root bucket, as a [`Patch`]; nothing is written
//! until the patch is applied, to a copy of the file that was read.
//!
//! - No page of the source is changed or reused, and no freelist it keeps is trusted: new pages start at the larger
//!   high-water mark of both metas, and the new metas say that the freelist is not kept.
//! - Buckets that no edit names keep their pages, an appended bucket all its leaves; only branches on the way to its
//!   right edge are written anew.
//! - A small bucket lies inline exactly when bbolt would put it there (FORMATS A.5).
//! - The new transaction number is the next whose parity belongs to the slot of the older or invalid meta. That slot
//!   is written first. The other one then gets the same root one number lower, so that no old meta is left to
//!   bring the old content back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::bucket::Bucket;
use crate::cursor::Cursor;
use crate::db::Db;
use crate::fault::{Fault, FaultKind, readable};
use crate::meta::{Meta, NO_FREELIST};
use crate::page::{ELEMENT_BYTES, MAX_DEPTH, Node, NodeKind, PageId};
use crate::source::Source;
use crate::tree::{BranchElement, LEAF_FILL_PERCENT, LEAST_ELEMENTS, LeafElement, PageSink, TreeBuilder};

pub use crate::tree::ElementError;

/// Why an edit cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraftError {
    /// A page that the edit has to read is damaged.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A key or value that bbolt cannot hold.
    #[error("{holder}, key {key}: {source}")]
    Element {
        /// What holds it or should: a bucket, the root bucket (whose keys are the buckets' names), or a page.
        holder: String,
        /// The key, readable.
        key: String,
        /// What is wrong with it.
        source: ElementError,
    },
    /// A key to append that is not greater than all keys before it.
    #[error("bucket {bucket}: key {key} cannot be appended: it is not greater than {last}, the last key")]
    NotBeyondLast {
        /// The bucket's name, readable.
        bucket: String,
        /// The key, readable.
        key: String,
        /// The key before it, readable.
        last: String,
    },
    /// There is no top-level bucket of that name.
    #[error("there is no bucket {bucket}")]
    NoSuchBucket {
        /// The name, readable.
        bucket: String,
    },
    /// The root bucket has a plain value under that name.
    #[error("{bucket} is a value, not a bucket")]
    NotABucket {
        /// The name, readable.
        bucket: String,
    },
    /// The bucket holds buckets, which cannot be given as pairs.
    #[error(
        "bucket {bucket} holds another bucket, {nested}; only buckets of plain pairs can be read or replaced"
    )]
    NestedBucket {
        /// The bucket's name, readable.
        bucket: String,
        /// The name of the bucket in it, readable.
        nested: String,
    },
    /// Elements that overlap each other: taken together they are longer than the bytes they lie in.
    #[error(
        "{holder}: keys and values overlap: they add up to more than the {room_bytes} bytes that hold them"
    )]
    Overlap {
        /// The bucket or page, readable.
        holder: String,
        /// Length of what holds them in bytes.
        room_bytes: u64,
    },
    /// The file ends before its own high-water mark, so that new pages behind it would leave a hole.
    #[error(
        "the file has {file_bytes} bytes; its metas declare {high_water_mark} pages of {page_size} bytes, \
         {} in all: it was cut short", u128::from(*high_water_mark) * u128::from(*page_size)
    )]
    CutShort {
        /// Length of the file in bytes.
        file_bytes: u64,
        /// The larger high-water mark of both metas, in pages.
        high_water_mark: u64,
        /// Length of a page in bytes.
        page_size: u32,
    },
    /// The number of the next transaction or page does not fit 64 bits; no real file comes near.
    #[error("the file's {what} are used up")]
    Exhausted {
        /// Which numbers.
        what: &'static str,
    },
}

/// Pairs of a bucket, by key.
pub type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is to become of a bucket.
#[derive(Debug)]
enum Edit {
    Delete,
    Replace(Pairs),
    Edge(Edge),
}

/// What is to become of the right edge of a bucket that is in the file.
#[derive(Debug, Default)]
struct Edge {
    /// The smallest key of the file to drop.
    cut: Option<Vec<u8>>,
    /// Pairs behind what is left, in ascending order.
    appended: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Collects edits of top-level buckets. Later edits see the earlier ones; after an error of an edit, the ones before
/// it still stand and that one has done nothing.
#[derive(Debug)]
pub struct Graft<'d, S> {
    db: &'d Db<S>,
    edits: BTreeMap<Vec<u8>, Edit>,
}

impl<'d, S: Source> Graft<'d, S> {
    /// No edits yet, of the database `db`.
    #[must_use]
    pub fn new(db: &'d Db<S>) -> Self {
        Self { db, edits: BTreeMap::new() }
    }

    /// Makes `pairs` all that the top-level bucket `name` holds; creates the bucket when there is none.
    ///
    /// # Errors
    /// When the bucket holds other buckets, is damaged, is a plain value, or a key or value is not allowed.
    pub fn replace_bucket(&mut self, name: &[u8], pairs: Pairs) -> Result<&mut Self, GraftError> {
        LeafElement::new(name, &[][..], true).map_err(|e| element_error(&[], name, e))?;
        for (key, value) in &pairs {
            element(name, key, value)?;
        }
        if let (None | Some(Edit::Edge(_)), Some(old)) = (self.edits.get(name), self.in_file(name)?) {
            refuse_nested(name, &old)?;
        }
        self.edits.insert(name.to_vec(), Edit::Replace(pairs));
        Ok(self)
    }

    /// Removes the top-level bucket `name` with all it holds; without such a bucket, does nothing.
    ///
    /// # Errors
    /// When a page on the way to the bucket is damaged, or the name is that of a plain value.
    pub fn delete_bucket(&mut self, name: &[u8]) -> Result<&mut Self, GraftError> {
        // The bucket itself may be damaged: that is no reason to keep it.
        self.seek(name)?;
        self.edits.insert(name.to_vec(), Edit::Delete);
        Ok(self)
    }

    /// All pairs of the top-level bucket `name` as edited so far, for small buckets; `None` when there is none.
    ///
    /// # Errors
    /// When the bucket is damaged or holds other buckets.
    pub fn pairs(&self, name: &[u8]) -> Result<Option<Pairs>, GraftError> {
        let edge = match self.edits.get(name) {
            Some(Edit::Delete) => return Ok(None),
            Some(Edit::Replace(pairs)) => return Ok(Some(pairs.clone())),
            Some(Edit::Edge(edge)) => Some(edge),
            None => None,
        };
        let Some(bucket) = self.in_file(name)? else { return Ok(None) };
        let mut pairs = Pairs::new();
        let mut room = Room::of_file(name, self.db);
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next()? {
            if item.is_bucket {
                return Err(nested(name, item.key));
            }
            room.take(item.key.len() + item.value.len())?;
            pairs.insert(item.key.to_vec(), item.value.to_vec());
        }
        if let Some(edge) = edge {
            if let Some(from) = &edge.cut {
                pairs.split_off(from);
            }
            pairs.extend(edge.appended.iter().cloned());
        }
        Ok(Some(pairs))
    }

    /// Appends `pairs`, in ascending order, behind the last key of the top-level bucket `name`.
    ///
    /// # Errors
    /// When there is no such bucket, a key is not greater than the one before it, a key or value is not allowed, or
    /// the bucket's right edge is damaged.
    pub fn append(&mut self, name: &[u8], pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Result<&mut Self, GraftError> {
        let last = self.last_key(name)?;
        let mut last = last.as_deref();
        for (key, value) in &pairs {
            element(name, key, value)?;
            if let Some(last) = last.filter(|last| *last >= key.as_slice()) {
                return Err(GraftError::NotBeyondLast {
                    bucket: readable(name),
                    key: readable(key),
                    last: readable(last),
                });
            }
            last = Some(key);
        }
        match self.edits.entry(name.to_vec()).or_insert_with(|| Edit::Edge(Edge::default())) {
            Edit::Replace(all) => all.extend(pairs),
            Edit::Edge(edge) => edge.appended.extend(pairs),
            Edit::Delete => return Err(GraftError::NoSuchBucket { bucket: readable(name) }),
        }
        Ok(self)
    }

    /// Drops every key of the top-level bucket `name` that is not smaller than `from`.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub fn cut(&mut self, name: &[u8], from: &[u8]) -> Result<&mut Self, GraftError> {
        let missing = || GraftError::NoSuchBucket { bucket: readable(name) };
        if !self.edits.contains_key(name) {
            self.in_file(name)?.ok_or_else(missing)?;
        }
        match self.edits.entry(name.to_vec()).or_insert_with(|| Edit::Edge(Edge::default())) {
            Edit::Replace(all) => {
                all.split_off(from);
            }
            Edit::Edge(edge) => {
                let kept = edge.appended.partition_point(|(key, _)| key.as_slice() < from);
                edge.appended.truncate(kept);
                if edge.cut.as_deref().is_none_or(|cut| from < cut) {
                    edge.cut = Some(from.to_vec());
                }
            }
            Edit::Delete => return Err(missing()),
        }
        Ok(self)
    }

    /// Builds the new pages and metas. Memory grows with what is rebuilt, not with the file.
    ///
    /// # Errors
    /// When a page that is to be rebuilt is damaged, or the file is shorter than its metas say.
    pub fn finish(self) -> Result<Patch, GraftError> {
        let db = self.db;
        let page_size = db.page_size();
        let first = db.highest_water_mark();
        let file_bytes = db.source().len_bytes();
        if first.checked_mul(u64::from(page_size)).is_none_or(|end| end > file_bytes) {
            return Err(GraftError::CutShort { file_bytes, high_water_mark: first, page_size });
        }
        let mut buckets: BTreeMap<Vec<u8>, (Vec<u8>, bool)> = BTreeMap::new();
        let mut room = Room::of_file(&[], db);
        let mut cursor = db.root().cursor();
        while let Some(item) = cursor.next()? {
            room.take(item.key.len() + item.value.len())?;
            buckets.insert(item.key.to_vec(), (item.value.to_vec(), item.is_bucket));
        }
        let mut pages = Pages { page_size, next: PageId(first), segments: Vec::new() };
        for (name, edit) in &self.edits {
            let value = match edit {
                Edit::Delete => {
                    buckets.remove(name);
                    continue;
                }
                Edit::Replace(pairs) => {
                    let sequence = self.in_file(name)?.map_or(0, |old| old.sequence());
                    let elements: Result<Vec<_>, _> =
                        pairs.iter().map(|(key, value)| element(name, key, value)).collect();
                    build(&mut pages, sequence, elements?)?
                }
                Edit::Edge(edge) => {
                    let missing = || GraftError::NoSuchBucket { bucket: readable(name) };
                    let old = self.in_file(name)?.ok_or_else(missing)?;
                    match rebuild_edge(&mut pages, name, &old, edge)? {
                        Some(value) => value,
                        None => continue,
                    }
                }
            };
            buckets.insert(name.clone(), (value, true));
        }
        // The root bucket is a tree like any other, but never inline: the meta has no room for it.
        let mut tree = TreeBuilder::new(page_size, LEAF_FILL_PERCENT);
        for (name, (value, is_bucket)) in &buckets {
            let element =
                LeafElement::new(name, value, *is_bucket).map_err(|e| element_error(&[], name, e))?;
            tree.push(&mut pages, &element)?;
        }
        let root = tree.finish(&mut pages)?;
        Patch::new(db, root, pages)
    }

    /// The place of the top-level bucket `name` in the file.
    fn seek(&self, name: &[u8]) -> Result<Option<Cursor<'d, S>>, GraftError> {
        let mut cursor = self.db.root().cursor();
        match cursor.seek(name)? {
            Some(item) if item.key == name && !item.is_bucket => {
                Err(GraftError::NotABucket { bucket: readable(name) })
            }
            Some(item) if item.key == name => Ok(Some(cursor)),
            _ => Ok(None),
        }
    }

    /// The top-level bucket `name` as it is in the file.
    fn in_file(&self, name: &[u8]) -> Result<Option<Bucket<'d, S>>, GraftError> {
        match self.seek(name)? {
            Some(cursor) => Ok(cursor.bucket()?),
            None => Ok(None),
        }
    }

    /// The last key of bucket `name` as edited so far; `None` when it is empty.
    fn last_key(&self, name: &[u8]) -> Result<Option<Vec<u8>>, GraftError> {
        let missing = || GraftError::NoSuchBucket { bucket: readable(name) };
        let cut = match self.edits.get(name) {
            Some(Edit::Delete) => return Err(missing()),
            Some(Edit::Replace(pairs)) => return Ok(pairs.last_key_value().map(|(key, _)| key.clone())),
            Some(Edit::Edge(Edge { appended, .. })) if !appended.is_empty() => {
                return Ok(appended.last().map(|(key, _)| key.clone()));
            }
            Some(Edit::Edge(Edge { cut, .. })) => cut.as_deref(),
            None => None,
        };
        let mut cursor = self.in_file(name)?.ok_or_else(missing)?.cursor();
        let found = match cut {
            Some(from) if cursor.seek(from)?.is_some() => cursor.prev()?,
            _ => cursor.last()?,
        };
        Ok(found.map(|item| item.key.to_vec()))
    }
}

fn element<'a>(bucket: &[u8], key: &'a [u8], value: &'a [u8]) -> Result<LeafElement<'a>, GraftError> {
    LeafElement::new(key, value, false).map_err(|e| element_error(bucket, key, e))
}

fn element_error(bucket: &[u8], key: &[u8], source: ElementError) -> GraftError {
    GraftError::Element { holder: holder(bucket), key: readable(key), source }
}

/// How messages name a bucket; the root bucket is the one without a name.
fn holder(bucket: &[u8]) -> String {
    if bucket.is_empty() { "root bucket".to_owned() } else { format!("bucket {}", readable(bucket)) }
}

fn nested(bucket: &[u8], nested: &[u8]) -> GraftError {
    GraftError::NestedBucket { bucket: readable(bucket), nested: readable(nested) }
}

fn refuse_nested<S: Source>(name: &[u8], bucket: &Bucket<'_, S>) -> Result<(), GraftError> {
    let mut cursor = bucket.cursor();
    while let Some(item) = cursor.next()? {
        if item.is_bucket {
            return Err(nested(name, item.key));
        }
    }
    Ok(())
}

/// Room for elements: what they add up to cannot exceed what holds them, unless they were made to overlap so that a
/// small file asks for a lot of memory.
struct Room {
    holder: String,
    room_bytes: u64,
    left_bytes: u64,
}

impl Room {
    fn new(holder: String, room_bytes: u64) -> Self {
        Self { holder, room_bytes, left_bytes: room_bytes }
    }

    fn of_file<S: Source>(bucket: &[u8], db: &Db<S>) -> Self {
        Self::new(holder(bucket), db.source().len_bytes())
    }

    fn of_node(node: &Node<'_>) -> Self {
        Self::new(format!("page {}", node.id()), node.len_bytes())
    }

    /// Takes the room of one element with `len` bytes of key and value.
    fn take(&mut self, len: usize) -> Result<(), GraftError> {
        let needed = (ELEMENT_BYTES as u64).saturating_add(len as u64);
        self.left_bytes = self.left_bytes.checked_sub(needed).ok_or_else(|| GraftError::Overlap {
            holder: self.holder.clone(),
            room_bytes: self.room_bytes,
        })?;
        Ok(())
    }
}

/// Builds a bucket of these elements, inline where bbolt would; returns the value that describes it.
fn build(pages: &mut Pages, sequence: u64, elements: Vec<LeafElement<'_>>) -> Result<Vec<u8>, GraftError> {
    let mut tree = TreeBuilder::new(pages.page_size, LEAF_FILL_PERCENT);
    for element in elements {
        tree.push(pages, &element)?;
    }
    tree.finish_bucket(pages, sequence)
}

/// The right edge of a tree, taken apart.
struct Spine<'d> {
    /// Of each branch on the way to the edge, the root first: the elements that stay, but for the one that led on.
    branches: Vec<Vec<BranchElement>>,
    /// What is left of a leaf that cannot stay as it is.
    tail: Vec<LeafElement<'d>>,
    /// Whether anything is dropped.
    is_cut: bool,
}

/// Cuts and appends at the right edge of `bucket`; returns its new value, or `None` when nothing changes.
fn rebuild_edge<S: Source>(
    pages: &mut Pages,
    name: &[u8],
    bucket: &Bucket<'_, S>,
    edge: &Edge,
) -> Result<Option<Vec<u8>>, GraftError> {
    let db = bucket.db();
    let Spine { mut branches, mut tail, is_cut } = take_apart(bucket, name, edge.cut.as_deref())?;
    if !is_cut && edge.appended.is_empty() {
        return Ok(None);
    }
    widen(db, &mut branches)?;
    for (key, value) in &edge.appended {
        tail.push(element(name, key, value)?);
    }
    let lowest = branches.last().map_or(&[][..], Vec::as_slice);
    if lowest.len() < LEAST_ELEMENTS {
        // At most one leaf stays: the bucket is rebuilt whole, and may become inline.
        if let [only] = lowest {
            let node = only_leaf(db, only.child(), branches.len())?;
            let mut all = leaf_elements(&node, node.count(), name)?;
            all.append(&mut tail);
            tail = all;
        }
        return build(pages, bucket.sequence(), tail).map(Some);
    }
    let page_size = pages.page_size;
    let mut tree = TreeBuilder::resume(pages, page_size, branches)?;
    for element in tail {
        tree.push(pages, &element)?;
    }
    tree.finish_bucket(pages, bucket.sequence()).map(Some)
}

/// Walks down the right edge that is left when all keys from `cut` on are gone.
fn take_apart<'d, S: Source>(
    bucket: &Bucket<'d, S>,
    name: &[u8],
    cut: Option<&[u8]>,
) -> Result<Spine<'d>, GraftError> {
    let mut spine = Spine { branches: Vec::new(), tail: Vec::new(), is_cut: false };
    let mut node = bucket.root_node()?;
    let mut led_here: Option<BranchElement> = None;
    let mut seen: Vec<PageId> = Vec::new();
    loop {
        node.check_order()?;
        let kept = cut.map_or(node.count(), |from| node.lower_bound(from));
        spine.is_cut |= kept < node.count();
        if node.kind() == NodeKind::Leaf {
            match (led_here, spine.branches.last_mut()) {
                (Some(_), _) if node.count() == 0 => return Err(node.fault(FaultKind::EmptyLeaf).into()),
                (Some(leaf), Some(parent)) if kept == node.count() => parent.push(leaf),
                _ => spine.tail = leaf_elements(&node, kept, name)?,
            }
            return Ok(spine);
        }
        if node.count() == 0 {
            return Err(node.fault(FaultKind::EmptyBranch).into());
        }
        if spine.branches.len() >= MAX_DEPTH {
            return Err(node.fault(FaultKind::TooDeep { most: MAX_DEPTH }).into());
        }
        if let Some(first_user) = seen.iter().find(|id| **id == node.id()) {
            return Err(node.fault(FaultKind::MultipleReferences { first_user: *first_user }).into());
        }
        seen.push(node.id());
        // Where all keys go, the first child still shows how deep the leaves lie.
        let way = kept.saturating_sub(1);
        spine.branches.push(branch_elements(&node, way)?);
        led_here = Some(branch_element(&node, way)?);
        node = bucket.db().node(node.child(way))?;
    }
}

/// Sees to it that no branch of the spine ends up with a single child: a branch that a cut has left with too few
/// takes in the branch to its left, unless there is none, and then it and all above it are not needed.
fn widen<S: Source>(db: &Db<S>, branches: &mut [Vec<BranchElement>]) -> Result<(), GraftError> {
    let lowest = branches.len().saturating_sub(1);
    for level in (0..branches.len()).rev() {
        // Above the lowest level, what is written below adds at least one more.
        let least = if level == lowest { LEAST_ELEMENTS } else { LEAST_ELEMENTS - 1 };
        while branches[level].len() < least {
            let Some(donor) = (0..level).rev().find(|above| !branches[*above].is_empty()) else { break };
            for above in donor..level {
                let Some(element) = branches[above].pop() else { break };
                let node = db.node(element.child())?;
                if node.kind() == NodeKind::Leaf {
                    let kind = FaultKind::UnevenDepth { depth: above + 1, expected: branches.len() };
                    return Err(node.fault(kind).into());
                }
                if node.count() == 0 {
                    return Err(node.fault(FaultKind::EmptyBranch).into());
                }
                node.check_order()?;
                let mut elements = branch_elements(&node, node.count())?;
                elements.append(&mut branches[above + 1]);
                branches[above + 1] = elements;
            }
        }
    }
    Ok(())
}

/// The only leaf that is left of a bucket, which must lie at `depth` as the leaves dropped did.
fn only_leaf<S: Source>(db: &Db<S>, id: PageId, depth: usize) -> Result<Node<'_>, Fault> {
    let mut node = db.node(id)?;
    let mut found = depth;
    while node.kind() == NodeKind::Branch {
        if found > MAX_DEPTH {
            return Err(node.fault(FaultKind::TooDeep { most: MAX_DEPTH }));
        }
        found += 1;
        node = db.node(node.child(0))?;
    }
    if found != depth {
        return Err(node.fault(FaultKind::UnevenDepth { depth: found, expected: depth }));
    }
    if node.count() == 0 {
        return Err(node.fault(FaultKind::EmptyLeaf));
    }
    node.check_order()?;
    Ok(node)
}

fn branch_element(node: &Node<'_>, index: u16) -> Result<BranchElement, GraftError> {
    let key = node.key(index);
    BranchElement::new(key.to_vec(), node.child(index)).map_err(|source| GraftError::Element {
        holder: format!("page {}", node.id()),
        key: readable(key),
        source,
    })
}

/// The first `count` elements of a branch.
fn branch_elements(node: &Node<'_>, count: u16) -> Result<Vec<BranchElement>, GraftError> {
    let mut room = Room::of_node(node);
    let mut elements = Vec::with_capacity(usize::from(count));
    for index in 0..count {
        room.take(node.key(index).len())?;
        elements.push(branch_element(node, index)?);
    }
    Ok(elements)
}

/// The first `count` elements of a leaf of bucket `name`.
fn leaf_elements<'d>(node: &Node<'d>, count: u16, name: &[u8]) -> Result<Vec<LeafElement<'d>>, GraftError> {
    let mut room = Room::of_node(node);
    let mut elements = Vec::with_capacity(usize::from(count));
    for index in 0..count {
        let key = node.key(index);
        room.take(key.len() + node.value(index).len())?;
        let element = LeafElement::new(key.to_vec(), node.value_cow(index), node.is_bucket(index));
        elements.push(element.map_err(|e| element_error(name, key, e))?);
    }
    Ok(elements)
}

/// Length a piece of new pages is kept below where nodes allow, so that growing it does not copy much.
const SEGMENT_BYTES: usize = 4 << 20;

/// New pages, in pieces that follow each other without a gap.
#[derive(Debug)]
struct Pages {
    page_size: u32,
    next: PageId,
    segments: Vec<(u64, Vec<u8>)>,
}

impl PageSink for Pages {
    type Error = GraftError;

    fn next_id(&self) -> PageId {
        self.next
    }

    fn append(&mut self, table: &[u8], data: &[u8], padding_bytes: usize) -> Result<(), GraftError> {
        let exhausted = GraftError::Exhausted { what: "page numbers" };
        let page_size = u64::from(self.page_size);
        let node_bytes = table.len() + data.len() + padding_bytes;
        let offset = self.next.0.checked_mul(page_size);
        let end = offset.and_then(|at| at.checked_add(node_bytes as u64));
        let (Some(offset), Some(end)) = (offset, end) else { return Err(exhausted) };
        if self.segments.last().is_none_or(|(_, last)| last.len() + node_bytes > SEGMENT_BYTES) {
            self.segments.push((offset, Vec::with_capacity(node_bytes)));
        }
        if let Some((_, segment)) = self.segments.last_mut() {
            segment.extend_from_slice(table);
            segment.extend_from_slice(data);
            segment.resize(segment.len() + padding_bytes, 0);
        }
        self.next = PageId(end / page_size);
        Ok(())
    }
}

/// What has to be written to turn a file into its edited successor.
#[derive(Debug)]
pub struct Patch {
    page_size: u32,
    txid: u64,
    high_water_mark: u64,
    segments: Vec<(u64, Vec<u8>)>,
    /// The slot to write first, then the other.
    metas: [(u64, Vec<u8>); 2],
}

impl Patch {
    fn new<S: Source>(db: &Db<S>, root: PageId, pages: Pages) -> Result<Self, GraftError> {
        let slot = 1 - db.active_slot();
        let newest = db.metas().iter().flatten().map(|meta| meta.txid).max().unwrap_or_default();
        let parity = slot as u64;
        let step = if newest % 2 == parity { 2 } else { 1 };
        let txid = newest.checked_add(step).ok_or(GraftError::Exhausted { what: "transaction numbers" })?;
        let high_water_mark = pages.next.0;
        let meta = Meta { root, freelist: NO_FREELIST, high_water_mark, txid, ..*db.meta() };
        let other = Meta { txid: txid - 1, ..meta };
        let metas = [meta_page(parity, &meta), meta_page(1 - parity, &other)];
        Ok(Self { page_size: pages.page_size, txid, high_water_mark, segments: pages.segments, metas })
    }

    /// Length of a page in bytes.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// The new transaction number.
    #[must_use]
    pub fn txid(&self) -> u64 {
        self.txid
    }

    /// The new high-water mark, in pages.
    #[must_use]
    pub fn high_water_mark(&self) -> u64 {
        self.high_water_mark
    }

    /// The edited file's logical length in bytes: the high-water mark times the page size.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.high_water_mark.saturating_mul(u64::from(self.page_size))
    }

    /// The new pages: offsets in bytes, ascending and without a gap, and what to write there.
    pub fn data_writes(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.segments.iter().map(|(offset, bytes)| (*offset, bytes.as_slice()))
    }

    /// The two meta pages: offsets in bytes, and what to write there. The first must be on disk before the second is
    /// written, and all of [`Self::data_writes`] before the first.
    #[must_use]
    pub fn meta_writes(&self) -> [(u64, &[u8]); 2] {
        let [first, second] = &self.metas;
        [(first.0, &first.1), (second.0, &second.1)]
    }

    /// Applies the patch to a copy in memory of the file it was made for; a shorter `file` grows.
    pub fn apply_to_vec(&self, file: &mut Vec<u8>) {
        for (offset, bytes) in self.data_writes().chain(self.meta_writes()) {
            // Beyond the address space no copy of the file can be.
            let Ok(start) = usize::try_from(offset) else { continue };
            let end = start.saturating_add(bytes.len());
            if file.len() < end {
                file.resize(end, 0);
            }
            if let Some(place) = file.get_mut(start..end) {
                place.copy_from_slice(bytes);
            }
        }
    }

    /// Applies the patch to a copy of the file it was made for: data, then the new meta, then the other, each on
    /// disk before the next is begun. Whenever that is cut off, a valid meta with all its pages is left.
    ///
    /// # Errors
    /// When the system cannot write or sync.
    pub fn apply_to_file(&self, file: &File) -> io::Result<()> {
        if file.metadata()?.len() < self.len_bytes() {
            file.set_len(self.len_bytes())?;
        }
        for (offset, bytes) in self.data_writes() {
            file.write_all_at(bytes, offset)?;
        }
        file.sync_data()?;
        let [first, second] = self.meta_writes();
        file.write_all_at(first.1, first.0)?;
        file.sync_data()?;
        file.write_all_at(second.1, second.0)?;
        file.sync_all()
    }
}

/// The page of slot `slot` with `meta` in it, and where it belongs.
fn meta_page(slot: u64, meta: &Meta) -> (u64, Vec<u8>) {
    (slot * u64::from(meta.page_size), meta.page(slot))
}
