//! `migrate --set-cluster-version`: the cluster's version too, so that a server of the target starts. etcdutl has no such thing.
//!
//! The version stands in a row of the database, in the v2 store of the `.snap`, from which servers up to 3.5 have it, and perhaps in
//! entries behind that. So the member is [reseated](crate::reseat) at the last entry that its database has: a fresh `.snap`, and a
//! record of it in the log, but no entry (law 11 of the design). An entry that the target does not know counts only behind that point: those
//! before it are not read any more.

use std::path::Path;

use bbolt::Watch;

use super::{MigrateError, MigrateOptions, MigrateReport, Plan, cluster, plan, version_of};
use crate::facts::FactsOptions;
use crate::member_copy::{self, CopyOptions, MemberCopy, Publish};
use crate::reseat::Reseat;
use crate::v2store;
use crate::whole_member::{self, Whole};

/// Makes the member at `path` one of the version asked for, and its cluster too as far as this member says; in a copy, or in its
/// place, where its old directory is kept.
///
/// # Errors
/// [`MigrateError`]; the input is as it was then, and nothing is left behind.
pub fn migrate_whole(
    path: &Path,
    options: &MigrateOptions,
    on_every_member: bool,
    clean: bool,
    input: &FactsOptions,
    watch: &dyn Watch,
) -> Result<MigrateReport, MigrateError> {
    let facts = whole_member::open(path, input, watch)?;
    let publish = match &options.output {
        Some(output) => Publish::Copy { output: output.clone(), output_wal_dir: None },
        None => Publish::InPlace,
    };
    let how = CopyOptions { publish, dry_run: options.dry_run, clean, owner: options.owner };
    let settled = member_copy::settle(&facts, &how, input)?;
    let whole = Whole::of(&facts)?;
    let schema = &whole.database.schema;
    let db = || whole.input.db_path().display().to_string();
    let from = version_of(schema).ok_or_else(|| MigrateError::NoTerm { path: db() })?;
    let version = options.target.to_minor().to_string();
    let mut asked = Reseat { cluster_version: Some(&version), ..Reseat::default() };
    let found = asked.plan(&whole)?;
    // Those who only listen too: a server of theirs ends over the old version like any other.
    let members: Vec<u64> = found.config.voters.union(&found.config.learners).copied().collect();
    if members.len() > 1 && !on_every_member {
        return Err(MigrateError::SeveralMembers { path: path.display().to_string(), members });
    }
    let Plan { edits, mut report } =
        plan(whole.input, schema, from, Some(whole.files), Some(found.index), options, watch)?;
    let in_snap = wal::decode_snap(&found.snap.bytes)
        .ok()
        .and_then(|snapshot| v2store::read(snapshot.data()).ok())
        .map_or(0, |store| store.foreign.count);
    let behind = report.needs.as_ref().map_or(0, |needs| needs.v2_writes);
    if let Some(finding) = cluster::of_v2_keys(in_snap, behind, &options.target) {
        if !options.force {
            return Err(MigrateError::V2Keys {
                path: path.display().to_string(),
                target: options.target.clone(),
                finding: Box::new(finding),
            });
        }
        report.findings.push(finding);
    }
    if edits.is_empty() && schema.cluster_version == version && options.output.is_none() {
        return Ok(report);
    }
    asked.rows = &edits;
    let seat = asked.plan(&whole)?;
    let copy = MemberCopy {
        facts: &facts,
        db: Some(&seat.db),
        snap: Some(&seat.snap),
        appended: Some(&seat.appended),
    };
    let mut copied = copy.write(&how, input, watch)?;
    copied.note_settled(settled);
    if let Some(output) = &options.output {
        report.db = output.join("member").join("snap").join("db");
    }
    report.cluster_version = version;
    report.seat = Some(seat.index);
    report.original = copied.original;
    report.left_out = copied.left_out;
    report.leftovers = copied.leftovers;
    report.cleaned = copied.cleaned;
    report.warnings.extend(copied.warnings);
    Ok(report)
}
