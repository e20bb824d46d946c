//! Built files before a judge of their own kind: etcd's `etcdutl`, which runs bbolt's check and counts every pair.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod build_common;
mod graft_common;

use std::fs;

use build_common::{Event, assert_built, case, kept};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use testdata::oracle::{Tools, Version};

/// Programs, each judged once; they do not nest, since etcdutl counts a nested bucket as a pair.
const PROGRAMS: usize = 60;

/// `snapshot status` of what random programs build: no error, and as many pairs as were put in.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_build() {
    let tools = Tools::find(Version::V3_5_1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[12; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    let mut most = 0;
    for program in 0..PROGRAMS {
        let case = case(false).new_tree(&mut runner).unwrap().current();
        fs::write(&path, assert_built(&case)).unwrap();
        let pairs = kept(&case.events).iter().filter(|event| matches!(event, Event::Put { .. })).count();
        let status = tools.etcdutl(["snapshot", "status", "-w", "json", path.to_str().unwrap()]).json();
        assert_eq!(status["totalKey"], pairs, "program {program}: {status}");
        most = most.max(pairs);
    }
    assert!(most > 1000, "no program had more than {most} pairs");
}
