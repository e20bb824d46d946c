//! Meta pages: pages 0 and 1, which name the root bucket (FORMATS A.2).

use nom::IResult;
use nom::Parser;
use nom::number::complete::{le_u32, le_u64};

use crate::page::{FLAG_META, HEADER_BYTES, PageHeader, PageId};

/// The first four bytes of a meta.
pub const MAGIC: u32 = 0xED0C_DAED;
/// The only version of the format there has been.
pub const VERSION: u32 = 2;
/// In place of a freelist's page: the freelist is not kept in the file.
pub const NO_FREELIST: u64 = u64::MAX;
/// Length of a meta in bytes, behind the page header.
pub const META_BYTES: usize = 64;
/// Bytes of a page that hold its header and the meta.
pub const META_PAGE_BYTES: u64 = (HEADER_BYTES + META_BYTES) as u64;

/// A meta whose magic, version and checksum are right.
///
/// ```text
///  0       4         8           12      16     24         32         40         48     56         64
///  | magic | version | page size | flags | root | sequence | freelist | high wm. | txid | checksum |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Length of a page in bytes.
    pub page_size: u32,
    /// Zero in every known file.
    pub flags: u32,
    /// Root page of the root bucket.
    pub root: PageId,
    /// The root bucket's sequence.
    pub sequence: u64,
    /// Page of the freelist, or [`NO_FREELIST`].
    pub freelist: u64,
    /// High-water mark: one past the last page in use; the file's logical length in pages.
    pub high_water_mark: u64,
    /// The transaction that wrote this meta.
    pub txid: u64,
}

/// Why a meta does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaFault {
    /// The file ends before it.
    #[error("the file ends before it")]
    Missing,
    /// The page could not be read.
    #[error("it cannot be read from the disk: {message}")]
    Unreadable {
        /// The system's words, and where.
        message: String,
    },
    /// The magic number is not bbolt's.
    #[error("its magic number is {found:#010x}, expected 0xed0cdaed")]
    Magic {
        /// The number found.
        found: u32,
    },
    /// The magic number is bbolt's with its bytes reversed.
    #[error("it was written on a big-endian machine")]
    BigEndian,
    /// A version that nobody has defined.
    #[error("its version is {found}, expected 2")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The checksum does not match: the write was torn, or bits rotted.
    #[error("its checksum is {found:016x}, expected {expected:016x}")]
    Checksum {
        /// The checksum found.
        found: u64,
        /// The checksum of the bytes there are.
        expected: u64,
    },
    /// The checksum is right and the content is not possible.
    #[error("its page size of {found} bytes is not possible")]
    PageSize {
        /// The page size found.
        found: u32,
    },
}

impl MetaFault {
    /// The stable code, as documented in `docs/findings.md`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "BBOLT-META-MISSING",
            Self::Unreadable { .. } => "BBOLT-META-UNREADABLE",
            Self::Magic { .. } => "BBOLT-META-MAGIC",
            Self::BigEndian => "BBOLT-BIG-ENDIAN",
            Self::Version { .. } => "BBOLT-META-VERSION",
            Self::Checksum { .. } => "BBOLT-META-CHECKSUM",
            Self::PageSize { .. } => "BBOLT-META-PAGE-SIZE",
        }
    }
}

/// FNV-1a, 64 bits: what bbolt protects its metas with.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Meta {
    /// Parses and validates the meta in `page`, the first bytes of a meta page with its header.
    ///
    /// The page header takes no part, as in bbolt: a meta page may be copied between the two slots and stay valid.
    ///
    /// # Errors
    /// A [`MetaFault`] that says what is wrong first.
    pub fn parse(page: &[u8]) -> Result<Self, MetaFault> {
        let body = page.get(HEADER_BYTES..HEADER_BYTES + META_BYTES).ok_or(MetaFault::Missing)?;
        type Words = (u32, u32, u32, u32, u64, u64, u64, u64, u64, u64);
        let parsed: IResult<&[u8], Words> =
            (le_u32, le_u32, le_u32, le_u32, le_u64, le_u64, le_u64, le_u64, le_u64, le_u64).parse(body);
        let (_, (magic, version, page_size, flags, root, sequence, freelist, high_water_mark, txid, found)) =
            parsed.map_err(|_| MetaFault::Missing)?;
        if magic == MAGIC.swap_bytes() {
            return Err(MetaFault::BigEndian);
        }
        if magic != MAGIC {
            return Err(MetaFault::Magic { found: magic });
        }
        if version != VERSION {
            return Err(MetaFault::Version { found: version });
        }
        let expected = fnv1a(body.get(..56).unwrap_or_default());
        if found != expected {
            return Err(MetaFault::Checksum { found, expected });
        }
        if !page_size.is_power_of_two() || !(512..=16 << 20).contains(&page_size) {
            return Err(MetaFault::PageSize { found: page_size });
        }
        Ok(Self { page_size, flags, root: PageId(root), sequence, freelist, high_water_mark, txid })
    }

    /// The meta's 64 bytes with their checksum, to stand behind a page header.
    #[must_use]
    pub fn encode(&self) -> [u8; META_BYTES] {
        let mut out = [0; META_BYTES];
        out[..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&VERSION.to_le_bytes());
        out[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        out[12..16].copy_from_slice(&self.flags.to_le_bytes());
        out[16..24].copy_from_slice(&self.root.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        out[32..40].copy_from_slice(&self.freelist.to_le_bytes());
        out[40..48].copy_from_slice(&self.high_water_mark.to_le_bytes());
        out[48..56].copy_from_slice(&self.txid.to_le_bytes());
        let checksum = fnv1a(&out[..56]);
        out[56..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The whole page of slot `slot` (0 or 1) with this meta in it, zeros behind.
    #[must_use]
    pub fn page(&self, slot: u64) -> Vec<u8> {
        let header = PageHeader { id: slot, flags: FLAG_META, count: 0, overflow: 0 };
        let mut page = [&header.encode()[..], &self.encode()[..]].concat();
        // A page size is at most 16 MiB, and never less than a meta.
        page.resize(usize::try_from(self.page_size).unwrap_or_default().max(page.len()), 0);
        page
    }

    /// The file's logical length in bytes: what a snapshot of it has, before its hash.
    #[must_use]
    pub fn logical_bytes(&self) -> u64 {
        self.high_water_mark.saturating_mul(u64::from(self.page_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FORMATS V: the metas of a fresh file and of an upstream sample.
    #[test]
    fn checksums_of_known_metas() {
        let meta = |root, freelist, high_water_mark, txid| Meta {
            page_size: 4096,
            flags: 0,
            root: PageId(root),
            sequence: 0,
            freelist,
            high_water_mark,
            txid,
        };
        let checksum = |m: Meta| u64::from_le_bytes(m.encode()[56..].try_into().unwrap());
        assert_eq!(checksum(meta(3, 2, 4, 0)), 0x0751_6e11_4689_fdee);
        assert_eq!(checksum(meta(3, 2, 4, 1)), 0x264c_351a_5179_480f);
        assert_eq!(checksum(meta(2, 3, 5, 10)), 0x9878_1d0d_a1ae_e125);
        assert_eq!(checksum(meta(2, 3, 5, 11)), 0x797d_5604_96bf_9704);
    }
}
