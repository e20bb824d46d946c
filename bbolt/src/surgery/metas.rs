//! `revert-meta-page`, `meta update`: what is done to pages 0 and 1.

use std::fmt;
use std::str::FromStr;

use super::{Accepted, Edit, SurgeryError, Warning, no_meta};
use crate::meta::{MAGIC, META_BYTES, Meta, MetaFault, VERSION, fnv1a};
use crate::page::{FLAG_META, HEADER_BYTES, PageHeader, PageId};
use crate::page_file::{PageFile, is_page_size};
use crate::source::Source;

/// Where the transaction number stands in a meta page.
const TXID_AT: usize = HEADER_BYTES + 48;
/// How much of a meta its checksum is of, in bytes.
const SUMMED_BYTES: usize = META_BYTES - 8;

/// Puts the older meta in the place of the one in force, so that the state before the last transaction counts again.
///
/// bbolt takes the meta with the higher number for the one in force, valid or not. Where that is the broken one, the valid one
/// is copied over it, as there; a valid meta is never written over with a broken one.
///
/// # Errors
/// When neither meta is valid, or the one in force is the only valid one and the newer.
pub fn revert_meta_page<S: Source>(file: &PageFile<S>) -> Result<Edit, SurgeryError> {
    match file.metas() {
        [Ok(meta0), Ok(meta1)] if meta1.txid > meta0.txid => copy_meta(file, 0, 1),
        [Ok(_), Ok(_)] => copy_meta(file, 1, 0),
        [Ok(valid), Err(fault)] => replace_broken(file, valid, 0, 1, fault),
        [Err(fault), Ok(valid)] => replace_broken(file, valid, 1, 0, fault),
        [Err(_), Err(_)] => Err(no_meta(file)),
    }
}

fn replace_broken<S: Source>(
    file: &PageFile<S>,
    valid: &Meta,
    active: u64,
    other: u64,
    fault: &MetaFault,
) -> Result<Edit, SurgeryError> {
    let bytes = file.first(PageId(other))?;
    let is_meta =
        PageHeader::parse(&bytes).is_some_and(|header| header.id == other && header.flags == FLAG_META);
    let txid = word(&bytes, TXID_AT).filter(|_| is_meta).unwrap_or_default();
    if txid > valid.txid {
        copy_meta(file, active, other)
    } else {
        Err(SurgeryError::OtherMetaInvalid { active, other, fault: fault.clone() })
    }
}

/// Copies the meta of slot `from` to `to`.
pub(super) fn copy_meta<S: Source>(file: &PageFile<S>, from: u64, to: u64) -> Result<Edit, SurgeryError> {
    if let Err(fault) = meta_of(file, from)? {
        return Err(SurgeryError::SourceMetaInvalid { slot: from, fault: fault.clone() });
    }
    let mut bytes = file.first(PageId(from))?.into_owned();
    let header = PageHeader::parse(&bytes).unwrap_or(PageHeader { id: to, flags: 0, count: 0, overflow: 0 });
    if let Some(place) = bytes.first_chunk_mut() {
        *place = PageHeader { id: to, flags: FLAG_META, ..header }.encode();
    }
    let mut edit = Edit::default();
    edit.set(file, PageId(to), bytes);
    edit.keep(file, PageId(from));
    Ok(edit)
}

/// A field that `meta update` sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaField {
    /// Length of a page in bytes.
    PageSize,
    /// Root page of the root bucket, whose sequence becomes 0.
    Root,
    /// Page of the freelist.
    Freelist,
    /// The high-water mark.
    Pgid,
}

impl MetaField {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::PageSize, Self::Root, Self::Freelist, Self::Pgid];
}

impl fmt::Display for MetaField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PageSize => "pageSize",
            Self::Root => "root",
            Self::Freelist => "freelist",
            Self::Pgid => "pgid",
        })
    }
}

/// No field has such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no field that can be set: it is pageSize, root, freelist or pgid")]
pub struct UnknownField {
    /// The name.
    pub name: String,
}

impl FromStr for MetaField {
    type Err = UnknownField;

    fn from_str(name: &str) -> Result<Self, UnknownField> {
        let field = Self::ALL.into_iter().find(|field| field.to_string() == name);
        field.ok_or_else(|| UnknownField { name: name.to_owned() })
    }
}

/// Sets `fields` of the meta in `slot` (of a field named twice the last counts), and its magic, version, flags and checksum.
///
/// As bbolt does, this sets the meta's flags to those of a meta page, which nobody reads.
///
/// # Errors
/// When there is no such slot or page size, or the meta is not valid (unless `accepted.invalid_meta`).
pub fn update_meta<S: Source>(
    file: &PageFile<S>,
    slot: u64,
    fields: &[(MetaField, u64)],
    accepted: Accepted,
) -> Result<Edit, SurgeryError> {
    let impossible = |value: u64| !u32::try_from(value).is_ok_and(is_page_size);
    let named = fields.iter().find(|(field, value)| *field == MetaField::PageSize && impossible(*value));
    if let Some((_, page_size)) = named {
        return Err(SurgeryError::ImpossiblePageSize { page_size: *page_size });
    }
    let mut edit = Edit::default();
    let before = meta_of(file, slot)?;
    if let Err(fault) = before
        && !accepted.invalid_meta
    {
        return Err(SurgeryError::MetaInvalid { slot, fault: fault.clone() });
    }
    let mut bytes = file.first(PageId(slot))?.into_owned();
    let mut set = |at: usize, value: &[u8]| {
        if let Some(place) = bytes.get_mut(HEADER_BYTES + at..HEADER_BYTES + at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    set(0, &MAGIC.to_le_bytes());
    set(4, &VERSION.to_le_bytes());
    set(12, &u32::from(FLAG_META).to_le_bytes());
    for (field, value) in fields {
        match field {
            MetaField::PageSize => set(8, &u32::try_from(*value).unwrap_or_default().to_le_bytes()),
            MetaField::Root => {
                set(16, &value.to_le_bytes());
                set(24, &[0; 8]);
            }
            MetaField::Freelist => set(32, &value.to_le_bytes()),
            MetaField::Pgid => set(40, &value.to_le_bytes()),
        }
    }
    sum(&mut bytes);
    warn_of_standing(file, slot, &bytes, &mut edit);
    edit.set(file, PageId(slot), bytes);
    Ok(edit)
}

/// Says whether the meta in `slot` counts once it has these `bytes`.
fn warn_of_standing<S: Source>(file: &PageFile<S>, slot: u64, bytes: &[u8], edit: &mut Edit) {
    let meta = match Meta::parse(bytes) {
        Ok(meta) => meta,
        Err(fault) => return edit.warn(Warning::StillInvalid { slot, fault }),
    };
    if let Ok(Err(fault)) = meta_of(file, slot) {
        edit.warn(Warning::InvalidMetaAccepted { slot, fault: fault.clone() });
    }
    let of_file = file.page_size();
    if meta.page_size != of_file {
        edit.warn(Warning::PageSizeChanged { slot, page_size: meta.page_size, of_file });
    }
    let other = 1 - slot.min(1);
    if let Ok(Ok(against)) = meta_of(file, other)
        && (against.txid > meta.txid || against.txid == meta.txid && other == 0)
    {
        edit.warn(Warning::NotInForce { slot, active: other, txid: against.txid });
    }
}

/// Sets the checksum of a meta page.
pub(super) fn sum(page: &mut [u8]) {
    let Some((body, rest)) =
        page.get_mut(HEADER_BYTES..).and_then(|meta| meta.split_at_mut_checked(SUMMED_BYTES))
    else {
        return;
    };
    if let Some(checksum) = rest.first_chunk_mut() {
        *checksum = fnv1a(body).to_le_bytes();
    }
}

/// The meta in `slot`.
pub(super) fn meta_of<S: Source>(
    file: &PageFile<S>,
    slot: u64,
) -> Result<&Result<Meta, MetaFault>, SurgeryError> {
    let index = usize::try_from(slot).ok();
    index.and_then(|index| file.metas().get(index)).ok_or(SurgeryError::NoSuchMeta { slot })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u64::from_le_bytes(*word))
}
