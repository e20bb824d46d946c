//! `--stream-decoder`: a program that is given entries' data and says what they are.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bbolt::Watch;
use snapshot::log_dump::{Answer, DumpError, StreamDecoder};

use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Note;
use crate::progress::Progress;
use crate::shown::shown;

/// A program that says nothing for so long will not say anything.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long its last words on stderr are waited for, once it has ended.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(2);
/// How often a wait looks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);
/// Longest answer, in bytes.
const LONGEST_ANSWER_BYTES: u64 = 16 << 20;
/// How much of the program's stderr is repeated, in bytes.
const STDERR_BYTES: u64 = 16 << 10;
/// Answers that may wait to be printed.
const WAITING_ANSWERS: usize = 64;

/// The running program.
pub(super) struct Decoder {
    child: Child,
    questions: Option<SyncSender<Vec<u8>>>,
    answers: Receiver<Vec<u8>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    watch: Arc<Progress>,
    given: u64,
}

impl Decoder {
    /// Starts `command`, whose words are separated by single blanks, as etcd-dump-logs starts it.
    ///
    /// # Errors
    /// When there is no such program.
    pub(super) fn start(command: &str, context: &Context) -> Result<Self, Failure> {
        let mut words = command.split(' ');
        let program = words.next().unwrap_or_default();
        let failed = |error: &std::io::Error| {
            Failure::failed(format!("starting the stream decoder {}: {error}", shown(program)))
        };
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&error))?;
        // All three are piped.
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let (questions, asked) = sync_channel(1);
        let (answered, answers) = sync_channel(WAITING_ANSWERS);
        // Questions and answers each have a thread, so that a program that reads ahead, or answers late, does not stand
        // against us.
        thread::spawn(move || feed(stdin, &asked));
        thread::spawn(move || {
            let Some(stdout) = stdout else { return };
            let mut lines = BufReader::new(stdout);
            loop {
                let mut line = Vec::new();
                let read = (&mut lines).take(LONGEST_ANSWER_BYTES).read_until(b'\n', &mut line);
                if read.is_err() || line.pop() != Some(b'\n') || answered.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = thread::spawn(move || {
            let mut kept = Vec::new();
            if let Some(mut stderr) = stderr {
                // What cannot be read, or is too much, is not repeated.
                let _ = (&mut stderr).take(STDERR_BYTES).read_to_end(&mut kept);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            kept
        });
        let watch = Arc::clone(&context.watch);
        Ok(Self { child, questions: Some(questions), answers, stderr: Some(stderr), watch, given: 0 })
    }

    /// Ends the program; gives what it said on stderr.
    ///
    /// # Errors
    /// When it ended with an error.
    pub(super) fn finish(mut self) -> Result<Option<Note>, Failure> {
        self.questions = None;
        let since = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if since.elapsed() < ANSWER_WITHIN && !self.watch.interrupted() => {
                    thread::sleep(LOOK);
                }
                _ => {
                    return Err(Failure::failed("the stream decoder did not end when its input did"));
                }
            }
        };
        if !status.success() {
            return Err(Failure::failed(format!(
                "the stream decoder ended with {status} after the last entry{}",
                self.complaint()
            )));
        }
        let complaint = self.complaint();
        Ok((!complaint.is_empty())
            .then(|| Note::Warning(format!("the stream decoder ended well{complaint}"))))
    }

    /// What the program, which has ended, said on stderr.
    fn complaint(&mut self) -> String {
        // What it said last may still be on its way; and somebody it started may hold its stderr for ever.
        let since = Instant::now();
        while since.elapsed() < LAST_WORDS_WITHIN
            && self.stderr.as_ref().is_some_and(|said| !said.is_finished())
        {
            thread::sleep(LOOK);
        }
        let said = self.stderr.take().filter(JoinHandle::is_finished).and_then(|said| said.join().ok());
        let said = said.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        match said.trim() {
            "" => String::new(),
            said => format!("; it said: {}", shown(said)),
        }
    }

    fn gone(&mut self) -> DumpError {
        let since = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if since.elapsed() < Duration::from_secs(1) => thread::sleep(LOOK),
                Ok(Some(status)) => break format!(" and ended with {status}"),
                _ => break String::new(),
            }
        };
        let given = self.given;
        DumpError::Decoder(format!(
            "the stream decoder gave {given} answers, then closed its output{status}{}",
            self.complaint()
        ))
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.questions = None;
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes questions on until there are no more, or nobody listens.
fn feed(stdin: Option<ChildStdin>, asked: &Receiver<Vec<u8>>) {
    let Some(mut stdin) = stdin else { return };
    for question in asked {
        if stdin.write_all(&question).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

impl StreamDecoder for Decoder {
    fn decode(&mut self, data: &[&[u8]]) -> Result<Vec<Answer>, DumpError> {
        let mut answers = Vec::with_capacity(data.len());
        for data in data {
            let asked = self.questions.as_ref().is_some_and(|to| to.send(question(data)).is_ok());
            if !asked {
                return Err(self.gone());
            }
            let since = Instant::now();
            let line = loop {
                match self.answers.recv_timeout(LOOK) {
                    Ok(line) => break line,
                    Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
                    Err(RecvTimeoutError::Timeout) if self.watch.interrupted() => {
                        return Err(DumpError::Interrupted);
                    }
                    Err(RecvTimeoutError::Timeout) if since.elapsed() < ANSWER_WITHIN => {}
                    Err(RecvTimeoutError::Timeout) => {
                        return Err(DumpError::Decoder(format!(
                            "the stream decoder gave {} answers, then none for {ANSWER_WITHIN:?}; it must answer each \
                             line at once, without waiting for the next",
                            self.given
                        )));
                    }
                }
            };
            self.given += 1;
            answers.push(answer(&String::from_utf8_lossy(&line)));
        }
        Ok(answers)
    }
}

/// An entry's data as a line.
fn question(data: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = Vec::with_capacity(data.len() * 2 + 1);
    for byte in data {
        line.extend([byte >> 4, byte & 15].iter().filter_map(|half| DIGITS.get(usize::from(*half))));
    }
    line.push(b'\n');
    line
}

/// `STATUS|TEXT`, or what it is instead.
fn answer(line: &str) -> Answer {
    let line = shown(line);
    match line.split_once('|') {
        None => Answer { status: "not of the form STATUS|TEXT".to_owned(), decoded: line },
        Some((status, text)) => Answer { status: status.to_owned(), decoded: text.to_owned() },
    }
}
