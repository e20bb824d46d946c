//! What a case says of a source as a whole, out of what `verify` found.

use std::collections::BTreeSet;

use snapshot::facts::{Facts, What};
use snapshot::finding::Finding;
use snapshot::snap_files::{SnapFile, SnapKind};
use snapshot::verify::Report;

use super::files::Found;
use super::{AddOptions, Read, log, place_of};
use crate::names::text_of;
use crate::place::Place;
use crate::source::{Checked, FindingRow, Identity, MemberRow, SnapRow, Source, SourceFile, Verdict};

/// What the user said of it.
pub(super) struct Given<'g> {
    pub(super) number: u32,
    pub(super) name: &'g str,
    pub(super) options: &'g AddOptions,
    pub(super) found: &'g [Found],
    pub(super) place: &'g Place,
}

pub(super) fn describe(
    given: &Given<'_>,
    report: &Report,
    read: &Read,
    files: Vec<SourceFile>,
    database: Option<usize>,
) -> Source {
    let facts = &report.facts;
    let log = facts.log_facts().map(|log| {
        let file_of = |segment| place_of(&log.files.segment_path(segment), given.found).unwrap_or_default();
        log::summary(&log.report.log, file_of)
    });
    let row = |finding: &Finding| finding_row(finding, &files, database);
    let (findings, checked) =
        (report.findings.iter().map(row).collect(), report.checked.iter().map(checked_row).collect());
    Source {
        number: given.number,
        name: given.name.to_owned(),
        path: text_of(given.place.root()),
        wal_dir: given.place.wal_dir().map(text_of),
        what: what(facts.looked.what).to_owned(),
        links: links(given.place, &files),
        database,
        identity: identity(facts),
        key_space: read.key_space.clone(),
        log,
        pages: read.pages.as_ref().map(|pages| pages.map.clone()),
        members: members(facts),
        snaps: facts.snaps().iter().filter_map(|snap| snap_row(snap, given.found)).collect(),
        verdict: verdict(report),
        checked,
        findings,
        more_findings: report.more_findings,
        has_values: given.options.embed_values && read.records.is_some(),
        examiner: given.options.examiner.clone(),
        note: given.options.note.clone(),
        files,
    }
}

/// Links that the way to the files leads through.
fn links(place: &Place, files: &[SourceFile]) -> Vec<String> {
    let links: BTreeSet<String> = files.iter().flat_map(|file| place.links(&file.path)).collect();
    links.into_iter().collect()
}

const fn what(what: What) -> &'static str {
    match what {
        What::DataDir => "data-dir",
        What::MemberDir => "member-dir",
        What::WalDir => "wal-dir",
        What::SnapDir => "snap-dir",
        What::Database => "database",
        What::Snapshot => "snapshot",
        What::ReceivedDatabase => "received-database",
        What::Segment => "segment",
        What::Snap => "snap",
        What::Several => "several",
        What::Other => "other",
    }
}

fn identity(facts: &Facts) -> Identity {
    let ids = facts.identity();
    let database = facts.database_facts();
    let own = ids.and_then(|(member, _)| facts.members().into_iter().find(|known| known.id == member));
    let version = database.map(|database| database.schema.cluster_version.clone());
    Identity {
        member: ids.map(|(member, _)| member),
        cluster: ids.map(|(_, cluster)| cluster),
        name: own.and_then(|known| known.best()).map(|member| member.name).filter(|name| !name.is_empty()),
        written_by: database
            .and_then(|database| database.schema.written_by())
            .map(|(minor, _)| minor.to_string()),
        cluster_version: version.filter(|version| !version.is_empty()),
    }
}

fn members(facts: &Facts) -> Vec<MemberRow> {
    let row = |known: snapshot::facts::KnownMember| {
        let best = known.best();
        let of = |urls: fn(&snapshot::membership::Member) -> &Vec<String>| {
            best.as_ref().map(urls).cloned().unwrap_or_default()
        };
        MemberRow {
            id: known.id,
            name: best.as_ref().map(|member| member.name.clone()).unwrap_or_default(),
            peer_urls: of(|member| &member.peer_urls),
            client_urls: of(|member| &member.client_urls),
            is_learner: known.learns || best.as_ref().is_some_and(|member| member.is_learner),
            in_raft: known.in_raft,
            in_database: known.in_database.is_some(),
        }
    };
    facts.members().into_iter().map(row).collect()
}

/// The row of a file beside the database; `None` of the database itself.
fn snap_row(snap: &SnapFile, found: &[Found]) -> Option<SnapRow> {
    let (kind, by_name) = match snap.kind() {
        SnapKind::Snap { term, index } => ("snap", Some((index, Some(term)))),
        SnapKind::Database { index } => ("database", Some((index, None))),
        SnapKind::Broken => ("broken", None),
        SnapKind::Temporary => ("temporary", None),
        SnapKind::DefragLeftover => ("defrag-leftover", None),
        SnapKind::Other => ("other", None),
        SnapKind::Db => return None,
    };
    let read = (kind == "snap").then(|| snap.facts());
    let content = read.and_then(Result::ok).map(|facts| (facts.index, Some(facts.term)));
    let at = content.or(by_name);
    Some(SnapRow {
        file: place_of(snap.path(), found)?,
        kind: kind.to_owned(),
        index: at.map(|(index, _)| index),
        term: at.and_then(|(_, term)| term),
        fault: read.and_then(Result::err).map(ToString::to_string),
    })
}

fn verdict(report: &Report) -> Verdict {
    let verdict = &report.verdict;
    let next = &verdict.next;
    let flags = if next.flags.is_empty() { String::new() } else { format!(" {}", next.flags) };
    // The word that JSON has for it.
    let outlook = serde_json::to_value(verdict.outlook).ok();
    Verdict {
        outlook: outlook.as_ref().and_then(|word| word.as_str()).unwrap_or_default().to_owned(),
        reasons: verdict.reasons.clone(),
        release: format!("{} ({})", verdict.release.minor, verdict.release.patches),
        next: format!("{} {}{flags}", next.command, report.facts.path.display()),
        purpose: next.purpose.to_owned(),
    }
}

fn checked_row(checked: &snapshot::verify::Checked) -> Checked {
    Checked { what: checked.what.to_owned(), done: checked.done, detail: checked.detail.clone() }
}

/// A finding; one without a file of its own that has an offset is about the database.
fn finding_row(finding: &Finding, files: &[SourceFile], database: Option<usize>) -> FindingRow {
    let named = |name: &String| files.iter().position(|file| is_named(&file.path, name));
    let file = match &finding.file {
        Some(name) => named(name),
        None => database.filter(|_| finding.offset.is_some() || finding.code.starts_with("BBOLT-")),
    };
    FindingRow {
        code: finding.code.to_owned(),
        severity: finding.severity.to_string(),
        message: finding.message.clone(),
        file,
        offset: finding.offset,
    }
}

fn is_named(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with(['/', ':']))
}
