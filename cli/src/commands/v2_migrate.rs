//! `v2 migrate`: the keys of the v2 API become keys of the v3 API.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::finding::Finding;
use snapshot::membership::hex_id;
use snapshot::v2_migrate::{self, MigrateOptions, Migration};

use super::member_place::MemberPlaceArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::next_steps::quoted_path;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Makes keys of the v3 API of the keys of the v2 API, as etcdctl migrate of 3.4 does
///
/// Each key becomes a record at the v2 store's indexes; directories become nothing. The v3 key space must never have been written to.
/// What the log has beyond the database is folded in first, and the consistent index goes as far as entries are committed. The
/// v2 store itself stays as it is: servers up to 3.5 with --enable-v2 serve it further, 3.6 refuses to start on it.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue v2 migrate /var/lib/etcd --dry-run
  etcd-rescue v2 migrate /var/lib/etcd -o /var/lib/etcd-v3 --owner etcd:etcd")]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    place: MemberPlaceArgs,
    /// Leave out keys that expire; else they are migrated, and never expire
    #[arg(long)]
    no_ttl: bool,
    /// Take along keys that a listing hides, with a name that begins with an underscore
    #[arg(long)]
    hidden: bool,
    /// The same command is run on every other member of the cluster
    #[arg(long)]
    on_every_member: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    keys: u64,
    expiring: u64,
    expiring_with_dir: u64,
    left_out_expiring: u64,
    left_out_hidden: u64,
    directories: u64,
    /// The last entry that is in the database now.
    raft_index: u64,
    v2_index: u64,
    revision: i64,
    digest: &'a str,
    others: Vec<String>,
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_wal_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    left_out: &'a [String],
    dry_run: bool,
    findings: &'a [Finding],
}

/// Migrates.
///
/// # Errors
/// When the member cannot be read, has no v2 keys or v3 keys already, has peers, or the output cannot be written.
pub(crate) fn run(args: &MigrateArgs, context: &Context) -> Result<Outcome, Failure> {
    let copy = args.place.copy()?;
    let options =
        MigrateOptions { no_ttl: args.no_ttl, hidden: args.hidden, on_every_member: args.on_every_member };
    let input = context.facts_options(args.place.wal_dir.as_deref());
    let done = v2_migrate::migrate(&args.place.input, options, &copy, &input, context.watch.as_ref())?;
    let mut outcome = Outcome::default();
    let left = Leftovers { found: done.copied.leftovers.clone(), removed: done.copied.cleaned.clone() };
    outcome.before.extend(left.notes());
    outcome.note_findings(&done.findings);
    outcome.before.extend(done.copied.warnings.iter().map(|warning| Note::Warning(shown(warning))));
    outcome.result = result(args, context, &done)?;
    outcome.after = story(args, &done);
    Ok(outcome)
}

fn result(args: &MigrateArgs, context: &Context, done: &Migration) -> Result<String, Failure> {
    let path = |path: &PathBuf| path.display().to_string();
    let json = Json {
        keys: done.keys,
        expiring: done.expiring,
        expiring_with_dir: done.expiring_with_dir,
        left_out_expiring: done.left_out_expiring,
        left_out_hidden: done.left_out_hidden,
        directories: done.directories,
        raft_index: done.fold.after.index,
        v2_index: done.v2_index,
        revision: done.revision,
        digest: &done.digest,
        others: done.others.iter().map(|id| hex_id(*id)).collect(),
        output: args.place.output.as_ref().map(path),
        output_wal_dir: args.place.output_wal_dir.as_ref().map(path),
        original: done.copied.original.as_ref().map(path),
        left_out: &done.copied.left_out,
        dry_run: args.place.write.dry_run,
        findings: &done.findings,
    };
    if context.format == Format::Simple {
        // What etcdctl says, but for what only this knows.
        return Ok(format!(
            "migrated {} key(s) up to revision {}, digest {}\n",
            done.keys, done.revision, done.digest
        ));
    }
    let row = vec![
        Cell::new("keys", "Keys", &done.keys),
        Cell::new("revision", "Revision", &done.revision),
        Cell::new("v2 index", "V2 index", &done.v2_index),
        Cell::new("raft index", "Raft index", &done.fold.after.index),
        Cell::new("digest", "Digest", &done.digest),
    ];
    output::render(context.format, &[row], &json)
}

fn story(args: &MigrateArgs, done: &Migration) -> Vec<Note> {
    let mut notes = Vec::new();
    let (before, after) = (done.fold.before.index, done.fold.after.index);
    if after > before {
        notes.push(Note::Prose(format!(
            "The database ended at entry {before}; what the log has up to entry {after} was folded in."
        )));
    }
    if done.expiring > 0 {
        notes.push(Note::Warning(format!(
            "warning: {} of the keys expire in the v2 store; as v3 keys they never do. --no-ttl leaves them out",
            done.expiring
        )));
    }
    if done.expiring_with_dir > 0 {
        notes.push(Note::Warning(format!(
            "warning: {} of the keys lie in a directory that expires and takes them along in the v2 store; as v3 keys they stay for ever. etcdctl \
             migrates them too, with --no-ttl as well",
            done.expiring_with_dir
        )));
    }
    if done.left_out_expiring > 0 {
        notes.push(Note::Prose(format!("{} key(s) that expire were left out.", done.left_out_expiring)));
    }
    match (&args.place.output, &done.copied.original) {
        _ if args.place.write.dry_run => notes.push(Note::Prose("Dry run: nothing was written.".to_owned())),
        (Some(output), _) => notes.push(Note::Prose(format!(
            "Wrote {}; {} is unchanged.",
            shown(&output.display().to_string()),
            shown(&args.place.input.display().to_string())
        ))),
        (None, Some(original)) => notes.push(Note::Prose(format!(
            "The member was replaced; as it was, it is kept as {}.",
            shown(&original.display().to_string())
        ))),
        (None, None) => {}
    }
    if !done.others.is_empty() {
        notes.push(Note::Warning(format!(
            "warning: the cluster has {} other member(s), and all must hold the same keys: migrate each while all are stopped, and start them only \
             if each printed this digest, and none left requests out. A member that printed another one is behind: start all as they were, without clients, until they \
             are level, and migrate again",
            done.others.len()
        )));
    }
    if !args.place.write.dry_run {
        let dir = args.place.output.as_ref().unwrap_or(&args.place.input);
        notes.push(Note::Prose(format!(
            "The v2 keys are still in the v2 store beside the v3 keys: a server up to 3.5 with --enable-v2 goes on serving them, and etcd 3.6 \
             refuses to start while they are there. To see what clients of the v3 API will get: etcd-rescue kv list {}",
            quoted_path(dir)
        )));
    }
    if !done.copied.left_out.is_empty() {
        notes.push(Note::Prose(format!(
            "Not copied, since no server needs them: {}.",
            shown(&done.copied.left_out.join(", "))
        )));
    }
    notes
}
