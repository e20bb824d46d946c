//! `wal dump`: against what etcd-dump-logs 3.6.14 printed of the same logs, and on logs that are broken.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::Value;
use testdata::damage::Base;

use crate::run::{Room, binary};

/// A room with the data dir of a single server's fixture in `data`.
fn single(version: &str) -> Room {
    let room = Room::new();
    testdata::data_dir(version, room.path());
    room
}

fn cluster() -> Room {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    room
}

/// What etcd-dump-logs printed, run by run: its flags and its stdout.
fn samples(name: &str) -> Vec<(Vec<String>, String)> {
    let text = testdata::sample(name);
    let mut runs = Vec::new();
    for run in text.split("$ etcd-dump-logs-3.6.14 ").skip(1) {
        let (command, rest) = run.split_once("\n--- stdout\n").unwrap();
        let (stdout, _) = rest.split_once("\n--- stderr\n").unwrap();
        let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        words.pop();
        runs.push((words, stdout.to_owned()));
    }
    runs
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn entries(text: &str) -> Vec<Value> {
    lines(text).into_iter().filter(|line| line["record"] == "entry").collect()
}

fn indexes(text: &str) -> Vec<u64> {
    entries(text).iter().map(|entry| entry["Index"].as_u64().unwrap()).collect()
}

/// The reference program printed the entries behind the index it was given; here, as in its version 3.7, the one of that index
/// comes first.
#[rstest]
#[case("on-3.4.23", "data")]
#[case("on-3.5.1", "data")]
#[case("on-3.5.30", "data")]
#[case("on-3.6.14", "data")]
#[case("on-3.7.1", "data")]
#[case("raw", "data")]
#[case("cluster-3.5.30-n1", "n1")]
#[case("cluster-3.5.30-n1-types", "n1")]
#[case("cluster-3.5.30-n2", "n2")]
#[case("cluster-3.5.30-n2-types", "n2")]
#[case("cluster-3.5.30-n3", "n3")]
#[case("cluster-3.5.30-n3-types", "n3")]
fn as_etcd_dump_logs_prints_it(#[case] sample: &str, #[case] dir: &str) {
    let room = match sample.strip_prefix("on-") {
        Some(version) => single(version),
        None if dir == "data" => single("3.5.30"),
        None => cluster(),
    };
    let before = testdata::fingerprint(room.path());
    let runs = samples(&format!("dump-logs-3.6.14-{sample}.txt"));
    assert!(!runs.is_empty());
    for (flags, expected) in runs {
        let moved: Vec<String> =
            flags.iter().map(|flag| if flag == "1" { "2".to_owned() } else { flag.clone() }).collect();
        let mut words = vec!["wal", "dump", "--full-values", "--show-secrets"];
        words.extend(moved.iter().map(String::as_str));
        words.push(dir);
        for io in ["mmap", "pread"] {
            let ran = room.run_words(&[&words[..], &["--io", io]].concat());
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            let found = ran.stdout.replace("from index 2.\n", "from index 1.\n");
            assert_eq!(found.trim_end_matches('\n'), expected.trim_end_matches('\n'), "{flags:?}");
        }
    }
    assert_eq!(testdata::fingerprint(room.path()), before);
}

#[test]
fn passwords_are_in_no_form_of_the_output() {
    let room = single("3.4.23");
    let secrets = ["rootpw", "alicepw", "bobpw"];
    for form in [
        "--all",
        "--all -w json",
        "--all --full-values",
        "--all -w json --full-values",
        "--raw --full-values",
    ] {
        let hidden = room.run(&format!("wal dump data {form}"));
        let shown = room.run(&format!("wal dump data {form} --show-secrets"));
        for secret in secrets {
            assert!(!hidden.stdout.contains(secret), "{form}");
            assert!(!hidden.stderr.contains(secret), "{form}");
            assert!(shown.stdout.contains(secret), "{form}");
        }
        assert!(hidden.stdout.contains("<value removed>"));
        // Nothing but the passwords is hidden.
        let differing = hidden.stdout.lines().zip(shown.stdout.lines()).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 3, "{form}");
    }
}

#[test]
fn json_has_every_record_and_every_entry() {
    let room = single("3.6.14");
    let rows = room.run("wal dump data --all");
    let ran = room.run("wal dump data --all --raw=false -w json");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let all = lines(&ran.stdout);
    let kinds: BTreeSet<&str> = all.iter().map(|line| line["record"].as_str().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["entry", "metadata", "snapshot", "state"]));
    let entries: Vec<&Value> = all.iter().filter(|line| line["record"] == "entry").collect();
    assert_eq!(entries.len(), 216);
    assert!(rows.stdout.contains("WAL entries: 216\nlastIndex=216\n"), "{}", rows.stdout);
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!(entry["Index"], at + 1);
    }
    // What etcd-dump-logs and etcdctl print of the same entries.
    let txn = entries.iter().find(|entry| entry["Index"] == 54).unwrap();
    assert_eq!(txn["kind"], "txn");
    assert_eq!(
        txn["request"]["txn"],
        serde_json::json!({
            "compare": [{"result": "GREATER", "target": "MOD", "key": "/a/key001", "mod_revision": 0}],
            "success": [
                {"request_put": {"key": "/txn/a", "value": "1"}},
                {"request_put": {"key": "/txn/b", "value": "2"}},
                {"request_delete_range": {"key": "/a/key010"}}
            ],
            "failure": [{"request_put": {"key": "/txn/fail", "value": "1"}}]
        })
    );
    assert_eq!(entries[0]["conf_change"]["type"], "ConfChangeAddNode");
    assert_eq!(entries[0]["conf_change"]["node_id"], "e05372580292fb8c");
    let raw = room.run("wal dump data --raw -w json");
    assert_eq!(lines(&raw.stdout)[0]["record"], "crc");
    assert_eq!(lines(&raw.stdout).len(), all.len() + 1);
}

#[test]
fn values_are_cut_and_say_so() {
    let room = single("3.5.30");
    let ran = room.run("wal dump data --all --prefix /big/");
    assert!(ran.stderr.contains("Values are cut after 128 bytes; --full-values shows all of them."));
    let row = ran.stdout.lines().find(|line| line.contains("/big/70k")).unwrap();
    assert!(row.contains("\"...(93336 bytes) > "), "{row}");
    let json = entries(&room.run("wal dump data --all --prefix /big/ -w json").stdout);
    let put = &json[0]["request"]["put"];
    assert_eq!((put["value"].as_str().unwrap().len(), put["value_len_bytes"].as_u64()), (128, Some(93_336)));
    let whole = entries(&room.run("wal dump data --all --prefix /big/ -w json --full-values").stdout);
    assert_eq!(whole[0]["request"]["put"]["value"].as_str().unwrap().len(), 93_336);
}

#[test]
fn each_filter_lets_pass_what_it_names() {
    let room = cluster();
    let found = |flags: &str| {
        let ran = room.run(&format!("wal dump n1 --all -w json {flags}"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(!ran.stderr.contains("ignored"), "{}", ran.stderr);
        entries(&ran.stdout)
    };
    let all = found("");
    assert_eq!(all.len(), 4252);
    let matching = |wanted: &dyn Fn(&Value) -> bool| {
        all.iter().filter(|entry| wanted(entry)).cloned().collect::<Vec<_>>()
    };

    let key = found("--key /load/00286");
    assert!(key.len() > 1);
    assert_eq!(key, matching(&|entry| entry["request"]["put"]["key"] == "/load/00286"));
    let prefix = found("--prefix /load/0028");
    let in_prefix = |entry: &Value| {
        entry["request"]["put"]["key"].as_str().is_some_and(|key| key.starts_with("/load/0028"))
    };
    assert_eq!(prefix, matching(&in_prefix));
    let member = found("--member 2606f2df55cce61f");
    let index =
        |entries: &[Value]| entries.iter().map(|entry| entry["Index"].as_u64().unwrap()).collect::<Vec<_>>();
    // Entries 33 and 34 by the sample; the rest is what the member said of itself.
    assert!(index(&member).starts_with(&[33, 34]), "{member:?}");
    assert!(found("--member 1").is_empty());
    assert_eq!(found("--term 2"), matching(&|entry| entry["Term"] == 2));
    assert_eq!(index(&found("--uncommitted")), [4252]);
    assert_eq!(
        index(&found("--key /load/00286 --term 3")),
        index(&matching(&|entry| { entry["request"]["put"]["key"] == "/load/00286" && entry["Term"] == 3 }))
    );
    assert_eq!(index(&found("--entry-type ConfigChange")), [1, 2, 3, 33, 34]);
    assert_eq!(index(&found("--entry-type=ConfigChange -end-index 33")), [1, 2, 3]);
    let ran = room.run("wal dump n1 -start-index=4000 -end-index 4003 -w json -entry-type IRRPut");
    assert_eq!(indexes(&ran.stdout), [4000, 4001, 4002]);
}

#[test]
fn leases_are_found_by_the_id_that_etcdctl_prints() {
    let room = single("3.5.30");
    let all = entries(&room.run("wal dump data --all -w json").stdout);
    let granted = all.iter().find(|entry| entry["kind"] == "lease_grant").unwrap();
    let id = granted["request"]["lease_grant"]["ID"].as_str().unwrap();
    let listed = testdata::facts("3.5.30", "s1-precompact", "leases.json");
    assert!(listed.contains(&u64::from_str_radix(id, 16).unwrap().to_string()), "{id} {listed}");
    let found = entries(&room.run(&format!("wal dump data --all -w json --lease {id}")).stdout);
    assert!(found.len() > 1);
    for entry in &found {
        assert!(entry.to_string().contains(&format!("\"{id}\"")), "{entry}");
    }
}

#[test]
fn types_that_etcd_dump_logs_does_not_know_are_warned_of() {
    let room = single("3.5.30");
    let ran = room.run("wal dump data --all --entry-type Foo,IRRLeaseRevoke");
    assert_eq!(ran.code, 0);
    assert!(
        ran.stderr
            .contains("warning: \"Foo\" is no entry type and is ignored; there are ConfigChange, Normal")
    );
    assert!(ran.stdout.ends_with("\nEntry types (Foo,IRRLeaseRevoke) count is : 1\n"), "{}", ran.stdout);
    let ran = room.run("wal dump data --all --entry-type Request");
    assert_eq!(ran.stdout.matches("\tnorm\tmethod=PUT path=\"/0/").count(), 3, "{}", ran.stdout);
    let ran = room.run("wal dump data --all --entry-type=");
    assert!(ran.stdout.ends_with("data\n\nEntry types () count is : 0\n"), "{}", ran.stdout);
}

/// `--key` is a flag of etcdctl that all commands accept and ignore; here it is the filter, wherever it stands.
#[test]
fn the_key_is_the_filter_here_and_ignored_elsewhere() {
    let room = single("3.5.30");
    let behind = room.run("wal dump data --all --key /txn/a");
    let before = room.run("--key /txn/a wal dump data --all");
    assert_eq!(behind, before);
    assert!(!behind.stderr.contains("ignored"), "{}", behind.stderr);
    assert!(behind.stdout.contains("/txn/a") && !behind.stdout.contains("/a/key001\" value"));
    let ran = room.run("wal dump data --all --key=--odd");
    assert!(ran.stdout.ends_with("count is : 0\n"));
    let ran = room.run("wal dump data --all --key /txn/a --cacert x");
    assert!(ran.stderr.contains("warning: --cacert is ignored"), "{}", ran.stderr);
    let ran = room.run("wal verify data --key x");
    assert!(ran.stderr.contains("warning: --key is ignored"), "{}", ran.stderr);
}

#[rstest]
#[case("--start-index 1 --start-snap x", "cannot be used with")]
#[case("--all --start-index 1", "cannot be used with")]
#[case("--start-index -1", "unexpected argument '-1'")]
#[case("--start-index=-1", "is not a number")]
#[case("--start-index x", "is not a number")]
#[case("--member xyz", "is not an ID in hexadecimal")]
#[case("--lease 11112222333344445", "more than 16 digits")]
#[case("--raw --entry-type Normal", "--entry-type does not go with --raw")]
#[case("--raw --start-snap x", "--start-snap does not go with --raw")]
#[case("--raw --stream-decoder cat", "--stream-decoder does not go with --raw")]
#[case("--stream-decoder=", "names no program")]
#[case("-w protobuf", "not supported")]
fn flags_that_make_no_sense(#[case] flags: &str, #[case] says: &str) {
    let room = single("3.5.30");
    let ran = room.run(&format!("wal dump data {flags}"));
    assert!(ran.code == 2 || (ran.code == 4 && flags.contains("protobuf")), "{ran:?}");
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_dump_begins_where_it_is_told() {
    let room = single("3.5.30");
    let ran = room.run("wal dump data");
    assert!(
        ran.stderr.starts_with(
            "182 entries up to index 182, where the snapshot stands, are not shown; --all shows them.\n"
        ),
        "{}",
        ran.stderr
    );
    for name in ["0000000000000002-0000000000000068", "0000000000000002-0000000000000068.snap"] {
        let ran = room.run(&format!("wal dump data --start-snap {name}"));
        assert!(ran.stdout.contains("term=2 index=104 nodes=[2fa0a134ee80bef8]"), "{}", ran.stdout);
        assert!(ran.stdout.contains("WAL entries: 86\nlastIndex=190\n"), "{}", ran.stdout);
    }
    let ran = room.run("wal dump data --start-snap 0000000000000002-0000000000000099");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("0000000000000099.snap: No such file"), "{}", ran.stderr);
    let ran = room.run("wal dump data --start-index 500");
    assert!(ran.stdout.contains("WAL entries: 0\nterm"), "{}", ran.stdout);

    // Without its snap directory, the log alone, and the log elsewhere.
    fs::rename(room.path().join("data/member/wal"), room.path().join("log")).unwrap();
    let alone = room.run("wal dump log");
    assert!(alone.stdout.starts_with("Snapshot:\nempty\nStart dumping log entries from snapshot.\n"));
    assert!(alone.stdout.contains("WAL entries: 190\n"));
    let elsewhere = room.run("wal dump data --wal-dir log");
    assert!(elsewhere.stdout.starts_with("Snapshot:\nterm=3 index=182 "), "{}", elsewhere.stdout);
    let segment = room.run("wal dump log/0000000000000000-0000000000000000.wal");
    assert_eq!(segment.stdout, alone.stdout);
    // A damaged newest snapshot: the one before it, with a warning.
    let newest = room.path().join("data/member/snap/0000000000000003-00000000000000b6.snap");
    let mut bytes = fs::read(&newest).unwrap();
    bytes[500] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let ran = room.run("wal dump data --wal-dir log");
    assert!(ran.stderr.contains("warning: 0000000000000003-00000000000000b6.snap: "), "{}", ran.stderr);
    assert!(ran.stdout.starts_with("Snapshot:\nterm=3 index=156 "), "{}", ran.stdout);
}

#[test]
fn entries_that_a_later_leader_overwrote_are_shown_when_asked_for() {
    for version in testdata::damage::LOG_VERSIONS {
        let room = Room::new();
        let _ = Base::Overwritten.unpack(version, &room.path().join("m"));
        let without = entries(&room.run("wal dump m/data --all -w json").stdout);
        let with = entries(&room.run("wal dump m/data --all -w json --overwritten").stdout);
        let replaced: Vec<&Value> = with.iter().filter(|entry| entry["overwritten"] == true).collect();
        // Eight, by the fixture's README.
        assert_eq!(replaced.len(), 8, "{version}");
        assert_eq!(with.len(), without.len() + 8);
        for entry in replaced {
            let winner = without.iter().find(|other| other["Index"] == entry["Index"]).unwrap();
            assert!(winner["Term"].as_u64() > entry["Term"].as_u64());
        }
        let rows = room.run("wal dump m/data --all --overwritten");
        assert_eq!(rows.stdout.matches("\t(overwritten by a later term)\n").count(), 8);
    }
}

#[test]
fn segments_follow_each_other() {
    let room = Room::new();
    let _ = Base::Segments.unpack("3.5.16", &room.path().join("m"));
    let ran = room.run("wal dump m/data --all -w json");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(indexes(&ran.stdout), (1..=449).collect::<Vec<_>>());
    let names: BTreeSet<String> =
        lines(&ran.stdout).iter().map(|line| line["segment"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 4);
    // One of several segments alone: what is missing around it is nobody's fault.
    for name in names {
        let ran = room.run(&format!("wal dump m/data/member/wal/{name} --all -w json"));
        assert_eq!(ran.code, 0, "{name}: {}{}", ran.stderr, ran.stdout);
    }
}

/// `fixtures/3.5.30/damaged`, whose reports say what the reference program made of each: it stopped there.
#[rstest]
#[case("wal-crc-mismatch-middle", "WAL-CRC", 190)]
#[case("wal-crc-mismatch-last", "WAL-CRC", 190)]
#[case("wal-torn-zero-sectors", "WAL-TORN", 145)]
#[case("wal-truncated-in-header", "WAL-LENGTH-CUT", 190)]
#[case("wal-truncated-mid-record", "WAL-RECORD-CUT", 190)]
fn breaks_are_marked_where_they_stand_and_passed(#[case] name: &str, #[case] code: &str, #[case] last: u64) {
    let room = Room::new();
    testdata::unpack(&format!("3.5.30/damaged/{name}.tar.zst"), room.path());
    let dir = room.names().remove(0);
    let before = testdata::fingerprint(room.path());
    let ran = room.run(&format!("wal dump {dir} --all"));
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains(&format!("'etcd-rescue wal verify {dir}' says what they mean")),
        "{}",
        ran.stderr
    );
    let mark = ran.stdout.lines().position(|line| line.contains(&format!("\tbad\t{code}: "))).unwrap();
    assert!(mark > 100);
    let json = room.run(&format!("wal dump {dir} --all -w json"));
    assert_eq!(json.code, 3);
    let faults: Vec<Value> =
        lines(&json.stdout).into_iter().filter(|line| line["record"] == "fault").collect();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0]["code"], code);
    assert!(faults[0]["offset"].as_u64().unwrap() > 0);
    let holding: Vec<u64> = entries(&json.stdout)
        .iter()
        .filter(|entry| entry.get("unverified").is_none())
        .map(|entry| entry["Index"].as_u64().unwrap())
        .collect();
    assert_eq!(holding.last(), Some(&last));
    let raw = room.run(&format!("wal dump {dir} --raw"));
    assert_eq!(raw.code, 3);
    assert!(raw.stdout.contains(&format!("\nError: {code}: ")), "{}", raw.stdout);
    assert!(!raw.stdout.contains("EOF: All entries were processed."));
    assert_eq!(testdata::fingerprint(room.path()), before);
}

#[test]
fn what_is_no_log_is_an_error_or_a_mark_and_never_a_panic() {
    let room = Room::new();
    fs::create_dir(room.path().join("empty")).unwrap();
    for (name, bytes) in [("garbage", vec![0xa5; 9_000]), ("zeros", vec![0; 4096]), ("nothing", Vec::new())] {
        let file = format!("{name}/0000000000000000-0000000000000000.wal");
        fs::create_dir(room.path().join(name)).unwrap();
        room.write(&file, &bytes);
        for flags in ["", "--raw", "-w json", "--raw -w json", "--io pread"] {
            for input in [name, file.as_str()] {
                let ran = room.run(&format!("wal dump {input} {flags}"));
                assert!(ran.code == 3 || (ran.code == 1 && input == name), "{input} {flags}: {ran:?}");
                assert!(!ran.stderr.contains("panicked"));
            }
        }
    }
    let ran = room.run("wal dump missing");
    assert_eq!(ran.code, 1);
    room.write("plain.txt", b"hello");
    assert_eq!(room.run("wal dump plain.txt").code, 1);
}

/// A program in the room that answers as `body` says.
fn decoder(room: &Room, body: &str) -> String {
    let path = room.path().join("decoder");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    "./decoder".to_owned()
}

#[test]
fn a_stream_decoder_adds_two_columns() {
    let room = single("3.5.30");
    let decoder = decoder(&room, "while read line; do echo \"OK|<$line>\"; done");
    let ran = room.run(&format!("wal dump data --stream-decoder {decoder}"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("term\t     index\ttype\tdata\tdecoder_status\tdecoded_data\n"));
    let rows: Vec<&str> = ran.stdout.lines().filter(|line| line.contains("\tnorm\t")).collect();
    assert_eq!(rows.len(), 8);
    for row in rows {
        assert!(row.contains("\tOK\t<") && row.ends_with('>'), "{row}");
    }
    let json = entries(&room.run(&format!("wal dump data -w json --stream-decoder {decoder}")).stdout);
    assert!(json.iter().all(|entry| entry["decoder_status"] == "OK"), "{json:?}");
    let plain = decoder_room_answer(&room, "while read line; do echo plain; done");
    assert!(plain.contains("\tnot of the form STATUS|TEXT\tplain\n"), "{plain}");
    // Passwords' hashes are not for it to see, unless asked.
    let all = room.run("wal dump data --all --stream-decoder ./decoder");
    assert_eq!(all.code, 0);
    assert!(all.stdout.contains("\tnot decoded, since it holds a password\t\n"));
    assert!(
        all.stderr.contains("3 entries hold passwords and were not given to the decoder"),
        "{}",
        all.stderr
    );
}

fn decoder_room_answer(room: &Room, body: &str) -> String {
    let decoder = decoder(room, body);
    room.run(&format!("wal dump data --stream-decoder {decoder}")).stdout
}

#[rstest]
#[case("exit 7", "gave 0 answers, then closed its output and ended with exit status: 7")]
#[case("read a; echo 'OK|1'; read a; echo 'OK|2'", "gave 2 answers, then closed its output")]
#[case("echo sorry >&2; exit 1", "it said: sorry")]
#[case("while read line; do echo 'OK|x'; done; exit 5", "ended with exit status: 5 after the last entry")]
#[case("read a; printf 'no end of line'", "gave 0 answers")]
fn a_stream_decoder_that_fails(#[case] body: &str, #[case] says: &str) {
    let room = single("3.5.30");
    let decoder = decoder(&room, body);
    let ran = room.run(&format!("wal dump data --stream-decoder {decoder}"));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
    let ran = room.run("wal dump data --stream-decoder ./no-such-program");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("starting the stream decoder ./no-such-program: No such file"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_stream_decoder_that_hangs_is_left_after_ten_seconds_or_at_once_with_a_signal() {
    let room = single("3.5.30");
    let decoder = decoder(&room, "exec sleep 600");
    let command = || {
        let mut command = Command::new(binary());
        command.current_dir(room.path()).args(["wal", "dump", "data", "--stream-decoder", &decoder]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let waiting = command().spawn().unwrap();
    let child = command().spawn().unwrap();
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(130), None), "{output:?}");
    assert!(begun.elapsed() < Duration::from_secs(8));
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("gave 0 answers, then none for 10s"), "{stderr}");
}

fn into(room: &Room, args: &[&str], stdout: Stdio) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.current_dir(room.path()).args(args).stdout(stdout).stderr(Stdio::piped());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_reader_that_goes_away_had_enough() {
    let room = cluster();
    for form in [&["-w", "json"][..], &["--raw"], &[]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let args = [&["wal", "dump", "n1", "--start-index", "1"][..], form].concat();
        let (code, stderr) = into(&room, &args, writer.into());
        assert_eq!(code, Some(0), "{stderr}");
        assert!(!stderr.contains("Error"), "{stderr}");
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, stderr) = into(&room, &args, full.into());
        assert_eq!(code, Some(1));
        assert!(stderr.contains("Error: writing to standard output"), "{stderr}");
    }
}
