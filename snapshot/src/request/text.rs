//! The compact text form of a message, as etcd-dump-logs 3.6 prints it.
//!
//! That program prints with Go's protobuf library: `name:value ` for each field, messages between `<` and `>`, bytes
//! and text in quotes with octal escapes for whatever is not printable ASCII, enums by name.

use std::io::Write;

use super::message::{Message, enum_number};
use super::print::{self, Sink, Style};
use super::schema::{Field, Kind};
use super::wire::{Item, varint};
use bbolt::goquote;

/// Appends `message` to `out`. It ends in a blank unless nothing is printed.
pub fn write(message: Message<'_>, style: &Style, out: &mut Vec<u8>) {
    print::drive(message, &mut Text { out, style: *style });
}

struct Text<'o> {
    out: &'o mut Vec<u8>,
    style: Style,
}

impl Text<'_> {
    fn name(&mut self, field: &Field) {
        self.out.extend_from_slice(field.name.as_bytes());
        self.out.push(b':');
    }
}

impl Sink for Text<'_> {
    fn begin_list(&mut self, _: &'static Field) {}

    fn end_list(&mut self) {}

    fn begin(&mut self, field: &'static Field, _: bool) {
        self.name(field);
        self.out.push(b'<');
    }

    fn end(&mut self) {
        self.out.extend_from_slice(b"> ");
    }

    fn number(&mut self, field: &'static Field, value: u64, _: bool) {
        self.name(field);
        number(field.kind, value, self.out);
        self.out.push(b' ');
    }

    fn bytes(&mut self, field: &'static Field, value: &[u8], _: bool, hidden: bool) {
        self.name(field);
        let shown = self.style.shown(field, value, hidden);
        quote(shown.bytes, self.out);
        if let Some(whole) = shown.cut_from {
            cut_mark(whole, self.out);
        }
        self.out.push(b' ');
    }

    fn unknown(&mut self, message: Message<'_>) {
        for item in message.items() {
            if let Item::Unknown(bytes) = item {
                unknown(bytes, self.out);
            }
        }
    }
}

/// What follows a value that was cut.
fn cut_mark(whole: usize, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "...({whole} bytes)");
}

/// A number as its kind shows it.
pub(super) fn number(kind: Kind, value: u64, out: &mut Vec<u8>) {
    let _ = match kind {
        Kind::Bool => write!(out, "{}", value != 0),
        Kind::Int64 => write!(out, "{}", value.cast_signed()),
        Kind::Enum(names) => {
            let number = enum_number(value);
            match enum_name(names, number) {
                Some(name) => out.write_all(name.as_bytes()),
                None => write!(out, "{number}"),
            }
        }
        _ => write!(out, "{value}"),
    };
}

/// The name of an enum's number.
pub(super) fn enum_name(names: &[&'static str], number: i32) -> Option<&'static str> {
    usize::try_from(number).ok().and_then(|at| names.get(at)).copied()
}

/// Bytes in quotes.
pub(super) fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    let octal = |byte: u8, out: &mut Vec<u8>| {
        out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + ((byte >> 3) & 7), b'0' + (byte & 7)]);
    };
    quote_with(bytes, is_plain, octal, out);
}

/// Bytes in quotes: runs of what `is_plain` as they are, the escapes that C, Go and JSON share, and `escape` for the rest.
/// Quotes and backslashes are not plain.
pub(super) fn quote_with(
    bytes: &[u8],
    is_plain: impl Fn(u8) -> bool,
    escape: impl Fn(u8, &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    out.push(b'"');
    let mut rest = bytes;
    while !rest.is_empty() {
        let plain = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
        let (run, after) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
        out.extend_from_slice(run);
        let Some((special, after)) = after.split_first() else { break };
        match special {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            other => escape(*other, out),
        }
        rest = after;
    }
    out.push(b'"');
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

/// One unknown field: its number and value, as far as it can be told.
fn unknown(mut rest: &[u8], out: &mut Vec<u8>) {
    while !rest.is_empty() {
        let Ok(key) = varint(&mut rest, "") else { return };
        let number = key >> 3;
        if key & 7 == 4 {
            out.extend_from_slice(b"} ");
            continue;
        }
        if number == 0 || number > u64::from(i32::MAX.cast_unsigned()) {
            return;
        }
        let _ = write!(out, "{number}");
        out.extend_from_slice(if key & 7 == 3 { b" {" } else { b":" });
        match key & 7 {
            0 => {
                let Ok(value) = varint(&mut rest, "") else { return };
                let _ = write!(out, "{value}");
            }
            1 => {
                let Some((bytes, after)) = rest.split_first_chunk() else { return };
                rest = after;
                let _ = write!(out, "{}", u64::from_le_bytes(*bytes));
            }
            2 => {
                let Ok(len) = varint(&mut rest, "") else { return };
                let split = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len));
                let Some((bytes, after)) = split else { return };
                rest = after;
                goquote::quote(bytes, out);
            }
            5 => {
                let Some((bytes, after)) = rest.split_first_chunk() else { return };
                rest = after;
                let _ = write!(out, "{}", u32::from_le_bytes(*bytes));
            }
            _ => {}
        }
        out.push(b' ');
    }
}
