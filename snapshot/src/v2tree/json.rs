//! JSON as it is read from a v2 store, piece by piece: whoever reads keeps a stack of its own, so that no depth of the text is
//! a depth of calls. Strings are bytes, and what Go's decoder replaces in them is replaced.

use std::borrow::Cow;

/// How deep arrays and objects may lie in each other; Go's decoder has the same limit.
const MOST_LEVELS: usize = 10_000;

/// Where and why a text is not the JSON that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the JSON of a v2 store: {expected} expected at byte {at}")]
pub struct JsonError {
    /// The byte of the text.
    pub at: usize,
    /// What should be there.
    pub expected: &'static str,
}

/// A place in a text.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn error(&self, expected: &'static str) -> JsonError {
        JsonError { at: self.at, expected }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// Takes this byte, when it is the next.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn word(&mut self, word: &[u8]) -> bool {
        self.peek();
        let is_next = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word));
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    /// Takes a `null`, when it is next.
    pub(super) fn null(&mut self) -> bool {
        self.word(b"null")
    }

    /// Begins an object.
    pub(super) fn object(&mut self) -> Result<(), JsonError> {
        if self.takes(b'{') { Ok(()) } else { Err(self.error("an object")) }
    }

    /// Begins an array.
    pub(super) fn array(&mut self) -> Result<(), JsonError> {
        if self.takes(b'[') { Ok(()) } else { Err(self.error("an array")) }
    }

    /// The next key of an object, whose value comes next; `None` at its end. `is_first` is true before the first.
    pub(super) fn key(&mut self, is_first: &mut bool) -> Result<Option<Cow<'a, [u8]>>, JsonError> {
        if self.takes(b'}') {
            return Ok(None);
        }
        if !std::mem::take(is_first) && !self.takes(b',') {
            return Err(self.error("a comma"));
        }
        let key = self.string()?;
        if self.takes(b':') { Ok(Some(key)) } else { Err(self.error("a colon")) }
    }

    /// Whether another item of an array comes next; else the array has ended. `is_first` is true before the first.
    pub(super) fn item(&mut self, is_first: &mut bool) -> Result<bool, JsonError> {
        if self.takes(b']') {
            return Ok(false);
        }
        if !std::mem::take(is_first) && !self.takes(b',') {
            return Err(self.error("a comma"));
        }
        Ok(true)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, JsonError> {
        if self.word(b"true") {
            return Ok(true);
        }
        if self.word(b"false") { Ok(false) } else { Err(self.error("true or false")) }
    }

    fn number<T: std::str::FromStr>(&mut self, expected: &'static str) -> Result<T, JsonError> {
        self.peek();
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
        let text = rest.get(..len).and_then(|text| std::str::from_utf8(text).ok());
        let number = text.and_then(|text| text.parse().ok()).ok_or_else(|| self.error(expected))?;
        self.at += len;
        Ok(number)
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, JsonError> {
        self.number("a number without a sign")
    }

    pub(super) fn signed(&mut self) -> Result<i64, JsonError> {
        self.number("a number")
    }

    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        if !self.takes(b'"') {
            return Err(self.error("a string"));
        }
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        let plain = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count();
        let (text, _) = rest.split_at_checked(plain).unwrap_or_default();
        self.at += plain;
        if self.bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(as_json_reads(text));
        }
        let mut out = as_json_reads(text).into_owned();
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            match rest {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(Cow::Owned(out));
                }
                [b'\\', b'u', ..] => {
                    let escaped = self.escaped()?;
                    out.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
                }
                [b'\\', escape, ..] => {
                    out.push(match escape {
                        b'"' | b'\\' | b'/' => *escape,
                        b'b' => 8,
                        b'f' => 12,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        _ => return Err(self.error("an escape that JSON has")),
                    });
                    self.at += 2;
                }
                [] | [0..=0x1f, ..] | [b'\\'] => return Err(self.error("the end of a string")),
                _ => {
                    let plain = rest.iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f)).count();
                    out.extend_from_slice(&as_json_reads(rest.get(..plain).unwrap_or_default()));
                    self.at += plain;
                }
            }
        }
    }

    /// A `\uXXXX`, with its second half where it is one of a pair; half a pair alone is replaced.
    fn escaped(&mut self) -> Result<char, JsonError> {
        let unit = |at: usize| -> Option<u32> {
            let text = self.bytes.get(at..at.checked_add(6)?)?;
            let digits = text.strip_prefix(b"\\u")?;
            digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
        };
        let first = unit(self.at).ok_or_else(|| self.error("four digits of a character"))?;
        if let Some(plain) = char::from_u32(first) {
            self.at += 6;
            return Ok(plain);
        }
        let second = unit(self.at + 6).filter(|second| (0xdc00..0xe000).contains(second));
        let pair = second.filter(|_| first < 0xdc00);
        let both =
            pair.and_then(|second| char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)));
        self.at += if both.is_some() { 12 } else { 6 };
        Ok(both.unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// Passes over a value, whatever it is.
    pub(super) fn skip(&mut self) -> Result<(), JsonError> {
        let mut open: Vec<(bool, bool)> = Vec::new();
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    open.push((true, true));
                }
                Some(b'[') => {
                    self.at += 1;
                    open.push((false, true));
                }
                Some(b'"') => drop(self.string()?),
                Some(b'-' | b'0'..=b'9') => {
                    let rest = self.bytes.get(self.at..).unwrap_or_default();
                    let is_of_number = |b: &&u8| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                    self.at += rest.iter().take_while(is_of_number).count();
                }
                _ if self.null() => {}
                _ => drop(self.boolean()?),
            }
            if open.len() > MOST_LEVELS {
                return Err(self.error("no more than 10000 levels"));
            }
            // On to the next value, out of all that ends here.
            loop {
                let Some((is_object, is_first)) = open.last_mut() else { return Ok(()) };
                let goes_on = if *is_object { self.key(is_first)?.is_some() } else { self.item(is_first)? };
                if goes_on {
                    break;
                }
                open.pop();
            }
        }
    }

    /// That nothing follows.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.error("the end")) }
    }
}

/// Text as Go's JSON decoder takes it, and its encoder gives it: each byte that is no UTF-8 becomes U+FFFD.
#[must_use]
pub fn as_json_reads(text: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(text).is_ok() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn string(text: &[u8]) -> Option<Vec<u8>> {
        Reader::new(text).string().ok().map(Cow::into_owned)
    }

    #[test]
    fn strings_are_read_as_json_reads_them() {
        // encoding/json's decode_test.go (Go 1.22), unquote and invalid UTF-8.
        for (text, want) in [
            (&br#""plain""#[..], &b"plain"[..]),
            (br#""a\"\\\/\b\f\n\r\t\u0041b""#, b"a\"\\/\x08\x0c\n\r\tAb"),
            (br#""\ud834\udd1e""#, "\u{1d11e}".as_bytes()),
            (br#""\ud834x""#, "\u{fffd}x".as_bytes()),
            (br#""\udd1e\ud834""#, "\u{fffd}\u{fffd}".as_bytes()),
            (b"\"a\xffb\xe2\x82\"", "a\u{fffd}b\u{fffd}\u{fffd}".as_bytes()),
            (b"\"\xff\\n\xff\"", "\u{fffd}\n\u{fffd}".as_bytes()),
        ] {
            assert_eq!(string(text).unwrap(), want, "{text:?}");
        }
        for text in [&br#""open"#[..], b"\"a\nb\"", br#""\x""#, br#""\u12""#, br#""\"#, b"7"] {
            assert_eq!(string(text), None, "{text:?}");
        }
    }

    #[test]
    fn anything_is_passed_over_at_any_depth() {
        for text in
            ["{}", "[]", r#"{"a":[1,-2.5e+3,{"b":null}],"c":true}"#, "\"x\"", " [ [ ] , { } ] ", "false"]
        {
            let mut reader = Reader::new(text.as_bytes());
            reader.skip().unwrap();
            reader.end().unwrap();
        }
        for text in ["[1 2]", "{\"a\" 1}", "[", "{\"a\":}", "nul", ""] {
            assert!(Reader::new(text.as_bytes()).skip().is_err(), "{text}");
        }
        let deep = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        assert!(Reader::new(deep(10_000).as_bytes()).skip().is_ok());
        assert!(Reader::new(deep(10_001).as_bytes()).skip().is_err());
    }
}
