//! `migrate` on what real servers wrote. No etcdutl of 3.6 or 3.7 can be had here: what it says stands in `samples/migrate-*.txt`,
//! what it does was read in its source; what real servers of 3.5 make of the result, `oracle_migrate.rs` says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use bbolt::Db;
use rstest::rstest;
use wal::raftpb::{Entry, HardState};

use crate::run::{LogEnd, Ran, Room};

const DB: &str = "data/member/snap/db";
/// The first segment, which is the only one of these fixtures.
const SEGMENT: &str = "data/member/wal/0000000000000000-0000000000000000.wal";

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// A room with the data dir of a server in `data`.
fn room(version: &str) -> Room {
    let room = Room::new();
    testdata::data_dir(version, room.path());
    room
}

/// All that is in a database.
fn buckets(path: &Path) -> Buckets {
    let bytes = fs::read(path).unwrap();
    let db = Db::from_source(bytes.as_slice()).unwrap();
    let mut all = Buckets::new();
    let mut names = db.root().cursor();
    while let Some(item) = names.next().unwrap() {
        assert!(item.is_bucket);
        let (name, mut rows) = (item.key.to_vec(), BTreeMap::new());
        let bucket = db.bucket(&name).unwrap().unwrap();
        let mut cursor = bucket.cursor();
        while let Some(row) = cursor.next().unwrap() {
            rows.insert(row.key.to_vec(), row.value.to_vec());
        }
        all.insert(name, rows);
    }
    all
}

/// The same database with this storage version.
fn of_version(mut all: Buckets, version: Option<&str>) -> Buckets {
    let meta = all.get_mut(b"meta".as_slice()).unwrap();
    meta.remove(b"storageVersion".as_slice());
    if let Some(version) = version {
        meta.insert(b"storageVersion".to_vec(), version.as_bytes().to_vec());
    }
    all
}

/// The row that says the version, as a text.
fn storage_version(path: &Path) -> Option<String> {
    let row = buckets(path)[b"meta".as_slice()].get(b"storageVersion".as_slice()).cloned();
    row.map(|row| String::from_utf8(row).unwrap())
}

/// All files of the data dir but the database, with what is in them, and when each was last written.
fn others(room: &Room) -> BTreeMap<String, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    for dir in ["data/member/snap", "data/member/wal"] {
        for entry in fs::read_dir(room.path().join(dir)).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            found.insert(
                format!("{dir}/{}", entry.file_name().to_string_lossy()),
                (meta.len(), meta.mtime(), meta.mtime_nsec()),
            );
        }
    }
    found.remove(DB);
    found
}

/// Adds requests to the log, behind the last entry.
fn append(room: &Room, requests: &[Vec<u8>]) -> u64 {
    let path = room.path().join(SEGMENT);
    let mut end = LogEnd::of(path);
    let last = end.last;
    for (index, data) in (last.0 + 1..).zip(requests) {
        let (term, data) = (Some(last.1), Some(data.clone()));
        end.writer.push_entry(&Entry { entry_type: Some(0), term, index: Some(index), data });
    }
    end.writer.push_hard_state(HardState { term: Some(last.1), vote: None, commit: Some(last.0) });
    end.write();
    last.0
}

/// The request by which an operator tries what a downgrade from `version` would meet: `{downgrade_version_test: {ver: …}}`.
fn trial(version: &str) -> Vec<u8> {
    let len = u8::try_from(version.len()).unwrap();
    let mut data = vec![0xe2, 0xea, 0x04, len + 2, 0x0a, len];
    data.extend_from_slice(version.as_bytes());
    data
}

/// The lines that etcdutl logged of versions, in a sample, without what stands before them.
fn told_by_etcdutl(sample: &str) -> Vec<String> {
    let text = testdata::sample(sample);
    let lines = text.lines().filter_map(|line| line.split_once("schema/migration.go:65\t"));
    lines.map(|(_, words)| words.replace('\t', " ")).collect()
}

#[rstest]
#[case("3.5.30", "3.5", None, 0, &[])]
#[case("3.5.30", "3.6", Some("3.6.0"), 0, &["3.6.0"])]
#[case("3.5.30", "3.7", Some("3.7.0"), 0, &["3.6.0", "3.7.0"])]
#[case("3.6.14", "3.5", None, 3, &["3.5.0"])]
#[case("3.6.14", "3.6", Some("3.6.0"), 0, &[])]
#[case("3.6.14", "3.7", Some("3.7.0"), 0, &["3.7.0"])]
#[case("3.7.1", "3.5", None, 3, &["3.6.0", "3.5.0"])]
#[case("3.7.1", "3.6", Some("3.6.0"), 3, &["3.6.0"])]
#[case("3.7.1", "3.7", Some("3.7.0"), 0, &[])]
fn bucket_by_bucket_only_the_version_changes(
    #[case] version: &str,
    #[case] target: &str,
    #[case] row: Option<&str>,
    #[case] code: i32,
    #[case] steps: &[&str],
) {
    let room = room(version);
    let db = room.path().join(DB);
    let (before, beside) = (buckets(&db), others(&room));
    let mode = db.metadata().unwrap().mode();
    let ran = room.run(&format!("migrate --data-dir data --target-version {target}"));
    assert_eq!(ran.code, code, "{ran:?}");
    assert_eq!(buckets(&db), of_version(before, row));
    assert_eq!((others(&room), db.metadata().unwrap().mode()), (beside, mode));
    for step in steps {
        let words = format!("updated storage version {{\"new-storage-version\": \"{step}\"}}\n");
        assert!(ran.stderr.contains(&words), "{ran:?}");
    }
    assert_eq!(ran.stderr.matches("updated storage version").count(), steps.len(), "{ran:?}");
    let up_to_date = format!("storage version up-to-date {{\"storage-version\": \"{target}\"}}\n");
    assert_eq!(ran.stderr.contains(&up_to_date), steps.is_empty(), "{ran:?}");
    assert_eq!(ran.stderr.contains("ETCD-CLUSTER-VERSION-AHEAD"), code == 3, "{ran:?}");
    // A server, and the next run, find a sound file of that version.
    let next = room.run(&format!("migrate --data-dir data --target-version {target} -q"));
    assert_eq!((next.code, storage_version(&db).as_deref()), (code, row), "{next:?}");
    assert_eq!(room.run("bbolt check data/member/snap/db -q").code, 0);
}

#[rstest]
#[case("migrate-3.6.14.txt", "3.5.30")]
#[case("migrate-3.7.1.txt", "3.5.30")]
fn it_says_what_etcdutl_said(#[case] sample: &str, #[case] version: &str) {
    let theirs = told_by_etcdutl(sample);
    assert_eq!(theirs.len(), 1, "{theirs:?}");
    let room = room(version);
    let ran = room.run("migrate --data-dir data --target-version 3.6");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(theirs.iter().all(|line| ran.stderr.contains(line.as_str())), "{theirs:?}: {ran:?}");
}

#[test]
fn a_database_without_a_term_is_refused_in_etcds_words() {
    let room = room("3.4.23");
    let before = room.read(DB);
    for flags in ["", "--force"] {
        let ran = room.run(&format!("migrate --data-dir data --target-version 3.6 {flags}"));
        assert!(ran.code == 1 && ran.stderr.contains("missing term information"), "{ran:?}");
    }
    assert_eq!(room.read(DB), before);
}

#[rstest]
#[case("3", "wrong target version format, expected \"X.Y\", got \"3\"")]
#[case("3.6.1", "wrong target version format, expected \"X.Y\", got \"3.6.1\"")]
#[case("v3.6", "failed to parse target version: strconv.ParseInt: parsing \"v3\": invalid syntax")]
#[case("3.", "failed to parse target version: strconv.ParseInt: parsing \"\": invalid syntax")]
#[case("3.6-rc", "failed to parse target version: 3.6 is not in dotted-tri format")]
#[case("3.4", "target version \"3.4\" not supported. Minimal \"3.5\"")]
#[case("2.9", "target version \"2.9\" not supported. Minimal \"3.5\"")]
fn a_version_that_is_none_is_refused_in_etcds_words(#[case] given: &str, #[case] words: &str) {
    let room = Room::new();
    let ran = room.run(&format!("migrate --data-dir data --target-version {given}"));
    assert_eq!((ran.code, ran.stderr), (2, format!("Error: {words}\n")));
}

#[test]
fn a_version_to_which_nobody_knows_the_way_is_written_only_by_force() {
    let room = room("3.5.30");
    let before = room.read(DB);
    for (target, words) in [
        ("3.8", "cannot create migration plan: version \"3.8.0\" is not supported"),
        ("4.0", "cannot create migration plan: changing major storage version is not supported"),
    ] {
        let line = format!("migrate --data-dir data --target-version {target}");
        let ran = room.run(&line);
        assert!(ran.code == 4 && ran.stderr.contains(words) && ran.stderr.contains("--force"), "{ran:?}");
        assert_eq!(room.read(DB), before);
    }
    let ran = room.run("migrate --data-dir data --target-version 3.8 --force");
    assert_eq!(ran.code, 0, "{ran:?}");
    let forced = "forcefully set storage version {\"storage-version\": \"3.8\"}\n";
    assert!(ran.stderr.contains("normal migrate failed, trying with force"), "{ran:?}");
    assert!(ran.stderr.contains(forced), "{ran:?}");
    assert_eq!(storage_version(&room.path().join(DB)).as_deref(), Some("3.8.0"));
    // From there no way leads back either.
    let ran = room.run("migrate --data-dir data --target-version 3.6");
    assert!(ran.code == 4 && ran.stderr.contains("version \"3.8.0\" is not supported"), "{ran:?}");
    let ran = room.run("migrate --data-dir data --target-version 3.5 --force");
    assert!(ran.code == 0 && ran.stderr.contains("forcefully cleared storage version\n"), "{ran:?}");
    assert_eq!(storage_version(&room.path().join(DB)), None);
}

#[test]
fn entries_that_are_in_the_way_are_named_one_by_one() {
    let room = room("3.7.1");
    let last = append(&room, &[trial("3.6.0"), b"\x08\x07\x22\x00".to_vec(), trial("3.7.0")]);
    let before = room.read(DB);
    let ran = room.run("migrate --data-dir data --target-version 3.5");
    assert_eq!(ran.code, 4, "{ran:?}");
    let words = "Error: cannot downgrade storage, WAL contains newer entries, as the target version (3.5.0) is lower than the version \
                 (3.7.0) detected from WAL logs";
    assert!(ran.stderr.contains(words) && ran.stderr.contains("2 entries behind"), "{ran:?}");
    let named = |index, needs: &str, target: &str| {
        format!(
            "ETCD-DOWNGRADE-BLOCKED: entry {index} of term 3 needs etcd {needs} for its \
             etcdserverpb.InternalRaftRequest.downgrade_version_test; {target} does not know it"
        )
    };
    for (index, needs) in [(last + 1, "3.6"), (last + 3, "3.7")] {
        assert!(ran.stderr.contains(&named(index, needs, "3.5")), "{ran:?}");
    }
    assert_eq!(room.read(DB), before);
    let ran = room.run("migrate --data-dir data --target-version 3.6");
    assert!(ran.code == 4 && ran.stderr.contains(&named(last + 3, "3.7", "3.6")), "{ran:?}");
    assert!(!ran.stderr.contains(&format!("entry {}", last + 1)), "{ran:?}");
    // What is no way down does not ask.
    assert_eq!(room.run("migrate --data-dir data --target-version 3.7").code, 0);
    let ran = room.run("migrate --data-dir data --target-version 3.5 --force -w json");
    let json = ran.json();
    assert_eq!((ran.code, json["log"]["blockingCount"].as_u64()), (3, Some(2)), "{ran:?}");
    assert_eq!(json["log"]["blocking"][0]["index"], last + 1);
    assert_eq!(json["log"]["needs"]["version"], "3.7.0");
    assert!(json["forced"].as_str().unwrap().starts_with("cannot downgrade storage"), "{json}");
    assert_eq!(storage_version(&room.path().join(DB)), None);
}

#[test]
fn an_entry_over_which_etcdutl_panics_is_named() {
    let room = room("3.6.14");
    let last = append(&room, &[trial("never")]);
    let ran = room.run("migrate --data-dir data --target-version 3.5");
    assert_eq!(ran.code, 4, "{ran:?}");
    let named = format!(
        "entry {} of term 3 cannot be understood: it tries a downgrade to a version that is none",
        last + 1
    );
    assert!(ran.stderr.contains(&named), "{ran:?}");
    assert!(
        ran.stderr.contains("WAL contains entries of which nobody can say whether 3.5 understands them"),
        "{ran:?}"
    );
}

#[test]
fn without_a_log_or_with_a_broken_one_it_is_refused_as_by_etcdutl() {
    let room = room("3.6.14");
    let before = room.read(DB);
    let path = room.path().join(SEGMENT);
    let segment = fs::OpenOptions::new().write(true).open(&path).unwrap();
    segment.write_all_at(b"x", 700).unwrap();
    let ran = room.run("migrate --data-dir data --target-version 3.5 --force");
    assert!(ran.code == 1 && ran.stderr.contains("Error: failed to read wal: "), "{ran:?}");
    fs::rename(room.path().join("data/member/wal"), room.path().join("wal")).unwrap();
    let ran = room.run("migrate --data-dir data --target-version 3.5 --force");
    assert!(ran.code == 1 && ran.stderr.contains("Error: failed to open wal: "), "{ran:?}");
    assert_eq!(room.read(DB), before);
    // etcdutl does not look at it either where there is nothing to do.
    assert_eq!(room.run("migrate --data-dir data --target-version 3.6").code, 0);
}

#[test]
fn a_log_of_its_own_directory_is_found() {
    let room = room("3.6.14");
    append(&room, &[trial("3.6.0")]);
    fs::rename(room.path().join("data/member/wal"), room.path().join("wal")).unwrap();
    let ran = room.run("migrate --data-dir data --wal-dir wal --target-version 3.5");
    assert!(ran.code == 4 && ran.stderr.contains("ETCD-DOWNGRADE-BLOCKED"), "{ran:?}");
    let ran = room.run("migrate --data-dir data --wal-dir wal --target-version 3.7");
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// In place, as a copy, and not at all: the same database comes out, and the input stays where it should.
#[test]
fn a_copy_leaves_the_input_alone() {
    let room = room("3.5.30");
    let stamps = |room: &Room| {
        let meta = fs::metadata(room.path().join(DB)).unwrap();
        (meta.mtime(), meta.mtime_nsec(), meta.ino(), others(room))
    };
    let (before, bytes) = (stamps(&room), room.read(DB));
    let told = |ran: &Ran| {
        let json = ran.json();
        ["from", "to", "steps", "clusterVersion", "findings"].map(|name| json[name].clone())
    };
    let dry = room.run("migrate --data-dir data --target-version 3.6 --dry-run -w json");
    assert!(dry.code == 0 && dry.stderr.contains("Dry run: nothing was written."), "{dry:?}");
    let dry_copy = room.run("migrate --data-dir data --target-version 3.6 -o copy --dry-run -w json");
    assert_eq!((dry_copy.code, room.names()), (0, vec!["data".to_owned()]), "{dry_copy:?}");
    let copied = room.run("migrate --data-dir data --target-version 3.6 -o copy -w json");
    assert_eq!((copied.code, copied.json()["output"].as_str()), (0, Some("copy")), "{copied:?}");
    assert_eq!((stamps(&room), room.read(DB)), (before, bytes));
    assert_eq!((told(&dry), told(&dry_copy)), (told(&copied), told(&copied)));
    let copy = room.path().join("copy/member/snap/db");
    assert_eq!(buckets(&copy), of_version(buckets(&room.path().join(DB)), Some("3.6.0")));
    assert_eq!(room.read("copy/member/wal/0000000000000000-0000000000000000.wal"), room.read(SEGMENT));
    let again = room.run("migrate --data-dir data --target-version 3.6 -o copy");
    assert!(again.code == 1 && again.stderr.contains("copy"), "{again:?}");
    let kept = room.run("migrate --data-dir data --target-version 3.6 --keep-original -w json");
    assert_eq!((kept.code, told(&kept)), (0, told(&copied)), "{kept:?}");
    assert_eq!(buckets(&room.path().join(DB)), buckets(&copy));
    assert_eq!(storage_version(&room.path().join("data/member/snap/db.original")), None);
    // A copy is made also where nothing is to be changed.
    let same = room.run("migrate --data-dir data --target-version 3.6 -o same");
    assert!(same.code == 0 && same.stderr.contains("up-to-date"), "{same:?}");
    assert_eq!(buckets(&room.path().join("same/member/snap/db")), buckets(&copy));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let room = room("3.5.30");
    let before = room.read(DB);
    for (line, code, words) in [
        ("--data-dir data --target-version 3.6 --no-lock", 2, "--no-lock: the database is replaced"),
        ("--data-dir data --target-version 3.6 --owner root", 2, "needs -o OUT"),
        ("--data-dir data --target-version 3.6 -o x --keep-original", 2, "cannot be used with"),
        ("--data-dir data", 2, "--target-version"),
        ("--target-version 3.6", 2, "--data-dir"),
        ("--data-dir data/member/snap/db --target-version 3.6", 1, "is a file; a data dir is needed"),
        ("--data-dir data/member/snap/db --target-version 3.6 -o x", 1, "is a file; a data dir is needed"),
        ("--data-dir nowhere --target-version 3.6", 1, "nowhere"),
        ("--data-dir data --target-version 3.6 -o data/x", 1, "is the input"),
    ] {
        let ran = room.run(&format!("migrate {line}"));
        assert!(ran.code == code && ran.stderr.contains(words), "{line}: {ran:?}");
    }
    assert_eq!((room.read(DB), room.names()), (before, vec!["data".to_owned()]));
}

#[test]
fn a_db_that_is_a_link_stays_one() {
    let room = room("3.5.30");
    let (db, file) = (room.path().join(DB), room.path().join("real.db"));
    fs::rename(&db, &file).unwrap();
    symlink("../../../real.db", &db).unwrap();
    let ran = room.run("migrate --data-dir data --target-version 3.7");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(db.is_symlink() && !file.is_symlink());
    assert_eq!(storage_version(&file).as_deref(), Some("3.7.0"));
}

#[test]
fn a_damaged_database_stays_as_it_is() {
    let room = room("3.5.30");
    let bytes = room.read(DB);
    let db = Db::from_source(bytes.as_slice()).unwrap();
    let keys = db.bucket(b"key").unwrap().unwrap().leaf_ranges(1).unwrap();
    let page = keys[0].nodes().next().unwrap().unwrap().offset();
    let file = fs::OpenOptions::new().write(true).open(room.path().join(DB)).unwrap();
    file.write_all_at(&[0xff; 16], page).unwrap();
    let before = room.read(DB);
    let ran = room.run("migrate --data-dir data --target-version 3.6");
    assert!(ran.code == 3 && ran.stderr.contains("BBOLT-") && !ran.stderr.contains("updated"), "{ran:?}");
    assert_eq!(room.read(DB), before);
}

/// No server of 3.6 takes such a member, and with the cluster's version raised none of 3.5 does any more.
#[test]
fn keys_of_the_v2_api_are_told_of_on_the_way_up() {
    let room = Room::new();
    testdata::unpack("v2/3.5.1.tar.zst", room.path());
    let plain = room.run("migrate --data-dir data --target-version 3.6 -o plain");
    assert!(plain.code == 3 && plain.stderr.contains("error SNAP-V2-KEYS: "), "{plain:?}");
    let whole = "migrate --data-dir data --target-version 3.6 --set-cluster-version -o whole";
    let refused = room.run(whole);
    assert!(refused.code == 4 && refused.stderr.contains("keys or users of the v2 API"), "{refused:?}");
    assert!(!room.path().join("whole").exists());
    let forced = room.run(&format!("{whole} --force"));
    assert!(forced.code == 3 && forced.stderr.contains("error SNAP-V2-KEYS: "), "{forced:?}");
    // On the way down nobody minds.
    let down = room.run("migrate --data-dir whole --target-version 3.5 --set-cluster-version -o down");
    assert_eq!(down.code, 0, "{down:?}");
}

#[test]
fn in_a_cluster_of_several_the_version_is_set_on_every_member() {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    let line = "migrate --data-dir n1 --target-version 3.6 --set-cluster-version -o up";
    let refused = room.run(line);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused.stderr.contains("on the data dir of each of them, with --on-every-member"),
        "{refused:?}"
    );
    assert!(!room.path().join("up").exists());
    let done = room.run(&format!("{line} --on-every-member"));
    assert_eq!(done.code, 0, "{done:?}");
}
