//! That `build` needs no memory that grows with the file. Alone in its program: it counts every allocation.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bbolt::{Build, BuildOptions, PageWriter};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Held by each test: there is one heap.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

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
    let _alone = alone();
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

/// Values of 8 MiB and some shorter ones in three buckets, each in the one before: no bucket that is open holds more than
/// four of the long ones, however many there are, or seven while they are moved.
#[test]
fn four_long_values_in_each_open_bucket() {
    const VALUE: usize = 8 << 20;
    const BUCKETS: usize = 3;
    let _alone = alone();
    let mut writer = Nowhere(0);
    let value = vec![7; VALUE];
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let mut build = Build::new(&mut writer, BuildOptions::default()).unwrap();
    let mut most = 0;
    let mut put_some = |build: &mut Build<&mut Nowhere>, prefix: u8| {
        for number in 0..8 {
            // Lengths with which doubling the room as it runs out would make that of six values.
            let len = [VALUE / 2, VALUE, VALUE, VALUE, VALUE, 1, VALUE, VALUE][number];
            build.put(&[prefix, b'0' + u8::try_from(number).unwrap()], &value[..len]).unwrap();
            most = most.max(HEAP.current_usage() - before);
        }
    };
    for _ in 0..BUCKETS {
        build.begin_bucket(b"m").unwrap();
        put_some(&mut build, b'a');
    }
    for _ in 0..BUCKETS {
        put_some(&mut build, b'n');
        build.end_bucket().unwrap();
    }
    let built = build.finish().unwrap();
    let peak = HEAP.peak_usage() - before;
    assert!(built.len_bytes > (BUCKETS * 13 * VALUE) as u64, "{} bytes", built.len_bytes);
    let four_each = BUCKETS * 4 * VALUE + (3 << 20);
    assert!(most > VALUE && most <= four_each, "{most} bytes of heap");
    assert!(peak <= four_each + 3 * VALUE, "{peak} bytes of heap");
}
