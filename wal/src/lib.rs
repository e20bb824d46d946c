//! Raft log segments and `.snap` files of etcd 3.4 to 3.7, from bytes alone.
//!
//! A segment is a run of frames ([`frame`]), each holding one record ([`record`]) whose data is
//! covered by a CRC-32C that rolls from record to record ([`crc`]). [`read_segment`] walks one
//! segment and says where and how it breaks, [`scan()`](scan::scan) goes past every break to the end of the file, and
//! [`log::read`] joins the segments of a directory ([`directory::list`]) to one log, with everything that is wrong with
//! it ([`fault`]). [`summarize`] folds one sound segment into what a server would find.
//! [`FirstSegment`] writes the log of a freshly restored member, and [`encode_snap`] the `.snap`
//! beside it, byte for byte as each etcd version's own tool does ([`Dialect`]).
//! [`LogWriter`] writes logs of any length, segment after segment. [`repair`] says what can be made of a damaged log, and
//! makes it. [`raftpb`] has the messages. File names are in [`names`].
//!
//! Nothing here opens a file: callers bring bytes. What an entry asks the server to do is not known
//! here either.
#![forbid(unsafe_code)]

pub mod crc;
pub mod directory;
pub mod entry;
mod explain;
pub mod fault;
pub mod frame;
pub mod log;
pub mod names;
pub mod raftpb;
pub mod record;
pub mod repair;
pub mod scan;
pub mod segment;
pub mod snap;
mod summary;
mod wire;
pub mod write;

pub use directory::{Listing, SegmentName, list};
pub use entry::EntryRef;
pub use fault::{After, BitFlip, LogFault, LogFaultKind, Part};
pub use log::{Log, MemoryLog, Piece, Segments, Unreadable};
pub use names::{
    parse_segment_name, parse_snap_db_name, parse_snap_name, segment_name, snap_db_name, snap_name,
};
pub use raftpb::{Metadata, snappb, walpb};
pub use record::{Payload, Record, RecordType};
pub use segment::{Fault, FaultKind, PayloadError, Segment, SegmentEnd, read_segment};
pub use snap::{SnapError, decode_snap, encode_snap, encode_snapshot};
pub use summary::{ConfChangeEntry, EntryHead, SegmentSummary, summarize};
pub use wire::WireError;
pub use write::{
    BootMember, Dialect, FIRST_TERM, FirstSegment, LogWriter, Resume, SEGMENT_SIZE_BYTES, SaveError, Saved,
};
