//! What is left of a cluster: several directories and files opened together, and who they are to each other.
//!
//! [`gather`] opens every path as `inspect` and `verify` do, finds out whose files they are, and has the logs judged as those of
//! one cluster ([`certainty`]). What must never be taken together is refused: a directory that was given twice, files of
//! different clusters. An earlier copy of a member is set aside for the later one. Members that no longer share one history are
//! gathered all the same, with a finding that says where they part: to look at them together is how one finds out.

mod copies;
mod kinship;
mod tell;

use std::path::PathBuf;

use bbolt::Watch;

use crate::certainty::{self, Judgement, Testimony, contents};
use crate::facts::{self, Facts, FactsError, FactsOptions, LogFacts, What};
use crate::finding::Finding;
use crate::log_files::LogFilesError;
use crate::membership::hex_id;
use crate::opened::OpenError;
use crate::verify::{is_absence, is_content, is_nothing};

pub use copies::SetAside;
pub use kinship::Belongs;

/// What a user pointed at: a data dir, a member dir, a db, a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenPath {
    /// The path.
    pub path: PathBuf,
    /// The log's directory, where etcd was given one of its own (`--wal-dir`).
    pub wal_dir: Option<PathBuf>,
}

impl From<PathBuf> for GivenPath {
    fn from(path: PathBuf) -> Self {
        Self { path, wal_dir: None }
    }
}

/// Whose files these are, by their log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The member's id.
    pub member_id: u64,
    /// Its cluster's id.
    pub cluster_id: u64,
    /// The member's name, by its own files; empty where they do not say.
    pub name: String,
}

/// One of the paths, opened.
#[derive(Debug)]
pub struct Survivor {
    /// What was given.
    pub given: GivenPath,
    /// All that its files say.
    pub facts: Facts,
    /// Whose files they are; `None` of a db without a log, which does not say.
    pub identity: Option<Identity>,
    /// What its files testify of the cluster's log; `None` where they say nothing of it.
    pub testimony: Option<Testimony>,
}

impl Survivor {
    /// What a person calls it: the member's name, else its id, else the path.
    #[must_use]
    pub fn called(&self) -> String {
        match &self.identity {
            Some(identity) if !identity.name.is_empty() => identity.name.clone(),
            Some(identity) => hex_id(identity.member_id),
            None => self.given.path.display().to_string(),
        }
    }
}

/// All of them, and what they come to.
#[derive(Debug)]
pub struct Survivors {
    /// Those that count, in the order in which they were given.
    pub all: Vec<Survivor>,
    /// The place in [`Self::all`] of each testimony that [`Self::judgement`] numbers.
    pub witnesses: Vec<usize>,
    /// Which entries are certain, which possible, which were provably never committed.
    pub judgement: Judgement,
    /// Earlier copies of members of which there is a later one.
    pub set_aside: Vec<SetAside>,
    /// What is to be known of them together. What is wrong with the files of one is in its facts.
    pub findings: Vec<Finding>,
}

impl Survivors {
    /// Whose testimony number `testimony` of [`Self::judgement`] is.
    #[must_use]
    pub fn witness(&self, testimony: usize) -> Option<&Survivor> {
        self.all.get(*self.witnesses.get(testimony)?)
    }

    /// What a person calls the survivor at this place: with its path where another one is called the same.
    #[must_use]
    pub fn name_of(&self, place: usize) -> String {
        let Some(survivor) = self.all.get(place) else { return String::new() };
        let name = survivor.called();
        if self.all.iter().filter(|other| other.called() == name).count() < 2 {
            return name;
        }
        format!("{name} ({})", survivor.given.path.display())
    }

    /// Those whose testimonies these are, as a person calls them.
    #[must_use]
    pub fn called(&self, testimonies: &[usize]) -> String {
        let places = testimonies.iter().filter_map(|at| self.witnesses.get(*at));
        places.map(|place| self.name_of(*place)).collect::<Vec<_>>().join(", ")
    }
}

/// Why they cannot be taken together, or one of them cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurvivorsError {
    /// No path was given.
    #[error("nothing was given; name the data dirs of the members that are left")]
    None,
    /// There is nothing at a path.
    #[error(transparent)]
    Facts(FactsError),
    /// What lies there is no member, and no database.
    #[error("{}: {what}; give a member's data dir, its member dir, its db, or a snapshot", path.display())]
    NotAMember {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// A db cannot be opened: it is locked, or the system refuses.
    #[error(transparent)]
    Open(OpenError),
    /// A log cannot be opened: it is locked, or the system refuses.
    #[error(transparent)]
    Log(LogFilesError),
    /// Two paths lead to the same files.
    #[error(
        "{} and {}: both lead to {}, so that one member would be counted twice; give each directory once",
        first.display(), second.display(), shared.display()
    )]
    SameTwice {
        /// The one path.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The file or directory to which both lead, by the first.
        shared: PathBuf,
    },
    /// They are of different clusters.
    #[error(
        "these are of different clusters, which have nothing to say of each other: {}. Give those of one cluster",
        kinship::in_words(belongs)
    )]
    Clusters {
        /// Who belongs where.
        belongs: Vec<Belongs>,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl SurvivorsError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::None | Self::SameTwice { .. } => 2,
            Self::Clusters { .. } => 4,
            Self::Interrupted | Self::Facts(FactsError::Interrupted) => 130,
            Self::Open(error) => error.exit_code(),
            Self::Log(error) => error.exit_code(),
            Self::Facts(_) | Self::NotAMember { .. } => 1,
        }
    }

    /// Findings that go with it: none.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// Opens what was given, in the order in which it was given, and judges it as what is left of one cluster.
///
/// `options` say how files are opened; their [`wal_dir`](crate::log_files::LogOptions::wal_dir) gives way to that of each path.
///
/// # Errors
/// [`SurvivorsError`]. What is damaged and can be opened is no error: it stays among them with the little it says.
pub fn gather(
    paths: &[GivenPath],
    options: &FactsOptions,
    watch: &dyn Watch,
) -> Result<Survivors, SurvivorsError> {
    if paths.is_empty() {
        return Err(SurvivorsError::None);
    }
    kinship::ensure_each_once(paths)?;
    let mut all = Vec::with_capacity(paths.len());
    for given in paths {
        all.push(open(given, options, watch)?);
    }
    kinship::ensure_one_cluster(&all)?;
    testify(&mut all, watch)?;
    let (all, set_aside) = copies::set_aside(all);
    let heard =
        all.iter().enumerate().filter_map(|(place, survivor)| Some((place, survivor.testimony.clone()?)));
    let (witnesses, testimonies): (Vec<usize>, Vec<Testimony>) = heard.unzip();
    let judgement = certainty::judge(&testimonies);
    let mut survivors = Survivors { all, witnesses, judgement, set_aside, findings: Vec::new() };
    survivors.findings = tell::findings(&survivors);
    Ok(survivors)
}

/// Has each say what its files testify, and holds against each other the entries that several of them have.
fn testify(all: &mut [Survivor], watch: &dyn Watch) -> Result<(), SurvivorsError> {
    let mut places = Vec::new();
    let mut testimonies = Vec::new();
    for (place, survivor) in all.iter().enumerate() {
        if let Some(testimony) = Testimony::of(&survivor.facts) {
            places.push(place);
            testimonies.push(testimony);
        }
    }
    let logs: Vec<Option<&LogFacts>> =
        places.iter().map(|place| all.get(*place).and_then(|survivor| survivor.facts.log_facts())).collect();
    contents::mark(&mut testimonies, &logs, watch)
        .map_err(|contents::Interrupted| SurvivorsError::Interrupted)?;
    for (place, testimony) in places.into_iter().zip(testimonies) {
        if let Some(survivor) = all.get_mut(place) {
            survivor.testimony = Some(testimony);
        }
    }
    Ok(())
}

fn open(given: &GivenPath, options: &FactsOptions, watch: &dyn Watch) -> Result<Survivor, SurvivorsError> {
    let mut options = options.clone();
    options.log.wal_dir.clone_from(&given.wal_dir);
    let facts = match facts::gather(&given.path, &options, watch) {
        Ok(facts) => facts,
        Err(FactsError::Interrupted) => return Err(SurvivorsError::Interrupted),
        Err(error) => return Err(SurvivorsError::Facts(error)),
    };
    if let Some(what) = no_member(&facts) {
        return Err(SurvivorsError::NotAMember { path: given.path.clone(), what });
    }
    let identity = facts.identity().map(|(member_id, cluster_id)| {
        let own = facts.members().into_iter().find(|known| known.id == member_id);
        let name = own.and_then(|known| known.best()).map(|member| member.name).unwrap_or_default();
        Identity { member_id, cluster_id, name }
    });
    // What could not be had for a reason that has nothing to do with what is in it may be had in a moment.
    match facts {
        Facts { database: Some(Err(error)), .. } if !is_content(&error) => Err(SurvivorsError::Open(error)),
        Facts { log: Some(Err(error)), .. } if !is_absence(&error) => Err(SurvivorsError::Log(error)),
        facts => Ok(Survivor { given: given.clone(), facts, identity, testimony: None }),
    }
}

/// Why `facts` are those of no member and of no database.
fn no_member(facts: &Facts) -> Option<String> {
    if let Some(what) = is_nothing(facts) {
        return Some(what);
    }
    match facts.looked.what {
        What::Segment => Some("is one segment of a log, which says little alone".to_owned()),
        What::Snap => Some("is a snapshot of the v2 store, and no database".to_owned()),
        _ => None,
    }
}
