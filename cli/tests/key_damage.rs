//! The commands on the key space with buckets that no server wrote: each ends by itself, with an exit code of its own, leaves the
//! file as it was, and says what is wrong by its code; `--skip-bad` goes on past it. And `kv usage`, which must add up.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use bbolt::{Build, BuildOptions, Db};
use serde_json::Value;
use support::{code, rescue, text};
use testdata::key_space::{KeySpace, bucket_key, message, revision_of};
use testdata::oracle::Kv;

type Pair = (Vec<u8>, Vec<u8>);

/// A db with these pairs in `key` and `meta`, and the other buckets of a server.
fn db(key: &[Pair], meta: &[Pair]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut build = Build::new(&mut file, BuildOptions::default()).unwrap();
    for name in [
        "alarm",
        "auth",
        "authRoles",
        "authUsers",
        "cluster",
        "key",
        "lease",
        "members",
        "members_removed",
        "meta",
    ] {
        build.begin_bucket(name.as_bytes()).unwrap();
        let pairs = match name {
            "key" => key,
            "meta" => meta,
            _ => &[],
        };
        for (key, value) in pairs {
            build.put(key, value).unwrap();
        }
        build.end_bucket().unwrap();
    }
    build.finish().unwrap();
    file
}

fn put(at: i64, key: &str, create: i64, version: i64) -> Pair {
    let kv = Kv {
        key: key.into(),
        value: format!("value at {at}").into(),
        create_revision: create,
        mod_revision: at,
        version,
        lease: 0,
    };
    (bucket_key((at, 0, false)), message(&kv))
}

fn tombstone(at: i64, key: &str) -> Pair {
    let kv = Kv { key: key.into(), value: vec![], create_revision: 0, mod_revision: 0, version: 0, lease: 0 };
    (bucket_key((at, 0, true)), message(&kv))
}

/// Three keys that a server could have written.
fn sound() -> Vec<Pair> {
    vec![put(2, "a", 2, 1), put(3, "b", 3, 1), put(4, "a", 2, 2), tombstone(5, "b"), put(6, "/c/d", 6, 1)]
}

fn with(more: impl IntoIterator<Item = Pair>) -> Vec<Pair> {
    let mut pairs = sound();
    pairs.extend(more);
    pairs.sort();
    pairs
}

fn compactions(scheduled: Vec<u8>, finished: Vec<u8>) -> Vec<Pair> {
    vec![(b"finishedCompactRev".to_vec(), finished), (b"scheduledCompactRev".to_vec(), scheduled)]
}

/// Rows of `meta` with the raft index up to which the db has all.
fn at_entry(consistent_index: u64, mut rows: Vec<Pair>) -> Vec<Pair> {
    rows.insert(0, (b"consistent_index".to_vec(), consistent_index.to_be_bytes().to_vec()));
    rows
}

/// One damage: its name, the file, and what is found in it.
struct Damage {
    name: &'static str,
    file: Vec<u8>,
    /// Codes that must be told.
    codes: &'static [&'static str],
    /// Whether the key space is not read without `--skip-bad`.
    is_refused: bool,
}

fn damages() -> Vec<Damage> {
    let row =
        |name, pairs: Vec<Pair>, codes, is_refused| Damage { name, file: db(&pairs, &[]), codes, is_refused };
    let record = &["ETCD-RECORD"][..];
    let at = |main: i64, sub: i64| bucket_key((main, sub, false));
    let edited = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut pair = put(7, "e", 7, 1);
        change(&mut pair.0);
        with([pair])
    };
    let mut all = vec![
        row("nothing is wrong", sound(), &[], false),
        row("no pair at all", vec![], &[], false),
        row("a key of another bucket", edited(&|key| *key = b"consistent_index".to_vec()), record, true),
        row("a key cut short", edited(&|key| key.truncate(16)), record, true),
        row("another separator", edited(&|key| key[8] = b'-'), record, true),
        row("another mark than that of a tombstone", edited(&|key| key.push(b'x')), record, true),
        row("a negative revision", edited(&|key| key[0] = 0x80), record, true),
        row("a negative sub-revision", edited(&|key| key[9] = 0xff), record, true),
        row("a value cut short", with([(at(7, 0), vec![0x0a, 9, b'k'])]), record, true),
        row("a field of another type", with([(at(7, 0), vec![0x08, 5])]), record, true),
        row(
            "an unknown field",
            with([(at(7, 0), b"\x0a\x01k\x10\x07\x18\x07\x20\x01\x38\x05".to_vec())]),
            &[],
            false,
        ),
        row("the empty record of --bump-revision", with([(at(1_000_000_007, 0), vec![])]), &[], false),
        row(
            "a mod_revision of another",
            with([(at(7, 0), put(3, "a", 2, 3).1)]),
            &["ETCD-MOD-REVISION"],
            false,
        ),
        row("a version that goes back", with([put(7, "a", 2, 1)]), &[], false),
        row("a creation in the future", with([put(7, "e", 900, 1)]), &[], false),
        row("a tombstone without a generation", with([tombstone(7, "e")]), &["ETCD-TOMBSTONE"], false),
        row("two tombstones in a row", with([tombstone(7, "b")]), &["ETCD-TOMBSTONE"], false),
        row("a key twice in one revision", with([(at(6, 1), put(6, "/c/d", 6, 2).1)]), &[], false),
        row("the last revision there is", with([put(i64::MAX, "e", 7, 1)]), &[], false),
        row("revision 0", with([put(0, "e", 0, 1)]), &[], false),
        row("a very long key", with([put(7, &"k".repeat(30_000), 7, 1)]), &[], false),
    ];
    let meta = |name, scheduled: Vec<u8>, finished: Vec<u8>, codes| Damage {
        name,
        file: db(&sound(), &compactions(scheduled, finished)),
        codes,
        is_refused: false,
    };
    all.extend([
        meta("a compaction in the future", at(900, 0), at(900, 0), &["ETCD-COMPACT-AHEAD"][..]),
        meta("a compaction that did not finish", at(4, 0), at(2, 0), &[]),
        meta("a compaction in the future that did not finish", at(900, 0), at(2, 0), &["ETCD-COMPACT-AHEAD"]),
        meta("a compaction that finished before it was ordered", at(2, 0), at(4, 0), &[]),
        meta("compactions that are no revisions", b"4".to_vec(), b"none".to_vec(), &[]),
        meta(
            "a compaction at the last revision there is",
            at(i64::MAX, 0),
            at(i64::MAX, 0),
            &["ETCD-COMPACT-AHEAD"],
        ),
        // Before 3.4.34 and 3.5.16 a compaction removes what stood at its own revision, when that was a deletion.
        Damage {
            name: "deletions up to the compacted revision",
            file: db(&sound(), &at_entry(20, compactions(at(8, 0), at(8, 0)))),
            codes: &[],
            is_refused: false,
        },
        Damage {
            name: "more deletions than there were entries",
            file: db(&sound(), &at_entry(1, compactions(at(8, 0), at(8, 0)))),
            codes: &["ETCD-COMPACT-AHEAD"],
            is_refused: false,
        },
        Damage {
            name: "deletions up to a revision whose compaction did not finish",
            file: db(&sound(), &at_entry(20, compactions(at(8, 0), at(2, 0)))),
            codes: &["ETCD-COMPACT-AHEAD"],
            is_refused: false,
        },
        meta("a negative compaction", at(-5, 0), at(-5, 0), &[]),
    ]);
    all
}

/// Every command line that reads the key space or writes an edited copy; `FILE` and `OUT` stand for the paths.
const LINES: &[&str] = &[
    "kv list FILE",
    "kv list FILE --rev 4 -w json",
    "kv list FILE --skip-bad -w fields",
    "kv get FILE a",
    "kv get FILE a z --sort-by MODIFY --order DESCEND --rev 3",
    "kv get FILE e --skip-bad --hex",
    "kv history FILE a",
    "kv history FILE e --skip-bad -w json",
    "kv diff FILE FILE",
    "kv diff FILE FILE --rev-a 3 --rev-b 5 -w json",
    "kv export FILE",
    "kv export FILE --skip-bad -w json",
    "kv usage FILE",
    "kv usage FILE --skip-bad -w json --depth 3",
    "kv usage FILE --skip-bad -w table",
    "kv delete FILE --prefix a -o OUT",
    "kv delete FILE --prefix /c --purge -o OUT",
    "hashkv FILE",
    "hashkv FILE --rev 4 --as-etcd 3.5.1 -w json",
    "hashkv FILE FILE",
    "compact FILE --rev 4 -o OUT",
    "compact FILE --rev 5 --as-etcd 3.4.23 -o OUT",
    "compact FILE --keep-revisions 0 --dry-run",
    "lease list FILE",
    "auth show FILE",
    "alarm list FILE",
    "verify FILE",
    "verify FILE -w json",
    "snapshot restore FILE --at-revision 4 --skip-hash-check --data-dir OUT",
];

#[test]
fn no_command_falls_over_what_no_server_wrote() {
    let scratch = tempfile::tempdir().unwrap();
    let (file, out) = (scratch.path().join("db"), scratch.path().join("out"));
    let mut wrong = Vec::new();
    for damage in damages() {
        fs::write(&file, &damage.file).unwrap();
        for line in LINES {
            let words = line.split(' ').map(|word| match word {
                "FILE" => text(&file),
                "OUT" => text(&out),
                word => word,
            });
            let ran = rescue(words);
            let ended = matches!(ran.status.code(), Some(0 | 1 | 3 | 4)) && !ran.stderr.contains("panicked");
            if !ended {
                wrong.push(format!("{}: {line}: {}\n{}", damage.name, ran.status, ran.stderr));
            }
            if out.is_dir() {
                fs::remove_dir_all(&out).unwrap();
            } else if out.exists() {
                fs::remove_file(&out).unwrap();
            }
        }
        assert!(fs::read(&file).unwrap() == damage.file, "{}: the file was changed", damage.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A bbolt file of another program: every command that looks for something of etcd's says what it is.
#[test]
fn a_database_of_another_program_is_no_empty_store() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("metadata.db");
    let mut file = Vec::new();
    let mut build = Build::new(&mut file, BuildOptions::default()).unwrap();
    build.begin_bucket(b"v1").unwrap();
    build.put(b"k8s.io", b"images").unwrap();
    build.end_bucket().unwrap();
    build.finish().unwrap();
    fs::write(&path, file).unwrap();
    for line in [
        "kv list FILE",
        "kv get FILE a",
        "kv usage FILE",
        "kv history FILE a",
        "kv export FILE",
        "kv diff FILE FILE",
        "hashkv FILE",
        "hashkv FILE FILE",
        "lease list FILE",
        "auth show FILE",
        "alarm list FILE",
        "verify FILE",
    ] {
        let ran = rescue(line.split(' ').map(|word| if word == "FILE" { text(&path) } else { word }));
        assert_eq!(code(&ran), 3, "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains("ETCD-NO-BUCKET"), "{line}: {}", ran.stderr);
    }
}

#[test]
fn what_is_wrong_is_told_by_its_code_and_skipped_when_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("db");
    let mut wrong = Vec::new();
    for damage in damages() {
        fs::write(&file, &damage.file).unwrap();
        let verified = rescue(["verify", text(&file)]);
        let told = damage.codes.iter().all(|code| verified.stderr.contains(code));
        // That a row of meta is none is no matter to the commands on the key space.
        let is_row = ["compactions that are no revisions", "a negative compaction"].contains(&damage.name);
        let expected = if damage.codes.is_empty() && !is_row { 0 } else { 3 };
        if !told || code(&verified) != expected || verified.stderr.contains("ETCD-ROW") != is_row {
            wrong.push(format!("{}: verify: {}\n{}", damage.name, verified.status, verified.stderr));
        }
        if !damage.is_refused {
            let ran = rescue(["hashkv", text(&file)]);
            let ahead = damage.codes.contains(&"ETCD-COMPACT-AHEAD");
            if (ahead && code(&ran) != 3) || ran.stderr.contains("ETCD-COMPACT-AHEAD") != ahead {
                wrong.push(format!("{}: hashkv: {} {}", damage.name, ran.status, ran.stderr));
            }
        }
        for command in [["kv", "list"], ["kv", "usage"], ["lease", "list"]] {
            let strict = rescue(command.into_iter().chain([text(&file)]));
            let lax = rescue(command.into_iter().chain([text(&file), "--skip-bad"]));
            let expected = match (damage.is_refused, damage.codes) {
                (true, _) => 1,
                (false, []) => 0,
                (false, _) => 3,
            };
            let told = |stderr: &str| damage.codes.iter().all(|code| stderr.contains(code));
            let is_silent = !damage.codes.is_empty() || !strict.stderr.contains("ETCD-");
            let skipped = if damage.codes.is_empty() { 0 } else { 3 };
            if code(&strict) != expected
                || code(&lax) != skipped
                || !told(&strict.stderr)
                || !told(&lax.stderr)
                || !is_silent
            {
                wrong.push(format!(
                    "{}: {command:?}: {} instead of {expected}, with --skip-bad {} instead of {skipped}\n{}{}",
                    damage.name,
                    code(&strict),
                    code(&lax),
                    strict.stderr,
                    lax.stderr
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// More than a pipe and the buffers hold, to a reader that waits: Ctrl-C is heard.
#[test]
fn what_prints_for_long_can_be_stopped() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("db");
    let records: Vec<Pair> = (2..6000)
        .map(|at| {
            let key = format!("/{at:05}/{}", "k".repeat(500));
            let kv = Kv {
                key: key.into(),
                value: vec![],
                create_revision: at,
                mod_revision: at,
                version: 1,
                lease: 5,
            };
            (bucket_key((at, 0, false)), message(&kv))
        })
        .collect();
    fs::write(&path, db(&records, &[])).unwrap();
    for line in [
        "kv list FILE",
        "kv get FILE / --prefix -w json",
        "kv history FILE --prefix /",
        "kv export FILE",
        "kv diff FILE --rev-a 2 --rev-b 5999",
        "lease list FILE --keys -w json",
    ] {
        let words = line.split(' ').map(|word| if word == "FILE" { text(&path) } else { word });
        let mut child = Command::new(env!("CARGO_BIN_EXE_etcd-rescue"))
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 100]).unwrap();
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let mut rest = Vec::new();
        // The signal is there before what is left is.
        sleep(Duration::from_millis(200));
        stdout.read_to_end(&mut rest).unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(130), "{line}: {said}");
        assert!(rest.len() < 2 << 20 && said.contains("interrupted"), "{line}: {} {said}", rest.len());
    }
}

/// The lines of `kv usage -w json` of one type.
fn lines(stdout: &str, kind: &str) -> Vec<Value> {
    let all = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|line| line["type"] == kind).collect()
}

#[test]
fn usage_adds_up() {
    let scratch = tempfile::tempdir().unwrap();
    for version in testdata::VERSIONS {
        let path = testdata::snapshot_file(version, "s3-final", scratch.path());
        let bytes = fs::read(&path).unwrap();
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let mut pairs: Vec<Pair> = Vec::new();
        let bucket = db.bucket(b"key").unwrap().unwrap();
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next().unwrap() {
            pairs.push((item.key.to_vec(), item.value.to_vec()));
        }
        let space = KeySpace::new(pairs.clone(), None, None, true).unwrap();
        let sum =
            |pairs: &[Pair]| pairs.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        let left = space.compacted(space.revision());
        let stdout =
            rescue(["kv", "usage", text(&path), "-w", "json", "--depth", "1", "--top", "100"]).ok().stdout;
        let total = &lines(&stdout, "total")[0];
        assert_eq!(total["bytes"], sum(&pairs), "{version}");
        assert_eq!(total["records"], pairs.len());
        assert_eq!(total["freedRecords"], pairs.len() - left.len(), "{version}");
        assert_eq!(total["freedBytes"], sum(&pairs) - sum(&left), "{version}");
        assert_eq!(total["liveRecords"], space.list(space.revision()).len());
        assert_eq!(total["tombstones"], pairs.iter().filter(|(key, _)| revision_of(key).unwrap().2).count());

        // A key of the fixtures begins with a slash, and the next one ends its first part.
        let mut by_prefix: BTreeMap<String, u64> = BTreeMap::new();
        let mut by_key: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for pair in &pairs {
            let one = KeySpace::new([pair.clone()], None, None, true).unwrap();
            let key = [pair].iter().find_map(|pair| key_of(&pair.1)).unwrap();
            assert_eq!(one.history(&key).len(), 1);
            if let Some(end) = key.get(1..).and_then(|rest| rest.iter().position(|byte| *byte == b'/')) {
                let prefix = String::from_utf8(key[..end + 2].to_vec()).unwrap();
                *by_prefix.entry(prefix).or_default() += sum(std::slice::from_ref(pair));
            }
            *by_key.entry(key).or_default() += 1;
        }
        let told: BTreeMap<String, u64> = lines(&stdout, "prefix")
            .iter()
            .filter(|line| line["depth"] == 1)
            .map(|line| (line["prefix"].as_str().unwrap().to_owned(), line["bytes"].as_u64().unwrap()))
            .collect();
        assert_eq!(told, by_prefix, "{version}");
        let most = by_key.values().max().unwrap();
        assert_eq!(lines(&stdout, "mostChanged")[0]["records"], *most, "{version}");

        // What is not told one by one is added up.
        let few =
            rescue(["kv", "usage", text(&path), "-w", "json", "--depth", "1", "--top", "2"]).ok().stdout;
        let shown: u64 = ["prefix", "others", "own"]
            .iter()
            .flat_map(|kind| lines(&few, kind))
            .filter(|line| line["depth"] == 1)
            .map(|line| line["bytes"].as_u64().unwrap())
            .sum();
        assert_eq!(shown, sum(&pairs), "{version}");
        assert_eq!(lines(&few, "others")[0]["prefixes"], told.len() - 2, "{version}");
    }
}

/// The key in a record, which begins with it.
fn key_of(record: &[u8]) -> Option<Vec<u8>> {
    let (tag, rest) = record.split_first()?;
    let (len, rest) = rest.split_first()?;
    (*tag == 0x0a && *len < 0x80).then(|| rest.get(..usize::from(*len)).map(<[u8]>::to_vec))?
}
