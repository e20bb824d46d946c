//! The pages of a database as a picture: cells from left to right and from top to bottom, each for so many pages.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use snapshot::humanize;

use super::data::Examined;
use super::markup::{self, Column, Html, Page, Text};
use super::words::{counted, grouped, len, share};
use crate::source::{PageRun, PageUse};

/// Cells in a row, at most.
const COLUMNS: u64 = 128;
/// Cells in a row, at least.
const FEWEST_COLUMNS: u64 = 24;
/// Rows, at most.
const ROWS: u64 = 40;
/// Owners of pages that are listed: a database of etcd has some twenty.
const OWNERS: usize = 100;
/// The side of a cell in the picture's units.
const CELL: u64 = 10;

/// What is told of one owner.
#[derive(Debug, Default, Clone, Copy)]
struct Holding {
    pages: u64,
    first: u64,
    runs: u64,
}

/// The class by which a style is given to pages.
fn class(usage: PageUse, of: &Examined) -> &'static str {
    match usage {
        PageUse::Meta => "pg-meta",
        PageUse::Freelist => "pg-freelist",
        PageUse::Branch => "pg-branch",
        PageUse::Leaf(bucket) if bucket_name(bucket, of) == KEYS => "pg-keys",
        PageUse::Leaf(_) => "pg-bucket",
        PageUse::Free | PageUse::Beyond => "pg-free",
        PageUse::Unknown => "pg-unowned",
        PageUse::Damaged => "pg-damaged",
    }
}

/// The bucket of the key space.
const KEYS: &str = "key";

fn bucket_name(bucket: u32, of: &Examined) -> &str {
    let names = of.source.pages.as_ref().map_or(&[][..], |pages| pages.buckets.as_slice());
    usize::try_from(bucket).ok().and_then(|at| names.get(at)).map_or("?", String::as_str)
}

/// Which owner a cell shows that several share: what must not be overlooked first, else whoever has most of it.
fn rank(class: &str) -> u8 {
    match class {
        "pg-damaged" => 2,
        "pg-unowned" => 1,
        _ => 0,
    }
}

fn name(usage: PageUse, of: &Examined) -> Html {
    match usage {
        PageUse::Leaf(bucket) => {
            let name = bucket_name(bucket, of);
            let more = if name == KEYS { ", the key space" } else { "" };
            Html::text("bucket ").and(&Html::code(markup::name(name.as_bytes()))).and(&Html::text(more))
        }
        usage => Html::text(plain(usage, of)),
    }
}

fn plain(usage: PageUse, of: &Examined) -> String {
    match usage {
        PageUse::Meta => "meta pages".to_owned(),
        PageUse::Freelist => "list of free pages".to_owned(),
        PageUse::Branch => "branches, and the root".to_owned(),
        PageUse::Leaf(bucket) => format!("bucket {}", markup::name(bucket_name(bucket, of).as_bytes())),
        PageUse::Free => "free".to_owned(),
        PageUse::Beyond => "behind the high-water mark, not in use".to_owned(),
        PageUse::Unknown => "not to be told, since something is damaged".to_owned(),
        PageUse::Damaged => "damaged".to_owned(),
    }
}

/// How many pages a cell stands for, and how many cells there are in a row.
fn grid(pages: u64) -> (u64, u64) {
    let each = pages.div_ceil(COLUMNS * ROWS).max(1);
    let cells = pages.div_ceil(each);
    // About three times as wide as high.
    (each, (cells.saturating_mul(3).isqrt() + 1).clamp(FEWEST_COLUMNS, COLUMNS))
}

/// The runs that are drawn: without what follows the database in its file.
fn drawn(of: &Examined) -> &[PageRun] {
    let is_drawn = |run: &PageRun| run.usage != PageUse::Beyond;
    // A file in which nothing is in use is drawn as it is.
    let behind = of.pages.iter().rposition(is_drawn).map_or(of.pages.len(), |at| at + 1);
    of.pages.get(..behind).unwrap_or_default()
}

/// The class of each cell, `each` pages a cell.
fn cells(of: &Examined, each: u64) -> Vec<&'static str> {
    let mut cells = Vec::new();
    let mut within: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut taken = 0;
    let close = |within: &mut BTreeMap<&'static str, u64>, cells: &mut Vec<&'static str>| {
        let shown = within.iter().max_by_key(|(class, pages)| (rank(class), **pages));
        cells.extend(shown.map(|(class, _)| *class));
        within.clear();
    };
    for run in drawn(of) {
        let class = class(run.usage, of);
        let mut left = run.pages;
        while left > 0 && len(&cells) < COLUMNS * ROWS {
            let part = left.min(each - taken);
            *within.entry(class).or_default() += part;
            taken += part;
            left -= part;
            if taken == each {
                close(&mut within, &mut cells);
                taken = 0;
            }
        }
    }
    if taken > 0 {
        close(&mut within, &mut cells);
    }
    cells
}

/// The figure, and the table that says the same.
pub(super) fn figure(of: &Examined, page: &mut Page) {
    let source = of.source.name.as_str();
    let pages = of.pages.iter().fold(0_u64, |sum, run| sum.saturating_add(run.pages));
    if pages == 0 {
        return;
    }
    let shown = drawn(of).iter().fold(0_u64, |sum, run| sum.saturating_add(run.pages));
    let (each, columns) = grid(shown);
    let cells = cells(of, each);
    let held = holdings(of);
    let rows = len(&cells).div_ceil(columns);
    let mut svg = String::new();
    let mut legend: Vec<(&'static str, Html)> = Vec::new();
    for (usage, _) in held.iter().filter(|(usage, _)| *usage != PageUse::Beyond || shown == pages) {
        let class = class(*usage, of);
        let name = if class == "pg-bucket" { Html::text("other buckets") } else { name(*usage, of) };
        if !legend.iter().any(|(there, _)| *there == class) {
            legend.push((class, name));
        }
    }
    let width = usize::try_from(columns).unwrap_or(usize::MAX);
    for (row, line) in cells.chunks(width).enumerate() {
        let mut at = 0;
        for run in line.chunk_by(|one, next| one == next) {
            let (x, y) = (at * CELL, u64::try_from(row).unwrap_or(u64::MAX) * CELL);
            let long = len(run) * CELL;
            at += len(run);
            // Writing to a string does not fail.
            let _ = write!(
                svg,
                "<rect class=\"{}\" x=\"{x}\" y=\"{y}\" width=\"{long}\" height=\"{}\"/>",
                run[0],
                CELL - 1
            );
        }
    }
    let said: Vec<String> = held
        .iter()
        .rev()
        .take(OWNERS)
        .rev()
        .map(|(usage, held)| format!("{}: {}", plain(*usage, of), counted(held.pages, "page", "pages")))
        .collect();
    let number = page.next_figure();
    page.push(format_args!(
        "<figure id=\"figure-{number}\" class=\"page-map\">\n<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{svg}</svg>",
        columns * CELL,
        rows * CELL,
        Text(format_args!("Page map of the database of {source}. {}.", said.join("; ")))
    ));
    page.push("<ul class=\"legend\">");
    for (class, name) in legend {
        page.push(format_args!("<li><i class=\"{class}\"></i><span>{name}</span></li>"));
    }
    page.push("</ul>");
    let page_bytes = page_bytes(of);
    let bytes = each.saturating_mul(page_bytes);
    page.push(format_args!(
        "<figcaption><b>Figure {number}.</b> The pages of {}, from left to right and from top to bottom; a cell is {} ({}), a row {}. \
         {}{}</figcaption>\n</figure>",
        Text(source),
        counted(each, "page", "pages"),
        humanize::bytes(bytes),
        humanize::bytes(bytes.saturating_mul(columns)),
        if each > 1 { "A cell in which any page is damaged or nobody's is shown so; else it has the colour of most of its pages. " } else { "" },
        if shown < pages {
            format!(
                "Behind these follow {} ({}) that lie behind the high-water mark: the file is longer than the database.",
                counted(pages - shown, "page", "pages"),
                humanize::bytes((pages - shown).saturating_mul(page_bytes))
            )
        } else {
            String::new()
        }
    ));
    table(of, pages, &held, page);
}

/// What each owner has, in the order in which a legend tells of it.
fn holdings(of: &Examined) -> Vec<(PageUse, Holding)> {
    let mut held: BTreeMap<(u8, u32), (PageUse, Holding)> = BTreeMap::new();
    for run in &of.pages {
        let order = match run.usage {
            PageUse::Meta => (0, 0),
            PageUse::Freelist => (1, 0),
            PageUse::Branch => (2, 0),
            PageUse::Leaf(bucket) => (3, bucket),
            PageUse::Free => (4, 0),
            PageUse::Beyond => (5, 0),
            PageUse::Unknown => (6, 0),
            PageUse::Damaged => (7, 0),
        };
        let (_, holding) =
            held.entry(order).or_insert((run.usage, Holding { first: run.first, ..Holding::default() }));
        holding.pages = holding.pages.saturating_add(run.pages);
        holding.runs += 1;
    }
    held.into_values().collect()
}

/// The length of a page.
pub(super) fn page_bytes(of: &Examined) -> u64 {
    of.source.pages.as_ref().map_or(0, |pages| u64::from(pages.page_size))
}

fn table(of: &Examined, pages: u64, held: &[(PageUse, Holding)], page: &mut Page) {
    let columns = [
        Column::text("Pages of"),
        Column::number("Pages"),
        Column::number("Bytes"),
        Column::number("Share"),
        Column::number("First page"),
        Column::number("Runs"),
    ];
    let more = held.len().saturating_sub(OWNERS);
    let rows: Vec<_> = held
        .iter()
        .rev()
        .take(OWNERS)
        .rev()
        .map(|(usage, held)| {
            vec![
                name(*usage, of),
                Html::text(grouped(held.pages)),
                Html::text(grouped(held.pages.saturating_mul(page_bytes(of)))),
                Html::text(share(held.pages, pages)),
                Html::text(held.first),
                Html::text(grouped(held.runs)),
            ]
        })
        .collect();
    let rest = if more > 0 { format!(" {more} more owners are not shown.") } else { String::new() };
    page.table(&Html::text(format_args!("Who has the pages of {}.{rest}", of.source.name)), &columns, &rows);
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn one_damaged_page_among_thousands_is_seen() {
        let mut first = 0;
        let runs = [(PageUse::Leaf(0), 4_000), (PageUse::Damaged, 1), (PageUse::Free, 7_999)];
        let run = |(usage, pages)| {
            first += pages;
            PageRun { first: first - pages, pages, usage }
        };
        let mut of = made_up::examined("n1");
        of.pages = runs.into_iter().map(run).collect();
        let cells = cells(&of, 1_000);
        assert_eq!(cells.len(), 12);
        assert_eq!(cells.iter().filter(|class| **class == "pg-damaged").count(), 1);
        assert_eq!(&cells[..4], ["pg-keys"; 4]);
        assert_eq!(cells[4], "pg-damaged");
        assert_eq!(&cells[5..], ["pg-free"; 7]);
    }

    #[test]
    fn what_follows_the_database_in_its_file_does_not_fill_the_picture() {
        let mut of = made_up::examined("n1");
        of.pages = vec![
            PageRun { first: 0, pages: 100, usage: PageUse::Leaf(0) },
            PageRun { first: 100, pages: 4_000, usage: PageUse::Beyond },
        ];
        let mut page = Page::default();
        figure(&of, &mut page);
        let (shown, _) = page.finish();
        assert!(!shown.contains("pg-free"), "{shown}");
        assert!(shown.contains("follow 4\u{202f}000 pages (16 MB)"), "{shown}");
        of.pages.remove(0);
        assert_eq!(cells(&of, 1).len(), 4_000);
    }

    #[test]
    fn any_number_of_pages_fits_the_picture() {
        for pages in [1, 2, 61, 5_119, 5_120, 5_121, 2_097_152, u64::MAX / 4096] {
            let (each, columns) = grid(pages);
            assert!(pages.div_ceil(each) <= COLUMNS * ROWS, "{pages}");
            assert!(pages.div_ceil(each).div_ceil(columns) <= COLUMNS * 2, "{pages}: {columns}");
        }
    }
}
