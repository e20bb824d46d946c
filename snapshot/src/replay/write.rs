//! Puts and deletions (FORMATS G.7).

use bbolt::Source;

use super::keys::Keys;
use super::{Applied, StopReason, Why};
use crate::mvcc::RecordError;
use crate::request::{Item, Message, Value};

/// `etcdserverpb.PutRequest`, as far as it decides what is written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Put<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) lease: i64,
    pub(crate) ignore_value: bool,
    pub(crate) ignore_lease: bool,
}

impl<'a> Put<'a> {
    pub(crate) fn of(request: Message<'a>) -> Self {
        let mut put = Self::default();
        for item in request.items() {
            let Item::Known { field, value, .. } = item else { continue };
            match (field.number, value) {
                (1, Value::Bytes(key)) => put.key = key,
                (2, Value::Bytes(value)) => put.value = value,
                (3, Value::Number(lease)) => put.lease = lease.cast_signed(),
                (5, Value::Number(flag)) => put.ignore_value = flag != 0,
                (6, Value::Number(flag)) => put.ignore_lease = flag != 0,
                _ => {}
            }
        }
        put
    }

    /// Why a server refuses it before it writes anything.
    pub(super) fn refused<S: Source>(&self, keys: &Keys<'_, S>) -> Result<Option<Why>, RecordError> {
        if self.lease != 0 && !keys.leases.has(self.lease) {
            return Ok(Some(Why::LeaseNotFound));
        }
        if (self.ignore_value || self.ignore_lease) && keys.newest(self.key)?.is_none() {
            return Ok(Some(Why::KeyNotFound));
        }
        Ok(None)
    }

    /// Writes it, as an operation of the revision that was begun.
    pub(super) fn write<S: Source>(&self, keys: &mut Keys<'_, S>) -> Result<(), StopReason> {
        if !self.ignore_value && !self.ignore_lease {
            return keys.put(self.key, self.value, self.lease);
        }
        let (value, lease) = match keys.newest(self.key)? {
            Some(newest) => (newest.kv().value.to_vec(), newest.kv().lease),
            None => {
                let what = "it keeps the value or lease of a key that the same transaction deleted";
                return Err(StopReason::Dies(what.to_owned()));
            }
        };
        let value = if self.ignore_value { value.as_slice() } else { self.value };
        keys.put(self.key, value, if self.ignore_lease { lease } else { self.lease })
    }
}

/// `etcdserverpb.DeleteRangeRequest`, as far as it decides what is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delete<'a> {
    key: &'a [u8],
    range_end: &'a [u8],
}

impl<'a> Delete<'a> {
    pub(super) fn of(request: Message<'a>) -> Self {
        Self { key: request.data(1), range_end: request.data(2) }
    }

    /// Writes it, as operations of the revision that was begun.
    pub(super) fn write<S: Source>(&self, keys: &mut Keys<'_, S>) -> Result<(), StopReason> {
        keys.delete_range(self.key, self.range_end)?;
        Ok(())
    }
}

/// Applies a put that stands alone.
pub(super) fn put<S: Source>(keys: &mut Keys<'_, S>, request: Message<'_>) -> Result<Applied, StopReason> {
    let put = Put::of(request);
    if let Some(why) = put.refused(keys)? {
        return Ok(Applied::Nothing(why));
    }
    one_revision(keys, Why::NoKey, |keys| put.write(keys))
}

/// Applies a deletion that stands alone.
pub(super) fn delete<S: Source>(keys: &mut Keys<'_, S>, request: Message<'_>) -> Result<Applied, StopReason> {
    let delete = Delete::of(request);
    one_revision(keys, Why::NoKey, |keys| delete.write(keys))
}

/// Makes what `write` writes one revision, or nothing when it fails; `otherwise` is said when it wrote nothing.
pub(super) fn one_revision<'d, S: Source>(
    keys: &mut Keys<'d, S>,
    otherwise: Why,
    write: impl FnOnce(&mut Keys<'d, S>) -> Result<(), StopReason>,
) -> Result<Applied, StopReason> {
    keys.begin()?;
    if let Err(reason) = write(keys) {
        keys.roll_back();
        return Err(reason);
    }
    Ok(if keys.commit() { Applied::Changed } else { Applied::Nothing(otherwise) })
}
