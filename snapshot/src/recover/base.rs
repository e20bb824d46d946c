//! The db to begin with: which there are, which of them the logs lead on from, and in what order they are tried.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bbolt::Watch;

use super::line::{self, Line};
use super::{FoldError, Point, RecoverError, RecoverOptions, RestoreError, Unfit};
use crate::facts::DatabaseFacts;
use crate::opened::{self, InputOptions, Opened};
use crate::replay::range::{Bound, RangeError};
use crate::save::SaveError;
use crate::snap_files::SnapKind;
use crate::survivors::{Survivor, Survivors, SurvivorsError};

/// A db that can be opened.
pub(super) struct Candidate<'s> {
    /// Its file.
    pub(super) path: PathBuf,
    /// What was given, in which it lies.
    given: PathBuf,
    /// The survivor's place; of an earlier copy, which was set aside, that of the later one.
    survivor: usize,
    source: Source<'s>,
    /// The last entry in it.
    pub(super) index: u64,
    /// That entry's term, where it says.
    pub(super) term: Option<u64>,
    /// Its revision.
    pub(super) revision: i64,
}

enum Source<'s> {
    Given(&'s Opened),
    /// One that a leader had sent, and that waits for its installation.
    Received(Box<Opened>),
}

/// Where a db stands to the entries of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// They lead on from it to their end, or end before it.
    On,
    /// They do not: entries are missing before this one.
    Gap(u64),
    /// Its last entry is of another term than theirs of that index.
    Off { own: u64, theirs: u64 },
}

impl Candidate<'_> {
    pub(super) fn input(&self) -> &Opened {
        match &self.source {
            Source::Given(input) => input,
            Source::Received(input) => input,
        }
    }

    pub(super) fn point(&self) -> Point {
        Point { revision: self.revision, index: self.index, term: self.term.unwrap_or_default() }
    }
}

/// The dbs among `survivors`, and those that cannot be opened.
pub(super) fn candidates<'s>(
    survivors: &'s Survivors,
    options: &InputOptions,
    watch: &dyn Watch,
) -> Result<(Vec<Candidate<'s>>, Vec<Unfit>), RecoverError> {
    let (mut found, mut unfit) = (Vec::new(), Vec::new());
    let counted = survivors.all.iter().enumerate().map(|(place, survivor)| (survivor, place));
    let older = survivors.set_aside.iter().map(|aside| (&aside.survivor, aside.newer));
    for (survivor, place) in counted.chain(older) {
        of_member(survivor, place, &mut found, &mut unfit);
        for snap in survivor.facts.snaps() {
            let SnapKind::Database { .. } = snap.kind() else { continue };
            match received(snap.path(), options, watch) {
                Ok((input, facts)) => {
                    found.push(candidate(survivor, place, Source::Received(Box::new(input)), &facts));
                }
                Err(None) => return Err(SurvivorsError::Interrupted.into()),
                Err(Some(why)) => unfit.push(Unfit { path: snap.path().to_owned(), why }),
            }
        }
    }
    Ok((found, unfit))
}

fn of_member<'s>(
    survivor: &'s Survivor,
    place: usize,
    found: &mut Vec<Candidate<'s>>,
    unfit: &mut Vec<Unfit>,
) {
    let Some(database) = &survivor.facts.database else { return };
    let path = || survivor.facts.looked.db.clone().unwrap_or_else(|| survivor.given.path.clone());
    match database {
        Ok(database) => match &database.facts {
            Ok(facts) => found.push(candidate(survivor, place, Source::Given(&database.input), facts)),
            Err(error) => unfit.push(Unfit { path: path(), why: error.to_string() }),
        },
        Err(error) => unfit.push(Unfit { path: path(), why: error.to_string() }),
    }
}

fn candidate<'s>(
    survivor: &'s Survivor,
    place: usize,
    source: Source<'s>,
    facts: &DatabaseFacts,
) -> Candidate<'s> {
    let mut candidate = Candidate {
        path: PathBuf::new(),
        given: survivor.given.path.clone(),
        survivor: place,
        source,
        index: facts.schema.consistent_index,
        term: facts.schema.term.filter(|term| *term > 0),
        revision: facts.revision(),
    };
    candidate.path = candidate.input().db_path().to_owned();
    candidate
}

/// The db at `path`; `None` in place of the reason when the user asked to stop.
fn received(
    path: &Path,
    options: &InputOptions,
    watch: &dyn Watch,
) -> Result<(Opened, DatabaseFacts), Option<String>> {
    let input = opened::open(path, options, watch).map_err(|error| match error.exit_code() {
        130 => None,
        _ => Some(error.to_string()),
    })?;
    let facts = match input.db() {
        Ok(db) => DatabaseFacts::read(&db).map_err(|error| Some(error.to_string()))?,
        Err(error) => return Err(Some(error.to_string())),
    };
    Ok((input, facts))
}

/// Those of `candidates` that `base` names; without it those of the survivors in `trusted`. `unfit` are the dbs that cannot be
/// opened.
pub(super) fn of<'s>(
    mut candidates: Vec<Candidate<'s>>,
    survivors: &Survivors,
    base: Option<&Path>,
    trusted: &BTreeSet<usize>,
    unfit: &[Unfit],
) -> Result<Vec<Candidate<'s>>, RecoverError> {
    match base {
        Some(base) => {
            candidates.retain(|candidate| is_named(&candidate.given, &candidate.path, base));
            if candidates.is_empty() {
                return Err(no_such_base(survivors, base, unfit));
            }
        }
        None => {
            candidates.retain(|candidate| trusted.contains(&candidate.survivor));
        }
    }
    Ok(candidates)
}

/// The `candidates` in the order in which they are tried: those first from which the logs lead on furthest, and of these the
/// furthest. What cannot be used at all joins `unfit`.
pub(super) fn in_order<'s>(
    mut candidates: Vec<Candidate<'s>>,
    line: &Line<'_>,
    options: &RecoverOptions,
    unfit: &mut Vec<Unfit>,
) -> Result<Vec<Candidate<'s>>, RecoverError> {
    candidates.retain(|candidate| match line.stand(candidate) {
        Stand::Off { own, theirs } => {
            let why = format!(
                "its last entry, {}, is of term {own}, and that of the logs is of term {theirs}: it tells another history",
                candidate.index
            );
            unfit.push(Unfit { path: candidate.path.clone(), why });
            false
        }
        _ => true,
    });
    // A revision or an entry that was asked for has to be ahead of the db.
    let earliest = candidates.iter().map(|candidate| candidate.index).min();
    if let (Some(index), Some(after)) = (options.fold.to_index, earliest) {
        if index < after {
            let path = candidates.first().map(|candidate| candidate.path.display().to_string());
            return Err(RangeError::TooEarly { path: path.unwrap_or_default(), index, after }.into());
        }
        candidates.retain(|candidate| candidate.index <= index);
        // It has to be within reach, too.
        let furthest = candidates.iter().max_by_key(|candidate| line.limit(candidate.index, options));
        if let Some(furthest) = furthest {
            let limit = line.limit(furthest.index, options);
            if index > limit {
                let bound = if options.certain_only { Bound::Certain } else { Bound::EndOfLogs };
                let path = furthest.path.display().to_string();
                return Err(RangeError::TooLate { path, index, limit, bound }.into());
            }
        }
        candidates.retain(|candidate| line.limit(candidate.index, options) >= index);
    }
    if let Some(revision) = options.fold.to_revision
        && candidates.iter().any(|candidate| candidate.revision <= revision)
    {
        candidates.retain(|candidate| candidate.revision <= revision);
    }
    candidates.sort_by_key(|candidate| {
        let is_received = matches!(candidate.source, Source::Received(_));
        let furthest = (line.reached(candidate.index), candidate.index, candidate.revision);
        (std::cmp::Reverse(furthest), is_received)
    });
    Ok(candidates)
}

/// Whether `base` names the db at `path`, which lies in what was `given`.
fn is_named(given: &Path, path: &Path, base: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    let base = real(base);
    base.is_some() && [real(given), real(path)].contains(&base)
}

/// Why there is no db to begin with where `base` says.
fn no_such_base(survivors: &Survivors, base: &Path, unfit: &[Unfit]) -> RecoverError {
    let older = survivors.set_aside.iter().map(|aside| &aside.survivor);
    let mut found = Vec::new();
    let mut is_given = false;
    for survivor in survivors.all.iter().chain(older) {
        let given = &survivor.given.path;
        is_given |= is_named(given, given, base);
        let is_in_it = |path: &Path| {
            let looked = &survivor.facts.looked;
            looked.db.as_deref() == Some(path)
                || survivor.facts.snaps().iter().any(|snap| snap.path() == path)
                || path == given
        };
        let own = unfit.iter().filter(|unfit| is_in_it(&unfit.path) && is_named(given, &unfit.path, base));
        found.extend(own.cloned());
    }
    if found.is_empty() && !is_given {
        return RecoverError::BaseNotGiven(base.to_owned());
    }
    if found.is_empty() {
        found.push(Unfit { path: base.to_owned(), why: "has no database".to_owned() });
    }
    RecoverError::NoBase { unfit: found, from_first: line::from_first(survivors) }
}

/// Why the db at `path` cannot be used, without the path that messages begin with.
pub(super) fn why(error: &RestoreError, candidate: &Candidate<'_>) -> String {
    let text = error.to_string();
    let mut names = [candidate.input().path(), &candidate.path].into_iter();
    let without = names.find_map(|path| text.strip_prefix(&format!("{}: ", path.display())));
    without.map_or_else(|| text.clone(), str::to_owned)
}

/// Whether the db is to blame, so that another may do.
pub(super) fn is_of_the_base(error: &RestoreError) -> bool {
    match error {
        RestoreError::Db { .. }
        | RestoreError::Damaged { .. }
        | RestoreError::HashMismatch { .. }
        | RestoreError::Unreadable { .. }
        | RestoreError::Source { .. } => true,
        RestoreError::Examine(error) => error.exit_code() != 130,
        RestoreError::Fold(FoldError::Replay { source, .. }) => source.exit_code() != 130,
        RestoreError::Fold(FoldError::Db { .. } | FoldError::Fault { .. } | FoldError::Fold { .. }) => true,
        RestoreError::Folded(error) => {
            matches!(
                **error,
                SaveError::HashMismatch { .. } | SaveError::Damaged { .. } | SaveError::Db { .. }
            )
        }
        _ => false,
    }
}
