//! Power cut after every operation of every job.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rstest::rstest;
use testdata::fingerprint;
use testdata::oracle::{Launch, Version};
use wal::raftpb::EntryType;

use super::jobs::*;
use super::judge::{PARTIAL, Verdict, judge, materialise, outputs};
use super::model::{Ino, State, What};
use super::soak;
use super::support_hostile::{BINARY, Ran, World, finish, grown, image};
use super::trace::{HARMLESS, Replay, STRING_BYTES, calls, inodes, on_disk};

/// Servers of 3.4 and later start on what this becomes.
pub(crate) fn source() -> Vec<u8> {
    image(&testdata::snapshot("3.4.23", "s1-precompact")).to_vec()
}

/// Values of the long source, and the bytes of each: more than two windows of 16 MiB.
const LONG_VALUES: u64 = 34;
const LONG_VALUE_BYTES: u64 = 1 << 20;

/// [`source`] with large values appended, no page of which is like another.
fn long() -> &'static [u8] {
    static LONG: OnceLock<Vec<u8>> = OnceLock::new();
    LONG.get_or_init(|| {
        let value = |number: u64| {
            (0..LONG_VALUE_BYTES / 8)
                .flat_map(|word| (number << 32 | word).wrapping_add(1).to_le_bytes())
                .collect()
        };
        grown(&source(), (0..LONG_VALUES).map(value))
    })
}

fn input(job: &Job) -> Vec<u8> {
    let hashed = |mut image: Vec<u8>| {
        let hex = testdata::sha256_hex(&image);
        image.extend((0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()));
        image
    };
    match job.input {
        Input::Bare
        | Input::Member
        | Input::NewerMember
        | Input::TornMember
        | Input::Behind
        | Input::BehindCompaction
        | Input::WithLearner
        | Input::V2Keys
        | Input::Case => source(),
        Input::Locked => image(&testdata::snapshot("3.5.30", "s3-final")).to_vec(),
        Input::Hashed => hashed(source()),
        Input::Wrong => {
            let mut snapshot = hashed(source());
            *snapshot.last_mut().unwrap() ^= 1;
            snapshot
        }
        Input::Long => hashed(long().to_vec()),
        Input::LongBare => long().to_vec(),
    }
}

/// Makes a member in `in/node`, where that is asked for one of 3.5.
fn node(world: &World, is_newer: bool) {
    let mut restore = world.command();
    restore.args(["snapshot", "restore", "in/source.db", "--skip-hash-check", "--data-dir", "in/node"]);
    if is_newer {
        restore.args(["--target-version", "3.5"]);
    }
    assert!(restore.output().unwrap().status.success());
}

/// Takes from the member in `in/node` the end of its log's last record.
fn tear(world: &World) {
    let log = world.input("node/member/wal/0000000000000000-0000000000000000.wal");
    let written = fs::read(&log).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    let torn = fs::OpenOptions::new().write(true).open(&log).unwrap();
    torn.set_len(u64::try_from(written).unwrap() - 2).unwrap();
}

/// Adds to the log of the member in `in/node` what its db does not have: a leader's first entry, puts, and a compaction.
fn run_ahead(world: &World, compacts: bool) {
    // A put of a key, and a compaction at revision 2, which the db has.
    let puts = (b'a'..=b'h').map(|key| vec![0x08, 0x07, 0x22, 0x06, 0x0a, 0x01, key, 0x12, 0x01, b'v']);
    let compaction = compacts.then(|| vec![0x08, 0x07, 0x3a, 0x02, 0x08, 0x02]);
    go_on(
        world,
        std::iter::once(Vec::new()).chain(puts).chain(compaction).map(|data| (EntryType::Normal, data)),
    );
}

/// Adds to the log of the member in `in/node` that another one learns.
fn add_learner(world: &World) {
    let member = br#"{"id":119,"peerURLs":["http://localhost:2390"],"isLearner":true}"#;
    // Number of the request, what is done, to whom, and the member.
    let mut change = vec![0x08, 0x07, 0x10, 0x03, 0x18, 119, 0x22, u8::try_from(member.len()).unwrap()];
    change.extend_from_slice(member);
    go_on(world, [(EntryType::Normal, Vec::new()), (EntryType::ConfChange, change)]);
}

/// Adds committed entries to the log of the member in `in/node`.
fn go_on(world: &World, entries: impl IntoIterator<Item = (EntryType, Vec<u8>)>) {
    let log = world.input("node/member/wal/0000000000000000-0000000000000000.wal");
    let bytes = fs::read(&log).unwrap();
    let (mut metadata, mut state, mut last_index) = (Vec::new(), None, 0);
    let mut records = wal::read_segment(&bytes);
    for record in records.by_ref() {
        let record = record.unwrap();
        match record.record_type {
            wal::RecordType::Metadata => metadata = record.data.to_vec(),
            wal::RecordType::State => state = Some(record.data.to_vec()),
            wal::RecordType::Entry => last_index = wal::EntryRef::decode(record.data).unwrap().index,
            _ => {}
        }
    }
    let (crc, offset) = (records.crc(), records.offset());
    let resume = wal::Resume { seq: 0, first_index: 0, last_index, crc, metadata, state, offset };
    let mut writer = wal::LogWriter::resume(resume).unwrap();
    let mut index = last_index;
    for (entry_type, data) in entries {
        index += 1;
        let (entry_type, data) = (Some(i32::from(entry_type)), Some(data));
        let (term, index) = (Some(2), Some(index));
        writer.push_entry(&wal::raftpb::Entry { entry_type, term, index, data });
    }
    writer.push_hard_state(wal::raftpb::HardState { term: Some(2), vote: None, commit: Some(index) });
    let mut more = Vec::new();
    writer.flush(&mut more).unwrap();
    fs::OpenOptions::new().write(true).open(&log).unwrap().write_all_at(&more, offset).unwrap();
}

/// What `out/` holds before a job that replaces a member's db: a member, its db with the room behind its pages that a
/// server leaves there.
pub(crate) fn member() -> &'static State {
    static MEMBER: OnceLock<State> = OnceLock::new();
    MEMBER.get_or_init(|| {
        let world = World::new();
        world.put("source.db", source());
        // For 3.5, whose databases keep a term: without one nobody can tell which version's they are.
        world.line(&format!("{} --target-version 3.5", ONE.line)).says(0, &[]);
        let db = fs::OpenOptions::new().write(true).open(world.output("m1/member/snap/db")).unwrap();
        db.set_len(db.metadata().unwrap().len() + (1 << 20)).unwrap();
        on_disk(&world.output(""))
    })
}

/// A case of [`source`]: one for all worlds, since a case knows where and when its sources were.
fn case() -> &'static [u8] {
    static CASE: OnceLock<Vec<u8>> = OnceLock::new();
    CASE.get_or_init(|| {
        let world = World::new();
        world.put("source.db", source());
        for line in ["case new in/source.case", "case add in/source.case s=in/source.db"] {
            let mut command = world.command();
            command.args(line.split_whitespace());
            let ran = finish(command);
            assert!(matches!(ran.code, Some(0 | 3)), "{ran:#?}");
        }
        fs::read(world.input("source.case")).unwrap()
    })
}

/// A world in which `job` can run.
pub(crate) fn world(job: &Job) -> World {
    let world = World::new();
    world.put("source.db", input(job));
    if job.input == Input::V2Keys {
        testdata::unpack("v2/3.4.23.tar.zst", &world.input("unpacked"));
        fs::rename(world.input("unpacked/data"), world.input("node")).unwrap();
    } else if job.input.is_member() {
        node(&world, job.input == Input::NewerMember);
    }
    if matches!(job.input, Input::Behind | Input::BehindCompaction) {
        run_ahead(&world, job.input == Input::BehindCompaction);
    }
    if job.input == Input::WithLearner {
        add_learner(&world);
    }
    if job.input == Input::Case {
        world.put("source.case", case());
    }
    if job.input == Input::TornMember {
        tear(&world);
    }
    prepare(&world, job);
    world
}

/// Takes `out/` to where it is before `job`.
pub(crate) fn prepare(world: &World, job: &Job) {
    world.clear();
    if let Some(dir) = job.mount_point {
        fs::create_dir(world.output(dir)).unwrap();
    }
    if job.in_place {
        materialise(member(), &world.output(""), &BTreeMap::new());
    }
    if let Some(log) = job.cut_log {
        world.line(job.plain_line()).says(0, &[]);
        // As a kill after cut 3 of `snapshot::stage` would have left it.
        let segment = fs::read_dir(world.output(log)).unwrap().next().unwrap().unwrap().metadata().unwrap();
        let db = world.output(job.boots[0].data_dir).join("member/snap/db");
        fs::rename(&db, db.with_file_name(format!("db{PARTIAL}"))).unwrap();
        symlink(format!("unfinished{PARTIAL}/wal-{}-{}", segment.dev(), segment.ino()), db).unwrap();
    }
}

/// strace with `options`, and then the job.
pub(crate) fn traced(world: &World, options: &[&str], line: &str) -> Ran {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "trace"]).args(options).arg("--").arg(BINARY);
    command.args(line.split_whitespace());
    command.current_dir(world.root()).env("TMPDIR", world.root().join("tmp")).stdin(Stdio::null());
    finish(command)
}

/// A job that ran to its end, and every state that a loss of power could have left on the way.
pub(crate) struct Recorded {
    pub whole: State,
    pub inodes: BTreeMap<Ino, (u64, u64)>,
    pub states: Vec<(State, Vec<Verdict>)>,
    pub looked_at: usize,
    pub operations: usize,
}

pub(crate) fn record(job: &Job) -> Recorded {
    let world = world(job);
    let mut replay = Replay::of(world.root());
    let mut numbers = inodes(&world.output(""), &replay.fs.now("out").unwrap());
    let all_but = format!("trace=!{HARMLESS}");
    let ran = world.guard(|| traced(&world, &["-xx", "-s", STRING_BYTES, "-e", &all_but], job.line));
    ran.says(job.code, &[]);
    let text = fs::read_to_string(world.root().join("trace")).unwrap();
    let writers: BTreeSet<&str> = text
        .lines()
        .filter(|line| line.contains(" pwrite64("))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let is_long = matches!(job.input, Input::Long | Input::LongBare);
    assert!(!is_long || writers.len() > 1, "{job:?}: no two windows were written at once");
    replay.run(&calls(&text).unwrap()).unwrap_or_else(|why| panic!("{job:?}: {why}"));
    let whole = replay.fs.now("out").unwrap();
    // The recording missed nothing if it ends with what is really there.
    let real = on_disk(&world.output(""));
    let plain = |state: &State| -> Vec<(String, u32, What)> {
        state.found.iter().map(|(path, found)| (path.clone(), found.mode, found.what.clone())).collect()
    };
    assert_eq!(plain(&whole), plain(&real), "{job:?}: the recording and the disk differ");
    assert!(!whole.found.keys().any(|path| path.contains(PARTIAL)));
    let (states, looked_at) = replay.fs.cuts("out", job.apart).unwrap();
    let judged = states.into_iter().map(|state| {
        let verdicts = judge(job, &state, &whole).unwrap_or_else(|why| panic!("{job:?}: {why}"));
        (state, verdicts)
    });
    numbers.extend(inodes(&world.output(""), &whole));
    Recorded {
        states: judged.collect(),
        inodes: numbers,
        whole,
        looked_at,
        operations: replay.fs.ops().len(),
    }
}

/// No cut leaves anything but nothing, all, what is named partial, or what bars every server. What the next run makes of
/// it depends on names alone, so it is tried on one state of each set of names.
#[rstest]
fn every_cut_leaves_nothing_or_all_and_the_next_run_copes(
    #[values(
        ONE,
        DEEP,
        INSIDE,
        INSIDE_WITH_LOG,
        INSIDE_WITH_DEEP_LOG,
        WITH_LOG,
        PAIR,
        PAIR_INSIDE,
        PAIR_LOG_INSIDE,
        ALL,
        ALL_INSIDE,
        PAIR_APART,
        CLEANED_APART,
        CLEANED_INSIDE,
        HASHED,
        WRONG,
        LONG,
        LONG_SAVE,
        SAVE,
        FOLDED,
        FOLDED_ANEW,
        RESTORED_FOLDED,
        RESTORED_ANEW,
        RECOVERED,
        RECOVERED_INSIDE,
        ATTACH,
        MENDED,
        MENDED_INSIDE,
        MENDED_LOG,
        REVERTED,
        PAGE_COPIED,
        PAGE_CLEARED,
        ELEMENT_CLEARED,
        FREELIST_ABANDONED,
        FREELIST_REBUILT,
        META_UPDATED,
        COMPACTED,
        LONG_COMPACTED,
        DEFRAGMENTED_COPY,
        AUTH_DISABLED,
        DISARMED,
        DEFRAGMENTED,
        DEFRAGMENTED_KEPT,
        MIGRATED,
        MIGRATED_KEPT,
        MIGRATED_COPY,
        EXPORTED,
        EXPORTED_HASHED,
        EXPORTED_LINES,
        HISTORY_CUT,
        HISTORY_CUT_HASHED,
        HISTORY_CUT_MEMBER,
        HISTORY_CUT_INSIDE,
        KEYS_DELETED,
        KEYS_PURGED,
        SALVAGED,
        LONG_SALVAGED,
        SALVAGED_MEMBER,
        SALVAGED_LINES,
        FORCED,
        FORCED_INSIDE,
        FORCED_PAIR,
        ADDED,
        REMOVED,
        PROMOTED,
        READDRESSED,
        V2_MIGRATED,
        V2_MIGRATED_PAIR,
        BACKED_UP_PAIR,
        BACKED_UP_INSIDE,
        REPORTED
    )]
    job: Job,
) {
    assert_eq!(JOBS.len(), 71, "a job of the table is not among the values above");
    let recorded = record(&job);
    let last = outputs(&job).len();
    let complete = recorded.states.iter().filter(|(_, v)| *v == vec![Verdict::Complete; last]).count();
    let absent = recorded.states.iter().filter(|(_, v)| *v == vec![Verdict::Absent; last]).count();
    assert!(absent > 0 && (complete > 0) == (job.code == 0), "{job:?}");
    assert!(job.code == 0 || absent == recorded.states.len(), "{job:?}");
    let world = world(&job);
    let mut tried = BTreeSet::new();
    for (state, verdicts) in &recorded.states {
        if tried.insert(in_sight_of_the_next_run(state, verdicts)) {
            assert_next_run_copes(&world, &job, &recorded, state, verdicts);
        }
    }
    #[allow(clippy::print_stderr, reason = "figures for those who ask for them with --nocapture")]
    {
        eprintln!(
            "{} operations, {} states looked at, {} distinct, {} sets of names: {}",
            recorded.operations,
            recorded.looked_at,
            recorded.states.len(),
            tried.len(),
            job.line
        );
    }
}

/// The names that make a difference to the next run: of what says that it is unfinished that it is there, and where a
/// server is barred all of them, for then the log is looked for.
fn in_sight_of_the_next_run(state: &State, verdicts: &[Verdict]) -> BTreeSet<String> {
    let cut = |path: &str| -> String {
        let mut seen = Vec::new();
        for name in path.split('/') {
            seen.push(name);
            if name.ends_with(PARTIAL) && !verdicts.contains(&Verdict::Barred) {
                break;
            }
        }
        seen.join("/")
    };
    state.found.keys().map(|path| cut(path)).collect()
}

fn assert_next_run_copes(world: &World, job: &Job, recorded: &Recorded, state: &State, verdicts: &[Verdict]) {
    let put = || {
        world.clear();
        materialise(state, &world.output(""), &recorded.inodes);
    };
    put();
    let story = &state.story;
    if job.in_place {
        put();
        assert_next_defragments(world, job, recorded, state);
        return;
    }
    let has_partial = state.found.keys().any(|path| path.contains(PARTIAL));
    let next = world.line(job.plain_line());
    if job.code != 0 {
        for line in [job.plain_line().to_owned(), format!("{} --clean", job.plain_line())] {
            put();
            let before = world.names();
            world.line(&line).says(job.code, &["expected sha256"]);
            assert_eq!(world.names(), before, "{story}: {line}");
        }
        return;
    }
    match next.code {
        Some(0) => {
            assert!(verdicts.iter().all(|v| *v == Verdict::Absent), "{story}: {next:#?}");
            assert!(!has_partial || next.stderr.contains("--clean removes it"), "{story}: {next:#?}");
            assert_whole(world, job, &recorded.whole, story);
        }
        Some(1) if verdicts.contains(&Verdict::Barred) => {
            next.says(1, &["holds an unfinished restore", "--clean, together with the same --wal-dir"]);
        }
        Some(1) if verdicts.contains(&Verdict::Complete) => {
            next.says(1, &["it is not overwritten"]);
        }
        _ => panic!("{story}: {next:#?}"),
    }
    put();
    let cleaned = world.line(&format!("{} --clean", job.plain_line()));
    if verdicts.contains(&Verdict::Complete) {
        cleaned.says(1, &["it is not overwritten"]);
        return;
    }
    assert_eq!(cleaned.code, Some(0), "{story}: {cleaned:#?}");
    assert_whole(world, job, &recorded.whole, story);
    let names = world.names();
    assert!(!names.iter().any(|name| name.contains(PARTIAL)), "{story}: {names:?}");
}

/// A db can be defragmented again, whatever was cut, and `--clean` takes away what the cut left.
fn assert_next_defragments(world: &World, job: &Job, recorded: &Recorded, state: &State) {
    let story = &state.story;
    let has_partial = state.found.keys().any(|path| path.contains(PARTIAL));
    let next = world.line(job.plain_line());
    assert_eq!(next.code, Some(0), "{story}: {next:#?}");
    assert!(!has_partial || next.stderr.contains("--clean removes it"), "{story}: {next:#?}");
    assert_new_db(world, recorded, story);
    let cleaned = world.line(&format!("{} --clean", job.plain_line()));
    assert_eq!(cleaned.code, Some(0), "{story}: {cleaned:#?}");
    assert_new_db(world, recorded, story);
    let names = world.names();
    assert!(!names.iter().any(|name| name.contains(PARTIAL)), "{story}: {names:?}");
}

/// Asserts that the db is the one the uncut run left: the same is made of the old one and of the new one.
fn assert_new_db(world: &World, recorded: &Recorded, story: &str) {
    let db = "m1/member/snap/db";
    let now = on_disk(&world.output(""));
    assert_eq!(now.found[db].what, recorded.whole.found[db].what, "{story}");
}

/// Asserts that `out/` holds what the uncut run left.
pub(crate) fn assert_whole(world: &World, job: &Job, whole: &State, story: &str) {
    let verdicts = judge(job, &on_disk(&world.output("")), whole).unwrap();
    assert!(verdicts.iter().all(|v| *v == Verdict::Complete), "{job:?}, {story}: {verdicts:?}");
}

/// What a server may do with a data dir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Starts,
    RefusesAndChangesNothing,
}

/// Everything under a final name that is not complete stops real servers, which change nothing then; what is complete
/// starts them.
#[rstest]
#[case(INSIDE_WITH_LOG, &[Version::V3_4, Version::V3_5_1])]
#[case(PAIR, &[Version::V3_4, Version::V3_5_1])]
#[case(ONE, &[Version::V3_5_1])]
#[case(INSIDE_WITH_DEEP_LOG, &[Version::V3_5_1])]
#[case(PAIR_INSIDE, &[Version::V3_5_1])]
#[case(PAIR_LOG_INSIDE, &[Version::V3_4])]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_no_cut_starts_a_server_on_half_a_store(#[case] job: Job, #[case] versions: &[Version]) {
    let versions = if soak() { &Version::ALL } else { versions };
    let recorded = record(&job);
    let boot = &job.boots[0];
    let (mut tried, mut fates) = (BTreeSet::new(), Vec::new());
    for (state, verdicts) in &recorded.states {
        if verdicts[0] == Verdict::Absent {
            continue;
        }
        // The server sees the names below its directories; what files hold was judged.
        let in_sight = |path: &&String| super::judge::tops(boot).iter().any(|top| path.starts_with(top));
        let seen: Vec<(&String, bool)> = state
            .found
            .keys()
            .filter(in_sight)
            .map(|path| {
                (
                    path,
                    recorded.whole.found.get(path).map(|f| &f.what) == state.found.get(path).map(|f| &f.what),
                )
            })
            .collect();
        if !tried.insert(seen) {
            continue;
        }
        let fate =
            if verdicts[0] == Verdict::Complete { Fate::Starts } else { Fate::RefusesAndChangesNothing };
        fates.push(fate);
        for version in versions {
            assert_fate(boot, &recorded, state, *version, fate);
        }
    }
    assert!(fates.contains(&Fate::Starts), "{job:?}: nothing was complete");
    let can_be_barred = boot.wal_dir.is_some();
    assert_eq!(fates.contains(&Fate::RefusesAndChangesNothing), can_be_barred, "{job:?}: {fates:?}");
}

/// Every cut of a defragmentation in place leaves a member that real servers start on: with the old db or with the new
/// one, and with whatever lies beside it.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_every_cut_of_a_defragmentation_starts() {
    let recorded = record(&DEFRAGMENTED_KEPT);
    let boot = &DEFRAGMENTED_KEPT.boots[0];
    let mut tried = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (state, verdicts) in &recorded.states {
        let names: Vec<&String> = state.found.keys().collect();
        if !tried.insert((names, verdicts[0] == Verdict::Complete)) {
            continue;
        }
        seen.insert(verdicts[0] == Verdict::Complete);
        let versions = if soak() { &Version::ALL[..] } else { &[Version::V3_5_1] };
        for version in versions {
            assert_fate(boot, &recorded, state, *version, Fate::Starts);
        }
    }
    assert_eq!(seen.len(), 2, "not both dbs were tried");
}

fn assert_fate(boot: &Boot, recorded: &Recorded, state: &State, version: Version, fate: Fate) {
    let dir = tempfile::tempdir().unwrap();
    materialise(state, dir.path(), &recorded.inodes);
    let before = fingerprint(dir.path());
    let mut launch = Launch::new(version, &dir.path().join(boot.data_dir), boot.name);
    if let Some(wal_dir) = boot.wal_dir {
        launch = launch.args(["--wal-dir".to_owned(), dir.path().join(wal_dir).display().to_string()]);
    }
    if fate == Fate::Starts {
        let server = launch.start();
        assert_eq!(server.hashkv(0).revision, testdata::hashkv_facts("3.4.23", "s1-precompact").1);
        return;
    }
    let mut server = launch.spawn();
    let ended = server.wait_exit(Duration::from_secs(30));
    assert!(
        ended.is_some_and(|status| !status.success()),
        "{version:?} starts {}: {}",
        state.story,
        server.log()
    );
    assert!(server.log().contains("no such file or directory"), "{}: {}", state.story, server.log());
    assert_eq!(before.contents(), fingerprint(dir.path()).contents(), "{version:?} {}", state.story);
}
