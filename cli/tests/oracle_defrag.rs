//! What `defrag` and `bbolt compact` write is what real servers run on, holds what the real tools leave in it, and is
//! never longer than what they write. About 30 s in all on two cores.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bbolt::rebuild::content;
use bbolt::{Build, BuildOptions, Content, Db, FreelistSync, check};
use rstest::rstest;
use support::{rescue, text};
use testdata::oracle::{Bbolt, Judge, Launch, Server, Tools, Version};

/// A member that has served for a while: keys put, overwritten, deleted, and a compaction.
fn used(version: Version, data_dir: &Path) -> Server {
    let server = Server::start(version, data_dir, "m1", &[]);
    let value = "v".repeat(3000);
    for round in 0..3 {
        for key in 0..40 {
            server.put(format!("/k/{key:03}"), format!("{round}-{key}-{value}"));
        }
    }
    assert_eq!(server.delete("/k/007"), 1);
    let revision = server.put("/last", "x");
    server.compact(revision - 20);
    server
}

/// What a server says of all it holds.
fn seen(server: &Server) -> (Vec<serde_json::Value>, u64, i64, usize) {
    let all = server.get_all();
    let hash = server.hashkv(0);
    (all.kvs, hash.hash, hash.revision, server.members().len())
}

fn db_of(data_dir: &Path) -> PathBuf {
    data_dir.join("member/snap/db")
}

fn len(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

/// What is in the file, which must be sound.
fn held(path: &Path) -> Content {
    let bytes = fs::read(path).unwrap();
    let db = Db::from_source(bytes.as_slice()).unwrap();
    let report = check(&db, &());
    assert!(report.is_sound() && report.findings.is_empty(), "{}: {:?}", path.display(), report.findings);
    content(&db, &()).unwrap()
}

fn copied(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_defragmented_member_serves_the_same(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let mut server = used(version, &data_dir);
    let before = seen(&server);
    server.stop();
    let (theirs, compacted) = (scratch.path().join("theirs"), scratch.path().join("compacted"));
    copied(&data_dir, &theirs);
    copied(&data_dir, &compacted);

    let run = rescue(["defrag", "--data-dir", text(&data_dir), "--keep-original"]).ok();
    assert!(run.stderr.contains("History that was not compacted stays"), "{run:?}");
    assert_eq!(held(&db_of(&data_dir)), held(&db_of(&data_dir).with_file_name("db.original")));
    Tools::find(Version::V3_5_1).etcdutl(["defrag", "--data-dir", text(&theirs)]).ok();
    assert_eq!(held(&db_of(&data_dir)), held(&db_of(&theirs)));
    assert!(len(&db_of(&data_dir)) <= len(&db_of(&theirs)));

    // A file of `bbolt compact` in the same place serves as well.
    let full = scratch.path().join("full.db");
    rescue(["bbolt", "compact", "-o", text(&full), text(&db_of(&compacted))]).ok();
    fs::rename(&full, db_of(&compacted)).unwrap();
    for data_dir in [&data_dir, &compacted] {
        let judged = scratch.path().join("judged.db");
        fs::copy(db_of(data_dir), &judged).unwrap();
        let sights = Judge::find().accept(5, 30, &[judged]);
        let held = held(&db_of(data_dir));
        assert_eq!((sights[0].buckets, sights[0].keys), (held.buckets, held.pairs));

        let mut server = Server::start(version, data_dir, "m1", &[]);
        assert_eq!(seen(&server), before);
        assert_eq!(server.delete("/k/008"), 1);
        let revision = server.put("/after", "y");
        server.compact(revision - 1);
        let after = seen(&server);
        server.restart();
        assert_eq!(seen(&server), after);
        server.stop();
        held_after(data_dir);
    }
}

/// The file is still sound when a server has deleted, compacted and ended.
fn held_after(data_dir: &Path) {
    let bytes = fs::read(db_of(data_dir)).unwrap();
    let report = check(&Db::from_source(bytes.as_slice()).unwrap(), &());
    assert!(report.is_sound(), "{:?}", report.findings);
}

/// A server that was started while the lock was held has the old file open. It must not run on it.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_server_that_waited_does_not_run_on_the_old_file(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let mut server = used(version, &data_dir);
    let before = seen(&server);
    server.stop();
    let mut defrag = Command::new("strace");
    defrag.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename"]);
    defrag.args(["-e", "inject=rename:delay_enter=4000000:when=1", "--", env!("CARGO_BIN_EXE_etcd-rescue")]);
    defrag.args(["defrag", "--data-dir", text(&data_dir)]);
    let defrag = defrag.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let staged = db_of(&data_dir).with_file_name("db.etcd-rescue-partial");
    let start = Instant::now();
    while !staged.exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "nothing is staged");
    }
    let mut waiting = Launch::new(version, &data_dir, "m1").spawn();
    let output = defrag.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ended = waiting.wait_exit(Duration::from_secs(20));
    assert!(ended.is_some_and(|status| !status.success()), "it runs: {}", waiting.log());
    assert!(waiting.log().contains("invalid database"), "{}", waiting.log());
    let mut server = Server::start(version, &data_dir, "m1", &[]);
    assert_eq!(seen(&server), before);
    server.stop();
}

/// What a disk that fails at `call` (of those on `path`, where one is given) makes of a defragmentation with `--keep-original`.
fn with_failing(
    call: &str,
    error: &str,
    nth: u32,
    path: Option<&Path>,
    data_dir: &Path,
) -> (String, Vec<String>) {
    let mut defrag = Command::new("strace");
    defrag.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    if let Some(path) = path {
        defrag.args(["-P", text(path)]);
    }
    defrag.args(["-e", &format!("inject={call}:error={error}:when={nth}"), "--"]);
    defrag.args([
        env!("CARGO_BIN_EXE_etcd-rescue"),
        "defrag",
        "--data-dir",
        text(data_dir),
        "--keep-original",
    ]);
    let output = defrag.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let entries = fs::read_dir(db_of(data_dir).parent().unwrap()).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    (stderr, names)
}

/// A member dir with a db and nothing else.
fn bare_member(scratch: &Path) -> PathBuf {
    let data_dir = scratch.join("data");
    fs::create_dir_all(data_dir.join("member/snap")).unwrap();
    fs::write(db_of(&data_dir), testdata::snapshot("3.5.30", "s3-final")).unwrap();
    data_dir.canonicalize().unwrap()
}

/// A db that is a mount point cannot be replaced, and then no copy of it stays beside it.
#[test]
#[ignore = "needs strace: scripts/test.sh runs it"]
fn oracle_a_rename_that_fails_leaves_all_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = bare_member(scratch.path());
    let before = fs::read(db_of(&data_dir)).unwrap();
    let (stderr, names) = with_failing("rename", "EBUSY", 1, None, &data_dir);
    assert!(stderr.contains("the db is unchanged"), "{stderr}");
    assert_eq!(names, ["db"]);
    assert!(fs::read(db_of(&data_dir)).unwrap() == before);
}

/// When the directory cannot be synced behind the rename, the new db is there, and nobody is told that it is not.
#[test]
#[ignore = "needs strace: scripts/test.sh runs it"]
fn oracle_a_directory_that_cannot_be_synced_is_told_of() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = bare_member(scratch.path());
    let before = held(&db_of(&data_dir));
    // The stage's names and the copy's first: the last of four is behind the rename.
    let snap_dir = db_of(&data_dir).parent().unwrap().to_owned();
    let (stderr, names) = with_failing("fsync", "EIO", 4, Some(&snap_dir), &data_dir);
    assert!(stderr.contains("is in place, but not for certain on the disk"), "{stderr}");
    assert_eq!(names, ["db", "db.original"]);
    assert_eq!(held(&db_of(&data_dir)), before);
    assert_eq!(held(&snap_dir.join("db.original")), before);
}

/// Files of many shapes: what real bbolt makes of them holds the same and is never shorter.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_compact_is_never_longer_than_bbolts() {
    let scratch = tempfile::tempdir().unwrap();
    let mut files = vec![
        testdata::snapshot_file("3.5.30", "s3-final", scratch.path()),
        testdata::snapshot_file("3.4.23", "s1-precompact", scratch.path()),
    ];
    for (number, (buckets, pairs, value_bytes, depth)) in [
        (1, 4000, 200, 1),
        (300, 4, 3000, 1),
        (300, 3, 1500, 1),
        (40, 5, 9000, 3),
        (5, 300, 0, 6),
        (0, 0, 0, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let mut file = Vec::new();
        let options = BuildOptions { freelist: FreelistSync::Persisted, ..BuildOptions::default() };
        let mut build = Build::new(&mut file, options).unwrap();
        for bucket in 0..buckets {
            for level in 0..depth {
                build.begin_bucket(format!("b{bucket:05}").as_bytes()).unwrap();
                build.set_sequence(level);
            }
            for pair in 0..pairs {
                build.put(format!("k{pair:05}").as_bytes(), &vec![b'v'; value_bytes]).unwrap();
            }
            for _ in 0..depth {
                build.end_bucket().unwrap();
            }
        }
        build.finish().unwrap();
        let path = scratch.path().join(format!("shape-{number}.db"));
        fs::write(&path, file).unwrap();
        files.push(path);
    }
    for file in files {
        let ours = file.with_extension("ours");
        let run = rescue(["bbolt", "compact", "-o", text(&ours), text(&file)]).ok();
        let before = len(&file);
        assert!(run.stdout.starts_with(&format!("{before} -> {} bytes (gain=", len(&ours))), "{run:?}");
        assert_eq!(held(&ours), held(&file));
        for size in ["0", "65536"] {
            let theirs = file.with_extension(format!("theirs-{size}"));
            let told =
                Bbolt::find().run(["compact", "-o", text(&theirs), "--tx-max-size", size, text(&file)]).ok();
            assert_eq!(held(&theirs), held(&file));
            assert!(len(&ours) <= len(&theirs), "{}: {} and {told:?}", file.display(), len(&ours));
            // What bbolt printed of its own file, ours would print of a file of that length.
            #[expect(clippy::cast_precision_loss, reason = "as both do")]
            let gain = before as f64 / len(&theirs) as f64;
            assert_eq!(told.stdout, format!("{before} -> {} bytes (gain={gain:.2}x)\n", len(&theirs)));
        }
    }
}
