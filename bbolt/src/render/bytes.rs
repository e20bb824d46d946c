//! Keys and values in the formats of the bbolt tool.

use std::io::{self, Write};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::gojson;
use crate::goquote;

/// How bytes are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ByteFormat {
    /// As text where all of it is printable, else in hexadecimal.
    #[default]
    Auto,
    /// In double quotes with Go's escapes.
    AsciiEncoded,
    /// In hexadecimal.
    Hex,
    /// As they are.
    Bytes,
    /// Their length and SHA-256.
    Redacted,
}

/// The formats' names, in the order in which bbolt lists them.
pub const FORMAT_NAMES: [(&str, ByteFormat); 5] = [
    ("auto", ByteFormat::Auto),
    ("ascii-encoded", ByteFormat::AsciiEncoded),
    ("hex", ByteFormat::Hex),
    ("bytes", ByteFormat::Bytes),
    ("redacted", ByteFormat::Redacted),
];

/// A name that is none of [`FORMAT_NAMES`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no format; there are auto, ascii-encoded, hex, bytes and redacted")]
pub struct UnknownFormat(String);

impl FromStr for ByteFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = FORMAT_NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| *format).ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// Bytes dealt with at a time.
const PIECE_BYTES: usize = 4096;

/// Writes `bytes` in `format`.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write<W: Write>(out: &mut W, bytes: &[u8], format: ByteFormat) -> io::Result<()> {
    match format {
        ByteFormat::Bytes => out.write_all(bytes),
        ByteFormat::Auto if is_printable(bytes) => out.write_all(bytes),
        ByteFormat::Auto | ByteFormat::Hex => hex(out, bytes),
        ByteFormat::AsciiEncoded => quoted(out, bytes),
        ByteFormat::Redacted => {
            write!(out, "<redacted len:{} sha256:", bytes.len())?;
            hex(out, &Sha256::digest(bytes))?;
            out.write_all(b">")
        }
    }
}

/// Writes a key as bbolt shows it in pages: in quotes where it is printable, else in hexadecimal.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_key<W: Write>(out: &mut W, key: &[u8]) -> io::Result<()> {
    if is_printable(key) { quoted(out, key) } else { hex(out, key) }
}

/// Writes `bytes` in lower-case hexadecimal.
///
/// # Errors
/// When `out` cannot be written to.
pub fn hex<W: Write>(out: &mut W, bytes: &[u8]) -> io::Result<()> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 512];
    for piece in bytes.chunks(text.len() / 2) {
        let mut len = 0;
        for (byte, pair) in piece.iter().zip(text.chunks_exact_mut(2)) {
            for (digit, half) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = DIGITS.get(usize::from(half)).copied().unwrap_or_default();
            }
            len += 2;
        }
        out.write_all(text.get(..len).unwrap_or_default())?;
    }
    Ok(())
}

/// Writes `bytes` in Go's double quotes.
fn quoted<W: Write>(out: &mut W, bytes: &[u8]) -> io::Result<()> {
    pieces(out, bytes, b"\"", |piece, text| {
        let start = text.len();
        goquote::quote(piece, text);
        text.remove(start);
        text.pop();
    })
}

/// Writes `bytes` as a JSON string; what is no UTF-8 becomes U+FFFD.
///
/// # Errors
/// When `out` cannot be written to.
pub fn json_string<W: Write>(out: &mut W, bytes: &[u8]) -> io::Result<()> {
    pieces(out, bytes, b"\"", |piece, text| {
        let start = text.len();
        gojson::push_string(text, piece);
        text.remove(start);
        text.pop();
    })
}

/// Writes `"name":"…"`, or `"name_hex":"…"` for what is no UTF-8.
///
/// # Errors
/// When `out` cannot be written to.
pub fn json_member<W: Write>(out: &mut W, name: &str, bytes: &[u8]) -> io::Result<()> {
    if std::str::from_utf8(bytes).is_ok() {
        write!(out, "\"{name}\":")?;
        json_string(out, bytes)
    } else {
        write!(out, "\"{name}_hex\":\"")?;
        hex(out, bytes)?;
        out.write_all(b"\"")
    }
}

/// Writes `bytes` as the member `name` in `format`: as [`json_member`] has it, under `name_hex`, or, redacted, as its length and
/// hash under `name_len_bytes` and `name_sha256`.
///
/// # Errors
/// When `out` cannot be written to.
pub fn json_formatted<W: Write>(out: &mut W, name: &str, bytes: &[u8], format: ByteFormat) -> io::Result<()> {
    match format {
        ByteFormat::Auto | ByteFormat::AsciiEncoded | ByteFormat::Bytes => json_member(out, name, bytes),
        ByteFormat::Hex => {
            write!(out, "\"{name}_hex\":\"")?;
            hex(out, bytes)?;
            out.write_all(b"\"")
        }
        ByteFormat::Redacted => {
            write!(out, "\"{name}_len_bytes\":{},\"{name}_sha256\":\"", bytes.len())?;
            hex(out, &Sha256::digest(bytes))?;
            out.write_all(b"\"")
        }
    }
}

/// Gives `bytes` to `escape` piece by piece, none of which ends within a character, so that no more than a piece is in memory.
fn pieces<W: Write>(
    out: &mut W,
    bytes: &[u8],
    around: &[u8],
    escape: impl Fn(&[u8], &mut Vec<u8>),
) -> io::Result<()> {
    out.write_all(around)?;
    let mut rest = bytes;
    let mut text = Vec::new();
    while !rest.is_empty() {
        let mut len = rest.len().min(PIECE_BYTES);
        let is_inside = |byte: u8| byte & 0xC0 == 0x80;
        // A character has at most three bytes that are not its first.
        for _ in 0..3 {
            if len > 4 && rest.get(len).is_some_and(|byte| is_inside(*byte)) {
                len -= 1;
            }
        }
        let (piece, behind) = rest.split_at(len);
        escape(piece, &mut text);
        out.write_all(&text)?;
        text.clear();
        rest = behind;
    }
    out.write_all(around)
}

/// Whether Go would print all of `bytes`: UTF-8 without controls, and of the blanks only U+0020.
#[must_use]
pub fn is_printable(bytes: &[u8]) -> bool {
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return true;
    }
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(goquote::is_print))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], format: ByteFormat) -> String {
        let mut out = Vec::new();
        write(&mut out, bytes, format).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// What Go 1.24's fmt and encoding/hex make of these.
    #[test]
    fn the_formats_of_bbolt() {
        use ByteFormat::{AsciiEncoded, Auto, Bytes, Hex, Redacted};
        assert_eq!(text(b"key one", Auto), "key one");
        assert_eq!(text("gr\u{f6}\u{df}e".as_bytes(), Auto), "gr\u{f6}\u{df}e");
        assert_eq!(text(b"", Auto), "");
        assert_eq!(text(b"a\nb", Auto), "610a62");
        assert_eq!(text(b"\xff", Auto), "ff");
        assert_eq!(text("a\u{a0}b".as_bytes(), Auto), "61c2a062");
        assert_eq!(text(b"a\"\n\xff", AsciiEncoded), r#""a\"\n\xff""#);
        assert_eq!(text(b"\0\x01", AsciiEncoded), r#""\x00\x01""#);
        assert_eq!(text(b"az", Hex), "617a");
        assert_eq!(text(b"a\nb", Bytes), "a\nb");
        assert_eq!(
            text(b"", Redacted),
            "<redacted len:0 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855>"
        );
    }

    #[test]
    fn long_text_is_quoted_as_in_one_piece() {
        let long = "\u{20ac}x\u{10ffff}\u{1b}".repeat(3000);
        for shift in 0..8 {
            let bytes = [&b"aaaaaaaa"[..shift], long.as_bytes(), b"\xe2\x82"].concat();
            let mut whole = Vec::new();
            goquote::quote(&bytes, &mut whole);
            assert_eq!(text(&bytes, ByteFormat::AsciiEncoded).as_bytes(), whole);
            let (mut piecewise, mut whole) = (Vec::new(), Vec::new());
            json_string(&mut piecewise, &bytes).unwrap();
            gojson::push_string(&mut whole, &bytes);
            assert_eq!(piecewise, whole);
        }
        assert_eq!(text(&vec![b'z'; 1000], ByteFormat::Hex), "7a".repeat(1000));
        let stray = vec![0x80; 9000];
        assert_eq!(text(&stray, ByteFormat::AsciiEncoded).len(), 2 + 4 * 9000);
    }

    #[test]
    fn names_of_formats() {
        for (name, format) in FORMAT_NAMES {
            assert_eq!(name.parse(), Ok(format));
        }
        assert!("HEX".parse::<ByteFormat>().is_err());
        assert!("".parse::<ByteFormat>().is_err());
    }

    #[test]
    fn bytes_in_json() {
        let member = |bytes: &[u8]| {
            let mut out = Vec::new();
            json_member(&mut out, "key", bytes).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(member(b"a\"b"), r#""key":"a\"b""#);
        assert_eq!(member(b"\xff\x00"), r#""key_hex":"ff00""#);
        assert_eq!(member(b""), r#""key":"""#);
    }
}
