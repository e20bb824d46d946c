//! `bbolt pages`: all pages, as a list or as a picture.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};

use bbolt::render::listing::{HEAD, Listing, Marks};
use bbolt::render::map::{KINDS, Map, MapOptions};
use bbolt::survey::{Standings, SurveyOptions, survey};
use bbolt::{PageFile, PageId, Source};
use clap::Args;
use serde_json::json;
use snapshot::finding::Finding;

use super::bbolt_file::{self, PagesArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{self, Note, Outcome};

/// Columns and lines of a picture where there is no terminal to ask.
const WIDTH: usize = 80;
const LINES: usize = 40;
/// Lines of a terminal that legend and prompt take.
const LINES_BELOW: usize = 12;

/// Prints all pages with their types
///
/// What is free is known from the freelist, or, in files that keep none, from what no bucket reaches. What is wrong is marked
/// behind the page with its code; the findings are told on stderr. With -w json each page is an object on a line of its own.
/// Of a file without a valid meta the pages are listed that say where they are, marked with '?'.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt pages /var/lib/etcd/member/snap/db
  etcd-rescue bbolt pages --map snapshot.db")]
pub(crate) struct PagesCommand {
    #[command(flatten)]
    file: PagesArgs,
    /// Draw the file as a grid of pages
    #[arg(long)]
    map: bool,
    /// Columns of the picture [default: the terminal's, or 80]
    #[arg(long, value_name = "COLUMNS", requires = "map")]
    width: Option<usize>,
}

/// Lists or draws the pages.
///
/// # Errors
/// When the file is no file of pages, or stdout cannot be written.
pub(crate) fn run(args: &PagesCommand, context: &Context) -> Result<Outcome, Failure> {
    let json = bbolt_file::is_json(context)?;
    let (input, notes) = context.open(&args.file.input)?;
    let pages = args.file.pages(&input)?;
    let watch = context.watch.as_ref();
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    let mut marks = Marks::new();
    let db = input.db().ok().filter(|db| db.page_size() == pages.page_size());
    let (standings, findings) = match &db {
        None => (None, bbolt_file::meta_findings(&pages)),
        Some(db) => {
            watch_begin(context, db.page_count().saturating_mul(u64::from(db.page_size())));
            let survey =
                survey(db, &SurveyOptions::default(), watch).map_err(|_| bbolt_file::interrupted())?;
            let standings = Standings::new(db, survey);
            let mut findings = bbolt_file::db_meta_findings(db);
            if args.map || !standings.is_sound() || !findings.is_empty() {
                let (report, all) = bbolt_file::checked(db, context)?;
                for found in &report.findings {
                    let codes = marks.entry(found.fault.page).or_default();
                    if !codes.contains(&found.fault.code()) {
                        codes.push(found.fault.code());
                    }
                }
                findings = all;
            }
            (Some(standings), findings)
        }
    };
    context.watch.finish();
    if standings.is_none() {
        for (slot, meta) in (0u64..).zip(pages.metas()) {
            if let Err(fault) = meta {
                marks.entry(PageId(slot)).or_default().push(fault.code());
            }
        }
        let text =
            "Without a valid meta it is not known what is in use: pages are shown as they call themselves.";
        outcome.before.push(Note::Prose(text.to_owned()));
    }
    if pages.is_page_size_guessed() {
        outcome.before.push(Note::Prose(format!("The page size was found to be {}.", pages.page_size())));
    }
    outcome::tell(&outcome.before, context.quiet);
    outcome.before.clear();
    let listing = Listing::new(&pages, standings.as_ref(), &marks);
    if args.map {
        draw(args, &listing, &marks, json)?;
    } else {
        let written = bbolt_file::to_stdout(|mut out| {
            if !json {
                out.write_all(HEAD.as_bytes())?;
            }
            listing.write(json, &mut out, watch)
        })?;
        if written.is_none() {
            return Ok(outcome);
        }
    }
    tell_end(&pages, &listing, &findings, &mut outcome);
    Ok(outcome)
}

fn watch_begin(context: &Context, total_bytes: u64) {
    bbolt::Watch::begin(context.watch.as_ref(), "looking for free pages", total_bytes);
}

fn tell_end<S: Source>(
    pages: &PageFile<S>,
    listing: &Listing<'_, S>,
    findings: &[Finding],
    outcome: &mut Outcome,
) {
    outcome.note_findings_after(findings);
    if pages.meta().is_none() && listing.count() < pages.page_count() {
        outcome.after.push(Note::Prose(format!(
            "In pages {} to {}, the file's last, nothing says where it is.",
            listing.count(),
            pages.page_count().saturating_sub(1)
        )));
    }
}

fn draw<S: Source>(
    args: &PagesCommand,
    listing: &Listing<'_, S>,
    marks: &Marks,
    json: bool,
) -> Result<(), Failure> {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
    let (columns, lines) = size.map_or((0, 0), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    let columns = if columns == 0 { WIDTH } else { columns };
    let lines = if lines == 0 { LINES } else { lines.saturating_sub(LINES_BELOW).max(4) };
    // https://no-color.org: set to anything but nothing.
    let wants_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = stdout.is_terminal() && !wants_none && !json;
    let width = args.width.unwrap_or(columns);
    let faulty: BTreeSet<PageId> = marks.keys().copied().collect();
    let map = Map::new(listing, &faulty, MapOptions { width, most_lines: lines, colour });
    bbolt_file::to_stdout(|mut out| {
        if json {
            let counts: serde_json::Map<_, _> = KINDS
                .iter()
                .zip(map.counts)
                .map(|((_, _, _, name), count)| ((*name).to_owned(), json!(count)))
                .collect();
            let value = json!({
                "pages": map.pages,
                "pagesPerCell": map.pages_per_cell,
                "cells": map.letters(),
                "counts": counts,
            });
            writeln!(out, "{value}")?;
        } else {
            map.write(&mut out, colour)?;
        }
        Ok(())
    })?;
    Ok(())
}
