//! Replay of keys, leases and compactions, held against the rules written down as plainly as they can be (FORMATS C, G.7). The model
//! shares no code with what ships; that the rules are etcd's is shown by tests with real servers.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

#[path = "common/key_model.rs"]
mod key_model;

use std::collections::BTreeMap;

use bbolt::rebuild::edit;
use bbolt::{Build, BuildOptions, Db};
use proptest::prelude::*;
use snapshot::edited::Change;
use snapshot::mvcc::Release;
use snapshot::overlay::Overlay;
use snapshot::replay::{Applied, Disagreement, Replay, ReplayOptions, StopReason, Why};
use wal::EntryRef;

use key_model::{Buckets, Model, Op, Put, Request, Rng, Rows, Said, Txn, bytes, number, request_bytes};
use testdata::key_space::bucket_key;

// ---- Files ----

fn image_of(buckets: &Buckets) -> Vec<u8> {
    let mut image = Vec::new();
    let mut build = Build::new(&mut image, BuildOptions::default()).unwrap();
    for (name, rows) in buckets {
        build.begin_bucket(name.as_bytes()).unwrap();
        for (key, value) in rows {
            build.put(key, value).unwrap();
        }
        build.end_bucket().unwrap();
    }
    build.finish().unwrap();
    image
}

fn dump(source: impl bbolt::Source) -> Buckets {
    let db = Db::from_source(source).unwrap();
    assert!(bbolt::check(&db, &()).findings.is_empty());
    let mut dump = Buckets::new();
    let mut names = db.root().cursor();
    while let Some(item) = names.next().unwrap() {
        let rows = dump.entry(String::from_utf8(item.key.to_vec()).unwrap()).or_default();
        let bucket = names.bucket().unwrap().unwrap();
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next().unwrap() {
            rows.insert(item.key.to_vec(), item.value.to_vec());
        }
    }
    dump
}

/// What the db holds after the replay is folded into it.
fn folded(image: &Vec<u8>, replay: Replay<'_, &Vec<u8>>) -> Buckets {
    let db = Db::from_source(image).unwrap();
    let folded = replay.fold(&()).unwrap();
    let edits = folded.edits();
    match folded.change(&edits) {
        None => dump(image),
        Some(Change::Patch(patch)) => {
            let writes = patch.data_writes().chain(patch.meta_writes());
            dump(Overlay::new(image, patch.len_bytes(), writes))
        }
        Some(Change::Rebuild { edits, expected }) => {
            let mut out = Vec::new();
            let rebuilt = edit(&db, &mut out, &snapshot::defrag::AS_ETCD, edits, &()).unwrap();
            assert_eq!(expected.pairs, Some(rebuilt.content.pairs));
            dump(&out)
        }
    }
}

/// Applies random requests, the first `before` of them to make the db, the others as its log.
fn history(seed: u64, before: usize, after: usize, compacts: bool, release: &str) {
    let mut rng = Rng(seed | 1);
    let release: Release = release.parse().unwrap();
    let keeps_checkpoints = rng.below(2) == 0;
    let mut model =
        Model::new(release.keeps_tombstone_at_compaction(), release.checks_txn_ranges(), keeps_checkpoints);
    let mut entries = 0;
    let request = |model: &Model, rng: &mut Rng| {
        if compacts && rng.below(12) == 0 {
            Request::Compact(rng.revision(model.revision))
        } else {
            rng.request(model.revision)
        }
    };
    for _ in 0..before {
        let next = request(&model, &mut rng);
        entries += u64::from(model.apply(&next) != Said::Dies);
    }
    // A compaction may have been cut off before it removed anything. A server does not go on with one at revision 0.
    let is_cut_off = rng.below(4) == 0 && model.compacted != 0;
    let records = if is_cut_off { model.records.clone() } else { model.physical() };
    let image = image_of(&model.buckets(entries, records, !is_cut_off));
    let compacted_before = model.compacted;
    model.restart();
    let db = Db::from_source(&image).unwrap();
    let options = ReplayOptions { release, ..ReplayOptions::default() };
    let mut replay = Replay::of(&db, options, &()).unwrap();
    for _ in 0..after {
        let next = request(&model, &mut rng);
        let data = request_bytes(&next);
        let entry = EntryRef { entry_type: 0, term: 3, index: entries + 1, data: &data };
        let said = match replay.apply(&entry) {
            Ok(Applied::Changed) => Said::Changed,
            Ok(Applied::Nothing(_)) => Said::Nothing,
            Err(stop) => {
                assert!(matches!(stop.reason, StopReason::Dies(_)), "{stop}");
                Said::Dies
            }
        };
        assert_eq!(said, model.apply(&next), "{next:?}");
        entries += u64::from(said != Said::Dies);
        assert_eq!(replay.revision(), model.revision, "{next:?}");
        assert_eq!(replay.compact_revision().unwrap_or(-1), model.compacted);
        assert_eq!(replay.consistent_index(), entries);
        for key in [&b"a"[..], b"ab", b"b", b"c", b"c\0", b"d", b"\xff"] {
            let newest = replay.keys().newest(key).unwrap();
            let found = newest.as_ref().map(|newest| (newest.kv().mod_revision, newest.kv().version));
            assert_eq!(found, model.live.get(key).map(|live| (live.changed, live.version)));
        }
    }
    // What is left of a compaction before the log is left to the server.
    let records = if model.compacted == compacted_before && is_cut_off {
        model.records.clone()
    } else {
        model.physical()
    };
    let has_compacted = model.compacted != compacted_before || !is_cut_off;
    assert_eq!(folded(&image, replay), model.buckets(entries, records, has_compacted));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn replayed_keys_and_leases_are_as_the_rules_have_them(
        seed in any::<u64>(),
        before in 0_usize..60,
        after in 0_usize..60,
        compacts in any::<bool>(),
        release in prop::sample::select(vec!["3.4.23", "3.5.1", "3.5.16", "3.6", "3.7"]),
    ) {
        history(seed, before, after, compacts, release);
    }
}

/// Searches among many keys are not made by one way alone.
#[test]
fn keys_are_found_among_many() {
    let mut model = Model::new(true, false, false);
    let name = |number: u64| format!("/registry/{number:06}").into_bytes();
    let put =
        |number: u64| Request::Op(Op::Put(Put { key: name(number), value: b"v".to_vec(), ..Put::default() }));
    for number in 0..20_000 {
        apply_fast(&mut model, &put(number * 7919 % 20_000 * 2));
    }
    let image = image_of(&model.buckets(20_000, model.physical(), true));
    let db = Db::from_source(&image).unwrap();
    let mut replay = Replay::of(&db, ReplayOptions::default(), &()).unwrap();
    let mut rng = Rng(7);
    for index in 20_001..=21_500 {
        let number = rng.below(40_002);
        let request = match rng.below(3) {
            0 => put(number),
            1 => Request::Op(Op::Delete(name(number), Vec::new())),
            _ => Request::Op(Op::Delete(name(number), name(number + rng.below(5)))),
        };
        let data = request_bytes(&request);
        let applied = replay.apply(&EntryRef { entry_type: 0, term: 3, index, data: &data }).unwrap();
        assert_eq!(
            applied == Applied::Changed,
            apply_fast(&mut model, &request) == Said::Changed,
            "{request:?}"
        );
    }
    assert_eq!(folded(&image, replay), model.buckets(21_500, model.physical(), true));
}

/// As [`Model::apply`], without a copy of it in case it dies.
fn apply_fast(model: &mut Model, request: &Request) -> Said {
    let Request::Op(op) = request else { return Said::Dies };
    let mut sub = 0;
    model.write(op, &mut sub);
    model.revision += i64::from(sub > 0);
    if sub > 0 { Said::Changed } else { Said::Nothing }
}

// ---- One hazard each ----

fn replayed(requests: &[Request], release: &str) -> (Vec<Applied>, BTreeMap<Disagreement, u64>, Buckets) {
    let model = Model::new(true, false, false);
    let image = image_of(&model.buckets(0, Rows::new(), true));
    let db = Db::from_source(&image).unwrap();
    let options = ReplayOptions { release: release.parse().unwrap(), ..ReplayOptions::default() };
    let mut replay = Replay::of(&db, options, &()).unwrap();
    let mut applied = Vec::new();
    for (request, index) in requests.iter().zip(1..) {
        let data = request_bytes(request);
        applied.push(replay.apply(&EntryRef { entry_type: 0, term: 3, index, data: &data }).unwrap());
    }
    let disagreements =
        replay.account().disagreements.iter().map(|(what, told)| (*what, told.entries)).collect();
    (applied, disagreements, folded(&image, replay))
}

fn put(key: &str) -> Op {
    Op::Put(Put { key: key.into(), value: b"v".to_vec(), ..Put::default() })
}

/// etcd#18667 and others: a member that nobody waits for takes reads out of a transaction before it checks it.
#[test]
fn a_transaction_that_reads_what_is_yet_to_come_is_refused_since_3_7() {
    let txn = Txn { success: vec![Op::Range(9), put("a")], ..Txn::default() };
    let inner = Txn { success: vec![Op::Txn(txn.clone())], ..Txn::default() };
    let requests = [Request::Op(Op::Txn(txn)), Request::Op(Op::Txn(inner))];
    let (applied, told, _) = replayed(&requests, "3.6.14");
    assert_eq!(applied, [Applied::Changed, Applied::Nothing(Why::FutureRevision)]);
    assert_eq!(told, [(Disagreement::TxnRange, 1)].into());
    let (applied, told, _) = replayed(&requests, "3.7.1");
    assert_eq!(applied, [Applied::Nothing(Why::FutureRevision); 2]);
    assert!(told.is_empty());
}

/// A lease may lie between its keys and those of another; all go by one revision, in the order of their names.
#[test]
fn a_revoked_lease_takes_its_keys_in_their_order() {
    let leased = |key: &str| {
        Request::Op(Op::Put(Put { key: key.into(), value: b"v".to_vec(), lease: 7, ..Put::default() }))
    };
    let requests = [
        Request::Grant(7, 60),
        leased("c"),
        leased("a"),
        leased("b"),
        Request::Op(put("b")),
        Request::Revoke(7),
        Request::Revoke(7),
    ];
    let (applied, _, buckets) = replayed(&requests, "3.6");
    assert_eq!(applied[5..], [Applied::Changed, Applied::Nothing(Why::LeaseNotFound)]);
    let last: Vec<&Vec<u8>> = buckets["key"].keys().rev().take(2).collect();
    assert_eq!(last, [&bucket_key((6, 1, true)), &bucket_key((6, 0, true))]);
    assert_eq!(buckets["key"][&bucket_key((6, 0, true))], b"\x0a\x01a");
    assert!(buckets["lease"].is_empty());
}

const RAISE: u64 = 1;
const DISARM: u64 = 2;
const NO_SPACE: u64 = 1;
const CORRUPT: u64 = 2;

/// What is refused for want of space, and what is not: a put in a transaction within another was overlooked at first.
#[test]
fn without_space_nothing_is_put_or_granted() {
    let txn = |op| Request::Op(Op::Txn(Txn { success: vec![op], ..Txn::default() }));
    let requests = [
        Request::Op(put("a")),
        Request::Alarm(RAISE, NO_SPACE),
        Request::Op(put("b")),
        Request::Grant(7, 60),
        txn(put("c")),
        txn(Op::Txn(Txn { failure: vec![put("d")], ..Txn::default() })),
        txn(Op::Txn(Txn { success: vec![put("d")], ..Txn::default() })),
        Request::Op(Op::Delete(b"a".to_vec(), vec![])),
        Request::Compact(2),
        Request::Alarm(DISARM, NO_SPACE),
        Request::Op(put("b")),
    ];
    let refused = Applied::Nothing(Why::NoSpace);
    let changed = Applied::Changed;
    for (release, counts_inner) in
        [("3.4.23", false), ("3.5.32", false), ("3.5.33", true), ("3.6.13", false), ("3.6.14", true)]
    {
        let (applied, ..) = replayed(&requests, release);
        let inner =
            if counts_inner { [refused, refused] } else { [Applied::Nothing(Why::CompareFailed), changed] };
        let expected = [
            changed, changed, refused, refused, refused, inner[0], inner[1], changed, changed, changed,
            changed,
        ];
        assert_eq!(applied, expected, "{release}");
    }
}

/// Up to 3.5 the alarm that was raised last takes the place of the others, and the first to be disarmed takes all with it.
#[test]
fn two_alarms_at_once_stand_together_since_3_6() {
    let delete = |key: &str| Request::Op(Op::Delete(key.into(), vec![]));
    let requests = [
        Request::Grant(7, 60),
        Request::Op(put("a")),
        Request::Op(put("b")),
        Request::Alarm(RAISE, CORRUPT),
        delete("a"),
        Request::Op(put("c")),
        Request::Compact(2),
        Request::Revoke(7),
        Request::Op(Op::Txn(Txn::default())),
        Request::Alarm(RAISE, NO_SPACE),
        delete("a"),
        Request::Op(put("c")),
        Request::Alarm(DISARM, NO_SPACE),
        Request::Op(put("c")),
    ];
    let (changed, corrupt) = (Applied::Changed, Applied::Nothing(Why::Corrupt));
    let no_space = Applied::Nothing(Why::NoSpace);
    let (older, newer) = ([changed, no_space, changed, changed], [corrupt, corrupt, changed, corrupt]);
    for (release, rest) in [("3.4.23", older), ("3.5.30", older), ("3.6.0", newer), ("3.7.1", newer)] {
        let (applied, ..) = replayed(&requests, release);
        assert_eq!(applied[..4], [changed; 4]);
        assert_eq!(applied[4..9], [corrupt; 5], "{release}");
        assert_eq!((applied[9], &applied[10..]), (changed, &rest[..]), "{release}");
    }
}

/// A server that starts takes both from the db, whatever release it is.
#[test]
fn alarms_in_the_db_stand_when_a_server_starts() {
    let mut buckets = Model::new(true, false, false).buckets(1, Rows::new(), true);
    let alarms = [(b"\x08\x05\x10\x01".to_vec(), vec![]), (b"\x08\x06\x10\x02".to_vec(), vec![])];
    buckets.insert("alarm".to_owned(), alarms.into());
    let image = image_of(&buckets);
    let db = Db::from_source(&image).unwrap();
    for release in ["3.4.23", "3.5.1", "3.7.1"] {
        let options = ReplayOptions { release: release.parse().unwrap(), ..ReplayOptions::default() };
        let mut replay = Replay::of(&db, options, &()).unwrap();
        let mut apply = |index, request: &Request| {
            let data = request_bytes(request);
            replay.apply(&EntryRef { entry_type: 0, term: 3, index, data: &data }).unwrap()
        };
        assert_eq!(apply(2, &Request::Op(put("a"))), Applied::Nothing(Why::Corrupt));
        // One that stands already changes nothing, also not which of them counts.
        assert_eq!(apply(3, &Request::Alarm(RAISE, NO_SPACE)), Applied::Nothing(Why::AlreadySo));
        assert_eq!(apply(4, &Request::Compact(1)), Applied::Nothing(Why::Corrupt));
    }
}

/// Whatever an entry is, it is that which follows or none.
#[test]
fn entries_out_of_turn_unknown_requests_and_joint_changes_stop_it() {
    let image = image_of(&Model::new(true, false, false).buckets(5, Rows::new(), true));
    let db = Db::from_source(&image).unwrap();
    let mut replay = Replay::of(&db, ReplayOptions::default(), &()).unwrap();
    let known = request_bytes(&Request::Op(put("a")));
    let mut with_field = known.clone();
    number(4242, 1, &mut with_field);
    let mut header = Vec::new();
    bytes(100, b"\x08\x01", &mut header);
    let entry = |index, entry_type, data| EntryRef { entry_type, term: 3, index, data };
    let mut stop = |entry| replay.apply(&entry).unwrap_err().reason;
    assert_eq!(stop(entry(5, 0, &known)), StopReason::NotNext { applied: 5 });
    assert_eq!(stop(entry(7, 0, &known)), StopReason::NotNext { applied: 5 });
    assert_eq!(stop(entry(6, 2, &[])), StopReason::ConfChangeV2);
    assert_eq!(stop(entry(6, 9, &[])), StopReason::EntryType(9));
    assert_eq!(stop(entry(6, 0, &with_field)), StopReason::UnknownField { kind: "put" });
    assert_eq!(stop(entry(6, 0, &header)), StopReason::UnknownRequest);
    assert!(matches!(stop(entry(6, 0, &[0xff])), StopReason::Undecodable { .. }));
    assert_eq!((replay.consistent_index(), replay.revision()), (5, 1));
    assert_eq!(replay.apply(&entry(6, 0, &[])), Ok(Applied::Nothing(Why::Empty)));
    assert_eq!(replay.apply(&entry(7, 0, &known)), Ok(Applied::Changed));
}
