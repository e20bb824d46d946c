//! Work formatted by all cores and put out in order, with little in memory.

use std::io::{self, ErrorKind, Write};

use rayon::prelude::*;

use crate::watch::Watch;

/// Pieces of work formatted together, for each thread.
const PIECES_PER_THREAD: usize = 8;
/// Most bytes one piece may come to in memory; more is formatted again, straight to the output.
const MOST_PIECE_BYTES: usize = 4 << 20;

/// Why not everything was put out.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The output took no more.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What makes text of pieces of work.
pub trait Format: Sync {
    /// A piece of work.
    type Piece: Sync;
    /// What there is to say of a piece beside its text.
    type Said: Send;

    /// Writes the text of `piece`. May be asked to twice.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write<W: Write>(&self, piece: &Self::Piece, out: &mut W) -> io::Result<Self::Said>;
}

/// Writes the text of all `pieces` in their order, and gives `said` what there was to say of each.
///
/// # Errors
/// When `out` cannot be written to, or the user asks to stop.
pub fn write_all<F: Format, W: Write>(
    format: &F,
    pieces: &[F::Piece],
    out: &mut W,
    watch: &dyn Watch,
    mut said: impl FnMut(F::Said),
) -> Result<(), RenderError> {
    for batch in pieces.chunks(PIECES_PER_THREAD * rayon::current_num_threads()) {
        if watch.interrupted() {
            return Err(RenderError::Interrupted);
        }
        let texts: Vec<_> = batch
            .par_iter()
            .map(|piece| {
                let mut text = Bounded(Vec::new());
                let said = format.write(piece, &mut text);
                said.ok().map(|said| (text.0, said))
            })
            .collect();
        for (piece, text) in batch.iter().zip(texts) {
            if watch.interrupted() {
                return Err(RenderError::Interrupted);
            }
            match text {
                Some((text, it)) => {
                    out.write_all(&text)?;
                    said(it);
                }
                None => said(format.write(piece, &mut Stoppable { out, watch }).map_err(stopped)?),
            }
        }
    }
    Ok(())
}

/// A writer that ends when the user asks to stop: for output without bound.
pub struct Stoppable<'o, W> {
    out: &'o mut W,
    watch: &'o dyn Watch,
}

impl<'o, W: Write> Stoppable<'o, W> {
    /// Writes to `out` until `watch` is interrupted.
    pub fn new(out: &'o mut W, watch: &'o dyn Watch) -> Self {
        Self { out, watch }
    }
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.watch.interrupted() {
            // Not ErrorKind::Interrupted, after which writing goes on.
            return Err(io::Error::other(RenderError::Interrupted));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What an error of a [`Stoppable`] means.
#[must_use]
pub fn stopped(error: io::Error) -> RenderError {
    match error.get_ref() {
        Some(inner) if inner.is::<RenderError>() => RenderError::Interrupted,
        _ => RenderError::Write(error),
    }
}

/// Takes [`MOST_PIECE_BYTES`] and then no more.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > MOST_PIECE_BYTES {
            return Err(ErrorKind::OutOfMemory.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Repeat;

    impl Format for Repeat {
        type Piece = (u8, usize);
        type Said = usize;

        fn write<W: Write>(&self, (byte, count): &(u8, usize), out: &mut W) -> io::Result<usize> {
            (0..*count).try_for_each(|_| out.write_all(&[*byte; 1024]))?;
            Ok(*count)
        }
    }

    #[test]
    fn pieces_come_in_order_also_those_too_large_to_be_kept() {
        let pieces: Vec<(u8, usize)> =
            (0..100u8).map(|byte| (byte, if byte % 17 == 3 { 5000 } else { usize::from(byte) })).collect();
        let (mut out, mut said) = (Vec::new(), Vec::new());
        write_all(&Repeat, &pieces, &mut out, &(), |count| said.push(count)).unwrap();
        let expected: Vec<u8> = pieces.iter().flat_map(|(byte, count)| vec![*byte; count * 1024]).collect();
        assert!(out == expected);
        assert_eq!(said, pieces.iter().map(|(_, count)| *count).collect::<Vec<_>>());
    }

    struct Stop;

    impl Watch for Stop {
        fn advance(&self, _: u64) {}

        fn interrupted(&self) -> bool {
            true
        }
    }

    #[test]
    fn whoever_asks_to_stop_is_heard() {
        let stopped = write_all(&Repeat, &[(1, 1)], &mut Vec::new(), &Stop, |_| {});
        assert!(matches!(stopped, Err(RenderError::Interrupted)));
        let error = Repeat.write(&(1, 1), &mut Stoppable::new(&mut Vec::new(), &Stop)).unwrap_err();
        assert!(matches!(super::stopped(error), RenderError::Interrupted));
    }
}
