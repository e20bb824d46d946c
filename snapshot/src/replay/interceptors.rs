//! What stands before the store and may refuse a request: alarms and permissions (FORMATS G.5).
//!
//! A server that starts reads which alarms are raised and puts them before the permissions, whatever release it is. What it does
//! when an alarm is raised or disarmed while it runs, which is when an entry of the log does so, differs. Since 3.6 it does the
//! same again. Up to 3.5 an alarm, the first of its kind, takes the place of all that stood before the store, permissions and
//! other alarms included; and the last of its kind, when disarmed, takes all alarms with it and brings permissions back.

use super::Why;
use super::small::{Name, Small};
use crate::mvcc::Release;
use crate::request::Message;
use crate::schema::{ALARM_CORRUPT, ALARM_NOSPACE, Alarm};

use super::txn;

/// What stands before the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interceptors {
    /// Refuses what touches keys and leases.
    corrupt: bool,
    /// Refuses what takes space.
    no_space: bool,
    /// Asks who may do what.
    pub(super) permissions: bool,
}

impl Interceptors {
    /// Those of a server that starts.
    pub(super) fn at_start(small: &Small) -> Self {
        Self {
            corrupt: raised(small, ALARM_CORRUPT) > 0,
            no_space: raised(small, ALARM_NOSPACE) > 0,
            permissions: true,
        }
    }

    /// Those after a request about alarms, which found `before` alarms of its kind raised.
    pub(super) fn after_alarm(&mut self, kind: i32, before: usize, small: &Small, release: Release) {
        if release.asks_permissions_under_alarms() {
            *self = Self::at_start(small);
            return;
        }
        let is_known = kind == ALARM_CORRUPT || kind == ALARM_NOSPACE;
        match (before, raised(small, kind)) {
            (0, 1) if is_known => {
                *self = Self {
                    corrupt: kind == ALARM_CORRUPT,
                    no_space: kind == ALARM_NOSPACE,
                    permissions: false,
                };
            }
            (1.., 0) if is_known => *self = Self { corrupt: false, no_space: false, permissions: true },
            _ => {}
        }
    }

    /// Why an alarm refuses a request of this kind.
    pub(super) fn refused(&self, kind: &str, request: Message<'_>, release: Release) -> Option<Why> {
        if !self.corrupt && !self.no_space {
            return None;
        }
        let touches =
            matches!(kind, "put" | "delete_range" | "txn" | "compaction" | "lease_grant" | "lease_revoke");
        if self.corrupt && touches {
            return Some(Why::Corrupt);
        }
        let takes_space = match kind {
            "put" | "lease_grant" => true,
            "txn" => txn::costs_space(request, release),
            _ => false,
        };
        (self.no_space && takes_space).then_some(Why::NoSpace)
    }

    /// Whether an alarm stands that a server which saw it raised may treat otherwise than one that starts with it.
    pub(super) fn is_in_doubt(&self, small: &Small, release: Release) -> bool {
        !release.asks_permissions_under_alarms()
            && (!self.permissions || raised(small, ALARM_CORRUPT) + raised(small, ALARM_NOSPACE) > 0)
    }
}

/// Number of alarms of this kind.
pub(super) fn raised(small: &Small, kind: i32) -> usize {
    let alarms = small.rows(Name::Alarm).keys().filter_map(|key| Alarm::parse(key));
    alarms.filter(|alarm| alarm.kind == kind).count()
}
