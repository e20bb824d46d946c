//! The crash rig: every job that writes (`jobs`) is recorded, its operations are replayed on a model of a file system
//! that loses power after each of them, and what can then be on the disk is judged, given to the next run, and, where
//! anything is under a final name, to real servers. Then for real: kills, a full disk, and failing system calls.
//!
//! `ETCD_RESCUE_SOAK=1` tries what takes longer: more than 200 kills, every call of every job that can fail, every size of
//! disk, and the newest server too.
#![allow(clippy::unwrap_used, reason = "tests")]

mod case_file;
mod cuts;
mod faults;
mod in_place;
mod jobs;
mod judge;
mod model;
mod model_tests;
mod registered;
#[path = "../support_hostile/mod.rs"]
mod support_hostile;
mod trace;

/// True when the long numbers are asked for.
fn soak() -> bool {
    std::env::var_os("ETCD_RESCUE_SOAK").is_some_and(|value| value == "1")
}
