//! Commands for a shell.

use std::path::Path;

use super::{FILL_IN, Start, Value};

/// The command that starts the member.
pub(super) fn text(start: &Start) -> String {
    let mut lines = vec!["etcd".to_owned()];
    for flag in start.flags(FILL_IN) {
        lines.push(match &flag.value {
            Value::On => format!("--{}", flag.name),
            Value::Text(text) => format!("--{} {}", flag.name, quoted(text)),
            Value::Path(path) => format!("--{} {}", flag.name, quoted_path(path)),
        });
    }
    format!("{}\n{}\n", start.title(), lines.join(" \\\n  "))
}

/// `value` as one word of a shell.
pub(super) fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "'\\''"))
    }
}

/// `path` as one word of a shell; bytes that are no UTF-8 in octal, whose length never depends on what follows.
pub(crate) fn quoted_path(path: &Path) -> String {
    if let Some(text) = path.to_str() {
        return quoted(text);
    }
    let mut out = String::from("$'");
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '\'' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        for byte in chunk.invalid() {
            out += &format!("\\{byte:03o}");
        }
    }
    out.push('\'');
    out
}
