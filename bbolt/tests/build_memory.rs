//! That `build` needs no memory that grows with the file. Alone in its program: it counts every allocation.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io;

use bbolt::{Build, BuildOptions, PageWriter};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Counts and forgets.
struct Nowhere(u64);

impl PageWriter for Nowhere {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0 = self.0.max(offset + bytes.len() as u64);
        Ok(())
    }
}

/// 96 MiB of pairs in a nested bucket, with free pages between them, through a heap of less than 3 MiB.
#[test]
fn memory_does_not_grow_with_the_file() {
    let mut writer = Nowhere(0);
    let value = vec![7; 700];
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let mut build = Build::new(&mut writer, BuildOptions::default()).unwrap();
    build.begin_bucket(b"outer").unwrap();
    build.begin_bucket(b"inner").unwrap();
    for number in 0..140_000u64 {
        let key = number.to_be_bytes();
        build.put(&key, &value).unwrap();
        if number % 1000 == 0 {
            build.begin_bucket(&[key.as_slice(), b"~"].concat()).unwrap();
            build.put(b"k", &value).unwrap();
            build.put(b"l", &value).unwrap();
            build.discard_bucket().unwrap();
        }
    }
    build.end_bucket().unwrap();
    build.end_bucket().unwrap();
    let built = build.finish().unwrap();
    let peak = HEAP.peak_usage() - before;
    assert_eq!(built.len_bytes, writer.0);
    assert!(built.len_bytes > 96 << 20, "{} bytes", built.len_bytes);
    assert!(peak < 3 << 20, "{peak} bytes of heap");
}
