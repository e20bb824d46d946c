//! `build`, the streaming writer: sorted pairs in, a compact file out, in one pass over it.
//!
//! A [`Build`] takes buckets and pairs in ascending order and writes each page once, behind the one before it. The two
//! metas come last, so that what an error or a kill leaves behind has none and cannot be opened.
//!
//! - The shape is that of [`graft`](crate::graft), by the same tree builder: leaves at one depth, at least two
//!   children in a branch, no empty page but the root of an empty bucket, and a bucket inline exactly when bbolt would
//!   put it there.
//! - Memory is two pages for each level of each open bucket, a buffer of 1 MiB, and 16 bytes for each run of free
//!   pages. A page counts with its overflow: of values longer than a page, up to four are held in each open bucket, and
//!   where room is made for one more, the up to three before it may be there twice until they are moved.
//! - Both metas are valid and name the same root, each in the slot of its transaction number's parity.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crc_fast::{CrcAlgorithm, Digest, checksum_combine};

use crate::fault::readable;
use crate::freelist::COUNT_IN_FIRST_ID;
use crate::meta::{Meta, NO_FREELIST};
use crate::page::{FLAG_FREELIST, HEADER_BYTES, PageHeader, PageId};
use crate::tree::{LEAF_FILL_PERCENT, LeafElement, PageSink, TreeBuilder};

pub use crate::tree::ElementError;

/// Smallest and largest page size in bytes: of what bbolt finds (1 KiB to 16 MiB), those a system has had pages of.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1024..=65_536;
/// Bounds of the fill, in percent: bbolt's own (FORMATS A.7).
const LEAF_FILLS: std::ops::RangeInclusive<u8> = 10..=100;
/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;
/// CRC-32C.
const CRC_32C: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;
/// Pages before the first that a tree can have: the metas.
const META_PAGES: u64 = 2;
/// Shortest file in bytes: bbolt up to 1.3.6 reads as much to find the page size, and takes the system's if it cannot.
pub(crate) const LEAST_FILE_BYTES: u64 = 4096;
/// Length of a page number in a freelist, in bytes.
const ID_BYTES: u64 = 8;

/// Why a file cannot be built. After any of these the file is lost: it has no metas, and the [`Build`] takes no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A page size that is no power of two from 1024 to 65536.
    #[error("pages of {found} bytes: only powers of two from 1024 to 65536 are possible")]
    PageSize {
        /// The size asked for, in bytes.
        found: u32,
    },
    /// A fill outside of what bbolt itself allows.
    #[error("leaves {found} percent full: only 10 to 100 are possible")]
    LeafFill {
        /// The fill asked for, in percent.
        found: u8,
    },
    /// A transaction number without one before it, or without one behind it.
    #[error("transaction number {found}: it must have one before and one behind it")]
    Txid {
        /// The number asked for.
        found: u64,
    },
    /// A key or name that is not greater than the one before it in its bucket.
    #[error("{holder}: key {key} is not greater than {last}, the key before it")]
    NotAscending {
        /// The bucket, readable, with those it lies in.
        holder: String,
        /// The key, readable.
        key: String,
        /// The key before it, readable.
        last: String,
    },
    /// A key or value that bbolt cannot hold.
    #[error("{holder}, key {key}: {source}")]
    Element {
        /// The bucket, readable, with those it lies in.
        holder: String,
        /// The key, readable.
        key: String,
        /// What is wrong with it.
        source: ElementError,
    },
    /// A plain value outside of any bucket: bbolt's interface cannot make one, and etcd would not find it.
    #[error("key {key} is in no bucket")]
    ValueAtTopLevel {
        /// The key, readable.
        key: String,
    },
    /// A bucket is to be ended or discarded and none is open.
    #[error("no bucket is open")]
    NoOpenBucket,
    /// The file is to be finished while a bucket is open.
    #[error("{holder} is still open")]
    BucketOpen {
        /// The bucket, readable, with those it lies in.
        holder: String,
    },
    /// The system could not write.
    #[error("writing {len_bytes} bytes at {offset:#x}: {source}")]
    Io {
        /// Where in the file, in bytes.
        offset: u64,
        /// Bytes to be written there.
        len_bytes: u64,
        /// The system's words.
        source: io::Error,
    },
    /// A call after one that failed.
    #[error("an earlier error has ended this file")]
    AfterError,
}

/// Where a file is written to.
///
/// Writes come in ascending order and without a gap from offset 0, where zeros keep the place of the metas. The last
/// write is the metas themselves, at offset 0.
pub trait PageWriter {
    /// Writes all of `bytes` at `offset`, which is at most the end of what was written before.
    ///
    /// # Errors
    /// When the system cannot write all of it.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// The file must be empty. It is not synced.
impl PageWriter for &File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
}

/// The file must be empty. It is not synced.
impl PageWriter for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
}

/// The vector must be empty.
impl PageWriter for Vec<u8> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok().filter(|start| *start <= self.len());
        let start = start.ok_or(io::ErrorKind::InvalidInput)?;
        let (over, behind) = bytes.split_at(bytes.len().min(self.len() - start));
        self[start..start + over.len()].copy_from_slice(over);
        self.extend_from_slice(behind);
        Ok(())
    }
}

impl<W: PageWriter + ?Sized> PageWriter for &mut W {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(offset, bytes)
    }
}

/// Whether a file says which of its pages are free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FreelistSync {
    /// It does not, as etcd's files on Linux: free is what no tree reaches.
    #[default]
    NotPersisted,
    /// It does, as bbolt's files by default, etcd's before 3.3 and those of other systems.
    Persisted,
}

/// How a file is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildOptions {
    /// Length of a page in bytes: a power of two from 1024 to 65536; 4096 by default.
    pub page_size: u32,
    /// How full leaves are made, in percent of a page, 10 to 100; 90 by default, as etcd makes them. A leaf has at least
    /// two pairs whatever their length.
    pub leaf_fill_percent: u8,
    /// Whether the file lists its free pages.
    pub freelist: FreelistSync,
    /// Transaction number of the newer meta, at least 1; 2 by default. The older meta has the one before.
    pub txid: u64,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            page_size: 4096,
            leaf_fill_percent: LEAF_FILL_PERCENT,
            freelist: FreelistSync::default(),
            txid: 2,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// Length of the file in bytes: [`Self::pages`] of the page size.
    pub len_bytes: u64,
    /// Pages, free ones and metas included: the high-water mark.
    pub pages: u64,
    /// CRC-32C of the whole file as it was given to the writer.
    pub crc32c: u32,
}

/// A bucket that is being filled.
#[derive(Debug)]
struct OpenBucket {
    name: Vec<u8>,
    sequence: u64,
    tree: TreeBuilder,
    /// The first page that it or a bucket in it can have written.
    first: PageId,
}

/// Streams sorted pairs into a fresh file: one sequential pass, metas last.
///
/// ```
/// use bbolt::{Build, BuildOptions, Db};
///
/// let mut file = Vec::new();
/// let mut build = Build::new(&mut file, BuildOptions::default())?;
/// build.begin_bucket(b"meta")?;
/// build.put(b"consistent_index", &[0, 0, 0, 0, 0, 0, 0, 9])?;
/// build.put(b"term", &[0, 0, 0, 0, 0, 0, 0, 2])?;
/// build.end_bucket()?;
/// let built = build.finish()?;
/// assert_eq!(built.len_bytes, file.len() as u64);
/// let db = Db::from_source(file)?;
/// assert!(db.bucket(b"meta")?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Build<W> {
    sink: Sink<W>,
    options: BuildOptions,
    root: TreeBuilder,
    root_sequence: u64,
    /// The buckets that are open, outermost first.
    open: Vec<OpenBucket>,
    /// Pages of discarded buckets, ascending; no two runs touch.
    free: Vec<Range<u64>>,
    has_failed: bool,
    /// Whether trees are split as bbolt splits them; see [`Build::splitting_as_bbolt`].
    splits_as_bbolt: bool,
}

impl<W: PageWriter> Build<W> {
    /// Begins a file in `writer`, which must be empty.
    ///
    /// # Errors
    /// When an option is out of its bounds, or the place of the metas cannot be written.
    pub fn new(writer: W, options: BuildOptions) -> Result<Self, BuildError> {
        let BuildOptions { page_size, leaf_fill_percent, txid, .. } = options;
        if !page_size.is_power_of_two() || !PAGE_SIZES.contains(&page_size) {
            return Err(BuildError::PageSize { found: page_size });
        }
        if !LEAF_FILLS.contains(&leaf_fill_percent) {
            return Err(BuildError::LeafFill { found: leaf_fill_percent });
        }
        if txid == 0 || txid == u64::MAX {
            return Err(BuildError::Txid { found: txid });
        }
        Ok(Self {
            sink: Sink::new(writer, page_size)?,
            options,
            root: TreeBuilder::new(page_size, leaf_fill_percent),
            root_sequence: 0,
            open: Vec::new(),
            free: Vec::new(),
            has_failed: false,
            splits_as_bbolt: false,
        })
    }

    /// Leaves up to four pairs at the end of a bucket in one page, however long they are, as bbolt does: so that the file is
    /// no longer than bbolt's own. For a [`Build`] that was told nothing yet.
    pub(crate) fn splitting_as_bbolt(mut self) -> Self {
        self.root = self.root.keeping_few_whole();
        self.splits_as_bbolt = true;
        self
    }

    /// Opens the bucket `name` in the bucket that is open, or at the top level. Names and keys of one bucket share one
    /// ascending order.
    ///
    /// # Errors
    /// When the name is not greater than the key or name before it, or is not allowed as a key.
    pub fn begin_bucket(&mut self, name: &[u8]) -> Result<(), BuildError> {
        self.unless_failed(|build| {
            build.element(name, &[], true)?;
            let tree = TreeBuilder::new(build.options.page_size, build.options.leaf_fill_percent);
            let tree = if build.splits_as_bbolt { tree.keeping_few_whole() } else { tree };
            let first = build.sink.next_id();
            build.open.push(OpenBucket { name: name.to_vec(), sequence: 0, tree, first });
            Ok(())
        })
    }

    /// Gives the open bucket this sequence instead of 0; while none is open, the root bucket, whose sequence the metas
    /// keep.
    pub fn set_sequence(&mut self, sequence: u64) {
        *self.open.last_mut().map_or(&mut self.root_sequence, |bucket| &mut bucket.sequence) = sequence;
    }

    /// Adds a pair to the open bucket.
    ///
    /// # Errors
    /// When the key is not greater than the key or name before it, key or value are not allowed, no bucket is open, or
    /// a page cannot be written.
    #[inline]
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BuildError> {
        self.unless_failed(|build| {
            let element = build.element(key, value, false)?;
            let Some(bucket) = build.open.last_mut() else {
                return Err(BuildError::ValueAtTopLevel { key: readable(key) });
            };
            bucket.tree.push(&mut build.sink, &element)
        })
    }

    /// Ends the open bucket; the one it lies in is then open.
    ///
    /// # Errors
    /// When no bucket is open, or a page cannot be written.
    pub fn end_bucket(&mut self) -> Result<(), BuildError> {
        self.unless_failed(|build| {
            let bucket = build.open.pop().ok_or(BuildError::NoOpenBucket)?;
            let value = bucket.tree.finish_bucket(&mut build.sink, bucket.sequence)?;
            let element = build.element(&bucket.name, &value, true)?;
            let parent = build.open.last_mut().map_or(&mut build.root, |parent| &mut parent.tree);
            parent.push(&mut build.sink, &element)
        })
    }

    /// Ends the open bucket and leaves it out: its pages stay in the file as free ones, as they do when bbolt deletes a
    /// bucket. A bucket that would have been inline has none.
    ///
    /// # Errors
    /// When no bucket is open, or a page cannot be written.
    pub fn discard_bucket(&mut self) -> Result<(), BuildError> {
        self.unless_failed(|build| {
            let bucket = build.open.pop().ok_or(BuildError::NoOpenBucket)?;
            bucket.tree.finish_bucket(&mut build.sink, bucket.sequence)?;
            // While it was open, no other bucket but those in it wrote a page.
            let mut run = bucket.first.0..build.sink.next_id().0;
            while let Some(last) = build.free.pop_if(|last| last.end >= run.start) {
                run.start = run.start.min(last.start);
            }
            if !run.is_empty() {
                build.free.push(run);
            }
            Ok(())
        })
    }

    /// Writes the root bucket, the freelist if there is to be one, and both metas.
    ///
    /// The file is not synced. Until the last write has returned, there is nothing that opens as a database.
    ///
    /// # Errors
    /// When a bucket is open, an earlier call has failed, or a page cannot be written.
    pub fn finish(self) -> Result<Built, BuildError> {
        if self.has_failed {
            return Err(BuildError::AfterError);
        }
        if !self.open.is_empty() {
            return Err(BuildError::BucketOpen { holder: self.holder() });
        }
        let Self { mut sink, options, root, root_sequence, free, .. } = self;
        let root = root.finish(&mut sink)?;
        let freelist = match options.freelist {
            FreelistSync::NotPersisted => NO_FREELIST,
            FreelistSync::Persisted => sink.append_freelist(&free)?.0,
        };
        // Comes to pass with pages of 1 KiB and a root alone, without a freelist to list the page added.
        let missing_bytes = LEAST_FILE_BYTES.saturating_sub(sink.end());
        sink.end_page(usize::try_from(missing_bytes).unwrap_or_default())?;
        let high_water_mark = sink.next.0;
        let meta = |txid| Meta {
            page_size: options.page_size,
            flags: 0,
            root,
            sequence: root_sequence,
            freelist,
            high_water_mark,
            txid,
        };
        let slot = options.txid % 2;
        let mut head = [meta(options.txid).page(slot), meta(options.txid - 1).page(1 - slot)];
        if slot == 1 {
            head.reverse();
        }
        sink.finish(&head.concat())
    }

    /// Runs `step`; after an error of it nothing more is taken.
    #[inline]
    fn unless_failed(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        if self.has_failed {
            return Err(BuildError::AfterError);
        }
        let result = step(self);
        self.has_failed = result.is_err();
        result
    }

    /// The pair or bucket as an element that may follow what the open bucket holds.
    #[inline]
    fn element<'a>(
        &self,
        key: &'a [u8],
        value: &'a [u8],
        is_bucket: bool,
    ) -> Result<LeafElement<'a>, BuildError> {
        let element = LeafElement::new(key, value, is_bucket).map_err(|source| BuildError::Element {
            holder: self.holder(),
            key: readable(key),
            source,
        })?;
        let tree = self.open.last().map_or(&self.root, |bucket| &bucket.tree);
        match tree.last_key().filter(|last| *last >= key) {
            None => Ok(element),
            Some(last) => Err(BuildError::NotAscending {
                holder: self.holder(),
                key: readable(key),
                last: readable(last),
            }),
        }
    }

    /// How messages name the open bucket.
    fn holder(&self) -> String {
        if self.open.is_empty() {
            return "root bucket".to_owned();
        }
        let names: Vec<_> = self.open.iter().map(|bucket| readable(&bucket.name)).collect();
        format!("bucket {}", names.join("/"))
    }
}

/// Collects pages into large writes and sums them up.
#[derive(Debug)]
struct Sink<W> {
    writer: W,
    page_size: u32,
    next: PageId,
    /// What was not written yet, and where it belongs.
    buffer: Vec<u8>,
    offset: u64,
    /// CRC-32C of what was written behind the metas.
    digest: Digest,
}

impl<W: PageWriter> Sink<W> {
    fn new(writer: W, page_size: u32) -> Result<Self, BuildError> {
        let mut sink = Self {
            writer,
            page_size,
            next: PageId(META_PAGES),
            buffer: Vec::new(),
            offset: META_PAGES * u64::from(page_size),
            digest: Digest::new(CRC_32C),
        };
        // The room is had now, so that the metas do not fail for want of it; and zeros are no meta.
        let metas = vec![0; 2 * page_size as usize];
        sink.write_at(0, &metas)?;
        Ok(sink)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), BuildError> {
        self.writer.write_at(offset, bytes).map_err(|source| BuildError::Io {
            offset,
            len_bytes: bytes.len() as u64,
            source,
        })
    }

    fn flush(&mut self) -> Result<(), BuildError> {
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.write_behind(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    /// Writes `bytes` behind all that was written.
    fn write_behind(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.digest.update(bytes);
        self.write_at(self.offset, bytes)?;
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Takes bytes that follow those before.
    fn push(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() >= BUFFER_BYTES {
            return self.write_behind(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Where the next byte belongs.
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.buffer.len() as u64)
    }

    /// Takes zeros, at most a page of them, up to the end of a page, and counts the pages since the last count.
    fn end_page(&mut self, padding_bytes: usize) -> Result<(), BuildError> {
        self.buffer.resize(self.buffer.len() + padding_bytes, 0);
        self.next = PageId(self.end() / u64::from(self.page_size));
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Appends a page with the ids of these free pages (FORMATS A.6); returns its number.
    fn append_freelist(&mut self, free: &[Range<u64>]) -> Result<PageId, BuildError> {
        let id = self.next;
        let ids: u64 = free.iter().map(|run| run.end - run.start).sum();
        let page_size = u64::from(self.page_size);
        let fits = u16::try_from(ids).ok().filter(|count| *count < COUNT_IN_FIRST_ID);
        let words = if fits.is_some() { ids } else { ids + 1 };
        let used_bytes = HEADER_BYTES as u64 + words * ID_BYTES;
        // bbolt rounds up even where the last page is just full.
        let pages = used_bytes / page_size + 1;
        let overflow = u32::try_from(pages - 1).unwrap_or(u32::MAX);
        let count = fits.unwrap_or(COUNT_IN_FIRST_ID);
        self.push(&PageHeader { id: id.0, flags: FLAG_FREELIST, count, overflow }.encode())?;
        if fits.is_none() {
            self.push(&ids.to_le_bytes())?;
        }
        for page in free.iter().flat_map(Clone::clone) {
            self.push(&page.to_le_bytes())?;
        }
        let padding_bytes = pages * page_size - used_bytes;
        self.end_page(usize::try_from(padding_bytes).unwrap_or_default())?;
        Ok(id)
    }

    /// Writes the metas over the zeros at the start.
    fn finish(mut self, head: &[u8]) -> Result<Built, BuildError> {
        self.flush()?;
        if let Err(error) = self.write_at(0, head) {
            // One of the two may have got through, and an error must not leave a database behind. Where zeros cannot
            // be written either, the error at hand is the one to tell.
            let _ = self.write_at(0, &vec![0; head.len()]);
            return Err(error);
        }
        let data_bytes = self.offset - head.len() as u64;
        let mut digest = Digest::new(CRC_32C);
        digest.update(head);
        let crc = checksum_combine(CRC_32C, digest.finalize(), self.digest.finalize(), data_bytes);
        Ok(Built {
            len_bytes: self.offset,
            pages: self.next.0,
            // The algorithm is 32 bits wide: nothing is cut off.
            crc32c: u32::try_from(crc).unwrap_or_default(),
        })
    }
}

impl<W: PageWriter> PageSink for Sink<W> {
    type Error = BuildError;

    fn next_id(&self) -> PageId {
        self.next
    }

    fn append(&mut self, table: &[u8], data: &[u8], padding_bytes: usize) -> Result<(), BuildError> {
        self.push(table)?;
        self.push(data)?;
        self.end_page(padding_bytes)
    }
}
