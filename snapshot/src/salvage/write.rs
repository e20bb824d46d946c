//! Writing a way: a fresh file, staged, synced, read back, verified, and only then given its name.

use std::fs::File;
use std::path::Path;

use bbolt::rebuild::content;
use bbolt::{Db, FileSource, Io, RebuildError, Rebuilt, Unmetered, Watch, rebuild};

use super::ground::{NotBuilt, Outcome};
use super::plan::{Plan, Taking};
use super::report::{OutputReport, Report};
use super::ways::Small;
use super::{SalvageError, WriteOptions};
use crate::contents::check_and_read;
use crate::copy;
use crate::defrag::AS_ETCD;
use crate::edited::EditError;
use crate::finding::Severity;
use crate::integrity::{self, Digest, HashingError};
use crate::save::{self, SaveError};
use crate::schema::Schema;
use crate::stage::{self, Kind, Stage, StageError};
use crate::stream_file;

/// Takes way `number`, from 1: writes it where `options` say, and tells all that is known. Without an output only the account is
/// drawn up.
///
/// # Errors
/// When there is no such way; when something is certainly lost and that is not accepted; when the output is there already or cannot
/// be written; when an input changed meanwhile; when the user asked to stop. Nothing is left behind then.
pub fn write(
    plan: &Plan<'_>,
    number: usize,
    options: &WriteOptions,
    watch: &dyn Watch,
) -> Result<Report, SalvageError> {
    if let Some(output) = &options.output {
        ensure_free(plan, output, options)?;
    }
    let mut report = plan.report(number, watch)?;
    let Some(output) = &options.output else {
        plan.ground.evidence.ensure_unchanged()?;
        return Ok(report);
    };
    if report.account.loses.is_certain() && !options.accept_loss {
        return Err(SalvageError::Refused { report: Box::new(report) });
    }
    let way = plan.way(number)?;
    let room = plan.ground.evidence.leaf_bytes();
    let room = if let Taking::Log(log) = &way.taking { bbolt::Source::len_bytes(&log.db) } else { room };
    copy::ensure_space(output, room.saturating_add(integrity::TRAILER_BYTES)).map_err(SaveError::from)?;
    let stage = Stage::new(output, Kind::File)?;
    let file = stage.file().ok_or_else(|| StageError::NotADirectory(output.clone()))?;
    watch.begin("writing", room);
    let job = Job { output, path: stage.path(), file, watch };
    let written = match &way.taking {
        Taking::Found(selection) => {
            let small = plan.small_of_way(way).cloned().unwrap_or_default();
            job.stream(
                |stream| plan.ground.build(stream, *selection, &small, watch),
                |outcome| outcome.built,
            )?
        }
        Taking::Log(log) => {
            let db: Db<&FileSource> =
                Db::from_source(&log.db).map_err(|error| job.differs(&error.to_string()))?;
            let produce = |stream: &mut stream_file::Stream<'_>| {
                rebuild(&db, stream, &AS_ETCD, watch).map_err(|error| not_built(error, output))
            };
            let rebuilt: Rebuilt = job.stream(produce, |rebuilt: &Rebuilt| rebuilt.built)?;
            let Rebuilt { built, content } = rebuilt;
            Outcome { built, pairs: content.pairs, buckets: content.buckets }
        }
    };
    plan.ground.evidence.ensure_unchanged()?;
    if let Taking::Found(_) = way.taking {
        let rows = plan.small_of_way(way).map_or(0, Small::rows);
        if written.pairs != rows + report.account.records {
            let counted = report.account.records;
            return Err(job.differs(&format!(
                "{} records instead of {counted}",
                written.pairs - rows.min(written.pairs)
            )));
        }
    }
    let (digest, mut output_report) = job.verify(&written, report.account.records)?;
    save::attach(file, output, written.built.len_bytes, digest)?;
    output_report.len_bytes = written.built.len_bytes + integrity::TRAILER_BYTES;
    if watch.interrupted() {
        return Err(SalvageError::Interrupted);
    }
    stage.commit(options.owner)?;
    report.output = Some(output_report);
    Ok(report)
}

/// Makes sure that the output can be where it should: nothing is there, and it is in no directory that was given.
fn ensure_free(plan: &Plan<'_>, output: &Path, options: &WriteOptions) -> Result<(), SalvageError> {
    stage::ensure_owner(options.owner)?;
    for log in &plan.ground.evidence.logs {
        if let Some(input) = log.holding(output) {
            return Err(SaveError::Inside { output: output.to_owned(), input: input.to_owned() }.into());
        }
    }
    stage::examine(output, Kind::File)?;
    Ok(())
}

fn not_built(error: RebuildError, path: &Path) -> NotBuilt {
    match error {
        RebuildError::Interrupted => SalvageError::Interrupted.into(),
        source => NotBuilt::Salvage(EditError::Rebuild { path: path.display().to_string(), source }.into()),
    }
}

/// One output under way.
struct Job<'j> {
    output: &'j Path,
    /// Where it is staged.
    path: &'j Path,
    file: &'j File,
    watch: &'j dyn Watch,
}

impl Job<'_> {
    fn differs(&self, what: &str) -> SalvageError {
        EditError::ReadBack { path: self.output.to_owned(), what: what.to_owned() }.into()
    }

    /// Writes what `produce` gives, and reads it back.
    fn stream<T>(
        &self,
        produce: impl FnOnce(&mut stream_file::Stream<'_>) -> Result<T, NotBuilt>,
        built: impl FnOnce(&T) -> bbolt::Built,
    ) -> Result<T, SalvageError> {
        let written = stream_file::write(self.file, self.path, produce);
        let (product, back) = written
            .map_err(|source| SaveError::Write { path: self.output.to_owned(), source })?
            .map_err(|error| error.at(self.output))?;
        let built = built(&product);
        if (back.len_bytes, back.crc32c) != (built.len_bytes, built.crc32c) {
            return Err(self.differs("its checksum"));
        }
        Ok(product)
    }

    /// Reads what was written as any reader would: its structure is sound, it holds what was put into it, and a server could read
    /// every record.
    fn verify(&self, written: &Outcome, records: u64) -> Result<(Digest, OutputReport), SalvageError> {
        let io = |source| SaveError::Io { path: self.output.to_owned(), source };
        let read =
            File::open(self.path).and_then(|file| FileSource::new(file, self.path, Io::Mmap)).map_err(io)?;
        let db = Db::from_source(&read).map_err(|error| self.differs(&error.to_string()))?;
        let len_bytes = written.built.len_bytes;
        self.watch.begin("verifying", len_bytes);
        let unmetered = Unmetered(self.watch);
        let hash = || integrity::sha256(&read, len_bytes, &unmetered);
        let (checked, (found, digest)) = rayon::join(
            || check_and_read(&db, self.watch),
            || rayon::join(|| content(&db, &unmetered), hash),
        );
        let (findings, contents) = checked.map_err(|_| SalvageError::Interrupted)?;
        let contents = match (findings.first(), contents) {
            (None, Some(contents)) => contents,
            (finding, _) => {
                return Err(self.differs(&finding.map_or_else(String::new, ToString::to_string)));
            }
        };
        if let Some(finding) = contents.findings.iter().find(|finding| finding.severity == Severity::Error) {
            return Err(self.differs(&finding.to_string()));
        }
        let found = match found {
            Ok(found) => found,
            Err(RebuildError::Interrupted) => return Err(SalvageError::Interrupted),
            Err(error) => return Err(self.differs(&error.to_string())),
        };
        if (found.pairs, found.buckets) != (written.pairs, written.buckets) {
            let wanted = format!("{} pairs in {} buckets", written.pairs, written.buckets);
            return Err(self.differs(&format!(
                "{} pairs in {} buckets instead of {wanted}",
                found.pairs, found.buckets
            )));
        }
        let digest = match digest {
            Ok(digest) => digest,
            Err(HashingError::Interrupted) => return Err(SalvageError::Interrupted),
            Err(error) => return Err(self.differs(&error.to_string())),
        };
        let schema = Schema::read(&db).map_err(|fault| self.differs(&fault.to_string()))?;
        let report = OutputReport {
            path: self.output.to_owned(),
            len_bytes,
            sha256: digest.to_string(),
            // A server that starts from it begins at the compaction, where no record is later.
            revision: contents.revision.max(schema.finished_compact.unwrap_or_default()),
            keys: contents.live_keys,
            records,
            consistent_index: schema.consistent_index,
        };
        Ok((digest, report))
    }
}
