//! Buckets: a tree of pages, or a page inside the value that names the bucket (FORMATS A.5).

use std::borrow::Cow;

use crate::cursor::Cursor;
use crate::db::Db;
use crate::fault::{Fault, FaultKind, readable};
use crate::page::{FLAG_LEAF, HEADER_BYTES, Node, PageHeader, PageId};
use crate::range::{self, LeafRange};
use crate::source::Source;

/// Length of the header in front of an inline page, in bytes: root page and sequence.
pub const BUCKET_HEADER_BYTES: usize = 16;

/// Where a bucket's tree starts.
#[derive(Debug, Clone)]
pub enum Root<'d> {
    /// At a page of the file.
    Page(PageId),
    /// In the bucket's value itself, as a leaf.
    Inline(Node<'d>),
}

impl<'d> Root<'d> {
    /// Where the bucket starts that element `index` of the leaf `node` describes, and its sequence.
    ///
    /// # Errors
    /// When the value is shorter than a bucket, or its inline page is no sound leaf.
    pub(crate) fn from_element(node: &Node<'d>, index: u16) -> Result<(Self, u64), Fault> {
        let name = || readable(node.key(index));
        let range = node.value_range(index);
        let value_offset = node.offset().saturating_add(range.start as u64);
        let value = node.value_cow(index);
        let too_short = |needed: usize| {
            let kind =
                FaultKind::BucketTooShort { bucket: name(), len: value.len() as u64, needed: needed as u64 };
            node.element_fault(index, kind)
        };
        let mut words = value.chunks_exact(8).take(2).map(|chunk| {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let (Some(root), Some(sequence)) = (words.next(), words.next()) else {
            return Err(too_short(BUCKET_HEADER_BYTES));
        };
        if root != 0 {
            return Ok((Self::Page(PageId(root)), sequence));
        }
        let page: Cow<'d, [u8]> = match &value {
            Cow::Borrowed(all) => Cow::Borrowed(all.get(BUCKET_HEADER_BYTES..).unwrap_or_default()),
            Cow::Owned(all) => Cow::Owned(all.get(BUCKET_HEADER_BYTES..).unwrap_or_default().to_vec()),
        };
        let Some(header) = PageHeader::parse(&page) else {
            return Err(too_short(BUCKET_HEADER_BYTES + HEADER_BYTES));
        };
        if header.flags != FLAG_LEAF {
            let kind = FaultKind::InlineNotALeaf { bucket: name(), flags: header.flags };
            return Err(node.element_fault(index, kind));
        }
        let inline = Node::parse(page, node.id(), value_offset + BUCKET_HEADER_BYTES as u64)?;
        Ok((Self::Inline(inline), sequence))
    }
}

/// One bucket of an open database.
#[derive(Debug)]
pub struct Bucket<'d, S> {
    db: &'d Db<S>,
    root: Root<'d>,
    sequence: u64,
}

impl<S> Clone for Bucket<'_, S> {
    fn clone(&self) -> Self {
        Self { db: self.db, root: self.root.clone(), sequence: self.sequence }
    }
}

impl<'d, S: Source> Bucket<'d, S> {
    pub(crate) fn at_page(db: &'d Db<S>, root: PageId, sequence: u64) -> Self {
        Self { db, root: Root::Page(root), sequence }
    }

    /// The bucket that element `index` of the leaf `node` describes.
    ///
    /// # Errors
    /// When the value is shorter than a bucket, or its inline page is no sound leaf.
    pub fn from_element(db: &'d Db<S>, node: &Node<'d>, index: u16) -> Result<Self, Fault> {
        let (root, sequence) = Root::from_element(node, index)?;
        Ok(Self { db, root, sequence })
    }

    /// The database this bucket belongs to.
    #[must_use]
    pub fn db(&self) -> &'d Db<S> {
        self.db
    }

    /// Where the tree starts.
    #[must_use]
    pub fn root(&self) -> &Root<'d> {
        &self.root
    }

    /// The bucket's sequence; etcd leaves it at 0.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The root node.
    ///
    /// # Errors
    /// When the root page is damaged.
    pub fn root_node(&self) -> Result<Node<'d>, Fault> {
        match &self.root {
            Root::Page(id) => self.db.node(*id),
            Root::Inline(node) => Ok(node.clone()),
        }
    }

    /// The bucket `name` inside this one; `None` when there is none.
    ///
    /// # Errors
    /// When a page on the way, or the bucket's own header, is damaged.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Self>, Fault> {
        let mut cursor = self.cursor();
        let Some(item) = cursor.seek(name)? else { return Ok(None) };
        if item.key != name || !item.is_bucket {
            return Ok(None);
        }
        cursor.bucket()
    }

    /// The value of `key`; `None` when there is no such key, or it names a bucket.
    ///
    /// # Errors
    /// When a page on the way is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let mut cursor = self.cursor();
        let item = cursor.seek(key)?;
        Ok(item.filter(|i| i.key == key && !i.is_bucket).map(|i| i.value.to_vec()))
    }

    /// A cursor over this bucket's keys, before the first.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'d, S> {
        Cursor::new(self.clone())
    }

    /// Splits the bucket into at most `parts` runs of leaves, disjoint and in key order, for parallel work; fewer
    /// when there are fewer leaves.
    ///
    /// # Errors
    /// When a branch is damaged, a page is named twice, or the tree is too deep.
    pub fn leaf_ranges(&self, parts: usize) -> Result<Vec<LeafRange<'d, S>>, Fault> {
        range::split(self, parts)
    }
}
