//! What damage to a db's structure means to etcd: which revisions, rows or buckets stand on the pages it hit.
//!
//! What a damaged page holds cannot be read; the separators of the branches above say which keys belong there. Pages of
//! one bucket whose keys follow each other are told in one piece.

use std::fmt;

use bbolt::check::{Finding, Report, Severity};
use bbolt::fault::readable;
use bbolt::{Db, FaultKind, Source};
use serde::Serialize;

use crate::mvcc::Revision;
use crate::schema::{
    ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, KEY, LEASE, MEMBERS, MEMBERS_REMOVED, META,
};

/// Buckets of etcd, and what their rows are.
const BUCKETS: [(&[u8], &str); 10] = [
    (ALARM, "the active alarms"),
    (AUTH, "whether authentication is on"),
    (AUTH_ROLES, "the roles"),
    (AUTH_USERS, "the users"),
    (CLUSTER, "the cluster's version"),
    (KEY, "every revision of every key"),
    (LEASE, "the leases"),
    (MEMBERS, "the members"),
    (MEMBERS_REMOVED, "the members that were removed"),
    (META, "the index of the last raft entry applied, and how far was compacted"),
];

/// Most statements; what is wrong beyond that is in the findings.
const MOST: usize = 1000;

/// Pages next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// What stands, or should stand, on damaged pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Holds {
    /// Revisions of bucket `key`.
    Revisions {
        /// The first; `None`: from the beginning.
        from: Option<i64>,
        /// The last; `None`: to the end.
        to: Option<i64>,
    },
    /// Rows of another bucket.
    Rows {
        /// The bucket's name, readable.
        bucket: String,
        /// What its rows are, where it is one of etcd's.
        #[serde(skip_serializing_if = "Option::is_none")]
        what: Option<&'static str>,
    },
    /// The root bucket: the names of the buckets, and where they are.
    RootBucket {
        /// The transaction of the older meta, where that is valid and names another root: the way back.
        #[serde(skip_serializing_if = "Option::is_none")]
        older_transaction: Option<u64>,
    },
    /// A bucket in one of etcd's, of which no etcd makes any.
    NestedBucket {
        /// The names, outermost first, readable.
        bucket: Vec<String>,
    },
    /// The list of free pages, which no etcd on Linux reads.
    Freelist,
    /// Nothing that anything refers to: space, no data.
    Space,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Meaning {
    /// The pages, ascending.
    pub pages: Vec<Pages>,
    /// What they hold.
    #[serde(flatten)]
    pub holds: Holds,
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = match self.pages.as_slice() {
            [one] => one.first != one.last,
            _ => true,
        };
        let ranges = self.pages.iter().map(|pages| match pages {
            Pages { first, last } if first == last => first.to_string(),
            Pages { first, last } => format!("{first}-{last}"),
        });
        let ranges: Vec<String> = ranges.collect();
        let (noun, verb) = if several { ("pages", "hold") } else { ("page", "holds") };
        write!(f, "{noun} {} ", ranges.join(", "))?;
        match &self.holds {
            Holds::Revisions { from: Some(from), to: Some(to) } if from == to => {
                write!(f, "{verb} revision {} of bucket key", grouped(*from))
            }
            Holds::Revisions { from: Some(from), to: Some(to) } => {
                write!(f, "{verb} revisions {}-{} of bucket key", grouped(*from), grouped(*to))
            }
            Holds::Revisions { from: None, to: Some(to) } => {
                write!(f, "{verb} the revisions up to {} of bucket key", grouped(*to))
            }
            Holds::Revisions { from: Some(from), to: None } => {
                write!(f, "{verb} the revisions from {} on of bucket key", grouped(*from))
            }
            Holds::Revisions { from: None, to: None } => write!(f, "{verb} all revisions of bucket key"),
            Holds::Rows { bucket, what: Some(what) } => write!(f, "{verb} bucket {bucket}: {what}"),
            Holds::Rows { bucket, what: None } => {
                write!(f, "{verb} bucket {bucket}, which is none of etcd's")
            }
            Holds::RootBucket { older_transaction: None } => {
                write!(f, "{verb} the root bucket, without which no bucket is found")
            }
            Holds::RootBucket { older_transaction: Some(transaction) } => write!(
                f,
                "{verb} the root bucket, without which no bucket is found; the older meta, of transaction \
                 {transaction}, names another one"
            ),
            Holds::NestedBucket { bucket } => {
                write!(
                    f,
                    "{verb} bucket {}: a bucket in a bucket, of which no etcd makes any",
                    bucket.join("/")
                )
            }
            Holds::Freelist => {
                let verb = if several { "are" } else { "is" };
                write!(f, "{verb} about the list of free pages, which holds no data and can be rebuilt")
            }
            Holds::Space => {
                let verb = if several { "are" } else { "is" };
                write!(f, "{verb} space that nothing refers to")
            }
        }
    }
}

/// `number` with a comma between each three digits.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What the errors of `report` mean to etcd; empty where `db` is not etcd's, or nothing is wrong.
///
/// `db` is etcd's when a bucket `key` is in its root bucket or among the findings, or when the root bucket cannot be read.
pub fn meaning<S: Source>(db: &Db<S>, report: &Report) -> Vec<Meaning> {
    let errors: Vec<&Finding> = report.findings.iter().filter(|f| f.severity == Severity::Error).collect();
    if errors.is_empty() || !is_etcds(db, &errors) {
        return Vec::new();
    }
    let mut parts: Vec<Part> = errors.iter().filter_map(|finding| part(db, finding)).collect();
    parts.sort_by(|a, b| (&a.rank, &a.low, a.page).cmp(&(&b.rank, &b.low, b.page)));
    let mut told: Vec<Part> = Vec::new();
    for part in parts {
        match told.last_mut() {
            Some(last) if last.takes(&part) => last.take(part),
            _ => told.push(part),
        }
    }
    told.truncate(MOST);
    told.into_iter().map(Part::into_meaning).collect()
}

fn is_etcds<S: Source>(db: &Db<S>, errors: &[&Finding]) -> bool {
    match db.bucket(KEY) {
        Ok(Some(_)) | Err(_) => true,
        Ok(None) => errors.iter().any(|finding| finding.bucket.first().is_some_and(|name| name == KEY)),
    }
}

/// What one finding is about.
struct Part {
    /// Root bucket, bucket `key`, other buckets by name, freelist, space: the order in which they are told.
    rank: (u8, Vec<u8>),
    holds: Holds,
    page: u64,
    pages: Vec<u64>,
    low: Vec<u8>,
    /// `None`: to the end.
    high: Option<Vec<u8>>,
}

impl Part {
    fn takes(&self, next: &Self) -> bool {
        let touches = match (&self.holds, &self.high) {
            (Holds::Revisions { .. }, Some(high)) => next.low <= *high,
            _ => true,
        };
        self.rank == next.rank && touches
    }

    fn take(&mut self, next: Self) {
        self.pages.extend(next.pages);
        self.high = match (self.high.take(), next.high) {
            (Some(ours), Some(theirs)) => Some(ours.max(theirs)),
            _ => None,
        };
    }

    fn into_meaning(mut self) -> Meaning {
        self.pages.sort_unstable();
        self.pages.dedup();
        let mut pages: Vec<Pages> = Vec::new();
        for page in self.pages {
            match pages.last_mut() {
                Some(last) if last.last.checked_add(1) == Some(page) => last.last = page,
                _ => pages.push(Pages { first: page, last: page }),
            }
        }
        let holds = match self.holds {
            Holds::Revisions { .. } => Holds::Revisions {
                from: Revision::parse(&self.low).map(|revision| revision.main),
                to: self.high.as_deref().and_then(last_before),
            },
            other => other,
        };
        Meaning { pages, holds }
    }
}

/// The last revision that a key smaller than `high` can have.
fn last_before(high: &[u8]) -> Option<i64> {
    let revision = Revision::parse(high)?;
    Some(if revision.sub == 0 && !revision.tombstone { revision.main - 1 } else { revision.main })
}

fn part<S: Source>(db: &Db<S>, finding: &Finding) -> Option<Part> {
    let page = finding.fault.page.0;
    let (rank, holds) = match finding.bucket.as_slice() {
        [] => match finding.fault.kind {
            FaultKind::UnreachableUnfreed => ((4, Vec::new()), Holds::Space),
            FaultKind::FreedTwice
            | FaultKind::ReachableFreed
            | FaultKind::FreeOutOfBounds { .. }
            | FaultKind::NotAFreelist { .. } => ((3, Vec::new()), Holds::Freelist),
            _ if page == db.meta().freelist => ((3, Vec::new()), Holds::Freelist),
            // Metas: the finding says it all.
            _ if finding.key_range.is_none() => return None,
            _ => ((0, Vec::new()), Holds::RootBucket { older_transaction: older_transaction(db) }),
        },
        [name] if name == KEY => ((1, Vec::new()), Holds::Revisions { from: None, to: None }),
        [name] => {
            let what = BUCKETS.iter().find(|(known, _)| known == name).map(|(_, what)| *what);
            let bucket = readable(name).trim_matches('"').to_owned();
            ((2, name.clone()), Holds::Rows { bucket, what })
        }
        path => {
            let bucket = path.iter().map(|name| readable(name)).collect();
            ((2, path.join(&0)), Holds::NestedBucket { bucket })
        }
    };
    let (low, high) = finding.key_range.clone().unwrap_or_default();
    Some(Part { rank, holds, page, pages: vec![page], low, high })
}

/// The transaction of the meta that is not in force, where it is valid and has a root of its own.
fn older_transaction<S: Source>(db: &Db<S>) -> Option<u64> {
    let other = db.metas().get(1 - db.active_slot())?.as_ref().ok()?;
    (other.root != db.meta().root).then_some(other.txid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> Vec<String> {
        let bytes = testdata::bbolt_damage::Damage::named(name).make();
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let report = bbolt::check(&db, &());
        meaning(&db, &report).iter().map(ToString::to_string).collect()
    }

    /// The fixture's bucket `key` has leaves 5 (revisions 5 and on), 7 (42 and on, on 23 pages) and 31 (47, sub 0, a
    /// tombstone, and on); see the table of damages.
    #[test]
    fn a_lost_page_is_told_by_its_revisions() {
        assert_eq!(told("etcd-leaf-zeroed"), ["page 5 holds revisions 5-41 of bucket key"]);
        assert_eq!(told("etcd-large-leaf-zeroed"), ["page 7 holds revisions 42-47 of bucket key"]);
        assert_eq!(told("etcd-branch-zeroed"), ["page 33 holds all revisions of bucket key"]);
    }

    #[test]
    fn the_root_bucket_and_other_buckets_are_told() {
        let lost = "page 32 holds the root bucket, without which no bucket is found";
        assert_eq!(told("etcd-root-zeroed"), [lost]);
        assert_eq!(told("etcd-members-taken-for-a-tree"), ["page 77 holds bucket members: the members"]);
    }

    /// bbolt files of other programs mean nothing to etcd.
    #[test]
    fn other_files_have_no_meaning() {
        assert_eq!(told("leaf-zeroed"), Vec::<String>::new());
        assert_eq!(told("branch-zeroed"), Vec::<String>::new());
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 53_870, 1_234_567].map(grouped),
            ["0", "999", "1,000", "53,870", "1,234,567"]
        );
    }
}
