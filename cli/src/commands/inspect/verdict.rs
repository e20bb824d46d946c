//! The verdict: whether a server starts on it, what that costs, and what to run next.

use std::path::{Path, PathBuf};

use snapshot::boot::Start;
use snapshot::facts::{Facts, KnownMember, What};
use snapshot::finding::Severity;
use snapshot::inspect::{Inspection, Structure};
use snapshot::membership::Member;
use snapshot::schema::{ALARM_CORRUPT, ALARM_NOSPACE};
use snapshot::structure;
use snapshot::verify::{self, Expected, Outlook};

use crate::next_steps::quoted_path;
use crate::shown::shown;

/// What comes of all that stands on the page.
pub(super) struct Verdict {
    /// What a server does with it, the most important first.
    pub(super) sentences: Vec<String>,
    /// Command lines that work with these paths.
    pub(super) next: Vec<String>,
}

/// `path` as a word of a shell.
pub(super) fn quoted(path: &Path) -> String {
    // What would steer the terminal is in no command line that could be copied from it anyway.
    shown(&quoted_path(path))
}

/// The verdict on `inspection`.
pub(super) fn of(inspection: &Inspection) -> Verdict {
    let facts = &inspection.facts;
    let mut verdict = match facts.looked.what {
        What::DataDir | What::MemberDir => of_member(inspection),
        What::SnapDir | What::WalDir if facts.looked.member_dir.is_some() => Verdict {
            sentences: vec!["part of a member: whether it boots is told of the whole".to_owned()],
            next: Vec::new(),
        },
        What::Segment | What::WalDir => of_log(facts),
        What::Snap => of_snap(facts),
        _ => of_database(inspection),
    };
    if let Some(dir) = &facts.looked.member_dir
        && !matches!(facts.looked.what, What::DataDir | What::MemberDir)
    {
        verdict.next.insert(0, format!("etcd-rescue inspect {}", quoted(&around(dir))));
    }
    alarms(&mut verdict, facts);
    verdict
}

/// The data dir around a member directory, where it is named as etcd names it.
fn around(member: &Path) -> PathBuf {
    match member.parent() {
        Some(parent) if member.ends_with("member") && !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => member.to_owned(),
    }
}

fn of_member(inspection: &Inspection) -> Verdict {
    let facts = &inspection.facts;
    let path = quoted(&facts.path);
    let (mut sentences, mut next) = (Vec::new(), Vec::new());
    let wal_dir = match (&facts.looked.wal_dir, &facts.looked.member_dir) {
        (Some(wal), Some(member)) if *wal != member.join("wal") => {
            format!(" --wal-dir {}", quoted(wal))
        }
        _ => String::new(),
    };
    let db = match &facts.database {
        Some(Ok(opened)) => {
            if opened.facts.is_err() || structure::is_damaged(inspection.structure.findings()) {
                sentences.push(
                    "needs repair: the database is damaged. A server may start on it and die later; take the data from \
                     another member or a snapshot where there is one"
                        .to_owned(),
                );
                next.push(format!("etcd-rescue salvage {path}{wal_dir} --dry-run"));
                next.push(format!("etcd-rescue bbolt check {}", quoted(opened.input.db_path())));
                return Verdict { sentences, next };
            }
            opened
        }
        Some(Err(error)) => {
            sentences.push(format!("nothing can be said of a start: {error}"));
            return Verdict { sentences, next };
        }
        None => {
            sentences.push(
                "needs repair: there is no database. A server would start with an empty one, or not at all"
                    .to_owned(),
            );
            next.push(format!("etcd-rescue wal verify {path}{wal_dir}"));
            next.push(format!("etcd-rescue salvage {path}{wal_dir} --dry-run"));
            return Verdict { sentences, next };
        }
    };
    let save = format!("etcd-rescue snapshot save {path}{wal_dir} -o saved.db");
    let Some(log) = facts.log_facts() else {
        let (sentence, command) = match &facts.log {
            Some(Err(error)) => (
                format!("nothing can be said of a start, since the log cannot be read: {error}"),
                format!("etcd-rescue wal verify {path}{wal_dir}"),
            ),
            _ => (
                "needs repair: there is no log. A server would take the member for a new one, and found a cluster over what \
                 is in the database; give the log's directory with --wal-dir where it lies elsewhere"
                    .to_owned(),
                format!("etcd-rescue snapshot status {}", quoted(db.input.db_path())),
            ),
        };
        return Verdict { sentences: vec![sentence], next: vec![command] };
    };
    let proven = inspection.structure.proven();
    let judged = verify::verdict(facts, proven);
    let reasons = judged.reasons.join("; ");
    let with = format!("with etcd {} ({})", judged.release.minor, judged.release.patches);
    match judged.outlook {
        Outlook::NeedsRepair => {
            sentences.push(format!("needs repair: {reasons}"));
            if log.report.log_is_damaged() {
                next.push(format!("etcd-rescue wal repair {path}{wal_dir}"));
            } else {
                next.push(save);
            }
        }
        Outlook::BootsAsIs | Outlook::BootsWithLoss | Outlook::NotAMember if proven.is_none() => {
            sentences.push("structure not checked, so nobody says that it boots".to_owned());
            if !reasons.is_empty() {
                sentences.push(format!("by its log it would, with loss: {reasons}"));
            }
            next.push(format!("etcd-rescue inspect --full {path}{wal_dir}"));
            next.push(save);
        }
        Outlook::BootsAsIs => {
            sentences.push(format!("boots as is, {with}"));
            next.push(save);
        }
        Outlook::BootsWithLoss => {
            sentences.push(format!("boots with loss, {with}: {reasons}"));
            next.push(save);
            next.push(format!("etcd-rescue wal repair {path}{wal_dir}"));
        }
        Outlook::NotAMember => sentences.push("nothing can be said of a start".to_owned()),
    }
    let is_sound = proven.is_some();
    next.extend(judged.of_cluster.iter().filter(|other| is_sound || other.flags.is_empty()).map(|other| {
        format!("etcd-rescue {} {path}{wal_dir} {}", other.command, other.flags).trim_end().to_owned()
    }));
    sentences.extend(others(&judged));
    peers(&mut sentences, facts);
    if !inspection.findings().is_empty() {
        next.push(format!("etcd-rescue verify {path}{wal_dir}"));
    }
    Verdict { sentences, next }
}

/// The releases that do not start where the one that wrote the data does.
fn others(judged: &verify::Verdict) -> Option<String> {
    if judged.outlook == Outlook::NeedsRepair {
        return None;
    }
    let fails = judged.predictions.iter().filter_map(|prediction| match &prediction.expected {
        Expected::Start(Start::Fails { words: "", .. }) => Some(prediction.release.patches.to_owned()),
        Expected::Start(Start::Fails { words, .. }) => {
            Some(format!("{} (\"{words}\")", prediction.release.patches))
        }
        _ => None,
    });
    let fails: Vec<String> = fails.collect();
    (!fails.is_empty()).then(|| format!("does not start with {}", fails.join(", ")))
}

fn peers(sentences: &mut Vec<String>, facts: &Facts) {
    let Some((voters, _)) = facts.raft_members() else { return };
    if voters.len() > 1 {
        sentences.push(format!(
            "it serves only together with its peers: {} of {} voters must run. Where they are lost, compare it with what is left of \
             them; where they are to live at other addresses, 'etcd-rescue member plan' with all their directories says how",
            voters.len() / 2 + 1,
            voters.len()
        ));
    }
    if let Some((own, _)) = facts.identity()
        && !voters.is_empty()
        && !voters.contains(&own)
    {
        sentences.push("its own id is not among the voters: it was removed, or is a learner".to_owned());
    }
}

fn alarms(verdict: &mut Verdict, facts: &Facts) {
    let Some(database) = facts.database_facts() else { return };
    let has = |kind| database.schema.alarms.iter().any(|alarm| alarm.kind == kind);
    if has(ALARM_CORRUPT) {
        verdict
            .sentences
            .push("the CORRUPT alarm stands: a server refuses reads and writes of keys".to_owned());
    }
    if has(ALARM_NOSPACE) {
        verdict.sentences.push(
            "the NOSPACE alarm stands: a server refuses puts until it is disarmed, also after a restore"
                .to_owned(),
        );
    }
}

fn of_log(facts: &Facts) -> Verdict {
    let path = quoted(&facts.path);
    let Some(log) = facts.log_facts() else {
        return Verdict {
            sentences: vec!["nothing can be said of it".to_owned()],
            next: vec![format!("etcd-rescue wal verify {path}")],
        };
    };
    let errors = log.report.findings.iter().any(|found| found.finding.severity == Severity::Error);
    let sentence = match (errors, log.report.findings.is_empty()) {
        (true, _) => "damaged; without the database and the .snap files nothing is said of a start",
        (false, true) => {
            "whole, as far as it goes; without the database and the .snap files nothing is said of a start"
        }
        (false, false) => {
            "readable, with warnings; without the database and the .snap files nothing is said of a start"
        }
    };
    Verdict {
        sentences: vec![sentence.to_owned()],
        next: vec![format!("etcd-rescue wal verify {path}"), format!("etcd-rescue wal dump {path}")],
    }
}

fn of_snap(facts: &Facts) -> Verdict {
    let sentence = match &facts.newest_snap {
        Some(_) => {
            "readable. It holds members and, of old clusters, v2 keys; the v3 keys are in the database"
        }
        None => "cannot be read; etcd 3.4 to 3.6 put such a file aside and start from the one before it",
    };
    Verdict {
        sentences: vec![sentence.to_owned()],
        next: vec![format!("etcd-rescue snap dump {}", quoted(&facts.path))],
    }
}

fn of_database(inspection: &Inspection) -> Verdict {
    let facts = &inspection.facts;
    let path = quoted(&facts.path);
    let status = format!("etcd-rescue snapshot status {path}");
    let check = format!("etcd-rescue bbolt check {path}");
    let opened = match &facts.database {
        Some(Ok(opened)) => opened,
        Some(Err(error)) => {
            return Verdict {
                sentences: vec![format!("nothing can be said of it: {error}")],
                next: Vec::new(),
            };
        }
        None => {
            let sentence =
                "there is no database in it; the keys are there, and nothing else has them as a whole";
            return Verdict {
                sentences: vec![sentence.to_owned()],
                next: vec![format!("etcd-rescue snap dump {path}")],
            };
        }
    };
    if opened.facts.is_err() || structure::is_damaged(inspection.structure.findings()) {
        return Verdict {
            sentences: vec![
                "needs repair: the database is damaged; another member or snapshot may be whole".to_owned(),
            ],
            next: vec![format!("etcd-rescue salvage {path} --dry-run"), check],
        };
    }
    let no_key_bucket =
        facts.database_facts().is_some_and(|database| database.schema.no_key_bucket().is_some());
    if no_key_bucket {
        return Verdict {
            sentences: vec!["a bbolt database, but hardly one of etcd: it has no bucket key".to_owned()],
            next: vec![format!("etcd-rescue bbolt buckets {path}")],
        };
    }
    let mut next = Vec::new();
    let sentence = match &inspection.structure {
        Structure::Checked { .. } => {
            next.push(status);
            if let Some(cluster) = initial_cluster(facts) {
                let skip = if facts.looked.what == What::Snapshot { "" } else { " --skip-hash-check" };
                next.push(format!(
                    "etcd-rescue snapshot restore {path}{skip} --all-members -o restored --initial-cluster {cluster}"
                ));
            }
            "can be restored: its structure is sound".to_owned()
        }
        _ => {
            next.push(format!("etcd-rescue inspect --full {path}"));
            next.push(status);
            "structure not checked, so nobody says that it can be restored".to_owned()
        }
    };
    Verdict { sentences: vec![sentence], next }
}

/// The members in the database as `--initial-cluster` takes them, where each has a name and a URL.
fn initial_cluster(facts: &Facts) -> Option<String> {
    facts.database_facts()?;
    let members: Vec<Member> = facts.members().iter().filter_map(KnownMember::best).collect();
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:[]".contains(c));
    let mut parts = Vec::new();
    for member in members.iter().filter(|member| !member.is_learner) {
        if member.name.is_empty() || member.peer_urls.is_empty() || !plain(&member.name) {
            return None;
        }
        for url in &member.peer_urls {
            if !plain(url) {
                return None;
            }
            parts.push(format!("{}={url}", member.name));
        }
    }
    let list = parts.join(",");
    let word = if list.contains('[') { format!("'{list}'") } else { list };
    (!parts.is_empty()).then_some(word)
}
