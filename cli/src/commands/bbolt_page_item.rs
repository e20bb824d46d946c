//! `bbolt page-item`: one element of one leaf.

use bbolt::render::bytes::{self, ByteFormat};
use bbolt::render::loose::Loose;
use bbolt::render::page::type_name;
use bbolt::{NodeKind, PageId};
use clap::Args;

use super::bbolt_file::{self, PagesArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{self, Outcome};
use crate::values;
use std::io::Write;

/// Prints one element of a leaf page
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt page-item --key-only /var/lib/etcd/member/snap/db 4 0")]
pub(crate) struct PageItemArgs {
    #[command(flatten)]
    file: PagesArgs,
    /// The number of the page
    #[arg(value_name = "PAGE", value_parser = values::unsigned)]
    page: u64,
    /// The number of the element, from 0
    #[arg(value_name = "ITEM", value_parser = values::unsigned)]
    item: u64,
    /// Print only the key
    #[arg(long)]
    key_only: bool,
    /// Print only the value
    #[arg(long, conflicts_with = "key_only")]
    value_only: bool,
    /// How key and value are shown: auto|ascii-encoded|hex|bytes|redacted
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    format: ByteFormat,
}

/// Prints the element.
///
/// # Errors
/// When there is no such page or element, it is damaged, or stdout cannot be written.
pub(crate) fn run(args: &PageItemArgs, context: &Context) -> Result<Outcome, Failure> {
    let json = bbolt_file::is_json(context)?;
    let (input, notes) = context.open(&args.file.input)?;
    let pages = args.file.pages(&input)?;
    let id = PageId(args.page);
    if id.0 >= pages.page_count() {
        let count = pages.page_count();
        return Err(Failure::failed(format!("page {id} is out of range: the file has {count} pages")));
    }
    let damaged = |fault: bbolt::Fault, what: &str| {
        let findings = vec![bbolt_file::finding(&fault)];
        Failure { findings, ..Failure::failed(format!("page {id}{what} cannot be shown")) }
    };
    let header = pages.header(id).map_err(|fault| damaged(fault, ""))?;
    let bytes = pages.whole(id).or_else(|_| pages.first(id)).map_err(|fault| damaged(fault, ""))?;
    let page = Loose::new(bytes, id, pages.offset_of(id)).ok().filter(|page| page.kind() == NodeKind::Leaf);
    let Some(page) = page else {
        let name = type_name(header.flags);
        return Err(Failure::failed(format!("page {id} is no leaf but {name}; only leaves have items")));
    };
    let index = u16::try_from(args.item).ok().filter(|index| *index < page.declared()).ok_or_else(|| {
        let count = page.declared();
        Failure::failed(format!(
            "page {id} has {count} items, numbered from 0; there is no item {}",
            args.item
        ))
    })?;
    let element = page.element(index).map_err(|fault| damaged(fault, &format!(", item {index},")))?;
    outcome::tell(&notes, context.quiet);
    let (key, value) = (!args.value_only, !args.key_only);
    bbolt_file::to_stdout_stoppable(context.watch.as_ref(), |out| {
        if json {
            out.write_all(b"{")?;
            if key {
                bytes::json_formatted(out, "key", element.key, args.format)?;
            }
            if key && value {
                out.write_all(b",")?;
            }
            if value {
                bytes::json_formatted(out, "value", element.value, args.format)?;
            }
            return out.write_all(b"}\n");
        }
        for part in [key.then_some(element.key), value.then_some(element.value)].into_iter().flatten() {
            bytes::write(out, part, args.format)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })?;
    let mut outcome = Outcome::default();
    if header.id != id.0 {
        let fault = pages.fault(id, 0, bbolt::FaultKind::WrongId { found: header.id });
        outcome.note_findings_after(&[bbolt_file::finding(&fault)]);
    }
    Ok(outcome)
}
