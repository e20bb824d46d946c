//! `rebuild`, any open db streamed into a fresh file by [`Build`]: compaction and defragmentation.
//!
//! One walk in key order, nested buckets on the way, with an explicit stack. Values are borrowed from the source and
//! copied once, into the page being written. No page is walked twice, so the work is linear in the file whatever it
//! holds; what is kept is a bit for each page, a frame for each level of each open bucket, and what [`Build`] holds.
//!
//! On the way top-level buckets can be edited ([`Edits`]): what removes pairs from the middle of a large bucket has no
//! cheaper way than to write it anew, and so comes out defragmented.

mod edits;
mod length;

use crc_fast::{CrcAlgorithm, Digest};
pub use edits::{Edits, Put, Revise};
pub use length::{edited_bytes, rebuilt_bytes};

use crate::bucket::{Bucket, Root};
use crate::build::{Build, BuildError, BuildOptions, Built, FreelistSync, PageWriter};
use crate::db::Db;
use crate::fault::{Fault, FaultKind, readable};
use crate::page::{MAX_DEPTH, Node, NodeKind, PageId};
use crate::range::PageSet;
use crate::source::Source;
use crate::tree::LEAF_FILL_PERCENT;
use crate::watch::Watch;

/// CRC-32C.
const CRC_32C: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;
/// What begins, in a content's checksum, a bucket, a pair and the end of a bucket.
const BEGIN: u8 = b'{';
const PAIR: u8 = b'=';
const END: u8 = b'}';

/// How the new file is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildOptions {
    /// Length of a page in bytes; the source's when `None`.
    pub page_size: Option<u32>,
    /// How full leaves are made, in percent of a page, 10 to 100; 90 by default, as etcd's defragmentation does, where
    /// `bbolt compact` makes them 100 (FORMATS A.9).
    pub leaf_fill_percent: u8,
    /// Whether the file lists its free pages, of which it has none.
    pub freelist: FreelistSync,
    /// Whether buckets keep their sequences; etcd's defragmentation does not, and etcd uses none.
    pub keep_sequences: bool,
}

impl Default for RebuildOptions {
    fn default() -> Self {
        Self {
            page_size: None,
            leaf_fill_percent: LEAF_FILL_PERCENT,
            freelist: FreelistSync::default(),
            keep_sequences: true,
        }
    }
}

/// Why no file came of it. What was written until then has no metas and does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The source is damaged.
    #[error(transparent)]
    Source(#[from] Fault),
    /// The source holds what no file may, above all keys out of order, or the new file cannot be written.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A bucket of which single pairs were to go holds another bucket.
    #[error("bucket {bucket} holds another bucket, {nested}; only buckets of plain pairs can be edited")]
    Nested {
        /// The bucket's name, readable.
        bucket: String,
        /// The name of the bucket in it, readable.
        nested: String,
    },
    /// What was to be appended could not be had.
    #[error("{0}")]
    Appended(String),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What a db holds, in numbers that do not depend on how its pages lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Buckets, nested ones included, without the root bucket.
    pub buckets: u64,
    /// Keys that are not buckets.
    pub pairs: u64,
    /// CRC-32C of all names, sequences, keys and values, each with its length, in order.
    pub crc32c: u32,
}

/// A file that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// The file.
    pub built: Built,
    /// What was put into it.
    pub content: Content,
}

/// Writes all that `db` holds into `writer`, as [`Build`] does: nested buckets, sequences where they are to be kept, pages
/// in key order. `watch` hears of the bytes of each leaf.
///
/// # Errors
/// When a page on the way is damaged, keys do not ascend, the writer fails, or the user asked to stop.
pub fn rebuild<S: Source, W: PageWriter>(
    db: &Db<S>,
    writer: W,
    options: &RebuildOptions,
    watch: &dyn Watch,
) -> Result<Rebuilt, RebuildError> {
    edit(db, writer, options, &Edits::default(), watch)
}

/// As [`rebuild`], with top-level buckets edited on the way. [`Rebuilt::content`] is what was written, edits included.
///
/// # Errors
/// As [`rebuild`]; also when a bucket of which pairs are to go holds other buckets, or what is appended does not ascend.
pub fn edit<S: Source, W: PageWriter>(
    db: &Db<S>,
    writer: W,
    options: &RebuildOptions,
    edits: &Edits<'_>,
    watch: &dyn Watch,
) -> Result<Rebuilt, RebuildError> {
    let build_options = BuildOptions {
        page_size: options.page_size.unwrap_or(db.page_size()),
        leaf_fill_percent: options.leaf_fill_percent,
        freelist: options.freelist,
        ..BuildOptions::default()
    };
    let build = Build::new(writer, build_options)?.splitting_as_bbolt();
    let mut copy = Copy { build, tally: Tally::new() };
    walk(db, options.keep_sequences, edits, &mut copy, watch)?;
    Ok(Rebuilt { content: copy.tally.content(), built: copy.build.finish()? })
}

/// What `db` holds, for comparison with what was put into it. `watch` hears of the bytes of each leaf.
///
/// # Errors
/// When a page on the way is damaged, or the user asked to stop.
pub fn content<S: Source>(db: &Db<S>, watch: &dyn Watch) -> Result<Content, RebuildError> {
    let mut tally = Tally::new();
    walk(db, true, &Edits::default(), &mut tally, watch)?;
    Ok(tally.content())
}

/// What a walk in key order is shown.
trait Take {
    /// The root bucket's sequence, before all else.
    fn root(&mut self, sequence: u64);
    /// A bucket in the one that is open.
    fn begin(&mut self, name: &[u8], sequence: u64) -> Result<(), BuildError>;
    /// A pair of the open bucket.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BuildError>;
    /// The end of the open bucket.
    fn end(&mut self) -> Result<(), BuildError>;
}

/// Sums up what it is shown.
struct Tally {
    digest: Digest,
    buckets: u64,
    pairs: u64,
}

impl Tally {
    fn new() -> Self {
        Self { digest: Digest::new(CRC_32C), buckets: 0, pairs: 0 }
    }

    fn add(&mut self, tag: u8, key: &[u8], value_bytes: u64) {
        let mut head = [tag; 13];
        head[1..5].copy_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
        head[5..].copy_from_slice(&value_bytes.to_le_bytes());
        self.digest.update(&head);
        self.digest.update(key);
    }

    fn content(&self) -> Content {
        // The algorithm is 32 bits wide: nothing is cut off.
        let crc32c = u32::try_from(self.digest.finalize()).unwrap_or_default();
        Content { buckets: self.buckets, pairs: self.pairs, crc32c }
    }
}

impl Take for Tally {
    fn root(&mut self, sequence: u64) {
        self.add(BEGIN, &[], sequence);
    }

    fn begin(&mut self, name: &[u8], sequence: u64) -> Result<(), BuildError> {
        self.buckets += 1;
        self.add(BEGIN, name, sequence);
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BuildError> {
        self.pairs += 1;
        self.add(PAIR, key, value.len() as u64);
        self.digest.update(value);
        Ok(())
    }

    fn end(&mut self) -> Result<(), BuildError> {
        self.digest.update(&[END]);
        Ok(())
    }
}

/// Writes what it is shown, and sums it up.
struct Copy<W> {
    build: Build<W>,
    tally: Tally,
}

impl<W: PageWriter> Take for Copy<W> {
    fn root(&mut self, sequence: u64) {
        self.tally.root(sequence);
        self.build.set_sequence(sequence);
    }

    fn begin(&mut self, name: &[u8], sequence: u64) -> Result<(), BuildError> {
        self.tally.begin(name, sequence)?;
        self.build.begin_bucket(name)?;
        self.build.set_sequence(sequence);
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BuildError> {
        self.tally.put(key, value)?;
        self.build.put(key, value)
    }

    fn end(&mut self) -> Result<(), BuildError> {
        self.tally.end()?;
        self.build.end_bucket()
    }
}

/// A page on the way down to where the walk is.
struct Frame<'d> {
    node: Node<'d>,
    next: u16,
    /// Levels below the root of its bucket; 0 is the root, after which the bucket ends.
    depth: usize,
}

/// Shows all of `db` under `edits` to `take`.
fn walk<S: Source, T: Take>(
    db: &Db<S>,
    keep_sequences: bool,
    edits: &Edits<'_>,
    take: &mut T,
    watch: &dyn Watch,
) -> Result<(), RebuildError> {
    let mut seen = PageSet::new(db.page_count());
    let kept = |sequence: u64| if keep_sequences { sequence } else { 0 };
    let root = db.root();
    take.root(kept(root.sequence()));
    let mut pending = edits.pending();
    // Buckets that are open; the one at the top level may be under revision.
    let mut open = 0usize;
    let mut revision: Option<Revision<'_>> = None;
    let mut stack =
        vec![Frame { node: first_time(db, &mut seen, PageId(0), root.root_node()?)?, next: 0, depth: 0 }];
    while let Some(frame) = stack.last_mut() {
        let depth = frame.depth;
        if frame.next >= frame.node.count() {
            if frame.node.kind() == NodeKind::Branch && frame.node.count() == 0 {
                return Err(frame.node.fault(FaultKind::EmptyBranch).into());
            }
            stack.pop();
            if depth == 0 && !stack.is_empty() {
                if let Some(done) = revision.take_if(|_| open == 1) {
                    append(done.edit, take)?;
                }
                open -= 1;
                take.end()?;
            }
            continue;
        }
        if frame.node.kind() == NodeKind::Branch {
            let child = frame.node.child(frame.next);
            frame.next += 1;
            if depth >= MAX_DEPTH {
                return Err(frame.node.fault(FaultKind::TooDeep { most: MAX_DEPTH }).into());
            }
            let node = first_time(db, &mut seen, frame.node.id(), db.node(child)?)?;
            stack.push(Frame { node, next: 0, depth: depth + 1 });
            continue;
        }
        if frame.next == 0 {
            if watch.interrupted() {
                return Err(RebuildError::Interrupted);
            }
            watch.advance(frame.node.len_bytes());
        }
        let mut inner = None;
        while frame.next < frame.node.count() {
            let index = frame.next;
            frame.next += 1;
            if open == 0 {
                pending.before(frame.node.key(index), take)?;
            }
            if let Some(revision) = &mut revision {
                let ordinal = revision.ordinal;
                revision.ordinal += 1;
                if frame.node.is_bucket(index) {
                    let nested = readable(frame.node.key(index));
                    return Err(RebuildError::Nested { bucket: revision.name.clone(), nested });
                }
                if !revision.edit.keeps(ordinal) {
                    continue;
                }
            }
            if frame.node.is_bucket(index) {
                let name = frame.node.key(index);
                let bucket = Bucket::from_element(db, &frame.node, index)?;
                let sequence = kept(bucket.sequence());
                match edits.of(name).filter(|_| open == 0) {
                    Some(edits::Edit::Replace(pairs)) => {
                        pending.done(name);
                        edits::show(name, sequence, pairs, take)?;
                        continue;
                    }
                    Some(edits::Edit::Revise(edit)) => {
                        pending.done(name);
                        revision = Some(Revision { edit: *edit, name: readable(name), ordinal: 0 });
                    }
                    None => {}
                }
                take.begin(name, sequence)?;
                open += 1;
                inner = Some(bucket);
                break;
            }
            take.put(frame.node.key(index), frame.node.value(index))?;
        }
        if let Some(bucket) = inner {
            let node = bucket.root_node()?;
            // An inline page is part of its parent's.
            let is_inline = matches!(bucket.root(), Root::Inline(_));
            let node = if is_inline { node } else { first_time(db, &mut seen, frame.node.id(), node)? };
            stack.push(Frame { node, next: 0, depth: 0 });
        }
    }
    pending.rest(take)
}

/// A bucket at the top level whose pairs are sifted.
struct Revision<'e> {
    edit: &'e dyn Revise,
    name: String,
    /// Of the next pair.
    ordinal: u64,
}

/// Shows what `edit` appends.
fn append<T: Take>(edit: &dyn Revise, take: &mut T) -> Result<(), RebuildError> {
    edit.append(&mut |key, value| Ok(take.put(key, value)?))
}

/// `node`, which `user` names, unless it or one of its pages was met before: what makes every walk end.
fn first_time<'d, S: Source>(
    db: &Db<S>,
    seen: &mut PageSet,
    user: PageId,
    node: Node<'d>,
) -> Result<Node<'d>, Fault> {
    let first = node.id().0;
    let pages = node.len_bytes().div_ceil(u64::from(db.page_size()));
    for page in first..first.saturating_add(pages) {
        if !seen.insert(PageId(page)) {
            return Err(node.fault(FaultKind::MultipleReferences { first_user: user }));
        }
    }
    Ok(node)
}
