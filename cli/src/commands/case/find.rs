//! `case find`: revisions by what they are.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use casefile::{Find, Source};
use clap::Args;

use super::rows::{self, ShownArgs};
use super::{CaseFile, ValueArgs};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};

/// Finds revisions by lease, by the hash of their value, deletions, and what only one source has
///
/// All that is asked for must hold. With -w json each revision is an object on a line of its own.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case find incident.case --only-in n2
  etcd-rescue case find incident.case --deleted --prefix /registry/pods/
  etcd-rescue case find incident.case --value-hash $(sha256sum < token | cut -c 1-64)")]
pub(crate) struct FindArgs {
    #[command(flatten)]
    file: CaseFile,
    /// Puts with this lease, in hexadecimal
    #[arg(long, value_name = "ID", value_parser = lease)]
    lease: Option<i64>,
    /// Puts of a value whose SHA-256 begins so
    #[arg(long, value_name = "HEX", value_parser = hash)]
    value_hash: Option<Hash>,
    /// Deletions
    #[arg(long)]
    deleted: bool,
    /// What this source has, and no other has so
    #[arg(long, value_name = "SOURCE")]
    only_in: Option<String>,
    /// Only keys that begin so
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    prefix: Option<OsString>,
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    shown: ShownArgs,
}

/// The beginning of a hash.
#[derive(Debug, Clone)]
struct Hash(Vec<u8>);

fn lease(text: &str) -> Result<i64, String> {
    let id = u64::from_str_radix(text, 16).ok().filter(|id| *id != 0);
    id.map(u64::cast_signed)
        .ok_or_else(|| format!("{text:?} is no id of a lease: up to 16 hexadecimal digits, and not 0"))
}

fn hash(text: &str) -> Result<Hash, String> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2 && !text.starts_with('+'))?;
        u8::from_str_radix(text, 16).ok()
    };
    let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
    bytes.filter(|bytes| (1..=32).contains(&bytes.len())).map(Hash).ok_or_else(|| {
        format!("{text:?} is no beginning of a SHA-256: pairs of hexadecimal digits, 32 of them at most")
    })
}

/// Finds them.
///
/// # Errors
/// When nothing is asked for, the case cannot be read, or has no such source.
pub(super) fn run(args: &FindArgs, context: &Context) -> Result<Outcome, Failure> {
    if args.lease.is_none() && args.value_hash.is_none() && !args.deleted && args.only_in.is_none() {
        return Err(Failure::usage(
            "nothing is asked for: give --lease, --value-hash, --deleted or --only-in",
        ));
    }
    let case = args.values.open(&args.file, context)?;
    let only_in = args.only_in.as_ref().map(|name| case.source(name)).transpose()?;
    let asked = Find {
        lease: args.lease,
        value_hash: args.value_hash.as_ref().map(|hash| hash.0.clone()),
        deleted: args.deleted,
        only_in: only_in.map(|source| source.number),
        prefix: args.prefix.clone().unwrap_or_default().into_vec(),
    };
    let printed = rows::print(&case, (&args.shown, args.values.values), context, |printer| {
        case.find(&asked, &mut |row| printer.revision(row))
    })?;
    // That no other source has it is only worth as much as the others can tell.
    let is_other = |source: &Source| only_in.is_some_and(|only| only.number != source.number);
    let mut outcome = Outcome { after: rows::coverage(&case, is_other), ..Outcome::default() };
    outcome.after.extend(rows::behind_logs(case.sources()));
    outcome.after.extend(printed.notes);
    if printed.no_values > 0 {
        outcome.code = exit::FINDINGS;
    }
    outcome.after.push(Note::Prose(format!("{} found", printed.rows)));
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_leases() {
        assert_eq!(hash("00fF").unwrap().0, [0, 255]);
        for wrong in ["", "0", "0g", "+1", "é", &"00".repeat(33)] {
            assert!(hash(wrong).is_err(), "{wrong}");
        }
        assert_eq!(lease("ffffffffffffffff"), Ok(-1));
        assert!(lease("0").is_err() && lease("x").is_err());
    }
}
