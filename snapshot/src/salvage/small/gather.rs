//! What the evidence has of the small buckets, brought together for a way.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use bbolt::carve::{Element, Leaf, Run};
use bbolt::graft::Pairs;
use bbolt::page::NodeKind;
use bbolt::reach::Content;
use bbolt::{Node, PageId, Watch};
use siphasher::sip128::SipHasher13;

use super::choose::{Chosen, Generation, Loose, Origin, Point, Rows, Wanted, choose};
use super::classify::{bucket_of, fits};
use crate::finding::{Finding, Severity};
use crate::mvcc::KeyValue;
use crate::replay::small::Name;
use crate::salvage::SalvageError;
use crate::salvage::classify::{Class, inline_page};
use crate::salvage::evidence::SourceFile;
use crate::salvage::ground::{Ground, Selection};
use crate::salvage::inputs::Pages;
use crate::salvage::report::{self, BucketOrigin, BucketReport};
use crate::salvage::sweep::Trust;
use crate::salvage::trees::{self, Candidate, Facts};
use crate::salvage::ways::Small;

/// Most generations that are looked at, the newest by their last entries: what is kept of one is its page.
const MOST_GENERATIONS: usize = 64;
/// Most bytes of rows that are taken from leaves to which no generation leads.
const MOST_LOOSE_BYTES: usize = 64 << 20;
/// Most bytes of memory for rows of all generations but the way's own, the newest first: a crafted file has a long bucket that all of them
/// share. etcd's own are some kilobytes each.
const MOST_OTHER_BYTES: usize = 64 << 20;
/// What a row takes besides its bytes.
const ROW_BYTES: usize = 96;

/// The small buckets that go with the records of `selection`.
///
/// # Errors
/// [`SalvageError::Interrupted`].
pub(crate) fn gather(
    ground: &Ground<'_>,
    selection: Selection,
    watch: &dyn Watch,
) -> Result<Small, SalvageError> {
    let evidence = ground.evidence;
    let number = match selection {
        Selection::Tree(number) => Some(number),
        Selection::Nothing => None,
        Selection::Leaves | Selection::Carved | Selection::Upto(_) => Some(0),
    };
    let tree = number.and_then(|number| evidence.trees.get(number));
    let mut unlimited = usize::MAX;
    let mut generations =
        vec![tree.map_or_else(Generation::default, |tree| of_tree(ground, tree, &mut unlimited))];
    let others = evidence.trees.iter().enumerate().filter(|(other, _)| Some(*other) != number);
    let mut room = MOST_OTHER_BYTES;
    generations.extend(others.map(|(_, tree)| of_tree(ground, tree, &mut room)));
    generations.extend(of_leaves(ground, &mut room));
    let loose = loose(ground);
    let is_whole =
        |generation: &Generation| generation.buckets.get(&Name::Lease).is_some_and(|rows| rows.is_whole);
    // Who hangs on what has to be known only where leases may be missing.
    let leases = match generations.first() {
        Some(first) if is_whole(first) => None,
        _ => Some(leases_in_use(ground, selection, watch)?),
    };
    let point = match selection {
        Selection::Tree(_) => None,
        _ => Some(point(ground, selection)),
    };
    let chosen = choose(&generations, &loose, &Wanted { point, leases: leases.as_ref() });
    Ok(small(chosen))
}

/// Whether there is room in memory for the rows of a page, which is `room` less then.
fn has_room(node: &Node<'_>, room: &mut usize) -> bool {
    let bytes: usize =
        (0..node.count()).map(|at| node.key(at).len() + node.value(at).len() + ROW_BYTES).sum();
    let left = room.checked_sub(bytes);
    *room = left.unwrap_or(*room);
    left.is_some()
}

/// Marks the buckets of a tree that may not have been the last, and says why.
pub(crate) fn may_be_older(small: &mut Small, why: &str) {
    for report in small.reports.iter_mut().filter(|report| report.from == BucketOrigin::Tree) {
        report.trust = Trust::Suspect;
        report.notes.push(format!("it may be that of an earlier time: {why}"));
        small.lost += 1;
    }
    let message = format!(
        "users, roles, leases, members and all else beside the keys may be those of an earlier time: {why}"
    );
    small.findings.push(Finding::new("SALVAGE-BUCKET", Severity::Warning, message));
}

/// The buckets of a tree that was followed, as far as there is room.
fn of_tree(ground: &Ground<'_>, tree: &Candidate, room: &mut usize) -> Generation {
    let mut generation = Generation { name: name_of(tree), ..Generation::default() };
    let Some(source) = ground.evidence.sources.get(tree.source) else { return generation };
    for bucket in Name::ALL {
        let Some(reached) = tree.bucket(bucket.bytes()) else { continue };
        let mut rows = Rows { is_whole: reached.holes.is_empty(), ..Rows::default() };
        rows.is_whole &= reached.content != Content::Unknown;
        for node in reached.nodes(&source.pages) {
            rows.is_whole &= has_room(&node, room) && add_rows(bucket, &node, &mut rows.pairs);
        }
        generation.buckets.insert(bucket, rows);
    }
    generation
}

fn name_of(tree: &Candidate) -> String {
    match tree.origin {
        report::Origin::NewestMeta => "the tree of the newest meta".to_owned(),
        report::Origin::OtherMeta => "the tree of the other meta".to_owned(),
        report::Origin::OrphanRoot => format!("the root bucket at page {}", tree.root_page),
    }
}

/// Adds the rows of a page; whether all that is on it are rows of this bucket.
fn add_rows(bucket: Name, node: &Node<'_>, pairs: &mut Pairs) -> bool {
    // A page of another bucket may stand where this one's was: it is told by what it holds.
    let rows = || (0..node.count()).map(|at| (node.key(at), node.value(at)));
    let is_other = bucket_of(rows()).is_some_and(|other| other != bucket);
    if is_other && !rows().any(|(key, value)| fits(bucket, key, value)) {
        return false;
    }
    let mut all = true;
    for at in 0..node.count() {
        all &= !node.is_bucket(at);
        if !node.is_bucket(at) {
            pairs.insert(node.key(at).to_vec(), node.value(at).to_vec());
        }
    }
    all
}

/// The generations of the root bucket's leaves, the newest first.
fn of_leaves(ground: &Ground<'_>, room: &mut usize) -> Vec<Generation> {
    let evidence = ground.evidence;
    let mut leaves: Vec<_> = evidence.generations.iter().collect();
    leaves.sort_by_key(|leaf| std::cmp::Reverse((leaf.facts.consistent_index, leaf.revision)));
    leaves.truncate(MOST_GENERATIONS);
    let of = |leaf: &trees::Generation| {
        let source = evidence.sources.get(leaf.source)?;
        of_leaf(&source.pages, &leaf.run, room)
    };
    leaves.into_iter().filter_map(of).collect()
}

/// The buckets that a leaf of the root bucket has in it, and those of one page that it leads to, as far as there is room.
fn of_leaf(pages: &Pages, run: &Run, room: &mut usize) -> Option<Generation> {
    let leaf = Leaf::open(pages, run)?;
    let mut generation =
        Generation { name: format!("the root bucket at page {}", run.id), ..Generation::default() };
    for element in leaf.elements().filter(|element| element.is_bucket) {
        let Some(bucket) = Name::ALL.into_iter().find(|name| name.bytes() == element.key) else { continue };
        if let Some(rows) = rows_of(pages, bucket, &element, room) {
            generation.buckets.insert(bucket, rows);
        }
    }
    Some(generation)
}

fn rows_of(pages: &Pages, bucket: Name, element: &Element<'_>, room: &mut usize) -> Option<Rows> {
    let mut rows = Rows::default();
    if let Some((node, _)) = inline_page(element) {
        rows.is_whole = has_room(&node, room) && add_rows(bucket, &node, &mut rows.pairs);
        return Some(rows);
    }
    let root = u64::from_le_bytes(element.value.get(..8)?.try_into().ok()?);
    let node =
        pages.mended_node(PageId(root)).ok().filter(|node| root > 1 && node.kind() == NodeKind::Leaf)?;
    let found = (0..node.count()).map(|at| (node.key(at), node.value(at)));
    // The page may have been used again since.
    if bucket_of(found) != Some(bucket) || !has_room(&node, room) {
        return None;
    }
    rows.is_whole = add_rows(bucket, &node, &mut rows.pairs);
    Some(rows)
}

/// The class of leaves of a bucket.
const fn class_of(bucket: Name) -> Class {
    match bucket {
        Name::Meta => Class::Meta,
        Name::Lease => Class::Lease,
        Name::Alarm => Class::Alarm,
        Name::Auth => Class::Auth,
        Name::AuthUsers => Class::AuthUsers,
        Name::AuthRoles => Class::AuthRoles,
        Name::Members => Class::Members,
        Name::MembersRemoved => Class::MembersRemoved,
        Name::Cluster => Class::Cluster,
    }
}

/// Leaves of small buckets, wherever they are.
fn loose(ground: &Ground<'_>) -> Vec<Loose> {
    let mut room = MOST_LOOSE_BYTES;
    let mut found = Vec::new();
    for source in &ground.evidence.sources {
        for bucket in Name::ALL {
            for run in source.leaves_of(class_of(bucket)) {
                found.extend(loose_leaf(source, run, bucket, &mut room));
            }
        }
    }
    found
}

fn loose_leaf(source: &SourceFile, run: &Run, bucket: Name, room: &mut usize) -> Option<Loose> {
    let leaf = Leaf::open(&source.pages, run)?;
    let mut pairs = Pairs::new();
    for element in leaf.elements().filter(|element| element.is_whole() && !element.is_bucket) {
        let len = element.key.len() + element.value.len();
        if fits(bucket, element.key, element.value) && len <= *room {
            *room -= len;
            pairs.insert(element.key.to_vec(), element.value.to_vec());
        }
    }
    (!pairs.is_empty()).then_some(Loose { bucket, pairs })
}

/// The leases that the live keys of `selection` hang on, each with the number of keys. Memory: 60 bytes for a key that hangs on a
/// lease.
fn leases_in_use(
    ground: &Ground<'_>,
    selection: Selection,
    watch: &dyn Watch,
) -> Result<BTreeMap<i64, u64>, SalvageError> {
    let mut hanging: HashMap<(u64, u64), i64> = HashMap::new();
    watch.begin("looking for keys on leases", ground.evidence.leaf_bytes());
    ground.records(selection, watch, &mut |taken| {
        if let Ok(kv) = KeyValue::decode(taken.copy.value) {
            let hash = SipHasher13::new().hash(kv.key);
            let key = (hash.h1, hash.h2);
            if kv.lease == 0 || taken.copy.is_tombstone {
                hanging.remove(&key);
            } else {
                hanging.insert(key, kv.lease);
            }
        }
        ControlFlow::Continue(())
    })?;
    let mut leases = BTreeMap::new();
    for lease in hanging.into_values() {
        *leases.entry(lease).or_insert(0) += 1;
    }
    Ok(leases)
}

/// Where the key space of `selection` stands: at the last entry of the newest generation that goes no further.
fn point(ground: &Ground<'_>, selection: Selection) -> Point {
    let compaction = ground.rules.compaction;
    let compacted = (compaction > 0).then_some(compaction);
    let evidence = ground.evidence;
    let of = |facts: &Facts| facts.consistent_index.map(|index| (index, facts.term.unwrap_or_default()));
    let last = match selection {
        Selection::Nothing => return Point::default(),
        Selection::Leaves => {
            let entry = evidence.trees.first().and_then(|tree| of(&tree.facts));
            return Point { entry, is_beyond: false, compacted };
        }
        Selection::Upto(last) => last,
        Selection::Tree(_) | Selection::Carved => {
            evidence.leaves.iter().map(|leaf| leaf.last.main()).max().unwrap_or_default()
        }
    };
    let trees = evidence.trees.iter().map(|tree| (tree.revision, tree.facts));
    let leaves = evidence.generations.iter().map(|leaf| (leaf.revision, leaf.facts));
    let known = trees.chain(leaves).filter(|(revision, facts)| *revision <= last && of(facts).is_some());
    // A generation before a restore has entries of another count: the newest by revision is meant.
    let newest = known.max_by_key(|(revision, facts)| (*revision, facts.consistent_index));
    let entry = newest.as_ref().and_then(|(_, facts)| of(facts));
    Point { entry, is_beyond: newest.is_some_and(|(revision, _)| revision < last), compacted }
}

/// What was chosen, as ways have it.
fn small(chosen: Chosen) -> Small {
    let Chosen { buckets, choices } = chosen;
    let mut small = Small {
        buckets: buckets.into_iter().map(|(name, rows)| (name.bytes().to_vec(), rows)).collect(),
        ..Small::default()
    };
    for choice in choices {
        let name = String::from_utf8_lossy(choice.bucket.bytes()).into_owned();
        for consequence in &choice.consequences {
            let message = format!("bucket {name}: {}", consequence.words());
            small.findings.push(Finding::new(consequence.code(), consequence.severity(), message));
        }
        let mut notes: Vec<String> = choice.consequences.iter().map(super::Consequence::words).collect();
        if let Origin::Generation(generation) = &choice.origin {
            notes.insert(0, format!("its rows are those of {generation}"));
        }
        if !choice.is_certain() {
            small.lost += choice.lost_rows().max(1);
        }
        small.reports.push(BucketReport {
            name,
            rows: choice.rows,
            from: match choice.origin {
                Origin::Tree => BucketOrigin::Tree,
                Origin::Generation(_) | Origin::Merged => BucketOrigin::OtherGeneration,
                Origin::Default => BucketOrigin::Default,
            },
            trust: if choice.is_certain() { Trust::Single } else { Trust::Suspect },
            lost_rows: choice.lost_rows(),
            notes,
        });
    }
    small.reports.sort_by(|one, other| one.name.cmp(&other.name));
    small
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::salvage::crafted::{bucket, file, leaf, roots};
    use crate::schema::LeaseRow;

    /// A long bucket that all generations of a crafted file share is not kept once for each.
    #[test]
    fn generations_share_a_limit() {
        let lease = |id: i64| LeaseRow { id, ttl: 60, remaining_ttl: 0 }.encode_to_vec();
        let ids: Vec<[u8; 8]> = (1..=50_i64).map(i64::to_be_bytes).collect();
        let pairs: Vec<(&[u8], Vec<u8>)> = (1..).zip(&ids).map(|(id, key)| (&key[..], lease(id))).collect();
        let root = |id| leaf(id, &[(b"key", bucket(9)), (b"lease", bucket(4))], true);
        let pages = file([vec![], vec![], root(2), root(3), leaf(4, &pairs, false)]);
        let runs = roots(&pages);
        assert_eq!(runs.len(), 2);
        let mut room = 50 * (ROW_BYTES + 8 + 8);
        let mut rows = |run| {
            let generation = of_leaf(&pages, run, &mut room).unwrap();
            generation.buckets.get(&Name::Lease).map(|rows| (rows.pairs.len(), rows.is_whole))
        };
        assert_eq!((rows(&runs[0]), rows(&runs[1])), (Some((50, true)), None));
    }
}
