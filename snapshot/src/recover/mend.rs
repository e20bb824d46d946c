//! Logs that a repair mends without loss, mended in a copy of their own before anything is asked of them.

use std::path::{Path, PathBuf};

use bbolt::{OpenOptions, Watch};
use tempfile::TempDir;
use wal::repair::Change;

use super::RecoverError;
use super::loss::is_broken;
use crate::certainty;
use crate::log_files::{self, LogOptions};
use crate::log_repair::{self, RepairError, RepairOptions};
use crate::stage::PARTIAL_SUFFIX;
use crate::survivors::{GivenPath, Survivors};

/// A log that was mended in a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The log's directory.
    pub wal_dir: PathBuf,
    /// What was put right.
    pub changes: Vec<Change>,
}

/// The mended copies. They go when this goes.
pub(super) struct Workshop {
    done: Vec<(GivenPath, Mended, PathBuf)>,
    /// Where they lie; `None` while there is none.
    _dir: Option<TempDir>,
}

/// Mends what can be mended without loss, below `tmp_dir`.
pub(super) fn mend(
    survivors: &Survivors,
    tmp_dir: &Path,
    open: &OpenOptions,
    watch: &dyn Watch,
) -> Result<Workshop, RecoverError> {
    let mut workshop = Workshop { done: Vec::new(), _dir: None };
    for (at, survivor) in survivors.all.iter().enumerate() {
        let Some(log) = survivor.facts.log_facts() else { continue };
        if !is_broken(&log.report.log) || log.files.is_single_segment() {
            continue;
        }
        let dir = match &workshop._dir {
            Some(dir) => dir.path().to_owned(),
            None => {
                let made =
                    tempfile::Builder::new().prefix("logs-").suffix(PARTIAL_SUFFIX).tempdir_in(tmp_dir);
                let made = made.map_err(|error| RecoverError::TmpDir { path: tmp_dir.to_owned(), error })?;
                workshop._dir.insert(made).path().to_owned()
            }
        };
        let output = dir.join(at.to_string());
        // The log alone: what its repair would lose is lost, whatever the db has.
        let wal_dir = log.files.wal_dir();
        let options = LogOptions { io: open.io, lock: open.lock, wal_dir: None };
        let alone =
            log_files::open(wal_dir, &options, watch).map_err(|error| RecoverError::Mend(error.into()))?;
        let options = RepairOptions { output: Some(output.clone()), ..RepairOptions::default() };
        match log_repair::repair(&alone, &options, open, watch) {
            Ok(report) if report.written => {
                let mended = Mended { wal_dir: wal_dir.to_owned(), changes: report.plan.changes };
                workshop.done.push((survivor.given.clone(), mended, output));
            }
            // What cannot be mended without loss is followed as far as it holds.
            Ok(_) | Err(RepairError::Plan { .. } | RepairError::OneSegment(_)) => {}
            Err(error) => return Err(RecoverError::Mend(error)),
        }
    }
    Ok(workshop)
}

impl Workshop {
    /// What was given, with the mended logs in place of the broken ones; `None` when nothing was mended.
    pub(super) fn replaced(&self, given: &[GivenPath]) -> Option<Vec<GivenPath>> {
        let replace = |given: &GivenPath| {
            let of = self.done.iter().find(|(of, ..)| of == given);
            of.map_or_else(
                || given.clone(),
                |(_, _, log)| GivenPath { wal_dir: Some(log.clone()), ..given.clone() },
            )
        };
        (!self.done.is_empty()).then(|| given.iter().map(replace).collect())
    }

    /// What was put right.
    pub(super) fn mended(&self) -> Vec<Mended> {
        self.done.iter().map(|(_, mended, _)| mended.clone()).collect()
    }

    /// Has `survivors` judged anew: that a mended log ends where it ends proves nothing, for its end may have been lost.
    pub(super) fn distrust_ends(&self, survivors: &mut Survivors) {
        for survivor in &mut survivors.all {
            let is_mended = self.done.iter().any(|(of, ..)| of.path == survivor.given.path);
            if let Some(testimony) = survivor.testimony.as_mut().filter(|_| is_mended) {
                testimony.may_lack_its_end = true;
            }
        }
        let witnesses = survivors.witnesses.iter().filter_map(|at| survivors.all.get(*at)?.testimony.clone());
        survivors.judgement = certainty::judge(&witnesses.collect::<Vec<_>>());
    }
}
