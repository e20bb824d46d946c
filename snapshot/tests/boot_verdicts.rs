//! What is foretold of a start, against what real servers did with every row of the table of damage
//! (`testdata/log-boots`, which `oracle_log_boots` has them do again).
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod boots;

use std::env;

use boots::{booted, foretold, in_the_tables_terms};
use testdata::damage::{Base, DAMAGES};

fn the_servers_did_so(version: &str) {
    let recorded = booted(version);
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for base in Base::ALL {
        // 250 MB a row: the other versions' in the soak.
        if base == Base::Segments && version != "3.5.16" && env::var_os("ETCD_RESCUE_SOAK").is_none() {
            continue;
        }
        let clean = base.unpack(version, &scratch.path().join(base.name()));
        for damage in DAMAGES.iter().filter(|damage| damage.base == base) {
            let dir = scratch.path().join("copy");
            let mut member = clean.copy_to(&dir);
            damage.damage(&mut member);
            let start = foretold(&member, version);
            let told = in_the_tables_terms(&start, &recorded[damage.name]);
            if told != recorded[damage.name] {
                wrong.push(format!(
                    "{}: foretold {start:?}, the server {:?}",
                    damage.name, recorded[damage.name]
                ));
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
        std::fs::remove_dir_all(clean.path()).unwrap();
    }
    assert!(wrong.is_empty(), "{version}: {wrong:#?}");
}

#[test]
fn etcd_3_4_does_what_is_foretold() {
    the_servers_did_so("3.4.23");
}

#[test]
fn etcd_3_5_1_does_what_is_foretold() {
    the_servers_did_so("3.5.1");
}

#[test]
fn etcd_3_5_16_does_what_is_foretold() {
    the_servers_did_so("3.5.16");
}
