//! `inspect`: what each path is, on one page, with commands that work.

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::Value;
use testdata::fingerprint;

use crate::run::{Ran, Room};

fn room_of(version: &str) -> Room {
    let room = Room::new();
    testdata::data_dir(version, room.path());
    room
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[rstest]
fn a_data_dir_is_told_as_its_server_told_of_itself(
    #[values("3.4.23", "3.5.1", "3.5.30", "3.6.14", "3.7.1")] version: &str,
) {
    let room = room_of(version);
    let before = fingerprint(&room.path().join("data"));
    let ran = room.run("inspect data -w json");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    let told = ran.json();
    let status = &testdata::facts_json(version, "s3-final", "endpoint-status.json")[0][0]["Status"];
    let hex = |value: &Value| format!("{:x}", number(value));
    assert_eq!(told["what"], "data-dir");
    assert_eq!(told["memberId"], hex(&status["header"]["member_id"]));
    assert_eq!(told["clusterId"], hex(&status["header"]["cluster_id"]));
    assert_eq!(told["database"]["revision"], status["header"]["revision"]);
    assert_eq!(told["log"]["hardState"]["term"], status["raftTerm"]);
    // The data dir has a few entries more than the server had when it was asked.
    assert!(number(&told["log"]["lastIndex"]) >= number(&status["raftIndex"]), "{told}");
    assert_eq!(told["database"]["writtenBy"], version.rsplit_once('.').unwrap().0);
    let member = &testdata::facts_json(version, "s3-final", "members.json")[0]["members"][0];
    for (field, theirs) in [("name", "name"), ("peerURLs", "peerURLs"), ("clientURLs", "clientURLs")] {
        assert_eq!(told["members"][0][field], member[theirs], "{field}");
    }
    assert_eq!(told["database"]["alarms"][0]["alarm"], "NOSPACE");
    assert_eq!(told["structure"]["checked"], true);
    assert_eq!(told["notInDatabase"], u64::from(version == "3.4.23"));

    let page = room.run("inspect data");
    assert_eq!(page.code, 0);
    assert!(page.stdout.contains("boots as is"), "{}", page.stdout);
    assert!(page.stdout.lines().count() <= 40, "{}", page.stdout);
    assert!(before == fingerprint(&room.path().join("data")), "inspecting changes nothing");
}

#[test]
fn whatever_a_person_points_at_is_recognised_and_its_commands_work() {
    let room = room_of("3.6.14");
    room.write("s.db", &testdata::snapshot("3.6.14", "s2-auth"));
    room.write(
        "s.db.zst",
        &fs::read(testdata::path("fixtures/3.6.14/single/s2-auth.snapshot.db.zst")).unwrap(),
    );
    let member = room.path().join("data/member");
    fs::copy(member.join("snap/db"), room.path().join("bare")).unwrap();
    fs::copy(member.join("snap/db"), room.path().join("00000000000000d8.snap.db")).unwrap();
    for (path, what) in [
        ("data", "data-dir"),
        ("data/member", "member-dir"),
        ("data/member/snap", "snap-dir"),
        ("data/member/wal", "wal-dir"),
        ("data/member/snap/db", "database"),
        ("data/member/snap/0000000000000003-00000000000000d0.snap", "snap"),
        ("data/member/wal/0000000000000000-0000000000000000.wal", "segment"),
        ("bare", "database"),
        ("00000000000000d8.snap.db", "received-database"),
        ("s.db", "snapshot"),
        ("s.db.zst", "snapshot"),
    ] {
        let told = room.run_words(&["inspect", "-w", "json", path]).json();
        assert_eq!(told["what"], what, "{path}");
        for command in told["next"].as_array().unwrap() {
            let command = command.as_str().unwrap().strip_prefix("etcd-rescue ").unwrap();
            // A run that asks whether arguments make sense, without the work.
            let words = format!("{command}{}", if command.contains(" -o ") { " --dry-run" } else { "" });
            let ran = room.run(&words);
            assert!([0, 3].contains(&ran.code), "{path}: {words}: {ran:?}");
        }
    }
    // A database from a leader lies where a member has its snapshots, and makes a snap directory of any other.
    fs::remove_file(room.path().join("00000000000000d8.snap.db")).unwrap();
    let ran = room.run("inspect . -w json");
    let told: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told[0]["what"], "several");
    assert_eq!(told[0]["within"].as_array().unwrap().len(), told.len() - 1);
    assert_eq!(told.len(), 1 + 4, "{}", ran.stdout);
}

#[rstest]
#[case::crc("wal-crc-mismatch-middle", "needs repair: ", "wal repair")]
#[case::torn_far_back("wal-torn-zero-sectors", "boots with loss, with etcd 3.5", "snapshot save")]
#[case::cut("wal-truncated-mid-record", "boots with loss, with etcd 3.5", "snapshot save")]
#[case::no_meta(
    "db-both-meta-corrupt",
    "needs repair: the database is damaged",
    "salvage db-both-meta-corrupt --dry-run"
)]
#[case::one_meta("db-meta0-corrupt", "boots as is, with etcd 3.5", "snapshot save")]
#[case::snap("snap-corrupt-newest", "boots as is, with etcd 3.5", "snapshot save")]
fn damage_is_told_as_the_server_met_it(#[case] name: &str, #[case] verdict: &str, #[case] next: &str) {
    let room = Room::new();
    testdata::unpack(&format!("3.5.30/damaged/{name}.tar.zst"), room.path());
    let told = room.run_words(&["inspect", "-w", "json", name]);
    assert_eq!(told.code, 3, "{told:?}");
    let told = told.json();
    assert!(told["verdict"][0].as_str().unwrap().starts_with(verdict), "{}", told["verdict"]);
    assert!(told["next"][0].as_str().unwrap().contains(next), "{}", told["next"]);
    assert!(!told["findings"].as_array().unwrap().is_empty());
}

#[test]
fn nobody_says_that_it_boots_before_the_pages_were_looked_at() {
    let room = room_of("3.5.30");
    let quick = room.run("inspect --quick data");
    assert_eq!(quick.code, 0);
    assert!(quick.stdout.contains("structure not checked, so nobody says that it boots"), "{}", quick.stdout);
    assert!(quick.stdout.contains("inspect --full data"), "{}", quick.stdout);
    assert!(!quick.stdout.contains("boots as is"), "{}", quick.stdout);
    assert!(room.run("inspect --full data").stdout.contains("boots as is"));
    assert_eq!(room.run("inspect --full --quick data").code, 2);
    assert_eq!(room.run("inspect").code, 2);
}

#[test]
fn what_is_missing_is_said() {
    let room = room_of("3.5.30");
    let data = room.path().join("data");
    fs::rename(data.join("member/wal"), room.path().join("elsewhere")).unwrap();
    let without = room.run("inspect data");
    assert!(without.stdout.contains("needs repair: there is no log"), "{}", without.stdout);
    let with = room.run("inspect data --wal-dir elsewhere");
    assert!(with.stdout.contains("boots as is"), "{}", with.stdout);
    assert!(with.stdout.contains("snapshot save data --wal-dir elsewhere -o saved.db"), "{}", with.stdout);
    fs::rename(room.path().join("elsewhere"), data.join("member/wal")).unwrap();
    fs::remove_file(data.join("member/snap/db")).unwrap();
    let without = room.run("inspect data");
    assert!(without.stdout.contains("needs repair: there is no database"), "{}", without.stdout);
    assert_eq!(without.code, 3);
}

#[test]
fn members_that_were_added_and_removed_are_told_by_every_source() {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    let ran = room.run("inspect n2 -w json");
    assert_eq!(ran.code, 0, "{ran:?}");
    let told = ran.json();
    assert_eq!(
        (&told["database"]["consistentIndex"], &told["log"]["lastIndex"]),
        (&1800.into(), &1810.into())
    );
    assert_eq!(told["notInDatabase"], 10);
    assert_eq!(told["log"]["hardState"]["commit"], 1809);
    assert_eq!(told["database"]["removedMembers"].as_array().unwrap().len(), 1);
    for member in told["members"].as_array().unwrap() {
        assert_eq!((&member["inDatabase"], &member["inRaft"]), (&true.into(), &true.into()), "{member}");
    }
    assert!(room.run("inspect n2").stdout.contains("2 of 3 voters must run"));
}

#[test]
fn what_is_none_of_etcds_is_said_and_names_do_not_steer_the_terminal() {
    let room = Room::new();
    room.write("a\u{1b}[2Jb", b"\x7fELF....");
    let ran: Ran = room.run_words(&["inspect", "a\u{1b}[2Jb"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("a program (ELF)"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
    let missing = room.run("inspect nothing-here");
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("nothing-here: No such file"), "{}", missing.stderr);
    assert!(Path::new("/dev/null").exists());
    assert!(room.run("inspect /dev/null").stdout.contains("a character device"));
}

/// Copies the tree `testdata/find/<name>` to `to`.
fn copy_tree(name: &str, to: &Path) {
    let mut open = vec![(testdata::path(&format!("find/{name}")), to.to_owned())];
    while let Some((from, to)) = open.pop() {
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push((entry.path(), to));
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
}

fn told(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[rstest]
#[case::debian("debian", "/var/lib/etcd/default", "node-a", "debian-cluster", "systemd-unit")]
#[case::flags("flags", "/srv/etcd/default.etcd", "etcd01", "by-script", "systemd-unit")]
#[case::config_file("config-file", "/data/etcd", "k8s-master01", "etcd-k8s-cluster", "systemd-unit")]
#[case::kubeadm("kubeadm", "/mnt/ssd/etcd", "cp-1", "", "static-pod")]
#[case::kubespray("kubespray", "/var/lib/etcd", "etcd1", "k8s_etcd", "systemd-unit")]
#[case::kubesphere("kubesphere", "/data/kk-etcd", "etcd-node1", "k8s_etcd", "environment-file")]
#[case::rke("rke", "/opt/rke/var/lib/etcd", "etcd-node-1", "etcd-cluster-1", "container")]
#[case::rke2("rke2", "/opt/rke2-data/server/db/etcd", "node-1-5b1ff0a2", "", "rancher")]
#[case::k3s("k3s", "/var/lib/rancher/k3s/server/db/etcd", "k3s-a-9f01", "", "rancher")]
fn a_dead_disk_tells_where_its_data_is(
    #[case] tree: &str,
    #[case] data_dir: &str,
    #[case] name: &str,
    #[case] token: &str,
    #[case] kind: &str,
) {
    let room = Room::new();
    let mount = room.path().join("mnt");
    copy_tree(tree, &mount);
    let places = told(&room.run("inspect --find mnt -w json"));
    assert_eq!(places.len(), 1, "{places:?}");
    assert_eq!(places[0]["dataDir"]["named"], data_dir);
    let exists = places[0]["dataDir"]["exists"].as_bool().unwrap();
    assert_eq!(exists, ["rke2", "k3s"].contains(&tree), "their configuration lies in the data dir");
    let source = &places[0]["sources"][0];
    assert_eq!((&source["kind"], &source["flags"]["name"]), (&kind.into(), &name.into()), "{source}");
    assert_eq!(source["flags"]["initial-cluster-token"].as_str().unwrap_or_default(), token);
    assert!(source["flags"]["initial-cluster"].as_str().unwrap().contains(name), "{source}");

    // With the data in place.
    let real = mount.join(data_dir.trim_start_matches('/'));
    fs::create_dir_all(&real).unwrap();
    let data = testdata::data_dir("3.5.30", &room.path().join("unpacked"));
    fs::rename(data.join("member"), real.join("member")).unwrap();
    if let Some(wal) = places[0]["walDir"]["named"].as_str() {
        let wal = mount.join(wal.trim_start_matches('/'));
        fs::create_dir_all(wal.parent().unwrap()).unwrap();
        fs::rename(real.join("member/wal"), wal).unwrap();
    }
    let before = fingerprint(&mount);
    let ran = room.run("inspect --find mnt");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("boots as is"), "{}", ran.stdout);
    let next = ran.stdout.lines().find_map(|line| line.trim().strip_prefix("next ")).unwrap().trim();
    let again = room.run(
        next.strip_prefix("etcd-rescue ")
            .unwrap()
            .replace("ROOM", &room.path().display().to_string())
            .as_str(),
    );
    assert!(again.stdout.contains("boots as is"), "{next}: {again:?}");
    assert!(before == fingerprint(&mount));
}

#[test]
fn a_data_dir_that_nothing_names_is_found_where_one_often_lies() {
    let room = Room::new();
    let mount = room.path().join("mnt");
    fs::create_dir_all(mount.join("var/lib/etcd")).unwrap();
    let empty = room.run("inspect --find mnt");
    assert_eq!(empty.code, 3, "{empty:?}");
    assert!(empty.stdout.contains("no etcd was configured"), "{}", empty.stdout);
    let data = testdata::data_dir("3.6.14", &room.path().join("unpacked"));
    fs::rename(data.join("member"), mount.join("var/lib/etcd/member")).unwrap();
    let ran = room.run("inspect --find mnt");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("nothing: it lies where a data dir often does"), "{}", ran.stdout);
    assert_eq!(room.run("inspect --find nowhere").code, 1);
    assert_eq!(room.run("inspect --find mnt data").code, 2);
}

#[test]
fn links_of_a_dead_disk_do_not_lead_to_this_machine() {
    use std::os::unix::fs::symlink;
    let room = Room::new();
    let mount = room.path().join("mnt");
    copy_tree("kubespray", &mount);
    // /var/lib/etcd is a link to another disk of the dead machine, mounted with it; so is its log.
    let data = testdata::data_dir("3.5.30", &room.path().join("unpacked"));
    fs::create_dir_all(mount.join("disk2/etcd")).unwrap();
    fs::create_dir_all(mount.join("var/lib")).unwrap();
    fs::rename(data.join("member"), mount.join("disk2/etcd/member")).unwrap();
    symlink("/disk2/etcd", mount.join("var/lib/etcd")).unwrap();
    fs::rename(mount.join("disk2/etcd/member/wal"), mount.join("disk2/log")).unwrap();
    symlink("/disk2/log", mount.join("disk2/etcd/member/wal")).unwrap();
    let ran = room.run("inspect --find mnt");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("boots as is"), "{}", ran.stdout);

    // A database that is a link to an absolute path would be taken from here.
    let outside = room.path().join("outside");
    fs::rename(mount.join("disk2/etcd/member/snap/db"), &outside).unwrap();
    symlink(&outside, mount.join("disk2/etcd/member/snap/db")).unwrap();
    let ran = room.run("inspect --find mnt -w json");
    let place = &told(&ran)[0];
    assert!(place["inspection"].is_null(), "{place}");
    assert_eq!(place["links"].as_array().unwrap().len(), 1, "{place}");
}

#[test]
fn a_hostile_disk_is_passed_over() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let room = Room::new();
    let mount = room.path().join("mnt");
    copy_tree("kubeadm", &mount);
    let manifests = mount.join("etc/kubernetes/manifests");
    fs::File::create(manifests.join("huge.yaml")).unwrap().set_len(1 << 40).unwrap();
    fs::write(manifests.join(std::ffi::OsStr::from_bytes(b"\xff.yaml")), "etcd").unwrap();
    fs::write(manifests.join("z\u{1b}[2J.yaml"), "etcd: &anchor x\n").unwrap();
    symlink("loop.yaml", manifests.join("loop.yaml")).unwrap();
    symlink("/etc/kubernetes", manifests.join("up.yaml")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(manifests.join("fifo.yaml")).status().unwrap();
    assert!(made.success());
    let ran = room.run("inspect --find mnt");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stdout.contains("/mnt/ssd/etcd: not on this disk"), "{}", ran.stdout);
    for passed in [
        "huge.yaml: has 1099511627776 bytes",
        "loop.yaml: its links",
        "up.yaml: is no regular",
        "fifo.yaml: is no regular",
        "line 1 is not read",
    ] {
        assert!(ran.stdout.contains(passed), "{passed}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\u{1b}'));
}
