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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::replay::asked::asked;
    use crate::request::schema::ALARM;

    fn does(small: &mut Small, action: u64, kind: u64, text: &str) -> Result<Applied, StopReason> {
        let request = asked().number(1, action).number(2, 10_989_313_697_875_737_535).number(3, kind);
        request.seen(&ALARM, |asked| apply(small, asked, text.parse().unwrap()))
    }

    #[test]
    fn raised_once_and_disarmed() {
        let mut small = Small::default();
        assert_eq!(does(&mut small, 0, 1, "3.5"), Ok(Applied::Nothing(Why::ReadOnly)));
        assert_eq!(does(&mut small, 2, 1, "3.5"), Ok(Applied::Nothing(Why::AlreadySo)));
        assert_eq!(does(&mut small, 1, 0, "3.5"), Ok(Applied::Nothing(Why::NoEffect)));
        assert_eq!(does(&mut small, 1, 1, "3.5"), Ok(Applied::Changed));
        assert_eq!(does(&mut small, 1, 1, "3.5"), Ok(Applied::Nothing(Why::AlreadySo)));
        assert_eq!(does(&mut small, 1, 2, "3.5"), Ok(Applied::Changed));
        let kinds: Vec<i32> =
            small.rows(Name::Alarm).keys().map(|key| Alarm::parse(key).unwrap().kind).collect();
        assert_eq!(kinds, [1, 2]);
        assert!(small.rows(Name::Alarm).values().all(Vec::is_empty));
        assert_eq!(does(&mut small, 2, 1, "3.5"), Ok(Applied::Changed));
        assert_eq!(small.rows(Name::Alarm).len(), 1);
    }

    #[test]
    fn an_alarm_of_a_kind_that_is_none() {
        assert!(matches!(does(&mut Small::default(), 1, 9, "3.5"), Err(StopReason::Dies(_))));
        assert_eq!(does(&mut Small::default(), 1, 9, "3.6"), Ok(Applied::Changed));
    }
}
