//! Revisions and log entries as lines, tables and JSON, each with its citation where that is asked for.

use std::io::{self, Write};
use std::ops::ControlFlow;

use bbolt::fault::readable;
use casefile::rows::{EntryStanding, Parting, Standing, Touched};
use casefile::source::KeySpace;
use casefile::{Case, CaseError, Citation, LogRow, RevisionRow, Source};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::commands::bbolt_file;
use crate::commands::kv_usage::insert_bytes;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Note;
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Rows that a table has at most: it is kept until its last row is known.
const IN_TABLE: usize = 10_000;

/// Stretches of a damaged key space that are named.
const MOST_HOLES: usize = 4;

/// How rows are shown.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct ShownArgs {
    /// Show where each row stands: file, its SHA-256, offset and length
    #[arg(long)]
    pub(super) cite: bool,
}

/// Which side of a difference a row is, and why it is one.
pub(super) type Mark = (&'static str, Parting);

/// Writes rows as they come.
pub(super) struct Printer<'c, 'o> {
    case: &'c Case,
    format: Format,
    cite: bool,
    values: bool,
    out: &'o mut dyn Write,
    /// Revisions, and entries of logs: a table has one kind of rows.
    tables: [Vec<Vec<Cell>>; 2],
    /// Values that could not be had, and why the first could not.
    no_values: (u64, Option<String>),
    /// Rows that were shown, or could not be for the table's length.
    pub(super) rows: u64,
    /// Rows that other sources have otherwise.
    pub(super) contested: u64,
    /// Whether a table has not all rows.
    is_cut: bool,
    failed: Option<io::Error>,
}

/// What came of printing.
pub(super) struct Printed<T> {
    /// What the question came to; `None` when the reader went away before its end.
    pub(super) answer: Option<T>,
    pub(super) rows: u64,
    pub(super) contested: u64,
    /// Values that were asked for and could not be had.
    pub(super) no_values: u64,
    /// What the user must hear of it.
    pub(super) notes: Vec<Note>,
}

/// Asks `case`, and prints what comes.
///
/// # Errors
/// When the format is none for rows, the case is damaged, or stdout cannot be written.
pub(super) fn print<T>(
    case: &Case,
    (shown, values): (&ShownArgs, bool),
    context: &Context,
    ask: impl FnOnce(&mut Printer<'_, '_>) -> Result<T, CaseError>,
) -> Result<Printed<T>, Failure> {
    if !matches!(context.format, Format::Simple | Format::Table | Format::Json) {
        return Err(Failure::usage("this command prints -w simple, -w table or -w json"));
    }
    let mut refused = None;
    let printed = bbolt_file::to_stdout_stoppable(context.watch.as_ref(), |out| {
        let mut printer = Printer {
            case,
            format: context.format,
            cite: shown.cite,
            values,
            out,
            tables: [Vec::new(), Vec::new()],
            no_values: (0, None),
            rows: 0,
            contested: 0,
            is_cut: false,
            failed: None,
        };
        let answer = ask(&mut printer);
        if let Some(error) = printer.failed.take() {
            return Err(error);
        }
        for table in &printer.tables {
            printer.out.write_all(output::table(table).as_bytes())?;
        }
        let mut notes = Vec::new();
        if printer.is_cut {
            notes.push(Note::Warning(format!(
                "warning: a table has {IN_TABLE} rows at most, and there are {}: -w simple and -w json print all of them",
                printer.rows
            )));
        }
        let (rows, contested, no_values) = (printer.rows, printer.contested, printer.no_values.0);
        if let (count, Some(why)) = &printer.no_values {
            notes.push(Note::Warning(format!(
                "{}: {why}",
                counted(*count, "value could not be had", "values could not be had")
            )));
        }
        match answer {
            Ok(answer) => Ok(Printed { answer: Some(answer), rows, contested, no_values, notes }),
            Err(error) => {
                refused = Some(error);
                Ok(Printed { answer: None, rows, contested, no_values, notes })
            }
        }
    })?;
    match refused {
        Some(error) => Err(error.about(case.path()).into()),
        None => Ok(printed.unwrap_or(Printed {
            answer: None,
            rows: 0,
            contested: 0,
            no_values: 0,
            notes: Vec::new(),
        })),
    }
}

impl Printer<'_, '_> {
    /// Shows a revision.
    pub(super) fn revision(&mut self, row: &RevisionRow) -> ControlFlow<()> {
        self.revision_as(None, row)
    }

    /// Shows a revision as one side of a difference.
    pub(super) fn revision_as(&mut self, mark: Option<Mark>, row: &RevisionRow) -> ControlFlow<()> {
        self.rows += 1;
        self.contested += u64::from(row.contested);
        let done = match self.format {
            Format::Json => {
                let object = self.revision_json(mark, row);
                writeln!(self.out, "{object}")
            }
            Format::Table => {
                self.keep_revision(mark, row);
                Ok(())
            }
            _ => self.revision_line(mark, row),
        };
        self.went(done)
    }

    /// Shows an entry of a log.
    pub(super) fn entry(&mut self, row: &LogRow) -> ControlFlow<()> {
        self.rows += 1;
        let done = match self.format {
            Format::Json => {
                let object = self.entry_json(row);
                writeln!(self.out, "{object}")
            }
            Format::Table => {
                let mut cells = entry_cells(self.case, row);
                if self.cite {
                    cells.extend(citation_cells(&self.case.cite_entry(row)));
                }
                self.keep(1, cells);
                Ok(())
            }
            _ => self.entry_line(row),
        };
        self.went(done)
    }

    /// Says how far a source could be asked, where lines say so.
    pub(super) fn standing(&mut self, source: u32, standing: &Standing) -> ControlFlow<()> {
        let name = name(self.case, source);
        let done = match self.format {
            Format::Json => {
                let (word, revision) = standing_word(standing);
                let mut object = Map::from_iter([
                    ("type".to_owned(), json!("standing")),
                    ("source".to_owned(), json!(name)),
                    ("standing".to_owned(), json!(word)),
                ]);
                if let Some(revision) = revision {
                    object.insert("revision".to_owned(), json!(revision));
                }
                writeln!(self.out, "{}", Value::Object(object))
            }
            _ => Ok(()),
        };
        self.went(done)
    }

    fn keep(&mut self, table: usize, cells: Vec<Cell>) {
        match self.tables.get_mut(table).filter(|table| table.len() < IN_TABLE) {
            Some(table) => table.push(cells),
            None => self.is_cut = true,
        }
    }

    /// Keeps a row of the table; of a row that is cited one for each source.
    fn keep_revision(&mut self, mark: Option<Mark>, row: &RevisionRow) {
        let value = self.value(row);
        let shows_value = self.values;
        let cells = |sources: &str| {
            let mut cells = revision_cells(mark, row, sources);
            if shows_value {
                let text = value
                    .as_ref()
                    .map(|value| value.as_ref().map_or("-".to_owned(), |value| readable(value)));
                cells.push(Cell::new("value", "Value", &text.unwrap_or_default()));
            }
            cells
        };
        if !self.cite {
            let cells = cells(&holders(self.case, row).join(", "));
            return self.keep(0, cells);
        }
        for held in &row.held {
            let mut cells = cells(&name(self.case, held.source));
            cells.extend(citation_cells(&self.case.cite(held)));
            self.keep(0, cells);
        }
    }

    fn went(&mut self, done: io::Result<()>) -> ControlFlow<()> {
        match done {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn revision_line(&mut self, mark: Option<Mark>, row: &RevisionRow) -> io::Result<()> {
        let (mark, why) = mark.map(|(mark, why)| (format!("{mark} "), why)).unzip();
        let mark = mark.unwrap_or_default();
        let what = if row.tombstone {
            "deleted".to_owned()
        } else {
            let what = if row.version == 1 { "created" } else { "put" };
            let lease = if row.lease == 0 { String::new() } else { format!(", lease {:x}", row.lease) };
            format!(
                "{what}, version {}, {} bytes, value sha256 {}…{lease}",
                row.version,
                row.value_len,
                hex(row.value_hash.get(..8).unwrap_or_default())
            )
        };
        let otherwise = match why {
            Some(Parting::Unreadable) => " (the other is damaged there)",
            _ if row.may_be_old => " (may not be the newest: damaged behind it)",
            _ if row.contested => " (others have it otherwise)",
            _ => "",
        };
        let holders = holders(self.case, row).join(", ");
        writeln!(self.out, "{mark}{} {}: {what}; in {holders}{otherwise}", place(row), readable(&row.key))?;
        if let Some(value) = self.value(row) {
            match value {
                Ok(value) => writeln!(self.out, "    value {}", readable(&value))?,
                Err(why) => writeln!(self.out, "    no value: {}", shown(&why))?,
            }
        }
        if self.cite {
            for held in &row.held {
                citation_line(&self.case.cite(held), self.out)?;
            }
        }
        Ok(())
    }

    fn value(&mut self, row: &RevisionRow) -> Option<Result<Vec<u8>, String>> {
        if !self.values || row.tombstone {
            return None;
        }
        let value = self.case.value(row).map_err(|error| error.to_string());
        if let Err(why) = &value {
            self.no_values.0 += 1;
            self.no_values.1.get_or_insert_with(|| shown(why));
        }
        Some(value)
    }

    fn revision_json(&mut self, mark: Option<Mark>, row: &RevisionRow) -> Value {
        let mut object = Map::new();
        object.insert("type".to_owned(), json!("revision"));
        if let Some((mark, why)) = mark {
            object.insert("change".to_owned(), json!(mark));
            object.insert("why".to_owned(), json!(why));
        }
        insert_bytes(&mut object, "key", &row.key);
        object.insert("revision".to_owned(), json!(row.main));
        object.insert("subRevision".to_owned(), json!(row.sub));
        object.insert("deleted".to_owned(), json!(row.tombstone));
        if !row.tombstone {
            object.insert("createRevision".to_owned(), json!(row.create_revision));
            object.insert("version".to_owned(), json!(row.version));
            object.insert("valueBytes".to_owned(), json!(row.value_len));
            object.insert("valueSha256Begins".to_owned(), json!(hex(&row.value_hash)));
            if row.lease != 0 {
                object.insert("lease".to_owned(), json!(format!("{:x}", row.lease)));
            }
        }
        object.insert("sources".to_owned(), json!(holders(self.case, row)));
        object.insert("contested".to_owned(), json!(row.contested));
        if row.may_be_old {
            object.insert("mayBeOld".to_owned(), json!(true));
        }
        match self.value(row) {
            Some(Ok(value)) => insert_bytes(&mut object, "value", &value),
            Some(Err(why)) => {
                object.insert("noValue".to_owned(), json!(why));
            }
            None => {}
        }
        if self.cite {
            let cited: Vec<Citation> = row.held.iter().map(|held| self.case.cite(held)).collect();
            object.insert("citations".to_owned(), json!(cited));
        }
        Value::Object(object)
    }

    fn entry_line(&mut self, row: &LogRow) -> io::Result<()> {
        let named = named_by(row);
        let keys = if named.is_empty() { String::new() } else { format!(" {}", named.join(", ")) };
        writeln!(
            self.out,
            "entry {} of term {} in {}: {}{keys}; {}{}",
            row.index,
            row.term,
            name(self.case, row.source),
            shown(&row.kind),
            standing_of(row.standing),
            if row.committed { ", committed" } else { "" }
        )?;
        if self.cite {
            citation_line(&self.case.cite_entry(row), self.out)?;
        }
        Ok(())
    }

    fn entry_json(&self, row: &LogRow) -> Value {
        let keys: Vec<Value> = row
            .touched
            .iter()
            .map(|touched| {
                let mut keys = Map::new();
                insert_bytes(&mut keys, "key", &touched.key);
                if !touched.range_end.is_empty() {
                    insert_bytes(&mut keys, "rangeEnd", &touched.range_end);
                }
                Value::Object(keys)
            })
            .collect();
        let mut object = Map::from_iter([
            ("type".to_owned(), json!("entry")),
            ("source".to_owned(), json!(name(self.case, row.source))),
            ("index".to_owned(), json!(row.index)),
            ("term".to_owned(), json!(row.term)),
            ("kind".to_owned(), json!(row.kind)),
            ("standing".to_owned(), json!(row.standing)),
            ("committed".to_owned(), json!(row.committed)),
            ("keys".to_owned(), Value::Array(keys)),
        ]);
        if !row.leases.is_empty() {
            let leases: Vec<String> = row.leases.iter().map(|lease| format!("{lease:x}")).collect();
            object.insert("leases".to_owned(), json!(leases));
        }
        if !row.paths.is_empty() {
            let paths: Vec<String> = row.paths.iter().map(|path| readable(path)).collect();
            object.insert("paths".to_owned(), json!(paths));
        }
        if let Some(revision) = row.compacts {
            object.insert("compactRevision".to_owned(), json!(revision));
        }
        if self.cite {
            object.insert("citations".to_owned(), json!([self.case.cite_entry(row)]));
        }
        Value::Object(object)
    }
}

/// The name of a source by its number.
pub(super) fn name(case: &Case, number: u32) -> String {
    let source = usize::try_from(number).ok().and_then(|number| case.sources().get(number));
    shown(source.map_or("?", |source| &source.name))
}

fn holders(case: &Case, row: &RevisionRow) -> Vec<String> {
    row.held.iter().map(|held| name(case, held.source)).collect()
}

fn place(row: &RevisionRow) -> String {
    match row.sub {
        0 => row.main.to_string(),
        sub => format!("{}.{sub}", row.main),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// What an entry names, in words.
fn named_by(row: &LogRow) -> Vec<String> {
    let keys = row.touched.iter().map(keys_of);
    let leases = row.leases.iter().map(|lease| format!("lease {lease:x}"));
    let paths = row.paths.iter().map(|path| readable(path));
    let compacts = row.compacts.map(|revision| format!("up to revision {revision}"));
    keys.chain(leases).chain(paths).chain(compacts).collect()
}

fn keys_of(touched: &Touched) -> String {
    let key = readable(&touched.key);
    match touched.range_end.as_slice() {
        [] => key,
        [0] => format!("{key} and all behind it"),
        end => format!("{key} up to {}", readable(end)),
    }
}

fn standing_of(standing: EntryStanding) -> &'static str {
    match standing {
        EntryStanding::Counts => "counts",
        EntryStanding::Overwritten => "overwritten",
        EntryStanding::OutOfReach => "out of a server's reach",
    }
}

fn standing_word(standing: &Standing) -> (&'static str, Option<i64>) {
    match standing {
        Standing::Asked => ("asked", None),
        Standing::NoKeySpace => ("no-key-space", None),
        Standing::Compacted { at } => ("compacted", Some(*at)),
        Standing::EndsBefore { last } => ("ends-before", Some(*last)),
        Standing::Damaged => ("damaged", None),
    }
}

/// How far sources could be asked, as a story; nothing of those that were asked as a whole.
pub(super) fn standings(case: &Case, standings: &[(u32, Standing)]) -> Vec<Note> {
    standings.iter().filter_map(|(number, standing)| told(case, *number, standing)).collect()
}

fn told(case: &Case, number: u32, standing: &Standing) -> Option<Note> {
    let name = name(case, number);
    Some(Note::Prose(match standing {
        Standing::Asked => return None,
        Standing::NoKeySpace => format!("{name}: has no key space that could be read"),
        Standing::Compacted { at } => {
            format!("{name}: was compacted at revision {at}: what was superseded before is gone")
        }
        Standing::EndsBefore { last } => {
            format!("{name}: ends at revision {last}, and says nothing of what came later")
        }
        Standing::Damaged => {
            let source = usize::try_from(number).ok().and_then(|number| case.sources().get(number));
            let what =
                source.and_then(|source| source.key_space.as_ref()).map(unreadable).unwrap_or_default();
            return Some(Note::Warning(format!("{name}: {what}: what is not shown may have been there")));
        }
    }))
}

/// What cannot be read of a damaged key space.
pub(super) fn unreadable(space: &KeySpace) -> String {
    let hole = |(from, behind): &(i64, Option<i64>)| match behind {
        Some(behind) => format!("{from} to {}", (behind - 1).max(*from)),
        None => format!("{from} and all behind it"),
    };
    let mut holes: Vec<String> = space.holes.iter().take(MOST_HOLES).map(hole).collect();
    if space.holes.len() > MOST_HOLES {
        holes.push(format!("{} more stretches", space.holes.len() - MOST_HOLES));
    }
    let records = counted(space.unreadable, "record cannot be read", "records cannot be read");
    match (holes.as_slice(), space.unreadable) {
        ([], _) => records,
        (_, 0) => format!("revisions {} lie below damaged pages", holes.join(", ")),
        _ => format!("revisions {} lie below damaged pages, and {records}", holes.join(", ")),
    }
}

/// Which sources cannot say all that they once could, as a story; of those in `ends` also how far they go.
pub(super) fn coverage(case: &Case, ends: impl Fn(&Source) -> bool) -> Vec<Note> {
    let mut notes = Vec::new();
    for source in case.sources() {
        let mut tell = |standing| notes.extend(told(case, source.number, &standing));
        match &source.key_space {
            None => tell(Standing::NoKeySpace),
            Some(space) => {
                if !space.is_whole() {
                    tell(Standing::Damaged);
                }
                if let Some(at) = space.compacted.filter(|_| ends(source)) {
                    tell(Standing::Compacted { at });
                }
                if ends(source) {
                    tell(Standing::EndsBefore { last: space.revision });
                }
            }
        }
    }
    notes
}

/// Which sources have entries in their logs that are committed, and not in their databases.
pub(super) fn behind_logs<'s>(sources: impl IntoIterator<Item = &'s Source>) -> Vec<Note> {
    let mut notes = Vec::new();
    for source in sources {
        let (Some(space), Some(log)) = (&source.key_space, &source.log) else { continue };
        let end = log.commit.min(log.last.unwrap_or_default());
        if end > space.consistent_index {
            let more = counted(end - space.consistent_index, "committed entry", "committed entries");
            notes.push(Note::Prose(format!(
                "{}: its log has {more} beyond its database, {} to {end}: what they changed is not among its revisions",
                shown(&source.name),
                space.consistent_index + 1
            )));
        }
    }
    notes
}

/// A number that lines show with what it counts, and boxes and fields without.
pub(super) fn number(
    format: Format,
    header: &'static str,
    label: &'static str,
    count: u64,
    (one, many): (&str, &str),
) -> Cell {
    match format {
        Format::Simple => Cell::shown(header, label, &counted(count, one, many), &count),
        _ => Cell::new(header, label, &count),
    }
}

/// A value that lines show with its name before it.
pub(super) fn named(
    header: &'static str,
    label: &'static str,
    format: Format,
    name: &str,
    value: impl std::fmt::Display,
) -> Cell {
    match format {
        Format::Simple => Cell::shown(header, label, &format!("{name} {value}"), &value.to_string()),
        _ => Cell::new(header, label, &value.to_string()),
    }
}

/// A number and what it counts.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The file whose hash and offset are cited: of a packed one, what it unpacks to.
fn cited_file(citation: &Citation) -> (String, &str) {
    let file = shown(&citation.file);
    match &citation.unpacked_sha256 {
        Some(sha256) => (format!("{file} (unpacked)"), sha256),
        None => (file, &citation.sha256),
    }
}

fn citation_cells(citation: &Citation) -> [Cell; 5] {
    let (file, sha256) = cited_file(citation);
    [
        Cell::new("file", "File", &file),
        Cell::new("file sha256", "File SHA256", &sha256),
        Cell::new("offset", "Offset", &format!("{:#x}", citation.offset)),
        Cell::new("length", "Length", &citation.len_bytes),
        Cell::new("page", "Page", &citation.page.map_or_else(String::new, |page| page.to_string())),
    ]
}

fn citation_line(citation: &Citation, out: &mut dyn Write) -> io::Result<()> {
    let page = citation.page.map(|page| format!(", page {page}")).unwrap_or_default();
    let (file, sha256) = cited_file(citation);
    writeln!(
        out,
        "    {}: {file}, sha256 {sha256}, {} bytes at {:#x}{page}",
        shown(&citation.source),
        citation.len_bytes,
        citation.offset
    )
}

fn revision_cells(mark: Option<Mark>, row: &RevisionRow, sources: &str) -> Vec<Cell> {
    let none = |is: bool, text: String| if is { String::new() } else { text };
    let what = match row {
        RevisionRow { tombstone: true, .. } => "deleted",
        RevisionRow { version: 1, .. } => "created",
        _ => "put",
    };
    let mut cells = Vec::new();
    if let Some((mark, _)) = mark {
        cells.push(Cell::new("change", "Change", mark));
    }
    cells.extend([
        Cell::new("revision", "Revision", &place(row)),
        Cell::new("key", "Key", &readable(&row.key)),
        Cell::new("what", "What", what),
        Cell::new("version", "Version", &none(row.tombstone, row.version.to_string())),
        Cell::new("bytes", "Bytes", &none(row.tombstone, row.value_len.to_string())),
        Cell::new("lease", "Lease", &none(row.lease == 0, format!("{:x}", row.lease))),
        Cell::new(
            "value sha256 begins",
            "Value SHA256 begins",
            &none(row.tombstone, hex(row.value_hash.get(..8).unwrap_or_default())),
        ),
        Cell::new("sources", "Sources", sources),
        Cell::new("contested", "Contested", if row.contested { "yes" } else { "" }),
    ]);
    if row.may_be_old {
        cells.push(Cell::new("may be old", "May be old", "yes"));
    }
    cells
}

fn entry_cells(case: &Case, row: &LogRow) -> Vec<Cell> {
    vec![
        Cell::new("source", "Source", &name(case, row.source)),
        Cell::new("index", "Index", &row.index),
        Cell::new("term", "Term", &row.term),
        Cell::new("kind", "Kind", &shown(&row.kind)),
        Cell::new("names", "Names", &named_by(row).join(", ")),
        Cell::new("standing", "Standing", standing_of(row.standing)),
        Cell::new("committed", "Committed", if row.committed { "yes" } else { "" }),
    ]
}
