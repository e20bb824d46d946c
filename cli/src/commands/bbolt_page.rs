//! `bbolt page`: pages in full.

use std::io::{self, Write};

use bbolt::fault::FaultKind;
use bbolt::page::{FLAG_BRANCH, FLAG_LEAF};
use bbolt::render::bytes::ByteFormat;
use bbolt::render::page::{self, PageOptions, SEPARATOR};
use bbolt::survey::{Standing, Standings, SurveyOptions, survey};
use bbolt::{Fault, PageFile, PageHeader, PageId, Source};
use clap::Args;
use snapshot::finding::Finding;
use snapshot::opened::Opened;

use super::bbolt_file::{self, PagesArgs};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{self, Note, Outcome};
use crate::values;

/// Most findings of one page that are told; all are marked where they stand.
const MOST_FINDINGS_OF_A_PAGE: usize = 10;
/// Most findings that are told.
const MOST_FINDINGS: usize = 1000;

/// Prints pages in full
///
/// What is wrong is marked where it stands, in lines that begin with '!'; the elements that are sound are shown. No valid meta is
/// needed. With -w json each page is an object on a line of its own.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt page /var/lib/etcd/member/snap/db 0 1
  etcd-rescue bbolt page --all --format-value redacted snapshot.db")]
pub(crate) struct PageArgs {
    #[command(flatten)]
    file: PagesArgs,
    /// The numbers of the pages
    #[arg(value_name = "PAGE", value_parser = values::unsigned, required_unless_present = "all", conflicts_with = "all")]
    pages: Vec<u64>,
    /// Print all pages up to the high-water mark
    #[arg(long)]
    all: bool,
    /// How values are shown: auto|ascii-encoded|hex|bytes|redacted
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    format_value: ByteFormat,
}

/// Prints the pages.
///
/// # Errors
/// When the file is no file of pages, there is no such page, or stdout cannot be written.
pub(crate) fn run(args: &PageArgs, context: &Context) -> Result<Outcome, Failure> {
    let json = bbolt_file::is_json(context)?;
    let (input, notes) = context.open(&args.file.input)?;
    let pages = args.file.pages(&input)?;
    outcome::tell(&notes, context.quiet);
    let options = PageOptions { json, format: args.format_value, misnamed: false };
    let mut printer = Printer {
        input: &input,
        pages,
        context,
        options,
        is_all: args.all,
        standings: None,
        findings: Vec::new(),
    };
    let mut outcome = Outcome::default();
    let printed = bbolt_file::to_stdout_stoppable(context.watch.as_ref(), |out| {
        if args.all { printer.all(out) } else { printer.some(&args.pages, out) }
    })?;
    let Some(missing) = printed else { return Ok(outcome) };
    if args.all && matches!(&printer.standings, Some(Some(standings)) if !standings.is_sound()) {
        let db = bbolt_file::db(&input, &args.file.input)?;
        printer.findings = bbolt_file::checked(&db, context)?.1;
    }
    printer.findings.truncate(MOST_FINDINGS);
    outcome.note_findings_after(&printer.findings);
    for (id, why) in missing {
        outcome.after.push(Note::Warning(format!("Error: page {id}: {why}")));
        outcome.code = outcome.code.max(exit::FAILED);
    }
    Ok(outcome)
}

struct Printer<'i, S> {
    input: &'i Opened,
    pages: PageFile<S>,
    context: &'i Context,
    options: PageOptions,
    is_all: bool,
    /// What is in use, once that was asked for; `None` inside when there is no way to know.
    standings: Option<Option<Standings>>,
    findings: Vec<Finding>,
}

impl<S: Source> Printer<'_, S> {
    /// Prints these pages; gives those that are none, and why.
    fn some<W: Write>(&mut self, ids: &[u64], out: &mut W) -> io::Result<Vec<(PageId, String)>> {
        let mut missing = Vec::new();
        for (index, id) in ids.iter().enumerate() {
            if index > 0 {
                self.separate(out)?;
            }
            let id = PageId(*id);
            let shown = self.one(id, out)?;
            if let Some(fault) = shown.missing {
                missing.push((id, self.why(id, &fault)));
            }
        }
        Ok(missing)
    }

    /// Prints all pages. Pages that are free may hold anything: what they hold is no finding.
    fn all<W: Write>(&mut self, out: &mut W) -> io::Result<Vec<(PageId, String)>> {
        let there = self.pages.page_count();
        let count = self.pages.meta().map_or(there, |meta| meta.high_water_mark.min(there));
        let mut id = 0;
        while id < count {
            if id > 0 {
                self.separate(out)?;
            }
            id = id.saturating_add(1).saturating_add(self.one(PageId(id), out)?.overflow.into());
        }
        Ok(Vec::new())
    }

    fn separate<W: Write>(&self, out: &mut W) -> io::Result<()> {
        if self.options.json { Ok(()) } else { writeln!(out, "{SEPARATOR}") }
    }

    fn one<W: Write>(&mut self, id: PageId, out: &mut W) -> io::Result<One> {
        let is_tree = |header: &PageHeader| [FLAG_BRANCH, FLAG_LEAF].contains(&header.flags);
        let header = self.pages.header(id).ok().filter(|header| header.id != id.0 && is_tree(header));
        // Free pages, and those within another, hold what was there before.
        let is_dead = |standing| matches!(standing, Some(Standing::Free | Standing::Overflow));
        let misnamed = header.is_some() && !is_dead(self.standing(id));
        let shown = page::write(out, &self.pages, id, PageOptions { misnamed, ..self.options })?;
        if shown.faults.is_empty() {
            return Ok(One { overflow: shown.overflow, missing: None });
        }
        let standing = self.standing(id);
        let is_dead = is_dead(standing);
        let is_outside = id.0 >= self.pages.page_count();
        // Of all pages those that nothing is known to reach may well be free.
        let may_be_free = self.is_all && standing == Some(Standing::Unknown);
        if !(is_dead || is_outside || may_be_free) {
            let told = MOST_FINDINGS.saturating_sub(self.findings.len()).min(MOST_FINDINGS_OF_A_PAGE);
            self.findings.extend(shown.faults.iter().take(told).map(bbolt_file::finding));
        }
        let missing = (is_dead || is_outside).then(|| shown.faults.into_iter().next()).flatten();
        Ok(One { overflow: shown.overflow, missing })
    }

    fn standing(&mut self, id: PageId) -> Option<Standing> {
        let standings = match self.standings.take() {
            Some(known) => known,
            None => {
                let db = self.input.db().ok().filter(|db| db.page_size() == self.pages.page_size());
                db.and_then(|db| {
                    let survey = survey(&db, &SurveyOptions::default(), self.context.watch.as_ref()).ok()?;
                    Some(Standings::new(&db, survey))
                })
            }
        };
        let standing = standings.as_ref().filter(|all| id.0 < all.pages()).map(|all| all.of(id));
        self.standings = Some(standings);
        standing
    }

    fn why(&mut self, id: PageId, fault: &Fault) -> String {
        match (&fault.kind, self.standing(id)) {
            (FaultKind::Truncated { .. }, _) if id.0 >= self.pages.page_count() => {
                format!("is out of range: the file has {} pages", self.pages.page_count())
            }
            (kind, Some(Standing::Free)) => format!("is free, and what is left in it is no page: {kind}"),
            (kind, Some(Standing::Overflow)) => {
                format!("is overflow of a page in front of it ('bbolt pages' shows of which): {kind}")
            }
            (kind, _) => kind.to_string(),
        }
    }
}

/// What came of one page.
struct One {
    overflow: u32,
    /// Why there is no such page.
    missing: Option<Fault>,
}
