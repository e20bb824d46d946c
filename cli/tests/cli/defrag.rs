//! `defrag`, as far as no server is needed to see it (`oracle_defrag.rs` has those).

use std::fs;
use std::os::unix::fs::symlink;

use bbolt::{Build, BuildOptions, FreelistSync};

use crate::run::Room;

/// A room with a data dir whose db has `pairs` values of `value_bytes` bytes.
fn room(pairs: u32, value_bytes: usize) -> Room {
    let room = Room::new();
    fs::create_dir_all(room.path().join("data/member/snap")).unwrap();
    let mut file = Vec::new();
    let options = BuildOptions { freelist: FreelistSync::NotPersisted, ..BuildOptions::default() };
    let mut build = Build::new(&mut file, options).unwrap();
    build.begin_bucket(b"key").unwrap();
    for pair in 0..pairs {
        build.put(format!("{pair:017}").as_bytes(), &vec![b'v'; value_bytes]).unwrap();
    }
    build.end_bucket().unwrap();
    build.finish().unwrap();
    room.write("data/member/snap/db", &file);
    room
}

/// Values a little longer than half a page, or than a page, leave much of it empty, and no defragmentation changes that.
#[test]
fn what_it_frees_is_said_before_as_it_is_after() {
    for value_bytes in [10, 1500, 2500, 4200, 9000] {
        let room = room(500, value_bytes);
        let ran = room.run("defrag --data-dir data -w json");
        let json = ran.json();
        let [before, after] = ["sizeBefore", "sizeAfter"].map(|name| json[name].as_u64().unwrap());
        assert_eq!(after, room.read("data/member/snap/db").len() as u64);
        let size = snapshot::humanize::bytes;
        let freed = match before.checked_sub(after) {
            None | Some(0) => "nothing".to_owned(),
            Some(freed) => format!("about {}", size(freed)),
        };
        let expected = format!("about {} afterwards, which frees {freed}.", size(after));
        assert!(ran.stderr.contains(&expected), "{value_bytes}: {expected}: {ran:?}");
    }
}

#[test]
fn what_a_killed_run_left_beside_a_db_that_is_a_link_is_found() {
    let room = room(10, 100);
    fs::create_dir(room.path().join("elsewhere")).unwrap();
    let (db, file) = (room.path().join("data/member/snap/db"), room.path().join("elsewhere/real.db"));
    fs::rename(&db, &file).unwrap();
    symlink("../../../elsewhere/real.db", &db).unwrap();
    room.write("elsewhere/real.db.etcd-rescue-partial", b"half");
    let ran = room.run("defrag --data-dir data");
    assert!(ran.code == 0 && ran.stderr.contains("ROOM/elsewhere/real.db.etcd-rescue-partial"), "{ran:?}");
    let ran = room.run("defrag --data-dir data --clean");
    assert!(ran.code == 0 && ran.stderr.contains("removed"), "{ran:?}");
    assert!(!room.path().join("elsewhere/real.db.etcd-rescue-partial").exists());
    assert!(db.is_symlink() && file.is_file());
}
