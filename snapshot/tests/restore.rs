//! `restore` against what the real tools wrote for the same flags (testdata/fixtures/restored).
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bbolt::Io;
use common::{dump, opened};
use snapshot::new_cluster::Bump;
use snapshot::restore::{Output, RestoreError, RestoreOptions, RestoreReport, restore};
use snapshot::target::TargetVersion;
use snapshot::{integrity, v2store};
use testdata::{fingerprint, sha256_hex};

const CLUSTER: &str = "m1=http://127.0.0.1:1380,m2=http://127.0.0.1:2380,m3=http://127.0.0.1:3380";

fn options(output: Output) -> RestoreOptions {
    RestoreOptions {
        initial_cluster: CLUSTER.to_owned(),
        token: "golden".to_owned(),
        output,
        skip_hash_check: false,
        at_revision: None,
        bump_revision: None,
        target: None,
        keep_alarms: false,
        owner: None,
        dry_run: false,
        clean: false,
    }
}

fn m2(data_dir: &Path) -> Output {
    Output::OneMember {
        name: "m2".to_owned(),
        advertise_peer_urls: "http://127.0.0.1:2380".to_owned(),
        data_dir: data_dir.to_owned(),
        wal_dir: None,
    }
}

fn run(file: &Path, options: &RestoreOptions) -> Result<RestoreReport, RestoreError> {
    restore(&opened(file, Io::Mmap), options, &())
}

fn target_of(tool: &str) -> TargetVersion {
    tool.parse().unwrap()
}

/// (snapshot version, tool, WAL's SHA-256, `.snap`'s SHA-256) of every recorded restore.
fn goldens() -> Vec<[String; 4]> {
    let table = fs::read_to_string(testdata::path("fixtures/restored/golden.tsv")).unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            let version = cells[0].split('/').next().unwrap();
            [version, cells[1], cells[2], cells[4]].map(str::to_owned)
        })
        .collect()
}

fn one_file(dir: &Path, suffix: &str) -> PathBuf {
    let mut found = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(suffix));
    let path = found.next().unwrap();
    assert_eq!(found.next(), None);
    path
}

#[test]
fn log_and_snap_are_byte_for_byte_the_ones_of_each_versions_own_tool() {
    let dir = tempfile::tempdir().unwrap();
    for [version, tool, wal_sha256, snap_sha256] in goldens() {
        let file = testdata::snapshot_file(&version, "s3-final", dir.path());
        let before = fingerprint(&file);
        let data_dir = dir.path().join(format!("{version}-by-{tool}"));
        let with = RestoreOptions { target: Some(target_of(&tool)), ..options(m2(&data_dir)) };
        let report = run(&file, &with).unwrap();
        assert_eq!(fingerprint(&file), before);
        assert_eq!(report.target, target_of(&tool));

        let segment = one_file(&data_dir.join("member/wal"), ".wal");
        assert!(segment.ends_with("0000000000000000-0000000000000000.wal"));
        assert_eq!(sha256_hex(fs::read(segment).unwrap()), wal_sha256, "{version} by {tool}");

        let snap = one_file(&data_dir.join("member/snap"), ".snap");
        assert!(snap.ends_with("0000000000000001-0000000000000003.snap"));
        let ours = fs::read(snap).unwrap();
        if sha256_hex(&ours) == snap_sha256 {
            continue;
        }
        // 3.6 and 3.7 create the members in the order of a Go map.
        assert!(target_of(&tool) >= TargetVersion::V3_6, "{version} by {tool}");
        let unpacked = dir.path().join("golden").join(&version).join(&tool);
        testdata::unpack(&format!("restored/{version}-by-{tool}.tar.zst"), &unpacked);
        let golden_snap = find(&unpacked, ".snap");
        let golden = fs::read(golden_snap).unwrap();
        let (ours, golden) = (wal::decode_snap(&ours).unwrap(), wal::decode_snap(&golden).unwrap());
        assert_eq!(ours.metadata, golden.metadata);
        let (ours, golden) = (ours.data.unwrap(), golden.data.unwrap());
        assert_eq!(ours.len(), golden.len());
        let sorted = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.sort_unstable();
            bytes
        };
        // Same members, and the same text but for the places of the indices.
        assert_eq!(v2store::read(&ours).unwrap(), v2store::read(&golden).unwrap());
        assert_eq!(sorted(&ours), sorted(&golden));
    }
}

fn find(dir: &Path, suffix: &str) -> PathBuf {
    let prints = fingerprint(dir);
    let rel = prints.paths().find(|path| path.to_str().unwrap().ends_with(suffix)).unwrap();
    dir.join(rel)
}

#[test]
fn the_backend_is_the_tools_own_bucket_by_bucket_but_for_what_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for [version, tool, ..] in goldens() {
        let file = testdata::snapshot_file(&version, "s3-final", dir.path());
        let unpacked = dir.path().join("golden").join(&version).join(&tool);
        testdata::unpack(&format!("restored/{version}-by-{tool}.tar.zst"), &unpacked);
        let mut golden = dump(&find(&unpacked, "snap/db"));
        for keep_alarms in [true, false] {
            let data_dir = dir.path().join(format!("{version}-by-{tool}-{keep_alarms}"));
            let target = target_of(&tool);
            let with = RestoreOptions { target: Some(target), keep_alarms, ..options(m2(&data_dir)) };
            let report = run(&file, &with).unwrap();
            let mut ours = dump(&data_dir.join("member/snap/db"));
            if !keep_alarms {
                let dropped = golden.insert("alarm".to_owned(), Default::default()).unwrap();
                let said = report.notices.iter().any(|notice| notice.starts_with("alarms were dropped"));
                assert_eq!(said, !dropped.is_empty());
                assert_eq!(report.dropped_nospace_alarm, !dropped.is_empty());
            }
            if target == TargetVersion::V3_4 {
                // What etcdctl 3.4 forgets (FORMATS H.4), and we say.
                for notice in ["the old cluster's members were replaced", "the term of the old cluster's log"]
                {
                    let has_term = golden["meta"].contains_key(&b"term"[..]);
                    let said = report.notices.iter().any(|n| n.starts_with(notice));
                    assert_eq!(said, notice.contains("members") || has_term, "{notice}");
                }
                assert!(!ours["meta"].contains_key(&b"term"[..]));
                assert_eq!(ours["members"].len(), 3);
                let theirs = golden.clone();
                for bucket in ["members", "members_removed"] {
                    ours.insert(bucket.to_owned(), theirs[bucket].clone());
                }
                if let Some(term) = theirs["meta"].get(&b"term"[..]) {
                    ours.get_mut("meta").unwrap().insert(b"term".to_vec(), term.clone());
                }
            }
            assert_eq!(ours.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
            for (bucket, pairs) in &ours {
                assert!(pairs == &golden[bucket], "{version} by {tool}: bucket {bucket} differs");
            }
        }
    }
}

#[test]
fn without_a_target_the_version_that_wrote_the_data_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    for (version, expected) in [
        ("3.4.23", TargetVersion::V3_4),
        ("3.5.1", TargetVersion::V3_5),
        ("3.5.30", TargetVersion::V3_5),
        ("3.6.14", TargetVersion::V3_6),
        ("3.7.1", TargetVersion::V3_7),
    ] {
        let file = testdata::snapshot_file(version, "s1-precompact", dir.path());
        let with = RestoreOptions { dry_run: true, ..options(m2(&dir.path().join("none"))) };
        let report = run(&file, &with).unwrap();
        assert_eq!(report.target, expected, "{version}: {}", report.target_reason);
        assert!(report.dry_run);
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 5, "a dry run writes nothing: {left:?}");
}

#[test]
fn all_members_are_what_the_one_member_form_writes_for_each() {
    let dir = tempfile::tempdir().unwrap();
    let file = testdata::snapshot_file("3.5.30", "s2-auth", dir.path());
    let all = dir.path().join("all");
    let report = run(&file, &options(Output::AllMembers { dir: all.clone() })).unwrap();
    let names: Vec<_> = report.members.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["m1", "m2", "m3"]);
    for (member, url) in
        [("m1", "http://127.0.0.1:1380"), ("m2", "http://127.0.0.1:2380"), ("m3", "http://127.0.0.1:3380")]
    {
        let alone = dir.path().join(member);
        let output = Output::OneMember {
            name: member.to_owned(),
            advertise_peer_urls: url.to_owned(),
            data_dir: alone.clone(),
            wal_dir: None,
        };
        run(&file, &options(output)).unwrap();
        assert_eq!(fingerprint(&alone).contents(), fingerprint(&all.join(member)).contents());
    }
    let top: BTreeSet<_> = fs::read_dir(&all).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(top.into_iter().collect::<Vec<_>>(), ["m1", "m2", "m3"]);
}

/// FORMATS W: modes as the real tools leave them.
#[test]
fn modes_are_the_ones_etcd_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let file = testdata::snapshot_file("3.5.30", "s1-precompact", dir.path());
    let data_dir = dir.path().join("m2.etcd");
    run(&file, &options(m2(&data_dir))).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for sub in ["", "member", "member/snap", "member/wal"] {
        assert_eq!(mode(&data_dir.join(sub)), 0o700, "{sub}");
    }
    assert_eq!(mode(&data_dir.join("member/snap/db")), 0o600);
    let segment = one_file(&data_dir.join("member/wal"), ".wal");
    assert_eq!(mode(&segment), 0o600);
    assert_eq!(segment.metadata().unwrap().len(), 64_000_000);
}

#[test]
fn a_separate_log_directory_a_mount_point_and_a_bump() {
    let dir = tempfile::tempdir().unwrap();
    let file = testdata::snapshot_file("3.6.14", "s3-final", dir.path());
    let (data_dir, wal_dir) = (dir.path().join("empty"), dir.path().join("log/of/m2"));
    fs::create_dir(&data_dir).unwrap();
    let mut with = options(m2(&data_dir));
    if let Output::OneMember { wal_dir: place, .. } = &mut with.output {
        *place = Some(wal_dir.clone());
    }
    with.bump_revision = Some(Bump::By(1_000_000_000));
    let report = run(&file, &with).unwrap();
    assert_eq!((report.revision, report.bumped_to), (79, Some(1_000_000_079)));
    assert!(!data_dir.join("member/wal").exists());
    one_file(&wal_dir, ".wal");
    let db = dump(&data_dir.join("member/snap/db"));
    let revision = [&1_000_000_079i64.to_be_bytes()[..], b"_", &0i64.to_be_bytes()].concat();
    assert_eq!(db["key"].last_key_value(), Some((&revision, &Vec::new())));
    assert_eq!(db["meta"][&b"scheduledCompactRev"[..]], revision);

    with.bump_revision = Some(Bump::By(u64::MAX));
    with.output = m2(&dir.path().join("other"));
    assert!(run(&file, &with).unwrap_err().to_string().contains("2^63"));
    assert!(!dir.path().join("other").exists());
}

#[test]
fn a_missing_a_wrong_and_a_cut_hash_are_told_apart_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let whole = testdata::snapshot("3.5.30", "s1-precompact");
    let image = integrity::image_bytes(whole.len() as u64).0;
    let image = usize::try_from(image).unwrap();
    let file = dir.path().join("snapshot.db");
    let out = dir.path().join("out");
    let fails = |bytes: &[u8], skip: bool| {
        fs::write(&file, bytes).unwrap();
        let with = RestoreOptions { skip_hash_check: skip, ..options(m2(&out)) };
        let error = run(&file, &with).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{error}");
        (error.exit_code(), error.to_string())
    };
    let (code, text) = fails(&whole[..image], false);
    assert!(code == 1 && text.starts_with("snapshot missing hash but --skip-hash-check=false"), "{text}");
    let (code, text) = fails(&whole[..whole.len() - 5], false);
    assert!(code == 1 && text.contains("cut short"), "{text}");
    let mut wrong = whole.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let (code, text) = fails(&wrong, false);
    assert!(code == 1 && text.contains("expected sha256"), "{text}");
    // A page short: with the hash waived, the structure still tells.
    let (code, text) = fails(&whole[..image - 4096], true);
    assert!(code == 1 && text.contains("damaged"), "{text}");

    fs::write(&file, &wrong).unwrap();
    let with = RestoreOptions { skip_hash_check: true, ..options(m2(&out)) };
    run(&file, &with).unwrap();
    let again = run(&file, &with).unwrap_err();
    assert!(again.to_string().contains("out"), "{again}");
}

/// The hash is compared while the rest goes on; what is told does not depend on which of them ends first.
#[test]
fn of_two_errors_the_one_about_the_snapshot_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = testdata::snapshot("3.5.30", "s1-precompact");
    *bytes.last_mut().unwrap() ^= 1;
    let file = dir.path().join("snapshot.db");
    fs::write(&file, &bytes).unwrap();
    let out = dir.path().join("out");
    let wrong_hash = RestoreOptions { bump_revision: Some(Bump::By(u64::MAX)), ..options(m2(&out)) };
    for _ in 0..20 {
        let error = run(&file, &wrong_hash).unwrap_err();
        assert!(matches!(error, RestoreError::HashMismatch { .. }), "{error}");
    }
    // And nothing is taken away for it.
    let left = dir.path().join("out.etcd-rescue-partial");
    fs::create_dir(&left).unwrap();
    run(&file, &RestoreOptions { clean: true, ..options(m2(&out)) }).unwrap_err();
    fs::remove_dir(&left).unwrap();

    let waived = RestoreOptions { skip_hash_check: true, ..wrong_hash.clone() };
    let error = run(&file, &waived).unwrap_err();
    assert!(matches!(error, RestoreError::NewCluster { .. }), "{error}");

    // Page 3 says it is another page: damage, of which the wrong hash is one more finding.
    bytes[3 * 4096] ^= 0x40;
    fs::write(&file, &bytes).unwrap();
    for _ in 0..20 {
        let error = run(&file, &wrong_hash).unwrap_err();
        let codes: Vec<_> = error.findings().iter().map(|finding| finding.code).collect();
        assert!(matches!(error, RestoreError::Damaged { .. }), "{error}");
        assert!(codes.first().unwrap().starts_with("BBOLT-"), "{codes:?}");
        assert_eq!(codes.last(), Some(&"SNAP-HASH-MISMATCH"));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Writes into `file` as soon as `stage` begins.
struct Meddler<'a> {
    file: &'a Path,
    at: u64,
    stage: &'static str,
    /// Puts the time of the last write back, as a disk that answers otherwise would leave it.
    is_stealthy: bool,
}

impl bbolt::Watch for Meddler<'_> {
    fn begin(&self, stage: &'static str, _total_bytes: u64) {
        if stage == self.stage {
            let file = fs::File::options().write(true).open(self.file).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"!", self.at).unwrap();
            let now = SystemTime::now();
            file.set_modified(if self.is_stealthy { modified } else { now }).unwrap();
        }
    }

    fn advance(&self, _bytes: u64) {}

    fn interrupted(&self) -> bool {
        false
    }
}

/// What was hashed and checked is what is written, or nothing is.
#[test]
fn a_snapshot_that_changes_after_it_was_hashed_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let whole = testdata::snapshot("3.5.30", "s3-final");
    let name = b"/big/70k";
    // Within the long value behind the key.
    let at = whole.windows(name.len()).position(|bytes| bytes == name).unwrap() as u64 + 5_000;
    let (file, data_dir) = (dir.path().join("s.db"), dir.path().join("m2"));
    for io in [Io::Mmap, Io::Pread] {
        for (with_trailer, is_stealthy) in [(true, true), (true, false), (false, true)] {
            let len = whole.len() - if with_trailer { 0 } else { 32 };
            fs::write(&file, &whole[..len]).unwrap();
            // With `clean` the hash is complete before the first byte is written.
            let options =
                RestoreOptions { clean: true, skip_hash_check: !with_trailer, ..options(m2(&data_dir)) };
            let meddler = Meddler { file: &file, at, stage: "writing", is_stealthy };
            let error = restore(&opened(&file, io), &options, &meddler).unwrap_err();
            let RestoreError::Changed { source, .. } = &error else { panic!("{error}") };
            assert_eq!(source.offset, Some(0), "the first chunk: {error}");
            let said = error.to_string();
            assert!(said.contains("s.db: changed while it was read, at 0x0: "), "{said}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the snapshot is there");
        }
    }
}
