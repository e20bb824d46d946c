//! The bytes of one page, as `bbolt dump` prints them.

use std::io::{self, Write};

use super::bytes::hex;

/// Bytes of one line.
const LINE_BYTES: usize = 16;

/// Writes `bytes`, which lie at `offset` in the file, in lines of 16; lines equal to the one before are shown as one `*`, but
/// for the last. An empty line ends it.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write<W: Write>(out: &mut W, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut previous: &[u8] = &[];
    let mut skipped = false;
    let mut lines = bytes.chunks(LINE_BYTES).peekable();
    let mut at = offset;
    while let Some(line) = lines.next() {
        if line == previous && lines.peek().is_some() {
            if !skipped {
                writeln!(out, "{at:07x} *")?;
                skipped = true;
            }
        } else {
            write!(out, "{at:07x}")?;
            for pair in line.chunks(2) {
                out.write_all(b" ")?;
                hex(out, pair)?;
            }
            out.write_all(b"\n")?;
            skipped = false;
        }
        previous = line;
        at = at.saturating_add(LINE_BYTES as u64);
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn equal_lines_are_skipped_but_for_the_last() {
        let dump = |bytes: &[u8]| {
            let mut out = Vec::new();
            super::write(&mut out, bytes, 0x1000).unwrap();
            String::from_utf8(out).unwrap()
        };
        let mut bytes = vec![0; 96];
        bytes[..4].copy_from_slice(&[0xED, 0xDA, 0x0C, 0xED]);
        assert_eq!(
            dump(&bytes),
            "0001000 edda 0ced 0000 0000 0000 0000 0000 0000\n\
             0001010 0000 0000 0000 0000 0000 0000 0000 0000\n\
             0001020 *\n\
             0001050 0000 0000 0000 0000 0000 0000 0000 0000\n\n"
        );
        assert_eq!(dump(&[1, 2, 3]), "0001000 0102 03\n\n");
        assert_eq!(dump(&[]), "\n");
    }
}
