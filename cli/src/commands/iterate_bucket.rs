//! `iterate-bucket`: the pairs of a bucket, as etcd-dump-db prints them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::Args;
use snapshot::views::{self, IterateOptions};

use super::view;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};
use crate::values;

/// Prints the pairs of a bucket, from the last to the first
///
/// The output is that of etcd-dump-db 3.6, to the byte with --show-secrets; without it the hashes of passwords in bucket authUsers
/// are not shown. What is broken is marked where it stands, with exit code 3, and the rest is printed all the same. The file is only
/// read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue iterate-bucket /var/lib/etcd lease --decode
  etcd-rescue iterate-bucket snapshot.db key --decode --limit 10 -w json | jq .key")]
pub(crate) struct IterateBucketArgs {
    /// A data dir, a db file or a snapshot
    #[arg(value_name = "PATH")]
    input: PathBuf,
    /// The bucket's name
    #[arg(value_name = "BUCKET")]
    bucket: OsString,
    /// No more pairs than this; 0 for all
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::unsigned)]
    limit: u64,
    /// Print what the rows of key, lease, auth, authRoles, authUsers and meta mean
    #[arg(long)]
    decode: bool,
    /// Show the hashes of passwords
    #[arg(long)]
    show_secrets: bool,
}

/// Prints the pairs.
///
/// # Errors
/// When the file cannot be read, has no valid meta or no such bucket, or stdout cannot be written.
pub(crate) fn run(args: &IterateBucketArgs, context: &Context) -> Result<Outcome, Failure> {
    let form = view::require_lines_or_json(context)?;
    let (input, notes) = context.open(&args.input)?;
    let pages = view::pages(&input)?;
    let options =
        IterateOptions { form, limit: args.limit, decode: args.decode, show_secrets: args.show_secrets };
    let name = args.bucket.clone().into_vec();
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    let seen = view::stream(context, |out, watch| views::iterate(&pages, &name, &options, out, watch))?;
    if let Some(seen) = seen {
        if seen.hidden_secrets > 0 {
            let rows =
                if seen.hidden_secrets == 1 { "1 row" } else { &format!("{} rows", seen.hidden_secrets) };
            let text = format!("The hash of the password is not shown in {rows}; --show-secrets shows it.");
            outcome.after.push(Note::Prose(text));
        }
        view::note(&seen, &mut outcome);
    }
    Ok(outcome)
}
