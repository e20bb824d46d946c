//! What a database says of itself without a walk of its pages.

use bbolt::{Db, Fault, OpenError, Source};

use crate::auth::Auth;
use crate::membership::{Member, parse_hex_id};
use crate::mvcc::Revision;
use crate::schema::{CONF_STATE, KEY, MEMBERS_REMOVED, META, Schema, each_row};

/// Why a file that could be opened cannot be read as a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// Neither meta is valid, or it is no bbolt database at all.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A page on the way is damaged.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a database says of itself.
#[derive(Debug, Clone)]
pub struct DatabaseFacts {
    /// Its small buckets.
    pub schema: Schema,
    /// Its users and roles.
    pub auth: Auth,
    /// The last record's revision; 0 when there is none. The store's own may be later, by a compaction (FORMATS C.2).
    pub last_record: i64,
    /// Its member rows that can be read, by their ids.
    pub members: Vec<Member>,
    /// How many member rows cannot be read.
    pub unreadable_members: u64,
    /// The ids of removed members, ascending.
    pub removed: Vec<u64>,
    /// The raft configuration in it, since 3.5; `None` also when the row cannot be read.
    pub conf_state: Option<ConfStateRow>,
    /// How the file is laid out.
    pub shape: Shape,
}

/// The row `confState`: a `raftpb.ConfState` as Go writes it in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct ConfStateRow {
    /// Those who vote.
    pub voters: Vec<u64>,
    /// Those who only listen.
    pub learners: Vec<u64>,
    /// Those who still vote while a change of several members is under way.
    pub voters_outgoing: Vec<u64>,
}

/// How a database file is laid out, as far as its metas say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Length of the file in bytes, a snapshot's trailer included.
    pub len_bytes: u64,
    /// Length of a page in bytes.
    pub page_size: u32,
    /// Pages below the high-water mark: what a snapshot of it has.
    pub used_pages: u64,
    /// The transaction number of each valid meta, slot 0 first.
    pub txids: [Option<u64>; 2],
    /// Whether the list of free pages is kept in the file, which etcd on Linux does not.
    pub freelist_kept: bool,
    /// Whether the length is that of a snapshot with its SHA-256 at the end (FORMATS D).
    pub has_trailer: bool,
}

impl Shape {
    /// Bytes below the high-water mark.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_pages.saturating_mul(u64::from(self.page_size))
    }
}

impl DatabaseFacts {
    /// Reads what `db` says of itself: its small buckets, and the last record of its big one.
    ///
    /// # Errors
    /// When a page on the way is damaged.
    pub fn read<S: Source>(db: &Db<S>) -> Result<Self, Fault> {
        let schema = Schema::read(db)?;
        let auth = Auth::read(db)?;
        let last_record = match db.bucket(KEY)? {
            Some(keys) => {
                keys.cursor().last()?.and_then(|item| Revision::parse(item.key)).map_or(0, |r| r.main)
            }
            None => 0,
        };
        let parsed: Vec<_> = schema.members.iter().map(|row| Member::from_json(row)).collect();
        let unreadable_members = parsed.iter().filter(|member| member.is_err()).map(|_| 1).sum();
        let mut members: Vec<Member> = parsed.into_iter().flatten().collect();
        members.sort_by_key(|member| member.id);
        let mut removed = Vec::new();
        each_row(db, MEMBERS_REMOVED, |key, _, _| {
            removed.extend(std::str::from_utf8(key).ok().and_then(parse_hex_id));
        })?;
        removed.sort_unstable();
        let conf_state = match db.bucket(META)? {
            Some(meta) => meta.get(CONF_STATE)?.and_then(|row| serde_json::from_slice(&row).ok()),
            None => None,
        };
        let shape = Shape {
            len_bytes: db.source().len_bytes(),
            page_size: db.page_size(),
            used_pages: db.highest_water_mark(),
            txids: [0, 1].map(|slot: usize| {
                db.metas().get(slot).and_then(|meta| meta.as_ref().ok()).map(|meta| meta.txid)
            }),
            freelist_kept: db.meta().freelist != bbolt::meta::NO_FREELIST,
            has_trailer: crate::integrity::image_bytes(db.source().len_bytes()).1,
        };
        Ok(Self { schema, auth, last_record, members, unreadable_members, removed, conf_state, shape })
    }

    /// The revision at which a server begins: that of the last record, or of a compaction beyond it (FORMATS C.2).
    #[must_use]
    pub fn revision(&self) -> i64 {
        let compacted = self.schema.finished_compact.max(self.schema.scheduled_compact).unwrap_or_default();
        self.last_record.max(compacted).max(1)
    }
}
