//! The table of jobs that write. A job that is in it is interrupted, killed and raced (`crash.rs`), and its power is cut
//! after every operation (`rig`): a new command that writes adds its line here.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

/// A command that writes, and where. Its input is `in/source.db`, an image without trailer; it writes below `out/`.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// The arguments, separated by blanks.
    pub line: &'static str,
    /// What is there when it is done.
    pub made: &'static [&'static str],
    /// An empty directory that is there before.
    pub mount_point: Option<&'static str>,
    /// How etcd would be started on the result; empty where it is no data dir.
    pub boots: &'static [Boot],
}

/// What a server is pointed at.
#[derive(Debug, Clone, Copy)]
pub struct Boot {
    /// `--name`
    pub name: &'static str,
    /// `--data-dir`
    pub data_dir: &'static str,
    /// `--wal-dir`
    pub wal_dir: Option<&'static str>,
}

const fn boot(data_dir: &'static str, wal_dir: Option<&'static str>) -> Boot {
    Boot { name: "default", data_dir, wal_dir }
}

/// One member, where nothing is yet.
pub const ONE: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --data-dir out/m1",
    made: &["m1/member"],
    mount_point: None,
    boots: &[boot("m1", None)],
};
/// One member, with directories above it to be made.
pub const DEEP: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --data-dir out/a/b/m1",
    made: &["a/b/m1/member"],
    boots: &[boot("a/b/m1", None)],
    ..ONE
};
/// One member in an empty directory.
pub const INSIDE: Job = Job { mount_point: Some("m1"), ..ONE };
/// The same, with its log beside `member`.
pub const INSIDE_WITH_LOG: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --data-dir out/m1 --wal-dir out/m1/wal",
    made: &["m1/member", "m1/wal"],
    mount_point: Some("m1"),
    boots: &[boot("m1", Some("m1/wal"))],
};
/// The same, with its log deep in the data dir.
pub const INSIDE_WITH_DEEP_LOG: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --data-dir out/m1 --wal-dir out/m1/logs/of/raft",
    made: &["m1/member", "m1/logs"],
    mount_point: Some("m1"),
    boots: &[boot("m1", Some("m1/logs/of/raft"))],
};
/// One member and its log, where nothing is yet.
pub const WITH_LOG: Job = Job { mount_point: None, ..INSIDE_WITH_LOG };
/// Data dir and log apart.
pub const PAIR: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --data-dir out/m1 --wal-dir out/wal",
    made: &["m1/member", "wal"],
    mount_point: None,
    boots: &[boot("m1", Some("wal"))],
};
/// The same, the data dir being an empty directory.
pub const PAIR_INSIDE: Job = Job { mount_point: Some("m1"), ..PAIR };
/// The same, the log's being one.
pub const PAIR_LOG_INSIDE: Job = Job { mount_point: Some("wal"), ..PAIR };
/// Three members.
pub const ALL: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --all-members -o out/all --initial-cluster \
           m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380",
    made: &["all"],
    mount_point: None,
    boots: &[
        Boot { name: "m1", data_dir: "all/m1", wal_dir: None },
        Boot { name: "m2", data_dir: "all/m2", wal_dir: None },
        Boot { name: "m3", data_dir: "all/m3", wal_dir: None },
    ],
};
/// Three members in an empty directory.
pub const ALL_INSIDE: Job = Job { made: &["all/m1", "all/m2", "all/m3"], mount_point: Some("all"), ..ALL };
/// A snapshot of a db.
pub const SAVE: Job =
    Job { line: "snapshot save in/source.db -o out/s.db", made: &["s.db"], mount_point: None, boots: &[] };
/// A snapshot given its hash.
pub const ATTACH: Job = Job { line: "snapshot hash in/source.db --attach -o out/s.db", ..SAVE };

/// All of them, by name.
pub const JOBS: [(&str, Job); 13] = [
    ("one", ONE),
    ("deep", DEEP),
    ("inside", INSIDE),
    ("inside with log", INSIDE_WITH_LOG),
    ("inside with deep log", INSIDE_WITH_DEEP_LOG),
    ("with log", WITH_LOG),
    ("pair", PAIR),
    ("pair inside", PAIR_INSIDE),
    ("pair, log inside", PAIR_LOG_INSIDE),
    ("all", ALL),
    ("all inside", ALL_INSIDE),
    ("save", SAVE),
    ("attach", ATTACH),
];
