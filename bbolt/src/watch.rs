//! How a long job reports its progress and learns that it should stop.

/// What a long job tells, and asks of, whoever started it. `()` is the watcher that never listens.
pub trait Watch: Sync {
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
