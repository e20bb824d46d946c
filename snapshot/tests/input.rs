//! Inputs as people have them: plain, packed, cut, lying about themselves.
#![allow(clippy::expect_used, reason = "a helper of a test fails as a test does")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use snapshot::copy::SpaceError;
use snapshot::input::{self, Container, Input, InputError, InputOptions};

/// A directory for inputs and one for what is unpacked; the latter must always end up empty.
struct Bench {
    dir: tempfile::TempDir,
    tmp: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = || tempfile::tempdir().expect("a directory");
        Bench { dir: dir(), tmp: dir() }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    }

    fn options(&self) -> InputOptions {
        InputOptions { tmp_dir: self.tmp.path().to_owned(), ..InputOptions::default() }
    }

    fn open(&self, path: &Path) -> Result<Input, InputError> {
        let stamp = || {
            fs::metadata(path).map(|m| (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.len())).ok()
        };
        let before = stamp();
        let result = input::open(path, &self.options(), &());
        assert_eq!(stamp(), before, "the input was touched");
        assert_eq!(fs::read_dir(self.tmp.path()).expect("listed").count(), 0, "something was left behind");
        result
    }

    fn refused(&self, name: &str, bytes: &[u8]) -> InputError {
        self.open(&self.write(name, bytes)).expect_err(name)
    }
}

fn content(input: &Input) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(input.len_bytes).expect("small")];
    input.file.read_exact_at(&mut bytes, 0).expect("as long as it says");
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(bytes).expect("packed");
    writer.finish().expect("packed")
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("packed")
}

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = zip::write::SimpleFileOptions::default();
        if name.ends_with('/') {
            writer.add_directory(*name, options).expect("packed");
        } else {
            writer.start_file(*name, options).expect("packed");
            writer.write_all(bytes).expect("packed");
        }
    }
    writer.finish().expect("packed").into_inner()
}

fn tar() -> Vec<u8> {
    let mut header = vec![0; 1024];
    header[..4].copy_from_slice(b"a.db");
    header[257..265].copy_from_slice(b"ustar\x0000");
    header
}

#[test]
fn each_kind_is_known_by_its_bytes_whatever_its_name() {
    let bench = Bench::new();
    let db = b"not packed at all".repeat(1000);
    for (name, bytes, container) in [
        ("plain.gz", db.clone(), Container::Plain),
        ("snapshot.db", gz(&db), Container::Gzip),
        ("two-members.gz", [gz(&db[..5000]), gz(&db[5000..])].concat(), Container::Gzip),
        ("snapshot.zst", zst(&db), Container::Zstd),
        ("two-frames", [zst(&db[..5000]), zst(&db[5000..])].concat(), Container::Zstd),
        (
            "rke.zip",
            zipped(&[("backup/", b""), ("backup/../etcd", &db)]),
            Container::Zip { entry: "backup/../etcd".into() },
        ),
    ] {
        let input = bench.open(&bench.write(name, &bytes)).expect(name);
        assert_eq!(input.container, container, "{name}");
        assert_eq!(content(&input), db, "{name}");
        assert!(input.description().contains("17000 bytes"), "{}", input.description());
    }
}

#[test]
fn what_is_no_input_is_named() {
    let bench = Bench::new();
    assert!(matches!(bench.open(bench.dir.path()), Err(InputError::Directory(_))));
    assert!(matches!(bench.open(Path::new("/dev/null")), Err(InputError::NotAFile(_))));
    assert!(matches!(bench.open(&bench.dir.path().join("absent")), Err(InputError::Io { .. })));
    assert!(matches!(bench.refused("empty", b""), InputError::Empty(_)));
    assert!(matches!(bench.refused("empty.gz", &gz(b"")), InputError::Empty(_)));
    assert!(matches!(bench.refused("empty.zst", &zst(b"")), InputError::Empty(_)));
    let part = bench.refused("snapshot.db.part", b"x");
    assert!(part.to_string().contains("unfinished download"), "{part}");
    for (name, bytes) in [
        ("a.tar", tar()),
        ("a.tar.gz", gz(&tar())),
        ("a.tar.zst", zst(&tar())),
        ("a.zip", zipped(&[("a.tar", &tar())])),
    ] {
        assert!(matches!(bench.refused(name, &bytes), InputError::Tar(_)), "{name}");
    }
    for (bytes, kind) in [
        (&b"\xfd7zXZ\0"[..], "xz"),
        (b"BZh91AY", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
    ] {
        assert!(matches!(bench.refused("x", bytes), InputError::Unsupported { kind: k, .. } if k == kind));
    }
    assert!(matches!(bench.refused("x.gz.gz", &gz(&gz(b"x"))), InputError::Nested { kind: "gzip", .. }));
    for entries in [&[][..], &[("only-a-dir/", &b""[..])], &[("a", b"1"), ("b", b"2")]] {
        let want = entries.iter().filter(|(name, _)| !name.ends_with('/')).count();
        assert!(
            matches!(bench.refused("x.zip", &zipped(entries)), InputError::ZipEntries { files, .. } if files == want)
        );
    }
}

#[test]
fn what_is_cut_or_flipped_says_so() {
    let bench = Bench::new();
    let db: Vec<u8> = (0..100_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for (name, packed) in [("x.gz", gz(&db)), ("x.zst", zst(&db)), ("x.zip", zipped(&[("db", &db)]))] {
        for len in [packed.len() - 1, packed.len() / 2, 20] {
            let error = bench.refused(name, &packed[..len]);
            assert!(matches!(error, InputError::Corrupt { .. }), "{name} cut to {len}: {error}");
        }
        if name != "x.zst" {
            // zstd's own tool writes a checksum; its library, asked for nothing, does not.
            let mut flipped = packed.clone();
            flipped[packed.len() / 2] ^= 0x10;
            assert!(matches!(bench.refused(name, &flipped), InputError::Corrupt { .. }), "{name}");
        }
    }
    assert!(matches!(
        bench.refused("x.gz", &[gz(b"x"), b"trailing".to_vec()].concat()),
        InputError::Corrupt { .. }
    ));
}

#[test]
fn bombs_are_bounded_by_ratio_limit_and_room() {
    let bench = Bench::new();
    let zeros = vec![0; 8 << 20];
    let tight = InputOptions { ratio_floor_bytes: 1 << 20, ..bench.options() };
    let limited = InputOptions { max_bytes: Some(1 << 20), ..bench.options() };
    let full = InputOptions { reserve_bytes: u64::MAX, ..bench.options() };
    for (name, packed) in [("z.gz", gz(&zeros)), ("z.zst", zst(&zeros)), ("z.zip", zipped(&[("db", &zeros)]))]
    {
        let path = bench.write(name, &packed);
        assert_eq!(bench.open(&path).expect("small enough by default").len_bytes, 8 << 20, "{name}");
        let bomb = input::open(&path, &tight, &()).expect_err(name);
        assert!(matches!(bomb, InputError::Bomb { out_bytes, .. } if out_bytes <= 3 << 20), "{name}: {bomb}");
        assert!(matches!(input::open(&path, &limited, &()), Err(InputError::TooLong { .. })), "{name}");
        assert!(
            matches!(input::open(&path, &full, &()), Err(InputError::Space(SpaceError::Full { .. }))),
            "{name}"
        );
    }
    // Ratios are no matter for what is not packed.
    assert!(input::open(&bench.write("plain", &zeros), &tight, &()).is_ok());
    assert_eq!(fs::read_dir(bench.tmp.path()).expect("listed").count(), 0);
}

#[test]
fn the_user_is_told_and_can_stop() {
    struct Stop {
        told: AtomicU64,
        stop: bool,
    }
    impl bbolt::Watch for Stop {
        fn advance(&self, bytes: u64) {
            self.told.fetch_add(bytes, Ordering::Relaxed);
        }
        fn interrupted(&self) -> bool {
            self.stop
        }
    }
    let bench = Bench::new();
    let path = bench.write("x.gz", &gz(&[7; 1 << 20]));
    let watch = Stop { told: AtomicU64::new(0), stop: false };
    drop(input::open(&path, &bench.options(), &watch).expect("opened"));
    assert_eq!(watch.told.into_inner(), fs::metadata(&path).expect("there").len());
    let watch = Stop { told: AtomicU64::new(0), stop: true };
    assert!(matches!(input::open(&path, &bench.options(), &watch), Err(InputError::Interrupted)));
    assert_eq!(fs::read_dir(bench.tmp.path()).expect("listed").count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn packing_and_opening_is_the_identity(bytes in prop::collection::vec(1u8..0x1f, 1..5000), cut: prop::sample::Index) {
        // Bytes that form no magic number.
        let bench = Bench::new();
        let at = cut.index(bytes.len());
        for packed in [gz(&bytes), [gz(&bytes[..at]), gz(&bytes[at..])].concat(), zst(&bytes), zipped(&[("x", &bytes)])] {
            prop_assert_eq!(content(&bench.open(&bench.write("x", &packed)).expect("ours")), bytes.clone());
        }
    }

    #[test]
    fn any_bytes_behind_a_magic_number_end_in_an_answer(magic in 0usize..3, tail: Vec<u8>) {
        let bench = Bench::new();
        let start: [&[u8]; 3] = [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"];
        let bytes = [start[magic], &tail].concat();
        prop_assert!(bench.open(&bench.write("x", &bytes)).is_err());
    }
}
