//! Cutting a member loose from its cluster.

use std::ops::ControlFlow;

use snapshot::facts::{self, FactsOptions};
use snapshot::force_new::{Plan, traces};
use wal::log::{self, MemoryLog, ServerEndKind};

use crate::compare::member;
use crate::wal::logs_of;

/// Plans it for a log beside a db that has come to the entry of the first byte. Whatever plan comes of it, a server reads all of the
/// log with it, and finds the forced change where it should be.
pub(crate) fn plan(bytes: &[u8]) {
    let [consistent_index, log @ ..] = bytes else { return };
    for files in logs_of(log) {
        let Ok(dir) = tempfile::tempdir() else { return };
        if member(dir.path(), *consistent_index, &files).is_err() {
            return;
        }
        let Ok(facts) = facts::gather(dir.path(), &FactsOptions::default(), &()) else { continue };
        let plan = match Plan::of(&facts) {
            Ok(plan) => plan,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        let mut forced: Vec<(String, Vec<u8>)> = MemoryLog::new(files).into_files();
        if let (Some((_, last)), Ok(offset)) = (forced.last_mut(), usize::try_from(plan.appended.offset)) {
            last.truncate(offset);
            last.extend_from_slice(&plan.appended.records);
        }
        let Ok(read) = log::read(&MemoryLog::new(forced), &|_| ControlFlow::Continue(())) else {
            panic!("interrupted, and nobody asked for it")
        };
        assert_eq!(
            read.server_end.map(|end| end.kind),
            Some(ServerEndKind::Clean),
            "{plan:?}: {:?}",
            read.faults
        );
        assert_eq!((read.last_index(), read.commit()), (Some(plan.last_index), plan.last_index), "{plan:?}");
        assert_eq!(read.segments.last().map(|segment| segment.end_crc), Some(plan.appended.crc), "{plan:?}");
        let found = traces::traces(&read);
        let removed = plan.removed.len();
        assert!(
            removed == 0
                || found.iter().any(|trace| trace.last == plan.last_index && trace.removed.len() >= removed),
            "{plan:?}: {found:?}"
        );
    }
}
