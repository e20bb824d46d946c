//! What a real server does with a data dir when it starts, as one line of `log-boots.tsv`.

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::oracle::{Launch, Version};

/// How a start went. The numbers are those that the server's raft printed of what it found on disk, before it wrote
/// anything itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server serves.
    Starts(Found),
    /// The server cut its last segment, kept a copy with the ending `.broken`, and serves.
    Cuts(Found),
    /// The server runs, and its raft knows of no voter: there is never a leader, and it serves nobody.
    NoLeader(Found),
    /// The server took the directory for a new member's, and serves.
    NewCluster {
        /// The revision of its store.
        revision: i64,
    },
    /// The server ended.
    Fails {
        /// What it complained of last, without times and paths.
        words: String,
    },
}

/// What raft found, and what the server then served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The index of the snapshot it began with.
    pub snapshot: u64,
    /// The commit of the hard state.
    pub commit: u64,
    /// The last entry.
    pub last_index: u64,
    /// The last entry's term.
    pub last_term: u64,
    /// The revision of the store; 0 where nobody was served.
    pub revision: i64,
}

impl fmt::Display for Outcome {
    /// The columns of the table: outcome, snapshot, commit, last index, last term, revision, words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = |f: &mut fmt::Formatter<'_>, how: &str, found: &Found| {
            let Found { snapshot, commit, last_index, last_term, revision } = found;
            write!(f, "{how}\t{snapshot}\t{commit}\t{last_index}\t{last_term}\t{revision}\t-")
        };
        match self {
            Self::Starts(at) => found(f, "starts", at),
            Self::Cuts(at) => found(f, "cuts", at),
            Self::NoLeader(at) => found(f, "no-leader", at),
            Self::NewCluster { revision } => write!(f, "new-cluster\t-\t-\t-\t-\t{revision}\t-"),
            Self::Fails { words } => write!(f, "fails\t-\t-\t-\t-\t-\t{words}"),
        }
    }
}

/// How long a server may take until it serves or has ended.
const LIMIT: Duration = Duration::from_secs(40);

/// How long a server whose raft knows of no voter is given to find one.
const VOTERLESS_LIMIT: Duration = Duration::from_secs(4);

/// Starts `version` on a scratch data dir, which it changes, and stops it again. Panics when it neither serves nor ends.
#[must_use]
pub fn boot(version: Version, dir: &Path) -> Outcome {
    let mut server = Launch::new(version, dir, "n1")
        .args([
            "--heartbeat-interval",
            "20",
            "--election-timeout",
            "200",
            "--max-wals",
            "0",
            "--max-snapshots",
            "0",
        ])
        .spawn();
    let started = Instant::now();
    let leads = loop {
        if server.exited().is_some() {
            return Outcome::Fails { words: complaint(&server.log(), dir) };
        }
        let log = server.log();
        if log.contains("ready to serve client requests") {
            break true;
        }
        if log.contains("newRaft") && !has_voters(&log) && started.elapsed() > VOTERLESS_LIMIT {
            break false;
        }
        assert!(started.elapsed() < LIMIT, "{} neither serves nor ends:\n{}", dir.display(), server.log());
        thread::sleep(Duration::from_millis(20));
    };
    let revision = if leads { server.endpoint_status().revision } else { 0 };
    let log = server.log();
    server.stop();
    if !log.contains("restarting local member") && !log.contains("restarting member") {
        return Outcome::NewCluster { revision };
    }
    let raft = log
        .lines()
        .find_map(|line| line.split_once("newRaft ").map(|(_, rest)| rest))
        .unwrap_or_else(|| panic!("no newRaft in:\n{log}"));
    let number = |name: &str| -> u64 {
        let (_, rest) =
            raft.split_once(&format!(" {name}: ")).unwrap_or_else(|| panic!("no {name} in {raft}"));
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().unwrap_or_else(|e| panic!("{name} in {raft}: {e}"))
    };
    let found = Found {
        snapshot: number("applied"),
        commit: number("commit"),
        last_index: number("lastindex"),
        last_term: number("lastterm"),
        revision,
    };
    if !leads {
        return Outcome::NoLeader(found);
    }
    let broken = std::fs::read_dir(dir.join("member/wal"))
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".broken")));
    if broken { Outcome::Cuts(found) } else { Outcome::Starts(found) }
}

/// Whether its raft has known of a voter.
fn has_voters(log: &str) -> bool {
    log.split("switched to configuration voters=(").skip(1).any(|rest| !rest.starts_with(')'))
}

/// What a server said last before it ended: of 3.5 the message and error of its last fatal or panic line, of 3.4 the last
/// critical line; else the line in which Go says why it panicked.
fn complaint(log: &str, dir: &Path) -> String {
    let json = |line: &str| -> Option<String> {
        let line: Value = serde_json::from_str(line).ok()?;
        matches!(line["level"].as_str()?, "fatal" | "panic").then_some(())?;
        let message = line["msg"].as_str()?;
        Some(line["error"].as_str().map_or_else(|| message.to_owned(), |error| format!("{message}: {error}")))
    };
    let plain = |line: &str| line.split_once(" C | ").map(|(_, rest)| rest.to_owned());
    let go = |line: &str| line.strip_prefix("panic: ").map(str::to_owned);
    let said = log.lines().filter_map(|line| json(line).or_else(|| plain(line)).or_else(|| go(line))).next();
    let said = said.unwrap_or_else(|| panic!("it ended and did not say why:\n{log}"));
    said.replace(&dir.display().to_string(), "DIR").replace(['\t', '\n'], " ")
}
