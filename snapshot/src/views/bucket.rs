//! The pairs of one bucket, from the last to the first.

use std::borrow::Cow;
use std::io::Write;

use bbolt::{Fault, FaultKind, PageFile, PageId, Source, Watch};

use super::leaf::Leaf;
use super::lines::{Printer, Rows, finding_of, mark};
use super::list::find;
use super::stream::in_order;
use super::walk::{Start, Step, Walk, Way};
use super::{Form, ViewError, Viewed, meta_of};
use crate::finding::{Finding, Severity};

/// What is printed of a bucket, and how.
#[derive(Debug, Clone, Copy)]
pub struct IterateOptions {
    /// The form.
    pub form: Form,
    /// No more pairs than this; 0 for all.
    pub limit: u64,
    /// Whether rows of the buckets that etcd-dump-db knows are printed as what they mean.
    pub decode: bool,
    /// Whether the hashes of passwords are shown.
    pub show_secrets: bool,
}

/// What a batch came to.
#[derive(Default)]
struct Part {
    text: Vec<u8>,
    seen: Viewed,
    /// The first key printed, and where it stands.
    first: Option<Place>,
    /// The last one.
    last: Option<Place>,
}

#[derive(Clone)]
struct Place {
    key: Vec<u8>,
    fault_of: (PageId, u16, bbolt::Span),
}

/// Prints the pairs of the bucket `name` to `out`, from the last to the first as etcd-dump-db does, past whatever is broken.
///
/// # Errors
/// When there is no valid meta or no such bucket, the output cannot be written, or the user asks to stop.
pub fn iterate<S: Source>(
    pages: &PageFile<S>,
    name: &[u8],
    options: &IterateOptions,
    out: &mut dyn Write,
    watch: &dyn Watch,
) -> Result<Viewed, ViewError> {
    let meta = meta_of(pages)?;
    let (start, faults) = find(pages, name)?;
    let printer = Printer {
        form: options.form,
        rows: Rows::of(name),
        decode: options.decode,
        show_secrets: options.show_secrets,
    };
    let mut seen = Viewed::default();
    // These stand in the root bucket, of which nothing is printed here.
    for fault in faults {
        seen.add(finding_of(&fault));
    }
    let mut walk = Walk::new(pages, meta.high_water_mark, Way::Backward);
    let mut single = None;
    match start {
        Ok(Start::Page(root)) => walk.enter(root, meta.root),
        Ok(Start::Inline(bytes, page, offset)) => {
            single = Some(Leaf::new(Cow::Owned(bytes), page, offset));
        }
        Err(fault) => {
            let mut part = Part::default();
            part.fault(printer.form, &fault);
            out.write_all(&part.text).map_err(ViewError::Write)?;
            seen.append(part.seen);
        }
    }
    if let Some(leaf) = single {
        let mut part = Part::default();
        part.leaf(&printer, &leaf, most(options.limit, 0));
        out.write_all(&part.text).map_err(ViewError::Write)?;
        seen.append(part.seen);
        return Ok(seen);
    }
    let page_size = u64::from(pages.page_size());
    let work = walk.map(|step| match &step {
        Step::Leaf(_, count) => (count.saturating_mul(page_size), step),
        Step::Fault(_) => (0, step),
    });
    let format = |steps: &[Step], most: u64| {
        let mut part = Part::default();
        for step in steps {
            if part.seen.pairs >= most {
                break;
            }
            match step {
                Step::Leaf(id, count) => match Leaf::read(pages, *id, *count) {
                    Ok(leaf) => part.leaf(&printer, &leaf, most),
                    Err(fault) => part.fault(printer.form, &fault),
                },
                Step::Fault(fault) => part.fault(printer.form, fault),
            }
        }
        part
    };
    watch.begin("reading", meta.high_water_mark.saturating_mul(page_size));
    let mut last: Option<Place> = None;
    let take = |steps: &[Step], mut part: Part| {
        let room = most(options.limit, seen.pairs);
        if part.seen.pairs > room {
            part = format(steps, room);
        }
        if let (Some(above), Some(here)) = (&last, &part.first)
            && let Some(fault) = disorder(here, above)
        {
            let mut before = Part::default();
            before.fault(printer.form, &fault);
            out.write_all(&before.text).map_err(ViewError::Write)?;
            seen.append(before.seen);
        }
        out.write_all(&part.text).map_err(ViewError::Write)?;
        last = part.last.or(last.take());
        seen.append(part.seen);
        Ok(most(options.limit, seen.pairs) > 0)
    };
    in_order(work, |steps| format(steps, most(options.limit, 0)), take, watch)?;
    Ok(seen)
}

/// How many pairs may still be printed after `done`.
fn most(limit: u64, done: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit.saturating_sub(done) }
}

/// What is wrong with the key at `above`, which was printed before the one at `here` and so must be greater.
fn disorder(here: &Place, above: &Place) -> Option<Fault> {
    (here.key >= above.key).then(|| {
        let (page, index, span) = above.fault_of;
        let (key, previous) = (bbolt::fault::readable(&above.key), bbolt::fault::readable(&here.key));
        Fault { page, span, kind: FaultKind::KeyOrder { index, key, previous } }
    })
}

impl Part {
    fn fault(&mut self, form: Form, fault: &Fault) {
        let finding = finding_of(fault);
        mark(form, &finding, fault.page, &mut self.text);
        self.seen.add(finding);
    }

    /// Appends the leaf's pairs from the last on, `most` in all.
    fn leaf(&mut self, printer: &Printer, leaf: &Leaf<'_>, most: u64) {
        if let Some(fault) = leaf.count_fault() {
            self.fault(printer.form, &fault);
        }
        let mut above: Option<(u16, &[u8])> = None;
        for index in (0..leaf.count()).rev() {
            if self.seen.pairs >= most {
                break;
            }
            let element = match leaf.element(index) {
                Ok(element) => element,
                Err(fault) => {
                    self.fault(printer.form, &fault);
                    continue;
                }
            };
            let place = |index: u16, key: &[u8]| {
                let fault = leaf.element_fault(index, FaultKind::EmptyKey { index });
                Place { key: key.to_vec(), fault_of: (fault.page, index, fault.span) }
            };
            if element.key.is_empty() {
                self.fault(printer.form, &leaf.element_fault(index, FaultKind::EmptyKey { index }));
            }
            let broken = match (above, &self.last) {
                (Some((index, key)), _) if element.key >= key => {
                    disorder(&place(index, element.key), &place(index, key))
                }
                (None, Some(last)) => disorder(&place(index, element.key), last),
                _ => None,
            };
            if let Some(fault) = broken {
                self.fault(printer.form, &fault);
            }
            if self.first.is_none() {
                self.first = Some(place(index, element.key));
            }
            above = Some((index, element.key));
            // A nested bucket is a key without value, as bbolt's cursor has it.
            let value = if element.is_bucket { &[][..] } else { element.value };
            let said = printer.pair(element.key, value, &mut self.text);
            self.seen.pairs += 1;
            self.seen.hidden_secrets += u64::from(said.hid_secret);
            if let Some((code, what)) = said.undecodable {
                let message = format!("page {}, element {index}: {what}", leaf.id());
                let offset = Some(leaf.offset_of(element.key));
                let finding = Finding { offset, ..Finding::new(code, Severity::Error, message) };
                mark(printer.form, &finding, leaf.id(), &mut self.text);
                self.seen.add(finding);
            }
        }
        if let Some((index, key)) = above {
            let fault = leaf.element_fault(index, FaultKind::EmptyKey { index });
            self.last = Some(Place { key: key.to_vec(), fault_of: (fault.page, index, fault.span) });
        }
    }
}
