//! The tree of buckets, as `bbolt inspect` prints it.

use std::io::{self, Write};
use std::ops::Range;

use super::bytes::json_string;
use crate::db::Db;
use crate::page::{Node, PageId};
use crate::source::Source;
use crate::survey::{Survey, Surveyed};

/// A bucket whose inner buckets are being written.
struct Open<'d> {
    /// Those still to be written, as indices into [`Survey::buckets`].
    rest: Range<usize>,
    /// Whether one was written.
    has_inner: bool,
    /// The leaf in which the last of them had its name.
    holder: Option<Node<'d>>,
}

/// Writes the buckets that `survey` found, inline ones listed, as nested JSON objects: on lines, or on `one_line`.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write<S: Source, W: Write>(
    out: &mut W,
    db: &Db<S>,
    survey: &Survey,
    one_line: bool,
) -> io::Result<()> {
    let buckets = survey.buckets.as_slice();
    let layout = Layout { one_line };
    let Some(root) = buckets.first() else { return Ok(()) };
    let mut stack = Vec::new();
    layout.begin(out, 0, b"root", root)?;
    stack.push(Open { rest: inner_of(buckets, 0), has_inner: false, holder: None });
    layout.inner(out, 0, &inner_of(buckets, 0))?;
    loop {
        let depth = stack.len();
        let Some(open) = stack.last_mut() else { break };
        let Some(index) = open.rest.next() else {
            let Some(Open { has_inner, .. }) = stack.pop() else { break };
            layout.end(out, depth - 1, has_inner)?;
            continue;
        };
        let Some(bucket) = buckets.get(index) else { break };
        if std::mem::replace(&mut open.has_inner, true) {
            out.write_all(b",")?;
        }
        let holder = match open.holder.take().filter(|node| node.id() == bucket.holder) {
            Some(node) => Some(node),
            None => holder(db, bucket.holder),
        };
        let name = holder.as_ref().map(|node| node.key(bucket.element)).unwrap_or_default();
        layout.begin(out, depth, name, bucket)?;
        open.holder = holder;
        let inner = inner_of(buckets, index);
        layout.inner(out, depth, &inner)?;
        stack.push(Open { rest: inner, has_inner: false, holder: None });
    }
    out.write_all(b"\n")
}

/// The survey read it; only a file that changed meanwhile has no such page.
fn holder<S: Source>(db: &Db<S>, id: PageId) -> Option<Node<'_>> {
    db.node(id).ok()
}

/// Where the buckets of bucket `outer` stand: side by side, since rounds go by their outer ones.
fn inner_of(buckets: &[Surveyed], outer: usize) -> Range<usize> {
    // The root bucket names itself as the one it lies in.
    let behind = buckets.get(1..).unwrap_or_default();
    let start = behind.partition_point(|bucket| bucket.outer < outer);
    let end = behind.partition_point(|bucket| bucket.outer <= outer);
    start + 1..end + 1
}

struct Layout {
    one_line: bool,
}

impl Layout {
    fn line<W: Write>(&self, out: &mut W, steps: usize) -> io::Result<()> {
        if self.one_line {
            return Ok(());
        }
        out.write_all(b"\n")?;
        (0..steps).try_for_each(|_| out.write_all(b"    "))
    }

    /// A bucket `depth` levels down, up to its number of keys.
    fn begin<W: Write>(&self, out: &mut W, depth: usize, name: &[u8], bucket: &Surveyed) -> io::Result<()> {
        if depth > 0 {
            self.line(out, depth * 2)?;
        }
        let colon: &[u8] = if self.one_line { b":" } else { b": " };
        out.write_all(b"{")?;
        self.line(out, depth * 2 + 1)?;
        out.write_all(b"\"name\"")?;
        out.write_all(colon)?;
        json_string(out, name)?;
        out.write_all(b",")?;
        self.line(out, depth * 2 + 1)?;
        out.write_all(b"\"keyN\"")?;
        out.write_all(colon)?;
        write!(out, "{}", bucket.counts.elements.saturating_sub(bucket.counts.buckets))
    }

    fn inner<W: Write>(&self, out: &mut W, depth: usize, inner: &Range<usize>) -> io::Result<()> {
        if inner.is_empty() {
            return Ok(());
        }
        out.write_all(b",")?;
        self.line(out, depth * 2 + 1)?;
        out.write_all(if self.one_line { b"\"buckets\":[" } else { b"\"buckets\": [" })
    }

    fn end<W: Write>(&self, out: &mut W, depth: usize, had_inner: bool) -> io::Result<()> {
        if had_inner {
            self.line(out, depth * 2 + 1)?;
            out.write_all(b"]")?;
        }
        self.line(out, depth * 2)?;
        out.write_all(b"}")
    }
}
