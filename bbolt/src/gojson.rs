//! JSON text as Go's `encoding/json` writes it, byte for byte.
//!
//! etcd's member rows, conf change contexts and v2 store are made by `json.Marshal`, which escapes more than JSON asks
//! for: `<`, `>` and `&` (safe inside HTML), U+2028 and U+2029 (safe inside JavaScript), and a byte that is no UTF-8
//! becomes the escape of U+FFFD. Files that must equal etcd's need the same text.

/// Appends `text` as a quoted JSON string.
///
/// `text` need not be UTF-8: each offending byte becomes `\ufffd`. Backspace and form feed use the short escapes of
/// Go 1.22 and later (etcd 3.5.13 and later are built with it; older Go wrote `\u0008` and `\u000c`).
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(out, c);
        }
        for _ in chunk.invalid() {
            out.extend_from_slice(br"\ufffd");
        }
    }
    out.push(b'"');
}

/// Appends a JSON array of strings.
pub fn push_strings<S: AsRef<[u8]>>(out: &mut Vec<u8>, texts: &[S]) {
    out.push(b'[');
    for (i, text) in texts.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(out, text.as_ref());
    }
    out.push(b']');
}

/// Appends an unsigned number.
pub fn push_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(number.to_string().as_bytes());
}

fn push_char(out: &mut Vec<u8>, c: char) {
    let short: &[u8] = match c {
        '"' => br#"\""#,
        '\\' => br"\\",
        '\u{8}' => br"\b",
        '\u{c}' => br"\f",
        '\n' => br"\n",
        '\r' => br"\r",
        '\t' => br"\t",
        '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            return;
        }
        _ => {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
    };
    out.extend_from_slice(short);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quoted(text: &[u8]) -> String {
        let mut out = Vec::new();
        push_string(&mut out, text);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn escapes_what_go_escapes() {
        // encoding/json's own table (Go 1.22, `encode_test.go`: TestEncodeString and TestEncoderSetEscapeHTML).
        for (text, want) in [
            (&b"\x00"[..], r#""\u0000""#),
            (b"\x08\x09\x0a\x0b\x0c\x0d", r#""\b\t\n\u000b\f\r""#),
            (b"\x1f", r#""\u001f""#),
            (b"\x7f", "\"\x7f\""),
            (b"<script>&\"\\/'", r#""\u003cscript\u003e\u0026\"\\/'""#),
            ("\u{2027}\u{2028}\u{2029}".as_bytes(), "\"\u{2027}\\u2028\\u2029\""),
            ("é\u{1f600}".as_bytes(), "\"é\u{1f600}\""),
            (b"a\xffb", r#""a\ufffdb""#),
            // Go's decoder steps one byte over each invalid byte, also within a cut or surrogate sequence.
            (b"\xe2\x82", r#""\ufffd\ufffd""#),
            (b"\xed\xa0\x80", r#""\ufffd\ufffd\ufffd""#),
            (b"\xf0\x9f\x98a", r#""\ufffd\ufffd\ufffda""#),
        ] {
            assert_eq!(quoted(text), want);
        }
    }

    proptest! {
        #[test]
        fn text_survives_a_json_reader(text in "\\PC*|[\\x00-\\x7f<>&\u{2028}]*") {
            let out = quoted(text.as_bytes());
            prop_assert!(!out.bytes().any(|b| b < 0x20 || matches!(b, b'<' | b'>' | b'&')));
            prop_assert_eq!(serde_json::from_str::<String>(&out).expect("valid JSON"), text);
        }

        #[test]
        fn any_bytes_become_the_lossy_text(bytes: Vec<u8>) {
            let mut want = String::new();
            for chunk in bytes.utf8_chunks() {
                want.push_str(chunk.valid());
                want.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
            }
            prop_assert_eq!(serde_json::from_str::<String>(&quoted(&bytes)).expect("valid JSON"), want);
        }
    }
}
