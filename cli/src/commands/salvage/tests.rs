//! How a report reads, from reports made by hand.

use clap::Parser;
use insta::assert_snapshot;
use snapshot::salvage::report::{
    Account, BucketOrigin, BucketReport, ByteRange, Dropped, Histogram, HoleReport, InputKind, InputReport,
    Known, LogReport, Losses, LostKey, MetaReport, Origin, OutputReport, RevisionRange, TreeReport, WayKind,
    WayReport,
};
use snapshot::salvage::{Report, Trust};

use super::{Done, SalvageArgs, result};
use crate::output::Format;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SalvageArgs,
}

fn args(line: &str) -> SalvageArgs {
    Line::try_parse_from(format!("salvage {line}").split(' ')).unwrap().args
}

fn input(path: &str) -> InputReport {
    let valid = MetaReport {
        slot: 0,
        transaction: Some(51_202),
        root_page: Some(77),
        high_water_mark: Some(2_600),
        fault: None,
    };
    InputReport {
        path: path.into(),
        file: format!("{path}/member/snap/db").into(),
        kind: InputKind::Member,
        len_bytes: 10_649_600,
        has_trailer: false,
        page_size: 4096,
        is_page_size_guessed: false,
        first_page: 0,
        pages: 2_600,
        bad_ranges: Vec::new(),
        bad_bytes: 0,
        metas: vec![valid],
        histogram: Histogram { meta: 1, key_leaves: 2_000, branches: 9, ..Histogram::default() },
        notes: Vec::new(),
    }
}

fn tree() -> TreeReport {
    TreeReport {
        input: 0,
        origin: Origin::NewestMeta,
        root_page: 77,
        consistent_index: 60_201,
        term: Some(3),
        revision: 51_002,
        compact_revision: Some(40_000),
        leaves: 1_700,
        holes: Vec::new(),
        more_holes: 0,
        is_sound: false,
    }
}

fn way(number: usize, name: &str, loses: Losses) -> WayReport {
    WayReport {
        number,
        kind: WayKind::Leaves,
        name: name.to_owned(),
        tree: Some(0),
        records: 31_000,
        last_revision: 51_002,
        loses,
        notes: Vec::new(),
    }
}

fn bucket(name: &str, rows: u64, from: BucketOrigin, lost_rows: u64, notes: &[&str]) -> BucketReport {
    let notes = notes.iter().map(|note| (*note).to_owned()).collect();
    BucketReport { name: name.to_owned(), rows, from, trust: Trust::Single, lost_rows, notes }
}

fn known() -> Known {
    Known {
        records: 31_000,
        first_revision: 17,
        last_revision: 51_002,
        compact_revision: Some(40_000),
        copies: 50_000,
        copied_revisions: 12_000,
        disagreements: 1,
    }
}

/// A file without a log that has lost some pages for good.
fn hit() -> Report {
    let loses = Losses { revisions: 14, records: 4, entries: 0, open_holes: 1, small: 3, suspect: 2 };
    let hole = HoleReport {
        from: Some(17),
        to: Some(39_000),
        page: 412,
        fault: "page type 0".to_owned(),
        filled: 20,
        is_open: true,
        is_newer: false,
    };
    let lost = |key: &str, is_newest, stands_in| LostKey {
        key: key.to_owned(),
        revision: 50_001,
        sub: 0,
        is_newest,
        stands_in,
    };
    let torn = MetaReport {
        slot: 1,
        transaction: None,
        root_page: None,
        high_water_mark: None,
        fault: Some("checksum 0, not 7fa3".to_owned()),
    };
    let mut first = input("/mnt/n1");
    first.metas.push(torn);
    first.bad_ranges = vec![ByteRange { from: 0x40_0000, to: 0x40_1000 }];
    first.bad_bytes = 4_096;
    first.histogram.unreached_key_leaves = 300;
    first.histogram.unreadable = 1;
    let mut holed = tree();
    holed.holes = vec![hole.clone()];
    let account = Account {
        records: 31_000,
        confirmed: 12_000,
        single: 18_998,
        suspect: 2,
        first_revision: 17,
        last_revision: 51_002,
        compact_revision: Some(40_000),
        missing_revisions: 12,
        missing: vec![RevisionRange { from: 50_001, to: 50_011 }, RevisionRange { from: 50_100, to: 50_100 }],
        missing_records: 3,
        half_revisions: vec![50_099, 50_101],
        keys: 4_000,
        exposed_keys: 812,
        superseded: 5,
        holes: vec![hole],
        lost_keys: vec![
            lost("/registry/pods/a", true, Some(49_000)),
            lost("/registry/leases/b", true, None),
            lost("/registry/pods/c", false, Some(51_000)),
        ],
        dropped: Dropped { compacted: 7_000, torn: 1, ..Dropped::default() },
        disagreements: 1,
        buckets: vec![
            bucket("meta", 3, BucketOrigin::Tree, 0, &[]),
            bucket("authUsers", 0, BucketOrigin::Default, 2, &["authentication is off in what is written"]),
            bucket("lease", 4, BucketOrigin::OtherGeneration, 1, &[]),
        ],
        loses,
        ..Account::default()
    };
    Report {
        inputs: vec![first],
        logs: Vec::new(),
        trees: vec![holed],
        reference: Some(0),
        known: known(),
        ways: vec![
            way(1, "leaves", loses),
            way(2, "newest meta", Losses { revisions: 40, open_holes: 1, ..Losses::default() }),
        ],
        chosen: 1,
        account,
        output: None,
        findings: Vec::new(),
    }
}

/// The same with its log, which has all of it.
fn healed() -> Report {
    let mut report = hit();
    let last_revision = 51_040;
    report.logs = vec![LogReport {
        path: "/mnt/n1/member/wal".into(),
        first_index: Some(1),
        last_index: Some(60_244),
        commit_index: Some(60_243),
        notes: Vec::new(),
    }];
    report.ways.insert(0, WayReport { last_revision, ..way(1, "log alone", Losses::default()) });
    report.account = Account {
        records: 31_040,
        confirmed: 31_040,
        from_log: 31_040,
        first_revision: 17,
        last_revision,
        ..Account::default()
    };
    report.output = Some(OutputReport {
        path: "saved.db".into(),
        len_bytes: 9_000_000,
        sha256: "ab".repeat(32),
        revision: last_revision,
        keys: 900,
        records: 31_040,
        consistent_index: 60_244,
    });
    report
}

#[test]
fn a_loss_that_was_not_accepted() {
    let args = args("/mnt/n1 --bad-map db.map -o saved.db");
    assert_snapshot!(result(&hit(), Done::Refused, &args, Format::Simple).unwrap());
}

#[test]
fn nothing_lost() {
    let args = args("/mnt/n1 -o saved.db");
    assert_snapshot!(result(&healed(), Done::Written, &args, Format::Simple).unwrap());
}
