//! Runs the binary and keeps what came out.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;

/// What a run left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// stdout as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A directory to run in, so that messages name no path of this machine.
pub(crate) struct Room(TempDir);

impl Room {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A room with a real snapshot in it, called `snapshot.db`.
    pub(crate) fn with_snapshot(version: &str, stage: &str) -> Self {
        let room = Self::new();
        room.write("snapshot.db", &testdata::snapshot(version, stage));
        room
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).expect("writing a file");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).expect("reading a file")
    }

    /// Names in the directory, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("listing the room");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Runs `etcd-rescue` with the words of `line`.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn run_words(&self, words: &[&str]) -> Ran {
        let output = self.command().args(words).output().expect("the binary runs");
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        let scrub = |bytes| text(bytes).replace(&real(self.path()), "ROOM");
        Ran {
            code: output.status.code().expect("an exit code"),
            stdout: scrub(output.stdout),
            stderr: scrub(output.stderr),
        }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.path()).env("COLUMNS", "100");
        command
    }
}

pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_etcd-rescue"))
}

fn real(path: &Path) -> String {
    path.canonicalize().expect("the room exists").display().to_string()
}

/// The end of a log's only segment, for whoever goes on with it.
pub(crate) struct LogEnd {
    pub(crate) writer: wal::LogWriter,
    /// Index and term of the last entry.
    pub(crate) last: (u64, u64),
    path: PathBuf,
    offset: u64,
}

impl LogEnd {
    pub(crate) fn of(path: PathBuf) -> Self {
        let bytes = fs::read(&path).unwrap();
        let (mut metadata, mut last) = (Vec::new(), (0, 0));
        let mut records = wal::read_segment(&bytes);
        for record in records.by_ref() {
            let record = record.unwrap();
            match record.record_type {
                wal::RecordType::Metadata => metadata = record.data.to_vec(),
                wal::RecordType::Entry => {
                    let entry = wal::EntryRef::decode(record.data).unwrap();
                    last = (entry.index, entry.term);
                }
                _ => {}
            }
        }
        let (crc, offset) = (records.crc(), records.offset());
        let resume =
            wal::Resume { seq: 0, first_index: 0, last_index: last.0, crc, metadata, state: None, offset };
        Self { writer: wal::LogWriter::resume(resume).unwrap(), last, path, offset }
    }

    /// Puts what was pushed into the file.
    pub(crate) fn write(mut self) {
        let mut more = Vec::new();
        self.writer.flush(&mut more).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(&more, self.offset).unwrap();
    }
}
