//! The rig can fail: runs with well-known mistakes are condemned, and the same runs without them are not.

use std::collections::BTreeMap;

use super::jobs::{Boot, INSIDE, Job, ONE, PAIR, SAVE};
use super::judge::{Verdict, judge};
use super::model::{Content, Edit, Fs, Ino, Node, ROOT, State, What};
use super::trace::{Replay, calls};

/// A program that writes to `out/`.
struct Program(Fs);

impl Program {
    fn new(dirs: &[&str]) -> Self {
        let mut program = Self(Fs::default());
        program.dir("out");
        for dir in dirs {
            program.dir(dir);
        }
        program.0.settle();
        program
    }

    fn dir(&mut self, path: &str) {
        let ino = self.0.make(Node::Dir(BTreeMap::new()), 0o700);
        self.0.link(ROOT, path, ino).unwrap();
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Ino {
        let ino = self.0.make(Node::File(Content::default().into()), 0o600);
        self.0.link(ROOT, path, ino).unwrap();
        self.0.edit(ino, Edit::write(0, bytes)).unwrap();
        ino
    }

    fn sync(&mut self, paths: &[&str]) {
        for path in paths {
            let ino = self.0.find(ROOT, path, false).unwrap();
            self.0.sync(ino);
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.0.rename((ROOT, from), (ROOT, to)).unwrap();
    }

    fn link(&mut self, path: &str) {
        let ino = self.0.make(Node::Link(format!("unfinished{PARTIAL}/wal-1-2")), 0o777);
        self.0.link(ROOT, path, ino).unwrap();
    }

    /// The first complaint about any cut.
    fn judged(&self, job: &Job) -> Result<Vec<Vec<Verdict>>, String> {
        let whole = self.0.now("out").unwrap();
        let (states, _) = self.0.cuts("out", None).unwrap();
        states.iter().map(|state| judge(job, state, &whole)).collect()
    }
}

const PARTIAL: &str = ".etcd-rescue-partial";
const STAGED: &str = "out/s.db.etcd-rescue-partial";
const DATA: &str = "out/m1.etcd-rescue-partial";
const LOG: &str = "out/wal.etcd-rescue-partial";

/// A file as long as several pages.
fn long() -> Vec<u8> {
    b"some bytes ".repeat(2000)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Save {
    Right,
    NotSynced,
    SyncedAfterTheRename,
    LastPieceNotSynced,
    InPlace,
}

fn save(way: Save) -> Program {
    let mut program = Program::new(&[]);
    let name = if way == Save::InPlace { "out/s.db" } else { STAGED };
    let ino = program.file(name, &long());
    if matches!(way, Save::Right | Save::LastPieceNotSynced | Save::InPlace) {
        program.sync(&[name]);
    }
    if way == Save::LastPieceNotSynced {
        program.0.edit(ino, Edit::write(20_000, b"meta")).unwrap();
    }
    if way == Save::InPlace {
        return program;
    }
    program.rename(STAGED, "out/s.db");
    if way == Save::SyncedAfterTheRename {
        program.sync(&["out/s.db"]);
    }
    program.sync(&["out"]);
    program
}

#[test]
fn a_file_must_be_synced_before_it_is_renamed() {
    let verdicts = save(Save::Right).judged(&SAVE).unwrap();
    assert!(verdicts.contains(&vec![Verdict::Absent]) && verdicts.contains(&vec![Verdict::Complete]));
    for (way, story) in [
        (Save::NotSynced, "only synced data"),
        (Save::SyncedAfterTheRename, "only synced data"),
        (Save::LastPieceNotSynced, "only synced data"),
        (Save::InPlace, "after operation 1 of 3: all names"),
    ] {
        let why = save(way).judged(&SAVE).unwrap_err();
        assert!(why.contains("neither absent nor complete") && why.contains(story), "{way:?}: {why}");
    }
}

/// Which of the steps of a restore are left out.
#[derive(Debug, Clone, Copy, Default)]
struct Without {
    link: bool,
    log_last: bool,
    sync_of_snap_dir: bool,
    sync_of_member_dir: bool,
    sync_of_out_between: bool,
}

/// A data dir and its log apart, as `stage` gives them their names.
fn pair(without: Without) -> Program {
    let mut program = Program::new(&[]);
    for dir in ["", "/member", "/member/snap"] {
        program.dir(&format!("{DATA}{dir}"));
    }
    program.dir(LOG);
    let db = format!("{DATA}/member/snap/db");
    program.file(&db, &long());
    program.file(&format!("{LOG}/0.wal"), &long());
    program.sync(&[&db, &format!("{LOG}/0.wal")]);
    if !without.link {
        program.rename(&db, &format!("{db}{PARTIAL}"));
        program.link(&db);
    }
    if !without.sync_of_snap_dir {
        program.sync(&[&format!("{DATA}/member/snap")]);
    }
    if !without.sync_of_member_dir {
        program.sync(&[&format!("{DATA}/member")]);
    }
    program.sync(&[DATA, LOG]);
    let (first, second) = if without.log_last { ("wal", "m1") } else { ("m1", "wal") };
    program.rename(&format!("out/{first}{PARTIAL}"), &format!("out/{first}"));
    if !without.sync_of_out_between {
        program.sync(&["out"]);
    }
    program.rename(&format!("out/{second}{PARTIAL}"), &format!("out/{second}"));
    program.sync(&["out"]);
    if !without.link {
        program.rename(&format!("out/m1/member/snap/db{PARTIAL}"), "out/m1/member/snap/db");
        program.sync(&["out/m1/member/snap"]);
    }
    program
}

#[test]
fn a_log_without_its_db_and_a_db_without_its_log_are_condemned() {
    let right = pair(Without::default()).judged(&PAIR).unwrap();
    for verdict in [Verdict::Absent, Verdict::Barred, Verdict::Complete] {
        assert!(right.contains(&vec![verdict]), "{verdict:?}");
    }
    for (without, what) in [
        (Without { link: true, ..Without::default() }, "a db without its log"),
        (Without { link: true, log_last: true, ..Without::default() }, "a log without its db"),
        (Without { log_last: true, ..Without::default() }, "the log's name before the link's"),
        (Without { sync_of_out_between: true, ..Without::default() }, "two renames in either order"),
        (Without { sync_of_snap_dir: true, ..Without::default() }, "no sync of the db's directory"),
        (Without { sync_of_member_dir: true, ..Without::default() }, "no sync of a directory above it"),
    ] {
        let why = pair(without).judged(&PAIR).expect_err(what);
        assert!(why.contains("neither absent nor complete"), "{what}: {why}");
    }
}

/// One directory, renamed with its insides synced or not.
fn one(insides: &[&str]) -> Program {
    let mut program = Program::new(&[]);
    program.dir(DATA);
    program.dir(&format!("{DATA}/member"));
    program.file(&format!("{DATA}/member/db"), &long());
    for path in insides {
        program.sync(&[&format!("{DATA}{path}")]);
    }
    program.rename(DATA, "out/m1");
    program.sync(&["out"]);
    program
}

#[test]
fn the_directories_of_an_output_must_be_synced() {
    assert!(one(&["/member/db", "/member", ""]).judged(&ONE).is_ok());
    for missing in [&["/member", ""][..], &["/member/db", ""], &["/member/db", "/member"]] {
        one(missing).judged(&ONE).expect_err("a sync is missing");
    }
}

/// An empty directory that was there before is nothing; one that was not is what etcd would start empty.
#[test]
fn an_empty_data_dir_counts_only_where_there_was_one() {
    let mut program = Program::new(&[]);
    program.dir("out/m1");
    program.dir("out/m1/member");
    let whole = program.0.now("out").unwrap();
    let mut state = whole.clone();
    state.found.remove("m1/member");
    judge(&ONE, &state, &whole).expect_err("it is new");
    assert_eq!(judge(&INSIDE, &state, &whole).unwrap(), [Verdict::Absent]);
    let stray = Program::new(&["out/other"]).0.now("out").unwrap();
    assert!(judge(&ONE, &stray, &whole).unwrap_err().contains("whose is this"));
}

#[test]
fn a_link_bars_only_where_the_db_would_be() {
    let job = Job { boots: &[Boot { name: "x", data_dir: "m1", wal_dir: None }], ..ONE };
    let mut program = Program::new(&[]);
    for dir in ["out/m1", "out/m1/member", "out/m1/member/snap"] {
        program.dir(dir);
    }
    let whole = {
        let mut whole = Program(program.0.clone());
        whole.file("out/m1/member/snap/db", b"db");
        whole.0.now("out").unwrap()
    };
    let mut barred = Program(program.0.clone());
    barred.link("out/m1/member/snap/db");
    assert_eq!(judge(&job, &barred.0.now("out").unwrap(), &whole).unwrap(), [Verdict::Barred]);
    program.link("out/m1/member/db");
    judge(&job, &program.0.now("out").unwrap(), &whole).expect_err("etcd would make a db");
}

/// What a directory can hold, by name and length.
fn lengths(states: &[State]) -> Vec<Vec<(&str, u64)>> {
    let length = |what: &What| if let What::File(content) = what { content.len_bytes() } else { 0 };
    let of = |state: &State| -> Vec<(String, u64)> {
        state.found.iter().map(|(path, found)| (path.clone(), length(&found.what))).collect()
    };
    let mut all: Vec<_> = states.iter().map(of).collect();
    all.sort();
    all.dedup();
    all.into_iter().map(|state| state.into_iter().map(|(path, n)| (leak(path), n)).collect()).collect()
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[test]
fn names_and_data_are_lost_apart() {
    let mut program = Program::new(&[]);
    program.file("out/a", b"aa");
    program.file("out/b", b"bb");
    let (states, looked_at) = program.0.cuts("out", None).unwrap();
    assert!(looked_at > states.len());
    let expected: &[&[(&str, u64)]] = &[
        &[],
        &[("a", 0)],
        &[("a", 0), ("b", 0)],
        &[("a", 1)],
        &[("a", 1), ("b", 0)],
        &[("a", 1), ("b", 1)],
        &[("a", 2)],
        &[("a", 2), ("b", 0)],
        &[("a", 2), ("b", 2)],
        &[("b", 0)],
        &[("b", 1)],
        &[("b", 2)],
    ];
    assert_eq!(lengths(&states), expected);
    // Once both are synced nothing is in doubt any more.
    program.sync(&["out/a", "out/b", "out"]);
    program.0.settle();
    program.sync(&["out"]);
    assert_eq!(lengths(&program.0.cuts("out", None).unwrap().0), [[("a", 2), ("b", 2)]]);
}

/// Two file systems: what one of them has on its disk says nothing about the other.
#[test]
fn file_systems_apart_are_cut_apart() {
    let reached = |apart: Option<&str>| {
        let mut program = Program::new(&["out/a", "out/b"]);
        for path in ["out/a/1", "out/b/1", "out/a/2", "out/b/2", "out/a/3", "out/b/3"] {
            program.dir(path);
        }
        let (states, _) = program.0.cuts("out", apart).unwrap();
        let last = |state: &State, dir: &str| {
            (1..=3).filter(|n| state.found.contains_key(&format!("{dir}/{n}"))).count()
        };
        let gaps = |state: &State, dir: &str| {
            !(1..=last(state, dir)).all(|n| state.found.contains_key(&format!("{dir}/{n}")))
        };
        let whole = states.iter().filter(|state| !gaps(state, "a") && !gaps(state, "b"));
        whole.map(|state| (last(state, "a"), last(state, "b"))).collect::<std::collections::BTreeSet<_>>()
    };
    let all: Vec<_> = (0..=3).flat_map(|a| (0..=3).map(move |b| (a, b))).collect();
    assert_eq!(reached(Some("b")).into_iter().collect::<Vec<_>>(), all);
    assert!(!reached(None).contains(&(3, 0)), "a journal of one file system has an order");
}

#[test]
fn contents_are_cut_grown_and_compared() {
    let mut content = Content::of(&long());
    content.set_len(5000);
    assert_eq!(content, Content::of(&long()[..5000]));
    content.set_len(9000);
    assert_eq!(content.read(4990, 20), [&long()[4990..5000], &[0; 10]].concat());
    content.write(8999, b"xy");
    assert_eq!((content.len_bytes(), content.read(8998, 10)), (9001, b"\0xy".to_vec()));
    let mut zeros = Content::default();
    zeros.write(0, &[0; 10_000]);
    assert_eq!(zeros.pages().count(), 0);
    assert_ne!(zeros, Content::default());
}

/// What a write shares with the file it goes to is no more than its bytes.
#[test]
fn writes_at_odd_places_do_what_they_say() {
    let bytes: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0] | 1).collect();
    for offset in [0, 1, 4095, 4096, 5000] {
        for len in [0, 1, 96, 4096, 8191, 8192, 12_289, 20_000] {
            let mut program = Program::new(&[]);
            let ino = program.file("out/a", &long());
            program.0.edit(ino, Edit::write(offset as u64, &bytes[..len])).unwrap();
            let mut expected = long();
            expected.resize(expected.len().max(offset + len), 0);
            expected[offset..offset + len].copy_from_slice(&bytes[..len]);
            assert_eq!(**program.0.content(ino).unwrap(), Content::of(&expected), "{len} at {offset}");
            assert_eq!(program.0.content(ino).unwrap().read(0, u64::MAX), expected, "{len} at {offset}");
        }
    }
}

/// Two threads: what the second writes while the first waits for its sync need not last, for the sync may have been done
/// with its work by then.
#[test]
fn a_sync_promises_only_what_was_written_when_it_began() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    let lost = |lines: &str| {
        let open = r#"1 openat(AT_FDCWD, "\x6f\x75\x74\x2f\x61", O_RDWR|O_CREAT, 0600) = 3
1 openat(AT_FDCWD, "\x6f\x75\x74", O_RDONLY) = 4
1 fsync(4) = 0"#;
        let mut replay = Replay::of(dir.path());
        replay.run(&calls(&format!("{open}\n{lines}")).unwrap()).unwrap();
        let mark = r#"1 openat(AT_FDCWD, "\x6f\x75\x74\x2f\x62", O_RDWR|O_CREAT, 0600) = 5"#;
        replay.run(&calls(mark).unwrap()).unwrap();
        let (states, _) = replay.fs.cuts("out", None).unwrap();
        let last = states.iter().filter(|state| state.found.contains_key("b"));
        last.map(|state| lengths(std::slice::from_ref(state))[0][0].1).min().unwrap()
    };
    let write = r#"2 pwrite64(3, "\x61\x62", 2, 0) = 2"#;
    let begun = r#"2 pwrite64(3, "\x61\x62", 2, 0 <unfinished ...>"#;
    let ended = "2 <... pwrite64 resumed>) = 2";
    for sync in ["fsync", "fdatasync"] {
        let (start, end) = (format!("1 {sync}(3 <unfinished ...>"), format!("1 <... {sync} resumed>) = 0"));
        let failed = format!("1 <... {sync} resumed>) = -1 EIO (Input/output error)");
        assert_eq!(lost(&format!("{write}\n{start}\n{end}")), 2, "it was written before");
        assert_eq!(lost(&format!("{write}\n1 {sync}(3) = 0")), 2, "it was written before");
        assert_eq!(lost(&format!("{start}\n{write}\n{end}")), 0, "it was written meanwhile");
        assert_eq!(lost(&format!("{begun}\n{start}\n{ended}\n{end}")), 0, "it was half written before");
        assert_eq!(lost(&format!("{start}\n{end}\n{write}")), 0, "it was written later");
        assert_eq!(lost(&format!("{write}\n{start}\n{failed}")), 0, "it was not synced");
        assert_eq!(lost(&format!("{write}\n{start}")), 0, "nobody was told that it was synced");
    }
}

/// One thread closes a file while another is given its number.
#[test]
fn a_number_is_free_when_its_close_begins() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    let lines = r#"1 openat(AT_FDCWD, "\x6f\x75\x74\x2f\x61", O_RDWR|O_CREAT, 0600) = 3
1 close(3 <unfinished ...>
2 openat(AT_FDCWD, "\x6f\x75\x74\x2f\x62", O_RDWR|O_CREAT, 0600) = 3
1 <... close resumed>) = 0
2 pipe2([4, 5], O_CLOEXEC) = 0
2 write(5, "\x61", 1) = 1
2 pwrite64(3, "\x61", 1, 0) = 1"#;
    let mut replay = Replay::of(dir.path());
    replay.run(&calls(lines).unwrap()).unwrap();
    assert_eq!(lengths(&[replay.fs.now("out").unwrap()]), [[("a", 0), ("b", 1)]]);
}

/// A recording that holds a call nobody thought of is refused, as is one that was cut.
#[test]
fn what_is_not_understood_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    let open = r#"1 openat(AT_FDCWD, "\x6f\x75\x74\x2f\x61", O_RDWR|O_CREAT, 0600) = 3"#;
    let run = |lines: &str| {
        let mut replay = Replay::of(dir.path());
        replay.run(&calls(lines)?).map(|()| replay)
    };
    let torn = format!(
        "{open}\n1 write(3, \"\\x61\\x62\" <unfinished ...>\n2 close(3) = -1 EBADF (x)\n1 <... write resumed>, 2) = 2\n1 pwrite64(3, \"\\x63\", 1, 1) = 1"
    );
    let replay = run(&torn).unwrap();
    let What::File(content) = &replay.fs.now("out").unwrap().found["a"].what.clone() else { panic!() };
    assert_eq!(content.read(0, 9), b"ac");
    // A thread that the end of its process kept from making a call made none.
    assert!(run(&format!("{open}\n2 ???( <detached ...>")).is_ok());
    for (line, why) in [
        ("1 frobnicate(3) = 0", "a call that is not known here"),
        ("1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3, 0) = 0x7f", "cannot be followed"),
        ("1 clone(child_stack=NULL, flags=SIGCHLD) = 7", "a call that is not known here"),
        ("1 fallocate(3, FALLOC_FL_PUNCH_HOLE, 0, 1) = 0", "a call that is not known here"),
        ("1 renameat2(AT_FDCWD, \"\\x61\", AT_FDCWD, \"\\x62\", RENAME_WHITEOUT) = 0", "not known here"),
        ("1 write(3, \"\\x61\"..., 4) = 4", "recorded in part only"),
        ("1 openat(AT_FDCWD, \"\\x2f\\x61\", O_RDWR|O_CREAT, 0600) = 4", "outside the world"),
        ("1 <... write resumed>, 2) = 2", "resumed from nowhere"),
        ("1 fsync(9) = 0", "is not open"),
        ("1 wri", "unclear"),
    ] {
        let refused = run(&format!("{open}\n{line}")).map(drop).expect_err(line);
        assert!(refused.contains(why), "{line}: {refused}");
    }
}
