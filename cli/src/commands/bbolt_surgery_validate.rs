//! `bbolt surgery meta validate`: whether the two metas are valid.

use std::path::PathBuf;

use bbolt::meta::NO_FREELIST;
use bbolt::page_file::{PageFile, PageFileError};
use bbolt::{Meta, MetaFault};
use clap::Args;
use serde_json::{Value, json};
use snapshot::finding::{Finding, Severity};

use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Cell, Format};

/// Says of both metas whether they are valid
///
/// The second is looked for where the pages say it is, also when the first is broken.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt surgery meta validate /var/lib/etcd/member/snap/db")]
pub(crate) struct ValidateArgs {
    /// A bbolt file, a snapshot or a data dir
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Length of a page, where the file does not say it
    #[arg(long, value_name = "BYTES")]
    page_size: Option<u32>,
}

/// Validates.
///
/// # Errors
/// When the input cannot be read or is too short to have metas.
pub(crate) fn run(args: &ValidateArgs, context: &Context) -> Result<Outcome, Failure> {
    let (input, notes) = context.open(&args.input)?;
    let failed = |error: PageFileError| Failure::failed(format!("{}: {error}", args.input.display()));
    let (metas, active) = match PageFile::new(input.source(), args.page_size) {
        Ok(file) => (file.metas().clone(), file.active_slot()),
        Err(PageFileError::NoPages { meta0, meta1 }) => ([Err(meta0), Err(meta1)], None),
        Err(error @ PageFileError::ImpossiblePageSize { .. }) => {
            return Err(Failure::usage(error.to_string()));
        }
        Err(error) => return Err(failed(error)),
    };
    let faults = metas.iter().enumerate().filter_map(|(slot, meta)| Some((slot, meta.as_ref().err()?)));
    let findings: Vec<Finding> = faults
        .map(|(slot, fault)| {
            let severity = if active.is_some() { Severity::Warning } else { Severity::Error };
            Finding::new(fault.code(), severity, format!("page {slot} is no valid meta: {fault}"))
        })
        .collect();
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    outcome.note_findings(&findings);
    outcome.result = match context.format {
        Format::Simple => metas.iter().enumerate().map(|(slot, meta)| line(slot, meta)).collect(),
        Format::Json => {
            let shown = |meta: &Result<Meta, MetaFault>| match meta {
                Ok(meta) => meta_json(meta),
                Err(fault) => json!({ "type": "meta", "valid": false, "reason": fault.to_string() }),
            };
            output::json(&json!({
                "metas": metas.iter().map(shown).collect::<Vec<_>>(),
                "inForce": active,
                "findings": findings,
            }))?
        }
        format => output::render(format, &rows(&metas, active), &())?,
    };
    Ok(outcome)
}

/// bbolt's words.
fn line(slot: usize, meta: &Result<Meta, MetaFault>) -> String {
    match meta {
        Ok(_) => format!("The meta page {slot} is valid!\n"),
        Err(fault) => {
            let reason = match fault {
                MetaFault::Magic { .. } => "invalid database".to_owned(),
                MetaFault::Version { .. } => "version mismatch".to_owned(),
                MetaFault::Checksum { .. } => "checksum error".to_owned(),
                other => other.to_string(),
            };
            format!("WARNING: The meta page {slot} isn't valid: {reason}!\n")
        }
    }
}

fn rows(metas: &[Result<Meta, MetaFault>; 2], active: Option<usize>) -> Vec<Vec<Cell>> {
    let row = |(slot, meta): (usize, &Result<Meta, MetaFault>)| {
        let of = |value: fn(&Meta) -> String| meta.as_ref().map_or_else(|_| String::new(), value);
        let state = match meta {
            Ok(_) if active == Some(slot) => "in force".to_owned(),
            Ok(_) => "valid".to_owned(),
            Err(fault) => fault.to_string(),
        };
        vec![
            Cell::new("meta", "Meta", &slot),
            Cell::new("state", "State", &state),
            Cell::new("transaction", "Transaction", &of(|meta| meta.txid.to_string())),
            Cell::new("root", "Root", &of(|meta| meta.root.to_string())),
            Cell::new("freelist", "Freelist", &of(freelist)),
            Cell::new("high-water mark", "HighWaterMark", &of(|meta| meta.high_water_mark.to_string())),
            Cell::new("page size", "PageSize", &of(|meta| meta.page_size.to_string())),
        ]
    };
    metas.iter().enumerate().map(row).collect()
}

fn freelist(meta: &Meta) -> String {
    if meta.freelist == NO_FREELIST { "none".to_owned() } else { meta.freelist.to_string() }
}

/// A valid meta.
pub(crate) fn meta_json(meta: &Meta) -> Value {
    json!({
        "type": "meta",
        "valid": true,
        "txid": meta.txid,
        "root": meta.root.0,
        "sequence": meta.sequence,
        "freelist": Some(meta.freelist).filter(|page| *page != NO_FREELIST),
        "highWaterMark": meta.high_water_mark,
        "pageSize": meta.page_size,
    })
}
