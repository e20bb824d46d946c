//! Paths as text: every path has one, no two the same, and each is found again by it.
//!
//! A name on a disk is bytes. What is no UTF-8, and every control character, is written as `\x` and two hexadecimal digits a byte, and so is
//! the backslash.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What the names of the files begin with that lie in a log's directory which was given apart.
pub(crate) const WAL_DIR: &str = "wal-dir:";

pub(crate) fn text_of(path: &Path) -> String {
    let mut text = String::new();
    let escape = |text: &mut String, bytes: &[u8]| {
        // Writing to a String does not fail.
        bytes.iter().for_each(|byte| _ = write!(text, "\\x{byte:02x}"));
    };
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() || letter == '\\' {
                escape(&mut text, letter.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(letter);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// The path of which this is the text.
pub(crate) fn path_of(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split("\\x");
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let byte = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, piece.get(2..)) {
            (Some(byte), Some(rest)) => {
                bytes.push(byte);
                bytes.extend_from_slice(rest.as_bytes());
            }
            // No text that was made here.
            _ => {
                bytes.extend_from_slice(b"\\x");
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;

    #[test]
    fn what_is_plain_stays_plain() {
        for (bytes, text) in [
            (&b"member/snap/db"[..], "member/snap/db"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            (b"a\nb\xff", "a\\x0ab\\xff"),
            (b"\\x41", "\\x5cx41"),
        ] {
            assert_eq!(text_of(Path::new(OsStr::from_bytes(bytes))), text);
        }
    }

    proptest! {
        #[test]
        fn paths_come_back(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\\'), Just(b'x'), Just(b'4')], 0..40)) {
            let path = PathBuf::from(OsString::from_vec(bytes));
            let text = text_of(&path);
            prop_assert!(!text.contains(char::is_control));
            prop_assert_eq!(path_of(&text), path);
        }

        #[test]
        fn no_text_is_too_strange(text in "(\\\\|x|[0-9a-f]|é){0,20}") {
            _ = path_of(&text);
        }
    }
}
