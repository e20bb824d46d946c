//! The real binary, as a user sees it.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

mod bbolt_show;
mod compact;
mod defrag;
mod folding;
mod formats;
mod hash;
mod hashkv;
mod help;
mod inspect;
mod kv;
mod log;
mod restore;
mod run;
mod save;
mod small_buckets;
mod status;
mod streams;
mod surgery;
mod usage;
mod verify;
mod views;
mod wal_dump;
mod wal_repair;
