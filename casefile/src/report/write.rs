//! A report in a file.

use std::io::Write as _;
use std::path::Path;

use bbolt::Watch;
use sha2::{Digest, Sha256};
use snapshot::stage::{Kind, Stage};

use super::{Redact, gather, html};
use crate::case::Case;
use crate::error::CaseError;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// Writes the report on `case` to `path`, where nothing may be.
///
/// # Errors
/// When something is there, the case is damaged, or the system refuses; nothing is left behind.
pub fn write(
    case: &Case,
    redact: Option<Redact>,
    path: &Path,
    watch: &dyn Watch,
) -> Result<Written, CaseError> {
    let stage = Stage::new(path, Kind::File)?;
    let report = html(&gather(case, watch)?, redact);
    if watch.interrupted() {
        return Err(CaseError::Interrupted);
    }
    if let Some(mut file) = stage.file() {
        file.write_all(report.as_bytes())
            .map_err(|source| CaseError::Io { path: stage.path().to_owned(), source })?;
    }
    stage.commit(None)?;
    let digest: [u8; 32] = Sha256::digest(report.as_bytes()).into();
    let len_bytes = u64::try_from(report.len()).unwrap_or(u64::MAX);
    Ok(Written { len_bytes, sha256: snapshot::integrity::Digest(digest).to_string() })
}
