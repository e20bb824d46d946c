//! `kv usage`: what fills a database.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bbolt::Watch;
use bbolt::fault::readable;
use clap::Args;
use serde_json::{Map, Value, json};
use snapshot::humanize;
use snapshot::kv_usage::{Amount, KeyUse, Prefix, Share, Usage, UsageOptions, usage};
use snapshot::mvcc::Release;

use super::kv_input;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Tells what fills a database: bytes by prefix of the key and by history, the largest keys, those changed most often
///
/// LIVE are the newest values of the keys that are there, FREED is what a compaction at the current revision would remove: older
/// values, deletions. Bytes are those of records; pages hold some more around them. With -w table all columns are shown, with
/// -w json each prefix and key is a line.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue kv usage /var/lib/etcd
  etcd-rescue kv usage snapshot.db --prefix /registry/events/ --depth 1 --top 20
  etcd-rescue kv usage snapshot.db -w json | jq -r 'select(.type == \"prefix\") | [.bytes, .prefix] | @tsv'")]
pub(crate) struct UsageArgs {
    /// A snapshot, a db file, a member dir or a data dir
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// Only keys that begin so; the depth counts from its end
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    #[arg(allow_hyphen_values = true)]
    prefix: OsString,
    /// Parts of a key that are told apart, at most
    #[arg(long, value_name = "PARTS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=64))]
    depth: u8,
    /// What ends a part of a key
    #[arg(long, value_name = "TEXT", default_value = "/", allow_hyphen_values = true)]
    separator: OsString,
    /// Prefixes shown within each, and keys of each list, at most
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    top: u16,
    /// Go on past what is damaged
    #[arg(long)]
    skip_bad: bool,
}

/// Counts.
///
/// # Errors
/// When the input cannot be read, or is damaged and `--skip-bad` was not given.
pub(crate) fn run(args: &UsageArgs, context: &Context) -> Result<Outcome, Failure> {
    let options = UsageOptions {
        prefix: args.prefix.clone().into_vec(),
        separator: args.separator.clone().into_vec(),
        depth: args.depth.into(),
        top: args.top.into(),
        skip_bad: args.skip_bad,
        release: Release::default(),
    };
    if options.separator.is_empty() {
        return Err(Failure::usage("--separator: an empty text separates nothing"));
    }
    let input = kv_input::open(&args.input, context)?;
    let db = input.db()?;
    let watch = context.watch.as_ref();
    watch.begin("counting", db.page_count().saturating_mul(u64::from(db.page_size())));
    let usage = usage(&db, &options, watch).map_err(|error| input.not_read(&error, !args.skip_bad))?;
    let mut outcome = Outcome { before: input.notes.clone(), ..Outcome::default() };
    outcome.before.extend(input.behind_its_log(&usage.schema));
    outcome.note_findings(&usage.findings);
    if usage.store.has_pending_compaction() {
        outcome.after.push(Note::Prose(format!(
            "A compaction at revision {} was ordered and not finished: a server goes on with it when it starts. What it will \
             remove is counted as what is there.",
            usage.store.first_kept()
        )));
    }
    outcome.result = match context.format {
        Format::Simple => tree(&usage),
        Format::Table => table(&usage)?,
        Format::Fields => output::render(Format::Fields, &[totals(&usage)], &())?,
        Format::Json => json_lines(&usage),
        Format::Protobuf => return Err(output::no_protobuf()),
    };
    Ok(outcome)
}

/// What an amount is of.
#[derive(Clone, Copy)]
enum Row<'u> {
    /// Keys with a prefix.
    Prefix(&'u Prefix),
    /// Keys of a prefix that are in none of the next level.
    Own(&'u Prefix),
    /// The prefixes of the next level that are not told one by one.
    Others(&'u Prefix),
}

impl<'u> Row<'u> {
    fn amount(self) -> &'u Amount {
        match self {
            Self::Prefix(prefix) => &prefix.amount,
            Self::Own(prefix) => &prefix.own,
            Self::Others(prefix) => &prefix.others_amount,
        }
    }

    /// The rows below this one.
    fn inner(self) -> Vec<Self> {
        let Self::Prefix(prefix) = self else { return Vec::new() };
        let mut rows: Vec<Self> = prefix.inner.iter().map(Self::Prefix).collect();
        if prefix.others > 0 {
            rows.push(Self::Others(prefix));
        }
        if !rows.is_empty() && prefix.own.keys > 0 {
            rows.push(Self::Own(prefix));
        }
        rows
    }

    /// What it is called within a prefix of `outer` bytes.
    fn label(self, outer: usize) -> String {
        match self {
            Self::Prefix(prefix) if prefix.name.is_empty() => "(all keys)".to_owned(),
            Self::Prefix(prefix) => key_text(prefix.name.get(outer..).unwrap_or_default()),
            Self::Own(prefix) => format!("({} directly)", counted(prefix.own.keys, "key")),
            Self::Others(prefix) => format!("({})", counted(prefix.others, "smaller prefix")),
        }
    }
}

/// A row of the tree, and where it hangs.
struct Placed<'u> {
    row: Row<'u>,
    /// Prefixes around it.
    depth: usize,
    /// Bytes of the name of the prefix around it.
    outer: usize,
    /// The lines to the left of what is below it.
    guides: String,
    /// The line that leads to it.
    branch: &'static str,
}

/// All rows, each followed by those below it.
fn placed(root: &Prefix) -> Vec<Placed<'_>> {
    let mut rows = Vec::new();
    let mut waiting =
        vec![Placed { row: Row::Prefix(root), depth: 0, outer: 0, guides: String::new(), branch: "" }];
    while let Some(next) = waiting.pop() {
        let outer = if let Row::Prefix(prefix) = next.row { prefix.name.len() } else { next.outer };
        let guides = match next.branch {
            "" => String::new(),
            "├── " => format!("{}│   ", next.guides),
            _ => format!("{}    ", next.guides),
        };
        for (number, row) in next.row.inner().into_iter().rev().enumerate() {
            let branch = if number == 0 { "└── " } else { "├── " };
            waiting.push(Placed { row, depth: next.depth + 1, outer, guides: guides.clone(), branch });
        }
        rows.push(next);
    }
    rows
}

fn key_text(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) => shown(text),
        Err(_) => readable(key),
    }
}

fn counted(count: u64, what: &str) -> String {
    let plural = match (count, what.strip_suffix('x')) {
        (1, _) => "",
        (_, Some(_)) => "es",
        (_, None) => "s",
    };
    format!("{count} {what}{plural}")
}

fn size(bytes: u64) -> String {
    humanize::bytes(bytes)
}

/// `part` of `whole`, in whole percent.
fn percent(part: u64, whole: u64) -> String {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    if percent == 0 && part > 0 { "<1%".to_owned() } else { format!("{percent}%") }
}

/// Sentences, the tree, and both lists.
fn tree(usage: &Usage) -> String {
    let mut out = sentences(usage);
    let whole = usage.root.amount.all().bytes;
    let rows = placed(&usage.root).into_iter().map(|placed| {
        let amount = placed.row.amount();
        let all = amount.all();
        let label = placed.row.label(placed.outer);
        (
            vec![
                size(all.bytes),
                percent(all.bytes, whole),
                size(amount.live.bytes),
                size(amount.freed.bytes),
                amount.keys.to_string(),
                all.records.to_string(),
            ],
            format!("{}{}{label}", placed.guides, placed.branch),
        )
    });
    out += "\n";
    columns(
        &["BYTES", "SHARE", "LIVE", "FREED", "KEYS", "RECORDS"],
        "PREFIX",
        &rows.collect::<Vec<_>>(),
        &mut out,
    );
    for (title, list) in [
        ("The largest keys, with their history:", &usage.largest),
        ("The keys changed most often:", &usage.most_changed),
    ] {
        if list.is_empty() {
            continue;
        }
        let _ = write!(out, "\n{title}\n");
        let rows: Vec<_> = list.iter().map(|one| (key_cells(one), key_text(&one.key))).collect();
        columns(&["BYTES", "RECORDS", "LARGEST RECORD", "FREED"], "KEY", &rows, &mut out);
    }
    out
}

fn key_cells(one: &KeyUse) -> Vec<String> {
    let all = one.amount.all();
    vec![
        size(all.bytes),
        all.records.to_string(),
        size(one.largest_record_bytes),
        size(one.amount.freed.bytes),
    ]
}

/// Numbers to the right, what they are of to the left.
pub(super) fn columns(headers: &[&str], last: &str, rows: &[(Vec<String>, String)], out: &mut String) {
    let widths: Vec<usize> = headers
        .iter()
        .enumerate()
        .map(|(column, header)| {
            let cells = rows.iter().filter_map(|(cells, _)| cells.get(column)).map(String::len);
            cells.max().unwrap_or_default().max(header.len())
        })
        .collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>, label: &str| {
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(out, "{cell:>width$}  ");
        }
        out.push_str(label);
        out.push('\n');
    };
    line(&mut headers.iter().copied(), last);
    for (cells, label) in rows {
        line(&mut cells.iter().map(String::as_str), label);
    }
}

fn sentences(usage: &Usage) -> String {
    let amount = &usage.root.amount;
    let all = amount.all();
    let part =
        |share: Share, what: &str| format!("{} in {}", size(share.bytes), counted(share.records, what));
    let mut out = String::new();
    if let Some(file) = usage.file {
        let _ = writeln!(
            out,
            "The file: {}, of which {} are free pages.",
            size(file.file_bytes),
            size(file.free_bytes())
        );
    }
    let of = if usage.root.name.is_empty() {
        String::new()
    } else {
        format!(" under {}", key_text(&usage.root.name))
    };
    let _ = writeln!(
        out,
        "Records of {}{of}: {}: {}, {}, {}.",
        counted(amount.keys, "key"),
        size(all.bytes),
        part(amount.live, "live value"),
        part(amount.superseded, "superseded value"),
        part(amount.tombstones, "tombstone"),
    );
    let (first, last) = (usage.store.first_kept(), usage.store.current_revision);
    let _ = writeln!(
        out,
        "Kept are revisions {first} to {last}; a compaction at {last} frees {}.",
        part(amount.freed, "record")
    );
    out
}

/// The rows of the tree as a box.
fn table(usage: &Usage) -> Result<String, Failure> {
    let whole = usage.root.amount.all().bytes;
    let rows: Vec<Vec<Cell>> = placed(&usage.root)
        .iter()
        .map(|placed| {
            let amount = placed.row.amount();
            let all = amount.all();
            let cell = |header, text: String| Cell::new(header, header, &text);
            let name = match placed.row {
                Row::Prefix(_) => placed.row.label(0),
                Row::Own(prefix) | Row::Others(prefix) => {
                    format!("{} {}", key_text(&prefix.name), placed.row.label(0)).trim_start().to_owned()
                }
            };
            vec![
                cell("prefix", name),
                cell("bytes", size(all.bytes)),
                cell("share", percent(all.bytes, whole)),
                cell("keys", amount.keys.to_string()),
                cell("records", all.records.to_string()),
                cell("live", size(amount.live.bytes)),
                cell("superseded", size(amount.superseded.bytes)),
                cell("old values", amount.superseded.records.to_string()),
                cell("tombstones", amount.tombstones.records.to_string()),
                cell("freed", size(amount.freed.bytes)),
            ]
        })
        .collect();
    output::render(Format::Table, &rows, &())
}

fn totals(usage: &Usage) -> Vec<Cell> {
    let amount = &usage.root.amount;
    let mut cells = Vec::new();
    let mut cell = |label: &'static str, number: &dyn ToString| {
        cells.push(Cell::new(label, label, &number.to_string()));
    };
    if let Some(file) = usage.file {
        cell("File bytes", &file.file_bytes);
        cell("Free bytes", &file.free_bytes());
    }
    cell("First kept revision", &usage.store.first_kept());
    cell("Revision", &usage.store.current_revision);
    cell("Keys", &amount.keys);
    cell("Records", &amount.all().records);
    cell("Bytes", &amount.all().bytes);
    cell("Live records", &amount.live.records);
    cell("Live bytes", &amount.live.bytes);
    cell("Superseded records", &amount.superseded.records);
    cell("Superseded bytes", &amount.superseded.bytes);
    cell("Tombstones", &amount.tombstones.records);
    cell("Tombstone bytes", &amount.tombstones.bytes);
    cell("Freed records", &amount.freed.records);
    cell("Freed bytes", &amount.freed.bytes);
    cells
}

/// The total, each prefix, each key of both lists: an object each.
fn json_lines(usage: &Usage) -> String {
    let mut lines = Vec::new();
    let mut total = object("total");
    if let Some(file) = usage.file {
        total.insert("fileBytes".to_owned(), json!(file.file_bytes));
        total.insert("freeBytes".to_owned(), json!(file.free_bytes()));
    }
    total.insert("firstKeptRevision".to_owned(), json!(usage.store.first_kept()));
    total.insert("revision".to_owned(), json!(usage.store.current_revision));
    insert_amount(&mut total, &usage.root.amount);
    lines.push(total);
    for placed in placed(&usage.root) {
        let (kind, prefix) = match placed.row {
            Row::Prefix(prefix) => ("prefix", prefix),
            Row::Own(prefix) => ("own", prefix),
            Row::Others(prefix) => ("others", prefix),
        };
        let mut line = object(kind);
        insert_bytes(&mut line, "prefix", &prefix.name);
        line.insert("depth".to_owned(), json!(placed.depth));
        if matches!(placed.row, Row::Others(_)) {
            line.insert("prefixes".to_owned(), json!(prefix.others));
        }
        insert_amount(&mut line, placed.row.amount());
        lines.push(line);
    }
    for (kind, list) in [("largest", &usage.largest), ("mostChanged", &usage.most_changed)] {
        for one in list {
            let mut line = object(kind);
            insert_bytes(&mut line, "key", &one.key);
            line.insert("largestRecordBytes".to_owned(), json!(one.largest_record_bytes));
            insert_amount(&mut line, &one.amount);
            lines.push(line);
        }
    }
    lines.into_iter().map(|line| format!("{}\n", Value::Object(line))).collect()
}

fn object(kind: &str) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), json!(kind))])
}

/// Bytes as they stand in the JSON of `wal dump`: text, or hexadecimal under a name that says so.
pub(super) fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), json!(text)),
        Err(_) => {
            let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            object.insert(format!("{name}_hex"), json!(hex))
        }
    };
}

fn insert_amount(object: &mut Map<String, Value>, amount: &Amount) {
    let all = amount.all();
    for (name, number) in [
        ("keys", amount.keys),
        ("records", all.records),
        ("bytes", all.bytes),
        ("liveRecords", amount.live.records),
        ("liveBytes", amount.live.bytes),
        ("supersededRecords", amount.superseded.records),
        ("supersededBytes", amount.superseded.bytes),
        ("tombstones", amount.tombstones.records),
        ("tombstoneBytes", amount.tombstones.bytes),
        ("freedRecords", amount.freed.records),
        ("freedBytes", amount.freed.bytes),
    ] {
        object.insert(name.to_owned(), json!(number));
    }
}
