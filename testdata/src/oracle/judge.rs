//! The judge of written files: a program on the real bbolt library that changes a file at random and finds out whether
//! bbolt can live with it (`judge/main.go`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::tools::{Run, bare_command, installed};

/// The program, as `scripts/install-oracles.sh` built it.
#[derive(Clone, Debug)]
pub struct Judge {
    program: PathBuf,
}

/// What bbolt saw in a file before anything was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Buckets, at any depth.
    pub buckets: u64,
    /// Pairs in all of them.
    pub keys: u64,
    /// Over all buckets, sequences, keys and values in order; [`Digest`] makes it of what a test expects.
    pub digest: u64,
}

/// What became of one file.
pub type Verdict = Result<Sight, String>;

/// Most files that one process is given: it must be done within the minute that a [`Run`] may take.
const AT_ONCE: usize = 50;

impl Judge {
    /// Finds the program. Panics when it is missing: an oracle test without its oracle fails.
    pub fn find() -> Self {
        Self { program: installed("judge", &["judge"]).join("judge") }
    }

    /// Judges scratch files, which are changed: `rounds` transactions each, chosen by `seed` plus the number of the
    /// file. A file on which the program crashed is condemned with what it said then.
    pub fn verdicts(&self, seed: usize, rounds: usize, files: &[PathBuf]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        // After a crash the files behind the one that caused it are still to be judged.
        while let Some(rest) = files.get(verdicts.len()..).filter(|rest| !rest.is_empty()) {
            let some = &rest[..rest.len().min(AT_ONCE)];
            let mut command = bare_command(self.program.clone());
            command.args(["-seed", &(seed + verdicts.len()).to_string(), "-rounds", &rounds.to_string()]);
            command.args(some);
            verdicts.extend(told(&Run::to_end(command), some));
        }
        verdicts
    }

    /// Judges files that must be sound; returns what bbolt saw in them. Panics over every file that is not.
    #[track_caller]
    pub fn accept(&self, seed: usize, rounds: usize, files: &[PathBuf]) -> Vec<Sight> {
        let verdicts = self.verdicts(seed, rounds, files);
        assert_eq!(verdicts.len(), files.len());
        let broken: BTreeMap<&Path, &String> = verdicts
            .iter()
            .zip(files)
            .filter_map(|(verdict, file)| Some((file.as_path(), verdict.as_ref().err()?)))
            .collect();
        assert!(
            broken.is_empty(),
            "bbolt breaks over {} of {} files: {broken:#?}",
            broken.len(),
            files.len()
        );
        verdicts.into_iter().flatten().collect()
    }
}

/// The verdicts of one run: of every file, or of those up to the one it crashed on.
fn told(run: &Run, files: &[PathBuf]) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = Vec::new();
    for (line, file) in run.stdout.lines().zip(files) {
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields.get(1).copied(), file.to_str(), "{run:?}");
        verdicts.push(match fields.as_slice() {
            ["ok", _, buckets, keys, digest, _commits] => Ok(Sight {
                buckets: buckets.parse().unwrap_or_else(|e| panic!("{line}: {e}")),
                keys: keys.parse().unwrap_or_else(|e| panic!("{line}: {e}")),
                digest: u64::from_str_radix(digest, 16).unwrap_or_else(|e| panic!("{line}: {e}")),
            }),
            ["broken", _, what] => Err((*what).to_owned()),
            _ => panic!("{run:?}"),
        });
    }
    let all_judged = verdicts.len() == files.len();
    let code = run.status.code();
    let fits = match code {
        Some(0) => all_judged && verdicts.iter().all(Result::is_ok),
        Some(1) => all_judged && verdicts.iter().any(Result::is_err),
        // A Go program that crashes ends with 2; it tells what it was called with wrongly in the same way, but then
        // nothing was judged and it shows its usage.
        _ => !all_judged && !run.stderr.contains("-rounds int"),
    };
    assert!(fits, "{run:?}");
    if !all_judged {
        let first_lines: Vec<&str> = run.stderr.lines().take(12).collect();
        verdicts.push(Err(format!("{}: {}", run.status, first_lines.join(" | "))));
    }
    verdicts
}

/// The digest of [`Sight`], made of what a file should hold: buckets and pairs in the order of their keys.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Digest {
    /// FNV-1a, 64 bits.
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    fn word(&mut self, tag: u8, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap_or_else(|e| panic!("{} bytes: {e}", bytes.len()));
        self.bytes(&[tag]);
        self.bytes(&len.to_be_bytes());
        self.bytes(bytes);
    }

    /// Takes a pair of the bucket that is open.
    pub fn pair(&mut self, key: &[u8], value: &[u8]) {
        self.word(b'k', key);
        self.word(b'v', value);
    }

    /// Opens a bucket in the one that is open.
    pub fn begin_bucket(&mut self, name: &[u8], sequence: u64) {
        self.word(b'b', name);
        self.word(b's', &sequence.to_be_bytes());
    }

    /// Closes the bucket that is open.
    pub fn end_bucket(&mut self) {
        self.word(b'e', b"");
    }

    /// The digest of all that was taken.
    pub fn value(&self) -> u64 {
        self.0
    }
}
