//! What the program says and writes, read plainly.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testdata::key_space::{bucket_key, message};
use testdata::laboratory::{Pairs, PlainFile, PlainTree};
use testdata::oracle::{Kv, Run};
use testdata::sha256_hex;

use super::support::{code, rescue, text};

/// How far a record can be relied on, by the program's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trust {
    Confirmed,
    Single,
    Suspect,
}

/// One salvage.
#[derive(Debug)]
pub(crate) struct Salvaged {
    pub(crate) run: Run,
    pub(crate) code: i32,
    /// The file of `--report`.
    pub(crate) report: Value,
    /// What was written, if anything was.
    pub(crate) output: Option<Output>,
}

/// The snapshot that was written.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) path: PathBuf,
    pub(crate) tree: PlainTree,
    pub(crate) records: Pairs,
}

impl Output {
    fn of(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (image, trailer) = bytes.split_at(bytes.len() - 32);
        let hex: String = trailer.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, sha256_hex(image), "{}", path.display());
        let file = PlainFile::of(image).unwrap();
        let mut tree = file.tree(file.newest().unwrap().1.root).unwrap();
        let records = tree.buckets.remove(&b"key"[..]).unwrap();
        Self { path: path.to_owned(), tree, records }
    }

    /// The last compaction, or none.
    pub(crate) fn compacted(&self) -> Option<i64> {
        let row = self.tree.buckets[&b"meta"[..]].get(&b"finishedCompactRev"[..])?;
        Some(i64::from_be_bytes(row[..8].try_into().unwrap()))
    }
}

impl Salvaged {
    /// Salvages `inputs` to `dir`, whatever is lost.
    pub(crate) fn of(inputs: &[&str], dir: &Path) -> Self {
        let (output, report) = (dir.join("out.db"), dir.join("report.json"));
        _ = fs::remove_file(&output);
        _ = fs::remove_file(&report);
        let flags = ["-q", "-o", text(&output), "--accept-loss", "--report", text(&report)];
        let run = rescue(["salvage"].iter().chain(inputs).chain(&flags));
        let told = fs::read(&report).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap());
        let code = code(&run);
        let written = output.exists().then(|| Output::of(&output));
        assert_eq!(written.is_some(), matches!(code, 0 | 3), "{run:?}");
        Self { run, code, report: told.unwrap_or_default(), output: written }
    }
}

/// A field of bytes: text where that is possible, else in hexadecimal digits.
fn bytes(line: &Value, name: &str) -> Vec<u8> {
    if let Some(text) = line[name].as_str() {
        return text.as_bytes().to_vec();
    }
    let hex = line[format!("{name}_hex")].as_str().unwrap_or_else(|| panic!("no {name} in {line}"));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Every record that `--extract` tells of, as the bucket's key and value, with its trust.
pub(crate) fn extracted(inputs: &[&str], dir: &Path) -> BTreeMap<Vec<u8>, (Vec<u8>, Trust)> {
    let lines = dir.join("lines.json");
    _ = fs::remove_file(&lines);
    let flags = ["-q", "--extract", "", "--revisions", "-o", text(&lines)];
    let run = rescue(["salvage"].iter().chain(inputs).chain(&flags));
    assert!(matches!(code(&run), 0 | 3), "{run:?}");
    let mut told = BTreeMap::new();
    for line in fs::read_to_string(&lines).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| line[name].as_i64().unwrap_or(0);
        let is_deleted = line["deleted"].as_bool().unwrap_or(false);
        let kv = Kv {
            key: bytes(&line, "key"),
            value: if is_deleted { Vec::new() } else { bytes(&line, "value") },
            create_revision: number("create_revision"),
            mod_revision: number("mod_revision"),
            version: number("version"),
            lease: line["lease"].as_str().map_or(0, |hex| i64::from_str_radix(hex, 16).unwrap()),
        };
        let trust = match line["trust"].as_str() {
            Some("confirmed") => Trust::Confirmed,
            Some("single") => Trust::Single,
            Some("suspect") => Trust::Suspect,
            other => panic!("trust {other:?}"),
        };
        let at = (number("revision"), number("sub_revision"), is_deleted);
        let before = told.insert(bucket_key(at), (message(&kv), trust));
        assert!(before.is_none(), "twice: {line}");
    }
    told
}
