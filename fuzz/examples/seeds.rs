//! Writes the seeds of the corpus that are made, not found: small databases of every kind of bucket, with pages of 1 KiB
//! so that a mutation goes far, and small texts. Run it in `fuzz/` when a format it uses changes:
//! `cargo run -p etcd-rescue-fuzz --example seeds`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for developers, which stops where it cannot go on"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use bbolt::graft::Graft;
use bbolt::page::{FLAG_FREELIST, FLAG_LEAF, FLAG_META, PageHeader};
use bbolt::{Db, Meta, PageId};
use sha2::{Digest, Sha256};
use snapshot::membership::InitialCluster;
use snapshot::mvcc::{KeyValue, Revision};

const PAGE_BYTES: usize = 1024;

/// A database as bbolt makes it: two metas, an empty freelist, an empty root.
fn empty() -> Vec<u8> {
    let mut file = vec![0; 4 * PAGE_BYTES];
    for (id, flags) in [FLAG_META, FLAG_META, FLAG_FREELIST, FLAG_LEAF].into_iter().enumerate() {
        let header = PageHeader { id: id as u64, flags, count: 0, overflow: 0 };
        file[id * PAGE_BYTES..][..16].copy_from_slice(&header.encode());
    }
    for txid in 0..2 {
        let meta = Meta {
            page_size: 1024,
            flags: 0,
            root: PageId(3),
            sequence: 0,
            freelist: 2,
            high_water_mark: 4,
            txid,
        };
        let at = usize::try_from(txid).unwrap() * PAGE_BYTES + 16;
        file[at..at + 64].copy_from_slice(&meta.encode());
    }
    file
}

fn etcd(revisions: i64) -> Vec<u8> {
    let mut file = empty();
    let db = Db::from_source(&file).unwrap();
    let mut graft = Graft::new(&db);
    let mut keys = BTreeMap::new();
    for main in 2..2 + revisions {
        let tombstone = main % 7 == 0;
        let key = format!("/registry/{}", main % 11);
        let mut record = vec![0x0a, u8::try_from(key.len()).unwrap()];
        record.extend_from_slice(key.as_bytes());
        if !tombstone {
            let value = vec![b'v'; usize::try_from(main % 5 * 25).unwrap()];
            record.extend_from_slice(&[0x10, 2, 0x18, 2, 0x20, 1, 0x2a, u8::try_from(value.len()).unwrap()]);
            record.extend_from_slice(&value);
        }
        keys.insert(Revision { main, sub: 0, tombstone }.encode(), record);
    }
    graft.replace_bucket(b"key", keys).unwrap();
    let pairs = |rows: &[(&[u8], &[u8])]| rows.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    let number = 9u64.to_be_bytes();
    graft
        .replace_bucket(
            b"meta",
            pairs(&[
                (b"consistent_index", &number),
                (b"term", &2u64.to_be_bytes()),
                (b"confState", br#"{"voters":[1]}"#),
                (b"storageVersion", b"3.6.0"),
            ]),
        )
        .unwrap();
    let alarm: &[u8] = &[8, 1, 16, 1];
    graft.replace_bucket(b"alarm", pairs(&[(alarm, b"")])).unwrap();
    graft.replace_bucket(b"lease", pairs(&[(&number, &[8, 9, 16, 60])])).unwrap();
    graft.replace_bucket(b"auth", pairs(&[(b"authEnabled", &[1]), (b"authRevision", &number)])).unwrap();
    let downgrade = br#"{"target-version":"3.5.0","enabled":true}"#;
    graft
        .replace_bucket(b"cluster", pairs(&[(b"clusterVersion", b"3.6.0"), (b"downgrade", downgrade)]))
        .unwrap();
    graft
        .replace_bucket(
            b"members",
            pairs(&[(b"1", br#"{"id":1,"peerURLs":["http://a:1"],"isLearner":true}"#)]),
        )
        .unwrap();
    graft.replace_bucket(b"members_removed", pairs(&[(b"2", b"removed")])).unwrap();
    let patch = graft.finish().unwrap();
    patch.apply_to_vec(&mut file);
    file
}

/// Four bytes of options and steps of three: what `fuzz_targets` takes for a file to build.
fn build_programs() -> [(&'static str, Vec<u8>); 6] {
    const BEGIN: u8 = 3;
    const END: u8 = 4;
    const DISCARD: u8 = 5;
    const ANYTHING: u8 = 6;
    // Pairs, with keys and values as long as the step says.
    const fn pairs(scale: u8) -> u8 {
        scale << 3
    }
    let program = |options: [u8; 4], steps: &[[u8; 3]]| [&options[..], &steps.concat()].concat();
    [
        ("inline", program([0, 80, 0, 1], &[[BEGIN, 0, 0], [pairs(1), 3, 9], [END, 0, 0], [BEGIN, 0, 7]])),
        (
            "three-levels",
            program([0, 80, 1, 2], &[[BEGIN, 0, 0], [pairs(12), 250, 30], [pairs(2), 200, 200]]),
        ),
        (
            "nested",
            program(
                [1, 40, 1, 3],
                &[
                    [BEGIN, 0, 1],
                    [pairs(3), 90, 50],
                    [BEGIN, 0, 2],
                    [pairs(1), 9, 9],
                    [END, 0, 0],
                    [BEGIN, 0, 3],
                    [BEGIN, 0, 4],
                    [pairs(9), 60, 90],
                    [END, 0, 0],
                    [END, 0, 0],
                    [pairs(1), 200, 1],
                ],
            ),
        ),
        (
            "discarded",
            program(
                [0, 90, 1, 9],
                &[
                    [BEGIN, 0, 1],
                    [pairs(3), 30, 50],
                    [BEGIN, 0, 0],
                    [pairs(20), 30, 200],
                    [DISCARD, 0, 0],
                    [pairs(3), 30, 50],
                    [BEGIN, 0, 0],
                    [pairs(2), 3, 3],
                    [DISCARD, 0, 0],
                    [pairs(3), 30, 50],
                ],
            ),
        ),
        (
            "overflow",
            program(
                [2, 0, 0, 0],
                &[[BEGIN, 0, 0], [pairs(31), 40, 255], [ANYTHING, 140, 8], [pairs(1), 9, 9]],
            ),
        ),
        ("out-of-order", program([0, 80, 0, 1], &[[BEGIN, 0, 0], [pairs(3), 90, 50], [ANYTHING, 100, 8]])),
    ]
}

/// Operations of eight bytes as the target of that name takes them: what, what is accepted, two page numbers, two more.
fn surgeries() -> [Vec<[u8; 8]>; 4] {
    [
        vec![[5, 0, 0, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]],
        vec![[2, 0, 4, 0, 6, 0, 0, 0], [2, 1, 4, 0, 3, 0, 0, 0], [2, 0, 0, 0, 1, 0, 0, 0]],
        vec![[4, 0, 4, 0, 0, 0, 0, 1], [4, 0, 4, 0, 0, 0, 1, 0xFF], [3, 0, 5, 0, 0, 0, 0, 0]],
        vec![[7, 2, 3, 0, 1, 0, 1, 0], [7, 0, 20, 0, 0, 0, 3, 0], [7, 0, 0, 0, 0, 0, 0, 12]],
    ]
}

/// Programs of the key space: flags, two compactions, then records of three bytes each.
fn key_space_programs() -> Vec<(&'static str, Vec<u8>)> {
    let records = |count: u8, kinds: &[u8]| -> Vec<u8> {
        let kinds = kinds.iter().cycle();
        (0..count).zip(kinds).flat_map(|(n, kind)| [*kind, n.wrapping_mul(7), n.wrapping_mul(31)]).collect()
    };
    let served = [0x40, 0x41, 0x44, 0x00, 0x43, 0x52, 0x80, 0x03];
    vec![
        ("puts", [&[0, 0, 0][..], &records(20, &[0x40])].concat()),
        ("served", [&[0, 0, 0][..], &records(60, &served)].concat()),
        ("compacted", [&[3, 9, 9][..], &records(60, &served)].concat()),
        ("interrupted", [&[3, 9, 25][..], &records(60, &served)].concat()),
        ("never-finished", [&[2, 0, 200][..], &records(30, &served)].concat()),
        ("odd", [&[1, 4, 0][..], &records(50, &[0x48, 0x4b, 0x08, 0x43, 0x0b, 0x40])].concat()),
        ("gone", [&[3, 2, 6][..], &records(24, &[0x40, 0x43, 0x43])].concat()),
    ]
}

/// Files that are carved: without metas and head, with pages swapped, with holes, and one that a real server wrote.
fn carvings() -> Vec<(&'static str, Vec<u8>)> {
    let file = etcd(60);
    let headless = file[3 * PAGE_BYTES..].to_vec();
    let mut swapped = file.clone();
    swapped[..2 * PAGE_BYTES].fill(0);
    let (front, back) = swapped.split_at_mut(6 * PAGE_BYTES);
    front[4 * PAGE_BYTES..5 * PAGE_BYTES].swap_with_slice(&mut back[PAGE_BYTES..2 * PAGE_BYTES]);
    let map = b"# Mapfile\n0x1C00 ? 1\n0 0x1400 +\n0x1400 0x200 -\n0x1600 0x10000 +\n";
    let with_holes = [&[4], &file[..], &[0xFF], map].concat();
    let real = testdata::snapshot("3.7.1", "s2-auth");
    vec![
        ("headless", [&[0], &headless[..]].concat()),
        ("swapped-without-metas", [&[0], &swapped[..]].concat()),
        ("holes", with_holes),
        // As much of it as the fuzzer takes.
        ("real-3.7.1", [&[0], &real[..65_535]].concat()),
    ]
}

/// A database of etcd with older generations of its pages in it: `grafts` transactions of records as a server writes them, some of
/// which need pages of their own behind the leaf's.
fn generations(grafts: i64) -> Vec<u8> {
    const EACH: i64 = 12;
    let mut file = etcd(0);
    for graft_number in 0..grafts {
        let db = Db::from_source(&file).unwrap();
        let mut graft = Graft::new(&db);
        let from = 2 + graft_number * EACH;
        let record = |main: i64| {
            let tombstone = main % 9 == 0;
            let key = format!("/registry/{}", main % 7);
            let length = if main % 8 == 0 { 2_100 } else { main % 5 * 25 };
            let value = vec![u8::try_from(main % 251).unwrap(); usize::try_from(length).unwrap()];
            let kv = if tombstone {
                KeyValue { key: key.as_bytes(), ..KeyValue::default() }
            } else {
                KeyValue {
                    key: key.as_bytes(),
                    create_revision: main,
                    mod_revision: main,
                    version: 1,
                    value: &value,
                    lease: 0,
                }
            };
            let mut record = Vec::new();
            kv.encode(&mut record);
            (Revision { main, sub: 0, tombstone }.encode(), record)
        };
        graft.append(b"key", (from..from + EACH).map(record).collect()).unwrap();
        let index = u64::try_from(9 + graft_number).unwrap().to_be_bytes();
        let meta = [
            (b"consistent_index".to_vec(), index.to_vec()),
            (b"term".to_vec(), 2_u64.to_be_bytes().to_vec()),
        ];
        graft.replace_bucket(b"meta", meta.into()).unwrap();
        let patch = graft.finish().unwrap();
        patch.apply_to_vec(&mut file);
    }
    file
}

/// Files that need salvage.
fn wrecks() -> Vec<(&'static str, Vec<u8>)> {
    let pages = |file: &[u8]| file.len() / PAGE_BYTES;
    let zeroed = |mut file: Vec<u8>, which: &[usize]| {
        for page in which {
            file[page * PAGE_BYTES..(page + 1) * PAGE_BYTES].fill(0);
        }
        file
    };
    let whole = generations(6);
    let last = pages(&whole) - 1;
    let mut swapped = whole.clone();
    let (a, b) = (last / 2 * PAGE_BYTES, last / 3 * PAGE_BYTES);
    for at in 0..PAGE_BYTES {
        swapped.swap(a + at, b + at);
    }
    let with = |flags: u8, file: &[u8]| [&[flags][..], file].concat();
    vec![
        ("sound", with(0, &whole)),
        ("two-ages", with(4, &whole)),
        ("compacted-too", with(2, &whole)),
        ("no-metas", with(0, &zeroed(whole.clone(), &[0, 1]))),
        ("no-root", with(1, &zeroed(whole.clone(), &[last]))),
        ("holes", with(0, &zeroed(whole.clone(), &[last / 4, last / 3, last / 2]))),
        ("swapped", with(0, &swapped)),
        ("cut", with(1, &whole[..whole.len() / 2 + 100])),
        ("beheaded", with(1, &whole[3 * PAGE_BYTES..])),
    ]
}

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let dir = corpus.join(target);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), bytes).unwrap();
        println!("{target}/{name}: {} bytes", bytes.len());
    };
    for (name, file) in
        [("empty", empty()), ("small", etcd(3)), ("two-levels", etcd(60)), ("three-levels", etcd(400))]
    {
        write("db_walk", name, &file);
        let snapshot = [file.as_slice(), &Sha256::digest(&file)].concat();
        write("snapshot_status", name, &snapshot);
        for choice in [0u8, 1 | 4 | 32, 2 | 8 | 96] {
            write(
                "snapshot_restore",
                &format!("{name}-{choice}"),
                &[&[choice], snapshot.as_slice()].concat(),
            );
        }
        let edits = [0x40 | 1, 40, 0x80, 90, 1, 200, 2, 3, 0xc0 | 3, 1, 0x80 | 2, 5];
        write("graft", name, &[&edits[..], &[0], &file].concat());
        for (which, operations) in surgeries().iter().enumerate() {
            write("surgery", &format!("{name}-{which}"), &[&operations.concat()[..], &[0], &file].concat());
        }
        write("carve", name, &[&[0], &file[..]].concat());
    }
    for (name, seed) in carvings() {
        write("carve", name, &seed);
    }
    for (name, wreck) in wrecks() {
        write("salvage", name, &wreck);
    }
    for (name, program) in key_space_programs() {
        write("mvcc_index", name, &program);
        for (number, head) in
            [[0, 1, 0, 0, 0, 0, 0], [1, 5, 9, 2, 4, 0, 0], [8, 1, 3, 3, 7, 4, 5]].iter().enumerate()
        {
            write("mvcc_query", &format!("{name}-{number}"), &[&head[..], &program].concat());
        }
        for choice in [0, 5] {
            write("compact_round_trip", &format!("{name}-{choice}"), &[&[choice], &program[..]].concat());
        }
    }
    for (name, file) in [("file-small", etcd(3)), ("file-two-levels", etcd(60))] {
        write("mvcc_index", name, &file);
        write("mvcc_query", name, &[&[7, 1, 0, 0, 0, 0, 0], &file[..]].concat());
        write("compact_round_trip", name, &[&[3], &file[..]].concat());
    }
    for (name, program) in build_programs() {
        write("build_round_trip", name, &program);
        let edits = [0x40 | 1, 40, 0x80, 90, 1, 200, 2, 3, 0xc0 | 1, 9, 0x80 | 2, 5];
        write("graft_after_build", name, &[&edits[..], &[0], &program].concat());
    }
    for text in [
        "default=http://localhost:2380",
        "m1=http://127.0.0.1:1380,m2=https://host.example:2380,m1=http://[::1]:2380",
        "a=unix://sock:1,b=unixs:x",
        "http://user:pa%20ss@host:1/",
    ] {
        let name: String = text.chars().filter(char::is_ascii_alphanumeric).take(15).collect();
        write("initial_cluster", &name, text.as_bytes());
    }
    for member in InitialCluster::parse("m1=http://h:1,m2=http://h:2").unwrap().members("t").unwrap() {
        write("member_json", &member.name, &member.to_json());
        write("member_json", &format!("{}-attributes", member.name), &member.attributes_json());
    }
    for version in testdata::VERSIONS {
        let store = testdata::decompressed(&format!("v2store/live-{version}.json.zst"));
        write("v2_store", version, &store);
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&etcd(3)).unwrap();
    write("packed_input", "gzip", &gzip.finish().unwrap());
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("snapshot.db", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(&etcd(3)).unwrap();
    write("packed_input", "zip", &zip.finish().unwrap().into_inner());
    write("packed_input", "zstd", &fs::read(testdata::path("v2store/live-3.4.23.json.zst")).unwrap());
}
