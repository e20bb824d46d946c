//! The freelist, where a file keeps one (FORMATS A.6).

use crate::db::Db;
use crate::fault::{Fault, FaultKind};
use crate::meta::NO_FREELIST;
use crate::page::{FLAG_FREELIST, HEADER_BYTES, PageHeader, PageId};
use crate::source::Source;

/// What a file says of its free pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freelist {
    /// Nothing: free is what no tree reaches. The normal state of etcd's files on Linux.
    NotPersisted,
    /// These pages, in the order they are listed.
    Persisted {
        /// The freelist's own page.
        page: PageId,
        /// Further pages the freelist occupies.
        overflow: u32,
        /// The pages listed.
        free: Vec<PageId>,
    },
}

/// A count that means "the real count is the first id".
pub(crate) const COUNT_IN_FIRST_ID: u16 = 0xFFFF;

impl Freelist {
    pub(crate) fn read<S: Source>(db: &Db<S>) -> Result<Self, Fault> {
        let id = PageId(db.meta().freelist);
        if id.0 == NO_FREELIST {
            return Ok(Self::NotPersisted);
        }
        let first = db.raw(id, u64::from(db.page_size()))?;
        let header =
            PageHeader::parse(&first).ok_or_else(|| db.fault(id, 0, FaultKind::NotAFreelist { flags: 0 }))?;
        if header.flags != FLAG_FREELIST {
            return Err(db.fault(id, 0, FaultKind::NotAFreelist { flags: header.flags }));
        }
        if header.id != id.0 {
            return Err(db.fault(id, 0, FaultKind::WrongId { found: header.id }));
        }
        let bytes = db.with_overflow(id, first, header.overflow)?;
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let mut words = body.chunks_exact(8).map(|chunk| {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let mut most = (body.len() / 8) as u64;
        let declared = if header.count == COUNT_IN_FIRST_ID {
            most = most.saturating_sub(1);
            words.next().unwrap_or_default()
        } else {
            u64::from(header.count)
        };
        let count = match usize::try_from(declared) {
            Ok(count) if declared <= most => count,
            _ => {
                let kind = FaultKind::TooManyElements { declared, room_bytes: body.len() as u64, most };
                return Err(db.fault(id, header.overflow, kind));
            }
        };
        let free = words.take(count).map(PageId).collect();
        Ok(Self::Persisted { page: id, overflow: header.overflow, free })
    }
}
