//! A file as a picture: a grid of cells, each a page or a run of pages.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::listing::{Listing, Row};
use crate::page::{FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META, PageId};
use crate::source::Source;
use crate::survey::Standing;

/// What a cell shows; of several pages, the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Free pages.
    Free,
    /// Further pages of the page in front of them.
    Overflow,
    /// Leaves.
    Leaf,
    /// Branches.
    Branch,
    /// The freelist.
    Freelist,
    /// The metas.
    Meta,
    /// Not known to be in use, in a file whose trees cannot all be followed.
    Unknown,
    /// Neither reachable nor listed as free.
    Unreachable,
    /// Named by a finding of the check.
    Faulty,
}

/// All kinds, with letter, SGR colour and name, in the order of the legend.
pub const KINDS: [(Kind, char, &str, &str); 9] = [
    (Kind::Meta, 'M', "1;37;45", "meta"),
    (Kind::Branch, 'B', "30;46", "branch"),
    (Kind::Leaf, 'L', "30;42", "leaf"),
    (Kind::Overflow, 'o', "37;44", "overflow"),
    (Kind::Freelist, 'F', "30;47", "freelist"),
    (Kind::Free, '.', "90", "free"),
    (Kind::Unreachable, 'U', "30;43", "unreachable"),
    (Kind::Unknown, '?', "33", "unknown"),
    (Kind::Faulty, 'X', "1;37;41", "faulty"),
];

/// How the picture is drawn.
#[derive(Debug, Clone, Copy)]
pub struct MapOptions {
    /// Columns of a line, page numbers included; at least one cell is drawn whatever it is.
    pub width: usize,
    /// Most lines of cells.
    pub most_lines: usize,
    /// With colours.
    pub colour: bool,
}

/// The picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Pages of a cell; the last may have fewer.
    pub pages_per_cell: u64,
    /// Pages in all.
    pub pages: u64,
    /// Cells of a line.
    pub cells_per_line: usize,
    /// The cells.
    pub cells: Vec<Kind>,
    /// How many pages are of each kind, in the order of [`KINDS`].
    pub counts: [u64; 9],
}

impl Map {
    /// Draws what `listing` has; `faulty` are the pages that findings name.
    pub fn new<S: Source>(listing: &Listing<'_, S>, faulty: &BTreeSet<PageId>, options: MapOptions) -> Self {
        let pages = listing.count();
        let cells_per_line = options.width.saturating_sub(label_width(pages) + 1).max(1);
        let room = cells_per_line.saturating_mul(options.most_lines.max(1)) as u64;
        let pages_per_cell = pages.div_ceil(room).max(1);
        let mut map =
            Self { pages_per_cell, pages, cells_per_line, cells: Vec::new(), counts: [0; KINDS.len()] };
        let mut id = 0;
        while id < pages {
            let end = id.saturating_add(pages_per_cell).min(pages);
            let mut cell = Kind::Free;
            for page in (id..end).map(PageId) {
                let kind = kind(page, listing.row(page), faulty);
                cell = cell.max(kind);
                let named = KINDS.iter().zip(&mut map.counts).find(|((of, ..), _)| *of == kind);
                if let Some((_, count)) = named {
                    *count += 1;
                }
            }
            map.cells.push(cell);
            id = end;
        }
        map
    }

    /// Writes grid and legend.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn write<W: Write>(&self, out: &mut W, colour: bool) -> io::Result<()> {
        let label = label_width(self.pages);
        let mut first = 0u64;
        for line in self.cells.chunks(self.cells_per_line) {
            write!(out, "{first:>label$} ")?;
            let mut rest = line;
            while let Some(kind) = rest.first() {
                let run = rest.iter().take_while(|other| *other == kind).count();
                let (letter, sgr) = look(*kind);
                let text = letter.to_string().repeat(run);
                paint(out, &text, sgr, colour)?;
                rest = rest.get(run..).unwrap_or_default();
            }
            out.write_all(b"\n")?;
            first = first.saturating_add(self.pages_per_cell.saturating_mul(line.len() as u64));
        }
        out.write_all(b"\n")?;
        for ((_, letter, sgr, name), count) in KINDS.iter().zip(self.counts) {
            if count > 0 {
                paint(out, &letter.to_string(), sgr, colour)?;
                writeln!(out, " {name}: {count}")?;
            }
        }
        match self.pages_per_cell {
            1 => writeln!(out, "A cell is one page; the numbers are those of the first page of each line."),
            pages => writeln!(
                out,
                "A cell is {pages} pages and shows the most telling kind among them (faulty, unreachable, unknown, meta, \
                 freelist, branch, leaf, overflow, free); the numbers are those of the first page of each line."
            ),
        }
    }

    /// The cells as their letters.
    #[must_use]
    pub fn letters(&self) -> String {
        self.cells.iter().map(|kind| look(*kind).0).collect()
    }
}

fn label_width(pages: u64) -> usize {
    pages.saturating_sub(1).to_string().len()
}

fn look(kind: Kind) -> (char, &'static str) {
    KINDS.iter().find(|(of, ..)| *of == kind).map_or(('?', "33"), |(_, letter, sgr, _)| (*letter, *sgr))
}

fn paint<W: Write>(out: &mut W, text: &str, sgr: &str, colour: bool) -> io::Result<()> {
    if colour { write!(out, "\x1b[{sgr}m{text}\x1b[0m") } else { out.write_all(text.as_bytes()) }
}

fn kind(page: PageId, row: Option<Row>, faulty: &BTreeSet<PageId>) -> Kind {
    if faulty.contains(&page) {
        return Kind::Faulty;
    }
    let Some(row) = row else { return Kind::Overflow };
    match row.standing {
        Standing::Free => Kind::Free,
        Standing::Lost => Kind::Unreachable,
        Standing::Unknown => Kind::Unknown,
        Standing::Overflow => Kind::Overflow,
        Standing::Used => match row.header.map(|header| header.flags) {
            Some(FLAG_META) => Kind::Meta,
            Some(FLAG_BRANCH) => Kind::Branch,
            Some(FLAG_LEAF) => Kind::Leaf,
            Some(FLAG_FREELIST) => Kind::Freelist,
            _ => Kind::Faulty,
        },
    }
}
