//! `case`: evidence from many nodes in one file, and the questions it answers.

mod add;
mod at;
mod diff;
mod find;
mod findings;
mod key;
mod log;
mod new;
mod report;
mod rows;
mod seal;
mod sources;
mod timeline;
mod verify;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{panic, process};

use clap::Subcommand;

use crate::context::Context;
use crate::exit::{self, Failure};
use crate::next_steps::quoted_path;
use crate::outcome::Outcome;
use crate::shown::shown;

/// The commands under `case`.
#[derive(Debug, Subcommand)]
pub(crate) enum CaseCommand {
    New(new::NewArgs),
    Add(add::AddArgs),
    Sources(sources::SourcesArgs),
    Findings(findings::FindingsArgs),
    Key(key::KeyArgs),
    Timeline(timeline::TimelineArgs),
    At(at::AtArgs),
    Diff(diff::DiffArgs),
    Find(find::FindArgs),
    Log(log::LogArgs),
    Report(report::ReportArgs),
    Seal(seal::SealArgs),
    Verify(verify::VerifyArgs),
}

/// Does it.
///
/// # Errors
/// When the case cannot be read or written, or a source cannot be read.
pub(crate) fn run(command: &CaseCommand, context: &Context) -> Result<Outcome, Failure> {
    match command {
        CaseCommand::New(args) => new::run(args, context),
        CaseCommand::Add(args) => add::run(args, context),
        CaseCommand::Sources(args) => sources::run(args, context),
        CaseCommand::Findings(args) => findings::run(args, context),
        CaseCommand::Key(args) => key::run(args, context),
        CaseCommand::Timeline(args) => timeline::run(args, context),
        CaseCommand::At(args) => at::run(args, context),
        CaseCommand::Diff(args) => diff::run(args, context),
        CaseCommand::Find(args) => find::run(args, context),
        CaseCommand::Log(args) => log::run(args, context),
        CaseCommand::Report(args) => report::run(args, context),
        CaseCommand::Seal(args) => seal::run(args, context),
        CaseCommand::Verify(args) => verify::run(args, context),
    }
}

/// The command line as it was given, for the custody of a case; the program under the name it is known by.
fn command_line() -> String {
    without_secrets(std::env::args_os().skip(1))
}

/// Flags of etcdctl whose values are nobody's business: they are taken, ignored, and not recorded.
const SECRET_FLAGS: [&[u8]; 5] =
    [b"--user", b"--password", b"--auth-jwt-token", b"--discovery-srv", b"--discovery-srv-name"];
/// What is recorded for such a value.
const LEFT_OUT: &str = "LEFT-OUT";

fn without_secrets(words: impl Iterator<Item = OsString>) -> String {
    let mut line = vec!["etcd-rescue".to_owned()];
    let mut is_secret = false;
    // Behind `--` there are no flags.
    let mut are_flags = true;
    for word in words {
        let bytes = word.as_bytes();
        let name = bytes.split(|byte| *byte == b'=').next().unwrap_or_default();
        if std::mem::take(&mut is_secret) {
            line.push(LEFT_OUT.to_owned());
        } else if are_flags && SECRET_FLAGS.contains(&name) {
            is_secret = name.len() == bytes.len();
            let flag = String::from_utf8_lossy(name);
            line.push(if is_secret { flag.into_owned() } else { format!("{flag}={LEFT_OUT}") });
        } else if are_flags && bytes.starts_with(b"-d") {
            is_secret = bytes.len() == 2;
            line.push(if is_secret { "-d".to_owned() } else { format!("-d{LEFT_OUT}") });
        } else {
            are_flags &= bytes != b"--";
            line.push(quoted_path(Path::new(&word)));
        }
    }
    line.join(" ")
}

/// The path of a file of a source, as a person finds it: the source's own where it is that file.
fn file_of(source: &casefile::Source, file: Option<usize>) -> Option<&str> {
    file.and_then(|at| source.files.get(at)).map(|file| file.path.as_str())
}

/// The case that a command is about.
#[derive(Debug, clap::Args)]
struct CaseFile {
    /// The case file
    #[arg(value_name = "CASE")]
    case: PathBuf,
}

impl CaseFile {
    fn open(&self) -> Result<casefile::Case, Failure> {
        self.tell_of_bad_pages();
        Ok(casefile::Case::open(&self.case)?)
    }

    /// redb takes its pages at their word, and ends the program over one that somebody made by hand with checksums that fit. Then the
    /// user is told what is wrong with which file, and the exit code is that of a failure.
    fn tell_of_bad_pages(&self) {
        let (path, other) = (shown(&self.case.display().to_string()), panic::take_hook());
        panic::set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|place| place.file().contains("/redb-")) {
                return other(panic);
            }
            // Nobody is left to tell where this fails.
            _ = writeln!(
                io::stderr(),
                "Error: {path}: the case file is damaged: its checksums fit, and its pages make no sense. Copy it again from where it \
                 came, or add the sources to a new case"
            );
            process::exit(exit::FAILED.into())
        }));
    }

    /// The file that is to be changed: where a link leads, if it is one.
    fn to_change(&self) -> Result<Cow<'_, Path>, Failure> {
        self.tell_of_bad_pages();
        if !self.case.is_symlink() {
            return Ok(Cow::Borrowed(&self.case));
        }
        let refused = |error| Failure::failed(shown(&format!("{}: {error}", self.case.display())));
        self.case.canonicalize().map(Cow::Owned).map_err(refused)
    }
}

/// Whether values are shown, and where they are read.
#[derive(Debug, clap::Args)]
struct ValueArgs {
    /// The values, too: from the case, or from the source where that still is, with the hash checked
    #[arg(long)]
    values: bool,
    /// Where a source lies now, when it is not mounted where it was added from; can be given for several
    #[arg(long, value_name = "NAME=PATH", requires = "values")]
    at: Vec<OsString>,
}

impl ValueArgs {
    /// Opens the case, which reads values as the global flags say.
    fn open(&self, file: &CaseFile, context: &Context) -> Result<casefile::Case, Failure> {
        let mut case = file.open()?;
        for given in &self.at {
            let (name, path) = parted(given)?;
            case.moved(name, path, None)?;
        }
        case.read_values_by(context.input_options(), context.watch.clone());
        Ok(case)
    }
}

/// The name and the path of `NAME=PATH`.
fn parted(text: &OsStr) -> Result<(&str, &Path), Failure> {
    let wrong = || {
        let text = shown(&text.to_string_lossy());
        Failure::usage(format!("{text}: is not NAME=PATH, such as n1=/mnt/node1/var/lib/etcd"))
    };
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
    let (name, path) = (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..).unwrap_or_default());
    let name = std::str::from_utf8(name).map_err(|_| wrong())?;
    if name.is_empty() || path.is_empty() {
        return Err(wrong());
    }
    Ok((name, Path::new(OsStr::from_bytes(path))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_recorded() {
        let recorded = |line: &str| without_secrets(line.split(' ').map(OsString::from));
        assert_eq!(
            recorded(
                "--user root:one case --password=two add c.case --auth-jwt-token three n1=/x --note a*b"
            ),
            "etcd-rescue --user LEFT-OUT case --password=LEFT-OUT add c.case --auth-jwt-token LEFT-OUT n1=/x --note 'a*b'"
        );
        assert_eq!(
            recorded("case seal -d one -dtwo --discovery-srv-name three --discovery-srv=four c.case"),
            "etcd-rescue case seal -d LEFT-OUT -dLEFT-OUT --discovery-srv-name LEFT-OUT --discovery-srv=LEFT-OUT c.case"
        );
        assert_eq!(recorded("case new -- --user"), "etcd-rescue case new -- --user");
    }
}
