//! The output formats: etcdutl's lines, boxes and fields, and JSON on one line.

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::Failure;

/// What `-w` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Values separated by commas, one line each.
    Simple,
    /// A box.
    Table,
    /// One object.
    Json,
    /// A line for each field.
    Fields,
    /// One message; only for what etcdctl answers so, and refused by etcdutl's snapshot commands as by ours.
    #[value(hide = true)]
    Protobuf,
}

/// One value under its names.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// The column's header in a table.
    pub(crate) header: &'static str,
    /// The value as lines and tables show it.
    pub(crate) text: String,
    /// The field's name.
    pub(crate) label: &'static str,
    /// The value as a field shows it.
    pub(crate) plain: String,
}

impl Cell {
    /// A value that reads the same everywhere.
    pub(crate) fn new(header: &'static str, label: &'static str, value: &(impl ToString + ?Sized)) -> Self {
        let text = value.to_string();
        Self { header, label, plain: text.clone(), text }
    }

    /// A value that lines and tables show as `text`, fields as `plain`.
    pub(crate) fn shown(
        header: &'static str,
        label: &'static str,
        text: &(impl ToString + ?Sized),
        plain: &(impl ToString + ?Sized),
    ) -> Self {
        Self { header, label, text: text.to_string(), plain: plain.to_string() }
    }
}

/// `rows`, which all have the same columns, in `format`; `json` is what the JSON of them all is.
///
/// # Errors
/// For protobuf, in etcdutl's words and with its exit code.
pub(crate) fn render(format: Format, rows: &[Vec<Cell>], json: &impl Serialize) -> Result<String, Failure> {
    match format {
        Format::Simple => Ok(simple(rows)),
        Format::Table => Ok(table(rows)),
        Format::Fields => Ok(fields(rows)),
        Format::Json => self::json(json),
        Format::Protobuf => Err(no_protobuf()),
    }
}

/// What etcdutl says, and exits with, when asked for protobuf here.
pub(crate) fn no_protobuf() -> Failure {
    Failure::refused("protobuf not supported as output format")
}

/// What etcdctl says, and exits with, when asked for a table of keys.
pub(crate) fn no_table() -> Failure {
    Failure::refused("table not supported as output format")
}

/// `value` as JSON on one line.
///
/// # Errors
/// When a map has keys that are no strings.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::failed(format!("writing JSON: {error}")))
}

pub(crate) fn simple(rows: &[Vec<Cell>]) -> String {
    rows.iter()
        .map(|row| {
            let texts: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
            texts.join(", ") + "\n"
        })
        .collect()
}

fn fields(rows: &[Vec<Cell>]) -> String {
    rows.iter().flatten().map(|cell| format!("\"{}\" : {}\n", cell.label, cell.plain)).collect()
}

/// What a box is drawn of: the dash, the bar, and the corners of the rules above, between and below.
struct Strokes {
    dash: &'static str,
    bar: &'static str,
    rules: [[&'static str; 3]; 3],
}

/// As 3.7 draws it.
const LINES: Strokes =
    Strokes {
        dash: "─", bar: "│", rules: [["┌", "┬", "┐"], ["├", "┼", "┤"], ["└", "┴", "┘"]]
    };
/// As releases up to 3.6 draw it.
const PLAIN: Strokes = Strokes { dash: "-", bar: "|", rules: [["+", "+", "+"]; 3] };

/// A box as etcdutl 3.7 draws it.
pub(crate) fn table(rows: &[Vec<Cell>]) -> String {
    drawn(rows, &LINES)
}

/// A box as releases up to 3.6 draw it.
pub(crate) fn older_table(rows: &[Vec<Cell>]) -> String {
    drawn(rows, &PLAIN)
}

/// A box: headers in capitals and centred, the odd blank to the right; values to the right.
fn drawn(rows: &[Vec<Cell>], strokes: &Strokes) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let widths: Vec<usize> = first
        .iter()
        .enumerate()
        .map(|(column, cell)| {
            let texts = rows.iter().filter_map(|row| row.get(column)).map(|cell| width(&cell.text));
            texts.max().unwrap_or_default().max(width(cell.header))
        })
        .collect();
    let Strokes { dash, bar, rules: [above, between, below] } = strokes;
    let rule = |[left, between, right]: &[&str; 3]| {
        let dashes: Vec<String> = widths.iter().map(|width| dash.repeat(width + 2)).collect();
        format!("{left}{}{right}\n", dashes.join(between))
    };
    let line = |cells: Vec<String>| format!("{bar} {} {bar}\n", cells.join(&format!(" {bar} ")));
    let mut out = rule(above);
    let centred = |(cell, total): (&Cell, &usize)| {
        let text = cell.header.to_uppercase();
        let blank = total.saturating_sub(width(&text));
        format!("{}{text}{}", " ".repeat(blank / 2), " ".repeat(blank - blank / 2))
    };
    out += &line(first.iter().zip(&widths).map(centred).collect());
    out += &rule(between);
    for row in rows {
        let flushed = |(cell, total): (&Cell, &usize)| {
            format!("{}{}", " ".repeat(total.saturating_sub(width(&cell.text))), cell.text)
        };
        out += &line(row.iter().zip(&widths).map(flushed).collect());
    }
    out + &rule(below)
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(revision: &str, version: &str) -> Vec<Cell> {
        vec![
            Cell::new("hash", "Hash", "3d1b12e9"),
            Cell::new("revision", "Revision", revision),
            Cell::new("version", "Version", version),
        ]
    }

    #[test]
    fn a_box_with_an_empty_and_a_wide_value() {
        insta::assert_snapshot!(table(&[status("1000000079", "")]), @r"
    ┌──────────┬────────────┬─────────┐
    │   HASH   │  REVISION  │ VERSION │
    ├──────────┼────────────┼─────────┤
    │ 3d1b12e9 │ 1000000079 │         │
    └──────────┴────────────┴─────────┘
    ");
        insta::assert_snapshot!(table(&[status("123456789", "3.6.0"), status("7", "")]), @r"
    ┌──────────┬───────────┬─────────┐
    │   HASH   │ REVISION  │ VERSION │
    ├──────────┼───────────┼─────────┤
    │ 3d1b12e9 │ 123456789 │   3.6.0 │
    │ 3d1b12e9 │         7 │         │
    └──────────┴───────────┴─────────┘
    ");
    }

    #[test]
    fn no_rows_no_box() {
        assert_eq!(table(&[]), "");
    }
}
