//! `member update`, `add`, `remove`, `promote`: what they say, write and refuse. That servers start on what they write is
//! `oracle_member`'s business.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use snapshot::facts::{self, Facts, FactsOptions};
use snapshot::member_copy::{CopyOptions, MemberCopy, Publish};
use snapshot::members::{self, Account};
use snapshot::membership::Member;
use snapshot::reseat::Reseat;
use snapshot::v2store;
use snapshot::whole_member::Whole;
use testdata::fingerprint;

use crate::run::Room;

const LIST: &str = "n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380";

/// A room with the three killed members `n1` to `n3` of a cluster.
fn three() -> Room {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    room
}

/// A room with the only voter of its cluster, in `data`.
fn lone(version: &str) -> Room {
    let room = Room::new();
    testdata::unpack(&format!("{version}/single/data.tar.zst"), room.path());
    room
}

fn gather(dir: &Path) -> Facts {
    facts::gather(dir, &FactsOptions::default(), &()).unwrap()
}

/// Peer URLs by id, as the release sees them that wrote the data.
fn addresses(facts: &Facts) -> BTreeMap<u64, Vec<String>> {
    let membership = members::at(facts, u64::MAX).unwrap();
    membership.members.into_iter().map(|(id, member)| (id, member.peer_urls)).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        dir.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn one_of_several_voters_gets_addresses_and_no_entry() {
    let room = three();
    let before = fingerprint(&room.path().join("n2"));
    let refused = room.run(&format!("member update n2 --initial-cluster {LIST} -o out"));
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("--on-every-member says that it is"), "{refused:?}");
    assert!(refused.stderr.contains("member plan DIR... --initial-cluster "), "{refused:?}");
    let line = format!("member update n2 --initial-cluster {LIST} --on-every-member -o out -w json");
    let dry = room.run(&format!("{line} --dry-run"));
    assert_eq!((dry.code, room.path().join("out").exists()), (0, false), "{dry:?}");
    let ran = room.run(&line);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(fingerprint(&room.path().join("n2")), before);
    let (mut told, report) = (dry.json(), ran.json());
    told["dryRun"] = false.into();
    assert_eq!(told, report);

    let (old, new) = (gather(&room.path().join("n2")), gather(&room.path().join("out")));
    let wanted: BTreeMap<u64, Vec<String>> = [
        (0x3e2f_70db_3bda_20b4, "http://10.0.0.3:2380"),
        (0x3fe4_b3a4_dda9_01c1, "http://10.0.0.2:2380"),
        (0x6b71_6060_8ed2_c2e8, "http://10.0.0.1:2380"),
    ]
    .map(|(id, url)| (id, vec![url.to_owned()]))
    .into();
    assert_eq!(addresses(&new), wanted);
    let rows = &new.database_facts().unwrap().members;
    assert_eq!(rows.iter().map(|row| (row.id, row.peer_urls.clone())).collect::<BTreeMap<_, _>>(), wanted);
    let log = |facts: &Facts| facts.log_facts().unwrap().report.log.clone();
    let (old, new) = (log(&old), log(&new));
    assert_eq!((new.last_index(), new.entries), (old.last_index(), old.entries));
    assert_eq!(new.snapshots.len(), old.snapshots.len() + 1);
    let index = new.snapshots.last().unwrap().value.index();
    assert_eq!(Some(index), report["snapshotIndex"].as_u64());
    assert!(new.commit() >= index);
    assert_eq!(
        names(&room.path().join("out/member/snap")),
        [format!("{:016x}-{index:016x}.snap", 2), "db".into()]
    );
    assert_eq!(room.run("verify out").code, 0);
}

#[test]
fn what_cannot_be_meant_is_refused_and_nothing_is_written() {
    let room = three();
    fs::rename(room.path().join("n3/member/wal"), room.path().join("wal")).unwrap();
    let every = "--on-every-member -o out";
    let url = "--peer-urls http://10.0.0.7:2380";
    let (before, listed) = (fingerprint(&room.path().join("n1")), room.names());
    for (line, code, words) in [
        (
            format!("update n1 nobody {url} {every}"),
            1,
            "there is no member \"nobody\"; there are \"n3\" (3e2f70db3bda20b4)",
        ),
        (format!("update n1 3 {url} {every}"), 1, "with it begin the ids 3e2f70db3bda20b4, 3fe4b3a4dda901c1"),
        (format!("update n1 n1 --peer-urls 10.0.0.7:2380 {every}"), 2, "--peer-urls"),
        (format!("update n1 n1 {url}"), 2, "-o OUT is missing"),
        (format!("update n1 n1 {url} -o out --in-place"), 2, "--in-place"),
        (format!("update n1 n1 {url} --initial-cluster {LIST} -o out"), 2, "--initial-cluster"),
        (
            format!("update n1 --initial-cluster {LIST},n4=http://10.0.0.4:2380 {every}"),
            1,
            "names n1, n2, n3, n4, and the members",
        ),
        (
            format!("update n1 --initial-cluster n1=http://10.0.0.1:2380 {every}"),
            1,
            "each must be in it once",
        ),
        (
            format!("update n1 --initial-cluster n1=http://h:1,n2=http://h:1 {every}"),
            2,
            "every member needs its own",
        ),
        (format!("update n1 n1 {url} --on-every-member --in-place --no-lock"), 2, "--no-lock"),
        (
            format!("update n3 n1 {url} --on-every-member --wal-dir wal --in-place"),
            1,
            "lies outside of its directory",
        ),
        (
            format!("add n1 n4 {url} -o out"),
            4,
            "who is added is a decision of the whole cluster, in which 3 vote(s)",
        ),
        ("remove n1 n2 -o out".to_owned(), 4, "who is removed is a decision of the whole cluster"),
        ("promote n1 n2 -o out".to_owned(), 4, "'etcd-rescue cluster force-new n1 -o OUT'"),
    ] {
        let ran = room.run(&format!("member {line}"));
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(ran.stderr.contains(words), "{line}: {ran:?}");
    }
    assert_eq!((fingerprint(&room.path().join("n1")), room.names()), (before, listed));
}

#[test]
fn an_address_of_another_and_those_there_are_is_told() {
    let room = three();
    let known = addresses(&gather(&room.path().join("n1")));
    let of_n2 = &known[&0x3fe4_b3a4_dda9_01c1][0];
    let taken = room.run(&format!("member update n1 n1 --peer-urls {of_n2} --on-every-member -o out"));
    assert_eq!(taken.code, 4, "{taken:?}");
    assert!(taken.stderr.contains("is an address of member 3fe4b3a4dda901c1 (\"n2\")"), "{taken:?}");
    let same = room.run(&format!("member update n1 n2 --peer-urls {of_n2} --on-every-member -o out"));
    assert_eq!(same.code, 1, "{same:?}");
    assert!(same.stderr.contains("have these addresses already"), "{same:?}");
    assert!(!room.path().join("out").exists());
}

#[test]
fn what_a_lone_voter_is_told_and_tells_is_what_etcdctl_says() {
    for version in ["3.4.23", "3.5.30", "3.6.14", "3.7.1"] {
        let room = lone(version);
        let data = room.names().into_iter().find(|name| room.path().join(name).is_dir()).unwrap();
        let own = gather(&room.path().join(&data));
        let (id, cluster) = own.identity().unwrap();
        let member = members::at(&own, u64::MAX).unwrap().members[&id].clone();
        let url = "http://10.0.0.9:2380";
        let added = room.run(&format!("member add {data} n9 --peer-urls {url} --learner --id 9 -o a"));
        assert_eq!(added.code, 0, "{version}: {added:?}");
        assert_eq!(
            added.stdout,
            format!(
                "Member                9 added to cluster {cluster:16x}\n\nETCD_NAME=\"n9\"\n\
                 ETCD_INITIAL_CLUSTER=\"n9={url},{}={}\"\nETCD_INITIAL_ADVERTISE_PEER_URLS=\"{url}\"\n\
                 ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
                member.name, member.peer_urls[0]
            )
        );
        for (line, words) in [
            ("add a n10 --peer-urls http://h:1 --learner -o b".to_owned(), "9 is a learner of this cluster"),
            (format!("add a n10 --peer-urls {url} -o b"), "is an address of member 9"),
            ("add a n10 --peer-urls http://h:1 --id 9 -o b".to_owned(), "ids never come back"),
            (format!("remove a {id:x} -o b"), "the only one that votes"),
            (format!("promote a {id:x} -o b"), "is a voter already"),
        ] {
            let ran = room.run(&format!("member {line}"));
            assert_eq!((ran.code, ran.stderr.contains(words)), (4, true), "{version}, {line}: {ran:?}");
        }
        let promoted = room.run("member promote a 9 -o voters");
        assert_eq!(promoted.stdout, format!("Member                9 promoted in cluster {cluster:16x}\n"));
        let second = room.run("member add voters n10 --peer-urls http://h:1 -o b");
        assert_eq!((second.code, second.stderr.contains("in which 2 vote(s)")), (4, true), "{second:?}");
        let removed = room.run("member remove a 9 -o less");
        assert_eq!(removed.stdout, format!("Member                9 removed from cluster {cluster:16x}\n"));
        let less = gather(&room.path().join("less"));
        assert_eq!(addresses(&less), addresses(&own), "{version}");
        let back = room.run("member add less n9 --peer-urls http://10.0.0.9:2380 --id 9 -o b");
        assert_eq!((back.code, back.stderr.contains("ids never come back")), (4, true), "{back:?}");
        assert!(!room.path().join("b").exists());
    }
}

#[test]
fn a_member_edited_in_place_keeps_the_old_one_beside_it() {
    let room = lone("3.5.30");
    let data = room.names().into_iter().find(|name| room.path().join(name).is_dir()).unwrap();
    let member = |name: &str| room.path().join(&data).join(name);
    let within = |name: &str| ["snap", "wal"].map(|dir| fingerprint(&member(name).join(dir)));
    let old = within("member");
    let id = format!("{:x}", gather(&room.path().join(&data)).identity().unwrap().0);
    let dry = room.run(&format!("member update {data} {id} --peer-urls http://h:1 --in-place --dry-run"));
    assert_eq!((dry.code, names(&room.path().join(&data))), (0, vec!["member".to_owned()]), "{dry:?}");
    let ran = room.run(&format!("member update {data} {id} --peer-urls http://h:1 --in-place"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("The old member is"), "{ran:?}");
    assert_eq!(within("member.original"), old);
    let edited = within("member");
    let again = room.run(&format!("member update {data}/member {id} --peer-urls http://h:2 --in-place"));
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!((within("member.original"), within("member.original-1")), (old, edited));
    assert_eq!(names(&room.path().join(&data)), ["member", "member.original", "member.original-1"]);
    assert_eq!(names(&member("member")), ["snap", "wal"]);
    // Behind the exchange, before the old one had its name: as a loss of power leaves it.
    fs::rename(member("member.original-1"), member("member.etcd-rescue-partial")).unwrap();
    fs::write(member("member").join("in-place.etcd-rescue-partial"), "").unwrap();
    let line = format!("member update {data} {id} --peer-urls http://h:3 --in-place");
    // The same edit again would be refused, since it is made; what is to be done comes first. The original is never of no use.
    let same = format!("member update {data} {id} --peer-urls http://h:2 --in-place");
    for line in [&line, &same, &format!("{line} --dry-run"), &format!("{same} --dry-run --clean")] {
        let cut = room.run(line);
        assert_eq!(
            (cut.code, cut.stderr.contains("--clean gives the original its name")),
            (1, true),
            "{cut:?}"
        );
        assert!(!cut.stderr.contains("of no use"), "{cut:?}");
    }
    let cleaned = room.run(&format!("{line} --clean"));
    assert_eq!(cleaned.code, 0, "{cleaned:?}");
    assert!(cleaned.stderr.contains("its original has its name now"), "{cleaned:?}");
    assert_eq!(
        names(&room.path().join(&data)),
        ["member", "member.original", "member.original-1", "member.original-2"]
    );
    // Cut off, and the same edit again: it is refused, and yet the original gets its name.
    fs::rename(member("member.original-2"), member("member.etcd-rescue-partial")).unwrap();
    fs::write(member("member").join("in-place.etcd-rescue-partial"), "").unwrap();
    let again = room.run(&format!("{line} --clean"));
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("have these addresses already"), "{again:?}");
    assert!(again.stderr.contains("its original has its name now"), "{again:?}");
    assert_eq!(
        names(&room.path().join(&data)),
        ["member", "member.original", "member.original-1", "member.original-2"]
    );
    assert_eq!(names(&member("member")), ["snap", "wal"]);
    // Somebody took the mark away: what may be the original stays.
    fs::rename(member("member.original-2"), member("member.etcd-rescue-partial")).unwrap();
    let doubtful = room.run(&format!("member update {data} {id} --peer-urls http://h:4 --in-place --clean"));
    assert_eq!((doubtful.code, doubtful.stderr.contains("may be the original")), (1, true), "{doubtful:?}");
    assert!(member("member.etcd-rescue-partial").join("snap/db").exists());
}

/// The v2 store of a restored directory has no names before its members start; its rows have.
#[test]
fn members_of_a_restored_directory_are_known_by_their_names() {
    let room = three();
    assert_eq!(room.run("snapshot save n1 -o snap.db").code, 3);
    let list = |port: u32| format!("n1=http://10.0.0.1:{port},n2=http://10.0.0.2:{port}");
    for name in ["n1", "n2"] {
        let number = &name[1..];
        let restored = room.run(&format!(
            "snapshot restore snap.db --name {name} --initial-cluster {} --initial-advertise-peer-urls http://10.0.0.{number}:1 --data-dir r{number}",
            list(1)
        ));
        assert_eq!(restored.code, 0, "{restored:?}");
    }
    let planned = room.run(&format!("member plan r1 r2 --initial-cluster {}", list(2)));
    assert_eq!(planned.code, 0, "{planned:?}");
    let refused = room.run(&format!("member update r1 --initial-cluster {} -o out", list(2)));
    assert_eq!((refused.code, refused.stderr.contains("n1=http://10.0.0.1:2")), (4, true), "{refused:?}");
    for command in planned.stdout.lines() {
        let ran = room.run(command.strip_prefix("etcd-rescue ").unwrap());
        assert_eq!(ran.code, 0, "{command}: {ran:?}");
    }
    let checked = room.run("member plan r1 r2 -w json");
    assert_eq!((checked.code, checked.json()["agree"].as_bool()), (0, Some(true)), "{checked:?}");
    let lone =
        "--name n1 --initial-cluster n1=http://10.0.0.1:1 --initial-advertise-peer-urls http://10.0.0.1:1";
    assert_eq!(room.run(&format!("snapshot restore snap.db {lone} --data-dir lone")).code, 0);
    let added = room.run("member add lone n2 --peer-urls http://10.0.0.2:1 -o grown");
    assert_eq!(added.code, 0, "{added:?}");
    let mut wanted = ["n1=http://10.0.0.1:1", "n2=http://10.0.0.2:1"];
    if !added.stdout.contains("CLUSTER=\"n1") {
        wanted.reverse();
    }
    assert!(added.stdout.contains(&format!("ETCD_INITIAL_CLUSTER=\"{}\"", wanted.join(","))), "{added:?}");
    let taken = room.run("member add lone n1 --peer-urls http://10.0.0.2:1 -o other");
    assert_eq!((taken.code, taken.stderr.contains("is called \"n1\" already")), (4, true), "{taken:?}");
}

/// A copy that has its log in itself must not be started on the old one.
#[test]
fn a_log_that_comes_into_the_copy_is_told() {
    let room = lone("3.5.30");
    let data = room.names().into_iter().find(|name| room.path().join(name).is_dir()).unwrap();
    fs::rename(room.path().join(&data).join("member/wal"), room.path().join("log")).unwrap();
    let url = "--peer-urls http://10.0.0.9:2380";
    let line = format!("member add {data} n9 {url} --learner --wal-dir log");
    let ran = room.run(&format!("{line} -o out"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("with --data-dir out and without --wal-dir"), "{ran:?}");
    let ran = room.run(&format!("{line} -o apart --output-wal-dir newlog"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("with --data-dir apart and --wal-dir newlog"), "{ran:?}");
}

/// All four releases: the rows and the `.snap` say the same, an old `.snap` is gone, and the account the release goes by has the
/// new address.
#[test]
fn a_member_is_reseated_by_the_rules_of_its_release() {
    for (version, account) in [
        ("3.4.23", Account::V2Store),
        ("3.5.30", Account::V2Store),
        ("3.6.14", Account::Rows),
        ("3.7.1", Account::Rows),
    ] {
        let room = lone(version);
        let data = room.names().into_iter().find(|name| room.path().join(name).is_dir()).unwrap();
        let facts = gather(&room.path().join(&data));
        let (id, _) = facts.identity().unwrap();
        let set = [Member { id, peer_urls: vec!["http://h:7".to_owned()], ..Member::default() }];
        let whole = Whole::of(&facts).unwrap();
        let reseat = Reseat { set: &set, cluster_version: None, rows: &[] };
        let plan = reseat.plan(&whole).unwrap();
        assert_eq!(plan.membership.account, account, "{version}");
        let stranger = [Member { id: 7, ..Member::default() }];
        let error =
            Reseat { set: &stranger, cluster_version: None, rows: &[] }.plan(&whole).unwrap_err().to_string();
        assert!(error.contains("has no member 7"), "{error}");
        let copy = MemberCopy {
            facts: &facts,
            db: Some(&plan.db),
            snap: Some(&plan.snap),
            appended: Some(&plan.appended),
        };
        let publish = Publish::Copy { output: room.path().join("out"), output_wal_dir: None };
        copy.write(&CopyOptions { publish, ..CopyOptions::default() }, &FactsOptions::default(), &())
            .unwrap();
        let out = gather(&room.path().join("out"));
        assert_eq!(addresses(&out), BTreeMap::from([(id, vec!["http://h:7".to_owned()])]), "{version}");
        let row = &out.database_facts().unwrap().members[0];
        assert_eq!((row.id, row.peer_urls.as_slice()), (id, &["http://h:7".to_owned()][..]));
        let snap = out.newest_snap.as_ref().unwrap();
        assert_eq!(snap.facts.index, plan.index);
        let before = members::at(&facts, plan.index).unwrap().members[&id].clone();
        let store: &v2store::V2Store = snap.store.as_ref().unwrap();
        assert_eq!(store.members[0].peer_urls, ["http://h:7"]);
        assert_eq!(store.members[0].name, before.name, "{version}");
        let verified = room.run("verify out");
        assert!(verified.stdout.contains("verdict: boots as is"), "{version}: {verified:?}");
    }
}
