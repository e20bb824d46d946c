//! The list of what is wrong, by one thread, in key order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::list::Findings;
use super::metas::page_in_range;
use super::walk::{Found, Sink, Walk};
use super::{Finding, Meter, Statistics};
use crate::db::Db;
use crate::fault::FaultKind;
use crate::freelist::Freelist;
use crate::page_use::PageUse;
use crate::source::Source;

/// Walks everything in key order on this thread, or what lies below `from`, and lists what is wrong.
pub(super) fn search<S: Source>(
    db: &Db<S>,
    meter: &Meter<'_>,
    freelist: Option<&Freelist>,
    from: Option<Found>,
    list: &mut Findings,
) -> (PageUse, Statistics, bool) {
    let seen = PageUse::new(db.page_count());
    let interrupted = AtomicBool::new(false);
    let before = list.kept.len();
    let mut walk = Walk::new(db, &seen, meter, &interrupted, Sink::List(list));
    walk.told_bytes = meter.told.load(Ordering::Relaxed);
    walk.from = from;
    walk.claim_freelist(freelist);
    if from.is_some() || page_in_range(db, db.meta().root.0) {
        walk.all();
    }
    walk.look();
    let statistics = walk.statistics;
    name_first_users(db, meter, freelist, from, list.kept.get_mut(before..).unwrap_or_default());
    (seen, statistics, interrupted.into_inner())
}

/// Fills in who used first the pages that are used twice: the same walk again, looking for just these.
fn name_first_users<S: Source>(
    db: &Db<S>,
    meter: &Meter<'_>,
    freelist: Option<&Freelist>,
    from: Option<Found>,
    findings: &mut [Finding],
) {
    let is_double = |f: &Finding| matches!(f.fault.kind, FaultKind::MultipleReferences { .. });
    let doubles: BTreeMap<_, _> =
        findings.iter().filter(|f| is_double(f)).map(|f| (f.fault.page, None)).collect();
    if doubles.is_empty() {
        return;
    }
    let seen = PageUse::new(db.page_count());
    let interrupted = AtomicBool::new(false);
    let mut walk = Walk::new(db, &seen, meter, &interrupted, Sink::Owners(doubles));
    walk.told_bytes = u64::MAX;
    walk.from = from;
    walk.claim_freelist(freelist);
    walk.all();
    let Sink::Owners(owners) = walk.sink else { return };
    for finding in findings {
        if let FaultKind::MultipleReferences { first_user } = &mut finding.fault.kind
            && let Some(Some(owner)) = owners.get(&finding.fault.page)
        {
            *first_user = *owner;
        }
    }
}
