//! What the commands under `bbolt` have in common: opening, streaming what they print, and saying what is wrong.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bbolt::check::{self, Report};
use bbolt::fault::FaultKind;
use bbolt::render::ordered::{self, RenderError};
use bbolt::{Bucket, Db, Fault, FileSource, PageFile, PageId, Watch};
use clap::Args;
use snapshot::finding::{Finding, Severity};
use snapshot::opened::Opened;
use snapshot::structure;

use crate::context::Context;
use crate::exit::Failure;
use crate::output::Format;
use crate::stream;

/// The file, and how long its pages are.
#[derive(Debug, Args)]
pub(crate) struct PagesArgs {
    /// A bbolt file, a snapshot or a data dir
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Length of a page, for files whose metas do not say it [default: a valid meta's, else found by looking]
    #[arg(long, value_name = "BYTES")]
    pub(crate) page_size: Option<u32>,
}

impl PagesArgs {
    /// The file as pages.
    ///
    /// # Errors
    /// When it is no file of pages at all.
    pub(crate) fn pages<'i>(&self, input: &'i Opened) -> Result<PageFile<&'i FileSource>, Failure> {
        PageFile::new(input.source(), self.page_size)
            .map_err(|error| Failure::failed(format!("{}: {error}", self.input.display())))
    }
}

/// The database in `input`, which the user called `path`.
///
/// # Errors
/// When it has no valid meta.
pub(crate) fn db<'i>(input: &'i Opened, path: &Path) -> Result<Db<&'i FileSource>, Failure> {
    let path = path.display();
    input.db().map_err(|error| {
        let hint = match &error {
            bbolt::OpenError::NoMeta { .. } => {
                format!("; 'etcd-rescue bbolt pages {path}' lists the pages there are all the same")
            }
            _ => String::new(),
        };
        Failure::failed(format!("{path}: {error}{hint}"))
    })
}

/// Only lines and JSON: boxes and fields are for results of fixed size.
///
/// # Errors
/// For the others.
pub(crate) fn is_json(context: &Context) -> Result<bool, Failure> {
    match context.format {
        Format::Simple => Ok(false),
        Format::Json => Ok(true),
        Format::Table | Format::Fields | Format::Protobuf => {
            Err(Failure::usage("this command prints with -w simple and -w json only"))
        }
    }
}

/// Gives `print` stdout to write to. `None` when its reader had enough.
///
/// # Errors
/// When stdout cannot be written, or the user asks to stop.
pub(crate) fn to_stdout<T>(
    print: impl FnOnce(&mut dyn Write) -> Result<T, RenderError>,
) -> Result<Option<T>, Failure> {
    let mut done = None;
    let mut stopped = false;
    stream::to_stdout(|out| {
        match print(out) {
            Ok(result) => done = Some(result),
            Err(RenderError::Interrupted) => stopped = true,
            Err(RenderError::Write(error)) => return Err(error),
        }
        Ok(())
    })?;
    if stopped { Err(interrupted()) } else { Ok(done) }
}

/// As [`to_stdout`], for what writes one by one and may go on without end.
///
/// # Errors
/// When stdout cannot be written, or the user asks to stop.
pub(crate) fn to_stdout_stoppable<T>(
    watch: &dyn Watch,
    print: impl FnOnce(&mut ordered::Stoppable<'_, &mut dyn Write>) -> io::Result<T>,
) -> Result<Option<T>, Failure> {
    to_stdout(|mut out| {
        let mut stoppable = ordered::Stoppable::new(&mut out, watch);
        print(&mut stoppable).map_err(ordered::stopped)
    })
}

/// The user asked to stop.
pub(crate) fn interrupted() -> Failure {
    Failure { code: 130, ..Failure::failed("interrupted") }
}

/// What is wrong with the metas.
pub(crate) fn meta_findings<S: bbolt::Source>(pages: &PageFile<S>) -> Vec<Finding> {
    let severity = if pages.meta().is_some() { Severity::Warning } else { Severity::Error };
    let faulty = (0u64..).zip(pages.metas()).filter_map(|(slot, meta)| {
        let fault = meta.as_ref().err()?.clone();
        let fault = pages.fault(PageId(slot), 0, FaultKind::OtherMeta { fault });
        Some(Finding { severity, ..finding(&fault) })
    });
    faulty.collect()
}

/// What is wrong with the metas of `db`, the high-water mark included.
pub(crate) fn db_meta_findings<S: bbolt::Source>(db: &Db<S>) -> Vec<Finding> {
    let pages = PageFile::new(db.source(), Some(db.page_size()));
    let mut findings = pages.map(|pages| meta_findings(&pages)).unwrap_or_default();
    if db.page_count() < db.meta().high_water_mark {
        let high_water_mark = db.meta().high_water_mark;
        let (needed_bytes, file_bytes) = (db.meta().logical_bytes(), db.source().len_bytes());
        let kind = FaultKind::ShortFile { high_water_mark, needed_bytes, file_bytes };
        let page = PageId(db.active_slot() as u64);
        let span = bbolt::Span { offset: db.offset_of(page), len: db.page_size().into() };
        findings.push(finding(&Fault { page, span, kind }));
    }
    findings
}

/// A fault as a finding.
pub(crate) fn finding(fault: &Fault) -> Finding {
    let finding = Finding::new(fault.code(), Severity::Error, fault.to_string());
    Finding { offset: Some(fault.span.offset), ..finding }
}

/// All that the check finds in `db`: for commands that met damage on their own way.
///
/// # Errors
/// When the user asks to stop.
pub(crate) fn checked<S: bbolt::Source>(
    db: &Db<S>,
    context: &Context,
) -> Result<(Report, Vec<Finding>), Failure> {
    let report = check::check(db, context.watch.as_ref());
    let findings = structure::findings(&report).map_err(|_| interrupted())?;
    Ok((report, findings))
}

/// The bucket at the end of `names`, looked for page by page where the trees are damaged.
///
/// # Errors
/// When there is no such bucket.
pub(crate) fn bucket<'d, S: bbolt::Source>(
    db: &'d Db<S>,
    names: &[Vec<u8>],
    context: &Context,
) -> Result<Bucket<'d, S>, Failure> {
    let mut bucket = db.root();
    for (depth, name) in names.iter().enumerate() {
        let found = match bucket.bucket(name) {
            Ok(found) => found,
            Err(fault) => bbolt::render::keys::find_bucket(&bucket, name, context.watch.as_ref())
                .map_err(|_| interrupted())?
                .map_or_else(
                    || {
                        let message = format!("bucket {} cannot be come to", path(names.get(..=depth)));
                        Err(Failure { findings: vec![finding(&fault)], ..Failure::failed(message) })
                    },
                    |found| Ok(Some(found)),
                )?,
        };
        bucket = found.ok_or_else(|| {
            let seen = path(names.get(..=depth));
            Failure::failed(format!(
                "bucket not found: {seen}; 'etcd-rescue bbolt inspect' shows what there is"
            ))
        })?;
    }
    Ok(bucket)
}

/// Names of buckets, outermost first, as findings show them.
pub(crate) fn path(names: Option<&[Vec<u8>]>) -> String {
    let names: Vec<String> =
        names.unwrap_or_default().iter().map(|name| bbolt::fault::readable(name)).collect();
    names.join("/")
}
