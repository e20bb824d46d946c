//! `snapshot hash`: verify a snapshot's SHA-256, or give one to a db that has none (FORMATS D).

use std::path::PathBuf;

use bbolt::Watch;

use crate::finding::Finding;
use crate::integrity::{self, Digest, HashingError, Integrity, Verdict};
use crate::opened::Opened;
use crate::save::{self, SaveError, SaveOptions};

/// Why a hash could not be verified.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct HashError {
    /// The file.
    pub path: String,
    /// Why.
    pub source: HashingError,
}

impl HashError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self.source, HashingError::Interrupted) { 130 } else { 1 }
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

/// Computes the SHA-256 of `input`'s image and compares it with the trailer, where there is one.
///
/// # Errors
/// When the file cannot be read, or the user asked to stop.
pub fn verify(input: &Opened, watch: &dyn Watch) -> Result<Verdict, HashError> {
    let failed = |source| HashError { path: input.path().display().to_string(), source };
    let verdict = integrity::unchecked(input.source()).map_err(|source| failed(source.into()))?;
    watch.begin("hashing", verdict.image_bytes);
    let computed = integrity::sha256(input.source(), verdict.image_bytes, watch).map_err(failed)?;
    let integrity = match verdict.expected {
        None => Integrity::Absent,
        Some(expected) if expected == computed => Integrity::Verified,
        Some(_) => Integrity::Mismatch,
    };
    Ok(Verdict { integrity, computed: Some(computed), ..verdict })
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
