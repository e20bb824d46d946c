//! Every committed input of every target, and that no target lacks its parts.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz_targets::TARGETS;

fn here(rel: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(rel)
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_target_has_a_bin_and_a_corpus_and_the_reverse() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "two targets of one name");
    assert_eq!(names(&here("corpus")), targets, "directories of corpus/ beside the targets");
    let bins: BTreeSet<_> =
        names(&here("fuzz_targets")).iter().map(|file| file.trim_end_matches(".rs").to_owned()).collect();
    assert_eq!(bins, targets, "files of fuzz_targets/ beside the targets");
    let manifest = fs::read_to_string(here("Cargo.toml")).unwrap();
    for name in &targets {
        assert!(
            manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")),
            "no [[bin]] {name}"
        );
        let bin = fs::read_to_string(here(&format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(bin.contains(&format!("run(\"{name}\"")), "the bin {name} runs another target");
    }
}

#[test]
fn every_input_of_every_corpus_is_survived() {
    for (name, target) in TARGETS {
        let dir = here("corpus").join(name);
        let inputs = names(&dir);
        assert!(!inputs.is_empty(), "{} is empty", dir.display());
        for input in inputs {
            let file = dir.join(input);
            // Captured, and shown when this input is the one that panics.
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
        target(&[]);
    }
}
