//! The same for real: processes that are killed, system calls that fail, disks that are too small.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rstest::rstest;

use super::cuts::{assert_whole, prepare, source, traced, world};
use super::jobs::*;
use super::judge::{PARTIAL, Verdict, judge};
use super::model::{State, What};
use super::soak;
use super::support_hostile::{BINARY, PATIENCE, Ran, World, in_own_mounts};
use super::trace::on_disk;

/// Starts `job`, for which all is prepared, and does not wait.
fn spawned(world: &World, job: &Job) -> Child {
    let mut command = world.command();
    command.args(job.line.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// What an undisturbed run of `job` leaves, and how long it takes.
fn undisturbed(world: &World, job: &Job) -> (State, Duration) {
    prepare(world, job);
    let start = Instant::now();
    assert_eq!(wait(spawned(world, job)), Some(job.code));
    let took = start.elapsed();
    let whole = on_disk(&world.output(""));
    prepare(world, job);
    (whole, took)
}

/// Asserts that `out/` holds what may be there after any end, and that the next run with `--clean` copes with it. Returns
/// what is there of each output.
#[track_caller]
fn assert_allowed(world: &World, job: &Job, whole: &State, story: &str) -> Vec<Verdict> {
    let verdicts =
        judge(job, &on_disk(&world.output("")), whole).unwrap_or_else(|why| panic!("{story}: {why}"));
    if !verdicts.contains(&Verdict::Complete) {
        let cleaned = world.line(&format!("{} --clean", job.plain_line()));
        assert_eq!(cleaned.code, Some(job.code), "{story}: {cleaned:#?}");
        if job.code != 0 {
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Absent), "{story}: {verdicts:?}");
            return verdicts;
        }
        assert_whole(world, job, whole, story);
        let names = world.names();
        assert!(!names.iter().any(|name| name.contains(PARTIAL)), "{story}: {names:?}");
    }
    verdicts
}

/// A number that looks random and is the same each time.
fn scattered(n: u32) -> f64 {
    let mut x = u64::from(n).wrapping_add(0x9e37_79b9_7f4a_7c15);
    for shift in [30, 27, 31] {
        x = (x ^ (x >> shift)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    f64::from(u32::try_from(x >> 32).unwrap()) / f64::from(u32::MAX)
}

fn wait(mut child: Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(start.elapsed() < PATIENCE, "still running");
        sleep(Duration::from_millis(1));
    }
}

/// SIGKILL at moments scattered over the whole run, and a bit beyond: of every job in the table.
#[rstest]
fn killed_at_any_moment(#[values(0, 1, 2, 3)] quarter: usize) {
    for (at, (name, job)) in JOBS.iter().enumerate().filter(|(at, _)| at % 4 == quarter) {
        let world = world(job);
        let (whole, took) = world.guard(|| undisturbed(&world, job));
        let (times, mut killed) = (if soak() { 12 } else { 1 }, 0);
        // A run may be over before its moment has come; on a machine with other work many are, for the first one took long.
        for n in 0..10 * times + 20 {
            let likely = took.mul_f64(0.9_f64.powi(i32::try_from(n - killed).unwrap()));
            let moment = likely.mul_f64(scattered(n + 1000 * u32::try_from(at).unwrap()));
            prepare(&world, job);
            let is_killed = world.guard(|| {
                let mut child = spawned(&world, job);
                sleep(moment);
                child.kill().unwrap();
                wait(child).is_none()
            });
            killed += u32::from(is_killed);
            assert_allowed(&world, job, &whole, &format!("{name} killed after {moment:?} of {took:?}"));
            if killed == times {
                break;
            }
        }
        assert_eq!(killed, times, "{name}: runs were over before they could be killed");
    }
}

/// What strace is to do to which call.
struct Fault<'a> {
    call: &'a str,
    what: &'a str,
    /// Only calls on this file. strace counts for each thread and each call apart, and a small file is written by one
    /// thread.
    path: Option<&'a str>,
}

/// Runs `job` with strace making the `n`th of the calls fail or kill, for each n until there are no more. Yields what
/// came of it.
fn each_fault(world: &World, job: &Job, fault: &Fault<'_>, mut then: impl FnMut(&Ran, &str)) -> u32 {
    let Fault { call, what, path } = fault;
    for n in 1.. {
        prepare(world, job);
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}:when={n}"));
        let mut options = vec!["-e", &trace, "-e", &inject];
        options.extend(path.iter().flat_map(|path| ["-P", path]));
        let ran = world.guard(|| traced(world, &options, job.line));
        let trace = fs::read_to_string(world.root().join("trace")).unwrap();
        let story = format!("{inject}, {path:?}\n{ran:#?}");
        let hits = trace.matches("(INJECTED)").count();
        // A log that is copied has the length of a segment, and two threads write it.
        let is_small = !(matches!(job.input, Input::Long | Input::LongBare) || job.input.is_member());
        assert!(hits <= 1 || !is_small, "more than one call failed: {story}\n{trace}");
        if hits == 0 && !trace.contains("+++ killed by SIGKILL") {
            ran.says(job.code, &[]);
            return n - 1;
        }
        then(&ran, &story);
    }
    0
}

/// [`each_fault`] for each of `calls` that `job` makes; of those that sync and write, on each file by the name it has then.
fn each_step(world: &World, job: &Job, calls: &str, what: &str, mut then: impl FnMut(&Ran, &str)) -> u32 {
    prepare(world, job);
    world.guard(|| traced(world, &["-y", "-e", &format!("trace={calls}")], job.line)).says(job.code, &[]);
    let trace = fs::read_to_string(world.root().join("trace")).unwrap();
    let is_on_files = [SYNCS, SPACE].contains(&calls);
    let made = |line: &str| {
        let (call, args) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        let path = args.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path);
        calls
            .split(',')
            .any(|known| known == call)
            .then(|| (call.to_owned(), path.filter(|_| is_on_files).map(str::to_owned)))
    };
    let made: BTreeSet<(String, Option<String>)> = trace.lines().filter_map(made).collect();
    let faults = made.iter().map(|(call, path)| Fault { call, what, path: path.as_deref() });
    faults.map(|fault| each_fault(world, job, &fault, &mut then)).sum()
}

/// Calls of which each one does its part for an output, and by what they name it.
const RENAMES: &str = "rename,renameat,renameat2,symlink,symlinkat,link,linkat,unlink,unlinkat,rmdir";
const SYNCS: &str = "fsync,fdatasync";
const MAKES: &str = "mkdir,mkdirat";
const SPACE: &str = "fallocate,ftruncate,pwrite64,copy_file_range";

/// SIGKILL at each call that a crash could come before or after: in a soak all calls of all jobs; else one kind for each
/// of those small jobs that `any_call_that_fails` leaves out. (The model has cut at all of them.)
#[rstest]
fn killed_at_each_step(#[values(0, 1, 2, 3)] quarter: usize) {
    for (at, (name, job)) in JOBS.iter().enumerate().filter(|(at, _)| at % 4 == quarter) {
        let is_long = matches!(job.input, Input::Long | Input::LongBare);
        let kinds = [RENAMES, SYNCS, MAKES, SPACE];
        let has_steps = job.cut_log.is_some() || job.boots.iter().any(|boot| boot.wal_dir.is_some());
        let kinds: Vec<&str> = match soak() {
            true => kinds.to_vec(),
            false if is_long => continue,
            false if at / 4 % 2 == 0 => continue,
            false if has_steps => vec![RENAMES],
            false => vec![kinds[(at / 4 + quarter) % kinds.len()]],
        };
        let world = world(job);
        let (whole, _) = world.guard(|| undisturbed(&world, job));
        for calls in kinds {
            each_step(&world, job, calls, "signal=KILL", |ran, story| {
                assert_ne!(ran.code, Some(0), "{name}: {story}");
                assert_allowed(&world, job, &whole, story);
            });
        }
    }
}

/// Each call that fails is told of, and leaves nothing; or there is another way, and the output is complete.
#[rstest]
#[case::no_rename(PAIR, RENAMES, "error=EIO")]
#[case::no_rename_inside(INSIDE_WITH_LOG, RENAMES, "error=EIO")]
#[case::no_sync(PAIR, SYNCS, "error=EIO")]
#[case::no_directory(INSIDE_WITH_LOG, MAKES, "error=ENOSPC")]
#[case::no_space(PAIR, SPACE, "error=ENOSPC")]
#[case::bad_disk(PAIR, SPACE, "error=EIO")]
#[case::no_rename_of_a_file(SAVE, RENAMES, "error=EIO")]
#[case::no_sync_of_a_file(SAVE, SYNCS, "error=EIO")]
#[case::no_space_for_a_file(SAVE, SPACE, "error=ENOSPC")]
#[case::bad_disk_under_a_hash(ATTACH, SPACE, "error=EIO")]
#[case::bad_disk_while_hashing(HASHED, SPACE, "error=EIO")]
fn a_call_that_fails(#[case] job: Job, #[case] calls: &str, #[case] what: &str) {
    assert!(failures(&job, calls, what) > 0, "no fault made {job:?} fail");
}

/// The same for every job and every kind of call in a soak; else one kind for every second small job.
#[rstest]
fn any_call_that_fails(#[values(0, 1, 2, 3)] quarter: usize) {
    let kinds =
        [(RENAMES, "error=EIO"), (SYNCS, "error=EIO"), (MAKES, "error=ENOSPC"), (SPACE, "error=ENOSPC")];
    for (at, (_, job)) in JOBS.iter().enumerate().filter(|(at, _)| at % 4 == quarter) {
        for (kind, (calls, what)) in kinds.iter().enumerate() {
            let is_long = matches!(job.input, Input::Long | Input::LongBare);
            if soak() || (!is_long && at / 4 % 2 == 0 && kind == (at / 4 + quarter + 1) % kinds.len()) {
                failures(job, calls, what);
            }
        }
    }
}

fn failures(job: &Job, calls: &str, what: &str) -> u32 {
    let world = world(job);
    let (whole, _) = world.guard(|| undisturbed(&world, job));
    let mut failed = 0;
    each_step(&world, job, calls, what, |ran, story| {
        let verdicts =
            judge(job, &on_disk(&world.output("")), &whole).unwrap_or_else(|why| panic!("{why} {story}"));
        match ran.code {
            Some(0) => assert!(verdicts.iter().all(|v| *v == Verdict::Complete), "{verdicts:?} {story}"),
            // It turned out not to be worth the trouble before, or in spite of, the fault.
            Some(1) if job.code == 1 => assert_eq!(world.names(), Vec::<String>::new(), "{story}"),
            Some(1) => {
                failed += 1;
                let why =
                    if what.ends_with("EIO") { "Input/output error" } else { "No space left on device" };
                ran.says(1, &["Error: ", why, "out"]);
                assert_eq!(ran.stdout, "", "{story}");
                // Of a db that is in place, only whether that lasts can still fail to be had.
                let is_in_place = job.in_place && ran.stderr.contains("cannot sync");
                assert!(is_in_place || !verdicts.contains(&Verdict::Complete), "{verdicts:?} {story}");
                if job.in_place {
                    assert!(!world.names().iter().any(|name| name.contains(PARTIAL)), "{story}");
                    return;
                }
                if job.cut_log.is_some() {
                    assert_allowed(&world, job, &whole, story);
                    return;
                }
                let before: Vec<&str> = job.mount_point.into_iter().collect();
                assert_eq!(world.names(), before, "{story}");
            }
            _ => panic!("{story}"),
        }
    });
    failed
}

/// A disk that runs full at any point: it shrinks, once the room was found sufficient, to each size.
#[rstest]
#[case(ONE, "m1", "mkdir", 64_000_000)]
#[case(PAIR, "wal", "mkdir", 64_000_000)]
#[case(HASHED, "m1", "mkdir", 64_000_000)]
#[case(ALL, "all", "mkdir", 192_000_000)]
#[case(SAVE, "s.db", "openat", 0)]
#[case(ATTACH, "s.db", "openat", 0)]
fn a_disk_that_is_too_small(
    #[case] job: Job,
    #[case] output: &str,
    #[case] first_call: &str,
    #[case] log_bytes: u64,
) {
    let world = world(&job);
    let (whole, _) = undisturbed(&world, &job);
    let members = job.boots.len().max(1);
    let db_pages = (members * source().len().div_ceil(PAGE_BYTES)) as u64;
    let need = db_pages + log_bytes.div_ceil(PAGE_BYTES as u64);
    let mut sizes = if soak() {
        (1..db_pages + 8).chain((1..64).map(|n| n * need / 64)).filter(|pages| *pages > 0).collect()
    } else {
        vec![1, db_pages / 2, db_pages - 1, need / 2, need - 1]
    };
    sizes.push(need + 16);
    let (mut full, mut done) = (0, 0);
    // The helper that mounts is patient for some twenty seconds.
    for sizes in sizes.chunks(4) {
        for line in with_disks(&world, &job, output, first_call, sizes).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[1..4] {
                ["1", "full", "0"] => full += 1,
                ["0", "other", _] => {
                    done += 1;
                    assert_eq!(words[4], digest(&whole), "{line}");
                }
                _ => panic!("{line}"),
            }
        }
    }
    assert_eq!(full + done, sizes.len());
    assert!(full > 0 && done > 0, "{full} full, {done} done");
}

const PAGE_BYTES: usize = 4096;

/// Runs `job` on disks that shrink to these `sizes`. For each: its size, the exit code, what the run complained of, how
/// many names it left, and the digest of all it wrote.
fn with_disks(world: &World, job: &Job, output: &str, first_call: &str, sizes: &[u64]) -> String {
    let sizes: Vec<String> = sizes.iter().map(|pages| (pages * 4).to_string()).collect();
    // strace holds the run for a moment when it has made its stage; the room was looked at before that.
    let script = format!(
        r#"
        for kib in {}; do
            mount -t tmpfs -o size=200m none out
            strace -f -qq -o trace -P out/{output}{PARTIAL} -e trace={first_call} \
                -e inject={first_call}:delay_exit=400000:when=1 "$0" {} >told 2>&1 &
            pid=$!
            until ls -A out | grep -q .; do kill -0 $pid 2>/dev/null || break; done
            mount -o remount,size=${{kib}}k out
            code=0; wait $pid || code=$?
            why=other
            if grep -q "No space left on device" told; then why=full; fi
            if grep -q panicked told; then why=panicked; fi
            digest=$(find out -type f | LC_ALL=C sort | xargs -r cat | sha256sum)
            echo "$kib $code $why $(find out -mindepth 1 | wc -l) $digest"
            umount out
        done"#,
        sizes.join(" "),
        job.line
    );
    let ran = in_own_mounts(world, &script);
    ran.says(0, &[]);
    ran.stdout
}

/// SHA-256 of all files, one after the other.
fn digest(whole: &State) -> String {
    let files = whole.found.values().filter_map(|found| match &found.what {
        What::File(content) => Some(content.read(0, content.len_bytes())),
        _ => None,
    });
    testdata::sha256_hex(files.collect::<Vec<_>>().concat())
}

/// Commands that read, and what they must not have written.
const READERS: [&str; 4] = [
    "snapshot status in/source.db",
    "snapshot hash in/good.db",
    "snapshot save in/source.db -o out/s.db",
    "snapshot restore in/source.db --skip-hash-check --data-dir out/m1",
];

/// A sector that cannot be read, wherever it is: told of, with the file, or the right answer all the same because the
/// bytes were had by another way; never a wrong one.
#[rstest]
fn a_sector_that_cannot_be_read(#[values(0, 1, 2, 3)] reader: usize) {
    let line = format!("--io pread {}", READERS[reader]);
    let input = if line.contains("good.db") { "in/good.db" } else { "in/source.db" };
    let world = world(&ONE);
    let right = world.line(&line);
    right.says(0, &[]);
    let whole = on_disk(&world.output(""));
    // One thread reads at a time, or each reads its own part: the same read of each fails.
    let input_path = world.root().join(input).canonicalize().unwrap();
    let input_path = input_path.to_str().unwrap();
    let reads: Vec<u32> = if soak() { (1..200).collect() } else { vec![1, 2, 3, 5, 9, 20] };
    let mut told = 0;
    world.guard(|| {
        for n in reads {
            world.clear();
            let inject = format!("inject=pread64:error=EIO:when={n}");
            let ran = traced(&world, &["-P", input_path, "-e", "trace=pread64", "-e", &inject], &line);
            if ran.code == Some(0) {
                assert_eq!(ran.stdout, right.stdout, "{inject}");
                let differs = differences(&on_disk(&world.output("")), &whole);
                assert!(differs.is_empty(), "{inject}: {differs:?} are not as they should be");
                continue;
            }
            told += 1;
            assert!(matches!(ran.code, Some(1 | 3)), "{inject}: {ran:#?}");
            // Findings, with exit code 3, are about the file that was asked for, and do not repeat its name.
            let file = if ran.code == Some(1) { &format!(": {input}") } else { "" };
            ran.says(ran.code.unwrap(), &[file, "Input/output error"]);
            let has_offset = ran.stderr.contains(" at 0x");
            // The very first bytes are read to see what kind of file it is.
            assert!(has_offset || n == 1, "{inject}: {ran:#?}");
            assert!(!ran.stdout.lines().any(|line| right.stdout.contains(line)), "{inject}: {ran:#?}");
            assert_eq!(world.names(), Vec::<String>::new(), "{inject}: {ran:#?}");
        }
    });
    assert!(told > 0, "no read failed");
}

/// The paths at which two states are not the same in all but the numbers of inodes.
fn differences(a: &State, b: &State) -> Vec<String> {
    let plain =
        |state: &State, path: &String| state.found.get(path).map(|found| (found.mode, found.what.clone()));
    let all: BTreeSet<&String> = a.found.keys().chain(b.found.keys()).collect();
    all.into_iter().filter(|path| plain(a, path) != plain(b, path)).cloned().collect()
}

/// A file that is cut short while it is mapped: a message and exit code 1, no signal, and nothing is left.
#[rstest]
fn a_file_cut_short_under_the_map(#[values(0, 1, 2, 3)] reader: usize) {
    let line = READERS[reader];
    let name = if line.contains("good.db") { "good.db" } else { "source.db" };
    let world = world(&ONE);
    let mut command = Command::new("strace");
    command.current_dir(world.root()).env("TMPDIR", world.root().join("tmp")).stdin(Stdio::null());
    let input = format!("in/{name}");
    command.args(["-f", "-qq", "-o", "trace", "-P", &input, "-e", "trace=mmap"]);
    // What was mapped is looked at only after a moment.
    command.args(["-e", "inject=mmap:delay_exit=1000000", "--", BINARY]).args(line.split_whitespace());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mapped = world.input(name).canonicalize().unwrap();
    let start = Instant::now();
    while !is_mapped(&mapped) {
        assert!(start.elapsed() < PATIENCE, "{line} never maps its input");
    }
    fs::OpenOptions::new().write(true).open(&mapped).unwrap().set_len(3 * PAGE_BYTES as u64).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}: {told}");
    for part in [input.as_str(), "at byte ", "--io pread"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert!(output.stdout.is_empty(), "{line}");
    // It ends where it stands: what it had begun says by its name that it is unfinished.
    let unnamed = world.names().into_iter().find(|name| !name.contains(PARTIAL));
    assert_eq!(unnamed, None, "{line}");
}

/// True when some process has `file` mapped.
fn is_mapped(file: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let mut maps = processes.filter_map(|process| fs::read_to_string(process.join("maps")).ok());
    maps.any(|maps| maps.lines().any(|line| line.ends_with(&*file.to_string_lossy())))
}
