//! Random programs for `Build`, what a reader must find afterwards, and a judge of the result that shares no code with
//! the writer: its shapes are those of `graft_common::assert_shape`.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use bbolt::meta::NO_FREELIST;
use bbolt::{Build, BuildError, BuildOptions, Built, Db, Freelist, FreelistSync, PageWriter, check};
use proptest::prelude::*;

use crate::graft_common::assert_shape;

/// What is told to the writer, and what a walk in key order meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Begin {
        name: Vec<u8>,
        sequence: u64,
    },
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    End,
    /// Never read back.
    Discard,
}

/// One step of a random program.
#[derive(Debug, Clone)]
enum Step {
    Begin { name_bytes: usize, sequence: u64 },
    Pairs { count: usize, key_bytes: usize, value_bytes: usize, seed: u64 },
    End,
    Discard,
}

/// A random program and how it is built.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) options: BuildOptions,
    pub(crate) root_sequence: u64,
    pub(crate) events: Vec<Event>,
}

pub(crate) fn options() -> impl Strategy<Value = BuildOptions> {
    let txid =
        prop_oneof![3 => Just(2), 2 => 1u64..100, 1 => any::<u64>().prop_map(|n| n.clamp(1, u64::MAX - 1))];
    let fill = prop_oneof![1 => Just(90u8), 1 => Just(100), 3 => 10u8..=100];
    // Small pages more often: they make high trees of few pairs.
    let page = prop_oneof![3 => Just(10u32), 2 => 10u32..=16];
    (page, fill, any::<bool>(), txid).prop_map(|(page, leaf_fill_percent, is_persisted, txid)| BuildOptions {
        page_size: 1 << page,
        leaf_fill_percent,
        freelist: if is_persisted { FreelistSync::Persisted } else { FreelistSync::NotPersisted },
        txid,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let count = prop_oneof![4 => 0usize..6, 4 => 0usize..80, 2 => 0usize..1500];
    let key_bytes = prop_oneof![6 => 8usize..40, 3 => 8usize..700, 1 => 8usize..=32_768];
    let value_bytes =
        prop_oneof![6 => 0usize..80, 3 => 0usize..1200, 2 => 0usize..9000, 1 => 0usize..200_000];
    let pairs =
        (count, key_bytes, value_bytes, any::<u64>()).prop_map(|(count, key_bytes, value_bytes, seed)| {
            // At most about half a megabyte a step.
            let count = count.min((1 << 19) / (key_bytes + value_bytes));
            Step::Pairs { count, key_bytes, value_bytes, seed }
        });
    let sequence = prop_oneof![3 => Just(0), 1 => any::<u64>()];
    prop_oneof![
        3 => (8usize..60, sequence).prop_map(|(name_bytes, sequence)| Step::Begin { name_bytes, sequence }),
        6 => pairs,
        3 => Just(Step::End),
        2 => Just(Step::Discard),
    ]
}

pub(crate) fn case(may_nest: bool) -> impl Strategy<Value = Case> {
    let root_sequence = prop_oneof![3 => Just(0), 1 => any::<u64>()];
    (options(), root_sequence, prop::collection::vec(step(), 0..24)).prop_map(
        move |(options, root_sequence, steps)| Case { options, root_sequence, events: run(&steps, may_nest) },
    )
}

/// Knuth's MMIX generator; the upper bits are the good ones.
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

/// Turns steps into events whose keys ascend and whose buckets are all ended.
fn run(steps: &[Step], may_nest: bool) -> Vec<Event> {
    let mut events = Vec::new();
    // The next number of each open bucket, the root bucket's first.
    let mut numbers = vec![0u64];
    let key = |number: &mut u64, len: usize| {
        *number += 1;
        let mut key = number.to_be_bytes().to_vec();
        key.resize(len, b'k');
        key
    };
    for step in steps {
        match step {
            Step::Begin { name_bytes, sequence } => {
                if !may_nest && numbers.len() > 1 {
                    events.push(Event::End);
                    numbers.pop();
                }
                let name = key(numbers.last_mut().unwrap(), *name_bytes);
                events.push(Event::Begin { name, sequence: *sequence });
                numbers.push(0);
            }
            Step::Pairs { .. } if numbers.len() == 1 => {}
            Step::Pairs { count, key_bytes, value_bytes, seed } => {
                let mut rng = Rng(*seed);
                for _ in 0..*count {
                    let len = 8 + rng.below(key_bytes - 7);
                    let key = key(numbers.last_mut().unwrap(), len);
                    let fill = u8::try_from(rng.below(256)).unwrap();
                    events.push(Event::Put { key, value: vec![fill; rng.below(value_bytes + 1)] });
                }
            }
            Step::End | Step::Discard if numbers.len() == 1 => {}
            Step::End => {
                events.push(Event::End);
                numbers.pop();
            }
            Step::Discard => {
                events.push(Event::Discard);
                numbers.pop();
            }
        }
    }
    events.extend((1..numbers.len()).map(|_| Event::End));
    events
}

/// What is left of a program when discarded buckets are taken out.
pub(crate) fn kept(events: &[Event]) -> Vec<Event> {
    let mut kept = Vec::new();
    let mut begins = Vec::new();
    for event in events {
        match event {
            Event::Begin { .. } => begins.push(kept.len()),
            Event::Put { .. } => {}
            Event::End => {
                begins.pop();
            }
            Event::Discard => {
                kept.truncate(begins.pop().unwrap());
                continue;
            }
        }
        kept.push(event.clone());
    }
    kept
}

/// Tells `build` one event.
pub(crate) fn tell<W: PageWriter>(build: &mut Build<W>, event: &Event) -> Result<(), BuildError> {
    match event {
        Event::Begin { name, sequence } => {
            build.begin_bucket(name)?;
            build.set_sequence(*sequence);
            Ok(())
        }
        Event::Put { key, value } => build.put(key, value),
        Event::End => build.end_bucket(),
        Event::Discard => build.discard_bucket(),
    }
}

pub(crate) fn write<W: PageWriter>(writer: W, case: &Case) -> Result<Built, BuildError> {
    let mut build = Build::new(writer, case.options)?;
    build.set_sequence(case.root_sequence);
    for event in &case.events {
        tell(&mut build, event)?;
    }
    build.finish()
}

/// Everything in the file, in key order.
pub(crate) fn read(file: &[u8]) -> Vec<Event> {
    let db = Db::from_source(file).unwrap();
    let mut events = Vec::new();
    let mut cursors = vec![db.root().cursor()];
    while let Some(cursor) = cursors.last_mut() {
        let Some(item) = cursor.next().unwrap() else {
            cursors.pop();
            if !cursors.is_empty() {
                events.push(Event::End);
            }
            continue;
        };
        if !item.is_bucket {
            events.push(Event::Put { key: item.key.to_vec(), value: item.value.to_vec() });
            continue;
        }
        let name = item.key.to_vec();
        let bucket = cursor.bucket().unwrap().unwrap();
        events.push(Event::Begin { name, sequence: bucket.sequence() });
        cursors.push(bucket.cursor());
    }
    events
}

/// Builds the case and holds the file against everything that must be true of it.
pub(crate) fn assert_built(case: &Case) -> Vec<u8> {
    let mut file = Vec::new();
    let built = write(&mut file, case).unwrap();
    let options = &case.options;
    assert_eq!(built.len_bytes, file.len() as u64);
    assert_eq!(built.len_bytes, built.pages * u64::from(options.page_size));
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &file);
    assert_eq!(u64::from(built.crc32c), crc);

    let db = Db::from_source(file.as_slice()).unwrap();
    let [Ok(meta0), Ok(meta1)] = db.metas() else { panic!("{:?}", db.metas()) };
    for (slot, meta) in [meta0, meta1].into_iter().enumerate() {
        assert_eq!(meta.page_size, options.page_size);
        assert_eq!(meta.txid % 2, slot as u64);
        assert_eq!(meta.high_water_mark, built.pages);
        assert_eq!(
            (meta.root, meta.freelist, meta.sequence),
            (meta0.root, meta0.freelist, case.root_sequence)
        );
    }
    assert_eq!(db.meta().txid, options.txid);
    assert_eq!(meta0.txid.abs_diff(meta1.txid), 1);
    assert_eq!(db.meta().freelist == NO_FREELIST, options.freelist == FreelistSync::NotPersisted);

    assert_shape(&file);
    let report = check(&db, &());
    assert!(report.findings.is_empty() && report.is_sound(), "{:?}", report.findings);
    if let Freelist::Persisted { free, .. } = db.freelist().unwrap() {
        assert!(free.is_sorted());
        assert_eq!(free.len() as u64, report.statistics.free_pages);
    }
    if !case.events.contains(&Event::Discard) && built.len_bytes > 4096 {
        assert_eq!(report.statistics.free_pages, 0, "a file without discarded buckets is compact");
    }
    assert!(built.len_bytes >= 4096, "bbolt up to 1.3.6 opens no shorter file");
    assert!(read(&file) == kept(&case.events), "the file does not hold what was put in");
    file
}
