//! Trees that look whole and are parts: the page with which bucket `key` begins holds something else than when its root was written.

use bbolt::{Node, NodeKind, PageId};
use snapshot::mvcc::Revision;
use snapshot::salvage::report::WayKind;
use snapshot::salvage::{Trust, WriteOptions, write};

use crate::member::{Member, Outcome, PAGE, salvage, survey};

/// Where it is compacted.
const COMPACTED: i64 = 600;

fn number(file: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_le_bytes(file[at..at + 8].try_into().unwrap())).unwrap()
}

fn node(file: &[u8], page: usize) -> Node<'_> {
    let overflow = u32::from_le_bytes(file[page * PAGE + 12..page * PAGE + 16].try_into().unwrap()) as usize;
    let bytes = &file[page * PAGE..(page + 1 + overflow) * PAGE];
    Node::parse(bytes.into(), PageId(page as u64), (page * PAGE) as u64).unwrap()
}

/// The leaves of root buckets, those of the latest generation last.
fn roots(file: &[u8]) -> Vec<usize> {
    let is_root = |page: &usize| {
        let flags = u16::from_le_bytes(file[page * PAGE + 8..page * PAGE + 10].try_into().unwrap());
        number(file, page * PAGE) == *page && flags == 2 && {
            let node = node(file, *page);
            (0..node.count()).any(|at| node.key(at) == b"members_removed")
        }
    };
    (2..file.len() / PAGE).filter(is_root).collect()
}

/// Where a root page names the root of bucket `key`, counted from the start of the file.
fn key_root_at(file: &[u8], root: usize) -> usize {
    let node = node(file, root);
    let at = (0..node.count()).find(|at| node.key(*at) == b"key").unwrap();
    root * PAGE + node.value_range(at).start
}

/// A member with a compacted generation, and one that came behind it.
fn grown() -> Member {
    let mut member = Member::new(91);
    member.live(900);
    member.build();
    let root = roots(&member.file)[0];
    member.compact(COMPACTED);
    member.commit(true);
    member.live(40);
    member.commit(false);
    // Of what was there before the compaction no root is left.
    member.fill_page(root, 0);
    member
}

fn first_of(file: &[u8], leaf: usize) -> i64 {
    Revision::parse(node(file, leaf).key(0)).unwrap().main
}

fn has_all(outcome: &Outcome, member: &Member) {
    for (key, value) in &member.space.records {
        let found = outcome.records.get(key).map(|(value, _)| value);
        assert!(found == Some(value), "{:?}: {:?}", Revision::parse(key), outcome.report.trees);
    }
    outcome.is_right_about(&member.ever);
    assert_eq!(outcome.report.exit_code(), 3);
}

#[test]
fn a_root_that_leads_to_a_part_of_a_newer_tree_denies_nothing() {
    let mut member = grown();
    let [other, newest] = roots(&member.file)[..] else { panic!("{:?}", roots(&member.file)) };
    let key_root = number(&member.file, key_root_at(&member.file, newest));
    let branch = node(&member.file, key_root);
    assert_eq!(branch.kind(), NodeKind::Branch);
    // The leaf in which the compaction lies: above that nothing is missing in it.
    let leaves: Vec<usize> =
        (1..branch.count()).map(|at| usize::try_from(branch.child(at).0).unwrap()).collect();
    let leaf = *leaves.iter().rev().find(|leaf| first_of(&member.file, **leaf) <= COMPACTED).unwrap();
    let at = key_root_at(&member.file, other);
    member.file[at..at + 8].copy_from_slice(&(leaf as u64).to_le_bytes());
    member.fill_page(newest, 0);
    // With the meta that names it, and without.
    for metas in [vec![0, 1], vec![]] {
        let mut damaged = member.clone();
        metas.iter().for_each(|slot| damaged.fill_page(*slot, 0));
        let outcome = salvage(&[&damaged.file]);
        assert!(!outcome.report.trees[0].is_sound, "{:?}", outcome.report.trees);
        has_all(&outcome, &member);
    }
}

#[test]
fn a_tree_that_ends_before_its_own_compaction_denies_nothing() {
    let mut member = grown();
    let newest = *roots(&member.file).last().unwrap();
    let key_root = number(&member.file, key_root_at(&member.file, newest));
    let leaf = usize::try_from(node(&member.file, key_root).child(0).0).unwrap();
    let page = member.file[leaf * PAGE..(leaf + 1) * PAGE].to_vec();
    assert!(node(&member.file, leaf).len_bytes() == PAGE as u64);
    let at = key_root * PAGE;
    member.file[at..at + PAGE].copy_from_slice(&page);
    member.file[at..at + 8].copy_from_slice(&(key_root as u64).to_le_bytes());
    let outcome = salvage(&[&member.file]);
    has_all(&outcome, &member);
    // Who takes that tree as it is gets a server that begins at the compaction.
    let evidence = survey(&[&member.file]).unwrap();
    let plan = evidence.plan(&()).unwrap();
    let ways = plan.report(1, &()).unwrap().ways;
    let way = ways.iter().find(|way| way.kind == WayKind::NewestMeta).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = WriteOptions { output: Some(dir.path().join("out.db")), accept_loss: true, owner: None };
    let report = write(&plan, way.number, &options, &()).unwrap();
    assert!(report.account.last_revision < COMPACTED, "{:?}", report.account);
    assert_eq!(report.output.unwrap().revision, COMPACTED);
}

#[test]
fn a_leaf_from_elsewhere_in_the_middle_of_a_value_makes_it_doubtful() {
    let mut member = Member::new(92);
    member.live(60);
    member.space.put("/registry/long", &"y".repeat(4 * PAGE));
    member.live(60);
    member.build();
    let heads = |file: &[u8]| -> Vec<usize> {
        (2..file.len() / PAGE).filter(|page| number(file, page * PAGE) == *page).collect()
    };
    let heads = heads(&member.file);
    let long = heads.windows(2).find(|pair| pair[1] - pair[0] > 3).unwrap()[0];
    let leaf = heads.iter().rev().find(|page| {
        let node = node(&member.file, **page);
        node.kind() == NodeKind::Leaf
            && node.len_bytes() == PAGE as u64
            && Revision::parse(node.key(0)).is_some()
    });
    let page = member.file[leaf.unwrap() * PAGE..][..PAGE].to_vec();
    member.file[(long + 2) * PAGE..(long + 3) * PAGE].copy_from_slice(&page);
    let outcome = salvage(&[&member.file]);
    let wrong: Vec<_> =
        outcome.records.iter().filter(|(key, (value, _))| member.space.records[*key] != *value).collect();
    assert!(wrong.len() <= 1 && wrong.iter().all(|(_, (_, trust))| *trust == Trust::Suspect));
    assert_eq!(outcome.report.exit_code(), 3);
}
