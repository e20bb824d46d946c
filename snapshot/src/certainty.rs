//! Which entries of dead members' logs are certain to be committed, which may be, and which are not (law 12 of the design;
//! FORMATS R.2).
//!
//! A [`Testimony`] is what one member's files testify: its log as stretches of entries, its term, what it knows to be
//! committed, and who voted. It names no file and holds no data, so that the rules can be held against a model of raft.
//! [`judge`] hears all of them and gives a [`Judgement`].

mod case;
pub mod contents;
mod judge;
mod lost;
mod testimony;
mod tree;
mod votes;

use std::collections::BTreeSet;

use crate::force_new::traces::Trace;
pub use crate::lone::Config;
pub use judge::judge;

/// An entry's place in the history: its index, and its term where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Point {
    /// Raft index; 0 before the first entry.
    pub index: u64,
    /// Raft term; `None` where nothing says it.
    pub term: Option<u64>,
}

/// Entries of one term and of contiguous indexes that stand in a log: nothing overwrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// The first entry's index.
    pub first: u64,
    /// The last entry's index, not below [`Self::first`].
    pub last: u64,
    /// Their term.
    pub term: u64,
    /// Tells entries of equal index and term apart whose bytes differ between two testimonies, which raft never makes: 0
    /// until [`contents::mark`] has found such.
    pub mark: u32,
    /// Whether the entry it follows is known: the last of the stretch before, or for the first stretch the entry at
    /// [`Testimony::base`]. False behind a hole and behind a break in which entries may have been overwritten.
    pub follows: bool,
}

/// Where a statement that an entry is committed comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The commit of a hard state: the leader told the member so.
    Commit,
    /// The consistent index of a database: the member applied it.
    ConsistentIndex,
    /// A snapshot, by a record of the log or by a `.snap`: it is of applied entries.
    Snapshot,
}

/// An entry that a member knows to be committed, and so all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Known {
    /// Its index.
    pub index: u64,
    /// Its term; `None` where only the index is known: of a database of 3.4 whose log does not have the entry, or not
    /// for sure. Such a statement says how far the history went, not which of two entries is in it.
    pub term: Option<u64>,
    /// Who says so.
    pub source: Source,
}

/// What one member's files testify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimony {
    /// Whose files these are; `None` for a database of its own, which names nobody.
    pub member_id: Option<u64>,
    /// The highest term its files state: of the hard state, or of an entry. Below it the member no longer votes.
    pub term: u64,
    /// What its log goes on from: where it begins, or a snapshot that the leader sent. All up to there is in its database.
    pub base: Point,
    /// The entries that stand in its log, by ascending index, without overlap. Such as lie before [`Self::base`] it had before
    /// it was sent a snapshot.
    pub stretches: Vec<Stretch>,
    /// Up to this index, entries were written before a hard state that the log still has, so that [`Self::term`] is no
    /// lower than the member's term when it wrote them. It counts only where the log's end may be lost.
    pub settled_to: u64,
    /// What it knows to be committed.
    pub committed: Vec<Known>,
    /// Whether more may have stood in its log than is there now: it is broken, cut, torn, or ends before what the member
    /// itself knows to be committed. That it lacks an entry proves nothing then.
    pub may_lack_its_end: bool,
    /// Who takes part: each configuration, and the entry that made it, by ascending index. It is in force once that
    /// entry was applied. Empty where nobody knows. Those before the last two of which the member knows that they are
    /// committed may be left out.
    pub configs: Vec<(u64, Config)>,
    /// What each `--force-new-cluster` appended, of a server or of ours, ascending: from there on the log tells another history than
    /// that of the peers it left.
    pub forced: Vec<Trace>,
}

/// How sure it is that an entry is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It is: no election among any of the members can lose it.
    Certain,
    /// It may be, and a client may have been told so; or it may yet become so.
    Possible,
    /// It never was, and nobody was told that it is.
    NotCommitted,
}

/// Why an entry is what it is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Certain: this testimony (by its place) knows it to be committed.
    Known(usize, Source),
    /// Certain: a quorum of the voters holds it, or one behind it, and none of them has been in a later term.
    Quorum,
    /// Certain: this testimony's member alone votes, and commits what it has.
    LoneVoter(usize),
    /// Possible: nothing decides it.
    Undecided,
    /// Possible: something else may stand at its index by now, for what is certain goes further; but the files do not say
    /// what.
    Passed,
    /// Not committed: another entry is certain at its index.
    Conflicts,
    /// Not committed: too many voters lack it.
    Lacked,
    /// Not committed: a leader of a later term did not have it, and too many voters lack any entry of a still later leader
    /// that had.
    Superseded,
}

/// Entries of one class and one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The first entry's index.
    pub first: u64,
    /// The last entry's index.
    pub last: u64,
    /// Their term.
    pub term: u64,
    /// See [`Stretch::mark`].
    pub mark: u32,
    /// What they are.
    pub class: Class,
    /// The testimonies that hold them in their logs, by their places, ascending.
    pub holders: Vec<usize>,
    /// Why.
    pub why: Why,
}

/// How two histories show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parting {
    /// Entries of one index and term differ, or follow different ones, which one raft cluster never makes.
    SameTerm,
    /// Two entries of one index, or what follows from them, are both certain.
    BothCertain,
    /// One of the logs was given to `--force-new-cluster`, and another goes on without it.
    Forced,
}

/// Two histories under one roof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The last index up to which they may agree.
    pub after: u64,
    /// The testimonies that go on in the one way and those that go on in the other, by their places.
    pub sides: [Vec<usize>; 2],
    /// How that shows.
    pub parting: Parting,
}

/// What all testimonies together say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// One history, by ascending index: first what is certain, then what is possible on the branch that an election
    /// among these members would choose. Contiguous, but where every log that leads up to an entry begins behind others.
    pub chain: Vec<Judged>,
    /// Entries off the chain, by ascending index.
    pub branches: Vec<Judged>,
    /// The last entry that is certain, also where it is in no log but only in a database; index 0 when none is.
    pub certain_to: Point,
    /// The highest index that anybody knows to be committed. Where the chain ends before it, entries are lost.
    pub known_to: u64,
    /// Who votes at the end of the chain; empty where nobody knows.
    pub voters: BTreeSet<u64>,
    /// Those of [`Self::voters`] whose files were not given.
    pub unread: BTreeSet<u64>,
    /// Whether a quorum of the voters can be read to their ends: else acknowledged writes may be in no file given.
    pub has_quorum: bool,
    /// Histories that nobody may merge.
    pub conflicts: Vec<Conflict>,
    /// Testimonies, by their places, that lack something certain which they, or one of several of them, must have had:
    /// stale copies, or logs that lost their ends. While there are such, no lack is taken for a proof.
    pub behind: Vec<usize>,
}

impl Judgement {
    /// Whether it is known what the voters' logs end with: a quorum of them, and none that contradicts another.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.has_quorum && self.conflicts.is_empty() && self.behind.is_empty()
    }
}
