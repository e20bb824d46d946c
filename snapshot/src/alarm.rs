//! The alarms that stand in a db (FORMATS B.1): read, named, taken away.

use bbolt::graft::{Graft, GraftError, Pairs, Patch};
use bbolt::{Db, Source};

use crate::schema::{ALARM, ALARM_CORRUPT, ALARM_NOSPACE, Alarm};

/// What etcd calls this kind of alarm; `None` for one that it does not know.
#[must_use]
pub fn kind_name(kind: i32) -> Option<&'static str> {
    match kind {
        0 => Some("NONE"),
        ALARM_NOSPACE => Some("NOSPACE"),
        ALARM_CORRUPT => Some("CORRUPT"),
        _ => None,
    }
}

/// An alarm as etcdctl up to 3.6 prints it, fields that are zero left out. What 3.7 prints has one blank or two between the
/// same fields, from one build to another.
#[must_use]
pub fn text(alarm: &Alarm) -> String {
    let mut out = String::new();
    if alarm.member_id != 0 {
        out += &format!("memberID:{} ", alarm.member_id);
    }
    if alarm.kind != 0 {
        out += &kind_name(alarm.kind)
            .map_or_else(|| format!("alarm:{} ", alarm.kind), |name| format!("alarm:{name} "));
    }
    out
}

/// The edit that takes every row of bucket `alarm` away.
///
/// # Errors
/// When the bucket cannot be edited.
pub fn disarmed<S: Source>(db: &Db<S>) -> Result<Patch, GraftError> {
    let mut graft = Graft::new(db);
    graft.replace_bucket(ALARM, Pairs::new())?;
    graft.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_in_etcdctls_words() {
        let of = |member_id, kind| text(&Alarm { member_id, kind });
        assert_eq!(of(10_989_313_697_875_737_535, 1), "memberID:10989313697875737535 alarm:NOSPACE ");
        assert_eq!(of(7, 2), "memberID:7 alarm:CORRUPT ");
        assert_eq!(of(7, 9), "memberID:7 alarm:9 ");
        assert_eq!(of(0, 0), "");
    }
}
