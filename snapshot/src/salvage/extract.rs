//! Some of the keys that were salvaged, as lines or as bare values: for those who need one of them and nothing else.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use bbolt::Watch;

use super::report::Listed;
use super::{Plan, SalvageError, Salvaged, Trust};
use crate::finding::Finding;
use crate::kv_export::push_members;
use crate::mvcc::{KeyValue, Revision};
use crate::request::json::{write_name, write_number, write_string};
use crate::stage::Owner;
use crate::text_file::{self, TextFileError};

/// Which records, and what of them.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// What their keys begin with; all keys begin with nothing.
    pub prefix: &'a [u8],
    /// All that was found of each key, deletions included; otherwise the newest value of each key that exists.
    pub revisions: bool,
    /// What is written of each.
    pub form: Form,
}

/// What is written of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An object of JSON in a line of its own: what `kv export` writes, how far the value can be relied on, and where its copies lie.
    Lines,
    /// The value, byte for byte, and nothing behind it.
    Values,
}

/// What was written.
#[derive(Debug, Clone, Default)]
pub struct Extracted {
    /// Records.
    pub records: u64,
    /// Of these: with two independent equal copies, or by the log's word.
    pub confirmed: u64,
    /// Of these: with one whole copy.
    pub single: u64,
    /// Of these: open to doubt.
    pub suspect: u64,
    /// Keys and lengths in bytes of the values, in the order in which they were written.
    pub values: Listed<(Vec<u8>, u64)>,
}

/// Why nothing was extracted, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The records cannot be had.
    #[error(transparent)]
    Salvage(#[from] SalvageError),
    /// The file cannot be written.
    #[error(transparent)]
    Text(#[from] TextFileError),
    /// Who takes the lines refused them.
    #[error(transparent)]
    Out(#[from] io::Error),
}

impl ExtractError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Salvage(error) => error.exit_code(),
            Self::Text(error) => error.exit_code(),
            Self::Out(_) => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Salvage(error) => error.findings(),
            _ => &[],
        }
    }
}

/// Writes the records that `selection` asks for of the way of this number to `out`, in the order of their revisions.
///
/// Memory holds the keys that begin with the prefix, unless all revisions are asked for.
///
/// # Errors
/// When the records cannot be had, `out` refuses, or the user asked to stop.
pub fn write(
    plan: &Plan<'_>,
    way: usize,
    selection: &Selection<'_>,
    out: &mut dyn Write,
    watch: &dyn Watch,
) -> Result<Extracted, ExtractError> {
    let newest = if selection.revisions { None } else { Some(newest(plan, way, selection.prefix, watch)?) };
    let mut extracted = Extracted::default();
    let mut line = Vec::new();
    let mut refused = Ok(());
    let mut each = |found: &Salvaged<'_>| {
        let Ok(kv) = KeyValue::decode(found.value) else { return ControlFlow::Continue(()) };
        let is_wanted = match &newest {
            None => kv.key.starts_with(selection.prefix),
            Some(newest) => !found.revision.tombstone && newest.get(kv.key) == Some(&found.revision),
        };
        if !is_wanted {
            return ControlFlow::Continue(());
        }
        extracted.count(found.trust, &kv);
        line.clear();
        match selection.form {
            Form::Lines => push_line(found, &kv, plan, selection.revisions, &mut line),
            Form::Values => line.extend_from_slice(kv.value),
        }
        refused = out.write_all(&line);
        if refused.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    plan.records(way, watch, &mut each)?;
    refused?;
    Ok(extracted)
}

/// As [`write()`], to the new file `output`, which gets its name when all of it was read back.
///
/// # Errors
/// As [`write()`], and when the file cannot be written; nothing is left behind then.
pub fn to_file(
    plan: &Plan<'_>,
    way: usize,
    selection: &Selection<'_>,
    output: &Path,
    owner: Option<Owner>,
    watch: &dyn Watch,
) -> Result<Extracted, ExtractError> {
    let produce = |out: &mut dyn Write| write(plan, way, selection, out, watch);
    let confirm = || Ok(plan.ground.evidence.ensure_unchanged()?);
    text_file::write(output, owner, produce, confirm).map(|(extracted, _)| extracted)
}

/// The newest revision of each key that begins with `prefix`.
fn newest(
    plan: &Plan<'_>,
    way: usize,
    prefix: &[u8],
    watch: &dyn Watch,
) -> Result<BTreeMap<Vec<u8>, Revision>, SalvageError> {
    let mut newest: BTreeMap<Vec<u8>, Revision> = BTreeMap::new();
    let mut each = |found: &Salvaged<'_>| {
        if let Ok(kv) = KeyValue::decode(found.value)
            && kv.key.starts_with(prefix)
        {
            match newest.get_mut(kv.key) {
                Some(last) => *last = found.revision,
                None => _ = newest.insert(kv.key.to_vec(), found.revision),
            }
        }
        ControlFlow::Continue(())
    };
    plan.records(way, watch, &mut each)?;
    Ok(newest)
}

impl Extracted {
    fn count(&mut self, trust: Trust, kv: &KeyValue<'_>) {
        self.records += 1;
        match trust {
            Trust::Confirmed => self.confirmed += 1,
            Trust::Single => self.single += 1,
            Trust::Suspect => self.suspect += 1,
        }
        self.values.push((kv.key.to_vec(), kv.value.len() as u64));
    }
}

fn push_line(found: &Salvaged<'_>, kv: &KeyValue<'_>, plan: &Plan<'_>, whole: bool, out: &mut Vec<u8>) {
    out.push(b'{');
    push_members(found.revision, kv, whole, out);
    let trust = match found.trust {
        Trust::Confirmed => "confirmed",
        Trust::Single => "single",
        Trust::Suspect => "suspect",
    };
    write_string("trust", trust, out);
    for (name, is_so) in [("from_log", found.is_from_log), ("compacted_before", found.is_resurrected)] {
        if is_so {
            write_name(name, out);
            out.extend_from_slice(b"true");
        }
    }
    for (name, is_equal) in [("sources", true), ("disagreeing", false)] {
        let mut copies =
            found.copies.iter().filter(|copy| (copy.value == found.value) == is_equal).peekable();
        if !is_equal && copies.peek().is_none() {
            continue;
        }
        write_name(name, out);
        out.push(b'[');
        for copy in copies {
            if !out.ends_with(b"[") {
                out.push(b',');
            }
            out.push(b'{');
            if let Some(path) = plan.path_of(copy.source) {
                write_string("file", &path.to_string_lossy(), out);
            }
            write_number("page", copy.page, out);
            write_number("offset", copy.offset, out);
            out.push(b'}');
        }
        out.push(b']');
    }
    out.extend_from_slice(b"}\n");
}
