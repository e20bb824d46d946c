//! Who owns which page of a database, as runs.

use bbolt::reach::Tree;
use bbolt::{PageFile, Source};
use redb::{TableDefinition, WriteTransaction};

use crate::case::Part;
use crate::codec::{BadBlock, Reader, put};
use crate::error::CaseError;
use crate::source::{PageMap, PageRun, PageUse};

/// Runs of a row.
const RUNS_PER_ROW: usize = 1000;

/// The pages of a database.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) map: PageMap,
    runs: Vec<PageRun>,
}

/// What `tree` makes of the pages of `file`.
pub(super) fn map<S: Source>(file: &PageFile<S>, tree: &Tree) -> Pages {
    let count = file.page_count();
    let is_whole = tree.is_whole();
    // The higher one of two metas, for what the other one does not know of is no unused page.
    let high_water_mark = file.metas().iter().flatten().map(|meta| meta.high_water_mark).max();
    let mut usage: Vec<PageUse> = (0..count)
        .map(|page| match () {
            () if tree.used.is_used(bbolt::PageId(page)) => PageUse::Branch,
            () if high_water_mark.is_some_and(|mark| page >= mark) => PageUse::Beyond,
            () if is_whole => PageUse::Free,
            () => PageUse::Unknown,
        })
        .collect();
    let mut set = |page: u64, what| {
        let slot = usize::try_from(page).ok().and_then(|page| usage.get_mut(page));
        if let Some(slot) = slot {
            *slot = what;
        }
    };
    let holes = tree.holes.iter().chain(tree.buckets.iter().flat_map(|bucket| &bucket.holes));
    for page in holes.filter_map(|hole| file.index_of(hole.page)) {
        set(page, PageUse::Damaged);
    }
    for (number, bucket) in (0u32..).zip(&tree.buckets) {
        for page in bucket.leaves.iter().filter_map(|leaf| file.index_of(*leaf)) {
            set(page, PageUse::Leaf(number));
        }
    }
    if let Some(freelist) = file.meta().map(|meta| bbolt::PageId(meta.freelist)) {
        let overflow = file.header(freelist).map_or(0, |header| header.overflow);
        // No longer than the file, whatever the header says.
        for page in (0..=u64::from(overflow))
            .filter_map(|more| file.index_of(bbolt::PageId(freelist.0.checked_add(more)?)))
        {
            set(page, PageUse::Freelist);
        }
    }
    set(0, PageUse::Meta);
    set(1, PageUse::Meta);
    let mut runs: Vec<PageRun> = Vec::new();
    for (page, what) in (0u64..).zip(usage) {
        // A page's overflow belongs to whatever it is the overflow of.
        let overflows = tree.used.is_overflow(bbolt::PageId(page)) && what == PageUse::Branch;
        match runs.last_mut() {
            Some(run) if overflows || run.usage == what => run.pages += 1,
            _ => runs.push(PageRun { first: page, pages: 1, usage: what }),
        }
    }
    let pages_of =
        |is: fn(&PageUse) -> bool| runs.iter().filter(|run| is(&run.usage)).map(|run| run.pages).sum();
    let name = |bucket: &bbolt::reach::Reached| String::from_utf8_lossy(&bucket.name).into_owned();
    let map = PageMap {
        page_size: file.page_size(),
        pages: count,
        buckets: tree.buckets.iter().map(name).collect(),
        free_pages: pages_of(|usage| *usage == PageUse::Free),
        damaged_pages: pages_of(|usage| matches!(usage, PageUse::Damaged | PageUse::Unknown)),
    };
    Pages { map, runs }
}

impl Pages {
    /// Writes them as those of source `number`.
    pub(super) fn write(&self, write: &WriteTransaction, number: u32) -> Result<(), CaseError> {
        let name = Part::Pages.of(number);
        let mut table = write.open_table(TableDefinition::<u64, &[u8]>::new(&name))?;
        for runs in self.runs.chunks(RUNS_PER_ROW) {
            let mut row = Vec::new();
            for run in runs {
                put(&mut row, code(run.usage));
                put(&mut row, run.pages);
            }
            table.insert(runs.first().map_or(0, |run| run.first), row.as_slice())?;
        }
        Ok(())
    }
}

fn code(usage: PageUse) -> u64 {
    match usage {
        PageUse::Meta => 0,
        PageUse::Freelist => 1,
        PageUse::Branch => 2,
        PageUse::Free => 3,
        PageUse::Damaged => 4,
        PageUse::Unknown => 5,
        PageUse::Beyond => 6,
        PageUse::Leaf(bucket) => 7 + u64::from(bucket),
    }
}

/// The runs in a row that begins at page `first`.
pub(crate) fn unpack(first: u64, row: &[u8]) -> Result<Vec<PageRun>, BadBlock> {
    let mut reader = Reader::new(row);
    let (mut runs, mut page) = (Vec::new(), first);
    while !reader.is_done() {
        let usage = match reader.number()? {
            0 => PageUse::Meta,
            1 => PageUse::Freelist,
            2 => PageUse::Branch,
            3 => PageUse::Free,
            4 => PageUse::Damaged,
            5 => PageUse::Unknown,
            6 => PageUse::Beyond,
            bucket => PageUse::Leaf(u32::try_from(bucket - 7).map_err(|_| BadBlock)?),
        };
        let pages = reader.number()?;
        runs.push(PageRun { first: page, pages, usage });
        page = page.checked_add(pages).ok_or(BadBlock)?;
    }
    Ok(runs)
}
