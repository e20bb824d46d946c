//! Leaves of long records of which a page is lost: what is left of them, and what the lost page tells of those that end in it.

use snapshot::mvcc::Revision;
use snapshot::salvage::Trust;

use crate::member::{Member, PAGE, salvage};

/// Two records in one leaf, the second of which begins `within` bytes behind the start of a page; where that page is.
fn two_long_records(within: usize) -> (Member, usize) {
    let built = |first_bytes: usize| {
        let mut member = Member::new(50);
        member.space.put("/registry/first", &"1".repeat(first_bytes));
        member.space.put("/registry/second", &"2".repeat(9000));
        member.build();
        let second = Revision { main: 3, sub: 0, tombstone: false }.encode();
        let place = |window: &[u8]| window.starts_with(&second) && window.ends_with(b"\x0a");
        let at = member.file.windows(second.len() + 1).position(place).unwrap();
        (member, at)
    };
    let (_, at) = built(6000);
    let (member, at) = built(6000 + (within + PAGE - at % PAGE) % PAGE);
    assert_eq!(at % PAGE, within);
    (member, at / PAGE)
}

fn trust_of(outcome: &crate::member::Outcome, main: i64) -> Option<Trust> {
    let key = Revision { main, sub: 0, tombstone: false }.encode();
    outcome.records.get(&key).map(|(_, trust)| *trust)
}

#[test]
fn a_leaf_of_which_most_is_lost_is_still_one_of_records() {
    for byte in [0, 0xEE] {
        let (mut member, page) = two_long_records(0);
        member.fill_page(page, byte);
        let outcome = salvage(&[&member.file]);
        // What is no key is damaged, and then it is open what else of the leaf is.
        assert_eq!((trust_of(&outcome, 2), trust_of(&outcome, 3)), (Some(Trust::Suspect), None), "{byte}");
        assert!(!outcome.report.account.is_complete());
    }
}

#[test]
fn a_record_that_ends_in_a_page_that_is_lost_is_open_to_doubt() {
    for byte in [0, 0xEE] {
        for within in [60, 700, 3000] {
            let (mut member, page) = two_long_records(within);
            assert_eq!(trust_of(&salvage(&[&member.file]), 2), Some(Trust::Single));
            member.fill_page(page, byte);
            let outcome = salvage(&[&member.file]);
            assert_eq!(trust_of(&outcome, 2), Some(Trust::Suspect), "{byte} from {within}");
            assert_eq!(outcome.report.exit_code(), 3);
        }
    }
}
