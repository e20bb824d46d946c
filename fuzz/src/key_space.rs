//! The key space: whatever bucket `key` holds, the index, the queries, the hash and a compaction of it are what the plain
//! model of the rules says.

use bbolt::rebuild::{Edits, Put, RebuildError, Revise, edit};
use bbolt::{Build, BuildError, BuildOptions, Db, RebuildOptions, Source, check};
use snapshot::mvcc::query::{RangeRequest, SortOrder, SortTarget, range};
use snapshot::mvcc::{
    Compaction, Entry, Index, IndexOptions, KeyRange, KeyValue, Ordinals, Release, Revision, compaction,
    hashkv,
};
use snapshot::schema::{FINISHED_COMPACT, KEY, META, SCHEDULED_COMPACT, Schema};
use testdata::key_space::{KeySpace, bucket_key, message};
use testdata::oracle::Kv;

use crate::db::repair_metas;

/// Revisions that are looked at of one input.
const MOST_REVISIONS: i64 = 24;
/// Longest file that is held against the model, which is slow.
const MOST_BYTES: usize = 1 << 18;
/// Keys of programs; some begin with others.
const KEYS: [&[u8]; 10] = [
    b"a",
    b"a/",
    b"a/b",
    b"a/\0",
    b"b",
    b"\xff\xff",
    b"\xff",
    b"\0",
    b"/registry/pods/x",
    b"/registry/podsy",
];

type Pair = (Vec<u8>, Vec<u8>);

fn releases() -> [Release; 2] {
    let older = "3.5.1".parse().unwrap_or_else(|error| panic!("{error}"));
    [Release::default(), older]
}

/// A database of what the input says: a byte of flags, the revisions of two compactions, then three bytes a record. The records
/// are those of a server, or, with some flags, such as no server writes.
pub(crate) fn written(program: &[u8]) -> Option<Vec<u8>> {
    let (head, steps) = program.split_at_checked(3)?;
    let mut pairs: Vec<Pair> = Vec::new();
    let (mut main, mut sub) = (1i64, 0i64);
    let mut counters = [(0i64, 0i64); KEYS.len()];
    for step in steps.chunks_exact(3) {
        let [kind, which, size] = [step[0], step[1], step[2]];
        match i64::from(kind >> 6) {
            0 if main > 1 => sub += 1,
            more => (main, sub) = (main + more.max(1), 0),
        }
        let number = usize::from(which) % KEYS.len();
        let (key, is_odd) = (KEYS[number].to_vec(), kind & 8 != 0);
        let (create, version) = &mut counters[number];
        let tombstone = kind & 3 == 3;
        if tombstone {
            if *version == 0 && !is_odd {
                continue;
            }
            *version = 0;
        } else {
            *version += 1;
            if *version == 1 {
                *create = main;
            }
        }
        let kv = if tombstone {
            Kv { key, value: Vec::new(), create_revision: 0, mod_revision: 0, version: 0, lease: 0 }
        } else if is_odd {
            Kv {
                key,
                value: vec![kind],
                create_revision: main + 1,
                mod_revision: size.into(),
                version: 0,
                lease: -1,
            }
        } else {
            let len = usize::from(size);
            Kv {
                key,
                value: vec![which; if kind & 16 == 0 { len } else { len * 20 }],
                create_revision: *create,
                mod_revision: main,
                version: *version,
                lease: i64::from(kind & 4),
            }
        };
        pairs.push((bucket_key((main, sub, tombstone)), message(&kv)));
    }
    let revision = |at: u8| Revision { main: i64::from(at), sub: 0, tombstone: false }.encode();
    let mut meta = Vec::new();
    if head[0] & 1 != 0 {
        meta.push((FINISHED_COMPACT.to_vec(), revision(head[1])));
    }
    if head[0] & 2 != 0 {
        meta.push((SCHEDULED_COMPACT.to_vec(), revision(head[2])));
    }
    match file(&pairs, &meta) {
        Ok(file) => Some(file),
        Err(error) => panic!("{error}"),
    }
}

/// A file with these pairs in `key` and `meta`.
pub(crate) fn file(key: &[Pair], meta: &[Pair]) -> Result<Vec<u8>, BuildError> {
    let mut file = Vec::new();
    let mut build = Build::new(&mut file, BuildOptions::default())?;
    for (name, pairs) in [(KEY, key), (META, meta)] {
        build.begin_bucket(name)?;
        for (key, value) in pairs {
            build.put(key, value)?;
        }
        build.end_bucket()?;
    }
    build.finish()?;
    Ok(file)
}

/// The pairs of bucket `key`.
fn pairs_of<S: Source>(db: &Db<S>) -> Option<Vec<Pair>> {
    let mut pairs = Vec::new();
    let bucket = db.bucket(KEY).ok()??;
    let mut cursor = bucket.cursor();
    while let Some(item) = cursor.next().ok()? {
        if item.is_bucket {
            return None;
        }
        pairs.push((item.key.to_vec(), item.value.to_vec()));
    }
    Some(pairs)
}

/// What the model makes of a database; `None` for what it has no word for.
fn model(db: &Db<&[u8]>, release: Release) -> Option<KeySpace> {
    if db.source().len() > MOST_BYTES {
        return None;
    }
    let schema = Schema::read(db).ok()?;
    let (scheduled, finished) = (schema.scheduled_compact, schema.finished_compact);
    // Compactions at revisions that none can be made at are the business of other tests.
    if scheduled.into_iter().chain(finished).any(|at| !(1..=i64::MAX / 2).contains(&at)) {
        return None;
    }
    KeySpace::new(pairs_of(db)?, scheduled, finished, release.keeps_tombstone_at_compaction())
}

fn kv_of(record: &[u8]) -> Kv {
    let kv = match KeyValue::decode(record) {
        Ok(kv) => kv,
        Err(error) => panic!("a record of the index: {error}"),
    };
    Kv {
        key: kv.key.to_vec(),
        value: kv.value.to_vec(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// The revisions to look at: the first ones that are kept, and the last.
fn revisions(model: &KeySpace) -> impl Iterator<Item = i64> {
    let (first, last) = (model.compact_revision().max(1), model.revision());
    (first..=last.min(first.saturating_add(MOST_REVISIONS))).chain([last])
}

fn listed<S: Source>(index: &Index<'_, S>, revision: i64) -> Vec<Kv> {
    let live = index.histories().filter_map(|history| history.at(revision));
    live.map(|entry| record_of(index, entry)).collect()
}

fn record_of<S: Source>(index: &Index<'_, S>, entry: &Entry) -> Kv {
    match index.record(entry) {
        Ok(record) => kv_of(&record.bytes),
        Err(error) => panic!("{error}"),
    }
}

/// Any file, as it is, with its metas repaired, and as a program.
pub(crate) fn index(bytes: &[u8]) {
    indexed(bytes);
    indexed(&repair_metas(bytes));
    if let Some(file) = written(bytes) {
        indexed(&file);
    }
}

fn indexed(bytes: &[u8]) {
    let Ok(db) = Db::from_source(bytes) else { return };
    for release in releases() {
        let strict = IndexOptions { release, ..IndexOptions::default() };
        let lax = IndexOptions { skip_bad: true, ..strict.clone() };
        if let Ok(index) = Index::build(&db, &lax, &()) {
            sound(&index);
        }
        let Ok(index) = Index::build(&db, &strict, &()) else {
            continue;
        };
        sound(&index);
        let Some(model) = model(&db, release) else { continue };
        assert_eq!(index.store().current_revision, model.revision());
        assert_eq!(index.store().compact_revision.unwrap_or(-1), model.compact_revision());
        for revision in revisions(&model) {
            assert!(listed(&index, revision) == model.list(revision), "revision {revision}");
            if revision > model.compact_revision() {
                match hashkv(&db, revision, release, &()) {
                    Ok(hash) => assert_eq!(hash.hash, model.hashkv(revision), "revision {revision}"),
                    Err(error) => panic!("hash at {revision}: {error}"),
                }
            }
        }
        // The index has all that is in the file, also what a compaction left behind.
        let Some(file) = pairs_of(&db).and_then(|pairs| KeySpace::new(pairs, None, None, true)) else {
            continue;
        };
        for history in index.histories() {
            let Ok(key) = history.key() else { panic!("a key that cannot be read again") };
            let told: Vec<_> = history.entries().iter().map(|e| (e.main(), e.is_tombstone())).collect();
            let theirs: Vec<_> =
                file.history(&key).into_iter().map(|((main, _, tombstone), _)| (main, tombstone)).collect();
            assert_eq!(told, theirs);
            let one = IndexOptions { range: KeyRange::single(&key), ..strict.clone() };
            match Index::build(&db, &one, &()) {
                Ok(one) => assert_eq!((one.key_count(), one.revision_count()), (1, told.len() as u64)),
                Err(error) => panic!("an index of one key: {error}"),
            }
        }
    }
}

/// Keys and their records are in order, and can be read.
fn sound<S: Source>(index: &Index<'_, S>) {
    let mut last: Option<Vec<u8>> = None;
    let mut records = 0;
    for history in index.histories() {
        let Ok(key) = history.key() else { panic!("a key that cannot be read again") };
        assert!(last.as_deref().is_none_or(|last| last < &*key), "keys out of order");
        assert!(!history.entries().is_empty() && history.entries().is_sorted_by_key(Entry::main));
        records += history.entries().len() as u64;
        for entry in history.entries() {
            assert_eq!(record_of(index, entry).key, *key);
        }
        last = Some(key.into_owned());
    }
    assert_eq!(records, index.revision_count());
}

/// A request of seven bytes, to a file or a program: the answer is what sorting and cutting the model's listing gives.
pub(crate) fn query(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_at_checked(7) else { return };
    asked(head, rest);
    asked(head, &repair_metas(rest));
    if let Some(file) = written(rest) {
        asked(head, &file);
    }
}

fn asked(head: &[u8], bytes: &[u8]) {
    let Ok(db) = Db::from_source(bytes) else { return };
    let name = |at: u8| KEYS[usize::from(at) % KEYS.len()].to_vec();
    let flags = head[5];
    let key = name(head[0]);
    let range_end = match head[1] % 3 {
        0 => Vec::new(),
        1 => b"\0".to_vec(),
        _ => name(head[1] / 3),
    };
    let request = RangeRequest {
        range: KeyRange::between(&key, &range_end),
        revision: i64::from(head[2]),
        limit: i64::from(head[3] % 6),
        sort_order: [SortOrder::None, SortOrder::Ascend, SortOrder::Descend][usize::from(head[4] % 3)],
        sort_target: [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Modify,
            SortTarget::Value,
        ][usize::from(head[4] / 3 % 5)],
        keys_only: flags & 1 != 0,
        count_only: flags & 2 != 0,
        create_revisions: if flags & 4 == 0 { (0, 0) } else { (head[6].into(), 0) },
        mod_revisions: if flags & 8 == 0 { (0, 0) } else { (0, head[6].into()) },
    };
    let model = model(&db, Release::default());
    let index = match Index::build(&db, &request.index_options(Release::default(), false), &()) {
        Ok(index) => index,
        Err(error) => {
            assert!(model.is_none() || !check(&db, &()).is_sound(), "{error}");
            return;
        }
    };
    let answer = range(&index, &request, &());
    let Some(model) = model else { return };
    let revision = if request.revision == 0 { model.revision() } else { request.revision };
    let kept = model.compact_revision().max(1)..=model.revision();
    assert_eq!(answer.is_ok(), kept.contains(&revision), "revision {revision} of {kept:?}: {answer:?}");
    let Ok(answer) = answer else { return };
    let within = |kv: &Kv| match range_end.as_slice() {
        b"" => kv.key == key,
        b"\0" => kv.key >= key,
        end => kv.key >= key && kv.key.as_slice() < end,
    };
    let mut wanted: Vec<Kv> = model.list(revision).into_iter().filter(within).collect();
    assert_eq!(usize::try_from(answer.count), Ok(wanted.len()));
    assert_eq!(answer.revision, model.revision());
    if request.count_only {
        assert!(answer.records.is_empty());
        return;
    }
    let ours: Vec<Kv> = answer.records.iter().map(|entry| record_of(&index, entry)).collect();
    assert!(ours.iter().all(|kv| wanted.contains(kv)), "a key that is not in the range");
    let limit = usize::try_from(request.limit).unwrap_or(0);
    assert!(limit == 0 || ours.len() <= limit);
    let has_bounds = flags & 12 != 0;
    if has_bounds || request.sort_order == SortOrder::None && request.sort_target != SortTarget::Key {
        return;
    }
    match request.sort_target {
        SortTarget::Key => {}
        SortTarget::Version => wanted.sort_by_key(|kv| kv.version),
        SortTarget::Create => wanted.sort_by_key(|kv| kv.create_revision),
        SortTarget::Modify => wanted.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => wanted.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if request.sort_order == SortOrder::Descend {
        wanted.reverse();
    }
    assert_eq!(answer.more, limit > 0 && wanted.len() > limit);
    if limit > 0 {
        wanted.truncate(limit);
    }
    // Which of equals comes first is left open by the server's sort.
    let by = |kv: &Kv| match request.sort_target {
        SortTarget::Key => (0, kv.key.clone()),
        SortTarget::Version => (kv.version, Vec::new()),
        SortTarget::Create => (kv.create_revision, Vec::new()),
        SortTarget::Modify => (kv.mod_revision, Vec::new()),
        SortTarget::Value => (0, kv.value.clone()),
    };
    let (ours, wanted): (Vec<_>, Vec<_>) = (ours.iter().map(by).collect(), wanted.iter().map(by).collect());
    assert_eq!(ours, wanted, "{request:?}");
}

/// Keeps the pairs that a compaction keeps.
struct Kept<'c>(&'c Ordinals);

impl Revise for Kept<'_> {
    fn keeps(&self, ordinal: u64) -> bool {
        self.0.contains(ordinal)
    }

    fn append(&self, _put: &mut Put<'_>) -> Result<(), RebuildError> {
        Ok(())
    }
}

/// A byte that chooses the revision, then a file or a program: compacted at that revision, written anew, read back.
pub(crate) fn compact(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    compacted(*choice, rest);
    compacted(*choice, &repair_metas(rest));
    if let Some(file) = written(rest) {
        compacted(*choice, &file);
    }
}

fn compacted(choice: u8, bytes: &[u8]) {
    let Ok(db) = Db::from_source(bytes) else { return };
    for release in releases() {
        let model = model(&db, release);
        let (first, last) =
            model.as_ref().map_or((0, 255), |m| ((m.compact_revision() + 1).max(1), m.revision()));
        let span = last.saturating_sub(first).saturating_add(1);
        let at = if span > 0 { first + i64::from(choice) % span } else { i64::from(choice) };
        let done: Compaction = match compaction(&db, at, release, &()) {
            Ok(done) => done,
            Err(error) => {
                let refused = model.is_none() || span <= 0 || !check(&db, &()).is_sound();
                assert!(refused, "compaction at {at}: {error}");
                continue;
            }
        };
        // 0 asks for the current revision, which may be that of a compaction that did not finish.
        let at = done.revision;
        let kept = Kept(&done.kept);
        let rows = [FINISHED_COMPACT, SCHEDULED_COMPACT]
            .map(|name| (name.to_vec(), Revision { main: done.revision, sub: 0, tombstone: false }.encode()));
        let mut edits = Edits::default();
        edits.revise(KEY, &kept).replace(META, rows.into_iter().collect());
        let mut out = Vec::new();
        if let Err(error) = edit(&db, &mut out, &RebuildOptions::default(), &edits, &()) {
            panic!("compaction at {at} cannot be written: {error}");
        }
        let new = match Db::from_source(out.as_slice()) {
            Ok(new) => new,
            Err(error) => panic!("{error}"),
        };
        let report = check(&new, &());
        assert!(report.findings.is_empty() && report.is_sound(), "{:?}", report.findings);
        let pairs = pairs_of(&new).unwrap_or_default();
        assert_eq!(pairs.len() as u64, done.records_after);
        let Some(before) = model else { continue };
        assert!(pairs == before.compacted(at), "compaction at {at} keeps other records");
        let newer_rule = release.keeps_tombstone_at_compaction();
        let Some(after) = KeySpace::new(pairs, Some(at), Some(at), newer_rule) else { continue };
        let options = IndexOptions { release, ..IndexOptions::default() };
        let index = match Index::build(&new, &options, &()) {
            Ok(index) => index,
            Err(error) => panic!("a compacted file: {error}"),
        };
        assert_eq!(after.revision(), before.revision());
        for revision in revisions(&after) {
            assert!(after.list(revision) == before.list(revision), "revision {revision} has changed");
            assert!(listed(&index, revision) == before.list(revision), "revision {revision} is read wrongly");
            if revision > at {
                match hashkv(&new, revision, release, &()) {
                    Ok(hash) => assert_eq!(hash.hash, after.hashkv(revision)),
                    Err(error) => panic!("hash at {revision}: {error}"),
                }
            }
        }
    }
}
