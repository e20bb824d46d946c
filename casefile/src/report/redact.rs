//! What is taken out of a report that leaves the house, before anything is written of it.

use std::collections::HashMap;

use super::data::{Data, Prefix};
use super::markup;

/// What is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redact {
    /// Values of keys by whose name they are secrets, and the hashes of these values.
    Secrets,
    /// All values and their hashes.
    Values,
    /// All values and their hashes, and the names of keys.
    Keys,
}

/// Pieces of a name by which its value counts as a secret.
const SECRET: [&str; 9] =
    ["secret", "token", "passw", "credential", "private", "certificate", "oauth", "apikey", "api-key"];

/// What stands in the place of what may name keys.
const LEFT_OUT: &str = "left out";
/// Words of a command line that are its own.
const KNOWN: [&str; 5] = ["etcd-rescue", "case", "new", "add", "seal"];

impl Redact {
    /// What it does, for the report.
    #[must_use]
    pub fn in_words(self) -> String {
        match self {
            Self::Secrets => format!(
                "The values of keys whose names hold one of the words {} were left out of this report, and the hashes of these values.",
                SECRET.join(", ")
            ),
            Self::Values => {
                "Values of keys, and the hashes of these values, were left out of this report.".to_owned()
            }
            Self::Keys => "Names of keys, their values, and the hashes of these values were left out of this report. Keys and \
                           prefixes are numbered instead; the same number is the same key. What may name keys was left out too: what \
                           findings say beyond their title, why a verdict is as it is, why something was not checked, notes, and \
                           what follows the names of commands."
                .to_owned(),
        }
    }
}

/// Whether the value of `key` is likely to be a secret.
#[must_use]
pub fn is_secret(key: &[u8]) -> bool {
    let name = String::from_utf8_lossy(key).to_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

/// `data` without what is to be taken out.
#[must_use]
pub(super) fn redacted(mut data: Data, redact: Redact) -> Data {
    let mut numbers: HashMap<Vec<u8>, usize> = HashMap::new();
    for parting in &mut data.partings {
        for held in
            parting.samples.iter_mut().flat_map(|sample| [&mut sample.one, &mut sample.other]).flatten()
        {
            if redact != Redact::Secrets || is_secret(&held.key) {
                held.value = None;
                held.value_hash = None;
            }
            if redact == Redact::Keys {
                let next = numbers.len() + 1;
                let number = *numbers.entry(std::mem::take(&mut held.key)).or_insert(next);
                held.key = format!("key {number}").into_bytes();
            }
        }
    }
    if redact == Redact::Keys {
        let mut names: HashMap<String, String> = HashMap::new();
        for command in &mut data.case.commands {
            let mut words = command.line.split(' ');
            // The program, `case`, and what is done to it; nothing else is known to be no key.
            let known: Vec<&str> = words.by_ref().take(3).filter(|word| KNOWN.contains(word)).collect();
            command.line = format!("{} …", known.join(" "));
        }
        for of in &mut data.sources {
            let source = &mut of.source;
            for finding in &mut source.findings {
                finding.message.clear();
            }
            source.verdict.reasons.clear();
            source.note = source.note.take().map(|_| LEFT_OUT.to_owned());
            for checked in source.checked.iter_mut().filter(|checked| !checked.done) {
                LEFT_OUT.clone_into(&mut checked.detail);
            }
            for prefix in &mut of.space {
                number_prefix(prefix, &mut names);
            }
        }
    }
    data
}

/// Gives `prefix` and those below it numbers for names: the same in every source.
fn number_prefix(prefix: &mut Prefix, names: &mut HashMap<String, String>) {
    if !prefix.is_rest {
        // A number is that of the order of first sight among all.
        let next = format!("prefix {}", names.len() + 1);
        prefix.name = names.entry(prefix.name.clone()).or_insert(next).clone();
    }
    // A prefix has two levels at most: this is no recursion over data.
    let above = prefix.name.clone();
    for below in &mut prefix.below {
        if !below.is_rest {
            let next = format!("prefix {}", names.len() + 1);
            below.name = names.entry(format!("{above}\0{}", below.name)).or_insert(next).clone();
        }
        below.below.clear();
    }
}

/// A value as the report shows it: its beginning.
pub(super) fn shown_value(value: &[u8]) -> String {
    const MOST: usize = 64;
    let head = &value[..value.len().min(MOST)];
    let more = if value.len() > MOST { " …" } else { "" };
    format!("{}{more}", markup::bytes(head))
}
