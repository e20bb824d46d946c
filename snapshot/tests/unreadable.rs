//! Sources of which parts cannot be read: every answer is the right one or none, and what is not answered says where.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};

use bbolt::{Source, SourceError};
use snapshot::integrity;
use snapshot::status::{StatusOptions, of_source};

const PAGE_BYTES: u64 = 4096;

/// Bytes of which a range cannot be read: ever, or only the `only`th time that it is asked for.
struct Faulty<'a> {
    all: &'a [u8],
    bad: (u64, u64),
    only: Option<u32>,
    asked: AtomicU32,
}

impl<'a> Faulty<'a> {
    fn new(all: &'a [u8], bad: (u64, u64), only: Option<u32>) -> Self {
        Self { all, bad, only, asked: AtomicU32::new(0) }
    }
}

impl Source for Faulty<'_> {
    fn len_bytes(&self) -> u64 {
        self.all.len() as u64
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        let is_bad = offset < self.bad.1 && self.bad.0 < offset.saturating_add(len);
        if is_bad {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            if self.only.is_none_or(|only| only == asked) {
                let message = "Input/output error (os error 5)".to_owned();
                return Err(SourceError::Read { offset, len, message });
            }
        }
        self.all.bytes(offset, len)
    }
}

/// True when `said` names an offset.
fn names_an_offset(said: &str) -> bool {
    said.contains(" at 0x")
}

fn image() -> Vec<u8> {
    testdata::snapshot("3.5.1", "s3-final")
}

/// Asserts that the status of `faulty` is `right`, or that it is missing and the reason says where.
fn assert_right_or_none(
    faulty: &Faulty<'_>,
    options: &StatusOptions,
    right: &snapshot::status::Status,
) -> bool {
    let what = format!("{:?}, time {:?}, {options:?}", faulty.bad, faulty.only);
    match of_source(faulty, "it.db", options, &()) {
        Err(error) => {
            assert!(names_an_offset(&error.to_string()), "{what}: {error}");
            false
        }
        Ok(report) => match report.status {
            Some(status) => {
                assert_eq!(&status, right, "{what}");
                true
            }
            None => {
                let told = report.findings.iter().any(|finding| {
                    names_an_offset(&finding.to_string())
                        && finding.to_string().contains("Input/output error")
                });
                assert!(told, "{what}: {:?}", report.findings);
                false
            }
        },
    }
}

/// Every page, never readable. With the hash compared every page counts; without it, those that no tree uses do not.
#[test]
fn a_page_that_cannot_be_read_is_named_or_does_not_matter() {
    let all = image();
    let right = of_source(&all.as_slice(), "it.db", &StatusOptions::default(), &()).unwrap().status.unwrap();
    let pages = all.len() as u64 / PAGE_BYTES;
    for skip_hash_check in [false, true] {
        let options = StatusOptions { skip_hash_check };
        let answered = (0..pages).filter(|page| {
            let bad = (page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
            assert_right_or_none(&Faulty::new(&all, bad, None), &options, &right)
        });
        let answered = answered.count() as u64;
        if skip_hash_check {
            assert!(answered < pages, "no page matters");
        } else {
            assert_eq!(answered, 0, "every page is part of the hash");
        }
    }
}

/// Every page, unreadable once and then readable again, as a disk that dies is: no count and no hash may come out wrong.
#[test]
fn a_page_that_cannot_be_read_once_changes_no_answer() {
    let all = image();
    let right = of_source(&all.as_slice(), "it.db", &StatusOptions::default(), &()).unwrap().status.unwrap();
    for page in 0..all.len() as u64 / PAGE_BYTES {
        for time in 0..6 {
            let bad = (page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
            for skip_hash_check in [false, true] {
                let faulty = Faulty::new(&all, bad, Some(time));
                assert_right_or_none(&faulty, &StatusOptions { skip_hash_check }, &right);
            }
        }
    }
}

#[test]
fn no_hash_is_made_of_what_cannot_be_read() {
    let all = image();
    let (image_bytes, has_trailer) = integrity::image_bytes(all.len() as u64);
    assert!(has_trailer);
    for offset in [0, 5000, image_bytes / 2, image_bytes - 1] {
        let faulty = Faulty::new(&all, (offset, offset + 1), None);
        let error = integrity::sha256(&faulty, image_bytes, &()).unwrap_err();
        assert!(names_an_offset(&error.to_string()), "{error}");
        assert!(names_an_offset(&integrity::verify(&faulty, &()).unwrap_err().to_string()));
    }
    let trailer = Faulty::new(&all, (image_bytes, image_bytes + 1), None);
    assert!(names_an_offset(&integrity::verify(&trailer, &()).unwrap_err().to_string()));
}
