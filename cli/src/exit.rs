//! The exit codes, and errors on their way to one.

use std::io::ErrorKind;

use casefile::{AddError, CaseError, ValueError};
use clap::error::Error as ClapError;
use snapshot::backup::BackupError;
use snapshot::compact;
use snapshot::compact_file::CompactError;
use snapshot::compare::CompareError;
use snapshot::defrag::DefragError;
use snapshot::edited::EditError;
use snapshot::finding::Finding;
use snapshot::fold::FoldError;
use snapshot::force_new::ForceNewError;
use snapshot::hash::HashError;
use snapshot::kv_delete::DeleteError;
use snapshot::kv_diff::DiffError;
use snapshot::kv_export::ExportError;
use snapshot::log_files::LogFilesError;
use snapshot::log_repair::RepairError;
use snapshot::lone::LoneError;
use snapshot::member_edit::MemberEditError;
use snapshot::migrate::MigrateError;
use snapshot::mvcc::KeySpaceError;
use snapshot::mvcc::query::QueryError;
use snapshot::opened::OpenError;
use snapshot::recover::RecoverError;
use snapshot::replaced::ReplaceError;
use snapshot::restore::RestoreError;
use snapshot::salvage::SalvageError;
use snapshot::salvage::extract::ExtractError;
use snapshot::save::SaveError;
use snapshot::seen::SeenError;
use snapshot::status::StatusError;
use snapshot::surgery::SurgeryError;
use snapshot::survivors::SurvivorsError;
use snapshot::text_file::TextFileError;
use snapshot::v2_migrate;
use snapshot::verify::VerifyError;

use crate::outcome;

/// Done, and nothing is wrong.
pub(crate) const DONE: u8 = 0;
/// It could not be done.
pub(crate) const FAILED: u8 = 1;
/// The arguments make no sense.
pub(crate) const USAGE: u8 = 2;
/// Done, and the data has findings.
pub(crate) const FINDINGS: u8 = 3;
/// Refused; also what etcdutl answers to an output format a command does not have.
pub(crate) const REFUSED: u8 = 4;
/// Added to the number of the signal that ended the job, as shells do.
pub(crate) const SIGNAL_BASE: u8 = 128;

/// Why a command did not do its job, ready for the user.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What happened and what to do, in one line.
    pub(crate) message: String,
    /// The exit code.
    pub(crate) code: u8,
    /// What was found in the data before giving up.
    pub(crate) findings: Vec<Finding>,
}

impl Failure {
    /// The arguments make no sense together.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: USAGE, findings: Vec::new() }
    }

    /// Something outside the data failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: FAILED, findings: Vec::new() }
    }

    /// Refused with etcdutl's own words and code.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: REFUSED, findings: Vec::new() }
    }
}

macro_rules! failure_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self {
                    message: error.to_string(),
                    code: error.exit_code(),
                    findings: error.findings().to_vec(),
                }
            }
        }
    )*};
}

failure_from!(
    AddError,
    BackupError,
    CaseError,
    ValueError,
    DiffError,
    OpenError,
    StatusError,
    SaveError,
    HashError,
    RecoverError,
    RestoreError,
    SalvageError,
    SeenError,
    TextFileError,
    KeySpaceError,
    LogFilesError,
    RepairError,
    SurgeryError,
    CompactError,
    DefragError,
    ReplaceError,
    MigrateError,
    QueryError,
    EditError,
    DeleteError,
    LoneError,
    compact::CompactError,
    ExportError,
    ExtractError,
    FoldError,
    ForceNewError,
    MemberEditError,
    VerifyError,
    SurvivorsError,
    CompareError,
    v2_migrate::MigrateError
);

/// Prints what clap has to say (help on stdout, errors on stderr) and gives the exit code.
pub(crate) fn usage(error: &ClapError) -> u8 {
    let code = u8::try_from(error.exit_code()).unwrap_or(USAGE);
    match error.print() {
        Err(io) if io.kind() != ErrorKind::BrokenPipe => {
            let failure = Failure::failed(format!("writing to standard output: {io}"));
            outcome::show_failure(&failure);
            FAILED.max(code)
        }
        _ => code,
    }
}
