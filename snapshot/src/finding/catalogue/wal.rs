//! The log, and the log beside what belongs to it.

use super::{Entry, Section};

const REBUILD: &str = "Rebuild the member from its peers. Without peers, `wal repair DIR` says what of the log can be \
     kept and what would be lost, and with `-o OUT` writes a repaired copy.";
const PEERS: &str = "Keep a copy of the directory, and compare with another member before a server starts on it: `wal \
     repair DIR` says what a cut would lose.";
const FIND_SEGMENT: &str = "Look for the missing segment: in backups, and beside the log (`wal.tmp`, `wal.broken.…`). If it is \
     gone, rebuild the member from its peers; without peers, `wal repair DIR` says what can be kept.";

/// See [`super::sections`].
pub(super) const SECTIONS: &[Section] = &[
    Section {
        title: "Segments of the log",
        intro: "A record's number counts from 0; the offset is that of its frame.",
        entries: &[
            Entry {
                code: "WAL-LENGTH-CUT",
                title: "The file ends within a length word",
                cause: "The tail of a write that did not end.",
                consequence: "A server cuts such a tail off the last segment when it starts. In an \
                              earlier segment it does not start.",
                remedy: "At the end of the log nothing needs to be done: what was cut had not been \
                         acknowledged, if the disk kept its word. In an earlier segment, rebuild the \
                         member from its peers, or see `wal repair DIR`.",
            },
            Entry {
                code: "WAL-RECORD-CUT",
                title: "A record reaches beyond the end of the file",
                cause: "The file was cut, or a length word is damaged. A server cannot tell the two \
                        apart.",
                consequence: "A server cuts the last segment there when it starts, and with a damaged \
                              length cuts off good records too. In an earlier segment it does not \
                              start.",
                remedy: PEERS,
            },
            Entry {
                code: "WAL-TORN",
                title: "A sector of a record was never written",
                cause: "Power was lost during a write.",
                consequence: "In the last segment a server cuts the record and what follows it; in an \
                              earlier one it does not start.",
                remedy: "At the end of the log nothing needs to be done: what is cut had not been \
                         acknowledged, if the disk kept its word. In an earlier segment, rebuild the \
                         member from its peers, or see `wal repair DIR`.",
            },
            Entry {
                code: "WAL-UNDECODABLE",
                title: "Bytes that are no record",
                cause: "Bits changed on the disk, or something was written over the log.",
                consequence: "A server does not start.",
                remedy: REBUILD,
            },
            Entry {
                code: "WAL-CRC",
                title: "A record whose checksum is wrong",
                cause: "The data, or its checksum, is not what was written.",
                consequence: "A server does not start, even if it is the last record (`crc mismatch`).",
                remedy: REBUILD,
            },
            Entry {
                code: "WAL-CRC-RECORD",
                title: "A checksum record that does not go on from what stands before it",
                cause: "A segment is missing, or is one of another log.",
                consequence: "A server does not start (`crc mismatch`).",
                remedy: FIND_SEGMENT,
            },
            Entry {
                code: "WAL-RECORD-TYPE",
                title: "A record of a type that no version writes",
                cause: "The type is damaged; the checksum does not cover it.",
                consequence: "A server does not start.",
                remedy: REBUILD,
            },
            Entry {
                code: "WAL-PAYLOAD",
                title: "A record that is not what its type says",
                cause: "The checksum holds, and yet the data cannot be read as the type says: the type \
                        is damaged.",
                consequence: "A server does not start.",
                remedy: REBUILD,
            },
            Entry {
                code: "WAL-METADATA-CONFLICT",
                title: "Two records say whose log this is, and differ",
                cause: "Segments of two members lie in one directory.",
                consequence: "A server does not start (`conflicting metadata found`).",
                remedy: "Sort the files by member: the first records of each say whose it is, and `wal \
                         dump` shows them.",
            },
            Entry {
                code: "WAL-NO-SEGMENTS",
                title: "No segment at all",
                cause: "The directory of the log is empty, or the log lies elsewhere.",
                consequence: "A server takes the member for a new one, and founds a cluster over what \
                              is in the db.",
                remedy: "Find the log: `--wal-dir`, or a `wal.tmp` or `wal.broken.…` beside it. Without \
                         one, restore from the db.",
            },
            Entry {
                code: "WAL-EMPTY-SEGMENT",
                title: "A segment without records",
                cause: "It has no bytes, or only zeros: it was cut, or the writes to it never arrived.",
                consequence: "A server reads nothing from it, and says nothing.",
                remedy: "If another finding says that entries are missing, compare with another member \
                         before a server starts on it. Otherwise nothing needs to be done.",
            },
            Entry {
                code: "WAL-SEQUENCE-GAP",
                title: "Segments are missing between two others",
                cause: "Files were removed, or not copied.",
                consequence: "A server that has to begin before the gap does not start.",
                remedy: FIND_SEGMENT,
            },
            Entry {
                code: "WAL-SEQUENCE-TWICE",
                title: "Two segments with one number",
                cause: "A file was copied under another name, or comes from another log.",
                consequence: "A server that has to begin before them does not start.",
                remedy: "The chain of checksums tells which one belongs here, and `wal repair DIR` \
                         names it: set the other one aside.",
            },
            Entry {
                code: "WAL-NAME-INDEX",
                title: "A segment with the wrong first index in its name",
                cause: "It was renamed.",
                consequence: "A server may begin to read at the wrong segment.",
                remedy: "Name it as the finding says.",
            },
            Entry {
                code: "WAL-HEAD",
                title: "A segment without its head",
                cause: "It does not begin with a record of type crc: its first bytes were lost or \
                        overwritten.",
                consequence: "A server that starts there finds every checksum wrong.",
                remedy: REBUILD,
            },
            Entry {
                code: "WAL-CHAIN",
                title: "A segment that does not go on where the one before it ends",
                cause: "Something between them is missing, or one of them is of another log.",
                consequence: "A server does not start (`crc mismatch`).",
                remedy: FIND_SEGMENT,
            },
            Entry {
                code: "WAL-HIDDEN",
                title: "Records behind a length word of zero",
                cause: "A length word was zeroed, or the blocks around it were never written.",
                consequence: "A server skips those records in silence, and at the end of the log \
                              overwrites them when it starts.",
                remedy: PEERS,
            },
            Entry {
                code: "WAL-AFTER-END",
                title: "Bytes behind the end that are no record",
                cause: "What a torn write left, or something else wrote there.",
                consequence: "A server overwrites them with zeros when it starts.",
                remedy: "Nothing needs to be done.",
            },
            Entry {
                code: "WAL-PADDING",
                title: "Filling that is not zero",
                cause: "The bytes that fill a frame up, or bits that mean nothing, are not as etcd \
                        writes them.",
                consequence: "None: nothing reads them, and no checksum covers them.",
                remedy: "Nothing needs to be done for etcd. But the disk, or something else, changed a \
                         file that it should not have: look after the disk.",
            },
            Entry {
                code: "WAL-ENTRY-GAP",
                title: "Entries are missing",
                cause: "Indexes are missing between two entries, and no snapshot stands for them.",
                consequence: "A server that needs them does not start.",
                remedy: REBUILD,
            },
            Entry {
                code: "WAL-TERM-BACK",
                title: "An entry of a lower term than the one before it",
                cause: "Raft never writes that: logs of two histories were mixed.",
                consequence: "A server may take either history for the cluster's.",
                remedy: "Compare with other members before a server starts on it, and rebuild this one \
                         from its peers.",
            },
            Entry {
                code: "WAL-COMMIT-BEYOND",
                title: "More entries are committed than there are",
                cause: "The end of the log is missing.",
                consequence: "A server stops (`is out of range`).",
                remedy: "Find the missing end. Otherwise rebuild the member from its peers; without \
                         peers, `wal repair DIR -o OUT` writes a copy whose hard state fits.",
            },
            Entry {
                code: "WAL-SNAPSHOT-BEYOND-COMMIT",
                title: "A snapshot record beyond the last commit",
                cause: "The member stopped while it received a snapshot; or the end of the log is \
                        missing.",
                consequence: "A server ignores the record, and the `.snap` of that name with it.",
                remedy: "Nothing needs to be done after a crash while a snapshot was received. \
                         Otherwise rebuild the member from its peers.",
            },
            Entry {
                code: "WAL-NO-METADATA",
                title: "Nothing says whose log this is",
                cause: "The head of the first segment was lost.",
                consequence: "A server does not start.",
                remedy: REBUILD,
            },
            Entry {
                code: "WAL-UNREADABLE",
                title: "The disk refuses to hand out bytes of the log",
                cause: "The disk is dying, or the file system is damaged.",
                consequence: "A server stops.",
                remedy: "Copy what can be read with a tool made for dying disks, and look at the copy.",
            },
            Entry {
                code: "WAL-RUNS",
                title: "Term or index jump all the time",
                cause: "No real log does that: the file was made, or mixed.",
                consequence: "Its history was not followed to the end, so what is said of it is not \
                              complete.",
                remedy: "Find out where it comes from.",
            },
        ],
    },
    Section {
        title: "The log beside its snapshots and its db",
        intro: "",
        entries: &[
            Entry {
                code: "WAL-NO-STATE",
                title: "Entries and no hard state",
                cause: "The records of the hard state were lost, or the member was ended before it \
                        wrote its first.",
                consequence: "Votes may be forgotten, and no entry counts as committed. Without a \
                              snapshot a server then knows no voter, waits for a leader, and alone \
                              never serves.",
                remedy: "Rebuild it from its peers, if it has any. Alone, restore from its db.",
            },
            Entry {
                code: "WAL-STATE-TERM",
                title: "The last entry is of a higher term than the hard state",
                cause: "The hard state of that term was lost.",
                consequence: "The member may vote twice in that term.",
                remedy: "Rebuild it from its peers, if it has any. A lone member may start.",
            },
            Entry {
                code: "WAL-SNAPSHOT-NO-FILE",
                title: "A snapshot was noted, and its `.snap` is gone",
                cause: "The file was removed, not copied, or never reached the disk. Older ones than \
                        those kept are not reported.",
                consequence: "A server takes an older one. If the log does not reach back to it, the \
                              server does not start.",
                remedy: "Put the file back. Another member's is as good only if index and term are the \
                         same.",
            },
            Entry {
                code: "WAL-SNAPSHOT-TERM",
                title: "Record and `.snap` of one entry have different terms",
                cause: "They are files of two histories.",
                consequence: "No server takes the file.",
                remedy: "Find out which of the two belongs to the db, and take the other's files away.",
            },
            Entry {
                code: "WAL-SNAPSHOT-MEMBERS",
                title: "Record and `.snap` of one entry name different members",
                cause: "One of them was edited.",
                consequence: "Servers of 3.7 start with the members of the db, all others with those of \
                              the file.",
                remedy: "Rebuild the member from its peers; without peers, `snapshot restore` from the \
                         db writes both anew.",
            },
            Entry {
                code: "WAL-START-GONE",
                title: "The log does not reach back to where a server starts",
                cause: "Segments at the beginning are missing.",
                consequence: "A server does not start, or starts with entries missing.",
                remedy: "Find the segments. A newer `.snap` that the log reaches back to does too.",
            },
            Entry {
                code: "WAL-NOT-A-MEMBER",
                title: "The log's own member is not one of its members",
                cause: "It was removed from the cluster, or log and `.snap` are of two members.",
                consequence: "A server starts, and finds that it was removed; or it speaks for a member \
                              that it is not.",
                remedy: "Compare the IDs with those of `snap dump`. A member that was removed is added \
                         anew, with an empty data dir.",
            },
            Entry {
                code: "WAL-GAP-AFTER-DB",
                title: "The log begins later than the db ends",
                cause: "An older db was put here, or segments are missing.",
                consequence: "The entries between are lost to this member.",
                remedy: "Find the db or the segments that belong here, or rebuild the member from its \
                         peers.",
            },
            Entry {
                code: "WAL-BEHIND-DB",
                title: "The log ends before the db does",
                cause: "The db holds the effect of entries that are gone from the end of the log: a \
                        tail was cut off, or the db is of another copy.",
                consequence: "A server starts and serves, and passes over every new entry up to the \
                              db's last one without applying it. In a cluster its members then differ.",
                remedy: "Rebuild the member from its peers. Alone, restore from its db.",
            },
            Entry {
                code: "WAL-DB-UNREAD",
                title: "The db beside the log could not be opened",
                cause: "It is damaged, or locked by a running server.",
                consequence: "Log and db were not held against each other.",
                remedy: "`verify` on the directory, or `snapshot status`, says what is wrong with the \
                         db.",
            },
            Entry {
                code: "WAL-V2-KEYS",
                title: "Requests of the v2 API that write keys or users",
                cause: "Somebody used the v2 API after the newest `.snap` was taken.",
                consequence: "A server of 3.6 does not start on them (`detected disallowed v2 WAL`). \
                              Nothing carries what they wrote over into the key space.",
                remedy: "Under 3.4 or 3.5, migrate the keys or delete them, and let the server take a \
                         snapshot, before 3.6 starts on it.",
            },
        ],
    },
];
