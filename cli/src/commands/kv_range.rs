//! Which keys: the arguments and flags of etcdctl's `get` and `del`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::Args;
use snapshot::mvcc::KeyRange;

use crate::exit::Failure;

/// A key or a range of keys.
#[derive(Debug, Args)]
pub(crate) struct RangeArgs {
    /// The key, or the first of a range
    // Not called `key`: clap would take it for etcdctl's flag of that name.
    #[arg(value_name = "KEY")]
    first_key: OsString,
    /// The first key beyond the range
    #[arg(value_name = "RANGE_END")]
    end: Option<OsString>,
    /// The first key beyond the range, where it is not given as an argument
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, conflicts_with = "end")]
    range_end: Option<OsString>,
    /// All keys that begin with KEY
    #[arg(long)]
    prefix: bool,
    /// All keys from KEY on
    #[arg(long)]
    from_key: bool,
}

impl RangeArgs {
    /// The range, as etcdctl makes it.
    ///
    /// # Errors
    /// When the flags contradict each other, or there is no key.
    pub(crate) fn range(&self) -> Result<KeyRange, Failure> {
        if self.prefix && self.from_key {
            return Err(Failure::usage(
                "`--prefix` and `--from-key` cannot be set at the same time, choose one",
            ));
        }
        let end = self.end.as_ref().or(self.range_end.as_ref());
        if end.is_some() && (self.prefix || self.from_key) {
            return Err(Failure::usage(
                "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
            ));
        }
        let key = self.first_key.clone().into_vec();
        Ok(match end {
            _ if self.prefix => KeyRange::prefix(&key),
            _ if self.from_key && key.is_empty() => KeyRange::prefix(&[]),
            _ if self.from_key => KeyRange::from_key(&key),
            _ if key.is_empty() => return Err(Failure::failed("etcdserver: key is not provided")),
            Some(end) => KeyRange::between(&key, end.as_bytes()),
            None => KeyRange::single(&key),
        })
    }
}
