//! Targets that fail in every way one can, and real files.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;

/// Few bytes make many windows.
const SMALL: Sizes = Sizes { chunk: 8, window: 24 };

/// What a target does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    /// It has no room from this byte on.
    Full(u64),
    /// It keeps this byte wrong.
    Flips(u64),
    /// It cannot sync.
    NoSync,
    /// It cannot be read at this byte.
    Unreadable(u64),
}

/// Memory that is a disk.
struct Ram {
    bytes: Mutex<Vec<u8>>,
    lie: Lie,
}

fn is_hit(offset: u64, bytes: &[u8], at: u64) -> bool {
    (offset..offset + bytes.len() as u64).contains(&at)
}

impl Target for Ram {
    fn is_direct(&self) -> bool {
        true
    }

    fn reserve(&self, _offset: u64, _len_bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64, _is_changed: bool) -> io::Result<()> {
        if matches!(self.lie, Lie::Full(from) if offset + bytes.len() as u64 > from) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = usize::try_from(offset).unwrap();
        let mut kept = self.bytes.lock().unwrap();
        if kept.len() < start + bytes.len() {
            kept.resize(start + bytes.len(), 0);
        }
        kept[start..start + bytes.len()].copy_from_slice(bytes);
        if let Lie::Flips(at) = self.lie
            && is_hit(offset, bytes, at)
        {
            kept[usize::try_from(at).unwrap()] ^= 4;
        }
        Ok(())
    }

    fn settle(&self, _offset: u64, _len_bytes: u64) -> io::Result<()> {
        if self.lie == Lie::NoSync { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if matches!(self.lie, Lie::Unreadable(at) if is_hit(offset, buffer, at)) {
            return Err(io::ErrorKind::Other.into());
        }
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.bytes.lock().unwrap()[start..start + buffer.len()]);
        Ok(())
    }
}

proptest! {
    /// Whatever is written in whatever pieces is there, and its checksum is told; and whatever goes wrong at whichever
    /// byte is found, by this or by the checksum of the whole.
    #[test]
    fn every_byte_arrives_or_is_missed(
        pieces in prop::collection::vec(1usize..30, 1..40),
        head in 1usize..8,
        at in 0usize..800,
        kind in 0u8..5,
    ) {
        let len: usize = pieces.iter().sum();
        let mut expected: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap() | 1).collect();
        let at = (at % len) as u64;
        let lie = match kind {
            0 => Lie::None,
            1 => Lie::Full(at),
            2 => Lie::Flips(at),
            3 => Lie::NoSync,
            _ => Lie::Unreadable(at),
        };
        let ram = Ram { bytes: Mutex::default(), lie };
        let head = vec![2; head.min(len)];
        let written = write_in(&ram, SMALL, |stream| {
            let mut offset = 0;
            for piece in &pieces {
                stream.write_at(offset as u64, &expected[offset..offset + piece])?;
                offset += piece;
            }
            stream.write_at(0, &head)
        });
        expected[..head.len()].copy_from_slice(&head);
        match written {
            Ok(Ok(((), back))) => {
                prop_assert_eq!(back.len_bytes, len as u64);
                let is_right = back.crc32c == integrity::crc32c_of(&expected);
                prop_assert_eq!(is_right, *ram.bytes.lock().unwrap() == expected);
                // A byte of the first chunk, which is written once more, is missed by the checksum of the whole.
                prop_assert!(is_right == (lie == Lie::None) || is_right && lie == Lie::Full(at) && at >= len as u64);
            }
            Ok(Err(error)) => prop_assert!(false, "the producer alone failed: {error}"),
            Err(error) => prop_assert!(lie != Lie::None, "{}", error),
        }
    }

    /// A producer that fails is heard, and nobody waits for anybody.
    #[test]
    fn a_producer_that_gives_up(len in 0usize..400) {
        let ram = Ram { bytes: Mutex::default(), lie: Lie::None };
        let written = write_in(&ram, SMALL, |stream| {
            stream.write_at(0, &vec![7; len]).map_err(|_| "no room")?;
            Err::<(), _>("enough")
        });
        prop_assert_eq!(written.unwrap().unwrap_err(), "enough");
    }
}

#[test]
fn gaps_and_long_heads_are_refused() {
    let ram = Ram { bytes: Mutex::default(), lie: Lie::None };
    let written = write_in(&ram, SMALL, |stream| -> Result<(), io::Error> {
        stream.write_at(0, &[1; 4])?;
        assert!(stream.write_at(5, &[1]).is_err());
        assert!(stream.write_at(0, &[1; 5]).is_err());
        stream.write_at(4, &[1; 30])?;
        assert!(stream.write_at(0, &[1; 9]).is_err());
        Ok(())
    });
    let ((), back) = written.unwrap().unwrap();
    assert_eq!((back.len_bytes, back.crc32c), (34, integrity::crc32c_of(&[1; 34])));
}

/// Several windows of a real file, the last of an odd length.
#[test]
fn a_real_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let bytes: Vec<u8> = (0..(40u32 << 20) + 1537)
        .map(|i| u8::try_from(i.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    let written = write(&file, &path, |stream| {
        for (piece, chunk) in bytes.chunks(1_000_003).enumerate() {
            stream.write_at(1_000_003 * piece as u64, chunk)?;
        }
        stream.write_at(0, &[9; 8192])
    });
    let ((), back) = written.unwrap().unwrap();
    let mut found = vec![0; bytes.len() - 8192];
    file.read_exact_at(&mut found, 8192).unwrap();
    assert!(found == bytes[8192..]);
    assert_eq!(back.len_bytes, bytes.len() as u64);
    assert_eq!(back.crc32c, integrity::crc32c_of(&[vec![9; 8192], found].concat()));
}
