//! Work formatted by all cores and written in order.

use bbolt::Watch;
use rayon::prelude::*;

use super::ViewError;

/// A batch is closed when its leaves have this many bytes,
const BATCH_BYTES: u64 = 256 << 10;
/// or when there are this many.
const BATCH_ITEMS: usize = 256;
/// Batches that are formatted together, for each thread.
const BATCHES_PER_THREAD: usize = 4;

/// Gives `format` batches of `work`, which comes with its length in bytes, on all threads, and what that makes of them to
/// `take`, in order, together with the batch; until `take` says that it had enough.
///
/// # Errors
/// Those of `take`, and when the user asks to stop.
pub(super) fn in_order<W: Sync + Send, P: Send>(
    work: impl Iterator<Item = (u64, W)>,
    format: impl Fn(&[W]) -> P + Sync,
    mut take: impl FnMut(&[W], P) -> Result<bool, ViewError>,
    watch: &dyn Watch,
) -> Result<(), ViewError> {
    let mut work = work.peekable();
    while work.peek().is_some() {
        if watch.interrupted() {
            return Err(ViewError::Interrupted);
        }
        let mut batches: Vec<Vec<W>> = Vec::new();
        let mut bytes = 0;
        while batches.len() < BATCHES_PER_THREAD * rayon::current_num_threads() && work.peek().is_some() {
            let (mut batch, mut batch_bytes) = (Vec::new(), 0);
            while batch_bytes < BATCH_BYTES && batch.len() < BATCH_ITEMS {
                let Some((len_bytes, item)) = work.next() else { break };
                batch_bytes += len_bytes;
                batch.push(item);
            }
            bytes += batch_bytes;
            batches.push(batch);
        }
        let formatted: Vec<P> = batches.par_iter().map(|batch| format(batch)).collect();
        for (batch, formatted) in batches.iter().zip(formatted) {
            if !take(batch, formatted)? {
                return Ok(());
            }
        }
        watch.advance(bytes);
    }
    Ok(())
}
