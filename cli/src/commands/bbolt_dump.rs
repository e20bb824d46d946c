//! `bbolt dump`: the bytes of pages.

use bbolt::render::bytes::hex;
use bbolt::render::hexdump;
use bbolt::render::page::SEPARATOR;
use bbolt::{PageId, Source};
use clap::Args;
use std::io::Write;

use super::bbolt_file::{self, PagesArgs};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{self, Note, Outcome};
use crate::values;

/// Prints the bytes of pages in hexadecimal
///
/// Overflow is not part of it: it has page numbers of its own. Where the file ends within a page, what is there is printed.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt dump /var/lib/etcd/member/snap/db 0 1")]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    file: PagesArgs,
    /// The numbers of the pages
    #[arg(value_name = "PAGE", value_parser = values::unsigned, required = true)]
    pages: Vec<u64>,
}

/// Prints the bytes.
///
/// # Errors
/// When the file is no file of pages, or stdout cannot be written.
pub(crate) fn run(args: &DumpArgs, context: &Context) -> Result<Outcome, Failure> {
    let json = bbolt_file::is_json(context)?;
    let (input, notes) = context.open(&args.file.input)?;
    let pages = args.file.pages(&input)?;
    outcome::tell(&notes, context.quiet);
    let mut outcome = Outcome::default();
    let file_bytes = pages.source().len_bytes();
    let page_size = u64::from(pages.page_size());
    bbolt_file::to_stdout_stoppable(context.watch.as_ref(), |out| {
        let mut is_first = true;
        for id in args.pages.iter().copied().map(PageId) {
            let offset = pages.offset_of(id);
            let len = file_bytes.saturating_sub(offset).min(page_size);
            if len == 0 {
                let count = file_bytes.div_ceil(page_size);
                let text = format!("Error: page {id} is out of range: the file has {count} pages");
                outcome.after.push(Note::Warning(text));
                outcome.code = exit::FAILED;
                continue;
            }
            let bytes = match pages.source().bytes(offset, len) {
                Ok(bytes) => bytes,
                Err(error) => {
                    outcome.after.push(Note::Warning(format!("Error: page {id}: {error}")));
                    outcome.code = exit::FAILED;
                    continue;
                }
            };
            if json {
                write!(out, "{{\"id\":{id},\"offset\":{offset},\"bytes_hex\":\"")?;
                hex(out, &bytes)?;
                out.write_all(b"\"}\n")?;
            } else {
                if !is_first {
                    writeln!(out, "{SEPARATOR}")?;
                }
                hexdump::write(out, &bytes, offset)?;
            }
            is_first = false;
            if len < page_size {
                let text = format!("The file ends {len} bytes into page {id}.");
                outcome.after.push(Note::Warning(text));
                outcome.code = outcome.code.max(exit::FINDINGS);
            }
        }
        Ok(())
    })?;
    Ok(outcome)
}
