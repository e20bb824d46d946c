//! `verify`: every check there is, of one path, and what a server would do with it.
//!
//! [`facts`](crate::facts) gathers what lies there, `rows` reads the small buckets as a server does when it starts, `agree`
//! holds db, log and snapshots against each other, `predict` says how a start goes, and [`verdict`] what that means for a
//! person. The big bucket is read once, in the pass that proves the structure.

mod agree;
mod predict;
mod rows;
mod verdict;

use std::path::Path;

use bbolt::{FileSource, OpenError as BboltError, Source, Unmetered, Watch};

use crate::auth::Auth;
use crate::facts::{Database, DatabaseError, Facts, FactsError, FactsOptions, What, gather};
use crate::finding::{Finding, Severity};
use crate::input::InputError;
use crate::integrity::{self, HashingError, Integrity};
use crate::lease::{Attached, Leases};
use crate::log_files::LogFilesError;
use crate::mvcc::{Index, IndexOptions, KeySpaceError};
use crate::opened::OpenError;
use crate::schema::META;
use crate::structure;

pub use predict::{Expected, Prediction};
pub use verdict::{Next, Outlook, Verdict, verdict};

/// One thing that was to be checked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// What it is.
    pub what: &'static str,
    /// Whether it was.
    pub done: bool,
    /// How much there was of it, or why it was not.
    pub detail: String,
}

/// What was found at one path.
#[derive(Debug)]
pub struct Report {
    /// What lies there.
    pub facts: Facts,
    /// What was checked, and what was not.
    pub checked: Vec<Checked>,
    /// What is wrong: with the db, with the log, between them.
    pub findings: Vec<Finding>,
    /// How many more findings about the log there are than are listed.
    pub more_findings: u64,
    /// What a server does with it, and what to do.
    pub verdict: Verdict,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is nothing at the path, or the user asked to stop.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The db cannot be opened: it is locked, or the system refuses.
    #[error(transparent)]
    Open(OpenError),
    /// The log cannot be opened, or somebody wrote to it.
    #[error(transparent)]
    Log(LogFilesError),
    /// Somebody wrote to the db.
    #[error(
        "{path}: was written to while it was read; nothing that was found can be relied on. Stop what writes to it, or copy it first"
    )]
    Changed {
        /// The db.
        path: String,
    },
    /// What lies there is none of etcd's.
    #[error(
        "{path}: {what}; verify takes a data dir, a member dir, a log's directory, a segment, a db, a snapshot or a .snap file"
    )]
    Nothing {
        /// The path.
        path: String,
        /// What it is.
        what: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl VerifyError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Facts(FactsError::Interrupted) | Self::Interrupted => 130,
            Self::Open(error) => error.exit_code(),
            Self::Log(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it: none.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// Verifies what lies at `path`.
///
/// # Errors
/// When there is nothing of etcd's there, it is locked, somebody writes to it, or the user asked to stop. Damage is a finding.
pub fn verify(path: &Path, options: &FactsOptions, watch: &dyn Watch) -> Result<Report, VerifyError> {
    verify_hashed(path, options, &|source| integrity::verify(source, &Unmetered(watch)), watch)
}

/// How the hash of a db is held against its trailer.
pub type Hash<'h> = dyn Fn(&FileSource) -> Result<integrity::Verdict, HashingError> + Sync + 'h;

/// The same for whoever wants more of the db's bytes than [`verify`] does, and has them read once: `hash` is called for a db that
/// opens, beside the pass over its pairs.
///
/// # Errors
/// As [`verify`].
pub fn verify_hashed(
    path: &Path,
    options: &FactsOptions,
    hash: &Hash<'_>,
    watch: &dyn Watch,
) -> Result<Report, VerifyError> {
    let mut facts = gather(path, options, watch)?;
    if let Some(what) = is_nothing(&facts) {
        return Err(VerifyError::Nothing { path: path.display().to_string(), what });
    }
    facts.database = match facts.database {
        Some(Err(error)) if !is_content(&error) => return Err(VerifyError::Open(error)),
        database => database,
    };
    facts.log = match facts.log {
        Some(Err(error)) if !is_absence(&error) => return Err(VerifyError::Log(error)),
        log => log,
    };
    let mut checks = Checks::default();
    let structure = checks.database(&facts, hash, watch)?;
    checks.log(&facts);
    checks.agreements(&facts);
    let verdict = verdict(&facts, structure.as_deref());
    ensure_unchanged(&facts)?;
    let more_findings = facts.log_facts().map_or(0, |log| log.report.more_findings);
    Ok(Report { facts, checked: checks.checked, findings: checks.findings, more_findings, verdict })
}

/// What `facts` are of, when that is none of etcd's.
pub(crate) fn is_nothing(facts: &Facts) -> Option<String> {
    let what = match facts.looked.what {
        What::Other => "is none of etcd's files".to_owned(),
        What::Several => format!(
            "is a directory with several of etcd's in it ({} of them, such as {}); give each of them",
            facts.looked.within.len(),
            facts.looked.within.first().map_or_else(String::new, |path| path.display().to_string())
        ),
        _ => return None,
    };
    Some(match &facts.looked.seems {
        Some(seems) => format!("{what}, but {seems}"),
        None => what,
    })
}

/// Whether the file could be had, and only what is in it is wrong.
pub(crate) const fn is_content(error: &OpenError) -> bool {
    matches!(error, OpenError::Locate(_) | OpenError::Input(InputError::Empty(_)))
}

/// Whether it is just that there is no log.
pub(crate) const fn is_absence(error: &LogFilesError) -> bool {
    matches!(error, LogFilesError::NoLog { .. } | LogFilesError::Locate(_))
}

/// Makes sure that nobody wrote to what `facts` are of.
pub(crate) fn ensure_unchanged(facts: &Facts) -> Result<(), VerifyError> {
    if let Some(Ok(database)) = &facts.database
        && database.input.ensure_not_written_to().is_err()
    {
        return Err(VerifyError::Changed { path: database.input.db_path().display().to_string() });
    }
    match facts.log_facts() {
        Some(log) => log.files.ensure_unchanged().map_err(VerifyError::Log),
        None => Ok(()),
    }
}

/// What was looked at so far, and what came of it.
#[derive(Default)]
struct Checks {
    checked: Vec<Checked>,
    findings: Vec<Finding>,
}

impl Checks {
    fn done(&mut self, what: &'static str, detail: impl Into<String>) {
        self.checked.push(Checked { what, done: true, detail: detail.into() });
    }

    fn not(&mut self, what: &'static str, why: impl Into<String>) {
        self.checked.push(Checked { what, done: false, detail: why.into() });
    }

    /// The database: its hash, its structure, its key space, its rows. What is wrong with its structure is given back; `None`
    /// without a database.
    fn database(
        &mut self,
        facts: &Facts,
        hash: &Hash<'_>,
        watch: &dyn Watch,
    ) -> Result<Option<Vec<Finding>>, VerifyError> {
        let Some(database) = &facts.database else {
            self.not(STRUCTURE, "there is no database");
            return Ok(None);
        };
        let begin = self.findings.len();
        match database {
            Err(error) => {
                if let OpenError::Input(InputError::Empty(_)) = error {
                    self.findings.push(Finding::new(
                        "BBOLT-META-MISSING",
                        Severity::Error,
                        error.to_string(),
                    ));
                }
                self.not(STRUCTURE, error.to_string());
            }
            Ok(database) => self.opened(database, hash, watch)?,
        }
        let found = self.findings.get(begin..).unwrap_or_default();
        Ok(Some(found.to_vec()))
    }

    fn opened(&mut self, database: &Database, hash: &Hash<'_>, watch: &dyn Watch) -> Result<(), VerifyError> {
        let source = database.input.source();
        let db = match database.input.db() {
            Ok(db) => db,
            Err(error) => {
                self.findings.extend(unopened(&error));
                self.not(STRUCTURE, error.to_string());
                self.not(KEYS, "the database does not open");
                self.not(ROWS, "the database does not open");
                return Ok(());
            }
        };
        self.findings.extend(integrity::length_finding(db.source().len_bytes()));
        let (hash, index) =
            rayon::join(|| hash(source), || Index::build(&db, &IndexOptions::default(), watch));
        match hash {
            Ok(verdict) => match verdict.integrity {
                Integrity::Absent => {
                    self.not(HASH, "the file has none: it is no snapshot that a server sent");
                }
                _ => {
                    self.findings.extend(verdict.finding());
                    self.done(HASH, "SHA-256 over the whole image");
                }
            },
            Err(HashingError::Interrupted) => return Err(VerifyError::Interrupted),
            Err(HashingError::Source(error)) => self.not(HASH, error.to_string()),
        }
        let pages = format!("{} pages of {} bytes", db.highest_water_mark(), db.page_size());
        match index {
            Ok(index) => {
                self.done(STRUCTURE, pages);
                self.done(
                    KEYS,
                    format!(
                        "{} of {}",
                        count(index.revision_count(), "record"),
                        count(index.key_count() as u64, "key")
                    ),
                );
                self.findings.extend(index.findings().iter().cloned());
                self.leases(&index, watch)?;
            }
            Err(KeySpaceError::Interrupted) => return Err(VerifyError::Interrupted),
            Err(KeySpaceError::Damaged { findings }) => {
                self.done(STRUCTURE, pages);
                self.not(KEYS, "the structure is damaged");
                self.findings.extend(findings);
            }
            Err(KeySpaceError::Records { findings }) => {
                self.done(STRUCTURE, pages);
                self.done(
                    KEYS,
                    "records; keys and leases were not held against each other, since some records are none",
                );
                self.findings.extend(findings);
            }
            Err(error) => {
                self.not(STRUCTURE, error.to_string());
                self.not(KEYS, error.to_string());
            }
        }
        self.rows(database);
        Ok(())
    }

    /// Keys on leases that are not there.
    fn leases<S: Source>(&mut self, index: &Index<'_, S>, watch: &dyn Watch) -> Result<(), VerifyError> {
        let unmetered = Unmetered(watch);
        let attached = match Attached::at(index, index.store().current_revision, &unmetered) {
            Ok(attached) => attached,
            Err(KeySpaceError::Interrupted) => return Err(VerifyError::Interrupted),
            Err(error) => {
                self.not(LEASES, error.to_string());
                return Ok(());
            }
        };
        match Leases::read(index.db()) {
            Ok(leases) => match leases.gone(index, &attached) {
                Ok(gone) => {
                    self.findings.extend(gone);
                    self.done(LEASES, count(leases.len() as u64, "lease"));
                }
                Err(error) => self.not(LEASES, error.to_string()),
            },
            Err(fault) => self.findings.push(structure::of_fault(&fault)),
        }
        Ok(())
    }

    /// The small buckets, row by row.
    fn rows(&mut self, database: &Database) {
        let facts = match &database.facts {
            Ok(facts) => facts,
            Err(DatabaseError::Fault(fault)) => {
                self.not(ROWS, fault.to_string());
                return;
            }
            Err(DatabaseError::Open(error)) => {
                self.not(ROWS, error.to_string());
                return;
            }
        };
        let Ok(db) = database.input.db() else { return };
        let looked = rows::look(&db).and_then(|rows| Ok((rows, Leases::read(&db)?, Auth::read(&db)?)));
        match looked {
            Ok((rows, leases, auth)) => {
                // What the schema says of rows in sum, the others say one by one.
                let of_schema = facts.schema.findings.iter().filter(|finding| finding.code != rows::ROW);
                self.findings.extend(of_schema.cloned());
                self.findings.extend(leases.findings);
                self.findings.extend(auth.findings);
                self.findings.extend(rows.findings);
                if !facts.schema.buckets.iter().any(|name| name == META) {
                    let message = "there is no bucket meta: this is a bbolt database, but hardly one of etcd";
                    self.findings.push(Finding::new("ETCD-NO-BUCKET", Severity::Warning, message));
                }
                self.done(ROWS, format!("{} buckets", facts.schema.buckets.len()));
            }
            Err(fault) => {
                self.not(ROWS, fault.to_string());
                let known = self.findings.iter().any(|finding| finding.code == fault.code());
                if !known {
                    self.findings.push(structure::of_fault(&fault));
                }
            }
        }
    }

    fn log(&mut self, facts: &Facts) {
        match &facts.log {
            Some(Ok(log)) => {
                let report = &log.report;
                let segments = report.log.segments.len();
                self.done(
                    LOG,
                    format!(
                        "{} in {}",
                        count(report.log.records(), "record"),
                        count(segments as u64, "segment")
                    ),
                );
                self.findings.extend(report.findings.iter().map(|found| found.finding.clone()));
            }
            Some(Err(error)) => self.not(LOG, error.to_string()),
            None => self.not(LOG, "there is none here"),
        }
        let snaps = facts.snaps();
        if snaps.is_empty() {
            self.not(SNAPS, "there are none here");
            return;
        }
        if facts.log_facts().is_none_or(|log| log.files.snap_dir().is_none()) {
            // With a log, its report has them.
            for file in snaps {
                self.findings.extend(crate::snap_files::describe(file, bbolt::Io::Mmap).findings);
            }
        }
        self.done(SNAPS, count(snaps.len() as u64, "file"));
    }

    fn agreements(&mut self, facts: &Facts) {
        if matches!(facts.looked.what, What::DataDir | What::MemberDir)
            && facts.database.is_some()
            && facts.log_facts().is_none()
        {
            let message = "there is a database and no log beside it: a server takes the member for a new one, and founds a \
                           cluster over what is in the db. If etcd was started with --wal-dir, give that directory";
            self.findings.push(Finding::new("WAL-NO-SEGMENTS", Severity::Error, message));
        }
        let agreed = agree::hold(facts);
        self.findings.extend(agreed.findings);
        self.checked.extend(agreed.checked);
    }
}

/// How many there are, in words.
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

const HASH: &str = "integrity hash";
const STRUCTURE: &str = "structure of the db";
const KEYS: &str = "key space";
const LEASES: &str = "keys and leases";
const ROWS: &str = "small buckets";
const LOG: &str = "log";
const SNAPS: &str = "files beside the db";

/// Why a file is no database, as findings.
fn unopened(error: &BboltError) -> Vec<Finding> {
    let one = |code, message: String| Finding::new(code, Severity::Error, message);
    match error {
        BboltError::NoMeta { meta0, meta1 } => vec![
            one(meta0.code(), format!("page 0 is no valid meta: {meta0}; the file does not open")),
            one(meta1.code(), format!("page 1 is no valid meta: {meta1}; the file does not open")),
        ],
        BboltError::BigEndian => vec![one("BBOLT-BIG-ENDIAN", error.to_string())],
        BboltError::TooSmall { .. } => vec![one("BBOLT-META-MISSING", error.to_string())],
        other => vec![one("BBOLT-META-UNREADABLE", other.to_string())],
    }
}
