//! How many requests of each kind the store has seen, and what became of them.

use bbolt::gojson;

use super::json::{JsonError, Reader};

/// What is counted; the order is that of the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stat {
    GetsSuccess,
    GetsFail,
    SetsSuccess,
    SetsFail,
    DeleteSuccess,
    DeleteFail,
    UpdateSuccess,
    UpdateFail,
    CreateSuccess,
    CreateFail,
    SwapSuccess,
    SwapFail,
    CompareAndDeleteSuccess,
    CompareAndDeleteFail,
    Expired,
}

const NAMES: [&str; 16] = [
    "getsSuccess",
    "getsFail",
    "setsSuccess",
    "setsFail",
    "deleteSuccess",
    "deleteFail",
    "updateSuccess",
    "updateFail",
    "createSuccess",
    "createFail",
    "compareAndSwapSuccess",
    "compareAndSwapFail",
    "compareAndDeleteSuccess",
    "compareAndDeleteFail",
    "expireCount",
    "watchers",
];

/// The counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stats([u64; 16]);

impl Stats {
    pub(super) fn count(&mut self, stat: Stat) {
        if let Some(count) = self.0.get_mut(stat as usize) {
            *count = count.wrapping_add(1);
        }
    }

    /// Counts a request as done or as refused.
    pub(super) fn count_if(&mut self, is_done: bool, done: Stat, refused: Stat) {
        self.count(if is_done { done } else { refused });
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let mut stats = Self::default();
        if reader.null() {
            return Ok(stats);
        }
        reader.object()?;
        let mut is_first = true;
        while let Some(key) = reader.key(&mut is_first)? {
            let counts = NAMES.iter().zip(&mut stats.0);
            let mut named = counts.filter(|(name, _)| name.as_bytes().eq_ignore_ascii_case(&key));
            match named.next() {
                Some((_, count)) => *count = reader.unsigned()?,
                None => reader.skip()?,
            }
        }
        Ok(stats)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut before: &[u8] = b"{\"";
        for (name, count) in NAMES.iter().zip(self.0) {
            out.extend_from_slice(before);
            before = b",\"";
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            gojson::push_u64(out, count);
        }
        out.push(b'}');
    }
}
