//! Results too long to be kept: written to stdout as they come.

use std::io::{self, BufWriter, ErrorKind, Write};

use crate::exit::Failure;

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Gives `print` stdout to write to.
///
/// # Errors
/// When stdout cannot be written. A reader that went away had enough: that is no error.
pub(crate) fn to_stdout(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut stdout = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
    let written = print(&mut stdout).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            // What is left in the buffer has nowhere to go.
            drop(stdout.into_parts());
            Ok(())
        }
        Err(error) => Err(Failure::failed(format!("writing to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}
