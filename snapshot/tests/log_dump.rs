//! The dump of logs in memory: damaged in every bit of a piece, and read by more than one segment.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::ops::ControlFlow;

use snapshot::log_dump::{Answer, DumpError, DumpOptions, Dumped, Filter, Form, StreamDecoder, dump};
use snapshot::request::Style;
use wal::MemoryLog;

const NAME: &str = "0000000000000000-0000000000000000.wal";

/// The single segment of the fixture of this version.
fn segment(version: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let data = testdata::data_dir(version, dir.path());
    fs::read(data.join("member/wal").join(NAME)).unwrap()
}

fn options(form: Form, show_secrets: bool) -> DumpOptions {
    let style = Style { cut: None, show_secrets };
    let filter = Filter { overwritten: true, ..Filter::default() };
    DumpOptions { form, style, filter, types: String::new() }
}

fn print(
    bytes: &[u8],
    options: &DumpOptions,
    decoder: Option<&mut (dyn StreamDecoder + 'static)>,
) -> (String, Dumped) {
    let segments = MemoryLog::new(vec![(NAME.to_owned(), bytes.to_vec())]);
    let log = wal::log::read(&segments, &|_| ControlFlow::Continue(())).unwrap();
    let mut out = Vec::new();
    let dumped = dump(&segments, &log, options, &mut out, decoder, &()).unwrap();
    (String::from_utf8(out).unwrap(), dumped)
}

const FORMS: [Form; 3] = [Form::Rows, Form::Raw, Form::Json { crc: true }];

/// A damaged entry is shown as far as it can be told, and a password may then stand where none is looked for.
#[test]
fn damage_uncovers_no_password() {
    let mut bytes = segment("3.4.23");
    let secret = b"rootpw";
    let at = bytes.windows(secret.len()).position(|window| window == secret).unwrap();
    // The record and a few behind it; what is before it is not of interest.
    bytes.truncate(at + 2_000);
    for form in FORMS {
        assert!(print(&bytes, &options(form, true), None).0.contains("rootpw"));
    }
    // All of its record but the length word, which is 8 bytes before the first.
    let from = at - 64;
    for offset in from..at {
        for bit in 0..8 {
            bytes[offset] ^= 1 << bit;
            for form in FORMS {
                let (out, _) = print(&bytes, &options(form, false), None);
                let leaked =
                    out.lines().find(|line| line.contains("rootpw") || line.contains("726f6f747077"));
                assert_eq!(leaked, None, "{form:?} with bit {bit} of byte {offset} turned");
            }
            bytes[offset] ^= 1 << bit;
        }
    }
}

/// Answers with what it was given.
#[derive(Default)]
struct Echo {
    asked: usize,
}

impl StreamDecoder for Echo {
    fn decode(&mut self, data: &[&[u8]]) -> Result<Vec<Answer>, DumpError> {
        self.asked += data.len();
        let answer = |data: &&[u8]| Answer { status: "OK".to_owned(), decoded: data.len().to_string() };
        Ok(data.iter().map(answer).collect())
    }
}

#[test]
fn a_decoder_is_asked_once_for_each_entry_but_those_with_passwords() {
    let bytes = segment("3.5.1");
    for form in [Form::Rows, Form::Json { crc: false }] {
        let mut echo = Echo::default();
        let (out, dumped) = print(&bytes, &options(form, false), Some(&mut echo));
        assert_eq!((dumped.entries, dumped.withheld, dumped.faults), (190, 3, 0));
        assert_eq!(echo.asked, 187);
        if form == Form::Rows {
            assert_eq!(out.lines().filter(|line| line.contains("\tOK\t")).count(), 187);
        } else {
            for line in out.lines() {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(value["record"] == "entry", value.get("decoder_status").is_some(), "{line}");
            }
        }
        let mut echo = Echo::default();
        let (_, dumped) = print(&bytes, &options(form, true), Some(&mut echo));
        assert_eq!((dumped.withheld, echo.asked), (0, 190));
    }
}

/// However a log is cut, each entry that is whole is printed, and nothing but it.
#[test]
fn whatever_is_left_of_a_log_is_printed() {
    let bytes = segment("3.6.14");
    let all = print(&bytes, &options(Form::Rows, true), None).0;
    let rows: Vec<&str> = all.lines().collect();
    assert_eq!(rows.len(), 216);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for cut in (0..end).step_by(end / 150) {
        let (out, dumped) = print(&bytes[..cut], &options(Form::Rows, true), None);
        let printed: Vec<&str> =
            out.lines().filter(|line| !line.contains("\tbad\t") && !line.contains("does not hold")).collect();
        assert_eq!(printed, rows[..printed.len()]);
        assert_eq!(u64::try_from(printed.len()), Ok(dumped.entries));
    }
}
