//! Surgery on files of any bytes.

use bbolt::page_file::PageFile;
use bbolt::surgery::{Accepted, MetaField, Operation};
use bbolt::{Db, PageId, check};

/// Bytes of one operation in the input: what, with what accepted, and three numbers.
const OPERATION_BYTES: usize = 8;
/// Operations done one after the other.
const MOST_OPERATIONS: usize = 4;

/// The first bytes, up to a zero where an operation would begin, are operations; what follows is the file. Each operation must
/// end, write nothing but what it says, and leave what can be opened and checked without a panic.
pub(crate) fn operate(bytes: &[u8]) {
    let mut operations = Vec::new();
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first_chunk::<OPERATION_BYTES>() {
        if head[0] == 0 || operations.len() == MOST_OPERATIONS {
            break;
        }
        operations.push(*head);
        rest = tail;
    }
    let mut file = rest.get(1..).unwrap_or_default().to_vec();
    for head in operations {
        let Some(edited) = step(&file, head) else { continue };
        file = edited;
    }
}

fn step(file: &[u8], head: [u8; OPERATION_BYTES]) -> Option<Vec<u8>> {
    let [what, accepted, a_low, a_high, b_low, b_high, c, d] = head;
    // A number that means a page near the start, or one that can be nowhere.
    let number = |low: u8, high: u8| match high {
        0xFF => u64::MAX - u64::from(low),
        high => u64::from(u16::from_le_bytes([low, high])),
    };
    let (a, b) = (number(a_low, a_high), number(b_low, b_high));
    let page = PageId(a);
    let operation = match what % 8 {
        1 => Operation::RevertMetaPage,
        2 => Operation::CopyPage { from: page, to: PageId(b) },
        3 => Operation::ClearPage { page },
        4 => {
            let end = (d != 0xFF).then_some(u32::from(d));
            Operation::ClearPageElements { page, start: u32::from(c), end }
        }
        5 => Operation::AbandonFreelist,
        6 => Operation::RebuildFreelist,
        _ => {
            let field = MetaField::ALL[usize::from(c % 4)];
            let value =
                if field == MetaField::PageSize { 1u64.checked_shl(d.into()).unwrap_or(a) } else { a };
            Operation::UpdateMeta { slot: b, fields: vec![(field, value)] }
        }
    };
    let accepted = Accepted { loss: accepted & 1 != 0, invalid_meta: accepted & 2 != 0 };
    let page_size = (accepted.loss && c & 0x80 != 0).then_some(1024);
    let pages = PageFile::new(file, page_size).ok()?;
    let edit = match operation.plan(&pages, accepted, &()) {
        Ok(edit) => edit,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let page_size = u64::from(pages.page_size());
    let mut written = Vec::new();
    for write in edit.writes() {
        assert_eq!(write.offset % page_size, 0, "a write that does not start a page");
        assert!(edit.changes().iter().any(|change| pages.offset_of(change.page) == write.offset));
        written.push((write.offset, write.offset + write.bytes.len() as u64));
    }
    written.sort_unstable();
    assert!(written.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two writes overlap");
    for change in edit.changes() {
        assert!(!change.to_string().is_empty());
    }
    for warning in edit.warnings() {
        assert!(!warning.to_string().is_empty());
    }
    let mut edited = file.to_vec();
    edit.apply_to_vec(&mut edited);
    let was_sound = Db::from_source(file).is_ok_and(|db| check(&db, &()).is_sound());
    let keeps_whole = matches!(operation, Operation::RebuildFreelist | Operation::AbandonFreelist);
    if let Ok(db) = Db::from_source(edited.as_slice()) {
        let report = check(&db, &());
        assert!(
            !(was_sound && keeps_whole && !accepted.invalid_meta) || report.is_sound(),
            "{operation:?} broke a sound file: {:?}",
            report.findings.first()
        );
    }
    Some(edited)
}
