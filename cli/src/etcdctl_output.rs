//! What `etcdctl get` prints: the answer to a range request, simple, as fields, as JSON on one line and as protobuf.
//!
//! The forms are those of etcdctl 3.4 to 3.7, to the byte; where releases differ, `docs/keyspace.md` says which is followed.
//! An answer is written as its records come, so that its length is bounded by the reader only.

use std::io::{self, Write};

use bbolt::goquote;
use snapshot::log_tail::Identity;
use snapshot::mvcc::KeyValue;

use crate::exit::Failure;
use crate::output::{self, Format};

/// The alphabet of Go's `base64.StdEncoding`.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The printers that etcdctl has for ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Printer {
    /// The key on a line, the value on the next, as they are or in hexadecimal.
    Simple {
        /// `--hex`.
        hex: bool,
        /// `--print-value-only`.
        value_only: bool,
    },
    /// A line for each field.
    Fields {
        /// `--hex`, which etcdctl 3.6 and later heed here.
        hex: bool,
    },
    /// The whole answer as one object on one line.
    Json,
    /// The whole answer as one message.
    Protobuf,
}

impl Printer {
    /// The printer for `format`.
    ///
    /// # Errors
    /// For a table, in etcdctl's words and with its exit code; when only values are to be printed, and not in simple form.
    pub(crate) fn new(format: Format, hex: bool, value_only: bool) -> Result<Self, Failure> {
        if value_only && format != Format::Simple {
            return Err(Failure::usage("print-value-only is only for `--write-out=simple`"));
        }
        match format {
            Format::Simple => Ok(Self::Simple { hex, value_only }),
            Format::Fields => Ok(Self::Fields { hex }),
            Format::Json => Ok(Self::Json),
            Format::Protobuf => Ok(Self::Protobuf),
            Format::Table => Err(output::no_table()),
        }
    }
}

/// What stands around the records of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Frame {
    /// Who answers; zeros where that is not known.
    pub(crate) identity: Identity,
    /// The store's revision.
    pub(crate) revision: i64,
    /// Whether there are more records than were asked for.
    pub(crate) more: bool,
    /// How many keys are in the range, whatever the limit.
    pub(crate) count: i64,
}

/// One answer on its way out.
pub(crate) struct Answer<'o> {
    out: &'o mut dyn Write,
    printer: Printer,
    frame: Frame,
    records: u64,
    buffer: Vec<u8>,
}

impl<'o> Answer<'o> {
    /// Writes what stands before the first record.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub(crate) fn begin(out: &'o mut dyn Write, printer: Printer, frame: Frame) -> io::Result<Self> {
        let mut answer = Self { out, printer, frame, records: 0, buffer: Vec::new() };
        let Identity { cluster_id, member_id, raft_term } = frame.identity;
        match printer {
            Printer::Simple { .. } => {}
            Printer::Fields { hex } => {
                let id = |id: u64| if hex { format!("{id:x}") } else { id.to_string() };
                writeln!(answer.out, "\"ClusterID\" : {}", id(cluster_id))?;
                writeln!(answer.out, "\"MemberID\" : {}", id(member_id))?;
                writeln!(answer.out, "\"Revision\" : {}", frame.revision)?;
                writeln!(answer.out, "\"RaftTerm\" : {raft_term}")?;
            }
            Printer::Json => {
                let header = &mut answer.buffer;
                header.extend_from_slice(b"{\"header\":{");
                push_number("cluster_id", cluster_id, header);
                push_number("member_id", member_id, header);
                push_number("revision", frame.revision, header);
                push_number("raft_term", raft_term, header);
                header.push(b'}');
                answer.flush()?;
            }
            Printer::Protobuf => {
                let mut header = Vec::new();
                push_varint_field(1, cluster_id, &mut header);
                push_varint_field(2, member_id, &mut header);
                push_varint_field(3, frame.revision.cast_unsigned(), &mut header);
                push_varint_field(4, raft_term, &mut header);
                push_message(1, &header, &mut answer.buffer);
                answer.flush()?;
            }
        }
        Ok(answer)
    }

    /// Writes one record.
    ///
    /// # Errors
    /// When the output does not take it.
    pub(crate) fn record(&mut self, kv: &KeyValue<'_>) -> io::Result<()> {
        match self.printer {
            Printer::Simple { hex, value_only } => {
                for bytes in [Some(kv.key).filter(|_| !value_only), Some(kv.value)].into_iter().flatten() {
                    if hex {
                        push_hex(bytes, &mut self.buffer);
                    } else {
                        self.buffer.extend_from_slice(bytes);
                    }
                    self.buffer.push(b'\n');
                }
            }
            Printer::Fields { hex } => {
                self.buffer.extend_from_slice(b"\"Key\" : ");
                goquote::quote(kv.key, &mut self.buffer);
                write!(
                    self.buffer,
                    "\n\"CreateRevision\" : {}\n\"ModRevision\" : {}\n\"Version\" : {}\n\"Value\" : ",
                    kv.create_revision, kv.mod_revision, kv.version
                )?;
                goquote::quote(kv.value, &mut self.buffer);
                if hex {
                    // Go writes a negative number in hexadecimal with its sign, which counts as a digit.
                    let sign = if kv.lease < 0 { "-" } else { "" };
                    let digits = 16 - sign.len();
                    writeln!(self.buffer, "\n\"Lease\" : {sign}{:0digits$x}", kv.lease.unsigned_abs())?;
                } else {
                    writeln!(self.buffer, "\n\"Lease\" : {}", kv.lease)?;
                }
            }
            Printer::Json => {
                self.buffer.extend_from_slice(if self.records == 0 { b",\"kvs\":[{" } else { b",{" });
                push_base64_member("key", kv.key, &mut self.buffer);
                push_number("create_revision", kv.create_revision, &mut self.buffer);
                push_number("mod_revision", kv.mod_revision, &mut self.buffer);
                push_number("version", kv.version, &mut self.buffer);
                push_base64_member("value", kv.value, &mut self.buffer);
                push_number("lease", kv.lease, &mut self.buffer);
                self.buffer.push(b'}');
            }
            Printer::Protobuf => {
                let mut record = Vec::with_capacity(kv.key.len() + kv.value.len() + 64);
                kv.encode(&mut record);
                push_message(2, &record, &mut self.buffer);
            }
        }
        self.records += 1;
        self.flush()
    }

    /// Writes what stands behind the last record.
    ///
    /// # Errors
    /// When the output does not take it.
    pub(crate) fn end(mut self) -> io::Result<()> {
        let Frame { more, count, .. } = self.frame;
        match self.printer {
            Printer::Simple { .. } => {}
            Printer::Fields { .. } => {
                writeln!(self.out, "\"More\" : {more}\n\"Count\" : {count}")?;
            }
            Printer::Json => {
                if self.records > 0 {
                    self.out.write_all(b"]")?;
                }
                if more {
                    self.out.write_all(b",\"more\":true")?;
                }
                if count != 0 {
                    write!(self.out, ",\"count\":{count}")?;
                }
                self.out.write_all(b"}\n")?;
            }
            Printer::Protobuf => {
                push_varint_field(3, u64::from(more), &mut self.buffer);
                push_varint_field(4, count.cast_unsigned(), &mut self.buffer);
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Begins the member `name` of an object.
pub(crate) fn push_name(name: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(format!("\"{name}\":").as_bytes());
}

/// Appends a member, unless it is 0, which Go leaves out.
pub(crate) fn push_number(name: &str, number: impl Into<i128>, out: &mut Vec<u8>) {
    let number = number.into();
    if number != 0 {
        push_name(name, out);
        out.extend_from_slice(number.to_string().as_bytes());
    }
}

/// Appends a member with `bytes` in base64, unless there are none.
fn push_base64_member(name: &str, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        push_name(name, out);
        out.push(b'"');
        push_base64(bytes, out);
        out.push(b'"');
    }
}

/// Appends `bytes` in base64 with padding.
fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or_default());
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            if place > three.len() {
                out.push(b'=');
                continue;
            }
            let digit = usize::try_from(group >> (18 - 6 * place) & 63).unwrap_or_default();
            out.extend(BASE64.get(digit));
        }
    }
}

/// Appends each byte as etcdctl's `--hex` does: `\x` and two digits.
fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() * 4);
    for byte in bytes {
        out.extend_from_slice(b"\\x");
        out.extend([byte >> 4, byte & 15].iter().filter_map(|half| HEX.get(usize::from(*half))));
    }
}

fn push_varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

/// Appends a number as field `field`, unless it is 0.
pub(crate) fn push_varint_field(field: u8, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        out.push(field << 3);
        push_varint(number, out);
    }
}

/// Appends `message` as field `field`.
pub(crate) fn push_message(field: u8, message: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    push_varint(message.len() as u64, out);
    out.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity =
        Identity { cluster_id: 14_841_639_068_965_178_418, member_id: 0x8e9e_05c5_2164_694d, raft_term: 2 };

    fn printed(printer: Printer, frame: Frame, records: &[KeyValue<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut answer = Answer::begin(&mut out, printer, frame).unwrap();
        for record in records {
            answer.record(record).unwrap();
        }
        answer.end().unwrap();
        out
    }

    fn text(printer: Printer, frame: Frame, records: &[KeyValue<'_>]) -> String {
        String::from_utf8(printed(printer, frame, records)).unwrap()
    }

    const RECORD: KeyValue<'_> = KeyValue {
        key: b"foo",
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: b"ba\n",
        lease: 0x1234,
    };

    #[test]
    fn nothing_found() {
        let frame = Frame { identity: IDENTITY, revision: 7, ..Frame::default() };
        assert_eq!(text(Printer::Simple { hex: false, value_only: false }, frame, &[]), "");
        assert_eq!(
            text(Printer::Json, frame, &[]),
            "{\"header\":{\"cluster_id\":14841639068965178418,\"member_id\":10276657743932975437,\"revision\":7,\
             \"raft_term\":2}}\n"
        );
        assert_eq!(
            text(Printer::Json, Frame { revision: 1, ..Frame::default() }, &[]),
            "{\"header\":{\"revision\":1}}\n"
        );
    }

    #[test]
    fn every_printer_on_one_record() {
        let frame = Frame { identity: IDENTITY, revision: 7, more: true, count: 9 };
        let record = [RECORD];
        assert_eq!(text(Printer::Simple { hex: false, value_only: false }, frame, &record), "foo\nba\n\n");
        assert_eq!(
            text(Printer::Simple { hex: true, value_only: true }, frame, &record),
            "\\x62\\x61\\x0a\n"
        );
        let fields = text(Printer::Fields { hex: true }, frame, &record);
        insta::assert_snapshot!(fields, @r#"
        "ClusterID" : cdf818194e3a8c32
        "MemberID" : 8e9e05c52164694d
        "Revision" : 7
        "RaftTerm" : 2
        "Key" : "foo"
        "CreateRevision" : 2
        "ModRevision" : 3
        "Version" : 2
        "Value" : "ba\n"
        "Lease" : 0000000000001234
        "More" : true
        "Count" : 9
        "#);
        insta::assert_snapshot!(text(Printer::Json, frame, &[RECORD, KeyValue::default(), KeyValue { value: b"v", lease: -1, ..KeyValue::default() }]), @r#"{"header":{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"revision":7,"raft_term":2},"kvs":[{"key":"Zm9v","create_revision":2,"mod_revision":3,"version":2,"value":"YmEK","lease":4660},{},{"value":"dg==","lease":-1}],"more":true,"count":9}"#);
        assert_eq!(
            printed(Printer::Protobuf, Frame { revision: 7, count: 1, ..Frame::default() }, &record),
            b"\x0a\x02\x18\x07\x12\x13\x0a\x03foo\x10\x02\x18\x03\x20\x02\x2a\x03ba\n\x30\xb4\x24\x20\x01"
        );
    }

    #[test]
    fn base64_of_every_length() {
        // RFC 4648, section 10.
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            push_base64(bytes.as_bytes(), &mut out);
            assert_eq!(out, expected.as_bytes());
        }
    }
}
