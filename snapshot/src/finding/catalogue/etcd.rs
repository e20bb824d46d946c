//! What the rows of a db mean to etcd.

use super::{Entry, Section};

const ANOTHER_COPY: &str = "Take another copy: the cluster's other members and older snapshots hold the same rows, and a \
     follower that is rebuilt from a healthy leader costs nothing. Without one, `salvage` looks for older rows.";

/// See [`super::sections`].
pub(super) const SECTION: Section = Section {
    title: "What the db means",
    intro: "",
    entries: &[
        Entry {
            code: "ETCD-RECORD",
            title: "A record of the key space that is none",
            cause: "In bucket `key`, a key that is no revision or a value that is no key-value: \
                        pages of two buckets were mixed up, or bits have rotted. The first hundred are \
                        listed one by one, the rest is counted.",
            consequence: "Servers of 3.6 and later die at the start. Earlier ones die too, or serve \
                              wrong data.",
            remedy: "Take another copy. Without one, `salvage` makes a database of all others, \
                         and the `kv` commands with `--skip-bad` read them.",
        },
        Entry {
            code: "ETCD-MOD-REVISION",
            title: "A record that names another revision than its key",
            cause: "An edit by hand, or bits that have rotted.",
            consequence: "A server finds the record at the revision of its key, and shows the \
                              other.",
            remedy: "Compare with another member at the same revision: `kv diff`.",
        },
        Entry {
            code: "ETCD-TOMBSTONE",
            title: "A deletion of a key that is not there",
            cause: "A record beyond the compacted revision deletes a key of which no record is \
                        left: the one that made it is gone.",
            consequence: "A server goes on; releases before 3.4.36 and 3.5.18 do not know of the \
                              key. Nothing can be said of the key at earlier revisions.",
            remedy: "Compare with another member at the same revision: `kv diff`.",
        },
        Entry {
            code: "ETCD-COMPACT-AHEAD",
            title: "A compaction beyond the last record",
            cause: "Bucket `meta` has a compaction beyond the last record of bucket `key`, and it \
                        did not finish, or the cluster came to fewer entries of the log than there \
                        would have been deletions. (Before 3.4.34 and 3.5.16 a compaction removes \
                        deletions up to its own revision: a store that is compacted a little beyond its \
                        last record is sound, and no finding.)",
            consequence: "The store counts from that revision. Where the compaction did not finish, \
                              a server before 3.4.32 or 3.5.14 starts below it and gives revisions out \
                              twice. In a cluster whose members compare hashes, this member raises the \
                              alarm CORRUPT.",
            remedy: "Where servers are that old and the compaction did not finish, upgrade them. If \
                         the number is not one the cluster came to, take another copy.",
        },
        Entry {
            code: "ETCD-ROW",
            title: "A row that a server cannot read",
            cause: "A row of a small bucket is not what a server reads there: damage, or an edit by \
                        hand.",
            consequence: "A server dies when it starts, or when it first needs the row. A restore \
                              refuses such leases, users and roles.",
            remedy: ANOTHER_COPY,
        },
        Entry {
            code: "ETCD-ALARM",
            title: "A row of the alarms that is no alarm",
            cause: "Damage, or an edit by hand.",
            consequence: "A server dies when it starts.",
            remedy: "Restore: it drops such rows, with `--keep-alarms` too.",
        },
        Entry {
            code: "ETCD-AUTH",
            title: "Users and roles that do not fit together",
            cause: "There is no user `root` that could administer, a user has a role that does not \
                        exist, a password is no bcrypt hash, or a permission allows nothing.",
            consequence: "A server starts. Somebody may do less than was meant.",
            remedy: "Put it right with `etcdctl user` and `etcdctl role` once it runs. Where nobody \
                         can get in, `auth reset` makes a copy in which you can.",
        },
        Entry {
            code: "ETCD-LEASE",
            title: "A row of one lease under the name of another",
            cause: "In bucket `lease`, a row's value is that of another lease: damage, or an edit \
                        by hand.",
            consequence: "A server loads what the value says, and never removes the row.",
            remedy: "Nothing needs to be done before it starts. Revoke the lease once it runs.",
        },
        Entry {
            code: "ETCD-LEASE-GONE",
            title: "Keys hang on leases that are not there",
            cause: "A restore took the keys back to a revision at which they still had a lease, or \
                        the lease was lost.",
            consequence: "A server keeps such keys for ever, though they were meant to expire.",
            remedy: "Delete the keys, or put them again with a lease. `lease list --keys` names \
                         them.",
        },
        Entry {
            code: "ETCD-DOWNGRADE",
            title: "A row about a downgrade that is none",
            cause: "The row `downgrade` of bucket `cluster` is no JSON: damage, or an edit by hand.",
            consequence: "A server of 3.5 or later dies when it starts.",
            remedy: "Restore: it drops the row.",
        },
        Entry {
            code: "ETCD-NEWER-SNAP",
            title: "A snapshot from the leader is newer than the db",
            cause: "Beside the db lies a `.snap` or `.snap.db` of a later entry than the db's last: \
                        the member was being sent a snapshot when it stopped.",
            consequence: "The db is older than what the member had promised. A server installs the \
                              `.snap.db` when it starts, or does not start without it.",
            remedy: "Restore the `.snap.db` itself, with `--skip-hash-check`, or another member's \
                         db if that is later. `verify` says what a server does.",
        },
        Entry {
            code: "ETCD-REPLAY-STOP",
            title: "An entry of the log cannot be applied",
            cause: "An entry that the db does not have yet asks for something that no known etcd does: a \
                        request or a field of a later version, a change of several members at once, or \
                        bytes that are no request at all.",
            consequence: "The log was applied up to the entry before it. That entry and all behind it \
                              are left out, and counted. A server of a version that does not know the \
                              request dies on it, or passes over it.",
            remedy: "Use an etcd-rescue that knows the version which wrote the log, or that version \
                         itself. `wal dump` shows the entry. What was applied before it is whole, and \
                         can be restored.",
        },
        Entry {
            code: "ETCD-REPLAY-UNCERTAIN",
            title: "Entries are left out that may have been committed",
            cause: "The log of one of several members ends with entries of which no leader told it that \
                        they are committed.",
            consequence: "What was made of the log ends before them. If the cluster committed them, \
                              writes that clients were told of are missing; if it did not, they never \
                              were.",
            remedy: "Run `snapshot save` on every member's directory that can be read, and take the one \
                         that comes furthest. With this one member alone, whether anything is missing \
                         cannot be known.",
        },
        Entry {
            code: "ETCD-V2-HIDDEN",
            title: "Hidden keys of the v2 API are not migrated",
            cause: "A name in the path of these keys begins with an underscore. The v2 API leaves such keys \
                    out when a directory is listed, and a migration takes what a listing gives.",
            consequence: "They are in the v2 store further on, and not among the keys of the v3 API.",
            remedy: "`v2 list -r` shows them; `v2 migrate --hidden` takes them along.",
        },
        Entry {
            code: "ETCD-V2-UNCERTAIN",
            title: "Requests of the v2 API are left out, since they may not be committed",
            cause: "Requests stand at the end of the member's log, and its files do not say that the cluster had \
                    committed them. The last one before a crash is often such an entry, on all members.",
            consequence: "Their keys are not among those of the v3 API, though clients may have been told that they were \
                          written. Servers that start on the copies commit them to the v2 store alone.",
            remedy: "Start all members as they were, without clients, until they have a leader, stop them and migrate again: \
                     the leader's first entry commits all before it.",
        },
        Entry {
            code: "ETCD-BACKUP-V2-INDEX",
            title: "Requests of the v2 API do another thing in a backup than they did",
            cause: "The log behind the `.snap` from which the backup starts has requests that compare with an index of the v2 \
                    store (`prevIndex`), or that create keys in order, whose names are made of it. The members that a backup \
                    replaces count in that index.",
            consequence: "When a server starts on the backup such a comparison fails, and its key keeps an older value; a key \
                          created in order gets another name. The backups of etcdctl and etcdutl do the same. Keys of the v3 \
                          API are not concerned.",
            remedy: "Start the member once more with a small `--snapshot-count` until it has taken a snapshot behind them, \
                     stop it and make the backup anew. `etcd-rescue v2 list` shows what the member has.",
        },
        Entry {
            code: "ETCD-V2-AUTH",
            title: "Users and roles of the v2 API are not migrated",
            cause: "The v2 API has users and roles of its own. They lie in the v2 store, and are neither keys nor \
                    users of the v3 API, whose passwords and permissions are kept in another way.",
            consequence: "Nobody has to log in to the keys that a migration makes, until users of the v3 API are made. \
                          etcd 3.6 refuses to start while the v2 store has such users.",
            remedy: "Make users and roles anew with `etcdctl user add` and `etcdctl role add` before clients are let \
                     in. What `snapshot restore` makes has none of those of v2; or remove them with \
                     `ETCDCTL_API=2 etcdctl user remove` and `role remove` while a server of 3.4 or 3.5 runs with --enable-v2.",
        },
        Entry {
            code: "ETCD-REPLAY-DISAGREE",
            title: "Servers disagree about an entry",
            cause: "The log has entries that servers of the same version apply differently: \
                        transactions that read at a compacted or future revision (up to 3.6 their \
                        proposer refused them, the others did not), or requests under an alarm raised \
                        while authentication was on (up to 3.5).",
            consequence: "Members may hold different data, and clients of the member that refused were \
                              told of an error. The replay did as a server does that starts on these \
                              files.",
            remedy: "Look at the first of these entries with `wal dump`, and compare the keys that it \
                         writes with another member's, if there is one.",
        },
        Entry {
            code: "ETCD-MORE-FINDINGS",
            title: "More faults than are listed",
            cause: "The structure has more faults than are listed, which is 100,000.",
            consequence: "As for those that are listed.",
            remedy: "As for those that are listed.",
        },
        Entry {
            code: "ETCD-NO-BUCKET",
            title: "A bucket of etcd is missing",
            cause: "Bucket `key` or `meta` is missing: this is a bbolt file of another program, or \
                        of an etcd that never ran.",
            consequence: "Without `key` there is nothing in it to restore. A server that starts on \
                              it founds an empty store.",
            remedy: "Look for the right file. etcd's is `member/snap/db`.",
        },
        Entry {
            code: "ETCD-TERM",
            title: "Db and log disagree about the term of an entry",
            cause: "The db's last entry is of another term in the log: db and log are of two members, or of two \
                    histories of one. A restore by etcd 3.4 leaves the old cluster's term in the db too; then \
                    this is a warning.",
            consequence: "A server of 3.5 or later starts, and applies entries to a db that they do \
                              not belong to.",
            remedy: "After a restore by 3.4 nothing needs to be done. Otherwise find out which db belongs to this log. If the cluster has other members, \
                         rebuild this one from them; alone, restore from the db.",
        },
        Entry {
            code: "ETCD-MEMBERS",
            title: "The db has other members than snapshot and log",
            cause: "One of them was edited; a restore by etcd 3.4 left the rows of the old \
                        cluster; or servers of 3.5.1 to 3.5.19 left a row as it was when a member \
                        was given another address.",
            consequence: "Servers of 3.4 and 3.5 start with the members of snapshot and log, those \
                              of 3.6 and later with those of the db. Rows that 3.4 left come back to \
                              life with an upgrade.",
            remedy: "Look at all: `member list DIR --sources`. Remove a \
                         member that should not be there with `etcdctl member remove` once the cluster \
                         runs, or restore from the db, which writes all of them anew.",
        },
        Entry {
            code: "ETCD-MEMBERS-DIFFER",
            title: "The members' directories disagree on who belongs to the cluster",
            cause: "Addresses were edited in some of the directories and not in all; or they are of \
                        different clusters, or two of them of one member.",
            consequence: "A member looks for the others where its own files say they are: started \
                              so, they may not find each other, or find the wrong one.",
            remedy: "`member plan DIR...` with all directories and the `--initial-cluster` that is to \
                         hold prints the command for each of them. Of two directories of one member \
                         set one aside.",
        },
        Entry {
            code: "ETCD-REMOVED",
            title: "The member was removed from its cluster",
            cause: "The db names the log's own member among the removed ones.",
            consequence: "The other members do not talk to it any more, and it ends when it hears \
                              so.",
            remedy: "Add the member anew, with an empty data dir. If the rest of the cluster is \
                         gone, restore from the db.",
        },
        Entry {
            code: "ETCD-FORCED-NEW",
            title: "Members were removed by force",
            cause: "The log has removals of members that nobody asked for: `etcd --force-new-cluster` was started on this \
                    directory, or on that of a member it learned from, or it went through `cluster force-new`.",
            consequence: "Servers live with it. But the directories of the removed members tell another history from that entry on, under the \
                              same cluster id: a server started on one of them does not know that it was removed.",
            remedy: "Never start the removed members' directories again beside this cluster, and do not take data from both: \
                         `compare` shows where they part.",
        },
        Entry {
            code: "ETCD-TAIL-DROPPED",
            title: "Entries that may be committed were dropped",
            cause: "`cluster force-new` keeps the history up to the last entry that this member knows to be committed, as etcd does. \
                        Its log has more.",
            consequence: "Where the others had committed these entries, clients were told that their writes were done, and the new \
                              cluster does not have them.",
            remedy: "Look at the keys that are named. `recover` keeps such entries, and lists them.",
        },
        Entry {
            code: "ETCD-ALARM-RAISED",
            title: "An alarm is raised",
            cause: "NOSPACE: a member's db had come to its quota. CORRUPT: a member had other data \
                        than the rest.",
            consequence: "NOSPACE: servers refuse puts, leases and transactions that put. CORRUPT: \
                              they refuse all reads and writes of keys.",
            remedy: "For NOSPACE, `compact` and `defrag` free space, and `alarm disarm DIR -o OUT`, \
                         or `etcdctl alarm disarm` once it runs, takes the alarm away. For CORRUPT, \
                         find out with `hashkv` which member differs, and rebuild that one from the \
                         others before the alarm is taken away.",
        },
        Entry {
            code: "ETCD-DOWNGRADE-ON",
            title: "A downgrade is under way",
            cause: "Somebody ordered it with `etcdctl downgrade enable`, and it was neither \
                        finished nor cancelled.",
            consequence: "A server of 3.5 or later starts only if it is of the minor version that \
                              the downgrade leads to.",
            remedy: "Start that version, or `etcdctl downgrade cancel` on a member that runs. A \
                         restore drops the row.",
        },
        Entry {
            code: "ETCD-VERSION",
            title: "The file is of a newer version than its cluster",
            cause: "The storage version was changed by hand or by a tool.",
            consequence: "A server of 3.6 or later may refuse to start, or treat the file as one of \
                              a version that it is not.",
            remedy: "Take another copy. `snapshot status` shows the storage version.",
        },
        Entry {
            code: "ETCD-CLUSTER-VERSION-AHEAD",
            title: "The cluster has agreed on a later version than the one to start",
            cause: "`migrate` was asked for an older version than the one that the cluster's members have agreed on. What it changes is the \
                    storage of one member; the cluster's version stands in a row of its own, in the `.snap` files and in the log, and \
                    etcdutl leaves it alone too.",
            consequence: "A server of the older version ends at its start: `server version is lower than determined cluster version`.",
            remedy: "Where the cluster can still be started as it is, start it and order `etcdctl downgrade enable`; its leader then lowers the \
                     version. Where it cannot, `migrate --set-cluster-version` lowers it in the files of each member.",
        },
        Entry {
            code: "ETCD-DOWNGRADE-BLOCKED",
            title: "An entry of the log that an older version does not know",
            cause: "Behind the last snapshot of the log stands a request that came with a later version than the one to migrate to, or \
                    one of which nobody can say what it needs.",
            consequence: "A server of the older version that applies it ends, or takes it for something else. `migrate` refuses, as etcdutl \
                          does; with `--force` it goes on.",
            remedy: "Start the version that wrote it and let it take a snapshot, which a server does every `--snapshot-count` entries, then \
                     migrate. `wal dump` shows the entry.",
        },
    ],
};
