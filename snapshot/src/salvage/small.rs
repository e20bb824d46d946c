//! The buckets beside `key`, out of what is left of them (FORMATS A.12, B.1, B.3).
//!
//! They are small, and bbolt keeps most of them inside of the leaf that is the root bucket: each such leaf that is left, of the tree
//! in force or of an older transaction, is a generation of all of them at once. Where a bucket has pages of its own, a leaf
//! nobody points to any more is told by [`classify`] for what it is. [`choose`] takes of each bucket the best there is, and says where
//! it comes from and what follows from what is not there; [`gather()`] brings it all together.

mod choose;
mod classify;
mod gather;
mod meta;
mod words;

pub(crate) use words::Consequence;

pub(crate) use gather::{gather, may_be_older};
