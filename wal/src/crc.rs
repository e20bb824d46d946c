//! CRC-32C (Castagnoli), continued over pieces.

use crc_fast::{CrcAlgorithm, Digest};

/// Length in bytes below which a piece is looked up in tables: setting up the machine's own instructions takes longer.
const SHORT_BYTES: usize = 256;

/// CRC-32C's polynomial, lowest power in the highest bit.
pub(crate) const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Of each byte value what it does to the register, with 0 to 7 zero bytes behind it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    let mut register_of = 0u32;
    while byte < 256 {
        let mut register = register_of;
        let mut bit = 0;
        while bit < 8 {
            register = if register & 1 == 1 { (register >> 1) ^ POLYNOMIAL } else { register >> 1 };
            bit += 1;
        }
        tables[0][byte] = register;
        byte += 1;
        register_of += 1;
    }
    let mut behind = 1;
    while behind < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[behind - 1][byte];
            let [low, ..] = before.to_le_bytes();
            tables[behind][byte] = (before >> 8) ^ tables[0][low as usize];
            byte += 1;
        }
        behind += 1;
    }
    tables
}

/// The CRC-32C of everything `previous` covers followed by `piece`.
///
/// `previous` is a finished checksum, not a raw register; `0` starts afresh. This is the rule by which a
/// log's checksum rolls from record to record (FORMATS E.3).
#[must_use]
pub fn update(previous: u32, piece: &[u8]) -> u32 {
    // CRC-32C inverts its register at the end, so a finished checksum is turned back into one by inverting
    // it again.
    if piece.len() < SHORT_BYTES {
        return !short(!previous, piece);
    }
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!previous));
    digest.update(piece);
    let [a, b, c, d, ..] = digest.finalize().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The register after `piece`, eight bytes at a time.
fn short(register: u32, piece: &[u8]) -> u32 {
    let mut register = register;
    let (eights, rest) = piece.as_chunks::<8>();
    for [a, b, c, d, e, f, g, h] in eights {
        let [w, x, y, z] = (register ^ u32::from_le_bytes([*a, *b, *c, *d])).to_le_bytes();
        register = TABLES[7][usize::from(w)]
            ^ TABLES[6][usize::from(x)]
            ^ TABLES[5][usize::from(y)]
            ^ TABLES[4][usize::from(z)]
            ^ TABLES[3][usize::from(*e)]
            ^ TABLES[2][usize::from(*f)]
            ^ TABLES[1][usize::from(*g)]
            ^ TABLES[0][usize::from(*h)];
    }
    for byte in rest {
        let [low, ..] = register.to_le_bytes();
        register = (register >> 8) ^ TABLES[0][usize::from(low ^ byte)];
    }
    register
}

/// The CRC-32C of `bytes` alone, as `.snap` files carry it (FORMATS F.1).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    update(0, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// FORMATS V; the first is also the catalogue's check value of CRC-32/ISCSI.
    #[test]
    fn published_vectors() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(b"key"), 0x40a4_756d);
        assert_eq!(checksum(b""), 0);
    }

    /// The polynomial written out bit by bit, so that the fast path is not its own judge.
    fn bitwise(previous: u32, piece: &[u8]) -> u32 {
        let mut register = !previous;
        for byte in piece {
            register ^= u32::from(*byte);
            for _ in 0..8 {
                let carry = register & 1;
                register >>= 1;
                if carry == 1 {
                    register ^= 0x82f6_3b78;
                }
            }
        }
        !register
    }

    proptest! {
        #[test]
        fn pieces_equal_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..700), cut in any::<prop::sample::Index>()) {
            let at = cut.index(bytes.len() + 1);
            let (head, tail) = bytes.split_at(at);
            prop_assert_eq!(update(update(0, head), tail), bitwise(0, &bytes));
        }

        #[test]
        fn any_seed_continues(seed in any::<u32>(), piece in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(update(seed, &piece), bitwise(seed, &piece));
        }
    }
}
