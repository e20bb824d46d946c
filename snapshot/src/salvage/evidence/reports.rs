//! What the report says of an input.

use bbolt::carve::{Carved, Cut, Place};
use bbolt::holes::Holes;
use bbolt::meta::Meta;
use bbolt::page_file::PageFileError;
use bbolt::{Source, Watch};

use crate::finding::Finding;
use crate::integrity::{self, HashingError};
use crate::salvage::SalvageError;
use crate::salvage::classify::{Class, Judged};
use crate::salvage::inputs::{Bytes, Pages};
use crate::salvage::report::{ByteRange, Histogram, InputKind, InputReport, MOST_LISTED, MetaReport};

/// That the SHA-256 at the end of a snapshot is not that of what stands before it: `None` also where there is none, or not all can be read.
pub(super) fn hash_finding(
    bytes: &Holes<Bytes>,
    file: &std::path::Path,
    watch: &dyn Watch,
) -> Result<Option<Finding>, SalvageError> {
    match integrity::verify(bytes, watch) {
        Ok(verdict) => Ok(verdict.finding().map(|finding| {
            let (file, message) =
                (file.display().to_string(), format!("{}: {}", file.display(), finding.message));
            Finding { message, file: Some(file), ..finding }
        })),
        Err(HashingError::Source(_)) => Ok(None),
        Err(HashingError::Interrupted) => Err(SalvageError::Interrupted),
    }
}

pub(super) fn blank_report(
    path: &std::path::Path,
    file: &std::path::Path,
    kind: InputKind,
    bytes: &Holes<Bytes>,
    notes: Vec<String>,
) -> InputReport {
    let len_bytes = bytes.len_bytes();
    let ranges = || {
        bytes.bad().iter().map(|range| (range.start, range.end.min(len_bytes))).filter(|(from, to)| from < to)
    };
    InputReport {
        path: path.to_owned(),
        file: file.to_owned(),
        kind,
        len_bytes,
        has_trailer: false,
        page_size: 0,
        is_page_size_guessed: false,
        first_page: 0,
        pages: 0,
        bad_ranges: ranges().take(MOST_LISTED).map(|(from, to)| ByteRange { from, to }).collect(),
        bad_bytes: ranges().map(|(from, to)| to - from).sum(),
        metas: Vec::new(),
        histogram: Histogram::default(),
        notes,
    }
}

pub(super) fn unknown_report(mut report: InputReport, error: &PageFileError) -> InputReport {
    report.notes.push(format!("nothing can be read of it: {error}"));
    report
}

/// Adds to the report of a file what its pages are.
pub(super) fn complete(report: &mut InputReport, pages: &Pages, carved: &Carved<Judged>) {
    let page_size = u64::from(pages.page_size());
    report.page_size = pages.page_size();
    report.is_page_size_guessed = pages.is_page_size_guessed();
    report.first_page = pages.first_page();
    report.pages = report.len_bytes.div_ceil(page_size);
    report.has_trailer = carved.trailing_bytes == integrity::TRAILER_BYTES;
    if report.has_trailer {
        report.pages = report.len_bytes / page_size;
    }
    let of_meta = |(slot, meta): (u8, &Result<Meta, _>)| match meta {
        Ok(meta) => MetaReport {
            slot,
            transaction: Some(meta.txid),
            root_page: Some(meta.root.0),
            high_water_mark: Some(meta.high_water_mark),
            fault: None,
        },
        Err(fault) => MetaReport {
            slot,
            transaction: None,
            root_page: None,
            high_water_mark: None,
            fault: Some(bbolt::MetaFault::to_string(fault)),
        },
    };
    report.metas = (0..).zip(pages.metas()).map(of_meta).collect();
    let seen = &carved.histogram;
    let histogram = &mut report.histogram;
    histogram.meta = seen.meta;
    histogram.branches = seen.branch;
    histogram.freelists = seen.freelist;
    histogram.overflow = seen.overflow;
    histogram.blank = seen.zero;
    histogram.unreadable = seen.unreadable;
    histogram.unknown = seen.unknown;
    let mut leaves = 0;
    for (run, judged) in &carved.runs {
        leaves += 1;
        match judged.class {
            Class::Key => histogram.key_leaves += 1,
            Class::Root => histogram.root_leaves += 1,
            Class::Other => histogram.other_leaves += 1,
            _ => histogram.small_leaves += 1,
        }
        histogram.displaced += u64::from(run.place == Place::Displaced);
        histogram.cut += u64::from(run.cut.is_some());
        if run.cut == Some(Cut::Unreadable) && !report.notes.iter().any(|note| note.contains("disk refuses"))
        {
            report
                .notes
                .push("the disk refuses parts of it; records that lie there in part are torn".to_owned());
        }
    }
    // Pages that begin as leaves do and turned out to hold nothing.
    histogram.unknown += (seen.leaf + seen.displaced).saturating_sub(leaves);
}
