//! `hashkv`: the hash of the key space, of one file as etcdutl prints it, of several to be compared.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::finding::Finding;
use snapshot::mvcc::{AtRevisionError, HashKv, KeySpaceError, Release, Store, hashkv, hashkv_compacted};
use snapshot::schema::Schema;

use super::kv_input::{self, KvInput};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell};
use crate::shown::shown;

/// Prints the hash of the key space, by which members are compared
///
/// Of one file the output is that of etcdutl 3.7, but the file is only read: a compaction that was interrupted is not gone on with,
/// it counts as done, as for a server that starts there. Of several files the hashes are those at the greatest revision that all of
/// them have, and all are taken as if compacted at the greatest revision at which one was: equal hashes then mean equal keys and
/// history. Exit code 3 when they are not all equal.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue hashkv /var/lib/etcd
  etcd-rescue hashkv member-a/db member-b/db member-c/db -w table")]
pub(crate) struct HashKvArgs {
    /// Snapshots, db files, member dirs or data dirs
    #[arg(value_name = "FILE|DIR", required = true)]
    inputs: Vec<PathBuf>,
    /// Revision up to which records count [default: the latest; of several files, the latest that all have]
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true)]
    rev: i64,
    /// Hash as this release does: before 3.4.34 and 3.5.16 with a tombstone at the compacted revision, before 3.4.27 and 3.5.10
    /// not at that revision [default: the newest]
    #[arg(long, value_name = "X.Y.Z")]
    as_etcd: Option<Release>,
}

/// Hashes.
///
/// # Errors
/// When an input cannot be read or is damaged, or does not have the revision.
pub(crate) fn run(args: &HashKvArgs, context: &Context) -> Result<Outcome, Failure> {
    if args.rev < 0 {
        return Err(Failure::usage(format!("--rev {}: revisions are not negative", args.rev)));
    }
    match args.inputs.as_slice() {
        [one] => of_one(&kv_input::open(one, context)?, args, context),
        several => of_several(several, args, context),
    }
}

fn of_one(input: &KvInput, args: &HashKvArgs, context: &Context) -> Result<Outcome, Failure> {
    let release = args.as_etcd.unwrap_or_default();
    let db = input.db()?;
    let hash = hashkv(&db, args.rev, release, context.watch.as_ref()).map_err(|error| match error {
        AtRevisionError::Revision(error) => Failure::failed(error.to_string()),
        AtRevisionError::Read(error) => input.not_read(&error, false),
    })?;
    let (schema, store) = small_buckets(input, release)?;
    let row = vec![
        Cell::new("hash", "Hash", &hash.hash),
        Cell::new("hash revision", "Hash revision", &hash.hash_revision),
        Cell::new("compact revision", "Compact revision", &hash.compact_revision),
    ];
    let result = output::render(context.format, &[row], &hash)?;
    let mut outcome = Outcome { before: input.notes.clone(), result, ..Outcome::default() };
    outcome.before.extend(input.behind_its_log(&schema));
    outcome.before.extend(pending(&store).map(Note::Prose));
    outcome.note_findings(&odd(&schema, &store));
    Ok(outcome)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeveralJson {
    hash_revision: i64,
    compact_revision: i64,
    agree: bool,
    members: Vec<MemberJson>,
    /// The paths whose hashes are equal, together.
    groups: Vec<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberJson {
    path: String,
    hash: u32,
    current_revision: i64,
    compact_revision: i64,
}

fn of_several(paths: &[PathBuf], args: &HashKvArgs, context: &Context) -> Result<Outcome, Failure> {
    let release = args.as_etcd.unwrap_or_default();
    let mut outcome = Outcome::default();
    let mut members = Vec::new();
    for path in paths {
        let name = shown(&path.display().to_string());
        let input = kv_input::open(path, context)?;
        let (schema, store) = small_buckets(&input, release)?;
        let behind = input.behind_its_log(&schema);
        let notes = input.notes.iter().cloned().chain(behind).chain(pending(&store).map(Note::Prose));
        outcome.before.extend(notes.map(|note| note.about(&name)));
        let file = shown(&input.opened.path().display().to_string());
        let findings = odd(&schema, &store).into_iter();
        let findings = findings.map(|finding| Finding { file: Some(file.clone()), ..finding });
        outcome.note_findings(&findings.collect::<Vec<_>>());
        members.push((name, input, store));
    }
    let compacted = members.iter().filter_map(|(_, _, store)| store.compact_revision).max();
    let revision = match args.rev {
        0 => members.iter().map(|(_, _, store)| store.current_revision).min().unwrap_or_default(),
        revision => revision,
    };
    let lagging =
        members.iter().find(|(_, _, store)| store.current_revision < revision.max(compacted.unwrap_or(0)));
    let ahead = members.iter().find(|(_, _, store)| Some(revision) < store.compact_revision);
    match (ahead, lagging) {
        (Some((ahead, _, compacted)), Some((lagging, _, store))) if args.rev == 0 => {
            return Err(Failure::failed(format!(
                "no revision is kept by all: {lagging} ends at revision {}, {ahead} is compacted at {}",
                store.current_revision,
                compacted.first_kept()
            )));
        }
        (Some((name, _, store)), _) | (_, Some((name, _, store))) => {
            let error = store.resolve(revision).err().map(|error| error.to_string());
            return Err(Failure::failed(format!("{name}: {}", error.unwrap_or_default())));
        }
        (None, None) => {}
    }
    note_compacted(&members, compacted, &mut outcome);
    let mut hashes = Vec::new();
    for (name, input, store) in &members {
        let db = input.db()?;
        let watch = context.watch.as_ref();
        let hash =
            hashkv_compacted(&db, revision, compacted, release, watch).map_err(|error| match error {
                AtRevisionError::Revision(error) => Failure::failed(format!("{name}: {error}")),
                AtRevisionError::Read(error) => input.not_read(&error, false),
            })?;
        hashes.push((name.as_str(), hash, *store));
    }
    outcome.result = render(&hashes, context)?;
    if hashes.iter().any(|(_, hash, _)| hashes.first().is_some_and(|(_, first, _)| hash != first)) {
        outcome.code = exit::FINDINGS;
    }
    Ok(outcome)
}

/// Says what it takes to compare stores that were compacted at different revisions, `compacted` being the greatest.
fn note_compacted(members: &[(String, KvInput, Store)], compacted: Option<i64>, outcome: &mut Outcome) {
    let Some(compacted) = compacted else { return };
    let behind: Vec<&str> = members
        .iter()
        .filter(|(_, _, store)| store.compact_revision < Some(compacted))
        .map(|(name, _, _)| name.as_str())
        .collect();
    if !behind.is_empty() {
        outcome.before.push(Note::Prose(format!(
            "Not all are compacted at {compacted}: {} {} hashed as if. A server's own hash at the same revision differs where something \
             between the compacted revisions was deleted or superseded. A member that is compacted further than its leader raises the \
             CORRUPT alarm where servers check for that.",
            behind.join(", "),
            if behind.len() == 1 { "is" } else { "are" },
        )));
    }
}

fn render(hashes: &[(&str, HashKv, Store)], context: &Context) -> Result<String, Failure> {
    let rows: Vec<Vec<Cell>> = hashes
        .iter()
        .map(|(name, hash, _)| {
            vec![
                Cell::new("path", "Path", *name),
                Cell::new("hash", "Hash", &hash.hash),
                Cell::new("hash revision", "Hash revision", &hash.hash_revision),
                Cell::new("compact revision", "Compact revision", &hash.compact_revision),
            ]
        })
        .collect();
    let mut groups: BTreeMap<(usize, u32), Vec<String>> = BTreeMap::new();
    for (name, hash, _) in hashes {
        let first = hashes.iter().position(|(_, other, _)| other.hash == hash.hash).unwrap_or_default();
        groups.entry((first, hash.hash)).or_default().push((*name).to_owned());
    }
    let groups: Vec<Vec<String>> = groups.into_values().collect();
    let (hash_revision, compact_revision) =
        hashes.first().map_or((0, -1), |(_, hash, _)| (hash.hash_revision, hash.compact_revision));
    let agree = groups.len() == 1;
    let verdict = match groups.as_slice() {
        [_] => format!("all agree at revision {hash_revision}\n"),
        groups => {
            let told = groups.iter().map(|group| match group.as_slice() {
                [alone] => format!("{alone} with no other"),
                [first, more @ ..] => format!("{first} with {}", more.join(", ")),
                [] => String::new(),
            });
            format!("at revision {hash_revision} agree: {}\n", told.collect::<Vec<_>>().join("; "))
        }
    };
    let members = hashes.iter().map(|(name, hash, store)| MemberJson {
        path: (*name).to_owned(),
        hash: hash.hash,
        current_revision: store.current_revision,
        compact_revision: store.compact_revision.unwrap_or(-1),
    });
    let json = SeveralJson { hash_revision, compact_revision, agree, members: members.collect(), groups };
    let mut result = output::render(context.format, &rows, &json)?;
    if matches!(context.format, output::Format::Simple | output::Format::Table) {
        result += &verdict;
    }
    Ok(result)
}

fn small_buckets(input: &KvInput, release: Release) -> Result<(Schema, Store), Failure> {
    let db = input.db()?;
    let failed = |fault: bbolt::Fault| input.not_read(&KeySpaceError::from(fault), false);
    Ok((Schema::read(&db).map_err(failed)?, Store::read(&db, release).map_err(failed)?))
}

/// What makes the hash of a file say less than it seems to.
fn odd(schema: &Schema, store: &Store) -> Vec<Finding> {
    schema.no_key_bucket().into_iter().chain(store.ahead(schema)).collect()
}

fn pending(store: &Store) -> Option<String> {
    store.has_pending_compaction().then(|| {
        format!(
            "A compaction at revision {} was ordered and did not finish; it counts as done, since a server goes on with it when it \
             starts.",
            store.first_kept()
        )
    })
}
