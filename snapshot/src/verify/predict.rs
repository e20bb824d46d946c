//! How a start goes on each release: what [`boot`](crate::boot) says of log and snapshots, and what a server meets after that.

use bbolt::{Fault, Io};

use super::rows::{self, Rows, Stage, Stumble};
use crate::boot::{self, RELEASES, Release, Start};
use crate::facts::{DatabaseError, Facts, What};
use crate::finding::Finding;
use crate::snap_files::{SnapKind, describe};
use crate::structure::is_damaged;
use crate::target::{TargetVersion, minor_of};

/// What one release does with a member's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// Which release.
    pub release: Release,
    /// What it does.
    pub expected: Expected,
}

/// How a start goes, as far as that can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// So.
    Start(Start),
    /// That cannot be told, for this reason.
    Unknown(String),
}

/// What each of [`RELEASES`] does with the member of `facts`, in that order; empty where there is no member's directory.
/// `structure` are the findings of a check of the db, where there was one.
pub(super) fn predictions(facts: &Facts, structure: Option<&[Finding]>) -> Vec<Prediction> {
    if !matches!(facts.looked.what, What::DataDir | What::MemberDir) {
        return Vec::new();
    }
    let predict = |expected: &dyn Fn(&Release) -> Expected| {
        RELEASES.into_iter().map(|release| Prediction { expected: expected(&release), release }).collect()
    };
    let unknown = |why: &str| predict(&|_| Expected::Unknown(why.to_owned()));
    if structure.is_some_and(is_damaged) {
        return predict(&|release| of_damage(facts, release));
    }
    let bad_record = structure.unwrap_or_default().iter().find(|finding| finding.code == RECORD);
    let rows = match looked_at_rows(facts) {
        Ok(mut rows) => {
            rows.stumbles.extend(bad_record.filter(|_| !has_bad_keys(structure)).map(of_record));
            rows
        }
        Err(fault) => return unknown(&format!("the db is damaged: {fault}")),
    };
    if matches!(&facts.database, Some(Ok(database)) if matches!(database.facts, Err(DatabaseError::Open(_))))
    {
        return predict(&|release| of_damage(facts, release));
    }
    let Some(log) = facts.log_facts() else {
        return match &facts.log {
            None => predict(&|_| Expected::Start(Start::FoundsNewCluster)),
            Some(Err(error)) => unknown(&error.to_string()),
            Some(Ok(_)) => Vec::new(),
        };
    };
    if log.report.verdicts.is_empty() {
        return unknown("the db beside the log cannot be read");
    }
    if log.report.supposes_snaps {
        return unknown("the .snap files and the db are not here");
    }
    log.report
        .verdicts
        .iter()
        .map(|of_log| {
            let start = after(of_log, facts, &rows);
            let starts = matches!(start, Start::Starts(_) | Start::StartsAfterCut { .. });
            let expected = if starts && has_bad_keys(structure) {
                Expected::Unknown(
                    "records of the key space stand under keys that are no revisions".to_owned(),
                )
            } else {
                Expected::Start(start)
            };
            Prediction { release: of_log.release, expected }
        })
        .collect()
}

fn looked_at_rows(facts: &Facts) -> Result<Rows, Fault> {
    match &facts.database {
        Some(Ok(database)) => match database.input.db() {
            Ok(db) => rows::look(&db),
            Err(_) => Ok(Rows::default()),
        },
        _ => Ok(Rows::default()),
    }
}

/// Code of a record that is none.
const RECORD: &str = "ETCD-RECORD";

/// Whether a record stands under a key that is no revision. Of these, servers before 3.6 read some and end over others.
fn has_bad_keys(structure: Option<&[Finding]>) -> bool {
    let found = structure.unwrap_or_default().iter();
    found.filter(|finding| finding.code == RECORD).any(|finding| finding.message.contains("is no revision"))
}

/// A value that is no key-value ends every server.
fn of_record(found: &Finding) -> Stumble {
    Stumble {
        stage: Stage::KeySpace,
        words: |release| {
            Some(if release.minor == TargetVersion::V3_4 {
                "cannot unmarshal event"
            } else {
                "failed to unmarshal mvccpb.KeyValue"
            })
        },
        cause: found.message.clone(),
    }
}

/// A server opens its db before anything else.
fn of_damage(facts: &Facts, release: &Release) -> Expected {
    match &facts.database {
        Some(Ok(database)) => match &database.facts {
            Err(DatabaseError::Open(error)) => Expected::Start(Start::Fails {
                words: if release.minor == TargetVersion::V3_4 {
                    "cannot open database"
                } else {
                    "failed to open database"
                },
                cause: error.to_string(),
            }),
            _ => Expected::Unknown(
                "the structure of the db is damaged: whether a server dies when it starts or later depends on where it comes by"
                    .to_owned(),
            ),
        },
        _ => Expected::Unknown("the db cannot be opened".to_owned()),
    }
}

/// What happens to a release that gets as far as `of_log` says.
fn after(of_log: &boot::Verdict, facts: &Facts, rows: &Rows) -> Start {
    let release = &of_log.release;
    let fails = |words, cause: String| Start::Fails { words, cause };
    let opening = rows.stumbles.iter().find(|stumble| stumble.stage == Stage::Opening);
    if let Some(stumble) = opening
        && !matches!(of_log.start, Start::FoundsNewCluster)
        && let Some(words) = (stumble.words)(release)
    {
        return fails(words, stumble.cause.clone());
    }
    let (Start::Starts(found) | Start::StartsAfterCut { found, .. }) = &of_log.start else {
        return of_log.start.clone();
    };
    let starts_from = facts.newest_snap.as_ref().filter(|snap| snap.facts.index == found.snapshot.index);
    let reads_snap = release.minor < TargetVersion::V3_7;
    if let Some(snap) = starts_from.filter(|_| reads_snap) {
        match &snap.store {
            Err(error) => {
                let words = if release.minor == TargetVersion::V3_4 {
                    "recovered store from snapshot error"
                } else {
                    "failed to recover from snapshot"
                };
                return fails(words, format!("{}: {error}", snap.name));
            }
            Ok(store) if release.minor == TargetVersion::V3_6 && store.foreign.count > 0 => {
                return fails(
                    "detected disallowed custom content in v2store",
                    format!("{} has {} keys or users of the v2 API", snap.name, store.foreign.count),
                );
            }
            Ok(_) => {}
        }
    }
    let own = facts.database_facts().map_or(0, |database| database.schema.consistent_index);
    if found.snapshot.index > own && release.booted == Some("3.5.1") {
        return fails(
            "tx closed",
            format!("it ends when it takes the received database of entry {} into use", found.snapshot.index),
        );
    }
    if let Some((file, index)) = older_received(facts).filter(|(_, index)| *index == found.snapshot.index) {
        return fails(
            "does not match with snapshot",
            format!("{file} does not hold what entries up to {index} did"),
        );
    }
    let v2_writes = facts.log_facts().map_or(0, |log| log.v2_writes);
    if release.minor == TargetVersion::V3_6 && v2_writes > 0 {
        return fails(
            "detected disallowed v2 WAL",
            format!("{v2_writes} request(s) of the v2 API stand behind the snapshot"),
        );
    }
    let mut stumbles: Vec<_> = rows
        .stumbles
        .iter()
        .filter_map(|stumble| Some((stumble.stage, (stumble.words)(release)?, stumble.cause.clone())))
        .collect();
    stumbles.extend(downgrade(facts, release));
    stumbles.sort_by_key(|(stage, ..)| *stage);
    match stumbles.into_iter().next() {
        Some((_, words, cause)) => fails(words, cause),
        None => {
            let last = facts
                .log_facts()
                .and_then(|log| log.ends_over(release, log.applied_alone(found.commit, found.last.index)));
            last.map_or_else(|| of_log.start.clone(), |(_, words, cause)| fails(words, cause))
        }
    }
}

/// A downgrade under way lets no other release than its target start.
fn downgrade(facts: &Facts, release: &Release) -> Option<(Stage, &'static str, String)> {
    let target = facts.database_facts()?.schema.downgrade_target.as_ref()?;
    let minor = minor_of(target)?;
    let stops = release.minor >= TargetVersion::V3_5 && release.minor.minor() != minor;
    stops.then(|| {
        let words = "server version is not allowed to join when downgrade is enabled";
        (Stage::Cluster, words, format!("a downgrade to {target} is under way"))
    })
}

/// A `.snap.db` that a server would take in place of the db, and which is of an earlier entry than its name says: its name, and
/// the index in that.
pub(super) fn older_received(facts: &Facts) -> Option<(&str, u64)> {
    let own = facts.database_facts().map_or(0, |database| database.schema.consistent_index);
    facts.snaps().iter().find_map(|file| {
        let SnapKind::Database { index } = file.kind() else { return None };
        if index <= own {
            return None;
        }
        let received = describe(file, Io::Mmap).database?;
        (received.consistent_index < index).then_some((file.name(), index))
    })
}
