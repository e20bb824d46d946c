//! Case files: whatever becomes of the bytes and the rows of one, and whatever is added to one, every question ends in an answer or in
//! an error.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use casefile::report::{self, Redact};
use casefile::rows::RevisionRow;
use casefile::{AddError, AddOptions, Case, CaseError, Find, LogQuery, Timeline, add, fuzzing};
use snapshot::mvcc::KeyValue;
use tempfile::TempDir;

use crate::compare::member;
use crate::db::repair_metas;
use crate::key_space::written;
use crate::wal::logs_of;

/// Rows of an answer that are looked at.
const MOST_ROWS: usize = 500;
/// Changes to rows of one input.
const MOST_CHANGES: usize = 16;

/// A case of two members with log, and of a file.
struct Base {
    _dir: TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    answers: Vec<String>,
    /// Table and number of every row.
    rows: Vec<(String, u64)>,
}

static BASE: LazyLock<Base> = LazyLock::new(|| base().unwrap_or_else(|error| panic!("{error}")));

fn base() -> Result<Base, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("base.case");
    Case::create(&path, "etcd-rescue case new base.case")?;
    let logs = include_bytes!("../corpus/compare/two-of-three").get(4..).unwrap_or_default();
    let (one, other) = logs.split_at(logs.len() / 2);
    for (name, log, db) in [("one", one, "3.5.16-used"), ("other", other, "3.5.16-first")] {
        let of = dir.path().join(name);
        let [_, log] = logs_of(log);
        member(&of, 4, &log)?;
        fs::write(
            of.join("member/snap/db"),
            testdata::decompressed(&format!("fixtures/replay/{db}.db.zst")),
        )?;
        add(&path, name, &of, &AddOptions { embed_values: true, ..AddOptions::default() }, &())?;
    }
    let history = dir.path().join("history.db");
    let program: Vec<u8> =
        [0, 3, 3].into_iter().chain((0..120).flat_map(|at| [64 | (at % 8), at, at])).collect();
    fs::write(&history, written(&program).unwrap_or_default())?;
    add(&path, "history", &history, &AddOptions::default(), &())?;
    let case = Case::open(&path)?;
    let answers = ask(&case)?;
    assert!(answers.len() > 30, "{answers:?}");
    let mut rows = Vec::new();
    fuzzing::changed(&case, &mut |table, number, row| {
        rows.push((table.to_owned(), number));
        Some(row.to_vec())
    })?;
    let bytes = fs::read(&path)?;
    Ok(Base { _dir: dir, path, bytes, answers, rows })
}

/// Asks `case` everything.
fn ask(case: &Case) -> Result<Vec<String>, CaseError> {
    let mut told = Vec::new();
    let mut values = Vec::new();
    {
        let mut row = |row: &RevisionRow| {
            let cited: Vec<_> = row.held.iter().map(|held| case.cite(held)).collect();
            if values.len() < 20 {
                values.push(case.value(row).map_err(|error| assert!(!error.to_string().is_empty())));
            }
            told.push(format!("{row:?} {cited:?}"));
            more(told.len())
        };
        case.timeline(&Timeline::default(), &mut row)?;
        case.timeline(&Timeline { prefix: b"a".to_vec(), from: 2, to: 9 }, &mut row)?;
        for revision in [0, 1, 7, 60, i64::MAX] {
            case.at(revision, b"", &mut row)?;
        }
        let finds = [
            Find { deleted: true, ..Find::default() },
            Find { only_in: Some(0), ..Find::default() },
            Find { lease: Some(7), prefix: b"b".to_vec(), ..Find::default() },
            Find { value_hash: Some(vec![0]), ..Find::default() },
        ];
        for asked in finds {
            case.find(&asked, &mut row)?;
        }
    }
    for key in [&b"a"[..], b"a/b", b"", b"\xff\xff", b"/registry/pods/x"] {
        told.push(format!("{:?}", case.key(key)?));
    }
    for (at, one) in case.sources().iter().enumerate() {
        told.push(format!("{one:?} {:?}", case.page_runs(one)?));
        for other in case.sources().iter().skip(at + 1) {
            let mut rows = 0;
            let diff = case.diff(one, other, &mut |_| {
                rows += 1;
                more(rows)
            })?;
            told.push(format!("{diff:?}"));
        }
    }
    for asked in [LogQuery::default(), LogQuery { indexes: 3..=4, ..LogQuery::default() }] {
        let mut rows = 0;
        case.log(&asked, &mut |row| {
            told.push(format!("{row:?} {:?}", case.cite_entry(row)));
            rows += 1;
            more(rows)
        })?;
    }
    told.push(format!("{:?} {:?} {:?} {values:?}", case.commands()?, case.seals()?, case.contents(&())?));
    let data = report::gather(case, &())?;
    for redact in [None, Some(Redact::Keys)] {
        let report = report::html(&data, redact);
        crate::case_report::assert_whole(&report);
        told.push(report);
    }
    Ok(told)
}

fn more(rows: usize) -> ControlFlow<()> {
    if rows < MOST_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// An error says what it is.
fn complains(error: &impl std::error::Error) {
    assert!(!error.to_string().is_empty(), "{error:?}");
}

/// Changes a case file, and asks it. The first byte says how: bytes of the file, whose checksums are left as they were, so that only the
/// same answers or an error can come of it; its length; or rows of its tables, all checksums being right. The rest says what is
/// changed, and is decoded as rows by itself.
pub(crate) fn open(input: &[u8]) {
    let Some((how, program)) = input.split_first() else { return };
    fuzzing::decode(program);
    let base = &*BASE;
    match how % 3 {
        0 => {
            let mut bytes = base.bytes.clone();
            for change in program.chunks_exact(4).take(MOST_CHANGES) {
                let at = u32::from_le_bytes([change[0], change[1], change[2], 0]);
                let at = usize::try_from(at).unwrap_or_default() % bytes.len();
                bytes[at] ^= change[3];
            }
            reopened(&bytes);
        }
        1 => {
            let cut = program.iter().take(3).fold(0, |cut, byte| cut << 8 | usize::from(*byte));
            reopened(base.bytes.get(..cut % (base.bytes.len() + 1)).unwrap_or_default());
        }
        _ => of_rows(base, program),
    }
}

/// Asks a file with these bytes, whose checksums nobody has set right.
fn reopened(bytes: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let path = dir.path().join("base.case");
    if fs::write(&path, bytes).is_err() {
        return;
    }
    match Case::open(&path).and_then(|case| ask(&case)) {
        Ok(answers) => assert!(answers == BASE.answers, "other answers out of a changed file"),
        Err(error) => complains(&error),
    }
}

/// Asks a case of which some rows are others: each change is a row's number in two bytes, what is done to it, a place and a length, and
/// that many bytes.
fn of_rows(base: &Base, mut program: &[u8]) {
    let mut changes: Vec<(usize, u8, usize, &[u8])> = Vec::new();
    while let [low, high, how, at, len, rest @ ..] = program
        && changes.len() < MOST_CHANGES
    {
        let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        let row = usize::from(u16::from_le_bytes([*low, *high])) % base.rows.len();
        changes.push((row, *how, usize::from(*at), bytes));
        program = rest;
    }
    let mut number = 0;
    let case = Case::open(&base.path).unwrap_or_else(|error| panic!("{error}"));
    let changed = fuzzing::changed(&case, &mut |_, _, row| {
        let mut row = row.to_vec();
        for (_, how, at, bytes) in changes.iter().filter(|(which, ..)| *which == number) {
            // Places are found in the whole of a row, however long it is.
            let at = at * row.len() / 256;
            match how % 4 {
                0 => row.truncate(at),
                1 => drop(row.splice(at..at, bytes.iter().copied())),
                2 => row = bytes.to_vec(),
                _ => row.iter_mut().skip(at).zip(*bytes).for_each(|(byte, other)| *byte = *other),
            }
        }
        number += 1;
        let is_gone = changes.iter().any(|(which, how, ..)| *which == number - 1 && *how > 250);
        (!is_gone).then_some(row)
    });
    match changed.and_then(|case| ask(&case)) {
        Ok(answers) => assert!(!answers.is_empty()),
        Err(error) => complains(&error),
    }
}

/// Adds what the input makes to a case, and asks it. The first byte chooses: a database with checksums set right, alone or in a data dir; a
/// key space made of the rest; or a log beside one.
pub(crate) fn add_any(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let Ok(dir) = tempfile::tempdir() else { return };
    let Some(source) = laid_out(dir.path(), *how, rest) else { return };
    let path = dir.path().join("a.case");
    if Case::create(&path, "case new").is_err() {
        return;
    }
    let Ok(before) = fs::read(&path) else { return };
    let options = AddOptions { embed_values: how & 64 != 0, ..AddOptions::default() };
    match add(&path, "a", &source, &options, &()) {
        Ok(added) => assert!(!added.was_there),
        Err(error @ (AddError::Case(_) | AddError::Name { .. })) => panic!("{error}"),
        Err(error) => {
            complains(&error);
            assert!(fs::read(&path).is_ok_and(|after| after == before), "what failed changed the case");
            return;
        }
    }
    let case = Case::open(&path).unwrap_or_else(|error| panic!("{error}"));
    if let Err(error) = ask(&case) {
        panic!("a case that was just made cannot be asked: {error}");
    }
    holds_together(&case, &source);
    let again = add(&path, "a", &source, &options, &());
    assert!(again.as_ref().is_ok_and(|added| added.was_there), "{again:?}");
}

/// Every record stands where it is cited, and every page has one owner.
fn holds_together(case: &Case, source: &Path) {
    let [described] = case.sources() else { panic!("one source was added") };
    let runs = case.page_runs(described).unwrap_or_else(|error| panic!("{error}"));
    let mut next = 0;
    for run in &runs {
        assert!(run.first == next && run.pages > 0, "{runs:?}");
        next += run.pages;
    }
    assert_eq!(next, described.pages.as_ref().map_or(0, |pages| pages.pages));
    let mut rows = 0;
    let answer = case.timeline(&Timeline::default(), &mut |row| {
        for held in &row.held {
            let cited = case.cite(held);
            let file = if source.is_dir() { source.join(&cited.file) } else { source.to_owned() };
            let bytes = fs::read(file).unwrap_or_default();
            let from = usize::try_from(cited.offset).unwrap_or(usize::MAX);
            let len = usize::try_from(cited.len_bytes).unwrap_or(usize::MAX);
            let record = from.checked_add(len).and_then(|end| bytes.get(from..end)).unwrap_or_default();
            let kv = KeyValue::decode(record).unwrap_or_else(|_| panic!("{cited:?} is no record"));
            assert_eq!(kv.key, row.key, "{cited:?}");
            if !row.tombstone {
                let value = case.value(row).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(value, kv.value, "{cited:?}");
            }
        }
        rows += 1;
        more(rows * 10)
    });
    assert!(answer.is_ok(), "{answer:?}");
}

fn laid_out(dir: &Path, how: u8, rest: &[u8]) -> Option<PathBuf> {
    let source = dir.join("source");
    match how % 4 {
        0 => fs::write(&source, repair_metas(rest)).ok()?,
        1 => {
            member(&source, 3, &[]).ok()?;
            fs::write(source.join("member/snap/db"), repair_metas(rest)).ok()?;
        }
        2 => fs::write(&source, written(rest)?).ok()?,
        _ => {
            let [raw, repaired] = logs_of(rest);
            member(&source, how >> 3 & 7, if how & 4 != 0 { &raw } else { &repaired }).ok()?;
        }
    }
    Some(source)
}
