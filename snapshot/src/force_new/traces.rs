//! Was this history once given to `--force-new-cluster`, or to `cluster force-new`, and where?
//!
//! Both remove members by entries that no client asked for: a change that a client asks for carries the number of the
//! request, and a removal without one is only ever made that way (etcdserver/raft.go, `createConfigChangeEnts`, 3.4 to 3.7).
//! From the first such entry on, the history is that of the members that were kept, and of those added since; what the removed
//! ones hold from that index on, under the same cluster id, is another.

use wal::Log;
use wal::raftpb::ConfChangeType;

use crate::finding::{Finding, Severity};
use crate::lone;
use crate::membership::Member;

/// One forced change of the whole membership, by its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Index of the first of its entries: up to the one before it, the history is shared with the removed members.
    pub first: u64,
    /// Index of the last of its entries.
    pub last: u64,
    /// Their term, which is that of the log's last vote at that time: the removed members may have entries of the same term at
    /// the same indexes.
    pub term: u64,
    /// The members that were removed, ascending.
    pub removed: Vec<u64>,
}

/// The forced changes that stand in `log`, by ascending index; none where the log begins later.
#[must_use]
pub fn traces(log: &Log) -> Vec<Trace> {
    let mut found: Vec<Trace> = Vec::new();
    let mut standing: Vec<_> = log
        .conf_changes
        .iter()
        .filter(|located| !log.is_overwritten(located.segment, located.offset, located.value.index))
        .map(|located| &located.value)
        .collect();
    standing.sort_by_key(|entry| entry.index);
    let mut before = None;
    for entry in standing {
        let change = &entry.change;
        let was = before.replace(entry);
        if change.change_type() != ConfChangeType::RemoveNode as i32 || change.id() != 0 {
            continue;
        }
        // A restore's log begins with such additions too; those name the members.
        let adds_self = was.filter(|was| {
            was.change.change_type() == ConfChangeType::AddNode as i32
                && was.change.id() == 0
                && (was.term, was.index.checked_add(1)) == (entry.term, Some(entry.index))
                && Member::from_json(was.change.context()).is_ok_and(|member| member.name.is_empty())
        });
        match found.last_mut() {
            Some(last) if last.term == entry.term && last.last.checked_add(1) == Some(entry.index) => {
                last.last = entry.index;
                last.removed.push(change.node_id());
            }
            _ => found.push(Trace {
                first: adds_self.map_or(entry.index, |was| was.index),
                last: entry.index,
                term: entry.term,
                removed: vec![change.node_id()],
            }),
        }
    }
    for trace in &mut found {
        trace.removed.sort_unstable();
    }
    found
}

impl Trace {
    /// What it means to whoever reads the log.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let Self { first, last, term, removed } = self;
        let entries = if first == last {
            format!("entry {first} of term {term} removes")
        } else {
            format!("entries {first} to {last} of term {term} remove")
        };
        Finding::new(
            "ETCD-FORCED-NEW",
            Severity::Warning,
            format!(
                "{entries} {} without anybody's request: this member, or the one it learned from, was started with \
                 --force-new-cluster or went through 'cluster force-new'. What directories of the removed members hold from entry \
                 {first} on is another history, though the cluster's id is the same",
                lone::ids(removed)
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use prost::Message;
    use wal::raftpb::{ConfChange, Entry, EntryType, HardState, Metadata};
    use wal::{LogWriter, MemoryLog, segment_name};

    use super::*;

    /// Index, term, id of the request, what is done, to whom, and what is said of them.
    type Made<'a> = (u64, u64, u64, ConfChangeType, u64, &'a [u8]);

    /// A log of these changes of members, one entry each.
    fn log(changes: &[Made<'_>]) -> Log {
        let mut writer = LogWriter::new(Metadata { node_id: Some(1), cluster_id: Some(2) });
        for (index, term, id, what, whom, context) in changes {
            let change = ConfChange {
                id: Some(*id),
                change_type: Some((*what).into()),
                node_id: Some(*whom),
                context: Some(context.to_vec()),
            };
            writer.push_entry(&Entry {
                entry_type: Some(EntryType::ConfChange.into()),
                term: Some(*term),
                index: Some(*index),
                data: Some(change.encode_to_vec()),
            });
        }
        writer.push_hard_state(HardState { term: Some(9), vote: None, commit: None });
        let mut bytes = Vec::new();
        writer.flush(&mut bytes).unwrap();
        let files = vec![(segment_name(0, 0), bytes)];
        wal::log::read(&MemoryLog::new(files), &|_| ControlFlow::Continue(())).unwrap()
    }

    const NAMED: &[u8] = br#"{"id":3,"peerURLs":["http://a:1"],"name":"c"}"#;
    const SELF: &[u8] = br#"{"id":1,"peerURLs":["http://localhost:2380"]}"#;

    #[test]
    fn what_a_client_asked_for_and_what_a_restore_wrote_is_no_trace() {
        use ConfChangeType::{AddNode, RemoveNode};
        assert_eq!(traces(&log(&[])), []);
        let asked = log(&[
            (1, 1, 0, AddNode, 1, NAMED),
            (2, 1, 0, AddNode, 3, NAMED),
            (3, 2, 77, RemoveNode, 3, b""),
        ]);
        assert_eq!(traces(&asked), []);
    }

    #[test]
    fn each_forced_change_is_found_with_all_its_entries() {
        use ConfChangeType::{AddNode, RemoveNode};
        let forced = log(&[
            (1, 1, 0, AddNode, 3, NAMED),
            // Right behind what a restore wrote, of which it is no part.
            (2, 1, 0, RemoveNode, 8, b""),
            (3, 1, 0, RemoveNode, 3, b""),
            // Those who take the backup of a server for their own add themselves first.
            (4, 5, 0, AddNode, 1, SELF),
            (5, 5, 0, RemoveNode, 6, b""),
        ]);
        let found = [
            Trace { first: 2, last: 3, term: 1, removed: vec![3, 8] },
            Trace { first: 4, last: 5, term: 5, removed: vec![6] },
        ];
        assert_eq!(traces(&forced), found);
        assert!(found[0].finding().message.starts_with("entries 2 to 3 of term 1 remove 3, 8 without"));
        // What came to stand in its place later counts, and it no longer does.
        let overwritten = log(&[(1, 1, 0, RemoveNode, 3, b""), (1, 2, 5, AddNode, 3, NAMED)]);
        assert_eq!(traces(&overwritten), []);
    }
}
