//! The names of the buckets.

use bbolt::{Fault, PageFile, PageId, Source};

use super::leaf::Leaf;
use super::lines::finding_of;
use super::walk::{Start, Step, Walk, Way};
use super::{ViewError, Viewed, meta_of};

/// The buckets of a db.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The keys of the root bucket in order; in a sound db of etcd all of them are buckets.
    pub names: Vec<Vec<u8>>,
    /// What is wrong with the root bucket's pages.
    pub seen: Viewed,
}

/// The names of the buckets of the db on `pages`, as far as they can be read.
///
/// # Errors
/// [`ViewError::NoMeta`] only.
pub fn list<S: Source>(pages: &PageFile<S>) -> Result<Names, ViewError> {
    let mut names = Names::default();
    each_root_element(pages, |element| match element {
        Ok((leaf, index)) => {
            if let Ok(element) = leaf.element(index) {
                names.names.push(element.key.to_vec());
                names.seen.pairs += 1;
            }
            true
        }
        Err(fault) => {
            names.seen.add(finding_of(&fault));
            true
        }
    })?;
    Ok(names)
}

/// Where the bucket `name` starts, and what was wrong on the way to it.
pub(super) fn find<S: Source>(
    pages: &PageFile<S>,
    name: &[u8],
) -> Result<(Result<Start, Fault>, Vec<Fault>), ViewError> {
    let mut found = None;
    let mut faults = Vec::new();
    each_root_element(pages, |element| {
        match element {
            Ok((leaf, index)) => match leaf.element(index) {
                Ok(element) if element.is_bucket && element.key == name => {
                    found = Some(Start::of(leaf, index, &element));
                }
                _ => {}
            },
            Err(fault) => faults.push(fault),
        }
        found.is_none()
    })?;
    match found {
        Some(start) => Ok((start, faults)),
        None => Err(ViewError::NoBucket(bbolt::fault::readable(name))),
    }
}

/// Shows `take` each element of the root bucket that can be read, and each fault, in order, until it has enough.
fn each_root_element<S: Source>(
    pages: &PageFile<S>,
    mut take: impl FnMut(Result<(&Leaf<'_>, u16), Fault>) -> bool,
) -> Result<(), ViewError> {
    let meta = meta_of(pages)?;
    let mut walk = Walk::new(pages, meta.high_water_mark, Way::Forward);
    walk.enter(meta.root, PageId(0));
    for step in walk {
        let leaf = match step {
            Step::Leaf(id, count) => Leaf::read(pages, id, count),
            Step::Fault(fault) => Err(*fault),
        };
        match leaf {
            Ok(leaf) => {
                if leaf.count_fault().is_some_and(|fault| !take(Err(fault))) {
                    return Ok(());
                }
                for index in 0..leaf.count() {
                    let element = leaf.element(index).map(|_| (&leaf, index));
                    if !take(element) {
                        return Ok(());
                    }
                }
            }
            Err(fault) => {
                if !take(Err(fault)) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
