//! Surgery beside the real bbolt tool: the same operation on the same file makes the same file and says the same; what is made
//! is a file that bbolt's check takes, that its library can write to, and that a server boots from. About 15 s.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use bbolt::page::{FLAG_BRANCH, FLAG_LEAF};
use bbolt::page_file::PageFile;
use bbolt::{Build, BuildOptions, FreelistSync, PageId};
use support::{code, rescue, text};
use testdata::oracle::{Bbolt, Judge, Launch, Version};

/// Files of real servers, and generated ones: with a freelist and without, nested buckets, long values, small pages and large.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (version, stage) in [("3.4.23", "s1-precompact"), ("3.5.1", "s3-final"), ("3.7.1", "s2-auth")] {
        let path = dir.join(format!("{version}.db"));
        let image = testdata::snapshot(version, stage);
        fs::write(&path, &image[..image.len() - 32]).unwrap();
        files.push(path);
    }
    let data_dir = testdata::data_dir("3.5.30", dir);
    files.push(data_dir.join("member/snap/db"));
    for (page_size, freelist) in [
        (1024, FreelistSync::Persisted),
        (4096, FreelistSync::NotPersisted),
        (16384, FreelistSync::Persisted),
    ] {
        let path = dir.join(format!("built-{page_size}.db"));
        let out = fs::File::create(&path).unwrap();
        let options = BuildOptions { page_size, freelist, ..BuildOptions::default() };
        let mut build = Build::new(&out, options).unwrap();
        for name in [b"first".as_slice(), b"second", b"third"] {
            build.begin_bucket(name).unwrap();
            build.set_sequence(7);
            for n in 0..400u32 {
                let value = vec![b'v'; if n % 50 == 9 { 9000 } else { usize::try_from(n % 70).unwrap() }];
                build.put(format!("{n:06}").as_bytes(), &value).unwrap();
            }
            if name == b"second" {
                // Its pages are free, so that the freelist lists some.
                build.discard_bucket().unwrap();
                continue;
            }
            build.begin_bucket(b"within").unwrap();
            (0..90u32).for_each(|n| build.put(format!("{n:04}").as_bytes(), &[b'w'; 30]).unwrap());
            build.end_bucket().unwrap();
            build.end_bucket().unwrap();
        }
        build.finish().unwrap();
        files.push(path);
    }
    files
}

/// Branches and leaves with their number of elements, a few of each kind and length.
fn tree_pages(file: &Path) -> Vec<(u64, u16)> {
    let bytes = fs::read(file).unwrap();
    let pages = PageFile::new(bytes.as_slice(), None).unwrap();
    let end = pages.meta().unwrap().high_water_mark;
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    let mut id = 2;
    while id < end {
        let header = pages.header(PageId(id)).unwrap();
        let is_tree = header.id == id && [FLAG_BRANCH, FLAG_LEAF].contains(&header.flags) && header.count > 0;
        // bbolt does not read a page whose overflow is nearly as long as the file.
        if !is_tree || u64::from(header.overflow) >= end - 3 {
            id += 1;
            continue;
        }
        let kind = (header.flags, header.overflow.min(2));
        if seen.iter().filter(|other| **other == kind).count() < 2 {
            seen.push(kind);
            found.push((id, header.count));
        }
        id += 1 + u64::from(header.overflow);
    }
    found
}

/// Runs one operation with both; true when ours did not refuse it.
fn same(bbolt: &Bbolt, file: &Path, dir: &Path, operation: &[&str]) -> bool {
    let [theirs, ours] = ["theirs.db", "ours.db"].map(|name| dir.join(name));
    for path in [&theirs, &ours] {
        let _ = fs::remove_file(path);
    }
    let line = |output: &Path| {
        let args = ["surgery"].into_iter().chain(operation.iter().copied());
        args.chain([text(file), "--output", text(output)]).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = testdata::fingerprint(file);
    let their_run = bbolt.run(line(&theirs)).ok();
    let our_run = rescue(std::iter::once("bbolt".to_owned()).chain(line(&ours)));
    assert_eq!(testdata::fingerprint(file), before);
    if code(&our_run) == 4 {
        assert!(!ours.exists() && our_run.stderr.contains("--accept-loss"), "{our_run:?}");
        return false;
    }
    assert!([0, 3].contains(&code(&our_run)), "{our_run:?}");
    assert_eq!(our_run.stdout, their_run.stdout, "{operation:?} of {}", file.display());
    assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "{operation:?} of {}", file.display());
    true
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_the_same_operation_makes_the_same_file() {
    let bbolt = Bbolt::find();
    let scratch = tempfile::tempdir().unwrap();
    let mut done = 0;
    for file in files(scratch.path()) {
        let mut run = |operation: &[&str]| {
            let accepted = same(&bbolt, &file, scratch.path(), operation);
            done += usize::from(accepted);
            accepted
        };
        assert!(run(&["revert-meta-page"]));
        assert!(run(&["freelist", "abandon"]));
        assert!(run(&[
            "meta",
            "update",
            "--fields",
            "root:3,pgid:40",
            "--fields",
            "freelist:2",
            "--meta-page",
            "1"
        ]));
        assert!(run(&["meta", "update"]));
        let pages = tree_pages(&file);
        for (page, count) in &pages {
            let page = page.to_string();
            assert!(run(&["clear-page", "--pageId", &page]));
            let (middle, last) = ((count / 2).to_string(), (count - 1).to_string());
            for (from, to) in
                [("0", "1"), (middle.as_str(), "-1"), ("0", last.as_str()), (last.as_str(), "-1")]
            {
                if from != to {
                    let line =
                        ["clear-page-elements", "--pageId", &page, "--from-index", from, "--to-index", to];
                    assert!(run(&line));
                }
            }
        }
        for pair in pages.windows(2) {
            let [from, to] = [pair[0], pair[1]].map(|(page, _)| page.to_string());
            run(&["copy-page", "--from-page", &from, "--to-page", &to]);
        }
    }
    assert!(done > 100, "{done}");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_rebuilt_freelist_is_one_that_bbolt_can_work_with() {
    let bbolt = Bbolt::find();
    let scratch = tempfile::tempdir().unwrap();
    let (mut rebuilt, mut alike) = (Vec::new(), 0);
    for (number, file) in files(scratch.path()).iter().enumerate() {
        let abandoned = scratch.path().join(format!("abandoned-{number}.db"));
        let ours = scratch.path().join(format!("rebuilt-{number}.db"));
        rescue(["bbolt", "surgery", "freelist", "abandon", text(file), "-o", text(&abandoned)]).ok();
        rescue(["bbolt", "surgery", "freelist", "rebuild", text(&abandoned), "-o", text(&ours)]).ok();
        // A second time it is refused, as by bbolt.
        let again = rescue(["bbolt", "surgery", "freelist", "rebuild", text(&ours), "-o", "never"]);
        assert_eq!(code(&again), 4, "{again:?}");
        let theirs = bbolt.run(["surgery", "freelist", "rebuild", text(&ours), "--output", "never"]);
        assert!(theirs.stderr.contains("already has freelist"), "{theirs:?}");

        assert_eq!(bbolt.run(["check", text(&ours)]).ok().stdout, "OK\n");
        // It is what bbolt's own makes, to the byte.
        let theirs = scratch.path().join(format!("theirs-{number}.db"));
        bbolt.run(["surgery", "freelist", "rebuild", text(&abandoned), "--output", text(&theirs)]).ok();
        // A snapshot's metas may be where no commit would have put them: then bbolt writes over the one in force.
        let before = fs::read(&abandoned).unwrap();
        let pages = PageFile::new(before.as_slice(), None).unwrap();
        if pages.active_slot() == usize::try_from(pages.meta().unwrap().txid % 2).ok() {
            let (ours, theirs) = (fs::read(&ours).unwrap(), fs::read(&theirs).unwrap());
            // Where it has to append, bbolt makes the file longer than it needs.
            assert!(theirs.starts_with(&ours), "{}", file.display());
            alike += 1;
        }
        rebuilt.push(ours);
    }
    assert!(alike > 3, "{alike}");
    // The judge opens them to write, which bbolt does by this list.
    Judge::find().accept(7, 8, &rebuilt);
}

/// A server boots from what each operation makes that leaves the data whole.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_server_boots_from_an_edited_db() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = testdata::data_dir("3.5.1", scratch.path());
    let db = data_dir.join("member/snap/db");
    let steps: [&[&str]; 4] = [
        &["freelist", "abandon"],
        &["freelist", "rebuild"],
        // Both metas lead to the same tree by now.
        &["revert-meta-page"],
        &["copy-page", "--from-page", "0", "--to-page", "1"],
    ];
    for step in steps {
        let output = scratch.path().join("edited.db");
        let args = ["bbolt", "surgery"].into_iter().chain(step.iter().copied());
        rescue(args.chain([text(&db), "-o", text(&output)])).ok();
        fs::rename(&output, &db).unwrap();
    }
    let (hash, revision, _) = testdata::hashkv_facts("3.5.1", "s3-final");
    let server = Launch::new(Version::V3_5_1, &data_dir, "n1").user("root:rootpw").start();
    assert_eq!(server.hashkv(revision).hash, hash);
}
