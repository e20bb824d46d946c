//! What a command hands back to be shown: the result for stdout, the story for stderr, the exit code.

use std::io::{self, ErrorKind, IsTerminal, Write};

use snapshot::finding::Finding;
use snapshot::integrity::Integrity;

use crate::exit::{self, Failure};
use crate::shown::shown;

/// Widest line of prose on a terminal, in columns.
const WIDEST: usize = 110;
/// Prose is never squeezed below this many columns.
const NARROWEST: usize = 40;

/// One piece of the story on stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// A sentence or more; wrapped on a terminal, left out with `--quiet`.
    Prose(String),
    /// Text to copy, never wrapped; left out with `--quiet`.
    Verbatim(String),
    /// What the user must hear even with `--quiet`.
    Warning(String),
}

impl Note {
    /// The text alone.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Prose(text) | Self::Verbatim(text) | Self::Warning(text) => text,
        }
    }

    /// The same about `input`, where there are several.
    pub(crate) fn about(self, input: &str) -> Self {
        match self {
            Self::Prose(text) => Self::Prose(format!("{input}: {text}")),
            Self::Verbatim(text) => Self::Verbatim(format!("{input}: {text}")),
            Self::Warning(text) => Self::Warning(format!("{input}: {text}")),
        }
    }
}

/// A job that was done.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The story that comes before the result.
    pub(crate) before: Vec<Note>,
    /// The result, complete with its line ends.
    pub(crate) result: String,
    /// The story that comes after it.
    pub(crate) after: Vec<Note>,
    /// The exit code.
    pub(crate) code: u8,
}

impl Default for Outcome {
    /// Done, with nothing to say.
    fn default() -> Self {
        Self { before: Vec::new(), result: String::new(), after: Vec::new(), code: exit::DONE }
    }
}

impl Outcome {
    /// Adds the findings to the story before the result, and code 3 when there are any.
    pub(crate) fn note_findings(&mut self, findings: &[Finding]) {
        self.before.extend(findings.iter().map(|finding| Note::Warning(shown(&finding.to_string()))));
        if !findings.is_empty() {
            self.code = exit::FINDINGS;
        }
    }

    /// As [`Self::note_findings`], for a result that was put out already: the findings come after it.
    pub(crate) fn note_findings_after(&mut self, findings: &[Finding]) {
        self.after.extend(findings.iter().map(|finding| Note::Warning(shown(&finding.to_string()))));
        if !findings.is_empty() {
            self.code = exit::FINDINGS;
        }
    }

    /// Adds `sentence` about the integrity hash; a mismatch is heard even with `--quiet`, and is code 3.
    pub(crate) fn note_integrity(&mut self, integrity: Integrity, sentence: String) {
        if integrity == Integrity::Mismatch {
            self.code = exit::FINDINGS;
            self.before.push(Note::Warning(sentence));
        } else {
            self.before.push(Note::Prose(sentence));
        }
    }

    /// Shows it all; gives the exit code.
    pub(crate) fn show(&self, quiet: bool) -> u8 {
        tell(&self.before, quiet);
        let code = write_result(&self.result, self.code);
        tell(&self.after, quiet);
        code
    }
}

/// Shows why a command failed.
pub(crate) fn show_failure(failure: &Failure) {
    let mut notes: Vec<Note> =
        failure.findings.iter().map(|finding| Note::Warning(finding.to_string())).collect();
    notes.push(Note::Warning(format!("Error: {}", failure.message)));
    tell(&notes, true);
}

/// Writes `notes` to stderr.
pub(crate) fn tell(notes: &[Note], quiet: bool) {
    let columns = terminal_columns();
    let mut text = String::new();
    for note in notes {
        match note {
            Note::Prose(_) | Note::Verbatim(_) if quiet => {}
            Note::Verbatim(lines) => {
                text += lines;
                text.push('\n');
            }
            Note::Prose(sentence) | Note::Warning(sentence) => {
                text += &columns.map_or_else(|| sentence.clone(), |columns| wrap(sentence, columns));
                text.push('\n');
            }
        }
    }
    // With stderr gone there is nobody left to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes the result to stdout. A reader that went away had enough; any other failure must not look like success.
fn write_result(result: &str, code: u8) -> u8 {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(result.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            tell(
                &[Note::Warning(format!(
                    "Error: writing to standard output: {error}; the job itself was done, only its result is not shown"
                ))],
                true,
            );
            exit::FAILED
        }
        _ => code,
    }
}

fn terminal_columns() -> Option<usize> {
    let stderr = io::stderr();
    if !stderr.is_terminal() {
        return None;
    }
    let columns = rustix::termios::tcgetwinsize(&stderr).map_or(0, |size| usize::from(size.ws_col));
    Some(if columns == 0 { WIDEST } else { columns.clamp(NARROWEST, WIDEST) })
}

/// Breaks `text` between words into lines of at most `columns`; longer words stay whole.
fn wrap(text: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let width = word.chars().count();
        if used > 0 && used + 1 + width > columns {
            out += "\n  ";
            used = 2;
        } else if !out.is_empty() {
            out.push(' ');
            used += 1;
        }
        out += word;
        used += width;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_keeps_every_word_and_indents_what_follows() {
        let text = "error BBOLT-PAGE: page 7 at 0x7000 calls itself 9 /a/path/that/is/longer/than/the/line/is/wide end";
        insta::assert_snapshot!(wrap(text, 40), @r"
    error BBOLT-PAGE: page 7 at 0x7000 calls
      itself 9
      /a/path/that/is/longer/than/the/line/is/wide
      end
    ");
        assert_eq!(wrap("short", 40), "short");
        assert_eq!(wrap("", 40), "");
    }
}
