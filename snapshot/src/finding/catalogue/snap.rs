//! Snapshots of a database, and the `.snap` files of a member.

use super::{Entry, Section};

const OLDER_SNAP: &str = "The one before it will do, if the log reaches back to it, as `verify` says. Otherwise rebuild the \
     member from its peers, or restore from its db.";
const MOVE_AWAY: &str = "Move the file away: the `.snap` before it will do, if the log reaches back to it, as `verify` \
     says. Otherwise rebuild the member from its peers, or restore from its db.";
const OLDER_TAKEN: &str = "A server of 3.4 to 3.6 renames it to `.snap.broken` and takes the one before it, if the log still \
     reaches back that far; else it does not start. 3.7 does not read these files.";

/// See [`super::sections`].
pub(super) const SECTIONS: &[Section] = &[
    Section {
        title: "Snapshots of the database as a whole",
        intro: "",
        entries: &[
            Entry {
                code: "SNAP-HASH-MISMATCH",
                title: "The bytes are not those the server sent",
                cause: "The file was damaged on the way or on the disk, or was edited.",
                consequence: "etcdutl and we refuse to restore it.",
                remedy: "Copy it again, or use another snapshot. If there is none, `--skip-hash-check` \
                         restores it when its structure is sound; some values may be wrong then.",
            },
            Entry {
                code: "SNAP-LENGTH",
                title: "A length that fits no snapshot",
                cause: "The length fits neither a snapshot (a multiple of 512 and 32 more) nor a db (a \
                        multiple of 512): the file was cut short, or something was added.",
                consequence: "Such a file counts as one without hash, and is restored only with \
                              `--skip-hash-check`. Pages that are missing show as `BBOLT-SHORT-FILE`.",
                remedy: "Copy it again.",
            },
        ],
    },
    Section {
        title: "The .snap files of a member",
        intro: "Not to be mixed up with a snapshot of the database: a `.snap` holds the members and the \
                old v2 store.",
        entries: &[
            Entry {
                code: "SNAP-EMPTY",
                title: "A `.snap` without data",
                cause: "No bytes, no data, or a checksum of 0, which servers take for the same. A power \
                        cut does that.",
                consequence: OLDER_TAKEN,
                remedy: OLDER_SNAP,
            },
            Entry {
                code: "SNAP-UNDECODABLE",
                title: "A `.snap` whose envelope is none",
                cause: "It was damaged, or is a file of something else.",
                consequence: OLDER_TAKEN,
                remedy: OLDER_SNAP,
            },
            Entry {
                code: "SNAP-CRC",
                title: "A `.snap` whose checksum is wrong",
                cause: "The data is not what was written.",
                consequence: OLDER_TAKEN,
                remedy: OLDER_SNAP,
            },
            Entry {
                code: "SNAP-PAYLOAD",
                title: "A `.snap` that holds no raft snapshot",
                cause: "The checksum holds, and yet the content cannot be read: something wrote it that \
                        is no etcd.",
                consequence: OLDER_TAKEN,
                remedy: OLDER_SNAP,
            },
            Entry {
                code: "SNAP-UNREADABLE",
                title: "A `.snap` that cannot be read",
                cause: "The disk or the system refused to hand it out.",
                consequence: "A server of 3.4 to 3.6 cannot use it.",
                remedy: "Image the disk, or see who may read the file.",
            },
            Entry {
                code: "SNAP-TOO-LONG",
                title: "A `.snap` longer than 512 MiB",
                cause: "It is not a server's.",
                consequence: "It was not read here. A server of 3.4 to 3.6 reads it.",
                remedy: "Move it away if the log reaches back to the `.snap` before it.",
            },
            Entry {
                code: "SNAP-NAME",
                title: "A `.snap` that is named for another entry than it holds",
                cause: "It was renamed.",
                consequence: "Servers order these files by name, and may pick the wrong one.",
                remedy: "Give it its name back; the finding says which.",
            },
            Entry {
                code: "SNAP-V2STORE",
                title: "A `.snap` whose v2 store cannot be read",
                cause: "It was edited, or damaged before its checksum was taken.",
                consequence: "Servers of 3.4 to 3.6 do not start from it.",
                remedy: MOVE_AWAY,
            },
            Entry {
                code: "SNAP-V2-KEYS",
                title: "Keys or users of the v2 API",
                cause: "Somebody used the v2 API, perhaps years ago.",
                consequence: "Servers of 3.6 refuse to start (`detected disallowed custom content in \
                              v2store`).",
                remedy: "Under 3.4 or 3.5, migrate the keys or delete them, and let the server take a \
                         snapshot, before 3.6 starts on it.",
            },
            Entry {
                code: "SNAP-V2-UNKNOWN",
                title: "Nodes in the v2 store that etcd does not know",
                cause: "The file was edited, or damaged before its checksum was taken.",
                consequence: "Servers of 3.4 to 3.6 die when they start from it.",
                remedy: MOVE_AWAY,
            },
            Entry {
                code: "SNAP-MEMBERS",
                title: "Voters and members of a `.snap` are not the same",
                cause: "It was edited, or names no voter.",
                consequence: "Servers of 3.4 to 3.6 start with members that disagree, or never elect a \
                              leader.",
                remedy: MOVE_AWAY,
            },
            Entry {
                code: "SNAP-NO-RECORD",
                title: "A `.snap` that the log has no record of",
                cause: "It was copied here, or the member stopped before it noted it.",
                consequence: "Servers do not use it.",
                remedy: "Nothing needs to be done.",
            },
            Entry {
                code: "SNAP-DB",
                title: "A `.snap.db` that is no readable database",
                cause: "It was damaged, or its transfer did not end.",
                consequence: "If the newest `.snap` is of that entry, the server dies (`failed to \
                              recover v3 backend from snapshot`).",
                remedy: "Rebuild the member from its peers.",
            },
            Entry {
                code: "SNAP-NO-DB",
                title: "A `.snap` that is newer than the db",
                cause: "A `.snap` of a later entry than the db's last, or no db at all, and not the \
                        database that the leader sends with it: the db is gone, an older one was put \
                        here, or the transfer did not end.",
                consequence: "A server that starts from it dies (`failed to find database snapshot \
                              file`). If the log does not have that entry as committed, no server uses \
                              the file, and this is a warning.",
                remedy: "Put the db back that belongs to it, or rebuild the member from its peers.",
            },
            Entry {
                code: "SNAP-DB-INDEX",
                title: "A received database is older than its name says",
                cause: "It was copied here from elsewhere, or the transfer did not end.",
                consequence: "A server that takes it in place of the db does not start (`does not match \
                              with snapshot`).",
                remedy: "Move it away if the db beside it is later, or rebuild the member from its peers.",
            },
            Entry {
                code: "SNAP-DB-PENDING",
                title: "A database from the leader waits for its installation",
                cause: "The member stopped after it had received the database and before it used it.",
                consequence: "A server takes it in place of the older db. 3.5.1 was seen to end while it does \
                              that (`tx closed`).",
                remedy: "Start a release other than 3.5.0 to 3.5.4; otherwise nothing needs to be done. \
                         `snapshot status` reads the file.",
            },
            Entry {
                code: "SNAP-BROKEN-LEFT",
                title: "A server has put a file aside",
                cause: "A server could not read the file, and renamed it to `.broken`.",
                consequence: "Something was damaged before.",
                remedy: "Look after the disk. The file is evidence.",
            },
            Entry {
                code: "SNAP-LEFTOVER",
                title: "What a job that did not end has left",
                cause: "A database that was being received, or a defragmentation, did not end.",
                consequence: "A server removes it when it starts.",
                remedy: "Nothing needs to be done.",
            },
        ],
    },
];
