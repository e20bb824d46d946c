//! CRC-32C (Castagnoli), continued over pieces.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC-32C of everything `previous` covers followed by `piece`.
///
/// `previous` is a finished checksum, not a raw register; `0` starts afresh. This is the rule by which a
/// log's checksum rolls from record to record (FORMATS E.3).
#[must_use]
pub fn update(previous: u32, piece: &[u8]) -> u32 {
    // CRC-32C inverts its register at the end, so a finished checksum is turned back into one by inverting
    // it again.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!previous));
    digest.update(piece);
    let [a, b, c, d, ..] = digest.finalize().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
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
