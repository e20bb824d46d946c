//! Copies, room and full disks.
#![allow(clippy::expect_used, reason = "a helper of a test fails as a test does")]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use snapshot::copy::{self, SpaceError};
use snapshot::overlay::Overlay;
use snapshot::replicate::{ReplicateError, replicate};
use snapshot::stage::{FILE_MODE, Kind, Stage};

fn new_file(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("a new file")
}

#[test]
fn preallocation_keeps_what_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut file = new_file(&dir.path().join("0.wal"));
    file.write_all(b"123456789").expect("written");
    copy::preallocate(&file, wal::SEGMENT_SIZE_BYTES).expect("reserved");
    copy::sync_and_drop_cache(&file).expect("synced");
    let meta = file.metadata().expect("there");
    assert_eq!(meta.len(), 64_000_000);
    let mut start = [0; 10];
    file.read_exact_at(&mut start, 0).expect("read");
    assert_eq!(start, *b"123456789\0");
}

#[test]
fn room_is_asked_of_the_nearest_directory_there_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let absent = dir.path().join("not/yet/there");
    let free = copy::available_bytes(&absent).expect("told");
    assert!(free > 0);
    copy::ensure_space(&absent, 1).expect("a byte");
    let error = copy::ensure_space(&absent, u64::MAX).expect_err("no disk is that big");
    assert!(matches!(error, SpaceError::Full { need_bytes: u64::MAX, .. }));
    let said = error.to_string();
    assert!(said.contains("needs 18446744073709551615 bytes") && said.contains("are free"), "{said}");
}

#[test]
fn opening_an_input_leaves_its_access_time_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    fs::write(&path, b"x").expect("written");
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let times = fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
    File::options().write(true).open(&path).and_then(|f| f.set_times(times)).expect("set");
    let mut byte = String::new();
    std::io::Read::read_to_string(&mut bbolt::file::open_read_only(&path).expect("opened"), &mut byte)
        .expect("read");
    let meta = fs::metadata(&path).expect("there");
    assert_eq!((byte.as_str(), meta.atime(), meta.mtime()), ("x", 0, 0));
}

const FULL_DISK: &str = "STAGE_TEST_ON_THIS_SMALL_DISK";

/// Runs itself in a mount namespace of its own, with a tmpfs of 1 MiB. It needs a kernel that allows user namespaces, or
/// root; where neither is there this fails rather than passing untested.
#[test]
fn a_disk_that_fills_half_way_leaves_nothing() {
    if let Some(dir) = std::env::var_os(FULL_DISK) {
        return on_a_small_disk(Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new("unshare")
        .args([if rustix::process::geteuid().is_root() { "-m" } else { "-rm" }, "sh", "-ec"])
        .arg("mount -t tmpfs -o size=1m small \"$1\"; exec \"$2\" --exact a_disk_that_fills_half_way_leaves_nothing --nocapture")
        .arg("sh")
        .arg(dir.path())
        .arg(std::env::current_exe().expect("this test"))
        .env(FULL_DISK, dir.path())
        .output()
        .expect("unshare is part of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn on_a_small_disk(dir: &Path) {
    let source_dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let bytes = vec![7; 2 << 20];
    fs::write(source_dir.path().join("db"), &bytes).expect("written");
    let source = File::open(source_dir.path().join("db")).expect("opened");
    for kind in [Kind::Dir, Kind::File] {
        let out = dir.join("a/out");
        assert!(matches!(copy::ensure_space(&out, 2 << 20), Err(SpaceError::Full { .. })));
        let stage = Stage::new(&out, kind).expect("there is room for a name");
        let made = (kind == Kind::Dir).then(|| stage.create_file("db", FILE_MODE).expect("a file"));
        let target = made.as_ref().or(stage.file()).expect("one of the two");
        let path = if made.is_some() { stage.path().join("db") } else { stage.path().to_owned() };
        let image = Overlay::new(&bytes, 2 << 20, []);
        let error = replicate(&image, 0, &source, &[(target, &path)], &()).expect_err("no room");
        assert!(
            matches!(&error, ReplicateError::Target { error, .. } if error.kind() == ErrorKind::StorageFull),
            "{error}"
        );
        let no_room = copy::preallocate(target, wal::SEGMENT_SIZE_BYTES).expect_err("no room");
        assert_eq!(no_room.kind(), ErrorKind::StorageFull);
        drop(made);
        drop(stage);
        assert_eq!(fs::read_dir(dir).expect("listed").count(), 0, "{kind:?}");
    }
}
