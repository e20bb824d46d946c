//! What to mind before and after the first start, in the order one comes to it.

use std::path::Path;

use snapshot::humanize;
use snapshot::restore::RestoreReport;

use super::{FILL_IN, Form, KUBEADM_PKI, Start, flags, quota};
use crate::outcome::Note;
use crate::url::is_loopback;

/// What advice depends on and the report does not know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// This runs as root, and nobody said who is to own the files.
    pub(crate) root_without_owner: bool,
    /// The form in which the start is told.
    pub(crate) form: Form,
}

/// What to run and to mind next.
pub(crate) fn advice(report: &RestoreReport, starts: &[Start], situation: Situation) -> Vec<Note> {
    let mut notes = Vec::new();
    place(report, starts, &mut notes);
    unwritable(starts, situation.form, &mut notes);
    if situation.root_without_owner {
        own(starts, &mut notes);
    }
    start(report, starts, situation.form, &mut notes);
    outlook(report, &mut notes);
    notes
}

/// Which directory goes where, and which are still missing.
fn place(report: &RestoreReport, starts: &[Start], notes: &mut Vec<Note>) {
    for start in starts {
        let data_dir = shown(&start.data_dir);
        let (paths, belong, stay, them) = match &start.wal_dir {
            None => (data_dir, "belongs", "stays", "it"),
            Some(wal_dir) => (format!("{data_dir} and {}", shown(wal_dir)), "belong", "stay", "them"),
        };
        notes.push(Note::Prose(match &start.host {
            Some(host) if !is_loopback(host) => format!(
                "{}: {paths} {belong} on {host}. Copy {them} there with owners and modes kept (for example rsync -a), or \
                 leave {them} if this is {host}; at another path, change the flags.",
                start.name
            ),
            _ => format!("{}: {paths} {stay} on this host.", start.name),
        }));
    }
    let missing: Vec<_> = report.members.iter().filter(|member| member.data_dir.is_none()).collect();
    if !missing.is_empty() {
        let runs: Vec<String> = missing
            .iter()
            .map(|member| {
                format!(
                    "--name {} --initial-advertise-peer-urls {}",
                    flags::quoted(&member.name),
                    flags::quoted(&member.peer_urls.join(","))
                )
            })
            .collect();
        notes.push(Note::Prose(format!(
            "The other members must be restored from this same snapshot, with the same --initial-cluster and \
             --initial-cluster-token: run this again for each, with {}; or restore all at once with --all-members -o DIR.",
            runs.join(", with ")
        )));
    }
}

/// `path` in a sentence: bare, but for what is not UTF-8.
fn shown(path: &Path) -> String {
    path.to_str().map_or_else(|| flags::quoted_path(path), str::to_owned)
}

/// Which paths the form, or JSON, has no way to write.
fn unwritable(starts: &[Start], form: Form, notes: &mut Vec<Note>) {
    for start in starts {
        for (flag, path) in start.dirs().filter(|(_, path)| path.to_str().is_none()) {
            let path = flags::quoted_path(path);
            notes.push(Note::Prose(if form == Form::Flags {
                format!(
                    "--{flag} of {} is not UTF-8: the command has it as {path}, which bash, ksh and zsh understand, and JSON \
                     has {FILL_IN}/{flag} in its place.",
                    start.name
                )
            } else {
                format!(
                    "--{flag} of {} is not UTF-8, so {FILL_IN}/{flag} stands in its place: {path} cannot be written there. \
                     Rename it, and put the new path in.",
                    start.name
                )
            }));
        }
    }
}

fn own(starts: &[Start], notes: &mut Vec<Note>) {
    notes.push(Note::Prose(
        "The files belong to root. When etcd runs as another user (here etcd), give them to it, or restore with --owner:"
            .to_owned(),
    ));
    for start in starts {
        let mut line = format!("  chown -R etcd:etcd {}", flags::quoted_path(&start.data_dir));
        if let Some(wal_dir) = &start.wal_dir {
            line += &format!(" {}", flags::quoted_path(wal_dir));
        }
        notes.push(Note::Verbatim(line));
    }
}

/// What the flags assume.
fn start(report: &RestoreReport, starts: &[Start], form: Form, notes: &mut Vec<Note>) {
    if report.members.len() > 1 {
        notes.push(Note::Prose(format!(
            "Start the members together: {} of {} must run before the cluster answers.",
            report.members.len() / 2 + 1,
            report.members.len()
        )));
    }
    notes.push(Note::Prose(
        "The client URLs in the flags are a guess, for a snapshot does not hold them: adjust them. \
         --initial-cluster-state existing changes nothing for a restored directory, and keeps etcd from starting an empty \
         cluster should the directory not be where the flags say."
            .to_owned(),
    ));
    if starts.iter().any(|start| start.tls) {
        notes.push(Note::Prose(if form == Form::StaticPod {
            format!("The peers speak TLS: certificates and keys are taken to be kubeadm's, below {KUBEADM_PKI}.")
        } else {
            format!(
                "The peers speak TLS: put the paths of your certificates and keys in place of those below {FILL_IN}."
            )
        }));
    }
    if let Some(bytes) = quota::advised_bytes(report) {
        let db = humanize::bytes(report.db_bytes);
        let why = if report.dropped_nospace_alarm {
            format!(
                "a NOSPACE alarm was dropped, so the old cluster had reached its quota with this database of {db}; \
                 compact and defragment once it runs"
            )
        } else {
            format!(
                "the database has {db}, and without the flag etcd refuses writes above {}",
                humanize::bytes(quota::DEFAULT_BYTES)
            )
        };
        notes.push(Note::Prose(format!("--quota-backend-bytes {bytes}: {why}.")));
    }
}

/// What clients will notice.
fn outlook(report: &RestoreReport, notes: &mut Vec<Note>) {
    if report.key_prefix_registry && report.bumped_to.is_none() {
        notes.push(Note::Prose(format!(
            "The keys under /registry/ are Kubernetes', and revisions go back to {}: API servers, controllers and kubelets \
             that saw higher ones would trust their caches and miss changes. Restore with --bump-revision 1000000000 \
             --mark-compacted, which makes them list anew; or restart all of them.",
            report.revision
        )));
    }
    match report.leases {
        0 => {}
        1 => notes.push(Note::Prose(
            "1 lease starts again with its full time to live when a leader is elected, and its keys expire that much later."
                .to_owned(),
        )),
        leases => notes.push(Note::Prose(format!(
            "{leases} leases start again with their full time to live when a leader is elected; their keys expire that \
             much later, those with the same time to live together."
        ))),
    }
    if report.auth_enabled {
        notes.push(Note::Prose(
            "Authentication is on: the users, passwords and roles of the snapshot are in force.".to_owned(),
        ));
    }
}
