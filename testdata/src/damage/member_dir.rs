//! A member's files, and just enough of their formats to damage them at a chosen place.

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A scratch copy of a server's data dir.
#[derive(Debug, Clone)]
pub struct MemberDir {
    path: PathBuf,
}

/// One record of a segment, with the file offsets of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Of the length word.
    pub offset: u64,
    /// Of the record behind the length word, padding excluded.
    pub record: Range<u64>,
    /// Length of the padding in bytes.
    pub padding: u64,
    /// 1 metadata, 2 entry, 3 state, 4 crc, 5 snapshot.
    pub record_type: u8,
    /// The type's one byte.
    pub type_at: u64,
    /// The checksum's varint.
    pub crc_at: Range<u64>,
    /// The checksum.
    pub crc: u32,
    /// The data; empty where there is none.
    pub data: Range<u64>,
    /// The raft index, of an entry.
    pub index: Option<u64>,
}

impl Frame {
    /// The offset behind record and padding.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.record.end + self.padding
    }

    /// Length of the data in bytes.
    #[must_use]
    pub fn data_len(&self) -> u64 {
        self.data.end - self.data.start
    }

    /// The first 512-byte sector of the file that lies wholly in the data. Panics when there is none.
    #[must_use]
    pub fn sector(&self) -> Range<u64> {
        let start = self.data.start.next_multiple_of(512);
        assert!(start + 512 <= self.data.end, "no whole sector in {self:?}");
        start..start + 512
    }
}

const METADATA: u8 = 1;
const ENTRY: u8 = 2;
const CRC: u8 = 4;

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("a file's offset")
}

fn len_u64(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length")
}

fn varint(bytes: &[u8], at_offset: &mut u64) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[at(*at_offset)];
        *at_offset += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes at {at_offset:#x}");
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// CRC-32C of `bytes`, going on from `crc`.
pub(crate) fn crc_32c(crc: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!crc, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// Adds a record with this data as one frame.
fn push_frame(out: &mut Vec<u8>, record_type: u8, crc: u32, data: &[u8]) {
    let mut record = vec![0x08, record_type, 0x10];
    push_varint(&mut record, u64::from(crc));
    record.push(0x1a);
    push_varint(&mut record, len_u64(data));
    record.extend(data);
    let padding = (8 - len_u64(&record) % 8) % 8;
    let flag = if padding == 0 { 0 } else { (0x80 | padding) << 56 };
    out.extend((len_u64(&record) | flag).to_le_bytes());
    out.extend(&record);
    out.resize(out.len() + at(padding), 0);
}

/// The records of a segment that a real server wrote, up to its first length word of 0.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut found = Vec::new();
    let mut offset = 0;
    while offset + 8 <= len_u64(bytes) {
        let word: [u8; 8] = bytes[at(offset)..at(offset + 8)].try_into().expect("eight bytes");
        let word = u64::from_le_bytes(word);
        if word == 0 {
            break;
        }
        let padding = if word >> 63 == 0 { 0 } else { (word >> 56) & 7 };
        let record = offset + 8..offset + 8 + (word & 0x00ff_ffff_ffff_ffff);
        let mut cursor = record.start;
        assert_eq!(varint(bytes, &mut cursor), 0x08, "the type's tag at {cursor:#x}");
        let type_at = cursor;
        let record_type = u8::try_from(varint(bytes, &mut cursor)).expect("a type");
        assert_eq!(varint(bytes, &mut cursor), 0x10, "the crc's tag at {cursor:#x}");
        let crc_start = cursor;
        let crc = u32::try_from(varint(bytes, &mut cursor)).expect("a crc");
        let crc_at = crc_start..cursor;
        let mut data = record.end..record.end;
        if cursor < record.end {
            assert_eq!(varint(bytes, &mut cursor), 0x1a, "the data's tag at {cursor:#x}");
            let len = varint(bytes, &mut cursor);
            data = cursor..cursor + len;
        }
        assert_eq!(data.end, record.end, "the record at {offset:#x}");
        let index = (record_type == ENTRY).then(|| {
            let mut cursor = data.start;
            for tag in [0x08, 0x10] {
                assert_eq!(varint(bytes, &mut cursor), tag);
                varint(bytes, &mut cursor);
            }
            assert_eq!(varint(bytes, &mut cursor), 0x18);
            varint(bytes, &mut cursor)
        });
        found.push(Frame { offset, record, padding, record_type, type_at, crc_at, crc, data, index });
        offset = found.last().expect("one was pushed").end();
    }
    found
}

impl MemberDir {
    /// The member of a data dir (the parent of `member`).
    #[must_use]
    pub fn of_data_dir(path: &Path) -> Self {
        assert!(path.join("member").is_dir(), "{} is no data dir", path.display());
        Self { path: path.to_owned() }
    }

    /// The data dir.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies all of it to `dir`, which must not exist; holes stay holes where the file system has them.
    #[must_use]
    pub fn copy_to(&self, dir: &Path) -> Self {
        let status = Command::new("cp")
            .args(["--archive", "--reflink=auto", "--sparse=auto"])
            .args([&self.path, dir])
            .status()
            .expect("tests need the program cp");
        assert!(status.success(), "cp of {} ended with {status}", self.path.display());
        Self { path: dir.to_owned() }
    }

    /// Where the segments are.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        self.path.join("member/wal")
    }

    /// Where db and `.snap` files are.
    #[must_use]
    pub fn snap_dir(&self) -> PathBuf {
        self.path.join("member/snap")
    }

    fn listed(dir: &Path, suffix: &str) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(dir)
            .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
            .map(|entry| entry.expect("a directory entry").path())
            .filter(|path| path.to_str().is_some_and(|name| name.ends_with(suffix)))
            .collect();
        paths.sort();
        paths
    }

    /// The segments, in the order of their names.
    #[must_use]
    pub fn segments(&self) -> Vec<PathBuf> {
        Self::listed(&self.wal_dir(), ".wal")
    }

    /// The last segment.
    #[must_use]
    pub fn last_segment(&self) -> PathBuf {
        self.segments().pop().expect("a segment")
    }

    /// The `.snap` files, oldest first.
    #[must_use]
    pub fn snaps(&self) -> Vec<PathBuf> {
        Self::listed(&self.snap_dir(), ".snap")
    }

    /// The newest `.snap` file.
    #[must_use]
    pub fn last_snap(&self) -> PathBuf {
        self.snaps().pop().expect("a .snap file")
    }

    /// The records of a segment. Panics over one that is damaged.
    #[must_use]
    pub fn frames(&self, segment: &Path) -> Vec<Frame> {
        frames(&fs::read(segment).unwrap_or_else(|e| panic!("{}: {e}", segment.display())))
    }

    /// The entries of a segment with at least this many bytes of data.
    #[must_use]
    pub fn entries(&self, segment: &Path, min_data_len: u64) -> Vec<Frame> {
        let mut found = self.frames(segment);
        found.retain(|frame| frame.record_type == ENTRY && frame.data_len() >= min_data_len);
        found
    }

    fn writable(path: &Path) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Puts bytes in the place of others.
    pub fn put(&mut self, path: &Path, offset: u64, bytes: &[u8]) {
        Self::writable(path)
            .write_all_at(bytes, offset)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Turns one bit.
    pub fn flip(&mut self, path: &Path, offset: u64, bit: u64) {
        let mut byte = [0];
        Self::writable(path)
            .read_exact_at(&mut byte, offset)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        self.put(path, offset, &[byte[0] ^ (1 << bit)]);
    }

    /// Puts zeros in the place of what is there.
    pub fn zero(&mut self, path: &Path, range: Range<u64>) {
        self.put(path, range.start, &vec![0; at(range.end - range.start)]);
    }

    /// Cuts a file, or makes it longer with zeros.
    pub fn set_len(&mut self, path: &Path, len: u64) {
        Self::writable(path).set_len(len).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Removes a file.
    pub fn remove(&mut self, path: &Path) {
        fs::remove_file(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Renames a file in its directory.
    pub fn rename(&mut self, path: &Path, name: &str) {
        fs::rename(path, path.with_file_name(name)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Copies a file beside itself.
    pub fn copy(&mut self, path: &Path, name: &str) {
        fs::copy(path, path.with_file_name(name)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Makes an empty segment.
    pub fn empty_segment(&mut self, name: &str) {
        let path = self.wal_dir().join(name);
        File::create_new(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Adds a sound record behind the last one of a segment, as a server would.
    pub fn append(&mut self, segment: &Path, record_type: u8, data: &[u8]) {
        let frames = self.frames(segment);
        let last = frames.last().expect("a record");
        let mut framed = Vec::new();
        push_frame(&mut framed, record_type, crc_32c(last.crc, data), data);
        self.put(segment, last.end(), &framed);
    }

    /// Turns a bit of the member's ID in the metadata of the last segment, and makes every checksum behind it right.
    pub fn change_metadata_of_last(&mut self) {
        let segment = self.last_segment();
        let mut bytes = fs::read(&segment).expect("it was listed");
        let frames = frames(&bytes);
        let metadata = frames.iter().find(|frame| frame.record_type == METADATA).expect("metadata");
        bytes[at(metadata.data.start + 1)] ^= 1;
        let (first, rest) = frames.split_first().expect("a record");
        let mut crc = first.crc;
        let mut out = bytes[..at(first.end())].to_vec();
        for frame in rest {
            let data = &bytes[at(frame.data.start)..at(frame.data.end)];
            crc = crc_32c(crc, data);
            push_frame(&mut out, frame.record_type, crc, data);
        }
        // A checksum may take a byte less than it did.
        let end = frames.last().map_or(0, Frame::end);
        out.resize(out.len().max(at(end)), 0);
        self.put(&segment, 0, &out);
    }

    /// A hard state record's data with this commit, its term and vote those of the last one in the segment.
    #[must_use]
    pub fn hard_state(&self, segment: &Path, commit: u64) -> Vec<u8> {
        let bytes = fs::read(segment).expect("it was read before");
        let last = frames(&bytes).into_iter().rfind(|frame| frame.record_type == 3).expect("a hard state");
        let mut cursor = last.data.start;
        let mut out = Vec::new();
        for tag in [0x08, 0x10] {
            assert_eq!(varint(&bytes, &mut cursor), tag);
            push_varint(&mut out, tag);
            push_varint(&mut out, varint(&bytes, &mut cursor));
        }
        out.push(0x18);
        push_varint(&mut out, commit);
        out
    }

    /// Copies the newest `.snap` as one of `index`, which must be below 128 like its own: the content's index is changed
    /// and its checksum made right, so that it is a sound `.snap` that no server wrote.
    pub fn forge_snap(&mut self, index: u8) {
        let path = self.last_snap();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let (term, old) = name.split_once('-').expect("term and index");
        let old = u8::from_str_radix(old.trim_end_matches(".snap"), 16).expect("a small index");
        assert!(old < 0x80 && index < 0x80);
        let bytes = fs::read(&path).expect("it was listed");
        let mut cursor = 0;
        assert_eq!(varint(&bytes, &mut cursor), 0x08, "the crc");
        varint(&bytes, &mut cursor);
        assert_eq!(varint(&bytes, &mut cursor), 0x12, "the data");
        let len = varint(&bytes, &mut cursor);
        let mut data = bytes[at(cursor)..at(cursor + len)].to_vec();
        // The metadata ends the data, and index and term end the metadata.
        let tail = data.len() - 4;
        assert!(data[tail] == 0x10 && data[tail + 1] == old && data[tail + 2] == 0x18, "{:?}", &data[tail..]);
        data[tail + 1] = index;
        let mut out = vec![0x08];
        push_varint(&mut out, u64::from(crc_32c(0, &data)));
        out.push(0x12);
        push_varint(&mut out, len_u64(&data));
        out.extend(data);
        fs::write(path.with_file_name(format!("{term}-{index:016x}.snap")), out).expect("a scratch copy");
    }

    /// The first record of a type (1 to 5) in a segment.
    #[must_use]
    pub fn first_of(&self, segment: &Path, record_type: u8) -> Frame {
        self.frames(segment)
            .into_iter()
            .find(|frame| frame.record_type == record_type)
            .expect("such a record")
    }

    /// The head of a segment: its crc record and its metadata.
    #[must_use]
    pub fn head(&self, segment: &Path) -> (Frame, Frame) {
        (self.first_of(segment, CRC), self.first_of(segment, METADATA))
    }
}
