//! Small real data of real etcd servers, unpacked for tests, and the harness that runs real servers.
//!
//! `fixtures/` and `samples/` beside this crate hold the data (their README says who wrote what);
//! [`snapshot`], [`unpack`], [`facts`] and [`sample`] hand it out. [`fingerprint`] proves that a command left
//! its inputs alone. [`damage`] makes damaged copies of real logs, [`bbolt_damage`] of
//! bbolt files. [`oracle`] starts real etcd servers on scratch copies, [`key_space`] is the plainest model of what they keep,
//! [`plain_log`] the plainest reading of their logs.
//!
//! Everything here panics with a message when it cannot do its job: it is only ever called by tests, and a
//! test that lacks its data must fail.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "test support: a failure here is the test's failure"
)]

pub mod base64;
pub mod bbolt_damage;
pub mod damage;
mod fingerprint;
mod fixture;
pub mod key_space;
pub mod laboratory;
pub mod oracle;
pub mod plain_log;

pub use fingerprint::{Fingerprint, fingerprint, sha256_hex};
pub use fixture::{
    STAGES, VERSIONS, data_dir, decompressed, facts, facts_json, hashkv_facts, path, sample, snapshot,
    snapshot_file, unpack,
};
