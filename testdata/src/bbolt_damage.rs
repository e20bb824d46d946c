//! Damage to bbolt files, each kind a row of a table with its story, what must be found and what bbolt's own tools do.
//!
//! [`DAMAGES`] is the table. [`Damage::make`] takes a sound file that the real bbolt library or a real etcd wrote and
//! damages it; the same row gives the same bytes every time. What the rows expect follows from the format and from what
//! was damaged; what the peers do was seen (`tests/oracle_bbolt_damage.rs` holds it against them).
//!
//! ```no_run
//! for damage in testdata::bbolt_damage::DAMAGES {
//!     let bytes = damage.make();
//!     println!("{}: {} ({} bytes)", damage.name, damage.story, bytes.len());
//! }
//! ```

mod image;
mod table;

use std::ops::RangeInclusive;

pub use image::{ADDED, Image, MetaField, PAGE};
pub use table::DAMAGES;

use crate::damage::Rng;
use crate::fixture;

/// A sound file that damage is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// What `bbolt/make.go` wrote with bbolt 1.3.6: 209 pages, a kept freelist, four levels, values of several pages,
    /// nested, inline and empty buckets. Its pages:
    ///
    /// ```text
    /// 207 root bucket: empty (inline), inline (inline), large, nested, tree
    ///   2 large: 183 (to 187), 188 (to 196)
    /// 203 nested: inner at 202 (181 182 198 199 200 201), tiny (inline)
    /// 206 tree: 205, 179
    ///     205: 153 to 159 (4 to 45, six leaves each) and 204 (46 to 53, 74, 75)
    ///     179: 165 to 175 (76 to 141, six leaves each) and 176 (142 to 152)
    /// 208 freelist: 3, 54 to 73, 160 to 164, 177, 178, 180, 197
    /// meta 0 is in force (transaction 6); meta 1 has the whole tree of transaction 5: root 3, freelist 197
    /// ```
    Library,
    /// The snapshot of etcd 3.5.1 in its last stage, without its hash: 56 pages, no freelist, both metas name one root.
    ///
    /// ```text
    /// 32 root bucket: ten buckets, all inline but key
    /// 33 key: 5, 7 (to 29), 31
    /// ```
    Etcd,
}

impl Base {
    /// The sound file.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Library => fixture::decompressed("bbolt/base.db.zst"),
            Self::Etcd => {
                let mut bytes = fixture::snapshot("3.5.1", "s3-final");
                bytes.truncate(bytes.len() / PAGE * PAGE);
                bytes
            }
        }
    }
}

/// Findings of one code, and the pages they are about.
pub type Expected = (&'static str, &'static [RangeInclusive<u64>]);

/// What a program of bbolt's own does with a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// It says that all is well.
    SaysOk,
    /// It tells of something that is wrong.
    Reports,
    /// It cannot open the file, and says so.
    Refuses,
    /// It panics, or dies of a signal; where it does so beside its main thread it may have said that all is well before.
    Panics,
    /// It runs for longer than anybody waits, or until memory is gone.
    Hangs,
}

/// One kind of damage.
#[derive(Debug, Clone, Copy)]
pub struct Damage {
    /// Its name, in lower case with hyphens; unique.
    pub name: &'static str,
    /// What happened.
    pub story: &'static str,
    /// What it is done to.
    pub base: Base,
    /// All findings, by code and page; `None` when the file cannot be opened at all.
    pub findings: Option<&'static [Expected]>,
    /// What `bbolt check` 1.4.3 does.
    pub bbolt: Peer,
    /// What `etcdutl snapshot status` 3.5.1 does, which runs the check of bbolt 1.3.6.
    pub etcdutl: Peer,
    /// Does it.
    pub apply: fn(&mut Image, &mut Rng),
}

impl Damage {
    /// The row of this name. Panics when there is none.
    #[must_use]
    pub fn named(name: &str) -> &'static Self {
        DAMAGES.iter().find(|damage| damage.name == name).unwrap_or_else(|| panic!("no damage {name}"))
    }

    /// The damaged file.
    #[must_use]
    pub fn make(&self) -> Vec<u8> {
        let mut image = Image::new(self.base.bytes());
        (self.apply)(&mut image, &mut Rng::seeded_by(self.name));
        image.into_bytes()
    }

    /// The findings one by one, sorted: code and page.
    #[must_use]
    pub fn expected(&self) -> Option<Vec<(&'static str, u64)>> {
        let pages = |(code, ranges): &Expected| {
            let code = *code;
            ranges.iter().cloned().flatten().map(move |page| (code, page)).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.findings?.iter().flat_map(pages).collect();
        all.sort_unstable();
        Some(all)
    }
}
