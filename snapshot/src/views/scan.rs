//! The revisions on all pages, reachable or not: what etcd-dump-db calls scan-keys.

use std::io::Write;

use bbolt::page::FLAG_LEAF;
use bbolt::{Fault, PageFile, PageId, PageSet, Source, Watch};

use super::leaf::Leaf;
use super::lines::{Printer, Rows, finding_of, mark, revision_of};
use super::stream::in_order;
use super::walk::{Start, Step, Walk, Way};
use super::{Form, ViewError, Viewed};
use crate::finding::{Finding, Severity};
use crate::schema::{
    ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, KEY, LEASE, MEMBERS, MEMBERS_REMOVED, META,
};

/// Names on a page that tell that it is one of the root bucket.
const NAMES: [&[u8]; 10] =
    [ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, KEY, LEASE, MEMBERS, MEMBERS_REMOVED, META];

/// What is printed of the pages, and how.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions {
    /// The form.
    pub form: Form,
    /// The first revision printed; 0 for all.
    pub start_revision: i64,
}

/// What a scan came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// What was printed and what is wrong with pages in use.
    pub seen: Viewed,
    /// Elements on leaves that are no revisions: rows of other buckets, or remains of them.
    pub others: u64,
    /// What cannot be read on pages that are not in use any more, which is no fault of the file.
    pub remains: u64,
}

enum Work {
    Leaf(PageId, u64),
    Fault(Box<Fault>),
}

/// Prints every revision on the leaves among the pages up to the higher high-water mark, in the order of the pages: as
/// etcd-dump-db does, but for that program's taking the mark from meta 0 even when meta 1 is newer. Without a valid meta all
/// pages of the file are looked at.
///
/// # Errors
/// When the output cannot be written, or the user asks to stop.
pub fn scan<S: Source>(
    pages: &PageFile<S>,
    options: &ScanOptions,
    out: &mut dyn Write,
    watch: &dyn Watch,
) -> Result<Scanned, ViewError> {
    let marks = pages.metas().iter().flatten().map(|meta| meta.high_water_mark);
    let end = marks.max().unwrap_or(u64::MAX).min(pages.page_count());
    let mut scanned = Scanned::default();
    let (reached, faults) = reachable(pages, watch)?;
    if reached.is_none() {
        for (slot, fault) in
            pages.metas().iter().enumerate().filter_map(|(slot, meta)| Some((slot, meta.as_ref().err()?)))
        {
            scanned.seen.add(Finding::new(fault.code(), Severity::Error, format!("meta {slot}: {fault}")));
        }
    }
    let mut faults = faults.into_iter().peekable();
    let mut next = 2;
    let page_size = u64::from(pages.page_size());
    let work = std::iter::from_fn(|| {
        loop {
            if faults.peek().is_some_and(|fault| fault.page.0 <= next || next >= end) {
                return faults.next().map(|fault| (0, Work::Fault(Box::new(fault))));
            }
            if next >= end {
                return None;
            }
            let id = PageId(next);
            next += 1;
            let Ok(header) = pages.header(id) else { continue };
            if header.id != id.0 || header.flags != FLAG_LEAF {
                continue;
            }
            let own = u64::from(header.overflow) + 1;
            let there = own.min(pages.page_count() - id.0);
            if own == there {
                next = id.0 + own;
            } else if reached.as_ref().is_some_and(|reached| !reached.contains(id)) {
                // No such leaf can have been written here; the page is a remnant of something else.
                continue;
            }
            return Some((there.saturating_mul(page_size), Work::Leaf(id, there)));
        }
    });
    let format = |batch: &[Work]| {
        let mut part = Part { printer: printer(options.form), text: Vec::new(), scanned: Scanned::default() };
        for work in batch {
            match work {
                Work::Leaf(id, count) => {
                    let in_use = reached.as_ref().map(|reached| reached.contains(*id));
                    match Leaf::read(pages, *id, *count) {
                        Ok(leaf) => part.leaf(&leaf, in_use, options),
                        Err(fault) => part.wrong(in_use, finding_of(&fault), *id),
                    }
                }
                Work::Fault(fault) => part.wrong(Some(true), finding_of(fault), fault.page),
            }
        }
        (part.text, part.scanned)
    };
    watch.begin("reading", end.saturating_mul(page_size));
    let take = |_: &[Work], (text, part): (Vec<u8>, Scanned)| {
        out.write_all(&text).map_err(ViewError::Write)?;
        scanned.seen.append(part.seen);
        scanned.others += part.others;
        scanned.remains += part.remains;
        Ok(true)
    };
    in_order(work, format, take, watch)?;
    Ok(scanned)
}

const fn printer(form: Form) -> Printer {
    Printer { form, rows: Rows::Records, decode: true, show_secrets: false }
}

struct Part {
    printer: Printer,
    text: Vec<u8>,
    scanned: Scanned,
}

impl Part {
    fn leaf(&mut self, leaf: &Leaf<'_>, in_use: Option<bool>, options: &ScanOptions) {
        if let Some(fault) = leaf.count_fault() {
            self.wrong(in_use, finding_of(&fault), leaf.id());
        }
        let last = i64::from(leaf.declared()) - 1;
        for index in 0..leaf.count() {
            let element = match leaf.element(index) {
                Ok(element) => element,
                Err(fault) => {
                    self.wrong(in_use, finding_of(&fault), leaf.id());
                    continue;
                }
            };
            let Some(revision) = revision_of(element.key) else {
                if NAMES.contains(&element.key) {
                    break;
                }
                self.scanned.others += 1;
                continue;
            };
            if options.start_revision != 0 && revision.main < options.start_revision {
                continue;
            }
            let begin = self.text.len();
            let id = leaf.id();
            // Writing to memory does not fail.
            let _ = match options.form {
                Form::Lines => write!(self.text, "pageID={id}, index={index}/{last}, "),
                Form::Json => write!(self.text, "{{\"page\":{id},\"index\":{index},\"count\":{}", last + 1)
                    .and_then(|()| match in_use {
                        Some(in_use) => write!(self.text, ",\"reachable\":{in_use}"),
                        None => Ok(()),
                    }),
            };
            match self.printer.revision(revision, element.value, &mut self.text) {
                Ok(()) => self.scanned.seen.pairs += 1,
                Err(what) => {
                    self.text.truncate(begin);
                    let message = format!("page {id}, element {index}: {what}");
                    let finding = Finding::new("ETCD-RECORD", Severity::Error, message);
                    let offset = Some(leaf.offset_of(element.key));
                    self.wrong(in_use, Finding { offset, ..finding }, id);
                }
            }
        }
    }

    /// Marks what is wrong. On a page not in use it is no finding: its bytes may belong to two times of the file.
    fn wrong(&mut self, in_use: Option<bool>, finding: Finding, page: PageId) {
        mark(self.printer.form, &finding, page, &mut self.text);
        if in_use == Some(false) {
            self.scanned.remains += 1;
        } else {
            self.scanned.seen.add(finding);
        }
    }
}

/// The pages that the meta in force reaches, all buckets' trees included, and what is wrong on the way, by page; no set when
/// there is no meta.
fn reachable<S: Source>(
    pages: &PageFile<S>,
    watch: &dyn Watch,
) -> Result<(Option<PageSet>, Vec<Fault>), ViewError> {
    let Some(meta) = pages.meta() else { return Ok((None, Vec::new())) };
    let mut walk = Walk::new(pages, meta.high_water_mark, Way::Forward);
    walk.enter(meta.root, PageId(0));
    let mut faults = Vec::new();
    while let Some(step) = walk.next() {
        if watch.interrupted() {
            return Err(ViewError::Interrupted);
        }
        match step {
            Step::Leaf(id, count) => {
                // What is wrong within the leaf is found when it is printed.
                let Ok(leaf) = Leaf::read(pages, id, count) else { continue };
                for index in 0..leaf.count() {
                    let Ok(element) = leaf.element(index) else { continue };
                    if !element.is_bucket {
                        continue;
                    }
                    match Start::of(&leaf, index, &element) {
                        Ok(Start::Page(root)) => walk.enter(root, id),
                        Ok(Start::Inline(..)) => {}
                        Err(fault) => faults.push(fault),
                    }
                }
            }
            Step::Fault(fault) => faults.push(*fault),
        }
    }
    faults.sort_by_key(|fault| fault.page);
    Ok((Some(walk.into_seen()), faults))
}
