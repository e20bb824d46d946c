//! A new cluster made of what is left of two members.

use std::fs;

use snapshot::facts::FactsOptions;
use snapshot::fold::FoldOptions;
use snapshot::recover::{RecoverOptions, recover};
use snapshot::restore::{Output, RestoreOptions};
use snapshot::survivors::gather;

use crate::compare::of_two;

/// Recovers from [two members](of_two) in a dry run. Of the first two bytes the one has a bit for each flag, and the other is the entry
/// to go to, 0 for none. What is told of the result holds together, and nothing is left behind.
pub(crate) fn pair(bytes: &[u8]) {
    let [flags, to_index, members @ ..] = bytes else { return };
    let (certain_only, accept_loss, base) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
    of_two(members, |dir, given| {
        let (output, tmp_dir) = (dir.join("out"), dir.join("tmp"));
        if fs::create_dir(&tmp_dir).is_err() {
            return;
        }
        let to_index = (*to_index != 0).then_some(u64::from(*to_index));
        let options = RecoverOptions {
            restore: RestoreOptions {
                initial_cluster: "a=http://127.0.0.1:2380,b=http://127.0.0.2:2380".to_owned(),
                token: "token".to_owned(),
                output: Output::AllMembers { dir: output.clone() },
                skip_hash_check: false,
                at_revision: None,
                bump_revision: None,
                target: None,
                keep_alarms: flags & 8 != 0,
                owner: None,
                dry_run: true,
                clean: false,
            },
            fold: FoldOptions { to_index, ..FoldOptions::default() },
            certain_only,
            base: base.then(|| given[1].path.clone()),
            accept_loss,
            tmp_dir: tmp_dir.clone(),
        };
        let result = recover(&given, &FactsOptions::default(), &options, &());
        assert!(!output.exists(), "a dry run wrote");
        assert!(fs::read_dir(&tmp_dir).is_ok_and(|mut left| left.next().is_none()), "left in --tmp-dir");
        let report = match result {
            Ok(report) => report,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        };
        let (begun, applied_to, certain_to) = (report.base.point.index, report.applied_to, report.certain_to);
        assert!(applied_to >= begun && certain_to >= begun, "{report:?}");
        assert!(accept_loss || report.losses.is_empty(), "{report:?}");
        // What was asked to be left out, or kills every server that applies it, is no contradiction.
        let stopped = report.restore.fold.as_ref().is_some_and(|fold| fold.stop.is_some());
        let is_whole = report.losses.is_empty() && to_index.is_none() && !stopped;
        assert!(!is_whole || applied_to >= certain_to, "{report:?}");
        assert!(!certain_only || applied_to <= certain_to, "{report:?}");
        assert!(to_index.is_none_or(|asked| applied_to <= asked.max(begun)), "{report:?}");
        let mut behind = certain_to;
        for possible in &report.possible {
            assert!(*possible.start() > behind && !possible.is_empty(), "{report:?}");
            behind = *possible.end();
        }
        for entry in &report.tail {
            assert!(report.possible.iter().any(|possible| possible.contains(&entry.index)), "{report:?}");
        }
        assert!(
            report.left_out.iter().all(|left| !left.entries.is_empty() && !left.why.is_empty()),
            "{report:?}"
        );
        // A log that was mended knows no more than it did, and the others may know more than it.
        let Ok(survivors) = gather(&given, &FactsOptions::default(), &()) else { return };
        let judgement = &survivors.judgement;
        let known = judgement.chain.iter().chain(&judgement.branches).map(|judged| judged.last).max();
        let known = known.unwrap_or(0).max(judgement.known_to).max(begun);
        assert!(certain_to <= known && applied_to <= known.max(behind), "known to {known}: {report:?}");
    });
}
