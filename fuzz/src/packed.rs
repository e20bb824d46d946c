//! Compressed inputs.

use std::io::Write;

use snapshot::input::{InputOptions, open};

/// Most bytes that may come out.
const MOST_BYTES: u64 = 1 << 20;

/// Unpacks a file as gzip, zstd, zip or nothing, within bounds.
pub(crate) fn input(bytes: &[u8]) {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    let options = InputOptions { max_bytes: Some(MOST_BYTES), ..InputOptions::default() };
    if let Ok(input) = open(file.path(), &options, &()) {
        let unpacked = input.file.metadata().map(|found| found.len()).unwrap_or_default();
        assert_eq!(unpacked, input.len_bytes);
        assert!(unpacked <= MOST_BYTES.max(bytes.len() as u64), "{unpacked} bytes came out");
    }
}
