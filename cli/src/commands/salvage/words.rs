//! Numbers and names as people read them, and the last words.

use std::path::Path;

use snapshot::salvage::Report;
use snapshot::salvage::report::{ByteRange, RevisionRange};

use super::{Done, SalvageArgs};
use crate::outcome::Note;
use crate::shown::shown;

/// `number` in groups of three digits.
pub(super) fn grouped(number: impl TryInto<i128>) -> String {
    let number = number.try_into().unwrap_or_default();
    let digits = number.unsigned_abs().to_string();
    let mut out = if number < 0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `count` of what is called `one`, with an s unless it is one.
pub(super) fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(count))
}

/// `are` for all numbers but one, for which it is `is`.
pub(super) const fn are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// `path` in a line of text.
pub(super) fn named(path: &Path) -> String {
    shown(&path.display().to_string())
}

/// The first `most` of `items`, of which there are `more` than those, and where the rest is.
pub(super) fn listed(items: impl ExactSizeIterator<Item = String>, most: usize, more: u64) -> String {
    let more = (items.len().saturating_sub(most) as u64).saturating_add(more);
    let mut text = items.take(most).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {} more (--report has them)", grouped(more));
    }
    text
}

/// Revisions in a row.
pub(super) fn revisions(range: &RevisionRange) -> String {
    if range.from == range.to {
        grouped(range.from)
    } else {
        format!("{} to {}", grouped(range.from), grouped(range.to))
    }
}

/// Bytes of a file.
pub(super) fn bytes(range: &ByteRange) -> String {
    format!("{:#x} to {:#x}", range.from, range.to)
}

/// What is said last, on stderr.
pub(super) fn last(report: &Report, done: Done, args: &SalvageArgs) -> Vec<Note> {
    match done {
        Done::Refused => vec![Note::Warning(format!(
            "Refused: something is certainly lost: {}. Nothing was written; --accept-loss writes what was found",
            super::account::certain(report)
        ))],
        Done::DryRun => {
            let kept = match &args.report {
                Some(file) => format!(" but the report {}", named(file)),
                None => String::new(),
            };
            vec![Note::Prose(format!("Dry run: nothing was written{kept}."))]
        }
        Done::Written => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups() {
        let all = [0, 7, 999, 1_000, 1_234_567, -12_345].map(|number: i64| grouped(number));
        assert_eq!(all, ["0", "7", "999", "1,000", "1,234,567", "-12,345"]);
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!((counted(1, "key"), counted(2_000, "key")), ("1 key".to_owned(), "2,000 keys".to_owned()));
    }

    #[test]
    fn long_lists_end_with_the_number_of_the_rest() {
        let items = || ["a", "b", "c"].map(str::to_owned).into_iter();
        assert_eq!(listed(items(), 3, 0), "a, b, c");
        assert_eq!(listed(items(), 2, 1_000), "a, b and 1,001 more (--report has them)");
    }
}
