//! The pairs of one bucket in the order of the tree, past whatever is broken.

use std::borrow::Cow;

use bbolt::{PageFile, PageId, Source, Watch};

use super::leaf::Leaf;
use super::list::find;
use super::walk::{Start, Step, Walk, Way};
use super::{ViewError, meta_of};

/// A pair, and where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairAt<'l> {
    pub(crate) key: &'l [u8],
    pub(crate) value: &'l [u8],
    pub(crate) is_bucket: bool,
    pub(crate) page: PageId,
    pub(crate) element: u16,
    /// First byte of the value in the file. The key ends there.
    pub(crate) offset: u64,
}

/// Gives `take` every pair of bucket `name` that can be read. What cannot is for a check to tell.
///
/// # Errors
/// When there is no valid meta or no such bucket, or the user asks to stop.
pub(crate) fn pairs<S: Source>(
    pages: &PageFile<S>,
    name: &[u8],
    take: &mut dyn FnMut(PairAt<'_>),
    watch: &dyn Watch,
) -> Result<(), ViewError> {
    let meta = meta_of(pages)?;
    let mut walk = Walk::new(pages, meta.high_water_mark, Way::Forward);
    match find(pages, name)?.0 {
        Ok(Start::Page(root)) => walk.enter(root, meta.root),
        Ok(Start::Inline(bytes, page, offset)) => {
            give(&Leaf::new(Cow::Owned(bytes), page, offset), take);
        }
        Err(_) => {}
    }
    for step in walk {
        if watch.interrupted() {
            return Err(ViewError::Interrupted);
        }
        if let Step::Leaf(id, count) = step
            && let Ok(leaf) = Leaf::read(pages, id, count)
        {
            give(&leaf, take);
        }
    }
    Ok(())
}

fn give(leaf: &Leaf<'_>, take: &mut dyn FnMut(PairAt<'_>)) {
    for index in 0..leaf.count() {
        if let Ok(element) = leaf.element(index) {
            take(PairAt {
                key: element.key,
                value: element.value,
                is_bucket: element.is_bucket,
                page: leaf.id(),
                element: index,
                offset: leaf.offset_of(element.key).saturating_add(element.key.len() as u64),
            });
        }
    }
}
