//! The page: what is certain first, what is wrong next, the verdict and the next command last.

use std::path::Path;

use snapshot::alarm;
use snapshot::facts::{DatabaseFacts, Facts, KnownMember, LogFacts, What};
use snapshot::finding::{Finding, Severity};
use snapshot::humanize;
use snapshot::inspect::{Inspection, NotChecked, Structure};
use snapshot::log_verify::SegmentStop;
use snapshot::membership::hex_id;
use snapshot::snap_files::SnapKind;

use super::named;
use super::verdict::{self, Verdict};
use crate::page::Page;

/// Most members and findings that get a line each.
const MOST_MEMBERS: usize = 9;
const MOST_FINDINGS: usize = 8;
/// Longest sentence of a finding, in characters; all of it stands in what `verify` prints.
const MOST_OF_FINDING: usize = 300;

/// The page of `inspection`.
pub(super) fn of(inspection: &Inspection) -> String {
    let facts = &inspection.facts;
    let mut page = Page::default();
    page.title(&format!("{}: {}", named(&facts.path), what_in_words(facts)));
    match facts.looked.what {
        What::Other => {
            page.line(
                "next",
                &format!("etcd-rescue inspect --find {}", verdict::quoted(&search_root(&facts.path))),
            );
            page.more("looks in the places where etcd is known to keep its data");
            return page.text();
        }
        What::Several => {
            for path in &facts.looked.within {
                page.line("", &named(path));
            }
            if facts.looked.more_within {
                page.more("and more");
            }
            return page.text();
        }
        _ => {}
    }
    if let Some(database) = facts.database_facts() {
        writer(&mut page, database);
    }
    who(&mut page, facts);
    database(&mut page, inspection);
    log(&mut page, facts);
    snaps(&mut page, facts);
    if let Some(database) = facts.database_facts() {
        small(&mut page, database);
    }
    v2(&mut page, facts);
    structure(&mut page, &inspection.structure);
    findings(&mut page, inspection);
    let Verdict { sentences, next } = verdict::of(inspection);
    for (at, sentence) in sentences.iter().enumerate() {
        page.line(if at == 0 { "verdict" } else { "" }, sentence);
    }
    for (at, command) in next.iter().enumerate() {
        page.line(if at == 0 { "next" } else { "" }, command);
    }
    page.text()
}

fn search_root(path: &Path) -> std::path::PathBuf {
    if path.is_dir() { path.to_owned() } else { path.parent().map(Path::to_owned).unwrap_or_default() }
}

fn what_in_words(facts: &Facts) -> String {
    let looked = &facts.looked;
    let around = looked.member_dir.as_deref().map_or_else(String::new, |dir| {
        format!(" of the member in {}, which was not looked at as a whole", named(dir))
    });
    match looked.what {
        What::DataDir => "the data dir of a member".to_owned(),
        What::MemberDir => "the member directory of a data dir".to_owned(),
        What::WalDir if facts.database.is_some() => {
            "the log of a member, with its database beside it".to_owned()
        }
        What::WalDir => "a log's own directory, without its database".to_owned(),
        What::SnapDir if facts.log.is_some() => {
            "the snap directory of a member, with its log beside it".to_owned()
        }
        What::SnapDir => "the snap directory of a member, without its log".to_owned(),
        What::Database => format!("a database{around}"),
        What::Snapshot => match packed(facts) {
            Some(note) => format!("a packed snapshot or database ({note})"),
            None => "a snapshot, as 'etcdctl snapshot save' writes it".to_owned(),
        },
        What::ReceivedDatabase => format!("a database that a leader sent{around}"),
        What::Segment => format!("one segment of the log{around}"),
        What::Snap => format!("a raft snapshot with the v2 store (.snap){around}"),
        What::Several => "a directory in which several of these lie".to_owned(),
        What::Other => format!("nothing of etcd's: {}", looked.seems.as_deref().unwrap_or("unknown")),
    }
}

fn packed(facts: &Facts) -> Option<String> {
    let notes = facts.database.as_ref()?.as_ref().ok()?.input.notes();
    let note = notes.first()?;
    Some(note.split_once(": ").map_or(note.as_str(), |(_, rest)| rest).to_owned())
}

fn writer(page: &mut Page, database: &DatabaseFacts) {
    let text = match database.schema.written_by() {
        Some((version, why)) => format!("etcd {version}: {why}"),
        None => "not known: neither a storage version nor a cluster version is in it".to_owned(),
    };
    page.line("written by", &text);
    if let Some(target) = &database.schema.downgrade_target {
        page.more(&format!("a downgrade to {target} is under way"));
    }
}

fn who(page: &mut Page, facts: &Facts) {
    let own = facts.identity();
    let members = facts.members();
    if let Some((member, cluster)) = own {
        let known = members.iter().find(|known| known.id == member);
        let row = known.and_then(KnownMember::best);
        let name =
            row.filter(|row| !row.name.is_empty()).map_or_else(String::new, |row| format!("{}, ", row.name));
        page.line("member", &format!("{name}{} of cluster {}, by its log", hex_id(member), hex_id(cluster)));
    }
    if members.is_empty() {
        return;
    }
    page.line("members", &counted(&members));
    for member in members.iter().take(MOST_MEMBERS) {
        page.more(&member_in_words(member, own.map(|(id, _)| id)));
    }
    if let Some(more) = members.len().checked_sub(MOST_MEMBERS).filter(|more| *more > 0) {
        page.more(&format!("and {more} more"));
    }
}

fn counted(members: &[KnownMember]) -> String {
    let count = |is: &dyn Fn(&KnownMember) -> bool| members.iter().filter(|member| is(member)).count();
    let raft = members.iter().any(|member| member.in_raft.is_some());
    let mut parts = Vec::new();
    if raft {
        let learners = count(&|member| member.learns);
        let voters = count(&|member| member.in_raft == Some(true)) - learners;
        let learn = if learners > 0 { format!(" and {learners} learner(s)") } else { String::new() };
        parts.push(format!("{voters} voter(s){learn} by the log and the newest .snap"));
    }
    let rows = count(&|member| member.in_database.is_some());
    if rows > 0 {
        parts.push(format!("{rows} row(s) in the database"));
    }
    parts.join(", ")
}

fn member_in_words(member: &KnownMember, own: Option<u64>) -> String {
    let known = member.best();
    let known = known.as_ref();
    let name =
        known.map(|known| known.name.as_str()).filter(|name| !name.is_empty()).unwrap_or("(no name yet)");
    let urls = |urls: &[String]| if urls.is_empty() { "none".to_owned() } else { urls.join(",") };
    let mut text = format!("{}  {name}", hex_id(member.id));
    match known {
        Some(known) => {
            text += &format!("  peers {}  clients {}", urls(&known.peer_urls), urls(&known.client_urls));
        }
        None => text += "  URLs not known",
    }
    let mut marks = Vec::new();
    if own == Some(member.id) {
        marks.push("this one");
    }
    if member.learns || known.is_some_and(|known| known.is_learner) {
        marks.push("learner");
    }
    if member.in_raft == Some(false) {
        marks.push("no longer or not yet in raft's configuration");
    }
    if member.in_database.is_none() {
        marks.push("no row in the database");
    }
    if !marks.is_empty() {
        text += &format!("  ({})", marks.join(", "));
    }
    text
}

fn database(page: &mut Page, inspection: &Inspection) {
    let facts = &inspection.facts;
    let opened = match &facts.database {
        None if matches!(facts.looked.what, What::Segment | What::Snap) => return,
        None => return page.line("database", "none: there is no member/snap/db"),
        Some(Err(error)) => return page.line("database", &format!("cannot be opened: {error}")),
        Some(Ok(opened)) => opened,
    };
    let database = match &opened.facts {
        Ok(database) => database,
        Err(error) => return page.line("database", &format!("cannot be read: {error}")),
    };
    let schema = &database.schema;
    let term = schema.term.map_or_else(String::new, |term| format!(" (term {term})"));
    page.line(
        "database",
        &format!("at revision {}, consistent index {}{term}", database.revision(), schema.consistent_index),
    );
    match (schema.finished_compact, schema.scheduled_compact) {
        (finished, Some(ordered)) if finished != Some(ordered) => {
            page.more(&format!("a compaction at {ordered} was begun and has not ended; a server ends it"));
        }
        (Some(finished), _) => page.more(&format!("compacted at {finished}: older revisions are gone")),
        _ => page.more("never compacted: its whole history is there"),
    }
    let shape = &database.shape;
    let free = match &inspection.structure {
        Structure::Checked { statistics, .. } => {
            let free = statistics.free_pages.saturating_mul(u64::from(shape.page_size));
            format!(", {} of that free", humanize::bytes(free))
        }
        _ => String::new(),
    };
    page.more(&format!(
        "{} on disk, {} in use{free}; pages of {} bytes{}",
        humanize::bytes(shape.len_bytes),
        humanize::bytes(shape.used_bytes()),
        shape.page_size,
        if shape.txids.contains(&None) { "; one of its two metas is damaged, the other serves" } else { "" },
    ));
    if shape.has_trailer {
        page.more("ends in a SHA-256, which was not compared: 'etcd-rescue snapshot status' does that");
    }
}

fn log(page: &mut Page, facts: &Facts) {
    let log = match &facts.log {
        None if matches!(facts.looked.what, What::DataDir | What::MemberDir) => {
            return page
                .line("log", "none: there is no directory wal; --wal-dir names one that lies elsewhere");
        }
        None => return,
        Some(Err(error)) => return page.line("log", &format!("cannot be read: {error}")),
        Some(Ok(log)) => log,
    };
    let read = &log.report.log;
    if read.segments.is_empty() {
        return page.line("log", "its directory has no segment: a server takes the member for a new one");
    }
    let entries = match (read.first_index(), read.last_index()) {
        (Some(first), Some(last)) => format!("entries {first} to {last}"),
        _ => "no entry".to_owned(),
    };
    let segments = read.segments.len();
    page.line("log", &format!("{entries} in {segments} segment(s), {}", humanize::bytes(read.len_bytes())));
    match &read.hard_state {
        Some(state) => {
            let vote = match state.value.vote() {
                0 => "nobody".to_owned(),
                vote => hex_id(vote),
            };
            page.more(&format!(
                "term {}, voted for {vote}, entries up to {} known to be committed",
                state.value.term(),
                state.value.commit()
            ));
        }
        None => page.more("no hard state: nothing is known to be committed"),
    }
    page.more(&end_in_words(log));
    if let Some(waiting) = facts.not_in_database() {
        page.line("not in the db", &waiting_in_words(facts, log, waiting));
    }
}

fn end_in_words(log: &LogFacts) -> String {
    let Some(last) = log.report.log.segments.last() else { return String::new() };
    let at = format!("{} at {:#x}", last.name.name, last.end_offset);
    match &last.end {
        SegmentStop::ZeroLength | SegmentStop::EndOfFile => format!("ends as it should, in {at}"),
        SegmentStop::Broken(fault) if last.end.is_cut_off_at_start() => {
            format!("torn tail: {at} ({}); a server cuts it off", fault.code())
        }
        SegmentStop::Broken(fault) => format!("broken: {at} ({}); a server does not start", fault.code()),
        SegmentStop::Unreadable => format!("the disk does not hand out {at}"),
    }
}

fn waiting_in_words(facts: &Facts, log: &LogFacts, waiting: u64) -> String {
    if waiting == 0 {
        return "nothing: every entry of the log is in the database".to_owned();
    }
    let read = &log.report.log;
    let last = read.last_index().unwrap_or_default();
    let from = last.saturating_sub(waiting);
    let committed = read.commit().min(last).saturating_sub(from);
    let alone = facts.raft_members().is_some_and(|(voters, _)| voters.len() == 1);
    let commits = match (waiting.saturating_sub(committed), alone) {
        (0, _) => "all known to be committed".to_owned(),
        (rest, true) => format!(
            "{rest} of them not known to be committed; the only voter, a server commits them as it starts"
        ),
        (rest, false) => format!("{rest} of that not known to be committed: its peers decide"),
    };
    match waiting {
        1 => format!("1 entry, {last}: {commits}"),
        _ => format!("{waiting} entries, {} to {last}: {commits}", from.saturating_add(1)),
    }
}

fn snaps(page: &mut Page, facts: &Facts) {
    let count = |is: &dyn Fn(SnapKind) -> bool| facts.snaps().iter().filter(|file| is(file.kind())).count();
    let snaps = count(&|kind| matches!(kind, SnapKind::Snap { .. }));
    match (&facts.newest_snap, snaps) {
        (None, 0) => {}
        (None, _) => page.line(".snap files", &format!("{snaps}, none of which can be read")),
        (Some(newest), _) => {
            let store = match &newest.store {
                Ok(store) => {
                    format!("cluster version {}", store.cluster_version.as_deref().unwrap_or("not set"))
                }
                Err(error) => error.to_string(),
            };
            let text = format!(
                "{snaps}; the newest sound one: {}, entry {}, term {}, {store}",
                newest.name, newest.facts.index, newest.facts.term
            );
            page.line(".snap files", &text);
        }
    }
    let received = count(&|kind| matches!(kind, SnapKind::Database { .. }));
    let broken = count(&|kind| kind == SnapKind::Broken);
    let left = count(&|kind| matches!(kind, SnapKind::Temporary | SnapKind::DefragLeftover));
    for (count, what) in [
        (received, "database(s) received from a leader (.snap.db)"),
        (broken, "put aside by a server as broken"),
        (left, "left behind by what did not end"),
    ] {
        if count > 0 {
            page.more(&format!("{count} {what}"));
        }
    }
}

fn small(page: &mut Page, database: &DatabaseFacts) {
    let schema = &database.schema;
    let alarms: Vec<String> = schema
        .alarms
        .iter()
        .take(MOST_MEMBERS)
        .map(|alarm| {
            let kind = alarm::kind_name(alarm.kind).unwrap_or("of an unknown kind");
            format!("{kind} of {}", hex_id(alarm.member_id))
        })
        .collect();
    page.line("alarms", &if alarms.is_empty() { "none".to_owned() } else { alarms.join(", ") });
    let auth = &database.auth;
    page.line(
        "auth",
        &format!(
            "{}, {} user(s), {} role(s)",
            if auth.enabled { "on" } else { "off" },
            auth.users.len(),
            auth.roles.len()
        ),
    );
    page.line("leases", &schema.leases.to_string());
}

fn v2(page: &mut Page, facts: &Facts) {
    let (stored, written) = facts.v2_user_data();
    if stored == 0 && written == 0 {
        if facts.newest_snap.is_some() || facts.log_facts().is_some() {
            page.line("v2 API", "no keys of users");
        }
        return;
    }
    page.line(
        "v2 API",
        &format!("{stored} node(s) in the newest .snap, {written} write(s) in the log behind it"),
    );
    page.more("nothing will carry them over: no v3 snapshot, save or restore has them, and etcd 3.6 does not start on them");
}

fn structure(page: &mut Page, structure: &Structure) {
    let text = match structure {
        Structure::Absent => return,
        Structure::NotChecked { why: NotChecked::Skipped, .. } => {
            "not checked (--quick): whether the database is whole is not known".to_owned()
        }
        Structure::NotChecked { why: NotChecked::OutOfTime { after }, .. } => format!(
            "not checked: {:.1} s were not enough for its pages (a cold disk, or a large file); --full takes the time",
            after.as_secs_f64()
        ),
        Structure::Checked { statistics, findings } => {
            let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
            let sound = match (errors, findings.len()) {
                (0, 0) => "sound".to_owned(),
                (0, warnings) => format!("sound, with {warnings} warning(s)"),
                (errors, _) => format!("damaged: {errors} error(s)"),
            };
            format!(
                "{sound}: all {} pages were looked at, {} keys in {} buckets",
                statistics.pages, statistics.keys, statistics.buckets
            )
        }
    };
    page.line("structure", &text);
}

fn findings(page: &mut Page, inspection: &Inspection) {
    let findings = inspection.findings();
    for (at, finding) in findings.iter().take(MOST_FINDINGS).enumerate() {
        page.line(if at == 0 { "wrong" } else { "" }, &finding_in_words(finding));
    }
    if let Some(more) = findings.len().checked_sub(MOST_FINDINGS).filter(|more| *more > 0) {
        page.more(&format!("and {more} more"));
    }
}

fn finding_in_words(finding: &Finding) -> String {
    let text = finding.to_string();
    match text.char_indices().nth(MOST_OF_FINDING) {
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}
