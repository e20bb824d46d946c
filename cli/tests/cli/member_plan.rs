//! `member plan`: directories held against each other, and the command for each.

use testdata::fingerprint;

use crate::run::Room;

const MOVED: &str = "n1=http://10.1.0.1:2380,n2=http://10.1.0.2:2380,n3=http://10.1.0.3:2380";

fn three() -> Room {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    room
}

#[test]
fn three_members_of_one_cluster_agree_and_get_one_command_each() {
    let room = three();
    let before = ["n1", "n2", "n3"].map(|name| fingerprint(&room.path().join(name)));
    let checked = room.run("member plan n1 n2 n3 -w json");
    assert_eq!(checked.code, 0, "{checked:?}");
    assert_eq!(checked.json()["agree"], true);
    assert_eq!(checked.json()["withoutDirectory"], serde_json::json!([]));
    let planned = room.run(&format!("member plan n3 n1 n2 --initial-cluster {MOVED}"));
    assert_eq!(planned.code, 0, "{planned:?}");
    let commands: Vec<&str> = planned.stdout.lines().collect();
    let command = |dir| {
        format!("etcd-rescue member update {dir} --initial-cluster {MOVED} --on-every-member --in-place")
    };
    assert_eq!(commands, ["n3", "n1", "n2"].map(command));
    assert!(
        planned
            .stderr
            .contains("member n2 (3fe4b3a4dda901c1): http://127.0.0.1:22103 becomes http://10.1.0.2:2380")
    );
    let same = room.run(
        "member plan n1 n2 --initial-cluster n1=http://127.0.0.1:22101,n2=http://127.0.0.1:22103,n3=http://127.0.0.1:22105",
    );
    assert_eq!((same.code, same.stdout.as_str()), (0, ""), "{same:?}");
    assert!(same.stderr.contains("nothing to do"), "{same:?}");
    assert_eq!(before, ["n1", "n2", "n3"].map(|name| fingerprint(&room.path().join(name))));
}

#[test]
fn a_log_elsewhere_is_part_of_its_command() {
    let room = three();
    std::fs::rename(room.path().join("n1/member/wal"), room.path().join("log of n1")).unwrap();
    let words = ["member", "plan", "n1", "--wal-dir", "log of n1", "--initial-cluster", MOVED];
    let planned = room.run_words(&words);
    assert_eq!(planned.code, 0, "{planned:?}");
    let rest = "--on-every-member --wal-dir 'log of n1' -o n1-moved --output-wal-dir 'log of n1-moved'\n";
    assert!(planned.stdout.ends_with(rest), "{}", planned.stdout);
    assert!(
        planned.stderr.contains("no DIR of n3 (3e2f70db3bda20b4), n2 (3fe4b3a4dda901c1) was given"),
        "{planned:?}"
    );
}

#[test]
fn what_must_not_start_together_is_found() {
    let room = three();
    testdata::data_dir("3.5.30", room.path());
    let copied =
        std::process::Command::new("cp").arg("-a").args(["n1", "again"]).current_dir(room.path()).status();
    assert!(copied.unwrap().success());
    for (dirs, words) in [
        ("n1 again", "are both of member 6b7160608ed2c2e8"),
        ("n1 data", "their members refuse to talk to each other"),
    ] {
        let ran = room.run(&format!("member plan {dirs} -w json"));
        assert_eq!((ran.code, &ran.json()["agree"]), (3, &false.into()), "{ran:?}");
        assert!(ran.stderr.contains("error ETCD-MEMBERS-DIFFER: "), "{ran:?}");
        assert!(ran.stderr.contains(words), "{dirs}: {ran:?}");
    }
}

#[test]
fn wrong_names_and_files_are_refused() {
    let room = three();
    room.write("s.db", &testdata::snapshot("3.5.30", "s3-final"));
    for (line, code, words) in [
        (
            "member plan n1 --initial-cluster n1=http://a:1,n2=http://b:1",
            1,
            "does not name 3e2f70db3bda20b4|does not name n3",
        ),
        (
            "member plan n1 --initial-cluster m1=http://a:1",
            1,
            "no member is called so; the members are n3, n2, n1",
        ),
        ("member plan n1 --initial-cluster n1=http://a:1,n2=http://a:1", 2, "every member needs its own"),
        ("member plan n1 --initial-cluster n1", 2, "empty URL"),
        ("member plan s.db", 1, "no log that says whose"),
        ("member plan absent", 1, "absent: "),
        ("member plan n1 n2 --wal-dir x", 2, "give it once for each"),
        ("member plan", 2, "<DIR>"),
    ] {
        let ran = room.run(line);
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(words.split('|').any(|words| ran.stderr.contains(words)), "{line}: {}", ran.stderr);
    }
}

/// The plan is carried out as it is printed, and after the first of three commands, and after all, the check says how things stand.
#[test]
fn the_commands_run_as_printed_and_the_check_sees_each_step() {
    let room = three();
    let planned = room.run(&format!("member plan n1 n2 n3 --initial-cluster {MOVED}"));
    for (done, command) in (1..).zip(planned.stdout.lines()) {
        let ran = room.run(command.strip_prefix("etcd-rescue ").unwrap());
        assert_eq!(ran.code, 0, "{command}: {ran:?}");
        let checked = room.run("member plan n1 n2 n3");
        let disagree = checked.stderr.contains("ETCD-MEMBERS-DIFFER");
        assert_eq!(
            (checked.code, disagree),
            if done < 3 { (3, true) } else { (0, false) },
            "{done}: {checked:?}"
        );
        if done == 1 {
            // What it says to do about it can be done.
            let line = format!("etcd-rescue member plan n1 n2 n3 --initial-cluster {MOVED}\n");
            let by_id = "n3=http://10.1.0.3:2380,n2=http://10.1.0.2:2380,n1=http://10.1.0.1:2380";
            assert!(checked.stderr.contains(&line.replace(MOVED, by_id)), "{checked:?}");
        }
    }
    for name in ["n1", "n2", "n3"] {
        let listed = room.run(&format!("member list {name} --quiet"));
        assert_eq!(listed.code, 0, "{listed:?}");
        assert!(listed.stdout.contains(", n1, http://10.1.0.1:2380,"), "{listed:?}");
    }
}
