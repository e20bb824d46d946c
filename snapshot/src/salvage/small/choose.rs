//! Which rows are taken of each small bucket, and what is said of it.
//!
//! The tree that all else goes by is the first of the generations. What it has whole is taken as it is. What it lacks comes from the
//! nearest older generation and from leaves that no tree reaches, which is open to doubt: rows removed since are back. Of leases only
//! those come back that live keys hang on; users and roles are told apart in time by `authRevision`, which counts their changes.

use std::collections::{BTreeMap, BTreeSet};

use bbolt::graft::Pairs;

use super::classify::{fits, is_read};
use super::meta;
use super::words::Consequence;
use crate::auth::ROOT;
use crate::replay::small::Name;
use crate::schema::{AUTH_ENABLED, AUTH_REVISION, CLUSTER_VERSION, CONSISTENT_INDEX, TERM, UserRow};

/// The rows of a bucket, as far as a tree leads to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// The rows.
    pub(crate) pairs: Pairs,
    /// Whether these are all: no page on the way was damaged.
    pub(crate) is_whole: bool,
}

/// The small buckets as one root bucket has them: that of a meta, or a leaf that was the root in an older transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Generation {
    /// What it is called in the account: `the tree of meta 0`, `the root bucket at page 7`.
    pub(crate) name: String,
    /// Its buckets; those that it does not lead to are not there.
    pub(crate) buckets: BTreeMap<Name, Rows>,
}

/// A leaf of a small bucket to which no generation leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loose {
    /// Whose rows they can be ([`bucket_of`](super::bucket_of)).
    pub(crate) bucket: Name,
    /// The rows.
    pub(crate) pairs: Pairs,
}

/// What the buckets have to go with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    /// What bucket `meta` is to say; `None`: what it says in the tree.
    pub(crate) point: Option<Point>,
    /// The leases that live keys hang on, each with the number of keys.
    pub(crate) leases: Option<&'a BTreeMap<i64, u64>>,
}

/// Where a key space stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Point {
    /// The last entry in it and its term (0 where it is not known); `None` where nothing tells.
    pub(crate) entry: Option<(u64, u64)>,
    /// Whether it may have more of later entries.
    pub(crate) is_beyond: bool,
    /// The revision up to which it is compacted; `None` where it never was, as far as is known.
    pub(crate) compacted: Option<i64>,
}

/// Where the rows of a bucket come from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "from", content = "name")]
pub(crate) enum Origin {
    /// The tree that all goes by, which has it whole.
    Tree,
    /// An older generation that has it whole.
    Generation(String),
    /// What several of them have, and leaves that no tree reaches.
    Merged,
    /// Nothing is left of it: it is empty, or what it needs was made anew.
    Default,
}

/// What was chosen for one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The bucket.
    pub(crate) bucket: Name,
    /// Its rows in the result.
    pub(crate) rows: u64,
    /// Those of them that only older pages have.
    pub(crate) suspect: u64,
    /// Where they come from.
    pub(crate) origin: Origin,
    /// What follows from what was lost, or put in its place.
    pub(crate) consequences: Vec<Consequence>,
}

/// All small buckets of the result, and where they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Every small bucket that a server expects, those without rows too.
    pub(crate) buckets: BTreeMap<Name, Pairs>,
    /// What was chosen for each, in the same order.
    pub(crate) choices: Vec<Choice>,
}

impl Choice {
    /// Whether the rows are those that there were.
    #[must_use]
    pub(crate) fn is_certain(&self) -> bool {
        // Of leases that are left out nobody hangs on one.
        let is_nothing = |what: &Consequence| matches!(what, Consequence::LeasesLeftOut { .. });
        self.suspect == 0 && self.consequences.iter().all(is_nothing)
    }

    /// Rows that are known to be lost.
    #[must_use]
    pub(crate) fn lost_rows(&self) -> u64 {
        let lost = self.consequences.iter().map(|consequence| match consequence {
            Consequence::LeasesLost { leases, .. } => *leases,
            Consequence::Unreadable { rows } => *rows,
            _ => 0,
        });
        lost.sum()
    }
}

impl Generation {
    /// Its rows of a bucket.
    fn rows(&self, bucket: Name) -> Option<&Rows> {
        self.buckets.get(&bucket)
    }

    fn whole(&self, bucket: Name) -> Option<&Pairs> {
        self.rows(bucket).filter(|rows| rows.is_whole).map(|rows| &rows.pairs)
    }

    fn number(&self, bucket: Name, key: &[u8]) -> Option<u64> {
        let value = self.rows(bucket)?.pairs.get(key)?;
        Some(u64::from_be_bytes(value.as_slice().try_into().ok()?))
    }

    /// Index of the last entry in it, by its bucket `meta`.
    #[must_use]
    pub(crate) fn consistent_index(&self) -> Option<u64> {
        self.number(Name::Meta, CONSISTENT_INDEX)
    }

    /// Term of that entry, since 3.5.
    #[must_use]
    pub(crate) fn term(&self) -> Option<u64> {
        self.number(Name::Meta, TERM).filter(|term| *term > 0)
    }

    /// How often users, roles or the switch were changed.
    fn auth_revision(&self) -> Option<u64> {
        self.number(Name::Auth, AUTH_REVISION)
    }
}

/// Chooses the rows of all small buckets. The first of the `generations` is the tree that all else goes by, the others are in any
/// order.
#[must_use]
pub(crate) fn choose(generations: &[Generation], loose: &[Loose], wanted: &Wanted<'_>) -> Chosen {
    let tree = Generation::default();
    let (tree, rest) = generations.split_first().unwrap_or((&tree, &[]));
    let mut older: Vec<&Generation> = rest.iter().collect();
    // Of one entry the order they came in.
    older.sort_by_key(|generation| std::cmp::Reverse(generation.consistent_index()));
    let mut job = Job { tree, older, loose, chosen: Chosen::default() };
    job.auth();
    job.leases(wanted.leases.unwrap_or(&BTreeMap::new()));
    for bucket in [Name::Alarm, Name::MembersRemoved, Name::Members, Name::Cluster] {
        job.plain(bucket);
    }
    job.members_that_were_removed();
    job.meta(wanted);
    job.chosen.choices.sort_by_key(|choice| choice.bucket);
    job.chosen
}

/// Rows in the making.
#[derive(Default)]
struct Taken {
    pairs: Pairs,
    suspect: BTreeSet<Vec<u8>>,
    /// Rows of the tree that no server reads.
    unreadable: u64,
}

impl Taken {
    /// Takes the rows of the tree, as far as a server reads them.
    fn of_tree(bucket: Name, rows: Option<&Pairs>) -> Self {
        let mut taken = Self::default();
        for (key, value) in rows.into_iter().flatten() {
            if is_read(bucket, key, value) {
                taken.pairs.insert(key.clone(), value.clone());
            } else {
                taken.unreadable += 1;
            }
        }
        taken
    }

    /// Takes rows of older pages under keys that it lacks, those that `wants` says; whether there were any.
    fn add(&mut self, bucket: Name, rows: &Pairs, wants: impl Fn(&[u8]) -> bool) -> bool {
        let mut any = false;
        for (key, value) in rows {
            if !self.pairs.contains_key(key) && fits(bucket, key, value) && wants(key) {
                self.pairs.insert(key.clone(), value.clone());
                self.suspect.insert(key.clone());
                any = true;
            }
        }
        any
    }
}

struct Job<'a> {
    tree: &'a Generation,
    /// By descending consistent index.
    older: Vec<&'a Generation>,
    loose: &'a [Loose],
    chosen: Chosen,
}

impl<'a> Job<'a> {
    fn finish(&mut self, bucket: Name, taken: Taken, origin: Origin, mut consequences: Vec<Consequence>) {
        if taken.unreadable > 0 {
            consequences.push(Consequence::Unreadable { rows: taken.unreadable });
        }
        let choice = Choice {
            bucket,
            rows: taken.pairs.len() as u64,
            suspect: taken.suspect.len() as u64,
            origin,
            consequences,
        };
        self.chosen.buckets.insert(bucket, taken.pairs);
        self.chosen.choices.push(choice);
    }

    /// The bucket as the tree has it, or another generation of the same entry.
    fn certain(&self, bucket: Name) -> Option<&'a Pairs> {
        let same = |other: &&&Generation| {
            // Before 3.5 an entry that writes no key leaves the index alone.
            let entry = |of: &Generation| Some((of.consistent_index()?, of.term()?));
            entry(self.tree).is_some() && entry(other) == entry(self.tree)
        };
        self.tree
            .whole(bucket)
            .or_else(|| self.older.iter().filter(same).find_map(|generation| generation.whole(bucket)))
    }

    /// The rows that a tree leads to although it does not lead to all, and those of the nearest older generation that has them whole, and of leaves
    /// without a tree; the second says where they come from.
    fn pieces(&self, bucket: Name) -> (Taken, Origin) {
        let part = self.tree.rows(bucket).map(|rows| &rows.pairs);
        let mut taken = Taken::of_tree(bucket, part);
        let has_part = !taken.pairs.is_empty();
        let whole = self.older.iter().find_map(|older| Some((older, older.whole(bucket)?)));
        if let Some((generation, pairs)) = whole {
            taken.add(bucket, pairs, |_| true);
            let origin = if has_part { Origin::Merged } else { Origin::Generation(generation.name.clone()) };
            return (taken, origin);
        }
        self.add_all(bucket, &mut taken, |_| true);
        let origin = if taken.pairs.is_empty() { Origin::Default } else { Origin::Merged };
        (taken, origin)
    }

    /// Takes of all older generations, the newest first, and of leaves without one, rows that are lacking.
    fn add_all(&self, bucket: Name, taken: &mut Taken, wants: impl Fn(&[u8]) -> bool + Copy) {
        for rows in self.older.iter().filter_map(|older| older.rows(bucket)) {
            taken.add(bucket, &rows.pairs, wants);
        }
        for leaf in self.loose.iter().filter(|leaf| leaf.bucket == bucket) {
            taken.add(bucket, &leaf.pairs, wants);
        }
    }

    /// A bucket of which no more is known than its rows.
    fn plain(&mut self, bucket: Name) {
        if let Some(pairs) = self.certain(bucket) {
            return self.finish(bucket, Taken::of_tree(bucket, Some(pairs)), Origin::Tree, Vec::new());
        }
        let (taken, origin) = self.pieces(bucket);
        let is_lost = origin == Origin::Default;
        let follows = match bucket {
            Name::Alarm if is_lost => Some(Consequence::AlarmsLost),
            Name::MembersRemoved if is_lost => Some(Consequence::RemovedLost),
            Name::Members if taken.pairs.is_empty() => Some(Consequence::MembersLost),
            Name::Members => Some(Consequence::MembersOlder),
            Name::Cluster if !taken.pairs.contains_key(CLUSTER_VERSION) => Some(Consequence::VersionLost),
            Name::Cluster if !taken.suspect.is_empty() => Some(Consequence::VersionOlder),
            _ => None,
        };
        self.finish(bucket, taken, origin, follows.into_iter().collect());
    }

    /// Who was removed is no member, whatever older pages say.
    fn members_that_were_removed(&mut self) {
        let removed = self.chosen.buckets.get(&Name::MembersRemoved).cloned().unwrap_or_default();
        let Some(members) = self.chosen.buckets.get_mut(&Name::Members) else { return };
        let before = members.len();
        members.retain(|id, _| !removed.contains_key(id));
        let gone = (before - members.len()) as u64;
        for choice in &mut self.chosen.choices {
            if choice.bucket == Name::Members {
                choice.rows = choice.rows.saturating_sub(gone);
                choice.suspect = choice.suspect.min(choice.rows);
            }
        }
    }

    /// The leases: what the tree lacks of them comes back where live keys hang on it.
    fn leases(&mut self, used: &BTreeMap<i64, u64>) {
        let bucket = Name::Lease;
        let mut follows = Vec::new();
        let certain = self.certain(bucket);
        let mut taken =
            Taken::of_tree(bucket, certain.or_else(|| self.tree.rows(bucket).map(|rows| &rows.pairs)));
        let mut origin = Origin::Tree;
        if certain.is_none() {
            let is_used = |key: &[u8]| {
                key.try_into().map(i64::from_be_bytes).is_ok_and(|lease| used.contains_key(&lease))
            };
            let known = taken.pairs.clone();
            self.add_all(bucket, &mut taken, is_used);
            let mut all = Taken { pairs: known, ..Taken::default() };
            self.add_all(bucket, &mut all, |key| !is_used(key));
            let (back, left) = (taken.suspect.len() as u64, all.suspect.len() as u64);
            follows.extend((back > 0).then_some(Consequence::LeasesBack { leases: back }));
            follows.extend((left > 0).then_some(Consequence::LeasesLeftOut { leases: left }));
            let missing = used.iter().filter(|(id, _)| !taken.pairs.contains_key(&id.to_be_bytes()[..]));
            let (leases, keys) = missing
                .fold((0, 0_u64), |(leases, keys), (_, more)| (leases + 1, keys.saturating_add(*more)));
            follows.extend((leases > 0).then_some(Consequence::LeasesLost { leases, keys }));
            origin = if taken.pairs.is_empty() { Origin::Default } else { Origin::Merged };
        }
        self.finish(bucket, taken, origin, follows);
    }

    /// The switch, the users and the roles, which go together.
    fn auth(&mut self) {
        const ALL: [Name; 3] = [Name::Auth, Name::AuthUsers, Name::AuthRoles];
        if ALL.iter().all(|bucket| self.certain(*bucket).is_some()) {
            for bucket in ALL {
                let taken = Taken::of_tree(bucket, self.certain(bucket));
                self.finish(bucket, taken, Origin::Tree, Vec::new());
            }
            return;
        }
        // The switch may be turned on without a change of the revision.
        let revision = self.certain(Name::Auth).and(self.tree.auth_revision());
        let has_all = |older: &&&Generation| ALL.iter().all(|bucket| older.whole(*bucket).is_some());
        let whole = self.older.iter().filter(has_all).max_by_key(|older| older.auth_revision()).copied();
        let is_same = revision.is_some() && whole.and_then(Generation::auth_revision) == revision;
        let switch = self.certain(Name::Auth);
        let mut follows = Vec::new();
        for bucket in ALL {
            let (mut taken, origin) = match (bucket, whole) {
                (Name::Auth, _) if switch.is_some() => (Taken::of_tree(bucket, switch), Origin::Tree),
                (_, Some(whole)) => {
                    let mut taken = Taken::default();
                    whole.whole(bucket).into_iter().for_each(|pairs| {
                        taken.add(bucket, pairs, |_| true);
                    });
                    if is_same {
                        taken.suspect.clear();
                    }
                    (taken, Origin::Generation(whole.name.clone()))
                }
                (_, None) => match self.certain(bucket) {
                    Some(pairs) => (Taken::of_tree(bucket, Some(pairs)), Origin::Tree),
                    None => self.pieces(bucket),
                },
            };
            if bucket == Name::Auth && !taken.pairs.contains_key(AUTH_REVISION) {
                // What a server that starts makes of none (FORMATS G.7).
                taken.pairs.insert(AUTH_REVISION.to_vec(), 1_u64.to_be_bytes().to_vec());
            }
            self.finish(bucket, taken, origin, Vec::new());
        }
        let rows = |bucket| self.chosen.buckets.get(&bucket);
        let users = rows(Name::AuthUsers).map_or(0, |rows| rows.len() as u64);
        let switch = rows(Name::Auth).and_then(|rows| rows.get(AUTH_ENABLED));
        let is_on = switch.is_some_and(|value| value == &[1]);
        if self.certain(Name::Auth).is_none() && !is_on {
            // Users do not come about but by somebody who means to turn it on.
            follows.push(Consequence::AuthOff { users, was_off: whole.is_some() && users == 0 });
        }
        let is_older = self.chosen.choices.iter().any(|choice| choice.suspect > 0);
        if is_older {
            follows.push(if whole.is_some() { Consequence::AuthOlder } else { Consequence::AuthPieces });
        }
        if is_on && !has_root(rows(Name::AuthUsers)) {
            follows.push(Consequence::AuthWithoutRoot);
        }
        let users_are_lost = self.certain(Name::AuthUsers).is_none() && whole.is_none() && users == 0;
        if users_are_lost && self.certain(Name::Auth).is_some() && !is_on {
            follows.push(Consequence::AuthEmpty);
        }
        if let Some(choice) = self.chosen.choices.iter_mut().find(|choice| choice.bucket == Name::Auth) {
            choice.consequences.extend(follows);
        }
    }

    fn meta(&mut self, wanted: &Wanted<'_>) {
        let bucket = Name::Meta;
        let (mut taken, origin) = match self.certain(bucket) {
            Some(pairs) => (Taken::of_tree(bucket, Some(pairs)), Origin::Tree),
            None => self.pieces(bucket),
        };
        let version = self.chosen.buckets.get(&Name::Cluster).and_then(|rows| rows.get(CLUSTER_VERSION));
        let is_lost = self.certain(bucket).is_none();
        let version = version.filter(|_| is_lost).map(Vec::as_slice);
        let point = wanted.point.unwrap_or_else(|| meta::point_of(&taken.pairs));
        let follows = match wanted.point {
            None if !is_lost => Vec::new(),
            _ => meta::settle(&mut taken.pairs, &point, version),
        };
        taken.suspect.retain(|key| meta::is_doubtful(key));
        self.finish(bucket, taken, origin, follows);
    }
}

/// Whether a user is among the rows that may administer the others.
fn has_root(users: Option<&Pairs>) -> bool {
    let is_root = |row: &Vec<u8>| {
        <UserRow as prost::Message>::decode(row.as_slice())
            .is_ok_and(|user| user.roles.iter().any(|role| role == ROOT))
    };
    users.is_some_and(|users| users.values().any(is_root))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests;
