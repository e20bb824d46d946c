//! How a long job reports its progress and learns that it should stop.

/// What a long job tells, and asks of, whoever started it. `()` is the watcher that never listens.
pub trait Watch: Sync {
    /// A stage of the job starts, `total_bytes` long, called `stage` in front of the user.
    fn begin(&self, _stage: &'static str, _total_bytes: u64) {}
    /// `bytes` more of the job's input were dealt with.
    fn advance(&self, bytes: u64);
    /// True once the user asked to stop: the job should return soon, leaving nothing behind.
    fn interrupted(&self) -> bool;
}

impl Watch for () {
    fn advance(&self, _bytes: u64) {}

    fn interrupted(&self) -> bool {
        false
    }
}

/// Passes on the wish to stop and keeps progress to itself: for a part of a job whose bytes are counted elsewhere.
#[derive(Clone, Copy)]
pub struct Unmetered<'a>(pub &'a dyn Watch);

impl Watch for Unmetered<'_> {
    fn advance(&self, _bytes: u64) {}

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}
