//! Db, log and snapshots held against each other, beyond what [`log_verify`](crate::log_verify) says of the log's place between
//! the others: members, terms, alarms, versions (FORMATS R.1).

use std::collections::BTreeSet;

use wal::log::{Log, Reach};
use wal::raftpb::ConfChangeType;

use super::predict::older_received;
use super::verdict::removed;
use super::{Checked, count};
use crate::alarm;
use crate::facts::{DatabaseFacts, Deadly, Facts};
use crate::finding::{Finding, Severity};
use crate::force_new::traces::{Trace, traces};
use crate::membership::Member;
use crate::schema::{ALARM_CORRUPT, Alarm};
use crate::target::{TargetVersion, minor_of};

/// What came of it.
#[derive(Default)]
pub(super) struct Agreed {
    pub(super) checked: Vec<Checked>,
    pub(super) findings: Vec<Finding>,
}

/// Holds what `facts` say against each other.
pub(super) fn hold(facts: &Facts) -> Agreed {
    let mut agreed = Agreed::default();
    let Some(database) = facts.database_facts() else { return agreed };
    agreed.alarms(&database.schema.alarms);
    agreed.versions(database);
    if let Some((file, index)) = older_received(facts) {
        let message = format!(
            "{file}: is named for entry {index}, and does not hold what the entries up to there did: a server that takes it in \
             place of the db does not start"
        );
        agreed.findings.push(Finding::new("SNAP-DB-INDEX", Severity::Error, message).in_file(file));
    }
    let Some(log) = facts.log_facts() else {
        agreed.not(TERM, "there is no log");
        agreed.not(MEMBERS, "there is no log");
        return agreed;
    };
    if log.files.is_single_segment() {
        agreed.not(TERM, "one segment was given, and not the log");
        agreed.not(MEMBERS, "one segment was given, and not the log");
        return agreed;
    }
    agreed.term(database, &log.report.log);
    agreed.members(facts, database, &log.report.log);
    agreed.findings.extend(traces(&log.report.log).iter().map(Trace::finding));
    if let Some(id) = removed(facts) {
        let message = format!(
            "the log is that of member {id:x}, which bucket members_removed of the db names: it was removed from its cluster"
        );
        agreed.findings.push(Finding::new("ETCD-REMOVED", Severity::Error, message));
    }
    for (what, index) in &log.deadly {
        let code = match what {
            Deadly::EntryType | Deadly::Undecodable | Deadly::Unknown => "ETCD-REPLAY-STOP",
            _ => continue,
        };
        agreed.findings.push(Finding::new(code, Severity::Error, what.cause(*index)));
    }
    if log.v2_writes > 0 {
        let message = format!(
            "{} request(s) of the v2 API stand in the log behind the newest .snap; 3.6 does not start on them, and nothing \
             carries them over into the key space",
            log.v2_writes
        );
        agreed.findings.push(Finding::new("WAL-V2-KEYS", Severity::Warning, message));
    }
    agreed
}

const TERM: &str = "term of the db's last entry against the log";
const MEMBERS: &str = "members of the db against snapshot and log";

impl Agreed {
    fn done(&mut self, what: &'static str, detail: impl Into<String>) {
        self.checked.push(Checked { what, done: true, detail: detail.into() });
    }

    fn not(&mut self, what: &'static str, why: impl Into<String>) {
        self.checked.push(Checked { what, done: false, detail: why.into() });
    }

    fn alarms(&mut self, alarms: &[Alarm]) {
        for found in alarms {
            let Some(name) = alarm::kind_name(found.kind).filter(|_| found.kind != 0) else { continue };
            let effect = if found.kind == ALARM_CORRUPT {
                "servers refuse reads and writes"
            } else {
                "servers refuse puts and leases"
            };
            let message = format!(
                "alarm {name} of member {:x} is raised: {effect} until it is disarmed",
                found.member_id
            );
            self.findings.push(Finding::new("ETCD-ALARM-RAISED", Severity::Warning, message));
        }
    }

    fn versions(&mut self, database: &DatabaseFacts) {
        let schema = &database.schema;
        let (cluster, storage) = (minor_of(&schema.cluster_version), minor_of(&schema.storage_version));
        if let (Some(cluster), Some(storage)) = (cluster, storage)
            && storage > cluster
        {
            let message = format!(
                "the storage version is {}, the cluster's version {}: the file is of a newer version than its cluster, which a \
                 server never makes it",
                schema.storage_version, schema.cluster_version
            );
            self.findings.push(Finding::new("ETCD-VERSION", Severity::Warning, message));
        }
        if let Some(target) = &schema.downgrade_target {
            let message = format!(
                "a downgrade to {target} is under way: a server of 3.5 or later of any other minor version does not start"
            );
            self.findings.push(Finding::new("ETCD-DOWNGRADE-ON", Severity::Warning, message));
        }
    }

    /// The db's term is that of its last entry (FORMATS B.1).
    fn term(&mut self, database: &DatabaseFacts, log: &Log) {
        let index = database.schema.consistent_index;
        let Some(term) = database.schema.term.filter(|term| *term > 0) else {
            self.not(TERM, "the db keeps no term: it is of 3.4, or was restored by it");
            return;
        };
        let Some(in_log) = log.term_of(index) else {
            self.not(TERM, format!("the log does not have entry {index}"));
            return;
        };
        self.done(TERM, format!("entry {index}"));
        if in_log == term {
            return;
        }
        // A restore's log has nothing but its members up to the db's entry, and etcd 3.4 leaves the old cluster's term in the db.
        let changes = log.conf_changes.iter().filter(|located| located.value.index <= index);
        let is_restored = u64::try_from(changes.count()).is_ok_and(|count| count == index);
        let (severity, why) = if is_restored {
            (
                Severity::Warning,
                "a restore by etcd 3.4 left the old cluster's term in the db, which no server minds",
            )
        } else {
            (Severity::Error, "they are of two histories")
        };
        let message = format!(
            "the db's last entry is {index} of term {term}, in the log entry {index} is of term {in_log}: {why}"
        );
        self.findings.push(Finding::new("ETCD-TERM", severity, message));
    }

    /// The members of the db are those of the newest snapshot, changed by the log up to the db's last entry.
    fn members(&mut self, facts: &Facts, database: &DatabaseFacts, log: &Log) {
        let index = database.schema.consistent_index;
        let snap = facts.newest_snap.as_ref().filter(|snap| snap.facts.index <= index);
        let from = snap.map_or(0, |snap| snap.facts.index);
        if facts.newest_snap.is_some() && snap.is_none() {
            return self.not(MEMBERS, "the newest .snap is of a later entry than the db's last");
        }
        if index > from && log.first_index().is_none_or(|first| first > from.saturating_add(1)) {
            return self
                .not(MEMBERS, format!("the log does not reach back to entry {}", from.saturating_add(1)));
        }
        if index > log.last_index().unwrap_or_default().max(from) {
            return self.not(MEMBERS, "the log ends before the db");
        }
        if !log.conf_changes_v2.is_empty() || log.more_conf_changes > 0 || database.unreadable_members > 0 {
            return self.not(MEMBERS, "the changes of members are not all known");
        }
        let conf = snap.map(|snap| &snap.facts.conf_state);
        let mut expected: BTreeSet<u64> = conf
            .into_iter()
            .flat_map(|conf| [&conf.voters, &conf.learners, &conf.voters_outgoing])
            .flatten()
            .copied()
            .collect();
        let mut touched = BTreeSet::new();
        for located in &log.conf_changes {
            let entry = &located.value;
            let counts = located.reach == Reach::Read
                && (from < entry.index && entry.index <= index)
                && !log.is_overwritten(located.segment, located.offset, entry.index);
            if !counts {
                continue;
            }
            let id = entry.change.node_id();
            touched.insert(id);
            match ConfChangeType::try_from(entry.change.change_type()) {
                Ok(ConfChangeType::AddNode | ConfChangeType::AddLearnerNode) => {
                    expected.insert(id);
                }
                Ok(ConfChangeType::RemoveNode) => {
                    expected.remove(&id);
                }
                _ => {}
            }
        }
        self.done(MEMBERS, format!("{} at entry {index}", count(expected.len() as u64, "member")));
        let found: BTreeSet<u64> = database.members.iter().map(|member| member.id).collect();
        // 3.6 and later start with the db's members, the others with those of snapshot and log.
        let severity = match database.schema.written_by() {
            Some((minor, _)) if minor >= TargetVersion::V3_6 => Severity::Error,
            _ => Severity::Warning,
        };
        if found != expected && !is_of_later(database, log, index, expected.clone(), &found) {
            let message = format!(
                "bucket members of the db has [{}], snapshot and log come to [{}] at entry {index}: one of them was edited, or \
                 the db was restored by 3.4, which leaves the old rows",
                list(&found),
                list(&expected)
            );
            self.findings.push(Finding::new("ETCD-MEMBERS", severity, message));
            return;
        }
        let of_store = snap.and_then(|snap| snap.store.as_ref().ok()).map(|store| store.members.as_slice());
        for member in of_store.unwrap_or_default().iter().filter(|member| !touched.contains(&member.id)) {
            let Some(row) = database.members.iter().find(|row| row.id == member.id) else { continue };
            if sorted(member) != sorted(row) || member.is_learner != row.is_learner {
                let message = format!(
                    "member {:x} has the peer URLs {:?}{} in the db, {:?}{} in the newest .snap, and no entry between them \
                     changes it: one of them was edited",
                    member.id,
                    sorted(row),
                    learner(row),
                    sorted(member),
                    learner(member)
                );
                self.findings.push(Finding::new("ETCD-MEMBERS", severity, message));
            }
        }
    }
}

/// Whether `found` are the members at a later entry of the log. Servers before 3.5 write the db's last entry only with a change
/// of keys, users or leases, so that their db may have members of entries behind that.
fn is_of_later(
    database: &DatabaseFacts,
    log: &Log,
    index: u64,
    mut expected: BTreeSet<u64>,
    found: &BTreeSet<u64>,
) -> bool {
    if database.schema.written_by().is_some_and(|(minor, _)| minor > TargetVersion::V3_4) {
        return false;
    }
    let later = log.conf_changes.iter().filter(|located| {
        let entry = &located.value;
        entry.index > index && !log.is_overwritten(located.segment, located.offset, entry.index)
    });
    for located in later {
        let id = located.value.change.node_id();
        match ConfChangeType::try_from(located.value.change.change_type()) {
            Ok(ConfChangeType::AddNode | ConfChangeType::AddLearnerNode) => expected.insert(id),
            Ok(ConfChangeType::RemoveNode) => expected.remove(&id),
            _ => false,
        };
        if expected == *found {
            return true;
        }
    }
    false
}

fn list(ids: &BTreeSet<u64>) -> String {
    ids.iter().map(|id| format!("{id:x}")).collect::<Vec<_>>().join(" ")
}

fn sorted(member: &Member) -> Vec<&str> {
    let mut urls: Vec<&str> = member.peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    urls
}

const fn learner(member: &Member) -> &'static str {
    if member.is_learner { " as a learner" } else { "" }
}
