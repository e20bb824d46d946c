//! What a salvage found, and did not find.

use super::{Entry, Section};

/// See [`super::sections`].
pub(super) const SECTION: Section = Section {
    title: "What was saved and what was not",
    intro: "`salvage` says these of the way out that was taken; its report lists revisions and keys. Other ways may lose other things: \
            `--plan N` takes one of them.",
    entries: &[
        Entry {
            code: "SALVAGE-MISSING",
            title: "Revisions that certainly existed are not there",
            cause: "Revisions are numbered without gaps, and above the last compaction every one has at least one record. Of these none was \
                    found, in no file and in no log that was given; or the way that was chosen does not take what was found.",
            consequence: "What these changes wrote is lost, and what they deleted is there again: keys have an older value, or are \
                          missing, or come back.",
            remedy: "Give more files: the member's log, older copies of its db, snapshots, a `.snap.db`. Another member has the same \
                     revisions (`recover`, `compare`). Otherwise accept it with `--accept-loss`.",
        },
        Entry {
            code: "SALVAGE-TORN",
            title: "Records of which only a part was found",
            cause: "A value that is longer than its page goes on on the pages behind it, and one of these was overwritten, cut off, or \
                    cannot be read.",
            consequence: "They count as missing: half a value is never written as if it were whole. The account names their keys, and which \
                          older value stands in.",
            remedy: "As for missing revisions. The part that is there can be looked at with `bbolt page`.",
        },
        Entry {
            code: "SALVAGE-HALF",
            title: "Transactions come out in half",
            cause: "A transaction writes several records under one revision, numbered without gaps, and these may stand on two pages, of which \
                    one was lost.",
            consequence: "Keys that were always changed together do not fit together any more: one has its new value, another its old one.",
            remedy: "As for missing revisions. `--report FILE` lists the revisions; look at the keys that were written in them.",
        },
        Entry {
            code: "SALVAGE-HOLE",
            title: "A part of the key space of which nobody knows what stood in it",
            cause: "A branch or leaf of the newest state is damaged, and what it led to lies at or below the last compaction, where revisions \
                    have gaps by right, or behind the last revision that was found.",
            consequence: "Records found elsewhere in the file were taken for it. Whether there were more cannot be told: keys that were \
                          written before the compaction and not since may be missing.",
            remedy: "Compare with a list of the keys that there should be: an older snapshot (`kv diff`), or the clients' own. Give older \
                     copies of the file, where one exists.",
        },
        Entry {
            code: "SALVAGE-SUSPECT",
            title: "Records that may be wrong, or may have been deleted",
            cause: "Of such a record only copies were found that are damaged in part or that differ; or it is whole, and the compaction may \
                    have removed it, about which the damaged tree would have told.",
            consequence: "A wrong value, or a key that was deleted long ago, may be served.",
            remedy: "List them: `salvage --extract '' --revisions` marks each with `\"trust\":\"suspect\"`. Look at them, and delete or \
                     write anew what is wrong.",
        },
        Entry {
            code: "SALVAGE-DISAGREE",
            title: "Copies of one revision, or a copy and the log, do not say the same",
            cause: "A revision has one value for ever, so one of them is damaged in a way that looks whole, or is of another history: a \
                    restored or forced cluster used the same revisions again.",
            consequence: "The value that two or more independent copies have is taken, or that of the log, whose checksums hold. Where there \
                          are only two copies, that of the newest state is taken, as suspect.",
            remedy: "Look at both, at the places that the finding names: `bbolt page`, `scan-keys`. If the files are not of one member, salvage \
                     them apart.",
        },
        Entry {
            code: "SALVAGE-STRANGERS",
            title: "The files that were given hardly belong together",
            cause: "Of the revisions of which there are several copies, many differ. Damage does not do that: the files are \
                    of different clusters, or of one cluster before and after a restore or `--force-new-cluster`.",
            consequence: "Where the finding names a revision from which on a file differs, what that file has from there on is left out. \
                          Otherwise what is written may be a mixture of both, which never existed.",
            remedy: "Salvage each file alone, and compare what comes out (`kv diff`). Name only files of one member, and of one history.",
        },
        Entry {
            code: "SALVAGE-FOREIGN",
            title: "Records that the newest state should have and does not",
            cause: "Old pages from before a restore or `--force-new-cluster` that used the same revisions, a transaction that was never \
                    committed, or damage that looks whole.",
            consequence: "They are left out.",
            remedy: "Where nothing was restored, the newest state may have lost them: look at them in the ways that have them (`--extract` with \
                     `--plan N`), and choose such a way if they are right.",
        },
        Entry {
            code: "SALVAGE-LOG-SHORT",
            title: "The log ends before what was found, or before its last commit",
            cause: "Segments of the log are missing or broken, or its last entries are not known to be committed.",
            consequence: "The ways that go by the log end there, and lack what was found beyond, and what the entries behind the break wrote.",
            remedy: "`wal verify` says where the log breaks; a copy that `wal repair` mended can be given with `--wal-dir`.",
        },
        Entry {
            code: "SALVAGE-LOG-FOREIGN",
            title: "The log is that of another cluster",
            cause: "None of the members that the log knows is in the database: a directory of another cluster was given, or files of two were \
                    mixed.",
            consequence: "The log was not used, neither for what it has nor to tell what is lost.",
            remedy: "Give the log that goes with the database: `wal dump` shows whose it is, `member list` who is in the database.",
        },
        Entry {
            code: "SALVAGE-AUTH",
            title: "Users, roles or the setting of authentication are not what they were",
            cause: "The rows of these buckets were lost in part or as a whole, and older ones, or none, stand in their place.",
            consequence: "Authentication may be off, so that everybody gets in; or users that were removed, and old passwords and permissions, \
                          may be back.",
            remedy: "Look before any client is let in: `auth show FILE`. `auth reset` makes a user root with a new password.",
        },
        Entry {
            code: "SALVAGE-LEASE",
            title: "Leases are lost, or older than the keys that hang on them",
            cause: "Their rows stood on a page that was lost.",
            consequence: "A key whose lease is gone stays for ever; a lease that was taken from an older page begins to count anew.",
            remedy: "Delete such keys, or let their owners write them anew: `lease list FILE` shows what hangs on what.",
        },
        Entry {
            code: "SALVAGE-BUCKET",
            title: "A small bucket was lost in part, or stands as it was earlier",
            cause: "Members, alarms, versions and the position in the log stand in buckets of their own, whose rows were lost in part or \
                    as a whole.",
            consequence: "The finding says which. A snapshot restore writes members and the position in the log anew, so most of this \
                          does not matter then.",
            remedy: "Restore what was saved with `snapshot restore`; do not put the file into an old data dir beside its log.",
        },
    ],
};
