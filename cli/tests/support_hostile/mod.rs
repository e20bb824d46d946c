//! A directory of inputs that must not change, a directory for outputs in which nothing may be left, and the real binary
//! between them, never for longer than a stressed person would wait.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests, which clippy does not see as tests"
)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bbolt::{Db, Graft};
use snapshot::mvcc::{KeyValue, Revision};
use tempfile::TempDir;
use testdata::{Fingerprint, fingerprint};

/// Nothing may take longer, whatever it is given.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The members of a cluster of three.
pub const THREE: &str = "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380";
/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_etcd-rescue");

/// What a run of the binary came to.
#[derive(Debug)]
pub struct Ran {
    pub args: Vec<OsString>,
    /// `None` when a signal ended it, ours after [`PATIENCE`] included.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Asserts the exit code, and that the story holds all of `parts`.
    #[track_caller]
    pub fn says(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:#?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }
}

/// Runs `command` to its end or to the end of our patience.
#[track_caller]
pub fn finish(command: Command) -> Ran {
    let args = command.get_args().map(OsStr::to_owned).collect();
    let output = assert_cmd::Command::from_std(command).timeout(PATIENCE).output().expect("it starts");
    Ran {
        args,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `in/` and `out/` and `tmp/`, in a directory that everybody may enter.
pub struct World {
    root: TempDir,
}

impl World {
    /// A world with a sound snapshot in `in/good.db`.
    pub fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("hostile")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        for dir in ["in", "out", "tmp"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        let world = Self { root };
        world.put("good.db", good());
        world
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path in `in/`.
    pub fn input(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join("in").join(name)
    }

    /// A path in `out/`.
    pub fn output(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join("out").join(name)
    }

    /// Makes an input.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.input(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The binary in this world's directory: inputs are `in/…`, outputs `out/…`.
    pub fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.current_dir(self.root()).env("TMPDIR", self.root().join("tmp")).stdin(Stdio::null());
        command
    }

    /// Runs the binary.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        let mut command = self.command();
        command.args(args);
        self.guard(|| finish(command))
    }

    /// Runs the binary with arguments separated by blanks.
    #[track_caller]
    pub fn line(&self, args: &str) -> Ran {
        self.run(args.split_whitespace())
    }

    /// [`World::line`], which must fail with `code`, say `parts`, print nothing and leave nothing behind.
    #[track_caller]
    pub fn refuses(&self, args: &str, code: i32, parts: &[&str]) -> Ran {
        self.refused(args.split_whitespace(), code, parts)
    }

    /// [`World::refuses`] with arguments that hold blanks, or are no text.
    #[track_caller]
    pub fn refused<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        code: i32,
        parts: &[&str],
    ) -> Ran {
        let before = self.outputs();
        let ran = self.run(args);
        ran.says(code, parts);
        assert_eq!(ran.stdout, "", "a refusal has no result: {ran:#?}");
        assert_eq!(before, self.outputs(), "something was left behind by {ran:#?}");
        ran
    }

    /// Names, modes and contents of everything in `out/`: what a failed run must leave as it was.
    pub fn outputs(&self) -> Vec<(PathBuf, u32, Option<String>)> {
        let out = fingerprint(&self.root().join("out"));
        out.paths()
            .map(|path| {
                let mode = fs::symlink_metadata(self.output(path)).unwrap().permissions().mode();
                (path.to_owned(), mode, out.sha256(path).map(str::to_owned))
            })
            .collect()
    }

    /// The names in `out/`, all levels, with what is staged.
    pub fn names(&self) -> Vec<String> {
        self.outputs().iter().map(|(path, ..)| path.display().to_string()).filter(|p| !p.is_empty()).collect()
    }

    /// Runs `job` and asserts that the inputs are what they were, times and all, and that no temporary file remains.
    #[track_caller]
    pub fn guard<T>(&self, job: impl FnOnce() -> T) -> T {
        let inputs = |world: &Self| -> Fingerprint { fingerprint(&world.root().join("in")) };
        let before = inputs(self);
        let result = job();
        assert_eq!(before, inputs(self), "inputs changed");
        let left: Vec<_> = fs::read_dir(self.root().join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "left in the temporary directory: {left:?}");
        result
    }

    /// Empties `out/`.
    pub fn clear(&self) {
        let out = self.root().join("out");
        fs::remove_dir_all(&out).unwrap();
        fs::create_dir(&out).unwrap();
    }
}

/// A sound snapshot with a trailer, of etcd 3.7.
pub fn good() -> Vec<u8> {
    testdata::snapshot("3.7.1", "s3-final")
}

/// Bytes of a snapshot without its trailer.
pub fn image(snapshot: &[u8]) -> &[u8] {
    &snapshot[..snapshot.len() - 32]
}

/// The db `small` with each of `values` put to a key of its own behind its last revision, one revision each.
pub fn grown(small: &[u8], values: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let db = Db::from_source(small).unwrap();
    let record = |(main, value): (i64, Vec<u8>)| {
        let name = format!("/grown/{main}");
        let kv = KeyValue {
            key: name.as_bytes(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            value: &value,
            lease: 0,
        };
        let mut record = Vec::new();
        kv.encode(&mut record);
        (Revision { main, sub: 0, tombstone: false }.encode(), record)
    };
    let mut graft = Graft::new(&db);
    let last =
        graft.pairs(b"key").unwrap().and_then(|pairs| pairs.last_key_value().map(|(key, _)| key.clone()));
    let last = last.map_or(1, |key| Revision::parse(&key).unwrap().main);
    graft.append(b"key", (last + 1..).zip(values).map(record).collect()).unwrap();
    let mut file = small.to_vec();
    graft.finish().unwrap().apply_to_vec(&mut file);
    file
}

/// True when this process may do everything: permissions then say nothing about what others may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A shell script, run as root of mount namespaces of its own, with `set -eu`; `$0` is the binary. Fails, rather than being
/// skipped, where neither root nor user namespaces are to be had.
#[track_caller]
pub fn in_own_mounts(world: &World, script: &str) -> Ran {
    let mut command = Command::new("unshare");
    // Root needs no user namespace, and some hosts have none.
    command.arg(if is_root() { "-m" } else { "-rm" }).args(["sh", "-euc", script, BINARY]);
    command.current_dir(world.root()).env("TMPDIR", world.root().join("tmp")).stdin(Stdio::null());
    let ran = finish(command);
    assert!(
        !ran.stderr.contains("unshare:") && !ran.stderr.contains("mount:"),
        "this test must mount file systems: run it as root, or where user namespaces are allowed: {ran:#?}"
    );
    ran
}
