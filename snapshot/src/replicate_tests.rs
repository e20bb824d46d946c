//! Targets that fail in every way one can, and real files.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use bbolt::source::Pread;
use proptest::prelude::*;

use super::*;

/// Few bytes make many windows.
const SMALL: Sizes = Sizes { chunk: 8, window: 20 };

/// What a target does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    /// It has no room from this byte on.
    Full(u64),
    /// It keeps this byte wrong.
    Flips(u64),
    /// It loses what was written at this byte, so that zeros are read.
    Loses(u64),
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

impl Ram {
    fn new(len: usize, lie: Lie) -> Self {
        Self { bytes: Mutex::new(vec![0; len]), lie }
    }

    fn is_hit(offset: u64, bytes: &[u8], at: u64) -> bool {
        (offset..offset + bytes.len() as u64).contains(&at)
    }
}

impl Target for Ram {
    fn is_direct(&self) -> bool {
        self.lie != Lie::None
    }

    fn reserve(&self, _offset: u64, _len_bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64, _is_changed: bool) -> io::Result<()> {
        if matches!(self.lie, Lie::Full(from) if offset + bytes.len() as u64 > from) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if matches!(self.lie, Lie::Loses(at) if Self::is_hit(offset, bytes, at)) {
            return Ok(());
        }
        let start = usize::try_from(offset).unwrap();
        let mut kept = self.bytes.lock().unwrap();
        kept[start..start + bytes.len()].copy_from_slice(bytes);
        if let Lie::Flips(at) = self.lie
            && Self::is_hit(offset, bytes, at)
        {
            kept[usize::try_from(at).unwrap()] ^= 4;
        }
        Ok(())
    }

    fn settle(&self, _offset: u64, _len_bytes: u64) -> io::Result<()> {
        if self.lie == Lie::NoSync { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if matches!(self.lie, Lie::Unreadable(at) if Self::is_hit(offset, buffer, at)) {
            return Err(io::ErrorKind::Other.into());
        }
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.bytes.lock().unwrap()[start..start + buffer.len()]);
        Ok(())
    }
}

fn patterned(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap() | 1).collect()
}

proptest! {
    /// Whatever goes wrong at whichever byte of whichever target is found, told of that target, and told of a chunk
    /// that holds the byte; and when nothing goes wrong, all targets are the image.
    #[test]
    fn every_lie_is_found(
        len in 1usize..200,
        base_len in 0usize..220,
        patch in (0usize..200, 1usize..40),
        at in 0usize..200,
        liar in 0usize..3,
        kind in 0u8..6,
    ) {
        let (at, liar_at) = ((at % len) as u64, liar);
        let base = patterned(base_len);
        let patched = patterned(patch.1).iter().map(|byte| byte ^ 0xf0).collect::<Vec<_>>();
        let from = patch.0.min(len);
        let patched = &patched[..patched.len().min(len - from)];
        let image = Overlay::new(&base, len as u64, [(from as u64, patched)]);
        let expected = image.bytes(0, len as u64).unwrap().into_owned();
        let lie = [
            Lie::None,
            Lie::Full(at),
            Lie::Flips(at),
            Lie::Loses(at),
            Lie::NoSync,
            Lie::Unreadable(at),
        ][usize::from(kind)];
        let targets: Vec<Ram> =
            (0..3).map(|i| Ram::new(len, if i == liar_at { lie } else { Lie::None })).collect();
        let done = run(&image, 0, &targets, SMALL, &());
        let chunk = |offset: u64| (offset..offset + SMALL.chunk).contains(&at);
        match (lie, done) {
            (Lie::None, done) => {
                done.unwrap();
                for target in &targets {
                    prop_assert_eq!(&*target.bytes.lock().unwrap(), &expected);
                }
            }
            (Lie::Full(_), Err(ReplicateError::Target { target, doing: "write", .. })) => {
                prop_assert_eq!(target, liar_at);
            }
            (Lie::NoSync, Err(ReplicateError::Target { target, doing: "sync", .. })) => {
                prop_assert_eq!(target, liar_at);
            }
            (Lie::Unreadable(_), Err(ReplicateError::Target { target, doing: "read back", offset, .. })) => {
                prop_assert!(target == liar_at && chunk(offset));
            }
            (Lie::Flips(_), Err(ReplicateError::Differs { target, offset, .. })) => {
                prop_assert!(target == liar_at && chunk(offset));
            }
            (Lie::Loses(_), Err(ReplicateError::Differs { target, offset, .. })) => {
                prop_assert!(target == liar_at && chunk(offset));
            }
            // What was lost was zeros.
            (Lie::Loses(_), Ok(_)) => {
                let kept = targets[liar_at].bytes.lock().unwrap();
                prop_assert_eq!(&*kept, &expected);
            }
            (lie, done) => prop_assert!(false, "{lie:?}: {done:?}"),
        }
    }
}

/// Stops after some looks.
struct Impatient(AtomicUsize);

impl Watch for Impatient {
    fn advance(&self, _bytes: u64) {}

    fn interrupted(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn it_stops_wherever_it_is_asked_to() {
    let base = patterned(64);
    let image = Overlay::new(&base, 64, []);
    // Eight chunks, written and read back: at the latest the sixteenth look asks it to stop.
    for looks in 0..16 {
        let targets = [Ram::new(64, Lie::None)];
        let done = run(&image, 0, &targets, SMALL, &Impatient(AtomicUsize::new(looks)));
        assert!(matches!(done, Err(ReplicateError::Interrupted)), "{looks}: {done:?}");
    }
}

/// Counts what it hears of.
struct Count(AtomicU64);

impl Watch for Count {
    fn advance(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn interrupted(&self) -> bool {
        false
    }
}

/// Real files, at every length that matters: none, less than a page, page sizes that `O_DIRECT` does not take, more
/// than a window.
#[test]
fn files_are_the_image_at_every_length() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [SIZES.chunk - 1024, SIZES.chunk, SIZES.window + 3 * 4096, SIZES.window + 5];
    for (case, len_bytes) in [0, 1, 4095, 4096, 9 * 1024].into_iter().chain(sizes).enumerate() {
        let base = patterned(usize::try_from(len_bytes).unwrap().saturating_sub(case * 700));
        let origin = dir.path().join("origin");
        fs::write(&origin, &base).unwrap();
        let source = Pread::new(File::open(&origin).unwrap()).unwrap();
        // The first bytes and the last, as metas and new pages are.
        let (first, last) = (vec![7; 100.min(base.len())], vec![9; 10.min(base.len())]);
        let patches = [(0, &first[..]), (len_bytes - last.len() as u64, &last[..])];
        let patches = patches.into_iter().filter(|(_, bytes)| !bytes.is_empty() && len_bytes > 200);
        let image = Overlay::new(&source, len_bytes, patches);
        let paths = ["a", "b"].map(|name| dir.path().join(format!("{name}{case}")));
        let files = [0, 1].map(|i| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).open(&paths[i]).unwrap()
        });
        let count = Count(AtomicU64::new(0));
        let targets = [(&files[0], paths[0].as_path()), (&files[1], paths[1].as_path())];
        let sums = replicate(&image, base.len() as u64, source.file(), &targets, &count).unwrap();
        assert_eq!(sums.image, integrity::chunk_sums(&image, len_bytes, &()).unwrap());
        let of_base = integrity::chunk_sums(&source, base.len() as u64, &()).unwrap();
        let copied = len_bytes.div_ceil(integrity::CHUNK_BYTES);
        assert_eq!(sums.base, of_base[..of_base.len().min(usize::try_from(copied).unwrap())]);
        assert_eq!(count.0.into_inner(), 4 * len_bytes);
        let expected = image.bytes(0, len_bytes).unwrap();
        for path in &paths {
            assert!(fs::read(path).unwrap() == *expected, "{len_bytes} bytes");
            fs::remove_file(path).unwrap();
        }
    }
}
