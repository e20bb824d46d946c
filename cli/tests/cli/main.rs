//! The real binary, as a user sees it.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

mod backup;
mod bbolt_show;
mod case;
mod case_custody;
mod compact;
mod compare;
mod defrag;
mod folding;
mod force_new;
mod formats;
mod hash;
mod hashkv;
mod help;
mod inspect;
mod kv;
mod log;
mod member_edit;
mod member_list;
mod member_plan;
mod migrate;
mod recover;
mod restore;
mod run;
mod salvage;
mod save;
mod small_buckets;
mod status;
mod streams;
mod surgery;
mod usage;
mod v2;
mod verify;
mod views;
mod wal_dump;
mod wal_repair;
