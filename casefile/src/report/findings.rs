//! What is wrong, by code, with cause, consequence and remedy.

use std::collections::BTreeMap;

use snapshot::finding::catalogue;

use super::data::Data;
use super::markup::{Column, Html, Page, Text};
use super::sections::{badge, file_name};
use super::words::{counted, len};
use crate::source::{FindingRow, Source};

/// How an error is called.
const ERROR: &str = "error";

/// Findings of one code that are told of one by one.
const EACH: usize = 50;

/// The section.
pub(super) fn section(data: &Data, page: &mut Page) {
    page.section("findings", "Findings and remedies");
    // Errors come first.
    let mut by_code: BTreeMap<(bool, &str), Vec<(&Source, &FindingRow)>> = BTreeMap::new();
    for source in data.sources.iter().map(|of| &of.source) {
        for finding in &source.findings {
            by_code.entry((finding.severity != ERROR, &finding.code)).or_default().push((source, finding));
        }
    }
    if by_code.is_empty() {
        page.paragraph(&Html::text("Nothing was found to be wrong with any of the sources."));
    }
    for ((is_warning, code), found) in by_code {
        one(is_warning, code, &found, page);
    }
    for source in data.sources.iter().map(|of| &of.source).filter(|source| source.more_findings > 0) {
        page.paragraph(&Html::text(format_args!(
            "{}: {} about the log than are listed here.",
            source.name,
            counted(source.more_findings, "more finding", "more findings")
        )));
    }
    checked(data, page);
}

/// What was checked, so that silence means something.
fn checked(data: &Data, page: &mut Page) {
    page.push("<h3>What was checked</h3>");
    let columns = [
        Column::text("Source"),
        Column::text("What"),
        Column::text("Checked"),
        Column::text("How much of it, or why not"),
    ];
    let mut rows = Vec::new();
    for source in data.sources.iter().map(|of| &of.source) {
        for checked in &source.checked {
            rows.push(vec![
                Html::text(&source.name),
                Html::text(&checked.what),
                if checked.done { badge("good", "yes") } else { badge("none", "no") },
                Html::text(&checked.detail),
            ]);
        }
    }
    page.table(&Html::text("What was checked of each source, and what was not."), &columns, &rows);
}

fn one(is_warning: bool, code: &str, found: &[(&Source, &FindingRow)], page: &mut Page) {
    let (class, severity) = if is_warning { ("warn", "warning") } else { ("bad", ERROR) };
    let entry = catalogue::find(code);
    page.push(format_args!(
        "<div class=\"finding {class}\">\n<h3>{} {} – {}</h3>",
        badge(class, severity),
        Html::code(code),
        entry.map_or_else(|| Html::text("no description"), |entry| markdown(entry.title))
    ));
    if let Some(entry) = entry {
        page.push("<dl>");
        for (name, text) in
            [("Cause", entry.cause), ("Consequence", entry.consequence), ("Remedy", entry.remedy)]
        {
            if !text.is_empty() {
                page.push(format_args!("<dt>{name}</dt><dd>{}</dd>", markdown(text)));
            }
        }
        page.push("</dl>");
    }
    let columns = [Column::text("Source"), Column::text("What was found"), Column::text("Where")];
    let rows: Vec<_> = found
        .iter()
        .take(EACH)
        .map(|(source, finding)| {
            let file = finding
                .file
                .and_then(|at| source.files.get(at))
                .map(|file| Html::code(file_name(file, source)));
            let offset =
                finding.offset.map(|offset| Html::text(format_args!("offset {offset} ({offset:#x})")));
            let place: Vec<Html> = file.into_iter().chain(offset).collect();
            vec![
                Html::text(&source.name),
                if finding.message.is_empty() {
                    Html::text("left out")
                } else {
                    Html::text(&finding.message)
                },
                if place.is_empty() { Html::text("–") } else { Html::lines(place) },
            ]
        })
        .collect();
    let more = len(found).saturating_sub(len(&rows));
    let rest = if more > 0 {
        format!(" {} not shown here.", counted(more, "more is", "more are"))
    } else {
        String::new()
    };
    page.table(
        &Html::text(format_args!("{code}: {}.{rest}", counted(len(found), "finding", "findings"))),
        &columns,
        &rows,
    );
    page.push("</div>");
}

/// The catalogue's Markdown, of which it uses nothing but marks of code.
fn markdown(text: &str) -> Html {
    let pieces = text.split('`').enumerate();
    let pieces = pieces
        .map(|(index, piece)| if index % 2 == 1 { Html::code(piece) } else { Html::text(Text(piece).0) });
    pieces.fold(Html::default(), |all, piece| all.and(&piece))
}
