//! Sources as they come: damaged, in parts, packed, with names nobody would give.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use casefile::{AddError, Case, FileState, Timeline};
use common::{add_quietly, ask_everything, case_in};

/// A damaged member of the fixtures, below `dir`.
fn damaged_member(name: &str, dir: &Path) -> PathBuf {
    let data = dir.join("data");
    testdata::unpack(&format!("3.5.30/damaged/{name}.tar.zst"), &data);
    let below = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    if data.join("member").is_dir() { data } else { below.unwrap() }
}

#[test]
fn damaged_sources_are_added_with_what_is_wrong_with_them() {
    for name in [
        "db-meta0-corrupt",
        "db-both-meta-corrupt",
        "snap-corrupt-newest",
        "wal-crc-mismatch-middle",
        "wal-torn-zero-sectors",
        "wal-truncated-in-header",
        "wal-truncated-mid-record",
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let case = scratch.path().join("a.case");
        Case::create(&case, "").unwrap();
        let member = damaged_member(name, scratch.path());
        let before = testdata::fingerprint(&member);
        let added = add_quietly(&case, name, &member).unwrap().source;
        assert_eq!(testdata::fingerprint(&member), before, "{name}");
        // What a crash leaves at the end of a log is in order, and no finding.
        let is_torn = name.starts_with("wal-t");
        assert!(is_torn || !added.findings.is_empty(), "{name}");
        assert!(added.log.is_some_and(|log| log.entries > 0), "{name}");
        assert_eq!(added.key_space.is_some(), name != "db-both-meta-corrupt", "{name}");
        ask_everything(&case).unwrap();
    }
}

/// What is left of a member when one of its parts is gone.
#[test]
fn a_source_may_lack_whatever_it_lacks() {
    let scratch = tempfile::tempdir().unwrap();
    let case = scratch.path().join("a.case");
    Case::create(&case, "").unwrap();
    let whole = testdata::data_dir("3.5.30", scratch.path());
    let source = add_quietly(&case, "whole", &whole).unwrap().source;
    let (space, log) = (source.key_space.unwrap(), source.log.unwrap());
    assert!(space.records > 0 && log.entries > 0);
    let copy = |name: &str| {
        let to = scratch.path().join(name);
        fs::create_dir(&to).unwrap();
        testdata::unpack("3.5.30/single/data.tar.zst", &to);
        to.join("data")
    };

    let emptied = copy("emptied");
    fs::write(emptied.join("member/snap/db"), b"").unwrap();
    let without = copy("without");
    fs::remove_file(without.join("member/snap/db")).unwrap();
    let wal = scratch.path().join("the log alone");
    fs::rename(copy("parted").join("member/wal"), &wal).unwrap();
    for dir in [&emptied, &without, &wal] {
        let added = add_quietly(&case, &dir.to_string_lossy(), dir).unwrap().source;
        assert_eq!((added.key_space, added.pages), (None, None), "{dir:?}");
        assert_eq!(added.log.unwrap().entries, log.entries, "{dir:?}");
    }
    let named = |name: &str| Case::open(&case).unwrap().source(name).unwrap().clone();
    assert!(!named(&emptied.to_string_lossy()).findings.is_empty());

    let silent = copy("silent");
    fs::remove_dir_all(silent.join("member/wal")).unwrap();
    for path in [silent.clone(), silent.join("member/snap/db")] {
        let added = add_quietly(&case, &path.to_string_lossy(), &path).unwrap().source;
        assert_eq!((added.key_space.as_ref(), added.log), (Some(&space), None));
    }

    // The other half of a member is read with the half that was given, and is found again too.
    let half = whole.join("member/wal");
    let added = add_quietly(&case, "half", &half).unwrap().source;
    assert_eq!(
        (added.key_space.as_ref(), added.log.as_ref().map(|log| log.entries)),
        (Some(&space), Some(log.entries))
    );
    assert!(added.files[added.database.unwrap()].path.ends_with("snap/db"));
    let rows = Case::open(&case).unwrap().verify(&()).unwrap().rows;
    assert!(rows.iter().filter(|row| row.source == "half").all(|row| row.state == FileState::Same));
    // Of a log in pieces, each entry is cited by the piece it is in, also where one piece was given alone.
    let segment = added.log.unwrap().segments[0];
    let alone = half.join(&added.files[segment].path);
    let added = add_quietly(&case, "a segment", &alone).unwrap().source;
    assert_eq!((added.files.len(), added.log.unwrap().segments), (1, vec![0]));

    let bare = scratch.path().join("bare");
    fs::create_dir(&bare).unwrap();
    assert!(matches!(add_quietly(&case, "bare", &bare), Err(AddError::Verify(_))));
    let before = fs::read(&case).unwrap();
    assert!(add_quietly(&case, "nowhere", &scratch.path().join("nowhere")).is_err());
    assert_eq!(fs::read(&case).unwrap(), before);
    ask_everything(&case).unwrap();
}

/// Offsets in citations are in what was unpacked, whose hash they name.
#[test]
fn a_packed_snapshot_is_cited_by_what_was_in_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (case, source) = case_in(scratch.path());
    let plain = fs::read(&source).unwrap();
    let packed = scratch.path().join("s.db.gz");
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut writer, &plain).unwrap();
    fs::write(&packed, writer.finish().unwrap()).unwrap();
    let of_plain = add_quietly(&case, "plain", &source).unwrap().source;
    let of_packed = add_quietly(&case, "packed", &packed).unwrap().source;
    assert_eq!(of_plain.key_space, of_packed.key_space);
    let file = &of_packed.files[0];
    assert_eq!(file.sha256, testdata::sha256_hex(fs::read(&packed).unwrap()));
    assert_eq!(file.unpacked, Some((plain.len() as u64, testdata::sha256_hex(&plain))));

    let read = Case::open(&case).unwrap();
    let mut rows = Vec::new();
    read.timeline(&Timeline { to: 40, ..Timeline::default() }, &mut |row| {
        rows.push(row.clone());
        ControlFlow::Continue(())
    })
    .unwrap();
    for row in &rows {
        assert_eq!(row.held.len(), 2);
        let cited = row.held.iter().map(|held| read.cite(held)).collect::<Vec<_>>();
        assert_eq!(cited[0].offset, cited[1].offset);
        assert_eq!(Some(&cited[0].sha256), cited[1].unpacked_sha256.as_ref());
        assert_eq!(cited[1].sha256, file.sha256);
    }
    fs::remove_file(source).unwrap();
    let put = rows.iter().find(|row| !row.tombstone).unwrap();
    assert_eq!(read.value(put).unwrap().len() as u64, put.value_len);
    fs::remove_file(packed).unwrap();
    assert!(Case::open(&case).unwrap().value(put).is_err());
}

/// Names on a disk are bytes; each has a text of its own, by which its file is found again.
#[test]
fn no_name_of_a_file_is_too_strange() {
    use std::os::unix::ffi::OsStringExt;

    let scratch = tempfile::tempdir().unwrap();
    let case = scratch.path().join("a.case");
    Case::create(&case, "").unwrap();
    let whole = testdata::data_dir("3.5.30", scratch.path());
    let data = scratch.path().join(std::ffi::OsString::from_vec(b"d\xfe\n\\x41".to_vec()));
    fs::rename(whole, &data).unwrap();
    let long = vec![b'n'; 255];
    for name in [&b"a\nb"[..], b"\xff", b"\xfe", b"\x1b[31m", b"<script>", b"..\\..", b"=", b" ", &long] {
        fs::write(data.join(std::ffi::OsString::from_vec(name.to_vec())), name).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", data.join("to-nothing")).unwrap();
    std::os::unix::fs::symlink(&data, data.join("to-itself")).unwrap();
    let added = add_quietly(&case, "n1", &data).unwrap().source;
    assert!(added.files.iter().all(|file| !file.path.contains(char::is_control)));
    let paths: std::collections::BTreeSet<_> = added.files.iter().map(|file| &file.path).collect();
    assert_eq!(paths.len(), added.files.len());
    assert!(
        ["\\xff", "a\\x0ab", "<script>"].iter().all(|name| paths.contains(&(*name).to_owned())),
        "{paths:?}"
    );
    assert!(added.database.is_some());
    assert!(add_quietly(&case, "n1", &data).unwrap().was_there);

    let read = Case::open(&case).unwrap();
    assert!(read.verify(&()).unwrap().holds());
    let mut put = None;
    read.timeline(&Timeline::default(), &mut |row| {
        put = (!row.tombstone).then(|| row.clone());
        if put.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    read.value(&put.unwrap()).unwrap();
    fs::write(data.join(std::ffi::OsString::from_vec(b"\xfe".to_vec())), b"other").unwrap();
    let error = add_quietly(&case, "n1", &data).unwrap_err();
    assert!(matches!(&error, AddError::Changed { files, .. } if *files == ["\\xfe"]), "{error}");
}

#[test]
fn a_leaf_that_is_lost_is_a_hole_and_the_rest_is_there() {
    let scratch = tempfile::tempdir().unwrap();
    let (case, source) = case_in(scratch.path());
    let whole = add_quietly(&case, "whole", &source).unwrap().source.key_space.unwrap();
    let mut page = None;
    let read = Case::open(&case).unwrap();
    read.timeline(&Timeline::default(), &mut |row| {
        page = Some(row.held[0].page);
        if row.main > whole.last / 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    let mut bytes = fs::read(&source).unwrap();
    let at = usize::try_from(page.unwrap()).unwrap() * 4096;
    bytes[at..at + 4096].fill(0xee);
    let damaged = scratch.path().join("damaged.db");
    fs::write(&damaged, bytes).unwrap();
    let found = add_quietly(&case, "damaged", &damaged).unwrap().source;
    let space = found.key_space.clone().unwrap();
    assert_eq!((space.is_whole(), space.holes.len()), (false, 1));
    assert!(space.records < whole.records && space.records > 0);
    assert!(found.pages.as_ref().unwrap().damaged_pages > 0);
    let read = Case::open(&case).unwrap();
    let (from, to) = space.holes[0];
    let mut lost = 0;
    let diff = read
        .diff(&read.sources()[0], &read.sources()[1], &mut |each| {
            let row = each.a.as_ref().unwrap();
            assert!(
                (from..to.unwrap()).contains(&row.main)
                    && each.parting == casefile::rows::Parting::Unreadable
            );
            lost += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    // What lies below a damaged page is no difference of the histories.
    let torn = whole.records - space.records;
    assert_eq!((diff.missing, diff.part, diff.unreadable, lost), (0, None, torn, torn));
}
