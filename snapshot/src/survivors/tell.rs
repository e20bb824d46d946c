//! What is to be known of several members together, as findings.

use std::collections::BTreeMap;

use super::{SetAside, Survivor, Survivors};
use crate::certainty::{Conflict, Parting};
use crate::finding::{Finding, Severity};
use crate::lone::ids;
use crate::target::TargetVersion;

/// All of them.
pub(super) fn findings(survivors: &Survivors) -> Vec<Finding> {
    let judgement = &survivors.judgement;
    let mut findings: Vec<Finding> = survivors.set_aside.iter().map(|aside| copy(aside, survivors)).collect();
    findings.extend(versions(&survivors.all));
    findings.extend(
        judgement
            .conflicts
            .iter()
            .filter(|one| !is_told(one, &judgement.conflicts))
            .map(|one| histories(one, survivors)),
    );
    // One history has entries that the other never had: that says nothing of the copies.
    if judgement.conflicts.is_empty() {
        findings.extend(judgement.behind.iter().filter_map(|at| behind(*at, survivors)));
    }
    findings.extend(lost(survivors));
    findings.extend(no_quorum(survivors));
    findings
}

fn copy(aside: &SetAside, survivors: &Survivors) -> Finding {
    let older = &aside.survivor;
    let newer = survivors.all.get(aside.newer).map(|newer| newer.given.path.display().to_string());
    let message = format!(
        "{}: is an earlier copy of member {} than {}: {}. It is not used",
        older.given.path.display(),
        older.called(),
        newer.unwrap_or_default(),
        aside.why
    );
    Finding::new("ETCD-STALE-COPY", Severity::Warning, message)
}

/// That members were of several minor versions.
fn versions(all: &[Survivor]) -> Option<Finding> {
    let mut of: BTreeMap<TargetVersion, Vec<String>> = BTreeMap::new();
    for survivor in all {
        let schema = survivor.facts.database_facts().map(|database| &database.schema);
        if let Some((version, _)) = schema.and_then(crate::schema::Schema::written_by) {
            of.entry(version).or_default().push(survivor.called());
        }
    }
    let (newest, _) = of.last_key_value()?;
    if of.len() < 2 {
        return None;
    }
    let told: Vec<String> =
        of.iter().map(|(version, names)| format!("{version} ({})", names.join(", "))).collect();
    let message = format!(
        "the members were of several versions: {}. The rules of {newest} hold for all, and a server older than that may not start on \
         what comes of them",
        told.join(", ")
    );
    Some(Finding::new("ETCD-MIXED-VERSIONS", Severity::Warning, message))
}

/// Whether another of `all` says of the same parting that it was forced.
fn is_told(conflict: &Conflict, all: &[Conflict]) -> bool {
    let [one, other] = &conflict.sides;
    conflict.parting != Parting::Forced
        && all.iter().any(|forced| {
            let [here, there] = &forced.sides;
            forced.parting == Parting::Forced
                && forced.after == conflict.after
                && ((here, there) == (one, other) || (here, there) == (other, one))
        })
}

fn histories(conflict: &Conflict, survivors: &Survivors) -> Finding {
    let [one, other] = &conflict.sides;
    let how = match conflict.parting {
        Parting::SameTerm => {
            "they have different entries of the same index and term, which one cluster never makes"
        }
        Parting::BothCertain => "each knows another entry to be committed",
        Parting::Forced => "one was given to --force-new-cluster, or to 'cluster force-new'",
    };
    let message = format!(
        "two histories under one cluster id: {} and {} may agree up to entry {} and part behind it: {how}. They cannot be merged; \
         each can be recovered by itself",
        survivors.called(one),
        survivors.called(other),
        conflict.after
    );
    Finding::new("ETCD-TWO-HISTORIES", Severity::Error, message)
}

fn behind(at: usize, survivors: &Survivors) -> Option<Finding> {
    let survivor = survivors.witness(at)?;
    let message = format!(
        "{}: {} lacks entries that are certain, and that it or another of those that lack them must have had: its files are an old \
         copy, or its log lost its end. Nothing is concluded from what it lacks",
        survivor.given.path.display(),
        survivor.called()
    );
    Some(Finding::new("ETCD-STALE-COPY", Severity::Warning, message))
}

/// Entries that are known to have been committed, and that no log and no database has.
fn lost(survivors: &Survivors) -> Option<Finding> {
    let judgement = &survivors.judgement;
    let of_dbs = survivors.all.iter().filter_map(|survivor| survivor.facts.database_facts());
    let of_dbs = of_dbs.map(|database| database.schema.consistent_index).max().unwrap_or_default();
    let has = judgement.chain.last().map_or(0, |last| last.last).max(judgement.certain_to.index).max(of_dbs);
    let (first, last) = (has.saturating_add(1), judgement.known_to);
    (first <= last).then(|| {
        let message = format!(
            "entries {first} to {last} were committed, and neither a log nor a database that was given has them: they are lost, unless \
             another member's files turn up"
        );
        Finding::new("ETCD-COMMITTED-LOST", Severity::Error, message)
    })
}

/// That acknowledged writes may be in none of the files.
fn no_quorum(survivors: &Survivors) -> Option<Finding> {
    let judgement = &survivors.judgement;
    if judgement.has_quorum {
        return None;
    }
    let message = if judgement.voters.is_empty() {
        "nothing that was given says who votes in this cluster: what its clients were told is written may be in none of these files"
            .to_owned()
    } else if judgement.unread.is_empty() {
        format!(
            "of the {} voters ({}) too few have whole logs: what clients were told is written may be missing from these files",
            judgement.voters.len(),
            voters(survivors)
        )
    } else {
        let unread: Vec<u64> = judgement.unread.iter().copied().collect();
        format!(
            "of the {} voters ({}) too few were given to know what a majority had: {} may have held writes that clients were told are \
             written, and that are in none of these files",
            judgement.voters.len(),
            voters(survivors),
            ids(&unread)
        )
    };
    Some(Finding::new("ETCD-NO-QUORUM-READ", Severity::Warning, message))
}

fn voters(survivors: &Survivors) -> String {
    ids(&survivors.judgement.voters.iter().copied().collect::<Vec<_>>())
}
