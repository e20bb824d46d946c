//! Text as Go's `%q` shows it.

/// Digits of `\x`, `\u` and `\U`.
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` in double quotes: printable characters as they are, Go's escapes for the rest.
pub fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = bytes;
    while !rest.is_empty() {
        // Nearly all that people keep is plain text: it is copied in runs.
        let plain = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
        let (run, after) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
        out.extend_from_slice(run);
        let special = after.iter().position(|byte| is_plain(*byte)).unwrap_or(after.len());
        let (special, after) = after.split_at_checked(special).unwrap_or((after, &[]));
        // No character of several bytes has a plain byte in it, so none is cut in two.
        for chunk in special.utf8_chunks() {
            chunk.valid().chars().for_each(|character| push(character, out));
            chunk.invalid().iter().for_each(|byte| escape('x', u32::from(*byte), 2, out));
        }
        rest = after;
    }
    out.push(b'"');
}

/// Printable, and no escape.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn push(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\x07' => out.extend_from_slice(b"\\a"),
        '\x08' => out.extend_from_slice(b"\\b"),
        '\x0c' => out.extend_from_slice(b"\\f"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\x0b' => out.extend_from_slice(b"\\v"),
        printable if is_print(printable) => {
            out.extend_from_slice(printable.encode_utf8(&mut [0; 4]).as_bytes());
        }
        low if u32::from(low) < 0x20 || low == '\x7f' => escape('x', u32::from(low), 2, out),
        wide if u32::from(wide) < 0x1_0000 => escape('u', u32::from(wide), 4, out),
        wide => escape('U', u32::from(wide), 8, out),
    }
}

/// A backslash, `kind`, and the last `digits` digits of `number` in hexadecimal.
fn escape(kind: char, number: u32, digits: u32, out: &mut Vec<u8>) {
    out.push(b'\\');
    out.extend_from_slice(kind.encode_utf8(&mut [0; 4]).as_bytes());
    for place in (0..digits).rev() {
        let digit = usize::try_from(number >> (4 * place) & 0xf).unwrap_or_default();
        out.extend(HEX.get(digit));
    }
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
