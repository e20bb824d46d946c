//! `bbolt get`: the value of one key.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bbolt::fault::readable;
use bbolt::render::bytes::{self, ByteFormat};
use bbolt::render::keys;
use clap::{Args, ValueEnum};

use super::bbolt_file;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// Prints the value of a key
///
/// Where the bucket's tree is damaged the key is looked for in every leaf that can be come to.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt get /var/lib/etcd/member/snap/db meta consistent_index --format hex")]
pub(crate) struct GetArgs {
    /// A bbolt file, a snapshot or a data dir
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// The bucket's name; the buckets within it follow
    #[arg(value_name = "BUCKET")]
    bucket: OsString,
    /// The names of inner buckets, outermost first, and last the key
    #[arg(value_name = "KEY", required = true)]
    path: Vec<OsString>,
    /// How the value is shown: auto|ascii-encoded|hex|bytes|redacted
    #[arg(short, long, value_name = "FORMAT", default_value = "auto")]
    format: ByteFormat,
    /// How the key is written
    #[arg(long, value_name = "FORMAT", default_value = "ascii-encoded")]
    parse_format: ParseFormat,
}

/// `--parse-format`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ParseFormat {
    /// As it is.
    AsciiEncoded,
    /// In hexadecimal.
    Hex,
}

/// Prints the value.
///
/// # Errors
/// When there is no such bucket or key, the file has no valid meta, or stdout cannot be written.
pub(crate) fn run(args: &GetArgs, context: &Context) -> Result<Outcome, Failure> {
    let json = bbolt_file::is_json(context)?;
    let path = std::iter::once(&args.bucket).chain(&args.path);
    let mut names: Vec<Vec<u8>> = path.cloned().map(OsString::into_vec).collect();
    let key = names.pop().unwrap_or_default();
    let key = match args.parse_format {
        ParseFormat::AsciiEncoded => key,
        ParseFormat::Hex => unhex(&key)?,
    };
    if key.is_empty() {
        return Err(Failure::usage("the key is empty; no bucket has such a key"));
    }
    let (input, notes) = context.open(&args.input)?;
    let db = bbolt_file::db(&input, &args.input)?;
    let bucket = bbolt_file::bucket(&db, &names, context)?;
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    let mut findings = bbolt_file::db_meta_findings(&db);
    let value = match bucket.get(&key) {
        Ok(value) => value,
        Err(fault) => {
            findings.push(bbolt_file::finding(&fault));
            let found = keys::find(&bucket, &key, context.watch.as_ref());
            found.map_err(|_| bbolt_file::interrupted())?
        }
    };
    let Some(value) = value else {
        let is_bucket = matches!(bucket.bucket(&key), Ok(Some(_)));
        let (key, path) = (readable(&key), bbolt_file::path(Some(&names)));
        let message = if is_bucket {
            format!("key {key} in bucket {path} is a bucket itself, and has no value")
        } else if findings.is_empty() {
            format!("key not found: {key} in bucket {path}")
        } else {
            format!("key not found: {key} in bucket {path}, as far as that can be read")
        };
        return Err(Failure { findings, ..Failure::failed(message) });
    };
    outcome.note_findings(&findings);
    let mut text = Vec::new();
    let written = if json {
        text.push(b'{');
        let member = bytes::json_formatted(&mut text, "value", &value, args.format);
        member.and_then(|()| text.write_all(b"}\n"))
    } else {
        bytes::write(&mut text, &value, args.format).and_then(|()| text.write_all(b"\n"))
    };
    written.map_err(|error| Failure::failed(format!("formatting the value: {error}")))?;
    crate::outcome::tell(&outcome.before, context.quiet);
    outcome.before.clear();
    crate::stream::to_stdout(|out| out.write_all(&text))?;
    Ok(outcome)
}

/// The bytes that `text` names in hexadecimal.
fn unhex(text: &[u8]) -> Result<Vec<u8>, Failure> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.chunks(2).map(pair).collect::<Option<_>>().ok_or_else(|| {
        let text = crate::shown::shown(&String::from_utf8_lossy(text));
        Failure::usage(format!("{text:?} is not a key in hexadecimal, two digits for each byte"))
    })
}
