//! Several real etcd processes that are one cluster.

use super::client::Client;
use super::server::{Launch, Server};

/// The members of one cluster, all on this machine.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Server>,
}

impl Cluster {
    /// Starts all members, then waits until each of them sees the same leader.
    #[track_caller]
    pub fn start(launches: impl IntoIterator<Item = Launch>) -> Self {
        let mut cluster = Self { members: launches.into_iter().map(Launch::spawn).collect() };
        cluster.wait_ready();
        cluster
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        for member in &mut self.members {
            member.wait_ready();
        }
        self.same_leader();
    }

    #[track_caller]
    fn same_leader(&self) {
        // An election in between may give two members different answers once.
        let mut leaders = Vec::new();
        for _ in 0..50 {
            leaders = self.members.iter().map(|m| m.endpoint_status().leader).collect();
            if leaders.iter().all(|leader| *leader != 0 && *leader == leaders[0]) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("the members do not agree on a leader: {leaders:x?}");
    }

    /// The members in the order they were given.
    pub fn members(&self) -> &[Server] {
        &self.members
    }

    /// A client of the first member.
    pub fn client(&self) -> &Client {
        &self.members[0]
    }

    /// Ends all members with SIGTERM.
    pub fn stop(&mut self) {
        for member in &mut self.members {
            member.stop();
        }
    }

    /// Stops all members, starts them again and waits until they agree on a leader.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        for member in &mut self.members {
            member.spawn_again();
        }
        self.wait_ready();
    }
}
