//! One page in full, as `bbolt page` prints it, and as JSON.
//!
//! What is wrong is marked where it stands, in lines that begin with `!`; the rest is shown.

use std::borrow::Cow;
use std::io::{self, Write};

use super::bytes::{self, ByteFormat};
use super::loose::{Element, Loose, bucket_header};
use crate::fault::{Fault, FaultKind, readable};
use crate::freelist::COUNT_IN_FIRST_ID;
use crate::meta::Meta;
use crate::page::{
    FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META, HEADER_BYTES, NodeKind, PageHeader, PageId,
};
use crate::page_file::PageFile;
use crate::source::Source;

/// The line between two pages.
pub const SEPARATOR: &str = "===============================================";
/// Most faults of one page that are kept; all are marked.
const MOST_FAULTS: usize = 1000;

/// How a page is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct PageOptions {
    /// As JSON on one line.
    pub json: bool,
    /// How values are shown.
    pub format: ByteFormat,
    /// Whether to show a page that calls itself by another number, instead of only saying so.
    pub misnamed: bool,
}

/// What was shown.
#[derive(Debug, Default)]
pub struct Shown {
    /// Further pages that belong to it; 0 when it could not be shown.
    pub overflow: u32,
    /// What is wrong with it. Of very many, the first.
    pub faults: Vec<Fault>,
}

/// The name of a page's type, as bbolt prints it.
#[must_use]
pub fn type_name(flags: u16) -> Cow<'static, str> {
    match flags {
        FLAG_BRANCH => "branch".into(),
        FLAG_LEAF => "leaf".into(),
        FLAG_META => "meta".into(),
        FLAG_FREELIST => "freelist".into(),
        other => format!("unknown<{other:02x}>").into(),
    }
}

/// Writes page `id`.
///
/// # Errors
/// When `out` cannot be written to. What is wrong with the page is part of the result.
pub fn write<S: Source, W: Write>(
    out: &mut W,
    pages: &PageFile<S>,
    id: PageId,
    options: PageOptions,
) -> io::Result<Shown> {
    let mut painter = Painter { out, options, shown: Shown::default(), members: 0 };
    painter.page(pages, id)?;
    Ok(painter.shown)
}

struct Painter<'o, W> {
    out: &'o mut W,
    options: PageOptions,
    shown: Shown,
    /// Elements of the JSON array under way.
    members: u64,
}

impl<W: Write> Painter<'_, W> {
    fn page<S: Source>(&mut self, pages: &PageFile<S>, id: PageId) -> io::Result<()> {
        let found = match pages.first(id) {
            Ok(first) => PageHeader::parse(&first),
            Err(fault) => return self.failed(id, fault),
        };
        let Some(header) = found else { return Ok(()) };
        let misnamed = header.id != id.0;
        if misnamed && !self.options.misnamed {
            return self.failed(id, pages.fault(id, 0, FaultKind::WrongId { found: header.id }));
        }
        let (body, cut) = match pages.whole(id) {
            Ok(body) => (body, None),
            // Its first page could be read; the rest is not all there.
            Err(fault) => match pages.first(id) {
                Ok(first) => (first, Some(fault)),
                Err(fault) => return self.failed(id, fault),
            },
        };
        self.shown.overflow = if cut.is_none() { header.overflow } else { 0 };
        let name = type_name(header.flags);
        let (len, overflow) = (body.len(), header.overflow);
        if self.options.json {
            write!(
                self.out,
                "{{\"id\":{id},\"type\":\"{name}\",\"sizeBytes\":{len},\"overflow\":{overflow}"
            )?;
        } else {
            write!(
                self.out,
                "Page ID:    {}\nPage Type:  {name}\nTotal Size: {len} bytes\nOverflow pages: {overflow}\n",
                header.id
            )?;
        }
        let wrong_id = misnamed.then(|| pages.fault(id, 0, FaultKind::WrongId { found: header.id }));
        let mut faults: Vec<Fault> = wrong_id.into_iter().chain(cut).collect();
        if !self.options.json {
            for fault in faults.drain(..) {
                self.mark(fault)?;
            }
        }
        let offset = pages.offset_of(id);
        match header.flags {
            FLAG_META => self.meta(pages, id, &body, &mut faults)?,
            FLAG_FREELIST => self.freelist(pages, id, header, &body, &mut faults)?,
            FLAG_BRANCH | FLAG_LEAF => match Loose::new(body, id, offset) {
                Ok(page) => self.elements(&page, &mut faults)?,
                Err(fault) => faults.push(fault),
            },
            flags => faults.push(pages.fault(id, 0, FaultKind::NotATreePage { flags })),
        }
        self.end(faults)
    }

    /// Ends the page, with the faults that are not marked yet.
    fn end(&mut self, faults: Vec<Fault>) -> io::Result<()> {
        if !self.options.json {
            return faults.into_iter().try_for_each(|fault| self.mark(fault));
        }
        if !faults.is_empty() {
            self.out.write_all(b",\"faults\":[")?;
            for (index, fault) in faults.into_iter().enumerate() {
                write!(self.out, "{}{{\"code\":\"{}\",\"message\":", comma(index), fault.code())?;
                bytes::json_string(self.out, fault.kind.to_string().as_bytes())?;
                self.out.write_all(b"}")?;
                self.keep(fault);
            }
            self.out.write_all(b"]")?;
        }
        self.out.write_all(b"}\n")
    }

    /// Says that there is no such page to show. bbolt's line, with its slip, is what scripts look for.
    fn failed(&mut self, id: PageId, fault: Fault) -> io::Result<()> {
        if self.options.json {
            write!(self.out, "{{\"id\":{id}")?;
            return self.end(vec![fault]);
        }
        let why = match &fault.kind {
            FaultKind::WrongId { found } => {
                format!("error: invalid value due to unexpected Page id: {found} != {id}")
            }
            other => format!("{}: {other}", fault.code()),
        };
        writeln!(self.out, "Prining page {id} failed: {why}. Continuing...")?;
        self.keep(fault);
        Ok(())
    }

    fn mark(&mut self, fault: Fault) -> io::Result<()> {
        writeln!(self.out, "! {}: {}", fault.code(), fault.kind)?;
        self.keep(fault);
        Ok(())
    }

    fn keep(&mut self, fault: Fault) {
        if self.shown.faults.len() < MOST_FAULTS {
            self.shown.faults.push(fault);
        }
    }

    fn meta<S: Source>(
        &mut self,
        pages: &PageFile<S>,
        id: PageId,
        body: &[u8],
        faults: &mut Vec<Fault>,
    ) -> io::Result<()> {
        let u32_at = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(body.get(HEADER_BYTES + at..HEADER_BYTES + at + 4).unwrap_or(&[0; 4]));
            u32::from_le_bytes(word)
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let (version, page_size, flags) = (u32_at(4), u32_at(8), u32_at(12));
        let (root, freelist, pgid, txid) = (u64_at(16), u64_at(32), u64_at(40), u64_at(48));
        let checksum = u64_at(56);
        if self.options.json {
            write!(
                self.out,
                ",\"meta\":{{\"version\":{version},\"pageSize\":{page_size},\"flags\":{flags},\"root\":{root},\
                 \"freelist\":{freelist},\"highWaterMark\":{pgid},\"txid\":{txid},\"checksum\":\"{checksum:016x}\"}}"
            )?;
        } else {
            write!(
                self.out,
                "Version:    {version}\nPage Size:  {page_size} bytes\nFlags:      {flags:08x}\n\
                 Root:       <pgid={root}>\nFreelist:   <pgid={freelist}>\nHWM:        <pgid={pgid}>\n\
                 Txn ID:     {txid}\nChecksum:   {checksum:016x}\n\n"
            )?;
        }
        if let Err(fault) = Meta::parse(body) {
            faults.push(pages.fault(id, 0, FaultKind::OtherMeta { fault }));
        }
        Ok(())
    }

    fn freelist<S: Source>(
        &mut self,
        pages: &PageFile<S>,
        id: PageId,
        header: PageHeader,
        body: &[u8],
        faults: &mut Vec<Fault>,
    ) -> io::Result<()> {
        let room = body.get(HEADER_BYTES..).unwrap_or_default();
        let mut ids = room.chunks_exact(8).map(|chunk| {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let mut most = (room.len() / 8) as u64;
        let mut count = u64::from(header.count);
        if header.count == COUNT_IN_FIRST_ID {
            count = ids.next().unwrap_or_default();
            most = most.saturating_sub(1);
        }
        if count > most {
            let kind = FaultKind::TooManyElements { declared: count, room_bytes: room.len() as u64, most };
            faults.push(pages.fault(id, header.overflow, kind));
        }
        let ids = ids.take(usize::try_from(count).unwrap_or(usize::MAX));
        if self.options.json {
            write!(self.out, ",\"items\":{count},\"free\":[")?;
            for (index, free) in ids.enumerate() {
                write!(self.out, "{}{free}", comma(index))?;
            }
            return self.out.write_all(b"]");
        }
        write!(self.out, "Item Count: {count}\nOverflow: {}\n\n", header.overflow)?;
        for free in ids {
            writeln!(self.out, "{free}")?;
        }
        self.out.write_all(b"\n")
    }

    fn elements(&mut self, page: &Loose<'_>, faults: &mut Vec<Fault>) -> io::Result<()> {
        if self.options.json {
            write!(self.out, ",\"items\":{},\"elements\":[", page.declared())?;
        } else {
            write!(self.out, "Item Count: {}\n\n", page.declared())?;
        }
        for index in 0..page.count() {
            match page.element(index) {
                Ok(element) => {
                    if let Some(fault) = self.element(page, index, element)? {
                        self.broken(fault, faults)?;
                    }
                }
                Err(fault) => self.broken(fault, faults)?,
            }
        }
        if let Some(fault) = page.count_fault() {
            self.broken(fault, faults)?;
        }
        self.out.write_all(if self.options.json { b"]" } else { b"\n" })
    }

    /// Marks a fault at once, or, in JSON, with the others behind the elements.
    fn broken(&mut self, fault: Fault, faults: &mut Vec<Fault>) -> io::Result<()> {
        if !self.options.json {
            return self.mark(fault);
        }
        if faults.len() < MOST_FAULTS {
            faults.push(fault);
        }
        Ok(())
    }

    fn element(&mut self, page: &Loose<'_>, index: u16, element: Element<'_>) -> io::Result<Option<Fault>> {
        let bucket = if element.is_bucket { bucket_header(element.value) } else { None };
        if element.is_bucket && bucket.is_none() {
            let (len, needed) = (element.value.len() as u64, 16);
            let kind = FaultKind::BucketTooShort { bucket: readable(element.key), len, needed };
            return Ok(Some(page.element_fault(index, kind)));
        }
        if self.options.json {
            self.out.write_all(if self.members == 0 { b"{" } else { b",{" })?;
            self.members += 1;
            bytes::json_member(self.out, "key", element.key)?;
            match (page.kind(), bucket) {
                (NodeKind::Branch, _) => write!(self.out, ",\"child\":{}", element.child)?,
                (NodeKind::Leaf, Some((root, sequence))) => {
                    write!(self.out, ",\"bucket\":{{\"root\":{root},\"sequence\":{sequence}}}")?;
                }
                (NodeKind::Leaf, None) => {
                    self.out.write_all(b",")?;
                    bytes::json_formatted(self.out, "value", element.value, self.options.format)?;
                }
            }
            self.out.write_all(b"}")?;
            return Ok(None);
        }
        bytes::write_key(self.out, element.key)?;
        self.out.write_all(b": ")?;
        match (page.kind(), bucket) {
            (NodeKind::Branch, _) => write!(self.out, "<pgid={}>", element.child)?,
            (NodeKind::Leaf, Some((root, sequence))) => write!(self.out, "<pgid={root},seq={sequence}>")?,
            (NodeKind::Leaf, None) => bytes::write(self.out, element.value, self.options.format)?,
        }
        self.out.write_all(b"\n")?;
        Ok(None)
    }
}

fn comma(index: usize) -> &'static str {
    if index == 0 { "" } else { "," }
}
