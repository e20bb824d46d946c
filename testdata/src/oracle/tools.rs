//! Where the real programs are, and running one of them to its end.

use std::env;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Real etcd versions that install by package name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 3.4.23: etcd and etcdctl (which still has `snapshot status` and `restore`).
    V3_4,
    /// 3.5.1: etcd, etcdctl, etcdutl; without the tombstone rule of later releases.
    V3_5_1,
    /// A later 3.5 (3.5.16 or 3.5.30) with etcd, etcdctl, etcdutl; [`Tools::release`] says which.
    V3_5New,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::V3_4, Self::V3_5_1, Self::V3_5New];

    /// The directory under `.tools/`.
    fn dir_name(self) -> &'static str {
        match self {
            Self::V3_4 => "etcd-3.4.23",
            Self::V3_5_1 => "etcd-3.5.1",
            Self::V3_5New => "etcd-3.5.new",
        }
    }

    /// `MAJOR.MINOR`, as `--target-version` takes it.
    pub fn minor(self) -> &'static str {
        match self {
            Self::V3_4 => "3.4",
            Self::V3_5_1 | Self::V3_5New => "3.5",
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::V3_4 => &["etcd", "etcdctl"],
            Self::V3_5_1 | Self::V3_5New => &["etcd", "etcdctl", "etcdutl"],
        }
    }
}

/// The directory `name` of what `scripts/install-oracles.sh` installed, with these programs in it. Panics when one is
/// missing: an oracle test without its oracle fails.
pub(super) fn installed(name: &str, programs: &[&str]) -> PathBuf {
    let root = env::var_os("ETCD_RESCUE_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools"), PathBuf::from);
    let dir = root.join(name);
    for program in programs {
        let path = dir.join(program);
        assert!(
            path.is_file(),
            "{} is missing: run scripts/install-oracles.sh, or set ETCD_RESCUE_TOOLS to where it installed to",
            path.display()
        );
    }
    dir
}

/// A command for `program`, with nothing of this environment's `ETCD_*` settings. The mark by which
/// `scripts/test.sh` finds processes that outlived their test is handed on.
pub(super) fn bare_command(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    if let Some(mark) = env::var_os("RESCUE_TEST_RUN") {
        command.env("RESCUE_TEST_RUN", mark);
    }
    command
}

/// The programs of one version.
#[derive(Clone, Debug)]
pub struct Tools {
    version: Version,
    dir: PathBuf,
}

impl Tools {
    /// Finds the programs under `$ETCD_RESCUE_TOOLS`, by default `.tools/` of the workspace. Panics when one is
    /// missing: an oracle test without its oracle fails.
    pub fn find(version: Version) -> Self {
        Self { version, dir: installed(version.dir_name(), version.programs()) }
    }

    /// Which version these are of.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The exact release, e.g. `3.5.16`, as recorded by the install script.
    pub fn release(&self) -> String {
        let file = self.dir.join("VERSION");
        std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())).trim().to_owned()
    }

    /// A command for one program, with nothing of this environment's `ETCD_*` settings.
    pub fn command(&self, program: &str) -> Command {
        let mut command = bare_command(self.dir.join(program));
        command.env("ETCDCTL_API", "3");
        command
    }

    /// Runs etcdctl without a server (3.4's `snapshot status` and `snapshot restore`).
    pub fn etcdctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let mut command = self.command("etcdctl");
        command.args(args);
        Run::to_end(command)
    }

    /// Runs etcdutl; there is none in 3.4.
    pub fn etcdutl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let mut command = self.command("etcdutl");
        command.args(args);
        Run::to_end(command)
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Run {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// What it complained of; bytes that are not UTF-8 are replaced.
    pub stderr: String,
}

/// No call of a client or an offline tool on test data takes a tenth of this.
const LIMIT: Duration = Duration::from_secs(60);

impl Run {
    /// Runs `command` to its end, capturing both outputs; kills it and panics after a minute.
    pub fn to_end(mut command: Command) -> Self {
        let line = format!("{command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        let collect = |mut pipe: Box<dyn Read + Send>| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = pipe.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = collect(Box::new(child.stdout.take().expect("piped")));
        let stderr = collect(Box::new(child.stderr.take().expect("piped")));
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                break Some(status);
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let stdout = stdout.join().expect("reading a pipe does not panic");
        let stderr = stderr.join().expect("reading a pipe does not panic");
        let Some(status) = status else {
            panic!("{line}: still running after {LIMIT:?}\nstdout: {stdout}\nstderr: {stderr}");
        };
        Self { command: line, status, stdout, stderr }
    }

    /// This run, or a panic showing all of it when the exit code was not 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(
            self.status.success(),
            "{}\nended with {}\nstdout: {}\nstderr: {}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    /// The output as JSON; panics when the run failed or printed something else.
    #[track_caller]
    pub fn json(self) -> Value {
        let run = self.ok();
        serde_json::from_str(&run.stdout)
            .unwrap_or_else(|e| panic!("{}: not JSON ({e}): {}", run.command, run.stdout))
    }
}
