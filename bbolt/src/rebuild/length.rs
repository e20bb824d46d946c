//! How long a file will be once it is rebuilt, from the lengths of what goes into it: no key or value is looked at.

use super::{Edits, RebuildError, RebuildOptions, Take, walk};
use crate::bucket::BUCKET_HEADER_BYTES;
use crate::build::{BuildError, FreelistSync, LEAST_FILE_BYTES};
use crate::db::Db;
use crate::page::{ELEMENT_BYTES, HEADER_BYTES};
use crate::source::Source;
use crate::tree::{BRANCH_FILL_PERCENT, INLINE_SHARE, Splitter};
use crate::watch::Watch;

/// Pages of the metas.
const META_PAGES: u64 = 2;

/// The length in bytes of the file that [`rebuild`](super::rebuild) would write.
///
/// # Errors
/// When a page on the way is damaged, or the user asked to stop.
pub fn rebuilt_bytes<S: Source>(
    db: &Db<S>,
    options: &RebuildOptions,
    watch: &dyn Watch,
) -> Result<u64, RebuildError> {
    edited_bytes(db, options, &Edits::default(), watch)
}

/// The length in bytes of the file that [`edit`](super::edit) would write.
///
/// # Errors
/// As [`edit`](super::edit).
pub fn edited_bytes<S: Source>(
    db: &Db<S>,
    options: &RebuildOptions,
    edits: &Edits<'_>,
    watch: &dyn Watch,
) -> Result<u64, RebuildError> {
    let page_size = options.page_size.unwrap_or(db.page_size());
    let fill_percent = options.leaf_fill_percent;
    let mut length = Length { page_size, fill_percent, pages: META_PAGES, open: Vec::new() };
    walk(db, options.keep_sequences, edits, &mut length, watch)?;
    if let Some(root) = length.open.pop() {
        root.tree.finish(page_size, &mut length.pages);
    }
    length.pages += match options.freelist {
        FreelistSync::NotPersisted => 0,
        FreelistSync::Persisted => 1,
    };
    Ok((length.pages.saturating_mul(u64::from(page_size))).max(LEAST_FILE_BYTES))
}

struct Length {
    page_size: u32,
    fill_percent: u8,
    pages: u64,
    /// The root bucket, and those that are open in it.
    open: Vec<Open>,
}

struct Open {
    name_bytes: u64,
    tree: Tree,
}

impl Length {
    fn open(&mut self, name_bytes: u64) {
        let levels = vec![Level::new(self.page_size, self.fill_percent)];
        self.open.push(Open { name_bytes, tree: Tree { levels, has_bucket: false } });
    }

    fn push(&mut self, key_bytes: u64, value_bytes: u64, is_bucket: bool) {
        if let Some(open) = self.open.last_mut() {
            open.tree.has_bucket |= is_bucket;
            open.tree.push(key_bytes, value_bytes, self.page_size, &mut self.pages);
        }
    }
}

impl Take for Length {
    fn root(&mut self, _sequence: u64) {
        self.open(0);
    }

    fn begin(&mut self, name: &[u8], _sequence: u64) -> Result<(), BuildError> {
        self.open(name.len() as u64);
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BuildError> {
        self.push(key.len() as u64, value.len() as u64, false);
        Ok(())
    }

    fn end(&mut self) -> Result<(), BuildError> {
        let Some(Open { name_bytes, tree }) = self.open.pop() else { return Err(BuildError::NoOpenBucket) };
        let inline_bytes = tree.inline_bytes(self.page_size);
        if inline_bytes.is_none() {
            tree.finish(self.page_size, &mut self.pages);
        }
        self.push(name_bytes, BUCKET_HEADER_BYTES as u64 + inline_bytes.unwrap_or_default(), true);
        Ok(())
    }
}

/// An element that is on no page yet.
#[derive(Clone, Copy)]
struct Element {
    key_bytes: u64,
    len_bytes: u64,
}

/// The elements of one level that are on no page yet.
struct Level {
    splitter: Splitter,
    elements: Vec<Element>,
}

impl Level {
    fn new(page_size: u32, fill_percent: u8) -> Self {
        Self { splitter: Splitter::new(page_size, fill_percent).keeping_few_whole(), elements: Vec::new() }
    }
}

/// A tree of which only lengths are known; it is cut up as [`TreeBuilder`](crate::tree::TreeBuilder) does it.
struct Tree {
    /// The leaves first.
    levels: Vec<Level>,
    has_bucket: bool,
}

impl Tree {
    fn push(&mut self, key_bytes: u64, value_bytes: u64, page_size: u32, pages: &mut u64) {
        let len_bytes = ELEMENT_BYTES as u64 + key_bytes + value_bytes;
        self.push_at(0, Element { key_bytes, len_bytes }, page_size, pages);
    }

    fn push_at(&mut self, height: usize, element: Element, page_size: u32, pages: &mut u64) {
        let (mut height, mut element) = (height, element);
        loop {
            if height == self.levels.len() {
                self.levels.push(Level::new(page_size, BRANCH_FILL_PERCENT));
            }
            let Some(level) = self.levels.get_mut(height) else { return };
            level.elements.push(element);
            let Some(count) = level.splitter.push(element.len_bytes) else { return };
            let Some(above) = Self::write(level, count, page_size, pages) else { return };
            (height, element) = (height + 1, above);
        }
    }

    /// Counts the pages of the first `count` elements of a level; returns the element that names them one level above.
    fn write(level: &mut Level, count: usize, page_size: u32, pages: &mut u64) -> Option<Element> {
        let first = *level.elements.first()?;
        let taken = level.elements.drain(..count.min(level.elements.len()));
        let node_bytes = HEADER_BYTES as u64 + taken.map(|element| element.len_bytes).sum::<u64>();
        *pages += node_bytes.div_ceil(u64::from(page_size));
        Some(Element { len_bytes: ELEMENT_BYTES as u64 + first.key_bytes, ..first })
    }

    /// The length of an inline bucket's page, when this is to be one.
    fn inline_bytes(&self, page_size: u32) -> Option<u64> {
        let [leaves] = self.levels.as_slice() else { return None };
        let len_bytes: u64 = leaves.elements.iter().map(|element| element.len_bytes).sum();
        let page_bytes = HEADER_BYTES as u64 + len_bytes;
        (!self.has_bucket && page_bytes <= u64::from(page_size / INLINE_SHARE)).then_some(page_bytes)
    }

    /// Counts the pages of what is left.
    fn finish(mut self, page_size: u32, pages: &mut u64) {
        let mut height = 0;
        while let Some(level) = self.levels.get(height) {
            let is_top = self.levels.iter().skip(height + 1).all(|above| above.elements.is_empty());
            if height > 0 && level.elements.len() == 1 && is_top {
                return;
            }
            for count in level.splitter.finish() {
                let Some(level) = self.levels.get_mut(height).filter(|_| count > 0) else { continue };
                if let Some(above) = Self::write(level, count, page_size, pages) {
                    self.push_at(height + 1, above, page_size, pages);
                }
            }
            height += 1;
        }
        // A bucket without anything in it.
        *pages += 1;
    }
}
