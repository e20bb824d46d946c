//! Fuzz targets: functions of bytes that must not panic, loop or swallow memory, and whose assertions must hold.
//!
//! Each parses its input as it is and once more with every checksum repaired, so that mutations get past them,
//! and then calls what a caller could call. `scripts/fuzz.sh` feeds them mutations; `tests/replay.rs` feeds them every
//! file of `corpus/<target>/` in each ordinary test run. A new target is a function here, a row of [`TARGETS`], a
//! `fuzz_targets/<name>.rs` of five lines with its `[[bin]]`, and a `corpus/<name>/` with at least one real input; the
//! replay fails when one of these is missing. A crash found goes to its corpus under a name that tells the story
//! (names of 16 and more hex digits, as the fuzzer gives them, are not committed).
#![forbid(unsafe_code)]

mod backup;
mod bbolt_show;
mod build;
mod carve;
mod case;
mod case_report;
mod compare;
mod db;
mod force_new;
mod found_files;
mod key_space;
mod member_edit;
mod member_list;
mod migrate;
mod packed;
mod rebuild;
mod recover;
mod replay;
mod request;
mod salvage;
mod small_buckets;
mod surgery;
mod text;
mod v2tree;
mod verify;
mod views;
mod wal;

/// What a target does with one input.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("db_walk", db::walk),
    ("bbolt_show", bbolt_show::show),
    ("snapshot_status", db::status),
    ("snapshot_restore", db::restore),
    ("graft", db::graft),
    ("build_round_trip", build::round_trip),
    ("graft_after_build", build::graft_after),
    ("rebuild", rebuild::any),
    ("carve", carve::any),
    ("salvage", salvage::any),
    ("mvcc_index", key_space::index),
    ("mvcc_query", key_space::query),
    ("compact_round_trip", key_space::compact),
    ("packed_input", packed::input),
    ("views", views::all),
    ("v2_store", text::v2_store),
    ("member_json", text::member),
    ("initial_cluster", text::initial_cluster),
    ("wal_segment", wal::segment),
    ("wal_snap", wal::snap),
    ("request", request::message),
    ("wal_dump", request::log),
    ("wal_scan", wal::scan),
    ("wal_directory", wal::directory),
    ("wal_repair", wal::mend),
    ("surgery", surgery::operate),
    ("small_buckets", small_buckets::all),
    ("verify", verify::of_a_member),
    ("seen_in_log", request::seen),
    ("replay", replay::entries),
    ("found_files", found_files::all),
    ("force_new", force_new::plan),
    ("member_edit", member_edit::any),
    ("backup", backup::plan),
    ("compare", compare::pair),
    ("member_list", member_list::pair),
    ("migrate", migrate::any),
    ("recover", recover::pair),
    ("v2tree", v2tree::tree),
    ("case_open", case::open),
    ("case_add", case::add_any),
    ("case_report", case_report::any),
];

/// Runs the target of this name on `input`. Panics when there is none: a bin that names no target finds nothing.
pub fn run(target: &str, input: &[u8]) {
    let Some((_, function)) = TARGETS.iter().find(|(name, _)| *name == target) else {
        panic!("no fuzz target is called {target}");
    };
    function(input);
}
