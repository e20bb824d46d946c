//! Editing who belongs to a cluster, and where members live.

use std::fs;
use std::path::Path;

use bbolt::Db;
use bbolt::graft::Graft;
use snapshot::facts::{self, Facts, FactsOptions};
use snapshot::gourl::PeerUrls;
use snapshot::member_copy::{CopyOptions, MemberCopy, MemberCopyError, Publish};
use snapshot::member_edit::{Edit, Parts, Plan, Way};
use snapshot::members;
use snapshot::membership::{Member, hex_id};
use snapshot::save::SaveError;
use snapshot::schema::{CLUSTER, CLUSTER_VERSION};

use crate::compare::member;
use crate::wal::logs_of;

/// Where somebody is to be reached.
const URL: &str = "http://10.0.0.99:2380";

/// The edit of the first byte, of the member that is found at the place of the second one.
fn edit(what: u8, members: &[Member], at: u8) -> Option<Edit> {
    let who = || {
        let at = usize::from(at).checked_rem(members.len())?;
        members.get(at).map(|member| hex_id(member.id))
    };
    let peer_urls = || PeerUrls::from_list(URL).ok();
    Some(match what % 5 {
        0 | 1 => Edit::Update { who: who()?, peer_urls: peer_urls()? },
        2 => Edit::Add {
            name: "fuzzed".to_owned(),
            peer_urls: peer_urls()?,
            is_learner: what >= 128,
            id: None,
            now_seconds: 1,
        },
        3 => Edit::Remove { who: who()? },
        _ => Edit::Promote { who: who()? },
    })
}

/// Edits a member: of `bytes` what is done, to whom, and the entry to which the db has come, one byte each, then its log. What comes
/// of it says what was meant, for a reader of its own.
pub(crate) fn any(bytes: &[u8]) {
    let [what, at, consistent_index, log @ ..] = bytes else { return };
    for files in logs_of(log) {
        let Ok(dir) = tempfile::tempdir() else { return };
        let (input, output) = (dir.path().join("in"), dir.path().join("out"));
        if member(&input, *consistent_index, &files).is_err() {
            return;
        }
        if of_3_5(&input).is_none() {
            return;
        }
        let Some(facts) = gather(&input) else { continue };
        let Ok(before) = members::at(&facts, u64::MAX) else { continue };
        let known: Vec<Member> = before.members.into_values().collect();
        let Some(edit) = edit(*what, &known, *at) else { continue };
        let plan = match Plan::of(&facts, &edit, what % 5 == 1) {
            Ok(plan) => plan,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        let Parts { db, snap, appended } = &plan.parts;
        let copy =
            MemberCopy { facts: &facts, db: db.as_ref(), snap: snap.as_ref(), appended: Some(appended) };
        let publish = Publish::Copy { output: output.clone(), output_wal_dir: None };
        match copy.write(&CopyOptions { publish, ..CopyOptions::default() }, &FactsOptions::default(), &()) {
            Ok(_) => {}
            // No room here is nobody's fault.
            Err(MemberCopyError::Output(SaveError::Space(_) | SaveError::Io { .. })) => return,
            Err(error) => panic!("{plan:?}: {error}"),
        }
        let Some(edited) = gather(&output) else { panic!("{plan:?}: nothing is there") };
        let after = match members::at(&edited, u64::MAX) {
            Ok(after) => after,
            Err(error) => panic!("{plan:?}: {error}"),
        };
        for member in &plan.changed {
            let found = after.members.get(&member.id);
            let is_right = match edit {
                Edit::Remove { .. } => found.is_none() && after.removed.contains(&member.id),
                _ => found.is_some_and(|found| {
                    (&found.peer_urls, found.is_learner) == (&member.peer_urls, member.is_learner)
                }),
            };
            assert!(is_right, "{plan:?}: {found:?}");
        }
        assert!(after.members.keys().eq(plan.members.iter().map(|member| &member.id)), "{plan:?}: {after:?}");
        let entries = |facts: &Facts| facts.log_facts().map(|log| log.report.log.entries);
        if let Way::Reseated { .. } = plan.way {
            assert_eq!(entries(&edited), entries(&facts), "{plan:?}");
        }
    }
}

/// Makes 3.5 the version of the cluster in the db of `dir`: its members are then those of the v2 store.
fn of_3_5(dir: &Path) -> Option<()> {
    let path = dir.join("member/snap/db");
    let mut file = fs::read(&path).ok()?;
    let patch = {
        let db = Db::from_source(file.as_slice()).ok()?;
        let mut graft = Graft::new(&db);
        let rows = [(CLUSTER_VERSION.to_vec(), b"3.5.0".to_vec())].into();
        graft.replace_bucket(CLUSTER, rows).ok()?;
        graft.finish().ok()?
    };
    patch.apply_to_vec(&mut file);
    fs::write(path, file).ok()
}

fn gather(dir: &Path) -> Option<Facts> {
    facts::gather(dir, &FactsOptions::default(), &()).ok()
}
