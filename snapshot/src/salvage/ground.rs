//! What the ways stand on: the evidence, with the rules by which its records count.

use std::fs::File;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};

use bbolt::file::FileSource;
use bbolt::{Build, BuildError, BuildOptions, Built, Io, PageWriter, Watch};

use super::SalvageError;
use super::evidence::Evidence;
use super::rules::{Judge, Rules, Standing, Verdict};
use super::sweep::{Copy, Group, State, Sweep, Trust};
use super::ways::{Base, Small};
use crate::edited::EditError;
use crate::finding::{Finding, Severity};
use crate::mvcc::Revision;
use crate::schema::KEY;

/// Which of the records that belong a way has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Those that a tree reaches, as it has them, whatever else is known.
    Tree(usize),
    /// Those of the first tree and what belongs into its gaps.
    Leaves,
    /// Everything that belongs.
    Carved,
    /// Everything that belongs, up to a main revision.
    Upto(i64),
    /// Nothing.
    Nothing,
}

impl Selection {
    /// The copy that it takes of a group, and how far that is to be believed; `None` when it does not take it.
    #[inline]
    pub(crate) fn takes(self, group: &Group<'_>, verdict: &Verdict) -> Option<(usize, Trust)> {
        match self {
            Self::Tree(number) => {
                let bit = 1u64.checked_shl(u32::try_from(number).ok()?)?;
                let reached =
                    |(_, copy): &(usize, &Copy<'_>)| copy.trees & bit != 0 && copy.state != State::Torn;
                let (at, copy) =
                    group.copies.iter().enumerate().filter(reached).max_by_key(|(_, copy)| copy.state)?;
                let believed = group.copies.get(verdict.chosen?)?;
                let is_same = believed.value == copy.value && believed.is_tombstone == copy.is_tombstone;
                let is_open = verdict.is_resurrected || !verdict.belongs();
                // What a newer tree speaks against was right when this one was written.
                let trust = if is_open { verdict.trust.max(Trust::Single) } else { verdict.trust };
                Some((at, if is_same { trust } else { Trust::Suspect }))
            }
            Self::Leaves if verdict.standing == Standing::Beyond => None,
            Self::Upto(main) if group.main > main => None,
            Self::Leaves | Self::Carved | Self::Upto(_) => {
                if verdict.belongs() {
                    Some((verdict.chosen?, verdict.trust))
                } else {
                    None
                }
            }
            Self::Nothing => None,
        }
    }
}

/// The evidence, with the rules by which its records count.
#[derive(Debug)]
pub(crate) struct Ground<'e> {
    /// All that was found.
    pub(crate) evidence: &'e Evidence,
    /// All copies of every revision.
    pub(crate) sweep: Sweep<'e>,
    /// What becomes of each.
    pub(crate) rules: Rules,
    /// Whether what is newer than all trees is missed when it is left out.
    pub(crate) counts_beyond: bool,
}

/// A group that a way takes, with the copy chosen.
pub(crate) struct Taken<'g> {
    pub(crate) group: &'g Group<'g>,
    pub(crate) copy: &'g Copy<'g>,
    pub(crate) trust: Trust,
    pub(crate) verdict: Verdict,
}

impl Taken<'_> {
    /// The record's key in bucket `key`.
    pub(crate) fn revision(&self) -> Revision {
        Revision { main: self.group.main, sub: self.group.sub, tombstone: self.copy.is_tombstone }
    }
}

impl Ground<'_> {
    /// What is to be said where nothing tells up to which revision was compacted.
    pub(crate) fn unknown_compaction(&self) -> Option<String> {
        (!self.rules.knows_compaction).then(|| {
            "bucket meta is lost, and with it up to which revision was compacted: what is not there may have been removed rightly, and of \
             what was found some may have been"
                .to_owned()
        })
    }

    /// The files that are of another history than the first tree, as findings.
    pub(crate) fn strangers(&self) -> Vec<Finding> {
        let path = |source: usize| {
            let source = self.evidence.sources.get(source);
            source.map(|source| source.path.display().to_string()).unwrap_or_default()
        };
        let reference = self.evidence.trees.first().map(|tree| path(tree.source)).unwrap_or_default();
        let parted = self.rules.strangers.iter().enumerate().filter(|(_, parted)| **parted < i64::MAX);
        let finding = |(source, parted): (usize, &i64)| {
            let message = format!(
                "{}: from revision {parted} on it has other values than {reference}, which goes further: it is of another member, or of \
                 another history of this one, such as before a restore. What it has from there on was left out; salvage it alone",
                path(source)
            );
            Finding::new("SALVAGE-STRANGERS", Severity::Error, message)
        };
        parted.map(finding).collect()
    }

    /// Shows `each` the records that `selection` takes, in the order of their revisions, until it says that it is enough.
    ///
    /// # Errors
    /// [`SalvageError::Interrupted`].
    pub(crate) fn records(
        &self,
        selection: Selection,
        watch: &dyn Watch,
        each: &mut dyn FnMut(&Taken<'_>) -> ControlFlow<()>,
    ) -> Result<(), SalvageError> {
        let mut has_ended = false;
        for range in 0..self.sweep.ranges() {
            let mut judge = self.rules.judge(range);
            self.sweep.walk(range, watch, &mut |group| {
                let flow = self.taken(selection, group, &mut judge, each);
                has_ended |= flow.is_break();
                flow
            })?;
            if has_ended {
                break;
            }
        }
        Ok(())
    }

    #[inline]
    fn taken(
        &self,
        selection: Selection,
        group: &Group<'_>,
        judge: &mut Judge<'_>,
        each: &mut dyn FnMut(&Taken<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if let Selection::Upto(main) = selection
            && group.main > main
        {
            return ControlFlow::Break(());
        }
        let verdict = judge.verdict(group);
        let Some((at, trust)) = selection.takes(group, &verdict) else { return ControlFlow::Continue(()) };
        let Some(copy) = group.copies.get(at) else { return ControlFlow::Continue(()) };
        each(&Taken { group, copy, trust, verdict })
    }

    /// Whether a record is known to have existed.
    pub(crate) fn knows(&self, verdict: &Verdict) -> bool {
        verdict.belongs() && (self.counts_beyond || verdict.standing != Standing::Beyond)
    }

    /// The records of a base.
    pub(crate) fn selection(&self, base: Base) -> Selection {
        match base {
            Base::Empty => Selection::Nothing,
            Base::Tree(number) => Selection::Tree(number),
        }
    }

    /// Builds a database without a name of the records of `base` and the buckets of `small`, for a log to be applied to.
    ///
    /// # Errors
    /// When there is no room for it, or the user asked to stop.
    pub(crate) fn build_base(
        &self,
        base: Base,
        small: &Small,
        watch: &dyn Watch,
    ) -> Result<FileSource, SalvageError> {
        self.in_temporary(watch, |file| self.build(file, self.selection(base), small, watch))
    }

    /// A database without a name, for a log to be applied to, of what `write` puts into it.
    ///
    /// # Errors
    /// When there is no room for it, or the user asked to stop.
    pub(crate) fn in_temporary(
        &self,
        watch: &dyn Watch,
        write: impl FnOnce(&File) -> Result<Outcome, NotBuilt>,
    ) -> Result<FileSource, SalvageError> {
        let (file, dir) = self.temporary()?;
        watch.begin("building what the log is applied to", self.evidence.leaf_bytes());
        let refused = |source| SalvageError::Temporary { dir: dir.clone(), source };
        match write(&file) {
            Ok(_) => {}
            Err(NotBuilt::Salvage(error)) => return Err(error),
            Err(NotBuilt::Build(error)) => return Err(refused(std::io::Error::other(error.to_string()))),
        }
        FileSource::new(file, Path::new("database without a name"), Io::Mmap).map_err(refused)
    }

    /// A fresh file without a name, and the directory that it is in.
    pub(crate) fn temporary(&self) -> Result<(File, PathBuf), SalvageError> {
        let dir = self.evidence.options.input.tmp_dir.clone().unwrap_or_else(std::env::temp_dir);
        match tempfile::tempfile_in(&dir) {
            Ok(file) => Ok((file, dir)),
            Err(source) => Err(SalvageError::Temporary { dir, source }),
        }
    }

    /// Length of a page of what is built: that of the first file whose pages could be told apart, where a server has such pages.
    pub(crate) fn page_size(&self) -> u32 {
        let first = self.evidence.trees.first().map_or(0, |tree| tree.source);
        let size = self.evidence.sources.get(first).map(|source| source.pages.page_size());
        size.filter(|size| (4096..=65_536).contains(size)).unwrap_or(BuildOptions::default().page_size)
    }

    /// Writes the records of `selection` and the buckets of `small` into a fresh file.
    pub(crate) fn build<W: PageWriter>(
        &self,
        writer: W,
        selection: Selection,
        small: &Small,
        watch: &dyn Watch,
    ) -> Result<Outcome, NotBuilt> {
        self.build_with(writer, small, |build| {
            let mut pairs = 0;
            let mut key = Vec::new();
            self.each_built(selection, watch, &mut |taken| {
                taken.revision().encode_into(&mut key);
                pairs += 1;
                build.put(&key, taken.copy.value)
            })?;
            Ok(pairs)
        })
    }

    /// Writes the buckets of `small` into a fresh file, and between them bucket `key` with what `records` puts into it, which returns
    /// how many pairs that are.
    pub(crate) fn build_with<W: PageWriter>(
        &self,
        writer: W,
        small: &Small,
        records: impl FnOnce(&mut Build<W>) -> Result<u64, NotBuilt>,
    ) -> Result<Outcome, NotBuilt> {
        let options = BuildOptions { page_size: self.page_size(), ..BuildOptions::default() };
        let mut build = Build::new(writer, options)?;
        let before = small.buckets.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(KEY)));
        let mut pairs = put_buckets(&mut build, before)?;
        build.begin_bucket(KEY)?;
        pairs += records(&mut build)?;
        build.end_bucket()?;
        let behind = small.buckets.range::<[u8], _>((Bound::Excluded(KEY), Bound::Unbounded));
        pairs += put_buckets(&mut build, behind)?;
        let buckets = small.buckets.keys().filter(|name| name.as_slice() != KEY).count() as u64 + 1;
        Ok(Outcome { built: build.finish()?, pairs, buckets })
    }

    /// Shows `put` the records of `selection` up to the first that cannot be put.
    pub(crate) fn each_built(
        &self,
        selection: Selection,
        watch: &dyn Watch,
        put: &mut dyn FnMut(&Taken<'_>) -> Result<(), BuildError>,
    ) -> Result<(), NotBuilt> {
        let mut failed = None;
        self.records(selection, watch, &mut |taken| match put(taken) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// A file that was built, and what was put into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) built: Built,
    pub(crate) pairs: u64,
    pub(crate) buckets: u64,
}

type Rows = std::collections::BTreeMap<Vec<u8>, Vec<u8>>;

fn put_buckets<'b, W: PageWriter>(
    build: &mut Build<W>,
    buckets: impl Iterator<Item = (&'b Vec<u8>, &'b Rows)>,
) -> Result<u64, BuildError> {
    let mut pairs = 0;
    for (name, rows) in buckets {
        build.begin_bucket(name)?;
        for (key, value) in rows {
            build.put(key, value)?;
            pairs += 1;
        }
        build.end_bucket()?;
    }
    Ok(pairs)
}

/// Why a file was not built.
#[derive(Debug)]
pub(crate) enum NotBuilt {
    Build(BuildError),
    Salvage(SalvageError),
}

impl From<BuildError> for NotBuilt {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl From<SalvageError> for NotBuilt {
    fn from(error: SalvageError) -> Self {
        Self::Salvage(error)
    }
}

impl NotBuilt {
    /// The error of a job that writes to `path`.
    pub(crate) fn at(self, path: &Path) -> SalvageError {
        match self {
            Self::Salvage(error) => error,
            Self::Build(error) => {
                EditError::Rebuild { path: path.display().to_string(), source: error.into() }.into()
            }
        }
    }
}
