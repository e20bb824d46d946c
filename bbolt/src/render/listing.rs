//! All pages, a line each, as `bbolt pages` prints them, and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;

use super::ordered::{self, Format, RenderError};
use super::page::type_name;
use crate::page::{FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META, PageHeader, PageId};
use crate::page_file::PageFile;
use crate::range::PageSet;
use crate::source::Source;
use crate::survey::{Standing, Standings};
use crate::watch::Watch;

/// The two lines above the pages.
pub const HEAD: &str = "ID       TYPE       ITEMS  OVRFLW\n======== ========== ====== ======\n";
/// Pages of one piece of work.
const PIECE_PAGES: u64 = 8192;

/// The codes of what is wrong with each page.
pub type Marks = BTreeMap<PageId, Vec<&'static str>>;

/// A file's pages, to be listed.
pub struct Listing<'p, S> {
    pages: &'p PageFile<S>,
    standings: Option<&'p Standings>,
    marks: &'p Marks,
    /// Pages that an unreached page claims as its overflow.
    continued: Option<PageSet>,
    count: u64,
}

/// What is listed of one page.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// How it is used.
    pub standing: Standing,
    /// Its header, when it says where it is and what it is, or a tree names it.
    pub header: Option<PageHeader>,
}

impl<'p, S: Source> Listing<'p, S> {
    /// Lists `pages`. `standings` is what the meta in force leads to, where there is one; `marks` what is wrong.
    pub fn new(pages: &'p PageFile<S>, standings: Option<&'p Standings>, marks: &'p Marks) -> Self {
        let count = standings.map_or_else(|| pages.page_count(), Standings::pages);
        let mut listing = Self { pages, standings, marks, continued: None, count };
        if !standings.is_some_and(Standings::is_sound) {
            listing.follow_unreached();
        }
        listing
    }

    /// Finds which pages the unreached ones claim as overflow, one after the other, and, without a meta, where the last page is
    /// that says where it is.
    fn follow_unreached(&mut self) {
        let mut continued = PageSet::new(self.count);
        let mut end = 2.min(self.count);
        let mut id = 0;
        while id < self.count {
            let standing = self.standing(PageId(id));
            let head = self.head(PageId(id));
            id += 1;
            let Some(head) = head else { continue };
            end = end.max(id.saturating_add(u64::from(head.overflow))).min(self.count);
            if !matches!(standing, Standing::Lost | Standing::Unknown) {
                continue;
            }
            let claimed = id..id.saturating_add(u64::from(head.overflow)).min(self.count);
            for next in claimed {
                let is_other = self.standing(PageId(next)) != standing
                    || (standing == Standing::Unknown && self.head(PageId(next)).is_some());
                if is_other {
                    break;
                }
                continued.insert(PageId(next));
                id = next + 1;
            }
        }
        if self.standings.is_none() {
            self.count = end;
        }
        self.continued = Some(continued);
    }

    /// Number of pages listed or passed over; behind them nothing says where it is.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn standing(&self, id: PageId) -> Standing {
        match self.standings {
            Some(standings) => standings.of(id),
            None if id.0 < 2 => Standing::Used,
            None => Standing::Unknown,
        }
    }

    /// The header of `id` when it says where it is and what it is.
    fn head(&self, id: PageId) -> Option<PageHeader> {
        let known = [FLAG_BRANCH, FLAG_LEAF, FLAG_META, FLAG_FREELIST];
        self.pages.header(id).ok().filter(|header| header.id == id.0 && known.contains(&header.flags))
    }

    /// What is listed of page `id`; `None` when it belongs to the page in front of it.
    #[must_use]
    pub fn row(&self, id: PageId) -> Option<Row> {
        let standing = self.standing(id);
        match standing {
            Standing::Overflow => None,
            _ if self.continued.as_ref().is_some_and(|continued| continued.contains(id)) => None,
            Standing::Free => Some(Row { standing, header: None }),
            Standing::Used | Standing::Lost => Some(Row { standing, header: self.pages.header(id).ok() }),
            // A page that is named somewhere is shown as what it calls itself, wherever it says it is.
            Standing::Unknown if self.marks.contains_key(&id) => {
                Some(Row { standing, header: self.pages.header(id).ok() })
            }
            Standing::Unknown => Some(Row { standing, header: self.head(id) }),
        }
    }

    /// Writes all of it, as lines or as JSON objects, without the lines above them.
    ///
    /// # Errors
    /// When `out` cannot be written to, or the user asks to stop.
    pub fn write<W: Write>(&self, json: bool, out: &mut W, watch: &dyn Watch) -> Result<(), RenderError> {
        let starts = (0..self.count).step_by(usize::try_from(PIECE_PAGES).unwrap_or(usize::MAX));
        let pieces: Vec<Range<u64>> =
            starts.map(|start| start..start.saturating_add(PIECE_PAGES).min(self.count)).collect();
        ordered::write_all(&Lines { listing: self, json }, &pieces, out, watch, |()| {})
    }

    fn line<W: Write>(&self, id: PageId, row: Row, out: &mut W) -> io::Result<()> {
        let mut line = Line::default();
        line.number(id.0, 9);
        let doubt = if row.standing == Standing::Unknown { "?" } else { "" };
        match row.header {
            Some(header) => {
                line.text(&type_name(header.flags), doubt, 11);
                line.number(header.count.into(), 7);
                if header.overflow > 0 {
                    line.number(header.overflow.into(), 6);
                } else {
                    line.text("", "", 6);
                }
            }
            None if matches!(row.standing, Standing::Free | Standing::Unknown) => {
                line.text("free", doubt, 24);
            }
            None => line.text("unreadable", "", 24),
        }
        out.write_all(line.bytes())?;
        if let Some(codes) = self.marks.get(&id) {
            write!(out, " ! {}", codes.join(" "))?;
        }
        out.write_all(b"\n")
    }

    fn json<W: Write>(&self, id: PageId, row: Row, out: &mut W) -> io::Result<()> {
        write!(out, "{{\"id\":{id},\"type\":\"")?;
        match row.header {
            Some(header) => {
                let name = type_name(header.flags);
                write!(out, "{name}\",\"items\":{},\"overflow\":{}", header.count, header.overflow)?;
            }
            None if matches!(row.standing, Standing::Free | Standing::Unknown) => out.write_all(b"free\"")?,
            None => out.write_all(b"unreadable\"")?,
        }
        match row.standing {
            Standing::Unknown => out.write_all(b",\"certain\":false")?,
            Standing::Lost => out.write_all(b",\"unreachable\":true")?,
            _ => {}
        }
        if let Some(codes) = self.marks.get(&id) {
            write!(out, ",\"faults\":[\"{}\"]", codes.join("\",\""))?;
        }
        out.write_all(b"}\n")
    }
}

struct Lines<'l, 'p, S> {
    listing: &'l Listing<'p, S>,
    json: bool,
}

impl<S: Source> Format for Lines<'_, '_, S> {
    type Piece = Range<u64>;
    type Said = ();

    fn write<W: Write>(&self, piece: &Range<u64>, out: &mut W) -> io::Result<()> {
        for id in piece.clone().map(PageId) {
            match self.listing.row(id) {
                Some(row) if self.json => self.listing.json(id, row, out)?,
                Some(row) => self.listing.line(id, row, out)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// Room for the longest line: a number, a type and two numbers.
const LINE_BYTES: usize = 80;

/// One line in columns, made without the cost of `format!`, which would be most of the work.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [b' '; LINE_BYTES], len: 0 }
    }
}

impl Line {
    fn put(&mut self, text: &[u8]) {
        let end = (self.len + text.len()).min(LINE_BYTES);
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(text.get(..room.len()).unwrap_or_default());
        }
        self.len = end;
    }

    /// Text and what follows it, in a column of `width`; where it is wider, as wide as it is and a blank.
    fn text(&mut self, text: &str, more: &str, width: usize) {
        let start = self.len;
        self.put(text.as_bytes());
        self.put(more.as_bytes());
        self.pad(start, width);
    }

    fn number(&mut self, number: u64, width: usize) {
        let mut digits = [0; 20];
        let mut rest = number;
        let mut from = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            from -= 1;
            if rest == 0 {
                break;
            }
        }
        let start = self.len;
        self.put(digits.get(from..).unwrap_or_default());
        self.pad(start, width);
    }

    /// The last column has no blank behind it, which its width of 6 says.
    fn pad(&mut self, start: usize, width: usize) {
        let gap = usize::from(width != 6 && width != 24);
        self.len = (start + width).max(self.len + gap).min(LINE_BYTES);
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
