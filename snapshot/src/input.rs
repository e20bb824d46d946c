//! What the user points at, as one plain file.
//!
//! Snapshots come as they are, gzipped, as zstd, or in a zip of one entry (RKE writes those). The first bytes decide,
//! not the name. What is packed goes to a file without a name in a temporary directory, so nothing is left behind
//! however the program ends, and no packed file can fill the disk: the room is looked at first, and both a ratio and a
//! reserve bound what comes out.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bbolt::Watch;
use bbolt::file::open_read_only;

use crate::copy::{self, SpaceError};

const BUFFER_BYTES: usize = 1 << 20;
/// Enough of a file to know it: a tar header's magic ends at 262.
const HEAD_BYTES: usize = 512;

/// Bounds for unpacking.
#[derive(Debug, Clone)]
pub struct InputOptions {
    /// Where unpacked files go. They have no name there.
    pub tmp_dir: PathBuf,
    /// Bytes that stay free in `tmp_dir` whatever is unpacked.
    pub reserve_bytes: u64,
    /// The most that may come out of one input, if there is a limit beside the room on the disk.
    pub max_bytes: Option<u64>,
    /// How many bytes may come out for each byte read...
    pub max_ratio: u64,
    /// ...once more than this has come out. A small db may well be almost all zeros: etcd grows the file in steps of
    /// 16 MiB.
    pub ratio_floor_bytes: u64,
}

impl Default for InputOptions {
    /// The system's temporary directory, 64 MiB of reserve, no limit, and a ratio of 200 beyond 256 MiB.
    fn default() -> InputOptions {
        InputOptions {
            tmp_dir: std::env::temp_dir(),
            reserve_bytes: 64 << 20,
            max_bytes: None,
            max_ratio: 200,
            ratio_floor_bytes: 256 << 20,
        }
    }
}

/// What the bytes were wrapped in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Container {
    /// Nothing: the file itself.
    Plain,
    /// gzip, of one or several members.
    Gzip,
    /// zstd, of one or several frames.
    Zstd,
    /// zip, with the name of its only file.
    Zip {
        /// As the archive has it; never used as a path.
        entry: String,
    },
}

/// An input, ready to be read at any offset.
#[derive(Debug)]
pub struct Input {
    /// The file, or the unpacked copy of it.
    pub file: File,
    /// Its length.
    pub len_bytes: u64,
    /// What it was wrapped in.
    pub container: Container,
    /// The path the user gave.
    pub path: PathBuf,
}

impl Input {
    /// What it is, for people: `gzip, unpacked to 229408 bytes`.
    #[must_use]
    pub fn description(&self) -> String {
        let len = self.len_bytes;
        match &self.container {
            Container::Plain => format!("{len} bytes"),
            Container::Gzip => format!("gzip, unpacked to {len} bytes"),
            Container::Zstd => format!("zstd, unpacked to {len} bytes"),
            Container::Zip { entry } => format!("zip of {entry:?}, unpacked to {len} bytes"),
        }
    }
}

/// Why an input cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Not even its beginning can be read.
    #[error("{}: cannot read it at 0x0: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A directory where a file was meant.
    #[error("{} is a directory; a file was expected", .0.display())]
    Directory(PathBuf),
    /// A device, socket or pipe.
    #[error("{} is not a regular file: a pipe, socket or device cannot be read at any offset; copy what it gives to a file", .0.display())]
    NotAFile(PathBuf),
    /// No bytes.
    #[error("{} is empty: it has no bytes at all; copy it again, or use another snapshot", .0.display())]
    Empty(PathBuf),
    /// etcdctl's name for a download it has not finished.
    #[error(
        "{} is an unfinished download: 'etcdctl snapshot save' takes the '.part' away when it is whole. Save the \
         snapshot again; if this is all there is, give a copy of it another name and see what 'snapshot status' finds",
        .0.display()
    )]
    Partial(PathBuf),
    /// A tar, bare or packed.
    #[error("{} is a tar archive; unpack it and give the db file inside", .0.display())]
    Tar(PathBuf),
    /// A kind of packing that is not undone here.
    #[error("{} is packed with {kind}; unpack it first", path.display())]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// Its kind.
        kind: &'static str,
    },
    /// A packed file within a packed file.
    #[error("{} holds another packed file ({kind}); unpack it once and give what is inside", path.display())]
    Nested {
        /// Which file.
        path: PathBuf,
        /// What is inside.
        kind: &'static str,
    },
    /// A zip of none or several files.
    #[error("{} is a zip of {files} files; one was expected. Unpack it and give the db file", path.display())]
    ZipEntries {
        /// Which file.
        path: PathBuf,
        /// How many it has.
        files: usize,
    },
    /// What is packed is damaged or cut.
    #[error("{}: cannot unpack the {kind}, {after_bytes} bytes came out: {error}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Its kind.
        kind: &'static str,
        /// How much came out before.
        after_bytes: u64,
        /// What the decoder said.
        error: io::Error,
    },
    /// More comes out than any snapshot would hold.
    #[error(
        "{}: {out_bytes} bytes came out of {in_bytes}, more than {max_ratio} to 1; this looks like a bomb, no snapshot",
        path.display()
    )]
    Bomb {
        /// Which file.
        path: PathBuf,
        /// Bytes read.
        in_bytes: u64,
        /// Bytes written.
        out_bytes: u64,
        /// The bound.
        max_ratio: u64,
    },
    /// More comes out than was allowed.
    #[error("{}: unpacks to more than the limit of {max_bytes} bytes", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// The limit.
        max_bytes: u64,
    },
    /// The directory to unpack to is none.
    #[error("cannot unpack to {}: {error}; --tmp-dir takes another directory", path.display())]
    TmpDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// No room to unpack.
    #[error("no room to unpack: {0}; --tmp-dir takes another directory")]
    Space(#[from] SpaceError),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What the first bytes of a file say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Magic {
    Gzip,
    Zstd,
    Zip,
    Tar,
    Other(&'static str),
    None,
}

impl Magic {
    fn of(head: &[u8]) -> Magic {
        match head {
            [0x1f, 0x8b, 8, ..] => Magic::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Magic::Zstd,
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Magic::Zip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Magic::Other("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Magic::Other("bzip2"),
            [4, 0x22, 0x4d, 0x18, ..] => Magic::Other("lz4"),
            [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Magic::Other("7z"),
            _ if head.get(257..262) == Some(b"ustar") => Magic::Tar,
            _ => Magic::None,
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Magic::Gzip => Some("gzip"),
            Magic::Zstd => Some("zstd"),
            Magic::Zip => Some("zip"),
            Magic::Tar => Some("tar"),
            Magic::Other(name) => Some(name),
            Magic::None => None,
        }
    }
}

/// Opens `path`, unpacking it if it is packed. `watch` hears of the packed bytes as they are read.
///
/// # Errors
/// [`InputError`]; nothing is left behind.
pub fn open(path: &Path, options: &InputOptions, watch: &dyn Watch) -> Result<Input, InputError> {
    let owned = || path.to_owned();
    let io = |error| InputError::Io { path: owned(), error };
    let meta = std::fs::metadata(path).map_err(io)?;
    if meta.is_dir() {
        return Err(InputError::Directory(owned()));
    }
    if !meta.is_file() {
        return Err(InputError::NotAFile(owned()));
    }
    if path.extension().is_some_and(|e| e == "part") {
        return Err(InputError::Partial(owned()));
    }
    let file = open_read_only(path).map_err(io)?;
    let len_bytes = file.metadata().map_err(io)?.len();
    if len_bytes == 0 {
        return Err(InputError::Empty(owned()));
    }
    let unreadable = |error| InputError::Unreadable { path: owned(), error };
    let container = match Magic::of(&head(&file).map_err(unreadable)?) {
        Magic::None => return Ok(Input { file, len_bytes, container: Container::Plain, path: owned() }),
        Magic::Tar => return Err(InputError::Tar(owned())),
        Magic::Other(kind) => return Err(InputError::Unsupported { path: owned(), kind }),
        Magic::Gzip => Container::Gzip,
        Magic::Zstd => Container::Zstd,
        Magic::Zip => Container::Zip { entry: String::new() },
    };
    let unpacker = Unpacker { path, options, watch, read: AtomicU64::new(0), packed_len: len_bytes };
    unpacker.unpack(&file, container)
}

fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let mut filled = 0;
    while let Some(rest) = head.get_mut(filled..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, u64::try_from(filled).unwrap_or(0)) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    head.truncate(filled);
    Ok(head)
}

struct Unpacker<'a> {
    path: &'a Path,
    options: &'a InputOptions,
    watch: &'a dyn Watch,
    /// Packed bytes read so far, counted below the decoder.
    read: AtomicU64,
    packed_len: u64,
}

impl Unpacker<'_> {
    fn unpack(&self, file: &File, container: Container) -> Result<Input, InputError> {
        let io = |error| InputError::Io { path: self.path.to_owned(), error };
        let room = copy::available_bytes(&self.options.tmp_dir)?;
        self.check_room(room, self.expected_bytes(file, &container))?;
        let out = tempfile::tempfile_in(&self.options.tmp_dir)
            .map_err(|error| InputError::TmpDir { path: self.options.tmp_dir.clone(), error })?;
        let (len_bytes, container) = match container {
            Container::Zip { .. } => self.unzip(file, &out, room)?,
            Container::Gzip => {
                let mut decoder = flate2::bufread::MultiGzDecoder::new(self.counted(file));
                (self.drain(&mut decoder, &out, "gzip", room)?, container)
            }
            Container::Zstd | Container::Plain => {
                let counted = self.counted(file);
                let mut decoder = zstd::stream::read::Decoder::with_buffer(counted).map_err(io)?;
                (self.drain(&mut decoder, &out, "zstd", room)?, container)
            }
        };
        if len_bytes == 0 {
            return Err(InputError::Empty(self.path.to_owned()));
        }
        let inside = Magic::of(&head(&out).map_err(io)?);
        match inside.name() {
            None => Ok(Input { file: out, len_bytes, container, path: self.path.to_owned() }),
            Some(_) if inside == Magic::Tar => Err(InputError::Tar(self.path.to_owned())),
            Some(kind) => Err(InputError::Nested { path: self.path.to_owned(), kind }),
        }
    }

    fn unzip(&self, file: &File, out: &File, room: u64) -> Result<(u64, Container), InputError> {
        let corrupt = |error: zip::result::ZipError| self.corrupt("zip", 0, error.into());
        let mut archive = zip::ZipArchive::new(self.counted(file)).map_err(corrupt)?;
        let files: Vec<usize> = (0..archive.len())
            .filter(|i| !archive.name_for_index(*i).is_some_and(|name| name.ends_with('/')))
            .collect();
        let [index] = files.as_slice() else {
            return Err(InputError::ZipEntries { path: self.path.to_owned(), files: files.len() });
        };
        let mut entry = archive.by_index(*index).map_err(corrupt)?;
        self.check_room(room, entry.size())?;
        // The directory was read as well; the ratio counts from here.
        self.read.store(0, Ordering::Relaxed);
        let name = entry.name().to_owned();
        let len_bytes = self.drain(&mut entry, out, "zip", room)?;
        Ok((len_bytes, Container::Zip { entry: name }))
    }

    fn counted<'b>(&'b self, file: &'b File) -> BufReader<Counted<'b>> {
        BufReader::with_capacity(
            BUFFER_BYTES,
            Counted { file, offset: 0, len: self.packed_len, read: &self.read },
        )
    }

    /// At least as much as the packed file, and what its own length field says, which is a hint from untrusted bytes
    /// (in gzip modulo 4 GiB) and only ever makes us refuse earlier.
    fn expected_bytes(&self, file: &File, container: &Container) -> u64 {
        let mut hint = 0;
        if *container == Container::Gzip {
            let mut size = [0; 4];
            if self.packed_len >= 18 && file.read_exact_at(&mut size, self.packed_len - 4).is_ok() {
                let size = u64::from(u32::from_le_bytes(size));
                // A lying field must not turn a sound file away for want of gigabytes it does not need.
                if size / self.packed_len.max(1) <= self.options.max_ratio {
                    hint = size;
                }
            }
        }
        hint.max(self.packed_len)
    }

    fn check_room(&self, room: u64, out_bytes: u64) -> Result<(), InputError> {
        if let Some(max_bytes) = self.options.max_bytes
            && out_bytes > max_bytes
        {
            return Err(InputError::TooLong { path: self.path.to_owned(), max_bytes });
        }
        let need_bytes = out_bytes.saturating_add(self.options.reserve_bytes);
        if need_bytes <= room {
            return Ok(());
        }
        Err(InputError::Space(SpaceError::Full {
            path: self.options.tmp_dir.clone(),
            need_bytes,
            available_bytes: room,
        }))
    }

    fn corrupt(&self, kind: &'static str, after_bytes: u64, error: io::Error) -> InputError {
        InputError::Corrupt { path: self.path.to_owned(), kind, after_bytes, error }
    }

    fn drain(
        &self,
        decoder: &mut dyn Read,
        mut out: &File,
        kind: &'static str,
        room: u64,
    ) -> Result<u64, InputError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut out_bytes = 0u64;
        let mut told = 0;
        loop {
            if self.watch.interrupted() {
                return Err(InputError::Interrupted);
            }
            let n = match decoder.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.corrupt(kind, out_bytes, error)),
            };
            out_bytes = out_bytes.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
            self.check_room(room, out_bytes)?;
            let in_bytes = self.read.load(Ordering::Relaxed);
            let max_ratio = self.options.max_ratio;
            if out_bytes > self.options.ratio_floor_bytes && out_bytes / in_bytes.max(1) >= max_ratio {
                return Err(InputError::Bomb { path: self.path.to_owned(), in_bytes, out_bytes, max_ratio });
            }
            out.write_all(buffer.get(..n).unwrap_or_default())
                .map_err(|error| InputError::Io { path: self.options.tmp_dir.clone(), error })?;
            self.watch.advance(in_bytes.saturating_sub(told));
            told = in_bytes.max(told);
        }
        Ok(out_bytes)
    }
}

/// Reads a file by offset, leaving its cursor alone, and counts.
struct Counted<'a> {
    file: &'a File,
    offset: u64,
    len: u64,
    read: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.offset)?;
        let count = u64::try_from(n).unwrap_or(0);
        self.offset = self.offset.saturating_add(count);
        self.read.fetch_add(count, Ordering::Relaxed);
        Ok(n)
    }
}

impl io::Seek for Counted<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let target = match to {
            io::SeekFrom::Start(offset) => Some(offset),
            io::SeekFrom::End(by) => self.len.checked_add_signed(by),
            io::SeekFrom::Current(by) => self.offset.checked_add_signed(by),
        };
        self.offset = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.offset)
    }
}
