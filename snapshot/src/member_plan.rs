//! Several members' directories held against each other: do they agree on who belongs to their cluster, and what has to be done to each
//! to give its members other addresses (law 11 of the design; FORMATS I.4).
//!
//! An address lies in every member's own files, and a server asks nobody else for it before it has reached somebody. So an edit of
//! addresses is one only when all members got it: [`look`] opens the directories, [`Together::findings`] says where they disagree,
//! [`Together::moves`] what a new `--initial-cluster` changes for whom.

use std::collections::{BTreeMap, BTreeSet};

use bbolt::Watch;

use crate::facts::{self, Facts, FactsError, FactsOptions};
use crate::finding::{Finding, Severity};
use crate::log_tail::Identity;
use crate::members::{self, MembersError, Sources};
use crate::membership::{InitialCluster, Member, hex_id};
use crate::survivors::GivenPath;

/// One member's directory.
#[derive(Debug)]
pub struct MemberDir {
    /// What was given.
    pub given: GivenPath,
    /// What it says of the members, and whose it is.
    pub sources: Sources,
    facts: Facts,
}

impl MemberDir {
    /// Whose directory it is, in its own words: the name, else the id.
    #[must_use]
    pub fn called(&self) -> String {
        let id = self.sources.identity.member_id;
        match self.sources.membership.members.get(&id) {
            Some(member) if !member.name.is_empty() => member.name.clone(),
            _ => hex_id(id),
        }
    }

    /// Whether its member is the only one that votes.
    #[must_use]
    pub fn decides_alone(&self) -> bool {
        let mut voters = self.sources.membership.members.values().filter(|member| !member.is_learner);
        voters.next().is_some_and(|voter| voter.id == self.sources.identity.member_id)
            && voters.next().is_none()
    }

    /// Whether an entry behind `index` changed the members that it knows: a directory that stands at `index` gets it from the log.
    fn changed_behind(&self, index: u64) -> bool {
        members::changes_between(&self.facts, index, self.sources.index)
    }
}

/// The directories that were given, opened.
#[derive(Debug)]
pub struct Together {
    /// In the order in which they were given.
    pub dirs: Vec<MemberDir>,
}

/// Another address of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Its id, which stays.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its peer URLs by the first directory.
    pub from: Vec<String>,
    /// Its peer URLs by what was asked for.
    pub to: Vec<String>,
}

/// Why nothing can be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberPlanError {
    /// There is nothing at a path, or the user asked to stop.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// Nothing says who the members are.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// A database of its own, which is nobody's.
    #[error("{path}: there is no log that says whose directory this is; the data dir of a member is needed")]
    NoMember {
        /// What was given.
        path: String,
    },
    /// A name that is no member's.
    #[error("--initial-cluster names {name:?}, and no member is called so; the members are {known}")]
    UnknownName {
        /// The name.
        name: String,
        /// The names of the members, or ids where they have none.
        known: String,
    },
    /// A member that is not named.
    #[error(
        "--initial-cluster does not name {missing}, which belongs to the cluster: give all members, also those that stay where they are"
    )]
    Missing {
        /// Its name, or its id.
        missing: String,
    },
    /// Two members of one name.
    #[error("two members are called {name:?} ({} and {}): by name nobody can say which is meant", hex_id(*first), hex_id(*second))]
    SameName {
        /// The name.
        name: String,
        /// One of them.
        first: u64,
        /// The other.
        second: u64,
    },
}

impl MemberPlanError {
    /// The process's exit code for it.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Facts(FactsError::Interrupted) => 130,
            _ => 1,
        }
    }
}

/// Opens the directories.
///
/// # Errors
/// [`MemberPlanError`]: one of them is no member's, or does not say who the members are.
pub fn look(
    given: &[GivenPath],
    options: &FactsOptions,
    watch: &dyn Watch,
) -> Result<Together, MemberPlanError> {
    let mut dirs = Vec::with_capacity(given.len());
    for given in given {
        let mut options = options.clone();
        options.log.wal_dir.clone_from(&given.wal_dir);
        let facts = facts::gather(&given.path, &options, watch)?;
        let sources = members::sources(&facts)?;
        if sources.identity == Identity::default() {
            return Err(MemberPlanError::NoMember { path: given.path.display().to_string() });
        }
        dirs.push(MemberDir { given: given.clone(), sources, facts });
    }
    Ok(Together { dirs })
}

impl Together {
    /// Members, by the directory that is furthest, of which no directory was given.
    #[must_use]
    pub fn without_dir(&self) -> Vec<&Member> {
        let given: BTreeSet<u64> = self.dirs.iter().map(|dir| dir.sources.identity.member_id).collect();
        let furthest = self.dirs.iter().max_by_key(|dir| dir.sources.index);
        let members = furthest.into_iter().flat_map(|dir| dir.sources.membership.members.values());
        members.filter(|member| !given.contains(&member.id)).collect()
    }

    /// Where the directories disagree, and what is wrong with each.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for dir in &self.dirs {
            let path = dir.given.path.display().to_string();
            let about = |finding: &Finding| {
                // What could not be read is told with its path already.
                let named = finding.message.starts_with(&path);
                let message =
                    if named { finding.message.clone() } else { format!("{path}: {}", finding.message) };
                Finding { message, ..finding.clone() }
            };
            findings.extend(dir.sources.findings.iter().map(about));
        }
        let mut differ = |message: String| {
            findings.push(Finding::new("ETCD-MEMBERS-DIFFER", Severity::Error, message));
        };
        let mut seen: BTreeMap<u64, &MemberDir> = BTreeMap::new();
        for dir in &self.dirs {
            let Identity { member_id, .. } = dir.sources.identity;
            let path = dir.given.path.display();
            if let Some(first) = seen.insert(member_id, dir) {
                differ(format!(
                    "{} and {path} are both of member {}: only one of them may ever be started",
                    first.given.path.display(),
                    hex_id(member_id)
                ));
            }
            if !dir.sources.membership.members.contains_key(&member_id) {
                differ(format!(
                    "{path} is of member {}, which does not belong to the cluster by its own files",
                    hex_id(member_id)
                ));
            }
        }
        let Some((first, others)) = self.dirs.split_first() else { return findings };
        for other in others {
            for message in differences(first, other) {
                differ(message);
            }
        }
        findings
    }

    /// The different lists of members that the directories have, each with the places of those that have it: most first.
    #[must_use]
    pub fn views(&self) -> Vec<(Vec<&Member>, Vec<usize>)> {
        let mut views: Vec<(Vec<&Member>, Vec<usize>)> = Vec::new();
        for (place, dir) in self.dirs.iter().enumerate() {
            let members: Vec<&Member> = dir.sources.membership.members.values().collect();
            let same = |known: &[&Member]| {
                known.len() == members.len()
                    && known.iter().zip(&members).all(|(a, b)| difference(a, b).is_none())
            };
            match views.iter_mut().find(|(known, _)| same(known)) {
                Some((_, places)) => places.push(place),
                None => views.push((members, vec![place])),
            }
        }
        views.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
        views
    }

    /// Which members `cluster` gives other addresses, in the order of their ids.
    ///
    /// # Errors
    /// When a name is no member's, or a member is not named.
    pub fn moves(&self, cluster: &InitialCluster) -> Result<Vec<Move>, MemberPlanError> {
        let members: BTreeMap<u64, &Member> = self
            .dirs
            .first()
            .into_iter()
            .flat_map(|dir| &dir.sources.membership.members)
            .map(|(id, m)| (*id, m))
            .collect();
        let called = |member: &Member| {
            if member.name.is_empty() { hex_id(member.id) } else { member.name.clone() }
        };
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for member in members.values().filter(|member| !member.name.is_empty()) {
            if let Some(first) = by_name.insert(&member.name, member.id) {
                return Err(MemberPlanError::SameName {
                    name: member.name.clone(),
                    first,
                    second: member.id,
                });
            }
        }
        for name in cluster.names() {
            if !by_name.contains_key(name) {
                let known = members.values().map(|member| called(member)).collect::<Vec<_>>().join(", ");
                return Err(MemberPlanError::UnknownName { name: name.to_owned(), known });
            }
        }
        let mut moves = Vec::new();
        for member in members.values() {
            let Ok(urls) = cluster.urls(&member.name) else {
                return Err(MemberPlanError::Missing { missing: called(member) });
            };
            let (mut from, to) = (member.peer_urls.clone(), urls.as_slice().to_vec());
            from.sort();
            if from != to || self.dirs.iter().any(|dir| !has(dir, member.id, &to)) {
                moves.push(Move { id: member.id, name: member.name.clone(), from, to });
            }
        }
        Ok(moves)
    }
}

/// Whether the directory gives this member exactly these peer URLs already.
fn has(dir: &MemberDir, id: u64, urls: &[String]) -> bool {
    dir.sources.membership.members.get(&id).is_some_and(|member| {
        let mut own = member.peer_urls.clone();
        own.sort();
        own == urls
    })
}

/// In what two directories disagree, beside what the one that is behind gets from the log of the other.
fn differences(one: &MemberDir, other: &MemberDir) -> Vec<String> {
    let (this, that) = (one.given.path.display(), other.given.path.display());
    let ids = |dir: &MemberDir| dir.sources.identity.cluster_id;
    if ids(one) != ids(other) {
        return vec![format!(
            "{this} is of cluster {}, {that} of cluster {}: their members refuse to talk to each other",
            hex_id(ids(one)),
            hex_id(ids(other))
        )];
    }
    let (index, later) = (one.sources.index, other.sources.index);
    if one.changed_behind(later) || other.changed_behind(index) {
        return Vec::new();
    }
    let (of_one, of_other) = (&one.sources.membership.members, &other.sources.membership.members);
    let all: BTreeSet<&u64> = of_one.keys().chain(of_other.keys()).collect();
    let mut found = Vec::new();
    for id in all {
        match (of_one.get(id), of_other.get(id)) {
            (Some(a), Some(b)) => {
                if let Some(what) = difference(a, b) {
                    found.push(format!(
                        "member {}: {this} says {}, {that} says {}",
                        hex_id(*id),
                        what.0,
                        what.1
                    ));
                }
            }
            (Some(_), None) => {
                found.push(format!(
                    "member {} belongs to the cluster by {this}, and not by {that}",
                    hex_id(*id)
                ));
            }
            (None, _) => {
                found.push(format!(
                    "member {} belongs to the cluster by {that}, and not by {this}",
                    hex_id(*id)
                ));
            }
        }
    }
    let versions = (&one.sources.membership.version, &other.sources.membership.version);
    if let (Some(a), Some(b)) = versions
        && a != b
    {
        found.push(format!("the cluster's version is {a} by {this}, and {b} by {that}"));
    }
    found
}

/// What each of two accounts of one member says where they differ.
fn difference(one: &Member, other: &Member) -> Option<(String, String)> {
    let sorted = |member: &Member| {
        let mut urls = member.peer_urls.clone();
        urls.sort();
        urls.join(",")
    };
    if sorted(one) != sorted(other) {
        return Some((sorted(one), sorted(other)));
    }
    let role = |member: &Member| if member.is_learner { "a learner" } else { "a voter" }.to_owned();
    (one.is_learner != other.is_learner).then(|| (role(one), role(other)))
}
