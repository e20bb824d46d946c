//! Text as Go's `%q` shows it.

use std::io::Write;

/// Appends `bytes` in double quotes: printable characters as they are, Go's escapes for the rest.
pub fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push(character, out);
        }
        for byte in chunk.invalid() {
            // Writing to memory does not fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push(b'"');
}

fn push(character: char, out: &mut Vec<u8>) {
    let _ = match character {
        '"' => out.write_all(b"\\\""),
        '\\' => out.write_all(b"\\\\"),
        '\x07' => out.write_all(b"\\a"),
        '\x08' => out.write_all(b"\\b"),
        '\x0c' => out.write_all(b"\\f"),
        '\n' => out.write_all(b"\\n"),
        '\r' => out.write_all(b"\\r"),
        '\t' => out.write_all(b"\\t"),
        '\x0b' => out.write_all(b"\\v"),
        printable if is_print(printable) => write!(out, "{printable}"),
        low if u32::from(low) < 0x20 || low == '\x7f' => write!(out, "\\x{:02x}", u32::from(low)),
        wide if u32::from(wide) < 0x1_0000 => write!(out, "\\u{:04x}", u32::from(wide)),
        wide => write!(out, "\\U{:08x}", u32::from(wide)),
    };
}

/// Go's notion of a printable character, which is that of Rust's `escape_debug` for one that does not come first: no
/// controls, no unassigned ones, and of the blanks only U+0020.
#[must_use]
pub fn is_print(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    let mut text = [0; 5];
    let Some((first, rest)) = text.split_first_mut() else { return false };
    *first = b'x';
    let len = character.encode_utf8(rest).len();
    let pair = text.get(..=len).and_then(|pair| std::str::from_utf8(pair).ok()).unwrap_or_default();
    pair.escape_debug().nth(1) == Some(character)
}

#[cfg(test)]
mod tests {
    use super::quote;

    fn quoted(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        quote(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Values from the documentation and the tests of Go's package strconv.
    #[test]
    fn as_go_quotes() {
        assert_eq!(quoted(b"\x07\x08\x0c\r\n\t\x0b"), r#""\a\b\f\r\n\t\v""#);
        assert_eq!(quoted(b"\\"), r#""\\""#);
        assert_eq!(quoted(b"abc\xffdef"), r#""abc\xffdef""#);
        assert_eq!(quoted("\u{263a}".as_bytes()), "\"\u{263a}\"");
        assert_eq!(quoted("\u{10ffff}".as_bytes()), r#""\U0010ffff""#);
        assert_eq!(quoted(b"\x04"), r#""\x04""#);
        assert_eq!(quoted("!\u{a0}!\u{2000}!\u{3000}!".as_bytes()), r#""!\u00a0!\u2000!\u3000!""#);
        assert_eq!(quoted(b"\x7f"), r#""\x7f""#);
        assert_eq!(quoted("e\u{301}".as_bytes()), "\"e\u{301}\"");
    }
}
