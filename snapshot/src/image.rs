//! The image of a db that a server would send as a snapshot (FORMATS D).

use bbolt::Meta;
use bbolt::page::{FLAG_META, PageHeader};

/// Pages 0 and 1 of a snapshot: both metas are made from `meta`, the one in force; page 0 carries its transaction,
/// page 1 the one before, whatever their parity.
#[must_use]
pub fn meta_pages(meta: &Meta) -> [Vec<u8>; 2] {
    [0u64, 1].map(|id| {
        let header = PageHeader { id, flags: FLAG_META, count: 0, overflow: 0 };
        let meta = Meta { txid: meta.txid.saturating_sub(id), ..*meta };
        let mut page = [&header.encode()[..], &meta.encode()[..]].concat();
        page.resize(usize::try_from(meta.page_size).unwrap_or_default().max(page.len()), 0);
        page
    })
}
