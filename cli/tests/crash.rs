//! Runs that end early: by Ctrl-C, by SIGTERM, by SIGKILL, by a disk that fills, by another run that was faster. What they
//! leave is nothing, or says by its name what it is.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "rig/jobs.rs"]
mod jobs;
mod support_hostile;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use jobs::{ALL, ATTACH, FREELIST_REBUILT, INSIDE, INSIDE_WITH_LOG, Job, ONE, PAIR, SALVAGED, SAVE};
use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use support_hostile::{BINARY, PATIENCE, Ran, THREE, World, good, grown, image, in_own_mounts};

const PARTIAL: &str = ".etcd-rescue-partial";
/// Large values appended to the small snapshot, so that writing it takes a while.
const BIG_VALUES: usize = 48;
const BIG_VALUE_BYTES: usize = 1 << 20;

/// A sound db of some 50 MB without a trailer: the real one, with revisions appended.
fn big() -> &'static [u8] {
    static BIG: OnceLock<Vec<u8>> = OnceLock::new();
    BIG.get_or_init(|| grown(image(&good()), (0..BIG_VALUES).map(|_| vec![b'v'; BIG_VALUE_BYTES])))
}

fn world() -> World {
    let world = World::new();
    world.put("source.db", big());
    world
}

/// What the tests below ask of a job.
trait Run {
    fn prepare(&self, world: &World);
    fn is_done(&self, world: &World) -> bool;
}

impl Run for Job {
    fn prepare(&self, world: &World) {
        world.clear();
        if let Some(dir) = self.mount_point {
            fs::create_dir(world.output(dir)).unwrap();
        }
    }

    fn is_done(&self, world: &World) -> bool {
        self.made.iter().any(|made| world.output(made).exists())
    }
}

/// A process that must not outlive its test.
struct Running(Option<Child>);

impl Running {
    fn start(world: &World, line: &str) -> Self {
        Self::start_as(world.command(), line)
    }

    fn start_as(mut command: Command, line: &str) -> Self {
        command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().unwrap()))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    fn send(&mut self, signal: Signal) {
        let pid = Pid::from_child(self.child());
        // It may be gone already: a race each caller looks into.
        let _ = kill_process(pid, signal);
    }

    fn is_over(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    #[track_caller]
    fn ran(mut self) -> Ran {
        let start = Instant::now();
        while !self.is_over() {
            assert!(start.elapsed() < PATIENCE, "still running");
            sleep(Duration::from_millis(2));
        }
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            args: Vec::new(),
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts `job` and holds it (SIGSTOP) as soon as its staged output shows, and is locked. On a machine so fast, or a scheduler so
/// unkind, that it was done by then, tries again.
fn held(world: &World, job: Job) -> Running {
    for _ in 0..20 {
        job.prepare(world);
        let mut running = Running::start(world, job.line);
        let start = Instant::now();
        while !has_staged(world, job) && !running.is_over() {
            assert!(start.elapsed() < PATIENCE, "{job:?} stages nothing");
        }
        running.send(Signal::STOP);
        let gone = running.is_over();
        if !gone && !job.is_done(world) {
            return running;
        }
        let ran = {
            running.send(Signal::CONT);
            running.ran()
        };
        assert_eq!(ran.code, Some(0), "{job:?}: {ran:#?}");
    }
    panic!("{job:?} is always done before it can be held");
}

/// True when something is staged that its writer holds locked: from then on nobody takes it for what a killed run left.
/// Names may come and go meanwhile.
fn has_staged(world: &World, job: Job) -> bool {
    let dir = world.output(job.mount_point.unwrap_or_default());
    let mut entries = fs::read_dir(dir).unwrap().filter_map(Result::ok);
    entries.any(|entry| {
        let is_partial = entry.file_name().to_string_lossy().ends_with(PARTIAL);
        is_partial && File::open(entry.path()).is_ok_and(|staged| staged.try_lock_shared().is_err())
    })
}

fn only_mount_point(job: Job) -> Vec<String> {
    job.mount_point.map(str::to_owned).into_iter().collect()
}

#[rstest]
fn an_interrupted_run_leaves_nothing(
    #[values(ONE, INSIDE, INSIDE_WITH_LOG, PAIR, ALL, SAVE, ATTACH, FREELIST_REBUILT, SALVAGED)] job: Job,
    #[values((Signal::INT, 130), (Signal::TERM, 143))] signal: (Signal, i32),
) {
    assert_interruptible(job, signal);
}

#[rstest]
fn a_lost_terminal_and_a_quit_leave_nothing(
    #[values((Signal::HUP, 129), (Signal::QUIT, 131))] signal: (Signal, i32),
) {
    assert_interruptible(PAIR, signal);
}

/// What nohup is for.
#[test]
fn a_hangup_that_is_ignored_stops_nothing() {
    let world = world();
    world.guard(|| {
        // The parent of the binary ignores the signal, and so does the binary unless it listens all the same.
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap '' HUP; exec "$0" "$@""#, BINARY]);
        command.current_dir(world.root()).stdin(Stdio::null());
        let mut running = Running::start_as(command, ONE.line);
        let start = Instant::now();
        while !has_staged(&world, ONE) && !running.is_over() {
            assert!(start.elapsed() < PATIENCE, "stages nothing");
        }
        running.send(Signal::HUP);
        running.ran().says(0, &[]);
        assert!(ONE.is_done(&world));
    });
}

fn assert_interruptible(job: Job, (signal, code): (Signal, i32)) {
    let world = world();
    world.guard(|| {
        for _ in 0..20 {
            let mut running = held(&world, job);
            running.send(signal);
            running.send(Signal::CONT);
            let ran = running.ran();
            // Asked when only the rename was left to do, it is done all the same, and says so.
            if ran.code == Some(0) && job.is_done(&world) {
                continue;
            }
            ran.says(code, &["Error: interrupted; nothing was left behind"]);
            assert_eq!(world.names(), only_mount_point(job));
            return;
        }
        panic!("{job:?} cannot be interrupted");
    });
}

#[rstest]
fn a_killed_run_leaves_what_says_so_and_can_be_cleaned(
    #[values(ONE, INSIDE, INSIDE_WITH_LOG, PAIR, ALL, SAVE, ATTACH, FREELIST_REBUILT, SALVAGED)] job: Job,
) {
    let world = world();
    world.guard(|| {
        let mut running = held(&world, job);
        running.send(Signal::KILL);
        running.send(Signal::CONT);
        assert_eq!(running.ran().code, None);
        let left = world.names();
        let named: Vec<&String> = left.iter().filter(|name| name.ends_with(PARTIAL)).collect();
        assert!(!named.is_empty());
        let unnamed = left.iter().find(|name| !name.contains(PARTIAL) && job.mount_point != Some(name));
        assert_eq!(unnamed, None, "in {left:?}");

        // The next run names it, and does not stumble over it.
        let next = world.line(job.line);
        let is_left =
            named.iter().map(|name| format!("out/{name} is what an earlier run left when it was killed"));
        let is_left: Vec<String> = is_left.collect();
        let parts: Vec<&str> = is_left.iter().map(String::as_str).chain(["--clean removes it"]).collect();
        next.says(0, &parts);
        for name in &named {
            assert!(world.output(name).exists(), "only --clean removes");
        }
        // As does the run after a result was taken away.
        for made in job.made {
            let made = world.output(made);
            if made.is_dir() { fs::remove_dir_all(made) } else { fs::remove_file(made) }.unwrap();
        }
        if job.mount_point.is_none() && world.output("m1").exists() {
            fs::remove_dir_all(world.output("m1")).unwrap();
        }
        world.line(&format!("{} --clean --dry-run", job.line)).says(0, &["is what an earlier run left"]);
        let cleaned = world.line(&format!("{} --clean", job.line));
        cleaned.says(0, &["removed out/", "which an earlier run had left unfinished"]);
        assert!(!cleaned.stderr.contains("--clean removes it"), "{cleaned:#?}");
        assert!(job.is_done(&world));
        assert!(!world.names().iter().any(|name| name.contains(PARTIAL)), "{:?}", world.names());
    });
}

/// Two runs for one output: the second does not take the first for dead, and the slower one gives way.
#[rstest]
fn two_runs_for_one_output(#[values(ONE, ALL, SAVE, FREELIST_REBUILT)] job: Job) {
    let world = world();
    world.guard(|| {
        let mut first = held(&world, job);
        let clean = world.line(&format!("{} --clean", job.line));
        clean.says(1, &["is in use by a running process"]);
        let second = world.line(job.line);
        second.says(0, &[]);
        assert!(!second.stderr.contains("an earlier run left"), "{second:#?}");
        let done = world.outputs();
        first.send(Signal::CONT);
        first.ran().says(1, &["appeared while the output was being written; nothing was overwritten"]);
        let after = world.outputs();
        let staged = |path: &PathBuf| path.display().to_string().contains(PARTIAL);
        assert_eq!(done.into_iter().filter(|(path, ..)| !staged(path)).collect::<Vec<_>>(), after);
    });
}

/// The disk is filled while the output is being written. (In the small: `bad_input.rs`, with inodes.)
#[test]
fn a_disk_that_fills_half_way() {
    let world = world();
    let script = format!(
        r#"
        mount -t tmpfs -o size=400m none out
        "$0" snapshot restore in/source.db --skip-hash-check --all-members --initial-cluster {THREE} -o out/all &
        pid=$!
        until ls out | grep -q partial; do kill -0 $pid; done
        kill -STOP $pid
        test ! -e out/all
        dd if=/dev/zero of=out/filler bs=1M 2>/dev/null || true
        kill -CONT $pid
        code=0; wait $pid || code=$?
        rm out/filler
        echo "code $code"
        find out -mindepth 1"#
    );
    let ran = world.guard(|| in_own_mounts(&world, &script));
    ran.says(0, &["out/all", "No space left on device", "nothing was left behind"]);
    assert_eq!(ran.stdout, "code 1\n", "{ran:#?}");
}

/// Waiting for a lock is not a reason to be deaf.
#[test]
fn an_interrupted_wait_for_a_lock() {
    let world = World::new();
    let holder = File::open(world.input("good.db")).unwrap();
    holder.lock().unwrap();
    let mut running = Running::start(&world, "--timeout 0 snapshot restore in/good.db --data-dir out/m1");
    sleep(Duration::from_secs(2));
    assert!(!running.is_over(), "it waits for ever");
    running.send(Signal::INT);
    running.ran().says(130, &["in/good.db is locked", "waiting", "Error: interrupted"]);
    assert_eq!(world.names(), Vec::<String>::new());
}

/// Takes a finished restore back to where a kill after the cut `cut_after` (2 or 3, `snapshot::stage`) would have left it.
fn cut(world: &World, wal: &str, staged: &str, cut_after: u32) {
    let wal = world.output(wal);
    let segment = fs::read_dir(&wal).unwrap().next().unwrap().unwrap().metadata().unwrap();
    let db = world.output("m1/member/snap/db");
    fs::rename(&db, db.with_file_name(format!("db{PARTIAL}"))).unwrap();
    symlink(format!("unfinished{PARTIAL}/wal-{}-{}", segment.dev(), segment.ino()), db).unwrap();
    if cut_after == 2 {
        let staged = world.output(staged);
        fs::create_dir_all(staged.parent().unwrap()).unwrap();
        fs::rename(&wal, staged).unwrap();
        // The first directory below the data dir moves, with the log in it.
        for above in wal.ancestors().skip(1).take_while(|dir| *dir != world.output("m1")) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
    }
}

/// The link in place of the db is all that keeps etcd from starting on the log alone: it goes with the log, or stays.
#[rstest]
#[case::a_pair("wal", "wal.etcd-rescue-partial")]
#[case::a_log_in_the_data_dir("m1/wal", "m1/unfinished.etcd-rescue-partial/wal")]
#[case::a_log_deep_in_the_data_dir("m1/a/b", "m1/unfinished.etcd-rescue-partial/a/b")]
fn a_cut_restore_is_cleaned_whole_or_not_at_all(
    #[case] wal: &str,
    #[case] staged: &str,
    #[values(2, 3)] cut_after: u32,
) {
    let world = World::new();
    let mut changed = good().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    world.put("changed.db", changed);
    let line = "snapshot restore in/good.db --data-dir out/m1";
    let whole = format!("{line} --wal-dir out/{wal}");
    world.line(&whole).says(0, &[]);
    cut(&world, wal, staged, cut_after);
    fs::create_dir(world.output("other")).unwrap();
    fs::write(world.output("other/0.wal"), "of somebody else").unwrap();

    world.refuses(
        &whole,
        1,
        &["out/m1 holds an unfinished restore", "--clean, together with the same --wal-dir"],
    );
    let give = "Give the same --wal-dir as then";
    world.refuses(&format!("{line} --clean"), 1, &["out/m1 holds an unfinished restore", give]);
    world.refuses(&format!("{line} --clean --wal-dir out/none"), 1, &["not in out/none", give]);
    world.refuses(&format!("{line} --clean --wal-dir out/other"), 1, &["not in out/other", give]);
    // A snapshot that is of no use is no reason to take anything away.
    let useless = whole.replace("good", "changed");
    world.refuses(&format!("{useless} --clean"), 1, &["expected sha256"]);
    let before = world.outputs();
    world.line(&format!("{whole} --clean --dry-run")).says(0, &[]);
    assert_eq!(world.outputs(), before);

    world.line(&format!("{whole} --clean")).says(0, &["removed out/m1/member", "had left unfinished"]);
    fs::remove_dir_all(world.output("other")).unwrap();
    assert!(world.output("m1/member/snap/db").metadata().unwrap().is_file());
    assert_eq!(fs::read_dir(world.output(wal)).unwrap().count(), 1);
    assert!(!world.names().iter().any(|name| name.contains(PARTIAL)), "{:?}", world.names());
}

/// Whether the output can be written is known before anything is, with `--dry-run` too.
#[rstest]
fn a_dry_run_knows_where_nothing_can_be_written(#[values("", "--dry-run")] dry_run: &str) {
    let world = World::new();
    fs::create_dir(world.output("there")).unwrap();
    let script = format!(
        r#"
        mkdir out/ro
        mount -t tmpfs none out/ro
        mkdir out/ro/empty
        mount -o remount,ro out/ro
        for to in "--data-dir out/ro/m1" "--data-dir out/ro/a/b/m1" "--data-dir out/ro/empty" \
                  "--data-dir out/m1 --wal-dir out/ro/wal"; do
            code=0
            "$0" snapshot restore in/good.db $to {dry_run} || code=$?
            echo "code $code"
        done
        umount out/ro
        rmdir out/ro out/there
        find out -mindepth 1"#
    );
    let ran = world.guard(|| in_own_mounts(&world, &script));
    ran.says(0, &["cannot write to", "out/ro/empty: Read-only file system"]);
    assert_eq!(ran.stdout, "code 1\n".repeat(4), "{ran:#?}");
}

#[rstest]
#[case("out/m1/member")]
#[case("out/m1/member/snap")]
#[case("out/m1/member/snap/db")]
#[case("out/m1/member/log")]
#[case("out/m1/x/../member/wal/x")]
fn a_log_among_the_members_files_is_refused(#[case] wal_dir: &str, #[values("", "--dry-run")] dry_run: &str) {
    let line = format!("snapshot restore in/good.db --data-dir out/m1 --wal-dir {wal_dir} {dry_run}");
    World::new().refuses(&line, 1, &[wal_dir, "only member/wal can hold the log"]);
}

/// One directory by two names.
#[test]
fn a_log_in_the_data_dir_by_way_of_a_link() {
    let world = World::new();
    fs::create_dir_all(world.output("real/m1")).unwrap();
    symlink("real", world.output("link")).unwrap();
    let to = |data: &str, wal: &str| format!("snapshot restore in/good.db --data-dir {data} --wal-dir {wal}");
    world.refuses(&to("out/real/m1", "out/link/m1"), 1, &["can neither be nor hold the data dir"]);
    world.refuses(&to("out/real/m1", "out/link"), 1, &["can neither be nor hold the data dir"]);
    world.line(&to("out/real/m1", "out/link/m1/wal")).says(0, &[]);
    assert_eq!(fs::read_dir(world.output("real/m1/wal")).unwrap().count(), 1);
    world.line(&to("out/link/m2", "out/real/m2/member/wal")).says(0, &[]);
    assert_eq!(fs::read_dir(world.output("real/m2/member/wal")).unwrap().count(), 1);
    assert!(!world.names().iter().any(|name| name.contains(PARTIAL)));
}
