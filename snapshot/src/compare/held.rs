//! What members have of a key that is not the same in all of them.

use crate::mvcc::KeyValue;

/// The most bytes of a value that are kept.
pub const MOST_VALUE_BYTES: usize = 1024;

/// A value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Revision of the put that created the key.
    pub create_revision: i64,
    /// Revision of this put.
    pub mod_revision: i64,
    /// Number of puts since the creation, this one included.
    pub version: i64,
    /// The lease, or 0.
    pub lease: i64,
    /// Length of the value in bytes.
    pub len_bytes: u64,
    /// The value, at most its first [`MOST_VALUE_BYTES`].
    pub bytes: Vec<u8>,
}

impl Value {
    pub(super) fn of(kv: &KeyValue<'_>) -> Self {
        Self {
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
            len_bytes: kv.value.len() as u64,
            bytes: kv.value.get(..MOST_VALUE_BYTES).unwrap_or(kv.value).to_vec(),
        }
    }
}

/// What a member has of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// Its deletion.
    Deletion,
    /// A value.
    Value(Value),
}

/// A key that is not the same in all members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    /// The key.
    pub key: Vec<u8>,
    /// What each has, by the place of the survivor.
    pub held: Vec<(usize, Held)>,
}
