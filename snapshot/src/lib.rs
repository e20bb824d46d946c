//! etcd itself: a data dir is a db, a log and snaps, and what they mean together.
//!
//! [`opened::open`] finds and opens what the user points at, compressed or not; [`integrity`] knows the SHA-256 trailer,
//! [`schema`] the backend's buckets, [`mvcc`] the revisions, [`membership`] and [`v2store`] who belongs to a cluster.
//! On them stand the jobs a user can name, one file each: [`status`], [`save`], [`hash`], [`restore`]. Outputs go
//! through [`stage`]: written, synced, verified, renamed. Nothing here prints; results are reports and findings.
#![forbid(unsafe_code)]

pub mod alarm;
pub mod at_revision;
pub mod auth;
pub mod boot;
pub mod compact;
pub mod compact_file;
pub mod contents;
pub mod copy;
pub mod datadir;
pub mod defrag;
pub mod edited;
pub mod facts;
pub mod find;
pub mod finding;
pub mod fold;
pub use bbolt::gojson;
pub mod gosort;
pub mod gourl;
pub mod hash;
pub mod humanize;
pub mod image;
pub mod input;
pub mod inspect;
pub mod integrity;
pub mod kv_delete;
pub mod kv_diff;
pub mod kv_export;
pub mod kv_history;
pub mod kv_usage;
pub mod lease;
pub mod log_dump;
pub mod log_files;
pub mod log_repair;
pub mod log_tail;
pub mod log_verify;
pub mod lone;
pub mod meaning;
pub mod member_files;
pub mod membership;
pub mod mvcc;
pub mod new_cluster;
mod newest;
pub mod opened;
pub mod overlay;
pub mod plan;
pub mod replay;
pub mod replicate;
pub mod request;
pub mod restore;
pub mod save;
pub mod schema;
pub mod seen;
pub mod snap_files;
pub mod stage;
pub mod status;
pub mod stream_file;
pub mod structure;
pub mod surgery;
pub mod target;
pub mod v2store;
pub mod verify;
pub mod views;
