//! Made-up data for tests of the report: a cluster of three that parts, and whatever could break a page.

use super::{Bin, CaseFacts, Data, Examined, Pair, Prefix, Sample, Seal, Version};
use crate::case::Command;
use crate::custody::SealState;
use crate::rows::Diff;
use crate::source::{
    Checked, FindingRow, Identity, KeySpace, LogSummary, MemberRow, PageMap, PageRun, PageUse, SnapRow,
    Source, SourceFile, TermRun, Verdict,
};

/// 64 digits that look like a hash.
fn digest(seed: u64) -> String {
    let digit = |index: u64| {
        format!("{:x}", (seed.wrapping_mul(2_654_435_761).wrapping_add(index * 40_503) >> 7) & 15)
    };
    (0..64).map(digit).collect()
}

fn file(path: &str, len_bytes: u64) -> SourceFile {
    let sha256 = digest(len_bytes + path.len() as u64);
    SourceFile {
        path: path.to_owned(),
        len_bytes,
        sha256,
        modified: (1_700_000_000, 0),
        unpacked: None,
        unreadable: None,
    }
}

/// One sound member, whose database has 1440 pages.
pub(super) fn examined(name: &str) -> Examined {
    let member = |id, name: &str| MemberRow {
        id,
        name: name.to_owned(),
        peer_urls: vec![format!("https://{name}.example:2380")],
        client_urls: vec![format!("https://{name}.example:2379")],
        is_learner: false,
        in_raft: Some(true),
        in_database: true,
    };
    let source = Source {
        number: 0,
        name: name.to_owned(),
        path: format!("/mnt/{name}/var/lib/etcd"),
        wal_dir: None,
        what: "data dir".to_owned(),
        files: vec![
            file("member/snap/db", 1440 * 4096),
            file("member/snap/0000000000000002-0000000000000fa0.snap", 4_211),
            file("member/wal/0000000000000000-0000000000000000.wal", 64_001_024),
            file("member/wal/0000000000000001-0000000000000a3c.wal", 64_000_000),
        ],
        links: Vec::new(),
        database: Some(0),
        identity: Identity {
            member: Some(0x6b71_6060_8ed2_c2e8),
            cluster: Some(0x1f9e_56a1_92f9_efd2),
            name: Some(name.to_owned()),
            written_by: Some("3.5".to_owned()),
            cluster_version: Some("3.5.0".to_owned()),
        },
        key_space: Some(KeySpace {
            records: 5_210,
            keys: 812,
            live_keys: 790,
            value_bytes: 2_911_022,
            first: 2,
            last: 4_237,
            revision: 4_237,
            compacted: Some(1_200),
            consistent_index: 4_251,
            term: Some(3),
            unreadable: 0,
            holes: Vec::new(),
        }),
        log: Some(LogSummary {
            entries: 4_252,
            first: Some(1),
            last: Some(4_252),
            commit: 4_251,
            term: 3,
            terms: vec![
                TermRun { first: 1, last: 4, term: 1 },
                TermRun { first: 5, last: 2_911, term: 2 },
                TermRun { first: 2_912, last: 4_252, term: 3 },
            ],
            snapshots: vec![(0, 0), (4_000, 3)],
            segments: vec![2, 3],
        }),
        pages: Some(PageMap {
            page_size: 4096,
            pages: 1440,
            buckets: ["key", "lease", "members", "meta", "auth"].map(str::to_owned).to_vec(),
            free_pages: 300,
            damaged_pages: 0,
        }),
        members: vec![
            member(0x6b71_6060_8ed2_c2e8, "n1"),
            member(0x3fe4_b3a4_dda9_01c1, "n2"),
            member(0x3e2f_70db_3bda_20b4, "n3"),
        ],
        snaps: vec![SnapRow {
            file: 1,
            kind: "snap".to_owned(),
            index: Some(4_000),
            term: Some(3),
            fault: None,
        }],
        verdict: Verdict {
            outlook: "boots-as-is".to_owned(),
            reasons: Vec::new(),
            release: "3.5".to_owned(),
            next: format!("snapshot save /mnt/{name}/var/lib/etcd -o saved.db"),
            purpose: "makes a snapshot of it".to_owned(),
        },
        checked: vec![
            Checked { what: "pages".to_owned(), done: true, detail: "all 1440 of them".to_owned() },
            Checked { what: "records of the key space".to_owned(), done: true, detail: "5210".to_owned() },
            Checked { what: "alarms".to_owned(), done: false, detail: "there is no such bucket".to_owned() },
        ],
        findings: Vec::new(),
        more_findings: 0,
        has_values: false,
        examiner: Some("A. Examiner".to_owned()),
        note: Some("disks 1 to 3 of rack 4, received sealed".to_owned()),
    };
    Examined { source, pages: pages(1440), space: space(), history: history(2, 4_237) }
}

fn pages(all: u64) -> Vec<PageRun> {
    let (mut runs, mut first, mut step) = (Vec::new(), 0, 7_u64);
    let mut push = |pages: u64, usage| {
        runs.push(PageRun { first, pages, usage });
        first += pages;
        first
    };
    push(2, PageUse::Meta);
    push(3, PageUse::Freelist);
    push(1, PageUse::Leaf(3));
    loop {
        step = step.wrapping_mul(25_214_903_917).wrapping_add(11) % (1 << 48);
        let usage = match step % 17 {
            0 => PageUse::Branch,
            1 => PageUse::Leaf(1),
            2 => PageUse::Leaf(2),
            3 | 4 => PageUse::Free,
            _ => PageUse::Leaf(0),
        };
        let at = push(1 + step % 13, usage);
        if at >= all {
            break;
        }
    }
    let over = first - all;
    if let Some(last) = runs.last_mut() {
        last.pages -= over;
    }
    runs
}

fn prefix(name: &str, live: u64, history: u64, below: Vec<Prefix>) -> Prefix {
    Prefix {
        name: name.to_owned(),
        is_rest: !name.starts_with('/'),
        live_keys: live / 900 + 1,
        live_bytes: live,
        history_records: history / 700,
        history_bytes: history,
        below,
    }
}

fn space() -> Vec<Prefix> {
    let pods = vec![
        prefix("/registry/pods/kube-system/", 402_000, 610_000, Vec::new()),
        prefix("/registry/pods/default/", 122_000, 93_000, Vec::new()),
        prefix("/registry/pods/monitoring/", 88_000, 41_000, Vec::new()),
        prefix("9 others", 21_000, 4_000, Vec::new()),
    ];
    vec![
        prefix("/registry/pods/", 633_000, 748_000, pods),
        prefix("/registry/events/", 512_000, 0, Vec::new()),
        prefix("/registry/leases/", 61_000, 880_000, Vec::new()),
        prefix("/registry/secrets/", 240_000, 12_000, Vec::new()),
        prefix("/registry/configmaps/", 310_000, 33_000, Vec::new()),
        prefix("/registry/minions/", 22_000, 181_000, Vec::new()),
        prefix("/registry/deployments/", 74_000, 31_000, Vec::new()),
        prefix("/registry/replicasets/", 91_000, 12_000, Vec::new()),
        prefix("/registry/services/", 18_000, 2_000, Vec::new()),
        prefix("31 others", 52_000, 9_000, Vec::new()),
    ]
}

fn history(from: i64, to: i64) -> Vec<Bin> {
    let width = (to - from) / 200 + 1;
    (0..200)
        .map(|bin| from + bin * width)
        .take_while(|first| *first <= to)
        .map(|first| Bin {
            first,
            last: (first + width - 1).min(to),
            records: if first < 1_200 {
                u64::try_from(first * 7 % 5).unwrap()
            } else {
                20 + u64::try_from(first * 31 % 17).unwrap()
            },
        })
        .collect()
}

fn version(key: &str, number: i64, value: &str) -> Option<Version> {
    Some(Version {
        key: key.as_bytes().to_vec(),
        deleted: value.is_empty(),
        version: number,
        value_len: value.len() as u64,
        value_hash: Some(digest(value.len() as u64)[..32].to_owned()),
        value: Some(value.as_bytes().to_vec()),
        place: "member/snap/db, offset 1212416, page 296".to_owned(),
    })
}

/// A cluster of three: one sound, one that is behind, one that parts from the others and is damaged.
pub(super) fn typical() -> Data {
    let one = examined("n1");
    let mut two = examined("n2");
    two.source.number = 1;
    let space = two.source.key_space.as_mut().unwrap();
    (space.revision, space.last, space.records, space.consistent_index) = (1_787, 1_787, 2_210, 1_800);
    let log = two.source.log.as_mut().unwrap();
    log.terms = vec![TermRun { first: 1, last: 4, term: 1 }, TermRun { first: 5, last: 1_810, term: 2 }];
    (log.entries, log.last, log.commit, log.term) = (1_810, Some(1_810), 1_809, 2);
    two.source.snaps.clear();
    two.source.verdict.outlook = "boots-with-loss".to_owned();
    two.source.verdict.reasons =
        vec!["a server cuts 512 bytes off 0000000000000001-0000000000000a3c.wal".to_owned()];
    two.source.findings =
        vec![finding("WAL-TORN", "warning", "record 1811 is cut off by the end of the file", 3, 9_120)];
    two.history = history(2, 1_787);
    let mut three = examined("n3");
    three.source.number = 2;
    three.source.verdict.outlook = "needs-repair".to_owned();
    three.source.verdict.reasons = vec!["page 296 of the database is damaged".to_owned()];
    let space = three.source.key_space.as_mut().unwrap();
    space.holes = vec![(2_100, Some(2_160))];
    let mut rest = three.pages.split_off(40);
    for run in rest.iter_mut().take(3) {
        run.usage = PageUse::Damaged;
    }
    three.pages.append(&mut rest);
    three.source.findings = vec![
        finding("BBOLT-PAGE", "error", "page 296 calls itself 4096", 0, 296 * 4096),
        finding(
            "ETCD-RECORD",
            "error",
            "bucket key: the value of revision 2100 is no key-value",
            0,
            1_212_416,
        ),
        finding("ETCD-CONSISTENT-INDEX", "warning", "the database is 16 entries behind its log", 0, 8_192),
    ];
    Data {
        case: CaseFacts {
            name: "incident-2041.case".to_owned(),
            schema: 1,
            tool: "etcd-rescue 0.1.0".to_owned(),
            commands: vec![
                Command {
                    line: "etcd-rescue case new incident-2041.case".to_owned(),
                    tool: "etcd-rescue 0.1.0".to_owned(),
                    added: Vec::new(),
                },
                Command {
                    line: "etcd-rescue case add incident-2041.case n1=/mnt/n1/var/lib/etcd n2=/mnt/n2/var/lib/etcd \
                           n3=/mnt/n3/var/lib/etcd"
                        .to_owned(),
                    tool: "etcd-rescue 0.1.0".to_owned(),
                    added: ["n1", "n2", "n3"].map(str::to_owned).to_vec(),
                },
            ],
            seal: Some(Seal { sha256: digest(99), state: SealState::Holds }),
        },
        sources: vec![one, two, three],
        partings: vec![
            Pair {
                one: "n1".to_owned(),
                other: "n2".to_owned(),
                diff: Diff {
                    from: 1_200,
                    to: 1_787,
                    same: 588,
                    tail: 2_450,
                    log_common: Some((1, 1_810)),
                    ..Diff::default()
                },
                samples: Vec::new(),
            },
            Pair {
                one: "n1".to_owned(),
                other: "n3".to_owned(),
                diff: Diff {
                    from: 1_200,
                    to: 4_237,
                    same: 2_970,
                    missing: 61,
                    differs: 7,
                    part: Some(2_100),
                    log_common: Some((1, 4_252)),
                    ..Diff::default()
                },
                samples: vec![
                    Sample {
                        main: 2_100,
                        sub: 0,
                        one: version("/registry/secrets/default/token-x2", 4, "hunter2-secret-value"),
                        other: None,
                    },
                    Sample {
                        main: 3_004,
                        sub: 1,
                        one: version("/registry/pods/default/web-1", 9, "{\"phase\":\"Running\"}"),
                        other: version("/registry/pods/default/web-1", 9, ""),
                    },
                ],
            },
        ],
    }
}

fn finding(code: &str, severity: &str, message: &str, file: usize, offset: u64) -> FindingRow {
    FindingRow {
        code: code.to_owned(),
        severity: severity.to_owned(),
        message: message.to_owned(),
        file: Some(file),
        offset: Some(offset),
    }
}

/// What could break a page: markup everywhere, words without an end, numbers at their limits, many of everything.
pub(super) fn hostile() -> Data {
    let markup =
        "</style></svg><script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&\u{202e}\u{0}";
    let long = "w".repeat(3_000);
    let mut data = typical();
    data.case.name = format!("{markup}{long}.case");
    data.case.commands[0].line = format!("{markup} {long}");
    let mut sources = Vec::new();
    for number in 0..9_u32 {
        let mut of = data.sources[usize::try_from(number % 3).unwrap()].clone();
        of.source.number = number;
        of.source.name = format!("source-{number}-{}", &long[..60]);
        of.source.path = format!("/{markup}/{long}");
        of.source.files[0].path = format!("{long}{markup}");
        of.source.note = Some(format!("{long}{markup}"));
        of.source.identity.name = Some(format!("{markup}{long}"));
        of.source.members[0].name = markup.to_owned();
        of.source.members[1].peer_urls = vec![format!("http://{long}")];
        of.source.findings.push(finding(markup, "error", &format!("{long} {markup}"), 99, u64::MAX));
        of.source.pages.as_mut().unwrap().buckets[1] = format!("{markup}{long}");
        of.space[1].name = format!("/{markup}{long}");
        let log = of.source.log.as_mut().unwrap();
        let run = |term: u64| TermRun { first: term * 1_000, last: term * 1_000 + 999, term };
        log.terms = (1..2_000).map(run).collect();
        log.terms.push(TermRun { first: u64::MAX - 1, last: u64::MAX, term: u64::MAX });
        of.source.key_space.as_mut().unwrap().revision = i64::MAX;
        of.history.push(Bin { first: i64::MAX - 9, last: i64::MAX, records: u64::MAX });
        of.pages.push(PageRun { first: 1_440, pages: 1 << 50, usage: PageUse::Free });
        sources.push(of);
    }
    for pair in &mut data.partings {
        pair.one = sources[0].source.name.clone();
        for sample in &mut pair.samples {
            let version = sample.one.as_mut().unwrap();
            version.key = format!("{markup}{long}").into_bytes();
            version.value = Some(vec![0xff; 5_000]);
            version.place = long.clone();
        }
    }
    data.sources = sources;
    data
}
