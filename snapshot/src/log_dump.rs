//! A log printed record by record: in the rows of etcd-dump-logs, in its raw form, or as JSON lines.
//!
//! [`LogDump`] reads the log once for what is known only of the whole: which entries count, what is committed, what is wrong. Then
//! it goes through the segments in order, past whatever is broken, and marks that where it stands. Segments are scanned in
//! batches; several are formatted at a time, by all cores, and written in order. Nothing but the batches under way is in memory.

mod filter;
mod format;
mod start;

use std::io::{self, Write};

use bbolt::Watch;
use rayon::prelude::*;
use wal::log::{Log, Segments};
use wal::scan::{Item, scan};
use wal::{LogFault, LogFaultKind};

pub use filter::{EntryTypes, Filter, UnknownType};
pub use start::{Begin, Passed, Start, StartError};

use crate::log_files::{LogFiles, progress};
use crate::request::Style;
use format::{Formatter, Place, Printed};

/// How records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A row for each entry, as etcd-dump-logs prints them.
    Rows,
    /// A line for each record, as etcd-dump-logs prints them with `-raw`.
    Raw,
    /// A JSON object a line for each record.
    Json {
        /// Whether the records that only carry the checksum are among them.
        crc: bool,
    },
}

/// What is printed, and how.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// The form.
    pub form: Form,
    /// How values are shown.
    pub style: Style,
    /// What is left out.
    pub filter: Filter,
    /// What the footer of [`Form::Rows`] calls the kinds of entries.
    pub types: String,
}

/// What was printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Entries that passed the filter. Those that did not hold are not counted.
    pub entries: u64,
    /// Marks of what is wrong.
    pub faults: u64,
    /// Entries not given to the decoder, since they hold a password.
    pub withheld: u64,
}

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// What takes the output refused it.
    #[error(transparent)]
    Write(io::Error),
    /// The decoder failed.
    #[error("{0}")]
    Decoder(String),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What a stream decoder makes of an entry's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it says of its own success.
    pub status: String,
    /// What it decoded.
    pub decoded: String,
}

/// Something that decodes entries' data, as `--stream-decoder` of etcd-dump-logs does.
pub trait StreamDecoder {
    /// The answers for these entries, in their order.
    ///
    /// # Errors
    /// A sentence when it gave fewer, or none in time.
    fn decode(&mut self, data: &[&[u8]]) -> Result<Vec<Answer>, DumpError>;
}

/// A batch is closed when its records have this many bytes,
const BATCH_BYTES: usize = 256 << 10;
/// or when it has this many items.
const BATCH_ITEMS: usize = 1024;
/// Batches that are formatted together, for each thread.
const BATCHES_PER_THREAD: usize = 4;

/// One item and what is wrong where it stands.
struct Work<'a> {
    item: Option<Item<'a>>,
    faults: Vec<&'a LogFault>,
}

#[derive(Default)]
struct Batch<'a> {
    work: Vec<Work<'a>>,
    bytes: usize,
}

/// A log that was read once and can be printed.
#[derive(Debug)]
pub struct LogDump<'f> {
    files: &'f LogFiles,
    log: Log,
}

impl<'f> LogDump<'f> {
    /// Reads the log.
    ///
    /// # Errors
    /// [`DumpError::Interrupted`] only.
    pub fn read(files: &'f LogFiles, watch: &dyn Watch) -> Result<Self, DumpError> {
        watch.begin("reading", files.len_bytes());
        let mut log = wal::log::read(files, &progress(watch)).map_err(|_| DumpError::Interrupted)?;
        if files.is_single_segment() {
            log.faults.retain(|fault| !is_about_the_whole(fault));
        }
        Ok(Self { files, log })
    }

    /// Whether anything is wrong with the log.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        !self.log.faults.is_empty()
    }

    /// Where to begin, with the snapshots that were passed over for the newest.
    ///
    /// # Errors
    /// When the snapshot that is asked for cannot be read.
    pub fn start(&self, begin: &Begin) -> Result<(Start, Vec<Passed>), StartError> {
        Start::find(begin, self.files, &self.log)
    }

    /// How many entries that count stand before index `to`.
    #[must_use]
    pub fn entries_before(&self, to: u64) -> u64 {
        start::entries_in(&self.log, 0, to).0
    }

    /// Prints the log to `out`, with what etcd-dump-logs prints before and behind the entries. The filter's bounds apply beside
    /// `start`.
    ///
    /// # Errors
    /// When the output cannot be written, the decoder fails, or the user asks to stop.
    pub fn print(
        &self,
        start: &Start,
        options: &DumpOptions,
        out: &mut dyn Write,
        decoder: Option<&mut (dyn StreamDecoder + 'static)>,
        watch: &dyn Watch,
    ) -> Result<Dumped, DumpError> {
        let mut options = options.clone();
        options.filter.start = options.filter.start.max(start.first_index());
        if options.form == Form::Rows {
            let columns = if decoder.is_some() { "\tdecoder_status\tdecoded_data" } else { "" };
            let head = start::rows(start, &self.log, options.filter.end, columns);
            out.write_all(head.as_bytes()).map_err(DumpError::Write)?;
        }
        let dumped = dump(self.files, &self.log, &options, out, decoder, watch)?;
        let foot = match options.form {
            Form::Rows => format!("\nEntry types ({}) count is : {}\n", options.types, dumped.entries),
            Form::Raw => start::raw_end(&self.log).to_owned(),
            Form::Json { .. } => String::new(),
        };
        out.write_all(foot.as_bytes()).and_then(|()| out.flush()).map_err(DumpError::Write)?;
        Ok(dumped)
    }
}

/// Prints the log in `segments`, of which `log` is what [`wal::log::read`] says, to `out`.
///
/// # Errors
/// When the output cannot be written, the decoder fails, or the user asks to stop.
pub fn dump(
    segments: &impl Segments,
    log: &Log,
    options: &DumpOptions,
    out: &mut dyn Write,
    decoder: Option<&mut (dyn StreamDecoder + 'static)>,
    watch: &dyn Watch,
) -> Result<Dumped, DumpError> {
    let names = segments.names();
    let formatter = Formatter { options, log };
    let mut run = Run { formatter, out, decoder, watch, dumped: Dumped::default() };
    let faults_of = |segment: Option<usize>| -> Vec<&LogFault> {
        log.faults.iter().filter(|fault| fault.segment == segment).collect()
    };
    let mut whole = faults_of(None);
    watch.begin("dumping", log.len_bytes());
    for (at, name) in names.iter().enumerate() {
        let piece = segments.piece(at);
        let mut faults = faults_of(Some(at));
        faults.sort_by_key(|fault| fault.offset);
        let mut faults = whole.drain(..).chain(faults).peekable();
        let place = Place { at, name: &name.name };
        let mut batches = Vec::new();
        let mut batch = Batch::default();
        for item in scan(&piece.bytes) {
            let offset = offset_of(&item);
            let mut here = Vec::new();
            while let Some(fault) = faults.next_if(|fault| fault.offset.is_none_or(|at| at <= offset)) {
                here.push(fault);
            }
            batch.bytes = batch.bytes.saturating_add(len_of(&item));
            batch.work.push(Work { item: Some(item), faults: here });
            if batch.bytes >= BATCH_BYTES || batch.work.len() >= BATCH_ITEMS {
                batches.push(std::mem::take(&mut batch));
                if batches.len() >= BATCHES_PER_THREAD * rayon::current_num_threads() {
                    run.write(place, &mut batches)?;
                }
            }
        }
        batch.work.push(Work { item: None, faults: faults.collect() });
        batches.push(batch);
        run.write(place, &mut batches)?;
    }
    if names.is_empty() {
        let mut batches = vec![Batch { work: vec![Work { item: None, faults: whole }], bytes: 0 }];
        run.write(Place { at: 0, name: "" }, &mut batches)?;
    }
    if log.more_faults > 0 {
        let line = run.formatter.more_faults(log.more_faults);
        run.out.write_all(&line).map_err(DumpError::Write)?;
    }
    Ok(run.dumped)
}

struct Run<'r> {
    formatter: Formatter<'r>,
    out: &'r mut dyn Write,
    decoder: Option<&'r mut (dyn StreamDecoder + 'static)>,
    watch: &'r dyn Watch,
    dumped: Dumped,
}

impl Run<'_> {
    fn write(&mut self, place: Place<'_>, batches: &mut Vec<Batch<'_>>) -> Result<(), DumpError> {
        if self.watch.interrupted() {
            return Err(DumpError::Interrupted);
        }
        let formatter = &self.formatter;
        let printed: Vec<Printed<'_>> = batches
            .par_iter()
            .map(|batch| {
                let mut printed = Printed::default();
                for work in &batch.work {
                    for fault in &work.faults {
                        formatter.fault(place, fault, &mut printed);
                    }
                    if let Some(item) = &work.item {
                        formatter.item(place, item, &mut printed);
                    }
                }
                printed
            })
            .collect();
        for printed in printed {
            self.dumped.entries += printed.entries;
            self.dumped.faults += printed.faults;
            match &mut self.decoder {
                None => self.out.write_all(&printed.text),
                Some(decoder) => {
                    let (text, withheld) = formatter.with_answers(&printed, &mut **decoder)?;
                    self.dumped.withheld += withheld;
                    self.out.write_all(&text)
                }
            }
            .map_err(DumpError::Write)?;
        }
        let bytes: usize = batches.iter().map(|batch| batch.bytes).sum();
        self.watch.advance(u64::try_from(bytes).unwrap_or(u64::MAX));
        batches.clear();
        Ok(())
    }
}

/// Whether a fault says nothing when only one segment of a log was given.
const fn is_about_the_whole(fault: &LogFault) -> bool {
    matches!(
        fault.kind,
        LogFaultKind::NoMetadata
            | LogFaultKind::SequenceGap { .. }
            | LogFaultKind::Chain { .. }
            | LogFaultKind::CommitBeyond { .. }
            | LogFaultKind::SnapshotBeyondCommit { .. }
    )
}

/// Where an item begins.
fn offset_of(item: &Item<'_>) -> u64 {
    match item {
        Item::Record(found) => found.record.offset,
        Item::Fault(broken) => broken.fault.offset,
        Item::Skipped(skipped) => skipped.offset,
    }
}

/// Bytes to format.
fn len_of(item: &Item<'_>) -> usize {
    match item {
        Item::Record(found) => found.record.raw.len(),
        Item::Fault(broken) => broken.record.map_or(0, |record| record.raw.len()),
        Item::Skipped(_) => 0,
    }
}
