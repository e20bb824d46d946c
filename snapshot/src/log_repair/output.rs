//! Writing the mended copy: the log, and around it the db and the `.snap` files.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bbolt::{Io, Lock, Source, Watch};
use wal::SEGMENT_SIZE_BYTES;
use wal::repair::{Facts, Plan, WriteError};

use super::new_snap::NewSnap;
use super::{Member, RepairError, RepairOptions, RepairReport};
use crate::copy;
use crate::log_files::{self, LogFiles, LogOptions, progress};
use crate::overlay::Overlay;
use crate::replicate::{ReplicateError, replicate};
use crate::snap_files::{SnapFile, SnapKind};
use crate::stage::{self, FILE_MODE, Kind, Remains, SNAP_MODE, Stage};

const SNAP_DIR: &str = "member/snap";
const WAL_DIR: &str = "member/wal";

/// Writes what `report` plans to `output`, and reads it back.
#[expect(clippy::too_many_arguments, reason = "all parts of one member")]
pub(super) fn write(
    output: &Path,
    files: &LogFiles,
    member: Option<&Member>,
    facts: &Facts,
    snap: Option<&NewSnap>,
    report: &mut RepairReport,
    options: &RepairOptions,
    watch: &dyn Watch,
) -> Result<(), RepairError> {
    stage::ensure_owner(options.owner)?;
    let remains = if options.clean { Remains::find(output, None)? } else { Remains::default() };
    stage::examine_without(output, Kind::Dir, &remains)?;
    if options.clean && !options.dry_run {
        report.cleaned = stage::clean(output, None)?;
    }
    report.leftovers = stage::abandoned(output)?;
    let db_bytes = member.map_or(0, |member| member.input.source().len_bytes());
    let snaps = kept_snaps(files.snaps(), &report.newer_snaps);
    let snap_bytes: u64 =
        snaps.iter().filter_map(|snap| snap.path().metadata().ok()).map(|meta| meta.len()).sum();
    let log_bytes = report.plan.source_bytes.saturating_add(SEGMENT_SIZE_BYTES);
    copy::ensure_space(output, db_bytes.saturating_add(snap_bytes).saturating_add(log_bytes))?;
    if options.dry_run {
        return Ok(());
    }
    let stage = Stage::new(output, Kind::Dir)?;
    let wal_dir = if member.is_some() { PathBuf::from(WAL_DIR) } else { PathBuf::new() };
    watch.begin("writing", 2 * db_bytes + 2 * report.plan.source_bytes);
    if let Some(member) = member {
        stage.create_dir_all(SNAP_DIR)?;
        stage.create_dir_all(WAL_DIR)?;
        copy_db(&stage, member, watch)?;
        for snap in &snaps {
            copy_snap(&stage, snap)?;
        }
        if let Some((snap, bytes)) = snap.and_then(|snap| Some((snap, snap.bytes.as_ref()?))) {
            write_file(&stage, &Path::new(SNAP_DIR).join(&snap.name), bytes)?;
        }
    }
    let crc = write_log(&stage, &wal_dir, files, &report.plan, snap, watch)?;
    read_back(&stage.path().join(&wal_dir), &report.plan, facts, crc, watch)?;
    if let Some(member) = member {
        member.input.ensure_not_written_to().map_err(|source| RepairError::Changed {
            path: member.input.path().display().to_string(),
            source,
        })?;
    }
    files.ensure_unchanged()?;
    if watch.interrupted() {
        return Err(RepairError::Interrupted);
    }
    match member {
        Some(_) => stage.commit_with_log(&wal_dir, options.owner)?,
        None => stage.commit(options.owner)?,
    }
    report.written = true;
    Ok(())
}

/// The files of the snap directory that a server reads.
fn kept_snaps<'s>(snaps: &'s [SnapFile], newer: &[String]) -> Vec<&'s SnapFile> {
    snaps
        .iter()
        .filter(|snap| match snap.kind() {
            SnapKind::Snap { .. } => snap.facts().is_ok() && !newer.iter().any(|name| name == snap.name()),
            SnapKind::Database { .. } => true,
            _ => false,
        })
        .collect()
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RepairError + '_ {
    move |source| RepairError::Io { path: path.to_owned(), source }
}

fn copy_db(stage: &Stage, member: &Member, watch: &dyn Watch) -> Result<(), RepairError> {
    let name = Path::new(SNAP_DIR).join("db");
    let file = stage.create_file(&name, FILE_MODE)?;
    let path = stage.path().join(name);
    let source = member.input.source();
    let image = Overlay::new(source, source.len_bytes(), std::iter::empty());
    replicate(&image, 0, source.file(), &[(&file, &path)], watch).map_err(|source| match source {
        ReplicateError::Interrupted => RepairError::Interrupted,
        source => RepairError::Copy { path, source },
    })?;
    Ok(())
}

fn copy_snap(stage: &Stage, snap: &SnapFile) -> Result<(), RepairError> {
    let name = Path::new(SNAP_DIR).join(snap.name());
    let mut from = File::open(snap.path()).map_err(io_error(snap.path()))?;
    let mode = if matches!(snap.kind(), SnapKind::Database { .. }) { FILE_MODE } else { SNAP_MODE };
    let mut file = stage.create_file(&name, mode)?;
    let path = stage.path().join(&name);
    io::copy(&mut from, &mut file).and_then(|_| copy::sync_and_drop_cache(&file)).map_err(io_error(&path))
}

fn write_file(stage: &Stage, name: &Path, bytes: &[u8]) -> Result<(), RepairError> {
    let mut file = stage.create_file(name, SNAP_MODE)?;
    let path = stage.path().join(name);
    file.write_all(bytes).and_then(|()| copy::sync_and_drop_cache(&file)).map_err(io_error(&path))?;
    let read = fs::read(&path).map_err(io_error(&path))?;
    if read == bytes && wal::decode_snap(&read).is_ok() { Ok(()) } else { Err(RepairError::ReadBack(path)) }
}

fn write_log(
    stage: &Stage,
    wal_dir: &Path,
    files: &LogFiles,
    plan: &Plan,
    snap: Option<&NewSnap>,
    watch: &dyn Watch,
) -> Result<u32, RepairError> {
    let refused = RefCell::new(None);
    let make = |name: &str| {
        stage.create_file(wal_dir.join(name), FILE_MODE).map(BufWriter::new).map_err(|error| {
            let text = error.to_string();
            *refused.borrow_mut() = Some(error);
            io::Error::other(text)
        })
    };
    let finish = |out: BufWriter<File>, len_bytes: Option<u64>| {
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        if let Some(len_bytes) = len_bytes {
            copy::preallocate(&file, len_bytes)?;
        }
        copy::sync_and_drop_cache(&file)
    };
    let conf_state = snap.map(|snap| &snap.conf_state);
    let written = wal::repair::write(plan, files, conf_state, make, finish, &progress(watch));
    if let Some(error) = refused.into_inner() {
        return Err(error.into());
    }
    written.map_err(|source| match source {
        WriteError::Interrupted => RepairError::Interrupted,
        source => RepairError::Write { path: stage.final_path().to_owned(), source },
    })
}

/// Reads the log back from the disk: it is sound, by two readers, and says what was planned.
fn read_back(
    wal_dir: &Path,
    plan: &Plan,
    facts: &Facts,
    crc: u32,
    watch: &dyn Watch,
) -> Result<(), RepairError> {
    let options = LogOptions { io: Io::Mmap, lock: Lock::None, wal_dir: None };
    let written = log_files::open(wal_dir, &options, watch)?;
    wal::repair::verify(plan, facts, crc, &written, &progress(watch)).map_err(|source| match source {
        wal::repair::Unlike::Unreadable(wal::repair::PlanError::Interrupted) => RepairError::Interrupted,
        source => RepairError::Unlike { path: wal_dir.to_owned(), source },
    })?;
    let log = wal::log::read(&written, &|_| std::ops::ControlFlow::Continue(()))
        .map_err(|_| RepairError::Interrupted)?;
    let ends_well = log.server_end.is_some_and(|end| end.kind == wal::log::ServerEndKind::Clean);
    if ends_well { Ok(()) } else { Err(RepairError::ReadBack(wal_dir.to_owned())) }
}
