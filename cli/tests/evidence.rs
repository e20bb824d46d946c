//! Inputs are evidence: read, and otherwise left alone, wherever they lie and whoever has them open.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support_hostile;

use std::fs::{self, File, FileTimes};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use support_hostile::{THREE, World, good, image, in_own_mounts};

/// Every command that reads, with its exit code on a file that has a hash and on one that has none.
fn commands(with_hash: bool) -> Vec<(String, i32)> {
    let skip = if with_hash { "" } else { "--skip-hash-check" };
    let hash = if with_hash { 0 } else { 3 };
    let attach = i32::from(with_hash);
    vec![
        ("snapshot status INPUT".to_owned(), 0),
        ("--io pread -w json snapshot status INPUT".to_owned(), 0),
        ("snapshot hash INPUT".to_owned(), hash),
        ("snapshot hash INPUT --attach -o out/h.db".to_owned(), attach),
        ("snapshot save INPUT -o out/s.db".to_owned(), 0),
        (format!("snapshot restore INPUT {skip} --data-dir out/m1"), 0),
        (
            format!(
                "snapshot restore INPUT {skip} --data-dir out/m2 --wal-dir out/wal --bump-revision 5 --mark-compacted"
            ),
            0,
        ),
        (format!("snapshot restore INPUT {skip} --all-members --initial-cluster {THREE} -o out/all"), 0),
        (format!("snapshot restore INPUT {skip} --data-dir out/dry --dry-run"), 0),
    ]
}

/// The inputs, each with whether it has a hash: a snapshot, a bare db, a member dir, a data dir.
fn inputs(world: &World) -> [(&'static str, bool); 4] {
    world.put("bare.db", image(&good()));
    let data = testdata::data_dir("3.5.30", &world.input("node"));
    assert_eq!(data, world.input("node/data"));
    [("in/good.db", true), ("in/bare.db", false), ("in/node/data/member", false), ("in/node/data", false)]
}

#[test]
fn no_command_changes_an_input() {
    let world = World::new();
    for (input, with_hash) in inputs(&world) {
        for (command, code) in commands(with_hash) {
            world.line(&command.replace("INPUT", input)).says(code, &[]);
        }
        world.clear();
    }
}

/// What is asked of a case of `INPUT`, with the exit codes: one of them has findings (an alarm that stands).
const OF_A_CASE: [(&str, i32); 9] = [
    ("case new out/c.case", 0),
    ("case add out/c.case s=INPUT", 3),
    ("case add out/c.case v=INPUT --embed-values", 3),
    ("case add out/c.case s=INPUT", 3),
    ("case timeline out/c.case --values --cite", 0),
    ("case log out/c.case --cite", 0),
    ("case report out/c.case -o out/r.html", 0),
    ("case seal out/c.case", 0),
    ("case verify out/c.case", 0),
];

/// A case reads its sources when they are added, for values, and when it is verified.
#[test]
fn no_case_changes_what_it_is_about() {
    let world = World::new();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for (input, _) in inputs(&world) {
        let path = world.root().join(input);
        let db = ["member/snap/db", "snap/db", ""].iter().map(|rel| path.join(rel)).find(|p| p.is_file());
        let db = db.unwrap_or(path);
        for (command, code) in OF_A_CASE {
            world.line(&command.replace("INPUT", input)).says(code, &[]);
        }
        world.clear();
        let file = File::options().write(true).open(&db).unwrap();
        file.set_times(FileTimes::new().set_accessed(long_ago)).unwrap();
        let before = times(&db);
        for (command, code) in OF_A_CASE {
            // Not through the world's own guard, which reads the files itself.
            let mut run = world.command();
            run.args(command.replace("INPUT", input).split_whitespace());
            support_hostile::finish(run).says(code, &[]);
            assert_eq!(before, times(&db), "after {command} on {input}");
        }
        world.clear();
    }
    let refused = "case add out/c.case s=in/good.db";
    world.line("case new out/c.case").says(0, &[]);
    let holder = File::open(world.input("good.db")).unwrap();
    holder.lock().unwrap();
    world.refuses(&format!("--timeout 100ms {refused}"), 1, &["still locked after 100ms", "Stop that etcd"]);
}

fn times(path: &Path) -> [(i64, i64); 3] {
    let meta = fs::metadata(path).unwrap();
    [(meta.atime(), meta.atime_nsec()), (meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())]
}

/// These files belong to whoever runs the test, who may therefore read without being seen.
#[test]
fn not_even_the_time_of_the_last_access_moves() {
    let world = World::new();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let age = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_times(FileTimes::new().set_accessed(long_ago)).unwrap();
    };
    for (input, with_hash) in inputs(&world) {
        let path = world.root().join(input);
        let db = ["member/snap/db", "snap/db", ""]
            .iter()
            .map(|rel| path.join(rel))
            .find(|p| p.is_file())
            .unwrap_or(path);
        age(&db);
        let before = times(&db);
        for (command, code) in commands(with_hash)
            .into_iter()
            .filter(|(command, _)| !command.contains("wal") && !command.contains("all"))
        {
            // Not through the world's own guard, which reads the files itself.
            let mut run = world.command();
            run.args(command.replace("INPUT", input).split_whitespace());
            support_hostile::finish(run).says(code, &[]);
            assert_eq!(before, times(&db), "after {command} on {input}");
        }
        world.clear();
    }
}

/// Read-only media, with the lock and without.
#[test]
fn a_read_only_mount_is_enough() {
    let world = World::new();
    let mut script = "mount -t tmpfs none out; mount --bind in in; mount -o remount,ro,bind in; ! touch in/x 2>/dev/null\n".to_owned();
    let mut expected = String::new();
    for (input, with_hash) in inputs(&world) {
        for flag in ["", "--no-lock"] {
            for (command, code) in
                commands(with_hash).into_iter().filter(|(command, _)| !command.contains("all"))
            {
                let command = command.replace("INPUT", input);
                script += &format!(
                    "code=0; \"$0\" {flag} {command} >/dev/null || code=$?; echo \"$code {flag} {command}\"\n"
                );
                expected += &format!("{code} {flag} {command}\n");
            }
            script += "rm -rf out/*\n";
        }
    }
    let ran = world.guard(|| in_own_mounts(&world, &script));
    ran.says(0, &[]);
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeeze(&ran.stdout), squeeze(&expected), "{ran:#?}");
}

/// A running etcd holds an exclusive lock on its db. With a lock of our own it would not start, and without one we would
/// read a file that changes.
#[test]
fn a_db_that_a_running_etcd_has_open() {
    let world = World::new();
    let inputs = inputs(&world);
    for (input, with_hash) in inputs {
        let path = world.root().join(input);
        let db = ["member/snap/db", "snap/db", ""]
            .iter()
            .map(|rel| path.join(rel))
            .find(|p| p.is_file())
            .unwrap_or(path);
        let holder = File::open(&db).unwrap();
        holder.lock().unwrap();
        for (command, _) in commands(with_hash) {
            let start = SystemTime::now();
            let line = format!("--timeout 100ms {}", command.replace("INPUT", input));
            let parts = [
                "still locked after 100ms",
                "running etcd",
                "Stop that etcd",
                "etcdctl snapshot save",
                "--timeout",
            ];
            world.refuses(&line, 1, &parts);
            assert!(start.elapsed().unwrap() >= Duration::from_millis(100));
        }
        world.line(&format!("--no-lock snapshot status {input}")).says(0, &[]);
    }
}

/// A lock that is given back while we wait is waited for.
#[test]
fn a_lock_that_is_given_back() {
    let world = World::new();
    let holder = File::open(world.input("good.db")).unwrap();
    holder.lock().unwrap();
    let mut waiting = world.command();
    waiting.args(["--timeout", "15s", "snapshot", "status", "in/good.db"]);
    let released = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        holder.unlock().unwrap();
    });
    support_hostile::finish(waiting).says(0, &["in/good.db is locked", "integrity: verified"]);
    released.join().unwrap();
}

/// A snapshot that two programs read at a time is no conflict, nor is one a reader has locked as bbolt's readers do.
#[test]
fn other_readers_are_welcome() {
    let world = World::new();
    let reader = File::open(world.input("good.db")).unwrap();
    reader.lock_shared().unwrap();
    world.line("--timeout 300ms snapshot restore in/good.db --data-dir out/m1").says(0, &[]);
    let mut bytes = Vec::new();
    File::open(world.input("good.db")).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, good());
}
