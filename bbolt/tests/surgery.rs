//! Surgery: each edit on a small file made for it, each trap of FORMATS A.10, and random operations on damaged files.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod graft_common;

use std::collections::BTreeSet;

use bbolt::meta::{META_PAGE_BYTES, NO_FREELIST, fnv1a};
use bbolt::page::{FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF};
use bbolt::page_file::PageFile;
use bbolt::surgery::{
    Accepted, Edit, ErrorClass, MetaField, Operation, PageState, SurgeryError, Warning, abandon_freelist,
    clear_page, clear_page_elements, copy_page, rebuild_freelist, revert_meta_page, update_meta,
};
use bbolt::{Db, FaultKind, Freelist, Meta, PageHeader, PageId, check};
use graft_common::{branch_page, bucket_value, file_of, leaf_page, read_all};
use proptest::prelude::*;

const PAGE: usize = 1024;
const NONE: Accepted = Accepted { loss: false, invalid_meta: false };
const LOSS: Accepted = Accepted { loss: true, invalid_meta: false };
const INVALID_META: Accepted = Accepted { loss: false, invalid_meta: true };

fn header(page: &mut [u8], change: impl FnOnce(&mut PageHeader)) {
    let mut header = PageHeader::parse(page).unwrap();
    change(&mut header);
    page[..16].copy_from_slice(&header.encode());
}

/// Root leaf 2, branch 3, leaves 4, 5 (with 6 as its overflow) and 7; 8 is an old leaf that nothing reaches, 9 is zeros.
/// Meta 1 is in force.
fn small() -> Vec<u8> {
    let long = [b'l'; 500];
    let mut wide = leaf_page(5, 2 * PAGE, &[(0, b"d", &long), (0, b"e", &long), (0, b"f", &long)]);
    header(&mut wide, |header| header.overflow = 1);
    file_of(
        1024,
        [Some(8), Some(9)],
        &[
            leaf_page(2, PAGE, &[(1, b"key", &bucket_value(3))]),
            branch_page(3, PAGE, &[(b"a", 4), (b"d", 5), (b"g", 7)]),
            leaf_page(4, PAGE, &[(0, b"a", b"1"), (0, b"b", b"22"), (0, b"c", b"333")]),
            wide,
            leaf_page(7, PAGE, &[(0, b"g", b"7"), (0, b"h", b"8")]),
            leaf_page(8, PAGE, &[(0, b"x", b"old")]),
            vec![0; PAGE],
        ],
    )
}

fn file(bytes: &[u8]) -> PageFile<&[u8]> {
    PageFile::new(bytes, None).unwrap()
}

/// Puts `meta` into its slot.
fn set_meta(bytes: &mut [u8], slot: u64, change: impl FnOnce(&mut Meta)) {
    let mut meta = *file(bytes).metas()[usize::try_from(slot).unwrap()].as_ref().unwrap();
    change(&mut meta);
    let at = usize::try_from(slot).unwrap() * PAGE;
    bytes[at..at + PAGE].copy_from_slice(&meta.page(slot));
}

/// One turned bit in the meta of this slot.
fn break_meta(bytes: &mut [u8], slot: usize) {
    bytes[slot * PAGE + 40] ^= 1;
}

fn edited(bytes: &[u8], edit: &Edit) -> Vec<u8> {
    let mut after = bytes.to_vec();
    edit.apply_to_vec(&mut after);
    after
}

fn codes(bytes: &[u8]) -> Vec<&'static str> {
    let db = Db::from_source(bytes).unwrap();
    check(&db, &()).findings.iter().map(|finding| finding.fault.code()).collect()
}

/// The pages whose bytes differ.
fn changed_pages(before: &[u8], after: &[u8]) -> Vec<u64> {
    let pages = after.chunks(PAGE).enumerate();
    let differs = pages.filter(|(id, page)| before.get(id * PAGE..id * PAGE + page.len()) != Some(*page));
    differs.map(|(id, _)| id as u64).collect()
}

#[test]
fn the_file_to_begin_with_is_sound() {
    assert_eq!(codes(&small()), Vec::<&str>::new());
    assert_eq!(read_all(&small())[b"key".as_slice()].len(), 8);
}

#[test]
fn reverting_puts_the_older_meta_in_both_places() {
    let mut bytes = small();
    set_meta(&mut bytes, 0, |meta| meta.root = PageId(8));
    let edit = revert_meta_page(&file(&bytes)).unwrap();
    let after = edited(&bytes, &edit);
    assert_eq!(changed_pages(&bytes, &after), [1]);
    let [meta0, meta1] = file(&after).metas().clone();
    assert_eq!(meta0, meta1);
    assert_eq!((meta0.as_ref().unwrap().root, meta0.unwrap().txid), (PageId(8), 8));
    assert_eq!(PageHeader::parse(&after[PAGE..]).unwrap().id, 1);
    assert_eq!(edit.changes()[0].before, PageState::Meta(file(&bytes).metas()[1].clone()));
    // Again, there is nothing to go back to: both are the same.
    let again = revert_meta_page(&file(&after)).unwrap();
    assert_eq!(again.writes(), []);
}

/// bbolt takes the higher number for the meta in force, valid or not, and would copy a broken one over the only good one.
#[test]
fn a_broken_meta_is_never_reverted_to() {
    let mut bytes = small();
    break_meta(&mut bytes, 0);
    let error = revert_meta_page(&file(&bytes)).unwrap_err();
    assert!(matches!(error, SurgeryError::OtherMetaInvalid { active: 1, other: 0, .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);

    // The newer is the broken one: the older, in force already, is put in its place, as bbolt does.
    let mut bytes = small();
    break_meta(&mut bytes, 1);
    let edit = revert_meta_page(&file(&bytes)).unwrap();
    let after = edited(&bytes, &edit);
    assert_eq!(changed_pages(&bytes, &after), [1]);
    assert_eq!(file(&after).metas()[1].as_ref().unwrap().txid, 8);

    bytes[PAGE..2 * PAGE].fill(0);
    let error = revert_meta_page(&file(&bytes)).unwrap_err();
    assert!(error.to_string().contains("--from-page 0 --to-page 1"), "{error}");
    let mended = copy_page(&file(&bytes), PageId(0), PageId(1), NONE, &()).unwrap();
    assert_eq!(codes(&edited(&bytes, &mended)), Vec::<&str>::new());

    bytes[..PAGE].fill(0);
    let pages = PageFile::new(bytes.as_slice(), Some(1024)).unwrap();
    assert!(matches!(revert_meta_page(&pages), Err(SurgeryError::NoMeta { .. })));
    assert!(matches!(
        copy_page(&pages, PageId(0), PageId(1), LOSS, &()),
        Err(SurgeryError::SourceMetaInvalid { slot: 0, .. })
    ));
}

#[test]
fn a_page_is_copied_with_its_number_and_overflow() {
    let bytes = small();
    // Page 8, behind 7, is free.
    let edit = copy_page(&file(&bytes), PageId(5), PageId(7), NONE, &()).unwrap();
    let after = edited(&bytes, &edit);
    assert_eq!(changed_pages(&bytes, &after), [7, 8]);
    assert_eq!(after[7 * PAGE], 7);
    assert_eq!(after[7 * PAGE + 1..9 * PAGE], bytes[5 * PAGE + 1..7 * PAGE]);
    assert_eq!(edit.warnings(), []);

    let edit = copy_page(&file(&bytes), PageId(4), PageId(5), NONE, &()).unwrap();
    let pages = Some((PageId(6), PageId(7)));
    assert_eq!(edit.warnings(), [Warning::PagesAbandoned { pages, is_branch: false }]);
    let edit = copy_page(&file(&bytes), PageId(4), PageId(9), NONE, &()).unwrap();
    assert_eq!(edit.warnings(), [Warning::NotInUse { page: PageId(9) }]);
}

#[test]
fn a_copy_does_not_run_over_what_is_in_use() {
    let bytes = small();
    let copy = |from, to, accepted| copy_page(&file(&bytes), PageId(from), PageId(to), accepted, &());
    assert_eq!(copy(5, 3, NONE), Err(SurgeryError::WouldWriteOver { pages: vec![PageId(4)] }));
    let edit = copy(5, 3, LOSS).unwrap();
    assert_eq!(edit.warnings(), [Warning::WrittenOver { pages: vec![PageId(4)] }]);
    assert_eq!(changed_pages(&bytes, &edited(&bytes, &edit)), [3, 4]);

    assert_eq!(copy(4, 6, NONE), Err(SurgeryError::InsidePage { page: PageId(6), head: PageId(5) }));
    assert_eq!(changed_pages(&bytes, &edited(&bytes, &copy(4, 6, LOSS).unwrap())), [6]);

    for (from, to) in [(4, 10), (5, 9), (10, 4), (4, u64::MAX), (u64::MAX, 4)] {
        let error = copy(from, to, LOSS).unwrap_err();
        let SurgeryError::Fault(fault) = &error else { panic!("{from} {to}: {error}") };
        assert!(matches!(fault.kind, FaultKind::Truncated { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Failed);
    }
    let error = copy(9, 4, LOSS).unwrap_err();
    let SurgeryError::Fault(fault) = error else { panic!("{error}") };
    assert_eq!(fault.kind, FaultKind::WrongId { found: 0 });
    assert_eq!(copy(4, 4, LOSS), Err(SurgeryError::SamePage { page: PageId(4) }));
    assert_eq!(copy(0, 4, LOSS), Err(SurgeryError::MetaPage { page: PageId(0) }));
    assert_eq!(copy(4, 1, LOSS), Err(SurgeryError::MetaPage { page: PageId(1) }));
}

/// The state that the older meta leads to is one to go back to.
#[test]
fn what_only_the_older_meta_reaches_is_in_use_too() {
    let mut bytes = small();
    set_meta(&mut bytes, 0, |meta| meta.root = PageId(8));
    let error = copy_page(&file(&bytes), PageId(5), PageId(7), NONE, &()).unwrap_err();
    assert_eq!(error, SurgeryError::WouldWriteOver { pages: vec![PageId(8)] });
    // A broken meta reaches nothing.
    break_meta(&mut bytes, 0);
    copy_page(&file(&bytes), PageId(5), PageId(7), NONE, &()).unwrap();
}

/// bbolt's tool takes the high-water mark from meta 0, also when meta 1 is newer.
#[test]
fn the_high_water_mark_is_that_of_the_meta_in_force() {
    let mut bytes = small();
    set_meta(&mut bytes, 0, |meta| meta.high_water_mark = 9);
    let edit = copy_page(&file(&bytes), PageId(4), PageId(9), NONE, &()).unwrap();
    assert_eq!(edit.warnings(), [Warning::NotInUse { page: PageId(9) }]);
    set_meta(&mut bytes, 1, |meta| meta.high_water_mark = 9);
    let edit = copy_page(&file(&bytes), PageId(4), PageId(9), NONE, &()).unwrap();
    assert_eq!(edit.warnings(), [Warning::BehindHighWaterMark { page: PageId(9), high_water_mark: 9 }]);
}

#[test]
fn a_cleared_page_has_no_elements_and_no_overflow() {
    let bytes = small();
    let edit = clear_page(&file(&bytes), PageId(5), NONE, &()).unwrap();
    let after = edited(&bytes, &edit);
    assert_eq!(changed_pages(&bytes, &after), [5]);
    let header = PageHeader::parse(&after[5 * PAGE..]).unwrap();
    assert_eq!(header, PageHeader { id: 5, flags: FLAG_LEAF, count: 0, overflow: 0 });
    let pages = Some((PageId(6), PageId(7)));
    assert_eq!(
        edit.warnings(),
        [Warning::PagesAbandoned { pages, is_branch: false }, Warning::EmptyLeaf { page: PageId(5) }]
    );
    assert_eq!(codes(&after), ["BBOLT-EMPTY-LEAF"]);

    let edit = clear_page(&file(&bytes), PageId(3), NONE, &()).unwrap();
    assert!(edit.abandons_pages());
    assert!(edit.warnings().contains(&Warning::EmptyBranch { page: PageId(3) }));
    assert_eq!(codes(&edited(&bytes, &edit)), ["BBOLT-EMPTY-BRANCH"]);

    // Cleared already.
    let edit = clear_page(&file(&edited(&bytes, &edit)), PageId(3), NONE, &()).unwrap();
    assert_eq!(edit.writes(), []);
    let edit = clear_page(&file(&bytes), PageId(8), NONE, &()).unwrap();
    assert!(edit.warnings().contains(&Warning::NotInUse { page: PageId(8) }));
}

/// What a page is cleared for: an overflow that is not there, elements that leave it.
#[test]
fn a_page_of_nonsense_can_be_cleared() {
    let mut bytes = small();
    header(&mut bytes[4 * PAGE..], |header| (header.count, header.overflow) = (0xFFFF, u32::MAX));
    let edit = clear_page(&file(&bytes), PageId(4), NONE, &()).unwrap();
    assert!(matches!(edit.warnings()[0], Warning::InUseInPart { .. }));
    assert_eq!(codes(&edited(&bytes, &edit)), ["BBOLT-EMPTY-LEAF"]);
    assert!(clear_page_elements(&file(&bytes), PageId(4), 3, None, NONE, &()).is_err());

    // The last of three elements leaves the page; the two before it can be kept.
    let mut bytes = small();
    bytes[4 * PAGE + 16 + 32 + 12..][..4].fill(0xFF);
    let edit = clear_page_elements(&file(&bytes), PageId(4), 2, None, NONE, &()).unwrap();
    assert_eq!(codes(&edited(&bytes, &edit)), Vec::<&str>::new());
    let error = clear_page_elements(&file(&bytes), PageId(4), 0, Some(1), NONE, &()).unwrap_err();
    let SurgeryError::Fault(fault) = error else { panic!("{error}") };
    assert!(matches!(fault.kind, FaultKind::ElementOutOfPage { index: 2, .. }));
}

#[test]
fn elements_are_cleared_from_anywhere() {
    let bytes = small();
    let keys = |page: u64, start, end| {
        let edit = clear_page_elements(&file(&bytes), PageId(page), start, end, NONE, &()).unwrap();
        let after = edited(&bytes, &edit);
        let found = codes(&after);
        assert!(found.is_empty(), "{found:?}");
        let pairs = read_all(&after).remove(b"key".as_slice()).unwrap();
        for (key, value) in &pairs {
            assert_eq!(read_all(&bytes)[b"key".as_slice()][key], *value);
        }
        (changed_pages(&bytes, &after), pairs.into_keys().map(|key| key[0]).collect::<Vec<u8>>())
    };
    assert_eq!(keys(4, 0, Some(1)), (vec![4], b"bcdefgh".to_vec()));
    assert_eq!(keys(4, 1, Some(2)), (vec![4], b"acdefgh".to_vec()));
    assert_eq!(keys(4, 2, Some(3)), (vec![4], b"abdefgh".to_vec()));
    assert_eq!(keys(4, 1, None), (vec![4], b"adefgh".to_vec()));
    // What is left of page 5 fits into one page.
    assert_eq!(keys(5, 0, Some(2)), (vec![5], b"abcfgh".to_vec()));
    // A branch loses a child, and what is below it.
    assert_eq!(keys(3, 1, Some(2)), (vec![3], b"abcgh".to_vec()));
}

#[test]
fn ranges_that_are_not_there() {
    let bytes = small();
    let clear = |page, start, end| {
        clear_page_elements(&file(&bytes), PageId(page), start, end, NONE, &()).unwrap_err()
    };
    for (start, end) in [(1, 1), (2, 1), (0, 0)] {
        assert_eq!(clear(4, start, Some(end)).class(), ErrorClass::Usage);
    }
    for (start, end) in [(3, None), (0, Some(4)), (u32::MAX, None), (3, Some(70_000)), (65_536, None)] {
        let error = clear(4, start, end);
        assert!(matches!(error, SurgeryError::ElementRange { count: 3, .. }), "{error}");
    }
    assert_eq!(clear(1, 0, None), SurgeryError::MetaPage { page: PageId(1) });
    assert_eq!(clear(6, 0, None).class(), ErrorClass::Failed);
    assert_eq!(clear(1 << 60, 0, None).class(), ErrorClass::Failed);
}

/// Page 6, in the middle of a value of page 5, looks like a page of its own.
#[test]
fn a_page_inside_a_value_is_none() {
    let mut bytes = small();
    let page = leaf_page(6, PAGE, &[(0, b"x", b"y")]);
    bytes[6 * PAGE..7 * PAGE].copy_from_slice(&page);
    let error = clear_page(&file(&bytes), PageId(6), NONE, &()).unwrap_err();
    assert_eq!(error, SurgeryError::InsidePage { page: PageId(6), head: PageId(5) });
    assert_eq!(error.class(), ErrorClass::Refused);
    assert_eq!(
        changed_pages(&bytes, &edited(&bytes, &clear_page(&file(&bytes), PageId(6), LOSS, &()).unwrap())),
        [6]
    );
}

/// bbolt counts what the elements that stay would need close together, and cuts off the end of one that does not lie so.
#[test]
fn the_end_of_an_element_that_stays_is_not_cut_off() {
    let mut bytes = small();
    // 60 elements, of which the first has a long value: the table alone, which stays, takes most of the first page.
    let long = [b'v'; 900];
    let keys: Vec<[u8; 2]> = (0..60).map(|n| [b'd', n]).collect();
    let elements: Vec<(u32, &[u8], &[u8])> =
        keys.iter().enumerate().map(|(n, key)| (0, &key[..], if n == 0 { &long[..] } else { b"" })).collect();
    let mut wide = leaf_page(5, 2 * PAGE, &elements);
    header(&mut wide, |header| header.overflow = 1);
    bytes[5 * PAGE..7 * PAGE].copy_from_slice(&wide);
    assert_eq!(codes(&bytes), Vec::<&str>::new());
    let edit = clear_page_elements(&file(&bytes), PageId(5), 1, None, NONE, &()).unwrap();
    let after = edited(&bytes, &edit);
    assert_eq!(codes(&after), Vec::<&str>::new());
    assert_eq!(PageHeader::parse(&after[5 * PAGE..]).unwrap().overflow, 1);
    assert_eq!(read_all(&after)[b"key".as_slice()][&keys[0][..]], long);
}

#[test]
fn abandoning_leaves_a_broken_meta_broken() {
    let mut bytes = small();
    set_meta(&mut bytes, 0, |meta| meta.freelist = 8);
    set_meta(&mut bytes, 1, |meta| meta.freelist = 9);
    let edit = abandon_freelist(&file(&bytes), NONE).unwrap();
    let after = edited(&bytes, &edit);
    assert_eq!(changed_pages(&bytes, &after), [0, 1]);
    assert!(file(&after).metas().iter().all(|meta| meta.as_ref().unwrap().freelist == NO_FREELIST));
    assert_eq!(codes(&after), Vec::<&str>::new());

    break_meta(&mut bytes, 1);
    let edit = abandon_freelist(&file(&bytes), NONE).unwrap();
    assert_eq!(changed_pages(&bytes, &edited(&bytes, &edit)), [0]);
    assert!(matches!(edit.warnings(), [Warning::InvalidMetaKept { slot: 1, .. }]));
    // Only whoever says so gets the broken one back, in force.
    let edit = abandon_freelist(&file(&bytes), INVALID_META).unwrap();
    assert!(matches!(edit.warnings(), [Warning::InvalidMetaAccepted { slot: 1, .. }]));
    assert_eq!(file(&edited(&bytes, &edit)).active_slot(), Some(1));

    break_meta(&mut bytes, 0);
    let pages = PageFile::new(bytes.as_slice(), Some(1024)).unwrap();
    assert_eq!(abandon_freelist(&pages, NONE).unwrap_err().class(), ErrorClass::Refused);
    assert_eq!(
        changed_pages(&bytes, &edited(&bytes, &abandon_freelist(&pages, INVALID_META).unwrap())),
        [0, 1]
    );
    bytes[..4].copy_from_slice(&[1; 4]);
    bytes[16..24].fill(0);
    let pages = PageFile::new(bytes.as_slice(), Some(1024)).unwrap();
    let edit = abandon_freelist(&pages, INVALID_META).unwrap();
    assert!(edit.warnings().iter().any(|warning| matches!(warning, Warning::StillInvalid { slot: 0, .. })));
}

fn listed(bytes: &[u8]) -> (PageId, u32, Vec<u64>) {
    match Db::from_source(bytes).unwrap().freelist().unwrap() {
        Freelist::Persisted { page, overflow, free } => {
            (page, overflow, free.iter().map(|id| id.0).collect())
        }
        Freelist::NotPersisted => panic!("no freelist"),
    }
}

#[test]
fn a_rebuilt_freelist_lists_what_nothing_reaches() {
    let bytes = small();
    let edit = rebuild_freelist(&file(&bytes), &()).unwrap();
    let after = edited(&bytes, &edit);
    assert_eq!(changed_pages(&bytes, &after), [0, 8]);
    assert_eq!(listed(&after), (PageId(8), 0, vec![9]));
    assert_eq!(codes(&after), Vec::<&str>::new());
    assert_eq!(read_all(&after), read_all(&bytes));
    let [meta0, meta1] = file(&after).metas().clone().map(Result::unwrap);
    assert_eq!((meta0.txid, meta1.txid), (10, 9));
    // Whichever meta counts, the same tree does.
    assert_eq!((meta0.root, meta0.high_water_mark), (meta1.root, meta1.high_water_mark));
    assert_eq!(edit.warnings(), [Warning::OlderStateGivenUp { txid: 9, slot: 0 }]);

    let error = rebuild_freelist(&file(&after), &()).unwrap_err();
    assert_eq!(error, SurgeryError::FreelistPersisted { page: PageId(8) });
    // Abandoned, it is made again, and the old one is free.
    let abandoned = edited(&after, &abandon_freelist(&file(&after), NONE).unwrap());
    let again = edited(&abandoned, &rebuild_freelist(&file(&abandoned), &()).unwrap());
    assert_eq!(listed(&again), (PageId(8), 0, vec![9]));
}

/// A snapshot's metas do not have the parity that a commit would give them.
#[test]
fn the_slot_written_is_never_the_one_in_force() {
    let mut bytes = small();
    set_meta(&mut bytes, 0, |meta| meta.txid = 9);
    set_meta(&mut bytes, 1, |meta| meta.txid = 8);
    let after = edited(&bytes, &rebuild_freelist(&file(&bytes), &()).unwrap());
    assert_eq!(changed_pages(&bytes, &after), [1, 8]);
    assert_eq!(file(&after).metas()[1].as_ref().unwrap().txid, 11);
    // A broken meta is made anew.
    break_meta(&mut bytes, 1);
    let after = edited(&bytes, &rebuild_freelist(&file(&bytes), &()).unwrap());
    assert_eq!(codes(&after), Vec::<&str>::new());
}

#[test]
fn a_freelist_without_room_goes_behind_the_last_page() {
    let bytes = file_of(1024, [Some(8), Some(9)], &[leaf_page(2, PAGE, &[])]);
    let after = edited(&bytes, &rebuild_freelist(&file(&bytes), &()).unwrap());
    assert_eq!(after.len(), 4 * PAGE);
    assert_eq!(listed(&after), (PageId(3), 0, Vec::new()));
    assert_eq!(codes(&after), Vec::<&str>::new());
}

/// More free pages than the count of a page can say (FORMATS A.6).
#[test]
fn a_long_freelist_says_its_length_in_its_first_word() {
    for free in [0xFFFEusize, 0xFFFF, 0x1_0000, 70_000] {
        let root = leaf_page(2, 512, &[]);
        let bytes = file_of(512, [Some(8), Some(9)], &[root, vec![0; free * 512]]);
        let edit = rebuild_freelist(&PageFile::new(bytes.as_slice(), None).unwrap(), &()).unwrap();
        let after = edited(&bytes, &edit);
        let words = free + usize::from(free >= 0xFFFF);
        let pages = (16 + 8 * words) / 512 + 1;
        let (page, overflow, list) = listed(&after);
        assert_eq!((page, overflow as usize), (PageId(3), pages - 1));
        assert_eq!(list, (3 + pages as u64..3 + free as u64).collect::<Vec<_>>());
        let head = PageHeader::parse(&after[3 * 512..]).unwrap();
        assert_eq!((head.flags, usize::from(head.count)), (FLAG_FREELIST, list.len().min(0xFFFF)));
        assert_eq!(codes(&after), Vec::<&str>::new());
    }
}

#[test]
fn no_freelist_is_made_of_a_damaged_tree() {
    type Damage = fn(&mut Vec<u8>);
    let damaged: [(&str, Damage); 6] = [
        ("a leaf zeroed", |bytes| bytes[4 * PAGE..5 * PAGE].fill(0)),
        ("a child shared", |bytes| bytes[3 * PAGE + 16 + 8] = 7),
        ("a cycle", |bytes| bytes[3 * PAGE + 16 + 8] = 3),
        ("a child out of the file", |bytes| bytes[3 * PAGE + 16 + 8] = 200),
        ("a page cut off", |bytes| bytes.truncate(9 * PAGE + 100)),
        ("a page within another's overflow", |bytes| bytes[3 * PAGE + 16 + 8] = 6),
    ];
    for (what, damage) in damaged {
        let mut bytes = small();
        damage(&mut bytes);
        let error = rebuild_freelist(&file(&bytes), &()).unwrap_err();
        assert!(matches!(error, SurgeryError::Damaged { .. }), "{what}: {error}");
        assert_eq!(error.class(), ErrorClass::Refused);
    }
}

#[test]
fn fields_of_a_meta_are_set() {
    let bytes = small();
    let fields = [(MetaField::Root, 3), (MetaField::Freelist, 8), (MetaField::Pgid, 9), (MetaField::Root, 2)];
    let edit = update_meta(&file(&bytes), 1, &fields, NONE).unwrap();
    let after = edited(&bytes, &edit);
    assert_eq!(changed_pages(&bytes, &after), [1]);
    let meta = *file(&after).metas()[1].as_ref().unwrap();
    assert_eq!((meta.root, meta.freelist, meta.high_water_mark, meta.txid), (PageId(2), 8, 9, 9));
    assert_eq!(edit.warnings(), []);

    let edit = update_meta(&file(&bytes), 0, &fields, NONE).unwrap();
    assert_eq!(edit.warnings(), [Warning::NotInForce { slot: 0, active: 1, txid: 9 }]);
    let edit = update_meta(&file(&bytes), 1, &[(MetaField::PageSize, 4096)], NONE).unwrap();
    assert_eq!(edit.warnings(), [Warning::PageSizeChanged { slot: 1, page_size: 4096, of_file: 1024 }]);
    for page_size in [0, 1000, 256, 1 << 25, 1 << 32, u64::MAX] {
        let error = update_meta(&file(&bytes), 1, &[(MetaField::PageSize, page_size)], NONE).unwrap_err();
        assert_eq!(error, SurgeryError::ImpossiblePageSize { page_size });
    }
    assert_eq!(update_meta(&file(&bytes), 2, &[], NONE), Err(SurgeryError::NoSuchMeta { slot: 2 }));
    for name in ["txid", "Root", "", "root "] {
        assert!(name.parse::<MetaField>().is_err(), "{name}");
    }
    assert!(MetaField::ALL.iter().all(|field| field.to_string().parse() == Ok(*field)));
}

#[test]
fn a_broken_meta_gets_no_fresh_checksum_unasked() {
    let mut bytes = small();
    break_meta(&mut bytes, 1);
    let error = update_meta(&file(&bytes), 1, &[], NONE).unwrap_err();
    assert!(matches!(error, SurgeryError::MetaInvalid { slot: 1, .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);
    assert!(error.to_string().contains("--accept-invalid-meta"));
    // What was wrong in it is what it says from now on.
    let edit = update_meta(&file(&bytes), 1, &[], INVALID_META).unwrap();
    assert!(matches!(edit.warnings(), [Warning::InvalidMetaAccepted { slot: 1, .. }]));
    let after = edited(&bytes, &edit);
    assert_eq!(file(&after).active_slot(), Some(1));
    assert_eq!(fnv1a(&after[PAGE + 16..PAGE + 72]).to_le_bytes(), after[PAGE + 72..PAGE + 80]);
    // Zeros become a meta of page size 0, which is still none.
    bytes[PAGE..2 * PAGE].fill(0);
    let edit = update_meta(&file(&bytes), 1, &[], INVALID_META).unwrap();
    assert!(edit.warnings().iter().any(|warning| matches!(warning, Warning::StillInvalid { slot: 1, .. })));
}

/// Where an operation may write: whole pages of these.
fn may_write(operation: &Operation, bytes: &[u8]) -> BTreeSet<u64> {
    let run = |page: u64, overflow: u32| (0..=u64::from(overflow)).map(move |n| page.saturating_add(n));
    let overflow = |page: u64| {
        let pages = PageFile::new(bytes, Some(1024)).unwrap();
        pages.header(PageId(page)).map_or(0, |header| header.overflow)
    };
    match operation {
        Operation::RevertMetaPage | Operation::AbandonFreelist => BTreeSet::from([0, 1]),
        Operation::CopyPage { from, to } => run(to.0, overflow(from.0).min(64)).collect(),
        Operation::ClearPage { page } => BTreeSet::from([page.0]),
        Operation::ClearPageElements { page, .. } => run(page.0, overflow(page.0).min(64)).collect(),
        Operation::UpdateMeta { slot, .. } => BTreeSet::from([*slot]),
        Operation::RebuildFreelist => (0..64).collect(),
    }
}

fn page_number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..12, 1 => any::<u64>()]
}

fn operation() -> impl Strategy<Value = Operation> {
    let index = || prop_oneof![6 => 0u32..6, 1 => any::<u32>()];
    let field = (
        prop::sample::select(MetaField::ALL.to_vec()),
        prop_oneof![page_number(), Just(1024), Just(NO_FREELIST)],
    );
    prop_oneof![
        Just(Operation::RevertMetaPage),
        (page_number(), page_number())
            .prop_map(|(from, to)| Operation::CopyPage { from: PageId(from), to: PageId(to) }),
        page_number().prop_map(|page| Operation::ClearPage { page: PageId(page) }),
        (page_number(), index(), prop::option::of(index()))
            .prop_map(|(page, start, end)| Operation::ClearPageElements { page: PageId(page), start, end }),
        Just(Operation::AbandonFreelist),
        Just(Operation::RebuildFreelist),
        (0u64..3, prop::collection::vec(field, 0..4))
            .prop_map(|(slot, fields)| Operation::UpdateMeta { slot, fields }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever the file: nothing panics, nothing is written but the pages that are named, and the states told of are those
    /// that are there after it.
    #[test]
    fn random_surgery_stays_in_its_pages(
        damage in prop::collection::vec((0usize..10, 0usize..48, prop_oneof![0u8..12, any::<u8>()]), 0..4),
        cut in prop_oneof![6 => Just(0usize), 1 => 0usize..3000],
        accepted in (any::<bool>(), any::<bool>()),
        operations in prop::collection::vec(operation(), 1..5),
    ) {
        let mut bytes = small();
        for (page, at, byte) in damage {
            bytes[page * PAGE + at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        let accepted = Accepted { loss: accepted.0, invalid_meta: accepted.1 };
        for operation in operations {
            let pages = PageFile::new(bytes.as_slice(), Some(1024)).unwrap();
            let edit = match operation.plan(&pages, accepted, &()) {
                Ok(edit) => edit,
                Err(error) => {
                    prop_assert!(!error.to_string().is_empty());
                    continue;
                }
            };
            for text in edit.changes().iter().map(ToString::to_string).chain(edit.warnings().iter().map(ToString::to_string)) {
                prop_assert!(!text.is_empty());
            }
            let after = edited(&bytes, &edit);
            prop_assert_eq!(after.len() as u64, edit.end().max(bytes.len() as u64));
            let allowed = may_write(&operation, &bytes);
            let changed = changed_pages(&bytes, &after);
            prop_assert!(changed.iter().all(|page| allowed.contains(page)), "{:?}: {:?}", operation, changed);
            let pages = PageFile::new(after.as_slice(), Some(1024)).unwrap();
            for change in edit.changes() {
                if let PageState::Page { header, .. } = change.after {
                    prop_assert_eq!(pages.header(change.page).unwrap(), header);
                }
            }
            let was_sound = Db::from_source(bytes.as_slice()).is_ok_and(|db| check(&db, &()).is_sound());
            if let Ok(db) = Db::from_source(after.as_slice()) {
                let report = check(&db, &());
                // These two never break what was whole.
                let is_safe = matches!(operation, Operation::AbandonFreelist | Operation::RebuildFreelist);
                prop_assert!(!(was_sound && is_safe && !accepted.invalid_meta) || report.is_sound(), "{:?}", report.findings);
            }
            bytes = after;
        }
    }
}

#[test]
fn a_branch_is_told_from_a_leaf() {
    let bytes = small();
    let edit = clear_page_elements(&file(&bytes), PageId(3), 0, Some(1), NONE, &()).unwrap();
    let PageState::Page { header, items } = &edit.changes()[0].after else { panic!() };
    assert_eq!((header.flags, *items), (FLAG_BRANCH, 2));
    assert_eq!(
        edit.changes()[0].to_string(),
        "page 3 before: a branch of 3 elements, id 3, overflow 0\npage 3 after:  a branch of 2 elements, id 3, overflow 0"
    );
    assert!(META_PAGE_BYTES < PAGE as u64);
}
