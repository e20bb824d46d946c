//! What the way that was taken has and lacks, and the file that was written.

use snapshot::humanize;
use snapshot::salvage::report::{Account, BucketOrigin, BucketReport, HoleReport, LostKey, OutputReport};
use snapshot::salvage::{Report, Trust};

use super::words::{are, counted, grouped, listed, named, revisions};
use crate::page::Page;
use crate::shown::shown;

/// Most ranges in one line.
const MOST_RANGES: usize = 8;
/// Most gaps and keys that get a line each.
const MOST_LINES: usize = 10;

/// What is certainly lost, in a few words.
pub(super) fn certain(report: &Report) -> String {
    let account = &report.account;
    let loses = &account.loses;
    let halves = account.halves().min(loses.revisions);
    let mut what = Vec::new();
    match loses.revisions - halves {
        0 => {}
        whole => what.push(format!("{} {} missing", counted(whole, "revision"), are(whole))),
    }
    match halves {
        0 => {}
        1 => what.push("1 transaction comes out in half".to_owned()),
        many => what.push(format!("{} transactions come out in half", grouped(many))),
    }
    match account.missing_records {
        0 => {}
        lost if what.is_empty() => what.push(format!("{} {} lost", counted(lost, "record"), are(lost))),
        lost => what.push(format!(
            "{} {} lost beside those of missing revisions",
            counted(lost, "record"),
            are(lost)
        )),
    }
    match loses.records.saturating_sub(account.missing_records) {
        0 => {}
        1 => what.push("1 record was found that is not in it whole".to_owned()),
        many => what.push(format!("{} records were found that are not in it whole", grouped(many))),
    }
    if loses.entries > 0 {
        let entries = if loses.entries == 1 { "entry" } else { "entries" };
        what.push(format!("{} committed {entries} of the log cannot be applied", grouped(loses.entries)));
    }
    what.join(", ")
}

/// The account.
pub(super) fn of(report: &Report) -> String {
    let account = &report.account;
    let mut page = Page::default();
    let way = report.chosen_way().map_or("", |way| way.name.as_str());
    page.title(&format!("Account of way {}: {way}", report.chosen));
    let compacted = match account.compact_revision {
        Some(revision) => format!("; compacted at {}", grouped(revision)),
        None => String::new(),
    };
    page.line(
        "records",
        &format!(
            "{}, revisions {} to {}{compacted}",
            grouped(account.records),
            grouped(account.first_revision),
            grouped(account.last_revision)
        ),
    );
    page.line(
        "of these",
        &format!(
            "{} confirmed (a second copy or the log says the same), {} single (one whole copy), {} suspect",
            grouped(account.confirmed),
            grouped(account.single),
            grouped(account.suspect)
        ),
    );
    if account.from_log > 0 {
        page.line("from the log", &counted(account.from_log, "record"));
    }
    if account.beyond > 0 {
        page.line(
            "beyond",
            &format!("{} newer than the newest tree knows", counted(account.beyond, "record")),
        );
    }
    missing(&mut page, account);
    left_out(&mut page, account);
    buckets(&mut page, &account.buckets);
    if let Some(output) = &report.output {
        of_output(&mut page, output);
    }
    page.text()
}

fn missing(page: &mut Page, account: &Account) {
    if !account.loses.is_certain() {
        page.line("missing", "nothing that is known to have been there");
    }
    if account.missing_revisions > 0 {
        page.line(
            "missing",
            &format!(
                "{}: {}",
                counted(account.missing_revisions, "revision"),
                listed(account.missing.iter().map(revisions), MOST_RANGES, account.more_missing)
            ),
        );
    }
    if account.halves() > 0 {
        let revisions = account.half_revisions.iter().map(|revision| grouped(*revision));
        page.line(
            "in half",
            &format!(
                "{}, of {}",
                counted(account.halves(), "transaction"),
                listed(revisions, MOST_RANGES, account.more_half_revisions)
            ),
        );
    }
    if account.missing_records > 0 {
        page.line(
            "nowhere",
            &format!(
                "{} that certainly existed, beside those of missing revisions",
                counted(account.missing_records, "record")
            ),
        );
    }
    if account.superseded > 0 {
        page.line(
            "history",
            &format!(
                "{} of what is missing {} written over later, as the versions of what is there tell",
                counted(account.superseded, "record"),
                if account.superseded == 1 { "was" } else { "were" }
            ),
        );
    }
    if account.exposed_keys > 0 {
        page.line(
            "keys",
            &format!(
                "{} of {} were not written after what is missing, and may be older than they should be, or may have been deleted",
                grouped(account.exposed_keys),
                grouped(account.keys)
            ),
        );
    }
    let mut name = "gaps";
    for hole in account.holes.iter().take(MOST_LINES) {
        page.line(name, &gap(hole, account.loses.is_certain()));
        name = "";
    }
    more(page, account.holes.len(), account.more_holes);
    let mut name = "keys hit";
    for key in account.lost_keys.iter().take(MOST_LINES) {
        page.line(name, &lost(key));
        name = "";
    }
    more(page, account.lost_keys.len(), account.more_lost_keys);
}

fn more(page: &mut Page, listed: usize, more: u64) {
    let more = (listed.saturating_sub(MOST_LINES) as u64).saturating_add(more);
    if more > 0 {
        page.more(&format!("and {} more (--report has them)", grouped(more)));
    }
}

fn gap(hole: &HoleReport, is_loss_certain: bool) -> String {
    let where_is = match (hole.from, hole.to) {
        (None, None) => "all revisions".to_owned(),
        (None, Some(to)) => format!("up to revision {}", grouped(to)),
        (Some(from), None) => format!("from revision {} on", grouped(from)),
        (Some(from), Some(to)) if from == to => format!("revision {}", grouped(from)),
        (Some(from), Some(to)) => format!("revisions {} to {}", grouped(from), grouped(to)),
    };
    let rest = if hole.is_open {
        "; whether there was more is not known"
    } else if is_loss_certain {
        "; what is missing of it is counted above"
    } else {
        "; nothing of it is missing"
    };
    let found = match hole.filled {
        0 => "nothing".to_owned(),
        filled => counted(filled, "record"),
    };
    format!("{where_is} ({}): {found} found elsewhere{rest}", shown(&hole.fault))
}

fn lost(key: &LostKey) -> String {
    let LostKey { key, revision, is_newest, stands_in, .. } = key;
    let revision = grouped(*revision);
    match (is_newest, stands_in) {
        (true, Some(older)) => format!(
            "{key}: its value of revision {revision} is lost, and the older one of {} stands in for it",
            grouped(*older)
        ),
        (true, None) => {
            format!("{key}: its value of revision {revision} is lost, and the key is gone with it")
        }
        (false, _) => format!("{key}: an older value, of revision {revision}, is lost"),
    }
}

fn left_out(page: &mut Page, account: &Account) {
    let dropped = &account.dropped;
    let kinds = [
        (dropped.compacted, "that a compaction had removed (--include-compacted brings them back)"),
        (dropped.foreign, "that the newest tree should have and does not: of another history"),
        (dropped.beyond, "newer than the tree of this way"),
        (dropped.unfilled, "that belong into gaps this way does not fill"),
        (dropped.torn, "of which a part is missing"),
    ];
    let mut name = "left out";
    for (count, what) in kinds.into_iter().filter(|(count, _)| *count > 0) {
        page.line(name, &format!("{} {what}", counted(count, "record")));
        name = "";
    }
    if account.resurrected > 0 {
        page.line(
            "brought back",
            &format!("{} that a compaction had removed", counted(account.resurrected, "record")),
        );
    }
    if account.disagreements > 0 {
        page.line(
            "disagree",
            &format!(
                "the copies of {}; the one that more or better copies have was taken",
                counted(account.disagreements, "revision")
            ),
        );
    }
}

/// Buckets of which nothing is to be said share a line.
fn buckets(page: &mut Page, buckets: &[BucketReport]) {
    let is_plain = |bucket: &&BucketReport| {
        bucket.lost_rows == 0 && bucket.notes.is_empty() && bucket.from != BucketOrigin::Default
    };
    let plain: Vec<&BucketReport> = buckets.iter().filter(is_plain).collect();
    let mut name = "buckets";
    let mut kinds: Vec<(BucketOrigin, Trust)> = Vec::new();
    for bucket in &plain {
        if kinds.contains(&(bucket.from, bucket.trust)) {
            continue;
        }
        kinds.push((bucket.from, bucket.trust));
        let alike = plain.iter().filter(|other| (other.from, other.trust) == (bucket.from, bucket.trust));
        let alike: Vec<String> =
            alike.map(|bucket| format!("{} {}", bucket.name, grouped(bucket.rows))).collect();
        page.line(
            name,
            &format!("{} (rows), {}, {}", alike.join(", "), origin(bucket.from), trust(bucket.trust)),
        );
        name = "";
    }
    for bucket in buckets.iter().filter(|bucket| !is_plain(bucket)) {
        of_bucket(page, bucket);
    }
}

const fn origin(from: BucketOrigin) -> &'static str {
    match from {
        BucketOrigin::Tree => "from the tree",
        BucketOrigin::OtherGeneration => "from another generation of the file",
        BucketOrigin::Log => "brought up to date by the log",
        BucketOrigin::Default => "nothing found, so made anew",
    }
}

const fn trust(trust: Trust) -> &'static str {
    match trust {
        Trust::Confirmed => "confirmed",
        Trust::Single => "single",
        Trust::Suspect => "suspect",
    }
}

fn of_bucket(page: &mut Page, bucket: &BucketReport) {
    let lost = match bucket.lost_rows {
        0 => String::new(),
        lost => format!("; {} lost", counted(lost, "row")),
    };
    page.line(
        "bucket",
        &format!(
            "{}: {}, {}, {}{lost}",
            bucket.name,
            counted(bucket.rows, "row"),
            origin(bucket.from),
            trust(bucket.trust)
        ),
    );
    for note in &bucket.notes {
        page.more(note);
    }
}

fn of_output(page: &mut Page, output: &OutputReport) {
    page.line(
        "written",
        &format!(
            "{}: {}, {} and {} at revision {}, entry {}; read back and checked",
            named(&output.path),
            humanize::bytes(output.len_bytes),
            counted(output.keys, "key"),
            counted(output.records, "record"),
            grouped(output.revision),
            grouped(output.consistent_index)
        ),
    );
    page.more(&format!("sha256 {}", shown(&output.sha256)));
}
