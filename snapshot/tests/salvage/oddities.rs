//! One bit wrong in a page that is reached and otherwise sound: in an element, a key, or the count of a leaf or branch.

use snapshot::mvcc::Revision;

use crate::member::{Member, Outcome, PAGE, salvage};

/// An element of a page: where its entry in the page's table begins, and where its key does.
struct Element {
    page: usize,
    index: usize,
    entry: usize,
    key: usize,
    key_bytes: usize,
}

fn word(file: &[u8], at: usize) -> usize {
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize
}

fn count_of(file: &[u8], page: usize) -> usize {
    usize::from(u16::from_le_bytes(file[page * PAGE + 10..][..2].try_into().unwrap()))
}

/// Pages in their places with these flags.
fn pages(file: &[u8], flags: u8) -> Vec<usize> {
    let is_such = |page: &usize| {
        let head = &file[page * PAGE..][..16];
        head[..8] == (*page as u64).to_le_bytes() && head[8..10] == [flags, 0]
    };
    (2..file.len() / PAGE).filter(is_such).collect()
}

/// The elements of all leaves of records.
fn elements(file: &[u8]) -> Vec<Element> {
    let mut elements = Vec::new();
    for page in pages(file, 2) {
        for index in 0..count_of(file, page) {
            let entry = page * PAGE + 16 + index * 16;
            let (key, key_bytes) = (entry + word(file, entry + 4), word(file, entry + 8));
            elements.push(Element { page, index, entry, key, key_bytes });
        }
    }
    elements.retain(|element| Revision::parse(&file[element.key..][..element.key_bytes]).is_some());
    elements
}

/// A member of one generation, compacted, so that there is one copy of everything.
fn compacted() -> Member {
    let mut member = Member::new(77);
    member.live(400);
    member.compact(200);
    member.build();
    member
}

/// What a flip does to an element: the byte, by the element, and the bit.
type Flip = (&'static str, fn(&Element) -> usize, u8);

const FLIPS: [Flip; 6] = [
    ("the bucket flag", |element| element.entry, 1),
    ("the key's length", |element| element.entry + 8, 1),
    ("the underscore", |element| element.key + 8, 1),
    ("the top of the place", |element| element.key + 9, 0x80),
    ("the revision", |element| element.key + 7, 4),
    ("the top of the revision", |element| element.key + 1, 0x20),
];

/// That nothing else is missing than `key`, and that this is said.
fn lacks_only(outcome: &Outcome, member: &Member, key: &[u8], what: &str) {
    outcome.is_right_about(&member.ever);
    for (known, value) in &member.space.records {
        let found = outcome.records.get(known).map(|(value, _)| value);
        assert!(known == key || found == Some(value), "{what}: {:?}", Revision::parse(known));
    }
    let loses = outcome.report.account.loses;
    if outcome.records.get(key).map(|(value, _)| value) != member.space.records.get(key) {
        assert_eq!(outcome.report.exit_code(), 3, "{what}: nothing is said");
        assert!(loses.revisions + loses.records + loses.open_holes > 0, "{what}: {loses:?}");
    }
    assert!(loses.revisions + loses.records < 10, "{what}: {loses:?}");
}

#[test]
fn a_record_that_a_bit_makes_none_is_missed() {
    let member = compacted();
    let elements = elements(&member.file);
    for (what, byte, bit) in FLIPS {
        for element in elements.iter().step_by(7) {
            let mut damaged = member.clone();
            damaged.file[byte(element)] ^= bit;
            let key = &member.file[element.key..][..element.key_bytes];
            let what = format!("{what} of {:?} on page {}", Revision::parse(key), element.page);
            lacks_only(&salvage(&[&damaged.file]), &member, key, &what);
        }
    }
}

#[test]
fn another_copy_stands_in_for_a_record_that_a_bit_made_none() {
    let mut member = compacted();
    member.live(10);
    member.commit(true);
    // The newest generation lies behind the one before.
    let newest: Vec<Element> =
        elements(&member.file).into_iter().skip(elements(&compacted().file).len()).collect();
    assert!(newest.len() > 100);
    for (what, byte, bit) in FLIPS {
        for element in newest.iter().step_by(9) {
            let key = member.file[element.key..][..element.key_bytes].to_vec();
            if Revision::parse(&key).unwrap().main > 400 {
                continue;
            }
            let mut damaged = member.clone();
            damaged.file[byte(element)] ^= bit;
            let outcome = salvage(&[&damaged.file]);
            let what = format!("{what} of {:?}", Revision::parse(&key));
            lacks_only(&outcome, &member, &key, &what);
            assert!(outcome.records.contains_key(&key), "{what}: not found");
        }
    }
}

#[test]
fn a_count_that_a_bit_is_wrong_in_hides_nothing() {
    let member = compacted();
    for flags in [1, 2] {
        for page in pages(&member.file, flags) {
            for bit in [0, 1, 2, 5, 9, 15] {
                let mut damaged = member.clone();
                damaged.file[page * PAGE + 10 + bit / 8] ^= 1 << (bit % 8);
                let outcome = salvage(&[&damaged.file]);
                outcome.has_exactly(&member.space.records);
            }
        }
    }
}

#[test]
fn a_place_that_a_bit_is_wrong_in_costs_that_element_at_most() {
    let member = compacted();
    for element in elements(&member.file).iter().step_by(11) {
        for bit in [0, 3, 7, 10] {
            let mut damaged = member.clone();
            damaged.file[element.entry + 4 + bit / 8] ^= 1 << (bit % 8);
            let outcome = salvage(&[&damaged.file]);
            let what = format!("bit {bit} of element {} on page {}", element.index, element.page);
            lacks_only(&outcome, &member, &member.file[element.key..][..element.key_bytes], &what);
        }
    }
}

#[test]
fn a_place_within_a_revision_that_nothing_leads_up_to_is_said_to_be_wrong() {
    let member = compacted();
    for element in elements(&member.file).iter().step_by(5) {
        let key = &member.file[element.key..][..element.key_bytes];
        if Revision::parse(key).unwrap().main <= 200 {
            continue;
        }
        for (byte, bit) in [(10, 1), (14, 0x80), (15, 0x40), (16, 1)] {
            let mut damaged = member.clone();
            damaged.file[element.key + byte] ^= bit;
            let outcome = salvage(&[&damaged.file]);
            let loses = outcome.report.account.loses;
            assert_eq!(outcome.report.exit_code(), 3);
            assert!((1..10).contains(&(loses.revisions + loses.records)), "{loses:?}");
        }
    }
}
