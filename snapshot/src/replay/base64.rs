//! Base64 as Go's `base64.StdEncoding` decodes it.

/// Decodes `text`. Line ends are passed over, and bits that say nothing need not be zero.
///
/// # Errors
/// Nothing to say but that it is none: a character that is no digit, or digits that are not whole groups of four with their
/// padding.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut characters = text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut is_complete = false;
    while let Some(first) = characters.next() {
        if is_complete {
            return None;
        }
        let group = [Some(first), characters.next(), characters.next(), characters.next()];
        let [Some(first), Some(second), Some(third), Some(fourth)] = group else { return None };
        let high = u32::from(digit(first)?) << 18 | u32::from(digit(second)?) << 12;
        let (bits, bytes) = match (third, fourth) {
            (b'=', b'=') => (high, 1),
            (b'=', _) => return None,
            (third, b'=') => (high | u32::from(digit(third)?) << 6, 2),
            (third, fourth) => (high | u32::from(digit(third)?) << 6 | u32::from(digit(fourth)?), 3),
        };
        is_complete = bytes < 3;
        out.extend(bits.to_be_bytes().into_iter().skip(1).take(bytes));
    }
    Some(out)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9v\r\nYmFy\n", "foobar"),
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap(), bytes.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in ["Z", "Zg", "Zg=", "Zg===", "Zg==Zg==", "Z===", "Zm=v", "Zm9*", " Zm9v", "====", "Zm9v="]
        {
            assert!(decode(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn all_bytes_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(testdata::base64::encode(&bytes).as_bytes()).unwrap(), bytes);
    }
}
