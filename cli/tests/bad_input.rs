//! What people give by mistake, in haste, or because it is all they have: one clear message, the right exit code,
//! nothing left behind, and inputs as they were.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support_hostile;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use rstest::rstest;
use support_hostile::{BINARY, THREE, World, finish, good, image, in_own_mounts, is_root};

/// Every command on `input`, each of which must fail.
const COMMANDS: [&str; 5] = [
    "snapshot status INPUT",
    "snapshot hash INPUT",
    "snapshot save INPUT -o out/saved.db",
    "snapshot hash INPUT --attach -o out/hashed.db",
    "snapshot restore INPUT --data-dir out/m1",
];

fn every_command_refuses(world: &World, input: &str, parts: &[&str]) {
    for command in COMMANDS {
        world.refuses(&command.replace("INPUT", input), 1, parts);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zip whose entries are stored as they are.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut files, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let offset = u32::try_from(files.len()).unwrap();
        let len = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        // Version 2.0, no flags, stored, no date; then checksum, both lengths, length of the name.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend([len, len].concat());
        common.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        common.extend([0, 0]);
        files.extend([b"PK\x03\x04", common.as_slice(), name.as_bytes(), bytes].concat());
        directory.extend([b"PK\x01\x02\x14\x00", common.as_slice(), &[0; 10]].concat());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (u32::try_from(files.len()).unwrap(), u16::try_from(entries.len()).unwrap());
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    end.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    end.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
    end.extend(start.to_le_bytes());
    end.extend([0, 0]);
    [files, directory, end].concat()
}

/// The members of an archive made by the program tar.
fn tar(world: &World, names: &[&str]) -> Vec<u8> {
    let output =
        Command::new("tar").arg("--create").args(names).current_dir(world.input("")).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

// ---- the hash and the length ----

#[test]
fn a_missing_trailer_is_refused_by_restore_alone() {
    let world = World::new();
    world.put("raw.db", image(&good()));
    world.refuses(
        "snapshot restore in/raw.db --data-dir out/m1",
        1,
        &["snapshot missing hash but --skip-hash-check=false", "in/raw.db", "--attach"],
    );
    world.line("snapshot status in/raw.db").says(0, &["integrity: absent"]);
    world.line("snapshot hash in/raw.db").says(3, &["integrity: absent", "--skip-hash-check", "--attach -o"]);
    world.line("snapshot restore in/raw.db --skip-hash-check --data-dir out/m1").says(0, &[]);
}

#[test]
fn a_wrong_trailer() {
    let world = World::new();
    let mut wrong = good();
    *wrong.last_mut().unwrap() ^= 1;
    world.put("wrong.db", &wrong);
    world.refuses(
        "snapshot restore in/wrong.db --data-dir out/m1",
        1,
        &["in/wrong.db: expected sha256", "got", "Copy it again", "--skip-hash-check"],
    );
    world.refuses(
        "snapshot save in/wrong.db -o out/saved.db",
        1,
        &["expected sha256", "nothing was written"],
    );
    world.refuses(
        "snapshot hash in/wrong.db --attach -o out/h.db",
        1,
        &["expected sha256", "nothing was written"],
    );
    world.line("snapshot status in/wrong.db").says(3, &["SNAP-HASH-MISMATCH", "Copy it again"]);
    world.line("snapshot hash in/wrong.db").says(3, &["integrity: mismatch"]);
    world.line("snapshot restore in/wrong.db --data-dir out/m1 --skip-hash-check").says(0, &["unchecked"]);
}

/// The image is whole; what tells is the length. What the file still holds can be had.
#[rstest]
#[case(1)]
#[case(16)]
#[case(31)]
fn a_trailer_cut(#[case] by: usize) {
    let world = World::new();
    let snapshot = good();
    world.put("cut.db", &snapshot[..snapshot.len() - by]);
    world.refuses(
        "snapshot restore in/cut.db --data-dir out/m1",
        1,
        &["snapshot missing hash", "cut short", "copy it again", "--skip-hash-check"],
    );
    world.line("snapshot status in/cut.db").says(3, &["SNAP-LENGTH", "cut short", "copy it again"]);
    let hash = world.line("snapshot hash in/cut.db");
    hash.says(3, &["SNAP-LENGTH", "cut short", "copy it again"]);
    assert!(!hash.stderr.contains("--attach"), "a cut file is not to be given a hash: {hash:?}");
    world.line("snapshot save in/cut.db -o out/saved.db").says(3, &["SNAP-LENGTH"]);
    world.line("snapshot restore in/cut.db --data-dir out/m1 --skip-hash-check").says(3, &["SNAP-LENGTH"]);
}

/// A cut image has no hash, and advice to waive the hash would end in a second refusal.
#[rstest]
#[case("by-page-and-trailer", 4096 + 32)]
#[case("by-a-byte-and-trailer", 1 + 32)]
#[case("to-half", 150_000)]
fn an_image_cut(#[case] name: &str, #[case] by: usize) {
    let world = World::new();
    let snapshot = good();
    let input = format!("in/{name}.db");
    world.put(&format!("{name}.db"), &snapshot[..snapshot.len() - by]);
    for skip in ["", " --skip-hash-check"] {
        let ran = world.refuses(
            &format!("snapshot restore {input} --data-dir out/m1{skip}"),
            1,
            &[&input, "BBOLT-SHORT-FILE", "but the file has", "Use another snapshot"],
        );
        assert!(!ran.stderr.contains("--skip-hash-check restores it"), "{ran:#?}");
    }
    world.refuses(
        &format!("snapshot save {input} -o out/s.db"),
        1,
        &["BBOLT-SHORT-FILE", "nothing was written"],
    );
    world.refuses(&format!("snapshot hash {input} --attach -o out/h.db"), 1, &["BBOLT-SHORT-FILE"]);
    world.line(&format!("snapshot status {input}")).says(3, &["BBOLT-SHORT-FILE"]);
    let hash = world.line(&format!("snapshot hash {input}"));
    hash.says(3, &["BBOLT-SHORT-FILE"]);
    assert!(!hash.stderr.contains("--attach"), "{hash:#?}");
}

/// Cut by whole pages, the last 32 bytes of the image stand where the trailer should.
#[test]
fn an_image_cut_by_a_page_keeps_the_length_of_a_snapshot() {
    let world = World::new();
    let snapshot = good();
    world.put("cut.db", &snapshot[..snapshot.len() - 4096]);
    let ran = world.refuses(
        "snapshot restore in/cut.db --data-dir out/m1",
        1,
        &["SNAP-HASH-MISMATCH", "BBOLT-SHORT-FILE"],
    );
    assert!(!ran.stderr.contains("--skip-hash-check restores it"), "{ran:#?}");
    world.line("snapshot status in/cut.db").says(3, &["SNAP-HASH-MISMATCH", "BBOLT-SHORT-FILE"]);
}

#[test]
fn nothing_at_all() {
    let world = World::new();
    world.put("empty.db", []);
    every_command_refuses(&world, "in/empty.db", &["in/empty.db is empty", "copy it again"]);
    every_command_refuses(&world, "in/none.db", &["in/none.db: No such file"]);
}

#[rstest]
#[case::text(b"hello\n".to_vec(), "too few")]
#[case::page_of_html([b"<!DOCTYPE html>".to_vec(), vec![b' '; 9000]].concat(), "no valid meta page")]
#[case::zeros(vec![0; 16384], "no valid meta page")]
fn no_database(#[case] bytes: Vec<u8>, #[case] part: &str) {
    let world = World::new();
    world.put("any", bytes);
    every_command_refuses(&world, "in/any", &["in/any: ", part]);
}

// ---- packed ----

#[test]
fn an_unfinished_download() {
    let world = World::new();
    world.put("snapshot.db.part", good());
    every_command_refuses(&world, "in/snapshot.db.part", &["unfinished download", "Save the snapshot again"]);
}

#[test]
fn archives() {
    let world = World::new();
    let one = tar(&world, &["good.db"]);
    world.put("backup.tar", &one);
    world.put("backup.tgz", gzip(&one));
    world.put("backup.zip", zip(&[("a.db", &good()), ("b.db", &good())]));
    world.put("none.zip", zip(&[]));
    world.put("twice.gz", gzip(&gzip(&good())));
    every_command_refuses(&world, "in/backup.tar", &["is a tar archive; unpack it"]);
    every_command_refuses(&world, "in/backup.tgz", &["is a tar archive; unpack it"]);
    every_command_refuses(&world, "in/backup.zip", &["is a zip of 2 files", "Unpack it"]);
    every_command_refuses(&world, "in/none.zip", &["is a zip of 0 files"]);
    every_command_refuses(&world, "in/twice.gz", &["holds another packed file (gzip)", "unpack it once"]);
    let whole = gzip(&good());
    world.put("cut.gz", &whole[..whole.len() / 2]);
    every_command_refuses(&world, "in/cut.gz", &["in/cut.gz: cannot unpack the gzip", "bytes came out"]);
    for (name, magic) in [("xz", &b"\xfd7zXZ\0"[..]), ("bzip2", b"BZh9"), ("lz4", b"\x04\x22\x4d\x18")] {
        world.put(name, [magic, &[0; 600]].concat());
        world.refuses(&format!("snapshot status in/{name}"), 1, &["is packed with", name, "unpack it first"]);
    }
}

#[test]
fn packed_snapshots_are_as_good_as_plain_ones() {
    let world = World::new();
    let plain = world.line("-w json snapshot status in/good.db");
    world.put("good.gz", gzip(&good()));
    world.put("good.zst", zstd::encode_all(good().as_slice(), 1).unwrap());
    world.put("rke.zip", zip(&[("backup/snapshot", &good())]));
    for name in ["good.gz", "good.zst", "rke.zip"] {
        let ran = world.line(&format!("-w json snapshot status in/{name}"));
        ran.says(0, &["integrity: verified", "unpacked to"]);
        assert_eq!(ran.stdout, plain.stdout);
        world.line(&format!("snapshot restore in/{name} --data-dir out/{name}")).says(0, &[]);
    }
    world.refuses(
        "snapshot status in/good.gz --tmp-dir in/none",
        1,
        &["in/none", "No such file", "--tmp-dir"],
    );
}

/// A gigabyte of zeros in a megabyte.
#[test]
fn a_bomb() {
    let world = World::new();
    world.put("bomb.gz", gzip(&vec![0; 1 << 20]).repeat(1024));
    world.refuses(
        "snapshot status in/bomb.gz",
        1,
        &["in/bomb.gz: ", "more than 200 to 1", "looks like a bomb"],
    );
}

// ---- damage ----

#[test]
fn both_metas_bad() {
    let world = World::new();
    testdata::unpack("3.5.30/damaged/db-both-meta-corrupt.tar.zst", &world.input("dead"));
    let dir = fs::read_dir(world.input("dead")).unwrap().next().unwrap().unwrap().file_name();
    let input = format!("in/dead/{}", dir.display());
    for command in
        ["status INPUT", "save INPUT -o out/s.db", "restore INPUT --skip-hash-check --data-dir out/m1"]
    {
        let command = format!("snapshot {}", command.replace("INPUT", &input));
        world.refuses(&command, 1, &[&input, "no valid meta page", "meta 0: ", "meta 1: "]);
    }
}

#[test]
fn a_big_endian_machine() {
    let world = World::new();
    let mut bytes = good();
    for meta in [16, 4096 + 16] {
        bytes[meta..meta + 4].reverse();
        bytes[meta + 4..meta + 8].reverse();
    }
    world.put("s390x.db", &bytes);
    every_command_refuses(&world, "in/s390x.db", &["big-endian", "s390x"]);
}

/// Every branch page has itself as its first child: a walk that believes it never ends.
#[test]
fn a_cycle_in_the_tree() {
    let world = World::new();
    let mut bytes = image(&good()).to_vec();
    let mut branches = 0;
    for page in bytes.chunks_exact_mut(4096) {
        if page[8..10] == [1, 0] {
            let id: [u8; 8] = page[..8].try_into().unwrap();
            page[24..32].copy_from_slice(&id);
            branches += 1;
        }
    }
    assert!(branches > 0, "this snapshot has no branch page to break");
    world.put("cycle.db", &bytes);
    world.line("snapshot status in/cycle.db").says(3, &["error BBOLT-"]);
    world.refuses(
        "snapshot restore in/cycle.db --skip-hash-check --data-dir out/m1",
        1,
        &["error BBOLT-", "structure is damaged", "Use another snapshot"],
    );
    world.refuses("snapshot save in/cycle.db -o out/s.db", 1, &["error BBOLT-", "nothing was written"]);
}

// ---- things that are no files ----

#[test]
fn what_is_no_file_does_not_hang() {
    let world = World::new();
    assert!(Command::new("mkfifo").arg(world.input("fifo")).status().unwrap().success());
    let _listening = UnixListener::bind(world.input("socket")).unwrap();
    for input in ["in/fifo", "in/socket", "/dev/null", "/dev/zero"] {
        every_command_refuses(&world, input, &[input, "is not a regular file"]);
    }
    // The same inside a data dir.
    fs::create_dir_all(world.input("data/member/snap")).unwrap();
    assert!(Command::new("mkfifo").arg(world.input("data/member/snap/db")).status().unwrap().success());
    every_command_refuses(&world, "in/data", &["in/data"]);
    world.refuses("snapshot status /dev/stdin", 1, &["/dev/stdin", "is not a regular file"]);
}

#[test]
fn directories_without_a_db() {
    let world = World::new();
    fs::create_dir(world.input("empty")).unwrap();
    let parts = ["in/empty: is a directory", "member/snap/db", "give the snapshot file itself"];
    every_command_refuses(&world, "in/empty", &parts);
    fs::create_dir_all(world.input("data/member/snap/db")).unwrap();
    every_command_refuses(&world, "in/data", &["in/data"]);
}

#[test]
fn links_lead_to_their_target() {
    let world = World::new();
    symlink("good.db", world.input("link.db")).unwrap();
    symlink("nowhere", world.input("dangling.db")).unwrap();
    world.line("snapshot status in/link.db").says(0, &["verified"]);
    world.line("snapshot restore in/link.db --data-dir out/m1").says(0, &[]);
    every_command_refuses(&world, "in/dangling.db", &["in/dangling.db: No such file"]);
    // As an output a link to nowhere is something, and stays.
    symlink("nowhere", world.output("m2")).unwrap();
    world.refuses("snapshot restore in/good.db --data-dir out/m2", 1, &["out/m2 exists already"]);
}

// ---- outputs ----

#[test]
fn outputs_that_exist() {
    let world = World::new();
    fs::create_dir(world.output("full")).unwrap();
    fs::write(world.output("full/precious"), "x").unwrap();
    fs::write(world.output("file"), "x").unwrap();
    let all = format!("snapshot restore in/good.db --all-members --initial-cluster {THREE} -o");
    let one = "snapshot restore in/good.db --data-dir";
    for extra in ["", " --dry-run", " --clean"] {
        let held = ["out/full is not empty (it holds \"precious\")", "not overwritten"];
        world.refuses(&format!("{one} out/full{extra}"), 1, &held);
        world.refuses(&format!("{one} out/new --wal-dir out/full{extra}"), 1, &held);
        world.refuses(&format!("{all} out/full{extra}"), 1, &held);
        let file = ["out/file is a file; a directory name was expected"];
        world.refuses(&format!("{one} out/file{extra}"), 1, &file);
        world.refuses(&format!("{one} out/new --wal-dir out/file{extra}"), 1, &file);
        world.refuses(&format!("{all} out/file{extra}"), 1, &file);
    }
    for command in ["save", "hash --attach"] {
        let command = format!("snapshot {command} in/good.db -o");
        world.refuses(&format!("{command} out/file"), 1, &["out/file exists already", "not overwritten"]);
        world.refuses(
            &format!("{command} out/full"),
            1,
            &["out/full is a directory; a file name was expected"],
        );
        world.refuses(&format!("{command} in/good.db"), 1, &["in/good.db exists already"]);
    }
    world.refuses(&format!("{one} out/file/below"), 1, &["out/file/below", "Not a directory"]);
    world.refuses("snapshot save in/good.db -o out/file/below", 1, &["out/file/below", "Not a directory"]);
    world.refuses(&format!("{one} /"), 1, &["/ is not empty"]);
    world.refuses(&format!("{one} in/.."), 1, &["in/.. is not empty"]);
    world.refused(["snapshot", "restore", "in/good.db", "--data-dir", ""], 2, &["--data-dir"]);
}

#[test]
fn outputs_in_places_that_do_not_exist_yet() {
    let world = World::new();
    world.line("snapshot restore in/good.db --data-dir out/a/b/m1").says(0, &[]);
    world.line("snapshot save in/good.db -o out/c/d/s.db").says(0, &[]);
    world.line("snapshot restore in/good.db --data-dir out/e/m1 --wal-dir out/f/wal").says(0, &[]);
    // A refusal takes back the parents it made, and makes none when it comes early.
    let mut wrong = good();
    wrong.pop();
    world.put("wrong.db", wrong);
    world.refuses("snapshot restore in/wrong.db --data-dir out/g/h/m1", 1, &[]);
}

#[test]
fn log_dirs_and_data_dirs_within_each_other() {
    let world = World::new();
    let command = "snapshot restore in/good.db --data-dir";
    let parts = ["--data-dir", "--wal-dir", "a directory of its own"];
    world.refuses(&format!("{command} out/m1 --wal-dir out/m1"), 1, &parts);
    world.refuses(&format!("{command} out/m1 --wal-dir out/x/../m1/."), 1, &parts);
    world.refuses(&format!("{command} out/wal/m1 --wal-dir out/wal"), 1, &parts);
    world.line(&format!("{command} out/m1 --wal-dir out/m1/logs")).says(0, &[]);
    assert!(world.output("m1/logs/0000000000000000-0000000000000000.wal").is_file());
    assert!(!world.output("m1/member/wal").exists());
}

#[test]
fn relative_paths_and_the_current_directory() {
    let world = World::new();
    let mut command = Command::new(BINARY);
    command.current_dir(world.output("")).args("snapshot restore ../in/good.db --data-dir .".split(' '));
    finish(command).says(0, &[]);
    assert!(world.output("member/snap/db").is_file());
    world.clear();
    let mut command = Command::new(BINARY);
    let line = format!("snapshot restore ../in/good.db --all-members --initial-cluster {THREE} -o .");
    command.current_dir(world.output("")).args(line.split(' '));
    finish(command).says(0, &[]);
    assert!(world.output("m3/member/snap/db").is_file());
    world.clear();
    let mut command = Command::new(BINARY);
    command.current_dir(world.output("")).args("snapshot restore ../in/good.db".split(' '));
    finish(command).says(0, &[]);
    assert!(world.output("default.etcd/member/snap/db").is_file());
}

#[test]
fn names_that_are_no_utf_8_or_too_long() {
    let world = World::new();
    let odd = OsStr::from_bytes(b"in/\xff\xfe\n.db");
    fs::copy(world.input("good.db"), world.root().join(odd)).unwrap();
    let args = |words: &[&str]| -> Vec<OsString> { words.iter().map(OsString::from).collect() };
    let mut status = args(&["snapshot", "status"]);
    status.push(odd.to_owned());
    world.run(&status).says(0, &["verified"]);
    let mut restore = args(&["snapshot", "restore", "in/good.db", "--data-dir"]);
    restore.push(OsString::from(OsStr::from_bytes(b"out/\xff")));
    world.run(&restore).says(0, &[]);
    assert!(world.root().join(OsStr::from_bytes(b"out/\xff/member/snap/db")).is_file());
    let long = "x".repeat(300);
    world.refuses(&format!("snapshot status in/{long}"), 1, &["File name too long"]);
    world.refuses(&format!("snapshot save in/good.db -o out/{long}"), 1, &["File name too long"]);
    world.refuses(&format!("snapshot restore in/good.db --data-dir out/{long}"), 1, &["File name too long"]);
    // Long enough only with what is appended while it is staged.
    let long = "x".repeat(250);
    world.refuses(
        &format!("snapshot restore in/good.db --data-dir out/p/{long}"),
        1,
        &["File name too long"],
    );
}

// ---- the new cluster ----

#[rstest]
#[case("--name m4", THREE, &["\"m4\" is not in --initial-cluster", "\"m1\", \"m2\", \"m3\""])]
#[case("--name m1", THREE, &["http://10.0.0.1:2380", "http://localhost:2380", "must be the same"])]
#[case("--name m1 --initial-advertise-peer-urls http://10.0.0.2:2380", THREE, &["http://10.0.0.1:2380", "http://10.0.0.2:2380"])]
#[case("--name a", "a=http://h:1,b=http://h:1", &["http://h:1", "\"a\"", "\"b\"", "every member needs its own"])]
#[case("--name a", "a=http://h:1,b", &["empty URL given for \"b\""])]
#[case("--name a", "a=http://h:1,=http://h:2", &["http://h:2", "without a name"])]
#[case("--name a", "a=h:1", &["\"a\"", "h:1"])]
#[case("--name a", "a=ftp://h:1", &["\"a\"", "must be http, https, unix, or unixs: ftp://h:1"])]
#[case("--name a", "a=http://h", &["\"a\"", "host:port", "http://h"])]
#[case("--name a", "a=http://h:1/x", &["\"a\"", "must not contain a path: http://h:1/x"])]
#[case("--name a", "a=http://h:x", &["\"a\"", "invalid port \":x\""])]
#[case("--name a", "a=http://[::1:2380", &["\"a\"", "missing ']'"])]
#[case("--name a", "a=http://h%zz:1", &["\"a\"", "invalid URL escape"])]
#[case("--name a --initial-advertise-peer-urls h:1", "a=http://h:1", &["--initial-advertise-peer-urls: ", "h:1"])]
#[case("--name a --initial-advertise-peer-urls http://h", "a=http://h:1", &["--initial-advertise-peer-urls: ", "host:port"])]
#[case("--name a --initial-advertise-peer-urls https://h:1", "a=http://h:1", &["http://h:1", "https://h:1"])]
fn clusters_that_cannot_be(#[case] flags: &str, #[case] members: &str, #[case] parts: &[&str]) {
    let world = World::new();
    let line = format!("snapshot restore in/good.db --data-dir out/m1 {flags} --initial-cluster {members}");
    let ran = world.refuses(&line, 1, parts);
    assert!(!ran.stderr.contains("--initial-cluster: --initial-cluster"), "{ran:#?}");
}

#[test]
fn member_names_that_name_no_directory() {
    let world = World::new();
    for name in ["..", ".", "a/b", "/abs"] {
        let line = format!(
            "snapshot restore in/good.db --all-members -o out/all --initial-cluster {name}=http://h:1"
        );
        world.refuses(&line, 1, &[name, "cannot be the name of a directory", "--data-dir"]);
    }
    let line =
        ["snapshot", "restore", "in/good.db", "--all-members", "-o", "out/all", "--initial-cluster", ""];
    world.refused(line, 1, &["--initial-cluster names no member"]);
}

#[test]
fn a_bump_beyond_the_last_revision() {
    let world = World::new();
    let line = "snapshot restore in/good.db --data-dir out/m1 --mark-compacted --bump-revision";
    world.refuses(&format!("{line} 9223372036854775807"), 1, &["9223372036854775807", "2^63 - 1"]);
    world.refuses(&format!("{line} 18446744073709551615"), 1, &["2^63 - 1"]);
}

// ---- usage ----

#[rstest]
#[case("snapshot status in/good.db --nonsense", &["--nonsense"])]
#[case("snapshot status", &["<FILE|DIR>"])]
#[case("snapshot status in/good.db in/good.db", &["unexpected argument"])]
#[case("snapshot", &["Usage"])]
#[case("nonsense", &["nonsense"])]
#[case("snapshot restore in/good.db --bump-revision 5", &["--mark-compacted required if --bump-revision > 0"])]
#[case("snapshot restore in/good.db --mark-compacted", &["--mark-compacted", "--bump-revision"])]
#[case("snapshot restore in/good.db --bump-revision -1 --mark-compacted", &["'-1'", "--bump-revision", "not a number"])]
#[case("snapshot restore in/good.db --bump-revision 1e9 --mark-compacted", &["1e9", "not a number"])]
#[case("snapshot restore in/good.db --target-version 3.9", &["3.9", "3.4, 3.5, 3.6 and 3.7"])]
#[case("snapshot restore in/good.db --all-members -o out/all --name m1", &["--all-members", "--name"])]
#[case("snapshot restore in/good.db --all-members -o out/all --data-dir out/m1", &["--all-members", "--data-dir"])]
#[case("snapshot restore in/good.db --all-members -o out/all --wal-dir out/w", &["--all-members", "--wal-dir"])]
#[case("snapshot restore in/good.db --all-members -o out/all --initial-advertise-peer-urls http://h:1", &["--all-members", "--initial-advertise-peer-urls"])]
#[case("snapshot restore in/good.db --all-members", &["--output <DIR>"])]
#[case("snapshot restore in/good.db -o out/all", &["--all-members"])]
#[case("snapshot restore in/good.db --owner nobody-we-know", &["nobody-we-know", "/etc/passwd"])]
#[case("snapshot save in/good.db", &["-o FILE is missing", "etcdctl snapshot save in/good.db"])]
#[case("snapshot hash in/good.db --attach", &["-o OUT"])]
#[case("snapshot hash in/good.db -o out/h.db", &["--attach"])]
#[case("-w xml snapshot status in/good.db", &["xml", "simple, table, json, fields"])]
#[case("--timeout 10 snapshot status in/good.db", &["\"10\" is not a duration such as 10s"])]
#[case("--timeout -1s snapshot status in/good.db", &["negative"])]
#[case("--timeout 99999999999h snapshot status in/good.db", &["99999999999h"])]
#[case("--io tape snapshot status in/good.db", &["tape", "mmap", "pread"])]
fn usage(#[case] line: &str, #[case] parts: &[&str]) {
    World::new().refuses(line, 2, parts);
}

#[test]
fn protobuf_is_refused_as_by_etcdutl() {
    let world = World::new();
    for command in
        ["status in/good.db", "restore in/good.db --data-dir out/m1", "save in/good.db -o out/s.db"]
    {
        world.refuses(
            &format!("-w protobuf snapshot {command}"),
            4,
            &["protobuf not supported as output format"],
        );
    }
}

#[test]
fn durations_people_write() {
    let world = World::new();
    for timeout in ["0", "300ms", "10s", "1m", "1m30s", "1.5h"] {
        world.line(&format!("--timeout {timeout} snapshot status in/good.db")).says(0, &[]);
        world.line(&format!("snapshot status in/good.db --timeout={timeout}")).says(0, &[]);
    }
}

// ---- permissions, read-only and full file systems ----

/// As a user who may neither read the input nor write to the output. Root would be refused nothing, so it changes into
/// nobody; the program setpriv does that, and is part of every Linux system's util-linux.
#[test]
fn missing_permissions() {
    let world = World::new();
    let binary = world.root().join("binary");
    fs::copy(BINARY, &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(world.root().join("tmp"), fs::Permissions::from_mode(0o777)).unwrap();
    let secret = world.put("secret.db", good());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    fs::create_dir_all(world.input("data/member/snap")).unwrap();
    fs::write(world.input("data/member/snap/db"), image(&good())).unwrap();
    fs::set_permissions(world.input("data/member"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(world.output(""), fs::Permissions::from_mode(0o555)).unwrap();
    let unprivileged = |line: &str| {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
                .arg(&binary);
            command
        } else {
            Command::new(&binary)
        };
        command.args(line.split(' ')).current_dir(world.root()).env("TMPDIR", world.root().join("tmp"));
        command.stdin(Stdio::null());
        let ran = finish(command);
        assert!(!ran.stderr.contains("setpriv:"), "{ran:#?}");
        ran
    };
    let unreadable = |line: &str, path: &str| {
        unprivileged(line).says(1, &[path, "Permission denied"]);
    };
    for command in COMMANDS {
        unreadable(&command.replace("INPUT", "in/secret.db"), "in/secret.db");
        unreadable(&command.replace("INPUT", "in/data"), "in/data/member/snap/db");
    }
    unprivileged("snapshot status in/good.db").says(0, &["verified"]);
    unreadable("snapshot save in/good.db -o out/s.db", "out");
    unreadable("snapshot restore in/good.db --data-dir out/m1", "out");
    unreadable("snapshot restore in/good.db --data-dir out/a/b", "out/a");
    assert_eq!(world.names(), Vec::<String>::new());
    // What cannot be handed over is not left lying about either.
    fs::set_permissions(world.output(""), fs::Permissions::from_mode(0o777)).unwrap();
    unprivileged("snapshot restore in/good.db --data-dir out/m1 --owner 0:0")
        .says(1, &["change the owner", "Operation not permitted"]);
    assert_eq!(world.names(), Vec::<String>::new());
    fs::set_permissions(world.input("data/member"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_read_only_output_file_system() {
    let world = World::new();
    let script = r#"
        mount -t tmpfs -o ro none out
        for line in "save in/good.db -o out/s.db" "restore in/good.db --data-dir out/m1" \
            "restore in/good.db --data-dir out" "hash in/raw.db --attach -o out/h.db"; do
            code=0; "$0" snapshot $line || code=$?
            echo "code $code"
        done
        find out -mindepth 1"#;
    world.put("raw.db", image(&good()));
    let ran = world.guard(|| in_own_mounts(&world, script));
    ran.says(0, &["out/s.db", "out/m1", "Read-only file system"]);
    assert_eq!(ran.stdout, "code 1\n".repeat(4), "{ran:#?}");
    assert_eq!(ran.stderr.matches("Read-only file system").count(), 4, "{ran:#?}");
}

/// No room, seen before the first byte; for packed inputs too.
#[test]
fn a_small_file_system() {
    let world = World::new();
    world.put("good.gz", gzip(&good()));
    let script = r#"
        mount -t tmpfs -o size=128k none out
        for line in "save in/good.db -o out/s.db" "restore in/good.db --data-dir out/m1" \
            "restore in/good.db --data-dir out/m1 --dry-run" \
            "restore in/good.db --data-dir out" "status in/good.gz --tmp-dir out"; do
            code=0; "$0" snapshot $line || code=$?
            echo "code $code"
        done
        find out -mindepth 1"#;
    let ran = world.guard(|| in_own_mounts(&world, script));
    ran.says(0, &["out/m1: needs ", " bytes, 131072 are free; nothing was written", "no room to unpack"]);
    assert_eq!(ran.stdout, "code 1\n".repeat(5), "{ran:#?}");
}

/// The room looked sufficient, and then was not: no inode is left when half of the files are made.
#[test]
fn a_file_system_that_fills_half_way() {
    let world = World::new();
    let script = r#"
        mount -t tmpfs -o size=1g,nr_inodes=INODES none out
        for line in "--data-dir out/m1" "--data-dir out" "--data-dir out/m1 --wal-dir out/wal" \
            "--all-members --initial-cluster a=http://h:1,b=http://h:2 -o out/all"; do
            code=0; "$0" snapshot restore in/good.db $line || code=$?
            echo "code $code"
        done
        find out -mindepth 1"#;
    for inodes in 2..8 {
        let script = script.replace("INODES", &inodes.to_string());
        let ran = world.guard(|| in_own_mounts(&world, &script));
        ran.says(0, &["out/m1", "No space left on device"]);
        assert_eq!(ran.stdout, "code 1\n".repeat(4), "with {inodes} inodes: {ran:#?}");
    }
}

/// A case is on a file system that has room for some of the files that take its place: it is the old one or the new one.
#[test]
fn a_case_whose_disk_fills() {
    let world = World::new();
    let script = r#"
        mount -t tmpfs -o size=SIZEk none out
        "$0" --quiet case new out/c.case >/dev/null
        before=$(sha256sum < out/c.case)
        for line in "add out/c.case s=in/good.db --embed-values" "seal out/c.case"; do
            code=0; "$0" --quiet case $line >/dev/null || code=$?
            after=$(sha256sum < out/c.case)
            if [ "$before" = "$after" ]; then echo "code $code, the old one"; else echo "code $code, a new one"; fi
            before=$after
            "$0" --quiet case verify out/c.case >/dev/null
        done
        find out -mindepth 1"#;
    let outcomes = [100, 200, 400, 1600].map(|size| {
        let script = script.replace("SIZE", &size.to_string());
        let ran = world.guard(|| in_own_mounts(&world, &script));
        ran.says(0, &[]);
        let lines: Vec<String> = ran.stdout.lines().map(str::to_owned).collect();
        assert!(lines.len() == 3 && lines[2] == "out/c.case", "{ran:#?}");
        for line in &lines[..2] {
            let is_whole = ["code 1, the old one", "code 0, a new one", "code 3, a new one"];
            assert!(is_whole.contains(&line.as_str()), "{ran:#?}");
        }
        let is_full = lines[..2].iter().any(|line| line.starts_with("code 1"));
        let told = "out/c.case: No space left on device (os error 28): a change needs room";
        assert!(!is_full || ran.stderr.contains(told), "{ran:#?}");
        lines
    });
    let first: Vec<_> = outcomes.iter().map(|lines| lines[0].starts_with("code 1")).collect();
    assert_eq!((first[0], first[3]), (true, false), "{outcomes:?}");
}

// ---- the surroundings ----

#[test]
fn outputs_nobody_reads() {
    let world = World::new();
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line, BINARY]).current_dir(world.root());
        finish(command)
    };
    shell(r#"exec "$0" snapshot status in/good.db >&-"#).says(0, &["verified"]);
    assert_eq!(shell(r#"exec "$0" snapshot status in/good.db 2>&-"#).code, Some(0));
    assert_eq!(shell(r#"exec "$0" snapshot status in/good.db 2>/dev/full"#).code, Some(0));
    assert_eq!(shell(r#"exec "$0" snapshot status in/good.db <&- >&- 2>&-"#).code, Some(0));
    for line in ["--help", "completion bash", "man", "-w json snapshot status in/good.db"] {
        let broken = shell(&format!(r#"{{ "$0" {line}; echo "code $?" >&2; }} | true"#));
        broken.says(0, &["code 0"]);
        let broken = shell(&format!(r#"{{ "$0" {line}; echo "code $?" >&2; }} | head -n 1"#));
        broken.says(0, &["code 0"]);
        let full = shell(&format!(r#"exec "$0" {line} > /dev/full"#));
        full.says(1, &["Error: writing to standard output: No space left on device"]);
    }
    // The job is done all the same, and that is said.
    let restored = shell(r#"exec "$0" snapshot restore in/good.db --data-dir out/m1 > /dev/full"#);
    restored.says(1, &["No space left on device", "the job itself was done", "What to run next"]);
    assert!(world.output("m1/member/snap/db").is_file());
}

#[test]
fn hardly_any_environment() {
    let world = World::new();
    let mut command = world.command();
    command.env_clear().args("snapshot restore in/good.db --data-dir out/m1".split(' '));
    finish(command).says(0, &["What to run next"]);
    let mut command = world.command();
    command.env("TERM", "").env("LC_ALL", "nonsense").env("HOME", "/nonexistent").env("COLUMNS", "0");
    command.args("snapshot status in/good.db".split(' '));
    finish(command).says(0, &["verified"]);
    // Started in a directory that is gone.
    let gone = world.root().join("gone");
    fs::create_dir(&gone).unwrap();
    let mut command = Command::new("sh");
    command.current_dir(&gone).args(["-c", r#"rmdir ../gone; exec "$0" snapshot status good.db"#, BINARY]);
    finish(command).says(1, &["good.db: No such file"]);
    let limited = |line: &str| {
        let mut command = Command::new("sh");
        command.current_dir(world.root()).args(["-c", line, BINARY]);
        finish(command)
    };
    // 64,000,000 bytes of log are preallocated; whoever sets such a limit gets an error and no signal.
    let ran = limited(r#"ulimit -f 1000; exec "$0" snapshot restore in/good.db --data-dir out/m2"#);
    ran.says(1, &["out/m2", "File too large"]);
    assert!(!world.names().iter().any(|name| name.starts_with("m2")));
}
