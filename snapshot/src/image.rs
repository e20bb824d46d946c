//! The image of a db that a server would send as a snapshot (FORMATS D).

use bbolt::Meta;

/// Pages 0 and 1 of a snapshot: both metas are made from `meta`, the one in force; page 0 carries its transaction,
/// page 1 the one before, whatever their parity.
#[must_use]
pub fn meta_pages(meta: &Meta) -> [Vec<u8>; 2] {
    [0, 1].map(|slot| Meta { txid: meta.txid.saturating_sub(slot), ..*meta }.page(slot))
}
