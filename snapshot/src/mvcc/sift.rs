//! Which records stay when those of some keys go, with all their history.

use bbolt::{Db, Node, Source, Watch};

use super::bad_records::{BadRecords, pair_of};
use super::pass::{KeySpaceError, Take, only_records, pass, record_of};
use super::{KeyValue, Ordinals, Release, Revision, Store};
use crate::finding::Finding;
use crate::schema::Schema;

/// What stays.
#[derive(Debug, Clone, Default)]
pub struct Sifted {
    /// The records that stay, by their number in bucket `key`.
    pub kept: Ordinals,
    /// Records before.
    pub records_before: u64,
    /// Records after.
    pub records_after: u64,
    /// The revision of the last record that stays; 0 when none does.
    pub last_kept: i64,
    /// What is odd about the file.
    pub findings: Vec<Finding>,
}

/// Asks of every record of bucket `key`, from several threads, whether it stays. Proves the structure of all of `db` on the
/// way.
///
/// # Errors
/// When the structure is damaged, a pair of bucket `key` is no record, or the user asked to stop.
pub fn sift<S: Source>(
    db: &Db<S>,
    stays: impl Fn(Revision, &KeyValue<'_>) -> bool + Sync,
    watch: &dyn Watch,
) -> Result<Sifted, KeySpaceError> {
    let passed = pass(db, || Sieve(&stays), watch)?;
    let mut sifted = Sifted { findings: passed.findings, ..Sifted::default() };
    let mut bad = BadRecords::default();
    for run in passed.runs {
        bad.append(run.bad);
        (0..run.kept.pairs()).for_each(|ordinal| sifted.kept.push(run.kept.contains(ordinal)));
        sifted.records_before += run.kept.pairs();
        sifted.records_after += run.records_kept;
        sifted.last_kept = sifted.last_kept.max(run.last_kept);
    }
    sifted.findings.extend(only_records(bad)?);
    sifted.findings.extend(Store::read(db, Release::default())?.ahead(&Schema::read(db)?));
    Ok(sifted)
}

struct Sieve<F>(F);

#[derive(Default)]
struct Run {
    kept: Ordinals,
    records_kept: u64,
    last_kept: i64,
    bad: BadRecords,
}

impl<F: Fn(Revision, &KeyValue<'_>) -> bool + Sync> Take for Sieve<F> {
    type Run = Run;

    fn begin(&self, _number: u16) -> Run {
        Run::default()
    }

    fn leaf(&self, run: &mut Run, leaf: &Node<'_>) {
        for index in 0..leaf.count() {
            let pair = pair_of(leaf, index);
            let (revision, kv) = match record_of(&pair) {
                Ok(record) => record,
                Err(what) => {
                    run.bad.malformed_pair(&pair, &what);
                    continue;
                }
            };
            let stays = (self.0)(revision, &kv);
            run.kept.push(stays);
            if stays {
                run.records_kept += 1;
                run.last_kept = revision.main;
            }
        }
    }

    fn end(&self, _run: &mut Run) {}
}
