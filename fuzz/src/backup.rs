//! A member under another identity.

use std::fs;

use snapshot::backup::{BackupOptions, Plan, backup};
use snapshot::facts::{self, FactsOptions};
use snapshot::membership::Member;
use snapshot::target::TargetVersion;
use snapshot::v2store::restored_store;

use crate::compare::member;
use crate::wal::logs_of;

/// Plans it for a log beside a db that has come to the entry of the first byte, with a `.snap` at the entry of the third unless that is
/// 0, and without the keys of the v3 API if the second is odd. Whatever plan comes of it, what a server relies on holds, and every entry is
/// accounted for.
pub(crate) fn plan(bytes: &[u8]) {
    let [consistent_index, flags, snapshot, log @ ..] = bytes else { return };
    for files in logs_of(log) {
        let Ok(dir) = tempfile::tempdir() else { return };
        if member(dir.path(), *consistent_index, &files).is_err() {
            return;
        }
        if *snapshot > 0 {
            let one = Member { id: 1, peer_urls: vec!["http://h:1".to_owned()], ..Member::default() };
            let store = restored_store(&[one], TargetVersion::V3_5);
            let snap = wal::encode_snap(&store, u64::from(*snapshot), 1, &[1], wal::Dialect::V3_5);
            let name = wal::snap_name(1, u64::from(*snapshot));
            if fs::write(dir.path().join("member/snap").join(name), snap).is_err() {
                return;
            }
        }
        let options = BackupOptions {
            output: dir.path().with_extension("backup"),
            output_wal_dir: None,
            with_v3: flags & 1 == 0,
            node_id: Some(7),
            cluster_id: Some(8),
            now_ms: 0,
            dry_run: true,
            clean: false,
            owner: None,
        };
        let input = FactsOptions::default();
        let Ok(facts) = facts::gather(dir.path(), &input, &()) else { continue };
        let plan = match Plan::of(&facts, &options, &input, &()) {
            Ok(plan) => plan,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        drop(facts);
        assert!(plan.start.index <= plan.commit && plan.commit <= plan.last, "{plan:?}");
        assert!(plan.consistent_index <= plan.commit, "{plan:?}");
        assert!(plan.start.index <= plan.consistent_index, "{plan:?}");
        assert_eq!(plan.snap.is_some(), plan.start.index > 0, "{plan:?}");
        if let Some(snap) = &plan.snap {
            let Ok(read) = wal::decode_snap(&snap.bytes) else { panic!("{plan:?}") };
            let voters = read.metadata.and_then(|metadata| metadata.conf_state).map(|state| state.voters);
            assert_eq!(voters, plan.conf_state().map(|state| state.voters));
        }
        match backup(dir.path(), &options, &input, &()) {
            Ok(report) => {
                let account = report.account;
                let all = account.kept + account.membership + account.attributes + account.v3;
                assert_eq!(all, plan.last - plan.start.index, "{plan:?}");
                assert!(options.with_v3 || account.kept <= all);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
