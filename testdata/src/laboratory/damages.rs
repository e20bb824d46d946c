//! The table of damage.

use super::damaged::{Damaged, Fill};
use super::specimen::Specimen;
use super::young;
use crate::damage::Rng;

/// What is damaged at the start of a file that lost its beginning.
const FIRST_BYTES: usize = 1 << 20;
/// One page in so many rots.
const ROTTEN_ONE_IN: usize = 10_000;
/// Bytes of a page's header.
const HEADER_BYTES: usize = 16;
/// Bytes of a key of bucket `key` up to the place within its revision: the main revision and an underscore.
const REVISION_BYTES: usize = 9;
/// Bits that turn in a page that rots, at most.
const MOST_BITS: u64 = 8;

/// Pages to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that were ever given out.
    Any,
    /// Leaves of bucket `key` that the meta in force reaches, with the pages of their overflow.
    Leaf,
    /// Branches of bucket `key`.
    Branch,
    /// The leaf of the root bucket.
    RootBucket,
    /// The root of bucket `key`.
    RootOfKey,
    /// The freelist.
    Freelist,
}

/// How many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many, or all that there are.
    Pages(usize),
    /// Of ten one, and one at least.
    Tenth,
}

/// Metas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metas {
    /// The one in force.
    Newest,
    /// The other one.
    Other,
    /// Both.
    Both,
}

/// Numbers in a tree page of bucket `key` by which its records are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Those of its header.
    Header,
    /// Those of its table of elements.
    Table,
    /// The main revision of one of its keys, and the byte behind it.
    Revision,
    /// The place within the revision, and the mark of a deletion.
    Place,
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Pages lose what they held.
    Lost(Which, Count, Fill),
    /// Metas lose what they held.
    Metas(Metas, Fill),
    /// The metas are those of an early time, whose tree was overwritten since.
    YoungMetas,
    /// The metas name a young tree that is sound; all else is free.
    YoungTree,
    /// The file was copied while a server wrote it.
    CopiedWhileWritten,
    /// Of the pages that the last commit changed some are as they were before it; its meta is there.
    TornCommit,
    /// Pages of bucket `key` have changed places with others.
    Swapped(usize),
    /// Pages of bucket `key` lie over others.
    Duplicated(usize),
    /// A branch names itself or one above it as its child.
    Cycle,
    /// A branch of bucket `key` names the root bucket's page as its child.
    RootInKey,
    /// Bits are turned in one page of ten thousand.
    BitRot,
    /// One bit is turned in such a number.
    Bit(Number),
    /// The file ends at some byte.
    Truncated,
    /// The first MiB is zeros.
    StartZeroed,
    /// The first MiB is not there, and all else lies as much earlier.
    StartCutOff,
}

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its name, in lower case with hyphens; unique.
    pub name: &'static str,
    /// What happened, for the reader of the table.
    pub story: &'static str,
    /// What is done.
    pub what: What,
}

const fn row(name: &'static str, story: &'static str, what: What) -> Damage {
    Damage { name, story, what }
}

const ONE: Count = Count::Pages(1);
const TEN: Count = Count::Pages(10);
const HUNDRED: Count = Count::Pages(100);

/// All kinds. Of two that are done together the one that comes first here is done first: those that leave pages where they
/// belong come before those that move them.
pub const DAMAGES: &[Damage] = &[
    row(
        "copied-while-written",
        "the file copied in chunks while a server wrote it",
        What::CopiedWhileWritten,
    ),
    row("torn-commit", "a commit of which some pages were not written, and the meta was", What::TornCommit),
    row("young-metas", "both metas are those of an early time", What::YoungMetas),
    row("young-tree", "both metas name a young tree that is sound, and all else is free", What::YoungTree),
    row("any-1-zeroed", "any page zeroed", What::Lost(Which::Any, ONE, Fill::Zeros)),
    row("any-10-zeroed", "any 10 pages zeroed", What::Lost(Which::Any, TEN, Fill::Zeros)),
    row("any-100-zeroed", "any 100 pages zeroed", What::Lost(Which::Any, HUNDRED, Fill::Zeros)),
    row(
        "any-tenth-zeroed",
        "any 10 % of the pages zeroed",
        What::Lost(Which::Any, Count::Tenth, Fill::Zeros),
    ),
    row("any-1-noise", "any page randomised", What::Lost(Which::Any, ONE, Fill::Noise)),
    row("any-10-noise", "any 10 pages randomised", What::Lost(Which::Any, TEN, Fill::Noise)),
    row("any-100-noise", "any 100 pages randomised", What::Lost(Which::Any, HUNDRED, Fill::Noise)),
    row(
        "any-tenth-noise",
        "any 10 % of the pages randomised",
        What::Lost(Which::Any, Count::Tenth, Fill::Noise),
    ),
    row("leaf-1-zeroed", "a leaf page zeroed", What::Lost(Which::Leaf, ONE, Fill::Zeros)),
    row("leaf-10-zeroed", "10 leaf pages zeroed", What::Lost(Which::Leaf, TEN, Fill::Zeros)),
    row("leaf-100-zeroed", "100 leaf pages zeroed", What::Lost(Which::Leaf, HUNDRED, Fill::Zeros)),
    row(
        "leaf-tenth-zeroed",
        "10 % of the leaf pages zeroed",
        What::Lost(Which::Leaf, Count::Tenth, Fill::Zeros),
    ),
    row("leaf-1-noise", "a leaf page randomised", What::Lost(Which::Leaf, ONE, Fill::Noise)),
    row("leaf-10-noise", "10 leaf pages randomised", What::Lost(Which::Leaf, TEN, Fill::Noise)),
    row("leaf-100-noise", "100 leaf pages randomised", What::Lost(Which::Leaf, HUNDRED, Fill::Noise)),
    row(
        "leaf-tenth-noise",
        "10 % of the leaf pages randomised",
        What::Lost(Which::Leaf, Count::Tenth, Fill::Noise),
    ),
    row("branch-1-zeroed", "a branch page zeroed", What::Lost(Which::Branch, ONE, Fill::Zeros)),
    row("branch-10-zeroed", "10 branch pages zeroed, or all", What::Lost(Which::Branch, TEN, Fill::Zeros)),
    row("branch-1-noise", "a branch page randomised", What::Lost(Which::Branch, ONE, Fill::Noise)),
    row("branch-10-noise", "10 branch pages randomised, or all", What::Lost(Which::Branch, TEN, Fill::Noise)),
    row(
        "branch-100-noise",
        "100 branch pages randomised, or all",
        What::Lost(Which::Branch, HUNDRED, Fill::Noise),
    ),
    row(
        "root-bucket-zeroed",
        "the root bucket's page zeroed",
        What::Lost(Which::RootBucket, ONE, Fill::Zeros),
    ),
    row(
        "root-bucket-noise",
        "the root bucket's page randomised",
        What::Lost(Which::RootBucket, ONE, Fill::Noise),
    ),
    row(
        "root-of-key-zeroed",
        "the root page of bucket `key` zeroed",
        What::Lost(Which::RootOfKey, ONE, Fill::Zeros),
    ),
    row(
        "root-of-key-noise",
        "the root page of bucket `key` randomised",
        What::Lost(Which::RootOfKey, ONE, Fill::Noise),
    ),
    row("freelist-zeroed", "the freelist zeroed", What::Lost(Which::Freelist, HUNDRED, Fill::Zeros)),
    row("freelist-noise", "the freelist randomised", What::Lost(Which::Freelist, HUNDRED, Fill::Noise)),
    row("meta-newest-zeroed", "the newest meta zeroed", What::Metas(Metas::Newest, Fill::Zeros)),
    row("meta-newest-noise", "the newest meta randomised", What::Metas(Metas::Newest, Fill::Noise)),
    row("meta-other-noise", "the other meta randomised", What::Metas(Metas::Other, Fill::Noise)),
    row("metas-zeroed", "both metas zeroed", What::Metas(Metas::Both, Fill::Zeros)),
    row("metas-noise", "both metas randomised", What::Metas(Metas::Both, Fill::Noise)),
    row("cycle", "a branch names itself or one above it as its child", What::Cycle),
    row("root-in-key", "a branch of bucket `key` names the root bucket as its child", What::RootInKey),
    row("bit-rot", "up to 8 bits turned in one page of 10,000", What::BitRot),
    row("header-bit", "a bit turned in the header of a page of bucket `key`", What::Bit(Number::Header)),
    row("table-bit", "a bit turned in the table of elements of such a page", What::Bit(Number::Table)),
    row("revision-bit", "a bit turned in the revision of one of its keys", What::Bit(Number::Revision)),
    row("place-bit", "a bit turned in the place within that revision", What::Bit(Number::Place)),
    row("swapped-1", "a page of bucket `key` and any other swapped", What::Swapped(1)),
    row("swapped-10", "10 pages of bucket `key` and any others swapped", What::Swapped(10)),
    row("duplicated-1", "a page of bucket `key` written over any other", What::Duplicated(1)),
    row("duplicated-10", "10 pages of bucket `key` written over any others", What::Duplicated(10)),
    row("truncated", "the file cut at random", What::Truncated),
    row("start-zeroed", "the first MiB zeroed", What::StartZeroed),
    row("start-cut-off", "the first MiB cut off", What::StartCutOff),
];

/// So many of `from`, each once, in no order.
fn chosen(mut from: Vec<usize>, count: Count, rng: &mut Rng) -> Vec<usize> {
    let count = match count {
        Count::Pages(pages) => pages,
        Count::Tenth => (from.len() / 10).max(1),
    };
    (0..count.min(from.len())).map(|_| from.swap_remove(below(from.len(), rng))).collect()
}

fn below(limit: usize, rng: &mut Rng) -> usize {
    usize::try_from(rng.below(limit as u64)).expect("below a length")
}

/// Where each of these pages lies now, but for those that are gone.
fn where_they_are(pages: impl IntoIterator<Item = usize>, damaged: &Damaged) -> Vec<usize> {
    pages.into_iter().filter_map(|page| damaged.find(page)).collect()
}

/// The pages of bucket `key`, or those of its leaves or branches alone.
fn pages_of_key(specimen: &Specimen, is_leaf: Option<bool>) -> Vec<usize> {
    let nodes = specimen.nodes_of_key().filter(|node| is_leaf.is_none_or(|is_leaf| node.is_leaf == is_leaf));
    nodes.flat_map(|node| node.page..node.page + node.pages).collect()
}

fn pages(which: Which, specimen: &Specimen) -> Vec<usize> {
    match which {
        Which::Any => (0..specimen.meta().high_water_mark).collect(),
        Which::Leaf => pages_of_key(specimen, Some(true)),
        Which::Branch => pages_of_key(specimen, Some(false)),
        Which::RootBucket => vec![specimen.meta().root],
        Which::RootOfKey => specimen.nodes_of_key().next().map(|node| node.page).into_iter().collect(),
        Which::Freelist => {
            let run = |page| page..page + specimen.files()[0].head(page).map_or(1, |head| head.pages);
            specimen.meta().freelist.into_iter().flat_map(run).collect()
        }
    }
}

impl Damage {
    /// The row of this name. Panics when there is none.
    #[must_use]
    pub fn named(name: &str) -> &'static Self {
        DAMAGES.iter().find(|damage| damage.name == name).unwrap_or_else(|| panic!("no damage {name}"))
    }

    /// Does it to a file made of the specimen; false when there is nothing there to do it to, and the file is as it was.
    pub fn apply(&self, specimen: &Specimen, damaged: &mut Damaged, rng: &mut Rng) -> bool {
        match self.what {
            What::Lost(which, count, fill) => {
                let hit = chosen(where_they_are(pages(which, specimen), damaged), count, rng);
                hit.iter().for_each(|at| damaged.fill(*at, fill, rng));
                !hit.is_empty()
            }
            What::Metas(which, fill) => {
                let newest = specimen.files()[0].newest().map_or(0, |(slot, _)| slot);
                let slots = match which {
                    Metas::Newest => vec![newest],
                    Metas::Other => vec![1 - newest],
                    Metas::Both => vec![0, 1],
                };
                let hit = where_they_are(slots, damaged);
                hit.iter().for_each(|at| damaged.fill(*at, fill, rng));
                !hit.is_empty()
            }
            What::CopiedWhileWritten => specimen.copied().is_some_and(|copy| {
                damaged.become_copy(copy, specimen.files()[0]);
                true
            }),
            What::YoungMetas => young_metas(specimen, damaged),
            What::YoungTree => young_tree(specimen, damaged, rng),
            What::TornCommit => torn_commit(specimen, damaged, rng),
            What::Swapped(count) => moved(specimen, damaged, count, rng, Damaged::swap),
            What::Duplicated(count) => moved(specimen, damaged, count, rng, Damaged::duplicate),
            What::Cycle => {
                let nodes: Vec<_> = specimen.nodes_of_key().filter(|node| !node.is_leaf).collect();
                !nodes.is_empty() && {
                    let node = *rng.pick(&nodes);
                    let above: Vec<usize> = node.above.iter().copied().chain([node.page]).collect();
                    let target = *rng.pick(&above);
                    point(specimen, damaged, node.page, target, rng)
                }
            }
            What::RootInKey => {
                let branches = pages_of_key(specimen, Some(false));
                !branches.is_empty() && {
                    let branch = *rng.pick(&branches);
                    point(specimen, damaged, branch, specimen.meta().root, rng)
                }
            }
            What::BitRot => {
                let all = where_they_are(pages(Which::Any, specimen), damaged);
                let count = Count::Pages((all.len() / ROTTEN_ONE_IN).max(1));
                let hit = chosen(all, count, rng);
                for at in &hit {
                    for _ in 0..=rng.below(MOST_BITS) {
                        let within = below(specimen.page_size(), rng);
                        damaged.flip(*at, within, u32::try_from(rng.below(8)).expect("below 8"));
                    }
                }
                !hit.is_empty()
            }
            What::Bit(number) => turned(specimen, damaged, number, rng),
            What::Truncated => {
                let end = specimen.meta().high_water_mark.min(damaged.places().len()) * specimen.page_size();
                let from = 2 * specimen.page_size();
                from < end && {
                    damaged.cut(from + below(end - from, rng));
                    true
                }
            }
            What::StartZeroed => {
                let end = (FIRST_BYTES / specimen.page_size()).min(damaged.places().len());
                (0..end).for_each(|at| damaged.fill(at, Fill::Zeros, rng));
                end > 0
            }
            What::StartCutOff => {
                let pages = FIRST_BYTES / specimen.page_size();
                pages < damaged.places().len() && {
                    damaged.behead(pages);
                    true
                }
            }
        }
    }
}

/// Turns one bit of such a number.
fn turned(specimen: &Specimen, damaged: &mut Damaged, number: Number, rng: &mut Rng) -> bool {
    let nodes: Vec<_> = specimen.nodes_of_key().collect();
    if nodes.is_empty() {
        return false;
    }
    let node = *rng.pick(&nodes);
    let entries = specimen.files()[0].entries(node.page);
    let start = node.page * specimen.page_size();
    let bytes = if number == Number::Header || entries.is_empty() {
        0..HEADER_BYTES
    } else {
        let (entry, key) = rng.pick(&entries).clone();
        let of = match number {
            Number::Header | Number::Table => entry,
            Number::Revision => key.start..(key.start + REVISION_BYTES).min(key.end),
            Number::Place => (key.start + REVISION_BYTES).min(key.end - 1)..key.end,
        };
        of.start - start..of.end - start
    };
    let within = bytes.start + below(bytes.len(), rng);
    let Some(at) = damaged.find(node.page + within / specimen.page_size()) else { return false };
    let within = within % specimen.page_size();
    let bit = u32::try_from(rng.below(8)).expect("below 8");
    if number == Number::Header {
        damaged.turn(at, within, bit);
    } else {
        damaged.flip(at, within, bit);
    }
    true
}

/// Has one of the children of a branch be another page.
fn point(specimen: &Specimen, damaged: &mut Damaged, branch: usize, target: usize, rng: &mut Rng) -> bool {
    let Some(at) = damaged.find(branch) else { return false };
    let children = specimen.files()[0].children(branch);
    let (pointer, _) = *rng.pick(&children);
    damaged.write(at, pointer - branch * specimen.page_size(), &(target as u64).to_le_bytes());
    true
}

/// Does something to so many pages of bucket `key`, each with any other page but a meta.
fn moved(
    specimen: &Specimen,
    damaged: &mut Damaged,
    count: usize,
    rng: &mut Rng,
    how: fn(&mut Damaged, usize, usize),
) -> bool {
    let end = specimen.meta().high_water_mark.min(damaged.places().len());
    let own = chosen(where_they_are(pages_of_key(specimen, None), damaged), Count::Pages(count), rng);
    let mut is_done = false;
    for from in own.into_iter().filter(|at| *at < end) {
        let to = 2 + below(end.saturating_sub(2).max(1), rng);
        if to < end && to != from {
            how(damaged, from, to);
            is_done = true;
        }
    }
    is_done
}

fn young_metas(specimen: &Specimen, damaged: &mut Damaged) -> bool {
    let (Some(young), [Some(0), Some(1)]) = (specimen.young(), [0, 1].map(|slot| damaged.find(slot))) else {
        return false;
    };
    for (slot, meta) in young.iter().enumerate() {
        damaged.overwrite(slot, meta);
    }
    true
}

fn young_tree(specimen: &Specimen, damaged: &mut Damaged, rng: &mut Rng) -> bool {
    let mut free = chosen(specimen.free_pages(), Count::Pages(2), rng);
    let ([Some(0), Some(1)], [key, root]) = ([0, 1].map(|slot| damaged.find(slot)), free.as_mut_slice())
    else {
        return false;
    };
    let (page_size, end) = (specimen.page_size(), specimen.meta().high_water_mark);
    let pages = young::tree(page_size, (*key, *root), &specimen.ledger().history, &specimen.tree().buckets);
    for (at, page) in [*key, *root].into_iter().zip(pages) {
        damaged.overwrite(at, &page);
    }
    for slot in 0..2 {
        damaged.overwrite(slot, &young::meta(slot as u64, page_size, *root, end));
    }
    true
}

fn torn_commit(specimen: &Specimen, damaged: &mut Damaged, rng: &mut Rng) -> bool {
    let files = specimen.files();
    let [after, before] = files[..] else { return false };
    let mut is_torn = false;
    for page in 2..after.pages() {
        if after.page(page) != before.page(page) && rng.below(2) == 0 {
            if page < before.pages() {
                damaged.replace(page, 1, before, page);
            } else {
                damaged.fill(page, Fill::Zeros, rng);
            }
            is_torn = true;
        }
    }
    is_torn
}
