//! Grafted files before a judge of their own kind: etcd's `etcdutl`, which runs bbolt's check and counts every pair.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod graft_common;

use std::fs;

use bbolt::graft::Pairs;
use graft_common::{history, read_all, step};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use testdata::oracle::{Tools, Version};

/// Cases, each a history of random edits judged after every graft.
const HISTORIES: usize = 70;

/// `snapshot status` of every file that 70 random histories (more than 200 grafts) produce: no error, and as many
/// pairs as the model has.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_graft() {
    let tools = Tools::find(Version::V3_5_1);
    let dir = tempfile::tempdir().unwrap();
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    let mut judged = 0;
    for case in 0..HISTORIES {
        let history = history().new_tree(&mut runner).unwrap().current();
        let mut file = history.start.bytes();
        let mut model = read_all(&file);
        for (round, ops) in history.grafts.iter().enumerate() {
            file = step(&file, &mut model, ops);
            let path = dir.path().join("db");
            fs::write(&path, &file).unwrap();
            let run = tools.etcdutl(["snapshot", "status", "-w", "json", path.to_str().unwrap()]);
            let status = run.json();
            let pairs: usize = model.values().map(Pairs::len).sum();
            assert_eq!(status["totalKey"], pairs, "case {case}, graft {round}: {status}");
            judged += 1;
        }
    }
    assert!(judged >= 200, "only {judged} grafts were judged");
    println!("{judged} grafts judged");
}
