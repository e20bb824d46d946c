//! bbolt files, and what a snapshot of etcd makes of them.

use std::collections::BTreeMap;

use bbolt::check::Severity;
use bbolt::graft::Graft;
use bbolt::meta::{META_BYTES, META_PAGE_BYTES, fnv1a};
use bbolt::page::HEADER_BYTES;
use bbolt::{Db, Fault, Source, check};
use sha2::{Digest, Sha256};
use snapshot::integrity::{self, Integrity};
use snapshot::membership::InitialCluster;
use snapshot::mvcc::{KeyValue, Release, Revision, Store};
use snapshot::new_cluster::Bump;
use snapshot::plan::Plan;
use snapshot::restore::{Output, RestoreError, RestoreOptions};
use snapshot::schema::{KEY, Schema};
use snapshot::status::{StatusOptions, of_source};
use snapshot::target::TargetVersion;

/// Opens, checks and walks a file every way there is.
pub(crate) fn walk(bytes: &[u8]) {
    read(bytes);
    read(&repair_metas(bytes));
}

fn read(bytes: &[u8]) {
    let Ok(db) = Db::from_source(bytes) else { return };
    let report = check(&db, &());
    for finding in &report.findings {
        assert!(finding.fault.code().starts_with("BBOLT-"));
        assert!(!finding.fault.to_string().is_empty());
    }
    let sound = report.findings.iter().all(|finding| finding.severity != Severity::Error);
    let walked = walk_all(&db);
    assert!(!sound || walked.is_ok(), "check is content with a file that cannot be walked: {walked:?}");
    let _ = db.freelist();
    let _ = Schema::read(&db);
    for id in 0..db.page_count() {
        let _ = db.node(bbolt::PageId(id));
    }
}

/// Every top-level bucket forward, backward, by leaf ranges and by seeking each key.
fn walk_all<S: Source>(db: &Db<S>) -> Result<(), Fault> {
    let mut names = db.root().cursor();
    while names.next()?.is_some() {
        let Some(bucket) = names.bucket()? else { continue };
        let mut forward = Vec::new();
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next()? {
            forward.push((item.key.to_vec(), item.value.len()));
        }
        let mut backward = Vec::new();
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.prev()? {
            backward.push((item.key.to_vec(), item.value.len()));
        }
        backward.reverse();
        assert_eq!(forward, backward, "one bucket in two directions");
        let mut ranged = Vec::new();
        for range in bucket.leaf_ranges(3)? {
            for node in range.nodes() {
                let node = node?;
                ranged.extend((0..node.count()).map(|i| (node.key(i).to_vec(), node.value(i).len())));
            }
        }
        assert_eq!(forward, ranged, "one bucket by cursor and by leaf ranges");
    }
    Ok(())
}

/// `snapshot status` of a file, as it is and with its checksums set right.
pub(crate) fn status(bytes: &[u8]) {
    let _ = of_source(&bytes, "input", &StatusOptions::default(), &());
    let repaired = repair_trailer(&repair_metas(bytes));
    if let Ok(report) = of_source(&repaired, "input", &StatusOptions::default(), &()) {
        assert_eq!(report.verdict.integrity, Integrity::Verified);
        assert!(report.status.is_some() || !report.findings.is_empty(), "no status, and no word why");
    }
}

/// `snapshot restore` of a file up to the point of writing: the first byte chooses the options. Whatever passes must be
/// sound after the edit, and hold the keys it held before.
pub(crate) fn restore(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let repaired = repair_trailer(&repair_metas(bytes));
    let members = ["a=http://1:1", "a=http://1:1,b=http://1:2,c=http://1:3"][usize::from(choice & 1)];
    let Ok(members) = InitialCluster::parse(members).and_then(|cluster| cluster.members("token")) else {
        return;
    };
    let halfway = choice & 16 != 0;
    let at_revision = if halfway { revision_halfway(&repaired) } else { None };
    let bump_revision = match (choice & 4 != 0, halfway) {
        (false, _) => None,
        (true, false) => Some(Bump::By(1 << 40)),
        (true, true) => Some(Bump::Beyond { seen: 1 << 40 }),
    };
    let options = RestoreOptions {
        initial_cluster: String::new(),
        token: "token".to_owned(),
        output: Output::AllMembers { dir: "/nowhere".into() },
        skip_hash_check: choice & 2 != 0,
        at_revision,
        bump_revision,
        target: TargetVersion::ALL.get(usize::from(choice >> 5)).copied(),
        keep_alarms: choice & 8 != 0,
        owner: None,
        dry_run: true,
        clean: false,
    };
    let plan = match Plan::new(&repaired, "input", members, &options, &()) {
        Ok((plan, _)) => plan,
        Err(error) => {
            assert!(!matches!(error, RestoreError::Edited { .. }));
            return;
        }
    };
    let edited = plan.edited(&repaired);
    if let Err(error) = plan.verify(&edited, "input", &()) {
        panic!("an edited db is not sound: {error}");
    }
    let options = StatusOptions { skip_hash_check: true };
    let (before, after) = (
        of_source(&repaired, "input", &options, &()).ok().and_then(|report| report.status),
        of_source(&edited, "input", &options, &()).ok().and_then(|report| report.status),
    );
    if let (Some(before), Some(after)) = (before, after) {
        let left = at_revision.unwrap_or(i64::MAX);
        match plan.backend.bumped_to {
            Some(raised) => assert_eq!(raised, after.revision),
            None => assert!(after.revision <= left.min(before.revision)),
        }
        // A raised revision is a record of its own, under the empty key.
        let raised = u64::from(plan.backend.bumped_to.is_some());
        let keys = at_revision.map_or(Some(before.total_key), |revision| live_keys(&repaired, revision));
        assert!(keys.is_none_or(|keys| (keys..=keys + raised).contains(&after.total_key)));
        assert_eq!(before.version, after.version);
    }
}

/// A revision in the middle of those that the file keeps.
fn revision_halfway(file: &Vec<u8>) -> Option<i64> {
    let store = Store::read(&Db::from_source(file).ok()?, Release::default()).ok()?;
    Some(store.first_kept().midpoint(store.current_revision))
}

/// How many keys live at `revision`, by the plainest count there is; `None` when the file has something else than records.
fn live_keys(file: &Vec<u8>, revision: i64) -> Option<u64> {
    let db = Db::from_source(file).ok()?;
    let mut live: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
    let mut cursor = db.bucket(KEY).ok()??.cursor();
    while let Some(item) = cursor.next().ok()? {
        let at = Revision::parse(item.key)?;
        if at.main <= revision {
            live.insert(KeyValue::decode(item.value).ok()?.key.to_vec(), !at.tombstone);
        }
    }
    Some(live.values().filter(|live| **live).count() as u64)
}

/// Edits a file by graft: the input is a list of edits, a zero byte, and the file. What was sound stays sound and holds
/// what a map under the same edits holds.
pub(crate) fn graft(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (edits, rest) = bytes.split_at(end);
    let file = repair_metas(rest.get(1..).unwrap_or_default());
    edit(edits, &file);
}

/// Edits `file` and holds the result against a map under the same edits; `None` when the file is not sound to begin
/// with, or cannot be edited.
pub(crate) fn edit(edits: &[u8], file: &[u8]) -> Option<()> {
    let db = Db::from_source(file).ok()?;
    if check(&db, &()).findings.iter().any(|finding| finding.severity == Severity::Error) {
        return None;
    }
    let mut model = contents(&db).ok()?;
    let mut graft = Graft::new(&db);
    let mut edits = edits.iter().copied();
    while let (Some(kind), Some(size)) = (edits.next(), edits.next()) {
        let name = [b"key".as_slice(), b"meta", b"new", b"lease"][usize::from(kind >> 6)];
        let pair = |i: usize| (format!("{i:06}{size}").into_bytes(), vec![kind; i % 7 * usize::from(size)]);
        let pairs: BTreeMap<_, _> = (0..usize::from(size)).map(pair).collect();
        let held = model.get(name);
        match kind & 3 {
            0 => {
                if graft.replace_bucket(name, pairs.clone()).is_ok() {
                    model.insert(name.to_vec(), pairs);
                }
            }
            1 => {
                let last = held.and_then(|held| held.last_key_value()).map(|(key, _)| key.clone());
                let beyond = last.unwrap_or_default();
                let more: Vec<_> = pairs
                    .into_iter()
                    .map(|(key, value)| ([beyond.as_slice(), b"~", &key].concat(), value))
                    .collect();
                if graft.append(name, more.clone()).is_ok() {
                    model.entry(name.to_vec()).or_default().extend(more);
                }
            }
            2 => {
                let from = held.and_then(|held| held.keys().nth(usize::from(size))).cloned();
                if let Some(from) = from
                    && graft.cut(name, &from).is_ok()
                {
                    model.entry(name.to_vec()).or_default().split_off(&from);
                }
            }
            _ => {
                if graft.delete_bucket(name).is_ok() {
                    model.remove(name);
                }
            }
        }
    }
    let patch = graft.finish().ok()?;
    let mut edited = file.to_vec();
    patch.apply_to_vec(&mut edited);
    let Ok(db) = Db::from_source(&edited) else { panic!("the grafted file cannot be opened") };
    let report = check(&db, &());
    assert!(report.findings.is_empty(), "the grafted file is not sound: {:?}", report.findings.first());
    assert!(contents(&db).is_ok_and(|held| held == model), "the grafted file holds something else");
    Some(())
}

type Contents = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn contents<S: Source>(db: &Db<S>) -> Result<Contents, Fault> {
    let mut all = Contents::new();
    let mut names = db.root().cursor();
    while let Some(item) = names.next()? {
        let pairs = all.entry(item.key.to_vec()).or_default();
        let Some(bucket) = names.bucket()? else { continue };
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next()? {
            pairs.insert(item.key.to_vec(), item.value.to_vec());
        }
    }
    Ok(all)
}

/// Sets the checksum of the meta at the start, and of one at every place where a second may be.
pub(crate) fn repair_metas(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    for start in std::iter::once(0).chain((0..=14).map(|doubling| 1024usize << doubling)) {
        let Some(page) = file.get_mut(start..).filter(|page| page.len() as u64 >= META_PAGE_BYTES) else {
            break;
        };
        let Some(meta) = page.get_mut(HEADER_BYTES..HEADER_BYTES + META_BYTES) else { break };
        if meta.starts_with(&[0xED, 0xDA, 0x0C, 0xED]) {
            let (body, checksum) = meta.split_at_mut(META_BYTES - 8);
            checksum.copy_from_slice(&fnv1a(body).to_le_bytes());
        }
    }
    file
}

/// Gives the file the trailer it should have: in place of one it has, behind the last whole sector else.
fn repair_trailer(bytes: &[u8]) -> Vec<u8> {
    let (image, has_trailer) = integrity::image_bytes(bytes.len() as u64);
    let image = if has_trailer { image } else { image / 512 * 512 };
    let image = bytes.get(..usize::try_from(image).unwrap_or_default()).unwrap_or_default();
    [image, &Sha256::digest(image)].concat()
}
