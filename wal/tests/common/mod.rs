//! Golden files, unpacked.

use std::path::PathBuf;

/// A file of `tests/golden`, decompressed when its name ends in `.zst`.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if name.ends_with(".zst") {
        zstd::decode_all(bytes.as_slice()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    } else {
        bytes
    }
}
