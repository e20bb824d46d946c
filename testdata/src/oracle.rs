//! Runs real etcd servers and tools on scratch copies, on loopback, for bounded times.
//!
//! ```no_run
//! use testdata::oracle::{Launch, Version};
//! # let dir = std::path::Path::new("scratch/m1");
//! let mut server = Launch::new(Version::V3_5_1, dir, "m1").user("root:rootpw").start();
//! assert_eq!(server.hashkv(0).revision, 78);
//! server.put("k", "v");
//! server.restart();
//! server.stop();
//! ```
//!
//! A test that uses this is named `oracle_*` (or lives in a test binary of that name) and is
//! `#[ignore = "needs real etcd: scripts/test.sh runs it"]`.

mod answers;
mod bbolt;
mod client;
mod cluster;
mod gateway;
mod history;
mod judge;
mod load;
mod mixture;
mod ports;
mod server;
mod token;
mod tools;
mod trio;

pub use answers::{Answers, MemberRow, Permission};
pub use bbolt::Bbolt;
pub use client::{Client, HashKv, Member, Range, Status};
pub use cluster::Cluster;
pub use gateway::{Gateway, Kv, Refusal};
pub use history::{Ending, QUICK, Truth, Workload};
pub use judge::{Digest, Judge, Sight, Verdict};
pub use load::{Acknowledged, Load, Tag, marked, tag_in};
pub use mixture::{Killed, Mixture, PASSWORDS, data_dir_in};
pub use ports::free_ports;
pub use server::{Launch, Server};
pub use token::{NEVER_OLD, token, token_flag};
pub use tools::{Run, Tools, Version};
pub use trio::{Round, Trio, drawn_flags};
