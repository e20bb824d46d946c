//! What entries ask for, and the lines that are printed of them.

use std::io;

use snapshot::log_dump::{DumpOptions, EntryTypes, Filter, Form, dump};
use snapshot::request::schema::{CONF_CHANGE, CONF_CHANGE_V2, INTERNAL_RAFT_REQUEST, TOP_LEVEL, V2_REQUEST};
use snapshot::request::{ConfChange, Decoded, Message, Parsed, Style, decode, json, text};
use wal::MemoryLog;

/// The first byte picks the type of the message, the rest is one.
pub(crate) fn message(input: &[u8]) {
    let Some((which, data)) = input.split_first() else { return };
    let Some(kind) = TOP_LEVEL.get(usize::from(*which) % TOP_LEVEL.len()) else { return };
    if let Ok(parsed) = Parsed::new(kind, data) {
        shown(parsed.message());
        // What was accepted is accepted again, and says the same.
        let again = Parsed::new(kind, parsed.message().bytes());
        assert!(again.is_ok_and(|again| printed(again.message()) == printed(parsed.message())));
        if std::ptr::eq(*kind, &raw const CONF_CHANGE) {
            changes(&ConfChange::v1(data));
        }
        if std::ptr::eq(*kind, &raw const CONF_CHANGE_V2) {
            changes(&ConfChange::v2(data));
        }
    }
    let decoded = decode(data);
    let v3 = Parsed::new(&INTERNAL_RAFT_REQUEST, data).is_ok();
    match &decoded {
        Decoded::Nothing => assert!(data.is_empty()),
        Decoded::V3(_) => assert!(v3),
        Decoded::V2(_) => assert!(!v3 && Parsed::new(&V2_REQUEST, data).is_ok()),
        Decoded::Undecodable { .. } => assert!(!v3),
    }
    let Some(request) = decoded.request() else { return };
    let key = data.get(..3).unwrap_or_default();
    let held = request.keys().filter(|range| range.contains(key)).count();
    let met = request.keys().filter(|range| range.meets(snapshot::request::Prefix(key))).count();
    assert!(held <= met, "a range that holds a key meets it as a prefix");
    let _ = (request.leases().count(), request.members().count(), request.paths().count());
    let _ = (request.holds_secret(), request.has_unknown_fields(), request.kind());
    let (mut line, mut same) = (Vec::new(), Vec::new());
    decoded.write_text(&Style::default(), &mut line);
    decoded.write_text(&Style::default(), &mut same);
    assert_eq!(line, same);
    assert!(!line.contains(&b'\n'), "a request is one row");
}

fn changes(change: &Result<ConfChange<'_>, snapshot::request::WireError>) {
    let Ok(change) = change else { panic!("the same message parsed") };
    let mut out = Vec::new();
    change.write_text(&mut out);
    assert!(!out.contains(&b'\n'));
    let _ = (change.changes().count(), change.context());
}

fn printed(message: Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    text::write(message, &Style { cut: None, show_secrets: true }, &mut out);
    out
}

fn shown(message: Message<'_>) {
    let depth = message.walk().count();
    assert!(depth <= message.bytes().len() + 1, "more messages than bytes");
    for style in [Style::default(), Style { cut: Some(2), show_secrets: true }] {
        let mut out = Vec::new();
        json::write(message, &style, &mut out);
        // An object on one line: nothing in it but what its escapes let through.
        assert!(std::str::from_utf8(&out).is_ok());
        assert!(!out.iter().any(|byte| *byte < 0x20), "a control character in JSON");
    }
}

/// A log printed in every form.
pub(crate) fn log(input: &[u8]) {
    let half = input.len() / 2 / 8 * 8;
    let (first, second) = input.split_at(half);
    let files = match input.first() {
        // Two segments of one log, or one.
        Some(byte) if byte % 2 == 1 => vec![
            ("0000000000000000-0000000000000000.wal".to_owned(), first.to_vec()),
            ("0000000000000001-0000000000000005.wal".to_owned(), second.to_vec()),
        ],
        _ => vec![("0000000000000000-0000000000000000.wal".to_owned(), input.to_vec())],
    };
    let segments = MemoryLog::new(files);
    let Ok(log) = wal::log::read(&segments, &|_| std::ops::ControlFlow::Continue(())) else { return };
    let filters = [
        Filter { overwritten: true, ..Filter::default() },
        Filter { key: Some(b"/a/key001".to_vec()), prefix: Some(b"/".to_vec()), ..Filter::default() },
        Filter {
            types: Some(EntryTypes::parse("IRRPut,ConfigChange,Request").0),
            uncommitted: true,
            end: Some(7),
            ..Filter::default()
        },
    ];
    for filter in filters {
        for form in [Form::Rows, Form::Raw, Form::Json { crc: true }] {
            let options = DumpOptions {
                form,
                style: Style { cut: Some(16), show_secrets: false },
                filter: filter.clone(),
                types: String::new(),
            };
            let mut out = Vec::new();
            let dumped = dump(&segments, &log, &options, &mut out, None, &());
            let Ok(dumped) = dumped else { panic!("memory takes everything") };
            let faults = u64::try_from(log.faults.len()).unwrap_or(u64::MAX);
            assert_eq!(dumped.faults, faults, "each fault is marked once");
            let lines = out.iter().filter(|byte| **byte == b'\n').count();
            assert!(u64::try_from(lines).unwrap_or(u64::MAX) >= dumped.entries + faults);
            let again = dump(&segments, &log, &options, &mut io::sink(), None, &());
            assert!(again.is_ok_and(|again| again == dumped));
        }
    }
}

/// What a log without its database says of revisions.
pub(crate) fn seen(input: &[u8]) {
    let files = MemoryLog::new(vec![("0000000000000000-0000000000000000.wal".to_owned(), input.to_vec())]);
    let Ok(log) = wal::log::read(&files, &|_| std::ops::ControlFlow::Continue(())) else { return };
    let Ok(revision) = snapshot::seen::named(&files, &log, &()) else { return };
    let entries = i64::try_from(log.entries).unwrap_or(i64::MAX);
    let most = snapshot::seen::MOST_BELIEVED.saturating_add(entries);
    assert!(revision.is_none_or(|revision| (1..=most).contains(&revision)));
}
