//! What a state of the disk means to whoever starts etcd on it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use super::cuts::member;
use super::jobs::{Boot, Job};
use super::model::{Found, Ino, State, What};

/// How the name of everything unfinished ends.
pub(crate) const PARTIAL: &str = ".etcd-rescue-partial";
/// Where the link points that takes the db's place while data dir and log are given their names.
const LINK_DIR: &str = "unfinished.etcd-rescue-partial/";

/// What is under the final names of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Absent,
    /// All, as in the run that was not cut.
    Complete,
    /// Something else: a link to nowhere in place of the db, where etcd cannot open or make one, must stop it.
    Barred,
}

/// True for what says by its name that it is unfinished.
fn is_partial(path: &str) -> bool {
    path.split('/').any(|name| name.ends_with(PARTIAL))
}

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Everything under the final names of an output, whose top directories or files are `tops`.
fn held<'s>(state: &'s State, tops: &[&str], job: &Job) -> BTreeMap<&'s str, (&'s What, u32)> {
    let places = job.places();
    let all = state.found.iter().filter(|(path, _)| !is_partial(path) && !places.contains(&path.as_str()));
    let ours = all.filter(|(path, _)| tops.iter().any(|top| is_below(path, top)));
    ours.map(|(path, found)| (path.as_str(), (&found.what, found.mode))).collect()
}

/// The top directories of what a server is pointed at.
pub(crate) fn tops(boot: &Boot) -> Vec<&'static str> {
    let apart = boot.wal_dir.filter(|wal| !is_below(wal, boot.data_dir));
    std::iter::once(boot.data_dir).chain(apart).collect()
}

/// The outputs of a job that stand or fall each by itself.
pub(crate) fn outputs(job: &Job) -> Vec<Vec<&'static str>> {
    if job.boots.is_empty() {
        return job.made.iter().map(|made| vec![*made]).collect();
    }
    job.boots.iter().map(tops).collect()
}

/// What `state` holds of each output of `job`, whose uncut run left `whole`.
///
/// # Errors
/// What is under a final name and is neither complete nor barred, or under a name that nobody knows.
pub(crate) fn judge(job: &Job, state: &State, whole: &State) -> Result<Vec<Verdict>, String> {
    let outputs = outputs(job);
    for (path, found) in &state.found {
        let is_known = is_partial(path) || outputs.iter().flatten().any(|top| is_below(path, top));
        // Directories above an output may have been made for it.
        let is_above = found.what == What::Dir && outputs.iter().flatten().any(|top| is_below(top, path));
        if !is_known && !is_above {
            return Err(format!("{path}: whose is this? {}", state.story));
        }
    }
    outputs.iter().map(|tops| judge_output(job, tops, state, whole)).collect()
}

fn judge_output(job: &Job, tops: &[&str], state: &State, whole: &State) -> Result<Verdict, String> {
    if job.in_place {
        return judge_in_place(job, tops, state, whole);
    }
    let (found, expected) = (held(state, tops, job), held(whole, tops, job));
    if found.is_empty() {
        return Ok(Verdict::Absent);
    }
    if found == expected {
        return Ok(Verdict::Complete);
    }
    let db = format!("{}/member/snap/db", tops[0]);
    let is_barred = job.boots.iter().any(|boot| boot.data_dir == tops[0])
        && matches!(state.found.get(&db), Some(Found { what: What::Link(to), .. }) if to.starts_with(LINK_DIR));
    if is_barred {
        return Ok(Verdict::Barred);
    }
    let differs = expected.iter().find(|(path, what)| found.get(*path) != Some(what)).map(|(path, _)| *path);
    Err(format!(
        "{tops:?} are neither absent nor complete (for one: {differs:?}), {}: {found:#?}",
        state.story
    ))
}

/// How a copy of the old db is called.
const ORIGINAL: &str = "m1/member/snap/db.original";

/// The same of a db that is replaced: the member is as it was before, which counts as absent, or as the uncut run left it;
/// nothing in between. A copy of the old db is the old db.
fn judge_in_place(job: &Job, tops: &[&str], state: &State, whole: &State) -> Result<Verdict, String> {
    let (before, mut found) = (held(member(), tops, job), held(state, tops, job));
    let mut expected = held(whole, tops, job);
    let old = before.get("m1/member/snap/db").ok_or("there was no db")?;
    let is_kept = found.keys().any(|path| path.starts_with(ORIGINAL));
    if let Some((path, _)) = found.iter().find(|(path, what)| path.starts_with(ORIGINAL) && *what != old) {
        return Err(format!("{path} is not the old db, {}", state.story));
    }
    found.retain(|path, _| !path.starts_with(ORIGINAL));
    expected.retain(|path, _| !path.starts_with(ORIGINAL));
    if found == before {
        return Ok(Verdict::Absent);
    }
    if found == expected && is_kept == job.line.contains("--keep-original") {
        return Ok(Verdict::Complete);
    }
    let differs = expected.iter().find(|(path, what)| found.get(*path) != Some(what)).map(|(path, _)| *path);
    Err(format!("the member is neither the old nor the new one (for one: {differs:?}), {}", state.story))
}

/// Puts `state` into the directory `at`, which is empty. `inodes` are the devices and inodes that the recorded run saw:
/// the link in place of a db names one, which is another here.
pub(crate) fn materialise(state: &State, at: &Path, inodes: &BTreeMap<Ino, (u64, u64)>) {
    let mut here = BTreeMap::new();
    let by_kind = |kind: fn(&What) -> bool| state.found.iter().filter(move |(_, found)| kind(&found.what));
    for (path, found) in by_kind(|what| *what == What::Dir) {
        DirBuilder::new().mode(found.mode | 0o700).create(at.join(path)).unwrap();
    }
    for (path, found) in by_kind(|what| matches!(what, What::File(_))) {
        let path = at.join(path);
        let What::File(content) = &found.what else { continue };
        if let Some(first) = here.get(&found.ino) {
            fs::hard_link(first, &path).unwrap();
            continue;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.set_len(content.len_bytes()).unwrap();
        for (offset, bytes) in content.pages() {
            let room = usize::try_from(content.len_bytes() - offset).unwrap();
            file.write_all_at(&bytes[..bytes.len().min(room)], offset).unwrap();
        }
        file.set_permissions(Permissions::from_mode(found.mode)).unwrap();
        here.insert(found.ino, path);
    }
    for (path, found) in by_kind(|what| matches!(what, What::Link(_))) {
        let What::Link(target) = &found.what else { continue };
        let mut target = target.clone();
        for (ino, (dev, real)) in inodes {
            if let (true, Some(here)) = (target.ends_with(&format!("wal-{dev}-{real}")), here.get(ino)) {
                let meta = fs::metadata(here).unwrap();
                target = format!("{LINK_DIR}wal-{}-{}", meta.dev(), meta.ino());
                break;
            }
        }
        symlink(target, at.join(path)).unwrap();
    }
}
