//! What several members come to together.

use super::{Entry, Section};

/// See [`super::sections`].
pub(super) const SECTION: Section = Section {
    title: "What several members come to together",
    intro: "`compare` and `recover` say these of what is left of a cluster, `cluster force-new` the first one.",
    entries: &[
        Entry {
            code: "ETCD-NO-QUORUM-READ",
            title: "Too few voters were given to know what a majority had",
            cause: "A write is acknowledged once a majority of the voters has it. Of this cluster fewer voters than it takes were given, \
                    or their logs are damaged where it matters, so that a majority may exist of which no file was given.",
            consequence: "Writes that clients were told are written may be in none of these files. Nobody can say from them whether \
                          there are any.",
            remedy: "Give the directories of the voters that the finding names, if any of their disks can still be read. Otherwise go \
                     on: `recover` runs, and its exit code stays 3.",
        },
        Entry {
            code: "ETCD-DATA-DIFFERS",
            title: "Databases of one cluster do not hold the same",
            cause: "Members that applied the same entries differ at a revision that all of them have, or came to different revisions. \
                    Servers of 3.5.0 to 3.5.2 do so after a crash under load, which applies entries twice or not at all; so does an edit \
                    of one member alone, and a disk that lies.",
            consequence: "Clients read other values from one member than from another. A restore from one of them makes its values those \
                          of the whole cluster.",
            remedy: "`compare` names the first revision and the keys. Where a majority agrees, its data is the better choice, and \
                     `recover` takes it; otherwise look at the keys, and say with `recover --base DIR` whose data it shall be.",
        },
        Entry {
            code: "ETCD-TWO-HISTORIES",
            title: "Two histories under one cluster id",
            cause: "A member was started with `--force-new-cluster`, or given to `cluster force-new`, and others of its old cluster \
                    went on without it; or copies of one directory were started apart from each other. Both go on from the same past, \
                    with the same ids.",
            consequence: "Each history has writes that its clients were told are written. They use the same indexes and revisions for \
                          different things, and cannot be merged.",
            remedy: "Decide which history is the one that counted, by the clients that used it, and give only the directories of that \
                     one. `kv diff` shows what the other has besides.",
        },
        Entry {
            code: "ETCD-STALE-COPY",
            title: "Files of a member that are older than they should be",
            cause: "The directory is an earlier copy of a member of which a later one was given, or it lacks entries that the member \
                    must have had when the others counted on them: it was restored from a backup, or its log lost its end.",
            consequence: "What such files lack proves nothing. Where a later copy was given, the earlier one is not used.",
            remedy: "Nothing has to be done where a later copy was given. Otherwise look for the directory that the member really ran \
                     on.",
        },
        Entry {
            code: "ETCD-MIXED-VERSIONS",
            title: "Members of different minor versions",
            cause: "The cluster was being upgraded or downgraded when it went down.",
            consequence: "Servers differ in what they make of some entries. Those of the newest version hold for what comes of them, and \
                          a server older than that may refuse to start on it.",
            remedy: "Start the recovered cluster with the newest of the versions, or choose with `--target-version` an older one.",
        },
        Entry {
            code: "ETCD-COMMITTED-LOST",
            title: "Committed entries that are in none of the files",
            cause: "A member knows that entries were committed that its log no longer has, and no other file that was given has \
                    them: a log was cut or is damaged, and the database had not come that far.",
            consequence: "Writes that clients were told are written are lost.",
            remedy: "Look for the files of another member, or for a later snapshot. If there are none, `recover --accept-loss` goes on \
                     without those entries.",
        },
        Entry {
            code: "ETCD-TAIL-POSSIBLE",
            title: "Entries that may or may not have been committed",
            cause: "The logs that were given to `recover` end with entries of which neither a commit nor a quorum of the members says that \
                    they are committed, and none that they are not.",
            consequence: "`recover` takes them into its result, so that no write is lost that a client was told of; a write whose client was \
                          told nothing, or that it failed, may be among them. With `--certain-only` it leaves them out, and writes that \
                          were acknowledged may be missing.",
            remedy: "Read what they ask for: `recover` lists them, with `-w json` and their keys. Give the directories of more members, if \
                     they can be read: with a quorum of them much of it is decided.",
        },
        Entry {
            code: "ETCD-BASE-FALLBACK",
            title: "A database was passed over",
            cause: "One of the databases that `recover` was given is damaged, cannot be opened, or ends with an entry that is not the logs' \
                    own.",
            consequence: "Another one was begun with. Where the logs lead on from that to the same entry, the result is the same.",
            remedy: "Nothing, where nothing is said to be lost. `verify` says what is wrong with the database.",
        },
        Entry {
            code: "ETCD-NO-LOG",
            title: "There is no log",
            cause: "`recover` was given databases alone, out of members or as snapshots.",
            consequence: "The result is what the furthest of them holds. What was written behind that is in none of the files, and nothing \
                          tells how much it is.",
            remedy: "Give the log too, if it can be read: the whole data directory, or `--wal-dir`. A server writes there first what it has \
                     not put into its database yet.",
        },
    ],
};
