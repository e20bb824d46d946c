//! Raft as etcd runs it, without its data: terms, votes, logs, commits, what of that is on disk, messages that are late, lost or
//! come twice, and changes of one member that take effect when they are applied.

use std::collections::{BTreeMap, BTreeSet};

use snapshot::certainty::Config;

/// Numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    Nothing,
    Add(u64),
    Learn(u64),
    Remove(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) asks: Asks,
}

/// What a member has on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) term: u64,
    pub(crate) vote: u64,
    pub(crate) commit: u64,
    /// All entries since the cluster began; the log on disk begins behind `base`.
    pub(crate) log: Vec<Entry>,
    pub(crate) base: u64,
    /// The last entry in the database.
    pub(crate) applied: u64,
    /// The last entry that a hard state was written behind.
    pub(crate) settled: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Follower,
    Candidate,
    Leader,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) disk: Disk,
    /// Earlier states of the disk; true for one in the middle of a write.
    pub(crate) past: Vec<(Disk, bool)>,
    pub(crate) is_up: bool,
    pub(crate) commit: u64,
    role: Role,
    granted: BTreeSet<u64>,
    matched: BTreeMap<u64, u64>,
    pending_change: u64,
}

#[derive(Debug, Clone)]
enum Message {
    Vote { last: (u64, u64) },
    Granted,
    Append { after: u64, term: u64, entries: Vec<Entry>, commit: u64 },
    Snapshot { log: Vec<Entry> },
    Appended { matched: u64 },
    Refused { hint: u64 },
}

#[derive(Debug, Clone)]
struct Envelope {
    from: u64,
    to: u64,
    term: u64,
    message: Message,
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) founders: BTreeSet<u64>,
    flight: Vec<Envelope>,
    /// Who reaches whom: those of one side.
    sides: BTreeMap<u64, usize>,
    /// What was acknowledged: the term of the entry of each index from 1.
    pub(crate) committed: Vec<u64>,
    pub(crate) random: Random,
    /// One in so many steps changes a member; 0 for never.
    pub(crate) changes: usize,
}

fn len(log: &[Entry]) -> u64 {
    u64::try_from(log.len()).unwrap()
}

fn at(log: &[Entry], index: u64) -> Option<Entry> {
    log.get(usize::try_from(index.checked_sub(1)?).unwrap()).copied()
}

pub(crate) fn term_at(log: &[Entry], index: u64) -> u64 {
    at(log, index).map_or(0, |entry| entry.term)
}

pub(crate) fn last(log: &[Entry]) -> (u64, u64) {
    (log.last().map_or(0, |entry| entry.term), len(log))
}

/// Each configuration up to `index`, and the entry that made it.
pub(crate) fn configs(founders: &BTreeSet<u64>, log: &[Entry], index: u64) -> Vec<(u64, Config)> {
    let mut config = Config { voters: founders.clone(), learners: BTreeSet::new() };
    let mut made = vec![(0, config.clone())];
    for (before, entry) in log.iter().take(usize::try_from(index).unwrap()).enumerate() {
        match entry.asks {
            Asks::Nothing => continue,
            Asks::Add(id) => {
                config.learners.remove(&id);
                config.voters.insert(id);
            }
            Asks::Learn(id) => {
                config.learners.insert(id);
            }
            Asks::Remove(id) => {
                config.voters.remove(&id);
                config.learners.remove(&id);
            }
        }
        made.push((u64::try_from(before + 1).unwrap(), config.clone()));
    }
    made
}

impl Node {
    fn new() -> Self {
        Self {
            disk: Disk::default(),
            past: Vec::new(),
            is_up: true,
            commit: 0,
            role: Role::Follower,
            granted: BTreeSet::new(),
            matched: BTreeMap::new(),
            pending_change: 0,
        }
    }

    fn remember(&mut self, is_torn: bool) {
        self.past.push((self.disk.clone(), is_torn));
    }

    /// Writes entries behind `after`, and the hard state if it changed: in that order, synced together.
    fn save(&mut self, after: u64, entries: &[Entry], term: u64, vote: u64) {
        self.remember(false);
        if !entries.is_empty() {
            self.disk.log.truncate(usize::try_from(after).unwrap());
            self.disk.log.extend_from_slice(entries);
            self.disk.settled = self.disk.settled.min(after);
            self.remember(true);
        }
        if (term, vote, self.commit) != (self.disk.term, self.disk.vote, self.disk.commit) {
            (self.disk.term, self.disk.vote, self.disk.commit) = (term, vote, self.commit);
            self.disk.settled = len(&self.disk.log);
        }
    }
}

impl World {
    pub(crate) fn new(voters: u64, seed: u64, changes: usize) -> Self {
        let founders: BTreeSet<u64> = (1..=voters).collect();
        Self {
            nodes: founders.iter().map(|id| (*id, Node::new())).collect(),
            founders,
            flight: Vec::new(),
            sides: BTreeMap::new(),
            committed: Vec::new(),
            random: Random(seed),
            changes,
        }
    }

    pub(crate) fn config_of(&self, id: u64, index: u64) -> Config {
        configs(&self.founders, &self.nodes[&id].disk.log, index).pop().unwrap().1
    }

    fn config(&self, id: u64) -> Config {
        self.config_of(id, self.nodes[&id].commit)
    }

    fn send(&mut self, from: u64, to: u64, message: Message) {
        let term = self.nodes[&from].disk.term;
        self.flight.push(Envelope { from, to, term, message });
    }

    /// One thing happens.
    pub(crate) fn step(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        let id = ids[self.random.below(ids.len())];
        match self.random.below(100) {
            0..60 => self.deliver(),
            60..66 => self.campaign(id),
            66..80 => self.propose(id),
            80..90 => self.heartbeat(id),
            90..93 => self.crash(id),
            93..97 => self.restart(id),
            97 => {
                self.sides.clear();
                if !self.random.one_in(3) {
                    for id in ids {
                        let side = self.random.below(2);
                        self.sides.insert(id, side);
                    }
                }
            }
            98 => {
                // What need not be synced at once: the commit alone, and what the database holds.
                let applied = self.random.one_in(2);
                let node = self.nodes.get_mut(&id).unwrap();
                if node.is_up && applied {
                    node.disk.applied = node.commit.max(node.disk.applied);
                } else if node.is_up {
                    node.disk.commit = node.commit;
                    node.disk.settled = len(&node.disk.log);
                }
            }
            _ => {
                // A snapshot, and the log before it goes.
                let node = self.nodes.get_mut(&id).unwrap();
                if node.is_up && node.commit == node.disk.commit {
                    node.disk.applied = node.commit;
                    node.disk.base = node.commit.saturating_sub(2).max(node.disk.base);
                }
            }
        }
    }

    fn deliver(&mut self) {
        if self.flight.is_empty() {
            return;
        }
        // Mostly in order, sometimes any.
        let any = self.random.below(self.flight.len());
        let at = if self.random.one_in(4) { any } else { 0 };
        let envelope = if self.random.one_in(25) { self.flight[at].clone() } else { self.flight.remove(at) };
        let apart = self.sides.get(&envelope.from) != self.sides.get(&envelope.to);
        if apart || self.random.one_in(12) {
            self.flight.retain(|other| !apart || (other.from, other.to) != (envelope.from, envelope.to));
            return;
        }
        if self.nodes.get(&envelope.to).is_some_and(|node| node.is_up) {
            self.receive(envelope);
        }
    }

    pub(crate) fn campaign(&mut self, id: u64) {
        let config = self.config(id);
        let node = self.nodes.get_mut(&id).unwrap();
        if !node.is_up || node.role == Role::Leader || !config.voters.contains(&id) {
            return;
        }
        node.save(0, &[], node.disk.term + 1, id);
        node.role = Role::Candidate;
        node.granted = BTreeSet::from([id]);
        let last = last(&node.disk.log);
        self.try_to_lead(id);
        for to in config.voters {
            if to != id && self.nodes[&id].role == Role::Candidate {
                self.send(id, to, Message::Vote { last });
            }
        }
    }

    fn try_to_lead(&mut self, id: u64) {
        let voters = self.config(id).voters;
        let node = self.nodes.get_mut(&id).unwrap();
        if voters.iter().filter(|voter| node.granted.contains(voter)).count() <= voters.len() / 2 {
            return;
        }
        node.role = Role::Leader;
        node.matched.clear();
        node.pending_change = len(&node.disk.log);
        self.append(id, Asks::Nothing);
    }

    fn append(&mut self, id: u64, asks: Asks) {
        let node = self.nodes.get_mut(&id).unwrap();
        let (term, vote, after) = (node.disk.term, node.disk.vote, len(&node.disk.log));
        node.save(after, &[Entry { term, asks }], term, vote);
        node.matched.insert(id, after + 1);
        if asks != Asks::Nothing {
            node.pending_change = after + 1;
        }
        self.count(id);
        self.replicate(id);
    }

    pub(crate) fn propose(&mut self, id: u64) {
        if !self.leads(id) {
            return;
        }
        let node = &self.nodes[&id];
        let may_change = node.pending_change <= node.commit;
        if self.changes == 0 || !may_change || !self.random.one_in(self.changes) {
            return self.append(id, Asks::Nothing);
        }
        let config = self.config(id);
        let fresh = self.nodes.keys().last().unwrap() + 1;
        let voters: Vec<u64> = config.voters.iter().copied().collect();
        let learners: Vec<u64> = config.learners.iter().copied().collect();
        let asks = match self.random.below(4) {
            0 if fresh <= 8 => Asks::Learn(fresh),
            1 if fresh <= 8 => Asks::Add(fresh),
            2 if !learners.is_empty() => Asks::Add(learners[self.random.below(learners.len())]),
            _ if voters.len() > 1 => Asks::Remove(voters[self.random.below(voters.len())]),
            _ => Asks::Nothing,
        };
        if let Asks::Add(new) | Asks::Learn(new) = asks {
            self.nodes.entry(new).or_insert_with(Node::new);
        }
        self.append(id, asks);
    }

    pub(crate) fn leads(&self, id: u64) -> bool {
        let node = &self.nodes[&id];
        node.is_up && node.role == Role::Leader
    }

    fn heartbeat(&mut self, id: u64) {
        if self.leads(id) {
            self.replicate(id);
        }
    }

    fn replicate(&mut self, id: u64) {
        let config = self.config(id);
        for to in config.voters.union(&config.learners).copied().filter(|to| *to != id) {
            let node = &self.nodes[&id];
            let after = node.matched.get(&to).copied().unwrap_or(len(&node.disk.log));
            self.send_entries(id, to, after);
        }
    }

    fn send_entries(&mut self, id: u64, to: u64, after: u64) {
        let node = &self.nodes[&id];
        let log = &node.disk.log;
        let message = if after < node.disk.base {
            Message::Snapshot { log: log[..usize::try_from(node.commit).unwrap()].to_vec() }
        } else {
            let term = term_at(log, after);
            let entries = log[usize::try_from(after).unwrap()..].iter().take(3).copied().collect();
            Message::Append { after, term, entries, commit: node.commit }
        };
        self.send(id, to, message);
    }

    fn crash(&mut self, id: u64) {
        self.nodes.get_mut(&id).unwrap().is_up = false;
        self.flight.retain(|envelope| envelope.to != id || envelope.from == id);
    }

    pub(crate) fn restart(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.is_up {
            return;
        }
        node.is_up = true;
        node.role = Role::Follower;
        node.commit = node.disk.commit;
        node.granted.clear();
        node.matched.clear();
    }

    fn receive(&mut self, envelope: Envelope) {
        let Envelope { from, to, term, message } = envelope;
        let node = self.nodes.get_mut(&to).unwrap();
        if term < node.disk.term {
            return;
        }
        let is_vote = matches!(message, Message::Vote { .. });
        // A new term is written together with what comes of it.
        let vote = if term > node.disk.term { 0 } else { node.disk.vote };
        if term > node.disk.term || matches!(message, Message::Append { .. } | Message::Snapshot { .. }) {
            node.role = Role::Follower;
        }
        match message {
            Message::Vote { last: other } => {
                let grants = (vote == 0 || vote == from) && other >= last(&node.disk.log);
                node.save(0, &[], term, if grants { from } else { vote });
                if grants {
                    self.send(to, from, Message::Granted);
                }
            }
            Message::Granted => {
                node.save(0, &[], term, vote);
                if node.role == Role::Candidate {
                    node.granted.insert(from);
                    self.try_to_lead(to);
                }
            }
            Message::Append { after, term: before, entries, commit } => {
                let log = &node.disk.log;
                if after < node.commit {
                    let matched = node.commit;
                    node.save(0, &[], term, vote);
                    return self.send(to, from, Message::Appended { matched });
                }
                if after > len(log) || term_at(log, after) != before {
                    let hint = len(log).min(after.saturating_sub(1));
                    node.save(0, &[], term, vote);
                    return self.send(to, from, Message::Refused { hint });
                }
                let matched = after + len(&entries);
                let same = entries
                    .iter()
                    .enumerate()
                    .take_while(|(place, entry)| {
                        at(log, after + 1 + u64::try_from(*place).unwrap()) == Some(**entry)
                    })
                    .count();
                node.commit = node.commit.max(commit.min(matched));
                let keep = after + u64::try_from(same).unwrap();
                node.save(keep, &entries[same..], term, vote);
                self.send(to, from, Message::Appended { matched });
            }
            Message::Snapshot { log } => {
                let end = len(&log);
                if end > node.commit {
                    node.commit = end;
                    let has = term_at(&node.disk.log, end) == term_at(&log, end);
                    if !has {
                        node.save(0, &log, term, vote);
                        // The snapshot is written before the log knows of it, and the log begins anew behind it.
                        node.past.pop();
                        node.disk.base = end;
                        node.disk.applied = end;
                        node.disk.settled = end;
                    }
                }
                let node = self.nodes.get_mut(&to).unwrap();
                node.save(0, &[], term, vote);
                let matched = node.commit;
                self.send(to, from, Message::Appended { matched });
            }
            Message::Appended { matched } | Message::Refused { hint: matched } => {
                let refused = matches!(message, Message::Refused { .. });
                node.save(0, &[], term, vote);
                if node.role != Role::Leader {
                    return;
                }
                let end = len(&node.disk.log);
                if refused {
                    return self.send_entries(to, from, matched.min(end));
                }
                let known = node.matched.entry(from).or_default();
                *known = matched.max(*known);
                let known = *known;
                self.count(to);
                if known < end && self.leads(to) {
                    self.send_entries(to, from, known);
                }
            }
        }
        debug_assert!(is_vote || self.nodes[&to].disk.term >= term);
    }

    /// The leader counts.
    fn count(&mut self, id: u64) {
        loop {
            let voters = self.config(id).voters;
            let node = self.nodes.get_mut(&id).unwrap();
            let mut matched: Vec<u64> =
                voters.iter().map(|voter| node.matched.get(voter).copied().unwrap_or_default()).collect();
            matched.sort_unstable();
            let Some(index) = matched.get((matched.len().max(1) - 1) / 2).copied() else { return };
            if index <= node.commit || term_at(&node.disk.log, index) != node.disk.term {
                break;
            }
            node.commit = index;
            let (commit, log) = (node.commit, node.disk.log.clone());
            self.acknowledge(&log, commit);
        }
        let config = self.config(id);
        if !config.voters.contains(&id) {
            self.nodes.get_mut(&id).unwrap().role = Role::Follower;
        }
    }

    fn acknowledge(&mut self, log: &[Entry], commit: u64) {
        for index in 1..=commit {
            let term = term_at(log, index);
            match self.committed.get(usize::try_from(index - 1).unwrap()) {
                Some(known) => assert_eq!(*known, term, "the model lost entry {index}"),
                None => self.committed.push(term),
            }
        }
    }

    /// Whether a member that lacks entry `index` of `term` could be elected now, or after all have crashed.
    pub(crate) fn could_lose(&self, index: u64, term: u64) -> Option<u64> {
        self.nodes.iter().find_map(|(id, node)| {
            if term_at(&node.disk.log, index) == term {
                return None;
            }
            let wins = |commit: u64| {
                let voters = self.config_of(*id, commit).voters;
                let grants = |voter: &&u64| last(&node.disk.log) >= last(&self.nodes[*voter].disk.log);
                voters.contains(id) && voters.iter().filter(grants).count() > voters.len() / 2
            };
            (wins(node.commit.max(node.disk.commit)) || wins(node.disk.commit)).then_some(*id)
        })
    }
}
