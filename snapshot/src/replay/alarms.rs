//! Alarms that entries raise and disarm (FORMATS B.3, G.7).

use super::small::{Name, Small};
use super::{Applied, StopReason, Why};
use crate::mvcc::Release;
use crate::request::Message;
use crate::schema::{ALARM_CORRUPT, ALARM_NOSPACE, Alarm};

/// `AlarmRequest.action`: raise it.
const ACTIVATE: i32 = 1;
/// `AlarmRequest.action`: disarm it.
const DEACTIVATE: i32 = 2;
/// `AlarmRequest.alarm`: none at all.
const NONE: i32 = 0;

/// The kind of alarm a request is about.
pub(super) fn kind(asked: Message<'_>) -> i32 {
    asked.enumeration(3)
}

/// Carries out a request about alarms.
///
/// # Errors
/// For an alarm over which a server dies.
pub(super) fn apply(small: &mut Small, asked: Message<'_>, release: Release) -> Result<Applied, StopReason> {
    let alarm = Alarm { member_id: asked.number(2), kind: kind(asked) };
    let is_raised =
        |small: &Small| small.rows(Name::Alarm).keys().any(|key| Alarm::parse(key) == Some(alarm));
    match asked.enumeration(1) {
        ACTIVATE if alarm.kind == NONE => Ok(Applied::Nothing(Why::NoEffect)),
        ACTIVATE if is_raised(small) => Ok(Applied::Nothing(Why::AlreadySo)),
        ACTIVATE => {
            if !matches!(alarm.kind, ALARM_NOSPACE | ALARM_CORRUPT)
                && !release.asks_permissions_under_alarms()
            {
                return Err(StopReason::Dies(format!(
                    "it raises an alarm of the unknown kind {}",
                    alarm.kind
                )));
            }
            small.put(Name::Alarm, &alarm.to_key(), Vec::new());
            Ok(Applied::Changed)
        }
        DEACTIVATE if is_raised(small) => {
            // A row in another form than a server writes it stays.
            let changed = small.delete(Name::Alarm, &alarm.to_key());
            Ok(if changed { Applied::Changed } else { Applied::Nothing(Why::NoEffect) })
        }
        DEACTIVATE => Ok(Applied::Nothing(Why::AlreadySo)),
        _ => Ok(Applied::Nothing(Why::ReadOnly)),
    }
}
