//! The databases of several members held against each other.
//!
//! Members that applied the same log have the same records at every revision that all of them have. So all are hashed at the last
//! revision that they have in common, as if each had been compacted where the most compacted one was. Where the hashes part, the
//! records are walked side by side for the first revision, and the keys at the common one are compared.

use bbolt::{Db, FileSource, Watch};

use super::CompareError;
use super::first::{First, first_difference, first_lack};
use super::keys::{Keys, differing};
use crate::facts::DatabaseError;
use crate::mvcc::{
    AtRevisionError, HashKv, Index, IndexOptions, KeySpaceError, Release, Store, hashkv_compacted,
};
use crate::survivors::{Survivor, Survivors};

/// Databases with the same records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Their hash at the revision they are compared at.
    pub hash: HashKv,
    /// The survivors, by their places.
    pub survivors: Vec<usize>,
}

/// A database that has less than others had compacted away: only what those still have of it can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPart {
    /// The survivor.
    pub survivor: usize,
    /// How far it goes.
    pub revision: i64,
    /// The survivor it was compared with.
    pub with: usize,
    /// The first revision at which that one has what this one has not.
    pub first: Option<First>,
}

/// A database that was not compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotCompared {
    /// The survivor.
    pub survivor: usize,
    /// Why.
    pub why: String,
    /// Whether it has a database, and something is wrong with it.
    pub is_damaged: bool,
}

/// Two databases that applied the same entries and came to different revisions, or more entries and came to a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shifted {
    /// The one that applied as many entries or fewer: its survivor, its consistent index, its revision.
    pub one: (usize, u64, i64),
    /// The other.
    pub other: (usize, u64, i64),
}

/// What the databases come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// The revision at which those of [`Self::groups`] were compared; `None` when there is no database.
    pub compared_to: Option<i64>,
    /// The revision at which all of them count as compacted.
    pub compacted: Option<i64>,
    /// Those with the same records, the largest group first.
    pub groups: Vec<Group>,
    /// Those that were compared in part.
    pub in_part: Vec<InPart>,
    /// Those that were not.
    pub not_compared: Vec<NotCompared>,
    /// How far each has come: its survivor, its consistent index, its revision; by ascending index.
    reached: Vec<(usize, u64, i64)>,
    /// Those that cannot have applied the same entries.
    pub shifted: Vec<Shifted>,
    /// Where the groups part.
    pub first: Option<First>,
    /// The keys that are not the same at [`Self::compared_to`].
    pub keys: Keys,
}

impl Data {
    /// Whether nothing that was compared differs.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.groups.len() < 2
            && self.shifted.is_empty()
            && self.in_part.iter().all(|part| part.first.is_none())
    }

    /// The survivors of which more than half of those compared have the same records, and can have applied the same entries;
    /// `None` where no such group is.
    #[must_use]
    pub fn majority(&self) -> Option<&[usize]> {
        let all: usize = self.groups.iter().map(|group| group.survivors.len()).sum();
        let largest = self.groups.first()?;
        let among = |(survivor, _, _): &&(usize, u64, i64)| largest.survivors.contains(survivor);
        let is_one = shifted(self.reached.iter().filter(among)).next().is_none();
        (largest.survivors.len() > all / 2 && is_one).then_some(largest.survivors.as_slice())
    }

    /// The hash of this survivor's database.
    #[must_use]
    pub fn hash_of(&self, survivor: usize) -> Option<HashKv> {
        self.groups.iter().find(|group| group.survivors.contains(&survivor)).map(|group| group.hash)
    }

    /// The first revision at which databases are known to part.
    #[must_use]
    pub fn first_revision(&self) -> Option<i64> {
        let of_groups = self.first.as_ref().map(|first| first.revision);
        let in_part = self.in_part.iter().filter_map(|part| part.first.as_ref()).map(|first| first.revision);
        let shifted = self.shifted.iter().map(|pair| pair.one.2.min(pair.other.2).saturating_add(1));
        of_groups.into_iter().chain(in_part).min().or_else(|| shifted.min())
    }
}

/// A database that can be compared.
struct Comparable<'s> {
    survivor: usize,
    db: Db<&'s FileSource>,
    store: Store,
}

/// Compares the databases of `survivors`. At most `limit` keys are kept of those that differ.
///
/// # Errors
/// When a record cannot be read again, or the user asked to stop. A damaged database is one that is not compared.
pub fn compare(survivors: &Survivors, limit: usize, watch: &dyn Watch) -> Result<Data, CompareError> {
    let mut data = Data::default();
    let mut all = Vec::new();
    for (place, survivor) in survivors.all.iter().enumerate() {
        match comparable(place, survivor) {
            Ok(comparable) => all.push(comparable),
            Err(not) => data.not_compared.push(not),
        }
    }
    data.reached = reached(survivors, &all);
    data.shifted = shifted(data.reached.iter()).collect();
    let (level, behind) = loop {
        let Some(compacted) = all.iter().map(|one| one.store.compact_revision).max() else { return Ok(data) };
        // What ends before the compaction of another has no revision in common with it that both can be read at.
        let is_behind = |one: &Comparable<'_>| compacted.is_some_and(|at| one.store.current_revision < at);
        let (behind, mut level): (Vec<_>, Vec<_>) = all.into_iter().partition(is_behind);
        data.compacted = compacted;
        data.compared_to = level.iter().map(|one| one.store.current_revision).min();
        data.groups.clear();
        let damaged = hash(&level, &mut data, survivors, watch)?;
        level.retain(|one| !damaged.contains(&one.survivor));
        // Perhaps only the damaged ones were compacted that far.
        if damaged.is_empty() || behind.is_empty() {
            break (level, behind);
        }
        all = behind.into_iter().chain(level).collect();
    };
    let compacted = data.compacted;
    if data.groups.len() > 1 {
        part(&level, limit, &mut data, watch)?;
    }
    for one in &behind {
        let Some(with) = level.iter().find(|with| with.store.compact_revision == compacted) else {
            let why = "the database that was compacted behind its end is damaged".to_owned();
            data.not_compared.push(NotCompared { survivor: one.survivor, why, is_damaged: false });
            continue;
        };
        let revision = one.store.current_revision;
        let first = first_lack((with.survivor, &with.db), (one.survivor, &one.db), revision, watch)?;
        data.in_part.push(InPart { survivor: one.survivor, revision, with: with.survivor, first });
    }
    Ok(data)
}

fn comparable(place: usize, survivor: &Survivor) -> Result<Comparable<'_>, NotCompared> {
    let not = |why: String, is_damaged| NotCompared { survivor: place, why, is_damaged };
    let database = match &survivor.facts.database {
        None => return Err(not("it has no database".to_owned(), false)),
        Some(Err(error)) => return Err(not(error.to_string(), true)),
        Some(Ok(database)) => database,
    };
    let db = database.input.db().map_err(|error| not(error.to_string(), true))?;
    let facts = database.facts.as_ref().map_err(|error: &DatabaseError| not(error.to_string(), true))?;
    let store = Store::of(&facts.schema, facts.last_record, Release::NEWEST);
    Ok(Comparable { survivor: place, db, store })
}

/// Hashes all of `level` at the revision they have in common, and groups them; gives the survivors that are damaged.
fn hash(
    level: &[Comparable<'_>],
    data: &mut Data,
    survivors: &Survivors,
    watch: &dyn Watch,
) -> Result<Vec<usize>, CompareError> {
    let upto = data.compared_to.unwrap_or_default();
    let mut damaged = Vec::new();
    for one in level {
        let hash = match hashkv_compacted(&one.db, upto, data.compacted, Release::NEWEST, watch) {
            Ok(hash) => hash,
            Err(AtRevisionError::Read(KeySpaceError::Interrupted)) => return Err(CompareError::Interrupted),
            Err(error) => {
                let first = error.findings().first().map(ToString::to_string);
                let why = first.unwrap_or_else(|| error.to_string());
                data.not_compared.push(NotCompared { survivor: one.survivor, why, is_damaged: true });
                damaged.push(one.survivor);
                continue;
            }
        };
        match data.groups.iter_mut().find(|group| group.hash == hash) {
            Some(group) => group.survivors.push(one.survivor),
            None => data.groups.push(Group { hash, survivors: vec![one.survivor] }),
        }
    }
    // Of two groups of one size that first whose member had come further.
    let reached = |group: &Group| {
        let of = |place: &usize| survivors.all.get(*place).and_then(|one| one.facts.database_facts());
        let index = group.survivors.iter().filter_map(of).map(|facts| facts.schema.consistent_index).max();
        (group.survivors.len(), index)
    };
    data.groups.sort_by_key(|group| std::cmp::Reverse(reached(group)));
    Ok(damaged)
}

/// Finds where the groups part, and in which keys. One of each group stands for all of it.
fn part(
    level: &[Comparable<'_>],
    limit: usize,
    data: &mut Data,
    watch: &dyn Watch,
) -> Result<(), CompareError> {
    let upto = data.compared_to.unwrap_or_default();
    let first_of = |group: &Group| {
        let place = *group.survivors.first()?;
        level.iter().find(|one| one.survivor == place)
    };
    let stand_for: Vec<&Comparable<'_>> = data.groups.iter().filter_map(first_of).collect();
    let options = IndexOptions { upto: Some(upto), ..IndexOptions::default() };
    let mut indexes = Vec::with_capacity(stand_for.len());
    for one in &stand_for {
        indexes.push((one.survivor, Index::build(&one.db, &options, watch)?));
    }
    let kept_from = data.compacted.unwrap_or_default();
    let of_compacted = match data.compacted {
        Some(compacted) => differing(&indexes, compacted, limit, watch)?,
        None => Keys::default(),
    };
    data.first = match of_compacted.earliest {
        Some((revision, key)) => Some(First { revision, may_be_earlier: true, keys: vec![key] }),
        None => {
            let dbs: Vec<(usize, &Db<&FileSource>)> =
                stand_for.iter().map(|one| (one.survivor, &one.db)).collect();
            first_difference(&dbs, kept_from, upto, limit, watch)?
        }
    };
    data.keys = differing(&indexes, upto, limit, watch)?;
    Ok(())
}

/// How far each database has come, by ascending consistent index; those that name none are left out.
fn reached(survivors: &Survivors, all: &[Comparable<'_>]) -> Vec<(usize, u64, i64)> {
    let of = |one: &Comparable<'_>| {
        let facts = survivors.all.get(one.survivor)?.facts.database_facts()?;
        Some((one.survivor, facts.schema.consistent_index, one.store.current_revision))
    };
    let mut reached: Vec<(usize, u64, i64)> =
        all.iter().filter_map(of).filter(|(_, index, _)| *index > 0).collect();
    reached.sort_by_key(|(survivor, index, revision)| (*index, *revision, *survivor));
    reached
}

/// Pairs that cannot have applied the same entries, each against the one that comes next by its consistent index.
fn shifted<'r>(reached: impl Iterator<Item = &'r (usize, u64, i64)>) -> impl Iterator<Item = Shifted> {
    let mut before: Option<(usize, u64, i64)> = None;
    reached.filter_map(move |next| {
        let one = before.replace(*next)?;
        let parts = if one.1 == next.1 { one.2 != next.2 } else { one.2 > next.2 };
        parts.then_some(Shifted { one, other: *next })
    })
}
