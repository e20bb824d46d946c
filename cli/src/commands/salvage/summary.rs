//! What happened, in sentences that can be read aloud to who has no idea of pages.

use snapshot::salvage::report::{BucketOrigin, InputReport, TreeReport, WayKind};
use snapshot::salvage::{Report, Trust};

use super::words::{are, counted, grouped, named};
use super::{Done, SalvageArgs};

/// The buckets that say who may do what.
const ACCOUNTS: [&str; 3] = ["auth", "authUsers", "authRoles"];

/// The summary.
pub(super) fn of(report: &Report, done: Done, args: &SalvageArgs) -> String {
    let mut sentences = vec![what_was_there(report)];
    sentences.push(saved(report, done));
    sentences.extend(how(report).map(str::to_owned));
    sentences.extend(trust(report));
    sentences.extend(lost(report));
    sentences.extend(doubtful(report));
    sentences.extend(accounts(report));
    sentences.push(then(report, done, args));
    let lines = sentences.into_iter().map(|sentence| format!("  {sentence}\n"));
    "In short\n".to_owned() + &lines.collect::<String>()
}

fn what_was_there(report: &Report) -> String {
    let files: Vec<&InputReport> = report.inputs.iter().collect();
    let logs = match report.logs.len() {
        0 => "no log".to_owned(),
        1 => "its log".to_owned(),
        many => format!("{} logs", grouped(many)),
    };
    let what = match files.as_slice() {
        [] => format!("There is no database in what was given, only {logs}."),
        [one] => format!("{} was given, with {logs}.", named(&one.path)),
        many => format!("{} database files were given, with {logs}.", grouped(many.len())),
    };
    let is_headless = |file: &&&InputReport| file.metas.iter().all(|meta| meta.fault.is_some());
    let headless = match (files.len(), files.iter().filter(is_headless).count()) {
        (_, 0) => "",
        (1, _) => " etcd cannot open it: neither of the two pages with which it begins is valid.",
        (all, some) if some == all => {
            " etcd can open none of them: the pages with which they begin are not valid."
        }
        _ => "",
    };
    let state = match report.reference.and_then(|at| report.trees.get(at)) {
        Some(tree) if tree.is_sound => {
            format!("There is a sound state of the database in it, of revision {}.", grouped(tree.revision))
        }
        Some(tree) => damaged(tree),
        None if files.is_empty() => String::new(),
        None => "Nothing in it leads to the data any more.".to_owned(),
    };
    format!("{what}{headless} {state}").trim_end().to_owned()
}

/// That a tree is damaged, and how far it goes.
fn damaged(tree: &TreeReport) -> String {
    let revision = grouped(tree.revision);
    let is_open_ended = tree.more_holes > 0 || tree.holes.last().is_some_and(|hole| hole.to.is_none());
    let state = "The newest state of the database that is left in it";
    match (tree.revision, is_open_ended) {
        (0, true) => format!("{state} is damaged: no key can be reached in it."),
        (_, true) => format!("{state}, of revision {revision} or a later one, is damaged."),
        (_, false) => format!("{state}, of revision {revision}, is damaged."),
    }
}

fn saved(report: &Report, done: Done) -> String {
    let account = &report.account;
    let verb = match done {
        Done::Written => "were saved",
        Done::DryRun | Done::Refused => "can be saved",
    };
    format!(
        "{} {verb}, up to revision {}. (A record is one change of one key; a revision is one change of the database.)",
        counted(account.records, "record"),
        grouped(account.last_revision)
    )
}

/// What it is that was saved.
fn how(report: &Report) -> Option<&'static str> {
    let way = report.chosen_way()?;
    Some(match way.kind {
        WayKind::NewestMeta => return None,
        WayKind::OtherMeta => "It is the state of one transaction before the last.",
        WayKind::OrphanRoot => {
            "It is a state that the file still holds, and to which the pages with which it begins no longer lead."
        }
        WayKind::Leaves if report.account.holes.iter().all(|hole| hole.is_newer) => return None,
        WayKind::Leaves => {
            "It is the newest state, its gaps filled with what was found elsewhere, page by page."
        }
        WayKind::Carved => {
            "It is all that was found whole, page by page, also what is newer than the newest state."
        }
        WayKind::TreeAndLog => {
            "It is a sound state that the file holds, with all that the log says came after it."
        }
        WayKind::SurvivorsAndLog => {
            "It is what was found whole, page by page, with all that the log says came after it."
        }
        WayKind::LogAlone => "It was made anew from the log, which has everything from the beginning on.",
    })
}

fn trust(report: &Report) -> Option<String> {
    let account = &report.account;
    let says = match (report.logs.is_empty(), account.confirmed) {
        (true, 0) => "there is no second copy in the files that could confirm one",
        (false, 0) => "neither a second copy in the files nor the log confirms one",
        (true, _) => "a second copy in the files says the same",
        (false, _) => "a second copy in the files, or the log, says the same",
    };
    let certain = match account.confirmed {
        _ if account.records == 0 => return None,
        0 => format!("None of these is certain: {says}."),
        all if all == account.records => format!("All of them are certain: {says}."),
        some => format!("{} of these {} certain: {says}.", grouped(some), are(some)),
    };
    Some(match account.single {
        0 => certain,
        single => format!(
            "{certain} {} {} on one whole copy; nothing speaks against {}.",
            grouped(single),
            if single == 1 { "rests" } else { "rest" },
            if single == 1 { "it" } else { "them" }
        ),
    })
}

fn lost(report: &Report) -> Vec<String> {
    let account = &report.account;
    let loses = &account.loses;
    let mut out = Vec::new();
    if !loses.is_certain() {
        out.push(
            if loses.is_none() { "Nothing is lost." } else { "Nothing is known to be lost." }.to_owned(),
        );
    } else {
        out.push(format!("Certainly lost: {}.", super::account::certain(report)));
    }
    out.extend(history(report));
    let hit = account.lost_keys.iter().filter(|key| key.is_newest);
    let (old, gone): (Vec<_>, Vec<_>) = hit.partition(|key| key.stands_in.is_some());
    let more = if account.more_lost_keys > 0 { ", of those that were looked at" } else { "" };
    if !old.is_empty() || !gone.is_empty() {
        out.push(format!(
            "{} known to come back with an older value, {} to be gone{more}.",
            match old.len() {
                1 => "1 key is".to_owned(),
                many => format!("{} keys are", grouped(many)),
            },
            grouped(gone.len())
        ));
    }
    let newer = account.holes.iter().filter(|hole| hole.is_newer).count() as u64;
    let parts = loses.open_holes.saturating_sub(newer);
    if parts > 0 {
        out.push(format!(
            "More may be lost than can be counted: {} {} no trace of how much there was.",
            match parts {
                1 => "one part of the file".to_owned(),
                many => format!("{} parts of the file", grouped(many)),
            },
            if parts == 1 { "left" } else { "have left" }
        ));
    }
    if newer > 0 {
        out.push(
            "There may have been a newer state of the database, of which nothing is left: these files cannot tell."
                .to_owned(),
        );
    }
    out.extend(of_keys(report, parts));
    out
}

/// What of the loss matters to history only.
fn history(report: &Report) -> Option<String> {
    let account = &report.account;
    let is_lost = account.missing_revisions + account.missing_records > 0;
    let (is, keys) = match account.superseded {
        0 => return None,
        1 => ("1 of the lost records matters", "key was"),
        _ => ("of the lost records matter", "keys were"),
    };
    let count = if account.superseded == 1 { String::new() } else { grouped(account.superseded) + " " };
    is_lost.then(|| {
        format!(
            "At least {count}{is} to history only: the same {keys} changed again later, and that is there."
        )
    })
}

/// What the loss means for keys, as far as it is known; `parts` are those of which nobody knows how much there was.
fn of_keys(report: &Report, parts: u64) -> Option<String> {
    let account = &report.account;
    let counted_loss = account.missing_revisions + account.missing_records + account.dropped.unfilled;
    if counted_loss + parts == 0 || account.keys == 0 {
        return None;
    }
    let keys = counted(account.keys, "key");
    Some(match account.exposed_keys {
        0 => format!(
            "None of the {keys} is older than it should be: each was written after what is lost. Other keys may be missing."
        ),
        exposed if exposed == account.keys => format!(
            "Any of the {keys} may therefore be older than it should be, or be back although it had been deleted; other keys may be missing."
        ),
        exposed => format!(
            "Up to {} of the {keys} may therefore be older than they should be, or be back although they had been deleted; other keys may be \
             missing.",
            grouped(exposed)
        ),
    })
}

fn doubtful(report: &Report) -> Vec<String> {
    let account = &report.account;
    let mut out = Vec::new();
    if account.resurrected > 0 {
        out.push(format!(
            "{} {} back that a compaction had removed, since that was asked for: old values, and keys that had been deleted.",
            counted(account.resurrected, "record"),
            if account.resurrected == 1 { "comes" } else { "come" }
        ));
    }
    let suspect = account.suspect.saturating_sub(account.resurrected);
    if suspect > 0 {
        let them = if suspect == 1 { "it" } else { "them" };
        out.push(format!(
            "{} may be wrong, or may have been deleted before: look at {them} before you rely on {them}.",
            counted(suspect, "record"),
        ));
    }
    out
}

/// What became of users and passwords, which is a matter of security, and of leases.
fn accounts(report: &Report) -> Vec<String> {
    let buckets = &report.account.buckets;
    let lost = |bucket: &&snapshot::salvage::report::BucketReport| {
        bucket.from == BucketOrigin::Default
            || bucket.lost_rows > 0
            || bucket.trust == Trust::Suspect
            || !bucket.notes.is_empty()
    };
    let mut out = Vec::new();
    let hit: Vec<&str> = buckets
        .iter()
        .filter(|bucket| ACCOUNTS.contains(&bucket.name.as_str()))
        .filter(lost)
        .map(|bucket| bucket.name.as_str())
        .collect();
    if !hit.is_empty() {
        out.push(format!(
            "Of users, passwords and permissions something is not known to be as it was ({}): look at that before anybody is let in.",
            hit.join(", ")
        ));
    }
    if let Some(leases) = buckets.iter().find(|bucket| bucket.name == "lease" && bucket.lost_rows > 0) {
        out.push(format!(
            "{} lost: keys that should have expired with {} stay until they are deleted.",
            match leases.lost_rows {
                1 => "1 lease is".to_owned(),
                many => format!("{} leases are", grouped(many)),
            },
            if leases.lost_rows == 1 { "it" } else { "them" }
        ));
    }
    out
}

fn then(report: &Report, done: Done, args: &SalvageArgs) -> String {
    match (done, &report.output) {
        (Done::Written, Some(output)) => format!(
            "It was written to {}, read back and checked. The next step is to restore it; the commands are at the end.",
            named(&output.path)
        ),
        (Done::Refused, _) => {
            "Nothing was written, since that loss has to be accepted first; the command is at the end."
                .to_owned()
        }
        _ => {
            let _ = args;
            "Nothing was written yet; the command that does it is at the end.".to_owned()
        }
    }
}
