//! A message as a JSON object whose members have the names of the protobuf fields.
//!
//! IDs are hexadecimal strings, enums names, other numbers numbers. Bytes that are UTF-8 are strings; others stand in
//! hexadecimal under the name with `_hex` behind it. A value that was cut is followed by its whole length, under the name with
//! `_len_bytes` behind it. Zero values are left out as in the text form.

use std::io::Write;

use super::message::{Message, enum_number};
use super::print::{self, Sink, Style};
use super::schema::{Field, Kind, Role};
use super::text::{self, quote_with};
use super::wire::Item;

/// Appends `message` to `out` as an object.
pub fn write(message: Message<'_>, style: &Style, out: &mut Vec<u8>) {
    out.push(b'{');
    write_members(message, style, out);
    out.push(b'}');
}

/// Appends the members of `message` to an object that the caller opened and will close.
pub fn write_members(message: Message<'_>, style: &Style, out: &mut Vec<u8>) {
    print::drive(message, &mut Json { out, style: *style });
}

/// Appends `"name":`, after a comma unless it is the object's first.
pub fn write_name(name: &str, out: &mut Vec<u8>) {
    comma(out);
    string(name, out);
    out.push(b':');
}

/// Appends a string member.
pub fn write_string(name: &str, value: &str, out: &mut Vec<u8>) {
    write_name(name, out);
    string(value, out);
}

/// Appends a number member.
pub fn write_number(name: &str, value: u64, out: &mut Vec<u8>) {
    write_name(name, out);
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
}

/// Appends bytes as a member: as a string if they are UTF-8, else in hexadecimal; cut as `style` has it.
pub fn write_bytes(name: &str, bytes: &[u8], style: &Style, out: &mut Vec<u8>) {
    let cut = style.cut.filter(|cut| bytes.len() > *cut);
    let shown = cut.and_then(|cut| bytes.get(..cut)).unwrap_or(bytes);
    member(name, shown, cut.map(|_| bytes.len()), out);
}

struct Json<'o> {
    out: &'o mut Vec<u8>,
    style: Style,
}

impl Json<'_> {
    fn name(&mut self, field: &Field, listed: bool) {
        if listed {
            comma(self.out);
        } else {
            write_name(field.name, self.out);
        }
    }
}

impl Sink for Json<'_> {
    fn begin_list(&mut self, field: &'static Field) {
        write_name(field.name, self.out);
        self.out.push(b'[');
    }

    fn end_list(&mut self) {
        self.out.push(b']');
    }

    fn begin(&mut self, field: &'static Field, listed: bool) {
        self.name(field, listed);
        self.out.push(b'{');
    }

    fn end(&mut self) {
        self.out.push(b'}');
    }

    fn number(&mut self, field: &'static Field, value: u64, listed: bool) {
        self.name(field, listed);
        match (field.role, field.kind) {
            (Role::Lease | Role::Member | Role::Id, _) => {
                let _ = write!(self.out, "\"{value:x}\"");
            }
            (_, Kind::Enum(names)) if text::enum_name(names, enum_number(value)).is_some() => {
                self.out.push(b'"');
                text::number(field.kind, value, self.out);
                self.out.push(b'"');
            }
            _ => text::number(field.kind, value, self.out),
        }
    }

    fn bytes(&mut self, field: &'static Field, value: &[u8], listed: bool, hidden: bool) {
        let shown = self.style.shown(field, value, hidden);
        if listed {
            // The only lists of text are URLs.
            comma(self.out);
            string(&String::from_utf8_lossy(shown.bytes), self.out);
        } else {
            member(field.name, shown.bytes, shown.cut_from, self.out);
        }
    }

    fn unknown(&mut self, message: Message<'_>) {
        write_name("unknown_fields_hex", self.out);
        self.out.push(b'"');
        for item in message.items() {
            if let Item::Unknown(bytes) = item {
                hex(bytes, self.out);
            }
        }
        self.out.push(b'"');
    }
}

fn member(name: &str, bytes: &[u8], cut_from: Option<usize>, out: &mut Vec<u8>) {
    comma(out);
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        // A cut may have gone through a character.
        Err(error) if cut_from.is_some() && error.error_len().is_none() => {
            bytes.get(..error.valid_up_to()).and_then(|bytes| std::str::from_utf8(bytes).ok())
        }
        Err(_) => None,
    };
    if let Some(text) = text {
        out.extend_from_slice(b"\":");
        string(text, out);
    } else {
        out.extend_from_slice(b"_hex\":\"");
        hex(bytes, out);
        out.push(b'"');
    }
    if let Some(whole) = cut_from {
        let _ = write!(out, ",\"{name}_len_bytes\":{whole}");
    }
}

/// Nothing stands between an object's or a list's beginning and its first member.
fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[') | None) {
        out.push(b',');
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    let unicode = |byte: u8, out: &mut Vec<u8>| {
        // Writing to memory does not fail.
        let _ = write!(out, "\\u{byte:04x}");
    };
    quote_with(text.as_bytes(), is_plain, unicode, out);
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            out.extend(DIGITS.get(usize::from(half)));
        }
    }
}
