//! Writing the backup, and reading it back.

use std::fs::{self, File};
use std::io::{BufWriter, IntoInnerError, Write};
use std::path::{Path, PathBuf};

use bbolt::{Db, Io, Lock, Patch, Source, Watch};
use wal::log::ServerEndKind;
use wal::raftpb::{Entry, Metadata, walpb};
use wal::{EntryRef, LogWriter, SEGMENT_SIZE_BYTES, Saved};

use super::translate::{Fate, NoRequest, fate};
use super::{Account, BackupError, BackupOptions, Plan, database};
use crate::copy;
use crate::edited::{check_patched, patched};
use crate::facts::{Facts, LogFacts};
use crate::log_files::{self, LogOptions, progress};
use crate::opened::Opened;
use crate::replay::range::{EachError, Stretch, each};
use crate::replicate::replicate;
use crate::save::{SaveError, not_written};
use crate::stage::{self, FILE_MODE, Kind, SNAP_MODE, Stage};

const SNAP_DIR: &str = "member/snap";
const DB: &str = "member/snap/db";
/// Records are handed to the file when so many bytes of them are gathered.
const GATHERED_BYTES: u64 = 1 << 20;

/// The database to write.
enum Image<'a> {
    /// That of the member, with other pages in places.
    Patched(&'a Opened, Patch),
    /// A small one of its own.
    Whole(Vec<u8>),
}

impl<'a> Image<'a> {
    fn of(
        facts: &'a Facts,
        plan: &'a Plan,
        options: &BackupOptions,
        watch: &dyn Watch,
    ) -> Result<Self, BackupError> {
        if !options.with_v3 {
            return Ok(Self::Whole(database::empty(plan)?));
        }
        let own = facts
            .database
            .as_ref()
            .and_then(|database| database.as_ref().ok())
            .map(|database| &database.input);
        let Some(input) = plan.waiting.as_ref().or(own) else {
            return Err(BackupError::NoMember {
                path: facts.path.display().to_string(),
                what: "has no database",
            });
        };
        let path = || input.path().display().to_string();
        let db = input.db().map_err(|source| SaveError::Db { path: path(), source })?;
        let patch = database::without_cluster(&db, plan)
            .map_err(|source| BackupError::Graft { path: path(), source })?;
        check_patched(input, &patch, watch)?;
        Ok(Self::Patched(input, patch))
    }

    fn len_bytes(&self) -> u64 {
        match self {
            Self::Patched(_, patch) => patch.len_bytes(),
            Self::Whole(image) => image.len() as u64,
        }
    }

    fn ensure_unchanged(&self) -> Result<(), SaveError> {
        let Self::Patched(input, _) = self else { return Ok(()) };
        input
            .ensure_not_written_to()
            .map_err(|source| SaveError::Changed { path: input.path().display().to_string(), source })
    }
}

/// Writes the backup; in a dry run does all but that. Returns what became of the entries.
pub(super) fn write(
    facts: &Facts,
    log: &LogFacts,
    plan: &Plan,
    options: &BackupOptions,
    watch: &dyn Watch,
) -> Result<Account, BackupError> {
    let image = Image::of(facts, plan, options, watch)?;
    let wal_dir = options.output_wal_dir.as_deref();
    let below = stage::log_below(&options.output, wal_dir)?;
    let apart = wal_dir.filter(|_| below.is_none());
    let snap = plan.snap.as_ref().map_or(0, |snap| snap.bytes.len() as u64);
    let log_bytes = log.files.len_bytes().saturating_add(SEGMENT_SIZE_BYTES);
    copy::ensure_space_for_member(&options.output, image.len_bytes().saturating_add(snap), apart, log_bytes)
        .map_err(SaveError::from)?;
    let job = Job { log, plan, with_v3: options.with_v3, watch };
    if options.dry_run {
        return job.each(|_, _| Ok(()));
    }
    let data = Stage::new(&options.output, Kind::Dir)?;
    let apart = apart.map(|wal_dir| Stage::new(wal_dir, Kind::Dir)).transpose()?;
    data.create_dir_all(SNAP_DIR)?;
    job.write_database(&data, &image)?;
    if let Some(snap) = &plan.snap {
        write_small(&data, &Path::new(SNAP_DIR).join(&snap.name), &snap.bytes, SNAP_MODE)?;
    }
    let place = below.unwrap_or_default();
    let of_log = apart.as_ref().unwrap_or(&data);
    of_log.create_dir_all(&place)?;
    let (account, crc) = job.write_log(of_log, &place)?;
    job.read_back(&data, &of_log.path().join(&place), crc)?;
    image.ensure_unchanged()?;
    log.files.ensure_unchanged()?;
    if watch.interrupted() {
        return Err(SaveError::Interrupted.into());
    }
    match apart {
        Some(apart) => stage::commit_pair(data, apart, options.owner)?,
        None => data.commit_with_log(&place, options.owner)?,
    }
    Ok(account)
}

/// Writes a file that is in memory, and reads it back.
fn write_small(stage: &Stage, name: &Path, bytes: &[u8], mode: u32) -> Result<(), SaveError> {
    let mut file = stage.create_file(name, mode)?;
    let path = stage.path().join(name);
    let failed = |source| SaveError::Io { path: path.clone(), source };
    file.write_all(bytes).and_then(|()| copy::sync_and_drop_cache(&file)).map_err(failed)?;
    if fs::read(&path).map_err(failed)? == bytes { Ok(()) } else { Err(SaveError::ReadBack { path }) }
}

/// The segment that is being written.
struct Segment {
    out: BufWriter<File>,
    path: PathBuf,
}

impl Segment {
    fn create(stage: &Stage, place: &Path, name: &str) -> Result<Self, BackupError> {
        let name = place.join(name);
        Ok(Self { out: BufWriter::new(stage.create_file(&name, FILE_MODE)?), path: stage.path().join(name) })
    }

    /// Syncs it; a last one gets the zeros up to where a server preallocates.
    fn end(self, preallocated_bytes: Option<u64>) -> Result<(), BackupError> {
        let path = self.path;
        let failed = |source| SaveError::Io { path: path.clone(), source };
        let file = self.out.into_inner().map_err(IntoInnerError::into_error).map_err(failed)?;
        if let Some(len_bytes) = preallocated_bytes {
            copy::preallocate(&file, len_bytes).map_err(failed)?;
        }
        Ok(copy::sync_and_drop_cache(&file).map_err(failed)?)
    }
}

/// One backup under way.
struct Job<'a> {
    log: &'a LogFacts,
    plan: &'a Plan,
    with_v3: bool,
    watch: &'a dyn Watch,
}

impl Job<'_> {
    /// Shows `visit` every entry and what becomes of it.
    fn each(
        &self,
        mut visit: impl FnMut(&EntryRef<'_>, Fate) -> Result<(), BackupError>,
    ) -> Result<Account, BackupError> {
        let (files, log) = (&self.log.files, &self.log.report.log);
        let entries = self.plan.entries();
        let mut account = Account::default();
        if entries.is_empty() {
            return Ok(account);
        }
        self.watch.begin("copying the log", files.len_bytes());
        let stretch = Stretch { files, log, entries: entries.clone() };
        let visited = each(entries, &[stretch], |entry| {
            if self.watch.interrupted() {
                return Err(BackupError::from(SaveError::Interrupted));
            }
            self.watch.advance(entry.data.len() as u64);
            let fate = fate(entry, self.with_v3).map_err(|no_request: NoRequest| BackupError::BrokenLog {
                path: files.path().display().to_string(),
                what: no_request.to_string(),
            })?;
            account.count(fate);
            visit(entry, fate)
        });
        match visited {
            Ok(()) => Ok(account),
            Err(EachError::Visit(error)) => Err(error),
            Err(EachError::Range(error)) => Err(error.into()),
        }
    }

    fn write_database(&self, stage: &Stage, image: &Image<'_>) -> Result<(), SaveError> {
        match image {
            Image::Whole(bytes) => write_small(stage, Path::new(DB), bytes, FILE_MODE),
            Image::Patched(input, patch) => {
                let file = stage.create_file(DB, FILE_MODE)?;
                let path = stage.path().join(DB);
                let image = patched(input, patch);
                self.watch.begin("copying the database", image.len_bytes().saturating_mul(2));
                replicate(&image, 0, input.source().file(), &[(&file, &path)], self.watch)
                    .map_err(|error| not_written(error, input, &path))?;
                Ok(())
            }
        }
    }

    /// Writes the log anew: entries under their own indexes and terms, then the hard state, then a record of the snapshot. Returns the
    /// checksum behind the last record too.
    fn write_log(&self, stage: &Stage, place: &Path) -> Result<(Account, u32), BackupError> {
        let identity = &self.plan.identity;
        let mut writer = LogWriter::new(Metadata {
            node_id: Some(identity.node_id),
            cluster_id: Some(identity.cluster_id),
        });
        let mut segment = Some(Segment::create(stage, place, &writer.segment_name())?);
        let mut gathered = 0_u64;
        // What a server does when it goes on behind a full segment.
        let cut = |writer: &mut LogWriter, segment: &mut Option<Segment>| -> Result<(), BackupError> {
            if let Some(mut full) = segment.take() {
                writer
                    .cut(&mut full.out)
                    .map_err(|source| SaveError::Io { path: full.path.clone(), source })?;
                full.end(None)?;
            }
            *segment = Some(Segment::create(stage, place, &writer.segment_name())?);
            Ok(())
        };
        let account = self.each(|entry, fate| {
            let data = encoded(entry, matches!(fate, Fate::Emptied(_)));
            gathered = gathered.saturating_add(data.len() as u64);
            if writer.save([data.as_slice()], None)? == Saved::CutDue {
                gathered = 0;
                return cut(&mut writer, &mut segment);
            }
            if gathered >= GATHERED_BYTES
                && let Some(segment) = &mut segment
            {
                gathered = 0;
                let path = &segment.path;
                writer
                    .flush(&mut segment.out)
                    .map_err(|source| SaveError::Io { path: path.clone(), source })?;
            }
            Ok(())
        })?;
        if let Some(state) = &self.plan.state {
            let state = prost::Message::encode_to_vec(state);
            if writer.save(std::iter::empty(), Some(&state))? == Saved::CutDue {
                cut(&mut writer, &mut segment)?;
            }
        }
        let start = self.plan.start;
        writer.push_snapshot(&walpb::Snapshot {
            index: Some(start.index),
            term: Some(start.term),
            conf_state: self.plan.conf_state(),
        });
        let crc = writer.crc();
        if let Some(mut segment) = segment {
            let path = segment.path.clone();
            writer.flush(&mut segment.out).map_err(|source| SaveError::Io { path, source })?;
            segment.end(Some(writer.segment_bytes().max(SEGMENT_SIZE_BYTES)))?;
        }
        Ok((account, crc))
    }

    /// Reads the backup from the disk, as a server would: all of its log, its `.snap`, and the metas of its database.
    fn read_back(&self, data: &Stage, wal_dir: &Path, crc: u32) -> Result<(), BackupError> {
        let plan = self.plan;
        let differs = |what: String| BackupError::ReadBack { path: wal_dir.display().to_string(), what };
        let options = LogOptions { io: Io::Mmap, lock: Lock::None, wal_dir: Some(wal_dir.to_owned()) };
        let files = log_files::open(data.path(), &options, self.watch)?;
        self.watch.begin("reading back", files.len_bytes());
        let log = wal::log::read(&files, &progress(self.watch)).map_err(|_| SaveError::Interrupted)?;
        if log.server_end.is_none_or(|end| end.kind != ServerEndKind::Clean) {
            return Err(differs("it breaks".to_owned()));
        }
        let found = log.segments.last().map(|segment| segment.end_crc);
        if found != Some(crc) {
            return Err(differs(format!("its checksum is {found:x?} instead of {crc:x}")));
        }
        let ids = log.metadata.map(|metadata| (metadata.node_id(), metadata.cluster_id()));
        if ids != Some((plan.identity.node_id, plan.identity.cluster_id)) {
            return Err(differs(format!("it is that of {ids:x?}")));
        }
        let state = log.server_hard_state.as_ref().map(|state| state.value);
        let first = log.first_index();
        let last = log.last_index().unwrap_or_default().max(plan.start.index);
        let wanted = Some(plan.start.index.saturating_add(1)).filter(|_| !plan.entries().is_empty());
        if state != plan.state || last != plan.last || first != wanted {
            return Err(differs(format!(
                "it has entries {first:?} to {last} and {state:?} instead of {wanted:?} to {} and {:?}",
                plan.last, plan.state
            )));
        }
        let record = log.snapshots.last().map(|record| (record.value.index(), record.value.term()));
        if record != Some((plan.start.index, plan.start.term)) {
            return Err(differs(format!("it begins behind {record:?} instead of {:?}", plan.start)));
        }
        if let Some(snap) = &plan.snap {
            let found = files.snaps().iter().find(|file| file.name() == snap.name);
            if !found.is_some_and(|file| file.facts().is_ok_and(|facts| facts.index == plan.start.index)) {
                return Err(differs(format!("{} cannot be read", snap.name)));
            }
        }
        let db = data.path().join(DB);
        let failed = |source| SaveError::Io { path: db.clone(), source };
        let source =
            File::open(&db).and_then(|file| bbolt::FileSource::new(file, &db, Io::Mmap)).map_err(failed)?;
        let index = Db::from_source(source)
            .map_err(|error| error.to_string())
            .and_then(|db| crate::schema::Schema::read(&db).map_err(|fault| fault.to_string()))
            .map_err(differs)?
            .consistent_index;
        if index != plan.consistent_index {
            return Err(differs(format!("consistent index {index} instead of {}", plan.consistent_index)));
        }
        Ok(())
    }
}

/// An entry as servers up to 3.6 write it, which the original does with each too.
fn encoded(entry: &EntryRef<'_>, is_emptied: bool) -> Vec<u8> {
    let (entry_type, data) = if is_emptied { (0, &[][..]) } else { (entry.entry_type, entry.data) };
    let entry = Entry {
        entry_type: Some(entry_type),
        term: Some(entry.term),
        index: Some(entry.index),
        data: (!data.is_empty()).then(|| data.to_vec()),
    };
    prost::Message::encode_to_vec(&entry)
}
