//! The table of jobs that write. A job that is in it is interrupted, killed and raced (`crash.rs`), and its power is cut
//! after every operation (`rig`): a new command that writes adds its line here (`registered.rs` sees to that).
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

/// What `in/source.db` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// An image without trailer: some dozens of pages.
    Bare,
    /// The same with its SHA-256, which is verified while the rest is done.
    Hashed,
    /// The same with another SHA-256: nothing may come of it.
    Wrong,
    /// So long that several windows of it are written at once, with its SHA-256.
    Long,
    /// The same without trailer.
    LongBare,
    /// One with authentication on and an alarm standing, without trailer.
    Locked,
    /// The first, and in `in/node` the data dir of a member with it.
    Member,
    /// The same, restored for 3.5, whose databases keep a term.
    NewerMember,
    /// The same as before, with a log that ends in a half-written record.
    TornMember,
    /// The same, with writes in the log that the db does not have.
    Behind,
    /// The same, with a compaction among them.
    BehindCompaction,
    /// The first, and in `in/node` the data dir of a member beside whom another one learns.
    WithLearner,
    /// The first, and in `in/node` the data dir of a member of 3.4 with keys of the v2 API.
    V2Keys,
    /// The first, and in `in/source.case` a case of it.
    Case,
}

impl Input {
    /// Whether there is a data dir in `in/node`.
    pub fn is_member(self) -> bool {
        matches!(
            self,
            Self::Member
                | Self::NewerMember
                | Self::TornMember
                | Self::Behind
                | Self::BehindCompaction
                | Self::WithLearner
                | Self::V2Keys
        )
    }
}

/// A command that writes, and where. Its input is `in/source.db`; it writes below `out/`.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// The arguments, separated by blanks.
    pub line: &'static str,
    /// What it reads.
    pub input: Input,
    /// How it ends.
    pub code: i32,
    /// What is there when it is done.
    pub made: &'static [&'static str],
    /// An empty directory that is there before.
    pub mount_point: Option<&'static str>,
    /// Where the log is of a restore that was cut between its last two renames, and which is there before. The job is to
    /// take that away, and to restore.
    pub cut_log: Option<&'static str>,
    /// The data dir of the first boot is there before, and it is its db that the job replaces.
    pub in_place: bool,
    /// The name in `out/` below which all is on a file system of its own.
    pub apart: Option<&'static str>,
    /// How etcd would be started on the result; empty where it is no data dir.
    pub boots: &'static [Boot],
}

impl Job {
    /// The arguments without `--clean`.
    pub fn plain_line(&self) -> &'static str {
        self.line.strip_suffix(" --clean").unwrap_or(self.line)
    }

    /// The directories that are there before and may be empty then, for it is them that the job is about.
    pub fn places(&self) -> Vec<&'static str> {
        let cut = self.cut_log.into_iter().flat_map(|log| [self.boots[0].data_dir, log]);
        self.mount_point.into_iter().chain(cut).collect()
    }
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
    input: Input::Bare,
    code: 0,
    made: &["m1/member"],
    mount_point: None,
    cut_log: None,
    in_place: false,
    apart: None,
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
    ..ONE
};
/// The same, with its log deep in the data dir.
pub const INSIDE_WITH_DEEP_LOG: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --data-dir out/m1 --wal-dir out/m1/logs/of/raft",
    made: &["m1/member", "m1/logs"],
    mount_point: Some("m1"),
    boots: &[boot("m1", Some("m1/logs/of/raft"))],
    ..ONE
};
/// One member and its log, where nothing is yet.
pub const WITH_LOG: Job = Job { mount_point: None, ..INSIDE_WITH_LOG };
/// Data dir and log apart.
pub const PAIR: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --data-dir out/m1 --wal-dir out/wal",
    made: &["m1/member", "wal"],
    boots: &[boot("m1", Some("wal"))],
    ..ONE
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
    boots: &[
        Boot { name: "m1", data_dir: "all/m1", wal_dir: None },
        Boot { name: "m2", data_dir: "all/m2", wal_dir: None },
        Boot { name: "m3", data_dir: "all/m3", wal_dir: None },
    ],
    ..ONE
};
/// Three members in an empty directory.
pub const ALL_INSIDE: Job = Job { made: &["all/m1", "all/m2", "all/m3"], mount_point: Some("all"), ..ALL };
/// A snapshot of a db.
pub const SAVE: Job =
    Job { line: "snapshot save in/source.db -o out/s.db", made: &["s.db"], boots: &[], ..ONE };
/// A snapshot of a member whose log is folded in, the log given by itself.
pub const FOLDED: Job = Job {
    line: "snapshot save in/node --wal-dir in/node/member/wal -o out/s.db",
    input: Input::Behind,
    ..SAVE
};
/// The same where the db is written anew.
pub const FOLDED_ANEW: Job =
    Job { line: "snapshot save in/node -o out/s.db", input: Input::BehindCompaction, ..SAVE };
/// One member, from a data dir whose log is folded in.
pub const RESTORED_FOLDED: Job =
    Job { line: "snapshot restore in/node --data-dir out/m1", input: Input::Behind, ..ONE };
/// The same where the db is written anew, to a file without a name.
pub const RESTORED_ANEW: Job = Job { input: Input::BehindCompaction, ..RESTORED_FOLDED };
/// A cluster of one made of what is left, the log given by itself.
pub const RECOVERED: Job = Job {
    line: "recover in/node --wal-dir in/node/member/wal -o out/all --initial-cluster default=http://localhost:2380",
    input: Input::Behind,
    made: &["all"],
    boots: &[boot("all/default", None)],
    ..ONE
};
/// A cluster of three in an empty directory, with a db written anew.
pub const RECOVERED_INSIDE: Job = Job {
    line: "recover in/node -o out/all --initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380",
    input: Input::BehindCompaction,
    ..ALL_INSIDE
};
/// A snapshot given its hash.
pub const ATTACH: Job = Job { line: "snapshot hash in/source.db --attach -o out/s.db", ..SAVE };

/// Data dir and log on file systems of their own, which sync each as it likes.
pub const PAIR_APART: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --data-dir out/a/m1 --wal-dir out/b/wal",
    made: &["a/m1/member", "b/wal"],
    apart: Some("b"),
    boots: &[boot("a/m1", Some("b/wal"))],
    ..ONE
};
/// What was left of that when it was cut is taken away, and restored anew.
pub const CLEANED_APART: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --data-dir out/a/m1 --wal-dir out/b/wal --clean",
    cut_log: Some("b/wal"),
    ..PAIR_APART
};
/// The same where the log lies in the data dir.
pub const CLEANED_INSIDE: Job = Job {
    line: "snapshot restore in/source.db --skip-hash-check --data-dir out/m1 --wal-dir out/m1/wal --clean",
    cut_log: Some("m1/wal"),
    ..INSIDE_WITH_LOG
};
/// One member, from a snapshot that is hashed while it is written.
pub const HASHED: Job =
    Job { line: "snapshot restore in/source.db --data-dir out/m1", input: Input::Hashed, ..ONE };
/// A snapshot that turns out not to be what was saved, when most is written.
pub const WRONG: Job = Job { input: Input::Wrong, code: 1, ..HASHED };
/// One member, several windows of whose db are written and hashed at once.
pub const LONG: Job = Job { input: Input::Long, ..HASHED };
/// A snapshot of a db as long.
pub const LONG_SAVE: Job = Job { input: Input::LongBare, ..SAVE };

/// A member whose log is mended, its log given by itself.
pub const MENDED: Job = Job {
    line: "wal repair in/node --wal-dir in/node/member/wal -o out/m1",
    input: Input::TornMember,
    ..ONE
};
/// The same in an empty directory.
pub const MENDED_INSIDE: Job = Job { mount_point: Some("m1"), ..MENDED };
/// A log alone.
pub const MENDED_LOG: Job =
    Job { line: "wal repair in/node/member/wal -o out/log", made: &["log"], boots: &[], ..MENDED };

/// The last transaction undone in a copy.
pub const REVERTED: Job = Job { line: "bbolt surgery revert-meta-page in/source.db -o out/s.db", ..SAVE };
/// A page copied over a free one.
pub const PAGE_COPIED: Job =
    Job { line: "bbolt surgery copy-page in/source.db --from-page 3 --to-page 5 -o out/s.db", ..SAVE };
/// A free page cleared.
pub const PAGE_CLEARED: Job =
    Job { line: "bbolt surgery clear-page in/source.db --pageId 2 -o out/s.db", ..SAVE };
/// A key taken out of a leaf.
pub const ELEMENT_CLEARED: Job = Job {
    line: "bbolt surgery clear-page-elements in/source.db --pageId 3 --from-index 4 --to-index 5 -o out/s.db",
    ..SAVE
};
/// A copy that says that no freelist is kept, as its original does.
pub const FREELIST_ABANDONED: Job =
    Job { line: "bbolt surgery freelist abandon in/source.db -o out/s.db", ..SAVE };
/// A freelist made.
pub const FREELIST_REBUILT: Job =
    Job { line: "bbolt surgery freelist rebuild in/source.db -o out/s.db", ..SAVE };
/// A meta edited.
pub const META_UPDATED: Job =
    Job { line: "bbolt surgery meta update in/source.db --fields pgid:54 -o out/s.db", ..SAVE };

/// A file without its free pages.
pub const COMPACTED: Job = Job { line: "bbolt compact in/source.db -o out/s.db", ..SAVE };
/// The same of one so long that several windows of it are written at once.
pub const LONG_COMPACTED: Job = Job { input: Input::LongBare, ..COMPACTED };
/// A defragmented copy of a member's db.
pub const DEFRAGMENTED_COPY: Job =
    Job { line: "defrag --data-dir in/node -o out/s.db", input: Input::Member, ..SAVE };
/// A copy with authentication off.
pub const AUTH_DISABLED: Job =
    Job { line: "auth reset in/source.db --disable -o out/s.db", input: Input::Locked, ..SAVE };
/// A copy without alarms.
pub const DISARMED: Job = Job { line: "alarm disarm in/source.db -o out/s.db", ..AUTH_DISABLED };
/// A db defragmented in place.
pub const DEFRAGMENTED: Job = Job { line: "defrag --data-dir out/m1", in_place: true, ..ONE };
/// The same, with a copy of the old one beside it.
pub const DEFRAGMENTED_KEPT: Job =
    Job { line: "defrag --data-dir out/m1 --keep-original --clean", ..DEFRAGMENTED };

/// A db made one of 3.6 in place.
pub const MIGRATED: Job =
    Job { line: "migrate --data-dir out/m1 --target-version 3.6", in_place: true, ..ONE };
/// The same, with a copy of the old one beside it.
pub const MIGRATED_KEPT: Job =
    Job { line: "migrate --data-dir out/m1 --target-version 3.6 --keep-original --clean", ..MIGRATED };
/// A migrated copy of a member.
pub const MIGRATED_COPY: Job = Job {
    line: "migrate --data-dir in/node --target-version 3.6 -o out/m1",
    input: Input::NewerMember,
    ..ONE
};

/// Keys as a database of their own.
pub const EXPORTED: Job =
    Job { line: "kv export in/source.db --prefix / --history --as db -o out/s.db", ..SAVE };
/// The same of one that ends with its SHA-256, as the output then does.
pub const EXPORTED_HASHED: Job = Job { input: Input::Hashed, ..EXPORTED };
/// Keys as lines.
pub const EXPORTED_LINES: Job =
    Job { line: "kv export in/source.db -o out/s.jsonl", made: &["s.jsonl"], ..SAVE };

/// A file compacted.
pub const HISTORY_CUT: Job = Job { line: "compact in/source.db --keep-revisions 3 -o out/s.db", ..SAVE };
/// The same of one that ends with its SHA-256, as the output then does.
pub const HISTORY_CUT_HASHED: Job = Job { input: Input::Hashed, ..HISTORY_CUT };
/// A member compacted, its log given by itself.
pub const HISTORY_CUT_MEMBER: Job = Job {
    line: "compact in/node --keep-revisions 3 --wal-dir in/node/member/wal -o out/m1",
    input: Input::Member,
    ..ONE
};
/// The same in an empty directory.
pub const HISTORY_CUT_INSIDE: Job = Job { mount_point: Some("m1"), ..HISTORY_CUT_MEMBER };
/// Keys deleted.
pub const KEYS_DELETED: Job = Job { line: "kv delete in/source.db --prefix / -o out/s.db", ..SAVE };
/// Keys removed from a member.
pub const KEYS_PURGED: Job = Job {
    line: "kv delete in/node --prefix / --purge --diverge --wal-dir in/node/member/wal -o out/m1",
    ..HISTORY_CUT_MEMBER
};

/// What is left of a database, which is all of it.
pub const SALVAGED: Job = Job { line: "salvage in/source.db -o out/s.db", ..SAVE };
/// The same of one so long that several windows of it are written at once.
pub const LONG_SALVAGED: Job = Job { input: Input::LongBare, ..SALVAGED };
/// What is left of a member, its log given by itself, and applied to what it has.
pub const SALVAGED_MEMBER: Job = Job {
    line: "salvage in/node --wal-dir in/node/member/wal -o out/s.db",
    input: Input::Behind,
    ..SALVAGED
};
/// Some keys as lines.
pub const SALVAGED_LINES: Job =
    Job { line: "salvage in/source.db --extract / -o out/s.jsonl", made: &["s.jsonl"], ..SALVAGED };

/// A member made the only one, its log given by itself.
pub const FORCED: Job = Job {
    line: "cluster force-new in/node --wal-dir in/node/member/wal -o out/m1",
    input: Input::WithLearner,
    ..ONE
};
/// The same in an empty directory.
pub const FORCED_INSIDE: Job = Job { mount_point: Some("m1"), ..FORCED };
/// The same, data dir and log apart.
pub const FORCED_PAIR: Job = Job {
    line: "cluster force-new in/node -o out/a/m1 --output-wal-dir out/b/wal",
    input: Input::WithLearner,
    ..PAIR_APART
};

/// A member that gets a learner.
pub const ADDED: Job = Job {
    line: "member add in/node n9 --peer-urls http://10.0.0.9:2380 --learner --id 9 -o out/m1",
    input: Input::Member,
    ..ONE
};
/// A member that loses its learner, its log given by itself, data dir and log apart.
pub const REMOVED: Job = Job {
    line: "member remove in/node 77 --wal-dir in/node/member/wal -o out/a/m1 --output-wal-dir out/b/wal",
    ..FORCED_PAIR
};
/// A member whose learner gets a vote.
pub const PROMOTED: Job = Job { line: "member promote in/node 77 -o out/m1", ..FORCED };
/// A member with another address.
pub const READDRESSED: Job =
    Job { line: "member update in/node 77 --peer-urls http://10.0.0.9:2380 -o out/m1", ..FORCED };

/// Keys of the v2 API made keys of the v3 API, the member's log given by itself. A hidden key that is left out would be a finding.
pub const V2_MIGRATED: Job = Job {
    line: "v2 migrate in/node --hidden --wal-dir in/node/member/wal -o out/m1",
    input: Input::V2Keys,
    ..ONE
};
/// The same, data dir and log apart.
pub const V2_MIGRATED_PAIR: Job = Job {
    line: "v2 migrate in/node --hidden -o out/a/m1 --output-wal-dir out/b/wal",
    input: Input::V2Keys,
    ..PAIR_APART
};

/// A member under another identity, data dir and log apart.
pub const BACKED_UP_PAIR: Job = Job {
    line: "backup --data-dir in/node --wal-dir in/node/member/wal --backup-dir out/a/m1 --backup-wal-dir out/b/wal \
           --node-id 1f --cluster-id 2f --clean",
    input: Input::WithLearner,
    ..PAIR_APART
};
/// The same in an empty directory, without the keys of the v3 API.
pub const BACKED_UP_INSIDE: Job = Job {
    line: "backup --data-dir in/node --backup-dir out/m1 --with-v3=false --node-id 1f --cluster-id 2f",
    input: Input::Member,
    ..INSIDE
};

/// A report on a case.
pub const REPORTED: Job =
    Job { line: "case report in/source.case -o out/r.html", input: Input::Case, made: &["r.html"], ..SAVE };

/// All of them, by name.
pub const JOBS: [(&str, Job); 71] = [
    ("one", ONE),
    ("deep", DEEP),
    ("inside", INSIDE),
    ("inside with log", INSIDE_WITH_LOG),
    ("inside with deep log", INSIDE_WITH_DEEP_LOG),
    ("with log", WITH_LOG),
    ("pair", PAIR),
    ("pair inside", PAIR_INSIDE),
    ("pair, log inside", PAIR_LOG_INSIDE),
    ("pair apart", PAIR_APART),
    ("cleaned, apart", CLEANED_APART),
    ("cleaned, inside", CLEANED_INSIDE),
    ("all", ALL),
    ("all inside", ALL_INSIDE),
    ("hashed", HASHED),
    ("wrong", WRONG),
    ("long", LONG),
    ("long save", LONG_SAVE),
    ("save", SAVE),
    ("folded", FOLDED),
    ("folded anew", FOLDED_ANEW),
    ("restored, folded", RESTORED_FOLDED),
    ("restored, anew", RESTORED_ANEW),
    ("recovered", RECOVERED),
    ("recovered inside", RECOVERED_INSIDE),
    ("attach", ATTACH),
    ("mended", MENDED),
    ("mended inside", MENDED_INSIDE),
    ("mended log", MENDED_LOG),
    ("reverted", REVERTED),
    ("page copied", PAGE_COPIED),
    ("page cleared", PAGE_CLEARED),
    ("element cleared", ELEMENT_CLEARED),
    ("freelist abandoned", FREELIST_ABANDONED),
    ("freelist rebuilt", FREELIST_REBUILT),
    ("meta updated", META_UPDATED),
    ("compacted", COMPACTED),
    ("long compacted", LONG_COMPACTED),
    ("defragmented copy", DEFRAGMENTED_COPY),
    ("authentication off", AUTH_DISABLED),
    ("disarmed", DISARMED),
    ("defragmented", DEFRAGMENTED),
    ("defragmented, kept", DEFRAGMENTED_KEPT),
    ("migrated", MIGRATED),
    ("migrated, kept", MIGRATED_KEPT),
    ("migrated copy", MIGRATED_COPY),
    ("exported", EXPORTED),
    ("exported, hashed", EXPORTED_HASHED),
    ("exported lines", EXPORTED_LINES),
    ("history cut", HISTORY_CUT),
    ("history cut, hashed", HISTORY_CUT_HASHED),
    ("history cut, member", HISTORY_CUT_MEMBER),
    ("history cut, inside", HISTORY_CUT_INSIDE),
    ("keys deleted", KEYS_DELETED),
    ("keys purged", KEYS_PURGED),
    ("salvaged", SALVAGED),
    ("long salvaged", LONG_SALVAGED),
    ("salvaged member", SALVAGED_MEMBER),
    ("salvaged lines", SALVAGED_LINES),
    ("forced", FORCED),
    ("forced inside", FORCED_INSIDE),
    ("forced pair", FORCED_PAIR),
    ("added", ADDED),
    ("removed", REMOVED),
    ("promoted", PROMOTED),
    ("readdressed", READDRESSED),
    ("v2 migrated", V2_MIGRATED),
    ("v2 migrated pair", V2_MIGRATED_PAIR),
    ("backed up, pair", BACKED_UP_PAIR),
    ("backed up, inside", BACKED_UP_INSIDE),
    ("reported", REPORTED),
];
