//! Carving, reaching and holes, on files of any bytes.

use std::collections::BTreeSet;

use bbolt::carve::{Carved, Leaf, PageKind};
use bbolt::page_file::PageFile;
use bbolt::reach::{Start, Tree};
use bbolt::{BadMap, Holes, Node, Source, carve, reach};

/// Page sizes that the first byte chooses from; `None` leaves it to the file.
const PAGE_SIZES: [Option<u32>; 4] = [None, None, Some(512), Some(4096)];

/// The first byte chooses the page size and whether there is a map of holes, which then stands behind the last byte of value 0xFF.
/// What is carved occurs in the file at the place that is named, no page and no byte is handed out twice, and so all of it together
/// is no longer than the file; what is reached is in order and in no hole.
pub(crate) fn any(input: &[u8]) {
    let Some((choice, file)) = input.split_first() else { return };
    let (file, bad) = match file.iter().rposition(|byte| *byte == 0xFF).filter(|_| choice & 4 != 0) {
        Some(at) => {
            let text = String::from_utf8_lossy(&file[at + 1..]);
            (&file[..at], BadMap::parse(&text).map(|map| map.bad).unwrap_or_default())
        }
        None => (file, Vec::new()),
    };
    let bad: Vec<_> = bad.into_iter().filter(|range| range.end < u64::MAX).collect();
    for page_size in [PAGE_SIZES[usize::from(choice & 3)], Some(1024)] {
        if let Ok(pages) = PageFile::search(Holes::new(file, bad.clone()), page_size) {
            of_pages(&pages);
        }
    }
}

fn of_pages<S: Source>(pages: &PageFile<S>) {
    let judge = |leaf: &Leaf<'_>| leaf.elements().count();
    let carved = carve(pages, None, &judge, &()).unwrap_or_else(|_| panic!("nobody interrupted"));
    let mut roots = vec![pages.meta().map(|meta| Start::Page(meta.root))];
    roots.extend(carved.runs.iter().take(4).map(|(run, _)| Some(Start::Index(run.index))));
    held(pages, &carved);
    for root in roots.into_iter().flatten() {
        let judge = |name: &[u8], node: &Node<'_>| name.first() != Some(&b'l') || node.count() < 3;
        let tree = reach(pages, root, &judge, &()).unwrap_or_else(|_| panic!("nobody interrupted"));
        walked(pages, &tree);
        let with_tree = carve(pages, Some(&tree.used), &judge_of_leaf, &())
            .unwrap_or_else(|_| panic!("nobody interrupted"));
        held(pages, &with_tree);
        for leaf in tree.buckets.iter().flat_map(|bucket| &bucket.leaves) {
            let index = pages.index_of(*leaf).unwrap_or(u64::MAX);
            let Some((run, _)) = with_tree.run(index) else {
                panic!("leaf {leaf} is reached and not carved")
            };
            // Its head may claim more than its elements fill.
            assert_eq!(run.cut, None, "a leaf that is reached is whole");
        }
    }
}

fn judge_of_leaf(leaf: &Leaf<'_>) -> usize {
    leaf.elements().count()
}

/// What was carved is in the file, once.
fn held<S: Source>(pages: &PageFile<S>, carved: &Carved<usize>) {
    let page_size = u64::from(pages.page_size());
    let source = pages.source();
    let (mut end, mut handed_out) = (0, 0);
    for (run, elements) in &carved.runs {
        assert!(run.index * page_size >= end, "page {} belongs to two runs", run.index);
        end = run.index * page_size;
        assert!(matches!(carved.kind(run.index), Some(PageKind::Leaf | PageKind::Displaced)));
        let Some(leaf) = Leaf::open(pages, run) else { panic!("page {} cannot be opened again", run.index) };
        assert_eq!(leaf.elements().count(), *elements);
        for element in leaf.elements() {
            assert!(element.offset >= end, "elements share bytes");
            for (offset, bytes) in [(element.offset, element.key), (element.value_offset(), element.value)] {
                let len = bytes.len() as u64;
                assert!(len == 0 || source.bytes(offset, len).is_ok_and(|there| *there == *bytes));
                end = end.max(if len > 0 { offset + len } else { 0 });
                handed_out += len;
            }
            assert_eq!(leaf.element(element.index), Some(element));
        }
        end = end.max((run.index + u64::from(run.pages)) * page_size);
    }
    assert!(handed_out <= source.len_bytes());
    let histogram = carved.histogram;
    assert_eq!(histogram.leaf + histogram.displaced, carved.runs.len() as u64);
}

/// What was reached ascends, and no page is reached twice.
fn walked<S: Source>(pages: &PageFile<S>, tree: &Tree) {
    let mut seen = BTreeSet::new();
    for bucket in &tree.buckets {
        let mut last: Option<Vec<u8>> = None;
        assert!(bucket.leaves.iter().all(|leaf| seen.insert(*leaf)), "a leaf is reached twice");
        for node in bucket.nodes(pages) {
            for index in 0..node.count() {
                let key = node.key(index);
                assert!(last.as_deref().is_none_or(|last| last < key), "keys that do not ascend");
                assert!(
                    !bucket.holes.iter().any(|hole| hole.contains(key)),
                    "a key that is there and in a hole"
                );
                last = Some(key.to_vec());
            }
        }
    }
}
