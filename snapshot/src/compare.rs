//! `compare`: what is left of a cluster held against each other, and what of it is certain.
//!
//! [`survivors`](crate::survivors) opens the files and judges the logs. Here the members are ranked, the entries are read that are not
//! certain, and the databases are compared: down to the first revision at which they part, and the keys that differ.

mod data;
mod first;
mod held;
mod keys;
mod rank;
mod tail;

use bbolt::{Fault, Watch};

use crate::finding::{Finding, Severity};
use crate::mvcc::{DecodeError, KeySpaceError, RecordError};
use crate::survivors::Survivors;

pub use data::{Data, Group, InPart, NotCompared, Shifted, compare as compare_data};
pub use first::First;
pub use held::{Differing, Held, MOST_VALUE_BYTES, Value};
pub use keys::Keys;
pub use rank::{Standing, rank};
pub use tail::{MOST_ENTRIES, Tail, TailEntry, read as read_tail};

/// What is to be told.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// How many keys are kept of those that differ.
    pub keys: usize,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { keys: 20 }
    }
}

/// What the survivors come to.
#[derive(Debug)]
pub struct Comparison {
    /// The members, the one furthest ahead first.
    pub members: Vec<Standing>,
    /// The entries that are not certain.
    pub tail: Tail,
    /// Their databases.
    pub data: Data,
    /// What is wrong between them, those of [`Survivors::findings`] included.
    pub findings: Vec<Finding>,
}

/// Why they cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A key space that was read a moment ago cannot be read again.
    #[error(transparent)]
    KeySpace(#[from] KeySpaceError),
    /// As above, of a page.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// As above, of a record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// As above, of what a record says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Somebody wrote to the files meanwhile.
    #[error(
        "{path}: was written to while it was read; nothing that was found can be relied on. Stop what writes to it, or copy it first"
    )]
    Changed {
        /// The file or directory.
        path: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl CompareError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted | Self::KeySpace(KeySpaceError::Interrupted) => 130,
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::KeySpace(error) => error.findings(),
            _ => &[],
        }
    }
}

/// Compares `survivors`.
///
/// # Errors
/// When a file changes while it is read, or the user asked to stop. Damage is a finding.
pub fn compare(
    survivors: &Survivors,
    options: &CompareOptions,
    watch: &dyn Watch,
) -> Result<Comparison, CompareError> {
    let members = rank(survivors);
    let tail = read_tail(survivors, watch)?;
    let data = compare_data(survivors, options.keys, watch)?;
    let mut findings = survivors.findings.clone();
    findings.extend(of_data(&data, survivors));
    for survivor in &survivors.all {
        crate::verify::ensure_unchanged(&survivor.facts)
            .map_err(|_| CompareError::Changed { path: survivor.given.path.display().to_string() })?;
    }
    Ok(Comparison { members, tail, data, findings })
}

/// What the databases come to, as findings.
pub(crate) fn of_data(data: &Data, survivors: &Survivors) -> Vec<Finding> {
    let called = |place: &usize| survivors.name_of(*place);
    let mut findings = Vec::new();
    if data.groups.len() > 1 {
        let groups: Vec<String> = data
            .groups
            .iter()
            .map(|group| group.survivors.iter().map(called).collect::<Vec<_>>().join(", "))
            .collect();
        let begins = match &data.first {
            Some(first) if first.may_be_earlier => format!(
                "the first difference that is left to see is of revision {}, in what was compacted since",
                first.revision
            ),
            Some(first) => format!("they part at revision {}", first.revision),
            None => "where they part cannot be told".to_owned(),
        };
        let message = format!(
            "at revision {} the databases do not hold the same: {}; {begins}; {} key(s) have other values, {} the same value at another \
             revision",
            data.compared_to.unwrap_or_default(),
            groups.join(" against "),
            data.keys.values,
            data.keys.rewritten
        );
        findings.push(Finding::new(DIFFERS, Severity::Error, message));
    }
    for part in &data.in_part {
        if let Some(first) = &part.first {
            let message = format!(
                "{} ends at revision {}, which {} has compacted away; of what is left of it there, revision {} is not the same",
                called(&part.survivor),
                part.revision,
                called(&part.with),
                first.revision
            );
            findings.push(Finding::new(DIFFERS, Severity::Error, message));
        }
    }
    for Shifted { one, other } in &data.shifted {
        let message = format!(
            "the database of {} is at revision {} after entry {}, that of {} at revision {} after entry {}: they cannot have applied \
             the same entries, each once",
            called(&one.0),
            one.2,
            one.1,
            called(&other.0),
            other.2,
            other.1
        );
        findings.push(Finding::new(DIFFERS, Severity::Error, message));
    }
    findings
}

const DIFFERS: &str = "ETCD-DATA-DIFFERS";
