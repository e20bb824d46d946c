//! Hands out the files under `fixtures/` and `samples/`, decompressed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The etcd versions that wrote `fixtures/<version>/single`, oldest first.
pub const VERSIONS: [&str; 5] = ["3.4.23", "3.5.1", "3.5.30", "3.6.14", "3.7.1"];

/// The stages of a `single` fixture at which a snapshot and facts were taken, in order of time.
/// Auth is on in the last two (`root:rootpw`), the NOSPACE alarm stands in the last.
pub const STAGES: [&str; 3] = ["s1-precompact", "s2-auth", "s3-final"];

/// The absolute path of a file of this crate, e.g. `fixtures/restored/golden.tsv`. Panics if it is not there.
pub fn path(rel: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(rel);
    assert!(path.exists(), "testdata has no {rel}");
    path
}

fn read(rel: &str) -> Vec<u8> {
    fs::read(path(rel)).unwrap_or_else(|e| panic!("testdata/{rel}: {e}"))
}

/// The content of a `.zst` file of this crate, e.g. `fixtures/3.5.30/cluster3/facts/keys.json.zst`.
pub fn decompressed(rel: &str) -> Vec<u8> {
    zstd::decode_all(read(rel).as_slice()).unwrap_or_else(|e| panic!("testdata/{rel}: {e}"))
}

fn text(bytes: Vec<u8>, rel: &str) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| panic!("testdata/{rel}: {e}"))
}

/// The snapshot of `version` (one of [`VERSIONS`]) at `stage` (one of [`STAGES`]) as the server sent it and
/// etcdctl saved it: a bbolt file with its SHA-256 trailer.
pub fn snapshot(version: &str, stage: &str) -> Vec<u8> {
    decompressed(&format!("fixtures/{version}/single/{stage}.snapshot.db.zst"))
}

/// Writes [`snapshot`] to `dir/<version>-<stage>.snapshot.db` and returns that path.
pub fn snapshot_file(version: &str, stage: &str, dir: &Path) -> PathBuf {
    let file = dir.join(format!("{version}-{stage}.snapshot.db"));
    fs::write(&file, snapshot(version, stage)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    file
}

/// What the live server's etcdctl printed at `stage`, e.g. `hashkv.json`, `keys.json`, `members.json`,
/// `endpoint-status.json`, `leases.json`, `lease-ttl.json`, `alarms.txt`, `users.txt`, `roles.txt`.
pub fn facts(version: &str, stage: &str, what: &str) -> String {
    let rel = format!("fixtures/{version}/single/facts/{stage}.{what}");
    if what == "keys.json" {
        let rel = format!("{rel}.zst");
        return text(decompressed(&rel), &rel);
    }
    text(read(&rel), &rel)
}

/// [`facts`] parsed. `lease-ttl`, `role-get` and `user-get` hold one document a line: the result is always the
/// list of documents in the file.
pub fn facts_json(version: &str, stage: &str, what: &str) -> Vec<Value> {
    let text = facts(version, stage, what);
    serde_json::Deserializer::from_str(&text)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|e| panic!("facts {version} {stage} {what}: {e}"))
}

/// The recorded hashkv of the live server: hash, the revision it was taken at, the compacted revision (-1 when
/// nothing was compacted).
pub fn hashkv_facts(version: &str, stage: &str) -> (u64, i64, i64) {
    let facts = facts_json(version, stage, "hashkv.json");
    let hash = &facts[0][0]["HashKV"];
    let number =
        |v: &Value| v.as_i64().unwrap_or_else(|| panic!("hashkv {version} {stage}: no number in {hash}"));
    (
        hash["hash"].as_u64().unwrap_or_else(|| panic!("hashkv {version} {stage}: no hash in {hash}")),
        number(&hash["header"]["revision"]),
        number(&hash["compact_revision"]),
    )
}

/// What a real tool printed: the file `samples/<name>` word for word.
pub fn sample(name: &str) -> String {
    let rel = format!("samples/{name}");
    text(read(&rel), &rel)
}

/// Unpacks `fixtures/<tar_rel>` (a `.tar.zst`) into `dir`, which is made if it is missing. Modes are kept,
/// owners are not, and files that were archived sparse stay sparse.
pub fn unpack(tar_rel: &str, dir: &Path) {
    fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let archive = path(&format!("fixtures/{tar_rel}"));
    // GNU tar seeks over the holes of a sparse member. The decoder runs in this process, since a machine with
    // tar need not have the zstd program.
    let mut tar = Command::new("tar")
        .args(["--extract", "--preserve-permissions", "--no-same-owner", "--file=-", "--directory"])
        .arg(dir)
        .stdin(Stdio::piped())
        .spawn()
        .expect("tests need the program tar");
    {
        let mut stdin = tar.stdin.take().expect("stdin is piped");
        let input = File::open(&archive).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
        zstd::stream::copy_decode(input, &mut stdin).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
    }
    let status = tar.wait().expect("tar was started");
    assert!(status.success(), "tar on {} ended with {status}", archive.display());
}

/// Unpacks the stopped server's data dir of `version` into `dir` and returns its path (the parent of `member`).
pub fn data_dir(version: &str, dir: &Path) -> PathBuf {
    unpack(&format!("{version}/single/data.tar.zst"), dir);
    dir.join("data")
}
