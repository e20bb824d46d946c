//! The keys of one bucket, as `bbolt keys` and `bbolt buckets` print them, and as JSON.

use std::io::{self, Write};

use super::bytes::{self, ByteFormat};
use super::loose::{Loose, bucket_header};
use super::ordered::{self, Format, RenderError, Stoppable};
use crate::bucket::{Bucket, Root};
use crate::db::Db;
use crate::fault::Fault;
use crate::page::{Node, NodeKind, PageId};
use crate::source::Source;
use crate::survey::{Interrupted, Leaves, leaves};
use crate::watch::Watch;

/// Leaves of one piece of work.
const PIECE_LEAVES: usize = 128;

/// How keys are shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyOptions {
    /// As JSON, an object a line.
    pub json: bool,
    /// How each is shown.
    pub format: ByteFormat,
}

/// What was shown.
#[derive(Debug, Default)]
pub struct Shown {
    /// False when not every page of the bucket could be followed.
    pub is_whole: bool,
    /// Elements that do not lie within their page.
    pub faults: Vec<Fault>,
}

impl From<Interrupted> for RenderError {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

/// Writes the keys of `bucket`, names of buckets in it included, in the order in which they stand. On a damaged tree they are
/// those of the leaves that can be come to.
///
/// # Errors
/// When `out` cannot be written to, or the user asks to stop.
pub fn write<S: Source, W: Write>(
    bucket: &Bucket<'_, S>,
    options: KeyOptions,
    out: &mut W,
    watch: &dyn Watch,
) -> Result<Shown, RenderError> {
    let db = bucket.db();
    let root = match bucket.root() {
        Root::Page(root) => *root,
        Root::Inline(node) => {
            let written = node_keys(node, options, &mut Stoppable::new(out, watch));
            written.map_err(ordered::stopped)?;
            return Ok(Shown { is_whole: true, faults: Vec::new() });
        }
    };
    let Leaves { pages, is_whole } = leaves(db, root, watch)?;
    let pieces: Vec<&[PageId]> = pages.chunks(PIECE_LEAVES).collect();
    let mut shown = Shown { is_whole, faults: Vec::new() };
    let keys = Keys { db, options };
    ordered::write_all(&keys, &pieces, out, watch, |faults| shown.faults.extend(faults))?;
    Ok(shown)
}

/// The value of `key` in `bucket`, looked for in every leaf that can be come to: for trees in which no search can be trusted.
///
/// # Errors
/// When the user asks to stop.
pub fn find<S: Source>(
    bucket: &Bucket<'_, S>,
    key: &[u8],
    watch: &dyn Watch,
) -> Result<Option<Vec<u8>>, Interrupted> {
    find_value(bucket, key, false, watch)
}

/// The bucket `name` inside `bucket`, looked for in the same way. One that is inline in an unsound leaf is not found.
///
/// # Errors
/// When the user asks to stop.
pub fn find_bucket<'d, S: Source>(
    bucket: &Bucket<'d, S>,
    name: &[u8],
    watch: &dyn Watch,
) -> Result<Option<Bucket<'d, S>>, Interrupted> {
    let value = find_value(bucket, name, true, watch)?;
    let header = value.and_then(|value| bucket_header(&value)).filter(|(root, _)| root.0 != 0);
    Ok(header.map(|(root, sequence)| Bucket::at_page(bucket.db(), root, sequence)))
}

fn find_value<S: Source>(
    bucket: &Bucket<'_, S>,
    key: &[u8],
    is_bucket: bool,
    watch: &dyn Watch,
) -> Result<Option<Vec<u8>>, Interrupted> {
    let db = bucket.db();
    let Root::Page(root) = bucket.root() else { return Ok(bucket.get(key).ok().flatten()) };
    for id in leaves(db, *root, watch)?.pages {
        if watch.interrupted() {
            return Err(Interrupted);
        }
        let Ok(page) = loose(db, id) else { continue };
        let elements = (0..page.count()).filter_map(|index| page.element(index).ok());
        let mut found = elements.filter(|element| element.key == key && element.is_bucket == is_bucket);
        if let Some(element) = found.next() {
            return Ok(Some(element.value.to_vec()));
        }
    }
    Ok(None)
}

fn loose<S: Source>(db: &Db<S>, id: PageId) -> Result<Loose<'_>, Fault> {
    let header = db.header(id)?;
    // Of a page that is cut off, what is there.
    let bytes = db
        .raw(id, u64::from(db.page_size()))
        .map(|first| db.with_overflow(id, first.clone(), header.overflow).unwrap_or(first))?;
    Loose::new(bytes, id, db.offset_of(id))
}

struct Keys<'d, S> {
    db: &'d Db<S>,
    options: KeyOptions,
}

impl<'d, S: Source> Format for Keys<'d, S> {
    type Piece = &'d [PageId];
    type Said = Vec<Fault>;

    fn write<W: Write>(&self, piece: &&'d [PageId], out: &mut W) -> io::Result<Vec<Fault>> {
        let mut faults = Vec::new();
        for (at, id) in piece.iter().enumerate() {
            if let Some(next) = piece.get(at + 1) {
                self.db.will_read(*next, 1024);
            }
            match self.db.node(*id) {
                Ok(node) => node_keys(&node, self.options, out)?,
                Err(fault) => {
                    faults.push(fault);
                    self.loose_keys(*id, out)?;
                }
            }
        }
        Ok(faults)
    }
}

impl<S: Source> Keys<'_, S> {
    fn loose_keys<W: Write>(&self, id: PageId, out: &mut W) -> io::Result<()> {
        let Ok(page) = loose(self.db, id) else { return Ok(()) };
        if page.kind() == NodeKind::Branch {
            return Ok(());
        }
        for element in (0..page.count()).filter_map(|index| page.element(index).ok()) {
            one(element.key, element.is_bucket, self.options, out)?;
        }
        Ok(())
    }
}

fn node_keys<W: Write>(node: &Node<'_>, options: KeyOptions, out: &mut W) -> io::Result<()> {
    (0..node.count()).try_for_each(|index| one(node.key(index), node.is_bucket(index), options, out))
}

fn one<W: Write>(key: &[u8], is_bucket: bool, options: KeyOptions, out: &mut W) -> io::Result<()> {
    if options.json {
        out.write_all(b"{")?;
        bytes::json_formatted(out, "key", key, options.format)?;
        return out.write_all(if is_bucket { b",\"bucket\":true}\n" } else { b"}\n" });
    }
    bytes::write(out, key, options.format)?;
    out.write_all(b"\n")
}
