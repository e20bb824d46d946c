//! What fills a database: records and bytes by prefix of the key and by what a record is to the store, the largest keys, and
//! those that were changed most often.
//!
//! The keys come in their order from the index, so that only the prefixes which the current key has are open at a time. What a
//! prefix that is closed comes to goes to the one around it, which keeps the largest and adds up the others: memory is the
//! index, and what is shown.

use std::cmp::Reverse;

use bbolt::survey::{SurveyOptions, survey};
use bbolt::{Db, Source, Unmetered, Watch};

use crate::finding::Finding;
use crate::mvcc::{Entry, History, Index, IndexOptions, KeyRange, KeySpaceError, Release, Store};
use crate::schema::Schema;

/// What is counted, and how much of it is told.
#[derive(Debug, Clone)]
pub struct UsageOptions {
    /// Only keys that begin so.
    pub prefix: Vec<u8>,
    /// What ends a part of a key; not empty.
    pub separator: Vec<u8>,
    /// Most parts, after `prefix`, that a prefix of the tree has.
    pub depth: usize,
    /// Most prefixes that are told of within each, and most keys of each list.
    pub top: usize,
    /// Go on past what is damaged or no record.
    pub skip_bad: bool,
    /// The release whose rules say what a compaction frees.
    pub release: Release,
}

/// Some records, and what they take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Number of records.
    pub records: u64,
    /// Bytes of their bucket keys and values. Each takes 16 more on its page.
    pub bytes: u64,
}

impl Share {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What some keys take, by what their records are to the store now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Keys that have a record.
    pub keys: u64,
    /// The newest puts of the keys that are there.
    pub live: Share,
    /// Puts that a later put or a deletion superseded.
    pub superseded: Share,
    /// Deletions.
    pub tombstones: Share,
    /// What a compaction at the current revision would remove of all these.
    pub freed: Share,
}

impl Amount {
    /// All records of one key.
    fn of(entries: &[Entry], store: &Store, release: Release) -> Self {
        let mut amount = Self { keys: 1, ..Self::default() };
        for (number, entry) in entries.iter().enumerate() {
            let one = Share { records: 1, bytes: entry.pair_bytes() };
            let is_last = number + 1 == entries.len();
            let at_last_revision = entry.main() == store.current_revision;
            let stays = if entry.is_tombstone() {
                amount.tombstones.add(one);
                is_last && at_last_revision && release.keeps_tombstone_at_compaction()
            } else if is_last {
                amount.live.add(one);
                true
            } else {
                amount.superseded.add(one);
                false
            };
            if !stays {
                amount.freed.add(one);
            }
        }
        amount
    }

    /// All records.
    #[must_use]
    pub fn all(&self) -> Share {
        let mut all = self.live;
        all.add(self.superseded);
        all.add(self.tombstones);
        all
    }

    fn add(&mut self, other: &Self) {
        self.keys += other.keys;
        self.live.add(other.live);
        self.superseded.add(other.superseded);
        self.tombstones.add(other.tombstones);
        self.freed.add(other.freed);
    }
}

/// What the keys with one prefix take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The prefix, whole, with the separator that ends it.
    pub name: Vec<u8>,
    /// What all keys in it take.
    pub amount: Amount,
    /// What those keys take that are in no prefix of the next level.
    pub own: Amount,
    /// The largest prefixes of the next level, the largest first.
    pub inner: Vec<Self>,
    /// Number of prefixes of the next level that are not among them.
    pub others: u64,
    /// What the keys in those take.
    pub others_amount: Amount,
}

/// One key of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// The key.
    pub key: Vec<u8>,
    /// What its records take.
    pub amount: Amount,
    /// Bytes of its largest record.
    pub largest_record_bytes: u64,
}

/// What the file is made of, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileUse {
    /// The file up to its high-water mark.
    pub file_bytes: u64,
    /// Pages that something is reached by.
    pub in_use_bytes: u64,
}

impl FileUse {
    /// Pages that nothing is reached by: what a defragmentation frees without a compaction, at the least.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.file_bytes.saturating_sub(self.in_use_bytes)
    }
}

/// What fills a database.
#[derive(Debug, Clone)]
pub struct Usage {
    /// What the store is taken for.
    pub store: Store,
    /// The small buckets.
    pub schema: Schema,
    /// The file; `None` when its pages cannot be told apart, since it is damaged.
    pub file: Option<FileUse>,
    /// All keys, by their prefixes.
    pub root: Prefix,
    /// The keys that take most bytes, the largest first.
    pub largest: Vec<KeyUse>,
    /// The keys with most records, the most first. Keys with a single one are not among them.
    pub most_changed: Vec<KeyUse>,
    /// What is wrong with the file and the records.
    pub findings: Vec<Finding>,
}

/// Counts what fills `db`.
///
/// # Errors
/// When the key space cannot be read, or the user asked to stop.
pub fn usage<S: Source>(
    db: &Db<S>,
    options: &UsageOptions,
    watch: &dyn Watch,
) -> Result<Usage, KeySpaceError> {
    let range = if options.prefix.is_empty() { KeyRange::all() } else { KeyRange::prefix(&options.prefix) };
    let index_options = IndexOptions {
        range,
        skip_bad: options.skip_bad,
        release: options.release,
        ..IndexOptions::default()
    };
    let index = Index::build(db, &index_options, watch)?;
    let store = *index.store();
    let mut tree = Tree::new(options);
    let mut largest = Longest::new(options.top);
    let mut most_changed = Longest::new(options.top);
    for (number, history) in index.histories().enumerate() {
        if watch.interrupted() {
            return Err(KeySpaceError::Interrupted);
        }
        let amount = Amount::of(history.entries(), &store, options.release);
        let all = amount.all();
        tree.add(&history.key()?, &amount);
        largest.offer((all.bytes, Reverse(number)));
        if all.records > 1 {
            most_changed.offer((all.records, Reverse(number)));
        }
    }
    let of = |list: Longest<(u64, Reverse<usize>)>| -> Result<Vec<KeyUse>, KeySpaceError> {
        let histories = list.finish().into_iter().filter_map(|(_, Reverse(number))| index.history(number));
        histories.map(|history| key_use(&history, &store, options.release)).collect()
    };
    let (largest, most_changed) = (of(largest)?, of(most_changed)?);
    let (findings, schema) = (index.findings().to_vec(), index.schema().clone());
    drop(index);
    Ok(Usage {
        store,
        schema,
        file: file_use(db, watch)?,
        root: tree.finish(),
        largest,
        most_changed,
        findings,
    })
}

fn key_use<S: Source>(
    history: &History<'_, '_, S>,
    store: &Store,
    release: Release,
) -> Result<KeyUse, KeySpaceError> {
    Ok(KeyUse {
        key: history.key()?.into_owned(),
        amount: Amount::of(history.entries(), store, release),
        largest_record_bytes: history.entries().iter().map(Entry::pair_bytes).max().unwrap_or_default(),
    })
}

fn file_use<S: Source>(db: &Db<S>, watch: &dyn Watch) -> Result<Option<FileUse>, KeySpaceError> {
    let options = SurveyOptions { prefix: Vec::new(), list_inline: false };
    let surveyed = survey(db, &options, &Unmetered(watch)).map_err(|_| KeySpaceError::Interrupted)?;
    let page_size = u64::from(db.page_size());
    Ok(surveyed.is_whole.then(|| FileUse {
        file_bytes: db.page_count().saturating_mul(page_size),
        in_use_bytes: surveyed.used.used().saturating_mul(page_size),
    }))
}

/// The largest of what it is offered, in memory for a few.
struct Longest<T> {
    most: usize,
    kept: Vec<T>,
}

impl<T: Ord> Longest<T> {
    fn new(most: usize) -> Self {
        Self { most, kept: Vec::new() }
    }

    fn offer(&mut self, item: T) {
        self.kept.push(item);
        if self.kept.len() > self.most.saturating_mul(2).saturating_add(64) {
            self.cut();
        }
    }

    /// Takes away all but the largest.
    fn cut(&mut self) {
        self.kept.sort_unstable_by(|a, b| b.cmp(a));
        self.kept.truncate(self.most);
    }

    fn finish(mut self) -> Vec<T> {
        self.cut();
        self.kept
    }
}

/// The prefixes that the current key has, and what is known of them so far.
struct Tree<'o> {
    options: &'o UsageOptions,
    /// The outermost first; the first is all keys.
    open: Vec<Prefix>,
}

impl<'o> Tree<'o> {
    fn new(options: &'o UsageOptions) -> Self {
        let root = Prefix { name: options.prefix.clone(), ..Prefix::default() };
        Self { options, open: vec![root] }
    }

    /// Counts a key; keys come in their order.
    fn add(&mut self, key: &[u8], amount: &Amount) {
        while self.open.len() > 1 && self.open.last().is_some_and(|open| !key.starts_with(&open.name)) {
            self.close();
        }
        let mut end = self.open.last().map_or(0, |open| open.name.len());
        while self.open.len() <= self.options.depth {
            let Some(next) = part_end(key, end, &self.options.separator) else { break };
            end = next;
            self.open.push(Prefix { name: key.get(..end).unwrap_or_default().to_vec(), ..Prefix::default() });
        }
        if let Some(innermost) = self.open.last_mut() {
            innermost.own.add(amount);
            innermost.amount.add(amount);
        }
    }

    /// Closes the innermost prefix.
    fn close(&mut self) {
        let Some(mut closed) = self.open.pop() else { return };
        closed.keep(self.options.top);
        if let Some(outer) = self.open.last_mut() {
            outer.amount.add(&closed.amount);
            outer.inner.push(closed);
            if outer.inner.len() > self.options.top.saturating_mul(2).saturating_add(64) {
                outer.keep(self.options.top);
            }
        }
    }

    fn finish(mut self) -> Prefix {
        while self.open.len() > 1 {
            self.close();
        }
        let mut root = self.open.pop().unwrap_or_default();
        root.keep(self.options.top);
        root
    }
}

impl Prefix {
    /// Keeps the `top` largest of the next level, and adds up the others.
    fn keep(&mut self, top: usize) {
        self.inner.sort_by(|a, b| {
            let by_bytes = b.amount.all().bytes.cmp(&a.amount.all().bytes);
            by_bytes.then_with(|| a.name.cmp(&b.name))
        });
        for other in self.inner.drain(top.min(self.inner.len())..) {
            self.others += 1;
            self.others_amount.add(&other.amount);
        }
    }
}

/// Where the part of `key` ends that begins at `start`, with its separator. One that begins with the separator, as all keys of
/// Kubernetes do, goes on to the next.
fn part_end(key: &[u8], start: usize, separator: &[u8]) -> Option<usize> {
    let rest = key.get(start..)?;
    let skipped = if rest.starts_with(separator) { separator.len() } else { 0 };
    let tail = rest.get(skipped..)?;
    let at = tail.windows(separator.len().max(1)).position(|window| window == separator)?;
    Some(start + skipped + at + separator.len())
}
