//! The v2 store, from JSON and from requests.

use snapshot::mvcc::Release;
use snapshot::v2tree::{Done, V2Tree};
use wal::EntryRef;

/// Most JSON that requests of a few bytes are let come to before the next is not tried.
const MOST_BYTES: usize = 4 << 20;

/// The input as the JSON of a store, and as entries that are applied to it and to an empty store: two bytes of length, the highest
/// bit of which makes it a change of members, then the data.
pub(crate) fn tree(bytes: &[u8]) {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let entries = bytes.get(text.len() + 1..).unwrap_or_default();
    let read = V2Tree::from_json(text, Release::NEWEST).ok();
    if let Some(tree) = &read {
        // Bytes that are no text are replaced by the first, and stay by the second.
        let first = written(tree);
        let Ok(again) = V2Tree::from_json(&first, Release::NEWEST) else {
            panic!("it does not read what it wrote")
        };
        let Ok(last) = V2Tree::from_json(&written(&again), Release::NEWEST) else {
            panic!("nor what it wrote then")
        };
        assert_eq!(written(&again), written(&last));
        let nodes: Vec<_> = again.below(b"/", true).collect();
        assert!(
            nodes.iter().all(|node| again.node(&node.path).is_some_and(|found| found.value == node.value))
        );
    }
    for release in ["3.4", "3.5"] {
        let Ok(release) = release.parse() else { return };
        apply(V2Tree::empty(release), entries);
    }
    if let Some(tree) = read {
        apply(tree, entries);
    }
}

fn written(tree: &V2Tree) -> Vec<u8> {
    tree.to_json().unwrap_or_default()
}

fn apply(mut tree: V2Tree, mut entries: &[u8]) {
    while let [high, low, rest @ ..] = entries {
        let len = usize::from(u16::from_be_bytes([high & 0x7f, *low])).min(rest.len());
        let (data, next) = rest.split_at(len);
        entries = next;
        let entry_type = i32::from(high & 0x80 != 0);
        let Some(index) = tree.raft_index().checked_add(1) else { return };
        let before = tree.current_index();
        match tree.apply(&EntryRef { entry_type, index, term: 1, data }) {
            Ok(Done::Changed | Done::Refused(_)) => {}
            Ok(Done::Nothing) => assert_eq!(tree.current_index(), before),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
        if written(&tree).len() > MOST_BYTES {
            return;
        }
    }
    assert!(tree.below(b"/", true).all(|node| tree.node(&node.path).is_some()));
}
