//! Three members of one cluster that are frozen, let go on and killed in every order and at every moment while clients write.

use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::gateway::Gateway;
use super::load::{Acknowledged, Load};
use super::ports::free_ports;
use super::server::{Launch, Server};
use super::tools::Version;
use crate::damage::Rng;

/// Clients of a round.
const CLIENTS: usize = 6;
/// Writes that are acknowledged before anything is done to the members.
const BEFORE: u64 = 20;
/// How long they may take.
const LOOKS: u32 = 4000;
const LOOK: Duration = Duration::from_millis(5);

/// What is done to a member, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    WaitMs(u64),
    Freeze(usize),
    Thaw(usize),
    Kill(usize),
}

use Step::{Freeze, Kill, Thaw, WaitMs};

/// What came of one round of load and kills.
#[derive(Clone, Debug)]
pub struct Round {
    /// Every write that was acknowledged in it.
    pub acknowledged: Vec<Acknowledged>,
    /// What was done, for whoever has to find out why something disagrees.
    pub told: String,
}

/// The cluster.
#[derive(Debug)]
pub struct Trio {
    members: Vec<Server>,
    /// The flags with which each joined.
    joining: Vec<Vec<String>>,
    version: Version,
}

/// Elections within a moment.
const FAST: [&str; 2] = ["--heartbeat-interval=10", "--election-timeout=100"];

/// Flags for one start: how often a snapshot of the log is made, how far the database is behind the log, and whether a member
/// that comes back raises the term.
pub fn drawn_flags(rng: &mut Rng) -> Vec<String> {
    let snapshot_count = *rng.pick(&[10_000, 10_000, 40, 300]);
    let interval = *rng.pick(&["100ms", "10ms", "100h"]);
    vec![
        format!("--snapshot-count={snapshot_count}"),
        format!("--backend-batch-interval={interval}"),
        format!("--pre-vote={}", rng.below(2) == 0),
    ]
}

impl Trio {
    /// Starts three new members in `scratch/n1` to `scratch/n3`, with these flags beside those they need.
    #[track_caller]
    pub fn start(version: Version, scratch: &Path, flags: &[String]) -> Self {
        let ports = free_ports(3);
        let urls: Vec<_> = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let cluster = format!("--initial-cluster=n1={},n2={},n3={}", urls[0], urls[1], urls[2]);
        let (mut members, mut joining) = (Vec::new(), Vec::new());
        for (url, name) in urls.iter().zip(["n1", "n2", "n3"]) {
            let own = vec![cluster.clone(), format!("--initial-advertise-peer-urls={url}")];
            let launch =
                Launch::new(version, &scratch.join(name), name).peer_url(url).args(FAST).args(flags.to_vec());
            members.push(launch.args(own.clone()).spawn());
            joining.push(own);
        }
        let mut trio = Self { members, joining, version };
        trio.ready(&[0, 1, 2]);
        trio
    }

    /// The members, whether they run or not.
    pub fn members(&self) -> &[Server] {
        &self.members
    }

    /// The version they are of.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Waits until each of these members answers reads through a leader; connections to them, in that order.
    #[track_caller]
    pub fn ready(&mut self, which: &[usize]) -> Vec<Gateway> {
        which.iter().map(|at| Gateway::ready(&mut self.members[*at])).collect()
    }

    /// Starts these members again on their own files, with these flags, without waiting.
    pub fn spawn_again(&mut self, which: &[usize], flags: &[String]) {
        for at in which {
            let all = FAST.iter().map(|flag| (*flag).to_owned()).chain(flags.iter().cloned());
            self.members[*at].set_args(all.chain(self.joining[*at].iter().cloned()));
            self.members[*at].spawn_again();
        }
    }

    /// Ends all members with SIGTERM, each with all it holds in its database.
    pub fn stop(&mut self) {
        for member in &mut self.members {
            member.stop();
        }
    }

    /// The place of the leader, as far as the members know.
    fn leader(&self) -> usize {
        let leads = |server: &Server| {
            let answer = Gateway::to(server).attempt("/v3/maintenance/status", &json!({}));
            matches!(answer, Ok(Ok(status)) if status["leader"] == status["header"]["member_id"])
        };
        self.members.iter().position(leads).unwrap_or(0)
    }

    /// Lets clients write, does something to the members meanwhile, and kills all of them. Keys and tags begin with `name`.
    #[track_caller]
    pub fn loaded_and_killed(&mut self, name: &str, rng: &mut Rng) -> Round {
        let load = Load::start(&self.members, CLIENTS, name);
        let is_under_way = (0..LOOKS).any(|_| {
            thread::sleep(LOOK);
            load.count() >= BEFORE
        });
        assert!(is_under_way, "{name}: {} writes were acknowledged", load.count());
        let leader = self.leader();
        let steps = plan(leader, rng);
        let mut told = format!("{name}: leader n{}", leader + 1);
        for step in steps {
            told += &match step {
                WaitMs(ms) => format!(", {ms} ms"),
                Freeze(at) => format!(", freeze n{}", at + 1),
                Thaw(at) => format!(", thaw n{}", at + 1),
                Kill(at) => format!(", kill n{} after {}", at + 1, load.count()),
            };
            match step {
                WaitMs(ms) => thread::sleep(Duration::from_millis(ms)),
                Freeze(at) => self.members[at].freeze(),
                Thaw(at) => self.members[at].thaw(),
                Kill(at) => self.members[at].kill(),
            }
        }
        Round { acknowledged: load.end(), told }
    }
}

/// What is done in a round; every member is killed in it, once.
fn plan(leader: usize, rng: &mut Rng) -> Vec<Step> {
    let mut others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    let mut all = vec![0, 1, 2];
    if rng.below(2) == 0 {
        others.swap(0, 1);
    }
    for at in (1..3).rev() {
        all.swap(at, *rng.pick(&(0..=at).collect::<Vec<_>>()));
    }
    let (one, two) = (others[0], others[1]);
    // Longer than an election takes, mostly.
    let election = |rng: &mut Rng| WaitMs(120 + rng.below(300));
    let before = WaitMs(rng.below(150));
    match rng.below(7) {
        // All at once.
        0 => vec![before, Kill(all[0]), Kill(all[1]), Kill(all[2])],
        // One after the other; two go on as long as they can.
        1 => {
            let gaps = [WaitMs(rng.below(300)), WaitMs(rng.below(60))];
            vec![before, Kill(all[0]), gaps[0], Kill(all[1]), gaps[1], Kill(all[2])]
        }
        // A leader that nobody hears dies with what it alone has, and the others go on without it.
        2 => {
            let alone = WaitMs(rng.below(90));
            let cut = [Freeze(one), Freeze(two), alone, Kill(leader), Thaw(one), Thaw(two)];
            [&[before][..], &cut, &[election(rng), Kill(two), WaitMs(rng.below(40)), Kill(one)]].concat()
        }
        // A leader that was silent while the others chose another comes back when they are gone.
        3 => {
            let late = [
                Kill(one),
                WaitMs(rng.below(30)),
                Kill(two),
                Thaw(leader),
                WaitMs(rng.below(80)),
                Kill(leader),
            ];
            [&[before, Freeze(leader), election(rng)][..], &late].concat()
        }
        // A follower that was behind.
        4 => {
            let behind = [Freeze(one), WaitMs(rng.below(300)), Kill(leader), Kill(two)];
            let end = if rng.below(2) == 0 {
                vec![Thaw(one), WaitMs(rng.below(40)), Kill(one)]
            } else {
                vec![Kill(one)]
            };
            [&[before][..], &behind, &end].concat()
        }
        // A leader is deposed while it has what nobody else has, and comes back when its followers are silent.
        5 => {
            let deposed =
                [Freeze(one), Freeze(two), WaitMs(rng.below(60)), Freeze(leader), Thaw(one), Thaw(two)];
            let back = [election(rng), Freeze(one), Freeze(two), Thaw(leader), WaitMs(rng.below(60))];
            [&[before][..], &deposed, &back, &[Kill(all[0]), Kill(all[1]), Kill(all[2])]].concat()
        }
        // Now this one is silent, now that one.
        _ => {
            let mut steps = vec![before];
            for _ in 0..2 + rng.below(3) {
                let at = *rng.pick(&all);
                steps.extend([Freeze(at), WaitMs(20 + rng.below(200)), Thaw(at), WaitMs(rng.below(60))]);
            }
            steps.extend([Kill(all[0]), WaitMs(rng.below(120)), Kill(all[1]), Kill(all[2])]);
            steps
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Step, plan};
    use crate::damage::Rng;

    #[test]
    fn every_plan_kills_each_member_once() {
        let mut rng = Rng::seeded_by("plans");
        for round in 0..300 {
            let steps = plan(round % 3, &mut rng);
            let mut killed: Vec<_> = steps.iter().filter(|step| matches!(step, Step::Kill(_))).collect();
            killed.sort_by_key(|step| format!("{step:?}"));
            assert_eq!(killed, [&Step::Kill(0), &Step::Kill(1), &Step::Kill(2)], "{steps:?}");
            for (at, step) in steps.iter().enumerate() {
                let Step::Kill(member) = step else { continue };
                let later = &steps[at + 1..];
                assert!(
                    !later.contains(&Step::Thaw(*member)) && !later.contains(&Step::Freeze(*member)),
                    "{steps:?}"
                );
            }
        }
    }
}
