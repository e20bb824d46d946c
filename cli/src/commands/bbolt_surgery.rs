//! `bbolt surgery`: edits of single pages, each made in a copy.

use std::path::PathBuf;

use bbolt::PageId;
use bbolt::surgery::{Accepted, Edit, MetaField, Operation, PageState, Warning};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use snapshot::surgery::{self, SurgeryOptions, SurgeryReport};

use super::writing::WriteArgs;

use crate::commands::bbolt_surgery_validate::{self, ValidateArgs};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::leftovers::Leftovers;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// How many new findings people are shown.
const LISTED_FINDINGS: usize = 20;

/// The operations.
#[derive(Debug, Subcommand)]
pub(crate) enum Surgery {
    /// Puts the older meta in the place of the one in force: the last transaction is undone
    #[command(after_help = "\
Example:
  etcd-rescue bbolt surgery revert-meta-page /var/lib/etcd/member/snap/db -o reverted.db")]
    RevertMetaPage {
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Copies a page, with its overflow, to another place
    ///
    /// What the other place is now is written over. Any other page in use that the copy would run over is named and the copy
    /// refused, unless --accept-loss. Page 0 or 1 can be copied onto the other, when it is valid.
    #[command(after_help = "\
Example:
  etcd-rescue bbolt surgery copy-page damaged.db --from-page 12 --to-page 7 -o edited.db")]
    CopyPage {
        #[command(flatten)]
        common: CommonArgs,
        /// The page to copy
        #[arg(long, value_name = "PAGE")]
        from_page: u64,
        /// The page to write
        #[arg(long, value_name = "PAGE")]
        to_page: u64,
        /// Write over pages that are in use
        #[arg(long)]
        accept_loss: bool,
    },
    /// Takes all elements out of a branch or leaf page
    #[command(after_help = "\
Example:
  etcd-rescue bbolt surgery clear-page damaged.db --pageId 7 -o edited.db")]
    ClearPage {
        #[command(flatten)]
        common: CommonArgs,
        /// The page
        #[arg(long = "pageId", alias = "page-id", value_name = "PAGE")]
        page: u64,
        /// Treat the page as one also where it is the overflow of another
        #[arg(long)]
        accept_loss: bool,
    },
    /// Takes some elements out of a branch or leaf page
    #[command(after_help = "\
Example:
  etcd-rescue bbolt surgery clear-page-elements damaged.db --pageId 7 --from-index 3 --to-index -1 -o edited.db")]
    ClearPageElements {
        #[command(flatten)]
        common: CommonArgs,
        /// The page
        #[arg(long = "pageId", alias = "page-id", value_name = "PAGE")]
        page: u64,
        /// The first element to clear, counted from 0
        #[arg(long, value_name = "INDEX", allow_negative_numbers = true)]
        from_index: i64,
        /// The first element behind it to keep; -1 when there is none
        #[arg(long, value_name = "INDEX", allow_negative_numbers = true)]
        to_index: i64,
        /// Treat the page as one also where it is the overflow of another
        #[arg(long)]
        accept_loss: bool,
    },
    /// Does away with the list of free pages, or makes one
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Freelist(Freelist),
    /// Validates the metas, or sets what is in one
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Meta(Meta),
}

/// What is done with the freelist.
#[derive(Debug, Subcommand)]
pub(crate) enum Freelist {
    /// Says in both metas that no freelist is kept: free pages are then found by a walk
    ///
    /// A meta that is not valid is left alone, since a new checksum could bring back what it says.
    #[command(after_help = "\
Example:
  etcd-rescue bbolt surgery freelist abandon damaged.db -o edited.db")]
    Abandon {
        #[command(flatten)]
        common: CommonArgs,
        /// Give also a meta that is not valid a new checksum
        #[arg(long)]
        accept_invalid_meta: bool,
    },
    /// Finds the free pages by a walk and keeps the list in the file
    #[command(after_help = "\
Example:
  etcd-rescue bbolt surgery freelist rebuild snapshot.db -o edited.db")]
    Rebuild {
        #[command(flatten)]
        common: CommonArgs,
    },
}

/// What is done with the metas.
#[derive(Debug, Subcommand)]
pub(crate) enum Meta {
    Validate(ValidateArgs),
    /// Sets fields of a meta, and its checksum
    #[command(after_help = "\
Example:
  etcd-rescue bbolt surgery meta update damaged.db --meta-page 1 --fields root:16,pgid:128 -o edited.db")]
    Update {
        #[command(flatten)]
        common: CommonArgs,
        /// What to set: pageSize, root, freelist or pgid, a colon, and the value
        #[arg(long, value_name = "FIELD:VALUE", value_delimiter = ',', value_parser = field)]
        fields: Vec<(MetaField, u64)>,
        /// Which meta, 0 or 1
        #[arg(long, value_name = "META", default_value_t = 0)]
        meta_page: u32,
        /// Give a new checksum also to a meta that is not valid
        #[arg(long)]
        accept_invalid_meta: bool,
    },
}

/// What all of them take that write.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// A bbolt file, a snapshot or a data dir; it is not changed
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// The file to write; it must not exist
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    write: WriteArgs,
    /// Length of a page, where the file does not say it
    #[arg(long, value_name = "BYTES")]
    page_size: Option<u32>,
}

/// What to do, and what is accepted.
struct Job {
    common: CommonArgs,
    operation: Operation,
    accepted: Accepted,
}

/// Operates, or validates.
///
/// # Errors
/// When the input is no bbolt file, the operation is refused, or the output cannot be written.
pub(crate) fn run(args: Surgery, context: &Context) -> Result<Outcome, Failure> {
    let loss = |loss| Accepted { loss, ..Accepted::default() };
    let invalid_meta = |invalid_meta| Accepted { invalid_meta, ..Accepted::default() };
    let none = Accepted::default();
    let (common, operation, accepted) = match args {
        Surgery::Meta(Meta::Validate(args)) => return bbolt_surgery_validate::run(&args, context),
        Surgery::RevertMetaPage { common } => (common, Operation::RevertMetaPage, none),
        Surgery::CopyPage { common, from_page, to_page, accept_loss } => {
            let (from, to) = (PageId(from_page), PageId(to_page));
            (common, Operation::CopyPage { from, to }, loss(accept_loss))
        }
        Surgery::ClearPage { common, page, accept_loss } => {
            (common, Operation::ClearPage { page: PageId(page) }, loss(accept_loss))
        }
        Surgery::ClearPageElements { common, page, from_index, to_index, accept_loss } => {
            let (start, end) = indices(from_index, to_index)?;
            let operation = Operation::ClearPageElements { page: PageId(page), start, end };
            (common, operation, loss(accept_loss))
        }
        Surgery::Freelist(Freelist::Abandon { common, accept_invalid_meta }) => {
            (common, Operation::AbandonFreelist, invalid_meta(accept_invalid_meta))
        }
        Surgery::Freelist(Freelist::Rebuild { common }) => (common, Operation::RebuildFreelist, none),
        Surgery::Meta(Meta::Update { common, fields, meta_page, accept_invalid_meta }) => {
            let operation = Operation::UpdateMeta { slot: meta_page.into(), fields };
            (common, operation, invalid_meta(accept_invalid_meta))
        }
    };
    operate(Job { common, operation, accepted }, context)
}

fn operate(job: Job, context: &Context) -> Result<Outcome, Failure> {
    let Job { common, operation, accepted } = job;
    let options = SurgeryOptions {
        operation,
        accepted,
        page_size: common.page_size,
        output: common.output,
        dry_run: common.write.dry_run,
        owner: common.write.owner()?,
        io: context.io(),
    };
    let (input, notes) = context.open(&common.input)?;
    let left = Leftovers::sweep(&options.output, common.write.clean && !common.write.dry_run)?;
    let report = surgery::operate(&input, &options, context.watch.as_ref())?;

    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    outcome.before.extend(left.notes());
    outcome.before.extend(story(&report));
    outcome.result = match context.format {
        Format::Simple if options.dry_run => String::new(),
        Format::Simple => simple(&options.operation, &report.edit),
        Format::Json => output::json(&to_json(&report, &options))?,
        format => output::render(format, &rows(&report.edit), &())?,
    };
    outcome.after = conclusion(&report, &options);
    outcome.code = if report.after.is_empty() { exit::DONE } else { exit::FINDINGS };
    Ok(outcome)
}

/// `--from-index` and `--to-index` as the library takes them.
fn indices(from: i64, to: i64) -> Result<(u32, Option<u32>), Failure> {
    let start = u32::try_from(from)
        .map_err(|_| Failure::usage(format!("--from-index {from}: elements are counted from 0")))?;
    let end = match to {
        -1 => None,
        to => Some(u32::try_from(to).map_err(|_| {
            Failure::usage(format!(
                "--to-index {to}: elements are counted from 0, and -1 is the end of the page"
            ))
        })?),
    };
    Ok((start, end))
}

fn field(text: &str) -> Result<(MetaField, u64), String> {
    let (name, value) = text.split_once(':').ok_or("a field, a colon and a value, as in root:16")?;
    let field = name.parse::<MetaField>().map_err(|error| error.to_string())?;
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(value) if is_number => Ok((field, value)),
        _ => Err(format!("{value:?} is no value for {field}: it is a number from 0 to {}", u64::MAX)),
    }
}

/// What bbolt 1.5 prints when it is done. It says that all metas were edited; where that is not so, this does not.
fn simple(operation: &Operation, edit: &Edit) -> String {
    let abandoned = if edit.abandons_pages() {
        "WARNING: The clearing has abandoned some pages that are not yet referenced from free list.\n\
         Please consider executing `./bbolt surgery freelist abandon ...`\n"
    } else {
        ""
    };
    match operation {
        Operation::RevertMetaPage => "The meta page is reverted.\n".to_owned(),
        Operation::CopyPage { from, to } => {
            let stale = if edit.warnings().contains(&Warning::FreelistStale) {
                "WARNING: the free list might have changed.\n\
                 Please consider executing `./bbolt surgery freelist abandon ...`\n"
            } else {
                ""
            };
            format!("{stale}The page {from} was successfully copied to page {to}\n")
        }
        Operation::ClearPage { page } => format!("{abandoned}The page ({page}) was cleared\n"),
        Operation::ClearPageElements { page, start, end } => {
            let end = end.map_or_else(|| "-1".to_owned(), |end| end.to_string());
            format!("{abandoned}All elements in [{start}, {end}) in page {page} were cleared\n")
        }
        Operation::AbandonFreelist => {
            let kept = edit.warnings().iter().find_map(|warning| match warning {
                Warning::InvalidMetaKept { slot, .. } => Some(1 - slot.min(&1)),
                _ => None,
            });
            let place = kept.map_or_else(|| "both meta pages".to_owned(), |slot| format!("meta page {slot}"));
            format!(
                "The freelist was abandoned in {place}.\n\
                 It may cause some delay on next startup because bbolt needs to scan the whole db to reconstruct the free list.\n"
            )
        }
        Operation::RebuildFreelist => "The freelist was successfully rebuilt.\n".to_owned(),
        Operation::UpdateMeta { slot, .. } => {
            let differs = edit.warnings().iter().find_map(|warning| match warning {
                Warning::PageSizeChanged { slot: 1, page_size, of_file } => Some(format!(
                    "WARNING: The page size ({of_file}) in the first meta page doesn't match the second meta page \
                     ({page_size})\n"
                )),
                _ => None,
            });
            let done = if edit.writes().is_empty() {
                "Nothing changed!\n".to_owned()
            } else {
                format!("The meta page {slot} has been updated!\n")
            };
            differs.unwrap_or_default() + &done
        }
    }
}

/// What becomes of which page, and what to know of it.
fn story(report: &SurgeryReport) -> Vec<Note> {
    let mut notes = Vec::new();
    for change in report.edit.changes() {
        if change.before == change.after {
            notes.push(Note::Prose(format!(
                "page {} stays:  {}",
                change.page,
                shown(&change.before.to_string())
            )));
        } else {
            notes.push(Note::Verbatim(shown_lines(&change.to_string())));
        }
    }
    if report.edit.writes().is_empty() {
        notes.push(Note::Warning("warning: nothing changes: the output is the same as the input".to_owned()));
    }
    notes.extend(
        report.edit.warnings().iter().map(|warning| Note::Warning(shown(&format!("warning: {warning}")))),
    );
    if report.hash_dropped {
        notes.push(Note::Warning(
            "warning: the input ends with a snapshot's SHA-256, which is not that of the edited pages: the output has none. \
             'snapshot hash --attach' gives it one"
                .to_owned(),
        ));
    }
    notes
}

fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

/// How the result compares.
fn conclusion(report: &SurgeryReport, options: &SurgeryOptions) -> Vec<Note> {
    let mut notes = vec![Note::Prose(format!(
        "Findings before: {}, after: {}, of which new: {}.",
        report.before.len(),
        report.after.len(),
        report.new.len()
    ))];
    let listed = report.new.iter().take(LISTED_FINDINGS);
    notes.extend(listed.map(|finding| Note::Warning(shown(&format!("new: {finding}")))));
    if report.new.len() > LISTED_FINDINGS {
        let more = report.new.len() - LISTED_FINDINGS;
        notes.push(Note::Warning(format!("{more} more new findings: 'bbolt check' lists them all")));
    }
    let output = shown(&options.output.display().to_string());
    let count = match report.after.len() {
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    };
    let standing = match (report.after.is_empty(), report.new.is_empty()) {
        (true, _) => "It is sound.".to_owned(),
        (false, true) => format!("It has {count}, none of them new."),
        (false, false) => format!("It has {count}."),
    };
    notes.push(Note::Prose(if options.dry_run {
        format!("Dry run: nothing was written. Of {output}, had it been: {standing}")
    } else {
        format!("The edited copy is {output}. {standing}")
    }));
    notes
}

fn rows(edit: &Edit) -> Vec<Vec<Cell>> {
    let row = |change: &bbolt::surgery::Change| {
        vec![
            Cell::new("page", "Page", &change.page),
            Cell::new("before", "Before", &shown(&change.before.to_string())),
            Cell::new("after", "After", &shown(&change.after.to_string())),
        ]
    };
    edit.changes().iter().map(row).collect()
}

fn to_json(report: &SurgeryReport, options: &SurgeryOptions) -> Value {
    let edit = &report.edit;
    let change = |change: &bbolt::surgery::Change| {
        json!({
            "page": change.page.0,
            "before": state(&change.before),
            "after": state(&change.after),
            "changed": change.before != change.after,
        })
    };
    let write =
        |write: &bbolt::surgery::Write| json!({ "offset": write.offset, "length": write.bytes.len() });
    let warning = |warning: &Warning| json!({ "kind": warning.kind(), "message": warning.to_string() });
    json!({
        "operation": name(&options.operation),
        "output": options.output.display().to_string(),
        "size": report.len_bytes,
        "written": !options.dry_run,
        "dryRun": options.dry_run,
        "changed": !edit.writes().is_empty(),
        "changes": edit.changes().iter().map(change).collect::<Vec<_>>(),
        "writes": edit.writes().iter().map(write).collect::<Vec<_>>(),
        "warnings": edit.warnings().iter().map(warning).collect::<Vec<_>>(),
        "hashDropped": report.hash_dropped,
        "findingsBefore": report.before.len(),
        "findingsAfter": report.after.len(),
        "newFindings": report.new,
        "sound": report.after.is_empty(),
    })
}

fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::RevertMetaPage => "revert-meta-page",
        Operation::CopyPage { .. } => "copy-page",
        Operation::ClearPage { .. } => "clear-page",
        Operation::ClearPageElements { .. } => "clear-page-elements",
        Operation::AbandonFreelist => "freelist abandon",
        Operation::RebuildFreelist => "freelist rebuild",
        Operation::UpdateMeta { .. } => "meta update",
    }
}

fn state(state: &PageState) -> Value {
    let text = state.to_string();
    match state {
        PageState::Meta(Ok(meta)) => bbolt_surgery_validate::meta_json(meta),
        PageState::Meta(Err(fault)) => json!({ "type": "meta", "valid": false, "reason": fault.to_string() }),
        PageState::Page { header, items } => json!({
            "type": match header.flags {
                bbolt::page::FLAG_BRANCH => "branch",
                bbolt::page::FLAG_LEAF => "leaf",
                bbolt::page::FLAG_META => "meta",
                bbolt::page::FLAG_FREELIST => "freelist",
                _ => "unknown",
            },
            "id": header.id,
            "flags": header.flags,
            "items": items,
            "overflow": header.overflow,
        }),
        PageState::Absent => json!({ "type": "absent" }),
        PageState::Unreadable(_) => json!({ "type": "unreadable", "reason": text }),
    }
}
