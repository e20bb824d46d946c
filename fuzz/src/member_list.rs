//! Who belongs to a cluster, by each source, and two directories held against each other.

use snapshot::facts::{FactsOptions, gather};
use snapshot::member_plan::look;
use snapshot::members::{Account, at, by, sources};
use snapshot::membership::InitialCluster;
use snapshot::mvcc::Release;

use crate::compare::of_two;

/// Lists and plans [two members](of_two). Who was removed once stays removed, whoever is a member was not removed before, and what is
/// asked for twice is answered alike.
pub(crate) fn pair(bytes: &[u8]) {
    of_two(bytes, |_, given| {
        for given in &given {
            let Ok(facts) = gather(&given.path, &FactsOptions::default(), &()) else { continue };
            let Ok(told) = sources(&facts) else { continue };
            let again = sources(&facts).map(|again| again.membership);
            assert!(again.is_ok_and(|again| again == told.membership));
            let old: Release = Release::from(snapshot::target::TargetVersion::V3_5);
            let mut before = None;
            for index in 0..told.index.min(64) {
                let Ok(now) = by(&facts, index, old) else { continue };
                assert_eq!(now.account, Account::V2Store);
                assert!(now.members.keys().all(|id| !now.removed.contains(id)), "{now:?}");
                if let Some(before) = before.replace(now.removed.clone()) {
                    assert!(now.removed.is_superset(&before), "{before:?} {now:?}");
                }
            }
            if let Err(error) = at(&facts, u64::MAX) {
                assert!(!error.to_string().is_empty());
            }
        }
        let Ok(together) = look(&given, &FactsOptions::default(), &()) else { return };
        let findings = together.findings();
        assert!(findings.iter().all(|finding| !finding.message.is_empty()));
        assert!(
            together.views().iter().map(|(_, places)| places.len()).sum::<usize>() == together.dirs.len()
        );
        if let Ok(cluster) = InitialCluster::parse("a=http://a:1,b=http://b:1,c=http://c:1")
            && let Ok(moves) = together.moves(&cluster)
        {
            assert!(moves.iter().all(|change| !change.to.is_empty()));
        }
    });
}
