//! Three members of a real cluster in one case. testdata/README.md says how they died: n2 was killed at entry 1810; n3 later; then
//! n1 was stopped without a quorum.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::ops::ControlFlow;
use std::path::PathBuf;

use casefile::rows::{EntryStanding, LogRow, Parting, Standing};
use casefile::{AddOptions, Case, LogQuery, add};

fn three() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", scratch.path());
    let path = scratch.path().join("cluster.case");
    Case::create(&path, "case new").unwrap();
    for name in ["n1", "n2", "n3"] {
        let dir = scratch.path().join(name);
        let dir = if dir.join("member").is_dir() { dir } else { scratch.path().join("data").join(name) };
        let before = testdata::fingerprint(&dir);
        add(&path, name, &dir, &AddOptions::default(), &()).unwrap();
        assert_eq!(testdata::fingerprint(&dir), before);
    }
    (scratch, path)
}

fn log(case: &Case, asked: &LogQuery) -> Vec<LogRow> {
    let mut rows = Vec::new();
    case.log(asked, &mut |row| {
        rows.push(row.clone());
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

#[test]
fn three_members_come_out_as_they_died() {
    let (_scratch, path) = three();
    let case = Case::open(&path).unwrap();
    let logs: Vec<_> = case.sources().iter().map(|source| source.log.clone().unwrap()).collect();
    let ends: Vec<_> = logs.iter().map(|log| (log.first, log.last, log.commit)).collect();
    assert_eq!(ends, [(Some(1), Some(4252), 4251), (Some(1), Some(1810), 1809), (Some(1), Some(4252), 4251)]);
    let applied: Vec<_> =
        case.sources().iter().map(|source| source.key_space.as_ref().unwrap().consistent_index).collect();
    assert_eq!(applied, [4251, 1800, 4235]);
    // What the live server said of itself.
    let spaces: Vec<_> = case.sources().iter().map(|source| source.key_space.clone().unwrap()).collect();
    assert_eq!(spaces[0].revision, 4237);
    for source in case.sources() {
        assert_eq!(source.identity.cluster, Some(2_278_353_713_451_626_450));
        assert_eq!(source.identity.name.as_deref(), Some(source.name.as_str()));
        assert_eq!(source.members.iter().filter(|member| member.in_raft == Some(true)).count(), 3);
        assert!(source.snaps.iter().all(|snap| snap.fault.is_none() && snap.index.is_some()));
        assert_eq!(source.pages.as_ref().unwrap().damaged_pages, 0);
        let runs = case.page_runs(source).unwrap();
        assert_eq!(runs.iter().map(|run| run.pages).sum::<u64>(), source.pages.as_ref().unwrap().pages);
    }
    assert_eq!(case.sources()[0].identity.member, Some(7_742_075_202_255_897_320));

    // n2 and n3 are where n1 was, and nothing else.
    let diff = |a: &str, b: &str| {
        let mut rows = Vec::new();
        let diff = case.diff(case.source(a).unwrap(), case.source(b).unwrap(), &mut |row| {
            rows.push(row.clone());
            ControlFlow::Continue(())
        });
        (diff.unwrap(), rows)
    };
    for (other, space) in [("n2", &spaces[1]), ("n3", &spaces[2])] {
        let (found, rows) = diff("n1", other);
        assert_eq!((found.part, found.log_part), (None, None));
        assert_eq!((found.to, found.same), (space.last, space.records));
        assert_eq!(found.tail, spaces[0].records - space.records);
        assert!(rows.iter().all(|row| row.parting == Parting::Tail && row.b.is_none()));
        assert_eq!(rows.first().unwrap().a.as_ref().unwrap().main, space.last + 1);
    }
    assert_eq!(diff("n1", "n2").0.log_common, Some((1, 1810)));
    assert_eq!(diff("n1", "n3").0.log_common, Some((1, 4252)));

    // Beyond what n2 has, n1 alone can tell, or n1 and n3.
    let at = case.at(4237, b"", &mut |_| ControlFlow::Continue(())).unwrap();
    let told: Vec<bool> = at.standings.iter().map(|(_, standing)| *standing == Standing::Asked).collect();
    assert_eq!(told, [true, false, false]);
    let facts = testdata::decompressed("fixtures/3.5.30/cluster3/facts/keys.json.zst");
    let facts: serde_json::Value = serde_json::from_slice(&facts).unwrap();
    // What etcdctl listed while n1 and n3 were quiet, at revision 3157.
    let at = case.at(3157, b"", &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(at.keys, facts["kvs"].as_array().unwrap().len() as u64);
    assert_eq!(at.contested, 0);
}

#[test]
fn entries_are_found_by_index_and_by_key_and_stand_where_they_are_cited() {
    let (scratch, path) = three();
    let case = Case::open(&path).unwrap();
    let last = log(&case, &LogQuery { indexes: 1810..=1810, ..LogQuery::default() });
    let known: Vec<_> = last.iter().map(|row| (row.source, row.committed, row.standing)).collect();
    let counts = EntryStanding::Counts;
    assert_eq!(known, [(0, true, counts), (1, false, counts), (2, true, counts)]);
    assert!(
        log(&case, &LogQuery { source: Some(1), indexes: 1811..=u64::MAX, ..LogQuery::default() }).is_empty()
    );
    let terms = |term| log(&case, &LogQuery { terms: term..=term, ..LogQuery::default() }).len();
    let entries: u64 = case.sources().iter().map(|source| source.log.as_ref().unwrap().entries).sum();
    assert_eq!((1..=9).map(terms).sum::<usize>() as u64, entries);

    let put = last.iter().find(|row| !row.touched.is_empty()).unwrap();
    let life = case.key(&put.touched[0].key).unwrap();
    assert!(life.log.iter().any(|row| (row.index, row.source) == (1810, 1)), "{:?}", life.log);
    assert!(life.steps.iter().any(|row| row.held.len() == 2), "n2 had not applied its last entries");
    for row in &life.log {
        let cited = case.cite_entry(row);
        let dir = case.sources()[usize::try_from(row.source).unwrap()].path.clone();
        let bytes = std::fs::read(PathBuf::from(dir).join(&cited.file)).unwrap();
        assert_eq!(testdata::sha256_hex(&bytes), cited.sha256);
        let from = usize::try_from(cited.offset).unwrap();
        let frame = &bytes[from..from + usize::try_from(cited.len_bytes).unwrap()];
        // A length word, of which the low 56 bits count, then the record, which holds the key.
        let len = u64::from_le_bytes(frame[..8].try_into().unwrap()) & ((1 << 56) - 1);
        assert_eq!((8 + len).next_multiple_of(8), cited.len_bytes);
        assert!(frame.windows(life.key.len()).any(|bytes| bytes == life.key));
    }
    drop(scratch);
}
