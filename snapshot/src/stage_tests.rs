//! Every cut of a commit, and what is left after each failure.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::clean::{CleanStep, clean_stepwise};
use super::*;

/// Every path below `dir` with what it is: a file's content, a link's target, or nothing for a directory.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).expect("a directory") {
            let path = entry.expect("an entry").path();
            let kind = fs::symlink_metadata(&path).expect("metadata").file_type();
            let content = if kind.is_symlink() {
                Some(fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec())
            } else if kind.is_file() {
                Some(fs::read(&path).expect("a file"))
            } else {
                open.push(path.clone());
                None
            };
            found.insert(path.strip_prefix(dir).expect("below").to_owned(), content);
        }
    }
    found
}

fn fill_data(stage: &Stage) {
    stage.create_dir_all("member/snap").expect("directories");
    fs::write(stage.path().join("member/snap/db"), b"db").expect("db");
    fs::write(stage.path().join("member/snap/1.snap"), b"snap").expect("snap");
}

fn fill_wal(stage: &Stage) {
    fs::write(stage.path().join("0.wal"), b"wal").expect("wal");
}

/// What etcd would find in the two directories it is told to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Neither: a fresh host.
    Nothing,
    /// Something at the db's place that cannot be opened or made: the server stops.
    CannotOpen,
    /// Both.
    Complete,
    /// A log without a db, or a db without a log: it would start, and wrongly.
    Half,
}

fn found(data: &Path, wal: &Path) -> Found {
    let db = data.join(DB);
    let has_log = fs::read_dir(wal)
        .is_ok_and(|mut l| l.any(|e| e.expect("an entry").path().extension().is_some_and(|e| e == "wal")));
    let has_link = fs::symlink_metadata(&db).is_ok_and(|m| m.is_symlink());
    let creatable = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&db);
    match creatable {
        Ok(_) if !has_link && fs::read(&db).is_ok_and(|b| b == b"db") => {
            if has_log {
                Found::Complete
            } else {
                Found::Half
            }
        }
        Ok(_) => Found::Half,
        Err(_) if has_link => Found::CannotOpen,
        // The open fails for want of a directory, which etcd would make.
        Err(_) => {
            if has_log {
                Found::Half
            } else {
                Found::Nothing
            }
        }
    }
}

/// A pair of places, existing and empty or not.
struct Place {
    _dir: tempfile::TempDir,
    top: PathBuf,
    data: PathBuf,
    wal: PathBuf,
}

fn place(data_exists: bool, wal_exists: bool) -> Place {
    let dir = tempfile::tempdir().expect("a directory");
    let top = dir.path().to_owned();
    let (data, wal) = (top.join("d/data"), top.join("w/wal"));
    for (path, exists) in [(&data, data_exists), (&wal, wal_exists)] {
        if exists {
            fs::create_dir_all(path).expect("a directory");
        }
    }
    Place { _dir: dir, top, data, wal }
}

fn staged_pair(place: &Place) -> (Stage, Stage) {
    let data = Stage::new(&place.data, Kind::Dir).expect("data stage");
    let wal = Stage::new(&place.wal, Kind::Dir).expect("wal stage");
    fill_data(&data);
    fill_wal(&wal);
    (data, wal)
}

const WAYS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

#[test]
fn no_cut_of_a_pair_leaves_what_etcd_would_start_wrongly() {
    for (data_exists, wal_exists) in WAYS {
        let place = place(data_exists, wal_exists);
        let (data, wal) = staged_pair(&place);
        let seen = RefCell::new(Vec::new());
        commit_pair_stepwise(data, wal, None, &mut |step| {
            seen.borrow_mut().push((step, found(&place.data, &place.wal)));
            Ok(())
        })
        .expect("committed");
        assert_eq!(
            seen.into_inner(),
            [
                (Step::Data, Found::Nothing),
                (Step::Wal, Found::CannotOpen),
                (Step::Db, Found::CannotOpen),
                (Step::InPlace, Found::Complete),
                (Step::Finish, Found::Complete)
            ],
            "{data_exists} {wal_exists}"
        );
        assert_eq!(found(&place.data, &place.wal), Found::Complete);
        assert!(tree(&place.top).keys().all(|p| !is_partial(p.as_os_str())));
        assert!(fs::metadata(&place.data).expect("data").is_dir());
    }
}

#[test]
fn a_failure_at_any_step_of_a_pair_leaves_nothing() {
    for (data_exists, wal_exists) in WAYS {
        for fail_at in [Step::Data, Step::Wal, Step::Db, Step::InPlace] {
            let place = place(data_exists, wal_exists);
            let before = tree(&place.top);
            let (data, wal) = staged_pair(&place);
            let result = commit_pair_stepwise(data, wal, None, &mut |step| {
                if step == fail_at { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            });
            assert!(matches!(result, Err(StageError::Io { .. })), "{fail_at:?}");
            assert_eq!(tree(&place.top), before, "{fail_at:?} {data_exists} {wal_exists}");
        }
    }
}

#[test]
fn a_target_that_appears_in_between_is_not_overwritten() {
    for (at, data_target) in [(Step::Data, true), (Step::Wal, false)] {
        let place = place(false, false);
        let (data, wal) = staged_pair(&place);
        let other = if data_target { place.data.clone() } else { place.wal.clone() };
        let result = commit_pair_stepwise(data, wal, None, &mut |step| {
            if step == at {
                fs::create_dir(&other)?;
                fs::write(other.join("precious"), b"1")?;
            }
            Ok(())
        });
        assert!(matches!(result, Err(StageError::Overtaken(path)) if path == other));
        let left: Vec<PathBuf> =
            tree(&place.top).into_keys().filter(|p| p.starts_with("d/") || p.starts_with("w/")).collect();
        let below = other.strip_prefix(&place.top).expect("below").to_owned();
        assert!(left.iter().all(|p| p.starts_with(&below) || below.starts_with(p)), "{left:?}");
        assert_eq!(fs::read(other.join("precious")).expect("untouched"), b"1");
    }
}

/// Leaves the tree as a SIGKILL before `step` would.
fn killed_before(place: &Place, at: Step) {
    let (data, wal) = staged_pair(place);
    let copy = place.top.join("as-it-was");
    commit_pair_stepwise(data, wal, None, &mut |step| {
        if step == at {
            for name in ["d", "w"] {
                move_tree(&place.top.join(name), &copy.join(name));
            }
        }
        Ok(())
    })
    .expect_err("the rug is gone");
    for name in ["d", "w"] {
        drop(fs::remove_dir_all(place.top.join(name)));
        move_tree(&copy.join(name), &place.top.join(name));
    }
    fs::remove_dir_all(copy).expect("moved back");
}

fn move_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a parent")).expect("parents");
    fs::rename(from, to).expect("moved");
}

#[test]
fn what_a_kill_leaves_is_named_found_refused_where_it_must_be_and_cleaned() {
    for (data_exists, wal_exists) in WAYS {
        for at in [Step::Data, Step::Wal, Step::Db] {
            let place = place(data_exists, wal_exists);
            killed_before(&place, at);
            let left = tree(&place.top);
            let unfinished =
                left.keys().any(|p| p.as_os_str().as_bytes().ends_with(PARTIAL_SUFFIX.as_bytes()));
            assert!(unfinished, "{at:?}: {left:?}");
            assert!(!leftovers(&place.data).expect("listed").is_empty(), "{at:?}");
            let again = Stage::new(&place.data, Kind::Dir);
            if at == Step::Data {
                assert!(!again.expect("free").leftovers().is_empty());
            } else {
                assert!(matches!(again, Err(StageError::Unfinished(_))), "{at:?}");
            }
            let removed = clean(&place.data, Some(&place.wal)).expect("cleaned");
            assert!(!removed.is_empty());
            let rest = tree(&place.top);
            assert!(rest.values().all(Option::is_none), "{at:?}: only empty directories stay: {rest:?}");
            assert!(leftovers(&place.data).expect("listed").is_empty());
            // And the next run gets through.
            let (data, wal) = staged_pair(&place);
            commit_pair(data, wal, None).expect("committed");
            assert_eq!(found(&place.data, &place.wal), Found::Complete);
        }
    }
}

/// How the log lies to the data dir, and which of the two exist.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Pair(bool, bool),
    WithLog(&'static str),
}

const SHAPES: [Shape; 6] = [
    Shape::Pair(false, false),
    Shape::Pair(true, false),
    Shape::Pair(false, true),
    Shape::Pair(true, true),
    Shape::WithLog("wal"),
    Shape::WithLog("a/b"),
];

impl Shape {
    fn place(self) -> Place {
        match self {
            Self::Pair(data_exists, wal_exists) => place(data_exists, wal_exists),
            Self::WithLog(log) => {
                let mut place = place(true, false);
                place.wal = place.data.join(log);
                place
            }
        }
    }

    fn commit(self, place: &Place, before: &mut dyn FnMut(Step) -> io::Result<()>) -> Result<(), StageError> {
        match self {
            Self::Pair(..) => {
                let (data, wal) = staged_pair(place);
                commit_pair_stepwise(data, wal, None, before)
            }
            Self::WithLog(log) => {
                staged_with_log(&place.data, log).commit_with_log_stepwise(Path::new(log), None, before)
            }
        }
    }

    /// Leaves what a kill before `at`, after the names up to there, would leave.
    fn cut(self, place: &Place, at: Step) {
        // The way back is cut before its first step: nothing is taken back.
        self.commit(place, &mut |step| match step {
            Step::BackWal => Err(io::ErrorKind::Interrupted.into()),
            step if step == at => Err(io::ErrorKind::Interrupted.into()),
            _ => Ok(()),
        })
        .expect_err("cut");
    }
}

#[test]
fn no_cut_of_the_way_back_leaves_what_etcd_would_start_wrongly() {
    let full = || Err(io::ErrorKind::StorageFull.into());
    for shape in SHAPES {
        for fail_at in [Step::Wal, Step::Db, Step::InPlace] {
            let place = shape.place();
            let seen = RefCell::new(Vec::new());
            let result = shape.commit(&place, &mut |step| {
                seen.borrow_mut().push((step, found(&place.data, &place.wal)));
                if step == fail_at { full() } else { Ok(()) }
            });
            assert!(matches!(result, Err(StageError::Io { .. })), "{result:?}");
            let seen = seen.into_inner();
            let back = [(Step::BackWal, Found::CannotOpen), (Step::BackData, Found::CannotOpen)];
            assert_eq!(seen[seen.len() - 2..], back, "{shape:?} {fail_at:?}");
            assert_eq!(found(&place.data, &place.wal), Found::Nothing);

            for second in [Step::BackWal, Step::BackData] {
                let place = shape.place();
                let result = shape.commit(&place, &mut |step| {
                    if step == fail_at || step == second { full() } else { Ok(()) }
                });
                assert!(matches!(result, Err(StageError::Io { .. })), "{result:?}");
                assert_eq!(
                    found(&place.data, &place.wal),
                    Found::CannotOpen,
                    "{shape:?} {fail_at:?} {second:?}"
                );
                clean(&place.data, Some(&place.wal)).expect("cleaned");
                assert!(tree(&place.top).values().all(Option::is_none), "{shape:?} {fail_at:?} {second:?}");
                shape.commit(&place, &mut |_| Ok(())).expect("committed");
                assert_eq!(found(&place.data, &place.wal), Found::Complete);
            }
        }
    }
}

#[test]
fn the_way_back_takes_nobody_elses_db() {
    for shape in SHAPES {
        let place = shape.place();
        let db = place.data.join(DB);
        let result = shape.commit(&place, &mut |step| {
            if step == Step::InPlace {
                fs::rename(&db, place.top.join("moved"))?;
                fs::write(&db, b"of somebody else")?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        });
        assert!(matches!(result, Err(StageError::Io { .. })), "{result:?}");
        assert_eq!(fs::read(&db).expect("untouched"), b"of somebody else", "{shape:?}");
        assert!(place.wal.join("0.wal").is_file(), "{shape:?}");
    }
}

#[test]
fn no_cut_of_a_clean_leaves_what_etcd_would_start_wrongly_or_no_later_clean_removes() {
    for shape in SHAPES {
        for at in [Step::Wal, Step::Db] {
            // How many steps there are shows when one is not reached.
            for cut_before in 0.. {
                let place = shape.place();
                shape.cut(&place, at);
                assert_eq!(found(&place.data, &place.wal), Found::CannotOpen);
                let story = format!("{shape:?} {at:?} {cut_before}");
                let mut seen = Vec::new();
                let cut = clean_stepwise(&place.data, Some(&place.wal), &mut |step| {
                    let is_after = seen.contains(&CleanStep::Partial);
                    seen.push(step);
                    let found = found(&place.data, &place.wal);
                    let is_back = step == CleanStep::Partial || is_after;
                    assert_eq!(
                        found,
                        if is_back { Found::Nothing } else { Found::CannotOpen },
                        "{story} {step:?}"
                    );
                    if seen.len() > cut_before { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
                });
                if cut.is_ok() {
                    assert!(seen.contains(&CleanStep::Member), "{story}: {seen:?}");
                    assert_eq!(seen.contains(&CleanStep::Segment), at == Step::Db, "{story}: {seen:?}");
                    break;
                }
                if seen.ends_with(&[CleanStep::Partial]) {
                    // A kill within the removal: the link goes before the directories above it.
                    let partials = leftovers(&place.data).expect("listed");
                    for partial in partials.iter().filter(|path| path.join("snap").is_dir()) {
                        drop(fs::remove_file(partial.join("snap/db")));
                    }
                } else {
                    // And without its log the link stays, in each of these states.
                    let refused = clean(&place.data, None);
                    assert!(matches!(refused, Err(StageError::LogNotFound { .. })), "{story}: {refused:?}");
                }
                let remains = Remains::find(&place.data, Some(&place.wal)).expect("found");
                examine_without(&place.data, Kind::Dir, &remains).expect("empty but for those");
                clean(&place.data, Some(&place.wal)).expect("cleaned");
                let rest = tree(&place.top);
                assert!(rest.values().all(Option::is_none), "{story}: only empty directories stay: {rest:?}");
                assert!(place.data.is_dir() && tree(&place.data).is_empty(), "{story}: {rest:?}");
                shape.commit(&place, &mut |_| Ok(())).expect("committed");
                assert_eq!(found(&place.data, &place.wal), Found::Complete, "{story}");
            }
        }
    }
}

#[test]
fn clean_finds_names_for_what_it_sets_aside() {
    for shape in SHAPES {
        let place = shape.place();
        shape.cut(&place, Step::Db);
        for dir in [&place.data, &place.wal] {
            for name in ["member", "0.wal"] {
                fs::create_dir(dir.join(format!("{name}{PARTIAL_SUFFIX}"))).expect("a directory");
            }
        }
        clean(&place.data, Some(&place.wal)).expect("cleaned");
        assert!(tree(&place.top).values().all(Option::is_none), "{shape:?}");
        assert_eq!(leftovers(&place.data).expect("listed"), Vec::<PathBuf>::new());
    }
}

/// Between its renames a run has given its directories their names, but holds its locks.
#[test]
fn clean_spares_a_run_between_its_renames() {
    for shape in SHAPES {
        let place = shape.place();
        shape
            .commit(&place, &mut |step| {
                if matches!(step, Step::Wal | Step::Db) {
                    let before = tree(&place.top);
                    let cleaned = clean(&place.data, Some(&place.wal));
                    assert!(matches!(cleaned, Err(StageError::InUse(_))), "{shape:?} {step:?}: {cleaned:?}");
                    assert_eq!(tree(&place.top), before, "{shape:?} {step:?}");
                }
                Ok(())
            })
            .expect("committed");
        assert_eq!(found(&place.data, &place.wal), Found::Complete);
    }
}

/// Given for a log directory, another cut restore is not touched: its log is not known here.
#[test]
fn clean_takes_no_other_unfinished_member() {
    let (one, other) = (place(false, false), place(false, false));
    Shape::Pair(false, false).cut(&other, Step::Db);
    fs::create_dir_all(&one.data).expect("a directory");
    clean(&one.data, Some(&other.data)).expect("nothing to do");
    assert_eq!(found(&other.data, &other.wal), Found::CannotOpen);
}

/// A log in an existing data dir: beside `member`, and deep below.
const LOGS: [&str; 2] = ["wal", "a/b"];

fn staged_with_log(data: &Path, log: &str) -> Stage {
    let stage = Stage::new(data, Kind::Dir).expect("a stage");
    fill_data(&stage);
    stage.create_dir_all(log).expect("directories");
    fs::write(stage.path().join(log).join("0.wal"), b"wal").expect("wal");
    stage
}

#[test]
fn no_cut_of_a_data_dir_with_its_log_leaves_what_etcd_would_start_wrongly() {
    for (log, exists) in LOGS.into_iter().flat_map(|log| [(log, true), (log, false)]) {
        let place = place(exists, false);
        let stage = staged_with_log(&place.data, log);
        let seen = RefCell::new(Vec::new());
        stage
            .commit_with_log_stepwise(Path::new(log), None, &mut |step| {
                seen.borrow_mut().push((step, found(&place.data, &place.data.join(log))));
                Ok(())
            })
            .expect("committed");
        let steps = [
            (Step::Data, Found::Nothing),
            (Step::Wal, Found::CannotOpen),
            (Step::Db, Found::CannotOpen),
            (Step::InPlace, Found::Complete),
            (Step::Finish, Found::Complete),
        ];
        // Where nothing was there before, one rename does it.
        assert_eq!(seen.into_inner(), if exists { &steps[..] } else { &[] }, "{log}");
        assert_eq!(found(&place.data, &place.data.join(log)), Found::Complete);
        assert!(tree(&place.top).keys().all(|p| !is_partial(p.as_os_str())));
    }
}

#[test]
fn a_failure_at_any_step_of_a_data_dir_with_its_log_leaves_nothing() {
    for log in LOGS {
        for fail_at in [Step::Data, Step::Wal, Step::Db, Step::InPlace] {
            let place = place(true, false);
            let before = tree(&place.top);
            let stage = staged_with_log(&place.data, log);
            let result = stage.commit_with_log_stepwise(Path::new(log), None, &mut |step| {
                if step == fail_at { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            });
            assert!(matches!(result, Err(StageError::Io { .. })), "{fail_at:?}");
            assert_eq!(tree(&place.top), before, "{fail_at:?} {log}");
        }
    }
}

#[test]
fn what_a_kill_leaves_of_a_data_dir_with_its_log_is_cleaned() {
    for log in LOGS {
        for at in [Step::Data, Step::Wal, Step::Db] {
            let place = place(true, false);
            let wal = place.data.join(log);
            let stage = staged_with_log(&place.data, log);
            let copy = place.top.join("as-it-was");
            stage
                .commit_with_log_stepwise(Path::new(log), None, &mut |step| {
                    if step == at {
                        move_tree(&place.data, &copy);
                    }
                    Ok(())
                })
                .expect_err("the rug is gone");
            drop(fs::remove_dir_all(&place.data));
            move_tree(&copy, &place.data);

            let remains = Remains::find(&place.data, Some(&wal)).expect("found");
            assert!(examine_without(&place.data, Kind::Dir, &remains).expect("empty but for those"));
            if at != Step::Data {
                assert!(matches!(examine(&place.data, Kind::Dir), Err(StageError::Unfinished(_))));
                let left = tree(&place.top);
                let refused = clean(&place.data, None);
                assert!(matches!(refused, Err(StageError::LogNotFound { wal: None, .. })), "{refused:?}");
                assert_eq!(tree(&place.top), left);
            }
            clean(&place.data, Some(&wal)).expect("cleaned");
            assert_eq!(tree(&place.data).len(), 0, "{log} {at:?}");
        }
    }
}

#[test]
fn clean_takes_no_log_but_the_unfinished_ones() {
    let place = place(false, false);
    killed_before(&place, Step::Db);
    let other = place.top.join("other");
    fs::create_dir(&other).expect("a directory");
    fs::write(other.join("0.wal"), b"someone else's").expect("a log");
    let left = tree(&place.top);
    for wal_dir in [Some(other.as_path()), None] {
        let refused = clean(&place.data, wal_dir);
        assert!(matches!(refused, Err(StageError::LogNotFound { .. })), "{refused:?}");
        assert_eq!(tree(&place.top), left, "the link stays, and keeps etcd from starting on the log alone");
    }
    fs::write(place.wal.join("1.wal"), b"someone else's").expect("a log");
    clean(&place.data, Some(&place.wal)).expect("cleaned");
    for path in [other.join("0.wal"), place.wal.join("1.wal")] {
        assert_eq!(fs::read(path).expect("still there"), b"someone else's");
    }
}

#[test]
fn clean_spares_what_is_being_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let stage = Stage::new(&out, Kind::Dir).expect("a stage");
    assert!(matches!(clean(&out, None), Err(StageError::InUse(path)) if path == stage.path()));
    assert!(stage.path().is_dir());
}

/// A stage is made and then locked; a `--clean` in between takes it for what a killed run left. The run must notice, and
/// make it anew.
#[test]
fn a_stage_that_was_cleaned_away_before_it_was_locked_is_made_anew() {
    for kind in [Kind::Dir, Kind::File] {
        let place = place(false, false);
        fs::create_dir_all(parent_of(&place.data)).expect("a directory");
        // Ends the other thread also when this one panics: the sender goes then.
        let (running, over) = std::sync::mpsc::channel::<()>();
        let data = place.data.clone();
        let cleaner = std::thread::spawn(move || {
            while over.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                // In use, or gone between being listed and being opened: not this test's question.
                drop(clean(&data, None));
                drop(abandoned(&data));
            }
        });
        for _ in 0..500 {
            let stage = Stage::new(&place.data, kind).expect("a stage");
            let handle = stage.handle.as_ref().expect("held open");
            assert!(leads_to(stage.path(), handle).expect("metadata"), "{kind:?}");
            let cleaned = clean(&place.data, None);
            assert!(matches!(cleaned, Err(StageError::InUse(_))), "{kind:?}: {cleaned:?}");
        }
        drop(running);
        cleaner.join().expect("the cleaner");
        assert_eq!(leftovers(&place.data).expect("listed"), Vec::<PathBuf>::new());
    }
}

#[test]
fn one_output_appears_whole_with_its_modes() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("a/b/out");
    let stage = Stage::new(&out, Kind::Dir).expect("a stage");
    assert_eq!(stage.path(), dir.path().join("a/b/out.etcd-rescue-partial"));
    fill_data(&stage);
    drop(stage.create_file("member/snap/2.snap", SNAP_MODE).expect("a snap"));
    drop(stage.create_file("member/snap/log", FILE_MODE).expect("a file"));
    assert!(stage.create_file("member/snap/log", FILE_MODE).is_err(), "never twice");
    assert!(!out.exists());
    stage.commit(None).expect("committed");
    let mode = |path: &str| fs::metadata(dir.path().join(path)).expect("there").permissions().mode() & 0o7777;
    for path in ["a", "a/b", "a/b/out", "a/b/out/member", "a/b/out/member/snap"] {
        assert_eq!(mode(path), 0o700, "{path}");
    }
    assert_eq!(mode("a/b/out/member/snap/log"), 0o600);
    assert_eq!(mode("a/b/out/member/snap/2.snap") & !0o044, 0o600);
    assert_eq!(tree(&out).get(Path::new(DB)), Some(&Some(b"db".to_vec())));
}

#[test]
fn a_dropped_stage_leaves_nothing_not_even_parents() {
    let dir = tempfile::tempdir().expect("a directory");
    for kind in [Kind::Dir, Kind::File] {
        let stage = Stage::new(&dir.path().join("a/b/out"), kind).expect("a stage");
        assert_eq!(stage.file().is_some(), kind == Kind::File);
        drop(stage);
        assert_eq!(tree(dir.path()).len(), 0, "{kind:?}");
    }
}

#[test]
fn a_file_is_staged_beside_and_appears_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("snap.db");
    let stage = Stage::new(&out, Kind::File).expect("a stage");
    io::Write::write_all(&mut stage.file().expect("a file"), b"bytes").expect("written");
    stage.commit(None).expect("committed");
    assert_eq!(fs::read(&out).expect("there"), b"bytes");
    assert_eq!(fs::metadata(&out).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(matches!(Stage::new(&out, Kind::File), Err(StageError::Exists(_))));
    assert!(matches!(Stage::new(&out, Kind::Dir), Err(StageError::NotADirectory(_))));
    assert!(matches!(Stage::new(dir.path(), Kind::File), Err(StageError::Directory(_))));
    assert!(matches!(Stage::new(&out.join("below"), Kind::Dir), Err(StageError::Io { .. })));
}

#[test]
fn an_empty_directory_keeps_its_identity() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("lost+found")).expect("as on a fresh ext4");
    let inode = fs::metadata(dir.path()).expect("there").ino();
    let mut stage = Stage::new(dir.path(), Kind::Dir).expect("counts as empty");
    fill_data(&stage);
    stage.create_dir_all("zzz").expect("a directory");
    stage.publish().expect("published");
    assert_eq!(stage.moved, ["member", "zzz"]);
    stage.finish();
    drop(stage);
    assert_eq!(fs::metadata(dir.path()).expect("there").ino(), inode);
    let names: Vec<PathBuf> = tree(dir.path()).into_keys().filter(|p| p.components().count() == 1).collect();
    assert_eq!(names, ["lost+found", "member", "zzz"].map(PathBuf::from));
    let again = Stage::new(dir.path(), Kind::Dir).expect_err("taken").to_string();
    assert!(again.contains("is not empty"), "{again}");
}

#[test]
fn a_link_to_nowhere_and_a_nameless_path_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    symlink("nowhere", dir.path().join("out")).expect("a link");
    assert!(matches!(Stage::new(&dir.path().join("out"), Kind::Dir), Err(StageError::Exists(_))));
    assert!(matches!(Stage::new(&dir.path().join("absent/.."), Kind::Dir), Err(StageError::NoName(_))));
    assert_eq!(tree(dir.path()).len(), 1);
}

#[test]
fn a_second_stage_for_the_same_output_gets_another_name_and_the_first_to_commit_wins() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let (one, two) = (Stage::new(&out, Kind::Dir).expect("one"), Stage::new(&out, Kind::Dir).expect("two"));
    assert_ne!(one.path(), two.path());
    assert!(is_partial(two.path().as_os_str()));
    assert_eq!(two.leftovers(), [one.path().to_owned()]);
    fill_data(&one);
    two.commit(None).expect("first");
    assert!(matches!(one.commit(None), Err(StageError::Overtaken(_))));
    assert_eq!(tree(dir.path()).len(), 1);
}

#[test]
fn the_portable_rename_overwrites_nothing_either() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("d")).expect("a directory");
    fs::write(path("d/x"), b"x").expect("a file");
    fs::write(path("f"), b"f").expect("a file");
    fs::create_dir(path("taken-d")).expect("a directory");
    fs::write(path("taken-f"), b"t").expect("a file");
    for (from, to) in [("d", "taken-d"), ("d", "taken-f"), ("f", "taken-f"), ("f", "taken-d")] {
        for rename in [rename_new, rename_new_portable] {
            assert!(matches!(rename(&path(from), &path(to)), Err(StageError::Overtaken(_))), "{from} {to}");
        }
    }
    rename_new_portable(&path("d"), &path("d2")).expect("free");
    rename_new_portable(&path("f"), &path("f2")).expect("free");
    let names: Vec<PathBuf> = tree(dir.path()).into_keys().collect();
    assert_eq!(names, ["d2", "d2/x", "f2", "taken-d", "taken-f"].map(PathBuf::from));
}

#[test]
fn a_pair_needs_a_db_a_log_and_two_places() {
    let place = place(false, false);
    let stages = || {
        let data = Stage::new(&place.data, Kind::Dir).expect("data");
        (data, Stage::new(&place.wal, Kind::Dir).expect("wal"))
    };
    let (data, wal) = stages();
    fill_wal(&wal);
    assert!(matches!(commit_pair(data, wal, None), Err(StageError::Incomplete(_))));
    let (data, wal) = stages();
    fill_data(&data);
    assert!(matches!(commit_pair(data, wal, None), Err(StageError::Incomplete(_))));
    let data = Stage::new(&place.data, Kind::Dir).expect("data");
    let wal = Stage::new(&place.data.join("wal"), Kind::Dir).expect("wal");
    assert!(matches!(commit_pair(data, wal, None), Err(StageError::Nested { .. })));
    assert_eq!(tree(&place.top).len(), 0);
}

#[test]
fn paths_within_each_other_are_told() {
    let of = |data: &str, wal: &str| relation(Path::new(data), Path::new(wal)).expect("told");
    assert_eq!(of("/a/b", "/a/c"), Relation::Apart);
    assert_eq!(of("/a/b", "/a/bb"), Relation::Apart);
    assert_eq!(of("/a/b", "/a/x/../b/member/wal/"), Relation::WalInData(PathBuf::from("member/wal")));
    assert_eq!(of("a", "./a/wal"), Relation::WalInData(PathBuf::from("wal")));
    assert_eq!(of("/a/b", "/a/./b"), Relation::Impossible);
    assert_eq!(of("/a/b", "/a"), Relation::Impossible);

    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("real/deep")).expect("directories");
    symlink("real/deep", path("link")).expect("a link");
    let of = |data: &str, wal: &str| relation(&path(data), &path(wal)).expect("told");
    assert_eq!(of("real/deep/d", "link/d/wal"), Relation::WalInData(PathBuf::from("wal")));
    assert_eq!(of("link/d", "real/deep/d/wal"), Relation::WalInData(PathBuf::from("wal")));
    assert_eq!(of("link/d", "real/deep/d"), Relation::Impossible);
    assert_eq!(of("link/../d", "real/d"), Relation::Impossible, "`..` leaves what the link points to");
    assert_eq!(of("link/../d", "d"), Relation::Apart);
}

#[test]
fn only_root_gives_files_away() {
    let owner = |uid| Some(Owner { uid, gid: None });
    assert!(matches!(ensure_owner_as(1000, owner(998)), Err(StageError::Owner { euid: 1000, uid: 998 })));
    for (euid, owner) in [(0, owner(998)), (1000, owner(1000)), (1000, None)] {
        ensure_owner_as(euid, owner).expect("allowed");
    }
}

/// Nobody but root can hand a directory over, so only root sees it handed back.
#[test]
fn a_failure_gives_an_existing_directory_back() {
    let place = place(true, true);
    let of = |path: &Path| fs::metadata(path).map(|m| (m.uid(), m.gid(), m.mode())).expect("there");
    let before = (of(&place.data), of(&place.wal));
    let is_root = rustix::process::geteuid().is_root();
    let (uid, gid) = if is_root { (4242, 4343) } else { (before.0.0, before.0.1) };
    let (data, wal) = staged_pair(&place);
    let handed = Cell::new(None);
    commit_pair_stepwise(data, wal, Some(Owner { uid, gid: Some(gid) }), &mut |step| {
        if step == Step::Db {
            handed.set(Some((of(&place.data), of(&place.wal))));
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    })
    .expect_err("told to fail");
    let (data, wal) = handed.get().expect("got there");
    assert_eq!((data, wal), ((uid, gid, before.0.2), (uid, gid, before.1.2)), "and the mode is left alone");
    assert_eq!((of(&place.data), of(&place.wal)), before);
}

#[test]
fn the_owner_reaches_everything_that_was_made() {
    // Handing a file to oneself is allowed to everybody, so this needs no root; a foreign owner does.
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let owner = if uid == 0 { Owner { uid: 4242, gid: Some(4343) } } else { Owner { uid, gid: Some(gid) } };
    for (data_exists, wal_exists) in WAYS {
        let place = place(data_exists, wal_exists);
        let (data, wal) = staged_pair(&place);
        commit_pair(data, wal, Some(owner)).expect("committed");
        for (path, below) in [(&place.data, data_exists), (&place.wal, wal_exists)] {
            // The parents of what was there before are none of ours.
            let parent = (!below).then(|| parent_of(path));
            for path in tree(path).into_keys().map(|p| path.join(p)).chain([path.clone()]).chain(parent) {
                let meta = fs::symlink_metadata(&path).expect("there");
                assert_eq!((meta.uid(), Some(meta.gid())), (owner.uid, owner.gid), "{path:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever was staged is either all there or not at all, also when a rename inside an existing directory fails.
    #[test]
    fn entries_move_up_all_or_none(
        names in prop::collection::btree_set("[a-z]{1,3}|member", 1..8),
        fail in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let stage = Stage::new(dir.path(), Kind::Dir).expect("empty");
        for name in &names {
            stage.create_dir_all(name).expect("a directory");
            fs::write(stage.path().join(name).join("x"), name).expect("a file");
        }
        let taken = fail.map(|index| names.iter().nth(index.index(names.len())).expect("one of them"));
        if let Some(taken) = taken {
            fs::write(dir.path().join(taken), b"in the way").expect("a file");
        }
        let overtaken = Cell::new(false);
        match stage.commit(None) {
            Ok(()) => {}
            Err(StageError::Overtaken(_)) => overtaken.set(true),
            Err(e) => prop_assert!(false, "{}", e),
        }
        prop_assert_eq!(overtaken.get(), taken.is_some());
        let left: Vec<PathBuf> = tree(dir.path()).into_keys().collect();
        match taken {
            Some(taken) => prop_assert_eq!(left, [PathBuf::from(taken)]),
            None => prop_assert_eq!(left.len(), names.len() * 2),
        }
    }
}
