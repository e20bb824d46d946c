//! The database file, page by page.

use super::{Entry, Section};

const ANOTHER_COPY: &str = "Take another copy: the cluster's other members and older snapshots hold the same keys, and a \
     follower that is rebuilt from a healthy leader costs nothing. Without one, `salvage` makes a sound database of \
     what is left, and the `kv` commands with `--skip-bad` read what is still whole.";
const OLDER_META: &str = "Look whether the other meta is older and whole: `bbolt surgery revert-meta-page DB -o COPY` writes \
     a copy in which it is in force, and loses one transaction that the log usually still has. \
     Otherwise take another copy. Without one, `salvage` tries all of this and more, and says what each way loses.";
const FRESH_FILE: &str = "Write a fresh file before a server writes to this one: `defrag --data-dir DIR` for a member, \
     `bbolt compact -o COPY DB` for a file of its own. All pairs are kept.";
const FREELIST: &str = "Abandon the freelist before any server opens the file for writing: `bbolt surgery freelist abandon \
     DB -o COPY`. bbolt then finds out from the trees what is free.";
const TWO_METAS: &str = "While the other meta is valid this is a warning: bbolt uses that one, and if it is the older of \
     the two, the last transaction is gone. With no valid meta the file does not open.";
const FRESH_METAS: &str = "With one valid meta, restore the file or `defrag` it, which writes both metas anew, and let \
     `verify` tell whether the log still has the last entries. With none, take another copy, or `salvage` this one.";
const DISK: &str = "Image the disk first, with a tool made for dying disks, and work on the image: `salvage --bad-map MAP` \
     goes around what its map says was not read. Keys that are gone come from another member or an older snapshot.";

/// See [`super::sections`].
pub(super) const SECTIONS: &[Section] = &[
    Section {
        title: "Metas and the file as a whole",
        intro: "",
        entries: &[
            Entry {
                code: "BBOLT-META-MISSING",
                title: "A meta page is missing",
                cause: "The file ends before it: it is a stub of a database.",
                consequence: "Without any valid meta the file does not open.",
                remedy: "Take another copy. Without one, `salvage` looks for keys on the pages that are \
                         left.",
            },
            Entry {
                code: "BBOLT-META-UNREADABLE",
                title: "A meta page cannot be read",
                cause: "The disk refused to read the page.",
                consequence: TWO_METAS,
                remedy: DISK,
            },
            Entry {
                code: "BBOLT-META-MAGIC",
                title: "A page that should be a meta is none",
                cause: "The page was overwritten or zeroed, or this is no bbolt file.",
                consequence: TWO_METAS,
                remedy: FRESH_METAS,
            },
            Entry {
                code: "BBOLT-META-VERSION",
                title: "A meta of an unknown format",
                cause: "The meta names a format that nobody has defined. It is damage, which the \
                        checksum would show next.",
                consequence: TWO_METAS,
                remedy: FRESH_METAS,
            },
            Entry {
                code: "BBOLT-META-CHECKSUM",
                title: "A meta whose checksum is wrong",
                cause: "A write that was torn by a power cut, or bits that changed on the disk.",
                consequence: TWO_METAS,
                remedy: FRESH_METAS,
            },
            Entry {
                code: "BBOLT-META-PAGE-SIZE",
                title: "A meta with an impossible page size",
                cause: "The page size is no power of two, or not that of the other meta.",
                consequence: TWO_METAS,
                remedy: FRESH_METAS,
            },
            Entry {
                code: "BBOLT-BIG-ENDIAN",
                title: "A file of a big-endian machine",
                cause: "The file was written on s390x, ppc64 or mips, where bbolt writes its numbers \
                        the other way round.",
                consequence: "It cannot be read on other machines, by bbolt neither.",
                remedy: "Take a snapshot on such a machine, with `etcdctl snapshot save`, and put its \
                         keys into a new cluster through a client.",
            },
            Entry {
                code: "BBOLT-META-HEADER",
                title: "The page around a valid meta is not marked as one",
                cause: "The first bytes of the page were changed; the meta itself is right.",
                consequence: "None: bbolt does not look at them.",
                remedy: "Nothing needs to be done. The next transactions rewrite the page.",
            },
            Entry {
                code: "BBOLT-META-RANGE",
                title: "A meta that is valid and impossible",
                cause: "The checksum is right and the content cannot be: the meta was edited by hand, \
                        or a tool gave a broken meta a new checksum.",
                consequence: "A server dies at the start.",
                remedy: OLDER_META,
            },
            Entry {
                code: "BBOLT-OLDER-META-RANGE",
                title: "The meta that is not in force is impossible",
                cause: "The same as for the meta in force, in the other one.",
                consequence: "None as long as the meta in force is right. The other one is no way back.",
                remedy: "Nothing needs to be done. The next transaction but one rewrites it.",
            },
            Entry {
                code: "BBOLT-SHORT-FILE",
                title: "The file is shorter than its meta says",
                cause: "It was copied while a server wrote to it, or a full disk cut it.",
                consequence: "A server that touches the missing pages dies of SIGBUS.",
                remedy: "Take another copy. If only free pages are missing, as `verify` or `bbolt \
                         check` then say by having no other finding, nothing is lost, and `bbolt \
                         compact -o COPY DB` writes a whole file. Else `salvage` makes a sound one of \
                         what is left.",
            },
        ],
    },
    Section {
        title: "Pages",
        intro: "",
        entries: &[
            Entry {
                code: "BBOLT-UNREADABLE",
                title: "A page cannot be read",
                cause: "The disk refused to read it.",
                consequence: "The keys of that range cannot be read. A server dies when it comes there.",
                remedy: DISK,
            },
            Entry {
                code: "BBOLT-TRUNCATED",
                title: "A page lies beyond the end of the file",
                cause: "The file was cut, or copied while it grew.",
                consequence: "The keys of that range are lost from this file.",
                remedy: ANOTHER_COPY,
            },
            Entry {
                code: "BBOLT-OUT-OF-BOUNDS",
                title: "A page number beyond the last page",
                cause: "A page number, or an overflow, at or beyond the high-water mark: garbage in the \
                        page above, or a meta that is older than the page.",
                consequence: "bbolt panics, or reads what is not there.",
                remedy: OLDER_META,
            },
            Entry {
                code: "BBOLT-WRONG-ID",
                title: "A page that says it is another one",
                cause: "A stale, zeroed or misplaced page: its write never arrived, or went elsewhere.",
                consequence: "bbolt panics with `Page expected to be`.",
                remedy: OLDER_META,
            },
            Entry {
                code: "BBOLT-PAGE-TYPE",
                title: "A page in a tree that is no branch and no leaf",
                cause: "The page was overwritten or zeroed, or its write never arrived.",
                consequence: "bbolt panics with `unexpected page type`.",
                remedy: OLDER_META,
            },
            Entry {
                code: "BBOLT-ELEMENT-COUNT",
                title: "More elements than the page has room for",
                cause: "The count in the header of a page, or of a freelist, is damaged.",
                consequence: "bbolt reads beyond the page.",
                remedy: "If it is the freelist's page, abandon it: `bbolt surgery freelist abandon DB \
                         -o COPY`. Otherwise let the older meta win, with `bbolt surgery \
                         revert-meta-page DB -o COPY`, or take another copy.",
            },
            Entry {
                code: "BBOLT-ELEMENT-OVERLAP",
                title: "Elements of a page share their bytes",
                cause: "Keys and values of the page are longer together than it is: a length was \
                        damaged.",
                consequence: "bbolt serves the wrong bytes as a value. Its own check does not look.",
                remedy: ANOTHER_COPY,
            },
            Entry {
                code: "BBOLT-ELEMENT-BOUNDS",
                title: "A key or value reaches beyond its page",
                cause: "An offset or a length in the table of elements is damaged: the key or value \
                        reaches beyond the page, or into the table.",
                consequence: "bbolt reads beyond the page, wrongly or to its death. Its own check does \
                              not look.",
                remedy: ANOTHER_COPY,
            },
            Entry {
                code: "BBOLT-MULTIPLE-REFERENCES",
                title: "A page that is used twice",
                cause: "Two parents, two overflows, or a cycle: the page was given out twice.",
                consequence: "The next write through either use damages the other.",
                remedy: ANOTHER_COPY,
            },
        ],
    },
    Section {
        title: "Keys and shape",
        intro: "",
        entries: &[
            Entry {
                code: "BBOLT-EMPTY-KEY",
                title: "An element without a key",
                cause: "A length was damaged, or the page is of something else.",
                consequence: "bbolt panics when it loads the page for a write.",
                remedy: ANOTHER_COPY,
            },
            Entry {
                code: "BBOLT-KEY-ORDER",
                title: "Keys of a page do not ascend",
                cause: "Bits of a key changed, or a tool wrote them so.",
                consequence: "Lookups miss keys that are there.",
                remedy: "Take another copy. Without one, `salvage` makes a sound database of what is \
                         there, and `kv list --skip-bad` and `iterate-bucket` show it.",
            },
            Entry {
                code: "BBOLT-BELOW-SEPARATOR",
                title: "A page begins below what the branch above says",
                cause: "The page is of another place or time: a write that never arrived, or went \
                        elsewhere.",
                consequence: "Lookups miss keys, and writes put them out of order.",
                remedy: OLDER_META,
            },
            Entry {
                code: "BBOLT-ABOVE-BOUND",
                title: "A key that belongs to a later page",
                cause: "A key is not smaller than the next one of the branch above: the page is of \
                        another place or time.",
                consequence: "Lookups miss keys, and writes put them out of order.",
                remedy: OLDER_META,
            },
            Entry {
                code: "BBOLT-EMPTY-BRANCH",
                title: "A branch without children",
                cause: "The page was cleared or damaged.",
                consequence: "bbolt panics when it comes by.",
                remedy: OLDER_META,
            },
            Entry {
                code: "BBOLT-LONE-CHILD",
                title: "A branch with one child",
                cause: "It was written by a tool; bbolt does not write such a page.",
                consequence: "The file opens, serves, and passes bbolt's check. At a later delete the \
                              server panics (`parent must have at least 2 children`).",
                remedy: FRESH_FILE,
            },
            Entry {
                code: "BBOLT-UNEVEN-DEPTH",
                title: "Leaves of one bucket at different depths",
                cause: "It was written by a tool, or a branch was replaced by a leaf.",
                consequence: "The file opens and serves. A later merge of pages panics, or corrupts in \
                              silence.",
                remedy: FRESH_FILE,
            },
            Entry {
                code: "BBOLT-EMPTY-LEAF",
                title: "An empty leaf below a branch",
                cause: "It was cleared by a tool.",
                consequence: "The file opens and serves. bbolt panics when a write loads the page.",
                remedy: FRESH_FILE,
            },
            Entry {
                code: "BBOLT-TOO-DEEP",
                title: "More than 64 levels",
                cause: "A chain of branches, made to exhaust who reads it.",
                consequence: "bbolt runs out of stack.",
                remedy: "This is not a server's file. Find out where it comes from, and take another \
                         copy.",
            },
        ],
    },
    Section {
        title: "Buckets",
        intro: "",
        entries: &[
            Entry {
                code: "BBOLT-BUCKET-LENGTH",
                title: "A bucket that is too short",
                cause: "The value that holds the bucket is shorter than its header or its inline page.",
                consequence: "bbolt reads beyond the value.",
                remedy: ANOTHER_COPY,
            },
            Entry {
                code: "BBOLT-INLINE-TYPE",
                title: "An inline bucket that is no leaf",
                cause: "The page inside the bucket's value was damaged.",
                consequence: "The bucket does not open.",
                remedy: ANOTHER_COPY,
            },
            Entry {
                code: "BBOLT-BUCKET-IN-INLINE",
                title: "A bucket inside an inline bucket",
                cause: "bbolt never writes one: a mark was damaged, or a tool made it.",
                consequence: "The inner bucket does not open, and copying the outer one fails.",
                remedy: ANOTHER_COPY,
            },
            Entry {
                code: "BBOLT-TOP-LEVEL-VALUE",
                title: "A plain value where only buckets can be",
                cause: "The meta names a page of another bucket as the root.",
                consequence: "etcd finds none of its buckets and dies, or starts with an empty store. \
                              bbolt's own check does not look.",
                remedy: OLDER_META,
            },
        ],
    },
    Section {
        title: "Freelist",
        intro: "These concern only files that keep a list of their free pages. etcd on Linux does not: \
                there, free is what no tree reaches.",
        entries: &[
            Entry {
                code: "BBOLT-FREELIST-TYPE",
                title: "The freelist is none",
                cause: "The page that the meta names is no freelist. Often it is zeroed.",
                consequence: "bbolt panics with `invalid freelist page` at the start.",
                remedy: FREELIST,
            },
            Entry {
                code: "BBOLT-FREED-TWICE",
                title: "A page is listed as free twice",
                cause: "The list was damaged, or a bug wrote it so.",
                consequence: "Two writes get the same page.",
                remedy: FREELIST,
            },
            Entry {
                code: "BBOLT-REACHABLE-FREED",
                title: "A page in use is listed as free",
                cause: "The list was damaged, is older than the trees, or a bug wrote it so.",
                consequence: "The next write overwrites live data.",
                remedy: FREELIST,
            },
            Entry {
                code: "BBOLT-FREE-OUT-OF-BOUNDS",
                title: "The freelist names a page that is none",
                cause: "A number in the list is no page of the file.",
                consequence: "A write goes beyond the file, or over a meta.",
                remedy: FREELIST,
            },
            Entry {
                code: "BBOLT-UNREACHABLE-UNFREED",
                title: "A page neither in use nor free",
                cause: "A transaction lost it; or the tree that used it is damaged, which another \
                        finding then says.",
                consequence: "Space is lost, no more.",
                remedy: "See to the other findings first. When the trees are sound, abandon the \
                         freelist: `bbolt surgery freelist abandon DB -o COPY`.",
            },
        ],
    },
];
