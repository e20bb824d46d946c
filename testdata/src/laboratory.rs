//! The damage laboratory: databases of known content, damage to them, and a ledger of what is physically left.
//!
//! A [`Specimen`] is an undamaged database with its truth. A row of [`DAMAGES`] makes a [`Damaged`] file of it, which keeps book
//! of what each page still is; the same seed gives the same bytes. The [`Ledger`] knows every page run on which a whole copy of a
//! record lies, live or in freed pages, and so says which records are left in a damaged file. Nothing here shares code with what
//! salvages.
//!
//! ```no_run
//! use testdata::damage::Rng;
//! use testdata::laboratory::{DAMAGES, Specimen};
//! # let specimen: Specimen = unimplemented!();
//! for damage in DAMAGES {
//!     let mut damaged = specimen.whole();
//!     if damage.apply(&specimen, &mut damaged, &mut Rng::seeded_by(damage.name)) {
//!         println!("{}: {} records left", damage.name, specimen.there(&damaged).len());
//!     }
//! }
//! ```

mod damaged;
mod damages;
mod ledger;
mod plain;
mod served;
mod specimen;
mod young;

pub use damaged::{Damaged, Fill, Origin, Place};
pub use damages::{Count, DAMAGES, Damage, Metas, Number, What, Which};
pub use ledger::Ledger;
pub use plain::{Pairs, PlainFile, PlainHead, PlainMeta, PlainNode, PlainPair, PlainTree, meta_checksum};
pub use served::Served;
pub use specimen::{Parts, Specimen};
