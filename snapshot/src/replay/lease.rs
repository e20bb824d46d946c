//! Leases: granted, revoked, checkpointed, and the keys that hang on them (FORMATS B.4, G.7).
//!
//! Which keys a lease has is in no db. A server finds it out when it starts, from the newest record of every key whose lease
//! exists then; a key that names a lease granted only later does not hang on it.

use std::collections::{BTreeMap, HashMap, HashSet};

use bbolt::Source;
use prost::Message as _;

use super::keys::Keys;
use super::small::{Name, Small};
use super::{Applied, ReplayOptions, StopReason, Why};
use crate::lease::Attached;
use crate::mvcc::{Index, KeySpaceError, RecordError};
use crate::request::Message;
use crate::schema::{CLUSTER_VERSION, LeaseRow};
use crate::target::minor_of;

/// The longest time a lease can be granted for, in seconds.
const MOST_TTL_SECONDS: i64 = 9_000_000_000;
/// The first minor version of a cluster in which servers keep what is left of a lease.
const KEEPS_CHECKPOINTS: u32 = 6;

/// The leases there are, and the keys with a state in [`Keys`] that hang on them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// For how long each is granted, in seconds, as the server has it in memory.
    ttl_seconds: BTreeMap<i64, i64>,
    /// Those that are in the db.
    in_file: HashSet<i64>,
    /// Which keys of the db name which lease, once that was asked for.
    named: Option<Attached>,
    keys: HashMap<i64, HashSet<usize>>,
}

impl Leases {
    /// The leases in bucket `lease`, as a server loads them. A row that is no lease, over which a server dies, is passed over.
    pub(super) fn of(small: &Small, options: &ReplayOptions) -> Self {
        let mut leases = Self::default();
        for row in small.rows(Name::Lease).values() {
            let Ok(row) = LeaseRow::decode(row.as_slice()) else { continue };
            if !options.release.loads_every_lease() && !(0..i64::MAX).contains(&row.id) {
                continue;
            }
            leases.ttl_seconds.insert(row.id, row.ttl.max(options.lease_floor_seconds));
            leases.in_file.insert(row.id);
        }
        leases
    }

    /// Whether it exists.
    pub(super) fn has(&self, lease: i64) -> bool {
        self.ttl_seconds.contains_key(&lease)
    }

    /// Whether it existed when the server started.
    pub(super) fn was_in_file(&self, lease: i64) -> bool {
        self.in_file.contains(&lease)
    }

    /// Whether any existed when the server started.
    pub(super) fn was_any_in_file(&self) -> bool {
        !self.in_file.is_empty()
    }

    /// The keys of the db that hung on `lease` when the server started, by their numbers in the index.
    pub(super) fn in_file<S: Source>(
        &mut self,
        index: &Index<'_, S>,
        lease: i64,
    ) -> Result<Vec<usize>, RecordError> {
        if !self.was_in_file(lease) {
            return Ok(Vec::new());
        }
        if self.named.is_none() {
            let named = Attached::at(index, i64::MAX, &()).map_err(|error| match error {
                KeySpaceError::Unreadable(error) => error,
                // Nothing else is read, and nobody interrupts it.
                _ => RecordError::Changed { offset: 0, main: 0 },
            })?;
            self.named = Some(named);
        }
        let keys = self.named.as_ref().map_or(&[][..], |named| named.keys_of(lease));
        Ok(keys.iter().map(|key| key.number).collect())
    }

    /// The keys with a state that hang on `lease`, in no order.
    pub(super) fn attached(&self, lease: i64) -> Vec<usize> {
        self.keys.get(&lease).into_iter().flatten().copied().collect()
    }

    /// Hangs a key with a state on `lease`, 0 for none.
    pub(super) fn attach(&mut self, lease: i64, key: usize) {
        if lease != 0 {
            self.keys.entry(lease).or_default().insert(key);
        }
    }

    /// Takes it off.
    pub(super) fn detach(&mut self, lease: i64, key: usize) {
        if let Some(keys) = self.keys.get_mut(&lease) {
            keys.remove(&key);
        }
    }
}

/// Grants a lease.
pub(super) fn grant<S: Source>(
    keys: &mut Keys<'_, S>,
    small: &mut Small,
    request: Message<'_>,
    options: &ReplayOptions,
) -> Applied {
    let (ttl, id) = (request.number(1).cast_signed(), request.number(2).cast_signed());
    if id == 0 {
        return Applied::Nothing(Why::LeaseNotFound);
    }
    if ttl > MOST_TTL_SECONDS {
        return Applied::Nothing(Why::LeaseTooLong);
    }
    if keys.leases.has(id) {
        return Applied::Nothing(Why::LeaseExists);
    }
    let ttl = ttl.max(options.lease_floor_seconds);
    keys.leases.ttl_seconds.insert(id, ttl);
    keep(small, &LeaseRow { id, ttl, remaining_ttl: 0 });
    Applied::Changed
}

/// Revokes a lease: deletes its keys in their order, by one revision, and the lease with them.
pub(super) fn revoke<S: Source>(
    keys: &mut Keys<'_, S>,
    small: &mut Small,
    request: Message<'_>,
) -> Result<Applied, StopReason> {
    let id = request.number(1).cast_signed();
    if !keys.leases.has(id) {
        return Ok(Applied::Nothing(Why::LeaseNotFound));
    }
    let attached = keys.attached(id)?;
    keys.begin()?;
    for number in attached {
        keys.delete(number);
    }
    keys.commit();
    keys.leases.ttl_seconds.remove(&id);
    keys.leases.keys.remove(&id);
    small.delete(Name::Lease, &id.to_be_bytes());
    Ok(Applied::Changed)
}

/// Notes what is left of leases, where servers keep that.
pub(super) fn checkpoint<S: Source>(
    keys: &Keys<'_, S>,
    small: &mut Small,
    request: Message<'_>,
    options: &ReplayOptions,
) -> Applied {
    let version = small.get(Name::Cluster, CLUSTER_VERSION).map(String::from_utf8_lossy);
    let minor = version.and_then(|version| minor_of(&version));
    let keeps = options.persist_checkpoints || minor.is_some_and(|minor| minor >= KEEPS_CHECKPOINTS);
    let mut applied = Applied::Nothing(Why::LeaseNotFound);
    for checkpoint in request.messages_in(1) {
        let (id, remaining_ttl) = (checkpoint.number(1).cast_signed(), checkpoint.number(2).cast_signed());
        let Some(ttl) = keys.leases.ttl_seconds.get(&id).copied() else { continue };
        if keeps {
            let changed = keep(small, &LeaseRow { id, ttl, remaining_ttl });
            if changed {
                applied = Applied::Changed;
            } else if applied != Applied::Changed {
                applied = Applied::Nothing(Why::AlreadySo);
            }
        } else {
            applied = Applied::Nothing(Why::CheckpointNotKept);
        }
    }
    applied
}

/// Makes this the row of a lease; whether that changed anything.
fn keep(small: &mut Small, row: &LeaseRow) -> bool {
    small.put(Name::Lease, &row.id.to_be_bytes(), row.encode_to_vec())
}
