//! `snapshot hash`: verify a snapshot's SHA-256, or give one to a db that has none (FORMATS D).

use std::path::PathBuf;

use bbolt::{OpenError as DbError, Source, Watch};

use crate::finding::{Finding, Severity};
use crate::integrity::{self, Digest, HashingError, Integrity, Verdict};
use crate::opened::Opened;
use crate::save::{self, SaveError, SaveOptions};
use crate::structure::way_out;

/// Why a hash could not be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Hashing {
        /// The file.
        path: String,
        /// Why.
        source: HashingError,
    },
    /// The file is no bbolt database, so there is no image to hash.
    #[error("{path}: {source}{hint}{}", way_out(source))]
    Db {
        /// The file.
        path: String,
        /// Why.
        source: DbError,
        /// What else is known, or empty.
        hint: String,
    },
}

impl HashError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Hashing { source: HashingError::Interrupted, .. }) { 130 } else { 1 }
    }

    /// Findings that go with it: none.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// What was attached.
#[derive(Debug, Clone)]
pub struct AttachReport {
    /// The file with its hash.
    pub output: PathBuf,
    /// Length of its image, without its hash, in bytes.
    pub image_bytes: u64,
    /// The image's SHA-256.
    pub digest: Digest,
    /// What is wrong with the db, short of damage.
    pub findings: Vec<Finding>,
}

/// What tells, without a look at the pages, that `input` was cut: its length, and the length its metas declare.
///
/// # Errors
/// When the file is no bbolt database, and so has no image to hash.
pub fn cuts(input: &Opened) -> Result<Vec<Finding>, HashError> {
    let len_bytes = input.source().len_bytes();
    let mut findings: Vec<Finding> = integrity::length_finding(len_bytes).into_iter().collect();
    let db = input.db().map_err(|source| {
        let hint = findings.first().map(|finding| format!("; {}", finding.message)).unwrap_or_default();
        HashError::Db { path: input.path().display().to_string(), source, hint }
    })?;
    let declared_bytes = db.meta().logical_bytes();
    if declared_bytes > integrity::image_bytes(len_bytes).0 {
        let message = format!(
            "declares {declared_bytes} bytes, but the file has {len_bytes}: it was cut; copy it again"
        );
        findings.push(Finding::new("BBOLT-SHORT-FILE", Severity::Error, message));
    }
    Ok(findings)
}

/// Computes the SHA-256 of `input`'s image and compares it with the trailer, where there is one.
///
/// # Errors
/// When the file cannot be read, or the user asked to stop.
pub fn verify(input: &Opened, watch: &dyn Watch) -> Result<Verdict, HashError> {
    let failed = |source| HashError::Hashing { path: input.path().display().to_string(), source };
    let verdict = integrity::unchecked(input.source()).map_err(|source| failed(source.into()))?;
    watch.begin("hashing", verdict.image_bytes);
    integrity::sha256(input.source(), verdict.image_bytes, watch)
        .map(|computed| verdict.compared(computed))
        .map_err(failed)
}

/// Writes `input`'s pages up to the high-water mark, unchanged, and their SHA-256 to a new file of mode 0600.
///
/// # Errors
/// When the db is damaged or has a hash already, or the output cannot be written; nothing is left behind then.
pub fn attach(input: &Opened, options: &SaveOptions, watch: &dyn Watch) -> Result<AttachReport, SaveError> {
    let path = || input.path().display().to_string();
    crate::stage::examine(&options.output, crate::stage::Kind::File)?;
    let examined = save::examine_sound(input, watch)?;
    if examined.verdict.integrity == Integrity::Verified {
        return Err(SaveError::HasHash { path: path() });
    }
    let db = input.db().map_err(|source| SaveError::Db { path: path(), source })?;
    let written = save::write(input, &db, &[], options, watch)?;
    Ok(AttachReport {
        output: options.output.clone(),
        image_bytes: written.image_bytes,
        digest: written.digest,
        findings: examined.findings,
    })
}
