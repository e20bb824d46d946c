//! One record as text.

use std::io::Write;

use wal::entry::EntryRef;
use wal::fault::BitFlip;
use wal::log::Log;
use wal::raftpb::EntryType;
use wal::scan::Item;
use wal::{LogFault, Record, RecordType};

use super::{Answer, DumpError, DumpOptions, Form, StreamDecoder};
use crate::request::Item::Unknown;
use crate::request::schema::{ENTRY, HARD_STATE, METADATA, MessageType, WAL_SNAPSHOT};
use crate::request::{ConfChange, Decoded, Message, Parsed, REMOVED, Request, WireError, decode, json, text};

/// A segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) at: usize,
    pub(super) name: &'a str,
}

/// What a batch looks like.
#[derive(Debug, Default)]
pub(super) struct Printed<'a> {
    pub(super) text: Vec<u8>,
    pub(super) entries: u64,
    pub(super) faults: u64,
    /// For each entry the place in `text` at which a decoder's answer is put, and its data; `None` for one that holds a
    /// password not to be shown.
    pub(super) asked: Vec<(usize, Option<&'a [u8]>)>,
}

/// What is printed of an entry, decoded once.
struct Content<'a> {
    entry: EntryRef<'a>,
    decoded: Option<Decoded<'a>>,
    change: Option<Result<ConfChange<'a>, WireError>>,
}

impl<'a> Content<'a> {
    fn of(entry: EntryRef<'a>) -> Self {
        let decoded = (entry.entry_type == EntryType::Normal as i32).then(|| decode(entry.data));
        let change = if entry.entry_type == EntryType::ConfChange as i32 {
            Some(ConfChange::v1(entry.data))
        } else if entry.entry_type == EntryType::ConfChangeV2 as i32 {
            Some(ConfChange::v2(entry.data))
        } else {
            None
        };
        Self { entry, decoded, change }
    }

    fn kind(&self) -> &'static str {
        match (&self.decoded, &self.change) {
            (Some(decoded), _) => decoded.kind(),
            (None, Some(Ok(_))) => "conf_change",
            (None, _) => "undecodable",
        }
    }

    /// Why it cannot be decoded.
    fn error(&self) -> Option<String> {
        match (&self.decoded, &self.change) {
            (Some(Decoded::Undecodable { v3, v2 }), _) => {
                Some(format!("no v3 request: {v3}; no v2 request: {v2}"))
            }
            (None, Some(Err(error))) => Some(error.to_string()),
            (None, None) => Some("of a type that no version of etcd has".to_owned()),
            _ => None,
        }
    }

    fn holds_secret(&self) -> bool {
        self.decoded.as_ref().and_then(Decoded::request).is_some_and(Request::holds_secret)
    }

    /// Whether the data may hold a password in a place where none is looked for: it cannot be decoded, or it is damaged and
    /// not plainly something else.
    fn may_hide_secret(&self, verified: bool) -> bool {
        match &self.decoded {
            None => match &self.change {
                Some(Ok(change)) => {
                    !verified && change.message().items().any(|item| matches!(item, Unknown(_)))
                }
                // Its type may be what is damaged.
                Some(Err(_)) | None => true,
            },
            Some(Decoded::Nothing) => false,
            Some(Decoded::Undecodable { .. }) => true,
            Some(Decoded::V2(_)) => !verified,
            Some(Decoded::V3(request)) => {
                let plain =
                    ["put", "range", "delete_range", "txn", "compaction", "lease_grant", "lease_revoke"];
                !verified && (!plain.contains(&request.kind()) || request.has_unknown_fields())
            }
        }
    }
}

/// What is known of an entry besides itself.
#[derive(Clone, Copy)]
struct Standing {
    overwritten: bool,
    verified: bool,
    /// Its data is not to be shown at all.
    hidden: bool,
}

/// Prints records.
#[derive(Clone, Copy)]
pub(super) struct Formatter<'r> {
    pub(super) options: &'r DumpOptions,
    pub(super) log: &'r Log,
}

impl Formatter<'_> {
    /// Appends an item.
    pub(super) fn item<'a>(&self, place: Place<'_>, item: &Item<'a>, printed: &mut Printed<'a>) {
        match item {
            Item::Record(found) => self.record(place, &found.record, true, printed),
            Item::Fault(broken) => {
                if let Some(record) = &broken.record {
                    self.record(place, record, false, printed);
                }
            }
            // What was skipped is said by the fault before it.
            Item::Skipped(_) => {}
        }
    }

    fn record<'a>(&self, place: Place<'_>, record: &Record<'a>, verified: bool, printed: &mut Printed<'a>) {
        if record.record_type == RecordType::Entry {
            // An entry that cannot be read is a fault of its own.
            if let Ok(entry) = EntryRef::decode(record.data) {
                self.entry(place, record, entry, verified, printed);
            }
            return;
        }
        match self.options.form {
            Form::Rows => {}
            Form::Raw => self.raw(record, verified, &mut printed.text),
            Form::Json { crc } => {
                let wanted = match record.record_type {
                    RecordType::Crc => crc,
                    _ => !self.options.filter.is_about_entries(),
                };
                if wanted {
                    self.json_record(place, record, verified, &mut printed.text);
                }
            }
        }
    }

    fn entry<'a>(
        &self,
        place: Place<'_>,
        record: &Record<'a>,
        entry: EntryRef<'a>,
        verified: bool,
        printed: &mut Printed<'a>,
    ) {
        let filter = &self.options.filter;
        if !filter.has_head(&entry, self.log.commit()) {
            return;
        }
        let overwritten = self.log.is_overwritten(place.at, record.offset, entry.index);
        if overwritten && !filter.overwritten && self.options.form != Form::Raw {
            return;
        }
        let content = Content::of(entry);
        let change = content.change.as_ref().and_then(|change| change.as_ref().ok());
        if !filter.has_content(entry.entry_type, content.decoded.as_ref(), change) {
            return;
        }
        printed.entries += u64::from(verified);
        let hidden = !self.options.style.show_secrets && content.may_hide_secret(verified);
        let withheld = hidden || (!self.options.style.show_secrets && content.holds_secret());
        let standing = Standing { overwritten, verified, hidden };
        match self.options.form {
            Form::Rows => self.row(&content, standing, &mut printed.text),
            Form::Raw if withheld => {
                let EntryRef { term, index, .. } = entry;
                // Writing to memory does not fail.
                let _ = writeln!(
                    printed.text,
                    "Entry: Term:{term} Index:{index} Data:\"{REMOVED}\" {}",
                    unverified(verified)
                );
            }
            Form::Raw => self.raw(record, verified, &mut printed.text),
            Form::Json { .. } => self.json_entry(place, record, &content, standing, &mut printed.text),
        }
        // Behind the row, or within the object.
        let at = printed.text.len().saturating_sub(match self.options.form {
            Form::Json { .. } => 2,
            _ => 1,
        });
        printed.asked.push((at, (!withheld).then_some(entry.data)));
    }

    /// A row of etcd-dump-logs.
    fn row(&self, content: &Content<'_>, standing: Standing, out: &mut Vec<u8>) {
        let EntryRef { entry_type, term, index, .. } = content.entry;
        // Writing to memory does not fail.
        let _ = write!(out, "{term:4}\t{index:10}\t");
        match (&content.decoded, &content.change) {
            (Some(decoded), _) => {
                out.extend_from_slice(b"norm\t");
                if standing.hidden && !matches!(decoded, Decoded::Undecodable { .. }) {
                    out.extend_from_slice(REMOVED.as_bytes());
                } else {
                    decoded.write_text(&self.options.style, out);
                }
            }
            (None, Some(change)) => {
                out.extend_from_slice(b"conf\t");
                match change {
                    Ok(change) => change.write_text(out),
                    Err(_) => out.extend_from_slice(b"???"),
                }
            }
            (None, None) => {
                let _ = write!(out, "type {entry_type}\t???");
            }
        }
        if standing.overwritten {
            out.extend_from_slice(b"\t(overwritten by a later term)");
        }
        if !standing.verified {
            out.extend_from_slice(b"\t(does not hold, see above)");
        }
        out.push(b'\n');
    }

    /// A line of etcd-dump-logs `-raw`.
    fn raw(&self, record: &Record<'_>, verified: bool, out: &mut Vec<u8>) {
        let (label, kind, bound) = match record.record_type {
            RecordType::Metadata => ("Metadata: ", &METADATA, None),
            RecordType::State => ("HardState: ", &HARD_STATE, Some(3)),
            RecordType::Snapshot => ("Snapshot: ", &WAL_SNAPSHOT, Some(1)),
            RecordType::Entry => ("Entry: ", &ENTRY, Some(3)),
            RecordType::Crc => {
                let _ = write!(out, "CRC: {}{}", record.crc, unverified(verified));
                out.push(b'\n');
                return;
            }
        };
        self.raw_message(label, kind, bound, record.data, verified, out);
    }

    fn raw_message(
        &self,
        label: &str,
        kind: &'static MessageType,
        bound: Option<i32>,
        data: &[u8],
        verified: bool,
        out: &mut Vec<u8>,
    ) {
        // Data that is no such message is a fault of its own.
        let Ok(parsed) = Parsed::new(kind, data) else { return };
        let message = parsed.message();
        if self.may_be_another(message) {
            let _ = writeln!(out, "{label}{REMOVED} {}", unverified(verified));
            return;
        }
        if bound.is_some_and(|field| !self.options.filter.has_index(message.number(field))) {
            return;
        }
        out.extend_from_slice(label.as_bytes());
        text::write(message, &self.options.style, out);
        out.extend_from_slice(unverified(verified).as_bytes());
        out.push(b'\n');
    }

    /// Whether a record has fields that no version writes into its kind: its type, which no checksum covers, may be damaged,
    /// and it may be an entry that holds a password.
    fn may_be_another(&self, message: Message<'_>) -> bool {
        !self.options.style.show_secrets && message.items().any(|item| matches!(item, Unknown(_)))
    }

    fn json_head(place: Place<'_>, record: &Record<'_>, what: &str, out: &mut Vec<u8>) {
        out.push(b'{');
        json::write_string("segment", place.name, out);
        json::write_number("offset", record.offset, out);
        json::write_string("record", what, out);
    }

    fn json_record(&self, place: Place<'_>, record: &Record<'_>, verified: bool, out: &mut Vec<u8>) {
        let (kind, bound) = match record.record_type {
            RecordType::Metadata => (&METADATA, None),
            RecordType::State => (&HARD_STATE, Some(3)),
            RecordType::Snapshot => (&WAL_SNAPSHOT, Some(1)),
            RecordType::Entry | RecordType::Crc => {
                Self::json_head(place, record, record.record_type.name(), out);
                json::write_number("crc", record.crc.into(), out);
                json_end(verified, out);
                return;
            }
        };
        let Ok(parsed) = Parsed::new(kind, record.data) else { return };
        if bound.is_some_and(|field| !self.options.filter.has_index(parsed.message().number(field))) {
            return;
        }
        Self::json_head(place, record, record.record_type.name(), out);
        if self.may_be_another(parsed.message()) {
            json::write_string("Data", REMOVED, out);
        } else {
            json::write_members(parsed.message(), &self.options.style, out);
        }
        json_end(verified, out);
    }

    fn json_entry(
        &self,
        place: Place<'_>,
        record: &Record<'_>,
        content: &Content<'_>,
        standing: Standing,
        out: &mut Vec<u8>,
    ) {
        let style = &self.options.style;
        let EntryRef { entry_type, term, index, data } = content.entry;
        Self::json_head(place, record, "entry", out);
        json::write_number("Term", term, out);
        json::write_number("Index", index, out);
        match EntryType::try_from(entry_type) {
            Ok(EntryType::Normal) => json::write_string("Type", "EntryNormal", out),
            Ok(EntryType::ConfChange) => json::write_string("Type", "EntryConfChange", out),
            Ok(EntryType::ConfChangeV2) => json::write_string("Type", "EntryConfChangeV2", out),
            Err(_) => json::write_string("Type", &entry_type.to_string(), out),
        }
        json::write_name("committed", out);
        let _ = write!(out, "{}", index <= self.log.commit());
        if standing.overwritten {
            json::write_name("overwritten", out);
            out.extend_from_slice(b"true");
        }
        json::write_string("kind", content.kind(), out);
        if let Some(error) = content.error() {
            json::write_string("error", &error, out);
        }
        let change = content.change.as_ref().and_then(|change| change.as_ref().ok());
        if standing.hidden {
            json::write_string("Data", REMOVED, out);
            json::write_number("Data_len_bytes", u64::try_from(data.len()).unwrap_or(u64::MAX), out);
        } else if let Some(request) = content.decoded.as_ref().and_then(Decoded::request) {
            json::write_name("request", out);
            json::write(request.message(), style, out);
        } else if let Some(change) = change {
            json::write_name("conf_change", out);
            out.push(b'{');
            // What 3.7 does not write is the first kind, and is said all the same.
            match change {
                ConfChange::V1(_) if change.message().number(2) == 0 => {
                    json::write_string("type", "ConfChangeAddNode", out);
                }
                ConfChange::V2(_) if change.message().number(1) == 0 => {
                    json::write_string("transition", "ConfChangeTransitionAuto", out);
                }
                ConfChange::V1(_) | ConfChange::V2(_) => {}
            }
            json::write_members(change.message(), style, out);
            out.push(b'}');
        } else if !data.is_empty() {
            json::write_bytes("Data", data, style, out);
        }
        json_end(standing.verified, out);
    }

    /// Appends the mark of what is wrong.
    pub(super) fn fault(&self, place: Place<'_>, fault: &LogFault, printed: &mut Printed<'_>) {
        printed.faults += 1;
        let out = &mut printed.text;
        match self.options.form {
            Form::Rows => {
                let _ = write!(out, "{:>4}\t{:>10}\tbad\t{}: {}", "!", "", fault.code(), escaped(fault));
            }
            Form::Raw => {
                let _ = write!(out, "Error: {}: {}", fault.code(), escaped(fault));
            }
            Form::Json { .. } => {
                out.push(b'{');
                let segment = if fault.file.is_empty() { place.name } else { &fault.file };
                json::write_string("segment", segment, out);
                if let Some(offset) = fault.offset {
                    json::write_number("offset", offset, out);
                }
                json::write_string("record", "fault", out);
                if let Some(number) = fault.record {
                    json::write_number("number", number, out);
                }
                json::write_string("code", fault.code(), out);
                json::write_string("message", &fault.kind.to_string(), out);
                if let Some(after) = &fault.after {
                    json::write_number("well_formed_records_after", after.well_formed_records, out);
                    if let Some(BitFlip { offset, bit, part }) = after.bit_flip {
                        json::write_name("bit_flip", out);
                        out.push(b'{');
                        json::write_number("offset", offset, out);
                        json::write_number("bit", bit.into(), out);
                        json::write_string("part", part.name(), out);
                        out.push(b'}');
                    }
                }
                out.push(b'}');
            }
        }
        out.push(b'\n');
    }

    /// The line that says that faults are missing.
    pub(super) fn more_faults(&self, more: u64) -> Vec<u8> {
        let text = format!("{more} more faults are not marked where they stand");
        let mut out = Vec::new();
        match self.options.form {
            Form::Rows => {
                let _ = writeln!(out, "{:>4}\t{:>10}\tbad\t{text}", "!", "");
            }
            Form::Raw => {
                let _ = writeln!(out, "Error: {text}");
            }
            Form::Json { .. } => {
                out.push(b'{');
                json::write_string("record", "fault", &mut out);
                json::write_string("message", &text, &mut out);
                out.extend_from_slice(b"}\n");
            }
        }
        out
    }

    /// What was printed with a decoder's answers put in, and how many entries it was not asked about.
    pub(super) fn with_answers(
        &self,
        printed: &Printed<'_>,
        decoder: &mut dyn StreamDecoder,
    ) -> Result<(Vec<u8>, u64), DumpError> {
        let data: Vec<&[u8]> = printed.asked.iter().filter_map(|(_, data)| *data).collect();
        let mut answers = decoder.decode(&data)?.into_iter();
        let mut out = Vec::with_capacity(printed.text.len());
        let mut done = 0;
        let mut withheld = 0;
        for (at, data) in &printed.asked {
            out.extend_from_slice(printed.text.get(done..*at).unwrap_or_default());
            done = *at;
            let answer = if data.is_some() {
                answers.next()
            } else {
                withheld += 1;
                let status = "not decoded, since it holds a password".to_owned();
                Some(Answer { status, decoded: String::new() })
            };
            let Some(Answer { status, decoded }) = answer else {
                return Err(DumpError::Decoder("the stream decoder gave too few answers".to_owned()));
            };
            if let Form::Json { .. } = self.options.form {
                json::write_string("decoder_status", &status, &mut out);
                json::write_string("decoded_data", &decoded, &mut out);
            } else {
                let _ = write!(out, "\t{status}\t{decoded}");
            }
        }
        out.extend_from_slice(printed.text.get(done..).unwrap_or_default());
        Ok((out, withheld))
    }
}

/// A fault on one line, whatever the names in it are.
fn escaped(fault: &LogFault) -> String {
    let text = fault.to_string();
    if text.contains(char::is_control) {
        return text
            .chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect();
    }
    text
}

fn json_end(verified: bool, out: &mut Vec<u8>) {
    if !verified {
        json::write_name("unverified", out);
        out.extend_from_slice(b"true");
    }
    out.extend_from_slice(b"}\n");
}

const fn unverified(verified: bool) -> &'static str {
    if verified { "" } else { " (does not hold, see above)" }
}
