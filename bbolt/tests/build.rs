//! `build` against a model: the file holds exactly what was put in, in a shape no server dies of; and what must not be
//! put in leaves no database behind.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod build_common;
mod graft_common;

use std::io;

use bbolt::build::ElementError;
use bbolt::{
    Build, BuildError, BuildOptions, Db, Freelist, FreelistSync, LeafRange, OpenError, PageId, PageWriter,
    check,
};
use build_common::{Case, Event, assert_built, case, kept, read, tell, write};
use graft_common::{assert_shape, file_of, leaf_page};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Random programs of nested buckets, pairs of every length and discarded buckets, at every page size and fill.
    #[test]
    fn programs(case in case(true)) {
        assert_built(&case);
    }

    /// A key that does not ascend, wherever it comes, ends the build, and what was written is no database.
    #[test]
    fn order_is_kept(case in case(true), at in any::<prop::sample::Index>(), is_same in any::<bool>()) {
        let puts: Vec<_> =
            case.events.iter().enumerate().filter(|(_, event)| matches!(event, Event::Put { .. })).collect();
        prop_assume!(!puts.is_empty());
        let at = puts[at.index(puts.len())].0;
        let mut file = Vec::new();
        let mut build = Build::new(&mut file, case.options).unwrap();
        for event in &case.events[..=at] {
            tell(&mut build, event).unwrap();
        }
        let Event::Put { key, .. } = &case.events[at] else { unreachable!() };
        let low = if is_same { key.as_slice() } else { &key[..7] };
        let result = if is_same { build.put(low, b"") } else { build.begin_bucket(low) };
        prop_assert!(matches!(result, Err(BuildError::NotAscending { .. })), "{:?}", result);
        prop_assert!(matches!(build.put(&[0xFF; 9], b""), Err(BuildError::AfterError)));
        prop_assert!(matches!(build.end_bucket(), Err(BuildError::AfterError)));
        prop_assert!(matches!(build.finish(), Err(BuildError::AfterError)));
        assert_no_db(&file);
    }
}

/// With 1 KiB pages, keys of 17 bytes and values of 400, a leaf takes two pairs and a branch 30 children.
const PAGE: u32 = 1024;
const VALUE: usize = 400;
const FAN_OUT: usize = 30;

fn small_pages() -> BuildOptions {
    BuildOptions { page_size: PAGE, ..BuildOptions::default() }
}

/// One bucket of pairs of one length.
fn uniform(count: usize, key_bytes: usize, value_bytes: usize) -> Case {
    let mut events = vec![Event::Begin { name: b"key".to_vec(), sequence: 0 }];
    for number in 0..count as u64 {
        let mut key = number.to_be_bytes().to_vec();
        key.resize(key_bytes, b'_');
        events.push(Event::Put { key, value: vec![b'v'; value_bytes] });
    }
    events.push(Event::End);
    Case { options: small_pages(), root_sequence: 0, events }
}

/// A killer shape hides where a level is left with one page more than its parents hold.
#[test]
fn shapes_around_the_fan_out() {
    let mut counts = vec![(1, 1), (2, 2), (3, 2)];
    for (middle, depth) in
        [(FAN_OUT, 2), (2 * FAN_OUT, 3), (FAN_OUT * FAN_OUT, 3), (FAN_OUT * FAN_OUT + FAN_OUT, 4)]
    {
        counts.extend([(middle - 1, depth), (middle, depth)]);
        let deeper = if middle == FAN_OUT || middle == FAN_OUT * FAN_OUT { depth + 1 } else { depth };
        counts.extend([(middle + 1, deeper), (middle + 2, deeper)]);
    }
    for (leaves, depth) in counts {
        for pairs in [2 * leaves - 1, 2 * leaves] {
            let file = assert_built(&uniform(pairs, 17, VALUE));
            let db = Db::from_source(file.as_slice()).unwrap();
            let bucket = db.bucket(b"key").unwrap().unwrap();
            let found: usize = bucket.leaf_ranges(1).unwrap().iter().map(LeafRange::leaf_count).sum();
            // A last pair alone joins the leaf before it, which is then a page and a half, or takes one of its pairs.
            assert!(found == leaves || (pairs % 2 == 1 && found + 1 == leaves), "{found} of {leaves} leaves");
            if found == leaves {
                assert_eq!(check(&db, &()).statistics.depth, depth, "{leaves} leaves");
            }
        }
    }
}

/// Long keys make branches of two and three children, so that every small number of pairs is an edge somewhere.
#[test]
fn every_size_with_few_children_a_branch() {
    for (key_bytes, value_bytes) in [(300, 0), (300, 700), (500, 20), (2000, 1)] {
        for count in 0..72 {
            assert_built(&uniform(count, key_bytes, value_bytes));
        }
    }
}

/// Every leaf takes pairs until one more would exceed the fill, but the first, which may not be cut off while the bucket
/// could still become inline, and the last.
#[test]
fn leaves_are_as_full_as_asked() {
    const PAIR: u64 = 16 + 8 + 20;
    for leaf_fill_percent in [10, 25, 50, 75, 90, 100] {
        let mut case = uniform(2000, 8, 20);
        case.options = BuildOptions { leaf_fill_percent, ..BuildOptions::default() };
        let file = assert_built(&case);
        let db = Db::from_source(file.as_slice()).unwrap();
        let ranges = db.bucket(b"key").unwrap().unwrap().leaf_ranges(1).unwrap();
        let used: Vec<_> = ranges[0].nodes().map(|node| node.unwrap().used_bytes()).collect();
        let fill = 4096 * u64::from(leaf_fill_percent) / 100;
        let [first, full @ .., last] = used.as_slice() else { panic!("{} leaves", used.len()) };
        assert!(full.len() > 10 && full.iter().all(|used| *used <= fill && used + PAIR > fill), "{used:?}");
        let fill = fill.max(1024);
        assert!(*first <= fill && first + PAIR > fill && *last <= fill, "{used:?}");
    }
}

/// From where on bbolt gives a bucket pages of its own: one byte more than a quarter of a page, at any fill.
#[test]
fn inline_up_to_a_quarter_of_a_page() {
    for leaf_fill_percent in [10, 50, 90, 100] {
        for (value_bytes, inline) in [(255 - 16 - 33, 1), (256 - 16 - 33, 1), (257 - 16 - 33, 0)] {
            let mut case = uniform(1, 17, value_bytes);
            case.options.leaf_fill_percent = leaf_fill_percent;
            let file = assert_built(&case);
            let report = check(&Db::from_source(file.as_slice()).unwrap(), &());
            assert_eq!(report.statistics.inline_buckets, inline, "{value_bytes} bytes");
        }
        // In many small pairs, which a low fill would have cut into pages before that.
        for (count, inline) in [(10, 1), (11, 0)] {
            let mut case = uniform(count, 8, 0);
            case.options.leaf_fill_percent = leaf_fill_percent;
            let file = assert_built(&case);
            let report = check(&Db::from_source(file.as_slice()).unwrap(), &());
            assert_eq!(
                report.statistics.inline_buckets, inline,
                "{count} pairs, {leaf_fill_percent} percent"
            );
        }
    }
}

/// No bucket at all: a root that is an empty leaf, as in a file bbolt has just made.
#[test]
fn nothing_but_a_root() {
    let case = Case { options: BuildOptions::default(), root_sequence: 0, events: Vec::new() };
    assert_eq!(assert_built(&case).len(), 3 * 4096);
}

/// The shortest file of the smallest pages is one page longer than it needs: bbolt up to 1.3.6 opens none of less than
/// 4096 bytes.
#[test]
fn no_file_is_too_short_for_old_versions() {
    let case = Case { options: small_pages(), root_sequence: 0, events: Vec::new() };
    assert_eq!(assert_built(&case).len(), 4096);
}

/// An empty bucket is inline; with a bucket in it, it is a tree.
#[test]
fn empty_buckets() {
    let begin = |name: &[u8]| Event::Begin { name: name.to_vec(), sequence: 7 };
    let events = vec![begin(b"a"), Event::End, begin(b"b"), begin(b"c"), Event::End, Event::End];
    let file = assert_built(&Case { options: small_pages(), root_sequence: 9, events });
    let report = check(&Db::from_source(file.as_slice()).unwrap(), &());
    assert_eq!((report.statistics.buckets, report.statistics.inline_buckets), (3, 2));
}

/// What holds every file of these tests against the rules knows this one: bbolt puts no bucket inline that has another
/// in it.
#[test]
#[should_panic(expected = "element 1 of an inline bucket is a bucket")]
fn a_bucket_in_an_inline_bucket_is_seen() {
    let inline = |elements: &[(u32, &[u8], &[u8])]| [vec![0; 16], leaf_page(0, 0, elements)].concat();
    let outer = inline(&[(0, b"a", b"pair"), (1, b"b", &inline(&[]))]);
    let root = leaf_page(2, PAGE as usize, &[(1, b"outer", &outer)]);
    assert_shape(&file_of(PAGE, [Some(0), Some(1)], &[root]));
}

/// Buckets in buckets, deeper than any level of recursion would bear that takes a page of stack.
#[test]
fn deep_nesting() {
    let begin = Event::Begin { name: b"b".to_vec(), sequence: 0 };
    let mut events = vec![begin; 3000];
    events.extend(vec![Event::End; 3000]);
    let file = assert_built(&Case { options: small_pages(), root_sequence: 0, events });
    assert_eq!(check(&Db::from_source(file.as_slice()).unwrap(), &()).statistics.buckets, 3000);
}

/// A discarded bucket of one value that takes `pages` pages, between two that stay.
fn with_free_pages(pages: usize) -> Case {
    let bucket = |name: &[u8], value_bytes: usize, end: Event| {
        let value = vec![0xA5; value_bytes];
        [Event::Begin { name: name.to_vec(), sequence: 0 }, Event::Put { key: b"k".to_vec(), value }, end]
    };
    let events = [
        bucket(b"a", 500, Event::End),
        bucket(b"b", pages * PAGE as usize - 33, Event::Discard),
        bucket(b"c", 500, Event::End),
    ];
    let options = BuildOptions { freelist: FreelistSync::Persisted, ..small_pages() };
    Case { options, root_sequence: 0, events: events.concat() }
}

fn freelist(file: &[u8]) -> (u32, Vec<PageId>) {
    match Db::from_source(file).unwrap().freelist().unwrap() {
        Freelist::Persisted { overflow, free, .. } => (overflow, free),
        Freelist::NotPersisted => panic!("no freelist"),
    }
}

/// Freelists of nothing, a page, and around a page that is just full: bbolt gives that one a further page.
#[test]
fn freelists() {
    let (overflow, free) = freelist(&assert_built(&Case {
        options: BuildOptions { freelist: FreelistSync::Persisted, ..small_pages() },
        root_sequence: 0,
        events: Vec::new(),
    }));
    assert_eq!((overflow, free.len()), (0, 0));
    for (pages, expected_overflow) in [(1, 0), (125, 0), (126, 1), (127, 1)] {
        let (overflow, free) = freelist(&assert_built(&with_free_pages(pages)));
        assert_eq!(overflow, expected_overflow, "{pages} pages");
        let expected: Vec<_> = (3..3 + pages as u64).map(PageId).collect();
        assert_eq!(free, expected);
    }
}

/// From 65,535 ids on, the count no longer fits its field and is the first id.
#[test]
fn freelists_beyond_the_count() {
    for (pages, count) in [(65_534, 65_534), (65_535, 0xFFFF), (65_600, 0xFFFF)] {
        let file = assert_built(&with_free_pages(pages));
        let db = Db::from_source(file.as_slice()).unwrap();
        assert_eq!(db.header(PageId(db.meta().freelist)).unwrap().count, count);
        assert_eq!(freelist(&file).1.len(), pages);
    }
}

/// Runs of free pages between the leaves of one bucket, as deleting leaves them; buckets in a discarded one go with it.
#[test]
fn discarded_between_leaves() {
    let mut case = uniform(200, 17, VALUE);
    let mut events = Vec::new();
    for (index, event) in case.events.into_iter().enumerate() {
        let Event::Put { key, .. } = &event else {
            events.push(event);
            continue;
        };
        let name = [key.as_slice(), b"~"].concat();
        let value = vec![1; 3000];
        events.push(event.clone());
        if index % 5 == 0 {
            events.push(Event::Begin { name: name.clone(), sequence: 0 });
            events.push(Event::Begin { name: b"in".to_vec(), sequence: 0 });
            events.push(Event::Put { key: b"k".to_vec(), value: value.clone() });
            events.push(if index % 2 == 0 { Event::End } else { Event::Discard });
            events.push(Event::Put { key: b"k".to_vec(), value });
            events.push(Event::Discard);
        }
    }
    case.events = events;
    case.options.freelist = FreelistSync::Persisted;
    let (_, free) = freelist(&assert_built(&case));
    let runs = free.windows(2).filter(|pair| pair[0].0 + 1 < pair[1].0).count() + 1;
    // Three pages a value, twice, and the outer bucket's root where the inner one is in it.
    assert!(free.len() >= 40 * 6 && runs >= 30, "{} pages in {runs} runs", free.len());
}

fn assert_no_db(file: &[u8]) {
    let result = Db::from_source(file);
    assert!(matches!(result, Err(OpenError::NoMeta { .. } | OpenError::TooSmall { .. })), "{result:?}");
}

/// What must not be put in, behind `a` in bucket `b` and `m` in bucket `b/c`: each is an error that names its place, and
/// ends the file.
#[test]
fn what_is_refused() {
    type Step = fn(&mut Build<&mut Vec<u8>>) -> Result<(), BuildError>;
    let long = "k".repeat(32_769);
    let shown = |name: &str| bbolt::fault::readable(name.as_bytes());
    let cases: [(Step, String); 11] = [
        (
            |b| b.put(b"l", b""),
            r#"bucket "b"/"c": key "l" is not greater than "m", the key before it"#.into(),
        ),
        (
            |b| b.put(b"m", b""),
            r#"bucket "b"/"c": key "m" is not greater than "m", the key before it"#.into(),
        ),
        (
            |b| b.begin_bucket(b"m"),
            r#"bucket "b"/"c": key "m" is not greater than "m", the key before it"#.into(),
        ),
        (
            |b| b.end_bucket().and_then(|()| b.put(b"c", b"")),
            r#"bucket "b": key "c" is not greater than "c", the key before it"#.into(),
        ),
        (
            |b| b.end_bucket().and_then(|()| b.end_bucket()).and_then(|()| b.begin_bucket(b"b")),
            r#"root bucket: key "b" is not greater than "b", the key before it"#.into(),
        ),
        (|b| b.put(b"", b""), format!(r#"bucket "b"/"c", key {}: the key is empty"#, shown(""))),
        (|b| b.begin_bucket(b""), format!(r#"bucket "b"/"c", key {}: the key is empty"#, shown(""))),
        (
            |b| b.put("k".repeat(32_769).as_bytes(), b""),
            format!(
                r#"bucket "b"/"c", key {}: the key has 32769 bytes; at most 32768 are allowed"#,
                shown(&long)
            ),
        ),
        (
            |b| b.begin_bucket("k".repeat(32_769).as_bytes()),
            format!(
                r#"bucket "b"/"c", key {}: the key has 32769 bytes; at most 32768 are allowed"#,
                shown(&long)
            ),
        ),
        (
            |b| b.end_bucket().and_then(|()| b.end_bucket()).and_then(|()| b.put(b"x", b"")),
            r#"key "x" is in no bucket"#.into(),
        ),
        (
            |b| b.end_bucket().and_then(|()| b.discard_bucket()).and_then(|()| b.discard_bucket()),
            "no bucket is open".into(),
        ),
    ];
    for (step, expected) in cases {
        let mut file = Vec::new();
        let mut build = Build::new(&mut file, small_pages()).unwrap();
        build.begin_bucket(b"b").unwrap();
        build.put(b"a", b"1").unwrap();
        build.begin_bucket(b"c").unwrap();
        build.put(b"m", b"1").unwrap();
        assert_eq!(step(&mut build).unwrap_err().to_string(), expected);
        assert!(matches!(build.finish(), Err(BuildError::AfterError)), "{expected}");
        assert_no_db(&file);
    }
}

/// A value of 2 GiB less one byte is too long by one. Zeroed memory costs nothing until it is touched.
#[test]
fn too_long_a_value() {
    let value = vec![0; 0x7FFF_FFFF];
    let mut file = Vec::new();
    let mut build = Build::new(&mut file, small_pages()).unwrap();
    build.begin_bucket(b"b").unwrap();
    let error = build.put(b"k", &value).unwrap_err();
    let BuildError::Element { source, .. } = error else { panic!("{error}") };
    assert_eq!(source, ElementError::ValueTooLong { len_bytes: value.len() });
}

/// The name of a discarded bucket is free again, and one that is smaller still fits.
#[test]
fn names_after_a_discarded_bucket() {
    let begin = |name: &[u8]| Event::Begin { name: name.to_vec(), sequence: 0 };
    let events = vec![
        begin(b"m"),
        Event::Discard,
        begin(b"m"),
        Event::Discard,
        begin(b"a"),
        Event::End,
        begin(b"m"),
        Event::End,
    ];
    assert_built(&Case { options: small_pages(), root_sequence: 0, events });
}

#[test]
fn a_bucket_left_open() {
    let mut file = Vec::new();
    let mut build = Build::new(&mut file, small_pages()).unwrap();
    build.begin_bucket(b"b").unwrap();
    build.begin_bucket(b"c").unwrap();
    assert_eq!(build.finish().unwrap_err().to_string(), r#"bucket "b"/"c" is still open"#);
    assert_no_db(&file);
}

#[test]
fn options_out_of_bounds() {
    let refused = |options| Build::new(Vec::new(), options).map(|_| ()).unwrap_err();
    for page_size in [0, 1, 512, 1000, 1025, 4095, 131_072, u32::MAX] {
        let error = refused(BuildOptions { page_size, ..small_pages() });
        assert!(matches!(error, BuildError::PageSize { found } if found == page_size), "{error}");
    }
    for leaf_fill_percent in [0, 9, 101, 255] {
        let error = refused(BuildOptions { leaf_fill_percent, ..small_pages() });
        assert!(matches!(error, BuildError::LeafFill { found } if found == leaf_fill_percent), "{error}");
    }
    for txid in [0, u64::MAX] {
        let error = refused(BuildOptions { txid, ..small_pages() });
        assert!(matches!(error, BuildError::Txid { found } if found == txid), "{error}");
    }
}

/// A disk that is full after so many bytes; what fits of a write arrives. With `is_full_once`, room is found again after
/// the first error.
struct Disk {
    file: Vec<u8>,
    left_bytes: usize,
    is_full_once: bool,
    writes: Vec<(u64, usize)>,
}

impl Disk {
    fn new(left_bytes: usize, is_full_once: bool) -> Self {
        Self { file: Vec::new(), left_bytes, is_full_once, writes: Vec::new() }
    }
}

impl PageWriter for Disk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writes.push((offset, bytes.len()));
        let fits = bytes.len().min(self.left_bytes);
        self.left_bytes -= fits;
        self.file.write_at(offset, &bytes[..fits])?;
        if fits == bytes.len() {
            return Ok(());
        }
        if self.is_full_once {
            self.left_bytes = usize::MAX;
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

/// Several megabytes, so that there are writes between the first and the last.
fn several_writes() -> Case {
    let mut case = uniform(4, 17, 900_000);
    case.options.page_size = 4096;
    case
}

/// In order, without a gap, each byte once, but for the metas, which are the last write.
#[test]
fn writes_come_in_one_pass() {
    let mut disk = Disk::new(usize::MAX, false);
    let built = write(&mut disk, &several_writes()).unwrap();
    let (last, pass) = disk.writes.split_last().unwrap();
    assert_eq!(*last, (0, 8192));
    let mut end = 0;
    for (offset, len) in pass {
        assert_eq!(*offset, end);
        end += *len as u64;
    }
    assert_eq!(end, built.len_bytes);
    assert!(pass.len() > 4, "{} writes", pass.len());
}

/// Writes `several_writes` to a disk that is full after `left_bytes`: the error says where. Returns what is on the disk.
fn on_a_full_disk(case: &Case, left_bytes: usize, is_full_once: bool) -> Vec<u8> {
    let mut disk = Disk::new(left_bytes, is_full_once);
    let error = write(&mut disk, case).unwrap_err();
    let BuildError::Io { offset, len_bytes, source } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert!(disk.writes.contains(&(*offset, usize::try_from(*len_bytes).unwrap())));
    disk.file
}

/// A disk that is full at any page, for once or for good, and within the metas at any byte: an error that says where,
/// and no database.
#[test]
fn full_disks() {
    let case = several_writes();
    let built = write(Vec::new(), &case).unwrap();
    let len = usize::try_from(built.len_bytes).unwrap();
    let all = len + 8192;
    let before_metas = || (0..len).step_by(100 * 4096).chain([1, 8191, 8192, 8193, len - 1, len]);
    for size in before_metas().chain((len..all).step_by(512)).chain([all - 1]) {
        assert_no_db(&on_a_full_disk(&case, size, true));
    }
    for size in before_metas() {
        assert_no_db(&on_a_full_disk(&case, size, false));
    }
    assert!(write(&mut Disk::new(all, false), &case).is_ok());
}

/// A disk that is full for good within the metas, where not even zeros get through: what then opens, all of it was
/// written before, is the whole database.
#[test]
fn a_disk_full_within_the_metas() {
    let case = several_writes();
    let len = usize::try_from(write(Vec::new(), &case).unwrap().len_bytes).unwrap();
    let mut whole = 0;
    for written in [1, 16, 79, 80, 4096, 8191] {
        let file = on_a_full_disk(&case, len + written, false);
        if written < 80 {
            assert_no_db(&file);
            continue;
        }
        assert!(check(&Db::from_source(file.as_slice()).unwrap(), &()).is_sound());
        assert!(read(&file) == kept(&case.events), "{written} bytes of the metas");
        whole += 1;
    }
    assert_eq!(whole, 3);
}

/// The same bytes in a file as in memory.
#[test]
fn into_a_file() {
    let case = several_writes();
    let mut memory = Vec::new();
    let expected = write(&mut memory, &case).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let file = std::fs::File::create_new(&path).unwrap();
    assert_eq!(write(&file, &case).unwrap(), expected);
    assert_eq!(write(file, &case).unwrap(), expected, "a second time over the same bytes");
    assert!(std::fs::read(&path).unwrap() == memory);
}
