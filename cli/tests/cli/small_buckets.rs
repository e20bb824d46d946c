//! `lease list`, `auth show|reset`, `alarm list|disarm`: held against what live servers' etcdctl said of the same data.

use bbolt::graft::{Graft, Pairs};
use bbolt::{Db, Patch};
use rstest::rstest;
use serde_json::Value;
use snapshot::schema::{AUTH, AUTH_USERS, LEASE};

use crate::run::{Ran, Room};

/// `file` under `patch`.
fn patched(mut file: Vec<u8>, patch: &Patch) -> Vec<u8> {
    patch.apply_to_vec(&mut file);
    file
}

/// The image of a snapshot, without its hash.
fn image(version: &str, stage: &str) -> Vec<u8> {
    let mut file = testdata::snapshot(version, stage);
    file.truncate(file.len() - 32);
    file
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What recorded documents say, without what etcdctl 3.6 and later log beside them.
fn recorded(version: &str, stage: &str, what: &str) -> Vec<Value> {
    let text = testdata::facts(version, stage, what);
    let documents = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    documents.filter(|document| document["level"].is_null()).collect()
}

#[rstest]
fn leases_are_those_the_server_listed(
    #[values("3.4.23", "3.5.1", "3.5.30", "3.6.14", "3.7.1")] version: &str,
    #[values("s1-precompact", "s2-auth", "s3-final")] stage: &str,
) {
    let room = Room::with_snapshot(version, stage);
    let ids: Vec<i64> = recorded(version, stage, "leases.json")[0]["leases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lease| lease["id"].as_i64().unwrap())
        .collect();
    assert!(!ids.is_empty());
    let ran = room.run("lease list snapshot.db");
    let expected: String = ids.iter().map(|id| format!("{id:016x}\n")).collect();
    assert_eq!((ran.code, ran.stdout), (0, format!("found {} leases\n{expected}", ids.len())));

    let listed = lines(&room.run("lease list snapshot.db --keys -w json"));
    let times = recorded(version, stage, "lease-ttl.json");
    assert_eq!(listed.len(), times.len());
    for (ours, theirs) in listed.iter().zip(&times) {
        let id = format!("{:x}", theirs["id"].as_i64().unwrap());
        assert_eq!((ours["id"].as_str(), &ours["ttl"]), (Some(id.as_str()), &theirs["granted-ttl"]));
        let theirs: Vec<&str> =
            theirs["keys"].as_array().into_iter().flatten().flat_map(Value::as_str).collect();
        assert_eq!(ours["keyCount"], theirs.len());
        // The fixtures' leased keys are `/lease/a`, `b` and `c`, whose base64 ends in E, I and M.
        let names = ours["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap());
        let ends: Vec<&str> = names.map(|name| &name[7..]).collect();
        // A server lists them in the order of a Go map, from run to run another.
        let mut wanted: Vec<&str> = theirs
            .iter()
            .map(|key| match *key {
                "L2xlYXNlL2E=" => "a",
                "L2xlYXNlL2I=" => "b",
                "L2xlYXNlL2M=" => "c",
                other => panic!("{other}"),
            })
            .collect();
        wanted.sort_unstable();
        assert_eq!(ends, wanted);
    }
}

#[test]
fn keys_whose_lease_is_gone_are_named() {
    let file = image("3.5.30", "s2-auth");
    let db = Db::from_source(&file).unwrap();
    let mut graft = Graft::new(&db);
    let mut leases = graft.pairs(LEASE).unwrap().unwrap();
    let first = leases.keys().next().unwrap().clone();
    leases.remove(&first);
    graft.replace_bucket(LEASE, leases).unwrap();
    let room = Room::new();
    room.write("gone.db", &patched(file.clone(), &graft.finish().unwrap()));
    let id: String = first.iter().map(|byte| format!("{byte:02x}")).collect();

    let ran = room.run("lease list gone.db");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stdout.starts_with("found 2 leases\n"), "{ran:?}");
    let named = format!(
        "2 key(s) hang on 1 lease(s) that no longer exist: \"/lease/a\" (lease {id}), \"/lease/b\" (lease {id})"
    );
    assert!(ran.stderr.contains("ETCD-LEASE-GONE") && ran.stderr.contains(&named), "{ran:?}");
    let listed = lines(&room.run("lease list gone.db -w json"));
    assert_eq!((listed.len(), &listed[2]["exists"], &listed[2]["keyCount"]), (3, &false.into(), &2.into()));

    // The same is told by a restore that goes back, which is done all the same.
    let ran = room.run("snapshot restore gone.db --skip-hash-check --data-dir back --at-revision 77");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains(&named.replace("at revision 78", "at revision 77")), "{ran:?}");
    assert!(room.names().contains(&"back".to_owned()));
}

#[rstest]
fn users_and_roles_are_those_the_server_listed(
    #[values("3.4.23", "3.5.1", "3.5.30", "3.6.14", "3.7.1")] version: &str,
) {
    let room = Room::with_snapshot(version, "s2-auth");
    let ran = room.run("auth show snapshot.db");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.starts_with("Authentication Status: true\n"), "{ran:?}");
    let json = room.run("auth show snapshot.db -w json").json();
    let names = |what: &str| -> Vec<String> {
        let text = testdata::facts(version, "s2-auth", what);
        text.lines().filter(|line| !line.starts_with('{')).map(str::to_owned).collect()
    };
    let ours = |list: &str| -> Vec<String> {
        let list = json[list].as_array().unwrap();
        list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ours("users"), names("users.txt"));
    assert_eq!(ours("roles"), names("roles.txt"));
    let roles: Vec<Value> = recorded(version, "s2-auth", "user-get.json");
    let told: Vec<&Value> = roles.iter().map(|user| &user["roles"]).collect();
    for (user, told) in json["users"].as_array().unwrap().iter().zip(told) {
        let none = Value::Array(Vec::new());
        assert_eq!(&user["roles"], if told.is_null() { &none } else { told });
    }
    // The hashes stay where they are unless they are asked for.
    assert!(!ran.stdout.contains("$2a$") && !json.to_string().contains("$2a$"));
    assert_eq!(room.run("auth show snapshot.db --show-secrets").stdout.matches("$2a$10$").count(), 3);
    let json = room.run("auth show snapshot.db --show-secrets -w json").json();
    assert!(json["users"][0]["password"]["hash"].as_str().unwrap().starts_with("$2a$10$"));
}

/// A file of 3.5.30 with these rows in `bucket` beside its own.
fn with_rows(bucket: &[u8], rows: &[(&[u8], &[u8])]) -> Vec<u8> {
    let file = image("3.5.30", "s2-auth");
    let db = Db::from_source(&file).unwrap();
    let mut graft = Graft::new(&db);
    let mut pairs: Pairs = graft.pairs(bucket).unwrap().unwrap();
    pairs.extend(rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
    graft.replace_bucket(bucket, pairs).unwrap();
    let patch = graft.finish().unwrap();
    patched(file.clone(), &patch)
}

#[rstest]
// Cut in the middle of a field.
#[case(AUTH_USERS, b"mallory", b"\x0a\x07mall", "error ETCD-ROW: bucket authUsers, row \"mallory\"")]
#[case(AUTH, b"authRevision", b"\x00\x01", "error ETCD-ROW: bucket auth, row authRevision: 2 byte(s)")]
// The name of a role that is no UTF-8, which only 3.7 minds.
#[case(AUTH_USERS, b"eve", b"\x0a\x03eve\x1a\x01\xff", "the name of role 0xff is no UTF-8")]
#[case(AUTH_USERS, b"root", b"\x0a\x04root", "user root does not have the role root")]
#[case(AUTH_USERS, b"eve", b"\x0a\x03eve\x1a\x04nope", "has the role \"nope\", which does not exist")]
#[case(AUTH_USERS, b"eve", b"\x0a\x03eve\x12\x05plain", "no bcrypt hash")]
#[case(AUTH_USERS, b"eve", b"\x0a\x03bob", "its value calls itself \"bob\"")]
#[case(AUTH_USERS, b"eve", b"\x0a\x03eve\x1a\x04root\x1a\x02rw\x1a\x06reader", "roles are not in order")]
fn rows_that_a_server_minds_are_found(
    #[case] bucket: &[u8],
    #[case] key: &[u8],
    #[case] value: &[u8],
    #[case] told: &str,
) {
    let room = Room::new();
    room.write("bad.db", &with_rows(bucket, &[(key, value)]));
    let ran = room.run("auth show bad.db");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains(told), "no {told:?} in {ran:?}");
}

#[test]
fn a_password_that_would_not_work_is_refused_and_nothing_is_written() {
    let room = Room::with_snapshot("3.5.30", "s2-auth");
    let (long, longest) = ("x".repeat(73), "y".repeat(72));
    for (file, content) in
        [("empty", ""), ("long", &long), ("two", "a\nb\n"), ("longest", &longest), ("pw", "pw\r\n")]
    {
        room.write(file, content.as_bytes());
    }
    room.write("binary", b"\xff\xfe");
    let before = room.names();
    for (file, told) in [
        ("empty", "the new password is empty"),
        ("long", "has 73 bytes; bcrypt, and so etcd, takes 72"),
        ("two", "has more than one line"),
        ("binary", "no UTF-8"),
        ("missing", "No such file"),
    ] {
        let ran =
            room.run(&format!("auth reset snapshot.db --user root --new-password-file {file} -o out.db"));
        assert!(ran.code == 1 && ran.stderr.contains(told) && ran.stdout.is_empty(), "{ran:?}");
    }
    let ran = room.run("auth reset snapshot.db --user nobody --new-password-file pw -o out.db");
    let users = "there are \"alice\", \"bob\", \"carol\", \"root\"";
    assert!(ran.code == 1 && ran.stderr.contains(users), "{ran:?}");
    assert_eq!(room.run("auth reset snapshot.db -o out.db").code, 2);
    assert_eq!(room.run("auth reset snapshot.db --user root --disable -o out.db").code, 2);
    assert_eq!(
        room.run("auth reset snapshot.db --user root --new-password-file pw -o out.db --dry-run").code,
        0
    );
    assert_eq!(room.names(), before);

    // What etcdctl calls `--user` is ours here, and no flag that is ignored.
    let ran = room.run("auth reset snapshot.db --user root --new-password-file longest -o out.db");
    assert!(ran.code == 0 && !ran.stderr.contains("ignored"), "{ran:?}");
    // The hash of a snapshot goes along.
    let ran = room.run("snapshot status out.db");
    assert_eq!(ran.code, 0, "{ran:?}");
    let before = room.run("auth show snapshot.db -w json --show-secrets").json();
    let mut after = room.run("auth show out.db -w json --show-secrets").json();
    assert_eq!(after["authRevision"].as_u64(), before["authRevision"].as_u64().map(|revision| revision + 1));
    let root = &mut after["users"][3]["password"];
    assert_ne!(root["hash"], before["users"][3]["password"]["hash"]);
    *root = before["users"][3]["password"].clone();
    assert_eq!((&after["users"], &after["roles"]), (&before["users"], &before["roles"]));
}

#[test]
fn a_member_with_peers_is_not_edited() {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    let node = room.names().into_iter().find(|name| name.starts_with('n')).unwrap();
    // Nobody can log in there, and no alarm stands: that is said before anything else.
    for line in [format!("auth reset {node} --disable -o out"), format!("alarm disarm {node} -o out")] {
        let ran = room.run(&line);
        assert!(ran.code == 1 && ran.stderr.contains("nothing was written"), "{ran:?}");
    }
    room.write("pw", b"pw");
    let ran = room.run(&format!("auth reset {node} --user root --new-password-file pw -o out"));
    assert!(ran.code == 1 && ran.stderr.contains("there are no users at all"), "{ran:?}");
}

#[rstest]
fn alarms_are_those_the_server_listed(#[values("3.4.23", "3.5.1", "3.5.30", "3.6.14")] version: &str) {
    let room = Room::with_snapshot(version, "s3-final");
    let ran = room.run("alarm list snapshot.db");
    let told = testdata::facts(version, "s3-final", "alarms.txt");
    let told: Vec<&str> = told.lines().filter(|line| line.starts_with("memberID")).collect();
    assert_eq!((ran.code, ran.stdout.lines().collect::<Vec<_>>()), (0, told));
    let json = room.run("alarm list snapshot.db -w json").json();
    assert_eq!((&json["alarms"][0]["alarm"], &json["alarms"][0]["name"]), (&"NOSPACE".into(), &"n1".into()));

    assert_eq!(room.run("alarm disarm snapshot.db -o calm.db").stdout, ran.stdout);
    assert_eq!(room.run("alarm list calm.db").stdout, "");
    let ran = room.run("alarm disarm calm.db -o calmer.db");
    assert!(ran.code == 1 && ran.stderr.contains("no alarm stands in it"), "{ran:?}");
    assert_eq!(room.names(), ["calm.db", "snapshot.db"]);
}
