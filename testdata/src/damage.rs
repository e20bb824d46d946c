//! Damage to real logs, each kind a row of a table with its story, what must be found and what can be repaired.
//!
//! [`DAMAGES`] is the table. [`Damage::make`] unpacks a copy of a real server's data dir and damages it; the same row
//! and version give the same bytes every time. What the rows expect follows from the formats and from what real servers
//! did (`log-boots.tsv`), not from what our own program says of the result.
//!
//! ```no_run
//! # let scratch = std::path::Path::new("scratch");
//! for damage in testdata::damage::DAMAGES {
//!     let dir = damage.make("3.5.16", &scratch.join(damage.name));
//!     println!("{}: {} expects {:?}", dir.path().display(), damage.story, damage.codes);
//! }
//! ```

pub mod boot;
mod member_dir;
mod rng;
mod table;

use std::path::Path;

pub(crate) use member_dir::crc_32c;
pub use member_dir::{Frame, MemberDir};
pub use rng::Rng;
pub use table::DAMAGES;

use crate::fixture;

/// The versions whose own logs are damaged, oldest first. Each has every [`Base`].
pub const LOG_VERSIONS: [&str; 3] = ["3.4.23", "3.5.1", "3.5.16"];

/// A real log that damage is done to: `fixtures/<version>/<base>/data.tar.zst`, see the README there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// One segment, entries 1 to 96, four snapshots, the db at the last of them (84), ended by SIGKILL.
    Killed,
    /// Four segments, entries 1 to 449, four snapshots (the last at 404, in the third segment), stopped cleanly.
    Segments,
    /// Two segments, entries 142 to 386; those before were purged. Snapshots at 122 to 366, stopped cleanly.
    Purged,
    /// One segment in which a later leader overwrote eight entries, no snapshot, stopped cleanly.
    Overwritten,
}

impl Base {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Killed, Self::Segments, Self::Purged, Self::Overwritten];

    /// The name of its directory among the fixtures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Segments => "segments",
            Self::Purged => "purged",
            Self::Overwritten => "overwritten",
        }
    }

    /// Unpacks the data dir that a server of `version` (one of [`LOG_VERSIONS`]) left into `dir`, which is made.
    #[must_use]
    pub fn unpack(self, version: &str, dir: &Path) -> MemberDir {
        fixture::unpack(&format!("{version}/{}/data.tar.zst", self.name()), dir);
        MemberDir::of_data_dir(&dir.join("data"))
    }

    /// A file of the facts that were recorded with it, e.g. `hashkv.json`, `newraft.txt`, `keys.txt`.
    #[must_use]
    pub fn facts(self, version: &str, what: &str) -> String {
        let path = fixture::path(&format!("fixtures/{version}/{}/facts/{what}", self.name()));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

/// What can be done about a damaged log, given the data dir around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remedy {
    /// Nothing is to be done: a server starts and has everything.
    NotNeeded,
    /// A repair loses nothing that is known to have been written: a proven bit is turned back, or a tail that was never
    /// wholly written is dropped.
    Lossless,
    /// Records that were written are lost in any repair: only with `--accept-loss`.
    AcceptLoss,
    /// No log can be made of this.
    Hopeless,
}

/// One kind of damage.
#[derive(Debug, Clone, Copy)]
pub struct Damage {
    /// Its name, in lower case with hyphens; unique.
    pub name: &'static str,
    /// What happened, and where.
    pub story: &'static str,
    /// What it is done to.
    pub base: Base,
    /// The codes of all findings about log and snaps, sorted, each once.
    pub codes: &'static [&'static str],
    /// What can be done about it.
    pub remedy: Remedy,
    /// Does it.
    pub apply: fn(&mut MemberDir, &mut Rng),
}

impl Damage {
    /// The row of this name. Panics when there is none.
    #[must_use]
    pub fn named(name: &str) -> &'static Self {
        DAMAGES.iter().find(|damage| damage.name == name).unwrap_or_else(|| panic!("no damage {name}"))
    }

    /// Unpacks the base of `version` (one of [`LOG_VERSIONS`]) into `dir` and damages it.
    #[must_use]
    pub fn make(&self, version: &str, dir: &Path) -> MemberDir {
        let mut member = self.base.unpack(version, dir);
        self.damage(&mut member);
        member
    }

    /// Damages a copy of the base that was unpacked before.
    pub fn damage(&self, member: &mut MemberDir) {
        (self.apply)(member, &mut Rng::seeded_by(self.name));
    }
}
