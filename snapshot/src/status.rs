//! `snapshot status`: what a snapshot holds, and whether it can be trusted (FORMATS C.7).

use bbolt::{Db, OpenError as DbError, Source, Unmetered, Watch};

use crate::contents::{self, Contents};
use crate::finding::{Finding, Severity};
use crate::integrity::{self, HashingError, Integrity, Verdict};
use crate::opened::Opened;
use crate::schema::{KEY, META, Schema};
use crate::structure;

/// What to leave out.
#[derive(Debug, Clone, Copy, Default)]
pub struct StatusOptions {
    /// Leave the SHA-256 trailer uncompared.
    pub skip_hash_check: bool,
}

/// What etcdutl 3.7 prints of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// CRC-32C over every bucket's name, keys and values.
    pub hash: u32,
    /// Revision of the last record; 0 when there is none.
    pub revision: i64,
    /// Number of live keys.
    #[serde(rename = "totalKey")]
    pub total_key: u64,
    /// Length of the image up to its high-water mark, in bytes.
    #[serde(rename = "totalSize")]
    pub total_size: u64,
    /// The storage version; empty before 3.6.
    pub version: String,
}

/// The outcome of `snapshot status`.
#[derive(Debug, Clone)]
pub struct StatusReport {
    /// The status; `None` when the structure is too damaged to say.
    pub status: Option<Status>,
    /// What is known of the integrity hash.
    pub verdict: Verdict,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Index of the last raft entry in the db; 0 when it cannot be told.
    pub consistent_index: u64,
}

/// Why there is no status at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The file is no bbolt database.
    #[error("{path}: {source}{hint}{}", structure::way_out(source))]
    Db {
        /// The file.
        path: String,
        /// Why.
        source: DbError,
        /// What else is known, or empty.
        hint: String,
    },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Hashing {
        /// The file.
        path: String,
        /// Why.
        source: HashingError,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl StatusError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Interrupted) { 130 } else { 1 }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// A database's structure and contents, read once, with its integrity hash compared meanwhile on another core.
pub(crate) struct Examined {
    pub(crate) verdict: Verdict,
    pub(crate) findings: Vec<Finding>,
    /// `None` when the structure is damaged.
    pub(crate) contents: Option<(Contents, Schema)>,
    /// Length of the image up to its high-water mark, in bytes.
    pub(crate) total_size: u64,
}

/// Reads all there is to know of `source`, which messages call `path`, in one go.
pub(crate) fn examine<S: Source>(
    source: &S,
    path: &str,
    compare_hash: bool,
    watch: &dyn Watch,
) -> Result<Examined, StatusError> {
    let path = || path.to_owned();
    let length_finding = integrity::length_finding(source.len_bytes());
    let db = Db::from_source(source).map_err(|source| {
        let hint = length_finding.as_ref().map(|f| format!("; {}", f.message)).unwrap_or_default();
        StatusError::Db { path: path(), source, hint }
    })?;
    let hashing = |source| match source {
        HashingError::Interrupted => StatusError::Interrupted,
        source @ HashingError::Source(_) => StatusError::Hashing { path: path(), source },
    };
    let quick = integrity::unchecked(source).map_err(|e| hashing(e.into()))?;
    // The slower of the two carries the meter.
    let compare = compare_hash && quick.integrity == Integrity::Unchecked;
    watch.begin("reading", if compare { quick.image_bytes } else { db.meta().logical_bytes() });
    let unmetered = Unmetered(watch);
    let (verdict, content) = rayon::join(
        || if compare { integrity::verify(source, watch) } else { Ok(quick) },
        || {
            let meter: &dyn Watch = if compare { &unmetered } else { watch };
            let (mut findings, contents) =
                contents::check_and_read(&db, meter).map_err(|_| StatusError::Interrupted)?;
            let Some(contents) = contents else { return Ok((findings, None)) };
            match Schema::read(&db) {
                Ok(schema) => Ok((findings, Some((contents, schema)))),
                Err(fault) => {
                    findings.push(structure::of_fault(&fault));
                    Ok((findings, None))
                }
            }
        },
    );
    let verdict = verdict.map_err(hashing)?;
    let (mut findings, contents) = content?;
    findings.extend(length_finding);
    if let Some((contents, schema)) = &contents {
        findings.extend(contents.findings.iter().chain(&schema.findings).cloned());
        for (name, shown, severity) in [(KEY, "key", Severity::Error), (META, "meta", Severity::Warning)] {
            if !schema.buckets.iter().any(|bucket| bucket == name) {
                let message =
                    format!("there is no bucket {shown}: this is a bbolt database, but hardly one of etcd");
                findings.push(Finding::new("ETCD-NO-BUCKET", severity, message));
            }
        }
    }
    findings.extend(verdict.finding());
    let total_size = db.meta().logical_bytes();
    Ok(Examined { verdict, findings, contents, total_size })
}

/// Reads `input` once and says what it holds and what is wrong with it.
///
/// # Errors
/// When the file cannot be read, is no bbolt database, or the user asked to stop. Damage is a finding.
pub fn status(
    input: &Opened,
    options: &StatusOptions,
    watch: &dyn Watch,
) -> Result<StatusReport, StatusError> {
    let mut report = of_source(input.source(), &input.path().display().to_string(), options, watch)?;
    report.findings.extend(input.pending_snapshots(report.consistent_index));
    Ok(report)
}

/// As [`status`], of bytes from anywhere, which messages call `path`.
///
/// # Errors
/// As [`status`].
pub fn of_source<S: Source>(
    source: &S,
    path: &str,
    options: &StatusOptions,
    watch: &dyn Watch,
) -> Result<StatusReport, StatusError> {
    let examined = examine(source, path, !options.skip_hash_check, watch)?;
    let consistent_index =
        examined.contents.as_ref().map(|(_, schema)| schema.consistent_index).unwrap_or_default();
    // A record that etcdutl 3.7 refuses leaves no status there either; its finding says which.
    let status =
        examined.contents.filter(|(contents, _)| contents.findings.is_empty()).map(|(contents, schema)| {
            Status {
                hash: contents.hash,
                revision: contents.revision,
                total_key: contents.live_keys,
                total_size: examined.total_size,
                version: schema.storage_version,
            }
        });
    Ok(StatusReport { status, verdict: examined.verdict, findings: examined.findings, consistent_index })
}
