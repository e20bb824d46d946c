//! What a member's disk in the model testifies, as a real one's files do.

use std::collections::BTreeSet;

use snapshot::certainty::{Known, Point, Source, Stretch, Testimony};

use crate::raft::{Disk, configs, last, term_at};

/// The testimony of member `id`, whose disk is `disk`. `lost_end`: it is known that more may have been there.
pub(crate) fn testify(id: u64, disk: &Disk, founders: &BTreeSet<u64>, lost_end: bool) -> Testimony {
    let (last_term, end) = last(&disk.log);
    let known = |index: u64, source: Source| Known { index, term: Some(term_at(&disk.log, index)), source };
    let mut committed = vec![
        known(disk.commit, Source::Commit),
        known(disk.applied, Source::ConsistentIndex),
        known(disk.base, Source::Snapshot),
    ];
    committed.retain(|known| known.index > 0);
    let mut stretches: Vec<Stretch> = Vec::new();
    for index in disk.base + 1..=end {
        let term = term_at(&disk.log, index);
        match stretches.last_mut().filter(|before| before.term == term) {
            Some(before) => before.last = index,
            None => stretches.push(Stretch { first: index, last: index, term, mark: 0, follows: true }),
        }
    }
    let configs = configs(founders, &disk.log, end);
    let settled = configs.iter().rposition(|(made, _)| *made <= disk.commit.max(disk.base)).unwrap();
    Testimony {
        member_id: Some(id),
        term: disk.term.max(last_term),
        base: Point { index: disk.base, term: Some(term_at(&disk.log, disk.base)) },
        stretches,
        settled_to: disk.settled,
        committed,
        may_lack_its_end: lost_end,
        configs: configs[settled.saturating_sub(1)..].to_vec(),
        forced: Vec::new(),
    }
}
