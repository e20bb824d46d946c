//! `lease list`: the leases in a db, with their times and the keys that hang on them.

use std::io::{self, Write};
use std::path::PathBuf;

use bbolt::Source;
use clap::Args;
use snapshot::lease::{Attached, Key, Lease, Leases};
use snapshot::mvcc::{Index, IndexOptions};
use snapshot::request::{Style, json};

use super::{bbolt_file, kv_input, small_buckets};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Cell, Format};

/// Names are shown whole.
const WHOLE: Style = Style { cut: None, show_secrets: false };

/// Lists the leases of a db, in the order in which they would expire
///
/// The lines are those of etcdctl lease list; with --keys those of etcdctl lease timetolive --keys. -w table and -w json also
/// have times and numbers of keys. A db does not keep when a lease expires: a new leader gives each its whole time again, or
/// what was left at its last checkpoint. The file is only read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue lease list /var/lib/etcd --keys")]
pub(crate) struct ListArgs {
    /// A data dir, a db file or a snapshot
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// List the keys that hang on each lease
    #[arg(long)]
    keys: bool,
    /// Go on past what is damaged in the key space; keys that can be read are listed
    #[arg(long)]
    skip_bad: bool,
}

/// Lists them.
///
/// # Errors
/// When the file cannot be read or is damaged.
pub(crate) fn run(args: &ListArgs, context: &Context) -> Result<Outcome, Failure> {
    let mut input = kv_input::open(&args.input, context)?;
    let before = std::mem::take(&mut input.notes);
    let watch = context.watch.as_ref();
    let db = input.db()?;
    let leases = Leases::read(&db).map_err(|fault| small_buckets::damaged(&input, &fault))?;
    let options = IndexOptions { skip_bad: args.skip_bad, ..IndexOptions::default() };
    let index = Index::build(&db, &options, watch).map_err(|error| input.not_read(&error, !args.skip_bad))?;
    let revision = index.store().current_revision;
    let attached = Attached::at(&index, revision, watch)?;
    let mut outcome = Outcome { before, ..Outcome::default() };
    outcome.before.extend(input.behind_its_log(index.schema()));
    let mut findings = index.findings().to_vec();
    findings.extend_from_slice(&leases.findings);
    let gone = leases.gone(&index, &attached);
    findings.extend(gone.map_err(snapshot::mvcc::KeySpaceError::from)?);
    outcome.note_findings(&findings);
    let shown = Shown { index: &index, attached: &attached, keys: args.keys };
    match context.format {
        Format::Simple => {
            bbolt_file::to_stdout_stoppable(watch, |out| shown.lines(&leases, out))?;
        }
        Format::Json => {
            bbolt_file::to_stdout_stoppable(watch, |out| shown.json_lines(&leases, out))?;
        }
        format => {
            let rows: Vec<Vec<Cell>> = leases.by_expiry().iter().map(|lease| shown.row(lease)).collect();
            outcome.result = output::render(format, &rows, &())?;
        }
    }
    Ok(outcome)
}

/// What is shown of the leases.
struct Shown<'i, 'd, S> {
    index: &'i Index<'d, S>,
    attached: &'i Attached,
    keys: bool,
}

impl<S: Source> Shown<'_, '_, S> {
    fn lines(&self, leases: &Leases, out: &mut dyn Write) -> io::Result<()> {
        if !self.keys {
            writeln!(out, "found {} leases", leases.len())?;
        }
        for lease in leases.by_expiry() {
            if !self.keys {
                writeln!(out, "{:016x}", lease.id)?;
                continue;
            }
            write!(
                out,
                "lease {:016x} granted with TTL({}s), remaining({}s), attached keys([",
                lease.id,
                lease.ttl,
                lease.remaining()
            )?;
            for (at, key) in self.attached.keys_of(lease.id).iter().enumerate() {
                if at > 0 {
                    out.write_all(b" ")?;
                }
                out.write_all(&self.name(key)?)?;
            }
            out.write_all(b"])\n")?;
        }
        Ok(())
    }

    /// A line for each lease, and one for each that keys name and that is not there.
    fn json_lines(&self, leases: &Leases, out: &mut dyn Write) -> io::Result<()> {
        for lease in leases.by_expiry() {
            let times = [("ttl", lease.ttl), ("remainingTTL", lease.remaining())];
            self.json_line(lease.id, &times, self.attached.keys_of(lease.id), out)?;
        }
        for keys in self.attached.by_lease() {
            if let Some(key) = keys.first().filter(|key| !leases.has(key.lease)) {
                self.json_line(key.lease, &[], keys, out)?;
            }
        }
        Ok(())
    }

    fn json_line(&self, id: i64, times: &[(&str, i64)], keys: &[Key], out: &mut dyn Write) -> io::Result<()> {
        let mut line = format!("{{\"id\":\"{id:x}\",\"exists\":{}", !times.is_empty()).into_bytes();
        for (name, seconds) in times {
            write!(line, ",\"{name}\":{seconds}")?;
        }
        write!(line, ",\"keyCount\":{}", keys.len())?;
        if self.keys {
            line.extend_from_slice(b",\"keys\":[");
            for (at, key) in keys.iter().enumerate() {
                line.extend_from_slice(if at > 0 { b",{" } else { b"{" });
                json::write_bytes("key", &self.name(key)?, &WHOLE, &mut line);
                line.push(b'}');
                // A lease of a million keys is not held in memory.
                out.write_all(&line)?;
                line.clear();
            }
            line.push(b']');
        }
        line.extend_from_slice(b"}\n");
        out.write_all(&line)
    }

    fn name(&self, key: &Key) -> io::Result<std::borrow::Cow<'_, [u8]>> {
        let Some(history) = self.index.history(key.number) else { return Ok(Default::default()) };
        history.key().map_err(io::Error::other)
    }

    fn row(&self, lease: &Lease) -> Vec<Cell> {
        let keys = self.attached.keys_of(lease.id);
        let mut row = vec![
            Cell::new("id", "ID", &format!("{:016x}", lease.id)),
            Cell::new("ttl", "TTL", &lease.ttl),
            Cell::new("remaining ttl", "Remaining TTL", &lease.remaining()),
            Cell::new("keys", "Keys", &keys.len()),
        ];
        if self.keys {
            let names = keys.iter().filter_map(|key| self.name(key).ok());
            let names: Vec<String> =
                names.map(|name| crate::shown::shown(&String::from_utf8_lossy(&name))).collect();
            row.push(Cell::new("attached keys", "Attached keys", &names.join(" ")));
        }
        row
    }
}
